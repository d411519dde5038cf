#include "api.h"

#include <mbedtls/constant_time.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api_methods.h"

static struct api_options options;

void api_init(const struct api_options *o)
{
    options = *o;
}

/* ---- the key ---- */

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

static bool key_is_right(const struct http_request *r)
{
    struct http_str key;
    if (options.insecure) return true;
    if (!options.key || !given_key(r, &key)) return false;
    return key.len == options.key_len &&
           mbedtls_ct_memcmp(key.p, options.key, options.key_len) == 0;
}

/* ---- answers ---- */

static void reply_json(struct conn *c, const struct http_request *r, int status, const char *json,
                       size_t len)
{
    struct http_reply reply = {
        .status = status, .content_type = "application/json", .body = json, .len = len};
    conn_http_reply(c, r, &reply);
}

static bool transport_errors(const struct http_request *r)
{
    const struct http_str *mode = http_header(r, "X-Centrifugo-Error-Mode", 0);
    return mode ? http_str_is(*mode, "transport") : options.transport_errors;
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

static void fail(struct conn *c, const struct http_request *r, unsigned code, const char *message)
{
    char json[128];
    bool transport = transport_errors(r);
    int n = snprintf(json, sizeof json,
                     transport ? "{\"code\":%u,\"message\":\"%s\"}"
                               : "{\"error\":{\"code\":%u,\"message\":\"%s\"}}",
                     code, message);
    reply_json(c, r, transport ? status_of(code) : 200, json, (size_t)n);
}

static void bad_request(struct conn *c, const struct http_request *r)
{
    struct http_reply reply = {.status = 400, .body = "Bad Request", .len = 11};
    metric_add(&c->worker->metrics, METRIC_REFUSED_BAD_REQUEST, 1);
    conn_http_reply(c, r, &reply);
}

/* ---- requests ---- */

static struct http_str method_of(const struct http_request *r)
{
    const size_t prefix = sizeof "/api/" - 1;
    return (struct http_str){r->path.p + prefix, r->path.len - prefix};
}

int64_t api_head(struct conn *c, const struct http_request *r)
{
    if (!api_method_find(method_of(r))) {
        conn_http_error(c, r, 404,
                        "no such method: publish, broadcast, presence, presence_stats, history and "
                        "history_remove are served");
        return 0;
    }
    if (r->method != HTTP_POST) {
        struct http_reply reply = {.status = 405,
                                   .headers = "Allow: POST\r\n",
                                   .body = "405 Method Not Allowed: use POST\n",
                                   .len = 33};
        conn_http_reply(c, r, &reply);
        return 0;
    }
    if (!key_is_right(r)) {
        metric_add(&c->worker->metrics, METRIC_REFUSED_PERMISSION, 1);
        struct http_reply reply = {.status = 401, .body = ""};
        conn_http_reply(c, r, &reply);
        return 0;
    }
    c->flags |= CONN_MAY_PUBLISH; /* is read later while subscribers have to catch up */
    if (!r->chunked && r->content_length == 0) {
        bad_request(c, r);
        return 0;
    }
    return options.max_body_bytes;
}

void api_request(struct conn *c, const struct http_request *r, const char *body, size_t len)
{
    jsmntok_t tokens[API_TOKENS];
    struct json doc;
    const size_t most = len / 2 + 2; /* an element takes two bytes at least */
    const unsigned count = most < API_ELEMENT_TOKENS ? (unsigned)most : API_ELEMENT_TOKENS;
    const size_t elements = count * sizeof(jsmntok_t);
    struct api_call call = {.w = c->worker,
                            .doc = &doc,
                            .channel_max_length = options.channel_max_length,
                            .tokens = mem_alloc(c->worker->pool, elements),
                            .token_count = count};
    metric_add(&c->worker->metrics, METRIC_API_REQUESTS, 1);
    unsigned code = API_BAD_REQUEST;
    if (!call.tokens)
        code = 100;
    else if (json_parse(&doc, body, len, tokens, API_TOKENS, 1, JSON_LONE_SURROGATES) == 0 &&
             json_type(&doc, 0) == JSON_OBJECT && json_unique(&doc, 0)) {
        api_begin(&call, 256);
        json_puts(&call.o, "{\"result\":");
        code = api_method_find(method_of(r))(&call);
        json_puts(&call.o, "}");
        if (!code && call.o.full) code = 100;
    }
    if (code == API_BAD_REQUEST)
        bad_request(c, r);
    else if (code)
        fail(c, r, code, api_message(code));
    else
        reply_json(c, r, 200, call.o.p, call.o.len);
    mem_free(c->worker->pool, call.tokens, elements);
    mem_free(c->worker->pool, call.o.p, call.o.cap);
    conn_pause_if_full(c);
}
