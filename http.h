/* http.h - HTTP/1.1 messages as a WebSocket server needs them (RFC 9112, strict): request heads,
 * chunked bodies, and response heads as a client reads them.
 *
 * Pure functions: no I/O, no allocation, no clock, no globals. Any thread. */
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_MAX 8192
#define HTTP_HEADERS_MAX 64

struct http_str { /* a piece of the input, not terminated */
    const char *p;
    size_t len;
};

struct http_header {
    struct http_str name, value; /* value without white space around it */
};

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_OPTIONS, HTTP_OTHER };

/* A request head. Pointers are into the buffer that was parsed. */
struct http_request {
    enum http_method method;
    struct http_str method_text;
    struct http_str target; /* as sent */
    /* Of the target, before '?', still percent-encoded. An absolute-form target is reduced to its
     * path (a static "/" if it has none) and its authority takes Host's place (section 3.2.2). */
    struct http_str path;
    struct http_str query;  /* behind '?', may be empty */
    int minor;              /* HTTP/1.minor: 0 or 1 */
    bool keep_alive;        /* by version and Connection */
    bool upgrade_websocket; /* HTTP/1.1, Connection has upgrade and Upgrade has websocket */
    bool upgrade;           /* there is an Upgrade header at all */
    bool chunked;           /* Transfer-Encoding: chunked (any other coding is 501) */
    bool has_content_length;
    bool expect_continue;
    uint64_t content_length;
    /* p NULL = absent. ws_protocol and ws_extensions may come several times (RFC 6455 section
     * 11.3): this is the first, http_header finds the others. */
    struct http_str host, origin, authorization, ws_key, ws_protocol, ws_extensions, ws_version;
    size_t count;
    struct http_header headers[HTTP_HEADERS_MAX];
};

/* http_request_parse reads a request head from the first len bytes of buf, strictly: no bare LF or
 * CR, no folding, no white space before the colon, no NUL or other control byte, tokens where
 * tokens belong, a request line of exactly three parts, one Host (HTTP/1.1 needs it). Refused as
 * well: duplicates of Host, Content-Length, Transfer-Encoding, Authorization, Origin,
 * Sec-WebSocket-Key, Sec-WebSocket-Version; Content-Length together with Transfer-Encoding; either
 * of them with an Upgrade to websocket (Content-Length: 0 included; an Upgrade to anything else is
 * ignored, RFC 9110 section 7.8); lengths that are not 1*DIGIT or not below 2^64.
 *
 * Returns the head's size in bytes, 0 if more is needed, or the negative HTTP status to answer with
 * (400, 414 request line over HTTP_HEAD_MAX, 431 head over HTTP_HEAD_MAX or HTTP_HEADERS_MAX, 501,
 * 505) and then points *why at a static one-line text that says what is wrong; *r is undefined
 * then. *at is how far earlier calls have looked for the end of the head (start it at 0; the caller
 * passes the same head again, longer), so that a head that comes byte by byte costs linear time. A
 * byte that may be nowhere in a head is refused as soon as it is there. One CRLF before the request
 * line is skipped (RFC 9112 section 2.2). */
int http_request_parse(struct http_request *r, const char *buf, size_t len, size_t *at,
                       const char **why);

/* http_header finds a header by name (case-insensitive), the n-th of that name (0 = first).
 * Returns NULL if there is none. */
const struct http_str *http_header(const struct http_request *r, const char *name, size_t n);

/* http_list_has: is token an element of the comma-separated list (case-insensitive, optional white
 * space)? http_list_next walks a list: *rest starts as the whole value; returns false at the end;
 * empty elements are skipped, a comma in a quoted string divides nothing. Linear. */
bool http_list_has(struct http_str list, const char *token);
bool http_list_next(struct http_str *rest, struct http_str *element);

/* http_percent_decode decodes s into out (cap bytes); returns the length, or -1 for a bad escape, a
 * NUL byte or too little room. '+' stays '+'. out may be where s is: decoding never grows. */
int64_t http_percent_decode(char *out, size_t cap, struct http_str s);

/* http_query_get finds the first name in a query string a=b&c=d; the value is still encoded, and
 * empty if there is no '='. The name is compared as it is. */
bool http_query_get(struct http_str query, const char *name, struct http_str *value);

bool http_str_is(struct http_str s, const char *text);        /* exactly */
bool http_str_is_nocase(struct http_str s, const char *text); /* ASCII case ignored */

/* http_reason: "Not Found" for 404; "Unknown" for a status that roost never sends. */
const char *http_reason(int status);

/* ---- chunked body, streaming (RFC 9112 section 7.1) ---- */
struct http_chunked { /* zero is the start */
    uint8_t state;
    uint8_t digits;
    uint16_t line; /* bytes of extensions and trailers in the whole body, capped */
    uint64_t left;
};
/* http_chunked_read decodes in place: moves body bytes of buf[0..len) to its front, *body = how
 * many, *used = bytes consumed. Returns 1 when the last chunk and trailers have been read (what is
 * behind buf + *used is the next request), 0 if more is needed, -400 when it is malformed.
 * Extensions and trailers are skipped, up to HTTP_HEAD_MAX bytes of them in a body. The caller caps
 * the sum of *body. */
int http_chunked_read(struct http_chunked *c, char *buf, size_t len, size_t *used, size_t *body);

/* ---- response head as a client reads it (roost sub, pub, bench) ---- */
struct http_response {
    int status, minor;
    struct http_str reason;
    bool has_content_length, chunked;
    uint64_t content_length;
    size_t count;
    struct http_header headers[HTTP_HEADERS_MAX];
};
/* Returns the head's size, 0 = more, -1 = malformed (longer than HTTP_HEAD_MAX included). As strict
 * as for requests, but the space behind the status may be missing where there is no reason. Call it
 * again with the same head, longer. */
int http_response_parse(struct http_response *r, const char *buf, size_t len);
const struct http_str *http_response_header(const struct http_response *r, const char *name);

#endif
