/* http.c: request heads (RFC 9112), lists, percent-encoding, response heads. Chunked bodies are in
 * test_http_chunked.c. Every head is parsed at every cut, growing byte by byte and afresh, and ends
 * at an unreadable page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "guard.h"
#include "http.h"

#define ROWS(table) (sizeof(table) / sizeof(*(table)))
#define BYTES(text) text, sizeof(text) - 1
#define UPGRADE "Connection: Upgrade\r\nUpgrade: websocket\r\n"

/* ---- heads that are refused ---- */

static const struct refused_row {
    const char *section;
    const char *head;
    size_t len;
    int status;
    const char *why; /* a part of the text; no two kinds of fault share one */
} refused_rows[] = {
    /* RFC 9112 section 2.2 and RFC 9110 section 5.5: bytes and line ends */
    {"2.2 bare LF in the request line", BYTES("GET / HTTP/1.1\nHost: a\r\n\r\n"), 400, "bare LF"},
    {"2.2 bare LF in a header", BYTES("GET / HTTP/1.1\r\nHost: a\n\r\n"), 400, "bare LF"},
    {"2.2 bare LF at the end", BYTES("GET / HTTP/1.1\r\nHost: a\r\n\n"), 400, "bare LF"},
    {"2.2 bare LF first", BYTES("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "bare LF"},
    {"2.2 LF CR", BYTES("GET / HTTP/1.1\n\rHost: a\n\r\n\r"), 400, "bare LF"},
    {"2.2 bare CR", BYTES("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"), 400, "not followed by LF"},
    {"2.2 CR CR LF", BYTES("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"), 400, "not followed by LF"},
    {"5.5 NUL in a value", BYTES("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n"), 400, "NUL"},
    {"5.5 NUL in the target", BYTES("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "NUL"},
    {"5.5 a control byte", BYTES("GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n"), 400, "control"},
    {"5.5 DEL", BYTES("GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n"), 400, "control"},
    {"TLS on a plain port", BYTES("\x16\x03\x01\x02\x00"), 400, "looks like TLS"},
    {"2.2 two empty lines first", BYTES("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400,
     "request line is empty"},

    /* section 3: the request line */
    {"3 no method", BYTES(" / HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "begin with a method"},
    {"3 a method that is no token", BYTES("G(T / HTTP/1.1\r\nHost: a\r\n\r\n"), 400,
     "begin with a method"},
    {"3 a method in quotes", BYTES("\"GET\" / HTTP/1.1\r\nHost: a\r\n\r\n"), 400,
     "begin with a method"},
    {"3 two spaces", BYTES("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "with one space"},
    {"3 two spaces behind the target", BYTES("GET /  HTTP/1.1\r\nHost: a\r\n\r\n"), 400,
     "with one space"},
    {"3 a space at the end", BYTES("GET / HTTP/1.1 \r\nHost: a\r\n\r\n"), 400, "with one space"},
    {"3 two parts (HTTP/0.9)", BYTES("GET /\r\nHost: a\r\n\r\n"), 400, "with one space"},
    {"3 one part", BYTES("GET\r\nHost: a\r\n\r\n"), 400, "with one space"},
    {"3 a space in the target", BYTES("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"), 400,
     "with one space"},
    {"3 a tab for a space", BYTES("GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n"), 400,
     "begin with a method"},
    {"3 a tab in the target", BYTES("GET /\t HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "percent-encoded"},
    {"3.2 bytes above ASCII", BYTES("GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n"), 400,
     "percent-encoded"},
    {"3.2 a fragment", BYTES("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "percent-encoded"},
    {"3.2 neither path nor URL", BYTES("GET index HTTP/1.1\r\nHost: a\r\n\r\n"), 400,
     "neither a path nor"},
    {"3.2 another scheme", BYTES("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"), 400,
     "neither a path nor"},
    {"3.2 a scheme alone", BYTES("GET http:/a HTTP/1.1\r\nHost: a\r\n\r\n"), 400,
     "neither a path nor"},
    {"3.2.2 no authority", BYTES("GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n"), 400,
     "no valid host"},
    {"3.2.2 a user name", BYTES("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"), 400,
     "no valid host"},
    {"3.2.3 authority-form", BYTES("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"), 400,
     "neither a path nor"},
    {"3.2.4 * with GET", BYTES("GET * HTTP/1.1\r\nHost: a\r\n\r\n"), 400, "OPTIONS only"},
    {"2.3 another protocol", BYTES("GET / HTCP/1.1\r\nHost: a\r\n\r\n"), 400, "end with HTTP/1.1"},
    {"2.3 lower case", BYTES("GET / http/1.1\r\nHost: a\r\n\r\n"), 400, "end with HTTP/1.1"},
    {"2.3 no minor", BYTES("GET / HTTP/1\r\nHost: a\r\n\r\n"), 400, "end with HTTP/1.1"},
    {"2.3 two digits", BYTES("GET / HTTP/1.10\r\nHost: a\r\n\r\n"), 400, "end with HTTP/1.1"},
    {"2.3 HTTP/2.0", BYTES("PRI * HTTP/2.0\r\n\r\n"), 505, "only HTTP/1.0 and"},
    {"2.3 HTTP/0.9", BYTES("GET / HTTP/0.9\r\n\r\n"), 505, "only HTTP/1.0 and"},
    {"2.3 HTTP/3.0", BYTES("GET / HTTP/3.0\r\nHost: a\r\n\r\n"), 505, "only HTTP/1.0 and"},

    /* section 5: field lines */
    {"5.1 space before the colon", BYTES("GET / HTTP/1.1\r\nHost : a\r\n\r\n"), 400,
     "white space before its colon"},
    {"5.1 tab before the colon", BYTES("GET / HTTP/1.1\r\nHost\t: a\r\n\r\n"), 400,
     "white space before its colon"},
    {"5.1 a space in the name", BYTES("GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n"), 400,
     "not a token"},
    {"5.1 a name above ASCII", BYTES("GET / HTTP/1.1\r\nHost: a\r\nX\xe9: b\r\n\r\n"), 400,
     "not a token"},
    {"5.1 no name", BYTES("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"), 400, "no name"},
    {"5.1 no colon", BYTES("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n"), 400, "no colon"},
    {"5.2 a folded line", BYTES("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n"), 400, "folding"},
    {"5.2 folded with a tab", BYTES("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\tc: d\r\n\r\n"), 400,
     "folding"},
    {"2.2 white space before the first header", BYTES("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), 400,
     "folding"},
    {"5.2 a line of white space", BYTES("GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n"), 400, "folding"},

    /* section 3.2: Host */
    {"3.2 no Host", BYTES("GET / HTTP/1.1\r\n\r\n"), 400, "needs a Host"},
    {"3.2 no Host, absolute-form", BYTES("GET http://a/ HTTP/1.1\r\n\r\n"), 400, "needs a Host"},
    {"3.2 two Hosts", BYTES("GET / HTTP/1.1\r\nHost: a\r\nhOST: a\r\n\r\n"), 400, "two Host"},
    {"3.2 two Hosts in HTTP/1.0", BYTES("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), 400,
     "two Host"},
    {"3.2 a path in Host", BYTES("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400,
     "not a host and port"},
    {"3.2 a space in Host", BYTES("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"), 400,
     "not a host and port"},
    {"3.2 a user in Host", BYTES("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"), 400,
     "not a host and port"},

    /* section 6: a body of one length for every reader */
    {"6.3 two lengths",
     BYTES("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
           "Content-Length: 1\r\n\r\n"),
     400, "two Content-Length"},
    {"6.3 a list of lengths", BYTES("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n"),
     400, "Content-Length is not a number"},
    {"6.3 length and coding",
     BYTES("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
           "Transfer-Encoding: chunked\r\n\r\n"),
     400, "both"},
    {"6.3 coding and length",
     BYTES("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
           "Content-Length: 1\r\n\r\n"),
     400, "both"},
    {"8.6 no length", BYTES("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n"), 400,
     "Content-Length is not a number"},
    {"8.6 a sign", BYTES("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n"), 400,
     "Content-Length is not a number"},
    {"8.6 negative", BYTES("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"), 400,
     "Content-Length is not a number"},
    {"8.6 hexadecimal", BYTES("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n"), 400,
     "Content-Length is not a number"},
    {"8.6 a space within", BYTES("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 1\r\n\r\n"), 400,
     "Content-Length is not a number"},
    {"8.6 2^64",
     BYTES("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n"), 400,
     "Content-Length is not a number"},
    {"8.6 2^64 times ten",
     BYTES("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 184467440737095516150\r\n\r\n"), 400,
     "Content-Length is not a number"},
    {"6.1 another coding", BYTES("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"),
     501, "Transfer-Encoding understood"},
    {"6.1 two codings",
     BYTES("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"), 501,
     "Transfer-Encoding understood"},
    {"6.1 chunked twice",
     BYTES("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n"), 501,
     "Transfer-Encoding understood"},
    {"6.1 quoted", BYTES("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n"),
     501, "Transfer-Encoding understood"},
    {"6.1 a vertical tab",
     BYTES("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0b"
           "chunked\r\n\r\n"),
     400, "control"},
    {"6.1 two headers",
     BYTES("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
           "Transfer-Encoding: identity\r\n\r\n"),
     400, "two Transfer-Encoding"},
    {"6.1 in HTTP/1.0", BYTES("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400,
     "needs HTTP/1.1"},

    /* RFC 6455 section 4.2.1 */
    {"4.2.1 two keys",
     BYTES("GET / HTTP/1.1\r\nHost: a\r\n" UPGRADE "Sec-WebSocket-Key: x\r\n"
           "Sec-WebSocket-Key: x\r\n\r\n"),
     400, "two Sec-WebSocket-Key"},
    {"4.2.1 two versions",
     BYTES("GET / HTTP/1.1\r\nHost: a\r\n" UPGRADE
           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8\r\n\r\n"),
     400, "two Sec-WebSocket-Version"},
    {"two origins", BYTES("GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://a\r\nOrigin: null\r\n\r\n"),
     400, "two Origin"},
    {"two tokens",
     BYTES("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\n"
           "authorization: Bearer b\r\n\r\n"),
     400, "two Authorization"},
    {"an upgrade with a length",
     BYTES("GET / HTTP/1.1\r\nHost: a\r\n" UPGRADE "Content-Length: 5\r\n\r\n"), 400,
     "Content-Length does not go with"},
    {"an upgrade with length 0",
     BYTES("GET / HTTP/1.1\r\nHost: a\r\n" UPGRADE "Content-Length: 0\r\n\r\n"), 400,
     "Content-Length does not go with"},
    {"an upgrade with a chunked body",
     BYTES("GET / HTTP/1.1\r\nHost: a\r\n" UPGRADE "Transfer-Encoding: chunked\r\n\r\n"), 400,
     "Transfer-Encoding does not go with"},
    {"an upgrade without Connection, with a length",
     BYTES("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c, WebSocket\r\nContent-Length: 5\r\n\r\n"),
     400, "Content-Length does not go with"},
};

/* Parses head[0..len) at every cut in both ways, demanding 0 until the answer comes; returns the
 * answer and how many bytes it took, and parses once more with all. */
static int parse_at_every_cut(struct http_request *r, const char *section, const char *head,
                              size_t len, size_t *took, const char **why)
{
    size_t at = 0;
    int answer = 0;

    *took = 0;
    for (size_t cut = 0; cut <= len; cut++) {
        char *copy = guard_copy(head, cut);
        size_t fresh = 0;
        const char *grown_why = NULL, *fresh_why = NULL;
        int grown = http_request_parse(r, copy, cut, &at, &grown_why);
        int once = http_request_parse(r, copy, cut, &fresh, &fresh_why);
        if (grown != once || grown_why != fresh_why)
            fail_msg("%s: cut at %zu, grown %d, at once %d", section, cut, grown, once);
        guard_free(copy, cut);
        if (grown == 0) continue;
        answer = grown;
        *took = cut;
        break;
    }
    *why = NULL;
    at = 0;
    if (http_request_parse(r, head, len, &at, why) != answer)
        fail_msg("%s: %d at %zu bytes, another answer for the whole", section, answer, *took);
    return answer;
}

static void test_refused(void **state)
{
    static struct http_request r;
    (void)state;
    for (size_t i = 0; i < ROWS(refused_rows); i++) {
        const struct refused_row *row = &refused_rows[i];
        const char *why;
        size_t took;
        int answer = parse_at_every_cut(&r, row->section, row->head, row->len, &took, &why);
        if (answer != -row->status) fail_msg("%s: %d", row->section, answer);
        if (!why || !strstr(why, row->why) || strchr(why, '\n'))
            fail_msg("%s: says \"%s\"", row->section, why);
    }
}

/* Bytes that may be nowhere are refused as soon as they are there, not when the head is whole. */
static void test_refused_at_once(void **state)
{
    static struct http_request r;
    const char *why;
    size_t took;
    (void)state;
    parse_at_every_cut(&r, "bare LF", "GET / HTTP/1.1\nHost: a\r\n\r\n", 26, &took, &why);
    assert_int_equal(took, 15);
    parse_at_every_cut(&r, "CR", "GET / HTTP/1.1\rHost: a\r\n\r\n", 26, &took, &why);
    assert_int_equal(took, 16);
    parse_at_every_cut(&r, "TLS", "\x16\x03\x01", 3, &took, &why);
    assert_int_equal(took, 1);
}

/* No byte is looked at twice but the CR whose LF is still to come. */
static void test_growing_is_linear(void **state)
{
    static const char head[] = "\r\nGET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\r\n";
    static struct http_request r;
    size_t at = 0;
    const char *why;
    (void)state;
    for (size_t cut = 1; cut < sizeof(head) - 1; cut++) {
        assert_int_equal(http_request_parse(&r, head, cut, &at, &why), 0);
        assert_int_equal(at, head[cut - 1] == '\r' ? cut - 1 : cut);
    }
}

/* ---- heads that are accepted ---- */

enum { KEEP = 1, WEBSOCKET = 2, ANY_UPGRADE = 4, CHUNKED = 8, LENGTH = 16, EXPECT = 32 };

static const struct accepted_row {
    const char *section;
    const char *head;
    enum http_method method;
    const char *path, *query, *host; /* host NULL: absent */
    int minor;
    unsigned flags;
    size_t count;
    uint64_t content_length;
} accepted_rows[] = {
    {"RFC 9112 section 2.1's example",
     "GET /hello.txt HTTP/1.1\r\nUser-Agent: curl/7.64.1\r\nHost: www.example.com\r\n"
     "Accept-Language: en, mi\r\n\r\n",
     HTTP_GET, "/hello.txt", "", "www.example.com", 1, KEEP, 3, 0},
    {"RFC 9112 section 3.2.1's example",
     "GET /where?q=now HTTP/1.1\r\nHost: www.example.org\r\n\r\n", HTTP_GET, "/where", "q=now",
     "www.example.org", 1, KEEP, 1, 0},
    {"RFC 9112 section 3.2.2's example: the target's authority goes before Host",
     "GET http://www.example.org/pub/WWW/TheProject.html HTTP/1.1\r\nHost: other\r\n\r\n", HTTP_GET,
     "/pub/WWW/TheProject.html", "", "www.example.org", 1, KEEP, 1, 0},
    {"RFC 9112 section 3.2.4's example", "OPTIONS * HTTP/1.1\r\nHost: www.example.org:8001\r\n\r\n",
     HTTP_OPTIONS, "*", "", "www.example.org:8001", 1, KEEP, 1, 0},
    {"RFC 6455 section 1.2's example",
     "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n"
     "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
     "Origin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\n"
     "Sec-WebSocket-Version: 13\r\n\r\n",
     HTTP_GET, "/chat", "", "server.example.com", 1, KEEP | WEBSOCKET | ANY_UPGRADE, 7, 0},
    {"lists in any case: Firefox",
     "GET / HTTP/1.1\r\nHost: [::1]:8443\r\nConnection: keep-alive, upgrade\r\n"
     "Upgrade: WebSocket\r\n\r\n",
     HTTP_GET, "/", "", "[::1]:8443", 1, KEEP | WEBSOCKET | ANY_UPGRADE, 3, 0},
    {"Connection in two headers",
     "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: Upgrade\r\n"
     "Upgrade: h2c\r\nUpgrade: websocket\r\n\r\n",
     HTTP_GET, "/", "", "a", 1, KEEP | WEBSOCKET | ANY_UPGRADE, 5, 0},
    {"an Upgrade that Connection does not name",
     "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nUpgrade: websocket\r\n\r\n", HTTP_GET,
     "/", "", "a", 1, KEEP | ANY_UPGRADE, 3, 0},
    {"RFC 9110 section 7.8: HTTP/1.0 has no Upgrade", "GET / HTTP/1.0\r\n" UPGRADE "\r\n", HTTP_GET,
     "/", "", NULL, 0, ANY_UPGRADE, 2, 0},
    {"h2c with a body, as Java sends it",
     "POST /api/publish HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nContent-Length: 12\r\n"
     "Host: a\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\n\r\n",
     HTTP_POST, "/api/publish", "", "a", 1, KEEP | ANY_UPGRADE | LENGTH, 5, 12},
    {"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", HTTP_GET, "/", "", NULL, 0, 0, 0, 0},
    {"HTTP/1.0 that stays", "HEAD / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", HTTP_HEAD, "/", "",
     NULL, 0, KEEP, 1, 0},
    {"HTTP/1.1 that goes", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", HTTP_GET, "/",
     "", "a", 1, 0, 2, 0},
    {"close goes before keep-alive",
     "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive,, Close\r\n\r\n", HTTP_GET, "/", "", "a",
     1, 0, 2, 0},
    {"HTTP/1.9 is 1.1 to us", "GET / HTTP/1.9\r\nHost: a\r\n\r\n", HTTP_GET, "/", "", "a", 1, KEEP,
     1, 0},
    {"RFC 9112 section 2.2: one CRLF first", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_GET, "/",
     "", "a", 1, KEEP, 1, 0},
    {"an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", HTTP_GET, "/", "", "", 1, KEEP, 1, 0},
    {"white space around a value", "GET / HTTP/1.1\r\nHost: \t a \t \r\nX:\r\nY: \t\r\n\r\n",
     HTTP_GET, "/", "", "a", 1, KEEP, 3, 0},
    {"another method", "DELETE /a?b?c HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_OTHER, "/a", "b?c", "a", 1,
     KEEP, 1, 0},
    {"methods are case-sensitive", "get /?a HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_OTHER, "/", "a", "a",
     1, KEEP, 1, 0},
    {"what browsers do not encode", "GET /a%20b|c[]{}^`\\\"<>?d='e' HTTP/1.1\r\nHost: a\r\n\r\n",
     HTTP_GET, "/a%20b|c[]{}^`\\\"<>", "d='e'", "a", 1, KEEP, 1, 0},
    {"a URL without path", "GET ws://b:80 HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_GET, "/", "", "b:80",
     1, KEEP, 1, 0},
    {"a URL with a query alone", "GET HTTPS://b?c=/d HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_GET, "/",
     "c=/d", "b", 1, KEEP, 1, 0},
    {"two slashes are a path", "GET //a/b HTTP/1.1\r\nHost: a\r\n\r\n", HTTP_GET, "//a/b", "", "a",
     1, KEEP, 1, 0},
    {"a body with a length",
     "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n", HTTP_POST, "/",
     "", "a", 1, KEEP | LENGTH, 2, UINT64_MAX},
    {"zeros first",
     "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0000000000000000000000042\r\n\r\n", HTTP_POST,
     "/", "", "a", 1, KEEP | LENGTH, 2, 42},
    {"a chunked body",
     "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\nExpect: 100-Continue\r\n\r\n",
     HTTP_POST, "/", "", "a", 1, KEEP | CHUNKED | EXPECT, 3, 0},
    {"obs-text in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: \xc3\xa9\xff\r\n\r\n", HTTP_GET, "/",
     "", "a", 1, KEEP, 2, 0},
    {"every token character in a name",
     "GET / HTTP/1.1\r\nHost: a\r\n!#$%&'*+-.^_`|~09azAZ: x\r\n\r\n", HTTP_GET, "/", "", "a", 1,
     KEEP, 2, 0},
};

static unsigned flags_of(const struct http_request *r)
{
    return (r->keep_alive ? KEEP : 0u) | (r->upgrade_websocket ? WEBSOCKET : 0u) |
           (r->upgrade ? ANY_UPGRADE : 0u) | (r->chunked ? CHUNKED : 0u) |
           (r->has_content_length ? LENGTH : 0u) | (r->expect_continue ? EXPECT : 0u);
}

static void check_str(const char *section, const char *what, struct http_str s,
                      const char *expected)
{
    if (!expected && !s.p) return;
    if (!expected || !s.p || !http_str_is(s, expected))
        fail_msg("%s: %s is \"%.*s\"", section, what, (int)s.len, s.p ? s.p : "absent");
}

static void test_accepted(void **state)
{
    static struct http_request r;
    (void)state;
    for (size_t i = 0; i < ROWS(accepted_rows); i++) {
        const struct accepted_row *row = &accepted_rows[i];
        const char *why;
        size_t len = strlen(row->head), took;
        int answer = parse_at_every_cut(&r, row->section, row->head, len, &took, &why);
        if (answer < 0) fail_msg("%s: %d, %s", row->section, answer, why);
        assert_int_equal(answer, len);
        assert_int_equal(took, len);
        check_str(row->section, "path", r.path, row->path);
        check_str(row->section, "query", r.query, row->query);
        check_str(row->section, "host", r.host, row->host);
        if (r.method != row->method || r.minor != row->minor || flags_of(&r) != row->flags ||
            r.count != row->count || r.content_length != row->content_length)
            fail_msg("%s: method %d, minor %d, flags %u, %zu headers, length %llu", row->section,
                     (int)r.method, r.minor, flags_of(&r), r.count,
                     (unsigned long long)r.content_length);
    }
}

static void test_fields(void **state)
{
    static const char head[] =
        "GET /chat?x=1 HTTP/1.1\r\nHost: h\r\nORIGIN: http://o\r\nauthorization: Bearer t\r\n"
        "Sec-WebSocket-Key: k\r\nSec-WebSocket-Protocol: a\r\nSec-WebSocket-Extensions: e\r\n"
        "sec-websocket-protocol: b, c\r\nSec-WebSocket-Version: 13\r\n\r\nbytes behind";
    static struct http_request r;
    const char *why;
    size_t at = 0;
    (void)state;
    assert_int_equal(http_request_parse(&r, head, sizeof(head) - 1, &at, &why),
                     sizeof(head) - 1 - strlen("bytes behind"));
    assert_true(http_str_is(r.method_text, "GET"));
    assert_true(http_str_is(r.target, "/chat?x=1"));
    assert_true(http_str_is(r.origin, "http://o"));
    assert_true(http_str_is(r.authorization, "Bearer t"));
    assert_true(http_str_is(r.ws_key, "k"));
    assert_true(http_str_is(r.ws_protocol, "a"));
    assert_true(http_str_is(r.ws_extensions, "e"));
    assert_true(http_str_is(r.ws_version, "13"));
    assert_true(http_str_is(*http_header(&r, "Sec-WebSocket-Protocol", 1), "b, c"));
    assert_null(http_header(&r, "Sec-WebSocket-Protocol", 2));
    assert_null(http_header(&r, "Sec-WebSocket", 0));
    assert_null(http_header(&r, "", 0));
}

/* ---- sizes ---- */

/* "GET /aaa... HTTP/1.1\r\nHost: a\r\nX: bbb...\r\n\r\n" of exactly size bytes. */
static size_t sized_head(char *out, size_t target, size_t size)
{
    static const char start[] = "GET /",
                      middle[] = " HTTP/1.1\r\nHost: a\r\nX: ", end[] = "\r\n\r\n";
    size_t len = 0;
    memcpy(out, start, strlen(start));
    len += strlen(start);
    memset(out + len, 'a', target);
    len += target;
    memcpy(out + len, middle, strlen(middle));
    len += strlen(middle);
    while (len + strlen(end) < size) out[len++] = 'b';
    memcpy(out + len, end, strlen(end));
    return len + strlen(end);
}

static int parse_once(const char *head, size_t len, const char **why)
{
    static struct http_request r;
    char *copy = guard_copy(head, len);
    size_t at = 0;
    int answer = http_request_parse(&r, copy, len, &at, why);
    guard_free(copy, len);
    return answer;
}

static void test_head_size(void **state)
{
    char head[3 * HTTP_HEAD_MAX];
    const char *why;
    size_t len;
    (void)state;

    len = sized_head(head, 10, HTTP_HEAD_MAX);
    assert_int_equal(len, HTTP_HEAD_MAX);
    assert_int_equal(parse_once(head, len, &why), HTTP_HEAD_MAX);
    assert_int_equal(parse_once(head, len - 1, &why), 0);
    memset(head + len, 'x', 100); /* what is behind a head does not count */
    assert_int_equal(parse_once(head, len + 100, &why), HTTP_HEAD_MAX);
    len = sized_head(head, 8100, HTTP_HEAD_MAX);
    assert_int_equal(parse_once(head, len, &why), HTTP_HEAD_MAX);

    for (size_t over = 1; over < 6; over++) {
        len = sized_head(head, 10, HTTP_HEAD_MAX + over);
        for (size_t cut = HTTP_HEAD_MAX - 3; cut <= len; cut++)
            assert_int_equal(parse_once(head, cut, &why), cut < HTTP_HEAD_MAX ? 0 : -431);
    }
    len = sized_head(head, HTTP_HEAD_MAX, 2 * HTTP_HEAD_MAX);
    assert_int_equal(parse_once(head, HTTP_HEAD_MAX - 1, &why), 0);
    assert_int_equal(parse_once(head, HTTP_HEAD_MAX, &why), -414);
    assert_int_equal(parse_once(head, len, &why), -414);
    memmove(head + 2, head, len);
    memcpy(head, "\r\n", 2);
    assert_int_equal(parse_once(head, len, &why), -414);
}

static void test_header_count(void **state) /* CVE-2024-37890 */
{
    char head[HTTP_HEAD_MAX];
    const char *why;
    (void)state;
    for (unsigned count = 62; count < 68; count++) {
        int len = snprintf(head, sizeof(head), "GET / HTTP/1.1\r\nHost: a\r\n");
        for (unsigned i = 1; i < count; i++)
            len += snprintf(head + len, sizeof(head) - (size_t)len, "X-%u: %u\r\n", i, i);
        len += snprintf(head + len, sizeof(head) - (size_t)len, "\r\n");
        int answer = parse_once(head, (size_t)len, &why);
        assert_int_equal(answer, count <= HTTP_HEADERS_MAX ? len : -431);
    }
}

/* ---- strings ---- */

static void test_lists(void **state)
{
    static const struct {
        const char *list, *joined; /* the elements with a bar behind each */
    } rows[] = {
        {"", ""},
        {"a", "a|"},
        {"a,b", "a|b|"},
        {" a , b\t,c ", "a|b|c|"},
        {",,a,, ,b,", "a|b|"},
        {" , \t ,", ""},
        {"a b, c", "a b|c|"},
        {"x; y=\"a,b\", z", "x; y=\"a,b\"|z|"},
        {"x=\"a\\\",b\", z", "x=\"a\\\",b\"|z|"},
        {"x=\"a, z", "x=\"a, z|"},
        {"x=\"a\\", "x=\"a\\|"},
    };
    (void)state;
    for (size_t i = 0; i < ROWS(rows); i++) {
        size_t len = strlen(rows[i].list);
        char *copy = guard_copy(rows[i].list, len), joined[64] = "";
        struct http_str rest = {copy, len}, element;
        while (http_list_next(&rest, &element)) {
            strncat(joined, element.p, element.len);
            strcat(joined, "|");
        }
        if (strcmp(joined, rows[i].joined) != 0) fail_msg("%s: %s", rows[i].list, joined);
        guard_free(copy, len);
    }
    assert_false(http_list_next(&(struct http_str){NULL, 0}, &(struct http_str){NULL, 0}));
    struct http_str list = {"keep-alive, Upgrade", 19};
    assert_true(http_list_has(list, "upgrade") && http_list_has(list, "Keep-Alive"));
    assert_false(http_list_has(list, "up") || http_list_has(list, "upgraded"));
    assert_false(http_list_has(list, ""));
}

/* CVE-2021-32640: a list as long as a head may be, in time that grows with its length. */
static void test_list_of_commas(void **state)
{
    char list[HTTP_HEAD_MAX];
    struct http_str element;
    (void)state;
    for (size_t i = 0; i < 200; i++) {
        memset(list, i % 2 ? ',' : ' ', sizeof(list));
        struct http_str rest = {list, sizeof(list)};
        assert_false(http_list_next(&rest, &element));
    }
}

static void test_percent_decode(void **state)
{
    static const struct {
        const char *in;
        size_t cap;
        int64_t len;
        const char *out;
    } rows[] = {
        {"", 0, 0, ""},
        {"news", 4, 4, "news"},
        {"news", 3, -1, ""},
        {"a%3Ab%2f%C3%A9+", 7, 7, "a:b/\xc3\xa9+"},
        {"%41%4a%6A", 3, 3, "AJj"},
        {"%00", 8, -1, ""},
        {"%", 8, -1, ""},
        {"%4", 8, -1, ""},
        {"a%4g", 8, -1, ""},
        {"a%g4", 8, -1, ""},
        {"%%41", 8, -1, ""},
        {"%-1", 8, -1, ""},
        {"%2541", 8, 3, "%41"}, /* once, not twice */
    };
    (void)state;
    for (size_t i = 0; i < ROWS(rows); i++) {
        size_t len = strlen(rows[i].in);
        char *in = guard_copy(rows[i].in, len), *out = guard_copy(NULL, rows[i].cap);
        int64_t n = http_percent_decode(out, rows[i].cap, (struct http_str){in, len});
        if (n != rows[i].len || (n > 0 && memcmp(out, rows[i].out, (size_t)n) != 0))
            fail_msg("%s: %lld", rows[i].in, (long long)n);
        guard_free(in, len);
        guard_free(out, rows[i].cap);
    }
    assert_int_equal(http_percent_decode((char[4]){0}, 4, (struct http_str){"a\0b", 3}), -1);
}

static void test_query(void **state)
{
    static const struct {
        const char *query, *name, *value; /* NULL: not there */
    } rows[] = {
        {"", "a", NULL},
        {"a=1", "a", "1"},
        {"a=1&b=2", "b", "2"},
        {"a=1&a=2", "a", "1"},
        {"ab=1&a=2", "a", "2"},
        {"a", "a", ""},
        {"a=", "a", ""},
        {"&&a=b=c&", "a", "b=c"},
        {"A=1", "a", NULL},
        {"b=a=1", "a", NULL},
        {"token=x%20y", "token", "x%20y"},
        {"=1", "a", NULL},
        {"a=1", "ab", NULL},
    };
    (void)state;
    for (size_t i = 0; i < ROWS(rows); i++) {
        size_t len = strlen(rows[i].query);
        char *copy = guard_copy(rows[i].query, len);
        struct http_str value = {NULL, 0};
        bool found = http_query_get((struct http_str){copy, len}, rows[i].name, &value);
        if (found != (rows[i].value != NULL) || (found && !http_str_is(value, rows[i].value)))
            fail_msg("%s in %s", rows[i].name, rows[i].query);
        guard_free(copy, len);
    }
}

static void test_reason(void **state)
{
    static const int statuses[] = {101, 200, 400, 401, 403, 404, 405, 413,
                                   414, 426, 429, 431, 500, 501, 503, 505};
    (void)state;
    for (size_t i = 0; i < ROWS(statuses); i++)
        assert_string_not_equal(http_reason(statuses[i]), "Unknown");
    assert_string_equal(http_reason(404), "Not Found");
    assert_string_equal(http_reason(999), "Unknown");
}

/* ---- response heads ---- */

static const struct response_row {
    const char *section;
    const char *head;
    int status; /* -1: malformed */
    const char *reason;
    unsigned flags;
    uint64_t content_length;
} response_rows[] = {
    {"RFC 6455 section 1.2's example",
     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
     "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
     "Sec-WebSocket-Protocol: chat\r\n\r\n",
     101, "Switching Protocols", 0, 0},
    {"RFC 9112 section 2.1's example", "HTTP/1.1 200 OK\r\nContent-Length: 51\r\n\r\n", 200, "OK",
     LENGTH, 51},
    {"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, "OK", CHUNKED, 0},
    {"no reason", "HTTP/1.1 204 \r\n\r\n", 204, "", 0, 0},
    {"no reason, no space", "HTTP/1.0 204\r\n\r\n", 204, "", 0, 0},
    {"no header", "HTTP/1.0 503 Go Away\r\n\r\n", 503, "Go Away", 0, 0},
    {"two digits", "HTTP/1.1 20 OK\r\n\r\n", -1, "", 0, 0},
    {"four digits", "HTTP/1.1 2000 OK\r\n\r\n", -1, "", 0, 0},
    {"below 100", "HTTP/1.1 099 OK\r\n\r\n", -1, "", 0, 0},
    {"no number", "HTTP/1.1 2x0 OK\r\n\r\n", -1, "", 0, 0},
    {"no status", "HTTP/1.1\r\n\r\n", -1, "", 0, 0},
    {"HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", -1, "", 0, 0},
    {"not HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", -1, "", 0, 0},
    {"bare LF", "HTTP/1.1 200 OK\n\n", -1, "", 0, 0},
    {"folding", "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", -1, "", 0, 0},
    {"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", -1, "", 0,
     0},
    {"length and coding",
     "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", -1, "", 0, 0},
    {"another coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", -1, "", 0, 0},
    {"a bad length", "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\n", -1, "", 0, 0},
    {"empty", "\r\n\r\n", -1, "", 0, 0},
};

static void check_response(const struct response_row *row, const struct http_response *r)
{
    unsigned flags = (r->chunked ? CHUNKED : 0u) | (r->has_content_length ? LENGTH : 0u);
    if (r->status != row->status || flags != row->flags ||
        r->content_length != row->content_length || !http_str_is(r->reason, row->reason))
        fail_msg("%s: status %d, flags %u", row->section, r->status, flags);
}

static void test_responses(void **state)
{
    static struct http_response r;
    (void)state;
    for (size_t i = 0; i < ROWS(response_rows); i++) {
        const struct response_row *row = &response_rows[i];
        size_t len = strlen(row->head);
        int answer = 0;
        for (size_t cut = 0; cut <= len; cut++) {
            char *copy = guard_copy(row->head, cut);
            answer = http_response_parse(&r, copy, cut);
            if (answer > 0) {
                assert_int_equal(cut, len);
                check_response(row, &r);
            }
            guard_free(copy, cut);
            if (answer < 0) break;
        }
        if (answer != (row->status < 0 ? -1 : (int)len)) fail_msg("%s: %d", row->section, answer);
    }
    http_response_parse(&r, response_rows[0].head, strlen(response_rows[0].head));
    assert_true(http_str_is(*http_response_header(&r, "sec-websocket-protocol"), "chat"));
    assert_null(http_response_header(&r, "Sec-WebSocket-Key"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_refused_at_once),
        cmocka_unit_test(test_growing_is_linear),
        cmocka_unit_test(test_accepted),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_head_size),
        cmocka_unit_test(test_header_count),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_list_of_commas),
        cmocka_unit_test(test_percent_decode),
        cmocka_unit_test(test_query),
        cmocka_unit_test(test_reason),
        cmocka_unit_test(test_responses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
