/* heartbeat.c by a clock of the test's own: pings, pong deadlines, ages and token ends of many
 * connections at once. */
#include "engine.h"

#define CONNS 1000
#define TICK WORKER_TICK_MS
#define LATE (2 * TICK) /* a deadline is met at the end of its tick */
#define SECOND 1000
#define HOUR (3600 * SECOND)

struct peer {
    struct conn c;
    int64_t pinged_ms[64]; /* after the opening */
    unsigned pings;
    int64_t beat_ms[64];
    unsigned beats;
    int64_t ended_ms; /* -1: it has not */
    unsigned code;
    bool silent; /* answers no ping */
    bool busy;   /* something comes from it all the time */
};

static struct peer peers[CONNS];
static struct worker *w;
static int64_t opened_ms;
static unsigned count;

/* begin opens n connections at time at_ms; left_ms as for heartbeat_start. */
static void begin_at(int64_t at_ms, const struct heartbeat_options *o, unsigned n, int64_t left_ms)
{
    engine_open(&(struct engine_options){0});
    heartbeat_init(o);
    w = engine.server.workers[0];
    w->now_ms = opened_ms = at_ms;
    wheel_init(&w->wheel, worker_tick(w));
    count = n;
    for (unsigned i = 0; i < n; i++) {
        peers[i] = (struct peer){.ended_ms = -1};
        fake_open(&peers[i].c, w, i * 7919 + 1);
        heartbeat_start(&peers[i].c, left_ms);
    }
}

static void begin(const struct heartbeat_options *o, unsigned n, int64_t left_ms)
{
    begin_at(1000000, o, n, left_ms);
}

static void note_frame(struct peer *p, const uint8_t *bytes, int64_t at)
{
    if (bytes[0] == 0x89 && p->pings < 64) {
        assert_int_equal(bytes[1], 0);
        p->pinged_ms[p->pings++] = at;
    } else if (bytes[0] == 0x81 && p->beats < 64) {
        char want[32];
        int len = snprintf(want, sizeof want, "{\"heartbeat\":%d000}", p->c.beat_s);
        assert_int_equal(bytes[1], len);
        assert_memory_equal(bytes + 2, want, (size_t)len);
        p->beat_ms[p->beats++] = at;
    }
}

/* look_at notes what the connection was made to do, and answers. */
static void look_at(struct peer *p)
{
    struct conn *c = &p->c;
    int64_t at = w->now_ms - opened_ms;
    if (p->busy) c->last_seen = worker_tick(w);
    if (c->out) {
        for (uint32_t i = 0; i < c->out->count; i++)
            note_frame(p, c->out->entries[i].frame->bytes, at);
        outq_free(w->pool, &c->out);
        if (!p->silent) c->flags &= ~(uint32_t)CONN_PONG_DUE;
    }
    if (c->state != CONN_OPEN && p->ended_ms < 0) {
        p->ended_ms = at;
        p->code = c->close_code;
        fake_drop(c);
    }
}

/* pass lets time pass in steps. */
static void pass(int64_t ms, int64_t step_ms)
{
    for (int64_t until = w->now_ms + ms; w->now_ms < until;) {
        w->now_ms += step_ms;
        wheel_advance(&w->wheel, worker_tick(w), 0, engine.ops.timer, w);
        for (unsigned i = 0; i < count; i++) look_at(&peers[i]);
        for (uint32_t i = 0; i < w->dirty.count; i++)
            w->dirty.items[i]->flags &= ~(uint32_t)CONN_DIRTY;
        w->dirty.count = w->closed.count = 0;
    }
}

static void end(void)
{
    for (unsigned i = 0; i < count; i++) fake_drop(&peers[i].c);
    w->closed.count = w->dirty.count = 0;
    engine_close();
}

/* ---- pings ---- */

static void schedule(int64_t at_ms, int64_t interval_ms, unsigned intervals)
{
    unsigned half = 0;
    begin_at(at_ms, &(struct heartbeat_options){interval_ms, interval_ms / 3, 0, 0}, CONNS, -1);
    for (unsigned i = 0; i < count; i++) peers[i].busy = i & 1; /* busy ones are pinged as well */
    pass(interval_ms * intervals + LATE, TICK);
    for (unsigned i = 0; i < count; i++) {
        const struct peer *p = &peers[i];
        assert_int_equal(p->ended_ms, -1);
        assert_in_range(p->pings, intervals, intervals + 1);
        assert_in_range(p->pinged_ms[0], interval_ms / 2 - TICK, interval_ms + LATE);
        half += p->pinged_ms[0] < interval_ms * 3 / 4;
        for (unsigned k = 1; k < p->pings; k++) /* no drift */
            assert_in_range(p->pinged_ms[k], p->pinged_ms[0] + k * interval_ms - LATE,
                            p->pinged_ms[0] + k * interval_ms + LATE);
    }
    if (interval_ms >= SECOND) assert_in_range(half, CONNS * 2 / 5, CONNS * 3 / 5);
    assert_true(engine_metric(METRIC_PINGS) >= CONNS * intervals);
    end();
}

static void test_schedule(void **state)
{
    (void)state;
    schedule(1000000, 25 * SECOND, 4);
    schedule(1000003, 25 * SECOND, 2);
    schedule(1000000, SECOND, 20);
    schedule(1000000, 200, 20);
}

/* Ticks are 32 bits: after 397 days they begin again. */
static void test_schedule_over_the_wrap(void **state)
{
    (void)state;
    const int64_t wrap_ms = ((int64_t)1 << 32) * TICK;
    schedule(wrap_ms - 60 * SECOND, 25 * SECOND, 4);
    schedule(wrap_ms, 25 * SECOND, 2);
}

static void test_all_off(void **state)
{
    (void)state;
    begin(&(struct heartbeat_options){0}, 10, -1);
    for (unsigned i = 0; i < count; i++) peers[i].silent = true;
    pass(48 * HOUR, SECOND);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(peers[i].pings, 0);
        assert_int_equal(peers[i].ended_ms, -1);
    }
    end();
}

static void test_no_pong(void **state)
{
    (void)state;
    begin(&(struct heartbeat_options){25 * SECOND, 8 * SECOND, 0, 0}, CONNS, -1);
    for (unsigned i = 0; i < count; i++) peers[i].silent = i & 1;
    pass(60 * SECOND, TICK);
    for (unsigned i = 0; i < count; i++) {
        const struct peer *p = &peers[i];
        if (!p->silent) {
            assert_int_equal(p->ended_ms, -1);
            continue;
        }
        assert_int_equal(p->pings, 1);
        assert_int_equal(p->code, 3012);
        assert_in_range(p->ended_ms, p->pinged_ms[0] + 8 * SECOND - TICK,
                        p->pinged_ms[0] + 8 * SECOND + LATE);
    }
    assert_int_equal(engine_metric(METRIC_TIMED_OUT_PONG), CONNS / 2);
    end();
}

/* Anything that comes is as good as a pong, up to the deadline. */
static void test_answer_in_time(void **state)
{
    (void)state;
    begin(&(struct heartbeat_options){25 * SECOND, 8 * SECOND, 0, 0}, 1, -1);
    struct peer *p = &peers[0];
    p->silent = true;
    for (unsigned k = 1; k <= 5; k++) {
        while (p->pings < k) pass(TICK, TICK);
        pass(8 * SECOND - LATE, TICK);
        assert_int_equal(p->ended_ms, -1);
        p->c.flags &= ~(uint32_t)CONN_PONG_DUE;
    }
    end();
}

/* Its pong may lie unread in the socket while we do not read it. */
static void test_not_read(void **state)
{
    (void)state;
    begin(&(struct heartbeat_options){25 * SECOND, 8 * SECOND, 0, 0}, 1, -1);
    struct peer *p = &peers[0];
    p->silent = true;
    while (!p->pings) pass(TICK, TICK);
    p->c.flags |= CONN_PAUSED;
    pass(100 * SECOND, TICK);
    assert_int_equal(p->ended_ms, -1);
    p->c.flags &= ~(uint32_t)CONN_PAUSED;
    pass(60 * SECOND, TICK);
    assert_int_equal(p->code, 3012);
    end();
}

/* The worker itself stood still: what it is late with is not the peers' fault. */
static void test_stall(void **state)
{
    (void)state;
    for (int64_t stall_ms = 10 * SECOND; stall_ms <= 200 * SECOND; stall_ms += 19 * SECOND) {
        begin(&(struct heartbeat_options){25 * SECOND, 8 * SECOND, 0, 0}, 100, -1);
        for (unsigned i = 0; i < count; i++) peers[i].silent = true;
        pass(stall_ms, stall_ms);
        for (unsigned i = 0; i < count; i++) {
            assert_in_range(peers[i].pings, 0, 1);
            assert_int_equal(peers[i].ended_ms, -1);
        }
        for (unsigned i = 0; i < count; i++) peers[i].silent = false;
        pass(60 * SECOND, TICK);
        for (unsigned i = 0; i < count; i++) {
            unsigned pings = peers[i].pings;
            if (peers[i].ended_ms != -1) { /* a ping in time just before the end of the stall */
                assert_int_equal(peers[i].code, 3012);
                continue;
            }
            assert_in_range(pings, 2, 4);
        }
        end();
    }
}

/* ---- messages for who can not see pings ---- */

/* begin_beats: every third connection has asked for none. */
static void begin_beats(const struct heartbeat_options *o, unsigned seconds)
{
    begin(o, CONNS, -1);
    for (unsigned i = 0; i < count; i++) {
        if (i % 3) peers[i].c.beat_s = seconds & 511;
        heartbeat_arm(&peers[i].c);
    }
}

/* Jitter is in the first one alone, as with pings; neither series disturbs the other. */
static void beats(int64_t ping_interval_ms, unsigned seconds)
{
    const int64_t interval_ms = seconds * SECOND;
    unsigned half = 0, asked = 0;
    begin_beats(&(struct heartbeat_options){ping_interval_ms, ping_interval_ms / 3, 0, 0}, seconds);
    pass(interval_ms * 4 + LATE, 2 * TICK);
    for (unsigned i = 0; i < count; i++) {
        const struct peer *p = &peers[i];
        assert_int_equal(p->ended_ms, -1);
        if (ping_interval_ms) assert_in_range(p->pings, interval_ms * 4 / ping_interval_ms, 64);
        if (i % 3 == 0) {
            assert_int_equal(p->beats, 0);
            continue;
        }
        asked++;
        assert_in_range(p->beats, 4, 5);
        assert_in_range(p->beat_ms[0], interval_ms / 2 - TICK, interval_ms + 2 * LATE);
        half += p->beat_ms[0] < interval_ms * 3 / 4;
        for (unsigned k = 1; k < p->beats; k++) /* no drift */
            assert_in_range(p->beat_ms[k], p->beat_ms[0] + k * interval_ms - 2 * LATE,
                            p->beat_ms[0] + k * interval_ms + 2 * LATE);
    }
    assert_in_range(half, asked * 2 / 5, asked * 3 / 5);
    assert_in_range(engine_metric(METRIC_BEATS), asked * 4, asked * 5);
    end();
}

static void test_beats(void **state)
{
    (void)state;
    beats(25 * SECOND, 25); /* not at the same times as the pings, see the salt */
    beats(0, 300);
    beats(7 * SECOND, 5);
}

/* Who has not taken what was sent before gets no more, and beats again when it has. */
static void test_beats_blocked(void **state)
{
    (void)state;
    begin_beats(&(struct heartbeat_options){0}, 5);
    for (unsigned i = 0; i < count; i++) peers[i].c.flags |= CONN_BLOCKED;
    pass(60 * SECOND, 64);
    assert_int_equal(engine_metric(METRIC_BEATS), 0);
    for (unsigned i = 0; i < count; i++) peers[i].c.flags &= ~(uint32_t)CONN_BLOCKED;
    pass(10 * SECOND, 64);
    for (unsigned i = 0; i < count; i++) {
        if (i % 3) assert_in_range(peers[i].beats, 1, 3);
    }
    end();
}

/* A dead peer is closed, and gets none behind the Close. */
static void test_beats_dead(void **state)
{
    (void)state;
    begin_beats(&(struct heartbeat_options){25 * SECOND, 8 * SECOND, 0, 0}, 5);
    for (unsigned i = 0; i < count; i++) peers[i].silent = true;
    pass(60 * SECOND, TICK);
    for (unsigned i = 0; i < count; i++) {
        const struct peer *p = &peers[i];
        assert_int_equal(p->code, 3012);
        if (i % 3) assert_true(p->beats && p->beat_ms[p->beats - 1] <= p->ended_ms);
    }
    end();
}

/* ---- age and token ---- */

static void test_age(void **state)
{
    (void)state;
    unsigned half = 0;
    begin(&(struct heartbeat_options){25 * SECOND, 8 * SECOND, HOUR, 0}, CONNS, -1);
    for (unsigned i = 0; i < count; i++) peers[i].busy = i & 1;
    pass(HOUR * 3 / 4, SECOND);
    pass(HOUR / 4 + 2 * SECOND, 64);
    for (unsigned i = 0; i < count; i++) {
        const struct peer *p = &peers[i];
        assert_int_equal(p->code, WS_CLOSE_RESTART);
        if (p->busy) { /* to the end, and a second for noticing */
            assert_in_range(p->ended_ms, HOUR, HOUR + SECOND + 64);
        } else {
            assert_in_range(p->ended_ms, HOUR / 5 * 4, HOUR + LATE);
            half += p->ended_ms < HOUR / 10 * 9;
        }
    }
    assert_in_range(half, CONNS / 2 * 2 / 5, CONNS / 2 * 3 / 5); /* paced */
    assert_int_equal(engine_metric(METRIC_TIMED_OUT_AGE), CONNS);
    end();
}

/* A busy one that falls idle in the last fifth goes then. */
static void test_age_when_idle(void **state)
{
    (void)state;
    begin(&(struct heartbeat_options){0, 0, HOUR, 0}, 100, -1);
    for (unsigned i = 0; i < count; i++) peers[i].busy = true;
    pass(HOUR - 60 * SECOND, SECOND / 2);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(peers[i].ended_ms, -1);
        peers[i].busy = false;
    }
    pass(10 * SECOND, 64);
    unsigned gone = 0;
    for (unsigned i = 0; i < count; i++) gone += peers[i].ended_ms != -1;
    assert_true(gone > 80); /* those whose own limit has passed */
    end();
}

static void test_token_end(void **state)
{
    (void)state;
    static const struct {
        int64_t left_ms, grace_ms;
    } cases[] = {{0, 0}, {1, 0}, {0, 25000}, {1000, 0}, {10000, 25000}, {100000, 25000}};
    for (unsigned k = 0; k < sizeof cases / sizeof *cases; k++) {
        const int64_t due = cases[k].left_ms + cases[k].grace_ms;
        begin(&(struct heartbeat_options){25 * SECOND, 8 * SECOND, HOUR, cases[k].grace_ms}, 10,
              cases[k].left_ms);
        pass(due + SECOND, TICK);
        for (unsigned i = 0; i < count; i++) {
            assert_int_equal(peers[i].code, 3005);
            assert_in_range(peers[i].ended_ms, due, due + 128 + LATE); /* never before */
        }
        assert_int_equal(engine_metric(METRIC_TIMED_OUT_TOKEN), 10);
        end();
    }
}

/* A token of years does not end at once, nor when the timers have reached as far as they can. */
static void test_long_token(void **state)
{
    (void)state;
    static const int64_t days[] = {98, 100, 199, 300, 3000, 24855};
    for (unsigned k = 0; k < sizeof days / sizeof *days; k++) {
        const int64_t left_ms = days[k] * 24 * HOUR, step_ms = days[k] < 1000 ? HOUR : 240 * HOUR;
        begin(&(struct heartbeat_options){0, 0, 0, 25000}, 1, left_ms);
        pass(left_ms - 250 * HOUR, step_ms);
        assert_int_equal(peers[0].ended_ms, -1);
        pass(500 * HOUR, HOUR);
        if (days[k] < 8 * 365 + 100) {
            assert_int_equal(peers[0].code, 3005);
            assert_in_range(peers[0].ended_ms, left_ms, left_ms + 3 * HOUR);
        } else { /* the longest that raw.c knows, INT32_MAX seconds: no end */
            assert_int_equal(peers[0].ended_ms, -1);
        }
        end();
    }
}

/* The wall clock jumps: the token ends on its date, seen within a minute; nobody ends before it. */
static void test_wall_clock_jumps(void **state)
{
    (void)state;
    static const struct {
        int64_t jump_ms, due_ms; /* of a token of an hour, ten minutes after it came */
    } cases[] = {{0, HOUR},
                 {-2 * HOUR, 3 * HOUR},
                 {30 * 60 * SECOND, HOUR / 2},
                 {24 * HOUR, HOUR / 6 + SECOND}};
    for (unsigned k = 0; k < sizeof cases / sizeof *cases; k++) {
        for (unsigned pinged = 0; pinged < 2; pinged++) {
            begin(&(struct heartbeat_options){pinged ? 25 * SECOND : 0, 8 * SECOND, 0, 0}, 10,
                  HOUR);
            pass(10 * 60 * SECOND, SECOND);
            w->ahead_ms += cases[k].jump_ms;
            pass(cases[k].due_ms - 10 * 60 * SECOND - SECOND, SECOND);
            for (unsigned i = 0; i < count; i++) assert_int_equal(peers[i].ended_ms, -1);
            pass(62 * SECOND, SECOND);
            for (unsigned i = 0; i < count; i++) assert_int_equal(peers[i].code, 3005);
            end();
        }
    }
}

static void test_not_open(void **state)
{
    (void)state;
    begin(&(struct heartbeat_options){25 * SECOND, 8 * SECOND, HOUR, 0}, 1, -1);
    conn_close(&peers[0].c, 1000, "bye");
    uint32_t deadline = peers[0].c.timer.deadline;
    heartbeat_start(&peers[0].c, 0);
    heartbeat_fired(&peers[0].c);
    assert_int_equal(peers[0].c.timer.kind, CONN_DEADLINE_CLOSE);
    assert_int_equal(peers[0].c.timer.deadline, deadline);
    outq_free(w->pool, &peers[0].c.out);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedule),       cmocka_unit_test(test_schedule_over_the_wrap),
        cmocka_unit_test(test_all_off),        cmocka_unit_test(test_no_pong),
        cmocka_unit_test(test_answer_in_time), cmocka_unit_test(test_not_read),
        cmocka_unit_test(test_stall),          cmocka_unit_test(test_age),
        cmocka_unit_test(test_age_when_idle),  cmocka_unit_test(test_token_end),
        cmocka_unit_test(test_long_token),     cmocka_unit_test(test_wall_clock_jumps),
        cmocka_unit_test(test_not_open),       cmocka_unit_test(test_beats),
        cmocka_unit_test(test_beats_blocked),  cmocka_unit_test(test_beats_dead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
