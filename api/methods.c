#include "api/methods.h"

#include <fnmatch.h>
#include <mbedtls/base64.h>
#include <string.h>

#include "idempotency.h"
#include "users.h"

#define HISTORY_ALL 100000 /* publications of one reply, when all are asked for */

const char *api_message(unsigned code)
{
    bool temporary;
    return code == 104 ? "not found" : ops_error_text(code, &temporary);
}

void api_put_error(struct json_out *o, unsigned code)
{
    json_puts(o, "\"error\":{\"code\":");
    json_put_uint(o, code);
    json_puts(o, ",\"message\":");
    json_put_string(o, api_message(code), strlen(api_message(code)));
    json_puts(o, "}");
}

void api_begin(struct api_call *call, size_t need)
{
    struct json_out *o = &call->o;
    if (o->full || o->cap - o->len >= need) return;
    size_t cap = o->cap * 2 > o->len + need ? o->cap * 2 : o->len + need;
    char *bigger = mem_alloc(call->w->pool, cap);
    if (!bigger) {
        o->full = true;
        return;
    }
    if (o->len) memcpy(bigger, o->p, o->len);
    mem_free(call->w->pool, o->p, o->cap);
    o->p = bigger;
    o->cap = cap;
}

/* ---- fields ---- */

bool api_optional(const struct json *doc, const char *name, enum json_type type, int *v)
{
    *v = json_member(doc, 0, name);
    if (json_type(doc, *v) == JSON_NULL) *v = JSON_NONE;
    return *v == JSON_NONE || json_type(doc, *v) == type;
}

bool api_optional_int(const struct json *doc, const char *name, int64_t *out)
{
    int v;
    return api_optional(doc, name, JSON_NUMBER, &v) && (v == JSON_NONE || json_int64(doc, v, out));
}

bool api_optional_bool(const struct json *doc, const char *name, bool *out)
{
    int v;
    return api_optional(doc, name, JSON_BOOL, &v) && (v == JSON_NONE || json_bool(doc, v, out));
}

bool api_elements(struct api_call *call, int v, struct json *sub)
{
    return json_parse_value(sub, call->doc, v, call->tokens, call->token_count, 1) == 0;
}

unsigned api_channel_name(const struct api_call *call, const struct json *doc, int v,
                          struct api_channel *name)
{
    int64_t n = json_string(doc, v, name->bytes, sizeof name->bytes);
    if (n <= 0 || (size_t)n > call->channel_max_length) return 107;
    name->len = (size_t)n;
    return namespace_of(name->bytes, name->len) ? 0 : 102;
}

unsigned api_channel_field(const struct api_call *call, struct api_channel *name)
{
    int v;
    if (!api_optional(call->doc, "channel", JSON_STRING, &v)) return API_BAD_REQUEST;
    return api_channel_name(call, call->doc, v, name);
}

/* ---- publish, broadcast ---- */

struct payload { /* what is to be published, once for all channels */
    struct message message;
    uint8_t *bytes; /* of b64data; the pool's */
    size_t size;
    bool once; /* key counts */
    struct idempotency_key key;
};

static unsigned decode_base64(struct api_call *call, struct json_slice text, struct payload *p)
{
    size_t n = 0;
    p->size = text.len + 4;
    p->bytes = mem_alloc(call->w->pool, p->size);
    if (!p->bytes) return 100;
    if (mbedtls_base64_decode(p->bytes, p->size, &n, (const uint8_t *)text.p, text.len) != 0)
        return 107;
    p->message.payload = text_of((const char *)p->bytes, n);
    p->message.is_raw = true;
    p->message.opcode = WS_BINARY;
    p->message.may_be_json = true;
    return 0;
}

static bool are_texts(struct api_call *call, int tags)
{
    struct json sub;
    if (!api_elements(call, tags, &sub)) return false;
    for (int t = json_first(&sub, 0); t != JSON_NONE; t = json_next(&sub, 0, t))
        if (json_type(&sub, t) != JSON_STRING) return false;
    return true;
}

/* with_text calls take with a string of any length, decoded, unless it is absent or empty. */
static unsigned with_text(struct api_call *call, int v, struct payload *p,
                          void (*take)(struct payload *p, const char *text, size_t len))
{
    struct json_slice text;
    if (v == JSON_NONE) return 0;
    if (json_plain(call->doc, v, &text)) {
        if (text.len) take(p, text.p, text.len);
        return 0;
    }
    const size_t size = json_raw(call->doc, v).len;
    char *decoded = mem_alloc(call->w->pool, size);
    if (!decoded) return 100;
    const int64_t n = json_string(call->doc, v, decoded, size);
    if (n > 0) take(p, decoded, (size_t)n);
    mem_free(call->w->pool, decoded, size);
    return n < 0 ? API_BAD_REQUEST : 0;
}

static void take_key(struct payload *p, const char *text, size_t len)
{
    p->once = true;
    p->key = idempotency_key(text, len);
}

static void take_version_epoch(struct payload *p, const char *text, size_t len)
{
    p->message.terms.version_epoch = pubsub_version_epoch(text, len);
}

/* read_payload checks the types of all fields; delta is known but has no effect yet. */
static unsigned read_payload(struct api_call *call, struct payload *p)
{
    const struct json *doc = call->doc;
    int b64, tags, key, version, epoch, v;
    *p = (struct payload){.message.publisher = PUBSUB_NOBODY};
    bool ok = api_optional(doc, "b64data", JSON_STRING, &b64) &&
              api_optional(doc, "tags", JSON_OBJECT, &tags) &&
              api_optional_bool(doc, "skip_history", &p->message.terms.skip_history) &&
              api_optional(doc, "delta", JSON_BOOL, &v) &&
              api_optional(doc, "idempotency_key", JSON_STRING, &key) &&
              api_optional(doc, "version_epoch", JSON_STRING, &epoch) &&
              api_optional(doc, "version", JSON_NUMBER, &version) &&
              (version == JSON_NONE || json_uint64(doc, version, &p->message.terms.version));
    if (!ok) return API_BAD_REQUEST;
    if (tags != JSON_NONE && !are_texts(call, tags)) return API_BAD_REQUEST;
    unsigned code = with_text(call, key, p, take_key);
    if (!code) code = with_text(call, epoch, p, take_version_epoch);
    if (code) return code;
    struct json_slice raw_tags = json_raw(doc, tags),
                      data = json_raw(doc, json_member(doc, 0, "data")), text;
    p->message.tags = text_of(raw_tags.p, raw_tags.len);
    p->message.payload = text_of(data.p, data.len);
    if (b64 != JSON_NONE) {
        if (!json_plain(doc, b64, &text)) return API_BAD_REQUEST;
        if (text.len) return decode_base64(call, text, p);
    }
    return data.len ? 0 : 107;
}

static void put_position(struct json_out *o, const struct channel_options *opt,
                         const struct pubsub_position *at)
{
    if (!channel_has_history(opt)) {
        json_puts(o, "{}");
        return;
    }
    json_puts(o, "{\"offset\":");
    json_put_uint(o, at->offset);
    json_puts(o, ",\"epoch\":");
    json_put_string(o, at->epoch, sizeof at->epoch);
    json_puts(o, "}");
}

static unsigned publish_now(struct worker *w, const struct api_channel *name,
                            const struct message *m, struct pubsub_position *at)
{
    return ops_publish_to(w, text_of(name->bytes, name->len), m, at) == -1 ? 100 : 0;
}

/* publish_once publishes unless a call with the same key has done so already. */
static unsigned publish_once(struct worker *w, const struct api_channel *name,
                             const struct payload *p, struct pubsub_position *at)
{
    if (!p->once) return publish_now(w, name, &p->message, at);
    const struct idempotency_id id = idempotency_id(&p->key, name->bytes, name->len);
    switch (idempotency_begin(w, &id, at)) {
    case IDEMPOTENCY_REPEAT: return 0;
    case IDEMPOTENCY_NO_MEMORY: return 100;
    case IDEMPOTENCY_FIRST: break;
    }
    unsigned code = publish_now(w, name, &p->message, at);
    idempotency_end(w, &id, code ? NULL : at);
    return code;
}

static unsigned publish_to(struct api_call *call, const struct api_channel *name,
                           const struct payload *p)
{
    struct pubsub_position at = {0};
    unsigned code = publish_once(call->w, name, p, &at);
    if (code) return code;
    api_begin(call, 128);
    put_position(&call->o, namespace_of(name->bytes, name->len), &at);
    return 0;
}

static unsigned publish(struct api_call *call)
{
    struct payload p;
    struct api_channel name;
    int v;
    if (!api_optional(call->doc, "channel", JSON_STRING, &v)) return API_BAD_REQUEST;
    unsigned code = read_payload(call, &p);
    if (code != API_BAD_REQUEST) {
        unsigned named = api_channel_name(call, call->doc, v, &name);
        if (named) code = named;
    }
    if (!code) code = publish_to(call, &name, &p);
    mem_free(call->w->pool, p.bytes, p.size);
    return code;
}

static unsigned broadcast(struct api_call *call)
{
    struct payload p;
    int channels;
    if (!api_optional(call->doc, "channels", JSON_ARRAY, &channels)) return API_BAD_REQUEST;
    struct json list;
    unsigned code = read_payload(call, &p);
    if (!code && channels == JSON_NONE) code = 107;
    if (!code && !api_elements(call, channels, &list)) code = 107;
    if (!code && json_size(&list, 0) == 0) code = 107;
    if (!code) {
        json_puts(&call->o, "{\"responses\":[");
        for (int v = json_first(&list, 0); v != JSON_NONE; v = json_next(&list, 0, v)) {
            struct api_channel name;
            if (v != json_first(&list, 0)) json_puts(&call->o, ",");
            api_begin(call, 256);
            const size_t begin = call->o.len;
            json_puts(&call->o, "{\"result\":");
            unsigned wrong = api_channel_name(call, &list, v, &name);
            if (!wrong) wrong = publish_to(call, &name, &p);
            if (wrong) {
                call->o.len = begin; /* an error stands in the result's place */
                json_puts(&call->o, "{");
                api_put_error(&call->o, wrong);
            }
            json_puts(&call->o, "}");
        }
        json_puts(&call->o, "]}");
    }
    mem_free(call->w->pool, p.bytes, p.size);
    return code;
}

/* ---- presence ---- */

struct listing {
    struct api_call *call;
    uint32_t count;
};

static void list_one(const struct subscription *s, void *arg)
{
    struct listing *l = arg;
    char id[OPS_UUID_TEXT];
    struct client_info i;
    ops_info_of(s, &i, id);
    api_begin(l->call, ops_info_size(&i));
    reply_json_presence_entry(&l->call->o, l->count++ == 0, &i);
}

static unsigned presence(struct api_call *call)
{
    struct api_channel name;
    unsigned code = api_channel_field(call, &name);
    if (code) return code;
    if (!namespace_of(name.bytes, name.len)->presence) return 108;
    struct listing l = {.call = call};
    struct channel *ch = pubsub_channel(call->w, name.bytes, name.len);
    json_puts(&call->o, "{\"presence\":{");
    if (ch) pubsub_presence(ch, list_one, &l);
    pubsub_channel_unref(ch);
    api_begin(call, 64);
    json_puts(&call->o, "}}");
    return 0;
}

static unsigned presence_stats(struct api_call *call)
{
    struct api_channel name;
    unsigned code = api_channel_field(call, &name);
    if (code) return code;
    if (!namespace_of(name.bytes, name.len)->presence) return 108;
    uint32_t clients = 0, users = 0;
    struct channel *ch = pubsub_channel(call->w, name.bytes, name.len);
    if (ch) ops_presence_stats(call->w, ch, &clients, &users);
    pubsub_channel_unref(ch);
    json_puts(&call->o, "{\"num_clients\":");
    json_put_uint(&call->o, clients);
    json_puts(&call->o, ",\"num_users\":");
    json_put_uint(&call->o, users);
    json_puts(&call->o, "}");
    return 0;
}

/* ---- history ---- */

struct wanted { /* of history */
    struct pubsub_history h;
    char epoch[USER_NAME_MAX];
    size_t epoch_len;
};

static unsigned read_wanted(struct api_call *call, struct wanted *q)
{
    const struct json *doc = call->doc;
    int64_t limit = 0;
    int since;
    *q = (struct wanted){0};
    if (!api_optional_int(doc, "limit", &limit) ||
        !api_optional_bool(doc, "reverse", &q->h.reverse) ||
        !api_optional(doc, "since", JSON_OBJECT, &since))
        return API_BAD_REQUEST;
    q->h.max = limit < 0 || limit > HISTORY_ALL ? HISTORY_ALL : (uint32_t)limit;
    if (since == JSON_NONE) return 0;
    struct json sub;
    if (!api_elements(call, since, &sub)) return API_BAD_REQUEST;
    doc = &sub;
    int offset = json_member(doc, 0, "offset"), epoch = json_member(doc, 0, "epoch");
    q->h.has_since = true;
    if (offset != JSON_NONE && !json_uint64(doc, offset, &q->h.since)) return API_BAD_REQUEST;
    if (epoch != JSON_NONE) {
        int64_t n = json_string(doc, epoch, q->epoch, sizeof q->epoch);
        if (n < 0) return API_BAD_REQUEST;
        q->epoch_len = (size_t)n;
    }
    return q->h.reverse && q->h.since == 0 ? 107 : 0;
}

static void put_history(struct api_call *call, const struct pubsub_history *h)
{
    struct json_out *o = &call->o;
    api_begin(call, 256 + ops_publications_size(h->found, h->count));
    json_puts(o, "{");
    ops_put_publications(o, h->found, h->count);
    reply_json_history_result_end(o, h->count > 0, ops_epoch(&h->top), h->top.offset);
}

static unsigned find_history(struct api_call *call, struct channel *ch, struct wanted *q)
{
    size_t size = (q->h.max + 1) * sizeof *q->h.found;
    q->h.found = mem_alloc(call->w->pool, size);
    if (!q->h.found) return 100;
    pubsub_history(call->w, ch, &q->h);
    bool other = ops_other_epoch(text_of(q->epoch, q->epoch_len), &q->h.top);
    if (!other) put_history(call, &q->h);
    for (uint32_t i = 0; i < q->h.count; i++) pubsub_publication_unref(q->h.found[i]);
    mem_free(call->w->pool, q->h.found, size);
    return other ? 112 : 0;
}

static unsigned history(struct api_call *call)
{
    struct api_channel name;
    struct wanted q;
    unsigned code = read_wanted(call, &q), named = api_channel_field(call, &name);
    if (code == API_BAD_REQUEST || named) return code == API_BAD_REQUEST ? code : named;
    const struct channel_options *opt = namespace_of(name.bytes, name.len);
    if (!channel_has_history(opt)) return 108;
    if (code) return code;
    if (q.h.max > opt->history_size) q.h.max = opt->history_size;
    struct channel *ch = pubsub_channel(call->w, name.bytes, name.len);
    code = ch ? find_history(call, ch, &q) : 100;
    pubsub_channel_unref(ch);
    return code;
}

static unsigned history_remove(struct api_call *call)
{
    struct api_channel name;
    unsigned code = api_channel_field(call, &name);
    if (code) return code;
    if (!channel_has_history(namespace_of(name.bytes, name.len))) return 108;
    struct channel *ch = pubsub_channel(call->w, name.bytes, name.len);
    if (ch) pubsub_history_remove(ch);
    pubsub_channel_unref(ch);
    json_puts(&call->o, "{}");
    return 0;
}

/* ---- channels ---- */

#define CHANNELS_BYTES_MAX (16u << 20) /* of one reply */

struct channel_list {
    struct api_call *call;
    const char *pattern; /* NULL: all */
    uint32_t count;
    bool too_many;
};

static bool list_channel(const char *name, size_t len, uint32_t subscribers, void *arg)
{
    struct channel_list *l = arg;
    struct json_out *o = &l->call->o;
    char text[PUBSUB_NAME_MAX + 1];
    memcpy(text, name, len);
    text[len] = 0;
    if (l->pattern && fnmatch(l->pattern, text, 0) != 0) return true;
    l->too_many = o->len > CHANNELS_BYTES_MAX;
    if (l->too_many) return false;
    api_begin(l->call, len * 6 + 64);
    if (l->count++) json_puts(o, ",");
    json_put_string(o, name, len);
    json_puts(o, ":{\"num_clients\":");
    json_put_uint(o, subscribers);
    json_puts(o, "}");
    return true;
}

/* has_few_stars: fnmatch's time is bounded by the name's length to the power of these. */
static bool has_few_stars(const char *pattern)
{
    unsigned n = 0;
    for (const char *p = pattern; *p; p++) n += *p == '*' && p[1] != '*';
    return n <= 4;
}

static unsigned channels(struct api_call *call)
{
    char pattern[PUBSUB_NAME_MAX + 1];
    struct channel_list l = {.call = call};
    int v;
    if (!api_optional(call->doc, "pattern", JSON_STRING, &v)) return API_BAD_REQUEST;
    int64_t n = v == JSON_NONE ? 0 : json_string(call->doc, v, pattern, sizeof pattern - 1);
    if (n < 0 || memchr(pattern, 0, (size_t)n)) return 107;
    pattern[n] = 0;
    if (n && !has_few_stars(pattern)) return 107;
    if (n) l.pattern = pattern;
    json_puts(&call->o, "{\"channels\":{");
    if (pubsub_each_channel(list_channel, &l) == -1) return 100;
    api_begin(call, 64);
    json_puts(&call->o, "}}");
    return l.too_many ? 106 : 0;
}

/* There is no backend that could serve it: no method is known. */
static unsigned rpc(struct api_call *call)
{
    int v;
    if (!api_optional(call->doc, "method", JSON_STRING, &v)) return API_BAD_REQUEST;
    return v == JSON_NONE ? 107 : 104;
}

/* ---- the table ---- */

unsigned api_run_method(struct api_call *call, const struct api_method *m)
{
    struct trace *t = call->w->trace;
    if (!t || m->scope != API_PUBLISH) return m->run(call);
    struct trace_span *s = trace_begin(t, TRACE_MESSAGE, call->has_parent ? &call->parent : NULL);
    if (s) {
        s->via = "api";
        s->bytes = call->doc->len;
    }
    const unsigned code = m->run(call);
    trace_end(t, code);
    return code;
}

bool api_permits(enum api_scope scope, const struct api_method *m)
{
    return (scope & m->scope) == m->scope;
}

static const struct api_method methods[] = {
    {"publish", publish, API_PUBLISH, true},
    {"broadcast", broadcast, API_PUBLISH, true},
    {"subscribe", api_subscribe, API_MANAGE, true},
    {"unsubscribe", api_unsubscribe, API_MANAGE, true},
    {"disconnect", api_disconnect, API_MANAGE, true},
    {"refresh", api_refresh, API_MANAGE, true},
    {"rebalance", api_rebalance, API_MANAGE, true},
    {"presence", presence, API_READ, false},
    {"presence_stats", presence_stats, API_READ, false},
    {"history", history, API_READ, false},
    {"history_remove", history_remove, API_MANAGE, true},
    {"channels", channels, API_READ, false},
    {"connections", api_connections, API_READ, false},
    {"info", api_info, API_READ, false},
    {"rpc", rpc, API_MANAGE, false},
    {"batch", api_batch, 0, false}, /* its commands are looked at one by one */
};
#define METHODS (sizeof methods / sizeof *methods)
_Static_assert(METHODS <= METRIC_API_METHODS, "each has its counters");

const struct api_method *api_method_find(const char *name, size_t len)
{
    for (size_t i = 0; i < METHODS; i++)
        if (strlen(methods[i].name) == len && memcmp(methods[i].name, name, len) == 0)
            return &methods[i];
    return NULL;
}

unsigned api_method_index(const struct api_method *m)
{
    return (unsigned)(m - methods);
}

const char *api_method_name(unsigned i)
{
    return i < METHODS ? methods[i].name : NULL;
}
