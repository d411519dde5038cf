/* frame.h: counting of holders, on one thread and on several. */
#include "frame.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_last_holder_frees(void **state)
{
    (void)state;
    struct mem_pool *pool = mem_pool_new();
    for (uint32_t cap = 0; cap < 3000; cap += 7) {
        struct frame *f = frame_new(pool, cap);
        assert_int_equal(f->len, cap);
        memset(f->bytes, 1, cap);
        assert_int_equal(mem_pool_stats(pool).used_bytes, mem_usable(sizeof *f + cap));
        frame_ref(f, 10);
        frame_unref(f, 1);
        for (int i = 0; i < 4; i++) frame_unref(f, 2);
        assert_int_equal(atomic_load(&f->refs), 2);
        frame_unref(f, 2);
        assert_int_equal(mem_pool_stats(pool).used_bytes, 0);
    }
    frame_unref(NULL, 1);
    mem_pool_delete(pool);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct mem_pool *pool = mem_pool_new();
    assert_null(frame_new(pool, UINT32_MAX));
    mem_fail_at(1);
    assert_null(frame_new(pool, 100));
    assert_int_equal(mem_pool_stats(pool).failed, 2);
    mem_pool_delete(pool);
}

enum { THREADS = 4, FRAMES = 20000 };
static struct frame *frames[FRAMES];

/* Each thread reads what the maker wrote, then lets go. */
static void *read_and_unref(void *arg)
{
    size_t wrong = 0;
    for (int i = 0; i < FRAMES; i++) {
        struct frame *f = frames[i];
        wrong += f->bytes[0] != (uint8_t)i || f->bytes[f->len - 1] != (uint8_t)i;
        frame_unref(f, 1);
    }
    return wrong ? arg : NULL;
}

static void test_holders_on_many_threads(void **state)
{
    (void)state;
    struct mem_pool *pool = mem_pool_new();
    for (int i = 0; i < FRAMES; i++) {
        frames[i] = frame_new(pool, 1 + (uint32_t)i % 300);
        memset(frames[i]->bytes, i, frames[i]->len);
        frame_ref(frames[i], THREADS);
    }
    pthread_t threads[THREADS];
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, read_and_unref, pool), 0);
    for (int i = 0; i < FRAMES; i++) frame_unref(frames[i], 1);
    for (int t = 0; t < THREADS; t++) {
        void *wrong;
        pthread_join(threads[t], &wrong);
        assert_null(wrong);
    }
    mem_pool_reclaim(pool);
    assert_int_equal(mem_pool_stats(pool).used_bytes, 0);
    mem_pool_delete(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_last_holder_frees),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_holders_on_many_threads),
    };
    return cmocka_run_group_tests_name("frame", tests, NULL, NULL);
}
