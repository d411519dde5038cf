/* echo: every connection keeps `window` messages under way, and each comes back to it: from /echo,
 * or from a channel that it has for itself. */
#include "bench.h"

#define STALL_NS (3 * 1000000000ll)

static void message(struct bench_conn *c, uint64_t seq, int64_t sent_ns)
{
    struct bench *b = c->bench;
    (void)sent_ns;
    order_take(&c->order, seq, &b->faults);
    if (b->phase < BENCH_DRAINING && b->dialect->send(c, c->sent)) c->sent++;
}

static uint64_t missing(const struct bench *b)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < b->next; i++) n += b->conns[i].sent - b->conns[i].order.next;
    return n;
}

static uint64_t under_way(const struct bench *b)
{
    return missing(b) + load_unanswered(b);
}

/* What is under way may come until nothing has come for STALL_NS. */
static void drain(struct bench *b)
{
    uint64_t left = under_way(b);
    int64_t moved_ns = bench_clock_ns();
    while (left && b->open && !*b->failure && bench_clock_ns() - moved_ns < STALL_NS) {
        load_turn(b, 100);
        if (under_way(b) != left) moved_ns = bench_clock_ns();
        left = under_way(b);
    }
}

static void run(struct bench *b)
{
    if (!load_open(b)) return;
    b->phase = BENCH_WARMING;
    b->now_ns = bench_clock_ns();
    for (unsigned i = 0; i < b->next; i++) {
        struct bench_conn *c = &b->conns[i];
        while (c->sent < b->o.window && b->dialect->send(c, c->sent)) c->sent++;
        load_flush(c);
    }
    load_measure(b, NULL);
    drain(b);
    b->faults.lost += missing(b);
}

const struct bench_mode bench_echo = {.name = "echo",
                                      .what = "messages",
                                      .connections = 64,
                                      .size = 64,
                                      .latency = true,
                                      .publishers = BENCH_EACH_TO_ITSELF,
                                      .dialect = &dialect_echo,
                                      .message = message,
                                      .run = run};
