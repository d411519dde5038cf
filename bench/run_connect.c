/* connect: `ramp` connections at a time are opened, with a token of their own each, and dropped as
 * soon as they are open; latency is from connect(2) to the answer of the handshake, or of the
 * commands that a dialect has behind it. */
#include "bench.h"

#include <stdio.h>

#define REFUSED_MAX 100 /* then it is no use to go on */

static void count(struct bench *b, const struct bench_conn *c)
{
    if (b->phase != BENCH_MEASURING || c->began_ns < b->began_ns) return;
    b->counts.messages++;
    histogram_add(&b->latency, (uint64_t)(bench_clock_ns() - c->began_ns));
}

/* One pass over the slots after a turn: those that are open have done their work. */
static void again(struct bench *b)
{
    for (unsigned i = 0; i < b->next; i++) {
        struct bench_conn *c = &b->conns[i];
        if (c->dial && (!c->open || c->leaving)) continue;
        if (c->open) count(b, c);
        load_leave(c);
        if (c->dial) continue; /* its Close is under way */
        if (b->phase < BENCH_DRAINING && (b->counts.refused > REFUSED_MAX || !load_begin(c)))
            bench_stop = true;
    }
}

static void run(struct bench *b)
{
    unsigned slots = b->o.ramp < b->o.connections ? b->o.ramp : b->o.connections;
    while (b->next < slots) {
        struct bench_conn *c = &b->conns[b->next];
        c->bench = b;
        c->index = b->next++;
        if (!load_begin(c)) return;
    }
    load_measure(b, again);
    if (!b->counts.messages && !*b->failure && !bench_stop)
        snprintf(b->failure, sizeof b->failure, "no connection was opened");
}

const struct bench_mode bench_connect = {.name = "connect",
                                         .what = "connections",
                                         .connections = 64,
                                         .size = 64,
                                         .latency = true,
                                         .dialect = &dialect_raw,
                                         .run = run};
