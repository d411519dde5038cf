#include "conn.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "probes.h"
#include "trace.h"

#define REPLY_HEAD_MAX 1024
#define DRAIN_RESERVE (256u * 1024) /* pipelined input behind a body that is still being read */

/* ---- responses ---- */

/* has_unread_body: was a body announced that nobody has read? Then the connection can not go on. */
static bool has_unread_body(const struct conn *c, const struct http_request *r)
{
    return r && (r->chunked || r->content_length) && !(c->in && c->in->in_body);
}

/* RFC 9110 section 7.8: who sends Upgrade names it in Connection as well. */
static const char *connection_line(int status, bool close)
{
    if (status == 426) return close ? "Connection: Upgrade, close\r\n" : "Connection: Upgrade\r\n";
    return close ? "Connection: close\r\n" : "";
}

/* date_line gives the Date header (RFC 9110 section 6.6.1), which is made once a second. */
static const char *date_line(struct worker *w)
{
    if (w->now_ms < w->date_until_ms) return w->date;
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    if (!gmtime_r(&now.tv_sec, &tm) ||
        !strftime(w->date, sizeof w->date, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm))
        *w->date = 0; /* a clock beyond year 9999: as if there were none */
    w->date_until_ms = w->now_ms + 1000 - now.tv_nsec / 1000000;
    return w->date;
}

static void send_reply(struct conn *c, const struct http_reply *reply, bool with_body, bool close)
{
    bool draining = atomic_load_explicit(&c->worker->server->draining, memory_order_relaxed);
    close = close || !(c->flags & CONN_KEEP_ALIVE) || draining || reply->close;
    char head[REPLY_HEAD_MAX];
    int n = snprintf(
        head, sizeof head,
        "HTTP/1.1 %d %s\r\n%sServer: roost\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s%s\r\n",
        reply->status, http_reason(reply->status), date_line(c->worker),
        reply->content_type ? reply->content_type : "text/plain; charset=utf-8", reply->len,
        connection_line(reply->status, close), reply->headers ? reply->headers : "");
    size_t head_len = n > 0 && (size_t)n < sizeof head ? (size_t)n : 0;
    size_t body_len = with_body ? reply->len : 0;
    struct frame *f = head_len ? frame_new(c->worker->pool, (uint32_t)(head_len + body_len)) : NULL;
    if (f) {
        memcpy(f->bytes, head, head_len);
        if (body_len) memcpy(f->bytes + head_len, reply->body, body_len);
    }
    metric_add(&c->worker->metrics, METRIC_HTTP_REQUESTS, 1);
    if (c->worker->trace) trace_result(c->worker->trace, (unsigned)reply->status);
    conn_queue(c, (struct out_entry){.frame = f, .kind = OUT_REPLY});
    if (close) conn_finish(c, WS_CLOSE_ABNORMAL);
}

void conn_http_reply(struct conn *c, const struct http_request *r, const struct http_reply *reply)
{
    if (r && r->upgrade_websocket) PROBE2(handshake_done, c->id, reply->status);
    send_reply(c, reply, !r || r->method != HTTP_HEAD, !r || has_unread_body(c, r));
}

void conn_http_later(struct conn *c)
{
    c->flags |= CONN_AWAITED;
}

void conn_http_answer(struct conn *c, const struct http_reply *reply)
{
    c->flags &= ~(uint32_t)CONN_AWAITED;
    if (c->state == CONN_HTTP) send_reply(c, reply, true, false);
    if (c->state == CONN_HTTP)
        conn_arm(c, CONN_DEADLINE_REQUEST, conn_options()->http_idle_timeout_ms);
    conn_read_again(c);
    conn_pause_if_full(c);
}

void conn_http_stream(struct conn *c, const char *content_type)
{
    char head[REPLY_HEAD_MAX];
    const int n = snprintf(head, sizeof head,
                           "HTTP/1.1 200 OK\r\n%sServer: roost\r\nContent-Type: %s\r\n"
                           "Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n"
                           "Connection: close\r\n\r\n",
                           date_line(c->worker), content_type);
    struct frame *f = frame_new(c->worker->pool, (uint32_t)n);
    if (f) memcpy(f->bytes, head, (size_t)n);
    metric_add(&c->worker->metrics, METRIC_HTTP_REQUESTS, 1);
    conn_queue(c, (struct out_entry){.frame = f, .kind = OUT_REPLY});
    if (c->state != CONN_HTTP) return;
    c->flags = (c->flags | CONN_STREAMS) & ~(uint32_t)CONN_KEEP_ALIVE;
    conn_arm(c, CONN_DEADLINE_STREAM, CONN_STREAM_MS);
}

void conn_http_chunk(struct conn *c, const char *bytes, size_t len)
{
    char size[24];
    const size_t n = (size_t)snprintf(size, sizeof size, "%zx\r\n", len);
    struct frame *f = frame_new(c->worker->pool, (uint32_t)(n + len + 2));
    if (f) {
        memcpy(f->bytes, size, n);
        memcpy(f->bytes + n, bytes, len);
        memcpy(f->bytes + n + len, "\r\n", 2);
    }
    conn_queue(c, (struct out_entry){.frame = f, .kind = OUT_REPLY});
}

void conn_http_stream_end(struct conn *c)
{
    static const char end[] = "0\r\n\r\n";
    struct frame *f = frame_new(c->worker->pool, sizeof end - 1);
    if (f) memcpy(f->bytes, end, sizeof end - 1);
    conn_queue(c, (struct out_entry){.frame = f, .kind = OUT_REPLY});
    conn_finish(c, WS_CLOSE_NORMAL);
}

void conn_http_error(struct conn *c, const struct http_request *r, int status, const char *line)
{
    char body[512], headers[128] = "";
    int n = snprintf(body, sizeof body, "%d %s: %s\n", status, http_reason(status), line);
    if (status == 426)
        snprintf(headers, sizeof headers, "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n");
    if (status == 405) snprintf(headers, sizeof headers, "Allow: GET, HEAD\r\n");
    if (status == 401) snprintf(headers, sizeof headers, "WWW-Authenticate: Bearer\r\n");
    if (status == 429 || status == 503) /* spread, so that they do not all come back at once */
        snprintf(headers, sizeof headers, "Retry-After: %u\r\n",
                 1 + (unsigned)(worker_random(c->worker) % 10));
    struct http_reply reply = {
        .status = status, .headers = headers, .body = body, .len = n > 0 ? (size_t)n : 0};
    conn_http_reply(c, r, &reply);
}

void conn_upgrade(struct conn *c, const struct http_request *r, enum conn_protocol protocol,
                  const char *subprotocol)
{
    char head[REPLY_HEAD_MAX], accept[29];
    ws_accept_key(accept, r->ws_key.p, r->ws_key.len);
    int n =
        snprintf(head, sizeof head,
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: %s\r\n%s%s%s\r\n",
                 accept, subprotocol ? "Sec-WebSocket-Protocol: " : "",
                 subprotocol ? subprotocol : "", subprotocol ? "\r\n" : "");
    struct frame *f = frame_new(c->worker->pool, (uint32_t)n);
    if (f) memcpy(f->bytes, head, (size_t)n);
    conn_queue(c, (struct out_entry){.frame = f, .kind = OUT_REPLY});
    if (c->state == CONN_CLOSED) return;
    conn_set_state(c, CONN_OPEN);
    conn_tls_verified(c);
    c->protocol = protocol & 7;
    c->opened = worker_tick(c->worker);
    c->flags |= CONN_COUNTED;
    struct worker *w = c->worker;
    if (w->trace) trace_result(w->trace, 101);
    atomic_fetch_add_explicit(&w->server->connections, 1, memory_order_relaxed);
    metric_add(&w->metrics, METRIC_CONNECTIONS, 1);
    metric_add(&w->metrics, METRIC_UPGRADED, 1);
    PROBE2(handshake_done, c->id, 101);
}

/* ---- requests ---- */

static void refuse_head(struct conn *c, int status, const char *why)
{
    metric_add(&c->worker->metrics, METRIC_REFUSED_BAD_REQUEST, 1);
    conn_http_error(c, NULL, status, why);
}

/* keep puts bytes behind what in->buf has already; unverified: nobody vouches for them yet. */
static bool keep(struct conn *c, const uint8_t *bytes, size_t len, bool unverified)
{
    struct conn_in *in = conn_in_need(c);
    if (!in) return false;
    if (!in->cap) in->unverified = unverified;
    size_t max = HTTP_HEAD_MAX + (size_t)in->body_max + c->worker->rx_size + DRAIN_RESERVE;
    if (!conn_in_reserve(c, in->len + len, max)) {
        if (c->flags & CONN_AWAITED) /* it would be taken for that answer */
            conn_drop(c, WS_CLOSE_ABNORMAL);
        else
            conn_http_error(c, NULL, 503, "no memory for unfinished requests");
        return false;
    }
    memcpy(in->buf + in->len, bytes, len);
    in->len += (uint32_t)len;
    return true;
}

/* next_request readies c for the request behind the one just answered. */
static void next_request(struct conn *c)
{
    if (c->state != CONN_HTTP || c->flags & CONN_STREAMS) return;
    conn_arm(c, CONN_DEADLINE_REQUEST, conn_options()->http_idle_timeout_ms);
    conn_pause_if_full(c);
}

/* body_complete decodes what has come of the body. 1: all there; 0: more; negative: status. in->buf
 * is head, decoded body, and from raw_at on bytes not looked at. */
static int body_complete(struct conn_in *in, const struct http_request *r)
{
    if (!r->chunked) {
        uint32_t have = in->len - in->head_len;
        in->body_len = have < r->content_length ? have : (uint32_t)r->content_length;
        in->raw_at = in->head_len + in->body_len;
        return in->body_len == r->content_length;
    }
    size_t used = 0, body = 0;
    uint8_t *raw = in->buf + in->raw_at;
    int done = http_chunked_read(&in->chunked, (char *)raw, in->len - in->raw_at, &used, &body);
    if (done < 0) return done;
    in->body_len += (uint32_t)body;
    if (in->body_len > in->body_max) return -413;
    /* close the gap, so that a long body in small chunks needs no more room than its bytes */
    uint32_t rest = in->len - in->raw_at - (uint32_t)used;
    memmove(raw + body, raw + used, rest);
    in->raw_at += (uint32_t)body;
    in->len = in->raw_at + rest;
    return done;
}

/* continue_body goes on with the request whose head is at the front of in->buf. Returns whether it
 * is answered and another may follow. */
static bool continue_body(struct conn *c)
{
    struct conn_in *in = c->in;
    struct http_request r;
    const char *why;
    size_t at = 0;
    (void)http_request_parse(&r, (const char *)in->buf, in->head_len, &at,
                             &why); /* parsed once already */
    int done = body_complete(in, &r);
    if (done == 0) return false;
    if (done < 0) {
        refuse_head(c, -done,
                    done == -413 ? "the body is larger than this path accepts"
                                 : "the chunked body is malformed");
        return false;
    }
    c->worker->server->app->request(c, &r, (const char *)in->buf + in->head_len, in->body_len);
    in->in_body = false;
    next_request(c);
    return c->state == CONN_HTTP;
}

static bool begin_body(struct conn *c, const struct http_request *r, uint32_t head_len, int64_t max)
{
    if (!r->chunked && r->content_length > (uint64_t)max) {
        refuse_head(c, 413, "the body is larger than this path accepts");
        return false;
    }
    struct conn_in *in = c->in;
    conn_in_verified(c); /* the head had a good key */
    in->in_body = true;
    in->body_max = (uint32_t)max;
    in->head_len = in->raw_at = head_len;
    in->body_len = 0;
    in->chunked = (struct http_chunked){0};
    conn_arm(c, CONN_DEADLINE_REQUEST, conn_options()->http_idle_timeout_ms);
    if (r->expect_continue && in->len == head_len) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        struct frame *f = frame_new(c->worker->pool, sizeof go_on - 1);
        if (f) memcpy(f->bytes, go_on, sizeof go_on - 1);
        conn_queue(c, (struct out_entry){.frame = f, .kind = OUT_REPLY});
    }
    return c->state == CONN_HTTP;
}

/* one_head looks for a request head in bytes. Returns how many bytes it used, 0 if the head is not
 * complete (or a body follows that is in c->in now), -1 if c is not reading requests any more. */
static int64_t one_head(struct conn *c, uint8_t *bytes, size_t len)
{
    struct http_request r;
    const char *why = "";
    size_t at = c->in ? c->in->end_at : 0;
    int n = http_request_parse(&r, (const char *)bytes, len, &at, &why);
    if (n < 0) {
        refuse_head(c, -n, why);
        return -1;
    }
    if (c->in) c->in->end_at = n ? 0 : at;
    if (n == 0) return 0;
    if (r.upgrade_websocket) PROBE1(handshake_start, c->id);
    if (!r.keep_alive) c->flags &= ~(uint32_t)CONN_KEEP_ALIVE;
    int64_t body_max = c->worker->server->app->head(c, &r);
    if (body_max > 0) {
        bool kept = c->in && c->in->buf == bytes;
        if (!kept && !keep(c, bytes, len, false)) return -1;
        return begin_body(c, &r, (uint32_t)n, body_max) ? 0 : -1;
    }
    next_request(c);
    return n;
}

/* kept_request goes on with the request at the front of c->in. Returns whether it has been
 * answered; then what lies behind it begins at raw_at. */
static bool kept_request(struct conn *c)
{
    struct conn_in *in = c->in;
    if (!in->in_body) {
        int64_t n = one_head(c, in->buf, in->len);
        if (n < 0) return false;
        if (n) {
            in->raw_at = (uint32_t)n;
            return true;
        }
        /* the deadline of a later request begins with its first bytes; the first one's at the
         * accept */
        if (!in->in_body && c->timer.kind == CONN_DEADLINE_REQUEST)
            conn_arm(c, CONN_DEADLINE_HANDSHAKE, conn_options()->handshake_timeout_ms);
    }
    return in->in_body && continue_body(c);
}

/* next_kept answers the request at the front of c->in, if it is complete, and takes what lies
 * behind it out into *held. */
static bool next_kept(struct conn *c, struct conn_in **held, uint8_t **bytes, size_t *len)
{
    if (!kept_request(c)) return false;
    conn_in_free(c->worker, held);
    *held = c->in;
    c->in = NULL;
    *bytes = (*held)->buf + (*held)->raw_at;
    *len = (*held)->len - (*held)->raw_at;
    return true;
}

static void requests(struct conn *c, uint8_t *bytes, size_t len)
{
    struct conn_in *held = NULL; /* what bytes point into, once a kept request is answered */
    if (len == 0 && c->in && !next_kept(c, &held, &bytes, &len)) return;
    while (len && c->state == CONN_HTTP && !(c->flags & CONN_STREAMS)) {
        if (!conn_may_read(c)) { /* its answers are not read, or not made yet: what comes behind
                                    them waits */
            (void)keep(c, bytes, len, true);
            break;
        }
        if (!c->in) { /* whole requests are read where they lie */
            int64_t n = one_head(c, bytes, len);
            if (n < 0) break;
            bytes += n;
            len -= (size_t)n;
            if (n || (!c->in && !keep(c, bytes, len, true))) continue;
        } else if (!keep(c, bytes, len, true)) {
            break;
        }
        len = 0;
        if (!next_kept(c, &held, &bytes, &len)) break;
    }
    /* what comes behind an opening handshake is frames already */
    if (len && (c->state == CONN_OPEN || c->state == CONN_CLOSING)) conn_ws_input(c, bytes, len);
    conn_in_free(c->worker, &held);
}

void conn_http_input(struct conn *c, uint8_t *bytes, size_t len)
{
    if (c->flags & CONN_STREAMS) return; /* nothing can be answered any more */
    requests(c, bytes, len);
}
