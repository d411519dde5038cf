/* json.h - strict JSON (RFC 8259) over jsmn's tokens: parse, look, decode, write.
 *
 * jsmn only cuts text into tokens; json_parse checks the whole grammar first: literals, numbers,
 * commas and colons, escapes, UTF-8 (RFC 3629), control characters, nothing behind the value.
 * Linear in the text; no allocation, no clock, no globals. Any thread; a struct json one at a time.
 *
 * A value is the index of its token: 0 is the whole text, JSON_NONE (-1) is "there is none", which
 * every function below takes as well, so that
 *     json_int64(&doc, json_member(&doc, 0, "id"), &id)
 * needs no test in between. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Who includes this needs jsmn's token type for the storage, no more; its functions are json.c's.
 * JSMN_PARENT_LINKS: without them jsmn is quadratic in the number of brackets. */
#ifndef JSMN_STRICT
#define JSMN_STRICT
#endif
#ifndef JSMN_PARENT_LINKS
#define JSMN_PARENT_LINKS
#endif
#ifdef JSON_TAKES_JSMN
#define JSMN_STATIC
#else
#define JSMN_HEADER
#endif
#include <jsmn.h>

#define JSON_DEPTH_MAX 64 /* brackets inside each other, in any text */
#define JSON_NONE (-1)

enum json_type {
    JSON_ABSENT, /* the type of JSON_NONE */
    JSON_NULL,
    JSON_BOOL,
    JSON_NUMBER,
    JSON_STRING,
    JSON_ARRAY,
    JSON_OBJECT,
};

/* A piece of the text, not terminated. */
struct json_slice {
    const char *p;
    size_t len;
};

/* A parsed text. Borrows text and tokens for as long as it is used. */
struct json {
    const char *text;
    size_t len;
    jsmntok_t *tokens; /* parent is rewritten to "the token behind this value and all inside it" */
    uint32_t cap;      /* how many tokens there is room for */
    uint32_t count;
    const char *why; /* after a failure: static text, what is wrong ... */
    size_t at;       /* ... and the byte offset of it */
};

/* ---- parse ---- */

/* How deep json_parse opens arrays and objects: one at depth `open` or less has its elements as
 * tokens; a deeper one is checked like all else but stays one token, to be passed through by
 * json_raw, or to be opened by json_parse_value. So a command whose payload is an array of 60,000
 * numbers costs a handful of tokens. JSON_OPEN_ALL opens everything. */
#define JSON_OPEN_ALL JSON_DEPTH_MAX

enum {
    /* Take \ud800 without its other half as valid. It is in the grammar (RFC 8259 section 8.2)
     * and JSON.stringify writes it, so payloads that pass through may have it. json_string
     * refuses to decode it all the same. */
    JSON_LONE_SURROGATES = 1,
};

/* json_parse checks text (len bytes; may hold NUL bytes, which are errors) and fills doc, using at
 * most cap tokens. Returns 0, or -1 with doc->why and doc->at: bad grammar, deeper than
 * JSON_DEPTH_MAX, more than cap tokens, longer than INT_MAX. Members of the same name are not
 * looked for here: json_unique. */
int json_parse(struct json *doc, const char *text, size_t len, jsmntok_t *tokens, uint32_t cap,
               int open, unsigned flags);

/* json_check does the same without tokens: is this one valid JSON value? why and at may be NULL. */
bool json_check(const char *text, size_t len, unsigned flags, const char **why, size_t *at);

/* json_parse_value parses value v of doc, which was left unopened, as a text of its own into sub
 * (sub->at counts from the value's first byte). -1 also if v is JSON_NONE. */
int json_parse_value(struct json *sub, const struct json *doc, int v, jsmntok_t *tokens,
                     uint32_t cap, int open);

/* json_unique: are the names of object v's own members all different once their escapes are
 * decoded? True for what is not an object. O(n log n), no memory besides the tokens. Must be asked
 * wherever two readers might take different members of the same name for the right one. If not,
 * doc->why and doc->at say so. */
bool json_unique(struct json *doc, int v);

/* ---- look ---- */

enum json_type json_type(const struct json *doc, int v);

/* json_raw gives the bytes of a value as they were sent, the quotes of a string included; {NULL, 0}
 * for JSON_NONE. */
struct json_slice json_raw(const struct json *doc, int v);

/* json_size: members of an object or elements of an array that is opened, else 0. */
uint32_t json_size(const struct json *doc, int v);

/* json_opened: does v, an array or object, have its elements as tokens? */
bool json_opened(const struct json *doc, int v);

/* Walk an opened array or object:
 *     for (int v = json_first(doc, a); v != JSON_NONE; v = json_next(doc, a, v))
 * gives the values; json_name the name of the member whose value is v, for objects. Asking an
 * unopened one is a bug (asserted); anything that is neither is empty. */
int json_first(const struct json *doc, int container);
int json_next(const struct json *doc, int container, int v);
int json_name(const struct json *doc, int v);

/* json_member finds a member of an object by its decoded name (UTF-8), the first if there are
 * several; JSON_NONE if there is none or v is not an object. Linear in the number of members. */
int json_member(const struct json *doc, int v, const char *name);

/* json_is: is v a string that decodes to exactly these bytes? */
bool json_is(const struct json *doc, int v, const char *bytes, size_t len);

/* ---- decode: false if v is of another type or has no exact answer; *out is then left alone ----
 */

bool json_bool(const struct json *doc, int v, bool *out);

/* Numbers that are whole, in whatever spelling (10, 1e1, 10.0), and fit. */
bool json_int64(const struct json *doc, int v, int64_t *out);
bool json_uint64(const struct json *doc, int v, uint64_t *out);

/* json_floor: the greatest whole number that is not above v, held at INT64_MIN and INT64_MAX when
 * it is beyond them; *exact (may be NULL) tells whether it is v itself. No rounding on the way. */
bool json_floor(const struct json *doc, int v, int64_t *out, bool *exact);

/* Nearest double; false when it would be infinite or the number has more than 128 characters. */
bool json_double(const struct json *doc, int v, double *out);

/* json_string decodes a string into out (cap bytes, not terminated) and returns its length, which
 * is never more than that of its raw text; -1 if v is no string, a lone surrogate is in it, or cap
 * is too small. May hold NUL bytes (\u0000). */
int64_t json_string(const struct json *doc, int v, char *out, size_t cap);

/* json_plain gives the bytes between the quotes of a string that has no escape in it, and so needs
 * no decoding; false for all else. */
bool json_plain(const struct json *doc, int v, struct json_slice *out);

/* ---- write: into a buffer of the caller's, never beyond it ---- */

/* json_escape writes len bytes of UTF-8 as the inside of a JSON string (no quotes) and returns how
 * many bytes that took, or -1 if cap is too small. At most 6 for each. */
int64_t json_escape(char *out, size_t cap, const char *bytes, size_t len);

/* A text under way. After the first thing that did not fit nothing more is written and full is set:
 * test once, at the end. Commas, colons and brackets are the caller's, by json_put. */
struct json_out {
    char *p;
    size_t cap, len;
    bool full;
};
void json_put(struct json_out *o, const char *bytes, size_t len); /* as they are */
void json_puts(struct json_out *o, const char *text);             /* as it is, up to its NUL */
void json_put_string(struct json_out *o, const char *bytes, size_t len); /* quoted and escaped */
void json_put_int(struct json_out *o, int64_t n);
void json_put_uint(struct json_out *o, uint64_t n);

#endif
