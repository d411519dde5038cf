#include "http.h"

#include <string.h>

/* What a byte may be part of, RFC 9110 section 5.6.2 (token), RFC 3986 (host, request target).
 * The target is wider than RFC 3986: browsers send | [ ] { } ^ ` \ as they are. */
enum { TOKEN = 1, TARGET = 2, HOST = 4 };
#define NAME (TOKEN | TARGET | HOST)

static const uint8_t kinds[256] = {
    ['!'] = NAME,           ['"'] = TARGET,         ['#'] = TOKEN,         ['$'] = NAME,
    ['%'] = NAME,           ['&'] = NAME,           ['\''] = NAME,         ['('] = TARGET | HOST,
    [')'] = TARGET | HOST,  ['*'] = NAME,           ['+'] = NAME,          [','] = TARGET | HOST,
    ['-'] = NAME,           ['.'] = NAME,           ['/'] = TARGET,        ['0' ... '9'] = NAME,
    [':'] = TARGET | HOST,  [';'] = TARGET | HOST,  ['<'] = TARGET,        ['='] = TARGET | HOST,
    ['>'] = TARGET,         ['?'] = TARGET,         ['@'] = TARGET,        ['A' ... 'Z'] = NAME,
    ['['] = TARGET | HOST,  ['\\'] = TARGET,        [']'] = TARGET | HOST, ['^'] = TOKEN | TARGET,
    ['_'] = NAME,           ['`'] = TOKEN | TARGET, ['a' ... 'z'] = NAME,  ['{'] = TARGET,
    ['|'] = TOKEN | TARGET, ['}'] = TARGET,         ['~'] = NAME,
};

static bool is_kind(struct http_str s, uint8_t kind) /* and not empty */
{
    for (size_t i = 0; i < s.len; i++)
        if (!(kinds[(uint8_t)s.p[i]] & kind)) return false;
    return s.len > 0;
}

static int refuse(int status, const char *text, const char **why)
{
    *why = text;
    return -status;
}

/* ---- strings and lists ---- */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool http_str_is(struct http_str s, const char *text)
{
    return s.len == strlen(text) && (s.len == 0 || memcmp(s.p, text, s.len) == 0);
}

bool http_str_is_nocase(struct http_str s, const char *text)
{
    for (size_t i = 0; i < s.len; i++)
        if (text[i] == '\0' || lower(s.p[i]) != lower(text[i])) return false;
    return text[s.len] == '\0';
}

static struct http_str trim(struct http_str s) /* OWS, RFC 9110 section 5.6.3 */
{
    while (s.len > 0 && (*s.p == ' ' || *s.p == '\t')) s.p++, s.len--;
    while (s.len > 0 && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t')) s.len--;
    return s;
}

/* cut_at splits *rest at its first c: returns what is before it and leaves what is behind it.
 * Without c the whole is returned and *rest is empty; *found says which. */
static struct http_str cut_at(struct http_str *rest, char c, bool *found)
{
    struct http_str before = *rest;
    const char *hit = rest->len > 0 ? memchr(rest->p, c, rest->len) : NULL;

    if (found) *found = hit;
    if (hit) {
        const char *end = rest->p + rest->len;
        before.len = (size_t)(hit - rest->p);
        *rest = (struct http_str){hit + 1, (size_t)(end - hit) - 1};
    } else if (rest->len > 0) {
        *rest = (struct http_str){rest->p + rest->len, 0};
    }
    return before;
}

/* Length of the list's first element: up to a comma that is not in a quoted string. */
static size_t element_len(struct http_str list)
{
    bool quoted = false;

    for (size_t i = 0; i < list.len; i++) {
        if (list.p[i] == '"') quoted = !quoted;
        if (quoted && list.p[i] == '\\') i++;
        if (!quoted && list.p[i] == ',') return i;
    }
    return list.len;
}

bool http_list_next(struct http_str *rest, struct http_str *element)
{
    while (rest->len > 0) {
        size_t len = element_len(*rest);
        *element = trim((struct http_str){rest->p, len});
        size_t used = len < rest->len ? len + 1 : len;
        rest->p += used;
        rest->len -= used;
        if (element->len > 0) return true;
    }
    return false;
}

bool http_list_has(struct http_str list, const char *token)
{
    struct http_str element;

    while (http_list_next(&list, &element))
        if (http_str_is_nocase(element, token)) return true;
    return false;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int64_t http_percent_decode(char *out, size_t cap, struct http_str s)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        int byte = (uint8_t)s.p[i];
        if (byte == '%') {
            if (s.len - i < 3) return -1;
            int high = hex_value(s.p[i + 1]), low = hex_value(s.p[i + 2]);
            if (high < 0 || low < 0) return -1;
            byte = high << 4 | low;
            i += 2;
        }
        if (byte == 0 || n == cap) return -1;
        out[n++] = (char)byte;
    }
    return (int64_t)n;
}

bool http_query_get(struct http_str query, const char *name, struct http_str *value)
{
    while (query.len > 0) {
        struct http_str pair = cut_at(&query, '&', NULL);
        struct http_str key = cut_at(&pair, '=', NULL);
        if (!http_str_is(key, name)) continue;
        *value = pair;
        return true;
    }
    return false;
}

const char *http_reason(int status)
{
    switch (status) {
    case 100: return "Continue";
    case 101: return "Switching Protocols";
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 411: return "Length Required";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 426: return "Upgrade Required";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return "Unknown";
    }
}

/* ---- the head's end ---- */

static int refuse_control_byte(const char *buf, size_t i, const char **why)
{
    if (i == 0 && buf[i] == 0x16) /* a TLS record of the handshake */
        return refuse(400, "this looks like TLS, but the port speaks plain HTTP", why);
    if (buf[i] == '\n') return refuse(400, "a line of the head ends with a bare LF", why);
    if (buf[i] == '\r') return refuse(400, "a CR in the head is not followed by LF", why);
    if (buf[i] == '\0') return refuse(400, "a NUL byte in the head", why);
    return refuse(400, "a control byte in the head", why);
}

static int refuse_long_head(const char *buf, const char **why)
{
    const size_t skipped = buf[0] == '\r' ? 2 : 0;

    if (memchr(buf + skipped, '\n', HTTP_HEAD_MAX - skipped))
        return refuse(431, "the request head is longer than 8192 bytes", why);
    return refuse(414, "the request line is longer than 8192 bytes", why);
}

/* find_end looks from *at for the empty line that ends the head. It also finds every byte that may
 * be nowhere in a head, so that such a head is refused at that byte and later steps may rely on
 * lines that end with CRLF and on text without control bytes but HTAB. */
static int find_end(const char *buf, size_t len, size_t *at, const char **why)
{
    size_t limit = len < HTTP_HEAD_MAX ? len : HTTP_HEAD_MAX;
    size_t i = *at;

    for (; i < limit; i++) {
        uint8_t byte = (uint8_t)buf[i];
        if ((byte >= ' ' && byte != 0x7f) || byte == '\t') continue;
        if (byte == '\r' && i + 1 == limit) break; /* its LF may come */
        if (byte != '\r' || buf[i + 1] != '\n') return refuse_control_byte(buf, i, why);
        if (i > 0 && buf[i - 1] == '\n') return (int)(i + 2);
        i++;
    }
    *at = i;
    return len < HTTP_HEAD_MAX ? 0 : refuse_long_head(buf, why);
}

/* The next line without its CRLF; find_end has seen that every CR is one of a CRLF. */
static struct http_str next_line(struct http_str *rest)
{
    struct http_str line = cut_at(rest, '\r', NULL);
    rest->p++;
    rest->len--;
    return line;
}

/* ---- field lines, RFC 9112 section 5 ---- */

static int parse_field(struct http_header *h, struct http_str line, const char **why)
{
    bool colon;

    if (*line.p == ' ' || *line.p == '\t')
        return refuse(400, "a header line begins with white space (folding is obsolete)", why);
    h->name = cut_at(&line, ':', &colon);
    if (!colon) return refuse(400, "a header line has no colon", why);
    if (h->name.len == 0) return refuse(400, "a header line has no name", why);
    char before_colon = h->name.p[h->name.len - 1];
    if (before_colon == ' ' || before_colon == '\t')
        return refuse(400, "a header line has white space before its colon", why);
    if (!is_kind(h->name, TOKEN)) return refuse(400, "a header name is not a token", why);
    h->value = trim(line);
    return 0;
}

/* rest is the head behind its first line, the empty line included. */
static int parse_fields(struct http_header *headers, size_t *count, struct http_str rest,
                        const char **why)
{
    for (*count = 0;; ++*count) {
        struct http_str line = next_line(&rest);
        if (line.len == 0) return 0;
        if (*count == HTTP_HEADERS_MAX) return refuse(431, "more than 64 header lines", why);
        int status = parse_field(&headers[*count], line, why);
        if (status < 0) return status;
    }
}

static const struct http_str *find_field(const struct http_header *headers, size_t count,
                                         const char *name, size_t n)
{
    for (size_t i = 0; i < count; i++)
        if (http_str_is_nocase(headers[i].name, name) && n-- == 0) return &headers[i].value;
    return NULL;
}

const struct http_str *http_header(const struct http_request *r, const char *name, size_t n)
{
    return find_field(r->headers, r->count, name, n);
}

static bool parse_length(struct http_str s, uint64_t *value) /* 1*DIGIT below 2^64 */
{
    uint64_t v = 0;

    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') return false;
        uint64_t digit = (uint64_t)(s.p[i] - '0');
        if (v > (UINT64_MAX - digit) / 10) return false;
        v = v * 10 + digit;
    }
    *value = v;
    return s.len > 0;
}

/* ---- request line, RFC 9112 section 3 ---- */

static int parse_version(int *minor, struct http_str s, const char **why)
{
    if (s.len != 8 || memcmp(s.p, "HTTP/", 5) != 0 || s.p[5] < '0' || s.p[5] > '9' ||
        s.p[6] != '.' || s.p[7] < '0' || s.p[7] > '9')
        return refuse(400, "the request line does not end with HTTP/1.1", why);
    if (s.p[5] != '1') return refuse(505, "only HTTP/1.0 and HTTP/1.1 are spoken here", why);
    *minor = s.p[7] == '0' ? 0 : 1; /* RFC 9110 section 2.5: a higher minor is 1.1 for us */
    return 0;
}

static void split_query(struct http_request *r, struct http_str path)
{
    r->path = cut_at(&path, '?', NULL);
    r->query = path;
}

/* http://authority/path: the authority goes before the Host header (RFC 9112 section 3.2.2). */
static int parse_absolute_form(struct http_request *r, const char **why)
{
    static const char *const schemes[] = {"http:", "https:", "ws:", "wss:"};
    struct http_str rest = r->target;
    bool known = false;

    cut_at(&rest, ':', NULL);
    struct http_str scheme = {r->target.p, r->target.len - rest.len};
    for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++)
        known = known || http_str_is_nocase(scheme, schemes[i]);
    if (!known || rest.len < 2 || memcmp(rest.p, "//", 2) != 0)
        return refuse(400, "the request target is neither a path nor an http URL", why);

    rest.p += 2;
    rest.len -= 2;
    size_t authority = 0;
    while (authority < rest.len && rest.p[authority] != '/' && rest.p[authority] != '?')
        authority++;
    r->host = (struct http_str){rest.p, authority};
    if (!is_kind(r->host, HOST))
        return refuse(400, "the request target's URL has no valid host", why);
    split_query(r, (struct http_str){rest.p + authority, rest.len - authority});
    if (r->path.len == 0) r->path = (struct http_str){"/", 1};
    return 0;
}

static int parse_target(struct http_request *r, const char **why)
{
    if (!is_kind(r->target, TARGET))
        return refuse(400, "a byte of the request target must be percent-encoded", why);
    if (*r->target.p == '/') {
        split_query(r, r->target);
        return 0;
    }
    if (http_str_is(r->target, "*")) { /* asterisk-form, section 3.2.4 */
        if (r->method != HTTP_OPTIONS)
            return refuse(400, "the request target * goes with OPTIONS only", why);
        split_query(r, r->target);
        return 0;
    }
    return parse_absolute_form(r, why);
}

static enum http_method method_of(struct http_str text)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "OPTIONS"};
    for (unsigned i = 0; i < HTTP_OTHER; i++)
        if (http_str_is(text, names[i])) return (enum http_method)i;
    return HTTP_OTHER;
}

static int parse_request_line(struct http_request *r, struct http_str line, const char **why)
{
    if (line.len == 0) return refuse(400, "the request line is empty", why);
    r->method_text = cut_at(&line, ' ', NULL);
    r->target = cut_at(&line, ' ', NULL);
    if (!is_kind(r->method_text, TOKEN))
        return refuse(400, "the request line does not begin with a method", why);
    if (r->target.len == 0 || line.len == 0 || memchr(line.p, ' ', line.len))
        return refuse(400, "the request line is not method, target and version with one space",
                      why);
    r->method = method_of(r->method_text);
    int status = parse_version(&r->minor, line, why);
    return status < 0 ? status : parse_target(r, why);
}

/* ---- what the fields of a request mean ---- */

/* Fields that a request has a place for. One that may come once only says so in twice; of the
 * others the first is kept. */
static const struct known_field {
    const char *name;
    size_t place;
    const char *twice;
} known_fields[] = {
#define PLACE(member) offsetof(struct http_request, member)
    {"Authorization", PLACE(authorization), "there are two Authorization headers"},
    {"Origin", PLACE(origin), "there are two Origin headers"},
    {"Sec-WebSocket-Key", PLACE(ws_key), "there are two Sec-WebSocket-Key headers"},
    {"Sec-WebSocket-Version", PLACE(ws_version), "there are two Sec-WebSocket-Version headers"},
    {"Sec-WebSocket-Protocol", PLACE(ws_protocol), NULL},
    {"Sec-WebSocket-Extensions", PLACE(ws_extensions), NULL},
#undef PLACE
};

static int place_fields(struct http_request *r, const char **why)
{
    for (size_t i = 0; i < sizeof(known_fields) / sizeof(*known_fields); i++) {
        const struct known_field *k = &known_fields[i];
        const struct http_str *value = http_header(r, k->name, 0);
        if (!value) continue;
        if (k->twice && http_header(r, k->name, 1)) return refuse(400, k->twice, why);
        memcpy((char *)r + k->place, value, sizeof(*value));
    }
    return 0;
}

static int check_host(struct http_request *r, const char **why) /* RFC 9112 section 3.2 */
{
    const struct http_str *host = http_header(r, "Host", 0);

    if (!host) return r->minor == 0 ? 0 : refuse(400, "HTTP/1.1 needs a Host header", why);
    if (http_header(r, "Host", 1)) return refuse(400, "there are two Host headers", why);
    if (host->len > 0 && !is_kind(*host, HOST))
        return refuse(400, "the Host header is not a host and port", why);
    if (!r->host.p) r->host = *host; /* else it came with an absolute-form target */
    return 0;
}

/* RFC 9112 section 6. Whatever two readers could frame differently is refused: request smuggling.
 */
static int check_body(struct http_request *r, const char **why)
{
    const struct http_str *length = http_header(r, "Content-Length", 0);
    const struct http_str *coding = http_header(r, "Transfer-Encoding", 0);

    if (http_header(r, "Content-Length", 1))
        return refuse(400, "there are two Content-Length headers", why);
    if (http_header(r, "Transfer-Encoding", 1))
        return refuse(400, "there are two Transfer-Encoding headers", why);
    if (length && coding)
        return refuse(400, "Content-Length and Transfer-Encoding are both there", why);
    if (coding && r->minor == 0) return refuse(400, "Transfer-Encoding needs HTTP/1.1", why);
    if (coding && !http_str_is_nocase(*coding, "chunked"))
        return refuse(501, "the only Transfer-Encoding understood here is chunked", why);
    if (length && !parse_length(*length, &r->content_length))
        return refuse(400, "Content-Length is not a number below 2^64", why);
    r->chunked = coding;
    r->has_content_length = length;
    return 0;
}

static int check_connection(struct http_request *r, const char **why)
{
    const struct http_str *value;
    bool close = false, keep_alive = false, upgrade = false, websocket = false;

    for (size_t n = 0; (value = http_header(r, "Connection", n)); n++) {
        close = close || http_list_has(*value, "close");
        keep_alive = keep_alive || http_list_has(*value, "keep-alive");
        upgrade = upgrade || http_list_has(*value, "upgrade");
    }
    for (size_t n = 0; (value = http_header(r, "Upgrade", n)); n++) {
        r->upgrade = true;
        websocket = websocket || http_list_has(*value, "websocket");
    }
    r->keep_alive = !close && (keep_alive || r->minor > 0);
    /* RFC 9110 section 7.8: Upgrade in HTTP/1.0 is ignored. */
    r->upgrade_websocket = upgrade && websocket && r->minor > 0;
    /* A body would be read as frames, or frames as a body. An Upgrade to h2c, which Java's client
     * sends with every POST, is one that we ignore, so its body is an ordinary one. */
    if (websocket && r->has_content_length)
        return refuse(400, "Content-Length does not go with an upgrade to WebSocket", why);
    if (websocket && r->chunked)
        return refuse(400, "Transfer-Encoding does not go with an upgrade to WebSocket", why);
    value = http_header(r, "Expect", 0);
    r->expect_continue = value && r->minor > 0 && http_list_has(*value, "100-continue");
    return 0;
}

int http_request_parse(struct http_request *r, const char *buf, size_t len, size_t *at,
                       const char **why)
{
    int size = find_end(buf, len, at, why);
    if (size <= 0) return size;

    memset(r, 0, offsetof(struct http_request, headers));
    size_t skipped = buf[0] == '\r' ? 2 : 0; /* RFC 9112 section 2.2 */
    struct http_str rest = {buf + skipped, (size_t)size - skipped};
    int status = parse_request_line(r, next_line(&rest), why);
    if (status == 0) status = parse_fields(r->headers, &r->count, rest, why);
    if (status == 0) status = place_fields(r, why);
    if (status == 0) status = check_host(r, why);
    if (status == 0) status = check_body(r, why);
    if (status == 0) status = check_connection(r, why);
    return status < 0 ? status : size;
}

/* ---- chunked body, RFC 9112 section 7.1 ---- */

enum chunked_state {
    CHUNK_SIZE = 0,
    CHUNK_SPACE, /* white space behind the size: only an extension may follow */
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    TRAILER_START,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    BODY_LF,
    BODY_DONE,
};

/* Extensions and trailers are read and forgotten. All of a body's together are capped, else a body
 * of single bytes could carry a line of extensions with each. */
static bool skip_byte(struct http_chunked *c, uint8_t byte)
{
    if (c->line == HTTP_HEAD_MAX) return false;
    c->line++;
    return (byte >= ' ' && byte != 0x7f) || byte == '\t';
}

static bool chunked_size(struct http_chunked *c, char byte)
{
    int value = hex_value(byte);

    if (value >= 0) {
        if (c->digits == 16) return false; /* so 64 bits never overflow */
        c->digits++;
        c->left = c->left << 4 | (uint64_t)value;
        return true;
    }
    if (c->digits == 0) return false;
    c->state = byte == '\r' ? CHUNK_SIZE_LF : byte == ';' ? CHUNK_EXTENSION : CHUNK_SPACE;
    return byte == '\r' || byte == ';' || byte == ' ' || byte == '\t';
}

static bool chunked_become(struct http_chunked *c, enum chunked_state to)
{
    c->state = (uint8_t)to;
    return true;
}

/* One byte that is not of the body; false if it may not be here. */
static bool chunked_step(struct http_chunked *c, char byte)
{
    switch ((enum chunked_state)c->state) {
    case CHUNK_SIZE: return chunked_size(c, byte);
    case CHUNK_SPACE:
        if (byte == ';') return chunked_become(c, CHUNK_EXTENSION);
        return (byte == ' ' || byte == '\t') && skip_byte(c, (uint8_t)byte);
    case CHUNK_EXTENSION:
        if (byte == '\r') return chunked_become(c, CHUNK_SIZE_LF);
        return skip_byte(c, (uint8_t)byte);
    case CHUNK_SIZE_LF:
        c->digits = 0;
        return byte == '\n' && chunked_become(c, c->left > 0 ? CHUNK_DATA : TRAILER_START);
    case CHUNK_DATA: return false; /* not here: http_chunked_read moves it */
    case CHUNK_DATA_CR: return byte == '\r' && chunked_become(c, CHUNK_DATA_LF);
    case CHUNK_DATA_LF: return byte == '\n' && chunked_become(c, CHUNK_SIZE);
    case TRAILER_START:
        if (byte == '\r') return chunked_become(c, BODY_LF);
        c->state = TRAILER_NAME;
        return (kinds[(uint8_t)byte] & TOKEN) && skip_byte(c, (uint8_t)byte);
    case TRAILER_NAME:
        if (byte == ':') return chunked_become(c, TRAILER_VALUE);
        return (kinds[(uint8_t)byte] & TOKEN) && skip_byte(c, (uint8_t)byte);
    case TRAILER_VALUE:
        if (byte == '\r') return chunked_become(c, TRAILER_LF);
        return skip_byte(c, (uint8_t)byte);
    case TRAILER_LF: return byte == '\n' && chunked_become(c, TRAILER_START);
    case BODY_LF: return byte == '\n' && chunked_become(c, BODY_DONE);
    case BODY_DONE: return false;
    }
    return false;
}

int http_chunked_read(struct http_chunked *c, char *buf, size_t len, size_t *used, size_t *body)
{
    size_t at = 0, out = 0;
    int result = 0;

    while (at < len && c->state != BODY_DONE && result == 0) {
        if (c->state != CHUNK_DATA) {
            if (!chunked_step(c, buf[at++])) result = -400;
            continue;
        }
        size_t piece = c->left < len - at ? (size_t)c->left : len - at;
        if (out != at) memmove(buf + out, buf + at, piece);
        out += piece;
        at += piece;
        c->left -= piece;
        if (c->left == 0) c->state = CHUNK_DATA_CR;
    }
    *used = at;
    *body = out;
    return c->state == BODY_DONE && result == 0 ? 1 : result;
}

/* ---- response head, RFC 9112 section 4 ---- */

static int parse_status_line(struct http_response *r, struct http_str line)
{
    const char *why;
    struct http_str version = cut_at(&line, ' ', NULL);
    /* Servers leave the space behind the status out when there is no reason. */
    struct http_str status = cut_at(&line, ' ', NULL);
    uint64_t number;

    if (parse_version(&r->minor, version, &why) < 0) return -1;
    if (status.len != 3 || !parse_length(status, &number) || number < 100) return -1;
    r->status = (int)number;
    r->reason = line;
    return 0;
}

int http_response_parse(struct http_response *r, const char *buf, size_t len)
{
    const char *why;
    size_t at = 0;
    int size = find_end(buf, len, &at, &why);
    if (size <= 0) return size == 0 ? 0 : -1;

    memset(r, 0, offsetof(struct http_response, headers));
    struct http_str rest = {buf, (size_t)size};
    if (parse_status_line(r, next_line(&rest)) < 0) return -1;
    if (parse_fields(r->headers, &r->count, rest, &why) < 0) return -1;

    const struct http_str *length = http_response_header(r, "Content-Length");
    const struct http_str *coding = http_response_header(r, "Transfer-Encoding");
    if (find_field(r->headers, r->count, "Content-Length", 1) || (length && coding)) return -1;
    if (find_field(r->headers, r->count, "Transfer-Encoding", 1)) return -1;
    if (coding && !http_str_is_nocase(*coding, "chunked")) return -1;
    if (length && !parse_length(*length, &r->content_length)) return -1;
    r->chunked = coding;
    r->has_content_length = length;
    return size;
}

const struct http_str *http_response_header(const struct http_response *r, const char *name)
{
    return find_field(r->headers, r->count, name, 0);
}
