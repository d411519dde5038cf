/* reply_json.c - the writing half of command.h's JSON codec.
 *
 * Fields of value zero, false or "" are left out (protocol.md 1.3), so whether a comma is due is
 * not known where a field is written; it is seen from the byte before it: an object that has just
 * been opened is the only thing that ends in '{'. */
#include "command.h"

#include <string.h>

/* ---- pieces ---- */

static void comma_if_due(struct json_out *o)
{
    char last = o->len > 0 ? o->p[o->len - 1] : '{';
    if (last != '{') json_put(o, ",", 1);
}

/* name: with its quotes and colon */
static void put_name(struct json_out *o, const char *name)
{
    comma_if_due(o);
    json_puts(o, name);
}

static void put_text(struct json_out *o, struct text text)
{
    json_put_string(o, text.p ? text.p : "", text.len);
}

static void put_raw(struct json_out *o, struct text raw)
{
    const char *newline;
    while (raw.len > 0 && (newline = memchr(raw.p, '\n', raw.len)) != NULL) {
        size_t n = (size_t)(newline - raw.p);
        json_put(o, raw.p, n);
        raw = (struct text){newline + 1, raw.len - n - 1};
    }
    json_put(o, raw.p, raw.len);
}

static void put_bool_field(struct json_out *o, const char *name, bool yes)
{
    if (!yes) return;
    put_name(o, name);
    json_puts(o, "true");
}

static void put_uint_field(struct json_out *o, const char *name, uint64_t n)
{
    if (n == 0) return;
    put_name(o, name);
    json_put_uint(o, n);
}

static void put_text_field(struct json_out *o, const char *name, struct text text)
{
    if (text.len == 0) return;
    put_name(o, name);
    put_text(o, text);
}

static void put_raw_field(struct json_out *o, const char *name, struct text raw)
{
    if (raw.len == 0) return;
    put_name(o, name);
    put_raw(o, raw);
}

/* expires without ttl makes SDKs ask for tokens without end (protocol.md 2.1). */
static void put_expiry(struct json_out *o, bool expires, uint32_t ttl_s)
{
    if (!expires) return;
    put_bool_field(o, "\"expires\":", true);
    put_uint_field(o, "\"ttl\":", ttl_s > 0 ? ttl_s : 1);
}

/* user and client are there even if empty. */
static void put_info(struct json_out *o, const struct client_info *i)
{
    json_puts(o, "{\"user\":");
    put_text(o, i->user);
    json_puts(o, ",\"client\":");
    put_text(o, i->client);
    put_raw_field(o, "\"conn_info\":", i->conn_info);
    put_raw_field(o, "\"chan_info\":", i->chan_info);
    json_puts(o, "}");
}

/* A publication but for its offset, in two halves, since the offset stands between them in a
 * reply. */
static void put_data(struct json_out *o, const struct publication_view *p)
{
    json_puts(o, "\"data\":");
    if (p->data.len > 0)
        put_raw(o, p->data);
    else
        json_puts(o, "null");
}

static void put_info_and_tags(struct json_out *o, const struct publication_view *p)
{
    if (p->info) {
        json_puts(o, ",\"info\":");
        put_info(o, p->info);
    }
    /* an object without a quote has no members */
    if (p->tags.len > 0 && memchr(p->tags.p, '"', p->tags.len))
        put_raw_field(o, "\"tags\":", p->tags);
}

/* {"id":1,"NAME":{ */
static void begin_reply(struct json_out *o, uint32_t id, const char *name)
{
    json_puts(o, "{\"id\":");
    json_put_uint(o, id);
    json_puts(o, ",\"");
    json_puts(o, name);
    json_puts(o, "\":{");
}

static void begin_method_reply(struct json_out *o, uint32_t id, enum command_method method)
{
    begin_reply(o, id, command_method_name(method));
}

/* {"push":{"channel":"news","KIND":{ , without the channel if that is absent */
static void begin_push(struct json_out *o, struct text channel, const char *kind)
{
    json_puts(o, "{\"push\":{");
    put_text_field(o, "\"channel\":", channel);
    put_name(o, kind);
    json_puts(o, "{");
}

/* ---- replies ---- */

void reply_json_error(struct json_out *o, uint32_t id, uint32_t code, const char *message,
                      bool temporary)
{
    begin_reply(o, id, "error");
    json_puts(o, "\"code\":");
    json_put_uint(o, code);
    json_puts(o, ",\"message\":");
    json_put_string(o, message, strlen(message));
    put_bool_field(o, "\"temporary\":", temporary);
    json_puts(o, "}}");
}

void reply_json_empty(struct json_out *o, uint32_t id, enum command_method method)
{
    begin_method_reply(o, id, method);
    json_puts(o, "}}");
}

void reply_json_connect_begin(struct json_out *o, uint32_t id, const struct connect_result *r)
{
    begin_method_reply(o, id, COMMAND_CONNECT);
    put_text_field(o, "\"client\":", r->client);
    put_text_field(o, "\"version\":", r->version);
    put_expiry(o, r->expires, r->ttl_s);
    put_raw_field(o, "\"data\":", r->data);
    put_uint_field(o, "\"ping\":", r->ping_s);
    put_bool_field(o, "\"pong\":", r->pong);
    if (r->time_ms == 0) return;
    put_name(o, "\"time\":");
    json_put_int(o, r->time_ms);
}

void reply_json_connect_sub_begin(struct json_out *o, bool first, struct text channel)
{
    if (first) put_name(o, "\"subs\":{");
    comma_if_due(o);
    put_text(o, channel);
    json_puts(o, ":");
}

void reply_json_connect_end(struct json_out *o, bool had_subs)
{
    json_puts(o, had_subs ? "}}}" : "}}");
}

void reply_json_subscribe_begin(struct json_out *o, uint32_t id, const struct subscribe_result *r)
{
    json_puts(o, "{\"id\":");
    json_put_uint(o, id);
    json_puts(o, ",\"subscribe\":");
    reply_json_result_begin(o, r);
}

void reply_json_subscribe_end(struct json_out *o, bool had_publications)
{
    reply_json_result_end(o, had_publications);
    json_puts(o, "}");
}

static void put_stream_position(struct json_out *o, const struct subscribe_result *r)
{
    put_bool_field(o, "\"recoverable\":", r->recoverable);
    put_bool_field(o, "\"positioned\":", r->positioned);
    put_text_field(o, "\"epoch\":", r->epoch);
    put_uint_field(o, "\"offset\":", r->offset);
}

void reply_json_result_begin(struct json_out *o, const struct subscribe_result *r)
{
    json_puts(o, "{");
    put_expiry(o, r->expires, r->ttl_s);
    put_stream_position(o, r);
    put_bool_field(o, "\"was_recovering\":", r->was_recovering);
    put_bool_field(o, "\"recovered\":", r->recovered);
    put_raw_field(o, "\"data\":", r->data);
}

void reply_json_result_end(struct json_out *o, bool had_publications)
{
    json_puts(o, had_publications ? "]}" : "}");
}

void reply_json_publication(struct json_out *o, bool first, const struct publication_view *p)
{
    if (first) put_name(o, "\"publications\":[");
    json_puts(o, first ? "{" : ",{");
    put_data(o, p);
    put_uint_field(o, "\"offset\":", p->offset);
    put_info_and_tags(o, p);
    json_puts(o, "}");
}

void reply_json_publication_object(struct json_out *o, bool first, struct text object)
{
    if (first) put_name(o, "\"publications\":[");
    json_puts(o, first ? "" : ",");
    json_put(o, object.p, object.len);
}

void reply_json_history_begin(struct json_out *o, uint32_t id)
{
    begin_method_reply(o, id, COMMAND_HISTORY);
}

void reply_json_history_result_end(struct json_out *o, bool had_publications, struct text epoch,
                                   uint64_t offset)
{
    json_puts(o, had_publications ? "],\"epoch\":" : "\"publications\":[],\"epoch\":");
    put_text(o, epoch);
    json_puts(o, ",\"offset\":");
    json_put_uint(o, offset);
    json_puts(o, "}");
}

void reply_json_history_end(struct json_out *o, bool had_publications, struct text epoch,
                            uint64_t offset)
{
    reply_json_history_result_end(o, had_publications, epoch, offset);
    json_puts(o, "}");
}

void reply_json_presence_begin(struct json_out *o, uint32_t id)
{
    begin_method_reply(o, id, COMMAND_PRESENCE);
    json_puts(o, "\"presence\":{");
}

void reply_json_presence_entry(struct json_out *o, bool first, const struct client_info *i)
{
    if (!first) json_puts(o, ",");
    put_text(o, i->client);
    json_puts(o, ":");
    put_info(o, i);
}

void reply_json_presence_end(struct json_out *o)
{
    json_puts(o, "}}}");
}

void reply_json_presence_stats(struct json_out *o, uint32_t id, uint64_t clients, uint64_t users)
{
    begin_method_reply(o, id, COMMAND_PRESENCE_STATS);
    json_puts(o, "\"num_clients\":");
    json_put_uint(o, clients);
    json_puts(o, ",\"num_users\":");
    json_put_uint(o, users);
    json_puts(o, "}}");
}

void reply_json_refresh(struct json_out *o, uint32_t id, enum command_method method, bool expires,
                        uint32_t ttl_s)
{
    begin_method_reply(o, id, method);
    put_expiry(o, expires, ttl_s);
    json_puts(o, "}}");
}

/* ---- pushes ---- */

static void push_info(struct json_out *o, struct text channel, const char *kind,
                      const struct client_info *i)
{
    begin_push(o, channel, kind);
    json_puts(o, "\"info\":");
    put_info(o, i);
    json_puts(o, "}}}");
}

void push_json_join(struct json_out *o, struct text channel, const struct client_info *i)
{
    push_info(o, channel, "\"join\":", i);
}

void push_json_leave(struct json_out *o, struct text channel, const struct client_info *i)
{
    push_info(o, channel, "\"leave\":", i);
}

void push_json_unsubscribe(struct json_out *o, struct text channel, uint32_t code,
                           const char *reason)
{
    begin_push(o, channel, "\"unsubscribe\":");
    json_puts(o, "\"code\":");
    json_put_uint(o, code);
    json_puts(o, ",\"reason\":");
    json_put_string(o, reason, strlen(reason));
    json_puts(o, "}}}");
}

void push_json_subscribe(struct json_out *o, struct text channel, const struct subscribe_result *r)
{
    begin_push(o, channel, "\"subscribe\":");
    put_stream_position(o, r);
    put_raw_field(o, "\"data\":", r->data);
    json_puts(o, "}}}");
}

void push_json_message(struct json_out *o, struct text data)
{
    begin_push(o, (struct text){NULL, 0}, "\"message\":");
    put_raw_field(o, "\"data\":", data);
    json_puts(o, "}}}");
}

void push_json_refresh(struct json_out *o, bool expires, uint32_t ttl_s)
{
    begin_push(o, (struct text){NULL, 0}, "\"refresh\":");
    put_expiry(o, expires, ttl_s);
    json_puts(o, "}}}");
}

size_t push_json_pub(struct json_out *o, struct text channel, const struct publication_view *p)
{
    begin_push(o, channel, "\"pub\":");
    size_t object_at = o->len - 1; /* its bracket is the last thing written */
    put_data(o, p);
    put_info_and_tags(o, p);
    return object_at;
}

void push_json_pub_end(struct json_out *o, uint64_t offset)
{
    if (offset > 0) {
        json_puts(o, ",\"offset\":"); /* no look at what is before: o may begin here */
        json_put_uint(o, offset);
    }
    json_puts(o, "}}}");
}

void push_json_pub_object(struct json_out *o, struct text channel, struct text object)
{
    begin_push(o, channel, "\"pub\":");
    if (!o->full) o->len--; /* the bracket is the object's */
    json_put(o, object.p, object.len);
    json_puts(o, "}}");
}
