#include "api.h"

#include <mbedtls/base64.h>
#include <mbedtls/constant_time.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "json.h"
#include "pubsub.h"
#include "raw.h"

#define TOKENS_MAX 256 /* of a request's own members; payloads are not opened */
#define NAME_MAX_BYTES 255

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

static void reply_json(struct conn *c, const struct http_request *r, int status, const char *json)
{
    struct http_reply reply = {.status = status,
                               .content_type = "application/json",
                               .body = json,
                               .len = strlen(json)};
    conn_http_reply(c, r, &reply);
}

static bool transport_errors(const struct http_request *r)
{
    const struct http_str *mode = http_header(r, "X-Centrifugo-Error-Mode", 0);
    return mode && http_str_is(*mode, "transport");
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
    snprintf(json, sizeof json,
             transport ? "{\"code\":%u,\"message\":\"%s\"}"
                       : "{\"error\":{\"code\":%u,\"message\":\"%s\"}}",
             code, message);
    reply_json(c, r, transport ? status_of(code) : 200, json);
}

static void bad_request(struct conn *c, const struct http_request *r)
{
    struct http_reply reply = {.status = 400, .body = "Bad Request", .len = 11};
    metric_add(&c->worker->metrics, METRIC_REFUSED_BAD_REQUEST, 1);
    conn_http_reply(c, r, &reply);
}

/* ---- publish ---- */

struct publish { /* the request's fields */
    char channel[NAME_MAX_BYTES];
    int64_t channel_len; /* -1: too long */
    struct json_slice data;
    struct json_slice b64;
};

/* optional gives a member of an object, or JSON_NONE if it is absent or null; false when it has another type. */
static bool optional(const struct json *doc, const char *name, enum json_type type, int *v)
{
    *v = json_member(doc, 0, name);
    if (json_type(doc, *v) == JSON_NULL) *v = JSON_NONE;
    return *v == JSON_NONE || json_type(doc, *v) == type;
}

/* read_publish checks the types of all fields; those of streams and deltas are known but need a history, which channels here
 * do not have, so they change nothing. */
static bool read_publish(struct json *doc, struct publish *p)
{
    int channel, b64, v;
    int64_t n;
    bool ok = json_type(doc, 0) == JSON_OBJECT && json_unique(doc, 0) &&
              optional(doc, "channel", JSON_STRING, &channel) &&
              optional(doc, "b64data", JSON_STRING, &b64) &&
              optional(doc, "skip_history", JSON_BOOL, &v) &&
              optional(doc, "delta", JSON_BOOL, &v) &&
              optional(doc, "idempotency_key", JSON_STRING, &v) &&
              optional(doc, "version_epoch", JSON_STRING, &v) &&
              optional(doc, "tags", JSON_OBJECT, &v) && optional(doc, "version", JSON_NUMBER, &v) &&
              (v == JSON_NONE || json_int64(doc, v, &n));
    if (!ok) return false;
    *p = (struct publish){.data = json_raw(doc, json_member(doc, 0, "data"))};
    if (b64 != JSON_NONE && !json_plain(doc, b64, &p->b64)) return false;
    if (!p->b64.len) p->b64.p = NULL; /* an empty one is as absent */
    if (channel != JSON_NONE)
        p->channel_len = json_string(doc, channel, p->channel, sizeof p->channel);
    return true;
}

/* frame_of makes the message for raw subscribers: data's JSON text as it is, or the bytes of b64data as a binary message. NULL: not base64, or
 * memory is out (*no_memory). */
static struct frame *frame_of(struct conn *c, const struct publish *p, bool *no_memory)
{
    struct mem_pool *pool = c->worker->pool;
    *no_memory = true;
    if (!p->b64.p) return conn_message_frame(pool, WS_TEXT, p->data.p, p->data.len);
    size_t n = 0;
    const uint8_t *text = (const uint8_t *)p->b64.p;
    int code = mbedtls_base64_decode(NULL, 0, &n, text, p->b64.len);
    *no_memory = code == MBEDTLS_ERR_BASE64_BUFFER_TOO_SMALL;
    if (!*no_memory) return NULL;
    size_t size = n + 1;
    uint8_t *bytes = mem_alloc(pool, size);
    if (!bytes) return NULL;
    struct frame *f = NULL;
    if (mbedtls_base64_decode(bytes, n, &n, text, p->b64.len) == 0)
        f = conn_message_frame(pool, WS_BINARY, bytes, n);
    else
        *no_memory = false;
    mem_free(pool, bytes, size);
    return f;
}

static void publish(struct conn *c, const struct http_request *r, struct json *doc)
{
    struct publish p;
    if (!read_publish(doc, &p)) {
        bad_request(c, r);
        return;
    }
    bool has_data = p.data.len || p.b64.len;
    if (p.channel_len <= 0 || (size_t)p.channel_len > options.channel_max_length || !has_data) {
        fail(c, r, 107, "bad request");
        return;
    }
    if (!raw_channel_known(p.channel, (size_t)p.channel_len)) {
        fail(c, r, 102, "unknown channel");
        return;
    }
    bool no_memory;
    struct frame *f = frame_of(c, &p, &no_memory);
    if (!f && !no_memory) {
        fail(c, r, 107, "bad request");
    } else if (pubsub_publish_name(c->worker, p.channel, (size_t)p.channel_len, f,
                                   PUBSUB_NOBODY) == -1) {
        fail(c, r, 100, "internal server error");
    } else {
        reply_json(c, r, 200, "{\"result\":{}}");
    }
}

/* ---- requests ---- */

int64_t api_head(struct conn *c, const struct http_request *r)
{
    if (!http_str_is(r->path, "/api/publish")) {
        conn_http_error(c, r, 404, "no such method: POST /api/publish is served");
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
    jsmntok_t tokens[TOKENS_MAX];
    struct json doc;
    metric_add(&c->worker->metrics, METRIC_API_REQUESTS, 1);
    if (json_parse(&doc, body, len, tokens, TOKENS_MAX, 1, JSON_LONE_SURROGATES) == -1)
        bad_request(c, r);
    else
        publish(c, r, &doc);
    conn_pause_if_full(c);
}
