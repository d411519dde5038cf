/* Fuzz target of json.c: what it accepts can be walked, decoded and read again, and whatever is
 * opened or not, the verdict is the same. */
#include "../json.h"

#include <stdlib.h>
#include <string.h>

#include "guard.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

#define CAP 4096
static jsmntok_t tokens[CAP];
static char decoded[65536], again[6 * 65536 + 2];

static void require(bool ok)
{
    if (!ok) abort();
}

/* A string's decoded bytes, written and parsed, are the same bytes. */
static void check_string(const struct json *doc, int v)
{
    int64_t n = json_string(doc, v, decoded, sizeof decoded);
    if (n < 0) return; /* a lone surrogate */
    require(json_is(doc, v, decoded, (size_t)n));
    struct json_out o = {.p = again, .cap = sizeof again};
    json_put_string(&o, decoded, (size_t)n);
    jsmntok_t one;
    struct json sub;
    require(!o.full && json_parse(&sub, again, o.len, &one, 1, 1, 0) == 0);
    require(json_is(&sub, 0, decoded, (size_t)n));
}

static void check_number(const struct json *doc, int v)
{
    int64_t floor, i = 0;
    uint64_t u = 0;
    double d;
    bool exact;
    require(json_floor(doc, v, &floor, &exact));
    require(json_int64(doc, v, &i) == exact && (!exact || i == floor));
    if (json_uint64(doc, v, &u) && u <= INT64_MAX) require(exact && u == (uint64_t)floor);
    if (json_double(doc, v, &d) && exact && d < 1e15 && d > -1e15) require((int64_t)d == floor);
}

static void check_value(struct json *doc, int v, int depth)
{
    enum json_type type = json_type(doc, v);
    struct json_slice raw = json_raw(doc, v);
    require(type != JSON_ABSENT && raw.len > 0);
    require(json_check(raw.p, raw.len, JSON_LONE_SURROGATES, NULL, NULL));
    if (type == JSON_STRING) check_string(doc, v);
    if (type == JSON_NUMBER) check_number(doc, v);
    if (!json_opened(doc, v)) return;
    require(depth < JSON_DEPTH_MAX);
    bool unique = json_unique(doc, v);
    uint32_t n = 0;
    for (int m = json_first(doc, v); m != JSON_NONE; m = json_next(doc, v, m), n++) {
        check_value(doc, m, depth + 1);
        if (type != JSON_OBJECT || n >= 64) continue;
        int64_t name = json_string(doc, json_name(doc, m), decoded, sizeof decoded - 1);
        if (name < 0 || memchr(decoded, 0, (size_t)name)) continue;
        decoded[name] = 0;
        int found = json_member(doc, v, decoded);
        require(found != JSON_NONE && (!unique || found == m));
    }
    require(n == json_size(doc, v));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len > 65536) return 0;
    char *text = guard_copy(bytes, len);
    for (unsigned flags = 0; flags <= JSON_LONE_SURROGATES; flags++) {
        const char *why = NULL;
        size_t at = 0;
        bool ok = json_check(text, len, flags, &why, &at);
        require(ok == (why == NULL) && at <= len);
        for (int open = JSON_OPEN_ALL; open >= 0; open = open > 3 ? 3 : open - 1) {
            struct json doc;
            int r = json_parse(&doc, text, len, tokens, CAP, open, flags);
            if (r == 0)
                check_value(&doc, 0, 0);
            else
                require(strcmp(doc.why, "too many values") == 0 ||
                        (!ok && strcmp(doc.why, why) == 0));
            require(ok || r == -1);
        }
    }
    guard_free(text, len);
    return 0;
}
