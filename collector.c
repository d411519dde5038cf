#include "collector.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "dial.h"
#include "http.h"
#include "tls.h"

#define HEAD_MAX (URL_PATH_MAX * 2 + URL_HOST_HEADER_MAX + 5120)
#define RX_MAX (HTTP_HEAD_MAX + COLLECTOR_BODY_MAX)
#define RETRY_AFTER_MAX_MS (60 * 1000)
#define INTERIM_MAX 32 /* heads of 1xx before the answer's */

struct collector {
    struct dial_peer peer; /* url and addresses */
    struct tls_client *trust;
    struct tls *tls;
    int fd, hurry_fd;
    int64_t connect_ms, total_ms, deadline_ms;
    _Atomic int64_t hurry_ms; /* INT64_MAX: no hurry. Release by who sets it, acquire */
    char *head;               /* the request's, but for the length; has the authorization */
    size_t head_len, cipher_len, cipher_at, rx_len;
    char why[200];
    uint8_t cipher[TLS_OUT_MAX], out[TLS_OUT_MAX];
    char rx[RX_MAX];
};

/* ---- set-up ---- */

static bool make_head(struct collector *c, const struct collector_options *o)
{
    char host[URL_HOST_HEADER_MAX];
    const struct url *u = o->url;
    c->head = malloc(HEAD_MAX);
    if (!c->head) return false;
    int n = snprintf(c->head, HEAD_MAX,
                     "%s %s%s%s%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nContent-Type: "
                     "%s\r\n%s%s%sContent-Length: ",
                     o->method ? o->method : "POST", u->path, o->path, *u->query ? "?" : "",
                     u->query, url_host_header(u, host), o->user_agent, o->content_type,
                     *o->authorization ? "Authorization: " : "", o->authorization,
                     *o->authorization ? "\r\n" : "");
    c->head_len = (size_t)n;
    return n > 0 && n < HEAD_MAX - 32;
}

struct collector *collector_new(const struct collector_options *o, char *err, size_t err_len)
{
    struct collector *c = calloc(1, sizeof *c);
    snprintf(err, err_len, "out of memory");
    if (!c) return NULL;
    c->fd = -1;
    c->peer.url = *o->url;
    c->connect_ms = o->connect_ms;
    c->total_ms = o->total_ms;
    atomic_init(&c->hurry_ms, INT64_MAX);
    c->hurry_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (c->hurry_fd == -1 || !make_head(c, o)) goto fail;
    if (o->url->scheme == URL_WSS && !(c->trust = tls_client_new(o->ca_file, false, err, err_len)))
        goto fail;
    *err = 0;
    return c;
fail:
    collector_delete(c);
    return NULL;
}

static void hang_up(struct collector *c)
{
    tls_free(c->tls);
    c->tls = NULL;
    if (c->fd != -1) close(c->fd);
    c->fd = -1;
    c->cipher_at = c->cipher_len = c->rx_len = 0;
}

void collector_delete(struct collector *c)
{
    if (!c) return;
    hang_up(c);
    tls_client_delete(c->trust);
    if (c->hurry_fd != -1) close(c->hurry_fd);
    if (c->head) explicit_bzero(c->head, HEAD_MAX);
    free(c->head);
    free(c);
}

/* ---- waiting ---- */

__attribute__((format(printf, 2, 3))) static bool fail(struct collector *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->why, sizeof c->why, format, args);
    va_end(args);
    return false;
}

/* left_ms: until until_ms or the hurry's end, whichever is sooner. */
static int64_t left_ms(const struct collector *c, int64_t until_ms)
{
    const int64_t hurry = atomic_load_explicit(&c->hurry_ms, memory_order_acquire);
    return (hurry < until_ms ? hurry : until_ms) - clock_ms();
}

/* poll_until waits for events on c->fd (none: just for time) and returns what came, 0 when until_ms
 * or the hurry's end has passed. */
static short poll_until(struct collector *c, short events, int64_t until_ms)
{
    for (;;) {
        const int64_t hurry = atomic_load_explicit(&c->hurry_ms, memory_order_acquire);
        const int64_t left = left_ms(c, until_ms);
        struct pollfd p[2] = {{.fd = events ? c->fd : -1, .events = events},
                              {.fd = hurry == INT64_MAX ? c->hurry_fd : -1, .events = POLLIN}};
        if (left <= 0) return 0;
        poll(p, 2, left > 60000 ? 60000 : (int)left);
        if (p[0].revents) return p[0].revents;
        if (p[1].revents && !events) return 0;
    }
}

static bool wait_for(struct collector *c, short events)
{
    return poll_until(c, events, c->deadline_ms) || fail(c, "no answer in time");
}

void collector_wait(struct collector *c, int64_t ms)
{
    if (atomic_load_explicit(&c->hurry_ms, memory_order_acquire) == INT64_MAX)
        poll_until(c, 0, clock_ms() + ms);
}

void collector_hurry(struct collector *c, int64_t until_ms)
{
    const uint64_t one = 1;
    atomic_store_explicit(&c->hurry_ms, until_ms, memory_order_release);
    (void)!write(c->hurry_fd, &one, sizeof one);
}

/* ---- bytes ---- */

static bool send_all(struct collector *c, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    while (len) {
        ssize_t n = send(c->fd, p, len, MSG_NOSIGNAL);
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            if (!wait_for(c, POLLOUT)) return false;
        } else if (errno != EINTR) {
            return fail(c, "%s", strerror(errno));
        }
    }
    return true;
}

/* receive waits for bytes; *n 0: the peer's end. A peer that always has some ready is not waited
 * for, and must be in time all the same. */
static bool receive(struct collector *c, void *buf, size_t cap, size_t *n)
{
    for (;;) {
        if (left_ms(c, c->deadline_ms) <= 0) return fail(c, "no answer in time");
        ssize_t got = recv(c->fd, buf, cap, 0);
        if (got >= 0) {
            *n = (size_t)got;
            return true;
        }
        if (errno == EAGAIN) {
            if (!wait_for(c, POLLIN)) return false;
        } else if (errno != EINTR) {
            return fail(c, "%s", strerror(errno));
        }
    }
}

static bool more_cipher(struct collector *c)
{
    c->cipher_at = 0;
    if (!receive(c, c->cipher, sizeof c->cipher, &c->cipher_len)) return false;
    return c->cipher_len || fail(c, "the server has hung up");
}

static bool send_plain(struct collector *c, const char *bytes, size_t len)
{
    if (!c->tls) return send_all(c, bytes, len);
    while (len) {
        size_t used = 0, n = 0;
        const struct iovec plain = {(void *)(uintptr_t)bytes, len};
        enum io io = tls_seal(c->tls, &plain, 1, &used, c->out, sizeof c->out, &n);
        if (io == IO_CLOSED || !used) return fail(c, "TLS: %s", tls_why(c->tls));
        if (!send_all(c, c->out, n)) return false;
        bytes += used;
        len -= used;
    }
    return true;
}

/* receive_plain does what receive does, through TLS if there is one. */
static bool receive_plain(struct collector *c, char *buf, size_t cap, size_t *n)
{
    if (!c->tls) return receive(c, buf, cap, n);
    for (;;) {
        size_t used = 0, out_len = 0;
        *n = 0;
        enum io io = tls_open(c->tls, c->cipher + c->cipher_at, c->cipher_len - c->cipher_at, &used,
                              (uint8_t *)buf, cap, n, c->out, sizeof c->out, &out_len);
        c->cipher_at += used;
        if (out_len && !send_all(c, c->out, out_len)) return false;
        if (*n) return true;
        if (io == IO_CLOSED)
            return tls_closed_cleanly(c->tls) || fail(c, "TLS: %s", tls_why(c->tls));
        if (io == IO_WANT_READ && !more_cipher(c)) return false;
    }
}

/* ---- connecting ---- */

static bool connect_to(struct collector *c, size_t i, int64_t until_ms)
{
    const struct sockaddr *to = (const struct sockaddr *)&c->peer.addresses[i];
    int why = 0;
    socklen_t len = sizeof why;
    c->fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd == -1) return fail(c, "%s", strerror(errno));
    if (connect(c->fd, to, c->peer.address_len[i]) == 0) return true;
    if (errno != EINPROGRESS)
        why = errno;
    else if (!poll_until(c, POLLOUT, until_ms))
        why = ETIMEDOUT;
    else
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &why, &len);
    if (!why) return true;
    hang_up(c);
    return fail(c, "%s", strerror(why));
}

static bool shake_hands(struct collector *c)
{
    c->tls = tls_connect(c->trust, c->peer.url.host);
    if (!c->tls) return fail(c, "out of memory");
    for (;;) {
        size_t used = 0, n = 0;
        enum io io = tls_handshake(c->tls, c->cipher + c->cipher_at, c->cipher_len - c->cipher_at,
                                   &used, c->out, sizeof c->out, &n);
        c->cipher_at += used;
        if (n && !send_all(c, c->out, n)) return false;
        if (io == IO_DONE) return true;
        if (io == IO_CLOSED) return fail(c, "TLS: %s", tls_why(c->tls));
        if (io == IO_WANT_READ && !more_cipher(c)) return false;
    }
}

/* look_up is done for every new connection: the name may lead elsewhere by now. */
static bool look_up(struct collector *c)
{
    return dial_resolve(&c->peer, c->why, sizeof c->why, NULL) == 0;
}

/* call connects to the first address that answers: that is the server, whatever TLS then says. */
static bool call(struct collector *c)
{
    bool there = false;
    if (!look_up(c)) return false;
    fail(c, "no address");
    for (size_t i = 0; i < c->peer.address_count && !there; i++) {
        const int64_t until_ms = clock_ms() + c->connect_ms;
        there = connect_to(c, i, until_ms < c->deadline_ms ? until_ms : c->deadline_ms);
    }
    return there && (c->peer.url.scheme != URL_WSS || shake_hands(c));
}

/* ---- the answer ---- */

static bool more(struct collector *c, size_t *n)
{
    if (c->rx_len == sizeof c->rx) return fail(c, "the answer's head is too long");
    if (!receive_plain(c, c->rx + c->rx_len, sizeof c->rx - c->rx_len, n)) return false;
    c->rx_len += *n;
    return true;
}

/* read_head passes over some 1xx (RFC 9110 section 15.2). *head_len: its size. */
static bool read_head(struct collector *c, struct http_response *r, size_t *head_len)
{
    for (unsigned interim = 0;;) {
        size_t got = 0;
        int n = http_response_parse(r, c->rx, c->rx_len);
        if (n < 0) return fail(c, "the answer is not HTTP/1.1");
        if (n && r->status >= 200) {
            *head_len = (size_t)n;
            return true;
        }
        if (n) {
            if (++interim > INTERIM_MAX) return fail(c, "no answer, only 1xx");
            c->rx_len -= (size_t)n;
            memmove(c->rx, c->rx + n, c->rx_len);
            continue;
        }
        if (!more(c, &got)) return false;
        if (!got) return fail(c, "the server has hung up");
    }
}

/* one_body decodes what has come of a body in chunks: 1 all, 0 more, negative: malformed. *raw is
 * where bytes lie that were not looked at. */
static int one_body(struct collector *c, struct http_chunked *state, size_t *raw)
{
    size_t used = 0, body = 0;
    int done = http_chunked_read(state, c->rx + *raw, c->rx_len - *raw, &used, &body);
    const size_t rest = c->rx_len - *raw - used;
    memmove(c->rx + *raw + body, c->rx + *raw + used, rest);
    *raw += body;
    c->rx_len = *raw + rest;
    return done;
}

/* read_body reads as far as there is room; *whole: nothing is left of the answer, and so the
 * connection can be used again. */
static bool read_body(struct collector *c, const struct http_response *r, size_t head_len,
                      struct collector_answer *a, bool *whole)
{
    struct http_chunked state = {0};
    size_t raw = head_len, end = 0, n = 1;
    int done = r->status == 204 || r->status == 304;
    if (r->has_content_length && r->content_length <= sizeof c->rx - head_len)
        end = head_len + (size_t)r->content_length;
    while (!done) {
        if (r->chunked)
            done = one_body(c, &state, &raw);
        else
            done = end && c->rx_len >= end;
        if (done < 0) return fail(c, "the answer's body is malformed");
        if (done || !n || c->rx_len == sizeof c->rx) break;
        if (!more(c, &n)) return false;
    }
    const size_t last = r->chunked ? raw : end && end < c->rx_len ? end : c->rx_len;
    a->len = last - head_len < sizeof a->body ? last - head_len : sizeof a->body;
    memcpy(a->body, c->rx + head_len, a->len);
    *whole = done && c->rx_len == (r->chunked ? raw : end ? end : head_len);
    return true;
}

static int64_t retry_after_ms(const struct http_response *r)
{
    const struct http_str *v = http_response_header(r, "Retry-After");
    int64_t ms = 0;
    if (!v || !v->len) return -1;
    for (size_t i = 0; i < v->len; i++) {
        if (v->p[i] < '0' || v->p[i] > '9') return -1; /* a date */
        ms = ms * 10 + (v->p[i] - '0') * 1000;
        if (ms > RETRY_AFTER_MAX_MS) ms = RETRY_AFTER_MAX_MS;
    }
    return ms;
}

static bool is_kept(const struct http_response *r)
{
    const struct http_str *v = http_response_header(r, "Connection");
    return r->minor >= 1 && !(v && http_list_has(*v, "close"));
}

static bool exchange(struct collector *c, const char *body, size_t len, struct collector_answer *a)
{
    struct http_response r;
    size_t head_len = 0;
    bool whole = false;
    int n = snprintf(c->head + c->head_len, HEAD_MAX - c->head_len, "%zu\r\n\r\n", len);
    c->rx_len = 0;
    if (!send_plain(c, c->head, c->head_len + (size_t)n) || !send_plain(c, body, len) ||
        !read_head(c, &r, &head_len))
        return false;
    const bool kept = is_kept(&r);
    a->status = r.status;
    a->retry_after_ms = retry_after_ms(&r);
    if (!read_body(c, &r, head_len, a, &whole)) return false;
    if (!kept || !whole) hang_up(c);
    return true;
}

/* is_over: has the server closed a kept connection, or said something unasked? */
static bool is_over(const struct collector *c)
{
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    return poll(&p, 1, 0) != 0;
}

int collector_post(struct collector *c, const char *body, size_t len, struct collector_answer *a,
                   char *err, size_t err_len)
{
    c->deadline_ms = clock_ms() + c->total_ms;
    if (c->fd != -1 && !c->tls && is_over(c)) hang_up(c);
    bool kept = c->fd != -1, ok = kept && exchange(c, body, len, a);
    if (kept && !ok && c->rx_len == 0 && clock_ms() < c->deadline_ms) {
        hang_up(c);
        kept = false;
    }
    if (!kept) ok = call(c) && exchange(c, body, len, a);
    if (ok) return 0;
    hang_up(c);
    snprintf(err, err_len, "%s", c->why);
    return -1;
}

/* pieces gives take what comes of a body in chunks, until its end. */
static bool pieces(struct collector *c, const struct collector_taker *t)
{
    struct http_chunked state = {0};
    int64_t silent_ms = 0; /* then it has been silent for too long; bytes of no body do not count */
    for (;;) {
        size_t raw = 0, n = 0;
        const int done = one_body(c, &state, &raw);
        if (done < 0) return fail(c, "the answer's body is malformed");
        if (raw && !t->take(c->rx, raw, t->arg)) return true;
        if (done) return true;
        c->rx_len -= raw;
        memmove(c->rx, c->rx + raw, c->rx_len);
        if (raw || !silent_ms) silent_ms = clock_ms() + t->silence_ms;
        c->deadline_ms = silent_ms;
        if (!more(c, &n)) return false;
        if (!n) return fail(c, "the server has hung up");
    }
}

static bool follow(struct collector *c, const struct collector_taker *t, struct collector_answer *a)
{
    struct http_response r;
    size_t head_len = 0;
    bool whole;
    int n = snprintf(c->head + c->head_len, HEAD_MAX - c->head_len, "0\r\n\r\n");
    if (!call(c) || !send_plain(c, c->head, c->head_len + (size_t)n) ||
        !read_head(c, &r, &head_len))
        return false;
    a->status = r.status;
    if (r.status != 200) return read_body(c, &r, head_len, a, &whole);
    if (!r.chunked) return fail(c, "the answer is no stream: that is not roost, or a proxy's page");
    c->rx_len -= head_len;
    memmove(c->rx, c->rx + head_len, c->rx_len);
    return pieces(c, t);
}

int collector_follow(struct collector *c, const struct collector_taker *t,
                     struct collector_answer *a, char *err, size_t err_len)
{
    hang_up(c);
    c->deadline_ms = clock_ms() + c->total_ms;
    const bool ok = follow(c, t, a);
    hang_up(c);
    if (!ok) snprintf(err, err_len, "%s", c->why);
    return ok ? 0 : -1;
}
