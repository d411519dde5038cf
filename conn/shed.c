/* One budget for what waits in the out queues of all connections.
 *
 * The problem: a queue has its cap, but ten thousand slow clients have ten thousand caps, and
 * memory ends for those as well who read. The choice: what is left in a queue after a flush is
 * counted, once a flush, in a gauge of the worker; the process's sum is compared with the budget
 * once a turn. Publications to clients that keep up cost nothing. Above the budget each worker
 * closes those of its connections that have most (3008), until seven eighths are left; who has less
 * is not touched. If it is above the budget again before three quarters were reached, newcomers are
 * refused until then.
 *
 * What counts: the bytes of a queue and 64 an entry (outq_cost), and what its socket has not got
 * through to the peer (SIOCOUTQ, asked of some connections at a time, so up to seconds old). A
 * publication is one frame however many queues hold it: all queues together are never taken for
 * more than all objects of the workers, so that a message to everybody does not look like a million
 * messages. Only who is on worker.waiting is looked at: two passes over it, at most every LOOK_MS,
 * and only above the budget. The worst are found by a histogram of eight buckets for each power of
 * two: within 1/8 of each other any may go first. Rejected: a heap, which every flush would have to
 * keep in order; a common list of the worst, which would be locked. */
#include "conn.h"
#include "kernel.h"
#include "log.h"

#define LOOK_MS 20        /* what one shedding frees is given back before the next */
#define STILL_OVER_MS 200 /* so long after it began, shedding has not been enough */
#define SAMPLE_MS 100
#define SAMPLES 64u      /* sockets that are asked at a time */
#define CLOSED_MAX 1000u /* at a time */
#define ENDING_LEAST 4096u
#define BUCKETS (33u * 8)

/* ---- counting ---- */

static void count(struct worker *w, struct out_queue *q, uint32_t cost, uint32_t kernel)
{
    metric_add(&w->metrics, METRIC_WAITING_QUEUES, (uint64_t)cost - q->counted);
    metric_add(&w->metrics, METRIC_WAITING_KERNEL, (uint64_t)kernel - q->kernel);
    q->counted = cost;
    q->kernel = kernel;
}

static uint32_t cost_of(const struct out_queue *q)
{
    const uint64_t cost = outq_cost(q);
    return cost < UINT32_MAX ? (uint32_t)cost : UINT32_MAX;
}

void conn_waits(struct conn *c)
{
    struct worker *w = c->worker;
    struct out_queue *q = c->out;
    if (q->place == OUTQ_NO_PLACE) {
        q->place = w->waiting.count;
        conn_vector_push(&w->waiting, c);
    }
    count(w, q, cost_of(q), q->kernel);
}

void conn_waits_no_more(struct conn *c)
{
    struct worker *w = c->worker;
    struct out_queue *q = c->out;
    if (!q || q->place == OUTQ_NO_PLACE) return;
    count(w, q, 0, 0);
    struct conn *last = w->waiting.items[--w->waiting.count];
    w->waiting.items[q->place] = last;
    last->out->place = q->place;
    q->place = OUTQ_NO_PLACE;
}

/* sample asks some sockets what they have not got through. Of those that end nothing is counted:
 * they are gone in a few seconds, and closing others would not make them go sooner. */
static void sample(struct worker *w)
{
    if (w->now_ms < w->sample_at_ms) return;
    w->sample_at_ms = w->now_ms + SAMPLE_MS;
    for (uint32_t i = 0; i < SAMPLES && i < w->waiting.count; i++) {
        if (w->sampled >= w->waiting.count) w->sampled = 0;
        struct conn *c = w->waiting.items[w->sampled++];
        count(w, c->out, c->out->counted, c->state == CONN_OPEN ? kernel_ask_unsent(c->fd) : 0);
    }
}

static uint64_t waiting_on(const struct worker *w)
{
    return metric_get(&w->metrics, METRIC_WAITING_QUEUES) +
           metric_get(&w->metrics, METRIC_WAITING_KERNEL);
}

uint64_t conn_queues_bytes(const struct server *s)
{
    uint64_t queues = 0, kernel = 0, used = 0;
    for (unsigned i = 0; i < s->worker_count; i++) {
        const struct metrics *m = &s->workers[i]->metrics;
        queues += metric_get(m, METRIC_WAITING_QUEUES);
        kernel += metric_get(m, METRIC_WAITING_KERNEL);
    }
    if (queues + kernel <= (uint64_t)conn_options()->queues_max_bytes) return queues + kernel;
    for (unsigned i = 0; i < s->worker_count; i++)
        used += mem_pool_stats(s->workers[i]->pool).used_bytes;
    return (queues < used ? queues : used) + kernel;
}

/* ---- the state of the process ---- */

/* note_over: it is above the budget. */
static void note_over(struct server *s, int64_t now_ms)
{
    int64_t since_ms = 0;
    if (atomic_compare_exchange_strong_explicit(&s->over_since_ms, &since_ms, now_ms,
                                                memory_order_relaxed, memory_order_relaxed))
        return;
    if (now_ms - since_ms >= STILL_OVER_MS)
        atomic_store_explicit(&s->crowded, true, memory_order_relaxed);
}

static void note_calm(struct server *s)
{
    if (!atomic_load_explicit(&s->over_since_ms, memory_order_relaxed)) return;
    atomic_store_explicit(&s->crowded, false, memory_order_relaxed);
    atomic_store_explicit(&s->over_since_ms, 0, memory_order_relaxed);
}

static bool is_calm(uint64_t waiting, uint64_t budget)
{
    return waiting < budget / 4 * 3;
}

bool conn_queues_full(struct server *s)
{
    if (!atomic_load_explicit(&s->crowded, memory_order_relaxed)) return false;
    const uint64_t budget = (uint64_t)conn_options()->queues_max_bytes; /* 0 since a reload */
    if (budget && !is_calm(conn_queues_bytes(s), budget)) return true;
    note_calm(s);
    return false;
}

/* ---- who goes ---- */

/* bucket_of grows with n: eight for each power of two. */
static unsigned bucket_of(uint64_t n)
{
    if (n < 8) return (unsigned)n;
    const unsigned power = 63u - (unsigned)__builtin_clzll(n);
    return (power - 2) * 8 + (unsigned)(n >> (power - 3) & 7);
}

static uint64_t size_of(const struct conn *c)
{
    return (uint64_t)c->out->counted + c->out->kernel;
}

/* is_cut_off: would it be dropped before others have to go? Not for its Close alone, which it may
 * yet read. */
static bool is_cut_off(const struct conn *c)
{
    return c->state != CONN_OPEN && c->state != CONN_CLOSED && size_of(c) >= ENDING_LEAST;
}

struct survey {
    uint64_t ending; /* bytes of those that end already and are worth it: they go first */
    uint64_t open[BUCKETS];
};

static void look_around(const struct worker *w, struct survey *s)
{
    for (uint32_t i = 0; i < w->waiting.count; i++) {
        const struct conn *c = w->waiting.items[i];
        if (c->state == CONN_OPEN)
            s->open[bucket_of(size_of(c))] += size_of(c);
        else if (is_cut_off(c))
            s->ending += size_of(c);
    }
}

/* shed_one: of an open connection nothing is sent any more but the rest of a message that is begun,
 * and why. */
static void shed_one(struct conn *c)
{
    struct worker *w = c->worker;
    if (c->state != CONN_OPEN) {
        conn_drop(c, c->close_code ? c->close_code : WS_CLOSE_ABNORMAL);
        return;
    }
    const uint32_t before = c->out->bytes;
    c->messages_out -= outq_cut(c->out);
    metric_sub(&w->metrics, METRIC_QUEUED_BYTES, before - c->out->bytes);
    metric_add(&w->metrics, METRIC_SHED, 1);
    conn_close(c, 3008, "slow");
    if (c->state != CONN_CLOSED) count(w, c->out, cost_of(c->out), 0);
}

/* shed frees part bytes: those that end first, then the largest queues. Returns how many went. */
static uint32_t shed(struct worker *w, uint64_t part)
{
    struct survey s = {0};
    uint32_t closed = 0;
    look_around(w, &s);
    uint64_t ending = part < s.ending ? part : s.ending, left = part - ending;
    unsigned least = BUCKETS;
    while (left && least > 0 && s.open[--least] < left) left -= s.open[least];
    /* of the bucket least so much goes as is left, of those above it everything */
    for (uint32_t i = 0; i < w->waiting.count && closed < CLOSED_MAX; i++) {
        struct conn *c = w->waiting.items[i];
        const uint64_t size = size_of(c);
        const unsigned bucket = bucket_of(size);
        if (c->state == CONN_OPEN ? bucket < least || (bucket == least && !left)
                                  : !ending || !is_cut_off(c))
            continue;
        if (c->state != CONN_OPEN)
            ending -= ending < size ? ending : size;
        else if (bucket == least)
            left -= left < size ? left : size;
        shed_one(c);
        closed++;
    }
    return closed;
}

/* part_of: of what is too much, a worker sheds in proportion to what it has above an even share. So
 * all together shed enough, and one that has little sheds nothing. */
static uint64_t part_of(const struct worker *w, uint64_t too_much, uint64_t target)
{
    const struct server *s = w->server;
    const uint64_t even = target / s->worker_count;
    uint64_t above = 0, mine = 0;
    for (unsigned i = 0; i < s->worker_count; i++) {
        const uint64_t n = waiting_on(s->workers[i]), more = n > even ? n - even : 0;
        above += more;
        if (s->workers[i] == w) mine = more;
    }
    return above ? (uint64_t)((double)too_much * (double)mine / (double)above) : 0;
}

/* others_look: they may be asleep, and have queues to shed or frames of ours to give back. */
static void others_look(struct worker *w)
{
    for (unsigned i = 0; i < w->server->worker_count; i++) w->wake |= 1ull << i;
}

/* is_over compares what waits with the budget. */
static bool is_over(struct worker *w, uint64_t budget, uint64_t *waiting)
{
    *waiting = conn_queues_bytes(w->server);
    if (is_calm(*waiting, budget)) note_calm(w->server);
    w->look_at_ms = *waiting > budget ? w->now_ms + LOOK_MS : 0;
    if (*waiting > budget) note_over(w->server, w->now_ms);
    return *waiting > budget;
}

/* has_reason: a worker where nothing waits looks only at whether all is well again. */
static bool has_reason(const struct worker *w)
{
    return w->waiting.count ||
           atomic_load_explicit(&w->server->over_since_ms, memory_order_relaxed);
}

bool conn_shed(struct worker *w)
{
    const uint64_t budget = (uint64_t)conn_options()->queues_max_bytes;
    uint64_t waiting;
    if (w->waiting.count) sample(w);
    if (!budget || !has_reason(w)) {
        w->look_at_ms = 0; /* nobody is woken for it */
        return false;
    }
    if (w->now_ms < w->look_at_ms) return false;
    if (!is_over(w, budget, &waiting)) return false;
    others_look(w);
    const uint64_t target = budget / 8 * 7, part = part_of(w, waiting - target, target);
    const uint32_t closed = part ? shed(w, part) : 0;
    if (closed)
        log_limited(1, LOG_WARN,
                    "too much waits in all queues together (client.total_queue_max_size): the "
                    "slowest clients are closed",
                    LOG_U64("closed", closed), LOG_U64("waiting_bytes", waiting),
                    LOG_U64("budget_bytes", budget));
    return closed > 0;
}
