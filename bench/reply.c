#include "reply.h"

#define TOKENS 128 /* a line's own members and those of two objects below */
#define OPEN 3     /* {"push":{"pub":{ */

static bool read_u32(const struct json *doc, int v, uint32_t *out)
{
    uint64_t n;
    if (!json_uint64(doc, v, &n) || n > UINT32_MAX) return false;
    *out = (uint32_t)n;
    return true;
}

/* Absent is the zero it was before; a value of another type is wrong. */
static bool read_bool(const struct json *doc, int object, const char *name, bool *out)
{
    int v = json_member(doc, object, name);
    return v == JSON_NONE || json_bool(doc, v, out);
}

static bool read_offset(struct reply *r, const struct json *doc, int object)
{
    int v = json_member(doc, object, "offset");
    return v == JSON_NONE || json_uint64(doc, v, &r->offset);
}

static bool read_channel(struct reply *r, const struct json *doc, int push)
{
    int64_t len =
        json_string(doc, json_member(doc, push, "channel"), r->channel, sizeof r->channel);
    r->channel_len = len > 0 ? (size_t)len : 0;
    return len > 0;
}

/* code and text of an error, an unsubscribe or a disconnect; the text must be there (protocol.md
 * 1.3, 3). */
static bool read_reason(struct reply *r, const struct json *doc, int object, const char *name)
{
    int text = json_member(doc, object, name);
    r->message = json_raw(doc, text);
    return read_u32(doc, json_member(doc, object, "code"), &r->code) &&
           json_type(doc, text) == JSON_STRING && r->message.len > 2;
}

static bool read_result(struct reply *r, const struct json *doc)
{
    int body = JSON_NONE;
    r->kind = REPLY_RESULT;
    for (r->method = COMMAND_CONNECT; r->method <= COMMAND_SUB_REFRESH; r->method++) {
        body = json_member(doc, 0, command_method_name(r->method));
        if (body != JSON_NONE) break;
    }
    if (json_type(doc, body) != JSON_OBJECT) return false;
    if (r->method == COMMAND_CONNECT)
        return json_type(doc, json_member(doc, body, "client")) == JSON_STRING &&
               read_bool(doc, body, "pong", &r->pong);
    if (r->method != COMMAND_SUBSCRIBE) return true;
    bool recoverable = false;
    if (!read_bool(doc, body, "positioned", &r->positioned) ||
        !read_bool(doc, body, "recoverable", &recoverable))
        return false;
    r->positioned |= recoverable;
    return read_offset(r, doc, body);
}

static bool read_reply(struct reply *r, const struct json *doc, int id)
{
    int error = json_member(doc, 0, "error");
    if (!read_u32(doc, id, &r->id) || r->id == 0) return false;
    if (error == JSON_NONE) return read_result(r, doc);
    r->kind = REPLY_ERROR;
    return read_reason(r, doc, error, "message");
}

static bool read_push(struct reply *r, const struct json *doc, int push)
{
    if (json_type(doc, push) != JSON_OBJECT) return false;
    int body = json_member(doc, push, "pub");
    if (body != JSON_NONE) {
        int data = json_member(doc, body, "data");
        r->kind = REPLY_PUBLICATION;
        r->data = json_raw(doc, data);
        return data != JSON_NONE && read_channel(r, doc, push) && read_offset(r, doc, body);
    }
    body = json_member(doc, push, "unsubscribe");
    if (body != JSON_NONE) {
        r->kind = REPLY_UNSUBSCRIBED;
        return read_channel(r, doc, push) && read_reason(r, doc, body, "reason");
    }
    body = json_member(doc, push, "disconnect");
    r->kind = body == JSON_NONE ? REPLY_OTHER : REPLY_DISCONNECTED;
    return body == JSON_NONE || read_reason(r, doc, body, "reason");
}

int reply_read(struct reply *r, const char *line, size_t len)
{
    jsmntok_t tokens[TOKENS];
    struct json doc;
    *r = (struct reply){.kind = REPLY_PING};
    if (json_parse(&doc, line, len, tokens, TOKENS, OPEN, JSON_LONE_SURROGATES) == -1 ||
        json_type(&doc, 0) != JSON_OBJECT)
        return -1;
    int id = json_member(&doc, 0, "id"), push = json_member(&doc, 0, "push");
    bool ok = id != JSON_NONE     ? read_reply(r, &doc, id)
              : push != JSON_NONE ? read_push(r, &doc, push)
                                  : json_size(&doc, 0) == 0;
    return ok ? 0 : -1;
}
