/* bench/histogram.h, bench/order.h and bench/reply.h: the load generator's own correctness, against
 * known data. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/histogram.h"
#include "bench/order.h"
#include "bench/pace.h"
#include "bench/reply.h"
#include "guard.h"

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

/* ---- pace ---- */

static void test_due(void **state)
{
    (void)state;
    static const struct {
        uint64_t rate, n;
        int64_t due_ns;
    } cases[] = {
        {1, 0, 5},
        {1, 3, 3000000005},
        {1000, 1, 1000005},
        {3, 1, 333333338},
        {3, 2, 666666671},
        {3, 3, 1000000005},                      /* no rounding is added up */
        {3, 3000000000, 1000000000000000005},    /* a billion seconds */
        {PACE_MAX, 86400000001, 86400000001005}, /* a day and a message of the highest rate */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(pace_due_ns(5, cases[i].rate, cases[i].n), cases[i].due_ns);
        /* n messages, 0 to n - 1, are due before message n is; and it, too, a nanosecond later */
        assert_int_equal(pace_count(5, cases[i].rate, cases[i].due_ns), cases[i].n);
        assert_int_equal(pace_count(5, cases[i].rate, cases[i].due_ns + 1), cases[i].n + 1);
    }
}

/* A server that answers at once but stalls for a second in ten, asked a hundred times a second:
 * from when a message was due a tenth of all wait, half a second on average; who is only asked
 * again when it has answered sees one. */
static void test_a_stall_is_not_left_out(void **state)
{
    (void)state;
    const int64_t stall_ns = 4 * (int64_t)PACE_NS, over_ns = 5 * (int64_t)PACE_NS;
    memset(&h, 0, sizeof h);
    for (uint64_t n = 0; n < 1000; n++) {
        const int64_t due_ns = pace_due_ns(0, 100, n);
        const int64_t answered_ns = due_ns >= stall_ns && due_ns < over_ns ? over_ns : due_ns;
        histogram_add(&h, (uint64_t)(answered_ns - due_ns));
    }
    assert_int_equal(histogram_quantile(&h, 0.9), 0);
    assert_in_range(histogram_quantile(&h, 0.95), 500000000, 520000000);
    assert_in_range(histogram_quantile(&h, 0.99), 900000000, 925000000);
    assert_int_equal(histogram_quantile(&h, 1), 1000000000);
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

/* ---- replies of a Centrifuge server: protocol.md sections 1.3, 2, 3 ---- */

/* read_guarded reads a line whose end is the end of what may be read. */
static int read_guarded(struct reply *r, const char *line, size_t len)
{
    char *copy = guard_copy(line, len);
    int result = reply_read(r, copy, len);
    if (result == 0 && r->data.p) /* as an offset: the copy goes */
        r->data.p = line + (r->data.p - copy);
    if (result == 0 && r->message.p) r->message.p = line + (r->message.p - copy);
    guard_free(copy, len);
    return result;
}

static bool slice_is(struct json_slice s, const char *text)
{
    return text ? s.len == strlen(text) && memcmp(s.p, text, s.len) == 0 : s.len == 0;
}

static void test_replies(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        struct reply expected;
        const char *channel, *data, *message;
    } cases[] = {
        {.line = "{}", .expected = {.kind = REPLY_PING}},
        {.line = "{\"id\":1,\"connect\":{\"client\":\"5e7d\",\"version\":\"0.1\",\"ping\":25,"
                 "\"pong\":true}}",
         .expected = {.kind = REPLY_RESULT, .id = 1, .method = COMMAND_CONNECT, .pong = true}},
        {.line =
             "{\"connect\":{\"client\":\"\",\"subs\":{\"a\":{\"offset\":3}}},\"id\":4294967295}",
         .expected = {.kind = REPLY_RESULT, .id = UINT32_MAX, .method = COMMAND_CONNECT}},
        {.line = "{\"id\":2,\"subscribe\":{}}",
         .expected = {.kind = REPLY_RESULT, .id = 2, .method = COMMAND_SUBSCRIBE}},
        {.line = "{\"id\":2,\"subscribe\":{\"recoverable\":true,\"epoch\":\"kQzX\",\"offset\":41}}",
         .expected = {.kind = REPLY_RESULT,
                      .id = 2,
                      .method = COMMAND_SUBSCRIBE,
                      .positioned = true,
                      .offset = 41}},
        {.line = "{\"id\":2,\"subscribe\":{\"positioned\":true,\"publications\":[{\"data\":1,"
                 "\"offset\":9}]}}",
         .expected =
             {.kind = REPLY_RESULT, .id = 2, .method = COMMAND_SUBSCRIBE, .positioned = true}},
        {.line = "{\"id\":3,\"publish\":{}}",
         .expected = {.kind = REPLY_RESULT, .id = 3, .method = COMMAND_PUBLISH}},
        {.line = "{\"id\":3,\"error\":{\"code\":103,\"message\":\"permission denied\"}}",
         .expected = {.kind = REPLY_ERROR, .id = 3, .code = 103},
         .message = "\"permission denied\""},
        {.line = "{\"push\":{\"channel\":\"a\",\"pub\":{\"data\":{\"x\":[1,{}]},\"offset\":"
                 "18446744073709551615,\"info\":{\"user\":\"u\",\"client\":\"c\"}}}}",
         .expected = {.kind = REPLY_PUBLICATION, .offset = UINT64_MAX},
         .channel = "a",
         .data = "{\"x\":[1,{}]}"},
        {.line = "{\"push\":{\"pub\":{\"data\":null},\"channel\":\"\\u00e9\"}}",
         .expected = {.kind = REPLY_PUBLICATION},
         .channel = "\xc3\xa9",
         .data = "null"},
        {.line = "{\"push\":{\"channel\":\"a\",\"unsubscribe\":{\"code\":2500,\"reason\":"
                 "\"insufficient\"}}}",
         .expected = {.kind = REPLY_UNSUBSCRIBED, .code = 2500},
         .channel = "a",
         .message = "\"insufficient\""},
        {.line = "{\"push\":{\"disconnect\":{\"code\":3001,\"reason\":\"shutdown\"}}}",
         .expected = {.kind = REPLY_DISCONNECTED, .code = 3001},
         .message = "\"shutdown\""},
        {.line =
             "{\"push\":{\"channel\":\"a\",\"join\":{\"info\":{\"user\":\"\",\"client\":\"\"}}}}",
         .expected = {.kind = REPLY_OTHER}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct reply r;
        const struct reply *e = &cases[i].expected;
        size_t len = strlen(cases[i].line);
        for (size_t cut = 0; cut < len; cut++)
            if (read_guarded(&r, cases[i].line, cut) != -1)
                fail_msg("%s: taken with %zu bytes", cases[i].line, cut);
        if (read_guarded(&r, cases[i].line, len) != 0 || r.kind != e->kind || r.id != e->id ||
            (e->kind == REPLY_RESULT && r.method != e->method) || r.code != e->code ||
            r.pong != e->pong || r.positioned != e->positioned || r.offset != e->offset ||
            !slice_is((struct json_slice){r.channel, r.channel_len}, cases[i].channel) ||
            !slice_is(r.data, cases[i].data) || !slice_is(r.message, cases[i].message))
            fail_msg("%s is not what it should be", cases[i].line);
    }
}

static void test_no_replies(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "",
        "[]",
        "null",
        "{\"x\":1}",
        "{\"id\":1}", /* a success without its object */
        "{\"id\":0,\"publish\":{}}",
        "{\"id\":-1,\"publish\":{}}",
        "{\"id\":4294967296,\"publish\":{}}",
        "{\"id\":\"1\",\"publish\":{}}",
        "{\"id\":1,\"publish\":null}",
        "{\"id\":1,\"publish\":[]}",
        "{\"id\":1,\"connect\":{}}",
        "{\"id\":1,\"connect\":{\"client\":\"a\",\"pong\":1}}",
        "{\"id\":1,\"subscribe\":{\"offset\":-1}}",
        "{\"id\":1,\"subscribe\":{\"positioned\":0}}",
        "{\"id\":1,\"error\":null}",
        "{\"id\":1,\"error\":{\"code\":100}}",
        "{\"id\":1,\"error\":{\"code\":100,\"message\":\"\"}}",
        "{\"id\":1,\"error\":{\"message\":\"a\"}}",
        "{\"push\":[]}",
        "{\"push\":{\"pub\":{\"data\":1}}}",
        "{\"push\":{\"channel\":\"\",\"pub\":{\"data\":1}}}",
        "{\"push\":{\"channel\":\"a\",\"pub\":{}}}",
        "{\"push\":{\"channel\":\"a\",\"pub\":{\"data\":1,\"offset\":1.5}}}",
        "{\"push\":{\"channel\":\"a\",\"unsubscribe\":{\"code\":2500}}}",
        "{\"push\":{\"disconnect\":{\"reason\":\"a\"}}}",
    };
    struct reply r;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        if (read_guarded(&r, lines[i], strlen(lines[i])) != -1) fail_msg("%s is taken", lines[i]);
}

/* A name of 255 bytes is one, a longer one is not. */
static void test_longest_channel(void **state)
{
    (void)state;
    char line[512];
    struct reply r;
    for (int len = REPLY_CHANNEL_MAX; len <= REPLY_CHANNEL_MAX + 1; len++) {
        int n = snprintf(line, sizeof line,
                         "{\"push\":{\"channel\":\"%0*d\",\"pub\":{\"data\":1}}}", len, 0);
        assert_int_equal(read_guarded(&r, line, (size_t)n), len <= REPLY_CHANNEL_MAX ? 0 : -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_known_quantiles),
        cmocka_unit_test(test_few_values),
        cmocka_unit_test(test_due),
        cmocka_unit_test(test_a_stall_is_not_left_out),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_order_adds_up),
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_no_replies),
        cmocka_unit_test(test_longest_channel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
