/* Problem: a line's envelope is small and must be read to the letter; its payload may be large and
 * must not be touched. Choice: one pass checks the line and cuts the envelope and what is directly
 * inside it into tokens, so a payload is one token however many values it holds; then a table says
 * for each method which fields it has, of what type, and where in struct command they go. A string
 * without an escape stays where it is in the line, another one is decoded into the scratch.
 *
 * A line with unknown fields at its top that hold more values than there are tokens is read a
 * second time with only the envelope opened. Rejected: doing so at once, since then each payload
 * is scanned twice. */
#include "command.h"

#include <limits.h>
#include <string.h>

enum field_kind {
    FIELD_TEXT,    /* struct text: a string, decoded */
    FIELD_RAW,     /* struct text: any value as it was sent, null as well */
    FIELD_OBJECT,  /* struct text: an object as it was sent */
    FIELD_PRESENT, /* bool: is there an object? */
    FIELD_BOOL,    /* bool */
    FIELD_INT32,   /* int32_t */
    FIELD_INT64,   /* int64_t */
    FIELD_UINT64,  /* uint64_t */
    FIELD_SINCE,   /* bool: is there an object? It is read by position_fields afterwards */
};

struct field {
    const char *name; /* NULL behind the last one */
    enum field_kind kind;
    size_t at; /* in struct command */
};

#define AT(member) offsetof(struct command, member)

/* Fields of the protocol that are of no use here (connect's headers and flag, the map
 * subscriptions' key, phase, cursor, ...) are left out, so whatever they hold is ignored. */
static const struct method {
    const char *name;
    struct field fields[14];
} methods[] = {
    [COMMAND_PONG] = {"", {{0}}},
    [COMMAND_CONNECT] = {"connect",
                         {{"token", FIELD_TEXT, AT(token)},
                          {"data", FIELD_RAW, AT(data)},
                          {"subs", FIELD_OBJECT, AT(subs)},
                          {"name", FIELD_TEXT, AT(name)},
                          {"version", FIELD_TEXT, AT(version)}}},
    [COMMAND_SUBSCRIBE] = {"subscribe",
                           {{"channel", FIELD_TEXT, AT(channel)},
                            {"token", FIELD_TEXT, AT(token)},
                            {"recover", FIELD_BOOL, AT(recover)},
                            {"epoch", FIELD_TEXT, AT(position.epoch)},
                            {"offset", FIELD_UINT64, AT(position.offset)},
                            {"data", FIELD_RAW, AT(data)},
                            {"positioned", FIELD_BOOL, AT(positioned)},
                            {"recoverable", FIELD_BOOL, AT(recoverable)},
                            {"join_leave", FIELD_BOOL, AT(join_leave)},
                            {"delta", FIELD_TEXT, AT(delta)},
                            {"tf", FIELD_PRESENT, AT(has_tags_filter)},
                            {"flag", FIELD_INT64, AT(flag)},
                            {"type", FIELD_INT32, AT(type)}}},
    [COMMAND_UNSUBSCRIBE] = {"unsubscribe", {{"channel", FIELD_TEXT, AT(channel)}}},
    [COMMAND_PUBLISH] = {"publish",
                         {{"channel", FIELD_TEXT, AT(channel)},
                          {"data", FIELD_RAW, AT(data)},
                          {"type", FIELD_INT32, AT(type)}}},
    [COMMAND_PRESENCE] = {"presence", {{"channel", FIELD_TEXT, AT(channel)}}},
    [COMMAND_PRESENCE_STATS] = {"presence_stats", {{"channel", FIELD_TEXT, AT(channel)}}},
    [COMMAND_HISTORY] = {"history",
                         {{"channel", FIELD_TEXT, AT(channel)},
                          {"limit", FIELD_INT32, AT(limit)},
                          {"since", FIELD_SINCE, AT(has_since)},
                          {"reverse", FIELD_BOOL, AT(reverse)}}},
    [COMMAND_RPC] = {"rpc",
                     {{"method", FIELD_TEXT, AT(rpc_method)}, {"data", FIELD_RAW, AT(data)}}},
    [COMMAND_SEND] = {"send", {{"data", FIELD_RAW, AT(data)}}},
    [COMMAND_REFRESH] = {"refresh", {{"token", FIELD_TEXT, AT(token)}}},
    [COMMAND_SUB_REFRESH] = {"sub_refresh",
                             {{"channel", FIELD_TEXT, AT(channel)},
                              {"token", FIELD_TEXT, AT(token)}}},
};
#define METHODS (sizeof methods / sizeof *methods)

/* history's since, and one of connect's subs */
static const struct field position_fields[] = {
    {"offset", FIELD_UINT64, AT(position.offset)},
    {"epoch", FIELD_TEXT, AT(position.epoch)},
    {0},
};
static const struct field sub_fields[] = {
    {"recover", FIELD_BOOL, AT(recover)},
    {"offset", FIELD_UINT64, AT(position.offset)},
    {"epoch", FIELD_TEXT, AT(position.epoch)},
    {0},
};

/* What is left of the caller's storage, and where the command goes. */
struct reader {
    struct command *command;
    char *scratch;
    size_t scratch_len;
    jsmntok_t *tokens;
    uint32_t token_count;
    struct json_slice since; /* history's, yet to be read */
};

const char *command_method_name(enum command_method method)
{
    return methods[method].name;
}

/* ---- values ---- */

/* "" is the same as absent (protocol.md 1.3). */
static bool read_text(struct reader *r, const struct json *doc, int v, struct text *out)
{
    struct json_slice plain;
    if (json_plain(doc, v, &plain)) {
        *out = plain.len > 0 ? (struct text){plain.p, plain.len} : (struct text){NULL, 0};
        return true;
    }
    int64_t len = json_string(doc, v, r->scratch, r->scratch_len);
    if (len < 0) return false;
    *out = (struct text){r->scratch, (size_t)len};
    r->scratch += len;
    r->scratch_len -= (size_t)len;
    return true;
}

static bool read_int32(const struct json *doc, int v, int32_t *out)
{
    int64_t n;
    if (!json_int64(doc, v, &n) || n < INT32_MIN || n > INT32_MAX) return false;
    *out = (int32_t)n;
    return true;
}

static bool read_field(struct reader *r, const struct json *doc, int v, const struct field *f)
{
    void *at = (char *)r->command + f->at;
    struct json_slice raw = json_raw(doc, v);
    enum json_type type = json_type(doc, v);
    /* protocol.md 1.2: null is absent; but 2.4: as a payload it is one like any other */
    if (type == JSON_NULL && f->kind != FIELD_RAW) return true;
    switch (f->kind) {
    case FIELD_TEXT: return read_text(r, doc, v, at);
    case FIELD_BOOL: return json_bool(doc, v, at);
    case FIELD_INT32: return read_int32(doc, v, at);
    case FIELD_INT64: return json_int64(doc, v, at);
    case FIELD_UINT64: return json_uint64(doc, v, at);
    case FIELD_RAW:
    case FIELD_OBJECT: *(struct text *)at = (struct text){raw.p, raw.len}; break;
    case FIELD_SINCE:
        r->since = raw;
        *(bool *)at = true;
        break;
    case FIELD_PRESENT: *(bool *)at = true; break;
    }
    return f->kind == FIELD_RAW || type == JSON_OBJECT;
}

/* ---- objects ---- */

#define NAME_MAX_LEN 15 /* none of ours is longer */

/* Decodes the name of the member whose value is v, and terminates it; "" if it can't be ours. */
static void read_name(const struct json *doc, int v, char name[static NAME_MAX_LEN + 1])
{
    int64_t len = json_string(doc, json_name(doc, v), name, NAME_MAX_LEN);
    if (len < 0 || memchr(name, 0, (size_t)len)) len = 0;
    name[len] = 0;
}

static const struct field *find_field(const char *name, const struct field *fields)
{
    for (; fields->name; fields++)
        if (strcmp(fields->name, name) == 0) return fields;
    return NULL;
}

/* Reads the members of object v. False: one is of the wrong type, or there twice, which another
 * reader of the line might take otherwise than we would. */
static bool read_members(struct reader *r, const struct json *doc, int v,
                         const struct field *fields)
{
    unsigned seen = 0;
    for (int m = json_first(doc, v); m != JSON_NONE; m = json_next(doc, v, m)) {
        char name[NAME_MAX_LEN + 1];
        read_name(doc, m, name);
        const struct field *f = find_field(name, fields);
        if (!f) continue;
        unsigned bit = 1u << (f - fields);
        if (seen & bit || !read_field(r, doc, m, f)) return false;
        seen |= bit;
    }
    return true;
}

/* Parses the text of an object that was left unopened, or null, and reads its members. */
static bool read_unopened(struct reader *r, struct json_slice text, const struct field *fields)
{
    struct json doc;
    int ok = json_parse(&doc, text.p, text.len, r->tokens, r->token_count, 1, JSON_LONE_SURROGATES);
    if (ok == -1) return false;
    if (json_type(&doc, 0) != JSON_OBJECT) return json_type(&doc, 0) == JSON_NULL;
    r->tokens += doc.count;
    r->token_count -= doc.count;
    return read_members(r, &doc, 0, fields);
}

/* ---- the envelope ---- */

static enum command_method find_method(const char *name)
{
    for (size_t i = COMMAND_CONNECT; i < METHODS; i++)
        if (strcmp(methods[i].name, name) == 0) return (enum command_method)i;
    return COMMAND_PONG;
}

static bool read_id(const struct json *doc, int v, uint32_t *id)
{
    uint64_t n = 0;
    if (json_type(doc, v) != JSON_NULL && (!json_uint64(doc, v, &n) || n > UINT32_MAX))
        return false;
    *id = (uint32_t)n;
    return true;
}

/* Takes value v of a member that is named as method. Of several the first in the order of the enum
 * is the command's; *body is its object. */
static bool take_method(const struct json *doc, int v, enum command_method method,
                        struct command *c, int *body)
{
    enum json_type type = json_type(doc, v);
    if (type == JSON_NULL) return true;
    if (type != JSON_OBJECT) return false;
    if (*body != JSON_NONE && method > c->method) return true;
    c->method = method;
    *body = v;
    return true;
}

/* Reads the id and finds the method: *body is its object, JSON_NONE if there is none. */
static bool read_envelope(const struct json *doc, struct command *c, int *body)
{
    unsigned seen = 0; /* a bit for each method, and for id the one of COMMAND_PONG */
    *body = JSON_NONE;
    if (json_type(doc, 0) != JSON_OBJECT) return false;
    for (int m = json_first(doc, 0); m != JSON_NONE; m = json_next(doc, 0, m)) {
        char name[NAME_MAX_LEN + 1];
        read_name(doc, m, name);
        bool is_id = strcmp(name, "id") == 0;
        enum command_method method = is_id ? COMMAND_PONG : find_method(name);
        if (method == COMMAND_PONG && !is_id) continue;
        if (seen & 1u << method) return false;
        seen |= 1u << method;
        if (!(is_id ? read_id(doc, m, &c->id) : take_method(doc, m, method, c, body))) return false;
    }
    return true;
}

static bool read_body(struct reader *r, const struct json *doc, int body)
{
    const struct field *fields = methods[r->command->method].fields;
    bool ok = json_opened(doc, body) ? read_members(r, doc, body, fields)
                                     : read_unopened(r, json_raw(doc, body), fields);
    if (!ok) return false;
    return !r->command->has_since || read_unopened(r, r->since, position_fields);
}

int command_json_parse(struct command *c, const char *line, size_t len, char *scratch,
                       size_t scratch_len, jsmntok_t *tokens, uint32_t token_count)
{
    *c = (struct command){.method = COMMAND_PONG};
    struct json doc;
    int body;
    if (json_parse(&doc, line, len, tokens, token_count, 2, JSON_LONE_SURROGATES) == -1 &&
        json_parse(&doc, line, len, tokens, token_count, 1, JSON_LONE_SURROGATES) == -1)
        return -1;
    if (!read_envelope(&doc, c, &body)) return -1;
    struct reader r = {.command = c,
                       .scratch = scratch,
                       .scratch_len = scratch_len,
                       .tokens = tokens + doc.count,
                       .token_count = token_count - doc.count};
    if (body != JSON_NONE && !read_body(&r, &doc, body)) return -1;
    if (c->id == 0 && c->method != COMMAND_SEND) c->method = COMMAND_PONG;
    return c->id != 0 && body == JSON_NONE ? -1 : 0;
}

/* ---- connect's subs ---- */

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n')) p++;
    return p;
}

/* Both give the end of what begins at p, NULL if there is none. They need not check it: what they
 * cut is parsed, and a wrong cut does not parse. */
static const char *string_end(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++)
        if (*p == '\\' && ++p == end) return NULL;
    return p < end ? p + 1 : NULL;
}

static const char *value_end(const char *p, const char *end)
{
    size_t depth = 0;
    while (p < end) {
        if (*p == '"') {
            p = string_end(p, end);
            if (!p) return NULL;
            continue;
        }
        if (depth == 0 && (*p == ',' || *p == '}')) return p;
        if (*p == '{' || *p == '[') depth++;
        if ((*p == '}' || *p == ']') && depth > 0) depth--;
        p++;
    }
    return NULL;
}

/* Cuts the next member of the object out of its text. *at is 0 before the first one, then behind
 * the latest. Returns 1; 0 at the end; -1. */
static int cut_member(struct text object, size_t *at, struct json_slice *name,
                      struct json_slice *value)
{
    const char *end = object.p + object.len, *p = skip_space(object.p + *at, end);
    if (p < end && *p == (*at == 0 ? '{' : ','))
        p = skip_space(p + 1, end);
    else if (p == end || *p != '}' || *at == 0)
        return -1;
    if (p < end && *p == '}') return 0;
    if (p == end || *p != '"') return -1;
    const char *name_end = string_end(p, end);
    if (!name_end) return -1;
    *name = (struct json_slice){p, (size_t)(name_end - p)};
    p = skip_space(name_end, end);
    if (p == end || *p != ':') return -1;
    const char *from = skip_space(p + 1, end);
    p = value_end(from, end);
    if (!p) return -1;
    *value = (struct json_slice){from, (size_t)(p - from)};
    *at = (size_t)(p - object.p);
    return 1;
}

int command_json_sub(const struct command *c, size_t *at, struct text *channel, bool *recover,
                     struct position *position, char *scratch, size_t scratch_len)
{
    struct json_slice name, value;
    struct json doc;
    jsmntok_t tokens[64];
    struct command sub = {0};
    struct reader r = {.command = &sub,
                       .scratch = scratch,
                       .scratch_len = scratch_len,
                       .tokens = tokens,
                       .token_count = sizeof tokens / sizeof *tokens};
    if (!c->subs.p) return 0;
    int more = cut_member(c->subs, at, &name, &value);
    if (more <= 0) return more;
    if (json_parse(&doc, name.p, name.len, tokens, 1, 1, JSON_LONE_SURROGATES) == -1) return -1;
    if (!read_text(&r, &doc, 0, &sub.channel)) return -1;
    if (!read_unopened(&r, value, sub_fields)) return -1;
    *channel = sub.channel;
    *recover = sub.recover;
    *position = sub.position;
    return 1;
}
