#include "console.h"

#include <mbedtls/constant_time.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/sha256.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "api.h"
#include "auth.h"
#include "json.h"
#include "log.h"
#include "tls.h"
#include "watch.h"
#include "web.h"

#define SESSION_S (8 * 3600)
#define SESSION_TOKEN_MAX 256
#define LOGIN_BODY_MAX (CONSOLE_PASSWORD_MAX * 6 + 64) /* every byte escaped */
#define CLAIMS_MAX 4096                                /* a token in a header has 7 KiB at most */
#define WRONG_MAX 10                                   /* wrong passwords at once ... */
#define WRONG_EACH_MS 6000                             /* ... and one more each; of the process */

static const struct console_options *options(void)
{
    return settings_of(SETTINGS_CONSOLE);
}

static struct secrets { /* one lock of the process: people sign in, messages never come here */
    pthread_mutex_t lock;
    uint8_t password[32]; /* SHA-256: of one length, so that a comparison tells nothing of it */
    bool has_password;
    uint8_t session_key[32];
    int64_t credit_ms, credit_at_ms; /* for wrong passwords */
} secrets = {.lock = PTHREAD_MUTEX_INITIALIZER};

void console_init(const struct console_options *o)
{
    static struct console_options first;
    first = *o;
    settings_first.of[SETTINGS_CONSOLE] = &first;
    pthread_mutex_lock(&secrets.lock);
    secrets.has_password = false;
    secrets.credit_ms = (int64_t)WRONG_MAX * WRONG_EACH_MS;
    secrets.credit_at_ms = 0;
    random_bytes(secrets.session_key, sizeof secrets.session_key);
    pthread_mutex_unlock(&secrets.lock);
}

void console_close(void)
{
    secrets.has_password = false;
    mbedtls_platform_zeroize(secrets.password, sizeof secrets.password);
    mbedtls_platform_zeroize(secrets.session_key, sizeof secrets.session_key);
}

/* ---- the password ---- */

static bool hash_of(uint8_t hash[static 32], const void *bytes, size_t len)
{
    return mbedtls_sha256(bytes, len, hash, 0) == 0;
}

static bool is_password(const uint8_t hash[static 32])
{
    return secrets.has_password && mbedtls_ct_memcmp(hash, secrets.password, 32) == 0;
}

void console_set_password(const void *bytes, size_t len)
{
    uint8_t hash[32];
    const bool usable = len > 0 && hash_of(hash, bytes, len);
    pthread_mutex_lock(&secrets.lock);
    if (!usable || !is_password(hash))
        random_bytes(secrets.session_key, sizeof secrets.session_key);
    secrets.has_password = usable;
    if (usable) memcpy(secrets.password, hash, sizeof hash);
    pthread_mutex_unlock(&secrets.lock);
    mbedtls_platform_zeroize(hash, sizeof hash);
}

enum verdict { PASSWORD_RIGHT, PASSWORD_WRONG, PASSWORD_LATER };

/* try_password: only wrong ones are counted, but after too many of them none is looked at for a
 * while, or guessing would go on. Who has a session is not held up. */
static enum verdict try_password(const uint8_t hash[static 32], int64_t now_ms)
{
    const int64_t full = (int64_t)WRONG_MAX * WRONG_EACH_MS;
    enum verdict v = PASSWORD_LATER;
    pthread_mutex_lock(&secrets.lock);
    /* clocks of two workers may be a turn apart: what one takes away the other gives back */
    const int64_t past_ms = now_ms - secrets.credit_at_ms;
    secrets.credit_ms = past_ms < full - secrets.credit_ms ? secrets.credit_ms + past_ms : full;
    secrets.credit_at_ms = now_ms;
    if (secrets.credit_ms >= WRONG_EACH_MS) {
        v = is_password(hash) ? PASSWORD_RIGHT : PASSWORD_WRONG;
        if (v == PASSWORD_WRONG) secrets.credit_ms -= WRONG_EACH_MS;
    }
    pthread_mutex_unlock(&secrets.lock);
    return v;
}

/* ---- sessions: tokens like those of clients, with a key that lives as long as the process ---- */

static void copy_session_key(uint8_t key[static 32])
{
    pthread_mutex_lock(&secrets.lock);
    memcpy(key, secrets.session_key, 32);
    pthread_mutex_unlock(&secrets.lock);
}

static int64_t make_session(char *out, size_t cap, int64_t now_s)
{
    uint8_t key[32];
    char claims[64];
    copy_session_key(key);
    const int n = snprintf(claims, sizeof claims, "{\"exp\":%lld}", (long long)now_s + SESSION_S);
    const int64_t len = jwt_make(
        out, cap, &(struct jwt_key){.secret = key, .secret_len = sizeof key}, claims, (size_t)n);
    mbedtls_platform_zeroize(key, sizeof key);
    return len;
}

static bool is_signed_in(struct conn *c, const struct http_request *r)
{
    uint8_t key[32];
    struct auth a;
    copy_session_key(key);
    const struct auth_options o = {
        .rules = {.keys = {{.secret = key, .secret_len = sizeof key}}, .key_count = 1}};
    auth_check(&o, r, (int64_t)time(NULL), c->worker->tx, c->worker->tx_size, &a);
    mbedtls_platform_zeroize(key, sizeof key);
    return a.verdict == AUTH_OK;
}

/* ---- who may ---- */

static bool refuse(struct conn *c, const struct http_request *r, int status, const char *line)
{
    metric_add(&c->worker->metrics, METRIC_REFUSED_PERMISSION, 1);
    conn_http_error(c, r, status, line);
    return false;
}

static bool host_is_loopback(struct http_str host)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const size_t n = strlen(names[i]);
        if (host.len >= n && memcmp(host.p, names[i], n) == 0 &&
            (host.len == n || host.p[n] == ':'))
            return true;
    }
    return false;
}

/* is_page: is it our page that asks, and not one of another origin? Answers if not. */
static bool is_page(struct conn *c, const struct http_request *r)
{
    if (!http_header(r, "X-Roost-Console", 0))
        return refuse(c, r, 403, "the header X-Roost-Console is missing");
    if (options()->access == CONSOLE_LOOPBACK && !host_is_loopback(r->host))
        return refuse(c, r, 403, "open the page as localhost or 127.0.0.1");
    return true;
}

/* may_call: may r use the server's methods? Answers if not. */
static bool may_call(struct conn *c, const struct http_request *r)
{
    if (!is_page(c, r)) return false;
    if (options()->access == CONSOLE_LOOPBACK || is_signed_in(c, r)) return true;
    return refuse(c, r, 401, "sign in: POST /admin/login");
}

/* ---- answers ---- */

static void reply_json(struct conn *c, const struct http_request *r, const char *json, size_t len)
{
    conn_http_reply(c, r,
                    &(struct http_reply){.status = 200,
                                         .content_type = "application/json",
                                         .headers = "Cache-Control: no-store\r\n",
                                         .body = json,
                                         .len = len});
}

static void reply_token(struct conn *c, const struct http_request *r, const char *token)
{
    char json[CLAIMS_MAX * 2];
    const int n = snprintf(json, sizeof json, "{\"token\":\"%s\"}\n", token);
    reply_json(c, r, json, (size_t)n);
}

static void settings(struct conn *c, const struct http_request *r)
{
    char json[1024];
    const char *path = c->flags & CONN_CLIENTS ? options()->client_path : NULL;
    struct json_out o = {.p = json, .cap = sizeof json};
    json_puts(&o, "{\"version\":\"" ROOST_VERSION "\",\"sign_in\":");
    json_puts(&o, options()->access == CONSOLE_PASSWORD ? "true" : "false");
    json_puts(&o, options()->tokens ? ",\"tokens\":true" : ",\"tokens\":false");
    json_puts(&o, ",\"websocket\":");
    if (path)
        json_put_string(&o, path, strlen(path));
    else
        json_puts(&o, "null");
    json_puts(&o, "}\n");
    if (o.full)
        conn_http_error(c, r, 500, "websocket.handler_prefix is too long to be told");
    else
        reply_json(c, r, json, o.len);
}

/* ---- signing in ---- */

static bool read_password(const char *body, size_t len, uint8_t hash[static 32])
{
    jsmntok_t tokens[8];
    struct json doc;
    char password[CONSOLE_PASSWORD_MAX];
    if (json_parse(&doc, body, len, tokens, sizeof tokens / sizeof *tokens, 1, 0) != 0)
        return false;
    const int64_t n =
        json_string(&doc, json_member(&doc, 0, "password"), password, sizeof password);
    const bool ok = n >= 0 && hash_of(hash, password, (size_t)n);
    mbedtls_platform_zeroize(password, sizeof password);
    return ok;
}

static void login(struct conn *c, const struct http_request *r, const char *body, size_t len)
{
    uint8_t hash[32];
    char token[SESSION_TOKEN_MAX], peer[CONN_PEER_TEXT];
    if (!read_password(body, len, hash)) {
        metric_add(&c->worker->metrics, METRIC_REFUSED_BAD_REQUEST, 1);
        conn_http_error(c, r, 400, "the body is {\"password\": TEXT}");
        return;
    }
    const enum verdict v = try_password(hash, c->worker->now_ms);
    conn_peer_text(c, peer);
    if (v == PASSWORD_RIGHT && make_session(token, sizeof token, (int64_t)time(NULL)) > 0) {
        log_event(LOG_INFO, "console: signed in", LOG_STR("peer", peer));
        reply_token(c, r, token);
        return;
    }
    metric_add(&c->worker->metrics, METRIC_REFUSED_CONSOLE, 1);
    log_limited(5, LOG_WARN,
                v == PASSWORD_LATER ? "console: too many wrong passwords"
                                    : "console: wrong password",
                LOG_STR("peer", peer));
    if (v == PASSWORD_LATER)
        conn_http_error(c, r, 429, "too many wrong passwords");
    else
        conn_http_error(c, r, 401, "wrong password");
}

/* ---- tokens for trying out ---- */

/* make_token: the server's own rules say whether the claims are good. One that has expired is made
 * as well: to see what is answered to it. */
static void make_token(struct conn *c, const struct http_request *r, const char *body, size_t len)
{
    char token[CLAIMS_MAX * 2 - 64];
    struct jwt_claims claims;
    const char *why = "the claims are too long";
    const int64_t n = jwt_make(token, sizeof token, &options()->tokens->keys[0], body, len);
    if (n > 0 && jwt_verify(options()->tokens, token, (size_t)n, (int64_t)time(NULL), &claims,
                            c->worker->tx, c->worker->tx_size, &why) != JWT_INVALID)
        reply_token(c, r, token);
    else
        conn_http_error(c, r, 400, why);
}

/* ---- the page ---- */

static const struct web_file *find_file(struct http_str path)
{
    if (http_str_is(path, "/")) path = (struct http_str){"/index.html", sizeof "/index.html" - 1};
    for (size_t i = 0; i < web_file_count; i++)
        if (http_str_is(path, web_files[i].path)) return &web_files[i];
    return NULL;
}

static void page(struct conn *c, const struct http_request *r)
{
    if (options()->access == CONSOLE_OFF) {
        conn_http_error(c, r, 404,
                        "the console is off: admin.enabled and admin.password_file switch it on");
        return;
    }
    const struct web_file *f = find_file(r->path);
    conn_http_reply(
        c, r,
        &(struct http_reply){
            .status = 200,
            .content_type = f->content_type,
            .headers =
                "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
                "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
                "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types "
                "'none'\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"
                "Cross-Origin-Resource-Policy: same-origin\r\nCache-Control: no-cache\r\n",
            .body = (const char *)f->data,
            .len = f->len});
}

/* ---- paths ---- */

#define API_PREFIX "/admin/api/"

/* api_method gives METHOD of /admin/api/METHOD; p NULL: another path. */
static struct http_str api_method(const struct http_request *r)
{
    const size_t n = sizeof API_PREFIX - 1;
    if (r->path.len < n || memcmp(r->path.p, API_PREFIX, n) != 0) return (struct http_str){0};
    return (struct http_str){r->path.p + n, r->path.len - n};
}

static bool is_login(const struct http_request *r)
{
    return options()->access == CONSOLE_PASSWORD && http_str_is(r->path, "/admin/login");
}

static bool is_token(const struct http_request *r)
{
    return options()->tokens && http_str_is(r->path, "/admin/token");
}

static const struct api_caller console_caller = {.scope = API_ALL, .name = "console"};

bool console_has(struct http_str path)
{
    static const char prefix[] = "/admin/";
    const size_t n = sizeof prefix - 1;
    return find_file(path) ||
           (options()->access != CONSOLE_OFF && path.len > n && memcmp(path.p, prefix, n) == 0);
}

/* post_head is of what takes a body. */
static int64_t post_head(struct conn *c, const struct http_request *r)
{
    const struct http_str method = api_method(r);
    if (!method.p && !is_login(r) && !is_token(r)) {
        conn_http_error(c, r, 404, "nothing is served at this path");
        return 0;
    }
    if (!api_is_post(c, r) || !(is_login(r) ? is_page(c, r) : may_call(c, r))) return 0;
    if (method.p) return api_head_as(c, r, method, &console_caller);
    return is_login(r) ? LOGIN_BODY_MAX : CLAIMS_MAX;
}

int64_t console_head(struct conn *c, const struct http_request *r)
{
    if (http_str_is(r->path, "/admin/trace")) {
        if (may_call(c, r)) watch_open(c, r, &console_caller);
        return 0;
    }
    const bool file = find_file(r->path), wants_settings = http_str_is(r->path, "/admin/settings");
    if (!file && !wants_settings) return post_head(c, r);
    if (r->method != HTTP_GET && r->method != HTTP_HEAD)
        conn_http_error(c, r, 405, "use GET");
    else if (file)
        page(c, r);
    else
        settings(c, r);
    return 0;
}

void console_request(struct conn *c, const struct http_request *r, const char *body, size_t len)
{
    const struct http_str method = api_method(r);
    if (is_login(r))
        login(c, r, body, len);
    else if (!may_call(c, r)) /* its session may have ended since the head came */
        return;
    else if (method.p)
        api_request_as(c, r, method, &console_caller, body, len);
    else if (is_token(r))
        make_token(c, r, body, len);
    else /* what its head asked for has been switched off since */
        conn_http_error(c, r, 404, "nothing is served at this path");
}
