/* engine.h - test harness: workers that a test drives turn by turn (or starts as threads),
 * connections without sockets for what is above them, and clients at the other end of a socket
 * pair.
 *
 * Test programs only; static functions, not all used by each. */
#ifndef ENGINE_H
#define ENGINE_H

#include "../api.h"
#include "../conn.h"
#include "../console.h"
#include "../heartbeat.h"
#include "../idempotency.h"
#include "../pubsub/shared.h"
#include "../raw.h"
#include "../route.h"
#include "../user_limit.h"
#include "../users.h"
#include "../watch.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOW 1 /* sanitizers are on */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW 1
#endif
#endif
#ifndef SLOW
#define SLOW (getenv("RUNNER") != NULL) /* an emulator runs us: run-tests.sh */
#endif

struct engine {
    struct server server;
    struct app app;
    struct conn_options conn; /* of the settings; a test may change these two */
    struct pubsub_options bus;
    struct worker_ops ops;
    struct listener listener;    /* of clients over a socket pair */
    struct namespace_item space; /* of every channel, unless a test brings its own table */
    struct namespace_rules rules;
    _Atomic unsigned ended; /* connections that were freed */
};

static struct engine engine; /* struct app's functions have no place for a context */

static void engine_ended(struct conn *c)
{
    api_ended(c);
    watch_ended(c);
    users_release(c->worker, c->user);
    c->user = NULL;
    engine.ended++;
}

static const struct conn_options engine_conn_options = {
    .reads_per_turn = 4,
    .handshake_us_per_turn = 1000000,
    .handshake_timeout_ms = 5000,
    .http_idle_timeout_ms = 60000,
    .close_timeout_ms = 5000,
    .max_message_bytes = 128 * 1024,
    .queue_max_bytes = 1 << 20,
    .unauthenticated_max_bytes = 64 << 20,
    .unfinished_max_bytes = 64 << 20,
    .tls_max_handshakes = 1000,
    .control_frames_per_second = 100,
};

struct engine_options {           /* zero: the value in the comment */
    unsigned workers;             /* 1 */
    uint64_t mailbox_max_bytes;   /* 64 MiB */
    int64_t receive_buffer_bytes; /* 64 KiB */
    struct pubsub_options bus;    /* 512, 1000, 64 MiB, SLOW_CLOSE */
    struct channel_options channel;
    const struct namespace_rules *rules; /* all channels have the options above */
};

static void engine_fill_rules(const struct engine_options *o)
{
    engine.space = (struct namespace_item){.name = "", .options = o->channel};
    engine.rules = (struct namespace_rules){.items = &engine.space,
                                            .count = 1,
                                            .max_length = 255,
                                            .namespace_boundary = ":",
                                            .any_namespace = true};
    namespace_init(o->rules ? o->rules : &engine.rules);
}

/* engine_fill sets what the server would be given by its configuration: everything is permitted. */
static void engine_fill(const struct engine_options *o)
{
    const int64_t rx = o->receive_buffer_bytes ? o->receive_buffer_bytes : 64 * 1024;
    engine = (struct engine){.listener = {.fd = -1, .local = true, .clients = true}};
    engine.conn = engine_conn_options;
    settings_first.of[SETTINGS_CONN] = &engine.conn;
    engine.app = (struct app){
        .head = route_head,
        .request = route_request,
        .heartbeat = heartbeat_fired,
        .ended = engine_ended,
        .stream = watch_stream,
        .seen = watch_seen,
        .follows = watch_follows,
        .handlers = {[CONN_ECHO] = echo_handler, [CONN_RAW] = raw_handler},
    };
    engine.ops = conn_worker_ops;
    engine.ops.posts = pubsub_posts;
    engine.ops.idle_ms = pubsub_idle_ms;
    engine.server = (struct server){
        .options = {.accepts_per_turn = 64,
                    .receive_buffer_bytes = rx,
                    .mailbox_max_bytes = o->mailbox_max_bytes ? o->mailbox_max_bytes : 64u << 20},
        .ops = &engine.ops,
        .app = &engine.app,
        .conns_max = 4096,
        .sockets_max = 4096,
        .done_fd = -1,
    };
    engine_fill_rules(o);
    raw_init(&(struct raw_options){.channel_max_length = 255});
    idempotency_open(IDEMPOTENCY_SHARDS * 100);
    user_limit_open(0);
    console_init(&(struct console_options){.access = CONSOLE_OFF});
    api_init(&(struct api_options){.insecure = true,
                                   .max_body_bytes = 1 << 20,
                                   .channel_max_length = 255},
             NULL);
    route_init(&(struct route_options){
        .auth = {.anonymous = true, .insecure = true}, .echo = true, .health = true, .api = true});
    heartbeat_init(&(struct heartbeat_options){.ping_interval_ms = 25000, .pong_timeout_ms = 8000});
}

/* A test that defines it as 1 and includes another runs that with every flush in a batch, where
 * io_uring is allowed; test_batch.c says whether it is. */
#ifndef ENGINE_BATCH_FROM
#define ENGINE_BATCH_FROM 0
#endif

static void engine_open(const struct engine_options *o)
{
    const unsigned workers = o->workers ? o->workers : 1;
    struct pubsub_options shared = o->bus;
    if (!shared.slice) shared.slice = 512;
    if (!shared.channels_max) shared.channels_max = 1000;
    if (!shared.history_max_bytes) shared.history_max_bytes = 64 << 20;
    signal(SIGPIPE, SIG_IGN);
    engine_fill(o);
    assert_int_equal(pubsub_open(&shared, workers), 0);
    engine.bus = shared;
    settings_first.of[SETTINGS_PUBSUB] = &engine.bus;
    for (unsigned i = 0; i < workers; i++) {
        struct worker *w = worker_new(&engine.server, i);
        assert_non_null(w);
        w->batch_from = ENGINE_BATCH_FROM;
        w->date_until_ms = INT64_MAX; /* no Date header: answers are compared byte by byte */
        assert_int_equal(users_open(w), 0);
        assert_int_equal(pubsub_worker_open(w), 0);
        engine.server.workers[engine.server.worker_count++] = w;
    }
}

/* engine_close expects that nothing is left but histories. */
static void engine_close(void)
{
    struct server *s = &engine.server;
    uint64_t used = 0, subscriptions = 0;
    assert_int_equal(pubsub_used_count(), 0);
    for (unsigned i = 0; i < s->worker_count; i++) {
        mem_pool_own(s->workers[i]->pool); /* its thread is gone */
        pubsub_worker_close(s->workers[i]);
    }
    pubsub_close();
    idempotency_close();
    assert_int_equal(pubsub_channel_count(), 0);
    for (unsigned i = 0; i < s->worker_count; i++) {
        mem_pool_reclaim(s->workers[i]->pool);
        users_close(s->workers[i]);
        used += mem_pool_stats(s->workers[i]->pool).used_bytes;
        subscriptions += metric_get(&s->workers[i]->metrics, METRIC_SUBSCRIPTIONS);
        assert_int_equal(s->workers[i]->conns.count, 0);
        worker_delete(s->workers[i]);
    }
    assert_int_equal(used, 0);
    assert_int_equal(subscriptions, 0);
    assert_int_equal(s->connections, 0);
    assert_int_equal(s->unauthenticated_bytes, 0);
}

static UNUSED uint64_t engine_metric(enum metric id)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < engine.server.worker_count; i++)
        v += metric_get(&engine.server.workers[i]->metrics, id);
    return v;
}

/* engine_pending: is anything on its way to subscribers of w, if only after a wait? */
static UNUSED bool engine_pending(const struct worker *w)
{
    const struct pubsub_worker *half = w->pubsub;
    return !list_empty(&half->active);
}

/* ---- connections without sockets ---- */

/* fake_open makes c an open connection of w that owns nothing but memory. */
static UNUSED void fake_open(struct conn *c, struct worker *w, uint32_t id)
{
    *c =
        (struct conn){.worker = w, .fd = -1, .id = id, .state = CONN_HTTP, .sub_index = UINT32_MAX};
    c->opened = c->last_seen = worker_tick(w);
    conn_set_state(c, CONN_OPEN);
    c->protocol = CONN_RAW;
    c->flags = CONN_COUNTED;
    atomic_fetch_add(&w->server->connections, 1);
    metric_add(&w->metrics, METRIC_CONNECTIONS, 1);
}

/* fake_drop ends it and gives back what it owns. */
static UNUSED void fake_drop(struct conn *c)
{
    conn_drop(c, WS_CLOSE_ABNORMAL);
    metric_sub(&c->worker->metrics, METRIC_QUEUED_BYTES, outq_bytes(c->out));
    outq_free(c->worker->pool, &c->out);
}

/* fake_turn is the part of a turn that hands over; the lists of connections stay empty. */
static UNUSED void fake_turn(struct worker *w)
{
    w->wake = 0;
    w->now_ms += 200; /* whatever waits has waited */
    pubsub_posts(w, mailbox_take(&w->mailbox));
    for (uint32_t i = 0; i < w->dirty.count; i++) w->dirty.items[i]->flags &= ~(uint32_t)CONN_DIRTY;
    w->dirty.count = w->closed.count = 0;
    mem_pool_reclaim(w->pool);
}

/* ---- clients over socket pairs ---- */

/* engine_connect hands one end of a pair to w as if it had been accepted; returns the other end,
 * not blocking. */
static UNUSED int engine_connect(struct worker *w)
{
    int fds[2];
    struct peer_address from = {.port = 0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    engine.ops.accepted(w, &engine.listener, fds[0], &from);
    return fds[1];
}

/* engine_turns lets every worker do n turns without sleeping. */
static UNUSED void engine_turns(unsigned n)
{
    while (n--)
        for (unsigned i = 0; i < engine.server.worker_count; i++)
            worker_turn(engine.server.workers[i], 0);
}

/* masked_frame writes one client frame; returns its size. Masking key 1 2 3 4. */
static UNUSED size_t masked_frame(uint8_t *out, enum ws_opcode opcode, bool fin,
                                  const void *payload, size_t len)
{
    struct ws_head h = {.opcode = (uint8_t)opcode,
                        .fin = fin,
                        .masked = true,
                        .masking_key = {1, 2, 3, 4},
                        .payload_len = len};
    size_t n = ws_head_write(out, &h);
    if (len) memcpy(out + n, payload, len);
    ws_unmask(out + n, len, h.masking_key, 0);
    return n + len;
}

#define UPGRADE(path)                                                                              \
    "GET " path " HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"            \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
#define SWITCHED                                                                                   \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"            \
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"

/* A small generator, so that a failure comes again. */
static UNUSED uint32_t engine_random(uint32_t *state, uint32_t below)
{
    *state = *state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)*state * below >> 32);
}

#endif
