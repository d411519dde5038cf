#include "dial.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <mbedtls/base64.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dial_queue.h"
#include "http.h"

#define RX_BYTES (64u * 1024)
#define READS_PER_STEP 4
#define REFUSAL_BYTES 512 /* of the body of a refusal that are waited for */
#define MASKING_KEYS 1024
#define DEFAULT_MAX_MESSAGE (64u << 20)

struct dial_loop {
    uint8_t rx[RX_BYTES];
    uint8_t plain[TLS_RECORD_MAX + 256];
    uint8_t sealed[TLS_OUT_MAX];
    /* RFC 6455 section 5.3 wants keys that nobody can foretell: straight from the kernel's
     * generator, many at a time, at some 10 ns each. */
    uint8_t keys[MASKING_KEYS][4];
    unsigned keys_left;
};

struct dial {
    struct dial_loop *loop;
    const struct dial_peer *peer;
    const struct dial_handler *handler;
    void *user;
    int fd;
    uint8_t state; /* enum dial_state */
    uint8_t address_at;
    bool hold;
    bool close_received;
    bool close_confirmed;
    uint16_t close_code; /* that we sent */
    bool send_broken; /* the socket refuses bytes; what the server said before may still be read */
    struct tls *tls;
    struct queue out;  /* the request, then frames */
    struct queue wire; /* TLS: records that the socket has not taken */
    int64_t sent_at;   /* stream position behind what is in out */
    int64_t sealed_at; /* TLS: stream position behind what is in wire */
    int64_t taken_at;  /* stream position up to which the socket has everything */
    uint8_t *head;     /* the response's head as it comes in, and the start of a refusal's body */
    size_t head_len;
    struct ws_reader reader;
    char accept[29];
    struct dial_end end;
};

static const uint8_t may_become[] = {
    [DIAL_CONNECTING] =
        1 << DIAL_TLS_HANDSHAKE | 1 << DIAL_READY | 1 << DIAL_HTTP_HEAD | 1 << DIAL_CLOSED,
    [DIAL_TLS_HANDSHAKE] = 1 << DIAL_READY | 1 << DIAL_HTTP_HEAD | 1 << DIAL_CLOSED,
    [DIAL_READY] = 1 << DIAL_HTTP_HEAD | 1 << DIAL_CLOSED,
    [DIAL_HTTP_HEAD] = 1 << DIAL_OPEN | 1 << DIAL_CLOSED,
    [DIAL_OPEN] = 1 << DIAL_CLOSING | 1 << DIAL_CLOSED,
    [DIAL_CLOSING] = 1 << DIAL_CLOSED,
    [DIAL_CLOSED] = 0,
};

static void set_state(struct dial *d, enum dial_state to)
{
    assert(may_become[d->state] & 1 << to);
    d->state = (uint8_t)to;
}

/* ---- the end ---- */

/* What a peer says is shown on a terminal: one line, nothing that could steer it. */
static void add_printable(char *text, size_t cap, const char *p, size_t len)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < len && n + 1 < cap; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c == '\r' || c == '\n') break;
        text[n++] = c < ' ' || c >= 0x7f ? '?' : (char)c;
    }
    text[n] = 0;
}

/* The first reason counts: what comes later is its consequence. */
__attribute__((format(printf, 4, 5))) static void say(struct dial *d, enum dial_end_kind kind,
                                                      int code, const char *format, ...)
{
    va_list ap;
    if (d->end.kind != DIAL_END_NONE) return;
    d->end.kind = kind;
    d->end.code = code;
    va_start(ap, format);
    vsnprintf(d->end.text, sizeof d->end.text, format, ap);
    va_end(ap);
}

static void over(struct dial *d)
{
    if (d->state == DIAL_CLOSED) return;
    if (d->fd != -1) close(d->fd);
    d->fd = -1;
    set_state(d, DIAL_CLOSED);
    queue_drop(&d->out);
    queue_drop(&d->wire);
    free(d->head);
    d->head = NULL;
    tls_free(d->tls);
    d->tls = NULL;
}

static void out_of_memory(struct dial *d)
{
    say(d, DIAL_END_LOCAL, 0, "out of memory");
    over(d);
}

/* ---- sending ---- */

/* send_from hands bytes to the socket; returns how many it took. */
static size_t send_some(struct dial *d, const uint8_t *p, size_t len)
{
    size_t done = 0;
    while (done < len && !d->send_broken) {
        ssize_t n = send(d->fd, p + done, len - done, MSG_NOSIGNAL);
        if (n >= 0) {
            done += (size_t)n;
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            d->send_broken = true; /* reading on tells why */
        }
    }
    return done;
}

static void flush_wire(struct dial *d)
{
    size_t len = queue_len(&d->wire);
    if (len) queue_took(&d->wire, send_some(d, d->wire.p + d->wire.at, len));
}

/* A record that was begun must be sent to its end: what the socket does not take waits in wire. */
static void send_sealed(struct dial *d, size_t len)
{
    size_t n = queue_len(&d->wire) ? 0 : send_some(d, d->loop->sealed, len);
    if (!queue_add(&d->wire, d->loop->sealed + n, len - n)) out_of_memory(d);
}

static void flush_tls(struct dial *d)
{
    flush_wire(d);
    if (queue_len(&d->wire) == 0) d->taken_at = d->sealed_at;
    while (d->state >= DIAL_HTTP_HEAD && d->state < DIAL_CLOSED && queue_len(&d->out) &&
           queue_len(&d->wire) == 0 && !d->send_broken) {
        size_t used = 0, len = 0;
        const struct iovec plain = {d->out.p + d->out.at, queue_len(&d->out)};
        enum io io =
            tls_seal(d->tls, &plain, 1, &used, d->loop->sealed, sizeof d->loop->sealed, &len);
        if (io == IO_CLOSED || used == 0) {
            say(d, DIAL_END_TLS, 0, "TLS: %s", tls_why(d->tls));
            over(d);
            return;
        }
        queue_took(&d->out, used);
        d->sealed_at += (int64_t)used;
        send_sealed(d, len);
        if (queue_len(&d->wire) == 0) d->taken_at = d->sealed_at;
    }
}

void dial_flush(struct dial *d)
{
    if (d->state == DIAL_CONNECTING || d->state == DIAL_CLOSED) return;
    if (d->tls) {
        flush_tls(d);
    } else if (d->state >= DIAL_HTTP_HEAD) {
        size_t len = queue_len(&d->out);
        if (len == 0) return;
        queue_took(&d->out, send_some(d, d->out.p + d->out.at, len));
        d->taken_at = d->sent_at - (int64_t)queue_len(&d->out);
    }
}

size_t dial_queued(const struct dial *d)
{
    return queue_len(&d->out) + queue_len(&d->wire);
}

int64_t dial_taken(const struct dial *d)
{
    return d->taken_at;
}

static void next_key(struct dial_loop *loop, uint8_t key[static 4])
{
    if (loop->keys_left == 0) {
        random_bytes(loop->keys, sizeof loop->keys);
        loop->keys_left = MASKING_KEYS;
    }
    memcpy(key, loop->keys[--loop->keys_left], 4);
}

static int64_t add_frame(struct dial *d, enum ws_opcode opcode, const void *payload, size_t len)
{
    struct ws_head h = {.opcode = (uint8_t)opcode, .fin = true, .masked = true, .payload_len = len};
    uint8_t *to = queue_room(&d->out, WS_HEAD_MAX + len);
    if (!to) return -1;
    next_key(d->loop, h.masking_key);
    size_t head = ws_head_write(to, &h);
    if (len) memcpy(to + head, payload, len);
    ws_unmask(to + head, len, h.masking_key, 0); /* masking is the same operation */
    d->out.len += head + len;
    d->sent_at += (int64_t)(head + len);
    return d->sent_at;
}

int64_t dial_send(struct dial *d, enum ws_opcode opcode, const void *payload, size_t len)
{
    if (d->state != DIAL_OPEN || d->send_broken) return -1;
    return add_frame(d, opcode, payload, len);
}

static void add_close(struct dial *d, unsigned code, const char *reason)
{
    uint8_t payload[WS_CONTROL_MAX];
    size_t len = code == WS_CLOSE_NO_STATUS ? 0 : ws_close_write(payload, code, reason);
    d->close_code = (uint16_t)code;
    add_frame(d, WS_CLOSE, payload, len); /* without memory for it the socket's end must do */
    set_state(d, DIAL_CLOSING);
}

void dial_close(struct dial *d, unsigned code, const char *reason)
{
    if (d->state >= DIAL_CLOSING) return;
    if (d->state == DIAL_OPEN) {
        add_close(d, code, reason);
        dial_flush(d);
        return;
    }
    say(d, DIAL_END_LOCAL, 0, "given up: %s", reason);
    over(d);
}

/* protocol_error ends a connection whose server broke a rule (RFC 6455 section 7.1.7). */
static void protocol_error(struct dial *d, unsigned code, const char *what)
{
    say(d, DIAL_END_PROTOCOL, (int)code, "%s", what);
    if (d->state == DIAL_OPEN) {
        add_close(d, code, what);
        dial_flush(d);
    }
    over(d);
}

/* ---- frames ---- */

static void close_arrived(struct dial *d, const struct ws_event *ev)
{
    const char *reason = "";
    size_t reason_len = 0;
    int code = ws_close_parse(ev->payload, ev->len, &reason, &reason_len);
    if (code < 0) {
        protocol_error(d, (unsigned)-code, "the server sent a Close frame that is not valid");
        return;
    }
    d->close_received = true;
    bool ours_first = d->state == DIAL_CLOSING;
    d->close_confirmed = ours_first && (code == d->close_code || code == WS_CLOSE_NO_STATUS);
    say(d, DIAL_END_CLOSE, code, "%s %d%s", ours_first ? "closed," : "closed by the server,", code,
        reason_len ? " " : "");
    add_printable(d->end.text, sizeof d->end.text, reason, reason_len);
    d->end.for_rate = reason_len == 4 && memcmp(reason, "rate", 4) == 0;
    if (!ours_first) add_close(d, (unsigned)code, "");
}

static void control_frame(struct dial *d, struct ws_event *ev)
{
    switch ((enum ws_opcode)ev->opcode) {
    case WS_PING:
        if (d->state == DIAL_OPEN) add_frame(d, WS_PONG, ev->payload, ev->len);
        break;
    case WS_CLOSE: close_arrived(d, ev); break;
    case WS_PONG:
    case WS_CONTINUATION:
    case WS_TEXT:
    case WS_BINARY: break;
    }
}

static const char *frame_error(unsigned code)
{
    if (code == WS_CLOSE_TOO_LARGE) return "the server sent a message that is too large";
    if (code == WS_CLOSE_BAD_DATA) return "the server sent text that is not UTF-8";
    return "the server sent a frame that breaks RFC 6455";
}

static void read_frames(struct dial *d, uint8_t *buf, size_t len)
{
    uint64_t max = d->peer->max_message_bytes;
    const struct ws_limits limits = {.max_message_bytes = max ? max : DEFAULT_MAX_MESSAGE,
                                     .server = d->peer->echo_masked};
    while (len && d->state != DIAL_CLOSED && !d->close_received) {
        struct ws_event ev;
        int64_t n = ws_read(&d->reader, &limits, buf, len, &ev);
        if (n < 0) {
            protocol_error(d, (unsigned)-n, frame_error((unsigned)-n));
            return;
        }
        if (ev.kind == WS_EVENT_CONTROL) control_frame(d, &ev);
        if (ev.kind != WS_EVENT_NONE && d->state != DIAL_CLOSED) d->handler->event(d, &ev, d->user);
        buf += n;
        len -= (size_t)n;
    }
}

/* ---- the opening handshake's answer ---- */

static bool header_has(const struct http_response *r, const char *name, const char *token)
{
    const struct http_str *value = http_response_header(r, name);
    return value && http_list_has(*value, token);
}

/* RFC 6455 section 4.1: what the client must check, in its order. */
static const char *handshake_fault(const struct dial *d, const struct http_response *r)
{
    const struct http_str *accept = http_response_header(r, "Sec-WebSocket-Accept");
    if (!header_has(r, "Upgrade", "websocket")) return "the answer has no Upgrade: websocket";
    if (!header_has(r, "Connection", "upgrade")) return "the answer has no Connection: Upgrade";
    if (!accept || !http_str_is(*accept, d->accept)) return "Sec-WebSocket-Accept is wrong";
    if (http_response_header(r, "Sec-WebSocket-Extensions"))
        return "the server chose an extension that was not offered";
    if (http_response_header(r, "Sec-WebSocket-Protocol"))
        return "the server chose a subprotocol that was not offered";
    return NULL;
}

static void opened(struct dial *d)
{
    set_state(d, DIAL_OPEN);
    d->sent_at = d->sealed_at = d->taken_at =
        0; /* stream positions count from here: the request has gone */
    free(d->head);
    d->head = NULL;
    if (d->handler->opened) d->handler->opened(d, d->user);
}

static int64_t retry_after(const struct http_response *r)
{
    const struct http_str *value = http_response_header(r, "Retry-After");
    int64_t s = 0;
    if (!value || value->len == 0 || value->len > 6) return -1; /* a date is not worth a parser */
    for (size_t i = 0; i < value->len; i++) {
        if (!isdigit((unsigned char)value->p[i])) return -1;
        s = s * 10 + (value->p[i] - '0');
    }
    return s;
}

/* refused waits for the first line of the body, which says what is wrong, and ends. */
static void refused(struct dial *d, const struct http_response *r, size_t head, bool eof)
{
    const char *body = (const char *)d->head + head;
    size_t len = d->head_len - head, want = REFUSAL_BYTES;
    if (r->has_content_length && r->content_length < want) want = (size_t)r->content_length;
    if (len < want && !eof && !memchr(body, '\n', len)) return;
    bool plain = len && !r->chunked && isprint((unsigned char)*body) && *body != '<';
    char status[16];
    int status_len = snprintf(status, sizeof status, "%d ", r->status);
    bool said = len >= (size_t)status_len && memcmp(body, status, (size_t)status_len) == 0;
    say(d, DIAL_END_HTTP, r->status, "%s", plain && said ? "" : status);
    d->end.retry_after_s = retry_after(r);
    if (plain)
        add_printable(d->end.text, sizeof d->end.text, body, len);
    else
        add_printable(d->end.text, sizeof d->end.text, r->reason.p, r->reason.len);
    over(d);
}

/* read_head takes the answer's head; returns how many bytes of buf were used. */
static size_t read_head(struct dial *d, const uint8_t *buf, size_t len, bool eof)
{
    struct http_response r;
    size_t before = d->head_len, take = HTTP_HEAD_MAX + REFUSAL_BYTES - before;
    if (take > len) take = len;
    if (!d->head && !(d->head = malloc(HTTP_HEAD_MAX + REFUSAL_BYTES))) {
        out_of_memory(d);
        return len;
    }
    if (take) memcpy(d->head + before, buf, take);
    d->head_len += take;
    int n = http_response_parse(&r, (const char *)d->head, d->head_len);
    if (n < 0 || (n == 0 && d->head_len >= HTTP_HEAD_MAX)) {
        protocol_error(d, 0, "the answer is not HTTP/1.1: is this the right port?");
    } else if (n > 0 && r.status != 101) {
        refused(d, &r, (size_t)n, eof);
    } else if (n > 0) {
        const char *fault = handshake_fault(d, &r);
        size_t used = (size_t)n - before;
        if (!fault) {
            opened(d);
            return used;
        }
        protocol_error(d, 0, fault);
    }
    return len;
}

static void plain_arrived(struct dial *d, uint8_t *buf, size_t len)
{
    if (d->state == DIAL_HTTP_HEAD) {
        size_t used = read_head(d, buf, len, false);
        buf += used;
        len -= used;
    }
    if (d->state == DIAL_OPEN || d->state == DIAL_CLOSING) read_frames(d, buf, len);
}

/* ---- TLS ---- */

static void transport_ready(struct dial *d)
{
    set_state(d, d->hold ? DIAL_READY : DIAL_HTTP_HEAD);
}

static void tls_failed(struct dial *d)
{
    const char *why = tls_why(d->tls);
    bool trust = strstr(why, "certificate") != NULL;
    say(d, DIAL_END_TLS, 0, "TLS: %s%s", why,
        trust ? ": give --cacert FILE with the certificate that signed it, or check the host name"
              : "");
    flush_wire(d); /* the alert */
    over(d);
}

/* shake_hands feeds what was received to the TLS handshake; returns how many bytes were used. */
static size_t shake_hands(struct dial *d, const uint8_t *buf, size_t len)
{
    size_t at = 0;
    for (;;) {
        size_t used = 0, out = 0;
        enum io io = tls_handshake(d->tls, buf + at, len - at, &used, d->loop->sealed,
                                   sizeof d->loop->sealed, &out);
        at += used;
        if (out) send_sealed(d, out);
        if (d->state == DIAL_CLOSED) return len;
        if (io == IO_CLOSED) {
            tls_failed(d);
            return len;
        }
        if (io == IO_DONE) {
            transport_ready(d);
            return at;
        }
        if (io == IO_WANT_READ && (at == len || used == 0)) return len;
    }
}

static void open_records(struct dial *d, const uint8_t *buf, size_t len)
{
    enum io io = IO_DONE;
    while (io == IO_DONE && d->state != DIAL_CLOSED) {
        size_t used = 0, n = 0, out = 0;
        io = tls_open(d->tls, buf, len, &used, d->loop->plain, sizeof d->loop->plain, &n,
                      d->loop->sealed, sizeof d->loop->sealed, &out);
        buf += used;
        len -= used;
        if (out) send_sealed(d, out);
        if (n && d->state != DIAL_CLOSED) plain_arrived(d, d->loop->plain, n);
    }
    if (io != IO_CLOSED || d->state == DIAL_CLOSED) return;
    if (!tls_closed_cleanly(d->tls)) {
        tls_failed(d);
        return;
    }
    say(d, DIAL_END_NETWORK, 0, "the server ended TLS without a Close frame");
    over(d);
}

static void received(struct dial *d, uint8_t *buf, size_t len)
{
    if (!d->tls) {
        plain_arrived(d, buf, len);
        return;
    }
    if (d->state == DIAL_TLS_HANDSHAKE) {
        size_t used = shake_hands(d, buf, len);
        buf += used;
        len -= used;
    }
    if (len && d->state > DIAL_TLS_HANDSHAKE && d->state < DIAL_CLOSED) open_records(d, buf, len);
}

/* ---- connecting ---- */

static int open_socket(struct dial *d)
{
    const struct dial_peer *p = d->peer;
    const struct sockaddr *to = (const struct sockaddr *)&p->addresses[d->address_at];
    int one = 1;
    d->fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (d->fd == -1) return -1;
    if (to->sa_family != AF_UNIX) setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (p->source_len) {
        setsockopt(d->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(d->fd, (const struct sockaddr *)&p->source, p->source_len) == -1) return -1;
    }
    if (connect(d->fd, to, p->address_len[d->address_at]) == 0) return 0;
    return errno == EINPROGRESS ? 0 : -1;
}

/* connect_from tries the addresses from d->address_at on until one is under way. */
static void connect_on(struct dial *d, int error)
{
    for (; d->address_at < d->peer->address_count; d->address_at++) {
        if (open_socket(d) == 0) return;
        error = errno;
        if (d->fd != -1) close(d->fd);
        d->fd = -1;
    }
    if (d->peer->url.scheme == URL_UNIX)
        say(d, DIAL_END_NETWORK, 0, "can not connect to %s: %s", d->peer->url.socket,
            strerror(error));
    else
        say(d, DIAL_END_NETWORK, 0, "can not connect to %.100s port %u: %s", d->peer->url.host,
            d->peer->url.port, strerror(error));
    over(d);
}

static void connected(struct dial *d)
{
    int error = 0;
    socklen_t len = sizeof error;
    getsockopt(d->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error) {
        close(d->fd);
        d->fd = -1;
        d->address_at++;
        connect_on(d, error);
        return;
    }
    if (d->peer->url.scheme != URL_WSS) {
        transport_ready(d);
        return;
    }
    d->tls = d->peer->tls ? tls_connect(d->peer->tls, d->peer->url.host) : NULL;
    if (!d->tls) {
        out_of_memory(d);
        return;
    }
    set_state(d, DIAL_TLS_HANDSHAKE);
    shake_hands(d, d->loop->rx, 0);
}

static void hung_up(struct dial *d, int error)
{
    if (d->state == DIAL_HTTP_HEAD && d->head_len) read_head(d, NULL, 0, true);
    if (d->state == DIAL_CLOSED) return;
    say(d, DIAL_END_NETWORK, 0, "%s",
        error                  ? strerror(error)
        : d->state < DIAL_OPEN ? "the server hung up during the handshake"
                               : "the connection was cut");
    over(d);
}

static void read_socket(struct dial *d)
{
    for (int i = 0; i < READS_PER_STEP && d->state != DIAL_CLOSED; i++) {
        ssize_t n = recv(d->fd, d->loop->rx, RX_BYTES, 0);
        if (n > 0) received(d, d->loop->rx, (size_t)n);
        if (n == 0) hung_up(d, 0);
        if (n < 0 && errno != EAGAIN && errno != EINTR) hung_up(d, errno);
        if (n < (ssize_t)RX_BYTES) return;
    }
}

enum dial_state dial_step(struct dial *d, short events)
{
    if (d->state == DIAL_CONNECTING && events & (POLLOUT | POLLERR | POLLHUP))
        connected(d);
    else if (d->state > DIAL_CONNECTING && events & (POLLIN | POLLERR | POLLHUP))
        read_socket(d);
    if (d->state != DIAL_CLOSED) dial_flush(d);
    return (enum dial_state)d->state;
}

short dial_wants(const struct dial *d)
{
    bool held = d->state < DIAL_HTTP_HEAD;
    if (d->state == DIAL_CLOSED) return 0;
    if (d->state == DIAL_CONNECTING) return POLLOUT;
    size_t waiting = queue_len(&d->wire) + (held ? 0 : queue_len(&d->out));
    return waiting && !d->send_broken ? POLLIN | POLLOUT : POLLIN;
}

void dial_upgrade(struct dial *d)
{
    if (d->state != DIAL_READY) return;
    set_state(d, DIAL_HTTP_HEAD);
    dial_flush(d);
}

/* ---- making one ---- */

/* A token is a word of visible characters (RFC 6750 section 2.1); anything else could add headers.
 */
static bool token_ok(const char *token)
{
    for (; *token; token++)
        if (*token <= ' ' || *token >= 0x7f) return false;
    return true;
}

static bool add_request(struct dial *d, const struct dial_request *q)
{
    uint8_t nonce[16];
    unsigned char key[32];
    size_t key_len = 0;
    char host[URL_HOST_HEADER_MAX], *text = NULL;
    random_bytes(nonce, sizeof nonce);
    mbedtls_base64_encode(key, sizeof key, &key_len, nonce, sizeof nonce);
    ws_accept_key(d->accept, (const char *)key, key_len);
    int n = asprintf(&text,
                     "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Key: %.*s\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n",
                     *q->target ? q->target : "/", url_host_header(&d->peer->url, host),
                     (int)key_len, key, q->token ? "Authorization: Bearer " : "",
                     q->token ? q->token : "", q->token ? "\r\n" : "");
    if (n == -1) return false;
    bool ok = queue_add(&d->out, text, (size_t)n);
    free(text);
    return ok;
}

struct dial *dial_new(struct dial_loop *loop, const struct dial_peer *peer,
                      const struct dial_request *request)
{
    struct dial *d = calloc(1, sizeof *d);
    if (!d) return NULL;
    *d = (struct dial){.loop = loop,
                       .peer = peer,
                       .handler = request->handler,
                       .user = request->user,
                       .fd = -1,
                       .hold = request->hold,
                       .end = {.retry_after_s = -1}};
    if (request->token && !token_ok(request->token)) {
        say(d, DIAL_END_LOCAL, 0, "the token has characters that no token has");
        over(d);
        return d;
    }
    if (!add_request(d, request)) {
        dial_free(d);
        return NULL;
    }
    connect_on(d, ENOENT);
    return d;
}

void dial_free(struct dial *d)
{
    if (!d) return;
    over(d);
    free(d);
}

int dial_fd(const struct dial *d)
{
    return d->fd;
}

enum dial_state dial_state(const struct dial *d)
{
    return (enum dial_state)d->state;
}

bool dial_close_received(const struct dial *d)
{
    return d->close_received;
}

bool dial_close_confirmed(const struct dial *d)
{
    return d->close_confirmed;
}

const struct dial_end *dial_end(const struct dial *d)
{
    return &d->end;
}

const char *dial_tls_version(const struct dial *d)
{
    return d->tls ? tls_version(d->tls) : "";
}

bool dial_tls_resumed(const struct dial *d)
{
    return d->tls && tls_resumed(d->tls);
}

struct dial_loop *dial_loop_new(void)
{
    return calloc(1, sizeof(struct dial_loop));
}

void dial_loop_delete(struct dial_loop *loop)
{
    free(loop);
}
