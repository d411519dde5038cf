/* conn_script.h - what a connection may be sent in its life, and what it must answer: for tests
 * that feed the same bytes in different pieces. Test programs only, behind engine.h. */
#ifndef CONN_SCRIPT_H
#define CONN_SCRIPT_H

struct script {
    size_t len, answer_len; /* answer_len 0: whatever it is, it is the same */
    uint8_t bytes[256 * 1024], answer[256 * 1024];
};

static void add(struct script *s, const char *text)
{
    size_t n = strlen(text);
    memcpy(s->bytes + s->len, text, n);
    s->len += n;
}

static void add_frame(struct script *s, enum ws_opcode opcode, bool fin, const void *p, size_t len)
{
    s->len += masked_frame(s->bytes + s->len, opcode, fin, p, len);
}

static void answer(struct script *s, const void *bytes, size_t len)
{
    memcpy(s->answer + s->answer_len, bytes, len);
    s->answer_len += len;
}

#define OK_TEXT                                                                                    \
    "HTTP/1.1 200 OK\r\nServer: roost\r\nContent-Type: text/plain; charset=utf-8\r\n"              \
    "Content-Length: 3\r\n\r\nok\n"
#define OK_JSON                                                                                    \
    "HTTP/1.1 200 OK\r\nServer: roost\r\nContent-Type: application/json\r\n"                       \
    "Content-Length: 13\r\n\r\n{\"result\":{}}"

/* Requests of all kinds on one connection, the opening handshake at last, and frames of all kinds
 * behind it. */
static void everything(struct script *s)
{
    static uint8_t large[70000];
    s->len = s->answer_len = 0;
    memset(large, 'L', sizeof large);
    add(s, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n\r\nHEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    answer(s, OK_TEXT, sizeof OK_TEXT - 1);
    answer(s, OK_TEXT, sizeof OK_TEXT - 1 - 3);
    add(s, "POST /api/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 24\r\n\r\n"
           "{\"channel\":\"c\",\"data\":1}");
    add(s, "POST /api/publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
           "5;a=b\r\n{\"cha\r\n13\r\nnnel\":\"c\",\"data\":1}\r\n0\r\nTrailer: t\r\n\r\n");
    answer(s, OK_JSON, sizeof OK_JSON - 1);
    answer(s, OK_JSON, sizeof OK_JSON - 1);
    add(s, UPGRADE("/echo"));
    answer(s, SWITCHED, sizeof SWITCHED - 1);
    add_frame(s, WS_TEXT, true, "", 0);
    answer(s, "\x81\x00", 2);
    add_frame(s, WS_TEXT, true, "h\xc3\xa9llo", 6);
    answer(s, "\x81\x06h\xc3\xa9llo", 8);
    add_frame(s, WS_BINARY, false, "ab", 2);
    add_frame(s, WS_PING, true, "ping", 4);
    answer(s, "\x8a\x04ping", 6);
    add_frame(s, WS_CONTINUATION, false, "", 0);
    add_frame(s, WS_CONTINUATION, true, "cd", 2);
    answer(s,
           "\x82\x04"
           "abcd",
           6);
    add_frame(s, WS_PONG, true, "unasked", 7);
    add_frame(s, WS_BINARY, true, large, sizeof large);
    answer(s, "\x82\x7f\0\0\0\0\0\x01\x11\x70", 10);
    answer(s, large, sizeof large);
    add_frame(s, WS_CLOSE, true, "\x03\xe8goodbye", 9);
    answer(s, "\x88\x02\x03\xe8", 4);
    add_frame(s, WS_TEXT, true, "behind", 6); /* section 5.5.1: not looked at */
}

#endif
