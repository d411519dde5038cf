/* http_chunked_read: any bytes, whole and in pieces: the same body, the same end or the same fault.
 */
#include <stdlib.h>
#include <string.h>

#include "http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool promise)
{
    if (!promise) abort();
}

/* Decodes data in pieces of at most step bytes, each an allocation of its own; the body goes to
 * out. */
static int decode(const uint8_t *data, size_t size, size_t step, char *out, size_t *out_len,
                  size_t *consumed)
{
    struct http_chunked c = {0};
    int result = 0;

    *out_len = *consumed = 0;
    while (*consumed < size && result == 0) {
        size_t len = size - *consumed < step ? size - *consumed : step, used, body;
        char *piece = malloc(len);
        must(piece != NULL);
        memcpy(piece, data + *consumed, len);
        result = http_chunked_read(&c, piece, len, &used, &body);
        must(used <= len && body <= used && (result != 0 || used == len));
        memcpy(out + *out_len, piece, body);
        *out_len += body;
        *consumed += used;
        free(piece);
    }
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t whole_len, pieces_len, whole_used, pieces_used;

    if (size < 2) return 0;
    size_t step = data[0] % 32 + 1u;
    data++;
    size--;
    char *whole = malloc(size), *pieces = malloc(size);
    must(whole && pieces);
    int result = decode(data, size, size, whole, &whole_len, &whole_used);
    must(decode(data, size, step, pieces, &pieces_len, &pieces_used) == result);
    must(whole_len == pieces_len && whole_used == pieces_used);
    must(memcmp(whole, pieces, whole_len) == 0);
    must(result == 0 || result == 1 || result == -400);
    free(whole);
    free(pieces);
    return 0;
}
