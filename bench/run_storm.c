/* storm: many clients come at once, with a token of their own each, and come back with jitter when
 * they are refused, until all are served. Meanwhile an established group echoes at a fixed rate,
 * and its latency is taken before, during and after.
 *
 * The storm is a process of its own, so that what it costs its clients is not taken for latency;
 * the two share one mapped page of results. The rate is kept whatever comes back (open loop): a
 * message that is sent late counts from when it was due. */
#include "bench.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mem.h"

#define RATE 5              /* messages a second of each established connection */
#define BATCH 64            /* connections begun between two looks at the others */
#define LATE_NS 2000000     /* what epoll's milliseconds make of a due time is not the server's */
#define STALL_NS 3000000000 /* nothing comes any more */
#define DEADLINE_NS(n) (60000000000 + (int64_t)(n)*10000000)

struct wait { /* of a client that was refused */
    int64_t until_ns;
    unsigned failures;
};

static struct wait *waits; /* NULL in the process of the established */

/* ---- the storm ---- */

static bool refused(struct bench_conn *c)
{
    uint64_t random;
    if (!waits) return false;
    const int64_t after_s = dial_end(c->dial)->retry_after_s;
    struct wait *w = &waits[c->index];
    random_bytes(&random, sizeof random);
    const int64_t ms = after_s >= 0 ? after_s * 1000 + (int64_t)(random % 1000)
                                    : dial_retry_ms(++w->failures, random);
    w->until_ns = bench_clock_ns() + ms * 1000000;
    c->bench->storm->refused++;
    return true;
}

static void opened(struct bench_conn *c)
{
    struct storm *s = c->bench->storm;
    if (!waits) return;
    waits[c->index].until_ns = 0;
    histogram_add(&s->served, (uint64_t)(bench_clock_ns() - s->go_ns));
}

static bool come_back(struct bench *b)
{
    const int64_t now_ns = bench_clock_ns();
    for (unsigned i = 0, begun = 0; i < b->next && begun < BATCH; i++) {
        if (!waits[i].until_ns || waits[i].until_ns > now_ns || b->conns[i].dial) continue;
        waits[i].until_ns = 0;
        if (!load_begin(&b->conns[i])) return false;
        begun++;
    }
    return true;
}

static bool come(struct bench *b)
{
    for (unsigned n = 0; n < BATCH && b->next < b->o.connections; n++) {
        struct bench_conn *c = &b->conns[b->next];
        c->bench = b;
        c->index = b->next++;
        if (!load_begin(c)) return false;
    }
    return true;
}

static bool is_over(const struct storm *s)
{
    return atomic_load(&s->stop) || getppid() != s->parent;
}

static void let_come(struct bench *b)
{
    struct storm *s = b->storm;
    const int64_t deadline_ns = s->go_ns + DEADLINE_NS(b->o.connections);
    while (b->open < b->o.connections && !is_over(s)) {
        const bool more = b->next < b->o.connections;
        if (!come(b) || !come_back(b) || b->counts.closed || bench_clock_ns() > deadline_ns) {
            snprintf(s->failure, sizeof s->failure, "%u of %u are served%s%.200s", b->open,
                     b->o.connections, *b->failure ? ": " : "", b->failure);
            break;
        }
        load_turn(b, more ? 0 : 10);
    }
    s->open = b->open;
    atomic_store(&s->done_ns, bench_clock_ns());
    while (!is_over(s)) load_turn(b, 100); /* they stay, and answer pings */
    s->closed = b->counts.closed;
}

/* the_storm is the child: it begins when it is told to. */
static void the_storm(struct bench *b)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    struct storm *s = b->storm;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    waits = calloc(b->o.connections, sizeof *waits);
    close(b->epoll_fd); /* the parent has its own */
    b->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    b->loop = dial_loop_new();
    if (!waits || !b->loop || b->epoll_fd == -1) {
        snprintf(s->failure, sizeof s->failure, "the storm can not start: %s", strerror(errno));
        atomic_store(&s->done_ns, 1);
        _exit(1);
    }
    while (!atomic_load(&s->go) && !is_over(s)) nanosleep(&pause, NULL);
    if (!is_over(s)) let_come(b);
    load_close_all(b);
    _exit(0);
}

/* ---- the established ---- */

static void message(struct bench_conn *c, uint64_t seq, int64_t sent_ns)
{
    struct bench *b = c->bench;
    struct storm *s = b->storm;
    const int64_t done_ns = atomic_load(&s->done_ns);
    order_take(&c->order, seq, &b->faults);
    if (b->phase < BENCH_MEASURING || sent_ns < b->began_ns) return;
    struct histogram *h = !s->go_ns || sent_ns < s->go_ns ? &s->before
                          : !done_ns || sent_ns < done_ns ? &s->during
                                                          : &s->after;
    histogram_add(h, (uint64_t)(b->now_ns - sent_ns));
}

struct pace {
    int64_t due_ns, gap_ns;
    uint64_t sent;
};

/* send_due sends what is due, one connection after the other. Returns how many ms there are until
 * more is. */
static int send_due(struct bench *b, struct pace *p)
{
    for (int64_t now_ns = bench_clock_ns(); p->due_ns <= now_ns; p->due_ns += p->gap_ns) {
        struct bench_conn *c = &b->conns[p->sent++ % b->o.established];
        b->now_ns = now_ns - p->due_ns > LATE_NS ? p->due_ns : now_ns;
        if (c->open && b->dialect->send(c, c->sent)) c->sent++;
        load_flush(c);
    }
    return (int)((p->due_ns - bench_clock_ns()) / 1000000) + 1;
}

/* echo_for goes on for so long, or with storm, until that is over. */
static void echo_for(struct bench *b, struct pace *p, double seconds, bool storm)
{
    const int64_t end_ns = bench_clock_ns() + (storm ? DEADLINE_NS(b->o.connections) + STALL_NS
                                                     : (int64_t)(seconds * 1e9));
    while (!bench_stop && bench_clock_ns() < end_ns && !b->counts.closed) {
        if (storm && atomic_load(&b->storm->done_ns)) return;
        const int ms = send_due(b, p);
        load_turn(b, ms > 0 ? ms : 0);
        report_progress(b, b->mode->what, b->latency.total);
    }
    if (storm && !*b->failure)
        snprintf(b->failure, sizeof b->failure, "the storm is not over in time");
}

static uint64_t missing(const struct bench *b)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < b->next; i++) n += b->conns[i].sent - b->conns[i].order.next;
    return n;
}

static void measure(struct bench *b)
{
    struct storm *s = b->storm;
    struct pace p = {.due_ns = bench_clock_ns(), .gap_ns = 1000000000 / RATE / b->o.established};
    b->phase = BENCH_WARMING;
    echo_for(b, &p, b->o.warm_s, false);
    load_mark_begin(b);
    echo_for(b, &p, b->o.seconds, false);
    s->go_ns = bench_clock_ns();
    atomic_store(&s->go, true);
    echo_for(b, &p, 0, true);
    echo_for(b, &p, b->o.seconds, false);
    load_mark_end(b);
    for (const int64_t end_ns = bench_clock_ns() + STALL_NS;
         missing(b) && b->open && bench_clock_ns() < end_ns;)
        load_turn(b, 100);
    b->faults.lost += missing(b);
}

/* open_established opens those that are there before. */
static bool open_established(struct bench *b)
{
    const unsigned storm = b->o.connections;
    b->o.connections = b->o.established;
    const bool ok = load_open(b);
    b->o.connections = storm;
    return ok;
}

static void end_storm(struct bench *b, pid_t child)
{
    struct storm *s = b->storm;
    atomic_store(&s->stop, true);
    waitpid(child, NULL, 0); /* it looks each 100 ms */
    b->counts.closed += s->closed;
    if (*s->failure && !*b->failure) memcpy(b->failure, s->failure, sizeof s->failure);
}

static void run(struct bench *b)
{
    struct storm *s =
        mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED) {
        snprintf(b->failure, sizeof b->failure, "%s", strerror(errno));
        return;
    }
    b->storm = s; /* until the process ends */
    s->parent = getpid();
    const pid_t child = fork(); /* before anything is open, so that it holds nothing of ours */
    if (child == 0) the_storm(b);
    if (child == -1) {
        snprintf(b->failure, sizeof b->failure, "fork: %s", strerror(errno));
        return;
    }
    if (open_established(b)) measure(b);
    end_storm(b, child);
}

const struct bench_mode bench_storm = {.name = "storm",
                                       .what = "messages",
                                       .connections = 15000,
                                       .size = 64,
                                       .latency = true,
                                       .publishers = BENCH_EACH_TO_ITSELF,
                                       .dialect = &dialect_echo,
                                       .message = message,
                                       .refused = refused,
                                       .opened = opened,
                                       .run = run};
