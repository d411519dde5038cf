/* A connection's TLS: the handshake, the records that come in and go out, and what is kept of a
 * record whose end has not come. */
#include "tls.h"
#include "conn.h"
#include "log.h"
#include "metrics.h"
#include "outq.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define PIECES_MAX 64u /* of one record */

static void handshake_over(struct conn *c)
{
    atomic_fetch_sub_explicit(&c->worker->server->tls_in_flight, 1, memory_order_relaxed);
    metric_sub(&c->worker->metrics, METRIC_TLS_IN_FLIGHT, 1);
    c->worker->heap_used_ms = c->worker->now_ms;
}

void conn_tls_failed(struct conn *c)
{
    handshake_over(c);
    metric_add(&c->worker->metrics, METRIC_TLS_FAILED, 1);
}

/* ---- what is kept of a record ---- */

/* The note of a session: what it keeps is booked as a verified client's. */
enum { NOTE_VERIFIED = 1 };

static bool unverified(const struct conn *c)
{
    return !(tls_note(c->tls) & NOTE_VERIFIED);
}

/* book_kept books what the session keeps now in the place of before; false: that is more than its
 * budget has. */
static bool book_kept(struct conn *c, size_t before)
{
    const int64_t more = (int64_t)tls_kept(c->tls) - (int64_t)before;
    if (more == 0) return true;
    const bool fits = more < 0 || conn_budget_has(c, unverified(c), more);
    conn_book(c->worker->server, unverified(c), more);
    return fits;
}

void conn_tls_verified(struct conn *c)
{
    if (!c->tls || !unverified(c)) return;
    conn_book(c->worker->server, true, -(int64_t)tls_kept(c->tls));
    tls_set_note(c->tls, NOTE_VERIFIED);
    conn_book(c->worker->server, false, (int64_t)tls_kept(c->tls));
}

void conn_tls_free(struct conn *c)
{
    if (!c->tls) return;
    if (tls_kept(c->tls)) conn_book(c->worker->server, unverified(c), -(int64_t)tls_kept(c->tls));
    if (tls_is_detached(c->tls)) metric_sub(&c->worker->metrics, METRIC_TLS_DETACHED, 1);
    tls_free(c->tls);
    c->tls = NULL;
}

/* ---- out ---- */

/* send_sealed sends TLS bytes behind what waits already; the rest is kept. */
void conn_tls_keep(struct conn *c, const uint8_t *bytes, size_t len)
{
    if (!outq_add_cipher(c->worker->pool, &c->out, bytes, (uint32_t)len)) {
        metric_add(&c->worker->metrics, METRIC_REFUSED_MEMORY, 1);
        conn_drop(c, WS_CLOSE_INTERNAL); /* the stream has a hole now */
        return;
    }
    metric_add(&c->worker->metrics, METRIC_QUEUED_BYTES, len);
}

static void send_sealed(struct conn *c, const uint8_t *bytes, size_t len)
{
    size_t taken = 0;
    if (!(c->flags & CONN_BLOCKED) && !(c->out && c->out->cipher)) {
        ssize_t n = send(c->fd, bytes, len, MSG_NOSIGNAL);
        if (conn_socket_took(c, n, len) || c->state == CONN_CLOSED) return;
        taken = n > 0 ? (size_t)n : 0;
    }
    conn_tls_keep(c, bytes + taken, len - taken);
}

static bool flush_cipher(struct conn *c)
{
    struct out_queue *q = c->out;
    size_t want = q->cipher->len - q->cipher_at;
    ssize_t n = send(c->fd, q->cipher->bytes + q->cipher_at, want, MSG_NOSIGNAL);
    bool all = conn_socket_took(c, n, want);
    if (n > 0) {
        outq_cipher_sent(q, (uint32_t)n);
        conn_unqueued(c, (size_t)n);
    }
    return all;
}

size_t conn_tls_seal(struct conn *c, uint8_t *out, size_t cap)
{
    struct iovec pieces[PIECES_MAX];
    size_t used = 0, n = 0;
    const unsigned count = outq_iov(c->out, pieces, PIECES_MAX, TLS_RECORD_MAX);
    if (tls_seal(c->tls, pieces, count, &used, out, cap, &n) == IO_CLOSED || used == 0) {
        conn_drop(c, WS_CLOSE_ABNORMAL);
        return 0;
    }
    outq_sent(c->out, used);
    conn_unqueued(c, used);
    return n;
}

/* conn_tls_flush: as many records as there is room for go out by one send. */
void conn_tls_flush(struct conn *c)
{
    struct worker *w = c->worker;
    if (c->out->cipher && !flush_cipher(c)) return;
    while (c->out->count) {
        size_t sealed = 0;
        while (c->out->count && w->tx_size - sealed >= TLS_RECORD_MAX + TLS_OVERHEAD) {
            const size_t n = conn_tls_seal(c, w->tx + sealed, w->tx_size - sealed);
            if (!n) return;
            sealed += n;
        }
        send_sealed(c, w->tx, sealed);
        if (c->flags & CONN_BLOCKED || c->state == CONN_CLOSED) return;
    }
}

void conn_tls_goodbye(struct conn *c)
{
    size_t n = 0;
    tls_close_notify(c->tls, c->worker->tx, c->worker->tx_size, &n); /* gives it once */
    if (n) send_sealed(c, c->worker->tx, n);
}

/* ---- in ---- */

/* begin_tls makes the session, about 40 KiB, now that a handshake record has begun. */
static bool begin_tls(struct conn *c, const uint8_t *bytes, size_t len)
{
    struct worker *w = c->worker;
    if (!tls_looks_like_handshake(bytes, len)) {
        static const char plain_http[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"
                                         "Content-Type: text/plain\r\nContent-Length: 43\r\n\r\n"
                                         "this port speaks TLS: use https:// or wss:\n";
        (void)send(c->fd, plain_http, sizeof plain_http - 1, MSG_NOSIGNAL);
        metric_add(&w->metrics, METRIC_TLS_FAILED, 1);
        conn_drop(c, WS_CLOSE_ABNORMAL);
        return false;
    }
    int64_t before = atomic_fetch_add_explicit(&w->server->tls_in_flight, 1, memory_order_relaxed);
    metric_add(&w->metrics, METRIC_TLS_IN_FLIGHT, 1);
    if (before < conn_options()->tls_max_handshakes)
        c->tls = tls_accept(w->listeners[c->sub_index].tls);
    if (!c->tls) {
        handshake_over(c);
        if (before < conn_options()->tls_max_handshakes)
            metric_add(&w->metrics, METRIC_REFUSED_MEMORY, 1);
        else
            conn_limit_met(c, METRIC_REFUSED_TLS_LIMIT, "http_server.tls.max_handshakes");
        conn_drop(c, WS_CLOSE_ABNORMAL);
        return false;
    }
    c->sub_index = 0;
    return true;
}

/* shake_hands feeds the handshake; returns how many bytes it used, or -1 when c is dropped. */
static int64_t shake_hands(struct conn *c, const uint8_t *bytes, size_t len)
{
    struct worker *w = c->worker;
    if (!c->tls && !begin_tls(c, bytes, len)) return -1;
    size_t at = 0;
    enum io io;
    do {
        size_t used = 0, n = 0;
        io = tls_handshake(c->tls, bytes + at, len - at, &used, w->tx, w->tx_size, &n);
        at += used;
        if (n) send_sealed(c, w->tx, n);
        if (c->state == CONN_CLOSED) return -1;
    } while (io == IO_WANT_WRITE);
    if (io == IO_CLOSED) {
        char peer[CONN_PEER_TEXT];
        log_limited(20, LOG_DEBUG, "TLS handshake failed", LOG_STR("why", tls_why(c->tls)),
                    LOG_STR("peer", conn_peer_text(c, peer)));
        conn_drop(c, WS_CLOSE_ABNORMAL);
        return -1;
    }
    if (io == IO_DONE) {
        handshake_over(c);
        metric_add(&w->metrics, tls_resumed(c->tls) ? METRIC_TLS_RESUMED : METRIC_TLS_HANDSHAKES,
                   1);
        c->tls = tls_detach(c->tls, w->secrets);
        metric_add(&w->metrics, METRIC_TLS_DETACHED, tls_is_detached(c->tls));
        conn_set_state(c, CONN_HTTP);
    }
    return (int64_t)at;
}

static void open_records(struct conn *c, const uint8_t *bytes, size_t len)
{
    struct worker *w = c->worker;
    for (;;) {
        uint8_t reply[256];
        size_t used = 0, n = 0, reply_len = 0;
        const size_t kept = tls_kept(c->tls);
        enum io io = tls_open(c->tls, bytes, len, &used, w->rx, w->rx_size + RX_MARGIN, &n, reply,
                              sizeof reply, &reply_len);
        bytes += used;
        len -= used;
        const bool fits = book_kept(c, kept);
        if (reply_len) send_sealed(c, reply, reply_len);
        if (n && c->state != CONN_CLOSED) conn_input(c, w->rx, n);
        if (!fits) conn_drop(c, WS_CLOSE_INTERNAL);
        if (c->state == CONN_CLOSED || io == IO_WANT_READ) return;
        if (io != IO_DONE) {
            conn_end_of_input(c);
            return;
        }
    }
}

void conn_tls_input(struct conn *c, const uint8_t *bytes, size_t len)
{
    if (c->state == CONN_TLS_HANDSHAKE) {
        const int64_t from_us = clock_us();
        int64_t used = shake_hands(c, bytes, len);
        c->worker->handshake_us += clock_us() - from_us;
        if (used < 0 || c->state == CONN_TLS_HANDSHAKE) return;
        bytes += used;
        len -= (size_t)used;
    }
    open_records(c, bytes, len);
}
