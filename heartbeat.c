#include "heartbeat.h"

#include <time.h>

static struct { /* ticks */
    uint32_t interval, pong, age, grace_ms;
} options;

/* Of conn.expires: its 32 bits reach 17 years from the start of the clock; those of a tick only 99
 * days from now. */
#define EXPIRY_MS 128
#define BUSY_TICKS (1000 / WORKER_TICK_MS) /* heard from within a second: not idle */

static uint32_t ticks(int64_t ms)
{
    if (ms < 0) ms = 0;
    int64_t t = (ms + WORKER_TICK_MS - 1) / WORKER_TICK_MS;
    return t > INT32_MAX / 2 ? INT32_MAX / 2 : (uint32_t)t;
}

void heartbeat_init(const struct heartbeat_options *o)
{
    options.interval = ticks(o->ping_interval_ms);
    options.pong = ticks(o->pong_timeout_ms);
    options.age = ticks(o->max_age_ms);
    options.grace_ms = (uint32_t)o->expired_close_delay_ms;
}

/* spread gives this connection's own number below n, always the same. */
static uint32_t spread(const struct conn *c, uint32_t n, uint64_t salt)
{
    uint64_t x = (conn_key(c) + salt) * 0x9E3779B97F4A7C15ull;
    x ^= x >> 29;
    x *= 0xBF58476D1CE4E5B9ull;
    return (uint32_t)(((x >> 32) * n) >> 32);
}

static uint32_t age_limit(const struct conn *c) /* ticks after the opening */
{
    return options.age - spread(c, options.age / 5 + 1, 1);
}

static uint32_t first_ping(const struct conn *c) /* ticks after the opening */
{
    uint32_t half = options.interval / 2;
    return options.interval - spread(c, half + 1, 2);
}

/* ping_number says how many pings the schedule has had by now. */
static uint32_t ping_number(const struct conn *c, uint32_t now)
{
    uint32_t life = now - c->opened, first = first_ping(c);
    return life < first ? 0 : 1 + (life - first) / options.interval;
}

static uint32_t ping_tick(const struct conn *c, uint32_t number) /* of ping 1, 2, ... */
{
    return c->opened + first_ping(c) + (number - 1) * options.interval;
}

static bool last_ping_was(const struct conn *c, uint32_t number)
{
    return ((c->flags & CONN_PING_ODD) != 0) == (number & 1);
}

/* sooner keeps the earlier of two ticks ahead of now; one that has passed counts as now. */
static void sooner(uint32_t *left, uint32_t now, uint32_t tick)
{
    int32_t ahead = (int32_t)(tick - now);
    uint32_t l = ahead > 0 ? (uint32_t)ahead : 0;
    if (l < *left) *left = l;
}

static const struct conn_handler *handler(const struct conn *c)
{
    return &c->worker->server->app->handlers[c->protocol];
}

static void arm(struct conn *c)
{
    uint32_t now = worker_tick(c->worker), left = INT32_MAX;
    if (options.interval) {
        uint32_t number = ping_number(c, now);
        if (c->flags & CONN_PONG_DUE && number)
            sooner(&left, now, ping_tick(c, number) + options.pong);
        sooner(&left, now, ping_tick(c, number + 1));
    }
    if (options.age) sooner(&left, now, c->opened + age_limit(c));
    if (c->expires)
        sooner(&left, now, now + ticks((int64_t)c->expires * EXPIRY_MS - c->worker->now_ms));
    uint32_t also = handler(c)->deadline ? handler(c)->deadline(c) : 0;
    if (also) sooner(&left, now, also);
    if (left == 0) left = BUSY_TICKS; /* spared for being busy or paused: look again */
    conn_arm(c, CONN_DEADLINE_HEARTBEAT, (int64_t)left * WORKER_TICK_MS);
}

void heartbeat_start(struct conn *c, int64_t left_ms)
{
    if (c->state != CONN_OPEN) return;
    c->expires = 0;
    if (left_ms >= 0) {
        int64_t end =
            (c->worker->now_ms + left_ms + options.grace_ms) / EXPIRY_MS + 1; /* never early */
        c->expires = end <= UINT32_MAX ? (uint32_t)end : 0;
    }
    arm(c);
}

int64_t heartbeat_left_ms(int64_t end_s)
{
    int64_t now_s = (int64_t)time(NULL);
    if (end_s <= now_s) return 0;
    return end_s - now_s > INT32_MAX ? INT32_MAX * 1000ll : (end_s - now_s) * 1000;
}

void heartbeat_arm(struct conn *c)
{
    if (c->state == CONN_OPEN) arm(c);
}

uint32_t heartbeat_ping_s(void)
{
    return (uint32_t)(((int64_t)options.interval * WORKER_TICK_MS + 999) / 1000);
}

static bool is_busy(const struct conn *c, uint32_t now)
{
    return now - c->last_seen < BUSY_TICKS || !outq_empty(c->out);
}

/* too_old: idle connections go in the last fifth of the allowed age, busy ones at its end. */
static bool too_old(const struct conn *c, uint32_t now)
{
    uint32_t life = now - c->opened;
    if (!options.age || life < age_limit(c)) return false;
    return life >= options.age || !is_busy(c, now);
}

static bool is_dead(const struct conn *c, uint32_t now, uint32_t number)
{
    if (!(c->flags & CONN_PONG_DUE) || !number) return false;
    if (c->flags & (CONN_PAUSED | CONN_THROTTLED))
        return false; /* its pong is not read: TCP_USER_TIMEOUT watches */
    return (int32_t)(now - ping_tick(c, number) - options.pong) >= 0;
}

void heartbeat_fired(struct conn *c)
{
    struct metrics *m = &c->worker->metrics;
    uint32_t now = worker_tick(c->worker);
    if (c->state != CONN_OPEN) return;
    if (c->expires && c->worker->now_ms / EXPIRY_MS >= c->expires) {
        metric_add(m, METRIC_TIMED_OUT_TOKEN, 1);
        conn_close(c, 3005, "token expired");
        return;
    }
    if (too_old(c, now)) {
        metric_add(m, METRIC_TIMED_OUT_AGE, 1);
        conn_close(c, handler(c)->age_code, "refresh");
        return;
    }
    if (options.interval) {
        uint32_t number = ping_number(c, now);
        if (is_dead(c, now, number)) {
            metric_add(m, METRIC_TIMED_OUT_PONG, 1);
            conn_close(c, 3012, "no pong");
            return;
        }
        if (number && !last_ping_was(c, number)) {
            c->flags ^= CONN_PING_ODD;
            if (handler(c)->ping)
                handler(c)->ping(c);
            else
                conn_ping(c);
            if (c->state != CONN_OPEN) return;
            /* The pong's deadline counts from the schedule: a ping that we send late ourselves has
             * none. */
            if (now - ping_tick(c, number) > BUSY_TICKS) c->flags &= ~(uint32_t)CONN_PONG_DUE;
        }
    }
    arm(c);
}
