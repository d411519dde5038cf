/* conn/drain.c in a time of the test's own: the rate, the order, each worker its share. */
#include "engine.h"

enum { MOST = 1000 };

static struct conn conns[2][MOST];

static void open_some(unsigned worker, unsigned n)
{
    struct worker *w = engine.server.workers[worker];
    for (unsigned i = 0; i < n; i++) {
        struct conn *c = &conns[worker][i];
        fake_open(c, w, i);
        c->slot = i;
        c->last_seen = worker_tick(w) - 1000;
        conn_vector_push(&w->conns, c);
    }
}

static void begin(unsigned first, unsigned second, uint32_t rate)
{
    engine_open(&(struct engine_options){.workers = 2});
    for (unsigned i = 0; i < 2; i++) engine.server.workers[i]->now_ms = 1000000;
    open_some(0, first);
    open_some(1, second);
    engine.server.drain_from = first + second;
    engine.server.drain_rate = rate;
}

static void end(unsigned first, unsigned second)
{
    const unsigned count[2] = {first, second};
    for (unsigned k = 0; k < 2; k++) {
        for (unsigned i = 0; i < count[k]; i++) fake_drop(&conns[k][i]);
        engine.server.workers[k]->conns.count = 0;
        fake_turn(engine.server.workers[k]);
    }
    engine_close();
}

static void stop(void)
{
    for (unsigned i = 0; i < 2; i++) {
        engine.server.workers[i]->stopped = WORKER_DRAINS;
        conn_stopping(engine.server.workers[i]);
    }
}

static unsigned closed(unsigned worker, unsigned n)
{
    unsigned count = 0;
    for (unsigned i = 0; i < n; i++) count += conns[worker][i].state != CONN_OPEN;
    return count;
}

/* pass lets ms go by, in steps as long as the worker itself wants to sleep. */
static void pass(unsigned worker, int64_t ms)
{
    struct worker *w = engine.server.workers[worker];
    const int64_t until = w->now_ms + ms;
    for (;;) {
        const int next = conn_draining(w);
        const int64_t step = next < 0 || next > 100 ? 100 : next;
        if (w->now_ms + step > until) break;
        w->now_ms += step;
    }
    w->now_ms = until;
}

/* 200 a second of 1000 on two workers: within 10 % at every second, and both are done together. */
static void test_rate(void **state)
{
    (void)state;
    begin(700, 300, 200);
    stop();
    for (unsigned s = 1; s <= 4; s++) {
        for (unsigned i = 0; i < 2; i++) pass(i, 1000);
        const unsigned n = closed(0, 700) + closed(1, 300);
        assert_in_range(n, 200 * s - 20 * s, 200 * s + 20 * s);
        assert_in_range(closed(0, 700), 140 * s - 14 * s, 140 * s + 14 * s);
    }
    for (unsigned i = 0; i < 2; i++) pass(i, 1100);
    assert_int_equal(closed(0, 700), 700);
    assert_int_equal(closed(1, 300), 300);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(conn_draining(engine.server.workers[i]),
                         -1); /* nothing more to wake for */
    end(700, 300);
}

/* A turn that comes late closes no more than a moment's worth at once. */
static void test_no_burst_after_a_pause(void **state)
{
    (void)state;
    begin(1000, 0, 1000);
    stop();
    (void)conn_draining(engine.server.workers[0]);
    engine.server.workers[0]->now_ms += 700;
    const unsigned before = closed(0, 1000);
    (void)conn_draining(engine.server.workers[0]);
    assert_in_range(closed(0, 1000) - before, 1, 60);
    end(1000, 0);
}

static void test_idle_ones_first(void **state)
{
    (void)state;
    begin(100, 0, 100);
    for (unsigned i = 0; i < 100; i += 2)
        conns[0][i].last_seen = worker_tick(engine.server.workers[0]);
    stop();
    pass(0, 480);
    const unsigned n = closed(0, 100);
    assert_in_range(n, 40, 52);
    for (unsigned i = 0, busy = 0; i < 100; i += 2) {
        busy += conns[0][i].state != CONN_OPEN;
        assert_true(busy <= 2); /* the first step may come before they count as idle */
    }
    end(100, 0);
}

static void test_all_at_once(void **state)
{
    (void)state;
    begin(500, 500, 0);
    stop();
    for (unsigned i = 0; i < 2; i++) (void)conn_draining(engine.server.workers[i]);
    assert_int_equal(closed(0, 500) + closed(1, 500), 1000);
    end(500, 500);
}

/* Whatever ends meanwhile by itself, nobody is forgotten. */
static void test_leaving_meanwhile(void **state)
{
    (void)state;
    begin(600, 0, 300);
    struct worker *w = engine.server.workers[0];
    stop();
    for (unsigned round = 0; round < 40; round++) {
        pass(0, 50);
        for (unsigned k = 0; k < 3 && w->conns.count; k++) { /* as release() does */
            struct conn *c = w->conns.items[worker_random(w) % w->conns.count];
            struct conn *last = w->conns.items[--w->conns.count];
            w->conns.items[c->slot] = last;
            last->slot = c->slot;
            fake_drop(c);
        }
    }
    pass(0, 3000);
    assert_int_equal(closed(0, 600), 600);
    end(600, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rate),
        cmocka_unit_test(test_no_burst_after_a_pause),
        cmocka_unit_test(test_idle_ones_first),
        cmocka_unit_test(test_all_at_once),
        cmocka_unit_test(test_leaving_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
