/* trace.c: traceparent by W3C Trace Context section 3.2, sampling, rings that are full, and
 * publications that several threads hand over. */
#include "../trace.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define A "0af7651916cd43dd8448eb211c80319c"
#define B "b7ad6b7169203331"

static const struct {
    const char *text;
    bool ok, sampled;
} parents[] = {
    {"00-" A "-" B "-01", true, true},
    {"00-" A "-" B "-00", true, false},
    {"00-" A "-" B "-03", true, true},
    {"00-" A "-" B "-fe", true, false},
    {"01-" A "-" B "-01", true, true},
    {"cc-" A "-" B "-01-what-comes-later", true, true},
    {"cc-" A "-" B "-01.what", false, false},
    {"00-" A "-" B "-01-", false, false}, /* version 00 ends here */
    {"ff-" A "-" B "-01", false, false},
    {"00-" A "-" B "-0", false, false},
    {"00-" A "-" B "-0g", false, false},
    {"00-" A "-" B "_01", false, false},
    {"00-00000000000000000000000000000000-" B "-01", false, false},
    {"00-" A "-0000000000000000-01", false, false},
    {"00-0AF7651916CD43DD8448EB211C80319C-" B "-01", false, false},
    {"0 -" A "-" B "-01", false, false},
    {"", false, false},
};

static void test_parent(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof parents / sizeof *parents; i++) {
        const size_t len = strlen(parents[i].text);
        struct trace_parent p = {0};
        char *exact = malloc(len ? len : 1); /* so that reading beyond it is seen */
        memcpy(exact, parents[i].text, len);
        assert_int_equal(trace_parent_parse(&p, exact, len), parents[i].ok);
        free(exact);
        if (!parents[i].ok) continue;
        assert_int_equal(p.sampled, parents[i].sampled);
        assert_true(p.trace_id[0] == 0x0af7651916cd43dd && p.trace_id[1] == 0x8448eb211c80319c);
        assert_true(p.id == 0xb7ad6b7169203331);
    }
    char hex[TRACE_HEX];
    trace_hex(hex, 0xb7ad6b7169203331);
    assert_memory_equal(hex, B, TRACE_HEX);
}

static unsigned sampled_of(double sample, unsigned many)
{
    struct traces *all = traces_new(1, sample);
    struct trace *t = traces_worker(all, 0);
    static struct trace_span out[64];
    unsigned n = 0;
    for (unsigned i = 0; i < many; i++) {
        if (trace_begin(t, TRACE_MESSAGE, NULL)) n++;
        trace_end(t, 0);
        (void)traces_take(all, out, 64);
    }
    assert_true(traces_dropped(all) == 0);
    traces_delete(all);
    return n;
}

static void test_sampling(void **state)
{
    (void)state;
    assert_int_equal(sampled_of(0, 10000), 0);
    assert_int_equal(sampled_of(1, 10000), 10000);
    const unsigned n = sampled_of(0.01, 100000);
    assert_true(n > 1000 - 200 && n < 1000 + 200); /* six standard deviations */
}

static void test_span(void **state)
{
    (void)state;
    static struct trace_span out[4];
    struct traces *all = traces_new(1, 0);
    struct trace *t = traces_worker(all, 0);
    const struct trace_parent parent = {.trace_id = {7, 8}, .id = 9, .sampled = true};
    struct trace_span *s = trace_begin(t, TRACE_CONNECTION, &parent);
    assert_non_null(s);
    trace_name(s, "/raw/\xc3\xa9 \n~", 10, true);
    trace_result(t, 401);
    trace_end(t, 0);
    trace_end(t, 500); /* nothing is under way any more */
    assert_int_equal(traces_take(all, out, 4), 1);
    assert_true(out->trace_id[0] == 7 && out->trace_id[1] == 8 && out->parent == 9);
    assert_true(out->id != 0 && out->id != 9 && out->conn == TRACE_NO_CONN);
    assert_int_equal(out->result, 401);
    assert_int_equal(out->name_len, 10);
    assert_memory_equal(out->name, "/raw/????~", 10);
    assert_true(out->start_ns > 1600000000ll * 1000000000 && out->end_ns >= out->start_ns);
    assert_null(trace_begin(t, TRACE_CONNECTION, &(struct trace_parent){.id = 1}));
    assert_null(trace_publish(t, "x", 1, 0, 1)); /* no Message is under way */
    traces_delete(all);
}

static void test_longest_name(void **state)
{
    (void)state;
    static struct trace_span out[1];
    char name[TRACE_NAME_MAX + 10];
    memset(name, 'n', sizeof name);
    struct traces *all = traces_new(1, 1);
    struct trace *t = traces_worker(all, 0);
    trace_begin(t, TRACE_MESSAGE, NULL);
    trace_about(t, name, sizeof name);
    trace_about(t, "later", 5);
    trace_end(t, 0);
    assert_int_equal(traces_take(all, out, 1), 1);
    assert_int_equal(out->name_len, TRACE_NAME_MAX);
    assert_memory_equal(out->name, name, TRACE_NAME_MAX);
    traces_delete(all);
}

static void test_full_ring(void **state)
{
    (void)state;
    static struct trace_span out[TRACE_RING];
    struct traces *all = traces_new(2, 1);
    struct trace *t = traces_worker(all, 1);
    for (unsigned i = 0; i < TRACE_RING + 5; i++) {
        struct trace_span *s = trace_begin(t, TRACE_MESSAGE, NULL);
        s->bytes = i;
        trace_end(t, 0);
    }
    assert_true(traces_dropped(all) == 5);
    assert_int_equal(traces_take(all, out, 10), 10); /* the oldest first */
    for (unsigned i = 0; i < 10; i++) assert_true(out[i].bytes == i);
    trace_begin(t, TRACE_MESSAGE, NULL);
    trace_end(t, 0);
    assert_true(traces_dropped(all) == 5);
    assert_int_equal(traces_take(all, out, TRACE_RING), TRACE_RING - 9);
    assert_int_equal(traces_take(all, out, TRACE_RING), 0);
    traces_delete(all);
}

static void test_full_flights(void **state)
{
    (void)state;
    static struct trace_span out[TRACE_FLIGHTS + 1];
    struct trace_flight *flights[TRACE_FLIGHTS];
    struct traces *all = traces_new(1, 1);
    struct trace *t = traces_worker(all, 0);
    trace_begin(t, TRACE_MESSAGE, NULL);
    for (unsigned i = 0; i < TRACE_FLIGHTS; i++) {
        flights[i] = trace_publish(t, "news", 4, i, 2);
        assert_non_null(flights[i]);
    }
    assert_null(trace_publish(t, "news", 4, 0, 2));
    assert_true(traces_dropped(all) == 1);
    trace_handed_over(t, flights[0], 0);
    trace_handed_over(t, flights[0], 1);
    assert_null(trace_publish(t, "news", 4, 0, 2)); /* one holder is left */
    trace_handed_over(t, flights[0], 1);
    assert_non_null(trace_publish(t, "news", 4, 0, 1));
    trace_end(t, 0);
    assert_int_equal(traces_take(all, out, TRACE_FLIGHTS), 2);
    assert_int_equal(out[0].kind, TRACE_PUBLISH);
    assert_true(out[0].parent == out[1].id && out[0].trace_id[1] == out[1].trace_id[1]);
    assert_int_equal(out[1].children, TRACE_FLIGHTS + 1);
    assert_memory_equal(out[1].name, "news", 4); /* the Message has got its channel */
    traces_delete(all);
}

/* ---- threads: one publishes, the others hand over, one takes ---- */

#define OTHERS 3
#define ROUNDS 2000u

static struct traces *shared;
static _Atomic(struct trace_flight *) mail[OTHERS];
static _Atomic bool over;

static void *hand_over(void *arg)
{
    const unsigned i = *(unsigned *)arg;
    while (!over || mail[i]) {
        struct trace_flight *f = mail[i];
        sched_yield();
        if (!f) continue;
        trace_handed_over(traces_worker(shared, 1 + i), f, 1);
        mail[i] = NULL;
    }
    return NULL;
}

static void *take(void *arg)
{
    static struct trace_span out[100];
    uint64_t *taken = arg;
    bool last;
    size_t n;
    do {
        last = over;
        n = traces_take(shared, out, 100);
        for (size_t i = 0; i < n; i++) assert_true(out[i].id && out[i].name_len == 4);
        *taken += n;
        sched_yield();
    } while (!last || n);
    return NULL;
}

static void publish_rounds(void)
{
    struct trace *t = traces_worker(shared, 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        trace_begin(t, TRACE_MESSAGE, NULL);
        struct trace_flight *f = trace_publish(t, "news", 4, round, OTHERS + 1);
        trace_about(t, "news", 4);
        for (unsigned i = 0; f && i < OTHERS; i++) {
            while (mail[i]) sched_yield();
            mail[i] = f;
        }
        if (f) trace_handed_over(t, f, 1);
        trace_end(t, 0);
    }
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[OTHERS], taker;
    unsigned index[OTHERS];
    uint64_t taken = 0;
    shared = traces_new(1 + OTHERS, 1);
    for (unsigned i = 0; i < OTHERS; i++) {
        index[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, hand_over, &index[i]), 0);
    }
    /* the taker looks after everybody has ended, or else at the same time */
    assert_int_equal(pthread_create(&taker, NULL, take, &taken), 0);
    publish_rounds();
    for (unsigned i = 0; i < OTHERS; i++)
        while (mail[i]) sched_yield();
    over = true;
    for (unsigned i = 0; i < OTHERS; i++) pthread_join(threads[i], NULL);
    pthread_join(taker, NULL);
    static struct trace_span rest[100];
    taken += traces_take(shared, rest, 100);
    assert_true(taken + traces_dropped(shared) == 2 * ROUNDS);
    traces_delete(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parent),    cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_span),      cmocka_unit_test(test_longest_name),
        cmocka_unit_test(test_full_ring), cmocka_unit_test(test_full_flights),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
