/* Tests of json.c: RFC 8259, and the lines that jsmn alone lets through (style.md
 * section 12). Every text ends at an unreadable page. */
#include "../json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "guard.h"

#define CAP 65536
static jsmntok_t tokens[CAP], more_tokens[64];

#define TEXT(s) s, sizeof(s) - 1

struct text {
    const char *p;
    size_t len;
};

/* ---- grammar ---- */

static const struct text good[] = {
    {TEXT("0")},
    {TEXT("-0")},
    {TEXT("123")},
    {TEXT(" 1.5e+10 ")},
    {TEXT("-0.0E-0")},
    {TEXT("true")},
    {TEXT("false\n")},
    {TEXT("\t null\r")},
    {TEXT("\"\"")},
    {TEXT("\"a\"")},
    {TEXT("{}")},
    {TEXT("[]")},
    {TEXT(" [ ] ")},
    {TEXT("{ }")},
    {TEXT("[[],{},[{}]]")},
    {TEXT("{\"a\":1,\"b\":[1,2,{\"c\":null}],\"d\":{\"e\":\"f\"}}")},
    {TEXT("{\"\":0}")},
    {TEXT("{\"a\":1,\"a\":2}")}, /* duplicates are json_unique's matter */
    {TEXT("[1 , 2\t,\n3\r]")},
    {TEXT("[true,false,null,-1,0.1]")},
    {TEXT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\uFFFF\"")},
    {TEXT("\"\\ud83d\\ude00\"")}, /* surrogate pair */
    {TEXT("\"\\u0000\"")},
    {TEXT("\"\x7f\"")}, /* DEL is no control character to RFC 8259 */
    {TEXT("\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\"")},
    {TEXT("\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"")},
    {TEXT("[\"]\",\"}\",\"[\",\"{\",\",\",\":\"]")},
};

static const struct {
    struct text text;
    size_t at; /* byte offset of the complaint */
    const char *why;
} bad[] = {
    {{TEXT("")}, 0, "text ends too early"},
    {{TEXT("  ")}, 2, "text ends too early"},
    /* what jsmn lets through */
    {{TEXT("{\"a\":1,}")}, 7, "a name in quotes was expected"},
    {{TEXT("{\"a\":tru}")}, 5, "neither true, false nor null"},
    {{TEXT("{\"k\":::\"v\"}")}, 5, "a value was expected"},
    {{TEXT("{\"a\" 1}")}, 5, "a colon was expected"},
    {{TEXT("{\"a\"}")}, 4, "a colon was expected"},
    {{TEXT("{\"a\",\"b\"}")}, 4, "a colon was expected"},
    {{TEXT("{\"a\":\"b\":\"c\"}")}, 8, "a comma or } was expected"},
    {{TEXT("{\"a\":1 \"b\":2}")}, 7, "a comma or } was expected"},
    {{TEXT("[1 2]")}, 3, "a comma or ] was expected"},
    {{TEXT("[1,]")}, 3, "a value was expected"},
    {{TEXT("[,1]")}, 1, "a value was expected"},
    {{TEXT("[1,,2]")}, 3, "a value was expected"},
    {{TEXT("[1:2]")}, 2, "a comma or ] was expected"},
    {{TEXT("{1:2}")}, 1, "a name in quotes was expected"},
    {{TEXT("{a:2}")}, 1, "a name in quotes was expected"},
    {{TEXT("{[]:2}")}, 1, "a name in quotes was expected"},
    {{TEXT("{,}")}, 1, "a name in quotes was expected"},
    {{TEXT("{\"a\":}")}, 5, "a value was expected"},
    {{TEXT("{\"a\":,\"b\":1}")}, 5, "a value was expected"},
    {{TEXT("[truex]")}, 5, "a comma or ] was expected"},
    {{TEXT("[tRue]")}, 1, "neither true, false nor null"},
    {{TEXT("[nul]")}, 1, "neither true, false nor null"},
    {{TEXT("nul")}, 0, "neither true, false nor null"},
    {{TEXT("{}{}")}, 2, "something follows the value"},
    {{TEXT("{} x")}, 3, "something follows the value"},
    {{TEXT("1 2")}, 2, "something follows the value"},
    {{TEXT("\"a\"\"b\"")}, 3, "something follows the value"},
    {{TEXT("null\0")}, 4, "something follows the value"},
    {{TEXT("{}\0{")}, 2, "something follows the value"},
    {{TEXT("[1]]")}, 3, "something follows the value"},
    {{TEXT("]")}, 0, "a value was expected"},
    {{TEXT("[}")}, 1, "a value was expected"},
    {{TEXT("{]")}, 1, "a name in quotes was expected"},
    {{TEXT("[{]}")}, 2, "a name in quotes was expected"},
    {{TEXT("[1}")}, 2, "a comma or ] was expected"},
    {{TEXT("{\"a\":1]")}, 6, "a comma or } was expected"},
    {{TEXT("'a'")}, 0, "a value was expected"},
    {{TEXT("[1] // no")}, 4, "something follows the value"},
    {{TEXT("/**/1")}, 0, "a value was expected"},
    {{TEXT("\xef\xbb\xbf{}")}, 0, "a value was expected"}, /* byte order mark */
    {{TEXT("\v1")}, 0, "a value was expected"},
    {{TEXT("NaN")}, 0, "a value was expected"},
    {{TEXT("Infinity")}, 0, "a value was expected"},
    /* numbers, section 6 */
    {{TEXT("-")}, 1, "a digit was expected"},
    {{TEXT("[-]")}, 2, "a digit was expected"},
    {{TEXT("+1")}, 0, "a value was expected"},
    {{TEXT(".5")}, 0, "a value was expected"},
    {{TEXT("[1.]")}, 3, "a digit was expected"},
    {{TEXT("01")}, 2, "number with a leading zero"},
    {{TEXT("-012")}, 4, "number with a leading zero"},
    {{TEXT("1e")}, 2, "a digit was expected"},
    {{TEXT("1e+")}, 3, "a digit was expected"},
    {{TEXT("1.5.2")}, 3, "something follows the value"},
    {{TEXT("0x10")}, 1, "something follows the value"},
    {{TEXT("1e1.5")}, 3, "something follows the value"},
    {{TEXT("[1-2]")}, 2, "a comma or ] was expected"},
    /* strings, section 7 */
    {{TEXT("\"a")}, 2, "string without an end"},
    {{TEXT("\"a\\\"")}, 4, "string without an end"},
    {{TEXT("\"\\")}, 1, "bad escape in a string"},
    {{TEXT("\"\\x41\"")}, 1, "bad escape in a string"},
    {{TEXT("\"\\'\"")}, 1, "bad escape in a string"},
    {{TEXT("\"\\u12\"")}, 1, "bad escape in a string"},
    {{TEXT("\"\\u12g4\"")}, 1, "bad escape in a string"},
    {{TEXT("\"\\U0041\"")}, 1, "bad escape in a string"},
    {{TEXT("\"\\u+123\"")}, 1, "bad escape in a string"},
    {{TEXT("\"\n\"")}, 1, "control character in a string"},
    {{TEXT("\"a\tb\"")}, 2, "control character in a string"},
    {{TEXT("\"abcdefgh\x1f\"")}, 9, "control character in a string"},
    {{TEXT("\"\0\"")}, 1, "control character in a string"},
    {{TEXT("{\"a\0b\":1}")}, 3, "control character in a string"},
    {{TEXT("\"\\ud800\"")}, 1, "half of a surrogate pair in a string"},
    {{TEXT("\"\\udc00\"")}, 1, "half of a surrogate pair in a string"},
    {{TEXT("\"\\udc00\\ud800\"")}, 1, "half of a surrogate pair in a string"},
    {{TEXT("\"\\ud800\\u0041\"")}, 1, "half of a surrogate pair in a string"},
    {{TEXT("\"\\ud800\\ud800\"")}, 1, "half of a surrogate pair in a string"},
    {{TEXT("\"\\ud800x\\udc00\"")}, 1, "half of a surrogate pair in a string"},
    /* UTF-8, RFC 3629 */
    {{TEXT("\"\x80\"")}, 1, "string is not UTF-8"},
    {{TEXT("\"\xc0\x80\"")}, 1, "string is not UTF-8"},
    {{TEXT("\"\xc1\xbf\"")}, 1, "string is not UTF-8"},
    {{TEXT("\"\xc3\"")}, 1, "string is not UTF-8"},
    {{TEXT("\"\xe0\x9f\xbf\"")}, 1, "string is not UTF-8"},
    {{TEXT("\"\xed\xa0\x80\"")}, 1, "string is not UTF-8"},
    {{TEXT("\"\xed\xbf\xbf\"")}, 1, "string is not UTF-8"},
    {{TEXT("\"\xf0\x8f\xbf\xbf\"")}, 1, "string is not UTF-8"},
    {{TEXT("\"\xf4\x90\x80\x80\"")}, 1, "string is not UTF-8"},
    {{TEXT("\"\xf5\x80\x80\x80\"")}, 1, "string is not UTF-8"},
    {{TEXT("\"\xff\"")}, 1, "string is not UTF-8"},
    {{TEXT("\"abcdefgh\xe2\x82\"")}, 9, "string is not UTF-8"},
    {{TEXT("{\"\xff\":1}")}, 2, "string is not UTF-8"},
    {{TEXT("[\xc3\xa9]")}, 1, "a value was expected"},
};

static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char *text = guard_copy(good[i].p, good[i].len);
        for (int open = 0; open <= 3; open++) {
            struct json doc;
            if (json_parse(&doc, text, good[i].len, tokens, CAP, open, 0) != 0)
                fail_msg("%s: %s at %zu", good[i].p, doc.why, doc.at);
            assert_null(doc.why);
            assert_true(doc.count >= 1);
        }
        assert_true(json_check(text, good[i].len, 0, NULL, NULL));
        guard_free(text, good[i].len);
    }
}

static void refused(const char *bytes, size_t len, size_t at, const char *why)
{
    char *text = guard_copy(bytes, len);
    const char *check_why;
    size_t check_at;
    assert_false(json_check(text, len, 0, &check_why, &check_at));
    for (int open = 0; open <= 3; open++) {
        struct json doc;
        assert_int_equal(json_parse(&doc, text, len, tokens, CAP, open, 0), -1);
        assert_string_equal(doc.why, check_why);
        assert_int_equal(doc.at, check_at);
        assert_int_equal(doc.count, 0);
    }
    if (why && (strcmp(why, check_why) != 0 || at != check_at))
        fail_msg("%s: says %s at %zu", bytes, check_why, check_at);
    guard_free(text, len);
}

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(bad[i].text.p, bad[i].text.len, bad[i].at, bad[i].why);
}

/* No beginning of an array, object or string is a whole one. */
static void test_every_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        size_t len = good[i].len;
        char last = good[i].p[len - 1];
        if (last != '}' && last != ']' && last != '"') continue;
        for (size_t cut = 0; cut < len; cut++) refused(good[i].p, cut, 0, NULL);
    }
}

/* Any one byte of a text changed to any other: the two ways to check agree, and with jsmn. */
static void test_every_byte(void **state)
{
    (void)state;
    char text[] =
        "{\"a\\u00e9\":[1,-2.5e3,true],\"\xc3\xa9\":{\"x\":null},\"s\":\"\\ud83d\\ude00\"}";
    size_t len = sizeof text - 1;
    for (size_t i = 0; i < len; i++) {
        char kept = text[i];
        for (int b = 0; b < 256; b++) {
            text[i] = (char)b;
            bool ok = json_check(text, len, 0, NULL, NULL);
            for (int open = 0; open <= 2; open++) {
                struct json doc;
                assert_int_equal(json_parse(&doc, text, len, tokens, CAP, open, 0), ok ? 0 : -1);
                if (!ok) assert_string_not_equal(doc.why, "jsmn disagrees");
            }
        }
        text[i] = kept;
    }
}

static void test_caps(void **state)
{
    (void)state;
    struct json doc;
    char deep[2 * 66 + 1] = "";
    for (int depth = 64; depth <= 66; depth++) {
        memset(deep, '[', (size_t)depth);
        memset(deep + depth, ']', (size_t)depth);
        int r = json_parse(&doc, deep, 2 * (size_t)depth, tokens, CAP, JSON_OPEN_ALL, 0);
        assert_int_equal(r, depth > JSON_DEPTH_MAX ? -1 : 0);
        assert_int_equal(json_check(deep, 2 * (size_t)depth, 0, NULL, NULL),
                         depth <= JSON_DEPTH_MAX);
        /* what is not opened is no deeper allowed */
        assert_int_equal(json_parse(&doc, deep, 2 * (size_t)depth, tokens, CAP, 1, 0), r);
        if (r) assert_string_equal(doc.why, "nested too deep");
        if (r) assert_int_equal(doc.at, 64);
    }
    const char *five = "{\"a\":[1,2]}";
    assert_int_equal(json_parse(&doc, five, strlen(five), tokens, 5, JSON_OPEN_ALL, 0), 0);
    assert_int_equal(doc.count, 5);
    for (uint32_t cap = 0; cap < 5; cap++) {
        assert_int_equal(json_parse(&doc, five, strlen(five), tokens, cap, JSON_OPEN_ALL, 0), -1);
        assert_string_equal(doc.why, "too many values");
    }
    assert_int_equal(json_parse(&doc, five, strlen(five), tokens, 3, 1, 0), 0);
    assert_int_equal(json_parse(&doc, NULL, 0, tokens, 3, 1, 0), -1);
    assert_int_equal(json_parse(&doc, "{}", (size_t)INT32_MAX + 1, tokens, 3, 1, 0), -1);
}

/* ---- walking ---- */

static void parse(struct json *doc, const char *text, int open)
{
    if (json_parse(doc, text, strlen(text), tokens, CAP, open, 0) != 0) fail_msg("%s", doc->why);
}

static void raw_is(const struct json *doc, int v, const char *want)
{
    struct json_slice raw = json_raw(doc, v);
    assert_int_equal(raw.len, strlen(want));
    assert_memory_equal(raw.p, want, raw.len);
}

static void test_walk(void **state)
{
    (void)state;
    struct json doc;
    parse(&doc, " {\"a\" : [1,[2,3],{}], \"b\":{\"c\":[]}, \"d\":\"x\",\"e\":1e2 }", JSON_OPEN_ALL);
    static const char *names[] = {"a", "b", "d", "e"};
    static const char *values[] = {"[1,[2,3],{}]", "{\"c\":[]}", "\"x\"", "1e2"};
    static const enum json_type types[] = {JSON_ARRAY, JSON_OBJECT, JSON_STRING, JSON_NUMBER};
    int i = 0;
    for (int v = json_first(&doc, 0); v != JSON_NONE; v = json_next(&doc, 0, v), i++) {
        assert_true(json_is(&doc, json_name(&doc, v), names[i], 1));
        raw_is(&doc, v, values[i]);
        assert_int_equal(json_type(&doc, v), types[i]);
        assert_int_equal(json_member(&doc, 0, names[i]), v);
    }
    assert_int_equal(i, 4);
    assert_int_equal(json_size(&doc, 0), 4);

    int a = json_member(&doc, 0, "a");
    static const char *elements[] = {"1", "[2,3]", "{}"};
    i = 0;
    for (int v = json_first(&doc, a); v != JSON_NONE; v = json_next(&doc, a, v))
        raw_is(&doc, v, elements[i++]);
    assert_int_equal(i, 3);
    int c = json_member(&doc, json_member(&doc, 0, "b"), "c");
    raw_is(&doc, c, "[]");
    assert_int_equal(json_first(&doc, c), JSON_NONE);
    assert_int_equal(json_member(&doc, 0, "z"), JSON_NONE);
    assert_int_equal(json_member(&doc, a, "a"), JSON_NONE);
    assert_int_equal(json_first(&doc, json_member(&doc, 0, "d")), JSON_NONE);
}

static void test_none(void **state)
{
    (void)state;
    struct json doc, sub;
    bool b;
    int64_t i;
    uint64_t u;
    double d;
    struct json_slice s;
    parse(&doc, "{}", 1);
    int v = json_member(&doc, 0, "no");
    assert_int_equal(v, JSON_NONE);
    assert_int_equal(json_type(&doc, v), JSON_ABSENT);
    assert_null(json_raw(&doc, v).p);
    assert_int_equal(json_size(&doc, v), 0);
    assert_false(json_opened(&doc, v));
    assert_int_equal(json_first(&doc, v), JSON_NONE);
    assert_int_equal(json_next(&doc, 0, v), JSON_NONE);
    assert_int_equal(json_name(&doc, v), JSON_NONE);
    assert_int_equal(json_member(&doc, v, "x"), JSON_NONE);
    assert_false(json_is(&doc, v, "", 0));
    assert_false(json_bool(&doc, v, &b) || json_int64(&doc, v, &i) || json_uint64(&doc, v, &u));
    assert_false(json_double(&doc, v, &d) || json_floor(&doc, v, &i, NULL) ||
                 json_plain(&doc, v, &s));
    assert_int_equal(json_string(&doc, v, NULL, 0), -1);
    assert_true(json_unique(&doc, v));
    assert_int_equal(json_parse_value(&sub, &doc, v, more_tokens, 64, 1), -1);
}

/* A container deeper than asked is one token, whatever surrounds it, and can be opened later. */
static void test_unopened(void **state)
{
    (void)state;
    struct json doc, sub;
    parse(
        &doc,
        "{\"publish\":{\"channel\":\"c\",\"data\":{\"a\":[1,2],\"a\":{}}},\"id\":7,\"x\":[[],[]]}",
        2);
    int publish = json_member(&doc, 0, "publish");
    int data = json_member(&doc, publish, "data");
    assert_true(json_opened(&doc, publish));
    assert_false(json_opened(&doc, data));
    assert_int_equal(json_type(&doc, data), JSON_OBJECT);
    assert_int_equal(json_size(&doc, data), 0);
    raw_is(&doc, data, "{\"a\":[1,2],\"a\":{}}");
    raw_is(&doc, json_member(&doc, 0, "id"), "7");
    int x = json_member(&doc, 0, "x");
    assert_int_equal(json_size(&doc, x), 2);
    raw_is(&doc, json_next(&doc, x, json_first(&doc, x)), "[]");
    assert_true(json_unique(&doc, 0) && json_unique(&doc, publish));
    assert_int_equal(doc.count, 13);

    assert_int_equal(json_parse_value(&sub, &doc, data, more_tokens, 64, 1), 0);
    assert_int_equal(json_size(&sub, 0), 2);
    raw_is(&sub, json_member(&sub, 0, "a"), "[1,2]");
    assert_false(json_unique(&sub, 0));

    parse(&doc, " [1,{\"a\":2}] ", 0);
    assert_int_equal(doc.count, 1);
    raw_is(&doc, 0, "[1,{\"a\":2}]");
    parse(&doc, " 12 ", 0);
    raw_is(&doc, 0, "12");

    /* the same tokens come out of one text opened in one go or in two */
    const char *rows = "[{\"a\":1},{\"b\":[2]},{},[],{\"c\":{\"d\":\"e\"}},3]";
    parse(&doc, rows, 1);
    assert_int_equal(json_size(&doc, 0), 6);
    assert_int_equal(doc.count, 7);
    int n = 0;
    for (int v = json_first(&doc, 0); v != JSON_NONE; v = json_next(&doc, 0, v)) n++;
    assert_int_equal(n, 6);
}

/* ---- names ---- */

static const struct {
    const char *text;
    bool unique;
} names[] = {
    {"{}", true},
    {"{\"a\":1}", true},
    {"{\"a\":1,\"b\":1}", true},
    {"{\"a\":1,\"a\":1}", false},
    {"{\"a\":1,\"b\":1,\"a\":1}", false},
    {"{\"a\":1,\"\\u0061\":1}", false},
    {"{\"\\u0061lg\":1,\"al\\u0067\":1}", false},
    {"{\"\\u0061lg\":1,\"al\\u0068\":1}", true},
    {"{\"\xc3\xa9\":1,\"\\u00E9\":1}", false},
    {"{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":1}", false},
    {"{\"\\/\":1,\"/\":1}", false},
    {"{\"\\n\":1,\"\\u000a\":1}", false},
    {"{\"\":1,\"\":1}", false},
    {"{\"\":1,\"\\u0000\":1}", true},
    {"{\"a\":1,\"ab\":1,\"abc\":1,\"b\":1}", true},
    {"{\"a\":{\"b\":1,\"b\":1},\"b\":1}", true}, /* the inner one was not asked about */
    {"{\"A\":1,\"a\":1}", true},
    {"{\"z\":1,\"y\":1,\"x\":1,\"w\":1,\"v\":1,\"u\":1,\"t\":1,\"w\":1}", false},
};

static void test_unique(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct json doc;
        parse(&doc, names[i].text, JSON_OPEN_ALL);
        for (int again = 0; again < 2; again++) {
            if (json_unique(&doc, 0) != names[i].unique) fail_msg("%s", names[i].text);
            if (!names[i].unique) assert_string_equal(doc.why, "two members of the same name");
        }
    }
    struct json doc;
    parse(&doc, "{\"ab\":1,\"c\":2,\"a\\u0062\":3}", 1);
    assert_false(json_unique(&doc, 0));
    assert_int_equal(doc.at, 14);
    parse(&doc, "[1,1]", 1);
    assert_true(json_unique(&doc, 0));
}

static void test_member_decoded(void **state)
{
    (void)state;
    struct json doc;
    parse(&doc, "{\"al\\u0067\":1,\"\xc3\xa9\":2,\"a\\u0000\":3,\"\\ud83d\\ude00\":4}", 1);
    raw_is(&doc, json_member(&doc, 0, "alg"), "1");
    raw_is(&doc, json_member(&doc, 0, "\xc3\xa9"), "2");
    raw_is(&doc, json_member(&doc, 0, "\xf0\x9f\x98\x80"), "4");
    assert_int_equal(json_member(&doc, 0, "a"), JSON_NONE); /* a NUL in a name ends nothing */
    assert_int_equal(json_member(&doc, 0, "al\\u0067"), JSON_NONE);
    assert_int_equal(json_member(&doc, 0, "al"), JSON_NONE);
    assert_int_equal(json_member(&doc, 0, "algo"), JSON_NONE);
    assert_int_equal(json_member(&doc, 0, "al\xff"), JSON_NONE);
}

/* ---- types ---- */

static void test_types(void **state)
{
    (void)state;
    struct json doc;
    bool b = false;
    int64_t n;
    char out[8];
    parse(&doc, "[true,false,null,\"1\",1,[],{}]", JSON_OPEN_ALL);
    static const enum json_type types[] = {JSON_BOOL,   JSON_BOOL,  JSON_NULL,  JSON_STRING,
                                           JSON_NUMBER, JSON_ARRAY, JSON_OBJECT};
    int i = 0;
    for (int v = json_first(&doc, 0); v != JSON_NONE; v = json_next(&doc, 0, v), i++) {
        assert_int_equal(json_type(&doc, v), types[i]);
        assert_int_equal(json_bool(&doc, v, &b), i < 2);
        if (i < 2) assert_int_equal(b, i == 0);
        assert_int_equal(json_int64(&doc, v, &n), i == 4);
        assert_int_equal(json_string(&doc, v, out, sizeof out), i == 3 ? 1 : -1);
    }
}

/* ---- strings ---- */

static const struct {
    const char *raw;
    struct text decoded;
} strings[] = {
    {"\"\"", {TEXT("")}},
    {"\"abc\"", {TEXT("abc")}},
    {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", {TEXT("\"\\/\b\f\n\r\t")}},
    {"\"\\u0041\\u00e9\\u20AC\\uffff\"", {TEXT("A\xc3\xa9\xe2\x82\xac\xef\xbf\xbf")}},
    {"\"\\ud83d\\ude00\"", {TEXT("\xf0\x9f\x98\x80")}},
    {"\"\\uD800\\uDC00\\udbff\\udfff\"", {TEXT("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf")}},
    {"\"a\\u0000b\"", {TEXT("a\0b")}},
    {"\"\xe2\x82\xac\\u0020x\"", {TEXT("\xe2\x82\xac x")}},
    {"\"\\u007f\\u0080\\u07ff\\u0800\"", {TEXT("\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80")}},
};

static void test_strings(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        struct json doc;
        size_t len = strings[i].decoded.len;
        parse(&doc, strings[i].raw, 1);
        for (size_t cap = 0; cap <= len; cap++) {
            char *out = guard_copy(NULL, cap);
            int64_t n = json_string(&doc, 0, out, cap);
            assert_int_equal(n, cap == len ? (int64_t)len : -1);
            if (cap == len) assert_memory_equal(out, strings[i].decoded.p, len);
            guard_free(out, cap);
        }
        assert_true(json_is(&doc, 0, strings[i].decoded.p, len));
        assert_false(json_is(&doc, 0, "other", 5));
        assert_true(len == 0 || !json_is(&doc, 0, strings[i].decoded.p, len - 1));
        struct json_slice plain;
        assert_int_equal(json_plain(&doc, 0, &plain), !strchr(strings[i].raw, '\\'));
    }
}

static void test_lone_surrogates(void **state)
{
    (void)state;
    struct json doc;
    static const char *texts[] = {"{\"\\ud800\":1,\"\\ud800\":2}",
                                  "{\"\\udfff\":1,\"\\ud800\\ud800\":2}",
                                  "{\"\\udc00\\ud800\":1,\"\\ud800\\udc00\":2}"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(
            json_parse(&doc, texts[i], strlen(texts[i]), tokens, CAP, 1, JSON_LONE_SURROGATES), 0);
        assert_int_equal(json_unique(&doc, 0), i != 0);
        char out[16];
        assert_int_equal(json_string(&doc, 1, out, sizeof out), -1);
        assert_true(json_check(texts[i], strlen(texts[i]), JSON_LONE_SURROGATES, NULL, NULL));
        assert_false(json_check(texts[i], strlen(texts[i]), 0, NULL, NULL));
    }
}

/* ---- time: linear, so that 128 KiB of anything stays in milliseconds ---- */

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double parse_ms(const char *text, size_t len, int open, bool unique)
{
    double best = 1e9;
    for (int round = 0; round < 5; round++) {
        struct json doc;
        double from = cpu_ms();
        (void)json_parse(&doc, text, len, tokens, CAP, open, 0);
        if (unique && doc.count) assert_true(json_unique(&doc, 0));
        double ms = cpu_ms() - from;
        if (ms < best) best = ms;
    }
    return best;
}

static size_t repeat(char *out, size_t size, const char *head, const char *unit, const char *tail)
{
    size_t len = strlen(head), n = strlen(unit);
    memcpy(out, head, len);
    for (; len + n + 16 < size; len += n) memcpy(out + len, unit, n);
    memcpy(out + len - 1, tail, strlen(tail)); /* over the last comma */
    return len - 1 + strlen(tail);
}

static void test_linear(void **state)
{
    (void)state;
    static char text[120000];
    static const char *units[] = {"{},",
                                  "[],",
                                  "1,",
                                  "\"\",",
                                  "[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]],",
                                  "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}},"};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        size_t len = repeat(text, sizeof text, "[", units[i], "]");
        assert_true(json_check(text, len, 0, NULL, NULL));
        for (int open = 0; open <= JSON_OPEN_ALL; open = open * 8 + 1) {
            double ms = parse_ms(text, len, open, false);
            if (ms > 100)
                fail_msg("%s opened to %d: %.1f ms", units[i], open, ms); /* quadratic: above 500 */
        }
    }
    /* open brackets only, and a huge number, are refused or taken at once */
    memset(text, '[', sizeof text);
    assert_true(parse_ms(text, sizeof text, JSON_OPEN_ALL, false) < 1);
    memset(text, '9', sizeof text);
    assert_true(parse_ms(text, sizeof text, JSON_OPEN_ALL, false) < 20);
}

static void test_unique_time(void **state)
{
    (void)state;
    static char text[300000];
    size_t len = 1;
    text[0] = '{';
    for (unsigned i = 0; i < 12000; i++) /* names that differ late and are spelled with an escape */
        len += (size_t)sprintf(text + len, "\"\\u0061aaaaa%05u\":1,", (i * 7919) % 12000);
    text[len - 1] = '}';
    double ms = parse_ms(text, len, 1, true);
    if (ms > 300) fail_msg("%.1f ms", ms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_caps),
        cmocka_unit_test(test_walk),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_unopened),
        cmocka_unit_test(test_unique),
        cmocka_unit_test(test_member_decoded),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_lone_surrogates),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_unique_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
