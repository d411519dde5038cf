/* client/rate.c: a client at its rate, one command over, and one that goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../client.h"

static struct client_rate rate;
static int64_t now_ms;

static void begin(void)
{
    rate = (struct client_rate){0};
    now_ms = 1000000;
}

/* within sends n commands now and answers how many are within the rate. */
static unsigned within(const struct client_limits *l, unsigned n, bool publications)
{
    unsigned good = 0;
    for (unsigned i = 0; i < n; i++)
        good += client_rate_take(&rate, l, now_ms, publications) == CLIENT_RATE_WITHIN;
    return good;
}

static enum client_rate_verdict one(const struct client_limits *l, bool publication)
{
    return client_rate_take(&rate, l, now_ms, publication);
}

static void test_at_the_cap_and_one_over(void **state)
{
    (void)state;
    static const uint32_t limits[] = {1, 2, 5, 30, 1000, CLIENT_RATE_MAX};
    for (unsigned i = 0; i < sizeof limits / sizeof *limits; i++) {
        const struct client_limits l = {.commands = limits[i], .free = 10};
        begin();
        for (unsigned burst = 0; burst < 3; burst++) {
            assert_int_equal(within(&l, limits[i], burst % 2), limits[i]);
            assert_int_equal(one(&l, false), CLIENT_RATE_ABOVE);
            now_ms += 1000; /* empties the bucket, whatever was in it */
        }
    }
}

/* A second's worth a second, however it is spread. */
static void test_in_the_long_run(void **state)
{
    (void)state;
    for (unsigned every_ms = 1; every_ms <= 400; every_ms = every_ms * 3 + 1) {
        const struct client_limits l = {.commands = 7, .free = 1000000};
        unsigned good = 0, ms = 0;
        begin();
        for (; ms < 10000; ms += every_ms, now_ms += every_ms) good += within(&l, 20, false);
        assert_in_range(good, 7 + 7 * 9, 7 + 7 * 10);
    }
    const struct client_limits l = {.commands = 10, .free = 0};
    begin();
    for (unsigned i = 0; i < 1000; i++, now_ms += 100) /* at the rate: never refused */
        assert_int_equal(one(&l, false), CLIENT_RATE_WITHIN);
}

static void test_publications_are_commands_too(void **state)
{
    (void)state;
    const struct client_limits l = {.commands = 5, .publications = 2, .free = 10};
    begin();
    assert_int_equal(within(&l, 2, true), 2);
    assert_int_equal(one(&l, true),
                     CLIENT_RATE_ABOVE); /* is in the bucket of commands all the same */
    assert_int_equal(within(&l, 3, false), 2);
    now_ms += 500;
    assert_int_equal(within(&l, 2, true), 1);
    now_ms += 1000;
    const struct client_limits only = {.publications = 2, .free = 10};
    begin();
    assert_int_equal(within(&only, 1000, false), 1000);
    assert_int_equal(within(&only, 3, true), 2);
}

/* Refusals that are closed for: one more than ten seconds' worth and those that are free, unless
 * the client was calm in between. */
static void test_going_on(void **state)
{
    (void)state;
    const struct client_limits l = {.commands = 3, .publications = 2, .free = 4};
    for (unsigned calm_after = 1; calm_after <= 35; calm_after++) {
        unsigned refused = 0;
        begin();
        assert_int_equal(within(&l, 3, false), 3);
        for (; refused < 34; refused++) {
            if (refused == calm_after) break;
            assert_int_equal(one(&l, false), CLIENT_RATE_ABOVE);
        }
        if (refused == calm_after) {
            now_ms += 999; /* not quite */
            assert_int_equal(one(&l, false), CLIENT_RATE_WITHIN);
            assert_int_equal(rate.refused, calm_after);
            now_ms += 1001;
            assert_int_equal(within(&l, 3, false), 3);
            for (refused = 0; refused < 34; refused++)
                assert_int_equal(one(&l, false), CLIENT_RATE_ABOVE);
        }
        assert_int_equal(one(&l, false), CLIENT_RATE_FAR_ABOVE);
    }
    begin();
    const struct client_limits publications = {.publications = 2, .free = 4};
    assert_int_equal(within(&publications, 2 + 24, true), 2);
    assert_int_equal(one(&publications, false), CLIENT_RATE_WITHIN);
    assert_int_equal(one(&publications, true), CLIENT_RATE_FAR_ABOVE);
}

/* The clock is kept in 32 bits. */
static void test_clock_wraps(void **state)
{
    (void)state;
    const struct client_limits l = {.commands = 2, .free = 10};
    begin();
    now_ms = UINT32_MAX - 499ll;
    assert_int_equal(within(&l, 3, false), 2);
    now_ms += 500;
    assert_int_equal(within(&l, 3, false), 1);
    now_ms += 10000;
    assert_int_equal(within(&l, 3, false), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_at_the_cap_and_one_over),
        cmocka_unit_test(test_in_the_long_run),
        cmocka_unit_test(test_publications_are_commands_too),
        cmocka_unit_test(test_going_on),
        cmocka_unit_test(test_clock_wraps),
    };
    return cmocka_run_group_tests_name("client_rate", tests, NULL, NULL);
}
