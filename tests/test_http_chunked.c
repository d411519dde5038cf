/* http_chunked_read: bodies of RFC 9112 section 7.1, whole, at every cut, byte by byte, ending at
 * an unreadable page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "guard.h"
#include "http.h"

#define ROWS(table) (sizeof(table) / sizeof(*(table)))
#define BYTES(text) text, sizeof(text) - 1

static const struct chunked_row {
    const char *section;
    const char *wire;
    size_t len;
    const char *body; /* decoded before the end or the fault */
    size_t behind;    /* bytes behind the body's end */
    int result;       /* 1, 0 (not complete), -400 */
} rows[] = {
    {"7.1 one chunk", BYTES("5\r\nhello\r\n0\r\n\r\n"), "hello", 0, 1},
    {"7.1 three chunks", BYTES("4\r\nWiki\r\n5\r\npedia\r\nE\r\n in\r\n\r\nchunks.\r\n0\r\n\r\n"),
     "Wikipedia in\r\n\r\nchunks.", 0, 1},
    {"7.1 nothing", BYTES("0\r\n\r\n"), "", 0, 1},
    {"7.1 many zeros", BYTES("0000000000000000\r\n\r\n"), "", 0, 1},
    {"7.1 hexadecimal in both cases", BYTES("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"),
     "01234567890123456789", 0, 1},
    {"7.1 digits are counted in each size",
     BYTES("00000001\r\na\r\n00000001\r\nb\r\n00000001\r\nc\r\n0\r\n\r\n"), "abc", 0, 1},
    {"7.1 the next request behind it", BYTES("1\r\nx\r\n0\r\n\r\nGET / HTTP/1.1\r\n"), "x", 16, 1},
    {"7.1.1 extensions", BYTES("1;a\r\nx\r\n1 ; b=\"c;\" \r\ny\r\n0;d=e\r\n\r\n"), "xy", 0, 1},
    {"7.1.2 trailers", BYTES("1\r\nx\r\n0\r\nA: b\r\nC-D:\r\n\r\n"), "x", 0, 1},
    {"7.1 not complete", BYTES("5\r\nhel"), "hel", 0, 0},
    {"7.1 a size that never comes whole", BYTES("ffffffffffffffff\r\nabc"), "abc", 0, 0},

    {"7.1 no size", BYTES("\r\n"), "", 0, -400},
    {"7.1 no size before an extension", BYTES(";a\r\n"), "", 0, -400},
    {"7.1 not hexadecimal", BYTES("g\r\n"), "", 0, -400},
    {"7.1 a prefix", BYTES("0x1\r\n"), "", 0, -400},
    {"7.1 a sign", BYTES("+1\r\n"), "", 0, -400},
    {"7.1 negative", BYTES("-1\r\n"), "", 0, -400},
    {"7.1 white space first", BYTES(" 1\r\n"), "", 0, -400},
    {"7.1 white space behind the size", BYTES("1 \r\n"), "", 0, -400},
    {"7.1 white space within the size", BYTES("1 1\r\n"), "", 0, -400},
    {"7.1 over 64 bits", BYTES("10000000000000000\r\n"), "", 0, -400},
    {"7.1 over 64 bits by zeros", BYTES("00000000000000001\r\n"), "", 0, -400},
    {"7.1 bare LF behind the size", BYTES("1\nx"), "", 0, -400},
    {"7.1 bare CR behind the size", BYTES("1\rx"), "", 0, -400},
    {"7.1 the data is longer", BYTES("1\r\nxy\r\n"), "x", 0, -400},
    {"7.1 bare LF behind the data", BYTES("1\r\nx\n"), "x", 0, -400},
    {"7.1 bare CR behind the data", BYTES("1\r\nx\r0\r\n\r\n"), "x", 0, -400},
    {"7.1 the data is shorter", BYTES("3\r\nx\r\n0\r\n\r\n"), "x\r\n", 0, -400},
    {"7.1.1 a bare LF in an extension", BYTES("1;a\nx\r\n0\r\n\r\n"), "", 0, -400},
    {"7.1.1 a bare CR in an extension", BYTES("1;a\rb\r\n"), "", 0, -400},
    {"7.1.1 NUL in an extension", BYTES("1;a\0\r\n"), "", 0, -400},
    {"7.1.2 a trailer without a name", BYTES("0\r\n: a\r\n\r\n"), "", 0, -400},
    {"7.1.2 a trailer without a colon", BYTES("0\r\nGET / HTTP/1.1\r\n"), "", 0, -400},
    {"7.1.2 a folded trailer", BYTES("0\r\nA: b\r\n c\r\n\r\n"), "", 0, -400},
    {"7.1.2 a bare LF in a trailer", BYTES("0\r\nA: b\n\r\n"), "", 0, -400},
    {"7.1.2 a bare LF for the end", BYTES("0\r\n\n"), "", 0, -400},
    {"7.1.2 a bare CR for the end", BYTES("0\r\n\rx"), "", 0, -400},
};

struct outcome {
    char body[64];
    size_t body_len, used;
    int result;
};

/* Decodes wire in pieces that end at a guard page, the first first bytes and then of at most piece.
 */
static struct outcome decode(const struct chunked_row *row, size_t first, size_t piece)
{
    struct outcome o = {.result = 0};
    struct http_chunked c = {0};

    for (size_t at = 0; at < row->len && o.result == 0;) {
        size_t most = at == 0 ? first : piece, used, body;
        size_t len = row->len - at < most ? row->len - at : most;
        char *copy = guard_copy(row->wire + at, len);
        o.result = http_chunked_read(&c, copy, len, &used, &body);
        assert_true(used <= len && body <= used && o.body_len + body < sizeof(o.body));
        if (o.result == 0) assert_int_equal(used, len);
        memcpy(o.body + o.body_len, copy, body);
        o.body_len += body;
        o.used += used;
        guard_free(copy, len);
        at += len;
    }
    return o;
}

static void check(const struct chunked_row *row, struct outcome o, size_t first, size_t piece)
{
    size_t body_len = strlen(row->body);

    if (o.result != row->result || o.body_len != body_len ||
        memcmp(o.body, row->body, body_len) != 0)
        fail_msg("%s in %zu, %zu: %d, %zu bytes", row->section, first, piece, o.result, o.body_len);
    if (o.result == 1 && o.used != row->len - row->behind)
        fail_msg("%s in %zu, %zu: used %zu", row->section, first, piece, o.used);
}

static void test_bodies(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS(rows); i++) {
        struct outcome whole = decode(&rows[i], rows[i].len, rows[i].len);
        check(&rows[i], whole, rows[i].len, rows[i].len);
        for (size_t piece = 1; piece < rows[i].len; piece++) {
            struct outcome pieces = decode(&rows[i], piece, piece);
            check(&rows[i], pieces, piece, piece);
            struct outcome two = decode(&rows[i], piece, rows[i].len);
            check(&rows[i], two, piece, rows[i].len);
            /* the same byte is the wrong one, however it comes */
            if (pieces.used != whole.used || two.used != whole.used)
                fail_msg("%s in pieces of %zu: %zu bytes used, %zu as a whole", rows[i].section,
                         piece, pieces.used, whole.used);
        }
    }
}

/* What is skipped is bounded for the whole body, not for a line: a body of single bytes with an
 * extension each costs its reader a hundred times the body's size. */
static void test_skipped_bytes_are_bounded(void **state)
{
    struct http_chunked c = {0};
    size_t used, body, total = 0;
    int result = 0;
    (void)state;
    while (result == 0 && total < 1u << 20) {
        char chunk[] = "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n";
        result = http_chunked_read(&c, chunk, sizeof(chunk) - 1, &used, &body);
        total += used;
    }
    assert_int_equal(result, -400);
    assert_true(total < 2 * HTTP_HEAD_MAX);

    char trailer[HTTP_HEAD_MAX + 16] = "0\r\nA:";
    memset(trailer + 5, 'b', sizeof(trailer) - 5);
    c = (struct http_chunked){0};
    assert_int_equal(http_chunked_read(&c, trailer, sizeof(trailer), &used, &body), -400);
}

static void test_done_stays_done(void **state)
{
    struct http_chunked c = {0};
    char wire[] = "0\r\n\r\n";
    size_t used, body;
    (void)state;
    assert_int_equal(http_chunked_read(&c, wire, 0, &used, &body), 0);
    assert_int_equal(http_chunked_read(&c, wire, 5, &used, &body), 1);
    assert_int_equal(http_chunked_read(&c, wire, 5, &used, &body), 1);
    assert_int_equal(used, 0);
    assert_int_equal(body, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies),
        cmocka_unit_test(test_skipped_bytes_are_bounded),
        cmocka_unit_test(test_done_stays_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
