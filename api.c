#include "api.h"

#include <mbedtls/constant_time.h>
#include <mbedtls/platform_util.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/methods.h"
#include "log.h"

static const struct api_options *options(void)
{
    return settings_of(SETTINGS_API);
}

void api_init(const struct api_options *o, const char *node_name)
{
    static struct api_options first;
    first = *o;
    settings_first.of[SETTINGS_API] = &first;
    api_info_init(node_name);
}

/* ---- keys ---- */

/* given_key finds the caller's key: X-API-Key, else Authorization: apikey K, else ?api_key=K. */
static bool given_key(const struct http_request *r, struct http_str *key)
{
    static const char scheme[] = "apikey ";
    const struct http_str *h = http_header(r, "X-API-Key", 0);
    if (h) {
        *key = *h;
        return true;
    }
    struct http_str a = r->authorization;
    if (a.p && a.len > sizeof scheme - 1 && strncasecmp(a.p, scheme, sizeof scheme - 1) == 0) {
        *key = (struct http_str){a.p + sizeof scheme - 1, a.len - (sizeof scheme - 1)};
        return true;
    }
    return http_query_get(r->query, "api_key", key);
}

/* find_key looks for a key among all, each compared in constant time. Returns its scope, 0 if it is
 * not known. */
static enum api_scope find_key(struct http_str key, char name[static API_KEY_NAME])
{
    enum api_scope scope = 0;
    for (size_t i = 0; i < options()->key_count; i++) {
        const struct api_key *k = &options()->keys[i];
        if (k->len != key.len || mbedtls_ct_memcmp(key.p, k->bytes, k->len) != 0) continue;
        scope = k->scope;
        snprintf(name, API_KEY_NAME, "%s", k->name);
    }
    return scope;
}

static struct api_caller caller_by_key(const struct http_request *r)
{
    struct http_str key;
    struct api_caller who = {.scope = options()->insecure ? API_ALL : 0};
    if (!options()->insecure && given_key(r, &key)) who.scope = find_key(key, who.name);
    return who;
}

/* ---- answers ---- */

struct job { /* one request under way */
    struct api_call call;
    struct conn *conn;            /* NULL: it has gone */
    const struct http_request *r; /* NULL: the answer comes in a later turn */
    const struct api_method *method;
    bool transport; /* errors by the status as well */
    int64_t start_us;
    struct mem_pool *pool;
    jsmntok_t *tokens;
    size_t tokens_size;
};

static void answer(const struct job *j, const struct http_reply *reply)
{
    if (j->r)
        conn_http_reply(j->conn, j->r, reply);
    else
        conn_http_answer(j->conn, reply);
}

static void answer_json(const struct job *j, int status, const char *json, size_t len)
{
    answer(j, &(struct http_reply){
                  .status = status, .content_type = "application/json", .body = json, .len = len});
}

static bool transport_errors(const struct http_request *r)
{
    const struct http_str *mode = http_header(r, "X-Centrifugo-Error-Mode", 0);
    return mode ? http_str_is(*mode, "transport") : options()->transport_errors;
}

static int status_of(unsigned code)
{
    switch (code) {
    case 102:
    case 104: return 404;
    case 107:
    case 108: return 400;
    case 112: return 416;
    case 113: return 409;
    default: return 500;
    }
}

static void fail(const struct job *j, unsigned code)
{
    char json[128];
    int n = snprintf(json, sizeof json,
                     j->transport ? "{\"code\":%u,\"message\":\"%s\"}"
                                  : "{\"error\":{\"code\":%u,\"message\":\"%s\"}}",
                     code, api_message(code));
    answer_json(j, j->transport ? status_of(code) : 200, json, (size_t)n);
}

static const struct http_reply bad_request = {.status = 400, .body = "Bad Request", .len = 11};

static void finish(struct job *j, unsigned code)
{
    struct conn *c = j->conn;
    if (!code && j->call.o.full) code = 100;
    metric_api(&j->call.w->metrics, api_method_index(j->method),
               (uint64_t)(clock_us() - j->start_us), code != 0);
    if (code == API_BAD_REQUEST) {
        metric_add(&j->call.w->metrics, METRIC_REFUSED_BAD_REQUEST, 1);
        if (c) answer(j, &bad_request);
    } else if (code) {
        if (c) fail(j, code);
    } else if (c) {
        answer_json(j, 200, j->call.o.p, j->call.o.len);
    }
    if (c && j->r) conn_pause_if_full(c);
    mem_free(j->pool, j->tokens, j->tokens_size);
    mem_free(j->pool, j->call.o.p, j->call.o.cap);
    mem_free(j->pool, j, sizeof *j);
}

/* finished is of calls that had to wait. */
static void finished(struct api_call *call, unsigned code)
{
    struct job *j = (struct job *)(void *)call;
    struct conn *c = j->conn;
    if (c) c->channel = NULL;
    if (!code && j->method->run != api_batch) json_puts(&call->o, "}");
    finish(j, code);
}

void api_ended(struct conn *c)
{
    if (!(c->flags & CONN_AWAITED) || !c->channel) return;
    *(struct conn **)c->channel = NULL;
    c->channel = NULL;
}

/* ---- requests ---- */

/* refused answers a request of a caller who may not call m. */
static bool refused(struct conn *c, const struct http_request *r, const struct api_method *m,
                    enum api_scope scope)
{
    if (scope && api_permits(scope, m)) return false;
    metric_add(&c->worker->metrics, METRIC_REFUSED_PERMISSION, 1);
    if (scope)
        conn_http_error(c, r, 403, "this key is not for this method: see http_api.keys");
    else
        conn_http_reply(c, r, &(struct http_reply){.status = 401, .body = ""});
    return true;
}

bool api_is_post(struct conn *c, const struct http_request *r)
{
    static const char body[] = "405 Method Not Allowed: use POST\n";
    if (r->method == HTTP_POST) return true;
    conn_http_reply(
        c, r,
        &(struct http_reply){
            .status = 405, .headers = "Allow: POST\r\n", .body = body, .len = sizeof body - 1});
    return false;
}

int64_t api_head_as(struct conn *c, const struct http_request *r, struct http_str method,
                    const struct api_caller *who)
{
    const struct api_method *m = api_method_find(method.p, method.len);
    if (!m) {
        conn_http_error(c, r, 404, "no such method of the API: see docs/api.md");
        return 0;
    }
    if (!api_is_post(c, r) || refused(c, r, m, who->scope)) return 0;
    c->flags |= CONN_MAY_PUBLISH; /* is read later while subscribers have to catch up */
    if (!r->chunked && r->content_length == 0) {
        metric_add(&c->worker->metrics, METRIC_REFUSED_BAD_REQUEST, 1);
        conn_http_reply(c, r, &bad_request);
        return 0;
    }
    return options()->max_body_bytes;
}

static struct job *new_job(struct conn *c, const struct http_request *r, size_t len)
{
    struct mem_pool *pool = c->worker->pool;
    const size_t most = len / 2 + 2; /* an element takes two bytes at least */
    const unsigned count = most < API_ELEMENT_TOKENS ? (unsigned)most : API_ELEMENT_TOKENS;
    struct job *j = mem_alloc(pool, sizeof *j);
    jsmntok_t *tokens = mem_alloc(pool, count * sizeof *tokens);
    if (!j || !tokens) {
        mem_free(pool, tokens, count * sizeof *tokens);
        mem_free(pool, j, sizeof *j);
        return NULL;
    }
    *j = (struct job){.call = {.w = c->worker,
                               .tokens = tokens,
                               .token_count = count,
                               .channel_max_length = options()->channel_max_length,
                               .finished = finished},
                      .conn = c,
                      .r = r,
                      .transport = transport_errors(r),
                      .start_us = clock_us(),
                      .pool = pool,
                      .tokens = tokens,
                      .tokens_size = count * sizeof *tokens};
    j->call.has_parent = c->worker->trace && conn_trace_parent(r, &j->call.parent);
    return j;
}

/* is_told: does the log tell of calls of m? */
static bool is_told(const struct api_method *m)
{
    return m->changes && (m->scope != API_PUBLISH || options()->audit_publications);
}

static unsigned run(struct job *j, const char *body, size_t len)
{
    jsmntok_t own[API_TOKENS];
    struct json doc;
    struct api_call *call = &j->call;
    if (!api_permits(call->scope, j->method)) return 103; /* the key was taken away meanwhile */
    if (json_parse(&doc, body, len, own, API_TOKENS, 1, JSON_LONE_SURROGATES) != 0 ||
        json_type(&doc, 0) != JSON_OBJECT || !json_unique(&doc, 0))
        return API_BAD_REQUEST;
    call->doc = &doc;
    api_begin(call, 256);
    if (j->method->run != api_batch) json_puts(&call->o, "{\"result\":");
    unsigned code = api_run_method(call, j->method);
    if (code != API_LATER && j->method->run != api_batch) json_puts(&call->o, "}");
    api_audit(call, j->method, code);
    call->doc = NULL;
    return code;
}

void api_request_as(struct conn *c, const struct http_request *r, struct http_str method,
                    const struct api_caller *who, const char *body, size_t len)
{
    struct job *j = new_job(c, r, len);
    metric_add(&c->worker->metrics, METRIC_API_REQUESTS, 1);
    if (!j) {
        conn_http_error(c, r, 503, "out of memory");
        return;
    }
    j->method = api_method_find(method.p, method.len);
    j->call.scope = who->scope;
    if (is_told(j->method) || j->method->run == api_batch) { /* of a batch its commands may be */
        memcpy(j->call.key_name, who->name, sizeof who->name);
        conn_peer_text(c, j->call.peer);
    }
    unsigned code = run(j, body, len);
    if (code != API_LATER) {
        finish(j, code);
        return;
    }
    j->r = NULL;
    c->channel = &j->conn;
    conn_http_later(c);
}

static struct http_str method_of(const struct http_request *r)
{
    const size_t prefix = sizeof "/api/" - 1;
    return (struct http_str){r->path.p + prefix, r->path.len - prefix};
}

int64_t api_head(struct conn *c, const struct http_request *r)
{
    const struct api_caller who = caller_by_key(r);
    return api_head_as(c, r, method_of(r), &who);
}

void api_request(struct conn *c, const struct http_request *r, const char *body, size_t len)
{
    const struct api_caller who = caller_by_key(r);
    api_request_as(c, r, method_of(r), &who, body, len);
}

bool api_may_all(struct conn *c, const struct http_request *r, struct api_caller *who)
{
    *who = caller_by_key(r);
    if (who->scope == API_ALL) return true;
    metric_add(&c->worker->metrics, METRIC_REFUSED_PERMISSION, 1);
    if (who->scope)
        conn_http_error(c, r, 403, "this needs a key of scope all: see http_api.keys");
    else
        conn_http_reply(c, r, &(struct http_reply){.status = 401, .body = ""});
    return false;
}

/* ---- the log ---- */

static size_t member_text(const struct json *doc, const char *name, char out[static USER_NAME_MAX])
{
    int64_t n = json_string(doc, json_member(doc, 0, name), out, USER_NAME_MAX);
    return n > 0 ? (size_t)n : 0;
}

void api_audit(const struct api_call *call, const struct api_method *m, unsigned code)
{
    char user[USER_NAME_MAX], channel[USER_NAME_MAX];
    if (!is_told(m)) return;
    const size_t user_len = member_text(call->doc, "user", user),
                 channel_len = member_text(call->doc, "channel", channel);
    log_event(LOG_INFO, "api call", LOG_STR("method", m->name), LOG_STR("key", call->key_name),
              LOG_STR("peer", call->peer), LOG_STRN("user", user, user_len),
              LOG_STRN("channel", channel, channel_len),
              LOG_STR("result", code == API_BAD_REQUEST     ? api_message(107)
                                : code && code != API_LATER ? api_message(code)
                                                            : "ok"));
}
