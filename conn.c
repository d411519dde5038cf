#include "conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "probes.h"
#include "proxy.h"
#include "tls.h"

#define LIMIT_LOG_S 10 /* a line about a limit in so many seconds */
#define IOV_MAX_PIECES 64

static const uint8_t may_become[] = {
    [CONN_TLS_HANDSHAKE] = 1 << CONN_HTTP | 1 << CONN_LINGER | 1 << CONN_CLOSED,
    [CONN_HTTP] = 1 << CONN_OPEN | 1 << CONN_LINGER | 1 << CONN_CLOSED,
    [CONN_OPEN] = 1 << CONN_CLOSING | 1 << CONN_LINGER | 1 << CONN_CLOSED,
    [CONN_CLOSING] = 1 << CONN_LINGER | 1 << CONN_CLOSED,
    [CONN_LINGER] = 1 << CONN_CLOSED,
    [CONN_CLOSED] = 0,
};

void conn_set_state(struct conn *c, enum conn_state to) /* the only writer of c->state */
{
    if (!(may_become[c->state] & 1 << to)) abort();
    c->state = to & 15;
}

void conn_limit_met(struct conn *c, enum metric why, const char *option)
{
    static struct log_limit limits[METRIC_COUNT];
    char peer[CONN_PEER_TEXT];
    metric_add(&c->worker->metrics, why, 1);
    log_seldom_of(&limits[why], LIMIT_LOG_S, LOG_WARN, "limit met", LOG_STR("limit", option),
                  LOG_STR("peer", conn_peer_text(c, peer)));
}

/* ---- unfinished input ---- */

void conn_book(struct server *s, bool unverified, int64_t bytes)
{
    atomic_fetch_add_explicit(unverified ? &s->unauthenticated_bytes : &s->unfinished_bytes, bytes,
                              memory_order_relaxed);
}

bool conn_budget_has(struct conn *c, bool unverified, int64_t more)
{
    const struct server *s = c->worker->server;
    if (unverified) {
        if (atomic_load_explicit(&s->unauthenticated_bytes, memory_order_relaxed) + more <=
            conn_options()->unauthenticated_max_bytes)
            return true;
        conn_limit_met(c, METRIC_REFUSED_UNAUTHENTICATED, "client.unauthenticated_max_size");
        return false;
    }
    if (atomic_load_explicit(&s->unfinished_bytes, memory_order_relaxed) + more <=
        conn_options()->unfinished_max_bytes)
        return true;
    conn_limit_met(c, METRIC_REFUSED_UNFINISHED, "client.unfinished_max_size");
    return false;
}

uint8_t *conn_in_alloc(struct conn *c, size_t len)
{
    if (!conn_budget_has(c, c->in->unverified, (int64_t)len)) return NULL;
    uint8_t *p = mem_alloc(c->worker->pool, len);
    if (p)
        conn_book(c->worker->server, c->in->unverified, (int64_t)len);
    else
        metric_add(&c->worker->metrics, METRIC_REFUSED_MEMORY, 1);
    return p;
}

void conn_in_give_back(struct worker *w, uint8_t *p, size_t len)
{
    if (!p) return;
    atomic_fetch_sub_explicit(&w->server->unfinished_bytes, (int64_t)len, memory_order_relaxed);
    mem_free(w->pool, p, len);
}

void conn_in_verified(struct conn *c)
{
    struct conn_in *in = c->in;
    if (!in->unverified) return;
    conn_book(c->worker->server, in->unverified, -(int64_t)in->cap);
    in->unverified = false;
    conn_book(c->worker->server, in->unverified, in->cap);
}

struct conn_in *conn_in_need(struct conn *c)
{
    if (c->in) return c->in;
    c->in = mem_zalloc(c->worker->pool, sizeof *c->in);
    if (!c->in) {
        metric_add(&c->worker->metrics, METRIC_REFUSED_MEMORY, 1);
        conn_drop(c, WS_CLOSE_INTERNAL);
    }
    return c->in;
}

static uint32_t grown(uint32_t cap, size_t need, size_t max)
{
    size_t want = cap ? cap : 512;
    while (want < need) want *= 2;
    if (want > max) want = max;
    return (uint32_t)want;
}

bool conn_in_reserve(struct conn *c, size_t len, size_t max)
{
    struct conn_in *in = c->in;
    if (len <= in->cap) return true;
    if (len > max) return false;
    uint32_t cap = grown(in->cap, len, max);
    int64_t more = (int64_t)cap - in->cap;
    if (!conn_budget_has(c, in->unverified, more)) return false;
    uint8_t *bigger = mem_alloc(c->worker->pool, cap);
    if (!bigger) {
        metric_add(&c->worker->metrics, METRIC_REFUSED_MEMORY, 1);
        return false;
    }
    if (in->len) memcpy(bigger, in->buf, in->len);
    mem_free(c->worker->pool, in->buf, in->cap);
    conn_book(c->worker->server, in->unverified, more);
    in->buf = bigger;
    in->cap = cap;
    return true;
}

void conn_in_free(struct worker *w, struct conn_in **in)
{
    if (!*in) return;
    if ((*in)->cap) conn_book(w->server, (*in)->unverified, -(int64_t)(*in)->cap);
    mem_free(w->pool, (*in)->buf, (*in)->cap);
    conn_in_give_back(w, (*in)->kept, (*in)->kept_cap);
    conn_in_give_back(w, (*in)->held, (*in)->held_len);
    mem_free(w->pool, *in, sizeof **in);
    *in = NULL;
}

/* ---- begin and end ---- */

void conn_set_peer(struct conn *c, const struct in6_addr *ip, uint16_t port)
{
    conn_address_leave(c);
    if (c->flags & CONN_IPV6) mem_free(c->worker->pool, c->peer.ip6, sizeof *ip);
    c->flags &= ~(uint32_t)CONN_IPV6;
    c->peer.ip6 = NULL; /* and so ip4 is 0 */
    c->peer_port = port;
    if (IN6_IS_ADDR_V4MAPPED(ip)) {
        memcpy(&c->peer.ip4, ip->s6_addr + 12, 4);
    } else if (!IN6_IS_ADDR_UNSPECIFIED(ip) &&
               (c->peer.ip6 = mem_alloc(c->worker->pool, sizeof *ip))) {
        *c->peer.ip6 = *ip;
        c->flags |= CONN_IPV6;
    }
}

/* note_proxies: what the socket's peer may say of others. */
static void note_proxies(struct conn *c, const struct in6_addr *ip)
{
    const struct conn_options *o = conn_options();
    if (cidr_contains(&o->trusted_proxies, ip)) c->flags |= CONN_FORWARDED;
}

const char *conn_peer_text(const struct conn *c, char out[static CONN_PEER_TEXT])
{
    char ip[INET6_ADDRSTRLEN] = "";
    if (c->flags & CONN_IPV6) {
        inet_ntop(AF_INET6, c->peer.ip6, ip, sizeof ip);
        snprintf(out, CONN_PEER_TEXT, c->peer_port ? "[%s]:%u" : "[%s]", ip, c->peer_port);
    } else if (c->peer_port || c->peer.ip4) {
        inet_ntop(AF_INET, &c->peer.ip4, ip, sizeof ip);
        snprintf(out, CONN_PEER_TEXT, c->peer_port ? "%s:%u" : "%s", ip, c->peer_port);
    } else {
        snprintf(out, CONN_PEER_TEXT, "unix");
    }
    return out;
}

static void accepted(struct worker *w, const struct listener *l, int fd,
                     const struct peer_address *from)
{
    const size_t size = conn_size(conn_options());
    struct conn *c = mem_zalloc(w->pool, size);
    if (!c) {
        metric_add(&w->metrics, METRIC_REFUSED_MEMORY, 1);
        close(fd);
        return;
    }
    c->worker = w;
    c->fd = fd;
    c->id = (uint32_t)++w->next_conn_id;
    c->opened = c->last_seen = worker_tick(w);
    c->flags = (l->local ? CONN_LOCAL : 0u) | (l->admin ? CONN_ADMIN : 0u) |
               (l->clients ? CONN_CLIENTS : 0u) | (l->tls ? CONN_TLS : 0u) | CONN_KEEP_ALIVE;
    c->state = l->tls ? CONN_TLS_HANDSHAKE : CONN_HTTP;
    if (l->tls) c->sub_index = (uint32_t)(l - w->listeners); /* until the handshake begins */
    conn_set_peer(c, &from->ip, from->port);
    note_proxies(c, &from->ip);
    if (cidr_contains(&conn_options()->proxy_from, &from->ip)) c->flags |= CONN_PROXIED;
    if (reactor_add(&w->reactor, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c, REACTOR_CONN) ==
        -1) {
        metric_add(&w->metrics, METRIC_REFUSED_DESCRIPTORS, 1);
        log_limited(1, LOG_WARN, "a connection could not be watched: see fs.epoll.max_user_watches",
                    LOG_ERRNO(errno));
        if (c->flags & CONN_IPV6) mem_free(w->pool, c->peer.ip6, sizeof *c->peer.ip6);
        mem_free(w->pool, c, size);
        close(fd);
        return;
    }
    c->slot = w->conns.count;
    conn_vector_push(&w->conns, c);
    metric_add(&w->metrics, METRIC_SOCKETS, 1);
    conn_arm(c, CONN_DEADLINE_HANDSHAKE, conn_options()->handshake_timeout_ms);
    if (!conn_address_enter(c)) conn_address_refuse(c);
}

void conn_left_open(struct conn *c, unsigned code, const char *reason)
{
    if (!(c->flags & CONN_COUNTED)) return;
    if (!c->close_code) c->close_code = (uint16_t)code;
    if (conn_watched(c)) /* while user and channels are known */
        conn_see(c,
                 &(struct conn_sight){.kind = SIGHT_CLOSED, .code = c->close_code, .text = reason});
    c->flags &= ~(uint32_t)CONN_COUNTED;
    struct worker *w = c->worker;
    atomic_fetch_sub_explicit(&w->server->connections, 1, memory_order_relaxed);
    metric_sub(&w->metrics, METRIC_CONNECTIONS, 1);
    metric_add(&w->metrics, METRIC_CLOSED, 1);
    PROBE2(close, c->id, c->close_code);
    w->server->app->handlers[c->protocol].closed(c);
}

void conn_drop(struct conn *c, unsigned code)
{
    if (c->state == CONN_CLOSED) return;
    if (c->state == CONN_TLS_HANDSHAKE && c->tls) conn_tls_failed(c);
    conn_left_open(c, code, NULL);
    conn_address_leave(c);
    conn_set_state(c, CONN_CLOSED);
    wheel_cancel(&c->worker->wheel, &c->timer);
    conn_vector_push(&c->worker->closed, c);
}

void conn_finish(struct conn *c, unsigned code)
{
    if (c->state == CONN_CLOSED || c->state == CONN_LINGER) return;
    if (c->state == CONN_TLS_HANDSHAKE) {
        conn_drop(c, code);
        return;
    }
    conn_left_open(c, code, NULL);
    conn_set_state(c, CONN_LINGER);
    conn_arm(c, CONN_DEADLINE_CLOSE, conn_options()->close_timeout_ms);
    conn_read_again(c); /* for the peer's FIN */
    conn_mark_dirty(c);
}

static void release(struct conn *c)
{
    struct worker *w = c->worker;
    w->server->app->ended(c);
    if (c->flags & CONN_TURNED_AWAY) w->turned_away--;
    close(c->fd);
    conn_tls_free(c);
    conn_in_free(w, &c->in);
    metric_sub(&w->metrics, METRIC_QUEUED_BYTES, outq_bytes(c->out));
    conn_waits_no_more(c);
    outq_free(w->pool, &c->out);
    if (c->flags & CONN_IPV6) mem_free(w->pool, c->peer.ip6, sizeof *c->peer.ip6);
    struct conn *last = w->conns.items[--w->conns.count];
    w->conns.items[c->slot] = last;
    last->slot = c->slot;
    metric_sub(&w->metrics, METRIC_SOCKETS, 1);
    mem_free(w->pool, c, conn_size(conn_options()));
}

static void end_of_turn(struct worker *w)
{
    if (w->closed.count == 0) return;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->ready.count; i++)
        if (w->ready.items[i]->state != CONN_CLOSED) w->ready.items[kept++] = w->ready.items[i];
    w->ready.count = kept;
    for (uint32_t i = 0; i < w->closed.count; i++) release(w->closed.items[i]);
    w->closed.count = 0;
}

/* ---- deadlines ---- */

void conn_arm(struct conn *c, enum conn_deadline what, int64_t in_ms)
{
    c->timer.kind = what;
    worker_arm(c->worker, &c->timer, in_ms);
}

static void push_ready(struct conn *c)
{
    if (c->flags & CONN_READY) return;
    c->flags |= CONN_READY;
    conn_vector_push(&c->worker->ready, c);
}

/* read_on takes away a reason not to read. */
static void read_on(struct conn *c, uint32_t reason)
{
    if (c->flags & reason && c->flags & CONN_READABLE) c->flags |= CONN_WAITED;
    c->flags &= ~reason;
    if (conn_may_read(c) && (c->flags & (CONN_READABLE | CONN_EOF) || c->in)) push_ready(c);
}

void conn_read_again(struct conn *c)
{
    read_on(c, CONN_THROTTLED | CONN_PAUSED);
}

static void timer_fired(struct wheel_timer *t, void *worker)
{
    struct conn *c = (struct conn *)(void *)t; /* its first member */
    struct worker *w = worker;
    PROBE1(timer_lag, (uint32_t)w->now_ms - t->deadline * WORKER_TICK_MS);
    if (c->flags & CONN_THROTTLED) read_on(c, CONN_THROTTLED);
    switch ((enum conn_deadline)t->kind) {
    case CONN_DEADLINE_HANDSHAKE:
        metric_add(&w->metrics, METRIC_TIMED_OUT_HANDSHAKE, 1);
        if (c->state == CONN_HTTP && c->in)
            conn_http_error(c, NULL, 408, "the request head did not arrive in time");
        else
            conn_drop(c, WS_CLOSE_ABNORMAL);
        break;
    case CONN_DEADLINE_REQUEST:
        if (c->flags & CONN_AWAITED) { /* it waits for us */
            conn_arm(c, CONN_DEADLINE_REQUEST, conn_options()->http_idle_timeout_ms);
            break;
        }
        metric_add(&w->metrics, METRIC_TIMED_OUT_IDLE, 1);
        conn_finish(c, WS_CLOSE_ABNORMAL);
        break;
    case CONN_DEADLINE_STREAM: w->server->app->stream(c); break;
    case CONN_DEADLINE_HEARTBEAT: w->server->app->heartbeat(c); break;
    case CONN_DEADLINE_CLOSE:
        if (c->state == CONN_CLOSING) metric_add(&w->metrics, METRIC_TIMED_OUT_CLOSE, 1);
        conn_drop(c, WS_CLOSE_ABNORMAL);
        break;
    }
}

void conn_throttle(struct conn *c)
{
    if (c->state != CONN_OPEN || c->flags & CONN_THROTTLED) return;
    c->flags |= CONN_THROTTLED;
    conn_limit_met(c, METRIC_CONTROL_THROTTLED, "websocket.control_frames_per_second");
    conn_arm(c, CONN_DEADLINE_HEARTBEAT, 1000);
}

/* ---- writing ---- */

void conn_mark_dirty(struct conn *c)
{
    if (c->flags & CONN_DIRTY || c->state == CONN_CLOSED) return;
    c->flags |= CONN_DIRTY;
    conn_vector_push(&c->worker->dirty, c);
}

static void out_of_memory(struct conn *c)
{
    metric_add(&c->worker->metrics, METRIC_REFUSED_MEMORY, 1);
    conn_drop(c, WS_CLOSE_INTERNAL);
}

/* queue is conn_queue, written out where publications are delivered. */
static inline void queue(struct conn *c, struct out_entry e)
{
    if (c->state == CONN_CLOSED || c->state == CONN_LINGER) {
        frame_unref(e.frame, 1);
        return;
    }
    uint32_t len = e.frame->len - e.from;
    if (!outq_push(c->worker->pool, &c->out, e)) {
        out_of_memory(c);
        return;
    }
    metric_add(&c->worker->metrics, METRIC_QUEUED_BYTES, len);
    if (e.messages) {
        c->messages_out += e.messages;
        metric_add(&c->worker->metrics, METRIC_MESSAGES_OUT, e.messages);
    }
    conn_mark_dirty(c);
}

void conn_queue(struct conn *c, struct out_entry e)
{
    if (e.frame)
        queue(c, e);
    else
        out_of_memory(c); /* it could not be made */
}

void conn_unqueued(struct conn *c, size_t n)
{
    metric_sub(&c->worker->metrics, METRIC_QUEUED_BYTES, n);
}

static void count_dropped(struct conn *c, uint32_t messages)
{
    metric_add(&c->worker->metrics, METRIC_SLOW_DROPPED, messages);
    if (messages) PROBE2(slow_drop, c->id, messages);
}

/* make_way drops publications as the policy says, until len more bytes have room if that is
 * possible. */
static void make_way(struct conn *c, uint32_t len, enum slow_policy policy)
{
    int64_t room = conn_options()->queue_max_bytes - len - OUT_ENTRY_COST;
    uint32_t before = c->out->bytes, dropped = 0;
    switch (policy) {
    case SLOW_CLOSE: dropped = outq_clear(c->out); break;
    case SLOW_DROP_OLDEST: dropped = outq_drop_oldest(c->out, room > 0 ? (uint64_t)room : 0); break;
    case SLOW_KEEP_LATEST: dropped = outq_drop_all(c->out); break;
    case SLOW_RECOVER: return;
    }
    conn_unqueued(c, before - c->out->bytes);
    c->messages_out -= dropped;
    if (policy != SLOW_CLOSE) count_dropped(c, dropped);
}

/* has_room: an empty queue has room for anything. */
static bool has_room(const struct conn *c, uint32_t len)
{
    int64_t with_it = (int64_t)outq_cost(c->out) + len + OUT_ENTRY_COST;
    return outq_bytes(c->out) == 0 || with_it <= conn_options()->queue_max_bytes;
}

/* not_delivered: e found no room, and none could be made. */
static bool not_delivered(struct conn *c, const struct out_entry *e, enum slow_policy policy)
{
    frame_unref(e->frame, 1);
    if (policy == SLOW_CLOSE) {
        conn_limit_met(c, METRIC_SLOW_CLOSED, "client.queue_max_size");
        conn_close(c, 3008, "slow");
    } else {
        count_dropped(c, e->messages);
    }
    return policy != SLOW_RECOVER;
}

bool conn_deliver(struct conn *c, struct out_entry e, enum slow_policy policy)
{
    uint32_t len = e.frame->len - e.from;
    if (c->out && !has_room(c, len)) {
        make_way(c, len, policy);
        if (policy == SLOW_CLOSE || !has_room(c, len)) return not_delivered(c, &e, policy);
    }
    queue(c, e);
    return true;
}

void conn_pause(struct conn *c)
{
    if (c->state != CONN_OPEN) return;
    c->flags |= CONN_PAUSED;
    metric_add(&c->worker->metrics, METRIC_PAUSED_SHARE, 1);
    conn_mark_dirty(c); /* the flush reads on, also if there is nothing to send */
}

void conn_pause_if_full(struct conn *c)
{
    bool full = (int64_t)outq_cost(c->out) > conn_options()->queue_max_bytes / 2;
    if (!full || c->flags & CONN_PAUSED || (c->state != CONN_HTTP && c->state != CONN_OPEN)) return;
    c->flags |= CONN_PAUSED;
    metric_add(&c->worker->metrics, METRIC_PAUSED_REPLIES, 1);
}

/* socket_took notes n bytes of want that the socket took, or its error. Returns whether it took
 * all. */
bool conn_socket_took(struct conn *c, ssize_t n, size_t want)
{
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR)
            c->flags |= CONN_BLOCKED;
        else
            conn_drop(c, WS_CLOSE_ABNORMAL);
        return false;
    }
    c->bytes_out += (uint64_t)n;
    metric_add(&c->worker->metrics, METRIC_BYTES_OUT, (uint64_t)n);
    if ((size_t)n == want) return true;
    c->flags |= CONN_BLOCKED; /* epoll(7): a short write is as good as EAGAIN */
    return false;
}

/* flush_plain sends what is queued; one system call unless there is more than a send takes. */
static void flush_plain(struct conn *c)
{
    struct worker *w = c->worker;
    while (c->out->count) {
        struct iovec iov[IOV_MAX_PIECES];
        unsigned pieces = outq_iov(c->out, iov, IOV_MAX_PIECES, 1u << 20);
        size_t want = 0;
        for (unsigned i = 0; i < pieces; i++) want += iov[i].iov_len;
        ssize_t n;
        if (pieces == 1) {
            n = send(c->fd, iov[0].iov_base, want, MSG_NOSIGNAL);
        } else if (want <=
                   w->tx_size) { /* copying small frames together is cheaper than an iovec each */
            size_t at = 0;
            for (unsigned i = 0; i < pieces; i++) {
                memcpy(w->tx + at, iov[i].iov_base, iov[i].iov_len);
                at += iov[i].iov_len;
            }
            n = send(c->fd, w->tx, want, MSG_NOSIGNAL);
        } else {
            struct msghdr m = {.msg_iov = iov, .msg_iovlen = pieces};
            n = sendmsg(c->fd, &m, MSG_NOSIGNAL);
        }
        bool all = conn_socket_took(c, n, want);
        if (n > 0) {
            outq_sent(c->out, (size_t)n);
            conn_unqueued(c, (size_t)n);
        }
        if (!all) return;
    }
}

/* shut says that nothing more will come from us; c is dropped if the peer has said so as well. */
static void shut(struct conn *c)
{
    if (c->tls) {
        conn_tls_goodbye(c);
        if (c->state == CONN_CLOSED || !outq_empty(c->out)) return; /* the flush comes here again */
    }
    if (!(c->flags & CONN_SHUT)) shutdown(c->fd, SHUT_WR);
    c->flags |= CONN_SHUT;
    if (c->flags & CONN_EOF) conn_drop(c, c->close_code);
}

/* drained: everything queued is sent; go on with what waited for that. */
static void drained(struct conn *c)
{
    if (c->flags & CONN_PAUSED) read_on(c, CONN_PAUSED);
    switch ((enum conn_state)c->state) {
    case CONN_CLOSING:
        if (!(c->flags & CONN_PEER_DONE)) break;
        conn_finish(c, c->close_code);
        drained(c);
        break;
    case CONN_LINGER: shut(c); break;
    case CONN_TLS_HANDSHAKE:
    case CONN_HTTP:
    case CONN_OPEN:
    case CONN_CLOSED: break;
    }
}

/* send_queued sends as much as the socket takes; goes on with what waited for the end of it. */
static void send_queued(struct conn *c)
{
    if (!outq_empty(c->out)) {
        if (c->tls)
            conn_tls_flush(c);
        else
            flush_plain(c);
        if (c->state == CONN_CLOSED) return;
    }
    if (outq_empty(c->out)) {
        conn_waits_no_more(c);
        outq_free(c->worker->pool, &c->out);
        drained(c);
    }
}

static void flush(struct conn *c)
{
    if (c->state == CONN_CLOSED) return;
    if (!(c->flags & CONN_BLOCKED)) {
        send_queued(c);
        if (c->flags & CONN_BLOCKED) PROBE2(write_blocked, c->id, outq_bytes(c->out));
    }
    if (c->out) conn_waits(c);
}

void conn_flushed(struct conn *c)
{
    flush(c);
    c->flags &= ~(uint32_t)CONN_DIRTY;
}

static void flush_all(struct worker *w)
{
    const bool batched = conn_batch_begin(w);
    uint32_t i = 0;
    do {
        for (; i < w->dirty.count; i++) { /* may grow meanwhile, each connection once */
            struct conn *c = w->dirty.items[i];
            if (!batched || !conn_batch_add(c)) conn_flushed(c);
        }
        if (batched) conn_batch_submit(w);
    } while (i < w->dirty.count);
    w->dirty.count = 0;
}

static void flush_dirty(struct worker *w)
{
    flush_all(w);
    if (conn_shed(w)) flush_all(w);
}

/* ---- reading ---- */

void conn_end_of_input(struct conn *c)
{
    c->flags |= CONN_EOF;
    c->flags &= ~(uint32_t)CONN_READABLE;
    if (!conn_may_read(c) && (c->in || c->flags & CONN_AWAITED))
        return; /* what came in front of it first: ready() */
    if (c->state == CONN_LINGER && outq_empty(c->out))
        conn_drop(c, c->close_code);
    else
        conn_finish(c, WS_CLOSE_ABNORMAL); /* what is queued may still be read by a peer that only
                                              shut its side */
}

void conn_input(struct conn *c, uint8_t *plain, size_t len)
{
    switch ((enum conn_state)c->state) {
    case CONN_HTTP: conn_http_input(c, plain, len); return;
    case CONN_OPEN:
    case CONN_CLOSING: conn_ws_input(c, plain, len); return;
    case CONN_TLS_HANDSHAKE:
    case CONN_LINGER:
    case CONN_CLOSED: return;
    }
}

static void received(struct conn *c, uint8_t *bytes, size_t len)
{
    c->bytes_in += len;
    metric_add(&c->worker->metrics, METRIC_BYTES_IN, len);
    c->flags &= ~(uint32_t)CONN_PONG_DUE;
    if (c->flags & CONN_TLS)
        conn_tls_input(c, bytes, len);
    else
        conn_input(c, bytes, len);
    /* conn/rate.c asks for the one before; of a backlog, for the one before all of it */
    if (!(c->flags & CONN_WAITED)) c->last_seen = worker_tick(c->worker);
}

/* all_read: the next byte is a new edge. */
static void all_read(struct conn *c)
{
    c->flags &= ~(uint32_t)(CONN_READABLE | CONN_WAITED);
    c->last_seen = worker_tick(c->worker);
}

static uint8_t *receive_buffer(struct conn *c)
{
    struct worker *w = c->worker;
    if (!(c->flags & CONN_TLS)) return w->rx;
    if (!w->cipher) w->cipher = malloc(w->rx_size); /* once a worker */
    if (!w->cipher) conn_drop(c, WS_CLOSE_INTERNAL);
    return w->cipher;
}

/* must_wait: not this turn, because its share of TLS handshakes is used up, or because subscribers
 * have to catch up with what publishers sent already. */
static bool must_wait(const struct conn *c)
{
    if (c->state == CONN_TLS_HANDSHAKE)
        return c->worker->handshake_us >= conn_options()->handshake_us_per_turn;
    return c->flags & CONN_MAY_PUBLISH && c->worker->congested;
}

/* behind_proxy takes what the PROXY header says instead of the socket's address. Who comes from
 * elsewhere through a proxy on this host is not local. */
static void behind_proxy(struct conn *c, const struct proxy_header *h)
{
    static const struct in6_addr v4_loopback = {
        .s6_addr = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
    if (!h->known) return;
    c->flags &= ~(uint32_t)CONN_FORWARDED;
    conn_set_peer(c, &h->ip, h->port);
    note_proxies(c, &h->ip);
    if (memcmp(&h->ip, &v4_loopback, 13) != 0 && !IN6_IS_ADDR_LOOPBACK(&h->ip))
        c->flags &= ~(uint32_t)CONN_LOCAL;
}

/* take_proxy_header reads the header in front of everything else, once it is whole: looked at in
 * the kernel's buffer until then, so that nothing is kept. Returns whether it is taken. */
static bool take_proxy_header(struct conn *c)
{
    struct proxy_header h;
    char peer[CONN_PEER_TEXT];
    const ssize_t n = recv(c->fd, c->worker->rx, PROXY_MAX, MSG_PEEK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        c->flags &= ~(uint32_t)CONN_READABLE;
        return false;
    }
    int used = n > 0 ? proxy_parse(&h, c->worker->rx, (size_t)n) : -1;
    if (used == 0 && n < PROXY_MAX && !(c->flags & CONN_HUP)) {
        c->flags &= ~(uint32_t)CONN_READABLE; /* what comes next is a new edge */
        return false;
    }
    if (used <= 0 || recv(c->fd, c->worker->rx, (size_t)used, 0) != used) {
        metric_add(&c->worker->metrics, METRIC_REFUSED_PROXY, 1);
        if (n > 0)
            log_limited(5, LOG_WARN,
                        "no PROXY header from an address of http_server.proxy_protocol_from",
                        LOG_STR("peer", conn_peer_text(c, peer)));
        conn_drop(c, WS_CLOSE_ABNORMAL);
        return false;
    }
    c->flags &= ~(uint32_t)CONN_PROXIED;
    behind_proxy(c, &h);
    if (h.known && !conn_address_enter(c)) conn_address_refuse(c);
    return true;
}

static void read_some(struct conn *c)
{
    if (c->flags & CONN_PROXIED && !take_proxy_header(c)) return;
    uint8_t *buf = receive_buffer(c);
    for (int64_t i = 0; i < conn_options()->reads_per_turn; i++) {
        if (!conn_may_read(c)) return;
        if (must_wait(c)) {
            c->flags |= CONN_WAITED;
            break;
        }
        ssize_t n = recv(c->fd, buf, c->worker->rx_size, 0);
        if (n == 0) {
            conn_end_of_input(c);
            return;
        }
        if (n < 0) {
            if (errno == EINTR) continue;
            const bool failed = errno != EAGAIN;
            c->flags &= ~(uint32_t)(CONN_READABLE | CONN_WAITED);
            if (failed) conn_drop(c, WS_CLOSE_ABNORMAL);
            return;
        }
        received(c, buf, (size_t)n);
        if ((size_t)n < c->worker->rx_size && !(c->flags & CONN_HUP)) {
            all_read(c);
            return;
        }
    }
    if (c->state != CONN_CLOSED) push_ready(c);
}

static void event(struct conn *c, uint32_t events)
{
    if (c->state == CONN_CLOSED) return;
    if (events & EPOLLOUT && c->flags & CONN_BLOCKED) {
        /* The peer has taken bytes that lay in front of any ping: as good as a pong, which it can
         * not send before it has read them. */
        c->flags &= ~(uint32_t)(CONN_BLOCKED | CONN_PONG_DUE);
        conn_mark_dirty(c);
    }
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) c->flags |= CONN_HUP;
    if (!(events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))) return;
    c->flags |= CONN_READABLE;
    if (!(c->flags & CONN_READY))
        read_some(c); /* else ready() does, in this turn, behind what is kept */
}

/* go_on takes what is kept, then what has not been read yet. */
static void go_on(struct conn *c)
{
    if (!conn_may_read(c)) return;
    if (must_wait(c)) {
        if (c->flags & CONN_READABLE) c->flags |= CONN_WAITED;
        push_ready(c);
        return;
    }
    if (c->in) conn_input(c, NULL, 0);
    if (c->flags & CONN_EOF) conn_end_of_input(c);
    if (c->state != CONN_CLOSED) read_some(c);
}

static void ready(struct worker *w)
{
    uint32_t n = w->ready.count;
    for (uint32_t i = 0; i < n; i++) {
        struct conn *c = w->ready.items[i];
        c->flags &= ~(uint32_t)CONN_READY;
        go_on(c); /* may append itself again */
    }
    w->ready.count -= n;
    memmove(w->ready.items, w->ready.items + n, w->ready.count * sizeof *w->ready.items);
}

/* The bus is the only user of posts; it is wired in by cmd_serve, which copies this table. */
const struct worker_ops conn_worker_ops = {
    .accepted = accepted,
    .event = event,
    .ready = ready,
    .timer = timer_fired,
    .flush = flush_dirty,
    .second = conn_ask_kernel,
    .end = end_of_turn,
    .stopping = conn_stopping,
    .draining = conn_draining,
    .rebalancing = conn_rebalancing,
    .gone = conn_batch_free,
};
