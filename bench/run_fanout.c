/* fanout: all connections listen to one channel; the first of them publishes, with at most `window`
 * publications under way. One is over when everybody has it. At a rate, they are due whatever comes
 * back; who waits for the window is sent late, with the time when it was due. */
#include "bench.h"
#include "pace.h"

#include <stdio.h>
#include <stdlib.h>

#define STALL_NS (10 * 1000000000ll)

struct fanout {
    int64_t began_ns; /* at a rate */
    uint64_t published;
    uint64_t done;                      /* publications before this one are over */
    unsigned waiting[BENCH_WINDOW_MAX]; /* for publication n, at n % BENCH_WINDOW_MAX: who has not
                                           got it */
    int64_t moved_ns;                   /* last delivery */
};

static void got(struct fanout *f, uint64_t seq)
{
    if (seq >= f->done && seq < f->published && f->waiting[seq % BENCH_WINDOW_MAX])
        f->waiting[seq % BENCH_WINDOW_MAX]--;
}

static void message(struct bench_conn *c, uint64_t seq, int64_t sent_ns)
{
    struct bench *b = c->bench;
    struct fanout *f = b->state;
    (void)sent_ns;
    if (seq >= f->published) {
        b->counts.damaged++;
        return;
    }
    uint64_t before = b->faults.doubled + b->faults.reordered;
    uint64_t skipped = order_take(&c->order, seq, &b->faults);
    f->moved_ns = b->now_ns;
    /* What was skipped is lost, or will be called reordered; it must not hold up the publisher. */
    for (uint64_t i = seq - skipped; i < seq; i++) got(f, i);
    if (b->faults.doubled + b->faults.reordered == before) got(f, seq);
}

/* now_is: the time that the next publication carries. False: at the rate, none is due. */
static bool now_is(struct bench *b)
{
    const struct fanout *f = b->state;
    b->now_ns = bench_clock_ns();
    if (!b->o.rate) return true;
    b->due_ns = pace_due_ns(f->began_ns, b->o.rate, f->published);
    if (b->due_ns > b->now_ns) return false;
    b->now_ns = b->due_ns;
    return true;
}

static void publish(struct bench *b)
{
    struct fanout *f = b->state;
    bool sent = false;
    while (f->done < f->published && f->waiting[f->done % BENCH_WINDOW_MAX] == 0) f->done++;
    while (b->phase < BENCH_DRAINING && f->published - f->done < b->o.window) {
        if (!now_is(b) || !b->dialect->send(&b->conns[0], f->published)) break;
        f->waiting[f->published++ % BENCH_WINDOW_MAX] = b->o.connections;
        sent = true;
    }
    if (sent) load_flush(&b->conns[0]);
    b->now_ns = bench_clock_ns();
    if (f->done == f->published) f->moved_ns = b->now_ns; /* nothing is waited for */
    if (b->now_ns - f->moved_ns > STALL_NS && !*b->failure) {
        snprintf(b->failure, sizeof b->failure, "nothing was delivered for %lld s",
                 STALL_NS / 1000000000);
        bench_stop = true;
    }
}

static bool under_way(const struct bench *b)
{
    const struct fanout *f = b->state;
    return f->done < f->published || load_unanswered(b);
}

static void run(struct bench *b)
{
    struct fanout *f = calloc(1, sizeof *f);
    b->state = f;
    if (!f || b->o.window > BENCH_WINDOW_MAX) {
        snprintf(b->failure, sizeof b->failure, "the window is larger than %d", BENCH_WINDOW_MAX);
        free(f);
        return;
    }
    if (load_open(b)) {
        f->began_ns = f->moved_ns = b->now_ns = bench_clock_ns();
        publish(b);
        load_measure(b, publish);
        if (b->o.rate) b->unsent = pace_count(f->began_ns, b->o.rate, b->ended_ns) - f->published;
        int64_t deadline_ns = bench_clock_ns() + STALL_NS;
        for (publish(b); under_way(b) && b->open && !bench_stop && bench_clock_ns() < deadline_ns;
             publish(b))
            load_turn(b, 100);
        for (unsigned i = 0; i < b->next; i++)
            b->faults.lost += f->published - b->conns[i].order.next;
    }
    b->state = NULL;
    free(f);
}

const struct bench_mode bench_fanout = {.name = "fanout",
                                        .what = "deliveries",
                                        .connections = 1000,
                                        .size = 128,
                                        .latency = true,
                                        .publishers = BENCH_THE_FIRST,
                                        .dialect = &dialect_raw,
                                        .message = message,
                                        .run = run};
