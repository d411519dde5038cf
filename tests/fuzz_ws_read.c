/* ws_read: any bytes, on either side, whole, byte by byte and in pieces: the same events, and
 * failing at the same byte. The input's first byte chooses side and limit, the second the pieces.
 */
#include <stdlib.h>
#include <string.h>

#include "ws_listener.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The masks are of no interest and would hide text from the fuzzer: frames for the server side are
 * made to carry the zero key, wherever a header is whole. */
static void clear_keys(uint8_t *bytes, size_t len)
{
    size_t at = 0;
    struct ws_head h;

    while (at < len) {
        int size = ws_head_parse(&h, bytes + at, len - at);
        if (size <= 0) return;
        if (h.masked) memset(bytes + at + size - 4, 0, 4);
        if (h.payload_len > len - at - (size_t)size) return;
        at += (size_t)size + (size_t)h.payload_len;
    }
}

/* Feeds data in pieces, each an allocation of its own. Returns how many bytes were fed until the
 * piece in which the connection ended, and in *last that piece's size. */
static size_t run(struct ws_listener *l, const uint8_t *data, size_t size, uint32_t steps,
                  size_t *last)
{
    size_t at = 0;
    bool open = true;

    *last = 0;
    while (at < size && open) {
        size_t len = steps ? 1 + (steps >> 28) : size;
        if (steps > 1) steps = steps * 1664525u + 1013904223u;
        if (len > size - at) len = size - at;
        uint8_t *piece = malloc(len);
        ws_listener_must(piece != NULL);
        memcpy(piece, data + at, len);
        open = ws_listener_feed(l, piece, len);
        free(piece);
        at += len;
        *last = len;
    }
    return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3) return 0;
    const struct ws_listener start = {
        .limits = {data[0] & 2 ? 64 : 1 << 20, !(data[0] & 1)},
        .digest = DIGEST_START,
    };
    struct ws_listener whole = start, single = start, pieces = start;
    uint32_t steps = data[1] * 0x01010101u | 2;
    bool zero_keys = data[0] & 4;
    size_t last;

    uint8_t *bytes = malloc(size -= 2);
    ws_listener_must(bytes != NULL);
    memcpy(bytes, data + 2, size);
    if (zero_keys) clear_keys(bytes, size);
    pieces.forget = true;

    run(&whole, bytes, size, 0, &last);
    size_t end = run(&single, bytes, size, 1, &last); /* single bytes: the exact end */
    size_t pieces_end = run(&pieces, bytes, size, steps, &last);
    ws_listener_must(ws_listener_same(&whole, &single) && ws_listener_same(&whole, &pieces));
    if (single.close) ws_listener_must(end <= pieces_end && end > pieces_end - last);
    free(bytes);
    return 0;
}
