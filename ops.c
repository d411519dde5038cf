#include "ops.h"

#include <errno.h>
#include <mbedtls/base64.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "tls.h"
#include "trace.h"
#include "users.h"

#define HEAD_ROOM                                                                                  \
    10 /* the longest header of an unmasked frame: written in front once the length is known */

/* ---- encodings ---- */

/* finish completes a JSON push now that the offset is known: the end, and the frame header before
 * it. Under the channel's lock: some stores. */
static void finish(struct publication *p)
{
    struct encoded *e = &p->as[ENCODING_JSON];
    if (!e->frame) return;
    struct frame *f = e->frame;
    struct json_out o = {.p = (char *)f->bytes, .cap = f->size - sizeof *f, .len = f->len};
    push_json_pub_end(&o, p->offset);
    p->object_len = (uint32_t)o.len - 2 - p->object_at;
    struct ws_head h = {.opcode = WS_TEXT, .fin = true, .payload_len = o.len - HEAD_ROOM};
    uint8_t head[WS_HEAD_MAX];
    size_t n = ws_head_write(head, &h);
    e->from = (uint32_t)(HEAD_ROOM - n);
    memcpy(f->bytes + e->from, head, n);
    f->len = (uint32_t)o.len;
}

/* json_data gives what SDK clients get as data of a raw message (design.md 3.2): a text that is one
 * JSON value as it is, any other as a JSON string, a binary one as base64. *scratch is what was
 * allocated for it. */
struct json_data {
    struct text data, tags;
    char *scratch;
    size_t size;
};

static bool as_json_string(struct worker *w, struct text in, bool base64, struct json_data *out)
{
    out->size = base64 ? (in.len + 2) / 3 * 4 + 3 : in.len * 6 + 2;
    out->scratch = mem_alloc(w->pool, out->size);
    if (!out->scratch) return false;
    struct json_out o = {.p = out->scratch, .cap = out->size};
    if (base64) {
        size_t n = 0;
        json_puts(&o, "\"");
        mbedtls_base64_encode((uint8_t *)o.p + 1, o.cap - 1, &n, (const uint8_t *)in.p, in.len);
        o.len += n;
        json_puts(&o, "\"");
        out->tags = text_of("{\"encoding\":\"base64\"}", 21);
    } else {
        json_put_string(&o, in.p, in.len);
    }
    out->data = text_of(o.p, o.len);
    return !o.full;
}

static bool json_data_of(struct worker *w, const struct message *m, struct json_data *out)
{
    *out = (struct json_data){.data = m->payload, .tags = m->tags};
    if (!m->is_raw) return true;
    if ((m->opcode == WS_TEXT || m->may_be_json) &&
        json_check(m->payload.p, m->payload.len, JSON_LONE_SURROGATES, NULL, NULL))
        return true;
    return as_json_string(w, m->payload, m->opcode == WS_BINARY, out);
}

size_t ops_info_size(const struct client_info *i)
{
    return i ? i->user.len * 6 + i->client.len * 2 + i->conn_info.len + i->chan_info.len + 128 : 0;
}

/* encode_json writes the push but for its end, with room for a header in front. */
static bool encode_json(struct worker *w, const struct channel *ch, const struct message *m,
                        struct publication *p)
{
    struct json_data d;
    size_t name_len;
    const char *name = pubsub_name(ch, &name_len);
    bool ok = json_data_of(w, m, &d);
    size_t cap = HEAD_ROOM + 64 + name_len * 6 + d.data.len + d.tags.len + ops_info_size(m->info) +
                 PUSH_PUB_END;
    struct frame *f = ok ? frame_new(w->pool, (uint32_t)cap) : NULL;
    if (f) {
        struct json_out o = {.p = (char *)f->bytes, .cap = cap - PUSH_PUB_END, .len = HEAD_ROOM};
        struct publication_view v = {.data = d.data, .info = m->info, .tags = d.tags};
        p->object_at = (uint32_t)push_json_pub(&o, text_of(name, name_len), &v);
        f->len = (uint32_t)o.len;
        p->as[ENCODING_JSON].frame = f;
        p->finish = finish;
        ok = !o.full;
    }
    mem_free(w->pool, d.scratch, d.size);
    return f && ok;
}

static bool encode_raw(struct worker *w, const struct message *m, struct publication *p)
{
    enum ws_opcode opcode = m->is_raw ? m->opcode : WS_TEXT;
    p->as[ENCODING_RAW].frame = conn_message_frame(w->pool, opcode, m->payload.p, m->payload.len);
    return p->as[ENCODING_RAW].frame;
}

static bool encode(struct worker *w, const struct channel *ch, const struct message *m,
                   struct publication *p, unsigned encodings)
{
    if (encodings & 1u << ENCODING_RAW && !encode_raw(w, m, p)) return false;
    return !(encodings & 1u << ENCODING_JSON) || encode_json(w, ch, m, p);
}

int ops_publish(struct worker *w, struct channel *ch, const struct message *m,
                struct pubsub_position *at)
{
    if (!ch) { /* nobody listens, and nothing is kept */
        metric_add(&w->metrics, METRIC_PUBLISHED, 1);
        return 0;
    }
    struct publication *p = pubsub_publication(w, PUBLICATION_MESSAGE, m->publisher);
    if (!p) return -1;
    unsigned lacks = pubsub_wanted(ch);
    do { /* again only if somebody with another encoding has come meanwhile */
        if (lacks == PUBSUB_NO_MEMORY || !encode(w, ch, m, p, lacks)) {
            pubsub_discard(p);
            metric_add(&w->metrics, METRIC_REFUSED_MEMORY, 1);
            return -1;
        }
        lacks = pubsub_publish(w, ch, p, &m->terms, at);
        if (lacks == PUBSUB_OUTDATED) {
            pubsub_discard(p);
            metric_add(&w->metrics, METRIC_OUTDATED, 1);
            return 0;
        }
    } while (lacks);
    return 0;
}

int ops_publish_to(struct worker *w, struct text channel, const struct message *m,
                   struct pubsub_position *at)
{
    if (w->trace) trace_about(w->trace, channel.p, channel.len);
    struct channel *ch = pubsub_channel(w, channel.p, channel.len);
    if (!ch && errno) {
        const bool full = errno == ENOSPC;
        metric_add(&w->metrics, full ? METRIC_REFUSED_CHANNELS : METRIC_REFUSED_MEMORY, 1);
        if (full)
            log_seldom(10, LOG_WARN, "limit met: not published", LOG_STR("limit", "channel.limit"));
        return -1;
    }
    int failed = ops_publish(w, ch, m, at);
    pubsub_channel_unref(ch);
    return failed;
}

/* ---- joins and leaves ---- */

void ops_membership(struct worker *w, struct channel *ch, bool joined,
                    const struct client_info *info)
{
    if (!(pubsub_wanted(ch) & 1u << ENCODING_JSON)) return;
    struct publication *p = pubsub_publication(w, PUBLICATION_MEMBERSHIP, PUBSUB_NOBODY);
    if (!p) return;
    size_t name_len;
    const char *name = pubsub_name(ch, &name_len);
    size_t cap = 128 + name_len * 6 + ops_info_size(info);
    char *text = mem_alloc(w->pool, cap);
    struct json_out o = {.p = text, .cap = text ? cap : 0};
    if (joined)
        push_json_join(&o, text_of(name, name_len), info);
    else
        push_json_leave(&o, text_of(name, name_len), info);
    if (!o.full) p->as[ENCODING_JSON].frame = conn_message_frame(w->pool, WS_TEXT, text, o.len);
    mem_free(w->pool, text, cap);
    if (!p->as[ENCODING_JSON].frame || pubsub_publish(w, ch, p, NULL, NULL)) pubsub_discard(p);
}

/* ---- presence ---- */

struct names {   /* of users, copied while the channel's lock is held */
    char *bytes; /* a length and so many bytes each */
    size_t len, cap;
    uint32_t count;
    bool full;
};

static void collect(const struct subscription *s, void *arg)
{
    struct names *n = arg;
    const struct user *u = s->conn->user;
    if (n->cap - n->len < (size_t)u->len + 1) {
        n->full = true;
        return;
    }
    n->bytes[n->len] = (char)u->len;
    memcpy(n->bytes + n->len + 1, u->name, u->len);
    n->len += (size_t)u->len + 1;
    n->count++;
}

static int by_name(const void *a, const void *b)
{
    const uint8_t *x = *(const uint8_t *const *)a, *y = *(const uint8_t *const *)b;
    return x[0] != y[0] ? x[0] - y[0] : memcmp(x + 1, y + 1, x[0]);
}

static uint32_t distinct(struct worker *w, const struct names *n)
{
    size_t size = (n->count + 1) * sizeof(const char *);
    const char **sorted = mem_alloc(w->pool, size);
    uint32_t users = 0, i = 0;
    if (!sorted) return n->count;
    for (size_t at = 0; at < n->len; at += (size_t)(uint8_t)n->bytes[at] + 1)
        sorted[i++] = n->bytes + at;
    qsort(sorted, n->count, sizeof *sorted, by_name);
    for (i = 0; i < n->count; i++) users += i == 0 || by_name(&sorted[i - 1], &sorted[i]) != 0;
    mem_free(w->pool, sorted, size);
    return users;
}

void ops_presence_stats(struct worker *w, struct channel *ch, uint32_t *clients, uint32_t *users)
{
    struct names n = {.cap = 4096};
    do { /* again with more room if it was too little */
        n = (struct names){.cap = n.cap * 4, .bytes = mem_alloc(w->pool, n.cap * 4)};
        if (!n.bytes) break;
        pubsub_presence(ch, collect, &n);
        if (!n.full) break;
        mem_free(w->pool, n.bytes, n.cap);
        n.bytes = NULL;
    } while (n.cap < (64u << 20));
    *clients = n.bytes ? n.count : pubsub_presence_count(ch);
    *users = n.bytes ? distinct(w, &n) : 0;
    mem_free(w->pool, n.bytes, n.cap);
}

static struct text text_of_frame(const struct frame *f)
{
    return f ? text_of((const char *)f->bytes, f->len) : (struct text){0};
}

void ops_info_of(const struct subscription *s, struct client_info *i, char id[static OPS_UUID_TEXT])
{
    const struct user *u = s->conn->user;
    *i = (struct client_info){.user = text_of(u->name, u->len),
                              .client = ops_uuid_text(s->client_id, id),
                              .conn_info = text_of_frame(s->conn_info),
                              .chan_info = text_of_frame(s->chan_info)};
}

/* ---- what replies are made of ---- */

struct text ops_publication_object(const struct publication *p)
{
    const char *bytes = (const char *)p->as[ENCODING_JSON].frame->bytes;
    return text_of(bytes + p->object_at, p->object_len);
}

void ops_put_publications(struct json_out *o, struct publication *const *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        reply_json_publication_object(o, i == 0, ops_publication_object(list[i]));
}

size_t ops_publications_size(struct publication *const *list, uint32_t count)
{
    size_t n = 64; /* the array around them */
    for (uint32_t i = 0; i < count; i++) n += list[i]->object_len + 1;
    return n;
}

bool ops_other_epoch(struct text epoch, const struct pubsub_position *at)
{
    return epoch.len &&
           (epoch.len != sizeof at->epoch || memcmp(epoch.p, at->epoch, epoch.len) != 0);
}

uint32_t ops_left_s(int64_t end_s)
{
    const int64_t year_s = 365 * 86400, now_s = (int64_t)time(NULL);
    if (end_s <= now_s) return 0;
    return end_s - now_s > year_s ? (uint32_t)year_s : (uint32_t)(end_s - now_s);
}

const char *ops_error_text(uint32_t code, bool *temporary)
{
    *temporary = code == 100 || code == 111;
    switch (code) {
    case 102: return "unknown channel";
    case 103: return "permission denied";
    case 104: return "method not found";
    case 105: return "already subscribed";
    case 106: return "limit exceeded";
    case 107: return "bad request";
    case 108: return "not available";
    case 109: return "token expired";
    case 110: return "expired";
    case 111: return "too many requests";
    case 112: return "unrecoverable position";
    default: *temporary = true; return "internal server error";
    }
}

/* ---- client ids ---- */

void ops_uuid_make(uint8_t id[static 16])
{
    random_bytes(id, 16);
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40); /* version 4 */
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
}

struct text ops_uuid_text(const uint8_t id[static 16], char out[static OPS_UUID_TEXT])
{
    static const char hex[] = "0123456789abcdef";
    char *to = out;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) *to++ = '-';
        *to++ = hex[id[i] >> 4];
        *to++ = hex[id[i] & 15];
    }
    return text_of(out, OPS_UUID_TEXT);
}

bool ops_uuid_read(struct text s, uint8_t id[static 16])
{
    static const char hex[] = "0123456789abcdef";
    size_t at = 0;
    if (s.len != OPS_UUID_TEXT) return false;
    for (size_t i = 0; i < 32; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20)
            if (s.p[at++] != '-') return false;
        const char *digit = memchr(hex, s.p[at++], 16);
        if (!digit) return false;
        const unsigned value = (unsigned)(digit - hex);
        id[i / 2] = (uint8_t)(i % 2 ? id[i / 2] | value : value << 4);
    }
    return true;
}
