/* dial.c: the client's side of RFC 6455 against scripted servers on loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dial.h"

#define LIMIT_MS 5000 /* of any wait: a test that comes near it fails */

static struct dial_loop *loop;
static struct dial_peer peer;
static int listener;

struct seen { /* what the handler was told, as text */
    char text[512];
    size_t len;
};

static void add(struct seen *s, const void *bytes, size_t len)
{
    assert_true(s->len + len < sizeof s->text);
    memcpy(s->text + s->len, bytes, len);
    s->len += len;
    s->text[s->len] = 0;
}

static void on_event(struct dial *d, const struct ws_event *ev, void *user)
{
    static const char *const names[] = {[WS_TEXT] = "t:",
                                        [WS_BINARY] = "b:",
                                        [WS_CLOSE] = "close:",
                                        [WS_PING] = "ping:",
                                        [WS_PONG] = "pong:"};
    (void)d;
    if (ev->kind == WS_EVENT_CONTROL || ev->first)
        add(user, names[ev->opcode], strlen(names[ev->opcode]));
    if (ev->opcode != WS_CLOSE) add(user, ev->payload, ev->len);
    if (ev->kind == WS_EVENT_CONTROL || ev->last) add(user, ";", 1);
}

static const struct dial_handler handler = {.event = on_event};

/* One turn of a poll loop. Returns false when nothing happened within ms. */
static bool turn(struct dial *d, int ms)
{
    struct pollfd p = {.fd = dial_fd(d), .events = dial_wants(d)};
    if (p.fd == -1 || poll(&p, 1, ms) <= 0) return false;
    dial_step(d, p.revents);
    return true;
}

static void reach(struct dial *d, enum dial_state state)
{
    for (int i = 0; i < 1000 && dial_state(d) != state; i++)
        if (!turn(d, LIMIT_MS)) break;
    assert_int_equal(dial_state(d), state);
}

struct call { /* a connection with both ends in our hand */
    struct dial *d;
    struct seen seen;
    int server;
    char request[4096];
    char accept[29];
};

static void read_request(struct call *c)
{
    size_t len = 0;
    while (!strstr(c->request, "\r\n\r\n")) {
        ssize_t n = recv(c->server, c->request + len, sizeof c->request - 1 - len, 0);
        assert_true(n > 0);
        len += (size_t)n;
        c->request[len] = 0;
    }
    const char *key = strstr(c->request, "Sec-WebSocket-Key: ");
    assert_non_null(key);
    assert_true(ws_key_ok(key + 19, 24));
    ws_accept_key(c->accept, key + 19, 24);
}

static void call(struct call *c, const char *token)
{
    const struct dial_request request = {
        .target = "/raw/x?pub=0", .token = token, .handler = &handler, .user = &c->seen};
    memset(c, 0, sizeof *c);
    c->d = dial_new(loop, &peer, &request);
    assert_non_null(c->d);
    reach(c->d, DIAL_HTTP_HEAD);
    c->server = accept(listener, NULL, NULL);
    assert_true(c->server >= 0);
    read_request(c);
}

static void hang_up(struct call *c)
{
    if (c->server != -1) close(c->server);
    dial_free(c->d);
}

static void say(struct call *c, const void *bytes, size_t len)
{
    if (len) assert_int_equal(send(c->server, bytes, len, MSG_NOSIGNAL), len);
}

static size_t welcome(const struct call *c, char *out, size_t cap)
{
    return (size_t)snprintf(out, cap,
                            "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\n"
                            "Connection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                            c->accept);
}

static void open_up(struct call *c)
{
    char head[300];
    call(c, NULL);
    say(c, head, welcome(c, head, sizeof head));
    reach(c->d, DIAL_OPEN);
}

/* read_frame takes one frame of the client's, which must be masked (section 5.1). */
static uint8_t read_frame(struct call *c, uint8_t *payload, size_t *len)
{
    uint8_t buf[WS_HEAD_MAX];
    struct ws_head h;
    int head = 0;
    for (size_t n = 0; head == 0; n++) {
        assert_true(n < sizeof buf);
        assert_int_equal(recv(c->server, buf + n, 1, 0), 1);
        head = ws_head_parse(&h, buf, n + 1);
    }
    assert_true(head > 0 && h.masked && h.fin && !h.rsv1);
    *len = (size_t)h.payload_len;
    if (*len) assert_int_equal(recv(c->server, payload, *len, MSG_WAITALL), *len);
    ws_unmask(payload, *len, h.masking_key, 0);
    return h.opcode;
}

/* ---- opening handshake (section 4.1) ---- */

static void test_request(void **state)
{
    (void)state;
    struct call c;
    call(&c, "a.b.c");
    static const char start[] = "GET /raw/x?pub=0 HTTP/1.1\r\nHost: 127.0.0.1:";
    assert_memory_equal(c.request, start, sizeof start - 1);
    assert_non_null(strstr(c.request, "\r\nUpgrade: websocket\r\n"));
    assert_non_null(strstr(c.request, "\r\nConnection: Upgrade\r\n"));
    assert_non_null(strstr(c.request, "\r\nSec-WebSocket-Version: 13\r\n"));
    assert_non_null(strstr(c.request, "\r\nAuthorization: Bearer a.b.c\r\n"));
    hang_up(&c);
}

static void test_token_can_not_add_headers(void **state)
{
    (void)state;
    const struct dial_request request = {
        .target = "/", .token = "a\r\nX: y", .handler = &handler, .user = NULL};
    struct dial *d = dial_new(loop, &peer, &request);
    assert_int_equal(dial_state(d), DIAL_CLOSED);
    assert_int_equal(dial_end(d)->kind, DIAL_END_LOCAL);
    dial_free(d);
}

static void test_answers_that_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *answer; /* %s: the right Sec-WebSocket-Accept */
        enum dial_end_kind kind;
        int code;
        const char *text;
    } cases[] = {
        {"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", DIAL_END_PROTOCOL,
         0, "Accept"},
        {"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
         DIAL_END_PROTOCOL, 0, "Accept"},
        {"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
         DIAL_END_PROTOCOL, 0, "Upgrade"},
        {"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
         DIAL_END_PROTOCOL, 0, "Connection"},
        {"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
         "%s\r\n"
         "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
         DIAL_END_PROTOCOL, 0, "extension"},
        {"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
         "%s\r\n"
         "Sec-WebSocket-Protocol: chat\r\n\r\n",
         DIAL_END_PROTOCOL, 0, "subprotocol"},
        {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 14\r\n\r\ntoken expired\n", DIAL_END_HTTP,
         401, "401 token expired"},
        {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", DIAL_END_HTTP, 404,
         "404 Not Found"},
        {"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 5\r\n\r\n\x1b[2Jx", DIAL_END_HTTP,
         503, "503 Busy"},
        {"HTTP/1.1 500 Oops\r\nContent-Length: 12\r\n\r\nab\x1b[2Jc\tdefg", DIAL_END_HTTP, 500,
         "500 ab?[2Jc?defg"},
        {"SSH-2.0-OpenSSH_9.2\r\n\r\n", DIAL_END_PROTOCOL, 0, "not HTTP"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct call c;
        char answer[600];
        call(&c, NULL);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        int n = snprintf(answer, sizeof answer, cases[i].answer, c.accept);
#pragma GCC diagnostic pop
        say(&c, answer, (size_t)n);
        reach(c.d, DIAL_CLOSED);
        assert_int_equal(dial_end(c.d)->kind, cases[i].kind);
        assert_int_equal(dial_end(c.d)->code, cases[i].code);
        if (!strstr(dial_end(c.d)->text, cases[i].text))
            fail_msg("case %zu: %s", i, dial_end(c.d)->text);
        assert_int_equal(dial_end(c.d)->retry_after_s, cases[i].code == 503 ? 7 : -1);
        hang_up(&c);
    }
}

static void test_endless_head(void **state)
{
    (void)state;
    struct call c;
    char line[64];
    call(&c, NULL);
    say(&c, "HTTP/1.1 200 OK\r\n", 17);
    for (int i = 0; i < 1000 && dial_state(c.d) != DIAL_CLOSED; i++) {
        int n =
            snprintf(line, sizeof line, "X-%d: 0123456789012345678901234567890123456789\r\n", i);
        if (send(c.server, line, (size_t)n, MSG_NOSIGNAL) != n) break;
        turn(c.d, 100);
    }
    assert_int_equal(dial_state(c.d), DIAL_CLOSED);
    hang_up(&c);
}

/* The answer and everything behind it, cut at every byte: always the same events. */
static void test_every_cut(void **state)
{
    (void)state;
    static const uint8_t frames[] =
        "\x81\x05Hello"                  /* section 5.7: a single-frame unmasked text message */
        "\x01\x03Hel\x89\x01p\x80\x02lo" /* fragmented, a ping between */
        "\x82\x03"
        "abc"
        "\x88\x06\x03\xe8"
        "done";
    char head[300];
    size_t total = 1;
    for (size_t cut = 0; cut < total; cut++) {
        struct call c;
        uint8_t all[512];
        call(&c, NULL);
        size_t head_len = welcome(&c, head, sizeof head);
        total = head_len + sizeof frames - 1;
        memcpy(all, head, head_len);
        memcpy(all + head_len, frames, sizeof frames - 1);
        say(&c, all, cut);
        while (turn(c.d, cut ? 1 : 0)) continue;
        say(&c, all + cut, total - cut);
        reach(c.d, DIAL_CLOSING);
        /* A text frame may come in two pieces; the handler joins them. */
        assert_string_equal(c.seen.text, "t:Hello;t:Helping:p;lo;b:abc;close:;");
        assert_true(dial_close_received(c.d));
        assert_false(dial_close_confirmed(c.d));
        assert_int_equal(dial_end(c.d)->code, 1000);
        uint8_t payload[128];
        size_t len;
        assert_int_equal(read_frame(&c, payload, &len), WS_PONG); /* section 5.5.3 */
        assert_int_equal(len, 1);
        assert_int_equal(read_frame(&c, payload, &len), WS_CLOSE); /* section 5.5.1 */
        assert_int_equal(payload[0] << 8 | payload[1], 1000);
        close(c.server);
        c.server = -1;
        reach(c.d, DIAL_CLOSED);
        assert_int_equal(dial_end(c.d)->kind, DIAL_END_CLOSE);
        hang_up(&c);
    }
}

/* ---- frames ---- */

static void test_send(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 125, 126, 65535, 65536};
    static uint8_t sent[65536], got[65536];
    struct call c;
    open_up(&c);
    for (size_t i = 0; i < sizeof sent; i++) sent[i] = (uint8_t)(i * 7);
    int64_t end = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t len;
        int64_t before = end;
        end = dial_send(c.d, WS_BINARY, sent, sizes[i]);
        assert_int_equal(end, before + 4 + (int64_t)(ws_head_size(sizes[i]) + sizes[i]));
        assert_int_equal(dial_taken(c.d), before);
        dial_flush(c.d);
        assert_int_equal(dial_taken(c.d), end);
        assert_int_equal(dial_queued(c.d), 0);
        assert_int_equal(read_frame(&c, got, &len), WS_BINARY);
        assert_int_equal(len, sizes[i]);
        assert_memory_equal(got, sent, len);
    }
    hang_up(&c);
}

/* What the socket did not take is known: that is what pub may send again. */
static void test_taken(void **state)
{
    (void)state;
    static uint8_t block[1 << 20];
    struct call c;
    int64_t end = 0;
    open_up(&c);
    for (int i = 0; i < 64 && dial_queued(c.d) == 0; i++) {
        end = dial_send(c.d, WS_BINARY, block, sizeof block);
        dial_flush(c.d);
    }
    assert_true(dial_queued(c.d) > 0);
    assert_int_equal(dial_taken(c.d), end - (int64_t)dial_queued(c.d));
    assert_int_equal(dial_wants(c.d), POLLIN | POLLOUT);
    int64_t taken = dial_taken(c.d);
    close(c.server); /* with unread bytes: a reset */
    c.server = -1;
    reach(c.d, DIAL_CLOSED);
    assert_int_equal(dial_end(c.d)->kind, DIAL_END_NETWORK);
    assert_int_equal(dial_taken(c.d), taken);
    assert_int_equal(dial_send(c.d, WS_TEXT, "x", 1), -1);
    hang_up(&c);
}

static void test_broken_frames(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint8_t bytes[16];
        size_t len;
        int code;
    } cases[] = {
        {"5.1 masked by the server", {0x81, 0x81, 0, 0, 0, 0, 'x'}, 7, 1002},
        {"5.2 rsv1 without extension", {0xc1, 0x01, 'x'}, 3, 1002},
        {"5.2 unknown opcode", {0x83, 0x00}, 2, 1002},
        {"5.4 continuation of nothing", {0x80, 0x01, 'x'}, 3, 1002},
        {"5.5 control frame too long", {0x89, 0x7e, 0x00, 0x7e}, 4, 1002},
        {"5.5.1 close of one byte", {0x88, 0x01, 0x03}, 3, 1002},
        {"7.4.1 code 1005 on the wire", {0x88, 0x02, 0x03, 0xed}, 4, 1002},
        {"8.1 not UTF-8", {0x81, 0x01, 0xff}, 3, 1007},
        {"too large", {0x82, 0x7f, 0, 0, 0, 0, 0x40, 0, 0, 1}, 10, 1009},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct call c;
        uint8_t payload[128];
        size_t len;
        open_up(&c);
        say(&c, cases[i].bytes, cases[i].len);
        reach(c.d, DIAL_CLOSED);
        assert_int_equal(dial_end(c.d)->kind, DIAL_END_PROTOCOL);
        assert_int_equal(read_frame(&c, payload, &len), WS_CLOSE);
        if ((payload[0] << 8 | payload[1]) != cases[i].code)
            fail_msg("%s: closed with %d", cases[i].name, payload[0] << 8 | payload[1]);
        hang_up(&c);
    }
}

static void test_close_by_us(void **state)
{
    (void)state;
    static const struct {
        const char *answer;
        size_t len;
        bool confirmed;
    } cases[] = {
        {"\x88\x02\x03\xe8", 4, true},  /* the answer */
        {"\x88\x00", 2, true},          /* the answer without a code */
        {"\x88\x02\x03\xf4", 4, false}, /* 1012: it crossed ours */
        {"", 0, false},                 /* cut */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct call c;
        uint8_t payload[128];
        size_t len;
        open_up(&c);
        dial_send(c.d, WS_TEXT, "last words", 10);
        dial_close(c.d, 1000, "bye");
        assert_int_equal(dial_send(c.d, WS_TEXT, "x", 1), -1);
        assert_int_equal(read_frame(&c, payload, &len), WS_TEXT);
        assert_int_equal(read_frame(&c, payload, &len), WS_CLOSE);
        assert_int_equal(len, 5);
        say(&c, cases[i].answer, cases[i].len);
        close(c.server);
        c.server = -1;
        reach(c.d, DIAL_CLOSED);
        assert_int_equal(dial_close_confirmed(c.d), cases[i].confirmed);
        hang_up(&c);
    }
}

/* ---- connecting ---- */

static void test_hold(void **state)
{
    (void)state;
    struct seen seen = {0};
    const struct dial_request request = {
        .target = "/", .hold = true, .handler = &handler, .user = &seen};
    struct dial *d = dial_new(loop, &peer, &request);
    reach(d, DIAL_READY);
    int server = accept(listener, NULL, NULL);
    char byte;
    assert_int_equal(dial_wants(d), POLLIN);
    assert_int_equal(recv(server, &byte, 1, MSG_DONTWAIT), -1);
    dial_upgrade(d);
    assert_int_equal(dial_state(d), DIAL_HTTP_HEAD);
    assert_int_equal(recv(server, &byte, 1, 0), 1);
    assert_int_equal(byte, 'G');
    close(server);
    reach(d, DIAL_CLOSED);
    dial_free(d);
}

/* An address that refuses is followed by the next one. */
static void test_next_address(void **state)
{
    (void)state;
    struct dial_peer two = peer;
    two.addresses[1] = peer.addresses[0];
    two.address_len[1] = peer.address_len[0];
    two.address_count = 2;
    struct sockaddr_in *first = (struct sockaddr_in *)&two.addresses[0];
    first->sin_port = htons(1);
    struct seen seen = {0};
    const struct dial_request request = {.target = "/", .handler = &handler, .user = &seen};
    struct dial *d = dial_new(loop, &two, &request);
    reach(d, DIAL_HTTP_HEAD);
    close(accept(listener, NULL, NULL));
    dial_free(d);
    two.address_count = 1;
    d = dial_new(loop, &two, &request);
    reach(d, DIAL_CLOSED);
    assert_int_equal(dial_end(d)->kind, DIAL_END_NETWORK);
    assert_non_null(strstr(dial_end(d)->text, "refused"));
    dial_free(d);
}

static void test_retry(void **state)
{
    (void)state;
    static const struct {
        unsigned failures;
        int64_t most_ms;
    } cases[] = {{0, 1000},  {1, 1500},  {2, 2500},   {3, 4500},          {4, 8500},
                 {5, 16500}, {6, 20000}, {31, 20000}, {1000000000, 20000}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t least = INT64_MAX, most = 0;
        for (uint64_t random = 0; random < 40000; random++) {
            int64_t ms = dial_retry_ms(cases[i].failures, random);
            if (ms < least) least = ms;
            if (ms > most) most = ms;
        }
        assert_int_equal(least, DIAL_RETRY_MIN_MS);
        assert_true(most <= cases[i].most_ms && most >= cases[i].most_ms - 1);
        assert_true(dial_retry_ms(cases[i].failures, UINT64_MAX) <= cases[i].most_ms);
    }
}

static int set_up(void **state)
{
    (void)state;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof any;
    char url[64], err[200];
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (listener == -1 || bind(listener, (struct sockaddr *)&any, len) == -1 ||
        listen(listener, 16) == -1 || getsockname(listener, (struct sockaddr *)&any, &len) == -1)
        return -1;
    snprintf(url, sizeof url, "ws://127.0.0.1:%u", ntohs(any.sin_port));
    peer.max_message_bytes = 1 << 20;
    loop = dial_loop_new();
    return url_parse(&peer.url, url) || dial_resolve(&peer, err, sizeof err, NULL) || !loop ? -1
                                                                                            : 0;
}

static int tear_down(void **state)
{
    (void)state;
    dial_loop_delete(loop);
    return close(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request),
        cmocka_unit_test(test_token_can_not_add_headers),
        cmocka_unit_test(test_answers_that_are_refused),
        cmocka_unit_test(test_endless_head),
        cmocka_unit_test(test_every_cut),
        cmocka_unit_test(test_send),
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_broken_frames),
        cmocka_unit_test(test_close_by_us),
        cmocka_unit_test(test_hold),
        cmocka_unit_test(test_next_address),
        cmocka_unit_test(test_retry),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
