/* The body of an API call, for every method, on two workers with clients: libFuzzer. The first byte
 * says which method. Whatever comes in, the reply is JSON or an error, and nothing stays behind. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../api_methods.h"
#include "../client.h"
#include "../heartbeat.h"
#include "../idempotency.h"
#include "../worker_errand.h"
#include "guard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct server server;
static struct app app;
static struct worker_ops ops;

static void ended(struct conn *c)
{
    api_ended(c);
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

static void set_up(void)
{
    static struct namespace_item spaces[] = {
        {.name = "", .options = {.subscribe_for_client = true, .subscribe_for_anonymous = true}},
        {.name = "hist",
         .options = {.history_size = 10, .history_ttl_ms = 60000, .presence = true}}};
    static const struct namespace_rules rules = {
        .items = spaces, .count = 2, .max_length = 255, .namespace_boundary = ":"};
    signal(SIGPIPE, SIG_IGN);
    namespace_init(&rules);
    app = (struct app){.conn = {.reads_per_turn = 4,
                                .handshakes_per_turn = 16,
                                .handshake_timeout_ms = 5000,
                                .http_idle_timeout_ms = 60000,
                                .close_timeout_ms = 10,
                                .max_message_bytes = 65536,
                                .queue_max_bytes = 1 << 20,
                                .unauthenticated_max_bytes = 1 << 20,
                                .control_frames_per_second = 100},
                       .head = head,
                       .heartbeat = client_fired,
                       .ended = ended,
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
    api_init(&(struct api_options){.insecure = true, .channel_max_length = 255});
    heartbeat_init(&(struct heartbeat_options){0});
    client_init(&(struct client_options){.anonymous = true,
                                         .channel_limit = 8,
                                         .history_max = 10,
                                         .recovery_max = 10,
                                         .stale_ms = 10000,
                                         .version = "fuzz"});
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

static int join(struct worker *w)
{
    static const char hello[] =
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        "\x81\x95\0\0\0\0{\"id\":1,\"connect\":{}}";
    static const struct listener from = {.fd = -1, .local = true, .clients = true};
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == -1) abort();
    conn_worker_ops.accepted(w, &from, fds[0], &(struct peer_address){0});
    if (write(fds[1], hello, sizeof hello - 1) != sizeof hello - 1) abort();
    return fds[1];
}

static unsigned finished_calls;

static void finished(struct api_call *call, unsigned code)
{
    if (code == API_ABANDONED) abort();
    if (!code && !call->o.full &&
        !json_check(call->o.p, call->o.len, JSON_LONE_SURROGATES, NULL, NULL))
        abort();
    mem_free(call->w->pool, call->o.p, call->o.cap);
    finished_calls++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {
        "publish",     "broadcast", "subscribe",      "unsubscribe", "disconnect",
        "refresh",     "presence",  "presence_stats", "history",     "channels",
        "connections", "info",      "history_remove", "rpc",         "batch"};
    static jsmntok_t own[API_TOKENS], tokens[API_ELEMENT_TOKENS];
    static int fds[2] = {-1, -1};
    struct json doc;
    if (size < 1 || size > 65536) return 0;
    if (!server.worker_count) set_up();
    const char *name = names[data[0] % (sizeof names / sizeof *names)];
    char *text = guard_copy(data + 1, size - 1);
    for (unsigned i = 0; i < 2; i++) { /* a client on each worker, unless the last call left one */
        if (server.workers[i]->conns.count) continue;
        if (fds[i] != -1) close(fds[i]);
        fds[i] = join(server.workers[i]);
    }
    turns(2);
    struct api_call call = {.w = server.workers[0],
                            .doc = &doc,
                            .tokens = tokens,
                            .token_count = API_ELEMENT_TOKENS,
                            .channel_max_length = 255,
                            .scope = API_ALL,
                            .finished = finished};
    finished_calls = 0;
    if (json_parse(&doc, text, size - 1, own, API_TOKENS, 1, JSON_LONE_SURROGATES) == 0 &&
        json_type(&doc, 0) == JSON_OBJECT && json_unique(&doc, 0)) {
        api_begin(&call, 256);
        unsigned code = api_method_find(name, strlen(name))->run(&call);
        guard_free(text, size - 1); /* whoever waits must have copied what it needs */
        text = NULL;
        if (code != API_LATER) finished(&call, code ? 107 : 0);
        for (unsigned i = 0; i < 10000 && !finished_calls; i++) turns(1);
        if (!finished_calls) abort();
    }
    if (text) guard_free(text, size - 1);
    char sink[65536];
    for (unsigned i = 0; i < 2; i++) /* so that queues stay short */
        while (read(fds[i], sink, sizeof sink) > 0) {
        }
    turns(2);
    return 0;
}
