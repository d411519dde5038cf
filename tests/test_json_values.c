/* Tests of json_number.c and json_write.c: numbers in every spelling, and texts that are written
 * and read again. */
#include "../json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "guard.h"

#define CAP 64
static jsmntok_t tokens[CAP];

#define TEXT(s) s, sizeof(s) - 1

struct text {
    const char *p;
    size_t len;
};

static void parse(struct json *doc, const char *text, int open)
{
    if (json_parse(doc, text, strlen(text), tokens, CAP, open, 0) != 0) fail_msg("%s", doc->why);
}

/* ---- numbers ---- */

static const struct {
    const char *text;
    int64_t floor;
    bool exact, is_u64;
    uint64_t u64;
} numbers[] = {
    {"0", 0, true, true, 0},
    {"-0", 0, true, true, 0},
    {"-0.0e5", 0, true, true, 0},
    {"1", 1, true, true, 1},
    {"-1", -1, true, false, 0},
    {"1.0", 1, true, true, 1},
    {"1e3", 1000, true, true, 1000},
    {"1E+3", 1000, true, true, 1000},
    {"1.25e2", 125, true, true, 125},
    {"1.25e1", 12, false, false, 0},
    {"1500e-2", 15, true, true, 15},
    {"15e-1", 1, false, false, 0},
    {"-15e-1", -2, false, false, 0},
    {"0.5", 0, false, false, 0},
    {"-0.5", -1, false, false, 0},
    {"-0.000000000000000000000000000000001", -1, false, false, 0},
    {"0.1e1", 1, true, true, 1},
    {"0.001e3", 1, true, true, 1},
    {"0.0011e3", 1, false, false, 0},
    {"9007199254740993", 9007199254740993, true, true, 9007199254740993},
    {"9223372036854775807", INT64_MAX, true, true, INT64_MAX},
    {"9223372036854775808", INT64_MAX, false, true, UINT64_C(9223372036854775808)},
    {"9223372036854775807.5", INT64_MAX, false, false, 0},
    {"-9223372036854775808", INT64_MIN, true, false, 0},
    {"-9223372036854775808.1", INT64_MIN, false, false, 0},
    {"-9223372036854775807.5", INT64_MIN, false, false, 0},
    {"-9223372036854775809", INT64_MIN, false, false, 0},
    {"18446744073709551615", INT64_MAX, false, true, UINT64_MAX},
    {"18446744073709551616", INT64_MAX, false, false, 0},
    {"-18446744073709551616", INT64_MIN, false, false, 0},
    {"1844674407370955161500e-2", INT64_MAX, false, true, UINT64_MAX},
    {"1e19", INT64_MAX, false, true, UINT64_C(10000000000000000000)},
    {"1e20", INT64_MAX, false, false, 0},
    {"1e300", INT64_MAX, false, false, 0},
    {"-1e300", INT64_MIN, false, false, 0},
    {"1e99999999999999999999999999", INT64_MAX, false, false, 0},
    {"-1e99999999999999999999999999", INT64_MIN, false, false, 0},
    {"1e-99999999999999999999999999", 0, false, false, 0},
    {"-1e-99999999999999999999999999", -1, false, false, 0},
    {"0e99999999999999999999999999", 0, true, true, 0},
    {"100000000000000000000000000000000000000000e-40", 10, true, true, 10},
};

static void test_numbers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        size_t len = strlen(numbers[i].text);
        char *text = guard_copy(numbers[i].text, len);
        struct json doc;
        int64_t floor = 42, n = 42;
        uint64_t u = 42;
        bool exact = false;
        assert_int_equal(json_parse(&doc, text, len, tokens, CAP, 1, 0), 0);
        assert_true(json_floor(&doc, 0, &floor, &exact));
        if (floor != numbers[i].floor || exact != numbers[i].exact)
            fail_msg("%s: floor %ld exact %d", numbers[i].text, (long)floor, exact);
        assert_int_equal(json_int64(&doc, 0, &n), exact);
        assert_int_equal(n, exact ? floor : 42);
        if (json_uint64(&doc, 0, &u) != numbers[i].is_u64) fail_msg("%s", numbers[i].text);
        if (numbers[i].is_u64) assert_true(u == numbers[i].u64);
        guard_free(text, len);
    }
}

static void test_double(void **state)
{
    (void)state;
    struct json doc;
    double d = 42;
    parse(&doc, "[1.5,-2e-2,1e308,1e309,-1e309,\"1\",0]", 1);
    int v = json_first(&doc, 0);
    assert_true(json_double(&doc, v, &d) && d == 1.5);
    v = json_next(&doc, 0, v);
    assert_true(json_double(&doc, v, &d) && d == -0.02);
    v = json_next(&doc, 0, v);
    assert_true(json_double(&doc, v, &d) && d == 1e308);
    for (int i = 0; i < 3; i++) {
        v = json_next(&doc, 0, v);
        assert_false(json_double(&doc, v, &d));
    }
    assert_true(d == 1e308);
    char digits[129];
    memset(digits, '1', sizeof digits);
    assert_int_equal(json_parse(&doc, digits, 129, tokens, CAP, 1, 0), 0);
    assert_false(json_double(&doc, 0, &d));
    assert_int_equal(json_parse(&doc, digits, 128, tokens, CAP, 1, 0), 0);
    assert_true(json_double(&doc, 0, &d));
}

/* ---- writing ---- */

static void test_escape(void **state)
{
    (void)state;
    static const struct {
        struct text from;
        const char *to;
    } rows[] = {
        {{TEXT("")}, ""},
        {{TEXT("abc")}, "abc"},
        {{TEXT("a\"b\\c/")}, "a\\\"b\\\\c/"},
        {{TEXT("\b\f\n\r\t")}, "\\b\\f\\n\\r\\t"},
        {{TEXT("\0\x01\x1f\x7f")}, "\\u0000\\u0001\\u001f\x7f"},
        {{TEXT("\xc3\xa9\xf0\x9f\x98\x80")}, "\xc3\xa9\xf0\x9f\x98\x80"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t len = strlen(rows[i].to);
        char *in = guard_copy(rows[i].from.p, rows[i].from.len);
        for (size_t cap = 0; cap <= len; cap++) {
            char *out = guard_copy(NULL, cap);
            int64_t n = json_escape(out, cap, in, rows[i].from.len);
            assert_int_equal(n, cap == len ? (int64_t)len : -1);
            if (cap == len) assert_memory_equal(out, rows[i].to, len);
            guard_free(out, cap);
        }
        guard_free(in, rows[i].from.len);
    }
}

/* Whatever bytes are written as a string come back, when they are text. */
static void test_escape_round_trip(void **state)
{
    (void)state;
    char bytes[0x80 + 2], out[6 * sizeof bytes + 2], back[sizeof bytes];
    for (unsigned i = 0; i < 0x80; i++) bytes[i] = (char)i;
    memcpy(bytes + 0x80, "\xc3\xa9", 2);
    struct json_out o = {.p = out, .cap = sizeof out};
    json_put_string(&o, bytes, sizeof bytes);
    assert_false(o.full);
    struct json doc;
    assert_int_equal(json_parse(&doc, out, o.len, tokens, CAP, 1, 0), 0);
    assert_int_equal(json_string(&doc, 0, back, sizeof back), sizeof bytes);
    assert_memory_equal(back, bytes, sizeof bytes);
}

static void test_out(void **state)
{
    (void)state;
    const char *want =
        "{\"id\":18446744073709551615,\"n\":-9223372036854775808,\"s\":\"a\\\"b\",\"z\":0}";
    for (size_t cap = 0; cap <= strlen(want); cap++) {
        char *p = guard_copy(NULL, cap);
        struct json_out o = {.p = p, .cap = cap};
        json_puts(&o, "{\"id\":");
        json_put_uint(&o, UINT64_MAX);
        json_puts(&o, ",\"n\":");
        json_put_int(&o, INT64_MIN);
        json_puts(&o, ",\"s\":");
        json_put_string(&o, "a\"b", 3);
        json_puts(&o, ",\"z\":");
        json_put_int(&o, 0);
        json_puts(&o, "}");
        assert_int_equal(o.full, cap < strlen(want));
        assert_true(o.len <= cap);
        if (!o.full) assert_memory_equal(p, want, cap);
        guard_free(p, cap);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers), cmocka_unit_test(test_double),
        cmocka_unit_test(test_escape),  cmocka_unit_test(test_escape_round_trip),
        cmocka_unit_test(test_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
