/* trace/otlp.c and trace/elastic.c: what is written is read again by json.c, field by field, and
 * whatever a channel is called, it is JSON. */
#include "../trace/elastic.h"
#include "../trace/otlp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct trace_resource resource = {
    .version = "1.2.3", .instance = "node \"7\"", .host = "host", .sample = 0.01};

#define START 1700000000123456789

static struct trace_span spans[] = {
    {.kind = TRACE_CONNECTION,
     .trace_id = {0x0af7651916cd43dd, 0x8448eb211c80319c},
     .id = 0xb7ad6b7169203331,
     .parent = 1,
     .start_ns = START,
     .end_ns = START + 1234567,
     .conn = (3ull << 32) + 42,
     .since_accept_ms = 16,
     .result = 503,
     .name_len = 9,
     .name = "/raw/chat"},
    {.kind = TRACE_MESSAGE,
     .trace_id = {0, 5},
     .id = 6,
     .start_ns = START,
     .end_ns = START,
     .via = "api",
     .conn = TRACE_NO_CONN,
     .bytes = UINT64_MAX,
     .children = 2,
     .name_len = 4,
     .name = "ne\"s"},
    {.kind = TRACE_PUBLISH,
     .trace_id = {0, 5},
     .id = 7,
     .parent = 6,
     .start_ns = START,
     .end_ns = START + 60000000000,
     .conn = TRACE_NO_CONN,
     .bytes = 10,
     .name_len = 4,
     .name = "ne\"s"},
};
#define COUNT (sizeof spans / sizeof *spans)

static char text[1 << 16];
static struct json_out out;

static void begin(void)
{
    out = (struct json_out){.p = text, .cap = sizeof text};
}

/* is compares a whole piece of text: the order of members is ours to choose. */
static void is(const char *at, size_t len, const char *wanted)
{
    if (len != strlen(wanted) || memcmp(at, wanted, len) != 0)
        fail_msg("%.*s\nis not\n%s", (int)len, at, wanted);
}

static void contains(const char *wanted)
{
    text[out.len] = 0;
    if (!strstr(text, wanted)) fail_msg("no %s in\n%s", wanted, text);
}

static void test_otlp(void **state)
{
    (void)state;
    begin();
    trace_otlp_write(&out, &resource, spans, COUNT);
    assert_false(out.full);
    assert_true(json_check(text, out.len, 0, NULL, NULL));
    assert_true(out.len <= TRACE_OTLP_MAX(COUNT));
    contains("{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\","
             "\"value\":{\"stringValue\":\"roost\"}},");
    contains("{\"key\":\"service.instance.id\",\"value\":{\"stringValue\":\"node \\\"7\\\"\"}}");
    contains("]},\"scopeSpans\":[{\"scope\":{\"name\":\"roost\",\"version\":\"1.2.3\"},"
             "\"spans\":[{\"traceId\":\"0af7651916cd43dd8448eb211c80319c\","
             "\"spanId\":\"b7ad6b7169203331\",\"parentSpanId\":\"0000000000000001\","
             "\"name\":\"Connection\",\"kind\":2,\"startTimeUnixNano\":\"1700000000123456789\","
             "\"endTimeUnixNano\":\"1700000000124691356\",\"attributes\":[");
    contains("{\"key\":\"http.response.status_code\",\"value\":{\"intValue\":\"503\"}}");
    contains("{\"key\":\"roost.worker\",\"value\":{\"intValue\":\"3\"}},"
             "{\"key\":\"roost.conn\",\"value\":{\"intValue\":\"42\"}}],\"status\":{\"code\":2}}");
    contains("{\"traceId\":\"00000000000000000000000000000005\",\"spanId\":\"0000000000000006\","
             "\"name\":\"Message\",\"kind\":5,");
    contains("{\"key\":\"messaging.message.body.size\",\"value\":{\"intValue\":"
             "\"18446744073709551615\"}}");
    contains("{\"key\":\"messaging.destination.name\",\"value\":{\"stringValue\":\"ne\\\"s\"}}");
    contains("\"parentSpanId\":\"0000000000000006\",\"name\":\"PUBLISH\",\"kind\":4,");
}

static void test_elastic(void **state)
{
    (void)state;
    begin();
    trace_elastic_write(&out, &resource, spans, COUNT);
    assert_false(out.full);
    assert_true(out.len <= TRACE_ELASTIC_MAX(COUNT));
    static const char *const wanted[] = {
        "{\"metadata\":{\"service\":{\"name\":\"roost\",\"version\":\"1.2.3\",\"language\":{"
        "\"name\":"
        "\"C\"},\"node\":{\"configured_name\":\"node \\\"7\\\"\"},\"agent\":{\"name\":\"roost\","
        "\"version\":\"1.2.3\"}},\"system\":{\"detected_hostname\":\"host\"}}}",
        "{\"transaction\":{\"id\":\"b7ad6b7169203331\",\"trace_id\":"
        "\"0af7651916cd43dd8448eb211c80319c\",\"parent_id\":\"0000000000000001\",\"name\":"
        "\"Connection\",\"duration\":1.234,\"timestamp\":1700000000123456,\"outcome\":\"failure\","
        "\"type\":\"Connection\",\"result\":\"503\",\"sampled\":true,\"span_count\":{\"started\":0}"
        ","
        "\"context\":{\"request\":{\"method\":\"GET\",\"url\":{\"pathname\":\"/raw/chat\"}},"
        "\"response\":{\"status_code\":503},\"tags\":{\"since_accept_ms\":16,\"worker\":3,\"conn\":"
        "42}}}}",
        "{\"transaction\":{\"id\":\"0000000000000006\",\"trace_id\":"
        "\"00000000000000000000000000000005\",\"name\":\"Message\",\"duration\":0.000,"
        "\"timestamp\":"
        "1700000000123456,\"outcome\":\"success\",\"type\":\"Message\",\"result\":\"ok\","
        "\"sampled\":"
        "true,\"span_count\":{\"started\":2},\"sample_rate\":0.01,\"context\":{\"message\":{"
        "\"queue\":"
        "{\"name\":\"ne\\\"s\"}},\"tags\":{\"bytes\":18446744073709551615,\"protocol\":\"api\"}}}}",
        "{\"span\":{\"id\":\"0000000000000007\",\"trace_id\":\"00000000000000000000000000000005\","
        "\"parent_id\":\"0000000000000006\",\"name\":\"PUBLISH\",\"duration\":60000.000,"
        "\"timestamp\":1700000000123456,\"outcome\":\"success\",\"transaction_id\":"
        "\"0000000000000006\",\"type\":\"messaging\",\"subtype\":\"roost\",\"action\":\"send\","
        "\"context\":{\"message\":{\"queue\":{\"name\":\"ne\\\"s\"}},\"tags\":{\"bytes\":10}}}}",
    };
    const char *at = text;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        const char *end = memchr(at, '\n', out.len - (size_t)(at - text));
        assert_non_null(end);
        assert_true(json_check(at, (size_t)(end - at), 0, NULL, NULL));
        is(at, (size_t)(end - at), wanted[i]);
        at = end + 1;
    }
    assert_true(at == text + out.len);
}

typedef void writer(struct json_out *o, const struct trace_resource *r,
                    const struct trace_span *spans, size_t count);

static struct trace_span longest(enum trace_kind kind)
{
    struct trace_span s = {.kind = (uint8_t)kind,
                           .trace_id = {UINT64_MAX, UINT64_MAX},
                           .id = UINT64_MAX,
                           .parent = UINT64_MAX,
                           .end_ns = INT64_MAX,
                           .via = "client",
                           .conn = UINT64_MAX - 1,
                           .bytes = UINT64_MAX,
                           .since_accept_ms = UINT32_MAX,
                           .children = UINT32_MAX,
                           .result = UINT16_MAX,
                           .name_len = TRACE_NAME_MAX};
    memset(s.name, 1, sizeof s.name); /* six characters each */
    return s;
}

static size_t length_of(writer *write, const struct trace_resource *r, const struct trace_span *s,
                        size_t count)
{
    begin();
    write(&out, r, s, count);
    assert_false(out.full);
    return out.len;
}

struct format {
    writer *write;
    size_t none, span; /* room for all but the spans, for one span */
};

static void check_room(const struct format *f, const struct trace_resource *r,
                       const struct trace_span *s)
{
    const struct trace_span two[] = {*s, *s};
    const size_t rest = length_of(f->write, r, NULL, 0), one = length_of(f->write, r, two, 1);
    assert_in_range(rest, 1, f->none);
    assert_in_range(one - rest, 6 * TRACE_NAME_MAX, f->span);
    assert_in_range(length_of(f->write, r, two, 2) - one, 6 * TRACE_NAME_MAX, f->span);
}

/* The longest names and numbers fit into the room that is said to be enough: so much for each span,
 * with what separates two, and so much for the rest. */
static void test_room(void **state)
{
    (void)state;
    static const struct format formats[] = {
        {trace_otlp_write, TRACE_OTLP_MAX(0), TRACE_OTLP_MAX(1) - TRACE_OTLP_MAX(0)},
        {trace_elastic_write, TRACE_ELASTIC_MAX(0), TRACE_ELASTIC_MAX(1) - TRACE_ELASTIC_MAX(0)}};
    char name[256] = {0};
    memset(name, 1, sizeof name - 1);
    const struct trace_resource r = {
        .version = "10.20.30-rc.40", .instance = name, .host = name, .sample = 0.00012345};
    for (int kind = TRACE_CONNECTION; kind <= TRACE_PUBLISH; kind++) {
        struct trace_span s = longest(kind);
        for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
            s.parent = UINT64_MAX;
            check_room(&formats[i], &r, &s);
            s.parent = 0;
            check_room(&formats[i], &r, &s);
        }
    }
}

/* With less room full is set and nothing is written beyond. */
static void test_too_little_room(void **state)
{
    (void)state;
    static writer *const writers[] = {trace_otlp_write, trace_elastic_write};
    for (int kind = TRACE_CONNECTION; kind <= TRACE_PUBLISH; kind++) {
        const struct trace_span s = longest(kind);
        for (size_t i = 0; i < sizeof writers / sizeof *writers; i++) {
            const size_t whole = length_of(writers[i], &resource, &s, 1);
            for (size_t cap = 0; cap < whole + 20; cap += 7) {
                out = (struct json_out){.p = text, .cap = cap};
                memset(text, 'x', sizeof text);
                writers[i](&out, &resource, &s, 1);
                assert_true(out.len <= cap && text[cap] == 'x');
                assert_int_equal(out.full, cap < whole);
            }
        }
    }
}

static void test_rejected(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        uint64_t rejected;
    } rows[] = {
        {"", 0},
        {"{}", 0},
        {"{\"partialSuccess\":{}}", 0},
        {"{\"partialSuccess\":null}", 0},
        {"{\"partialSuccess\":{\"rejectedSpans\":\"5\"}}", 5},
        {"{\"partialSuccess\":{\"rejectedSpans\":7,\"errorMessage\":\"x\"}}", 7},
        {"{\"partialSuccess\":{\"rejectedSpans\":\"-5\"}}", 0},
        {"{\"partialSuccess\":{\"rejectedSpans\":\"99999999999999999999999\"}}", 0},
        {"{\"partialSuccess\":{\"rejectedSpans\":[5]}}", 0},
        {"[1]", 0},
        {"\x80", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_true(trace_otlp_rejected(rows[i].body, strlen(rows[i].body)) == rows[i].rejected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_otlp),     cmocka_unit_test(test_elastic),
        cmocka_unit_test(test_room),     cmocka_unit_test(test_too_little_room),
        cmocka_unit_test(test_rejected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
