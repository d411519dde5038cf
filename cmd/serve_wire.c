/* The modules at the start, and the tables of functions by which lower layers call upper ones. */
#include "cmd/serve.h"

#include "idempotency.h"
#include "log.h"
#include "users.h"
#include "watch.h"

static void ended(struct conn *c)
{
    static const char *const protocols[] = {
        [CONN_ECHO] = "echo", [CONN_RAW] = "raw", [CONN_CLIENT] = "client"};
    struct worker *w = c->worker;
    char peer[CONN_PEER_TEXT];
    enum log_level level = c->user ? LOG_INFO : LOG_DEBUG; /* never upgraded: a peer's matter */
    int64_t life_ms = (int64_t)(worker_tick(w) - c->opened) * WORKER_TICK_MS;
    log_event(level, "conn closed", LOG_U64("conn", c->id),
              LOG_STR("peer", conn_peer_text(c, peer)),
              LOG_STR("proto", c->user ? protocols[c->protocol] : "http"),
              LOG_STRN("user", c->user ? c->user->name : "", c->user ? c->user->len : 0),
              LOG_U64("code", c->close_code), LOG_U64("in", c->messages_in),
              LOG_U64("out", c->messages_out), LOG_U64("bytes_in", c->bytes_in),
              LOG_U64("bytes_out", c->bytes_out), LOG_I64("ms", life_ms));
    api_ended(c);
    watch_ended(c);
    users_release(w, c->user);
    c->user = NULL;
}

static void heartbeat(struct conn *c)
{
    if (c->protocol == CONN_CLIENT)
        client_fired(c);
    else
        heartbeat_fired(c);
}

static void each_turn(struct worker *w, struct post *oldest)
{
    pubsub_posts(w, oldest);
    idempotency_sweep(w);
}

static void wire_app(struct serve *s)
{
    s->app = (struct app){
        .head = route_head,
        .request = route_request,
        .heartbeat = heartbeat,
        .ended = ended,
        .stream = watch_stream,
        .seen = watch_seen,
        .follows = watch_follows,
        .handlers =
            {[CONN_ECHO] = echo_handler, [CONN_RAW] = raw_handler, [CONN_CLIENT] = client_handler},
    };
    s->ops = conn_worker_ops;
    s->ops.posts = each_turn;
    s->ops.idle_ms = pubsub_idle_ms;
}

/* wire_modules: those that have more to begin with than options. */
static void wire_modules(const struct serve_set *set)
{
    const struct config *c = &set->config;
    client_init(&set->client);
    api_init(&set->api, c->node_name);
    console_init(&set->console);
    console_set_password(c->console_password.bytes, c->console_password.len);
    user_limit_open(c->user_connection_limit);
    conn_address_limit_open(c->ip_connection_limit);
    idempotency_open(c->api_idempotency_max_entries);
}

void serve_publish(struct serve *s)
{
    settings_now = &s->set->settings;
    atomic_store_explicit(&s->server.settings, &s->set->settings, memory_order_release);
}

int serve_wire(struct serve *s)
{
    const char *why = serve_set_make(s->set, NULL);
    if (why) return serve_say("settings", why);
    wire_app(s);
    wire_modules(s->set);
    serve_publish(s);
    return -1;
}
