/* The method batch: several commands in one call, done one after the other, each answered in its
 * place. */
#include <string.h>

#include "api/methods.h"

struct batch {
    struct api_call *outer;
    struct api_call inner; /* of the command under way */
    struct mem_pool *pool;
    char *body; /* a copy of the request, since a command may be answered in a later turn */
    size_t body_len;
    jsmntok_t
        *tokens; /* in this order: the commands, one command, its request, and what that opens */
    size_t tokens_size;
    struct json commands, request;
    int at;        /* the command under way */
    size_t before; /* where its answer begins in the reply */
};

enum {
    COMMAND_AT = API_ELEMENT_TOKENS,
    REQUEST_AT = COMMAND_AT + API_TOKENS,
    OPENED_AT = REQUEST_AT + API_TOKENS,
    TOKENS = OPENED_AT + API_ELEMENT_TOKENS
};

static void free_batch(struct batch *b)
{
    mem_free(b->pool, b->body, b->body_len);
    mem_free(b->pool, b->tokens, b->tokens_size);
    mem_free(b->pool, b, sizeof *b);
}

/* answered ends the command under way: what its method has written stays, or becomes an error. */
static void answered(struct batch *b, unsigned code)
{
    struct json_out *o = &b->inner.o;
    if (code) {
        o->len = b->before;
        if (!o->full) json_puts(o, "{");
        api_put_error(o, code == API_BAD_REQUEST ? 107 : code);
    }
    json_puts(o, "}");
    b->at = json_next(&b->commands, 0, b->at);
}

/* find_method takes a command apart: its first member that is a method. */
static unsigned find_method(struct batch *b, const struct api_method **method)
{
    struct json command;
    if (json_type(&b->commands, b->at) != JSON_OBJECT) return 107;
    if (json_parse_value(&command, &b->commands, b->at, b->tokens + COMMAND_AT, API_TOKENS, 1) ==
            -1 ||
        json_size(&command, 0) == 0)
        return 107;
    for (int v = json_first(&command, 0); v != JSON_NONE; v = json_next(&command, 0, v)) {
        char name[32];
        int64_t n = json_string(&command, json_name(&command, v), name, sizeof name);
        const struct api_method *m = n > 0 ? api_method_find(name, (size_t)n) : NULL;
        if (!m || m->run == api_batch) continue;
        if (!api_permits(b->outer->scope, m)) return 103;
        if (json_type(&command, v) != JSON_OBJECT ||
            json_parse_value(&b->request, &command, v, b->tokens + REQUEST_AT, API_TOKENS, 1) ==
                -1 ||
            !json_unique(&b->request, 0))
            return 107;
        *method = m;
        return 0;
    }
    return 104;
}

#define REPLY_MAX (32u << 20) /* of all answers: commands behind it are not done */

static unsigned begin_command(struct batch *b)
{
    struct json_out *o = &b->inner.o;
    const struct api_method *m = NULL;
    unsigned code = o->len > REPLY_MAX ? 106 : find_method(b, &m);
    api_begin(&b->inner, 256);
    if (b->at != json_first(&b->commands, 0)) json_puts(o, ",");
    b->before = o->len;
    json_puts(o, "{");
    if (code) return code;
    json_puts(o, "\"");
    json_puts(o, m->name);
    json_puts(o, "\":");
    code = api_run_method(&b->inner, m);
    api_audit(&b->inner, m, code);
    return code;
}

/* go_on does commands until one has to wait. Returns 0 when all are done, or API_LATER. */
static unsigned go_on(struct batch *b)
{
    while (b->at != JSON_NONE) {
        unsigned code = begin_command(b);
        if (code == API_LATER) return API_LATER;
        api_begin(&b->inner, 256);
        answered(b, code);
    }
    api_begin(&b->inner, 16);
    json_puts(&b->inner.o, "]}");
    b->outer->o = b->inner.o;
    return 0;
}

static void command_finished(struct api_call *inner, unsigned code)
{
    struct batch *b = (struct batch *)((char *)inner - offsetof(struct batch, inner));
    struct api_call *outer = b->outer;
    unsigned all = API_ABANDONED;
    if (code != API_ABANDONED) {
        api_begin(inner, 256);
        answered(b, code);
        all = go_on(b);
        if (all == API_LATER) return;
    }
    outer->o = b->inner.o;
    free_batch(b);
    outer->finished(outer, all);
}

static struct batch *new_batch(struct api_call *call)
{
    struct json_slice body = json_raw(call->doc, 0);
    struct mem_pool *pool = call->w->pool;
    struct batch *b = mem_zalloc(pool, sizeof *b);
    if (!b) return NULL;
    b->outer = call;
    b->pool = pool;
    b->body_len = body.len;
    b->body = mem_alloc(pool, body.len);
    b->tokens_size = TOKENS * sizeof *b->tokens;
    b->tokens = mem_alloc(pool, b->tokens_size);
    if (!b->body || !b->tokens) {
        free_batch(b);
        return NULL;
    }
    memcpy(b->body, body.p, body.len);
    b->inner = *call;
    b->inner.doc = &b->request;
    b->inner.tokens = b->tokens + OPENED_AT;
    b->inner.token_count = API_ELEMENT_TOKENS;
    b->inner.finished = command_finished;
    return b;
}

static unsigned open_commands(struct batch *b)
{
    struct json doc;
    int v;
    if (json_parse(&doc, b->body, b->body_len, b->tokens + COMMAND_AT, API_TOKENS, 1,
                   JSON_LONE_SURROGATES) == -1 ||
        !api_optional(&doc, "commands", JSON_ARRAY, &v))
        return API_BAD_REQUEST;
    if (v == JSON_NONE ||
        json_parse_value(&b->commands, &doc, v, b->tokens, API_ELEMENT_TOKENS, 1) == -1)
        return 107;
    b->at = json_first(&b->commands, 0);
    return 0;
}

unsigned api_batch(struct api_call *call)
{
    struct batch *b = new_batch(call);
    if (!b) return 100;
    unsigned code = open_commands(b);
    if (!code) {
        b->inner.o.len = 0; /* at the top level, without a result around it */
        json_puts(&b->inner.o, "{\"replies\":[");
        code = go_on(b);
        if (code == API_LATER) return code;
    }
    call->o = b->inner.o;
    free_batch(b);
    return code;
}
