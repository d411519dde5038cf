/* mem.h: size classes, packing, memory that goes back, remote frees, failure injection. */
#include "mem.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CHUNK (64u * 1024)
#define LARGEST ((64u << 20) + 64)

static uint32_t random_state = 1;

static uint32_t random_below(uint32_t n) /* xorshift32 */
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state % n;
}

static int new_pool(void **state)
{
    *state = mem_pool_new();
    return *state ? 0 : -1;
}

static int delete_pool(void **state)
{
    mem_fail_at(0);
    mem_pool_delete(*state);
    return 0;
}

static void test_usable_size(void **state)
{
    (void)state;
    static const struct {
        size_t size, usable;
    } rows[] = {
        {1, 16},          {16, 16},         {17, 24},         {24, 24},         {144, 144},
        {145, 152},       {249, 256},       {256, 256},       {257, 288},       {288, 288},
        {289, 320},       {512, 512},       {513, 576},       {1024, 1024},     {1025, 1152},
        {4096, 4096},     {4097, 4608},     {65535, 65536},   {65536, 65536},   {65537, 73728},
        {131072, 131072}, {131073, 147456}, {262144, 262144}, {262145, 294912}, {294912, 294912},
        {294913, 294913},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(mem_usable(rows[i].size), rows[i].usable);
    size_t last = 0;
    for (size_t size = 1; size <= MEM_SLAB_MAX; size++) {
        size_t usable = mem_usable(size);
        assert_true(usable >= size && usable >= last && usable % 8 == 0);
        assert_true(size < 16 || usable - size <= (size <= 256 ? 7 : size / 8));
        assert_int_equal(mem_usable(usable), usable);
        last = usable;
    }
}

static void test_every_class_gives_distinct_memory(void **state)
{
    struct mem_pool *p = *state;
    enum { EACH = 40 }; /* more than a chunk of the largest class holds */
    static unsigned char *objects[EACH];
    for (size_t size = 1; size <= MEM_SLAB_MAX; size = mem_usable(size) + 1) {
        size_t usable = mem_usable(size);
        for (int i = 0; i < EACH; i++) {
            objects[i] = mem_alloc(p, size);
            assert_non_null(objects[i]);
            assert_int_equal((uintptr_t)objects[i] % 8, 0);
            memset(objects[i], i, usable);
        }
        assert_int_equal(mem_pool_stats(p).used_bytes, EACH * usable);
        for (int i = 0; i < EACH; i++) {
            for (size_t at = 0; at < usable; at += at < 16 ? 1 : 61)
                assert_int_equal(objects[i][at], i);
            assert_int_equal(objects[i][usable - 1], i);
            mem_free(p, objects[i], size);
        }
        assert_int_equal(mem_pool_stats(p).used_bytes, 0);
    }
}

static void test_large_objects(void **state)
{
    struct mem_pool *p = *state;
    static const size_t sizes[] = {MEM_SLAB_MAX + 1, 1u << 20, LARGEST};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *a = mem_alloc(p, sizes[i]), *b = mem_alloc(p, sizes[i]);
        assert_non_null(a);
        assert_non_null(b);
        a[0] = b[sizes[i] - 1] = 1;
        assert_int_equal(mem_pool_stats(p).used_bytes, 2 * sizes[i]);
        mem_free(p, a, sizes[i]);
        mem_free(p, b, sizes[i]);
    }
    assert_int_equal(mem_pool_stats(p).used_bytes, 0);
    assert_int_equal(mem_pool_stats(p).mapped_bytes, 0);
    assert_null(mem_alloc(p, (size_t)LARGEST + 1));
    assert_null(mem_alloc(p, SIZE_MAX));
    assert_int_equal(mem_pool_stats(p).failed, 2);
}

static void test_zalloc_clears_used_memory(void **state)
{
    struct mem_pool *p = *state;
    for (int round = 0; round < 2; round++) {
        unsigned char *a = mem_zalloc(p, 100);
        for (int i = 0; i < 100; i++) assert_int_equal(a[i], 0);
        memset(a, 0xff, 100);
        mem_free(p, a, 100);
    }
    mem_free(p, NULL, 100);
}

enum { MANY = 100000 };
static void *many[MANY];
static size_t many_size[MANY];

static void shuffle_many(void)
{
    for (uint32_t i = MANY - 1; i > 0; i--) {
        uint32_t j = random_below(i + 1);
        void *object = many[i];
        size_t size = many_size[i];
        many[i] = many[j], many_size[i] = many_size[j];
        many[j] = object, many_size[j] = size;
    }
}

/* The sizes of a connection, its subscription, its TLS state and a frame; chunks of 64 KiB. */
static void test_many_come_and_go(void **state)
{
    struct mem_pool *p = *state;
    static const size_t sizes[] = {144, 32, 300, 1200};
    for (int round = 0; round < 3; round++) {
        size_t asked = 0;
        for (int i = 0; i < MANY; i++) {
            many_size[i] = sizes[i % 4];
            asked += many_size[i];
            many[i] = mem_alloc(p, many_size[i]);
            assert_non_null(many[i]);
        }
        struct mem_stats full = mem_pool_stats(p);
        assert_true(full.used_bytes < asked + asked / 8);
        assert_true(full.mapped_bytes < full.used_bytes + full.used_bytes / 50 + 8 * CHUNK);
        shuffle_many();
        for (int i = 0; i < MANY; i++) mem_free(p, many[i], many_size[i]);
        assert_int_equal(mem_pool_stats(p).used_bytes, 0);
        assert_true(mem_pool_stats(p).mapped_bytes <= 4 * CHUNK); /* a spare a class */
        assert_true(mem_pool_trim(p));
        assert_true(mem_pool_stats(p).mapped_bytes <= 4 * CHUNK);
        assert_false(mem_pool_trim(p));
        assert_int_equal(mem_pool_stats(p).mapped_bytes, 0);
    }
}

/* Half of a crowd leaves at random, then others come: the holes are filled before anything new is
 * mapped. */
static void test_holes_are_filled_first(void **state)
{
    struct mem_pool *p = *state;
    for (int i = 0; i < MANY; i++) many_size[i] = 144, many[i] = mem_alloc(p, 144);
    size_t mapped = mem_pool_stats(p).mapped_bytes;
    shuffle_many();
    for (int i = 0; i < MANY / 2; i++) mem_free(p, many[i], 144);
    for (int i = 0; i < MANY / 2; i++) many[i] = mem_alloc(p, 144);
    assert_true(mem_pool_stats(p).mapped_bytes <= mapped);
    for (int i = 0; i < MANY; i++) mem_free(p, many[i], 144);
}

static void test_one_object_does_not_map_and_unmap(void **state)
{
    struct mem_pool *p = *state;
    mem_free(p, mem_alloc(p, 144), 144);
    mem_fail_at(900); /* the last allocation below, unless an mmap counted as well */
    for (int i = 0; i < 500; i++) mem_free(p, mem_alloc(p, 144), 144);
    for (int i = 0; i < 399; i++) many[i] = mem_alloc(p, 144);
    for (int i = 0; i < 399; i++) mem_free(p, many[i], 144);
    assert_int_equal(mem_pool_stats(p).failed, 0);
    assert_null(mem_alloc(p, 144));
    assert_int_equal(mem_pool_stats(p).mapped_bytes, CHUNK);
}

static void wave(struct mem_pool *p, int n)
{
    for (int i = 0; i < n; i++) many[i] = mem_alloc(p, 144);
    for (int i = 0; i < n; i++) mem_free(p, many[i], 144);
}

/* Frames of a turn come and go in waves: after a few the chunks of a wave are kept. When the waves
 * end, trimming gives them back. */
static void test_waves_stop_mapping(void **state)
{
    struct mem_pool *p = *state;
    enum { WAVE = 3000, CHUNKS = 7 };
    for (int i = 0; i < 5; i++) wave(p, WAVE);
    assert_int_equal(mem_pool_stats(p).mapped_bytes, CHUNKS * CHUNK);
    mem_fail_at(10 * WAVE + 1); /* the first allocation after the waves, unless an mmap counted */
    for (int i = 0; i < 10; i++) wave(p, WAVE);
    assert_int_equal(mem_pool_stats(p).failed, 0);
    assert_null(mem_alloc(p, 144));
    mem_pool_trim(p);
    wave(p, 2 * WAVE / CHUNKS); /* small ones need two chunks */
    mem_pool_trim(p);
    assert_true(mem_pool_stats(p).mapped_bytes <= 2 * CHUNK);
    mem_pool_trim(p);
    assert_int_equal(mem_pool_stats(p).mapped_bytes, 0);
    wave(p, WAVE);
    assert_int_equal(mem_pool_stats(p).mapped_bytes, CHUNK); /* one spare is enough again */
}

/* Random sizes against a model that knows who owns which bytes. */
static void test_random_operations(void **state)
{
    struct mem_pool *p = *state;
    random_state = 20261124;
    print_message("seed %u\n", random_state);
    enum { LIVE = 2000 };
    static unsigned char *live[LIVE];
    static size_t size[LIVE];
    memset(live, 0, sizeof live);
    size_t used = 0;
    for (int i = 0; i < 200000; i++) {
        uint32_t at = random_below(LIVE);
        unsigned char mark = (unsigned char)at;
        if (live[at]) {
            assert_true(live[at][0] == mark && live[at][size[at] - 1] == mark);
            mem_free(p, live[at], size[at]);
            used -= mem_usable(size[at]);
            live[at] = NULL;
        } else {
            size[at] = 1 + random_below(random_below(50) ? 600 : 100000);
            live[at] = mem_alloc(p, size[at]);
            live[at][0] = live[at][size[at] - 1] = mark;
            used += mem_usable(size[at]);
        }
        assert_int_equal(mem_pool_stats(p).used_bytes, used);
        if (i % 5000 == 0) mem_pool_trim(p);
    }
    for (int at = 0; at < LIVE; at++) mem_free(p, live[at], size[at]);
    assert_int_equal(mem_pool_stats(p).used_bytes, 0);
}

/* The k-th allocation or mmap fails, is counted, and nothing is lost. */
static void test_fail_at(void **state)
{
    struct mem_pool *p = *state;
    for (uint64_t k = 1; k <= 6; k++) {
        void *objects[4];
        uint64_t failed = mem_pool_stats(p).failed;
        mem_fail_at(k);
        /* a new class each time: the first is an alloc and an mmap, a large one only an alloc */
        size_t sizes[4] = {k * 8 + 200, k * 8 + 200, k * 8 + 200, 1u << 20};
        for (int i = 0; i < 4; i++) objects[i] = mem_alloc(p, sizes[i]);
        int missing = 0;
        for (int i = 0; i < 4; i++) missing += !objects[i];
        assert_int_equal(missing, k <= 5);
        assert_int_equal(mem_pool_stats(p).failed - failed, missing);
        mem_fail_at(0);
        for (int i = 0; i < 4; i++) mem_free(p, objects[i], sizes[i]);
    }
    assert_int_equal(mem_pool_stats(p).used_bytes, 0);
    mem_fail_at(1);
    assert_null(mem_pool_new());
    assert_int_equal(errno, ENOMEM);
}

static long mapped_pages(void)
{
    long pages = -1;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld", &pages) != 1) pages = -1;
    if (f) fclose(f);
    return pages;
}

static void test_delete_takes_objects_in_use_along(void **state)
{
    (void)state;
    long before = mapped_pages();
    struct mem_pool *p = mem_pool_new();
    for (int i = 0; i < 5000; i++) assert_non_null(mem_alloc(p, 1 + random_below(60000)));
    for (int i = 0; i < 5; i++) wave(p, MANY); /* leaves spares */
    assert_true(mapped_pages() - before > 20000);
    assert_non_null(mem_alloc(p, MEM_SLAB_MAX + 1)); /* for the leak checker of the asan variant */
    mem_pool_delete(p);
    assert_true(mapped_pages() - before < 100);
    mem_pool_delete(NULL);
}

/* dumped: would the page at address be in a core dump? /proc says "dd" of those that would not. */
static bool dumped(const void *address)
{
    char line[512];
    bool here = false, dumped = true;
    FILE *f = fopen("/proc/self/smaps", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            here = (uintptr_t)address >= from && (uintptr_t)address < to;
        else if (here && strncmp(line, "VmFlags:", 8) == 0)
            dumped = !strstr(line, " dd");
    }
    fclose(f);
    return dumped;
}

static void test_secrets_are_not_dumped(void **state)
{
    struct mem_pool *secrets = mem_pool_new();
    mem_pool_keep_secret(secrets);
    assert_true(dumped(mem_alloc(*state, 184)));
    for (int i = 0; i < 5000; i++) assert_false(i % 500 == 0 && dumped(mem_alloc(secrets, 184)));
    mem_pool_delete(secrets);
}

struct freeing { /* what one thread frees: every THREADS-th of many */
    struct mem_pool *pool;
    int first;
};
enum { THREADS = 4 };

static void *free_remotely(void *arg)
{
    struct freeing *f = arg;
    for (int i = f->first; i < MANY; i += THREADS) mem_free(f->pool, many[i], many_size[i]);
    return NULL;
}

static void test_remote_frees_come_back(void **state)
{
    struct mem_pool *p = *state;
    for (int i = 0; i < MANY; i++) {
        many_size[i] = i % 1000 ? 1 + random_below(500) : MEM_SLAB_MAX + 1;
        many[i] = memset(mem_alloc(p, many_size[i]), 1, many_size[i]);
    }
    size_t used = mem_pool_stats(p).used_bytes;
    struct freeing work[THREADS];
    pthread_t threads[THREADS];
    for (int t = 0; t < THREADS; t++) {
        work[t] = (struct freeing){p, t};
        assert_int_equal(pthread_create(&threads[t], NULL, free_remotely, &work[t]), 0);
    }
    /* The owner goes on meanwhile, and takes back what it finds. */
    for (int i = 0; i < 2000; i++) {
        void *object = mem_alloc(p, 100);
        mem_free(p, object, 100);
        mem_pool_reclaim(p);
        assert_true(mem_pool_stats(p).used_bytes <= used);
    }
    for (int t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
    mem_pool_reclaim(p);
    mem_pool_reclaim(p);
    assert_int_equal(mem_pool_stats(p).used_bytes, 0);
    assert_true(mem_pool_stats(p).mapped_bytes <= 47 * CHUNK); /* a spare for each class used */
}

static void *own_and_use(void *arg)
{
    mem_pool_own(arg);
    mem_free(arg, mem_alloc(arg, 50), 50);
    return mem_pool_stats(arg).used_bytes ? arg : NULL;
}

static void test_owner_may_change(void **state)
{
    pthread_t thread;
    void *failed;
    assert_int_equal(pthread_create(&thread, NULL, own_and_use, *state), 0);
    pthread_join(thread, &failed);
    assert_null(failed);
    mem_pool_own(*state);
    mem_free(*state, mem_alloc(*state, 50), 50);
    assert_int_equal(mem_pool_stats(*state).used_bytes, 0);
}

#define with_pool(test) cmocka_unit_test_setup_teardown(test, new_pool, delete_pool)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usable_size),
        with_pool(test_every_class_gives_distinct_memory),
        with_pool(test_large_objects),
        with_pool(test_zalloc_clears_used_memory),
        with_pool(test_many_come_and_go),
        with_pool(test_holes_are_filled_first),
        with_pool(test_one_object_does_not_map_and_unmap),
        with_pool(test_waves_stop_mapping),
        with_pool(test_random_operations),
        with_pool(test_fail_at),
        cmocka_unit_test(test_delete_takes_objects_in_use_along),
        with_pool(test_secrets_are_not_dumped),
        with_pool(test_remote_frees_come_back),
        with_pool(test_owner_may_change),
    };
    return cmocka_run_group_tests_name("mem", tests, NULL, NULL);
}
