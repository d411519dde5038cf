/* ws.c by its parts: headers, unmasking, UTF-8, close frames, limits of the reader, opening
 * handshake. What a server does with whole conversations is in test_ws_cases.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "guard.h"
#include "ws.h"
#include "ws_listener.h"
#include "ws_utf8_cases.h"

#define ROWS(table) (sizeof(table) / sizeof(*(table)))

/* ---- headers ---- */

static const struct head_row {
    const char *section;
    const char *bytes;
    size_t len;
    int answer; /* the header's size, or -code, which the last byte of bytes proves */
    struct ws_head head;
} head_rows[] = {
#define BYTES(text) text, sizeof(text) - 1
    {"5.7 unmasked Hello", BYTES("\x81\x05"), 2, {.opcode = 1, .fin = 1, .payload_len = 5}},
    {"5.7 masked Hello",
     BYTES("\x81\x85\x37\xfa\x21\x3d"),
     6,
     {.opcode = 1, .fin = 1, .masked = 1, .payload_len = 5, .masking_key = "\x37\xfa\x21\x3d"}},
    {"5.7 first fragment", BYTES("\x01\x03"), 2, {.opcode = 1, .payload_len = 3}},
    {"5.7 last fragment", BYTES("\x80\x02"), 2, {.fin = 1, .payload_len = 2}},
    {"5.7 ping", BYTES("\x89\x05"), 2, {.opcode = 9, .fin = 1, .payload_len = 5}},
    {"5.7 256 bytes", BYTES("\x82\x7e\x01\x00"), 4, {.opcode = 2, .fin = 1, .payload_len = 256}},
    {"5.7 64 KiB",
     BYTES("\x82\x7f\0\0\0\0\0\1\0\0"),
     10,
     {.opcode = 2, .fin = 1, .payload_len = 65536}},
    {"5.2 125 bytes", BYTES("\x82\x7d"), 2, {.opcode = 2, .fin = 1, .payload_len = 125}},
    {"5.2 126 bytes", BYTES("\x82\x7e\0\x7e"), 4, {.opcode = 2, .fin = 1, .payload_len = 126}},
    {"5.2 65535 bytes",
     BYTES("\x82\x7e\xff\xff"),
     4,
     {.opcode = 2, .fin = 1, .payload_len = 65535}},
    {"5.2 2^63-1 bytes",
     BYTES("\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"),
     10,
     {.opcode = 2, .fin = 1, .payload_len = INT64_MAX}},
    {"5.2 RSV1 is for ws_read to judge", BYTES("\xc1\0"), 2, {.opcode = 1, .fin = 1, .rsv1 = 1}},
    {"5.5.1 close", BYTES("\x88\0"), 2, {.opcode = 8, .fin = 1}},
    {"5.5.3 pong", BYTES("\x8a\0"), 2, {.opcode = 10, .fin = 1}},
    {"5.2 RSV2", BYTES("\xa1"), -WS_CLOSE_PROTOCOL, {0}},
    {"5.2 RSV3", BYTES("\x91"), -WS_CLOSE_PROTOCOL, {0}},
    {"5.2 opcode 3", BYTES("\x83"), -WS_CLOSE_PROTOCOL, {0}},
    {"5.2 opcode 7", BYTES("\x07"), -WS_CLOSE_PROTOCOL, {0}},
    {"5.2 opcode 11", BYTES("\x8b"), -WS_CLOSE_PROTOCOL, {0}},
    {"5.2 opcode 15", BYTES("\x8f"), -WS_CLOSE_PROTOCOL, {0}},
    {"5.5 fragmented close", BYTES("\x08"), -WS_CLOSE_PROTOCOL, {0}},
    {"5.5 fragmented ping", BYTES("\x09"), -WS_CLOSE_PROTOCOL, {0}},
    {"5.5 fragmented pong", BYTES("\x0a"), -WS_CLOSE_PROTOCOL, {0}},
    {"5.5 ping of 126", BYTES("\x89\xfe"), -WS_CLOSE_PROTOCOL, {0}},
    {"5.5 close with 64-bit length", BYTES("\x88\x7f"), -WS_CLOSE_PROTOCOL, {0}},
    {"5.2 125 in 16 bits", BYTES("\x82\x7e\0\x7d"), -WS_CLOSE_PROTOCOL, {0}},
    {"5.2 65535 in 64 bits", BYTES("\x82\x7f\0\0\0\0\0\0"), -WS_CLOSE_PROTOCOL, {0}},
    {"5.2 top bit of 64", BYTES("\x82\x7f\x80"), -WS_CLOSE_PROTOCOL, {0}},
};

static void assert_same_head(const struct ws_head *a, const struct ws_head *b, const char *section)
{
    if (a->opcode != b->opcode || a->fin != b->fin || a->rsv1 != b->rsv1 ||
        a->masked != b->masked || a->payload_len != b->payload_len ||
        (a->masked && memcmp(a->masking_key, b->masking_key, 4) != 0))
        fail_msg("%s: another header", section);
}

static void test_head_parse(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS(head_rows); i++) {
        const struct head_row *row = &head_rows[i];
        for (size_t cut = 0; cut <= row->len; cut++) {
            uint8_t *bytes = guard_copy(row->bytes, cut);
            struct ws_head h = {0};
            int answer = ws_head_parse(&h, bytes, cut);
            int expected = cut < row->len ? 0 : row->answer;
            if (answer != expected)
                fail_msg("%s: %d instead of %d at %zu", row->section, answer, expected, cut);
            if (answer > 0) assert_same_head(&h, &row->head, row->section);
            guard_free(bytes, cut);
        }
    }
}

static void test_head_write(void **state)
{
    static const uint64_t lengths[] = {
        0, 1, 125, 126, 127, 128, 65535, 65536, 65537, UINT32_MAX, UINT64_C(1) << 32, INT64_MAX};
    static const uint8_t opcodes[] = {0, 1, 2, 8, 9, 10};
    (void)state;
    for (size_t i = 0; i < ROWS(lengths) * ROWS(opcodes) * 8; i++) {
        struct ws_head h = {.opcode = opcodes[i / 8 % ROWS(opcodes)],
                            .payload_len = lengths[i / 8 / ROWS(opcodes)],
                            .fin = i & 1,
                            .masked = i & 2,
                            .rsv1 = i & 4,
                            .masking_key = {1, 2, 3, 4}};
        struct ws_head back = {0};
        uint8_t *out = guard_copy(NULL, WS_HEAD_MAX);
        size_t size = ws_head_write(out, &h);

        assert_int_equal(size, ws_head_size(h.payload_len) + (h.masked ? 4 : 0));
        if (h.opcode < 8 || (h.fin && h.payload_len <= WS_CONTROL_MAX)) {
            assert_int_equal(ws_head_parse(&back, out, size), size);
            assert_same_head(&h, &back, "round trip");
        }
        guard_free(out, WS_HEAD_MAX);
    }
}

/* ---- unmasking ---- */

static void test_unmask(void **state)
{
    static const uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};
    const size_t most = 300;
    uint8_t *room = guard_copy(NULL, most);
    (void)state;

    /* Every length ends at the guard page, so every alignment is met as well. */
    for (size_t len = 0; len <= most; len++) {
        for (size_t offset = 0; offset < 9; offset++) {
            uint8_t *p = room + most - len;
            for (size_t i = 0; i < most; i++) room[i] = (uint8_t)(i * 7 + offset);
            ws_unmask(p, len, key, offset);
            for (size_t i = 0; i < most; i++) {
                uint8_t expected = (uint8_t)(i * 7 + offset);
                if (room + i >= p) expected ^= key[(i - (most - len) + offset) % 4];
                assert_int_equal(room[i], expected);
            }
        }
    }
    guard_free(room, most);
}

static void test_unmask_in_pieces(void **state)
{
    static const uint8_t key[4] = {1, 2, 4, 8};
    uint8_t whole[257], pieces[257];
    (void)state;
    for (size_t i = 0; i < sizeof(whole); i++) whole[i] = pieces[i] = (uint8_t)i;
    ws_unmask(whole, sizeof(whole), key, 0);
    for (size_t at = 0, n = 1; at < sizeof(pieces); at += n, n++) {
        if (n > sizeof(pieces) - at) n = sizeof(pieces) - at;
        ws_unmask(pieces + at, n, key, at);
    }
    assert_memory_equal(whole, pieces, sizeof(whole));
}

/* ---- UTF-8 ---- */

/* The plain reading of RFC 3629 section 4: is there a text that begins with these 1..4 bytes?
 * *whole: are they a character by themselves? */
static bool may_begin(const uint8_t *p, size_t len, bool *whole)
{
    size_t size = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    uint32_t least = size == 3 ? 0x800 : size == 4 ? 0x10000 : 0;
    uint32_t low = size == 4 ? p[0] & 7u : size == 3 ? p[0] & 15u : 0, high;

    if (size == 0 || p[0] > 0xf4 || len > size) return false;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80) return false;
    *whole = len == size;
    if (size < 3) return true;
    for (size_t i = 1; i < len; i++) low = low << 6 | (p[i] & 63u);
    high = low; /* the range of code points that the missing bytes leave open */
    for (size_t i = len; i < size; i++) {
        low <<= 6;
        high = high << 6 | 63;
    }
    return high >= least && low <= 0x10ffff && !(low >= 0xd800 && high <= 0xdfff);
}

/* Fed byte by byte: each prefix may go on or not exactly as may_begin says. */
static void check_sequence(const uint8_t *p, size_t len)
{
    uint32_t utf8 = 0;

    for (size_t n = 1; n <= len; n++) {
        bool whole = false, ok = may_begin(p, n, &whole);
        if (ws_utf8(&utf8, p + n - 1, 1) != ok)
            fail_msg("%02x %02x %02x %02x: byte %zu", p[0], p[1], p[2], p[3], n);
        if (!ok) return;
        if (ws_utf8_done(utf8) != whole)
            fail_msg("%02x %02x %02x %02x: whole at %zu", p[0], p[1], p[2], p[3], n);
        if (whole) return;
    }
}

static void test_utf8_every_sequence(void **state)
{
    static const uint8_t last[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0xbf, 0xc0, 0xff};
    (void)state;
    for (unsigned i = 0; i < 1u << 24; i++) {
        if ((i >> 16) < 0xc0 && (i & 0xffff) != 0) continue; /* one byte decides */
        uint8_t p[4] = {(uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i, 0};
        for (size_t k = 0; k < ROWS(last); k++) {
            p[3] = last[k];
            if (k == 0 || p[0] >= 0xf0) check_sequence(p, 4);
        }
    }
}

/* Does a text of n bytes fail at its byte bad when it stands behind at bytes of ASCII, is fed in
 * two pieces and ends at the guard page? */
static void check_text(const char *id, const uint8_t *text, size_t len, int bad, size_t at,
                       size_t cut)
{
    const size_t total = at + len;
    uint8_t buf[128];
    uint32_t utf8 = 0;

    memset(buf, 'a', sizeof(buf));
    memcpy(buf + at, text, len);
    uint8_t *first = guard_copy(buf, cut), *second = guard_copy(buf + cut, total - cut);
    bool ok = ws_utf8(&utf8, first, cut), second_ok = ok && ws_utf8(&utf8, second, total - cut);
    size_t bad_at = bad < 0 || (size_t)bad >= len ? SIZE_MAX : at + (size_t)bad;

    if (ok != (bad_at >= cut)) fail_msg("%s behind %zu cut at %zu: the first piece", id, at, cut);
    if (ok && second_ok != (bad_at == SIZE_MAX))
        fail_msg("%s behind %zu cut at %zu: the second piece", id, at, cut);
    if (second_ok && ws_utf8_done(utf8) != (bad == GOOD))
        fail_msg("%s behind %zu cut at %zu: the end", id, at, cut);
    guard_free(first, cut);
    guard_free(second, total - cut);
}

static void test_utf8_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS(ws_utf8_cases); i++) {
        const struct ws_utf8_case *row = &ws_utf8_cases[i];
        for (size_t at = 0; at < 41; at += at < 9 ? 1 : 8)
            for (size_t cut = at; cut <= at + row->len; cut++)
                check_text(row->id, (const uint8_t *)row->text, row->len, row->bad, at, cut);
    }
}

static void test_utf8_long(void **state)
{
    static const char sign[] = "\xe2\x82\xac"; /* the euro sign at every offset of long ASCII */
    uint8_t buf[200];
    (void)state;
    for (size_t at = 0; at + 3 <= sizeof(buf); at++) {
        uint32_t utf8 = 0;
        memset(buf, 'x', sizeof(buf));
        memcpy(buf + at, sign, 3);
        assert_true(ws_utf8(&utf8, buf, sizeof(buf)) && ws_utf8_done(utf8));
        buf[at + 1] = 0xc2;
        assert_false(ws_utf8(&(uint32_t){0}, buf, sizeof(buf)));
    }
}

/* ---- close frames ---- */

static const struct close_row {
    const char *section;
    const char *payload;
    size_t len;
    int code;
    const char *reason;
} close_rows[] = {
    {"7.1.5 empty", BYTES(""), WS_CLOSE_NO_STATUS, ""},
    {"5.5.1 one byte", BYTES("\x03"), -WS_CLOSE_PROTOCOL, ""},
    {"7.4.1 normal", BYTES("\x03\xe8"), 1000, ""},
    {"7.4.1 with a reason", BYTES("\x03\xe9going"), 1001, "going"},
    {"7.4.1 1005 is never sent", BYTES("\x03\xed"), -WS_CLOSE_PROTOCOL, ""},
    {"7.4.1 1006 is never sent", BYTES("\x03\xeexx"), -WS_CLOSE_PROTOCOL, ""},
    {"7.4.1 1015 is never sent", BYTES("\x03\xf7"), -WS_CLOSE_PROTOCOL, ""},
    {"7.4.2 a private code", BYTES("\x0f\xa0\xc3\xa9"), 4000, "\xc3\xa9"},
    {"8.1 a reason that is not UTF-8", BYTES("\x03\xe8\xff"), -WS_CLOSE_BAD_DATA, ""},
    {"8.1 a reason that is cut",
     BYTES("\x03\xe8"
           "ab\xc3"),
     -WS_CLOSE_BAD_DATA, ""},
    {"7.4 a wrong code goes before a wrong reason", BYTES("\0\0\xff"), -WS_CLOSE_PROTOCOL, ""},
};

static void test_close_parse(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS(close_rows); i++) {
        const struct close_row *row = &close_rows[i];
        uint8_t *payload = guard_copy(row->payload, row->len);
        const char *reason;
        size_t reason_len;
        int code = ws_close_parse(payload, row->len, &reason, &reason_len);
        if (code != row->code) fail_msg("%s: %d", row->section, code);
        assert_int_equal(reason_len, strlen(row->reason));
        assert_memory_equal(reason, row->reason, reason_len);
        guard_free(payload, row->len);
    }
}

static void test_close_codes(void **state)
{
    (void)state;
    for (unsigned code = 0; code < 70000; code++) {
        bool ok = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
                  (code >= 3000 && code <= 4999);
        assert_int_equal(ws_close_code_ok(code), ok);
    }
}

static void test_close_write(void **state)
{
    char text[300], *reason;
    uint8_t *out = guard_copy(NULL, WS_CONTROL_MAX);
    const char *back;
    size_t back_len;
    (void)state;

    assert_int_equal(ws_close_write(out, WS_CLOSE_NO_STATUS, "never sent"), 0);
    assert_int_equal(ws_close_write(out, WS_CLOSE_NORMAL, NULL), 2);
    assert_memory_equal(out, "\x03\xe8", 2);
    /* Characters of 1 to 4 bytes around the end, read back as what fits and nothing else. */
    static const char *const signs[] = {"a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x90\x8d\x88"};
    for (size_t i = 0; i < 4; i++) {
        for (size_t ascii = 0; ascii < 140; ascii++) {
            size_t len = ascii;
            memset(text, 'x', ascii);
            while (len < 250 - i) {
                memcpy(text + len, signs[i], i + 1);
                len += i + 1;
            }
            text[len] = '\0';
            reason = guard_copy(text, len + 1);
            size_t size = ws_close_write(out, 3000, reason);
            assert_true(size <= WS_CONTROL_MAX && size >= WS_CONTROL_MAX - i);
            assert_int_equal(ws_close_parse(out, size, &back, &back_len), 3000);
            assert_memory_equal(back, text, back_len);
            guard_free(reason, len + 1);
        }
    }
    guard_free(out, WS_CONTROL_MAX);
}

/* ---- the reader's limits and sides ---- */

static size_t put_frame(uint8_t *out, unsigned first, bool masked, size_t len)
{
    struct ws_head h = {
        .fin = first & 0x80, .opcode = first & 15, .masked = masked, .payload_len = len};
    size_t size = ws_head_write(out, &h); /* a masking key of zeros */
    memset(out + size, 'x', len);
    return size + len;
}

static int close_code_of(struct ws_limits limits, const unsigned *frames, size_t count, size_t len)
{
    struct ws_listener l = {.limits = limits, .digest = DIGEST_START};
    uint8_t buf[WS_HEAD_MAX + 1024];

    for (size_t i = 0; i < count; i++) {
        size_t size = put_frame(buf, frames[i], limits.server, len);
        if (!ws_listener_feed(&l, buf, size)) return l.close;
    }
    return 0;
}

static void test_message_limit(void **state)
{
    static const unsigned three[] = {0x82, 0x81, 0x82}; /* each counts for itself */
    static const unsigned parts[] = {0x02, 0x00, 0x80}, pings[] = {0x02, 0x89, 0x89, 0x80};
    (void)state;
    assert_int_equal(close_code_of((struct ws_limits){100, true}, three, 3, 100), 0);
    assert_int_equal(close_code_of((struct ws_limits){300, true}, parts, 3, 100), 0);
    assert_int_equal(close_code_of((struct ws_limits){299, true}, parts, 3, 100), 1009);
    assert_int_equal(close_code_of((struct ws_limits){200, true}, pings, 4, 100), 0);
    assert_int_equal(close_code_of((struct ws_limits){0, true}, (unsigned[]){0x82}, 1, 0), 0);
    assert_int_equal(close_code_of((struct ws_limits){0, true}, (unsigned[]){0x82}, 1, 1), 1009);
    assert_int_equal(close_code_of((struct ws_limits){UINT64_MAX, true}, parts, 3, 100), 0);
}

/* A reload may lower the limit below what a message under way has announced already. */
static void test_limit_lowered_within_message(void **state)
{
    struct ws_reader r = {0};
    struct ws_event ev;
    uint8_t buf[128];
    size_t len = put_frame(buf, 0x02, true, 100);
    (void)state;
    assert_int_equal(ws_read(&r, &(struct ws_limits){1000, true}, buf, len, &ev), len);
    len = put_frame(buf, 0x80, true, 1);
    assert_int_equal(ws_read(&r, &(struct ws_limits){50, true}, buf, len, &ev), -1009);
}

/* Autobahn-sized messages in 64-byte fragments must pass: 65,536; one more is refused, and none
 * costs memory (CVE-2026-12151). */
static void test_fragment_limit(void **state)
{
    struct ws_listener l = {.limits = {1 << 20, true}, .digest = DIGEST_START};
    uint8_t buf[WS_HEAD_MAX];
    (void)state;

    for (unsigned turn = 0; turn < 2; turn++) {
        for (unsigned i = 0; i < WS_MAX_FRAGMENTS - 1; i++)
            assert_true(ws_listener_feed(&l, buf, put_frame(buf, i == 0 ? 0x02 : 0, true, 0)));
        assert_true(ws_listener_feed(&l, buf, put_frame(buf, turn == 0 ? 0x80 : 0, true, 0)));
    }
    assert_int_equal(l.events, 1);
    assert_true(ws_listener_feed(&l, buf, put_frame(buf, 0x89, true, 0)));
    assert_false(ws_listener_feed(&l, buf, put_frame(buf, 0x80, true, 0)));
    assert_int_equal(l.close, WS_CLOSE_TOO_LARGE);
}

/* Section 5.1: a client closes the connection on a masked frame. And section 5.7's server frames.
 */
static void test_client_side(void **state)
{
    struct ws_reader r = {0};
    struct ws_limits client = {1000, false};
    struct ws_event ev;
    uint8_t buf[] =
        "\x01\x03Hel\x89\x05Hello\x80\x02lo\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    (void)state;
    assert_int_equal(ws_read(&r, &client, buf, 21, &ev), 5);
    assert_true(ev.kind == WS_EVENT_DATA && ev.first && !ev.last && ev.opcode == WS_TEXT);
    assert_memory_equal(ev.payload, "Hel", ev.len);
    assert_false(ws_reader_at_rest(&r));
    assert_int_equal(ws_read(&r, &client, buf + 5, 16, &ev), 7);
    assert_true(ev.kind == WS_EVENT_CONTROL && ev.opcode == WS_PING && ev.len == 5);
    assert_int_equal(ws_read(&r, &client, buf + 12, 9, &ev), 4);
    assert_true(ev.kind == WS_EVENT_DATA && !ev.first && ev.last && ev.opcode == WS_TEXT);
    assert_true(ws_reader_at_rest(&r));
    assert_int_equal(ws_read(&r, &client, buf + 16, 1, &ev), 1);
    assert_false(ws_reader_at_rest(&r));
    assert_int_equal(ws_read(&r, &client, buf + 17, 1, &ev), -WS_CLOSE_PROTOCOL);
}

/* What a caller's fast way relies on: a whole frame in the input is one event, in place. */
static void test_whole_message_in_place(void **state)
{
    struct ws_reader r = {0};
    struct ws_event ev;
    uint8_t buf[256];
    size_t len = put_frame(buf, 0x81, true, 64);
    put_frame(buf + len, 0x89, true, 3);
    (void)state;
    assert_int_equal(ws_read(&r, &(struct ws_limits){64, true}, buf, len + 9, &ev), len);
    assert_true(ev.kind == WS_EVENT_DATA && ev.first && ev.last && ev.len == 64);
    assert_ptr_equal(ev.payload, buf + 6);
    assert_true(ws_reader_at_rest(&r));
    assert_int_equal(ws_read(&r, &(struct ws_limits){64, true}, buf + len, 9, &ev), 9);
    assert_true(ev.kind == WS_EVENT_CONTROL && ev.payload == buf + len + 6);
    assert_int_equal(ws_read(&r, &(struct ws_limits){64, true}, buf, 0, &ev), 0);
    assert_int_equal(ev.kind, WS_EVENT_NONE);
}

/* ---- opening handshake ---- */

static void test_accept_key(void **state)
{
    char out[29];
    (void)state;
    memset(out, '?', sizeof(out));
    ws_accept_key(out, "dGhlIHNhbXBsZSBub25jZQ==", 24); /* section 1.3 */
    assert_string_equal(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void test_key_ok(void **state)
{
    static const struct {
        const char *key;
        bool ok;
    } rows[] = {
        {"dGhlIHNhbXBsZSBub25jZQ==", true},      {"AAAAAAAAAAAAAAAAAAAAAA==", true},
        {"+/+/+/+/+/+/+/+/+/+/+w==", true},      {"", false},
        {"dGhlIHNhbXBsZSBub25jZQ=", false},      {"dGhlIHNhbXBsZSBub25jZQ", false},
        {"dGhlIHNhbXBsZSBub25jZQ== ", false},    {"dGhlIHNhbXBsZSBub25jZ===", false},
        {"dGhlIHNhbXBsZSBub25jZXM=", false},     {"dGhlIHNhbXBsZSBub25jZXNz", false},
        {"dGhlIHNhbXBsZSBub25j ZQ=", false},     {" GhlIHNhbXBsZSBub25jZQ==", false},
        {"dGhlIHNhbXBsZSBu-_5jZQ==", false},     {"dGhlIHNhbXBsZSBub25jZQ=\n", false},
        {"dGhlIHNhbXBsZ===Bub25jZQ", false},     {"\r\nGhlIHNhbXBsZSBub25jZQ==", false},
        {"dGhlIHNhbXBsZSBub25j\r\n\r\n", false}, {"dGhlIHNhbXBsZSBub25jZ\n\n\n", false},
        {"                       \n", false},
    };
    (void)state;
    for (size_t i = 0; i < ROWS(rows); i++) {
        size_t len = strlen(rows[i].key);
        char *key = guard_copy(rows[i].key, len);
        if (ws_key_ok(key, len) != rows[i].ok) fail_msg("\"%s\"", rows[i].key);
        guard_free(key, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_parse),
        cmocka_unit_test(test_head_write),
        cmocka_unit_test(test_unmask),
        cmocka_unit_test(test_unmask_in_pieces),
        cmocka_unit_test(test_utf8_every_sequence),
        cmocka_unit_test(test_utf8_table),
        cmocka_unit_test(test_utf8_long),
        cmocka_unit_test(test_close_parse),
        cmocka_unit_test(test_close_codes),
        cmocka_unit_test(test_close_write),
        cmocka_unit_test(test_message_limit),
        cmocka_unit_test(test_limit_lowered_within_message),
        cmocka_unit_test(test_fragment_limit),
        cmocka_unit_test(test_client_side),
        cmocka_unit_test(test_whole_message_in_place),
        cmocka_unit_test(test_accept_key),
        cmocka_unit_test(test_key_ok),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
