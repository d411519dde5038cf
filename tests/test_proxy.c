/* proxy.c and cidr.c: vectors of the specification, hostile ones, every cut. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../cidr.h"
#include "../proxy.h"
#include "guard.h"

static const char *text_of(const struct proxy_header *h, char out[static 64])
{
    char ip[INET6_ADDRSTRLEN];
    inet_ntop(AF_INET6, &h->ip, ip, sizeof ip);
    snprintf(out, 64, h->known ? "%s %u" : "unknown", ip, h->port);
    return out;
}

struct row {
    const char *bytes;
    size_t len;
    int used; /* -1: refused */
    const char *who;
};
#define ROW(bytes, used, who)                                                                      \
    {                                                                                              \
        bytes, sizeof(bytes) - 1, used, who                                                        \
    }
#define SIG "\r\n\r\n\0\r\nQUIT\n"

static const struct row rows[] = {
    ROW("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", 45, "::ffff:192.0.2.1 56324"),
    ROW("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\nGET / HTTP/1.1\r\n", 45,
        "::ffff:192.0.2.1 56324"),
    ROW("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", 44, "2001:db8::1 1"),
    ROW("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
        104, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535"),
    ROW("PROXY UNKNOWN\r\n", 15, "unknown"),
    ROW("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", 35, "unknown"),
    ROW("GET / HTTP/1.1\r\nHost: x\r\n\r\n", -1, NULL),
    ROW("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", -1, NULL),
    ROW("proxy TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", -1, NULL),
    ROW("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\n", -1, NULL),
    ROW("PROXY TCP4  192.0.2.1 198.51.100.7 56324 443\r\n", -1, NULL),
    ROW("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 \r\n", -1, NULL),
    ROW("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 x\r\n", -1, NULL),
    ROW("PROXY TCP4 192.0.2.1 198.51.100.7 65536 443\r\n", -1, NULL),
    ROW("PROXY TCP4 192.0.2.1 198.51.100.7 056 443\r\n", -1, NULL),
    ROW("PROXY TCP4 192.0.2.1 198.51.100.7 -1 443\r\n", -1, NULL),
    ROW("PROXY TCP4 192.0.2.256 198.51.100.7 1 443\r\n", -1, NULL),
    ROW("PROXY TCP4 192.0.2.1\0 198.51.100.7 1 443\r\n", -1, NULL),
    ROW("PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", -1, NULL),
    ROW("PROXY TCP6 192.0.2.1 198.51.100.7 1 443\r\n", -1, NULL),
    ROW("PROXY TCP4 192.0.2.1:1 198.51.100.7 1 443\r\n", -1, NULL),
    ROW("PROXY TCP4 192.0.2.1\r\n", -1, NULL),
    ROW("PROXY UDP4 192.0.2.1 198.51.100.7 1 443\r\n", -1, NULL),
    ROW("PROXY \r\n", -1, NULL),
    ROW("PROXY UNKNOWN "
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
        "xxx\r\n",
        -1, NULL), /* 108 bytes */
    ROW(SIG "\x21\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\x07\xdc\x04\x01\xbb", 28,
        "::ffff:192.0.2.1 56324"),
    ROW(SIG "\x21\x11\0\x0f\xc0\0\2\1\xc6\x33\x64\x07\xdc\x04\x01\xbb\x04\0\0", 31,
        "::ffff:192.0.2.1 56324"),
    ROW(SIG "\x21\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0"
            "\0\0\0\2\0\1\0\2",
        52, "2001:db8::1 1"),
    ROW(SIG "\x20\x00\0\0", 16, "unknown"),           /* LOCAL */
    ROW(SIG "\x20\x11\0\x04\1\2\3\4", 20, "unknown"), /* LOCAL: whatever follows is skipped */
    ROW(SIG "\x21\x00\0\0", 16, "unknown"),           /* UNSPEC */
    ROW(SIG "\x21\x12\0\x0c\xc0\0\2\1\xc6\x33\x64\x07\xdc\x04\x01\xbb", 28, "unknown"), /* UDP */
    ROW(SIG "\x11\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\x07\xdc\x04\x01\xbb", -1, NULL), /* version 1 */
    ROW(SIG "\x22\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\x07\xdc\x04\x01\xbb", -1, NULL), /* command 2 */
    ROW(SIG "\x21\x41\0\x0c\xc0\0\2\1\xc6\x33\x64\x07\xdc\x04\x01\xbb", -1, NULL), /* family 4 */
    ROW(SIG "\x21\x11\0\x0b\xc0\0\2\1\xc6\x33\x64\x07\xdc\x04\x01", -1, NULL),     /* too short */
    ROW(SIG "\x21\x11\0\x0e\xc0\0\2\1\xc6\x33\x64\x07\xdc\x04\x01\xbb\x04\0", -1,
        NULL), /* half a TLV */
    ROW(SIG "\x21\x11\0\x10\xc0\0\2\1\xc6\x33\x64\x07\xdc\x04\x01\xbb\x04\0\2\0", -1, NULL),
    ROW(SIG "\x21\x11\0\x13\xc0\0\2\1\xc6\x33\x64\x07\xdc\x04\x01\xbb\x03\0\4\0\0\0\0", -1,
        NULL),                             /* CRC */
    ROW(SIG "\x21\x11\xff\xff", -1, NULL), /* 64 KiB */
};

/* The whole gives the answer, every shorter prefix asks for more (or refuses what can not become
 * one). */
static void test_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct row *r = &rows[i];
        struct proxy_header h;
        char who[64];
        for (size_t n = 0; n <= r->len; n++) {
            char *bytes = guard_copy(r->bytes, n);
            int used = proxy_parse(&h, (const uint8_t *)bytes, n);
            guard_free(bytes, n);
            const bool whole = r->used > 0 && n >= (size_t)r->used;
            if (whole && used != r->used) fail_msg("row %zu at %zu: %d", i, n, used);
            if (!whole && used > 0) fail_msg("row %zu at %zu: took %d", i, n, used);
            if (r->used > 0 && !whole && used != 0) fail_msg("row %zu at %zu: %d", i, n, used);
            if (n == r->len && r->used < 0 && used != -1) fail_msg("row %zu: %d", i, used);
        }
        if (r->used > 0) {
            (void)proxy_parse(&h, (const uint8_t *)r->bytes, r->len);
            assert_string_equal(text_of(&h, who), r->who);
        }
    }
}

/* A right checksum: made by the same rule bit by bit (RFC 3720 appendix B.4 has "123456789" ->
 * e3069283). */
static void test_checksum(void **state)
{
    (void)state;
    uint8_t b[] = SIG "\x21\x11\0\x13\xc0\0\2\1\xc6\x33\x64\x07\xdc\x04\x01\xbb\x03\0\4\0\0\0\0";
    const size_t len = sizeof b - 1;
    struct proxy_header h;
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < len; i++)
        for (int k = 0; k < 8; k++) {
            const uint32_t bit = (crc ^ (uint32_t)b[i] >> k) & 1;
            crc = crc >> 1 ^ (bit ? 0x82f63b78 : 0);
        }
    crc = ~crc;
    for (int i = 0; i < 4; i++) b[len - 4 + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
    assert_int_equal(proxy_parse(&h, b, len), (int)len);
    b[17] ^= 1;
    assert_int_equal(proxy_parse(&h, b, len), -1);
}

static void test_cidr(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",          "10.0.0.0/33", "10.0.0.1/8",    "10.0.0.0/",
                                        "10.0.0/8",  "::/129",      "::1/64",        "10.0.0.0/8/8",
                                        "localhost", "10.0.0.0/-1", "::ffff:0:0/95x"};
    static const struct {
        const char *block, *ip;
        bool in;
    } cases[] = {
        {"10.0.0.0/8", "::ffff:10.255.1.2", true},
        {"10.0.0.0/8", "::ffff:11.0.0.0", false},
        {"10.0.0.0/8", "::a00:1", false},
        {"192.0.2.1", "::ffff:192.0.2.1", true},
        {"192.0.2.1", "::ffff:192.0.2.2", false},
        {"0.0.0.0/0", "::ffff:1.2.3.4", true},
        {"0.0.0.0/0", "2001:db8::1", false},
        {"::/0", "2001:db8::1", true},
        {"2001:db8::/33", "2001:db8:7fff::1", true},
        {"2001:db8::/33", "2001:db8:8000::1", false},
        {"172.16.0.0/12", "::ffff:172.31.255.255", true},
        {"172.16.0.0/12", "::ffff:172.32.0.0", false},
    };
    struct cidr c;
    struct in6_addr ip;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (cidr_parse(&c, wrong[i])) fail_msg("%s", wrong[i]);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(cidr_parse(&c, cases[i].block));
        assert_int_equal(inet_pton(AF_INET6, cases[i].ip, &ip), 1);
        if (cidr_contains(&(struct cidr_list){&c, 1}, &ip) != cases[i].in)
            fail_msg("%s %s", cases[i].block, cases[i].ip);
    }
    assert_false(cidr_contains(&(struct cidr_list){0}, &ip));
}

static void test_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *ip;
        unsigned port;
    } cases[] = {
        {"192.0.2.1", "::ffff:192.0.2.1", 0},
        {"192.0.2.1:4711", "::ffff:192.0.2.1", 4711},
        {"2001:db8::1", "2001:db8::1", 0},
        {"[2001:db8::1]:80", "2001:db8::1", 80},
        {"[2001:db8::1]", "2001:db8::1", 0},
        {"", NULL, 0},
        {"unknown", NULL, 0},
        {"192.0.2.1:", NULL, 0},
        {"192.0.2.1:65536", NULL, 0},
        {"[::1", NULL, 0},
        {"[::1]80", NULL, 0},
        {"_hidden", NULL, 0},
        {"192.0.2.1, 10.0.0.1", NULL, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct in6_addr ip, want;
        uint16_t port = 9;
        char *text = guard_copy(cases[i].text, strlen(cases[i].text));
        bool ok = cidr_address(&ip, &port, text, strlen(cases[i].text));
        guard_free(text, strlen(cases[i].text));
        if (ok != (cases[i].ip != NULL)) fail_msg("%s: %d", cases[i].text, ok);
        if (!ok) continue;
        assert_int_equal(inet_pton(AF_INET6, cases[i].ip, &want), 1);
        assert_memory_equal(&ip, &want, sizeof ip);
        assert_int_equal(port, cases[i].port);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_checksum),
        cmocka_unit_test(test_cidr),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
