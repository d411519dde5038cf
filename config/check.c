/* config/check.c - what follows from several options together, and which of them do not fit. */
#include "config/load.h"

#include "api.h"
#include "cidr.h"
#include "console.h"
#include "jwt.h"
#include "tls.h"
#include "trace/export.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECRET_MIN 32 /* bytes: RFC 7518 section 3.2, a key as long as the hash */
#define API_KEY_SHORT 16
#define PASSWORD_SHORT 12

static const struct origin *origin_of(struct loader *l, const char *key)
{
    return loader_origin(l, option_find(key));
}

#define wrong(l_, key_, ...) loader_note(l_, true, origin_of(l_, key_)->place, __VA_ARGS__)
#define warn(l_, key_, ...) loader_note(l_, false, origin_of(l_, key_)->place, __VA_ARGS__)

/* ---- listeners ---- */

static void add_listener(struct loader *l, struct config_urls *list, const char *key,
                         const char *text)
{
    struct config_url url;
    const char *why = config_parse_url(&url, text);
    if (why) {
        wrong(l, key, "\"%s\": %s", text, why);
        return;
    }
    list->items = config_grow(list->items, list->count, sizeof *list->items);
    list->items[list->count++] = url;
}

/* Centrifugo's address and port, where listen is not given. */
static void listen_as_centrifugo(struct loader *l, struct config_urls *list, const char *key,
                                 const char *address, int64_t port, int64_t usual_port)
{
    char text[CONFIG_URL_MAX];
    bool bare_ipv6 = strchr(address, ':') && address[0] != '[';
    if (list->count > 0 || (!*address && port == 0)) return;
    snprintf(text, sizeof text, bare_ipv6 ? "%s://[%s]:%lld" : "%s://%s:%lld",
             l->c->server_tls ? "wss" : "ws", *address ? address : "0.0.0.0",
             (long long)(port ? port : usual_port));
    add_listener(l, list, key, text);
}

static void default_listeners(struct loader *l)
{
    struct config *c = l->c;
    listen_as_centrifugo(l, &c->listen, "http_server.address", c->server_address, c->server_port,
                         8000);
    listen_as_centrifugo(l, &c->admin_listen, "http_server.internal_address",
                         c->server_internal_address, c->server_internal_port, 9000);
    if (c->listen.count > 0) return;
    if (c->dev) add_listener(l, &c->listen, "listen", "wss://127.0.0.1:8443");
    add_listener(l, &c->listen, "listen", "ws://127.0.0.1:8080");
}

static bool same_place(const struct config_url *a, const struct config_url *b)
{
    if ((a->scheme == CONFIG_UNIX) != (b->scheme == CONFIG_UNIX)) return false;
    if (a->scheme == CONFIG_UNIX) return strcmp(a->path, b->path) == 0;
    return a->port == b->port && a->port != 0 && strcmp(a->host, b->host) == 0;
}

static void check_twice(struct loader *l, const struct config_urls *list, const char *key)
{
    const struct config_urls *lists[] = {&l->c->listen, &l->c->admin_listen};
    char text[CONFIG_URL_MAX];
    for (size_t i = 0; i < list->count; i++)
        for (size_t k = 0; k < 2; k++)
            for (size_t j = 0; j < lists[k]->count; j++) {
                if (lists[k] == list ? j >= i : k == 1) continue;
                if (same_place(&list->items[i], &lists[k]->items[j]))
                    wrong(l, key, "%s is listened on already",
                          config_url_format(text, &list->items[i]));
            }
}

static void check_loopback(struct loader *l, const struct config_urls *list, const char *key)
{
    char text[CONFIG_URL_MAX];
    for (size_t i = 0; i < list->count; i++)
        if (!list->items[i].loopback)
            wrong(l, key,
                  "%s: --dev serves on loopback only (127.0.0.1, [::1], localhost); for a "
                  "remote host use ssh -L",
                  config_url_format(text, &list->items[i]));
}

static bool any_open(const struct config *c)
{
    for (size_t i = 0; i < c->listen.count; i++)
        if (!c->listen.items[i].loopback) return true;
    return false;
}

static bool any_tls(const struct config_urls *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].scheme == CONFIG_WSS) return true;
    return false;
}

static void check_listeners(struct loader *l)
{
    const struct config *c = l->c;
    check_twice(l, &c->listen, "listen");
    check_twice(l, &c->admin_listen, "admin_listen");
    if (!c->dev) return;
    check_loopback(l, &c->listen, "listen");
    check_loopback(l, &c->admin_listen, "admin_listen");
}

/* ---- certificate ---- */

static void check_pem(struct loader *l, const char *key, const char *path)
{
    char shown[VISIBLE_MAX];
    if (!*path) return;
    if (strncmp(path, "-----BEGIN", 10) == 0) {
        wrong(l, key, "%s must be the name of a PEM file, not its text", key);
    } else if (access(path, R_OK) == -1) {
        wrong(l, key, "the file %s can not be read: %s", loader_visible(shown, path, strlen(path)),
              strerror(errno));
    }
}

static void check_blocks(struct loader *l, const char *key, const struct config_strings *list)
{
    char shown[VISIBLE_MAX];
    struct cidr c;
    for (size_t i = 0; i < list->count; i++)
        if (!cidr_parse(&c, list->items[i]))
            wrong(l, key,
                  "%s: \"%s\" is no address, and no block such as 10.0.0.0/8 or 2001:db8::/32", key,
                  loader_visible(shown, list->items[i], strlen(list->items[i])));
}

static void check_certificate(struct loader *l)
{
    const struct config *c = l->c;
    static const char cert[] = "http_server.tls.cert_pem", key[] = "http_server.tls.key_pem";
    bool wanted = any_tls(&c->listen) || any_tls(&c->admin_listen);
    const size_t certs = c->tls_cert_files.count, keys = c->tls_key_files.count;
    const bool has_cert = certs, has_key = keys;
    if (has_cert && !has_key) {
        wrong(l, cert, "a certificate needs its private key: --key FILE");
    } else if (has_key && !has_cert) {
        wrong(l, key, "a private key needs its certificate: --cert FILE");
    } else if (wanted && !has_cert && !c->dev) {
        wrong(l, "listen",
              "a wss:// listener needs --cert FILE and --key FILE (or --dev, which "
              "makes them)");
    } else if (has_cert && !wanted) {
        warn(l, cert, "a certificate is given, but no listener is wss://");
    }
    if (has_cert && has_key && certs != keys)
        wrong(l, key,
              "%zu certificates and %zu keys: each certificate needs its key, in the same order",
              certs, keys);
    if (certs > TLS_PAIRS_MAX) wrong(l, cert, "at most %d certificates", TLS_PAIRS_MAX);
    for (size_t i = 0; i < certs; i++) check_pem(l, cert, c->tls_cert_files.items[i]);
    for (size_t i = 0; i < keys; i++) check_pem(l, key, c->tls_key_files.items[i]);
    if (c->tls_ticket_key_files.count > TLS_TICKET_KEYS_MAX)
        wrong(l, "http_server.tls.ticket_key",
              "at most %d files: one that seals, and the one before", TLS_TICKET_KEYS_MAX);
}

/* ---- secrets ---- */

/* Value or file: the higher layer's; both of one layer is a contradiction. */
static void pick_secret(struct loader *l, struct config_secret *s,
                        const struct config_secret *value, const char *value_key, const char *file,
                        const char *file_key)
{
    const struct origin *v = origin_of(l, value_key), *f = origin_of(l, file_key);
    bool has_file = *file, has_value = value->len > 0;
    if (has_file && has_value && v->layer == f->layer) {
        wrong(l, file_key, "%s and %s: give one of them", value_key, file_key);
    } else if (has_file && (!has_value || f->layer > v->layer)) {
        config_read_secret(l, s, f->place, file);
    } else {
        config_secret_set(s, value->bytes, value->len);
    }
}

static void check_length(struct loader *l, const struct config_secret *s, const char *place,
                         const char *what)
{
    if (s->len == 0 || s->len >= SECRET_MIN || l->c->dev) return;
    loader_note(l, true, place, "%s has %zu bytes and needs %d: make one with openssl rand -hex 32",
                what, s->len, SECRET_MIN);
}

static void check_keys(struct loader *l, const struct config_keys *keys, const char *key)
{
    const char *place = origin_of(l, key)->place;
    char what[3 * VISIBLE_MAX], shown[VISIBLE_MAX];
    if (keys->count > JWT_KEYS_MAX - 2)
        loader_note(l, true, place, "%s has %zu keys; %d are possible", key, keys->count,
                    JWT_KEYS_MAX - 2);
    for (size_t i = 0; i < keys->count; i++) {
        const struct config_key *k = &keys->items[i];
        snprintf(what, sizeof what, "%s: the secret of \"%s\"", key,
                 loader_visible(shown, k->kid, strlen(k->kid)));
        if (k->secret.len == 0) loader_note(l, true, place, "%s is missing", what);
        check_length(l, &k->secret, place, what);
        for (size_t j = 0; j < i; j++)
            if (strcmp(k->kid, keys->items[j].kid) == 0)
                loader_note(l, true, place, "%s: \"%s\" is there twice", key, shown);
    }
}

static bool same_secret(const struct config_secret *a, const struct config_secret *b)
{
    return a->len && a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

static void check_api_keys(struct loader *l, const struct config_keys *keys)
{
    const char *place = origin_of(l, "http_api.keys")->place;
    char shown[VISIBLE_MAX];
    if (keys->count >= API_KEYS_MAX)
        loader_note(l, true, place, "http_api.keys has %zu keys; %d are possible", keys->count,
                    API_KEYS_MAX - 1);
    for (size_t i = 0; i < keys->count; i++) {
        const struct config_key *k = &keys->items[i];
        loader_visible(shown, k->kid, strlen(k->kid));
        if (k->secret.len == 0)
            loader_note(l, true, place, "http_api.keys: the key of \"%s\" is missing", shown);
        else if (k->secret.len < API_KEY_SHORT)
            loader_note(l, false, place,
                        "http_api.keys: \"%s\" has only %zu bytes: better openssl rand -hex 32",
                        shown, k->secret.len);
        if (same_secret(&k->secret, &l->c->api_key))
            loader_note(l, true, place, "http_api.keys: \"%s\" is http_api.key as well", shown);
        for (size_t j = 0; j < i; j++) {
            if (strcmp(k->kid, keys->items[j].kid) == 0)
                loader_note(l, true, place, "http_api.keys: \"%s\" is there twice", shown);
            if (same_secret(&k->secret, &keys->items[j].secret))
                loader_note(l, true, place,
                            "http_api.keys: \"%s\" has the same key as another one: what would it "
                            "be for?",
                            shown);
        }
    }
}

static const char *place_of(struct loader *l, const char *value_key, const char *file_key)
{
    const struct origin *v = origin_of(l, value_key), *f = origin_of(l, file_key);
    return f->layer > v->layer ? f->place : v->place;
}

/* The keys below a section, client.token or client.subscription_token. */
struct token_keys {
    char now[OPTION_NAME_MAX], now_file[OPTION_NAME_MAX], old[OPTION_NAME_MAX],
        old_file[OPTION_NAME_MAX], until[OPTION_NAME_MAX], keys[OPTION_NAME_MAX],
        user[OPTION_NAME_MAX];
};

static void name_keys(struct token_keys *k, const char *section)
{
    snprintf(k->now, OPTION_NAME_MAX, "%s.hmac_secret_key", section);
    snprintf(k->now_file, OPTION_NAME_MAX, "%s.hmac_secret_key_file", section);
    snprintf(k->old, OPTION_NAME_MAX, "%s.hmac_previous_secret_key", section);
    snprintf(k->old_file, OPTION_NAME_MAX, "%s.hmac_previous_secret_key_file", section);
    snprintf(k->until, OPTION_NAME_MAX, "%s.hmac_previous_secret_key_valid_until", section);
    snprintf(k->keys, OPTION_NAME_MAX, "%s.keys", section);
    snprintf(k->user, OPTION_NAME_MAX, "%s.user_id_claim", section);
}

static void check_token(struct loader *l, struct config_token *t, const char *section,
                        const char *kind)
{
    struct token_keys k;
    char what[64];
    name_keys(&k, section);
    pick_secret(l, &t->secret, &t->secret_value, k.now, t->secret_file, k.now_file);
    pick_secret(l, &t->previous, &t->previous_value, k.old, t->previous_file, k.old_file);
    snprintf(what, sizeof what, "the %stoken secret", kind);
    check_length(l, &t->secret, place_of(l, k.now, k.now_file), what);
    snprintf(what, sizeof what, "the previous %stoken secret", kind);
    check_length(l, &t->previous, place_of(l, k.old, k.old_file), what);
    check_keys(l, &t->keys, k.keys);
    if (t->previous_until_s && t->previous.len == 0)
        warn(l, k.until, "%s is set, but there is no previous secret", k.until);
    if (!*t->user_id_claim) wrong(l, k.user, "%s must not be empty", k.user);
}

static void check_subscription_token(struct loader *l)
{
    static const char section[] = "client.subscription_token";
    static const char enabled[] = "client.subscription_token.enabled";
    struct config_token *t = &l->c->subscription_token;
    check_token(l, t, section, "subscription ");
    bool has_secret = *t->secret_file || t->secret.len > 0 || t->keys.count > 0;
    if (l->c->subscription_token_enabled && !has_secret)
        wrong(l, enabled, "%s needs %s.hmac_secret_key", enabled, section);
    if (!l->c->subscription_token_enabled && has_secret)
        warn(l, "client.subscription_token.hmac_secret_key",
             "%s has a secret that has no effect without %s", section, enabled);
}

static void check_console(struct loader *l)
{
    static const char key[] = "admin.password", file[] = "admin.password_file";
    struct config *c = l->c;
    pick_secret(l, &c->console_password, &c->console_password_value, key, c->console_password_file,
                file);
    const size_t len = c->console_password.len;
    const char *place = place_of(l, key, file);
    if (c->console && !len && !*c->console_password_file && !c->dev)
        wrong(l, "admin.enabled", "admin.enabled needs admin.password or admin.password_file");
    if (len && !c->console && !c->dev)
        loader_note(l, false, place, "there is a password, but no console without admin.enabled");
    if (len && len < PASSWORD_SHORT)
        loader_note(l, false, place,
                    "the console's password has only %zu bytes: better openssl rand -base64 18",
                    len);
    if (len > CONSOLE_PASSWORD_MAX)
        loader_note(l, true, place, "the console's password has more than %d bytes",
                    CONSOLE_PASSWORD_MAX);
}

static void check_secrets(struct loader *l)
{
    struct config *c = l->c;
    check_token(l, &c->token, "client.token", "");
    check_subscription_token(l);
    pick_secret(l, &c->api_key, &c->api_key_value, "http_api.key", c->api_key_file,
                "http_api.key_file");
    if (c->api_key.len > 0 && c->api_key.len < API_KEY_SHORT && !c->dev)
        loader_note(l, false, place_of(l, "http_api.key", "http_api.key_file"),
                    "the API key has only %zu bytes: better openssl rand -hex 32", c->api_key.len);
    check_api_keys(l, &c->api_keys);
    check_console(l);
}

static void check_access(struct loader *l, bool clean)
{
    const struct config *c = l->c;
    /* A file that could not be read has been reported; the option was there. */
    bool has_secret = c->token.secret.len > 0 || *c->token.secret_file || c->token.keys.count > 0;
    if (clean && !has_secret && !c->anonymous && !c->insecure && !c->dev)
        loader_note(l, true, "",
                    "nobody could connect, since there is no token secret. Make one: openssl rand "
                    "-hex 32 > secret; then --token-secret-file secret (roost token makes tokens "
                    "with it). Or --anonymous to let clients in without a token, or --dev to try "
                    "things out");
    if (c->insecure && any_open(c))
        warn(l, "client.insecure",
             "client.insecure: anybody who reaches this host may read and "
             "publish everything");
    if (c->api_insecure && any_open(c) && c->admin_listen.count == 0)
        warn(l, "http_api.insecure",
             "http_api.insecure: anybody who reaches this host may publish "
             "to every channel");
}

/* ---- origins ---- */

static bool has_upper_case(const char *text)
{
    for (; *text; text++)
        if (*text >= 'A' && *text <= 'Z') return true;
    return false;
}

static void check_origins(struct loader *l)
{
    static const char key[] = "client.allowed_origins";
    const struct config_strings *list = &l->c->allowed_origins;
    char shown[VISIBLE_MAX];
    for (size_t i = 0; i < list->count; i++) {
        const char *text = list->items[i], *host = strstr(text, "://");
        loader_visible(shown, text, strlen(text));
        if (strcmp(text, "*") == 0 || strcmp(text, "null") == 0) continue;
        if (has_upper_case(text))
            warn(l, key, "\"%s\" matches nothing: origins are compared in lower case", shown);
        if (!host && !strchr(text, '*'))
            warn(l, key, "\"%s\" matches nothing: an origin has a scheme, like https://%s", shown,
                 shown);
        if (host && strchr(host + 3, '/'))
            warn(l, key, "\"%s\" matches nothing: an origin ends after its host and port", shown);
    }
}

/* Pages on this machine, whatever their port: --dev is for trying things out. */
static void allow_local_origins(struct config *c)
{
    static const char *const local[] = {
        "http://localhost",  "http://localhost:*",  "http://127.0.0.1",  "http://127.0.0.1:*",
        "https://localhost", "https://localhost:*", "https://127.0.0.1", "https://127.0.0.1:*",
    };
    for (size_t i = 0; i < sizeof local / sizeof *local; i++) {
        struct config_strings *list = &c->allowed_origins;
        list->items = config_grow(list->items, list->count, sizeof *list->items);
        config_string_set(&list->items[list->count++], local[i]);
    }
}

/* ---- the rest ---- */

static void check_times(struct loader *l)
{
    const struct config *c = l->c;
    char ping[CONFIG_NUMBER_MAX], pong[CONFIG_NUMBER_MAX];
    if (c->ping_interval_ms == 0 || c->pong_timeout_ms < c->ping_interval_ms) return;
    bool pong_said = origin_of(l, "client.pong_timeout")->layer != LAYER_DEFAULT;
    wrong(l, pong_said ? "client.pong_timeout" : "client.ping_interval",
          "client.pong_timeout (%s) must be less than client.ping_interval (%s)",
          config_format_duration(pong, c->pong_timeout_ms),
          config_format_duration(ping, c->ping_interval_ms));
}

static void check_emf(struct loader *l)
{
    if (l->c->emf_ms && l->c->emf_ms < 1000)
        wrong(l, "emf", "emf must be 1s at least, or 0 for none");
}

/* check_trace: a URL may hold a password, so it is not shown. A header's value is one line (RFC
 * 9110 section 5.5). */
static void check_trace(struct loader *l)
{
    const struct config *c = l->c;
    struct trace_target target;
    const char *why = *c->trace ? trace_target_parse(&target, c->trace) : NULL;
    if (why) wrong(l, "trace", "trace: %s", why);
    for (size_t i = 0; i < c->trace_authorization.len; i++) {
        const uint8_t b = c->trace_authorization.bytes[i];
        if (b >= ' ' && b <= '~') continue;
        wrong(l, "trace_authorization", "must be one line of ASCII");
        return;
    }
}

/* A path of ours, beside /raw/, /api/ and the like, which route.c looks for after it. */
static void check_path(struct loader *l)
{
    static const char key[] = "websocket.handler_prefix";
    const char *path = l->c->websocket_path;
    char shown[VISIBLE_MAX];
    if (path[0] != '/' || path[1] == '\0' || strpbrk(path, "?#% ") || path[strlen(path) - 1] == '/')
        wrong(l, key, "%s is \"%s\": must be a path like /connection/websocket", key,
              loader_visible(shown, path, strlen(path)));
}

void config_check(struct loader *l, bool clean)
{
    default_listeners(l);
    check_listeners(l);
    check_certificate(l);
    check_blocks(l, "http_server.proxy_protocol_from", &l->c->proxy_protocol_from);
    check_blocks(l, "http_server.trusted_proxies", &l->c->trusted_proxies);
    check_secrets(l);
    check_access(l, clean);
    check_origins(l);
    if (l->c->dev) allow_local_origins(l->c);
    check_times(l);
    check_path(l);
    check_trace(l);
    check_emf(l);
    config_check_namespaces(l);
}
