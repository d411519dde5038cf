/* user_limit.c: connections of a user over all workers, at the cap and one over. */
#include "engine.h"

#include "../user_limit.h"

enum { WORKERS = 4, LIMIT = 3 };

static struct worker *worker(unsigned i)
{
    return engine.server.workers[i];
}

static void begin(int64_t limit)
{
    engine_open(&(struct engine_options){.workers = WORKERS});
    user_limit_open(limit);
}

static void end(void)
{
    user_limit_close();
    engine_close();
}

/* make gives c the user of that name; forget lets go of it. */
static void make(struct conn *c, struct worker *w, const char *user)
{
    *c = (struct conn){.worker = w, .user = users_intern(w, user, strlen(user))};
    assert_non_null(c->user);
}

static void forget(struct conn *c)
{
    users_release(c->worker, c->user);
}

static uint64_t refused(void)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < WORKERS; i++)
        n += metric_get(&worker(i)->metrics, METRIC_REFUSED_USER);
    return n;
}

static void test_cap_and_one_over(void **state)
{
    (void)state;
    struct conn c[LIMIT + 1], other;
    begin(LIMIT);
    for (unsigned i = 0; i <= LIMIT; i++) make(&c[i], worker(i % WORKERS), "alice");
    make(&other, worker(0), "alicf");
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < LIMIT; i++) assert_true(user_limit_enter(&c[i]));
        errno = 0;
        assert_false(user_limit_enter(&c[LIMIT]));
        assert_int_equal(errno, ENOSPC);
        assert_int_equal(refused(), round + 1);
        assert_true(user_limit_enter(&other));
        user_limit_leave(&c[LIMIT]); /* is not counted: nothing happens */
        assert_false(user_limit_enter(&c[LIMIT]));
        metric_sub(&c[LIMIT].worker->metrics, METRIC_REFUSED_USER, 1);
        user_limit_leave(&c[1]);
        user_limit_leave(&c[1]); /* once */
        assert_true(user_limit_enter(&c[LIMIT]));
        assert_false(user_limit_enter(&c[1]));
        metric_sub(&c[1].worker->metrics, METRIC_REFUSED_USER, 1);
        for (unsigned i = 0; i <= LIMIT; i++) user_limit_leave(&c[i]);
        user_limit_leave(&other);
    }
    for (unsigned i = 0; i <= LIMIT; i++) forget(&c[i]);
    forget(&other);
    end();
}

static void test_nobody_and_no_cap(void **state)
{
    (void)state;
    static const struct {
        int64_t limit;
        const char *user;
    } rows[] = {{1, ""}, {0, "alice"}};
    for (unsigned row = 0; row < 2; row++) {
        struct conn c[20];
        begin(rows[row].limit);
        for (unsigned i = 0; i < 20; i++) {
            make(&c[i], worker(i % WORKERS), rows[row].user);
            assert_true(user_limit_enter(&c[i]));
            assert_int_equal(c[i].flags, 0);
        }
        for (unsigned i = 0; i < 20; i++) {
            user_limit_leave(&c[i]);
            forget(&c[i]);
        }
        end();
    }
}

/* Without memory nobody is counted, nor is that a refusal of the limit. */
static void test_out_of_memory(void **state)
{
    (void)state;
    struct conn c[2];
    begin(1);
    for (unsigned i = 0; i < 2; i++) make(&c[i], worker(i), "alice");
    mem_fail_at(1);
    errno = 0;
    assert_false(user_limit_enter(&c[0]));
    mem_fail_at(0);
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(refused(), 0);
    user_limit_leave(&c[0]); /* is not counted: nothing happens */
    assert_true(user_limit_enter(&c[1]));
    assert_false(user_limit_enter(&c[0]));
    user_limit_leave(&c[1]);
    for (unsigned i = 0; i < 2; i++) forget(&c[i]);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cap_and_one_over),
        cmocka_unit_test(test_nobody_and_no_cap),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests_name("user_limit", tests, NULL, NULL);
}
