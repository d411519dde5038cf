/* bench/histogram.h and bench/order.h: the load generator's own correctness, against known data. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "bench/histogram.h"
#include "bench/order.h"

/* ---- histogram ---- */

static struct histogram h;

static void test_buckets(void **state)
{
    (void)state;
    /* Without a gap or an overlap: the value behind a bucket's upper end is in the next one. */
    for (size_t i = 0; i + 1 < HISTOGRAM_BUCKETS; i++) {
        uint64_t upper = histogram_upper(i);
        assert_int_equal(histogram_bucket(upper), i);
        assert_int_equal(histogram_bucket(upper + 1), i + 1);
    }
    assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
    assert_int_equal(histogram_upper(HISTOGRAM_BUCKETS - 1), UINT64_MAX);
    /* Never more than 1/64 above the value. */
    for (uint64_t v = 1; v < (uint64_t)1 << 62; v += v / 7 + 1)
        assert_true(histogram_upper(histogram_bucket(v)) - v <= v / 64);
}

static void test_known_quantiles(void **state)
{
    (void)state;
    static const struct {
        double q;
        uint64_t value;
    } cases[] = {{0.5, 50000}, {0.9, 90000}, {0.99, 99000}, {0.999, 99900}, {1, 100000}, {0, 1}};
    memset(&h, 0, sizeof h);
    for (uint64_t v = 100000; v > 0; v--) histogram_add(&h, v);
    assert_int_equal(h.total, 100000);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t got = histogram_quantile(&h, cases[i].q);
        assert_true(got >= cases[i].value && got <= cases[i].value + cases[i].value / 64);
    }
    assert_int_equal(histogram_quantile(&h, 1), 100000);
}

static void test_few_values(void **state)
{
    (void)state;
    memset(&h, 0, sizeof h);
    assert_int_equal(histogram_quantile(&h, 0.5), 0);
    histogram_add(&h, 7);
    assert_int_equal(histogram_quantile(&h, 0), 7);
    assert_int_equal(histogram_quantile(&h, 0.999), 7);
    histogram_add(&h, 9);
    assert_int_equal(histogram_quantile(&h, 0.5), 7);
    assert_int_equal(histogram_quantile(&h, 0.51), 9);
    histogram_add(&h, 0);
    assert_int_equal(histogram_quantile(&h, 0.01), 0);
    /* One outlier among a thousand is p99.9's neighbour, not p99. */
    memset(&h, 0, sizeof h);
    for (int i = 0; i < 999; i++) histogram_add(&h, 10);
    histogram_add(&h, 1000000);
    assert_int_equal(histogram_quantile(&h, 0.99), 10);
    assert_int_equal(histogram_quantile(&h, 0.999), 10);
    assert_int_equal(histogram_quantile(&h, 1), 1000000);
}

/* ---- order ---- */

static void test_order(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t seqs[8];
        size_t count;
        struct order_faults expected;
    } cases[] = {
        {"perfect", {0, 1, 2, 3}, 4, {0, 0, 0}},
        {"one lost", {0, 1, 3}, 3, {1, 0, 0}},
        {"the first two lost", {2, 3}, 2, {2, 0, 0}},
        {"doubled", {0, 1, 1, 2}, 4, {0, 1, 0}},
        {"doubled later", {0, 1, 2, 0}, 4, {0, 1, 0}},
        {"swapped: late is not lost", {0, 2, 1, 3}, 4, {0, 0, 1}},
        {"late, then again", {0, 2, 1, 1}, 4, {0, 1, 1}},
        {"a long gap", {0, 1000}, 2, {999, 0, 0}},
        {"a gap of 63, then its first", {0, 64, 1}, 3, {62, 0, 1}},
        {"a gap of 64", {0, 65, 64, 65}, 4, {63, 1, 1}},
        {"too old to know", {0, 100, 1}, 3, {99, 1, 0}},
        {"reversed", {3, 2, 1, 0}, 4, {0, 0, 3}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct order o = {0};
        struct order_faults f = {0};
        for (size_t k = 0; k < cases[i].count; k++) order_take(&o, cases[i].seqs[k], &f);
        if (f.lost != cases[i].expected.lost || f.doubled != cases[i].expected.doubled ||
            f.reordered != cases[i].expected.reordered)
            fail_msg("%s: lost %d doubled %d reordered %d", cases[i].name, (int)f.lost,
                     (int)f.doubled, (int)f.reordered);
    }
}

/* Whatever comes in whatever order: what was sent is either taken once or counted as lost. */
static void test_order_adds_up(void **state)
{
    (void)state;
    srand(1);
    for (int round = 0; round < 200; round++) {
        struct order o = {0};
        struct order_faults f = {0};
        uint64_t got = 0;
        for (uint64_t seq = 0; seq < 1000; seq++) {
            uint64_t near = seq ^ (uint64_t)(rand() & 7); /* swapped within eight */
            if (rand() % 10 == 0) continue;
            order_take(&o, near, &f);
            got++;
        }
        assert_int_equal(o.next, got - f.doubled + f.lost);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buckets),       cmocka_unit_test(test_known_quantiles),
        cmocka_unit_test(test_few_values),    cmocka_unit_test(test_order),
        cmocka_unit_test(test_order_adds_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
