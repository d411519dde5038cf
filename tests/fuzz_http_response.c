/* http_response_parse: any bytes. No shorter head may have another answer than "more". */
#include <stdlib.h>
#include <string.h>

#include "http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool promise)
{
    if (!promise) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct http_response r, again;
    char *buf = malloc(size ? size : 1);

    if (!buf) return 0;
    memcpy(buf, data, size);
    int answer = http_response_parse(&r, buf, size);
    must(answer <= (int)size && answer >= -1);
    if (answer > 0) {
        must(r.status >= 100 && r.status <= 999 && r.count <= HTTP_HEADERS_MAX);
        must(http_response_parse(&again, buf, (size_t)answer) == answer);
        must(http_response_parse(&again, buf, (size_t)answer - 1) == 0);
        for (size_t i = 0; i < r.count; i++)
            must(r.headers[i].value.p >= buf &&
                 r.headers[i].value.p + r.headers[i].value.len <= buf + answer);
    }
    free(buf);
    return 0;
}
