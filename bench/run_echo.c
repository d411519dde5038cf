/* echo: every connection keeps `window` messages under way, and each comes back to it: from /echo,
 * or from a channel that it has for itself.
 *
 * At a rate, messages are due on one connection after the other, whatever comes back; `window` then
 * is how many may be under way, and who waits for that is sent late, with the time when it was due.
 */
#include "bench.h"
#include "pace.h"

#define STALL_NS (3 * 1000000000ll)
#define BATCH 256 /* sent between two looks at what came */

struct echo { /* at a rate */
    int64_t began_ns;
    uint64_t offered; /* messages that were due; n on connection n % connections */
};

static void send_due(struct bench_conn *c)
{
    struct bench *b = c->bench;
    const struct echo *e = b->state;
    const int64_t now_ns = b->now_ns;
    while (c->sent < c->due && c->sent - c->order.next < b->o.window) {
        b->now_ns = pace_due_ns(e->began_ns, b->o.rate, c->sent * b->o.connections + c->index);
        if (!b->dialect->send(c, c->sent)) break;
        c->sent++;
    }
    b->now_ns = now_ns;
}

/* What is due by now, or was at the end of the measurement. */
static void offer(struct bench *b)
{
    struct echo *e = b->state;
    const int64_t until_ns = b->phase == BENCH_DRAINING ? b->ended_ns : bench_clock_ns();
    for (unsigned i = 0; i < BATCH; i++) {
        b->due_ns = pace_due_ns(e->began_ns, b->o.rate, e->offered);
        if (b->due_ns >= until_ns) break;
        struct bench_conn *c = &b->conns[e->offered++ % b->o.connections];
        c->due++;
        send_due(c);
        load_flush(c);
    }
}

static void message(struct bench_conn *c, uint64_t seq, int64_t sent_ns)
{
    struct bench *b = c->bench;
    (void)sent_ns;
    order_take(&c->order, seq, &b->faults);
    if (b->phase == BENCH_DRAINING) return;
    if (b->o.rate)
        send_due(c);
    else if (b->dialect->send(c, c->sent))
        c->sent++;
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

static void fill_windows(struct bench *b)
{
    b->phase = BENCH_WARMING;
    b->now_ns = bench_clock_ns();
    for (unsigned i = 0; i < b->next; i++) {
        struct bench_conn *c = &b->conns[i];
        while (c->sent < b->o.window && b->dialect->send(c, c->sent)) c->sent++;
        load_flush(c);
    }
}

static void run_at_rate(struct bench *b)
{
    struct echo e = {.began_ns = bench_clock_ns()};
    b->state = &e;
    b->due_ns = e.began_ns;
    load_measure(b, offer);
    offer(b);
    b->unsent = pace_count(e.began_ns, b->o.rate, b->ended_ns);
    for (unsigned i = 0; i < b->next; i++) b->unsent -= b->conns[i].sent;
    drain(b);
    b->state = NULL;
}

static void run(struct bench *b)
{
    if (!load_open(b)) return;
    if (b->o.rate) {
        run_at_rate(b);
    } else {
        fill_windows(b);
        load_measure(b, NULL);
        drain(b);
    }
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
