/* stream.c against a plain array: offsets, eviction, a ring that wraps and grows (protocol.md 6.3).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "../stream.h"

static char items[100000]; /* item n is &items[n], n its offset */

/* check: are just the last count publications there? */
static void check(const struct stream *s, uint64_t top, uint64_t count)
{
    assert_int_equal(s->top, top);
    assert_int_equal(s->count, count);
    assert_int_equal(stream_oldest(s), top - count + 1);
    assert_null(stream_get(s, 0));
    assert_null(stream_get(s, top - count)); /* offset 0 if all are kept */
    assert_null(stream_get(s, top + 1));
    assert_null(stream_get(s, UINT64_MAX));
    for (uint64_t o = top - count + 1; o <= top; o++) assert_ptr_equal(stream_get(s, o), &items[o]);
}

static void push(struct stream *s, uint32_t max)
{
    void *evicted, *due = s->count >= max ? stream_get(s, stream_oldest(s)) : NULL;
    assert_int_equal(stream_push(s, &items[s->top + 1], max, &evicted), 0);
    assert_ptr_equal(evicted, due);
    assert_true(s->cap <= max);
}

static void empty(struct stream *s)
{
    for (uint64_t o = stream_oldest(s); s->count; o++) assert_ptr_equal(stream_pop(s), &items[o]);
    assert_null(stream_pop(s));
}

static void test_nothing(void **state)
{
    (void)state;
    struct stream s = {0};
    check(&s, 0, 0);
    assert_null(stream_pop(&s));
    stream_free(&s);
}

/* Every size up to four doublings of the ring, three times round. */
static void test_eviction_and_wrap(void **state)
{
    (void)state;
    for (uint32_t max = 1; max <= 70; max++) {
        struct stream s = {0};
        for (uint64_t n = 1; n <= 3ull * max + 1; n++) {
            push(&s, max);
            check(&s, n, n < max ? n : max);
        }
        assert_int_equal(s.cap, max);
        empty(&s);
        stream_free(&s);
    }
}

/* The ring is as long as what was in it, not as what may be. */
static void test_growth(void **state)
{
    (void)state;
    struct stream s = {0};
    for (unsigned n = 1; n <= 5000; n++) {
        push(&s, 1000000);
        assert_true(s.cap <= 8 || s.cap < 2 * n);
    }
    check(&s, 5000, 5000);
    empty(&s);
    stream_free(&s);
}

/* Emptied by time or by history_remove: the numbers go on. */
static void test_top_stays(void **state)
{
    (void)state;
    struct stream s = {0};
    for (unsigned i = 0; i < 5; i++) push(&s, 3);
    empty(&s);
    check(&s, 5, 0);
    push(&s, 3);
    check(&s, 6, 1);
    empty(&s);
    stream_free(&s);
    check(&s, 6, 0);
    push(&s, 3);
    check(&s, 7, 1);
    empty(&s);
    stream_free(&s);
}

/* Moved away and emptied there: as if it had been emptied here. */
static void test_move(void **state)
{
    (void)state;
    struct stream s = {0}, to;
    for (unsigned i = 0; i < 5; i++) push(&s, 3);
    stream_move(&to, &s);
    assert_null(s.ring);
    check(&s, 5, 0);
    check(&to, 5, 3);
    push(&s, 3);
    check(&s, 6, 1);
    check(&to, 5, 3);
    empty(&to);
    stream_free(&to);
    empty(&s);
    stream_free(&s);
}

/* Random pushes and pops: it grows and wraps wherever its head is. */
static void test_random(void **state)
{
    (void)state;
    uint32_t r = 1;
    for (unsigned round = 0; round < 200; round++) {
        struct stream s = {0};
        uint64_t count = 0;
        for (unsigned step = 0; step < 300; step++) {
            r = r * 1664525u + 1013904223u;
            if (r >> 16 & 3) {
                push(&s, 40);
                count += count < 40;
            } else if (count) {
                assert_ptr_equal(stream_pop(&s), &items[s.top - count + 1]);
                count--;
            }
            check(&s, s.top, count);
        }
        empty(&s);
        stream_free(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing), cmocka_unit_test(test_eviction_and_wrap),
        cmocka_unit_test(test_growth),  cmocka_unit_test(test_top_stays),
        cmocka_unit_test(test_move),    cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
