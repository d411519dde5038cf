#include "heartbeat.h"

#include <time.h>

static const struct heartbeat_settings *options(void)
{
    return settings_of(SETTINGS_HEARTBEAT);
}

/* Of conn.expires, which is of the wall clock: a token ends on a date, whatever jumps. Its 32 bits
 * reach eight years from now; those of a tick only 99 days. */
#define EXPIRY_MS 128
#define JUMP_TICKS (60000 / WORKER_TICK_MS) /* so late at most a jump of the wall clock is seen */
#define BUSY_TICKS (1000 / WORKER_TICK_MS)  /* heard from within a second: not idle */

static uint32_t ticks(int64_t ms)
{
    if (ms < 0) ms = 0;
    int64_t t = (ms + WORKER_TICK_MS - 1) / WORKER_TICK_MS;
    return t > INT32_MAX / 2 ? INT32_MAX / 2 : (uint32_t)t;
}

static unsigned find_period(const struct heartbeat_settings *s, struct heartbeat_period p)
{
    unsigned i = 0;
    while (i < s->count && (s->periods[i].interval != p.interval || s->periods[i].pong != p.pong))
        i++;
    return i;
}

bool heartbeat_set(struct heartbeat_settings *s, const struct heartbeat_settings *before,
                   const struct heartbeat_options *o)
{
    const struct heartbeat_period p = {ticks(o->ping_interval_ms), ticks(o->pong_timeout_ms)};
    *s = before ? *before : (struct heartbeat_settings){.count = 0};
    s->age = ticks(o->max_age_ms);
    s->grace_ms = (uint32_t)o->expired_close_delay_ms;
    s->current = find_period(s, p);
    if (s->current == HEARTBEAT_PERIODS) return false;
    s->periods[s->current] = p;
    if (s->current == s->count) s->count++;
    return true;
}

void heartbeat_init(const struct heartbeat_options *o)
{
    static struct heartbeat_settings first;
    (void)heartbeat_set(&first, NULL, o);
    settings_first.of[SETTINGS_HEARTBEAT] = &first;
}

/* period_of gives a connection's interval, which it gets when it is first asked for. */
static struct heartbeat_period period_of(struct conn *c)
{
    uint32_t number = c->flags >> CONN_PERIOD_SHIFT & CONN_PERIOD_MAX;
    if (!number) {
        number = options()->current + 1;
        c->flags |= number << CONN_PERIOD_SHIFT;
    }
    return options()->periods[number - 1];
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
    return options()->age - spread(c, options()->age / 5 + 1, 1);
}

/* A series of pings or messages, its schedule computed from the connection alone. */
struct series {
    uint32_t interval; /* ticks; 0 = there is none */
    uint32_t odd;      /* flag: the last one was one of odd number */
    uint64_t salt;
};

static struct series pings(struct conn *c)
{
    return (struct series){period_of(c).interval, CONN_PING_ODD, 2};
}

static struct series beats(const struct conn *c)
{
    return (struct series){ticks(c->beat_s * 1000), CONN_BEAT_ODD, 3};
}

static uint32_t first(const struct conn *c, const struct series *s) /* ticks after the opening */
{
    return s->interval - spread(c, s->interval / 2 + 1, s->salt);
}

/* number_by says how many the series has had by now. */
static uint32_t number_by(const struct conn *c, const struct series *s, uint32_t now)
{
    uint32_t life = now - c->opened, at = first(c, s);
    return life < at ? 0 : 1 + (life - at) / s->interval;
}

static uint32_t tick_of(const struct conn *c, const struct series *s,
                        uint32_t number) /* 1, 2 ... */
{
    return c->opened + first(c, s) + (number - 1) * s->interval;
}

/* is_due: has the one of that number not been sent? Then it counts as sent from now on. */
static bool is_due(struct conn *c, const struct series *s, uint32_t number)
{
    if (!number || ((c->flags & s->odd) != 0) == (number & 1)) return false;
    c->flags ^= s->odd;
    return true;
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

/* next_of takes the time to the next one of a series into account. */
static void next_of(const struct conn *c, const struct series *s, uint32_t now, uint32_t *left)
{
    if (s->interval) sooner(left, now, tick_of(c, s, number_by(c, s, now) + 1));
}

static void pong_deadline(struct conn *c, uint32_t now, uint32_t *left)
{
    const struct series s = pings(c);
    if (!s.interval || !(c->flags & CONN_PONG_DUE)) return;
    uint32_t number = number_by(c, &s, now);
    if (number) sooner(left, now, tick_of(c, &s, number) + period_of(c).pong);
}

/* expires_in: ms; 0 or less: its token's grace is over. */
static int64_t expires_in(const struct conn *c)
{
    const int64_t date_ms = worker_date_ms(c->worker);
    const int32_t units = (int32_t)(c->expires - (uint32_t)(date_ms / EXPIRY_MS));
    return (int64_t)units * EXPIRY_MS - date_ms % EXPIRY_MS;
}

static void arm(struct conn *c)
{
    const struct series ping = pings(c), beat = beats(c);
    uint32_t now = worker_tick(c->worker), left = INT32_MAX;
    pong_deadline(c, now, &left);
    next_of(c, &ping, now, &left);
    next_of(c, &beat, now, &left);
    if (options()->age) sooner(&left, now, c->opened + age_limit(c));
    if (c->expires) {
        const uint32_t end = ticks(expires_in(c));
        sooner(&left, now, now + (end < JUMP_TICKS ? end : JUMP_TICKS));
    }
    uint32_t also = handler(c)->deadline ? handler(c)->deadline(c) : 0;
    if (also) sooner(&left, now, also);
    if (left == 0) left = BUSY_TICKS; /* spared for being busy or paused: look again */
    conn_arm(c, CONN_DEADLINE_HEARTBEAT, (int64_t)left * WORKER_TICK_MS);
}

void heartbeat_start(struct conn *c, int64_t left_ms)
{
    if (c->state != CONN_OPEN) return;
    c->expires = 0;
    if (left_ms >= 0 && (left_ms + options()->grace_ms) / EXPIRY_MS < INT32_MAX) {
        const int64_t end_ms = worker_date_ms(c->worker) + left_ms + options()->grace_ms;
        c->expires = (uint32_t)(end_ms / EXPIRY_MS + 1); /* never early */
        if (!c->expires) c->expires = 1;
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
    const struct heartbeat_settings *s = options();
    return (uint32_t)(((int64_t)s->periods[s->current].interval * WORKER_TICK_MS + 999) / 1000);
}

static bool is_busy(const struct conn *c, uint32_t now)
{
    return now - c->last_seen < BUSY_TICKS || !outq_empty(c->out);
}

/* too_old: idle connections go in the last fifth of the allowed age, busy ones at its end. */
static bool too_old(const struct conn *c, uint32_t now)
{
    uint32_t life = now - c->opened;
    if (!options()->age || life < age_limit(c)) return false;
    return life >= options()->age || !is_busy(c, now);
}

static bool is_dead(struct conn *c, uint32_t now, uint32_t number)
{
    const struct series s = pings(c);
    if (!(c->flags & CONN_PONG_DUE) || !number) return false;
    if (c->flags & (CONN_PAUSED | CONN_THROTTLED))
        return false; /* its pong is not read: TCP_USER_TIMEOUT watches */
    return (int32_t)(now - tick_of(c, &s, number) - period_of(c).pong) >= 0;
}

/* over closes the connection whose time has come. */
static bool over(struct conn *c, uint32_t now)
{
    struct metrics *m = &c->worker->metrics;
    if (c->expires && expires_in(c) <= 0) {
        metric_add(m, METRIC_TIMED_OUT_TOKEN, 1);
        conn_close(c, 3005, "token expired");
        return true;
    }
    if (too_old(c, now)) {
        metric_add(m, METRIC_TIMED_OUT_AGE, 1);
        conn_close(c, handler(c)->age_code, "refresh");
        return true;
    }
    return false;
}

/* ping closes a dead connection, and pings one that is due. */
static void ping(struct conn *c, uint32_t now)
{
    const struct series s = pings(c);
    if (!s.interval) return;
    uint32_t number = number_by(c, &s, now);
    if (is_dead(c, now, number)) {
        metric_add(&c->worker->metrics, METRIC_TIMED_OUT_PONG, 1);
        conn_close(c, 3012, "no pong");
        return;
    }
    if (!is_due(c, &s, number)) return;
    if (handler(c)->ping)
        handler(c)->ping(c);
    else
        conn_ping(c);
    /* The pong's deadline counts from the schedule: a ping that we send late ourselves has none. */
    if (now - tick_of(c, &s, number) > BUSY_TICKS) c->flags &= ~(uint32_t)CONN_PONG_DUE;
}

static void beat(struct conn *c, uint32_t now)
{
    const struct series s = beats(c);
    if (s.interval && is_due(c, &s, number_by(c, &s, now))) handler(c)->beat(c);
}

void heartbeat_fired(struct conn *c)
{
    uint32_t now = worker_tick(c->worker);
    if (c->state != CONN_OPEN || over(c, now)) return;
    ping(c, now);
    if (c->state == CONN_OPEN) beat(c, now);
    if (c->state == CONN_OPEN) arm(c);
}
