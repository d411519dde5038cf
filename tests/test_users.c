/* users.c: names stored once and counted. */
#include "engine.h"

static struct worker *w;

static void begin(void)
{
    engine_open(&(struct engine_options){0});
    w = engine.server.workers[0];
}

static void test_one_name_once(void **state)
{
    (void)state;
    begin();
    struct user *alice = users_intern(w, "alice", 5), *bob = users_intern(w, "bob", 3);
    assert_non_null(alice);
    assert_ptr_not_equal(alice, bob);
    assert_int_equal(alice->len, 5);
    assert_memory_equal(alice->name, "alice", 5);
    assert_ptr_equal(users_intern(w, "alice!", 5), alice);
    assert_int_equal(alice->refs, 2);
    users_release(w, alice);
    assert_ptr_equal(users_intern(w, "alice", 5), alice);
    users_release(w, alice);
    users_release(w, alice);
    users_release(w, bob);
    users_release(w, NULL);
    engine_close();
}

/* Names are bytes: a NUL, a prefix of another, none at all. */
static void test_odd_names(void **state)
{
    (void)state;
    begin();
    static const struct {
        const char *name;
        size_t len;
    } names[] = {{NULL, 0}, {"a", 1}, {"a\0", 2}, {"a\0b", 3}, {"A", 1}, {"\xff", 1}};
    struct user *u[6];
    for (unsigned i = 0; i < 6; i++) u[i] = users_intern(w, names[i].name, names[i].len);
    for (unsigned i = 0; i < 6; i++) {
        assert_ptr_equal(users_intern(w, names[i].name, names[i].len), u[i]);
        assert_int_equal(u[i]->refs, 2);
        for (unsigned k = 0; k < i; k++) assert_ptr_not_equal(u[i], u[k]);
    }
    for (unsigned i = 0; i < 6; i++) {
        users_release(w, u[i]);
        users_release(w, u[i]);
    }
    engine_close();
}

static void test_length(void **state)
{
    (void)state;
    char name[USER_NAME_MAX + 1];
    begin();
    memset(name, 'n', sizeof name);
    struct user *longest = users_intern(w, name, USER_NAME_MAX);
    assert_non_null(longest);
    assert_int_equal(longest->len, USER_NAME_MAX);
    assert_null(users_intern(w, name, sizeof name));
    users_release(w, longest);
    engine_close();
}

/* The table grows and shrinks; whoever is in it is found all the time. */
static void test_many(void **state)
{
    (void)state;
    enum { MANY = 20000 };
    static struct user *u[MANY];
    char name[32];
    begin();
    for (unsigned i = 0; i < MANY; i++) {
        int n = snprintf(name, sizeof name, "user-%u", i);
        u[i] = users_intern(w, name, (size_t)n);
        assert_non_null(u[i]);
    }
    for (unsigned i = 0; i < MANY; i++) {
        assert_ptr_equal(users_intern(w, u[i]->name, u[i]->len), u[i]);
        users_release(w, u[i]);
    }
    for (unsigned i = 0; i < MANY - 1; i++) {
        users_release(w, u[i]);
        if (i % 1000) continue;
        assert_ptr_equal(users_intern(w, u[MANY - 1]->name, u[MANY - 1]->len), u[MANY - 1]);
        users_release(w, u[MANY - 1]);
    }
    assert_true(mem_pool_stats(w->pool).used_bytes < 4096); /* shrunk */
    users_release(w, u[MANY - 1]);
    engine_close();
}

/* Without memory: no user, or the old table, never a wrong answer. */
static void test_out_of_memory(void **state)
{
    (void)state;
    for (uint64_t k = 1; k < 200; k++) {
        struct user *u[100];
        char name[32];
        begin();
        mem_fail_at(k);
        for (unsigned i = 0; i < 100; i++) {
            int n = snprintf(name, sizeof name, "user-%u", i);
            u[i] = users_intern(w, name, (size_t)n);
        }
        mem_fail_at(0);
        for (unsigned i = 0; i < 100; i++) {
            if (!u[i]) continue;
            assert_ptr_equal(users_intern(w, u[i]->name, u[i]->len), u[i]);
            users_release(w, u[i]);
            users_release(w, u[i]);
        }
        engine_close();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_name_once), cmocka_unit_test(test_odd_names),
        cmocka_unit_test(test_length),        cmocka_unit_test(test_many),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
