/* client/table.c: a client's subscriptions by channel, as many as there are; those that end while
 * others are looked for. */
#include "engine.h"

#include "../client.h"

enum { CHANNELS = 700 };

static struct worker *w;
static struct conn c;
static struct client k;
static struct subscription subs[CHANNELS];
static bool here[CHANNELS];

static struct text name_of(unsigned i)
{
    static char name[32];
    return text_of(name, (size_t)snprintf(name, sizeof name, "channel-%u", i));
}

static void begin(void)
{
    engine_open(&(struct engine_options){0});
    w = engine.server.workers[0];
    fake_open(&c, w, 1);
    k = (struct client){0};
    memset(here, 0, sizeof here);
    client_table_init();
}

static void end(void)
{
    c.channel = NULL;
    fake_drop(&c);
    engine_close();
}

static bool add(unsigned i)
{
    const struct text name = name_of(i);
    subs[i] = (struct subscription){.conn = &c};
    struct local *l = pubsub_attach(w, name.p, name.len);
    assert_non_null(l);
    if (!client_table_reserve(w, &k)) {
        pubsub_detach(l);
        return false;
    }
    assert_int_equal(pubsub_subscribe_client(&subs[i], l, NULL), 0);
    client_table_add(&k, &subs[i]);
    assert_true(k.cap > k.count); /* or a search would have no end */
    here[i] = true;
    return true;
}

static void take(unsigned i)
{
    client_table_remove(w, &k, &subs[i]);
    pubsub_unsubscribe_client(&subs[i]);
    here[i] = false;
}

static void check(void)
{
    unsigned count = 0, seen = 0;
    for (unsigned i = 0; i < CHANNELS; i++) {
        const struct text name = name_of(i);
        assert_ptr_equal(client_find(&k, name.p, name.len), here[i] ? &subs[i] : NULL);
        count += here[i];
    }
    for (uint32_t i = 0; i < k.cap; i++) seen += k.places[i] != NULL;
    assert_int_equal(count, k.count);
    assert_int_equal(seen, k.count);
}

/* Everybody comes and goes, in an order that breaks rows at all their places. */
static void test_come_and_go(void **state)
{
    (void)state;
    begin();
    assert_null(client_find(&k, "", 0));
    for (unsigned i = 0; i < CHANNELS; i++) assert_true(add(i));
    check();
    assert_true(k.cap <= 1024);
    for (unsigned step = 7; step > 1; step--) {
        for (unsigned i = 0; i < CHANNELS; i += step) take(i);
        check();
        for (unsigned i = 0; i < CHANNELS; i += step) assert_true(add(i));
        check();
    }
    for (unsigned i = 0; i < CHANNELS; i++) {
        take(i * 3 % CHANNELS);
        if (i % 50 == 0) check();
    }
    check();
    assert_int_equal(k.cap, 0); /* an idle client owns no array */
    end();
}

static void test_one_takes_two_places(void **state)
{
    (void)state;
    begin();
    assert_true(add(0));
    assert_int_equal(k.cap, 2);
    take(0);
    end();
}

/* Those that end while the table is gone through: nobody is left out. */
static void test_removed_on_the_way(void **state)
{
    (void)state;
    begin();
    for (unsigned round = 0; round < 40; round++) {
        bool seen[CHANNELS] = {false};
        const unsigned n = 1 + round * 16;
        for (unsigned i = 0; i < n; i++) assert_true(add(i));
        for (uint32_t i = 0; i < k.cap;) {
            const struct subscription *sub = k.places[i];
            const unsigned which = sub ? (unsigned)(sub - subs) : 0;
            if (sub) seen[which] = true;
            if (sub && which % (round % 5 + 1) == 0)
                take(which);
            else
                i++;
        }
        for (unsigned i = 0; i < n; i++) {
            assert_true(seen[i]);
            assert_int_equal(here[i], i % (round % 5 + 1) != 0);
        }
        check();
        for (unsigned i = 0; i < n; i++)
            if (here[i]) take(i);
    }
    end();
}

static void test_out_of_memory(void **state)
{
    (void)state;
    unsigned failed = 0;
    begin();
    for (unsigned i = 0; i < CHANNELS; i++) {
        const struct text name = name_of(i);
        struct local *l =
            pubsub_attach(w, name.p, name.len); /* so that only the array is missing */
        mem_fail_at(1);
        const bool added = client_table_reserve(w, &k);
        mem_fail_at(0);
        failed += !added;
        assert_true(add(i));
        pubsub_detach(l);
    }
    assert_in_range(failed, 5, 20);
    check();
    for (unsigned i = 0; i < CHANNELS; i++) take(i);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_come_and_go),
        cmocka_unit_test(test_one_takes_two_places),
        cmocka_unit_test(test_removed_on_the_way),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests_name("client_table", tests, NULL, NULL);
}
