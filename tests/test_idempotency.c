/* What publishing calls with an idempotency key remember: repeats, time, the cap, memory, and two
 * workers with one key at the same moment. */
/* link: -Wl,--wrap=malloc,--wrap=free,--wrap=pthread_mutex_lock */
#include "engine.h"

#include <pthread.h>

#define SECOND 1000
#define KEYS 10000u
#define THREADS 4u

static struct worker *w;

/* Entries are malloc's: the blocks that idempotency.c has. One more than there are shards, while
 * one grows. */
static void *blocks[IDEMPOTENCY_SHARDS + 1];
static bool no_malloc, watching;
void *__real_malloc(size_t size); /* NOLINT(bugprone-reserved-identifier) */
void __real_free(void *p);        /* NOLINT(bugprone-reserved-identifier) */
void *__wrap_malloc(size_t size); /* NOLINT(bugprone-reserved-identifier) */
void __wrap_free(void *p);        /* NOLINT(bugprone-reserved-identifier) */

static unsigned count_blocks(const void *p)
{
    unsigned n = 0;
    for (unsigned i = 0; i <= IDEMPOTENCY_SHARDS; i++) n += blocks[i] == p;
    return n;
}

static unsigned blocks_held(void)
{
    return IDEMPOTENCY_SHARDS + 1 - count_blocks(NULL);
}

static void replace_block(const void *from, void *to)
{
    unsigned i = 0;
    assert_true(count_blocks(from) > 0);
    while (blocks[i] != from) i++;
    blocks[i] = to;
}

void *__wrap_malloc(size_t size) /* NOLINT(bugprone-reserved-identifier) */
{
    void *p = no_malloc ? NULL : __real_malloc(size);
    if (p && watching) replace_block(NULL, p);
    return p;
}

void __wrap_free(void *p) /* NOLINT(bugprone-reserved-identifier) */
{
    if (p && watching) replace_block(p, NULL);
    __real_free(p);
}

static _Atomic unsigned locked;                    /* how often anything was */
int __real_pthread_mutex_lock(pthread_mutex_t *m); /* NOLINT(bugprone-reserved-identifier) */
int __wrap_pthread_mutex_lock(pthread_mutex_t *m); /* NOLINT(bugprone-reserved-identifier) */
int __wrap_pthread_mutex_lock(pthread_mutex_t *m)  /* NOLINT(bugprone-reserved-identifier) */
{
    atomic_fetch_add(&locked, 1);
    return __real_pthread_mutex_lock(m);
}

static void begin(uint32_t entries_max)
{
    engine_open(&(struct engine_options){.workers = THREADS});
    w = engine.server.workers[0];
    idempotency_open(entries_max);
    watching = true;
}

static void end(void)
{
    idempotency_close();
    assert_int_equal(blocks_held(), 0);
    watching = false;
    engine_close();
}

static uint64_t remembered(void)
{
    return engine_metric(METRIC_IDEMPOTENCY_KEYS);
}

static uint64_t evicted(void)
{
    return engine_metric(METRIC_IDEMPOTENCY_EVICTED);
}

static struct idempotency_id id_of(const char *channel, const char *key)
{
    struct idempotency_key k = idempotency_key(key, strlen(key));
    return idempotency_id(&k, channel, strlen(channel));
}

static const char *key_of(unsigned i)
{
    static char key[16];
    snprintf(key, sizeof key, "%u", i);
    return key;
}

static struct pubsub_position result_of(unsigned i)
{
    return (struct pubsub_position){.epoch = "abcdefgh", .offset = i};
}

/* publish does as a call would; true: it was the first with that key. A repeat gets the result of
 * the first, which was i as well. */
static bool publish(const char *channel, const char *key, unsigned i)
{
    const struct idempotency_id id = id_of(channel, key);
    const struct pubsub_position mine = result_of(i);
    struct pubsub_position at = {0};
    switch (idempotency_begin(w, &id, &at)) {
    case IDEMPOTENCY_REPEAT:
        assert_memory_equal(at.epoch, mine.epoch, sizeof at.epoch);
        assert_int_equal(at.offset, mine.offset);
        return false;
    case IDEMPOTENCY_FIRST: idempotency_end(w, &id, &mine); return true;
    case IDEMPOTENCY_NO_MEMORY: break;
    }
    fail_msg("no memory");
    return false;
}

static void test_repeats(void **state)
{
    (void)state;
    begin(6400);
    assert_true(publish("news", "k", 1));
    assert_false(publish("news", "k", 1));
    assert_true(publish("news", "l", 2)); /* another key, another channel */
    assert_true(publish("olds", "k", 3));
    assert_true(publish("new", "sk", 4)); /* where one ends and the other begins matters */
    assert_true(publish("newsk", "", 5));
    assert_true(publish("", "newsk", 6));
    assert_false(publish("news", "k", 1));
    assert_false(publish("olds", "k", 3));
    assert_int_equal(remembered(), 6);
    assert_int_equal(engine_metric(METRIC_IDEMPOTENCY_REPEATS), 3);
    end();
}

/* Any length, and every byte of it counts. */
static void test_long_keys(void **state)
{
    (void)state;
    static char key[1001];
    begin(6400);
    memset(key, 'k', sizeof key - 1);
    for (unsigned i = 0; i < 1000; i += 37) {
        key[i] = 'x';
        assert_true(publish("news", key, i));
        assert_false(publish("news", key, i));
        key[i] = 'k';
    }
    end();
}

static void test_failed_is_not_remembered(void **state)
{
    (void)state;
    struct pubsub_position at;
    begin(6400);
    const struct idempotency_id id = id_of("news", "k");
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(idempotency_begin(w, &id, &at), IDEMPOTENCY_FIRST);
        idempotency_end(w, &id, NULL);
    }
    assert_int_equal(remembered(), 0);
    assert_true(publish("news", "k", 1));
    assert_false(publish("news", "k", 1));
    end();
}

static void test_time(void **state)
{
    (void)state;
    begin(6400);
    assert_true(publish("news", "k", 1));
    w->now_ms += IDEMPOTENCY_TTL_MS - 1;
    assert_false(publish("news", "k", 1)); /* which makes it last no longer */
    w->now_ms += 1;
    assert_true(publish("news", "k", 2));
    w->now_ms += IDEMPOTENCY_TTL_MS - 1;
    assert_false(publish("news", "k", 2));
    assert_int_equal(remembered(), 1);
    end();
}

/* Each shard has room for two: the third makes the oldest go, and no other. */
static void test_cap(void **state)
{
    (void)state;
    unsigned kept[IDEMPOTENCY_SHARDS][2] = {{0}}, in[IDEMPOTENCY_SHARDS] = {0}, full = 0;
    begin(IDEMPOTENCY_SHARDS * 2);
    for (unsigned i = 1; i <= KEYS; i++) {
        const unsigned s = (unsigned)(id_of("news", key_of(i)).h[0] >> 58);
        const uint64_t before = evicted();
        assert_true(publish("news", key_of(i), i));
        assert_int_equal(evicted() - before, in[s] >= 2); /* at the cap none, beyond it one */
        kept[s][in[s]++ % 2] = i;
        full += in[s] == 2;
        for (unsigned k = 0; k < 2; k++)
            if (kept[s][k]) assert_false(publish("news", key_of(kept[s][k]), kept[s][k]));
        assert_int_equal(remembered() + evicted(), i);
        assert_true(remembered() <= IDEMPOTENCY_SHARDS * 2);
    }
    assert_int_equal(full, IDEMPOTENCY_SHARDS);
    assert_int_equal(remembered(), IDEMPOTENCY_SHARDS * 2);
    assert_true(publish("news", key_of(1), 1)); /* long gone */
    end();
}

/* Memory comes with the entries and goes with the last of them, whoever's turn it is: in steps
 * while there are younger ones. */
static void test_memory_is_given_back(void **state)
{
    (void)state;
    begin(IDEMPOTENCY_SHARDS * 10000);
    struct worker *other = engine.server.workers[1];
    idempotency_sweep(w);
    assert_int_equal(blocks_held(), 0);
    const int64_t start_ms = w->now_ms;
    for (unsigned i = 1; i <= KEYS; i++) {
        assert_true(publish("news", key_of(i), i));
        w->now_ms += 100 * SECOND / KEYS;
    }
    assert_int_equal(blocks_held(), IDEMPOTENCY_SHARDS);
    for (unsigned i = 1; i <= KEYS; i++) assert_false(publish("news", key_of(i), i));
    other->now_ms = start_ms + IDEMPOTENCY_TTL_MS + 95 * SECOND;
    idempotency_sweep(other);
    const uint64_t step = KEYS - remembered();
    assert_in_range(step, IDEMPOTENCY_SHARDS, KEYS * 3 / 4);
    idempotency_sweep(other); /* too soon for another */
    assert_int_equal(remembered(), KEYS - step);
    for (unsigned i = 96; i <= 100; i++) {
        assert_true(remembered() > 0);
        other->now_ms += SECOND;
        idempotency_sweep(other);
    }
    assert_int_equal(remembered(), 0);
    assert_int_equal(blocks_held(), 0);
    assert_int_equal(evicted(), 0);
    w->now_ms = other->now_ms;
    assert_true(publish("news", key_of(1), 1)); /* and begins anew */
    end();
}

/* of_one_shard gives one key after the other that lies in the first one's shard. */
static const char *of_one_shard(unsigned *i)
{
    const uint64_t shard = id_of("news", key_of(1)).h[0] >> 58;
    while (id_of("news", key_of(++*i)).h[0] >> 58 != shard) {
    }
    return key_of(*i);
}

static void publish_some(unsigned *i, unsigned n, bool first)
{
    while (n--) {
        const char *key = of_one_shard(i);
        assert_int_equal(publish("news", key, *i), first);
    }
}

/* The oldest of a full ring expire, younger ones take their places, and then it doubles. */
static void test_doubles_when_wrapped(void **state)
{
    (void)state;
    unsigned last = 0;
    begin(IDEMPOTENCY_SHARDS * 1000);
    publish_some(&last, 10, true);
    const unsigned tenth = last;
    w->now_ms += SECOND;
    publish_some(&last, 6, true); /* 16: full */
    w->now_ms += IDEMPOTENCY_TTL_MS - SECOND;
    publish_some(&last, 10, true); /* full again, the oldest in the middle */
    assert_int_equal(remembered(), 16);
    publish_some(&last, 10, true);
    assert_int_equal(remembered(), 26);
    unsigned at = tenth;
    publish_some(&at, 26, false);
    assert_int_equal(at, last);
    assert_int_equal(remembered(), 26);
    end();
}

/* More have expired than one call forgets, behind a younger one: none of them is repeated. */
static void test_expired_is_not_repeated(void **state)
{
    (void)state;
    unsigned last = 0;
    begin(IDEMPOTENCY_SHARDS * 1000);
    publish_some(&last, 200, true);
    const unsigned expired = last;
    w->now_ms += SECOND;
    publish_some(&last, 1, true);
    w->now_ms += IDEMPOTENCY_TTL_MS - SECOND;
    const uint64_t before = remembered();
    assert_true(publish("news", key_of(expired), 1));
    assert_in_range(remembered(), before - 64 + 1, before); /* it is still there, expired */
    assert_false(publish("news", key_of(expired), 1));
    unsigned at = expired;
    publish_some(&at, 1, false); /* the younger one */
    end();
}

/* A sweep of nothing is a load: no shard is locked. */
static void test_nothing_to_sweep(void **state)
{
    (void)state;
    begin(IDEMPOTENCY_SHARDS * 1000);
    assert_true(publish("news", "k", 1));
    w->now_ms += SECOND;
    for (unsigned i = 0; i < 2; i++, w->now_ms += IDEMPOTENCY_TTL_MS) {
        const unsigned before = locked;
        idempotency_sweep(w);
        assert_int_equal(locked - before, IDEMPOTENCY_SHARDS);
    }
    assert_int_equal(remembered(), 0);
    const unsigned before = locked;
    for (unsigned i = 0; i < 10; i++, w->now_ms += 10 * SECOND) idempotency_sweep(w);
    assert_int_equal(locked, before);
    end();
}

/* What could not be remembered must not be published: it might be published twice. */
static void test_out_of_memory(void **state)
{
    (void)state;
    struct pubsub_position at;
    unsigned refused = 0;
    begin(IDEMPOTENCY_SHARDS * 1000);
    for (unsigned i = 1; i <= KEYS; i++) {
        const struct idempotency_id id = id_of("news", key_of(i));
        no_malloc = true;
        enum idempotency answer = idempotency_begin(w, &id, &at);
        no_malloc = false;
        if (answer == IDEMPOTENCY_FIRST) idempotency_end(w, &id, NULL);
        refused += answer == IDEMPOTENCY_NO_MEMORY;
        assert_true(publish("news", key_of(i), i));
    }
    for (unsigned i = 1; i <= KEYS; i++) assert_false(publish("news", key_of(i), i));
    assert_true(refused >= IDEMPOTENCY_SHARDS);
    assert_int_equal(engine_metric(METRIC_REFUSED_MEMORY), refused);
    end();
}

/* call sends an API call with a key of its own, answered while memory is out if so told. */
static void call(int fd, const char *key, bool out_of_memory, char text[static 4096])
{
    char body[256], request[512];
    snprintf(body, sizeof body, "{\"channel\":\"news\",\"data\":1,\"idempotency_key\":\"%s\"}",
             key);
    snprintf(request, sizeof request,
             "POST /api/publish HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s", strlen(body),
             body);
    assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
    no_malloc = out_of_memory;
    engine_turns(2);
    no_malloc = false;
    const ssize_t n = recv(fd, text, 4095, 0);
    assert_true(n > 0);
    text[n] = 0;
}

/* What could not be remembered is told as an error that may be tried again, and then works. */
static void test_api_out_of_memory(void **state)
{
    (void)state;
    char text[4096];
    begin(IDEMPOTENCY_SHARDS * 1000);
    watching = false; /* connections have blocks of their own */
    int fd = engine_connect(w);
    engine_turns(2);
    call(fd, "first", true, text);
    assert_non_null(strstr(text, "\"code\":100"));
    assert_int_equal(engine_metric(METRIC_REFUSED_MEMORY), 1);
    assert_int_equal(engine_metric(METRIC_PUBLISHED), 0);
    call(fd, "first", false, text);
    assert_non_null(strstr(text, "\"result\":{}"));
    close(fd);
    engine_turns(3);
    end();
}

/* ---- several workers ---- */

static _Atomic unsigned published[KEYS + 1], winner[KEYS + 1], differing;

static void *race(void *arg)
{
    struct worker *me = arg;
    for (unsigned i = 1; i <= KEYS; i++) {
        char key[16];
        snprintf(key, sizeof key, "%u", i);
        const struct idempotency_id id = id_of("news", key);
        struct pubsub_position at = result_of(me->index);
        if (idempotency_begin(me, &id, &at) == IDEMPOTENCY_FIRST) {
            atomic_fetch_add(&published[i], 1);
            atomic_store(&winner[i], me->index);
            idempotency_end(me, &id, &at);
        } else if (at.offset != atomic_load(&winner[i])) {
            atomic_fetch_add(&differing, 1);
        }
        idempotency_sweep(me);
    }
    return NULL;
}

static void test_same_keys_at_once(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    begin(IDEMPOTENCY_SHARDS * 1000);
    watching = false; /* a thread's stack is malloc's as well */
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race, engine.server.workers[i]), 0);
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (unsigned i = 1; i <= KEYS; i++) assert_int_equal(published[i], 1);
    assert_int_equal(differing, 0);
    assert_int_equal(remembered(), KEYS);
    assert_int_equal(engine_metric(METRIC_IDEMPOTENCY_REPEATS), (THREADS - 1) * KEYS);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repeats),
        cmocka_unit_test(test_long_keys),
        cmocka_unit_test(test_failed_is_not_remembered),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_cap),
        cmocka_unit_test(test_memory_is_given_back),
        cmocka_unit_test(test_doubles_when_wrapped),
        cmocka_unit_test(test_expired_is_not_repeated),
        cmocka_unit_test(test_nothing_to_sweep),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_api_out_of_memory),
        cmocka_unit_test(test_same_keys_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
