/* What each module is given of the configuration, and the tables of functions by which lower layers
 * call upper ones. */
#include "cmd/serve.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "cidr.h"
#include "client.h"
#include "console.h"
#include "heartbeat.h"
#include "idempotency.h"
#include "kernel.h"
#include "log.h"
#include "pubsub.h"
#include "raw.h"
#include "route.h"
#include "user_limit.h"
#include "users.h"

#define QUEUES_LEAST (64 << 20)

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

/* blocks_of reads what config_check has checked. */
static int blocks_of(struct cidr_list *out, const struct config_strings *from)
{
    struct cidr *items = calloc(from->count + 1, sizeof *items);
    if (!items) return -1;
    for (size_t i = 0; i < from->count; i++) (void)cidr_parse(&items[i], from->items[i]);
    *out = (struct cidr_list){items, from->count};
    return 0;
}

/* queues_max: a quarter, so that what all else takes has room, the kernel's share of each
 * connection first of all. */
static int64_t queues_max(const struct config *c)
{
    if (c->queues_max_bytes != CONFIG_AUTOMATIC) return c->queues_max_bytes;
    const int64_t quarter = (int64_t)(kernel_memory_bytes() / 4);
    return quarter > QUEUES_LEAST ? quarter : QUEUES_LEAST;
}

static int wire_app(struct serve *s)
{
    const struct config *c = &s->config;
    s->app = (struct app){
        .conn = {.reads_per_turn = c->worker_reads_per_turn,
                 .handshakes_per_turn = c->worker_handshakes_per_turn,
                 .handshake_timeout_ms = c->handshake_timeout_ms,
                 .http_idle_timeout_ms = c->http_idle_timeout_ms,
                 .close_timeout_ms = c->close_timeout_ms,
                 .max_message_bytes = c->max_message_bytes,
                 .queue_max_bytes = c->queue_max_bytes,
                 .queues_max_bytes = queues_max(c),
                 .unauthenticated_max_bytes = c->unauthenticated_max_bytes,
                 .tls_max_handshakes = c->tls_max_handshakes,
                 .byte_rate = c->byte_rate_limit,
                 .message_rate = c->raw_message_rate_limit,
                 .control_frames_per_second = c->control_frames_per_second},
        .head = route_head,
        .request = route_request,
        .heartbeat = heartbeat,
        .ended = ended,
        .handlers =
            {[CONN_ECHO] = echo_handler, [CONN_RAW] = raw_handler, [CONN_CLIENT] = client_handler},
    };
    s->ops = conn_worker_ops;
    s->ops.posts = each_turn;
    s->ops.idle_ms = pubsub_idle_ms;
    if (blocks_of(&s->app.conn.proxy_from, &c->proxy_protocol_from) == 0 &&
        blocks_of(&s->app.conn.trusted_proxies, &c->trusted_proxies) == 0)
        return -1;
    return serve_say("proxies", strerror(errno));
}

static void fill_rules(struct jwt_rules *r, const struct config_token *t)
{
    struct jwt_key *k = r->keys;
    for (size_t i = 0; i < t->keys.count && i < JWT_KEYS_MAX - 2; i++)
        *k++ = (struct jwt_key){.secret = t->keys.items[i].secret.bytes,
                                .secret_len = t->keys.items[i].secret.len,
                                .kid = t->keys.items[i].kid};
    if (t->secret.len)
        *k++ = (struct jwt_key){.secret = t->secret.bytes, .secret_len = t->secret.len};
    if (t->previous.len)
        *k++ = (struct jwt_key){.secret = t->previous.bytes,
                                .secret_len = t->previous.len,
                                .until_s = t->previous_until_s};
    r->key_count = (size_t)(k - r->keys);
    r->audience = *t->audience ? t->audience : NULL;
    r->issuer = *t->issuer ? t->issuer : NULL;
    r->user_id_claim = *t->user_id_claim ? t->user_id_claim : NULL;
    r->leeway_s = t->leeway_ms / 1000;
}

static void wire_client(struct serve *s)
{
    const struct config *c = &s->config;
    fill_rules(&s->connect_rules, &c->token);
    fill_rules(&s->subscribe_rules,
               c->subscription_token_enabled ? &c->subscription_token : &c->token);
    s->subscribe_rules.subscription = true;
    client_init(
        &(struct client_options){.connect_rules = &s->connect_rules,
                                 .subscribe_rules = &s->subscribe_rules,
                                 .anonymous = c->anonymous,
                                 .insecure = c->insecure,
                                 .no_anonymous_tokens = c->no_anonymous_tokens,
                                 .include_time = c->connect_include_server_time,
                                 .channel_limit = (uint32_t)c->client_channel_limit,
                                 .channel_max_length = (size_t)c->channel_max_length,
                                 .reply_max = CLIENT_REPLY_MAX,
                                 .limits = {.commands = (uint32_t)c->command_rate_limit,
                                            .publications = (uint32_t)c->publication_rate_limit,
                                            .free = (uint32_t)c->client_channel_limit},
                                 .history_max = (uint32_t)c->history_max_publication_limit,
                                 .recovery_max = (uint32_t)c->recovery_max_publication_limit,
                                 .personal = c->personal_channel ? c->personal_namespace : NULL,
                                 .single_connection = c->personal_channel && c->single_connection,
                                 .stale_ms = c->stale_close_delay_ms,
                                 .expired_sub_delay_ms = c->expired_sub_close_delay_ms,
                                 .version = ROOST_VERSION});
}

/* set_api_keys makes c's keys those that are accepted. */
int serve_set_api_keys(const struct config *c)
{
    static const enum api_scope scopes[] = {[CONFIG_SCOPE_PUBLISH] = API_PUBLISH,
                                            [CONFIG_SCOPE_READ] = API_READ,
                                            [CONFIG_SCOPE_ALL] = API_ALL};
    struct api_key keys[API_KEYS_MAX];
    size_t n = 0;
    if (c->api_key.len)
        keys[n++] = (struct api_key){"http_api.key", c->api_key.bytes, c->api_key.len, API_ALL};
    for (size_t i = 0; i < c->api_keys.count && n < API_KEYS_MAX; i++) {
        const struct config_key *k = &c->api_keys.items[i];
        keys[n++] = (struct api_key){k->kid, k->secret.bytes, k->secret.len, scopes[k->scope]};
    }
    return api_set_keys(keys, n);
}

static enum console_access console_access(const struct config *c)
{
    if (c->console_password.len && (c->console || c->dev)) return CONSOLE_PASSWORD;
    return c->dev ? CONSOLE_LOOPBACK : CONSOLE_OFF;
}

static void wire_console(const struct serve *s)
{
    const struct config *c = &s->config;
    console_init(
        &(struct console_options){.access = console_access(c),
                                  .client_path = *c->websocket_path ? c->websocket_path : NULL,
                                  .tokens = c->dev ? &s->connect_rules : NULL});
    console_set_password(c->console_password.bytes, c->console_password.len);
}

static int wire_formats(struct serve *s)
{
    const struct config *c = &s->config;
    config_namespace_rules(c, &s->namespaces);
    s->namespaces.any_namespace = c->dev;
    namespace_init(&s->namespaces);
    raw_init((size_t)c->channel_max_length);
    wire_client(s);
    api_init(&(struct api_options){.insecure = c->api_insecure,
                                   .audit_publications = c->api_audit_publications,
                                   .node_name = c->node_name,
                                   .transport_errors = c->api_errors == CONFIG_API_ERRORS_TRANSPORT,
                                   .max_body_bytes = c->api_max_body_bytes,
                                   .channel_max_length = (size_t)c->channel_max_length});
    idempotency_open(c->api_idempotency_max_entries);
    user_limit_open(c->user_connection_limit);
    conn_address_limit_open(c->ip_connection_limit);
    if (serve_set_api_keys(c) == -1) return serve_say("API keys", strerror(errno));
    struct route_options r = {.auth = {.anonymous = c->anonymous,
                                       .insecure = c->insecure,
                                       .no_anonymous_tokens = c->no_anonymous_tokens,
                                       .token_query = c->token_query},
                              .origins = (const char *const *)c->allowed_origins.items,
                              .origin_count = c->allowed_origins.count,
                              .client_path = *c->websocket_path ? c->websocket_path : NULL,
                              .echo = c->echo,
                              .metrics = c->metrics,
                              .metrics_public = c->metrics_public,
                              .centrifugo_names = c->centrifugo_names,
                              .health = c->health,
                              .api = !c->api_disabled,
                              .has_admin = c->admin_listen.count > 0,
                              .connection_limit = c->connection_limit,
                              .rate_limit = c->connection_rate_limit,
                              .dev = c->dev};
    fill_rules(&r.auth.rules, &c->token);
    route_init(&r);
    wire_console(s);
    heartbeat_init(
        &(struct heartbeat_options){.ping_interval_ms = c->ping_interval_ms,
                                    .pong_timeout_ms = c->pong_timeout_ms,
                                    .max_age_ms = c->connection_max_age_ms,
                                    .expired_close_delay_ms = c->expired_close_delay_ms});
    return -1;
}

int serve_wire(struct serve *s)
{
    int status = wire_app(s);
    return status != -1 ? status : wire_formats(s);
}
