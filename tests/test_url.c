/* url.c: RFC 3986 as far as a WebSocket client needs it, RFC 6455 section 3. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "url.h"

static const struct {
    const char *text;
    enum url_scheme scheme;
    const char *host, *header, *path, *query;
    unsigned port;
    bool loopback;
} good[] = {
    {"ws://example.org", URL_WS, "example.org", "example.org", "", "", 80, false},
    {"wss://example.org/", URL_WSS, "example.org", "example.org", "", "", 443, false},
    {"WSS://example.org:8443", URL_WSS, "example.org", "example.org:8443", "", "", 8443, false},
    {"ws://127.0.0.1:8080/a/b/", URL_WS, "127.0.0.1", "127.0.0.1:8080", "/a/b", "", 8080, true},
    {"ws://localhost?x=1", URL_WS, "localhost", "localhost", "", "x=1", 80, true},
    {"wss://[::1]:65535/p?q=/?", URL_WSS, "::1", "[::1]:65535", "/p", "q=/?", 65535, true},
    {"wss://[2001:db8::1]", URL_WSS, "2001:db8::1", "[2001:db8::1]", "", "", 443, false},
    {"unix:/run/roost.sock", URL_UNIX, "localhost", "localhost", "", "", 0, true},
    {"unix:///run/roost.sock", URL_UNIX, "localhost", "localhost", "", "", 0, true},
    {"ws://127.evil.example", URL_WS, "127.evil.example", "127.evil.example", "", "", 80, false},
};

static const char *const bad[] = {
    "",
    "example.org",
    "http://example.org",
    "ws:/example.org",
    "ws://",
    "ws:///path",
    "ws://:80",
    "ws://user@example.org",
    "ws://user:secret@example.org/",
    "ws://example.org:",
    "ws://example.org:0",
    "ws://example.org:65536",
    "ws://example.org:99999999999",
    "ws://example.org:80x",
    "ws://example.org:-1",
    "ws://exa mple.org",
    "ws://example.org/a b",
    "ws://example.org/\r\nX: y",
    "ws://example.org/#fragment",
    "ws://[::1",
    "ws://[::1]x",
    "ws://[example.org]",
    "ws://::1",
    "ws://ex\xc3\xa4mple.org",
    "unix:relative.sock",
    "unix:",
};

static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct url u;
        char header[URL_HOST_HEADER_MAX];
        const char *why = url_parse(&u, good[i].text);
        if (why) fail_msg("%s: %s", good[i].text, why);
        assert_int_equal(u.scheme, good[i].scheme);
        assert_string_equal(u.host, good[i].host);
        assert_string_equal(u.path, good[i].path);
        assert_string_equal(u.query, good[i].query);
        assert_int_equal(u.port, good[i].port);
        assert_int_equal(url_loopback(&u), good[i].loopback);
        assert_string_equal(url_host_header(&u, header), good[i].header);
    }
}

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct url u;
        if (!url_parse(&u, bad[i])) fail_msg("taken: %s", bad[i]);
    }
}

static void test_too_long(void **state)
{
    (void)state;
    char text[8192];
    struct url u;
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = 0;
    memcpy(text, "ws://", 5);
    assert_non_null(url_parse(&u, text)); /* host */
    memcpy(text, "ws://h/", 7);
    assert_non_null(url_parse(&u, text)); /* path */
    memcpy(text, "ws://h?", 7);
    assert_non_null(url_parse(&u, text)); /* query */
    memcpy(text, "unix:/", 6);
    assert_non_null(url_parse(&u, text));
}

static void test_segment(void **state)
{
    (void)state;
    static const struct {
        const char *text, *encoded;
    } cases[] = {
        {"chat", "chat"},       {"chat:room-1", "chat:room-1"},
        {"a/b", "a%2Fb"},       {"a b?#%", "a%20b%3F%23%25"},
        {"\xc3\xa4", "%C3%A4"}, {"", ""},
        {"$#user", "$%23user"}, {"a\r\nb", "a%0D%0Ab"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[64];
        size_t len = strlen(cases[i].encoded);
        int64_t n = url_encode_segment(out, sizeof out, cases[i].text, strlen(cases[i].text));
        assert_int_equal(n, len);
        assert_string_equal(out, cases[i].encoded);
        assert_int_equal(url_encode_segment(out, len, cases[i].text, strlen(cases[i].text)), -1);
    }
    char zero[8];
    assert_int_equal(url_encode_segment(zero, sizeof zero, "\0", 1), 3);
    assert_string_equal(zero, "%00");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
