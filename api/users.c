/* The methods that act on the connections of a user: each worker does its part, then the call is
 * answered. */
#include "api/methods.h"

#include <inttypes.h>
#include <mbedtls/base64.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client.h"
#include "worker_errand.h"

#define WHITELIST_MAX 1024
#define REASON_MAX 123 /* RFC 6455 section 5.5.1 */

struct user_call { /* what is asked, copied: the request is gone when other workers look */
    struct errand errand;
    struct api_call *call;
    struct mem_pool *pool;
    size_t size; /* as asked of pool */
    void (*act)(struct conn *c, struct user_call *u);
    bool raw_too; /* raw connections as well */
    bool nobody;  /* what it is narrowed to can not be anybody */
    struct text user, id;
    struct client_grant grant; /* and for refresh: its info and expires_s */
    unsigned code;             /* of disconnect */
    const char *reason;
    struct text whitelist;   /* ids, each with a newline behind it */
    _Atomic unsigned failed; /* relaxed; the first error code of any worker */
    size_t used;             /* of bytes */
    char bytes[];            /* what the texts point into: as long as the request */
};

/* ---- reading a request ---- */

static struct user_call *new_call(struct api_call *call,
                                  void (*act)(struct conn *, struct user_call *))
{
    struct json_slice all = json_raw(call->doc, 0);
    const size_t size = sizeof(struct user_call) + all.len + 1;
    struct user_call *u = mem_alloc(call->w->pool, size);
    if (!u) return NULL;
    *u = (struct user_call){.call = call, .pool = call->w->pool, .size = size, .act = act};
    u->grant.override = (struct jwt_override){-1, -1, -1, -1, -1};
    return u;
}

static void free_call(struct user_call *u)
{
    mem_free(u->pool, u, u->size);
}

/* keep copies bytes; they fit, since each is a part of the request and kept once. */
static struct text keep(struct user_call *u, const char *p, size_t n)
{
    char *to = u->bytes + u->used;
    memcpy(to, p, n);
    u->used += n;
    return text_of(to, n);
}

/* text_field decodes a string, absent is empty. */
static bool text_field(struct user_call *u, const struct json *doc, const char *name,
                       struct text *out)
{
    int v;
    *out = text_of(u->bytes + u->used, 0);
    if (!api_optional(doc, name, JSON_STRING, &v)) return false;
    if (v == JSON_NONE) return true;
    int64_t n = json_string(doc, v, u->bytes + u->used, u->size - sizeof *u - u->used);
    if (n < 0) return false;
    out->len = (size_t)n;
    u->used += (size_t)n;
    return true;
}

/* json_field keeps a member's raw JSON, or what its b64 twin decodes to, if that is JSON. */
static bool json_field(struct user_call *u, const char *name, const char *b64_name,
                       struct text *out)
{
    const struct json *doc = u->call->doc;
    struct json_slice raw = json_raw(doc, json_member(doc, 0, name));
    struct text b64;
    size_t n = 0;
    if (!text_field(u, doc, b64_name, &b64)) return false;
    *out = (struct text){0};
    if (!b64.len) {
        if (raw.len && !(raw.len == 4 && memcmp(raw.p, "null", 4) == 0))
            *out = keep(u, raw.p, raw.len);
        return true;
    }
    /* in place: three bytes for four */
    char *to = u->bytes + (b64.p - u->bytes);
    if (mbedtls_base64_decode((uint8_t *)to, b64.len, &n, (const uint8_t *)b64.p, b64.len) != 0)
        return false;
    *out = text_of(to, n);
    return json_check(to, n, JSON_LONE_SURROGATES, NULL, NULL);
}

/* read_who reads whose connections are meant: user, absent = the anonymous ones, narrowed by client
 * and session. There are no sessions here, so whoever asks for one means nobody. */
static bool read_who(struct user_call *u)
{
    const struct json *doc = u->call->doc;
    struct text session;
    if (!text_field(u, doc, "user", &u->user) || !text_field(u, doc, "client", &u->id) ||
        !text_field(u, doc, "session", &session))
        return false;
    u->nobody = session.len > 0;
    return true;
}

static unsigned read_channel(struct user_call *u)
{
    struct api_channel name;
    unsigned code = api_channel_field(u->call, &name);
    if (!code) u->grant.channel = keep(u, name.bytes, name.len);
    return code;
}

static bool read_flag(const struct json *doc, const char *name, int8_t *out)
{
    int v, value = JSON_NONE;
    bool yes;
    if (!api_optional(doc, name, JSON_OBJECT, &v)) return false;
    if (v == JSON_NONE) return true;
    value = json_member(doc, v, "value");
    if (value == JSON_NONE) return *out = 0, true; /* {"value":false} without its zero */
    if (!json_bool(doc, value, &yes)) return false;
    *out = yes;
    return true;
}

static bool read_override(struct user_call *u)
{
    struct api_call *call = u->call;
    struct jwt_override *over = &u->grant.override;
    struct json doc;
    int v;
    if (!api_optional(call->doc, "override", JSON_OBJECT, &v)) return false;
    if (v == JSON_NONE) return true;
    return json_parse_value(&doc, call->doc, v, call->tokens, call->token_count, 2) == 0 &&
           read_flag(&doc, "presence", &over->presence) &&
           read_flag(&doc, "join_leave", &over->join_leave) &&
           read_flag(&doc, "force_push_join_leave", &over->force_push_join_leave) &&
           read_flag(&doc, "force_recovery", &over->force_recovery) &&
           read_flag(&doc, "force_positioning", &over->force_positioning);
}

static bool read_recover(struct user_call *u)
{
    struct api_call *call = u->call;
    struct json doc;
    int v, offset;
    if (!api_optional(call->doc, "recover_since", JSON_OBJECT, &v)) return false;
    if (v == JSON_NONE) return true;
    if (!api_elements(call, v, &doc) || !api_optional(&doc, "offset", JSON_NUMBER, &offset) ||
        !text_field(u, &doc, "epoch", &u->grant.from.epoch))
        return false;
    u->grant.recover = true;
    return offset == JSON_NONE || json_uint64(&doc, offset, &u->grant.from.offset);
}

/* ---- doing it ---- */

static bool is_listed(struct text list, struct text id)
{
    for (const char *p = list.p, *end = list.p + list.len; p < end;) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        if ((size_t)(eol - p) == id.len && memcmp(p, id.p, id.len) == 0) return true;
        p = eol + 1;
    }
    return false;
}

static void one_client(struct conn *c, void *arg)
{
    struct user_call *u = arg;
    char text[OPS_UUID_TEXT];
    if (c->state != CONN_OPEN || (u->id.len && !client_has_id(c, u->id))) return;
    if (u->whitelist.len && is_listed(u->whitelist, client_id(c, text))) return;
    u->act(c, u);
}

struct text api_connection_id(const struct conn *c, char out[static API_ID_MAX])
{
    if (c->protocol == CONN_CLIENT) return client_id(c, out);
    int n = snprintf(out, API_ID_MAX, "%s-%u-%" PRIu32, c->protocol == CONN_RAW ? "raw" : "echo",
                     c->worker->index, c->id);
    return text_of(out, (size_t)n);
}

/* raw_connections looks through all connections of the worker: those of a user are not listed
 * anywhere, which would cost every raw connection memory. One that is closed keeps its place until
 * the turn ends. */
static void raw_connections(struct worker *w, const struct user *who, struct user_call *u)
{
    char id[API_ID_MAX];
    for (uint32_t i = 0; i < w->conns.count; i++) {
        struct conn *c = w->conns.items[i];
        if (c->user != who || c->state != CONN_OPEN || c->protocol == CONN_CLIENT) continue;
        struct text own = api_connection_id(c, id);
        if (u->id.len && !(own.len == u->id.len && memcmp(own.p, u->id.p, own.len) == 0)) continue;
        if (u->whitelist.len && is_listed(u->whitelist, own)) continue;
        u->act(c, u);
    }
}

static void run(struct worker *w, struct errand *e)
{
    struct user_call *u = (struct user_call *)(void *)e;
    const struct user *who = users_find(w, u->user.p, u->user.len);
    if (!who || u->nobody) return;
    users_each(w, who, one_client, u);
    if (u->raw_too) raw_connections(w, who, u);
}

static void done(struct worker *w, struct errand *e)
{
    struct user_call *u = (struct user_call *)(void *)e;
    struct api_call *call = u->call;
    unsigned code = atomic_load_explicit(&u->failed, memory_order_relaxed);
    free_call(u);
    if (w && !code) json_puts(&call->o, "{}");
    call->finished(call, w ? code : API_ABANDONED);
}

/* start sends the call to all workers, or answers what is wrong with it. */
static unsigned start(struct user_call *u, unsigned code)
{
    if (code) {
        free_call(u);
        return code;
    }
    u->errand.run = run;
    u->errand.done = done;
    worker_errand_start(u->call->w, &u->errand);
    return API_LATER;
}

/* ---- the methods ---- */

static void fail(struct user_call *u, unsigned code)
{
    unsigned none = 0;
    (void)atomic_compare_exchange_strong_explicit(&u->failed, &none, code, memory_order_relaxed,
                                                  memory_order_relaxed);
}

static void subscribe_one(struct conn *c, struct user_call *u)
{
    const unsigned code = client_grant(c, &u->grant);
    if (code) fail(u, code);
}

unsigned api_subscribe(struct api_call *call)
{
    struct user_call *u = new_call(call, subscribe_one);
    if (!u) return 100;
    bool ok = read_who(u) && json_field(u, "info", "b64info", &u->grant.info) &&
              json_field(u, "data", "b64data", &u->grant.data) &&
              api_optional_int(call->doc, "expire_at", &u->grant.expires_s) && read_override(u) &&
              read_recover(u);
    unsigned code = ok ? read_channel(u) : API_BAD_REQUEST;
    if (!code && u->grant.expires_s && u->grant.expires_s <= (int64_t)time(NULL)) code = 107;
    return start(u, code);
}

static void unsubscribe_one(struct conn *c, struct user_call *u)
{
    client_revoke(c, u->grant.channel);
}

unsigned api_unsubscribe(struct api_call *call)
{
    struct user_call *u = new_call(call, unsubscribe_one);
    if (!u) return 100;
    return start(u, read_who(u) ? read_channel(u) : API_BAD_REQUEST);
}

static void disconnect_one(struct conn *c, struct user_call *u)
{
    conn_close(c, u->code, u->reason);
}

static bool read_whitelist(struct user_call *u)
{
    struct api_call *call = u->call;
    struct json list;
    int v;
    if (!api_optional(call->doc, "whitelist", JSON_ARRAY, &v)) return false;
    if (v == JSON_NONE) return true;
    if (!api_elements(call, v, &list) || json_size(&list, 0) > WHITELIST_MAX) return false;
    u->whitelist = text_of(u->bytes + u->used, 0);
    for (v = json_first(&list, 0); v != JSON_NONE; v = json_next(&list, 0, v)) {
        int64_t n = json_string(&list, v, u->bytes + u->used, u->size - sizeof *u - u->used);
        if (n < 0) return false;
        u->used += (size_t)n;
        u->bytes[u->used++] = '\n'; /* instead of the quotes around it */
    }
    u->whitelist.len = (size_t)(u->bytes + u->used - u->whitelist.p);
    return true;
}

/* read_code: a reason that is empty or JSON would be taken by SDKs for something else than the code
 * says (protocol.md 1.7), so it is refused. */
static unsigned read_code(struct user_call *u)
{
    struct json doc;
    struct text reason;
    int v;
    int64_t code = 3503;
    u->code = 3503;
    u->reason = "force disconnect";
    if (!api_optional(u->call->doc, "disconnect", JSON_OBJECT, &v)) return API_BAD_REQUEST;
    if (v == JSON_NONE) return 0;
    if (!api_elements(u->call, v, &doc) || !api_optional_int(&doc, "code", &code) ||
        !text_field(u, &doc, "reason", &reason))
        return API_BAD_REQUEST;
    if (code < 3000 || code > 4999 || !reason.len || reason.len > REASON_MAX ||
        memchr(reason.p, 0, reason.len) || json_check(reason.p, reason.len, 0, NULL, NULL))
        return 107;
    u->code = (unsigned)code;
    u->reason = reason.p;
    u->bytes[u->used++] = 0; /* instead of the quotes around it */
    return 0;
}

unsigned api_disconnect(struct api_call *call)
{
    struct user_call *u = new_call(call, disconnect_one);
    if (!u) return 100;
    u->raw_too = true;
    return start(u, read_who(u) && read_whitelist(u) ? read_code(u) : API_BAD_REQUEST);
}

static void refresh_one(struct conn *c, struct user_call *u)
{
    if (u->code)
        conn_close(c, u->code, u->reason);
    else if (!client_extend(c, u->grant.expires_s, u->grant.info))
        fail(u, 100);
}

unsigned api_refresh(struct api_call *call)
{
    bool expired = false;
    struct user_call *u = new_call(call, refresh_one);
    if (!u) return 100;
    bool ok = read_who(u) && json_field(u, "info", "b64info", &u->grant.info) &&
              api_optional_bool(call->doc, "expired", &expired) &&
              api_optional_int(call->doc, "expire_at", &u->grant.expires_s);
    if (expired || (u->grant.expires_s && u->grant.expires_s <= (int64_t)time(NULL))) {
        u->code = 3005;
        u->reason = "connection expired";
    }
    return start(u, ok ? 0 : API_BAD_REQUEST);
}
