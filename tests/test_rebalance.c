/* conn/rebalance.c in a time of the test's own: who is closed, with what, and how fast. */
#include "engine.h"

enum { MOST = 8000 }; /* four times so many looks are several turns */

static struct conn conns[2][MOST];
static unsigned opened[2];

static void begin(unsigned workers)
{
    engine_open(&(struct engine_options){.workers = workers});
    engine.app.handlers[CONN_CLIENT] =
        (struct conn_handler){.closed = raw_handler.closed, .age_code = 3011};
    for (unsigned i = 0; i < workers; i++) engine.server.workers[i]->now_ms = 1000000;
    opened[0] = opened[1] = 0;
}

/* open_at puts n connections more on a worker: at the end of its list, as the server does, or by
 * chance, as it is after others have gone. */
static void open_at(unsigned worker, unsigned n, bool by_chance)
{
    struct worker *w = engine.server.workers[worker];
    for (unsigned i = 0; i < n; i++) {
        struct conn *c = &conns[worker][opened[worker]++];
        fake_open(c, w, (uint32_t)++w->next_conn_id);
        const uint32_t at =
            by_chance ? (uint32_t)(worker_random(w) % (w->conns.count + 1)) : w->conns.count;
        struct conn *other = at < w->conns.count ? w->conns.items[at] : c;
        c->slot = at;
        w->conns.items[at] = c;
        if (other != c) {
            other->slot = w->conns.count;
            w->conns.items[other->slot] = other;
        }
        w->conns.count++;
    }
}

static void open_some(unsigned worker, unsigned n)
{
    open_at(worker, n, true);
}

static void end(void)
{
    for (unsigned k = 0; k < engine.server.worker_count; k++) {
        for (unsigned i = 0; i < opened[k]; i++) fake_drop(&conns[k][i]);
        engine.server.workers[k]->conns.count = 0;
        fake_turn(engine.server.workers[k]);
        assert_int_equal(metric_get(&engine.server.workers[k]->metrics, METRIC_REBALANCE_LEFT), 0);
    }
    engine_close();
}

static unsigned closed(unsigned worker, unsigned from, unsigned to)
{
    unsigned n = 0;
    for (unsigned i = from; i < to; i++) n += conns[worker][i].state != CONN_OPEN;
    return n;
}

/* pass lets ms go by, in steps as long as the worker itself wants to sleep. */
static void pass(unsigned worker, int64_t ms)
{
    struct worker *w = engine.server.workers[worker];
    const int64_t until = w->now_ms + ms;
    while (w->rebalance.left) {
        const int next = conn_rebalancing(w);
        const int64_t step = next < 0 || next > 100 ? 100 : next;
        if (w->now_ms + step > until) break;
        w->now_ms += step;
    }
    w->now_ms = until;
}

static uint32_t rebalance(unsigned percent, uint32_t rate)
{
    uint32_t n = 0;
    const uint64_t all = engine_metric(METRIC_CONNECTIONS);
    for (unsigned i = 0; i < engine.server.worker_count; i++)
        n += conn_rebalance(engine.server.workers[i], percent, rate, all);
    return n;
}

/* 20 % of 1000 at 100 a second: the 200 oldest and nobody else, within 10 % of the rate at all
 * times. */
static void test_oldest_at_the_rate(void **state)
{
    (void)state;
    begin(1);
    open_some(0, 1000);
    assert_int_equal(rebalance(20, 100), 200);
    assert_int_equal(engine_metric(METRIC_REBALANCE_LEFT), 200);
    for (unsigned tenth = 1; tenth < 20; tenth++) {
        pass(0, 100);
        assert_in_range(engine_metric(METRIC_REBALANCED), tenth * 9, tenth * 11 + 1);
        assert_int_equal(engine_metric(METRIC_REBALANCE_LEFT),
                         200 - engine_metric(METRIC_REBALANCED));
    }
    pass(0, 300);
    assert_int_equal(closed(0, 0, 200), 200);
    assert_int_equal(closed(0, 200, 1000), 0);
    assert_int_equal(engine_metric(METRIC_REBALANCED), 200);
    assert_int_equal(engine.server.workers[0]->rebalance.left, 0);
    end();
}

/* Each worker its own oldest, at its share, so that all are done together. */
static void test_workers(void **state)
{
    (void)state;
    begin(2);
    open_some(0, 700);
    open_some(1, 300);
    assert_int_equal(rebalance(50, 250), 500);
    for (unsigned i = 0; i < 2; i++) pass(i, 1000);
    assert_in_range(closed(0, 0, 350), 157, 193);
    assert_in_range(closed(1, 0, 150), 67, 83);
    for (unsigned i = 0; i < 2; i++) pass(i, 1100);
    assert_int_equal(closed(0, 0, 350), 350);
    assert_int_equal(closed(1, 0, 150), 150);
    assert_int_equal(closed(0, 350, 700) + closed(1, 150, 300), 0);
    end();
}

static void test_codes(void **state)
{
    (void)state;
    begin(1);
    open_some(0, 10);
    for (unsigned i = 0; i < 10; i += 2) {
        conns[0][i].protocol = CONN_CLIENT;
        conns[0][i + 1].protocol = i % 4 ? CONN_RAW : CONN_ECHO;
    }
    rebalance(100, 1000000);
    pass(0, 100);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(conns[0][i].close_code, i % 2 ? WS_CLOSE_RESTART : 3011);
    end();
}

/* More connections than a turn looks at: several turns, and still the very oldest. Ids may have
 * gone round meanwhile. */
static void test_many(void **state)
{
    (void)state;
    begin(1);
    struct worker *w = engine.server.workers[0];
    w->next_conn_id = UINT32_MAX - 3000;
    open_some(0, MOST);
    assert_int_equal(rebalance(30, 1000000), MOST * 3 / 10);
    assert_int_equal(conn_rebalancing(w), 0);
    assert_int_equal(closed(0, 0, MOST), 0); /* it counts yet */
    pass(0, 2000);
    assert_int_equal(closed(0, 0, MOST * 3 / 10), MOST * 3 / 10);
    assert_int_equal(closed(0, MOST * 3 / 10, MOST), 0);
    end();
}

/* Who comes meanwhile is not old, and who goes by itself is not replaced by a younger one. */
static void test_coming_and_going(void **state)
{
    (void)state;
    begin(1);
    struct worker *w = engine.server.workers[0];
    open_some(0, 500);
    rebalance(40, 200);
    for (unsigned round = 0; round < 30; round++) {
        pass(0, 50);
        struct conn *c = &conns[0][round * 16]; /* as release() does */
        struct conn *last = w->conns.items[--w->conns.count];
        w->conns.items[c->slot] = last;
        last->slot = c->slot;
        fake_drop(c);
        open_at(0, 10, false);
    }
    assert_int_equal(w->rebalance.left, 0);
    for (unsigned i = 0; i < 200; i++) assert_int_not_equal(conns[0][i].state, CONN_OPEN);
    for (unsigned i = 200; i < 500; i++)
        if (i % 16) assert_int_equal(conns[0][i].state, CONN_OPEN);
    assert_int_equal(closed(0, 500, opened[0]), 0);
    end();
}

/* A second call replaces the first; 0 percent ends it. */
static void test_again(void **state)
{
    (void)state;
    begin(1);
    open_some(0, 1000);
    rebalance(50, 100);
    pass(0, 1000);
    const unsigned first = closed(0, 0, 1000);
    assert_in_range(first, 90, 110);
    const uint64_t left = engine_metric(METRIC_CONNECTIONS);
    assert_int_equal(rebalance(10, 100000), (left * 10 + 50) / 100);
    pass(0, 1000);
    assert_int_equal(closed(0, 0, 1000), first + (left * 10 + 50) / 100);
    rebalance(50, 100);
    pass(0, 500);
    const unsigned before = closed(0, 0, 1000);
    assert_int_equal(rebalance(0, 100), 0);
    pass(0, 5000);
    assert_int_equal(closed(0, 0, 1000), before);
    end();
}

/* A turn that comes late closes no more than a moment's worth at once. */
static void test_no_burst_after_a_pause(void **state)
{
    (void)state;
    begin(1);
    struct worker *w = engine.server.workers[0];
    open_some(0, 1000);
    rebalance(100, 1000);
    (void)conn_rebalancing(w);
    const unsigned before = closed(0, 0, 1000);
    w->now_ms += 700;
    (void)conn_rebalancing(w);
    assert_in_range(closed(0, 0, 1000) - before, 1, 60);
    rebalance(0, 1);
    end();
}

static void test_a_drain_comes_first(void **state)
{
    (void)state;
    begin(1);
    struct worker *w = engine.server.workers[0];
    open_some(0, 100);
    rebalance(50, 10);
    engine.server.drain_from = 100;
    engine.server.drain_rate = 0;
    w->stopped = WORKER_DRAINS;
    conn_stopping(w);
    assert_int_equal(engine_metric(METRIC_REBALANCE_LEFT), 0);
    assert_int_equal(rebalance(50, 10), 0);
    (void)conn_draining(w);
    assert_int_equal(closed(0, 0, 100), 100);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oldest_at_the_rate),
        cmocka_unit_test(test_workers),
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_coming_and_going),
        cmocka_unit_test(test_again),
        cmocka_unit_test(test_no_burst_after_a_pause),
        cmocka_unit_test(test_a_drain_comes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
