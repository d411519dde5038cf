/* http_request_parse: any bytes. The head grown piece by piece gives the answer that it gives at
 * once, and everything that it points at is in the input. */
#include <stdlib.h>
#include <string.h>

#include "http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool promise)
{
    if (!promise) abort();
}

static bool within(struct http_str s, const char *buf, size_t len)
{
    return s.p == NULL || (s.p >= buf && s.len <= len && s.p + s.len <= buf + len);
}

static void check_request(const struct http_request *r, const char *buf, size_t len)
{
    char decoded[HTTP_HEAD_MAX];
    struct http_str value, element;

    must(r->count <= HTTP_HEADERS_MAX && r->minor >= 0 && r->minor <= 1);
    must(within(r->method_text, buf, len) && within(r->target, buf, len));
    must(within(r->query, buf, len) && within(r->host, buf, len) && within(r->origin, buf, len));
    must(within(r->ws_key, buf, len) && within(r->authorization, buf, len));
    must(within(r->path, buf, len) || http_str_is(r->path, "/"));
    must(!(r->chunked && r->has_content_length));
    must(!r->upgrade_websocket || (r->minor == 1 && !r->chunked && !r->has_content_length));
    for (size_t i = 0; i < r->count; i++) {
        must(within(r->headers[i].name, buf, len) && within(r->headers[i].value, buf, len));
        must(r->headers[i].name.len > 0);
        struct http_str rest = r->headers[i].value;
        while (http_list_next(&rest, &element)) must(element.len > 0 && within(element, buf, len));
    }
    int64_t n = http_percent_decode(decoded, sizeof(decoded), r->path);
    must(n <= (int64_t)r->path.len && (n <= 0 || !memchr(decoded, 0, (size_t)n)));
    if (http_query_get(r->query, "token", &value)) must(within(value, buf, len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_request whole, grown;
    const char *whole_why = NULL, *grown_why = NULL;
    size_t at = 0, grown_at = 0, cut = 0;
    int grown_answer = 0;

    if (size < 1) return 0;
    size_t step = data[0] + 1u; /* of the growing head */
    size--;
    char *buf = malloc(size ? size : 1); /* its own allocation: reading past the end is seen */
    if (!buf) return 0;
    memcpy(buf, data + 1, size);

    int answer = http_request_parse(&whole, buf, size, &at, &whole_why);
    must(answer <= (int)size && answer <= HTTP_HEAD_MAX);
    must((answer < 0) == (whole_why != NULL));
    while (cut < size && grown_answer == 0) {
        cut = size - cut < step ? size : cut + step;
        grown_answer = http_request_parse(&grown, buf, cut, &grown_at, &grown_why);
        must(grown_at <= cut);
    }
    must(grown_answer == answer && grown_why == whole_why);
    if (answer > 0) check_request(&whole, buf, (size_t)answer);
    free(buf);
    return 0;
}
