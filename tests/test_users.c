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
            errno = 0;
            u[i] = users_intern(w, name, (size_t)n);
            if (!u[i]) assert_int_equal(errno, ENOMEM);
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

/* ---- clients of a user ---- */

enum { CLIENTS = 600, USERS = 7 };

struct visit {
    unsigned count, leave_every; /* 0: nobody leaves */
    bool seen[CLIENTS];
    const struct conn *first;
};

static void see(struct conn *c, void *arg)
{
    struct visit *v = arg;
    unsigned i = (unsigned)(c - v->first);
    assert_false(v->seen[i]); /* nobody twice */
    v->seen[i] = true;
    if (v->leave_every && ++v->count % v->leave_every == 0) users_leave(c);
}

/* see_all visits every user and asserts that exactly those who are joined are seen, each with its
 * own. */
static void see_all(struct conn *conns, unsigned leave_every)
{
    bool joined[CLIENTS];
    struct visit v = {.leave_every = leave_every, .first = conns};
    for (unsigned i = 0; i < CLIENTS; i++) joined[i] = conns[i].sub_index != USER_NONE;
    for (unsigned u = 0; u < USERS; u++) {
        struct user *who = users_find(w, (char[]){(char)('a' + u)}, 1);
        bool before[CLIENTS];
        memcpy(before, v.seen, sizeof before);
        assert_non_null(who);
        users_each(w, who, see, &v);
        for (unsigned i = 0; i < CLIENTS; i++)
            if (v.seen[i] && !before[i]) assert_ptr_equal(conns[i].user, who);
    }
    for (unsigned i = 0; i < CLIENTS; i++) assert_int_equal(v.seen[i], joined[i]);
}

/* However they come and go, also while they are visited, each is seen once and nobody is missed. */
static void test_clients_of_users(void **state)
{
    (void)state;
    static struct conn conns[CLIENTS];
    begin();
    for (unsigned i = 0; i < CLIENTS; i++) {
        conns[i] = (struct conn){.worker = w, .sub_index = USER_NONE};
        conns[i].user = users_intern(w, (char[]){(char)('a' + i % USERS)}, 1);
    }
    for (unsigned round = 0; round < 40; round++) {
        for (unsigned i = 0; i < CLIENTS; i++) {
            const bool in = conns[i].sub_index != USER_NONE;
            if (worker_random(w) % 3 == 0) continue;
            if (in)
                users_leave(&conns[i]);
            else
                assert_int_equal(users_join(&conns[i]), 0);
        }
        see_all(conns, 0);
        see_all(conns, 1 + round % 5);
        see_all(conns, 0);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (conns[i].sub_index != USER_NONE) users_leave(&conns[i]);
        users_release(w, conns[i].user);
    }
    engine_close();
}

static void test_join_out_of_memory(void **state)
{
    (void)state;
    struct conn c[3];
    begin();
    for (unsigned i = 0; i < 3; i++) {
        c[i] = (struct conn){.worker = w, .sub_index = USER_NONE};
        c[i].user = users_intern(w, "u", 1);
    }
    mem_fail_at(1);
    assert_int_equal(users_join(&c[0]), -1);
    assert_int_equal(users_join(&c[1]), 0);
    mem_fail_at(0);
    assert_int_equal(c[0].sub_index, USER_NONE);
    assert_int_equal(users_join(&c[2]), 0);
    users_leave(&c[1]);
    users_leave(&c[2]);
    for (unsigned i = 0; i < 3; i++) users_release(w, c[i].user);
    engine_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_name_once),
        cmocka_unit_test(test_odd_names),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_clients_of_users),
        cmocka_unit_test(test_join_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
