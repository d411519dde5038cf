/* The oldest connections of a server are closed at a set rate after others have been added, so that
 * their clients come back through the balancer.
 *
 * The list of connections has no order. Which ones are the oldest is found by counting: four passes
 * over the list, each by eight bits more of a connection's age, which is how many were accepted
 * after it. So nothing is allocated and nothing moved, and a turn looks at no more connections than
 * it does in a drain. Rejected: sorting (a million pointers at once), and a list by age (16 bytes
 * of each connection). Of connections that end while it counts, one may be counted twice; then one
 * less is closed, and never another one than the oldest. */
#include <string.h>

#include "conn.h"

#define BURST_MS 50           /* what may be closed at once after a pause: so long's worth */
#define ONE 1000000           /* a connection, in the unit of credit */
#define LOOKS_PER_TURN 10000u /* at connections */
#define DIGIT_BITS 8u
#define AGE_BITS 32u

static void over(struct worker *w)
{
    metric_sub(&w->metrics, METRIC_REBALANCE_LEFT, w->rebalance.left);
    w->rebalance.left = 0;
}

void conn_rebalance_stop(struct worker *w)
{
    over(w);
}

uint32_t conn_rebalance(struct worker *w, unsigned percent, uint32_t rate, uint64_t all)
{
    const uint64_t mine = metric_get(&w->metrics, METRIC_CONNECTIONS);
    const uint32_t n = (uint32_t)((mine * percent + 50) / 100);
    over(w);
    if (w->stopped != WORKER_RUNS || !n) return 0;
    w->rebalance = (struct rebalance){.left = n,
                                      .rank = n,
                                      .newest = (uint32_t)w->next_conn_id,
                                      .cursor = w->conns.count,
                                      .credit = ONE,
                                      .at_ms = w->now_ms};
    w->rebalance.rate = (int64_t)(rate * 1000ull * mine / (all > mine ? all : mine));
    if (w->rebalance.rate < 1) w->rebalance.rate = 1;
    metric_add(&w->metrics, METRIC_REBALANCE_LEFT, n);
    return n;
}

/* is_counted gives the age of an open connection that was there at the beginning. */
static bool is_counted(const struct rebalance *b, const struct conn *c, uint64_t *age)
{
    *age = b->newest - c->id; /* modulo 2^32, as ids are */
    return c->state == CONN_OPEN && *age < UINT32_MAX / 2;
}

/* choose ends a pass: the age of the youngest that is chosen is known to eight bits more. */
static void choose(struct rebalance *b, uint32_t all)
{
    uint32_t digit = 255;
    while (digit > 0 && b->counts[digit] < b->rank) b->rank -= b->counts[digit--];
    b->prefix = b->prefix << DIGIT_BITS | digit;
    b->bits += DIGIT_BITS;
    b->cursor = all;
    memset(b->counts, 0, sizeof b->counts);
}

/* count goes on with the passes. Returns whether it is done with them. */
static bool count(struct worker *w, uint32_t *looks)
{
    struct rebalance *b = &w->rebalance;
    while (b->bits < AGE_BITS) {
        const unsigned shift = AGE_BITS - b->bits - DIGIT_BITS;
        if (b->cursor > w->conns.count) b->cursor = w->conns.count;
        for (; b->cursor > 0; --*looks) {
            uint64_t age;
            if (!*looks) return false;
            if (is_counted(b, w->conns.items[--b->cursor], &age) &&
                age >> (shift + DIGIT_BITS) == b->prefix)
                b->counts[age >> shift & 255]++;
        }
        choose(b, w->conns.count);
    }
    return true;
}

/* next_due: as in a drain, what is closed meanwhile moves only those above the cursor. NULL: it has
 * looked enough, or nobody is left. */
static struct conn *next_due(struct worker *w, uint32_t *looks)
{
    struct rebalance *b = &w->rebalance;
    if (b->cursor > w->conns.count) b->cursor = w->conns.count;
    for (; b->cursor > 0 && *looks; --*looks) {
        uint64_t age;
        struct conn *c = w->conns.items[--b->cursor];
        if (is_counted(b, c, &age) && age >= b->prefix) return c;
    }
    return NULL;
}

static void earn(struct worker *w)
{
    struct rebalance *b = &w->rebalance;
    const int64_t most = b->rate * BURST_MS > ONE ? b->rate * BURST_MS : ONE;
    b->credit += b->rate * (w->now_ms - b->at_ms);
    if (b->credit > most) b->credit = most;
    b->at_ms = w->now_ms;
}

static void close_one(struct conn *c)
{
    struct worker *w = c->worker;
    w->rebalance.left--;
    w->rebalance.credit -= ONE;
    metric_sub(&w->metrics, METRIC_REBALANCE_LEFT, 1);
    metric_add(&w->metrics, METRIC_REBALANCED, 1);
    conn_close(c, w->server->app->handlers[c->protocol].age_code, "rebalance");
}

int conn_rebalancing(struct worker *w)
{
    struct rebalance *b = &w->rebalance;
    uint32_t looks = LOOKS_PER_TURN;
    earn(w);
    if (!count(w, &looks)) return 0;
    while (b->left && b->credit >= ONE) {
        struct conn *c = next_due(w, &looks);
        if (c)
            close_one(c);
        else if (b->cursor > 0)
            return 0;
        else
            over(w); /* some of them have left by themselves */
    }
    return b->left ? (int)((ONE - b->credit + b->rate - 1) / b->rate) : -1;
}
