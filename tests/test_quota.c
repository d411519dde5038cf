/* quota.c: places of many keys, at the cap and one over; without memory; on threads. */
#include "quota.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { POOLS = 4, KEYS = 3000, LIMIT = 3 };

static struct mem_pool *pools[POOLS];
static struct quota quota;

static void begin(int64_t limit)
{
    for (unsigned i = 0; i < POOLS; i++) assert_non_null(pools[i] = mem_pool_new());
    quota_open(&quota, limit, &(struct hash_key){0x0706050403020100u, 0x0f0e0d0c0b0a0908u});
}

static void end(void)
{
    quota_close(&quota);
    for (unsigned i = 0; i < POOLS; i++) mem_pool_delete(pools[i]);
}

static size_t used_bytes(void)
{
    size_t used = 0;
    for (unsigned i = 0; i < POOLS; i++) {
        mem_pool_reclaim(pools[i]);
        used += mem_pool_stats(pools[i]).used_bytes;
    }
    return used;
}

static bool take(unsigned pool, uint32_t key)
{
    return quota_enter(&quota, pools[pool % POOLS], &key, sizeof key);
}

static void give(unsigned pool, uint32_t key)
{
    quota_leave(&quota, pools[pool % POOLS], &key, sizeof key);
}

static void test_cap_and_one_over(void **state)
{
    (void)state;
    begin(LIMIT);
    assert_true(quota_is_on(&quota));
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < LIMIT; i++) assert_true(take(i, 7));
        for (unsigned i = 0; i < POOLS; i++) {
            errno = 0;
            assert_false(take(i, 7));
            assert_int_equal(errno, ENOSPC);
        }
        assert_true(take(0, 8)); /* another key has places of its own */
        give(0, 8);
        give(3, 7); /* by whatever thread */
        assert_true(take(1, 7));
        assert_false(take(1, 7));
        for (unsigned i = 0; i < LIMIT; i++) give(i, 7);
    }
    assert_int_equal(used_bytes(), 0);
    end();
}

/* Keys of different length are different, also where one begins with the other. */
static void test_length_counts(void **state)
{
    (void)state;
    begin(1);
    for (size_t len = 1; len <= 16; len++)
        assert_true(quota_enter(&quota, pools[0], "0000000000000000", len));
    for (size_t len = 1; len <= 16; len++)
        assert_false(quota_enter(&quota, pools[0], "0000000000000000", len));
    end();
}

static void test_off(void **state)
{
    (void)state;
    begin(0);
    assert_false(quota_is_on(&quota));
    end();
}

/* The table grows and shrinks; who is in it is found all the time. Those who go are chosen so that
 * rows are broken at their beginning, middle and end. Nobody leaves anything behind. */
static void test_many_keys(void **state)
{
    (void)state;
    static bool here[KEYS];
    begin(LIMIT);
    for (uint32_t k = 0; k < KEYS; k++) {
        for (unsigned i = 0; i < LIMIT; i++) assert_true(take(k + i, k));
        here[k] = true;
    }
    assert_true(used_bytes() <= (size_t)KEYS * 64);
    for (unsigned step = 7; step > 0; step--)
        for (uint32_t k = 0; k < KEYS; k += step) {
            if (!here[k]) continue;
            for (unsigned i = 0; i < LIMIT; i++) give(k + i, k);
            here[k] = false;
            const uint32_t next = (k + 1) % KEYS;
            if (here[next]) assert_false(take(k, next));
            assert_true(take(k, k)); /* the places are free again */
            give(k, k);
        }
    assert_int_equal(used_bytes(), 0);
    end();
}

/* Who closes with places taken gives the memory back all the same. */
static void test_close_with_places_taken(void **state)
{
    (void)state;
    begin(1);
    for (uint32_t k = 0; k < KEYS; k++) assert_true(take(k, k));
    assert_true(used_bytes() > 0);
    quota_close(&quota);
    assert_int_equal(used_bytes(), 0);
    end();
}

/* Without memory a key gets no place or the table stays as it is; counts are never wrong. */
static void test_out_of_memory(void **state)
{
    (void)state;
    enum { MANY = 600 };
    static bool first[MANY];
    unsigned failed = 0;
    begin(1);
    for (uint32_t k = 0; k < MANY; k++) {
        mem_fail_at(k % 3 ? 1 : 0);
        errno = 0;
        first[k] = take(0, k);
        mem_fail_at(0);
        if (first[k]) continue;
        assert_int_equal(errno, ENOMEM);
        failed++;
    }
    assert_true(failed > 0 && failed < MANY / 2);
    for (uint32_t k = 0; k < MANY; k++) {
        assert_int_equal(take(1, k), !first[k]);
        mem_fail_at(k % 2); /* a table that can not be made smaller stays */
        give(1, k);
        mem_fail_at(0);
    }
    assert_int_equal(used_bytes(), 0);
    end();
}

/* ---- on threads ---- */

enum { ROUNDS = 4000, NAMES = 5 };

static _Atomic int inside[NAMES];
static _Atomic bool too_many;

static void *come_and_go(void *arg)
{
    const unsigned me = *(unsigned *)arg;
    mem_pool_own(pools[me]);
    for (unsigned i = 0; i < ROUNDS; i++) {
        const uint32_t n = (i * 7 + me) % NAMES;
        if (!take(me, n)) continue;
        if (atomic_fetch_add(&inside[n], 1) >= 2) too_many = true;
        for (unsigned k = 0; k < i % 50; k++) atomic_load(&inside[n]);
        atomic_fetch_sub(&inside[n], 1);
        give(me, n);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[POOLS];
    unsigned names[POOLS];
    begin(2);
    for (unsigned i = 0; i < POOLS; i++) {
        names[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &names[i]), 0);
    }
    for (unsigned i = 0; i < POOLS; i++) pthread_join(threads[i], NULL);
    assert_false(too_many);
    for (unsigned i = 0; i < POOLS; i++) mem_pool_own(pools[i]);
    assert_int_equal(used_bytes(), 0); /* all have left */
    assert_true(take(0, 0) && take(1, 0));
    assert_false(take(2, 0));
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cap_and_one_over),
        cmocka_unit_test(test_length_counts),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_many_keys),
        cmocka_unit_test(test_close_with_places_taken),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("quota", tests, NULL, NULL);
}
