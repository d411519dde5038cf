#include "client.h"

#include <string.h>

#include "heartbeat.h"
#include "user_limit.h"
#include "users.h"

#define LINES_MAX (128u * 1024) /* replies gathered into one message up to this size */
#define FIRST_OUT 4096
#define TURN_US 5000 /* a turn that has lasted so long gives a client no second long command */

void client_init(const struct client_options *o)
{
    static struct client_options first;
    first = *o;
    settings_first.of[SETTINGS_CLIENT] = &first;
    client_table_init();
}

/* ---- answers ---- */

void client_flush(struct session *s)
{
    if (s->len) conn_send(s->c, WS_TEXT, s->out, s->len);
    s->len = 0;
}

static bool reserve(struct session *s, size_t need)
{
    size_t cap = s->cap;
    while (cap < s->len + need) cap *= 2;
    if (cap == s->cap) return true;
    char *bigger = mem_alloc(s->w->pool, cap);
    if (!bigger) return false;
    memcpy(bigger, s->out, s->len);
    mem_free(s->w->pool, s->out, s->cap);
    s->out = bigger;
    s->cap = cap;
    return true;
}

/* client_more makes room for need bytes more in a line that is being written. */
void client_more(struct session *s, struct json_out *o, size_t need)
{
    if (o->full || o->cap - o->len >= need) return;
    size_t before = s->len;
    s->len = o->len;
    if (!reserve(s, need)) o->full = true;
    s->len = before;
    o->p = s->out;
    o->cap = s->cap;
}

/* protocol.md 1.2: lines of one message are joined by exactly one newline. */
struct json_out client_line(struct session *s, size_t need)
{
    if (s->len && s->len + need > LINES_MAX) client_flush(s);
    if (s->c->state != CONN_OPEN || !reserve(s, need + 1)) return (struct json_out){.full = true};
    struct json_out o = {.p = s->out, .cap = s->cap, .len = s->len};
    if (o.len) json_puts(&o, "\n");
    return o;
}

void client_line_end(struct session *s, const struct json_out *o)
{
    if (s->c->state != CONN_OPEN) return;
    if (o->full)
        client_close(s, 3004);
    else
        s->len = o->len;
}

static void see_refusal(struct session *s, uint32_t code, const char *message)
{
    struct text channel = s->command ? s->command->channel : (struct text){0};
    conn_see(s->c, &(struct conn_sight){.kind = SIGHT_REFUSED,
                                        .channel = channel.len ? channel.p : NULL,
                                        .channel_len = channel.len,
                                        .user = s->c->user ? NULL : s->user.p,
                                        .user_len = s->user.len,
                                        .code = code,
                                        .text = message});
}

void client_error(struct session *s, uint32_t id, uint32_t code)
{
    bool temporary;
    const char *message = ops_error_text(code, &temporary);
    metric_reply_error(&s->w->metrics, s->method, code);
    if (conn_watched(s->c)) see_refusal(s, code, message);
    struct json_out o = client_line(s, 128);
    reply_json_error(&o, id, code, message, temporary);
    client_line_end(s, &o);
}

static const char *reason_of(unsigned code)
{
    switch (code) {
    case 3004: return "internal server error";
    case 3005: return "connection expired";
    case 3010: return "insufficient state";
    case 3013: return "too many requests";
    case 3500: return "invalid token";
    case 3501: return "bad request";
    case 3502: return "stale";
    case 3504: return "connection limit";
    case 3505: return "channel limit";
    case 3506: return "inappropriate protocol";
    case 3507: return "permission denied";
    case 3508: return "not available";
    default: return "closed";
    }
}

void client_close(struct session *s, unsigned code)
{
    if (s->c->state != CONN_OPEN) return;
    client_flush(s);
    conn_close(s->c, code, reason_of(code));
}

static void empty_reply(struct session *s, const struct command *m)
{
    struct json_out o = client_line(s, 64);
    reply_json_empty(&o, m->id, m->method);
    client_line_end(s, &o);
}

/* ---- opening ---- */

static bool offers(const struct http_request *r, const char *name)
{
    const struct http_str *line;
    for (size_t n = 0; (line = http_header(r, "Sec-WebSocket-Protocol", n)); n++)
        if (http_list_has(*line, name)) return true;
    return false;
}

static bool query_is(const struct http_request *r, const char *name, const char *value)
{
    struct http_str v;
    return http_query_get(r->query, name, &v) && http_str_is(v, value);
}

static bool has_limits(void)
{
    return client_options()->limits.commands || client_options()->limits.publications;
}

static void free_client(struct worker *w, struct client *k)
{
    if (k->phase == CLIENT_CONNECTED)
        mem_free(w->pool, k->rate, sizeof *k->rate);
    else
        frame_unref(k->token, 1);
    frame_unref(k->info, 1);
    client_table_close(w, k);
    mem_free(w->pool, k, sizeof *k);
}

static struct client *new_client(struct worker *w, const struct auth *a)
{
    struct client *k = mem_zalloc(w->pool, sizeof *k);
    if (!k) return NULL;
    ops_uuid_make(k->id);
    /* nothing is kept for who has shown no good token: claims are those of a verified one */
    bool verified = a->has_token && a->claims.payload_json.p;
    k->bad_token = a->has_token && !verified;
    if (!verified) return k;
    k->token = client_keep(w, text_of(a->token.p, a->token.len));
    if (k->token) return k;
    free_client(w, k);
    return NULL;
}

void client_open(struct conn *c, const struct http_request *r, const struct auth *a)
{
    bool protobuf = offers(r, "centrifuge-protobuf");
    struct client *k = new_client(c->worker, a);
    if (!k) {
        metric_add(&c->worker->metrics, METRIC_REFUSED_MEMORY, 1);
        conn_http_error(c, r, 503, "out of memory");
        return;
    }
    c->channel = k;
    c->sub_index = USER_NONE;
    if (protobuf || query_is(r, "format", "protobuf") || query_is(r, "cf_protocol", "protobuf"))
        k->phase = CLIENT_PROTOBUF;
    k->ws_pings = query_is(r, "cf_ws_frame_ping_pong", "true");
    conn_upgrade(c, r, CONN_CLIENT,
                 protobuf                       ? "centrifuge-protobuf"
                 : offers(r, "centrifuge-json") ? "centrifuge-json"
                                                : NULL);
    if (c->state == CONN_OPEN) {
        conn_arm(c, CONN_DEADLINE_HEARTBEAT, client_options()->stale_ms);
        return;
    }
    free_client(c->worker, k);
    c->channel = NULL;
}

static void closed(struct conn *c)
{
    struct client *k = client_of(c);
    if (!k) return;
    if (c->sub_index != USER_NONE) users_leave(c);
    user_limit_leave(c);
    client_end_all(c);
    metric_client_left(&c->worker->metrics, k->name);
    c->channel = NULL;
    free_client(c->worker, k);
}

struct text client_id(const struct conn *c, char out[static OPS_UUID_TEXT])
{
    return ops_uuid_text(client_of(c)->id, out);
}

bool client_has_id(const struct conn *c, struct text id)
{
    char text[OPS_UUID_TEXT];
    return client_same(id, client_id(c, text));
}

uint32_t client_channel_count(const struct conn *c)
{
    return client_of(c)->count;
}

/* ---- channels ---- */

/* named finds a command's channel and its options; answers when there are none (protocol.md 2.4:
 * 3501, 102, 107). */
static const struct channel_options *named(struct session *s, const struct command *m)
{
    if (!m->channel.len) {
        client_close(s, 3501);
        return NULL;
    }
    const struct channel_options *o = namespace_of(m->channel.p, m->channel.len);
    if (!o)
        client_error(s, m->id, 102);
    else if (m->channel.len > client_options()->channel_max_length ||
             !namespace_name_ok(o, m->channel.p, m->channel.len))
        client_error(s, m->id, 107);
    else
        return o;
    return NULL;
}

static bool has_format(const struct channel_options *o, struct text data)
{
    if (!data.len) return o->data_format == DATA_BINARY;
    if (o->data_format != DATA_JSON_OBJECT) return true;
    size_t i = 0;
    while (i < data.len && (data.p[i] == ' ' || data.p[i] == '\t' || data.p[i] == '\r')) i++;
    return i < data.len && data.p[i] == '{';
}

static void publish(struct session *s, const struct command *m)
{
    const struct channel_options *o = named(s, m);
    if (!o) return;
    const struct subscription *sub = client_find(s->k, m->channel.p, m->channel.len);
    if (m->type) {
        client_error(s, m->id, 108);
        return;
    }
    if (!has_format(o, m->data)) {
        client_error(s, m->id, 107);
        return;
    }
    if (!client_permitted(s->c, sub, o->publish_for_client, o->publish_for_subscriber,
                          o->publish_for_anonymous)) {
        client_error(s, m->id, 103);
        return;
    }
    char id[OPS_UUID_TEXT];
    struct client_info info;
    client_info_of(s->c, sub, &info, id);
    struct message message = {.payload = m->data.len ? m->data : text_of("null", 4),
                              .info = &info,
                              .publisher = conn_key(s->c)};
    if (ops_publish_to(s->w, m->channel, &message, NULL) == -1)
        client_error(s, m->id, 100);
    else
        empty_reply(s, m);
}

static void too_large(struct session *s, const struct command *m)
{
    metric_add(&s->w->metrics, METRIC_REPLY_TOO_LARGE, 1);
    client_error(s, m->id, 106);
}

struct presence_reply {
    struct session *s;
    struct json_out o;
    uint32_t count;
};

static bool is_too_large(const struct presence_reply *p)
{
    return p->o.len > p->s->len + client_options()->reply_max;
}

static void write_presence(const struct subscription *sub, void *arg)
{
    struct presence_reply *p = arg;
    char id[OPS_UUID_TEXT];
    struct client_info i;
    if (is_too_large(p)) return;
    ops_info_of(sub, &i, id);
    client_more(p->s, &p->o, ops_info_size(&i));
    reply_json_presence_entry(&p->o, p->count++ == 0, &i);
}

static bool may_see_presence(struct session *s, const struct command *m,
                             const struct channel_options *o)
{
    bool subscribed = client_find(s->k, m->channel.p, m->channel.len);
    if (!o->presence)
        client_error(s, m->id, 108);
    else if (!client_permitted(s->c, subscribed, o->presence_for_client, o->presence_for_subscriber,
                               o->presence_for_anonymous))
        client_error(s, m->id, 103);
    else
        return true;
    return false;
}

static void presence(struct session *s, const struct command *m)
{
    const struct channel_options *o = named(s, m);
    if (!o || !may_see_presence(s, m, o)) return;
    struct channel *ch = pubsub_channel(s->w, m->channel.p, m->channel.len);
    struct presence_reply p = {.s = s, .o = client_line(s, 256)};
    reply_json_presence_begin(&p.o, m->id);
    if (ch) pubsub_presence(ch, write_presence, &p);
    pubsub_channel_unref(ch);
    if (is_too_large(&p)) {
        too_large(s, m);
        return;
    }
    reply_json_presence_end(&p.o);
    client_line_end(s, &p.o);
}

static void presence_stats(struct session *s, const struct command *m)
{
    const struct channel_options *o = named(s, m);
    if (!o || !may_see_presence(s, m, o)) return;
    uint32_t clients = 0, users = 0;
    struct channel *ch = pubsub_channel(s->w, m->channel.p, m->channel.len);
    if (ch) ops_presence_stats(s->w, ch, &clients, &users);
    pubsub_channel_unref(ch);
    struct json_out out = client_line(s, 128);
    reply_json_presence_stats(&out, m->id, clients, users);
    client_line_end(s, &out);
}

static void write_history(struct session *s, const struct command *m,
                          const struct pubsub_history *h)
{
    struct json_out o = client_line(s, 256 + ops_publications_size(h->found, h->count));
    reply_json_history_begin(&o, m->id);
    ops_put_publications(&o, h->found, h->count);
    reply_json_history_end(&o, h->count > 0, ops_epoch(&h->top), h->top.offset);
    client_line_end(s, &o);
}

/* history_refused answers what protocol.md 2.6 refuses before anything is looked up. */
static bool history_refused(struct session *s, const struct command *m,
                            const struct channel_options *o)
{
    bool subscribed = client_find(s->k, m->channel.p, m->channel.len);
    uint32_t code = 0;
    if (!channel_has_history(o))
        code = 108;
    else if (!client_permitted(s->c, subscribed, o->history_for_client, o->history_for_subscriber,
                               o->history_for_anonymous))
        code = 103;
    else if (m->reverse && m->has_since && m->position.offset == 0)
        code = 107;
    if (code) client_error(s, m->id, code);
    return code;
}

static void history(struct session *s, const struct command *m)
{
    const struct channel_options *o = named(s, m);
    if (!o || history_refused(s, m, o)) return;
    struct channel *ch = pubsub_channel(s->w, m->channel.p, m->channel.len);
    uint32_t max = client_options()->history_max;
    size_t room_size = max * sizeof(struct publication *);
    struct pubsub_history h = {.has_since = m->has_since,
                               .reverse = m->reverse,
                               .since = m->position.offset,
                               .max = m->limit < 0 || (uint32_t)m->limit > max ? max
                                                                               : (uint32_t)m->limit,
                               .found = ch ? mem_alloc(s->w->pool, room_size) : NULL};
    if (!h.found) {
        pubsub_channel_unref(ch);
        client_error(s, m->id, 100);
        return;
    }
    pubsub_history(s->w, ch, &h);
    if (m->has_since && ops_other_epoch(m->position.epoch, &h.top))
        client_error(s, m->id, 112);
    else if (ops_publications_size(h.found, h.count) > client_options()->reply_max)
        too_large(s, m);
    else
        write_history(s, m, &h);
    for (uint32_t i = 0; i < h.count; i++) pubsub_publication_unref(h.found[i]);
    mem_free(s->w->pool, h.found, room_size);
    pubsub_channel_unref(ch);
}

/* ---- commands ---- */

static void execute(struct session *s, const struct command *m)
{
    switch (m->method) {
    case COMMAND_PONG: return; /* whatever comes says that the client is there */
    case COMMAND_CONNECT: client_close(s, 3501); return;
    case COMMAND_SUBSCRIBE: client_subscribe(s, m); return;
    case COMMAND_UNSUBSCRIBE: client_unsubscribe(s, m); return;
    case COMMAND_PUBLISH: publish(s, m); return;
    case COMMAND_PRESENCE: presence(s, m); return;
    case COMMAND_PRESENCE_STATS: presence_stats(s, m); return;
    case COMMAND_HISTORY: history(s, m); return;
    case COMMAND_RPC: client_error(s, m->id, 108); return;
    case COMMAND_SEND: client_close(s, 3508); return;
    case COMMAND_REFRESH: client_refresh(s, m); return;
    case COMMAND_SUB_REFRESH: client_sub_refresh(s, m); return;
    }
}

/* take_rate: without memory for its buckets a client is above its rate. */
static enum client_rate_verdict take_rate(struct session *s, bool publication)
{
    struct client *k = s->k;
    if (!k->rate) k->rate = mem_zalloc(s->w->pool, sizeof *k->rate);
    if (!k->rate) return CLIENT_RATE_ABOVE;
    return client_rate_take(k->rate, &client_options()->limits, s->w->now_ms, publication);
}

/* is_within_rate: may m be executed? If not, it has been answered. An unsubscribe never gets an
 * error, since an SDK would connect anew (protocol.md 2.3), and send has no answer. */
static bool is_within_rate(struct session *s, const struct command *m)
{
    const bool publication = m->method == COMMAND_PUBLISH;
    const char *option = publication ? "client.publication_rate_limit or client.command_rate_limit"
                                     : "client.command_rate_limit";
    if (!has_limits() || m->method == COMMAND_PONG) return true;
    switch (take_rate(s, publication)) {
    case CLIENT_RATE_WITHIN: return true;
    case CLIENT_RATE_ABOVE:
        conn_limit_met(s->c, publication ? METRIC_RATE_PUBLICATIONS : METRIC_RATE_COMMANDS, option);
        if (m->method == COMMAND_UNSUBSCRIBE || m->method == COMMAND_SEND) return true;
        client_error(s, m->id, 111);
        return false;
    case CLIENT_RATE_FAR_ABOVE:
        conn_limit_met(s->c, METRIC_RATE_CLOSED, option);
        client_close(s, 3013);
        return false;
    }
    return false;
}

/* pause_if_long ends the connection's turn if m, whose work grows with a channel, took long. */
static void pause_if_long(struct session *s, const struct command *m)
{
    const bool grows = m->method == COMMAND_PRESENCE || m->method == COMMAND_PRESENCE_STATS ||
                       m->method == COMMAND_HISTORY || m->method == COMMAND_SUBSCRIBE;
    if (grows && clock_us() - s->w->now_us > TURN_US) conn_pause(s->c);
}

static void one_command(struct session *s, const struct command *m)
{
    if (s->k->phase == CLIENT_CONNECTED) {
        if (!is_within_rate(s, m)) return;
        execute(s, m);
        pause_if_long(s, m);
    } else if (m->method == COMMAND_CONNECT) {
        client_connect(s, m);
    } else {
        client_close(s, 3501);
    }
}

static void one_line(struct session *s, const char *line, size_t len)
{
    jsmntok_t tokens[COMMAND_TOKENS];
    struct command m;
    if (s->k->phase == CLIENT_FAILED) return;
    if (len && line[len - 1] == '\r') len--;
    if (!len || command_json_parse(&m, line, len, s->scratch, s->scratch_len, tokens,
                                   COMMAND_TOKENS) == -1) {
        client_close(s, 3501);
        return;
    }
    s->method = m.method;
    s->command = &m;
    one_command(s, &m);
    s->command = NULL;
}

/* must_stop, between two commands of a message: the connection is paused, or so much waits to be
 * sent that it is now. A command may be answered with a hundred thousand times its bytes. */
static bool must_stop(struct session *s)
{
    struct conn *c = s->c;
    if ((int64_t)(outq_cost(c->out) + s->len) > conn_options()->queue_max_bytes / 2) {
        client_flush(s);
        if (c->state == CONN_OPEN) conn_pause_if_full(c);
    }
    return c->flags & CONN_PAUSED;
}

/* all_lines returns how many bytes it has dealt with: less than len if others come first, or what
 * is to be sent. protocol.md 1.2: one message holds commands separated by a newline; one at the end
 * is allowed. */
static size_t all_lines(struct session *s, const char *p, size_t len)
{
    const char *const begin = p, *const last = p + len - (len && p[len - 1] == '\n');
    for (;;) {
        const char *end = memchr(p, '\n', (size_t)(last - p));
        one_line(s, p, (size_t)((end ? end : last) - p));
        if (!end || s->c->state != CONN_OPEN) return len;
        p = end + 1;
        const bool stop = must_stop(s);
        if (s->c->state != CONN_OPEN) return len; /* memory was out for what it has flushed */
        if (stop) return (size_t)(p - begin);
    }
}

static void message(struct conn *c, enum ws_opcode opcode, uint8_t *payload, size_t len)
{
    struct worker *w = c->worker; /* commands are taken in text and binary messages alike */
    struct session s = {
        .c = c, .k = client_of(c), .w = w, .cap = FIRST_OUT, .scratch_len = len + 16};
    if (s.k->phase == CLIENT_PROTOBUF) {
        conn_close(c, 3506, reason_of(3506));
        return;
    }
    size_t used = len;
    s.out = mem_alloc(w->pool, s.cap);
    s.scratch = mem_alloc(w->pool, s.scratch_len);
    if (s.out && s.scratch)
        used = all_lines(&s, (const char *)payload, len);
    else
        conn_close(c, 3004, reason_of(3004));
    if (c->state == CONN_OPEN) client_flush(&s);
    if (c->state == CONN_OPEN) conn_pause_if_full(c);
    if (c->state == CONN_OPEN && used < len) conn_hold(c, opcode, payload + used, len - used);
    mem_free(w->pool, s.out, s.cap);
    mem_free(w->pool, s.scratch, s.scratch_len);
}

/* ---- time ---- */

static void ping(struct conn *c)
{
    if (client_of(c)->ws_pings) {
        conn_ping(c);
        return;
    }
    c->flags |= CONN_PONG_DUE;
    metric_add(&c->worker->metrics, METRIC_PINGS, 1);
    conn_send(c, WS_TEXT, "{}", 2);
}

void client_fired(struct conn *c)
{
    struct client *k = client_of(c);
    if (c->state != CONN_OPEN) return;
    switch ((enum client_phase)k->phase) {
    case CLIENT_NEW:
    case CLIENT_PROTOBUF: conn_close(c, 3502, reason_of(3502)); return;
    case CLIENT_FAILED: conn_drop(c, 3501); return;
    case CLIENT_CONNECTED: break;
    }
    client_expire_subscriptions(c);
    if (c->state == CONN_OPEN) heartbeat_fired(c);
}

const struct conn_handler client_handler = {
    .message = message,
    .closed = closed,
    .ping = ping,
    .deadline = client_next_expiry,
    .rate_code = 3013,
    .rate_reason = "too many requests",
    .drain_code = 3001,
    .age_code = 3011,
};
