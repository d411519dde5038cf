/* user_limit.c: connections of a user over all workers, at the cap and one over. */
#include "engine.h"

#include "../user_limit.h"

enum { WORKERS = 4, USERS = 3000, LIMIT = 3 };

static struct conn conns[USERS][LIMIT + 1];

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

/* The table grows and shrinks; who is in it is found all the time. Those who go are chosen so that
 * rows are broken at their beginning, middle and end. */
static void test_many_users(void **state)
{
    (void)state;
    char name[32];
    begin(LIMIT);
    for (unsigned u = 0; u < USERS; u++) {
        snprintf(name, sizeof name, "user-%u", u);
        for (unsigned i = 0; i <= LIMIT; i++) make(&conns[u][i], worker((u + i) % WORKERS), name);
        for (unsigned i = 0; i < LIMIT; i++) assert_true(user_limit_enter(&conns[u][i]));
    }
    for (unsigned step = 7; step > 0; step--)
        for (unsigned u = 0; u < USERS; u += step) {
            const bool here = conns[u][0].flags != 0;
            for (unsigned i = 0; i < LIMIT; i++) user_limit_leave(&conns[u][i]);
            const unsigned next = (u + 1) % USERS;
            if (conns[next][0].flags) assert_false(user_limit_enter(&conns[next][LIMIT]));
            if (!here) continue;
            assert_true(user_limit_enter(&conns[u][LIMIT])); /* the places are free again */
            user_limit_leave(&conns[u][LIMIT]);
        }
    size_t used = 0;
    for (unsigned u = 0; u < USERS; u++)
        for (unsigned i = 0; i <= LIMIT; i++) forget(&conns[u][i]);
    for (unsigned i = 0; i < WORKERS; i++) {
        mem_pool_reclaim(worker(i)->pool);
        used += mem_pool_stats(worker(i)->pool).used_bytes;
    }
    const size_t before = used;
    user_limit_close(); /* nothing is left to give back */
    used = 0;
    for (unsigned i = 0; i < WORKERS; i++) used += mem_pool_stats(worker(i)->pool).used_bytes;
    assert_int_equal(used, before);
    end();
}

/* Without memory a connection is refused or the table stays as it is; counts are never wrong. */
static void test_out_of_memory(void **state)
{
    (void)state;
    enum { MANY = 600 };
    char name[32];
    unsigned failed = 0;
    begin(1);
    for (unsigned u = 0; u < MANY; u++) {
        snprintf(name, sizeof name, "user-%u", u);
        for (unsigned i = 0; i < 2; i++) make(&conns[u][i], worker(i), name);
        mem_fail_at(u % 3 ? 1 : 0);
        errno = 0;
        if (!user_limit_enter(&conns[u][0])) {
            assert_int_equal(errno, ENOMEM);
            failed++;
        }
        mem_fail_at(0);
    }
    assert_true(failed > 0 && failed < MANY / 2);
    for (unsigned u = 0; u < MANY; u++) {
        const bool first = conns[u][0].flags != 0;
        assert_int_equal(user_limit_enter(&conns[u][1]), !first);
        for (unsigned i = 0; i < 2; i++) {
            user_limit_leave(&conns[u][i]);
            forget(&conns[u][i]);
        }
    }
    end();
}

/* ---- on threads ---- */

enum { ROUNDS = 4000, NAMES = 5 };

static _Atomic int inside[NAMES];
static _Atomic bool too_many;

static void *come_and_go(void *arg)
{
    struct worker *w = arg;
    struct conn c[NAMES];
    char name[2] = "a";
    mem_pool_own(w->pool);
    for (unsigned n = 0; n < NAMES; n++) {
        name[0] = (char)('a' + n);
        make(&c[n], w, name);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        const unsigned n = (i * 7 + w->index) % NAMES;
        if (!user_limit_enter(&c[n])) continue;
        if (atomic_fetch_add(&inside[n], 1) >= 2) too_many = true;
        for (unsigned k = 0; k < i % 50; k++) atomic_load(&inside[n]);
        atomic_fetch_sub(&inside[n], 1);
        user_limit_leave(&c[n]);
    }
    for (unsigned n = 0; n < NAMES; n++) forget(&c[n]);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[WORKERS];
    begin(2);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, worker(i)), 0);
    for (unsigned i = 0; i < WORKERS; i++) pthread_join(threads[i], NULL);
    assert_false(too_many);
    for (unsigned i = 0; i < WORKERS; i++) mem_pool_own(worker(i)->pool);
    struct conn c[3];
    for (unsigned i = 0; i < 3; i++) make(&c[i], worker(i), "a");
    assert_true(user_limit_enter(&c[0]) && user_limit_enter(&c[1])); /* all had left */
    assert_false(user_limit_enter(&c[2]));
    for (unsigned i = 0; i < 3; i++) {
        user_limit_leave(&c[i]);
        forget(&c[i]);
    }
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cap_and_one_over), cmocka_unit_test(test_nobody_and_no_cap),
        cmocka_unit_test(test_many_users),       cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("user_limit", tests, NULL, NULL);
}
