/* watch.c: who follows connections comes and goes with all that belongs to it, whenever memory is
 * out, the connection ends or the server does; whom it means, and what it says while nothing
 * happens. What the lines say is in e2e/trace.test.mjs. */
/* link: -Wl,--wrap=malloc,--wrap=aligned_alloc */
#include "engine.h"

#include "../worker_errand.h"

#include <time.h>

enum { WORKERS = 3 };

/* ---- the heap, which fails once ---- */

static unsigned heap_fails_at; /* 0: never; the tests drive the workers, so there is one thread */
static bool heap_failed;

void *__real_malloc(size_t n);                      /* NOLINT(bugprone-reserved-identifier) */
void *__real_aligned_alloc(size_t align, size_t n); /* NOLINT(bugprone-reserved-identifier) */
void *__wrap_malloc(size_t n);                      /* NOLINT(bugprone-reserved-identifier) */
void *__wrap_aligned_alloc(size_t align, size_t n); /* NOLINT(bugprone-reserved-identifier) */

static bool heap_fails(void)
{
    const bool fails = heap_fails_at && --heap_fails_at == 0;
    heap_failed = heap_failed || fails;
    return fails;
}

void *__wrap_malloc(size_t n) /* NOLINT(bugprone-reserved-identifier) */
{
    return heap_fails() ? NULL : __real_malloc(n);
}

void *__wrap_aligned_alloc(size_t align, size_t n) /* NOLINT(bugprone-reserved-identifier) */
{
    return heap_fails() ? NULL : __real_aligned_alloc(align, n);
}

/* ---- somebody who follows ---- */

struct follower {
    int fd;
    struct conn *conn; /* of worker 0 */
    size_t len;
    bool over; /* the server has hung up */
    char got[65536];
};

static struct worker *at(unsigned i)
{
    return engine.server.workers[i];
}

static void begin(void)
{
    engine_open(&(struct engine_options){.workers = WORKERS});
}

/* ask connects and asks, which no worker has seen yet. */
static void ask(struct follower *f, const char *query)
{
    char request[512];
    *f = (struct follower){.fd = engine_connect(at(0))};
    f->conn = at(0)->conns.items[at(0)->conns.count - 1];
    const int n =
        snprintf(request, sizeof request, "GET /debug/trace?%s HTTP/1.1\r\nHost: x\r\n\r\n", query);
    assert_int_equal(send(f->fd, request, (size_t)n, MSG_NOSIGNAL), n);
}

static void hear(struct follower *f)
{
    for (ssize_t n; f->len < sizeof f->got - 1; f->len += (size_t)n) {
        n = recv(f->fd, f->got + f->len, sizeof f->got - 1 - f->len, 0);
        if (n == 0 || (n == -1 && errno != EAGAIN)) f->over = true;
        if (n <= 0) break;
    }
    f->got[f->len] = 0;
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
}

/* wait_for lets the workers turn until f has been told what. */
static void wait_for(struct follower *f, const char *what)
{
    for (unsigned i = 0; i < 30000; i++) {
        engine_turns(1);
        hear(f);
        if (strstr(f->got, what)) return;
        pause_ms(1);
    }
    fail_msg("no %s in \"%s\"", what, f->got);
}

static bool is_quiet(void)
{
    for (unsigned i = 0; i < WORKERS; i++)
        if (at(i)->conns.count || at(i)->watchers) return false;
    return engine_metric(METRIC_WATCHERS) == 0;
}

/* wait_until_gone: nothing is left of any follower on any worker. */
static void wait_until_gone(void)
{
    for (unsigned i = 0; i < 30000 && !is_quiet(); i++) {
        engine_turns(1);
        if (i > 100) pause_ms(1);
    }
    assert_true(is_quiet());
}

/* assert_room: as many as may can still follow, and no more. That is all there is in the process,
 * so nothing of those before has been forgotten or given back twice. */
static void assert_room(void)
{
    static struct follower all[WATCHERS_MAX + 1];
    for (unsigned i = 0; i < WATCHERS_MAX; i++) {
        ask(&all[i], "user=42");
        wait_for(&all[i], "\"watching\"");
    }
    ask(&all[WATCHERS_MAX], "user=42");
    wait_for(&all[WATCHERS_MAX], "HTTP/1.1 429");
    for (unsigned i = 0; i <= WATCHERS_MAX; i++) close(all[i].fd);
    wait_until_gone();
}

/* ---- memory ---- */

static void test_heap_is_out(void **state)
{
    (void)state;
    static struct follower f;
    unsigned refused = 0;
    begin();
    for (unsigned k = 1;; k++) {
        heap_failed = false;
        heap_fails_at = k;
        ask(&f, "user=42");
        engine_turns(3);
        heap_fails_at = 0;
        if (heap_failed) {
            wait_for(&f, "HTTP/1.1 503");
            assert_non_null(strstr(f.got, "out of memory"));
            refused++;
        } else {
            wait_for(&f, "\"watching\"");
        }
        close(f.fd);
        wait_until_gone();
        if (!heap_failed) break;
    }
    assert_int_equal(refused, 3); /* itself and its two buffers */
    assert_room();
    engine_close();
}

/* The pool's allocations: the connection's own, the answer's head, the first line. */
static void test_pool_is_out(void **state)
{
    (void)state;
    static struct follower f;
    unsigned ended = 0;
    begin();
    for (uint64_t k = 1;; k++) {
        const uint64_t before = mem_pool_stats(at(0)->pool).failed;
        ask(&f, "user=42");
        mem_fail_at(k);
        engine_turns(3);
        mem_fail_at(0);
        const bool failed = mem_pool_stats(at(0)->pool).failed != before;
        for (unsigned i = 0; i < 3; i++) engine_turns(1);
        hear(&f);
        if (f.over) ended++; /* or it was answered, if what failed could be done without */
        close(f.fd);
        wait_until_gone();
        if (!failed) break;
        assert_in_range(k, 1, 50);
    }
    assert_in_range(ended, 2, 50); /* without the head, without the line */
    assert_room();
    engine_close();
}

/* ---- ends ---- */

/* The connection ends while the workers are being told of it: after any number of turns of each. */
static void test_ends_at_once(void **state)
{
    (void)state;
    static struct follower f;
    begin();
    for (unsigned n = 0; n < 3 * 3 * 3; n++) {
        const unsigned turns[WORKERS] = {n % 3, n / 3 % 3, n / 9};
        ask(&f, "channel=a");
        for (unsigned i = 0; i < WORKERS; i++)
            for (unsigned j = 0; j < turns[i]; j++) worker_turn(at(i), 0);
        close(f.fd);
        wait_until_gone();
    }
    assert_room();
    engine_close();
}

static void end_connections(void)
{
    for (unsigned i = 0; i < 30000 && at(0)->conns.count; i++) worker_turn(at(0), 0);
    assert_int_equal(at(0)->conns.count, 0);
}

/* The server ends when some workers have been told, of the beginning or of the end, and others have
 * not: what is on its way is let go of once. */
static void test_server_ends(void **state)
{
    (void)state;
    static struct follower f[2];
    uint32_t random = 7;
    for (unsigned run = 0; run < (SLOW ? 60 : 300); run++) {
        begin();
        for (unsigned i = 0; i < 2; i++) ask(&f[i], "user=42");
        worker_turn(at(0), 0);
        for (uint32_t n = engine_random(&random, 6); n > 0; n--)
            worker_turn(at(engine_random(&random, WORKERS)), 0);
        close(f[0].fd);
        for (uint32_t n = engine_random(&random, 6); n > 0; n--)
            worker_turn(at(engine_random(&random, WORKERS)), 0);
        close(f[1].fd);
        end_connections();
        for (uint32_t n = engine_random(&random, 3); n > 0; n--)
            worker_turn(at(engine_random(&random, WORKERS)), 0);
        for (unsigned i = 0; i < WORKERS; i++) worker_errands_abandon(at(i));
        engine_close();
    }
    begin();
    assert_room();
    engine_close();
}

/* ---- whom it means ---- */

/* What nobody follows is passed over. */
static void test_follows(void **state)
{
    (void)state;
    static const struct {
        const char *query;
        bool a[WORKERS], b[WORKERS]; /* on each worker, in channels a and b */
    } rows[] = {
        {"user=42", {true, true, true}, {true, true, true}},
        {"channel=a", {true, true, true}, {false, false, false}},
        {"channel=ab", {false, false, false}, {false, false, false}},
        {"conn=raw-1-7", {false, true, false}, {false, true, false}},
        {"conn=raw-1-7&channel=b", {false, false, false}, {false, true, false}},
        {"conn=echo-9-7", {false, false, false}, {false, false, false}},
        {"conn=01234567-89ab-cdef-0123-456789abcdef&channel=a",
         {true, true, true},
         {false, false, false}},
    };
    static struct follower f;
    begin();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ask(&f, rows[i].query);
        wait_for(&f, "\"watching\"");
        for (unsigned w = 0; w < WORKERS; w++) {
            if (watch_follows(at(w), "a", 1) != rows[i].a[w] ||
                watch_follows(at(w), "b", 1) != rows[i].b[w])
                fail_msg("%s on worker %u", rows[i].query, w);
        }
        close(f.fd);
        wait_until_gone();
        for (unsigned w = 0; w < WORKERS; w++) assert_false(watch_follows(at(w), "a", 1));
    }
    engine_close();
}

/* see is what the layers below do, of a connection that exists in name alone. */
static void see(unsigned worker, uint32_t id, uint32_t flags, unsigned protocol, const char *why)
{
    struct conn c = {.worker = at(worker), .fd = -1, .id = id, .flags = flags, .state = CONN_OPEN};
    c.protocol = protocol & 7;
    watch_seen(&c, &(struct conn_sight){.kind = SIGHT_REFUSED, .code = 400, .text = why});
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *query;
        unsigned worker;
        uint32_t id, flags;
        unsigned protocol;
    } rows[] = {
        {"conn=raw-1-7", 1, 7, CONN_COUNTED, CONN_RAW},
        {"conn=raw-0-4294967295", 0, UINT32_MAX, CONN_COUNTED, CONN_RAW},
        {"conn=echo-2-0", 2, 0, CONN_COUNTED, CONN_ECHO},
        {"conn=http-0-12", 0, 12, 0, CONN_ECHO},
        {"conn=http-0-12", 0, 12, 0, CONN_RAW}, /* it is of no protocol yet */
    };
    static struct follower f;
    begin();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ask(&f, rows[i].query);
        wait_for(&f, "\"watching\"");
        see(rows[i].worker, rows[i].id + 1, rows[i].flags, rows[i].protocol, "other id");
        see((rows[i].worker + 1) % WORKERS, rows[i].id, rows[i].flags, rows[i].protocol,
            "other worker");
        see(rows[i].worker, rows[i].id, rows[i].flags ^ CONN_COUNTED, rows[i].protocol,
            "other state");
        if (rows[i].flags)
            see(rows[i].worker, rows[i].id, rows[i].flags,
                rows[i].protocol == CONN_RAW ? CONN_ECHO : CONN_RAW, "other protocol");
        see(rows[i].worker, rows[i].id, rows[i].flags, rows[i].protocol, "this one");
        wait_for(&f, "\"this one\"");
        assert_non_null(strstr(f.got, strchr(rows[i].query, '=') + 1)); /* as it is shown */
        assert_null(strstr(f.got, "\"other"));
        close(f.fd);
        wait_until_gone();
    }
    engine_close();
}

/* ---- silence ---- */

/* later lets ms pass and gives what f was told then. */
static const char *later(struct follower *f, int64_t ms)
{
    struct worker *w = at(0);
    w->now_ms += ms;
    watch_stream(f->conn);
    engine.ops.flush(w);
    f->len = 0;
    hear(f);
    return f->got;
}

static void test_alive(void **state)
{
    (void)state;
    static struct follower f;
    begin();
    ask(&f, "conn=raw-0-7&seconds=3600");
    wait_for(&f, "\"watching\"");
    assert_non_null(strstr(later(&f, 15000), "\"event\":\"alive\"}\n"));
    assert_string_equal(later(&f, 14999), "");
    assert_non_null(strstr(later(&f, 1), "\"event\":\"alive\"}\n"));
    assert_string_equal(later(&f, 14999), "");
    see(0, 7, CONN_COUNTED, CONN_RAW, "seen"); /* which says as much */
    const char *got = later(&f, 1);
    assert_non_null(strstr(got, "\"seen\""));
    assert_null(strstr(got, "alive"));
    assert_string_equal(later(&f, 14999), "");
    assert_non_null(strstr(later(&f, 1), "\"event\":\"alive\"}\n"));
    close(f.fd);
    wait_until_gone();
    engine_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heap_is_out),  cmocka_unit_test(test_pool_is_out),
        cmocka_unit_test(test_ends_at_once), cmocka_unit_test(test_server_ends),
        cmocka_unit_test(test_follows),      cmocka_unit_test(test_names),
        cmocka_unit_test(test_alive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
