/* idle: what a connection costs that does nothing: the server's memory before and with all of them,
 * and its CPU time while they are held. Pings are answered. What is still held when all have left
 * is looked at too, if that is asked for. */
#include "bench.h"

#include <stdio.h>

#define LEAVING_NS (10 * 1000000000ll)

static void leave(struct bench *b)
{
    int64_t deadline_ns = bench_clock_ns() + LEAVING_NS;
    for (unsigned i = 0; i < b->next; i++) load_leave(&b->conns[i]);
    while (b->open && !bench_stop && bench_clock_ns() < deadline_ns) load_turn(b, 100);
    if (b->open && !*b->failure)
        snprintf(b->failure, sizeof b->failure, "%u connections did not end", b->open);
    load_run(b, b->o.leave_s, NULL);
    b->pss_left = target_pss_bytes(&b->target);
}

static void run(struct bench *b)
{
    b->pss_before = target_pss_bytes(&b->target);
    if (!load_open(b)) return;
    load_measure(b, NULL);
    b->pss_after = target_pss_bytes(&b->target);
    b->pss_connections = b->open;
    if (b->o.leave_s >= 0 && !bench_stop) leave(b);
}

const struct bench_mode bench_idle = {.name = "idle",
                                      .what = "pings",
                                      .connections = 15000,
                                      .size = 64,
                                      .publishers = BENCH_NOBODY,
                                      .dialect = &dialect_raw,
                                      .run = run};
