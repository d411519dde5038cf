/* fuzz_server.h - two workers without threads and clients of the Centrifuge protocol, for fuzz
 * targets. Fuzz targets only; static functions. */
#ifndef FUZZ_SERVER_H
#define FUZZ_SERVER_H

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../api.h"
#include "../client.h"
#include "../heartbeat.h"
#include "../idempotency.h"
#include "../user_limit.h"
#include "../users.h"
#include "../watch.h"

static struct server server;
static struct app app;
static struct worker_ops ops;

static void ended(struct conn *c)
{
    api_ended(c);
    watch_ended(c);
    users_release(c->worker, c->user);
}

static int64_t head(struct conn *c, const struct http_request *r)
{
    client_open(c, r, &(struct auth){.verdict = AUTH_MISSING});
    return 0;
}

static void turns(unsigned n)
{
    while (n--)
        for (unsigned i = 0; i < 2; i++) worker_turn(server.workers[i], 0);
}

static void tear_down(void) /* streams lie in pools, where no leak detector looks */
{
    for (unsigned i = 0; i < 2; i++) worker_stop(server.workers[i], WORKER_ENDS);
    turns(3);
    for (unsigned i = 0; i < 2; i++) pubsub_worker_close(server.workers[i]);
    for (unsigned i = 0; i < 2; i++) users_close(server.workers[i]);
    pubsub_close();
    idempotency_close();
    for (unsigned i = 0; i < 2; i++) worker_delete(server.workers[i]);
}

/* set_up: o lacks what is the same for all. */
static void set_up(struct client_options o)
{
    static struct namespace_item spaces[] = {
        {.name = "", .options = {.subscribe_for_client = true, .subscribe_for_anonymous = true}},
        {.name = "hist",
         .options = {.history_size = 10, .history_ttl_ms = 60000, .presence = true}}};
    static const struct namespace_rules rules = {
        .items = spaces, .count = 2, .max_length = 255, .namespace_boundary = ":"};
    signal(SIGPIPE, SIG_IGN);
    namespace_init(&rules);
    static const struct conn_options conn = {.reads_per_turn = 4,
                                             .handshake_us_per_turn = 1000000,
                                             .handshake_timeout_ms = 5000,
                                             .http_idle_timeout_ms = 60000,
                                             .close_timeout_ms = 10,
                                             .max_message_bytes = 65536,
                                             .queue_max_bytes = 1 << 20,
                                             .unauthenticated_max_bytes = 1 << 20,
                                             .unfinished_max_bytes = 1 << 20,
                                             .control_frames_per_second = 100};
    settings_first.of[SETTINGS_CONN] = &conn;
    app = (struct app){.head = head,
                       .heartbeat = client_fired,
                       .ended = ended,
                       .stream = watch_stream,
                       .seen = watch_seen,
                       .follows = watch_follows,
                       .handlers = {[CONN_CLIENT] = client_handler}};
    ops = conn_worker_ops;
    ops.posts = pubsub_posts;
    ops.idle_ms = pubsub_idle_ms;
    server =
        (struct server){.options = {.receive_buffer_bytes = 65536, .mailbox_max_bytes = 1 << 26},
                        .ops = &ops,
                        .app = &app,
                        .conns_max = 1024,
                        .sockets_max = 1024,
                        .done_fd = -1};
    api_init(&(struct api_options){.insecure = true, .channel_max_length = 255}, NULL);
    user_limit_open(0);
    heartbeat_init(&(struct heartbeat_options){0});
    o.channel_limit = 8;
    o.channel_max_length = 255;
    o.reply_max = CLIENT_REPLY_MAX;
    o.history_max = o.recovery_max = 10;
    o.stale_ms = 10000;
    o.version = "fuzz";
    client_init(&o);
    const struct pubsub_options bus = {
        .slice = 512, .channels_max = 200, .history_max_bytes = 1 << 20, .missed = client_missed};
    idempotency_open(IDEMPOTENCY_SHARDS * 2);
    if (pubsub_open(&bus, 2) == -1) abort();
    for (unsigned i = 0; i < 2; i++) {
        struct worker *w = worker_new(&server, i);
        if (!w || users_open(w) == -1 || pubsub_worker_open(w) == -1) abort();
        server.workers[server.worker_count++] = w;
    }
    atexit(tear_down);
}

#define FUZZ_UPGRADE                                                                               \
    "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                   \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
#define FUZZ_CONNECT "\x81\x95\0\0\0\0{\"id\":1,\"connect\":{}}"

/* join gives w a client that sends hello first; returns its end of the pair. */
static int join(struct worker *w, const char *hello, size_t len)
{
    static const struct listener from = {.fd = -1, .local = true, .clients = true};
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == -1) abort();
    conn_worker_ops.accepted(w, &from, fds[0], &(struct peer_address){0});
    if (write(fds[1], hello, len) != (ssize_t)len) abort();
    return fds[1];
}

#endif
