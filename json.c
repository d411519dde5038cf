/* Problem: peers' bytes must become values by the grammar of RFC 8259 and nothing wider, in linear
 * time, without memory of our own. jsmn is a tokenizer: it accepts {"a":1,}, {"a":tru} and
 * {"k":::"v"}, any byte in a string, and ends at a NUL byte. So one pass over the text checks
 * everything (one bit a bracket is its whole state), counts the tokens and bounds depth and number;
 * only then jsmn cuts text that can no longer surprise it.
 *
 * A container deeper than the caller wants opened becomes one token. jsmn is let run just up to it,
 * by giving it room for exactly the tokens before it: it stops with JSMN_ERROR_NOMEM, from which it
 * is made to resume, and resumes behind it. At the end each token's parent link, of no more use,
 * becomes the index of the token behind the value, so that walking over siblings does not walk
 * through their insides.
 *
 * Rejected: checking the grammar on the tokens afterwards (the commas and colons are not in
 * them), and a hash set for duplicate names (needs memory, and a key against chosen collisions):
 * names are merge-sorted as a list linked through their own tokens. */
#define JSON_TAKES_JSMN
#include "json.h"

#include <assert.h>
#include <limits.h>
#include <string.h>

struct scan {
    const char *text, *p, *end;
    unsigned flags;
    unsigned depth, open;
    uint64_t objects;  /* bit d - 1: the bracket at depth d is a '{' */
    uint32_t tokens;   /* counted so far */
    const char *whole; /* the start of the unopened container we are inside of, or NULL */
    struct json *doc;  /* NULL: only check */
    jsmn_parser jsmn;
    const char *why;
};

static bool fail(struct scan *s, const char *why)
{
    s->why = why;
    return false;
}

/* ---- characters ---- */

/* Reads one character (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF). Returns its
 * length, or 0. */
static int utf8_get(const char *text, const char *end, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *p = (const unsigned char *)text;
    int len = 0;
    if (p[0] < 0x80)
        len = 1;
    else if (p[0] >= 0xc2 && p[0] < 0xf5)
        len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (len == 0 || end - text < len) return 0;
    uint32_t c = len == 1 ? p[0] : p[0] & (0x7fu >> len);
    for (int i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    if (c < least[len] || (c & 0xfffff800) == 0xd800 || c > 0x10ffff) return 0;
    *code = c;
    return len;
}

/* Writes a character's bytes, at most 4, and returns how many. */
static size_t utf8_put(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(c | (0xf00u >> len & 0xff));
    return len;
}

static int64_t hex4(const char *p, const char *end)
{
    uint32_t n = 0;
    if (end - p < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        char lower = (char)(c | 0x20);
        if (c >= '0' && c <= '9')
            n = n << 4 | (uint32_t)(c - '0');
        else if (lower >= 'a' && lower <= 'f')
            n = n << 4 | (uint32_t)(lower - 'a' + 10);
        else
            return -1;
    }
    return n;
}

/* Reads the escape at p, a surrogate pair as one character (RFC 8259 section 7); a lone surrogate
 * comes as its own number. Returns the escape's length, or 0. */
static int escape_get(const char *p, const char *end, uint32_t *code)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    if (end - p < 2) return 0;
    if (p[1] != 'u') {
        const char *at = memchr(letters, p[1], sizeof letters - 1);
        if (at) *code = (uint32_t)meanings[at - letters];
        return at ? 2 : 0;
    }
    int64_t high = hex4(p + 2, end);
    if (high < 0) return 0;
    *code = (uint32_t)high;
    if (high < 0xd800 || high > 0xdbff || end - p < 12 || p[6] != '\\' || p[7] != 'u') return 6;
    int64_t low = hex4(p + 8, end);
    if (low < 0xdc00 || low > 0xdfff) return 6;
    *code = 0x10000 + ((uint32_t)(high - 0xd800) << 10 | (uint32_t)(low - 0xdc00));
    return 12;
}

static bool is_surrogate(uint32_t code)
{
    return code >= 0xd800 && code <= 0xdfff;
}

/* ---- grammar ---- */

/* Skips what needs no look, eight bytes at a time: all but '"', '\\', controls and above 0x7f. */
static const char *skip_plain(const char *p, const char *end)
{
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    while (end - p >= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        uint64_t quote = w ^ ones * '"', back = w ^ ones * '\\';
        /* w - ones * n: a byte below n gets its top bit set, and only such a one borrows */
        if ((w | (w - ones * 0x20) | (quote - ones) | (back - ones)) & tops) break;
        p += 8;
    }
    while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' &&
           *p != '\\')
        p++;
    return p;
}

static bool scan_escape(struct scan *s)
{
    uint32_t code = 0;
    int n = escape_get(s->p, s->end, &code);
    if (n == 0) return fail(s, "bad escape in a string");
    if (is_surrogate(code) && !(s->flags & JSON_LONE_SURROGATES))
        return fail(s, "half of a surrogate pair in a string");
    s->p += n;
    return true;
}

static bool scan_string(struct scan *s)
{
    s->p++;
    for (;;) {
        s->p = skip_plain(s->p, s->end);
        if (s->p == s->end) return fail(s, "string without an end");
        if (*s->p == '"') break;
        if (*s->p == '\\') {
            if (!scan_escape(s)) return false;
            continue;
        }
        uint32_t code;
        int n = utf8_get(s->p, s->end, &code);
        if (n == 0) return fail(s, "string is not UTF-8");
        if (code < 0x20) return fail(s, "control character in a string");
        s->p += n;
    }
    s->p++;
    return true;
}

static bool scan_digits(struct scan *s)
{
    const char *from = s->p;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') s->p++;
    return s->p > from ? true : fail(s, "a digit was expected");
}

static bool scan_number(struct scan *s)
{
    if (*s->p == '-') s->p++;
    const char *from = s->p;
    if (!scan_digits(s)) return false;
    if (*from == '0' && s->p - from > 1) return fail(s, "number with a leading zero");
    if (s->p < s->end && *s->p == '.') {
        s->p++;
        if (!scan_digits(s)) return false;
    }
    if (s->p < s->end && (*s->p | 0x20) == 'e') {
        s->p++;
        if (s->p < s->end && (*s->p == '+' || *s->p == '-')) s->p++;
        if (!scan_digits(s)) return false;
    }
    return true;
}

static bool scan_word(struct scan *s, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(s->end - s->p) < len || memcmp(s->p, word, len) != 0)
        return fail(s, "neither true, false nor null");
    s->p += len;
    return true;
}

static void skip_space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n' || *s->p == '\t' || *s->p == '\r'))
        s->p++;
}

/* Is c the next byte behind white space? Does not take it. */
static bool comes(struct scan *s, char c)
{
    skip_space(s);
    return s->p < s->end && *s->p == c;
}

/* Books one token, unless it is inside of what stays one. */
static bool count_token(struct scan *s)
{
    if (s->whole || !s->doc) return true;
    if (s->tokens == s->doc->cap) return fail(s, "too many values");
    s->tokens++;
    return true;
}

/* Puts a token behind those that jsmn has made, in the state in which jsmn would have put it. */
static void push_token(struct scan *s, jsmntype_t type, const char *start, const char *end,
                       int size)
{
    jsmntok_t *tokens = s->doc->tokens;
    tokens[s->jsmn.toknext++] = (jsmntok_t){
        .type = type,
        .start = (int)(start - s->text),
        .end = (int)(end - s->text),
        .size = size,
        .parent = s->jsmn.toksuper,
    };
    if (s->jsmn.toksuper != -1) tokens[s->jsmn.toksuper].size++;
    s->jsmn.pos = (unsigned)(end - s->text);
}

/* The unopened container from s->whole to s->p has ended. It is the latest token counted. */
static bool take_whole(struct scan *s)
{
    const char *start = s->whole;
    s->whole = NULL;
    int r = jsmn_parse(&s->jsmn, s->text, (size_t)(s->p - s->text), s->doc->tokens, s->tokens - 1);
    if (r != JSMN_ERROR_NOMEM || s->text + s->jsmn.pos != start)
        return fail(s, "jsmn disagrees"); /* never: the fuzz target holds us to it */
    push_token(s, *start == '{' ? JSMN_OBJECT : JSMN_ARRAY, start, s->p, -1);
    return true;
}

static bool open_bracket(struct scan *s)
{
    if (s->depth == JSON_DEPTH_MAX) return fail(s, "nested too deep");
    if (!count_token(s)) return false;
    uint64_t bit = UINT64_C(1) << s->depth;
    s->objects = *s->p == '{' ? s->objects | bit : s->objects & ~bit;
    if (s->depth++ == s->open) s->whole = s->p;
    s->p++;
    return true;
}

static bool close_bracket(struct scan *s)
{
    s->p++;
    s->depth--;
    return s->whole && s->depth == s->open ? take_whole(s) : true;
}

static bool in_object(const struct scan *s)
{
    return s->depth > 0 && (s->objects >> (s->depth - 1) & 1);
}

/* In an object: reads a name and its colon. */
static bool scan_name(struct scan *s)
{
    if (!comes(s, '"')) return fail(s, "a name in quotes was expected");
    if (!count_token(s) || !scan_string(s)) return false;
    if (!comes(s, ':')) return fail(s, "a colon was expected");
    s->p++;
    return true;
}

static bool scan_scalar(struct scan *s)
{
    if (!count_token(s)) return false;
    switch (*s->p) {
    case '"': return scan_string(s);
    case 't': return scan_word(s, "true");
    case 'f': return scan_word(s, "false");
    case 'n': return scan_word(s, "null");
    default: break;
    }
    if (*s->p == '-' || (*s->p >= '0' && *s->p <= '9')) return scan_number(s);
    return fail(s, "a value was expected");
}

/* Reads brackets that open, and the names in front of what they hold, up to and including the
 * first scalar or empty container. */
static bool scan_down(struct scan *s)
{
    for (;;) {
        skip_space(s);
        if (s->p == s->end) return fail(s, "text ends too early");
        if (*s->p != '{' && *s->p != '[') return scan_scalar(s);
        bool object = *s->p == '{';
        if (!open_bracket(s)) return false;
        if (comes(s, object ? '}' : ']')) return close_bracket(s);
        if (object && !scan_name(s)) return false;
    }
}

/* Behind a value: closes what closes. Leaves the scan at the next value, or at depth 0. */
static bool scan_up(struct scan *s)
{
    while (s->depth > 0) {
        bool object = in_object(s);
        if (comes(s, ',')) {
            s->p++;
            return object ? scan_name(s) : true;
        }
        if (!comes(s, object ? '}' : ']'))
            return fail(s, s->p == s->end ? "text ends too early"
                           : object       ? "a comma or } was expected"
                                          : "a comma or ] was expected");
        if (!close_bracket(s)) return false;
    }
    return true;
}

static bool scan_text(struct scan *s)
{
    do {
        if (!scan_down(s) || !scan_up(s)) return false;
    } while (s->depth > 0);
    skip_space(s);
    return s->p == s->end ? true : fail(s, "something follows the value");
}

/* ---- parse ---- */

/* Lets jsmn cut what is left. It wants a delimiter behind a number or word, which a text that is
 * nothing else need not have. */
static bool take_rest(struct scan *s)
{
    const char *p = s->text;
    while (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r') p++;
    if (*p != '{' && *p != '[' && *p != '"') {
        const char *end = s->end;
        while (end[-1] == ' ' || end[-1] == '\n' || end[-1] == '\t' || end[-1] == '\r') end--;
        push_token(s, JSMN_PRIMITIVE, p, end, 0);
        return true;
    }
    int r = jsmn_parse(&s->jsmn, s->text, s->doc->len, s->doc->tokens, s->tokens);
    return r >= 0 && s->jsmn.toknext == s->tokens ? true : fail(s, "jsmn disagrees");
}

/* Turns parent links into links to the token behind the value. */
static void link_tokens(struct json *doc)
{
    jsmntok_t *t = doc->tokens;
    int around[JSON_DEPTH_MAX];
    int depth = 0;
    for (int i = 0; i < (int)doc->count; i++) {
        while (depth > 0 && t[around[depth - 1]].end <= t[i].start) t[around[--depth]].parent = i;
        t[i].parent = i + 1;
        if (t[i].type == JSMN_OBJECT || t[i].type == JSMN_ARRAY) around[depth++] = i;
    }
    while (depth > 0) t[around[--depth]].parent = (int)doc->count;
}

static int fail_parse(struct json *doc, const char *why, size_t at)
{
    doc->why = why;
    doc->at = at;
    doc->count = 0;
    return -1;
}

int json_parse(struct json *doc, const char *text, size_t len, jsmntok_t *tokens, uint32_t cap,
               int open, unsigned flags)
{
    if (len == 0) text = ""; /* NULL is as good */
    *doc = (struct json){.text = text, .len = len, .tokens = tokens, .cap = cap};
    if (len > INT_MAX) return fail_parse(doc, "text is too long", 0);
    if (cap > INT_MAX) doc->cap = INT_MAX;
    struct scan s = {.text = text, .p = text, .end = text + len, .flags = flags, .doc = doc};
    s.open = open < 0 ? 0 : (unsigned)open;
    jsmn_init(&s.jsmn);
    if (!scan_text(&s) || !take_rest(&s)) return fail_parse(doc, s.why, (size_t)(s.p - text));
    doc->count = s.tokens;
    link_tokens(doc);
    return 0;
}

bool json_check(const char *text, size_t len, unsigned flags, const char **why, size_t *at)
{
    if (len == 0) text = "";
    struct scan s = {.text = text, .p = text, .end = text + len, .flags = flags};
    s.open = JSON_OPEN_ALL;
    bool ok = scan_text(&s);
    if (why) *why = s.why;
    if (at) *at = ok ? 0 : (size_t)(s.p - text);
    return ok;
}

int json_parse_value(struct json *sub, const struct json *doc, int v, jsmntok_t *tokens,
                     uint32_t cap, int open)
{
    struct json_slice raw = json_raw(doc, v);
    /* what doc was parsed with is checked already: lone surrogates are in here only if it took them
     */
    return json_parse(sub, raw.p, raw.len, tokens, cap, open, JSON_LONE_SURROGATES);
}

/* ---- names ---- */

/* The next character of a string's inside, which has been checked. */
static uint32_t next_code(const char **p, const char *end)
{
    uint32_t code = 0;
    int n = **p == '\\' ? escape_get(*p, end, &code) : utf8_get(*p, end, &code);
    assert(n > 0);
    *p += n;
    return code;
}

static struct json_slice inside(const struct json *doc, int v)
{
    const jsmntok_t *t = &doc->tokens[v];
    return (struct json_slice){doc->text + t->start, (size_t)(t->end - t->start)};
}

static bool has_escape(struct json_slice s)
{
    return memchr(s.p, '\\', s.len) != NULL;
}

/* Orders two strings by their characters; for plain ones that is the order of their UTF-8 bytes. */
static int compare_strings(struct json_slice a, struct json_slice b)
{
    if (!has_escape(a) && !has_escape(b)) {
        int order = memcmp(a.p, b.p, a.len < b.len ? a.len : b.len);
        return order ? order : (a.len > b.len) - (a.len < b.len);
    }
    const char *a_end = a.p + a.len, *b_end = b.p + b.len;
    while (a.p < a_end && b.p < b_end) {
        uint32_t x = next_code(&a.p, a_end), y = next_code(&b.p, b_end);
        if (x != y) return x < y ? -1 : 1;
    }
    return (a.p < a_end) - (b.p < b_end);
}

/* Merges two sorted lists of names, linked by size, which for a name's token says nothing else.
 * Equal names meet here, since neighbours in the result have been compared. */
static int merge_names(struct json *doc, int a, int b)
{
    jsmntok_t *t = doc->tokens;
    int head = JSON_NONE, *tail = &head;
    while (a != JSON_NONE && b != JSON_NONE) {
        int order = compare_strings(inside(doc, a), inside(doc, b));
        if (order == 0) {
            doc->why = "two members of the same name";
            doc->at = (size_t)(t[a].start > t[b].start ? t[a].start : t[b].start) - 1;
            return JSON_NONE;
        }
        int *from = order < 0 ? &a : &b;
        *tail = *from;
        tail = &t[*from].size;
        *from = *tail;
    }
    *tail = a != JSON_NONE ? a : b;
    return head;
}

/* Takes n names off *list and returns them sorted. Recursion: as deep as n has bits. */
static int sort_names(struct json *doc, int *list, uint32_t n)
{
    if (n == 1) {
        int name = *list;
        *list = doc->tokens[name].size;
        doc->tokens[name].size = JSON_NONE;
        return name;
    }
    int a = sort_names(doc, list, n / 2);
    int b = sort_names(doc, list, n - n / 2);
    return doc->why ? JSON_NONE : merge_names(doc, a, b);
}

bool json_unique(struct json *doc, int v)
{
    doc->why = NULL;
    if (json_type(doc, v) != JSON_OBJECT || json_first(doc, v) == JSON_NONE) return true;
    int list = json_name(doc, json_first(doc, v));
    for (int m = json_first(doc, v); m != JSON_NONE; m = json_next(doc, v, m))
        doc->tokens[json_name(doc, m)].size = json_name(doc, json_next(doc, v, m));
    sort_names(doc, &list, json_size(doc, v));
    return doc->why == NULL;
}

/* ---- look ---- */

enum json_type json_type(const struct json *doc, int v)
{
    if (v < 0) return JSON_ABSENT;
    switch (doc->tokens[v].type) {
    case JSMN_OBJECT: return JSON_OBJECT;
    case JSMN_ARRAY: return JSON_ARRAY;
    case JSMN_STRING: return JSON_STRING;
    case JSMN_PRIMITIVE: break;
    case JSMN_UNDEFINED: return JSON_ABSENT;
    }
    char c = doc->text[doc->tokens[v].start];
    return c == 'n' ? JSON_NULL : c == 't' || c == 'f' ? JSON_BOOL : JSON_NUMBER;
}

struct json_slice json_raw(const struct json *doc, int v)
{
    if (v < 0) return (struct json_slice){NULL, 0};
    struct json_slice s = inside(doc, v);
    if (doc->tokens[v].type != JSMN_STRING) return s;
    return (struct json_slice){s.p - 1, s.len + 2};
}

static bool is_container(const struct json *doc, int v)
{
    return v >= 0 && (doc->tokens[v].type == JSMN_OBJECT || doc->tokens[v].type == JSMN_ARRAY);
}

uint32_t json_size(const struct json *doc, int v)
{
    return json_opened(doc, v) ? (uint32_t)doc->tokens[v].size : 0;
}

bool json_opened(const struct json *doc, int v)
{
    return is_container(doc, v) && doc->tokens[v].size >= 0;
}

int json_first(const struct json *doc, int container)
{
    if (!is_container(doc, container)) return JSON_NONE;
    assert(json_opened(doc, container));
    if (doc->tokens[container].size == 0) return JSON_NONE;
    return container + (doc->tokens[container].type == JSMN_OBJECT ? 2 : 1);
}

int json_next(const struct json *doc, int container, int v)
{
    if (v < 0 || doc->tokens[v].parent >= doc->tokens[container].parent) return JSON_NONE;
    return doc->tokens[v].parent + (doc->tokens[container].type == JSMN_OBJECT ? 1 : 0);
}

int json_name(const struct json *doc, int v)
{
    (void)doc;
    return v > 0 ? v - 1 : JSON_NONE;
}

int json_member(const struct json *doc, int v, const char *name)
{
    if (json_type(doc, v) != JSON_OBJECT) return JSON_NONE;
    size_t len = strlen(name);
    for (int m = json_first(doc, v); m != JSON_NONE; m = json_next(doc, v, m))
        if (json_is(doc, json_name(doc, m), name, len)) return m;
    return JSON_NONE;
}

bool json_is(const struct json *doc, int v, const char *bytes, size_t len)
{
    if (json_type(doc, v) != JSON_STRING) return false;
    struct json_slice s = inside(doc, v);
    if (!has_escape(s)) return s.len == len && (len == 0 || memcmp(s.p, bytes, len) == 0);
    const char *end = s.p + s.len, *want_end = bytes + len;
    while (s.p < end && bytes < want_end) {
        uint32_t want;
        int n = utf8_get(bytes, want_end, &want);
        if (n == 0 || next_code(&s.p, end) != want) return false;
        bytes += n;
    }
    return s.p == end && bytes == want_end;
}

/* ---- decode ---- */

int64_t json_string(const struct json *doc, int v, char *out, size_t cap)
{
    struct json_slice s;
    if (json_plain(doc, v, &s)) {
        if (s.len > cap) return -1;
        memcpy(out, s.p, s.len);
        return (int64_t)s.len;
    }
    if (json_type(doc, v) != JSON_STRING) return -1;
    s = inside(doc, v);
    size_t len = 0;
    for (const char *p = s.p, *end = s.p + s.len; p < end;) {
        char bytes[4];
        uint32_t code = next_code(&p, end);
        size_t n = utf8_put(bytes, code);
        if (is_surrogate(code) || n > cap - len) return -1;
        memcpy(out + len, bytes, n);
        len += n;
    }
    return (int64_t)len;
}

bool json_plain(const struct json *doc, int v, struct json_slice *out)
{
    if (json_type(doc, v) != JSON_STRING) return false;
    struct json_slice s = inside(doc, v);
    if (has_escape(s)) return false;
    *out = s;
    return true;
}
