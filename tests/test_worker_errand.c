/* worker_errand.c: each worker once, then the asker; in order with what was published; nothing is
 * lost when the server ends. */
#include "engine.h"

#include "../worker_errand.h"

#include <sched.h>

enum { WORKERS = 3 };

struct work {
    struct errand errand;
    unsigned ran[WORKERS]; /* a place a worker */
    unsigned done_by, done;
    bool abandoned;
    struct work *then; /* started when this one is done */
};

static void run(struct worker *w, struct errand *e)
{
    ((struct work *)(void *)e)->ran[w->index]++;
}

static void done(struct worker *w, struct errand *e)
{
    struct work *k = (struct work *)(void *)e;
    k->done++;
    k->abandoned = !w;
    if (w) k->done_by = w->index;
    if (w && k->then) worker_errand_start(w, &k->then->errand);
}

static struct work work(void)
{
    return (struct work){.errand = {.run = run, .done = done}};
}

static void test_each_once_then_the_asker(void **state)
{
    (void)state;
    engine_open(&(struct engine_options){.workers = WORKERS});
    for (unsigned asker = 0; asker < WORKERS; asker++) {
        struct work second = work(), first = work();
        first.then = &second;
        worker_errand_start(engine.server.workers[asker], &first.errand);
        assert_int_equal(first.done, 0); /* not before its turn */
        engine_turns(6);
        for (unsigned i = 0; i < WORKERS; i++) {
            assert_int_equal(first.ran[i], 1);
            assert_int_equal(second.ran[i], 1);
        }
        assert_int_equal(first.done, 1);
        assert_int_equal(first.done_by, asker);
        assert_int_equal(second.done, 1);
        assert_false(second.abandoned);
    }
    engine_close();
}

/* Whoever waits asleep is woken: the asker turns alone, the others when they are told. */
static void test_wakes(void **state)
{
    (void)state;
    engine_open(&(struct engine_options){.workers = WORKERS});
    struct work k = work();
    struct worker *const *w = engine.server.workers;
    worker_errand_start(w[0], &k.errand);
    assert_int_equal(w[0]->wake, (1u << WORKERS) - 1);
    worker_turn(w[0], 0);
    for (unsigned i = 1; i < WORKERS; i++) worker_turn(w[i], 10000); /* would time the test out */
    worker_turn(w[0], 10000);
    assert_int_equal(k.done, 1);
    engine_close();
}

/* It does not matter how far it has come: done is called once, to free it. */
static void test_abandoned(void **state)
{
    (void)state;
    for (unsigned turns = 0; turns <= WORKERS; turns++) {
        engine_open(&(struct engine_options){.workers = WORKERS});
        struct work k = work();
        worker_errand_start(engine.server.workers[1], &k.errand);
        for (unsigned i = 0; i < turns; i++) worker_turn(engine.server.workers[i], 0);
        assert_int_equal(k.done, 0);
        for (unsigned i = 0; i < WORKERS; i++) worker_errands_abandon(engine.server.workers[i]);
        assert_int_equal(k.done, 1);
        assert_true(k.abandoned);
        engine_close();
    }
}

/* As threads: askers on all workers at once, while the workers drain; every errand comes back. */
enum { MANY = 300 };
static struct work many[MANY];
static _Atomic unsigned came_back;

static void count(struct worker *w, struct errand *e)
{
    done(w, e);
    atomic_fetch_add(&came_back, 1);
}

static void test_draining_workers_wait_for_each_other(void **state)
{
    (void)state;
    static struct work seeds[MANY];
    engine_open(&(struct engine_options){.workers = WORKERS});
    atomic_store(&came_back, 0);
    for (unsigned i = 0; i < MANY; i++) {
        many[i] = work();
        many[i].errand.done = count;
        seeds[i] = work();
        seeds[i].then = &many[i];
        worker_errand_start(engine.server.workers[i % WORKERS], &seeds[i].errand);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(worker_start(engine.server.workers[i]), 0);
    while (atomic_load(&came_back) < MANY) sched_yield();
    for (unsigned i = 0; i < WORKERS; i++) worker_stop(engine.server.workers[i], WORKER_DRAINS);
    for (unsigned i = 0; i < WORKERS; i++) worker_join(engine.server.workers[i]);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(many[i].done, 1);
        assert_false(many[i].abandoned);
        for (unsigned k = 0; k < WORKERS; k++) assert_int_equal(many[i].ran[k], 1);
    }
    engine_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_once_then_the_asker),
        cmocka_unit_test(test_wakes),
        cmocka_unit_test(test_abandoned),
        cmocka_unit_test(test_draining_workers_wait_for_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
