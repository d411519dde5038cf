/* echo: every connection keeps `window` messages under way to /echo; each comes back to its own. */
#include "bench.h"

#include <stdio.h>

#define DRAIN_NS (10 * 1000000000ll)

static void target(const struct bench *b, unsigned i, char *out, size_t cap)
{
    (void)i;
    snprintf(out, cap, "%s", *b->peer.url.path ? b->peer.url.path : "/echo");
}

static void message(struct bench_conn *c, uint64_t seq, int64_t sent_ns)
{
    struct bench *b = c->bench;
    (void)sent_ns;
    order_take(&c->order, seq, &b->faults);
    if (b->phase < BENCH_DRAINING && load_send(c, c->sent))
        c->sent++;
}

static uint64_t missing(const struct bench *b)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < b->next; i++)
        n += b->conns[i].sent - b->conns[i].order.next;
    return n;
}

static void run(struct bench *b)
{
    if (!load_open(b))
        return;
    b->phase = BENCH_WARMING;
    b->now_ns = bench_clock_ns();
    for (unsigned i = 0; i < b->next; i++) {
        struct bench_conn *c = &b->conns[i];
        while (c->sent < b->o.window && load_send(c, c->sent))
            c->sent++;
        load_flush(c);
    }
    load_measure(b, NULL);
    int64_t deadline_ns = bench_clock_ns() + DRAIN_NS;
    while (missing(b) && b->open && bench_clock_ns() < deadline_ns)
        load_turn(b, 100);
    b->faults.lost += missing(b);
}

const struct bench_mode bench_echo = {.name = "echo",
                                      .what = "messages",
                                      .connections = 64,
                                      .size = 64,
                                      .latency = true,
                                      .target = target,
                                      .message = message,
                                      .run = run};
