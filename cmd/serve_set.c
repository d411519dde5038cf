/* What each module is given of a configuration: the parts of a set (settings.h). */
#include "cmd/serve.h"

#include <stdlib.h>

#include "cidr.h"
#include "kernel.h"

#define QUEUES_LEAST (64 << 20)

static enum slow_policy policy_of(enum config_slow_policy p)
{
    switch (p) {
    case CONFIG_SLOW_CLOSE: return SLOW_CLOSE;
    case CONFIG_SLOW_DROP_OLDEST: return SLOW_DROP_OLDEST;
    case CONFIG_SLOW_KEEP_LATEST: return SLOW_KEEP_LATEST;
    }
    return SLOW_CLOSE;
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

/* make_conn: false: memory is out. */
static bool make_conn(struct conn_options *o, const struct config *c)
{
    *o = (struct conn_options){.reads_per_turn = c->worker_reads_per_turn,
                               .handshake_us_per_turn = c->worker_handshake_time_ms * 1000,
                               .handshake_timeout_ms = c->handshake_timeout_ms,
                               .http_idle_timeout_ms = c->http_idle_timeout_ms,
                               .close_timeout_ms = c->close_timeout_ms,
                               .max_message_bytes = c->max_message_bytes,
                               .queue_max_bytes = c->queue_max_bytes,
                               .queues_max_bytes = queues_max(c),
                               .byte_rate = c->byte_rate_limit,
                               .message_rate = c->raw_message_rate_limit,
                               .unauthenticated_max_bytes = c->unauthenticated_max_bytes,
                               .unfinished_max_bytes = c->unfinished_max_bytes,
                               .tls_max_handshakes = c->tls_max_handshakes,
                               .control_frames_per_second = c->control_frames_per_second};
    return blocks_of(&o->proxy_from, &c->proxy_protocol_from) == 0 &&
           blocks_of(&o->trusted_proxies, &c->trusted_proxies) == 0;
}

static void make_pubsub(struct pubsub_options *o, const struct config *c)
{
    *o = (struct pubsub_options){.slice = (uint32_t)c->worker_fanout_slice,
                                 .channels_max = c->channel_limit,
                                 .history_max_bytes = c->history_max_bytes,
                                 .policy = policy_of(c->raw_slow_policy),
                                 .missed = client_missed};
}

static bool make_heartbeat(struct heartbeat_settings *s, const struct serve_set *before,
                           const struct config *c)
{
    return heartbeat_set(
        s, before ? &before->heartbeat : NULL,
        &(struct heartbeat_options){.ping_interval_ms = c->ping_interval_ms,
                                    .pong_timeout_ms = c->pong_timeout_ms,
                                    .max_age_ms = c->connection_max_age_ms,
                                    .expired_close_delay_ms = c->expired_close_delay_ms});
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

static void make_client(struct serve_set *set)
{
    const struct config *c = &set->config;
    fill_rules(&set->connect_rules, &c->token);
    fill_rules(&set->subscribe_rules,
               c->subscription_token_enabled ? &c->subscription_token : &c->token);
    set->subscribe_rules.subscription = true;
    set->client =
        (struct client_options){.connect_rules = &set->connect_rules,
                                .subscribe_rules = &set->subscribe_rules,
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
                                .version = ROOST_VERSION};
}

static size_t make_api_keys(struct api_key keys[static API_KEYS_MAX], const struct config *c)
{
    static const enum api_scope scopes[] = {[CONFIG_SCOPE_PUBLISH] = API_PUBLISH,
                                            [CONFIG_SCOPE_READ] = API_READ,
                                            [CONFIG_SCOPE_ALL] = API_ALL};
    size_t n = 0;
    if (c->api_key.len)
        keys[n++] = (struct api_key){"http_api.key", c->api_key.bytes, c->api_key.len, API_ALL};
    for (size_t i = 0; i < c->api_keys.count && n < API_KEYS_MAX; i++) {
        const struct config_key *k = &c->api_keys.items[i];
        keys[n++] = (struct api_key){k->kid, k->secret.bytes, k->secret.len, scopes[k->scope]};
    }
    return n;
}

static void make_api(struct serve_set *set)
{
    const struct config *c = &set->config;
    set->api =
        (struct api_options){.keys = set->api_keys,
                             .key_count = make_api_keys(set->api_keys, c),
                             .insecure = c->api_insecure,
                             .audit_publications = c->api_audit_publications,
                             .transport_errors = c->api_errors == CONFIG_API_ERRORS_TRANSPORT,
                             .max_body_bytes = c->api_max_body_bytes,
                             .channel_max_length = (size_t)c->channel_max_length};
}

static void make_route(struct route_options *o, const struct config *c)
{
    *o = (struct route_options){.auth = {.anonymous = c->anonymous,
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
    fill_rules(&o->auth.rules, &c->token);
}

/* console_access: a password that goes by a reload opens nothing: then nobody gets in. */
static enum console_access console_access(const struct config *c, const struct serve_set *before)
{
    if (c->console_password.len && (c->console || c->dev)) return CONSOLE_PASSWORD;
    if (!c->dev) return CONSOLE_OFF;
    return before && before->console.access == CONSOLE_PASSWORD ? CONSOLE_PASSWORD
                                                                : CONSOLE_LOOPBACK;
}

static void make_console(struct serve_set *set, const struct serve_set *before)
{
    const struct config *c = &set->config;
    set->console =
        (struct console_options){.access = console_access(c, before),
                                 .client_path = *c->websocket_path ? c->websocket_path : NULL,
                                 .tokens = c->dev ? &set->connect_rules : NULL};
}

const char *serve_set_make(struct serve_set *set, const struct serve_set *before)
{
    const struct config *c = &set->config;
    set->settings = (struct settings){.generation = before ? before->settings.generation + 1 : 1,
                                      .of = {[SETTINGS_CONN] = &set->conn,
                                             [SETTINGS_NAMESPACES] = &set->namespaces,
                                             [SETTINGS_PUBSUB] = &set->pubsub,
                                             [SETTINGS_HEARTBEAT] = &set->heartbeat,
                                             [SETTINGS_RAW] = &set->raw,
                                             [SETTINGS_CLIENT] = &set->client,
                                             [SETTINGS_API] = &set->api,
                                             [SETTINGS_ROUTE] = &set->route,
                                             [SETTINGS_CONSOLE] = &set->console}};
    if (!make_conn(&set->conn, c)) return "out of memory";
    if (!make_heartbeat(&set->heartbeat, before, c))
        return "client.ping_interval and client.pong_timeout have been too many different ones: "
               "restart, or take earlier ones";
    config_namespace_rules(c, &set->namespaces);
    make_pubsub(&set->pubsub, c);
    set->raw.channel_max_length = (size_t)c->channel_max_length;
    make_client(set);
    make_api(set);
    make_route(&set->route, c);
    make_console(set, before);
    return NULL;
}

void serve_set_free(struct serve_set *set)
{
    if (!set) return;
    free((void *)set->conn.proxy_from.items);
    free((void *)set->conn.trusted_proxies.items);
    config_free(&set->config);
    free(set);
}
