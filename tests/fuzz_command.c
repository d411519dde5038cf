/* Fuzz target of command.h's JSON codec. The input is a line; what it gives must lie in the line or
 * the scratch and mean the same when it is read again, and what is written must be one line of
 * JSON. Input that is valid JSON is a payload of the HTTP API as well, newlines and all. */
#include "../command.h"

#include <stdlib.h>
#include <string.h>

#include "guard.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

#define MAX 65536
static jsmntok_t tokens[COMMAND_TOKENS];
static char written[16 * MAX], again[MAX];

static void require(bool ok)
{
    if (!ok) abort();
}

static bool within(struct text t, const char *p, size_t len)
{
    return t.p >= p && t.len <= len && (size_t)(t.p - p) <= len - t.len;
}

/* A text is absent, or not empty and in one of both. */
static void check_text(struct text t, const char *line, const char *scratch, size_t len)
{
    require((t.p == NULL) == (t.len == 0));
    require(t.len == 0 || within(t, line, len) || within(t, scratch, len));
}

static void check_raw(struct text t, const char *line, size_t len)
{
    check_text(t, line, line, len);
    require(t.len == 0 || json_check(t.p, t.len, JSON_LONE_SURROGATES, NULL, NULL));
}

/* What has been written is one line, and JSON; perhaps deeper than JSON_DEPTH_MAX, when the payload
 * in it is just not. */
static void check_line(const struct json_out *o)
{
    const char *why = NULL;
    require(!o->full && o->len > 0 && !memchr(o->p, '\n', o->len));
    bool ok = json_check(o->p, o->len, JSON_LONE_SURROGATES, &why, NULL);
    require(ok || strcmp(why, "nested too deep") == 0);
}

static void check_subs(const struct command *c)
{
    char *scratch = guard_copy(NULL, c->subs.len);
    size_t at = 0, latest = 0;
    struct text channel;
    struct position position;
    bool recover;
    int more;
    while ((more = command_json_sub(c, &at, &channel, &recover, &position, scratch, c->subs.len)) >
           0) {
        require(at > latest && at <= c->subs.len);
        latest = at;
        check_text(channel, c->subs.p, scratch, c->subs.len);
        check_text(position.epoch, c->subs.p, scratch, c->subs.len);
    }
    require(more == 0 || more == -1);
    guard_free(scratch, c->subs.len);
}

static bool same(struct text a, struct text b)
{
    return a.len == b.len && (!a.p || memcmp(a.p, b.p, a.len) == 0);
}

/* Written as a subscribe and read again, the fields are the same. */
static void check_again(const struct command *c)
{
    struct json_out o = {.p = written, .cap = sizeof written};
    struct command d;
    json_puts(&o, "{\"id\":1,\"subscribe\":{\"channel\":");
    json_put_string(&o, c->channel.p ? c->channel.p : "", c->channel.len);
    json_puts(&o, ",\"epoch\":");
    json_put_string(&o, c->position.epoch.p ? c->position.epoch.p : "", c->position.epoch.len);
    json_puts(&o, ",\"offset\":");
    json_put_uint(&o, c->position.offset);
    json_puts(&o, ",\"flag\":");
    json_put_int(&o, c->flag);
    json_puts(&o, ",\"data\":");
    if (c->data.p)
        json_put(&o, c->data.p, c->data.len);
    else
        json_puts(&o, "[]");
    json_puts(&o, "}}");
    if (o.full) return;
    require(command_json_parse(&d, o.p, o.len, again, sizeof again, tokens, COMMAND_TOKENS) == 0);
    require(same(c->channel, d.channel) && same(c->position.epoch, d.position.epoch));
    require(c->position.offset == d.position.offset && c->flag == d.flag);
    require(!c->data.p || same(c->data, d.data));
}

/* Everything a command holds, as texts of replies and pushes. */
static void check_written(const struct command *c)
{
    struct client_info info = {c->channel, c->token, c->data, c->subs};
    struct publication_view p = {c->data, c->position.offset, &info, c->subs};
    struct subscribe_result result = {.epoch = c->position.epoch,
                                      .offset = c->position.offset,
                                      .recovered = c->recover,
                                      .expires = c->reverse,
                                      .data = c->data};
    struct json_out o = {.p = written, .cap = sizeof written};
    reply_json_connect_begin(&o, c->id,
                             &(struct connect_result){.client = c->name, .data = c->data});
    reply_json_connect_sub_begin(&o, true, c->channel);
    reply_json_result_begin(&o, &result);
    reply_json_publication(&o, true, &p);
    reply_json_publication(&o, false, &p);
    reply_json_result_end(&o, true);
    reply_json_connect_end(&o, true);
    check_line(&o);
    o.len = 0;
    push_json_pub(&o, c->channel, &p);
    push_json_pub_end(&o, c->position.offset);
    check_line(&o);
    o.len = 0;
    push_json_subscribe(&o, c->channel, &result);
    check_line(&o);
}

static void check_payload(const char *text, size_t len)
{
    if (!json_check(text, len, JSON_LONE_SURROGATES, NULL, NULL)) return;
    struct json_out o = {.p = written, .cap = sizeof written};
    push_json_pub(&o, (struct text){"a", 1}, &(struct publication_view){.data = {text, len}});
    push_json_pub_end(&o, 1);
    check_line(&o);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len > MAX) return 0;
    char *line = guard_copy(bytes, len), *scratch = guard_copy(NULL, len);
    struct command c;
    int r = command_json_parse(&c, line, len, scratch, len, tokens, COMMAND_TOKENS);
    require(r == 0 || r == -1);
    if (r == 0) {
        const struct text texts[] = {c.channel, c.token,      c.name,          c.version,
                                     c.delta,   c.rpc_method, c.position.epoch};
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
            check_text(texts[i], line, scratch, len);
        check_raw(c.data, line, len);
        check_raw(c.subs, line, len);
        check_subs(&c);
        check_written(&c);
        check_again(&c);
    }
    check_payload(line, len);
    guard_free(line, len);
    guard_free(scratch, len);
    return 0;
}
