/* ws_close_parse and ws_close_write: what was parsed can be written and is parsed the same. And the
 * other functions that read a peer's few bytes: ws_head_parse, ws_utf8, ws_key_ok. */
#include <stdlib.h>
#include <string.h>

#include "ws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool promise)
{
    if (!promise) abort();
}

static void close_frame(const uint8_t *payload, size_t len)
{
    const char *reason, *again;
    char text[WS_CONTROL_MAX];
    uint8_t out[WS_CONTROL_MAX];
    size_t reason_len, again_len;
    int code = ws_close_parse(payload, len, &reason, &reason_len);

    must(code == -WS_CLOSE_PROTOCOL || code == -WS_CLOSE_BAD_DATA || code == WS_CLOSE_NO_STATUS ||
         ws_close_code_ok((unsigned)code));
    must(reason_len <= len);
    if (code < 0 || len > WS_CONTROL_MAX || memchr(reason, 0, reason_len)) return;
    memcpy(text, reason, reason_len);
    text[reason_len] = '\0';
    size_t written = ws_close_write(out, (unsigned)code, text);
    must(written == len && memcmp(out, payload, len) == 0);
    must(ws_close_parse(out, written, &again, &again_len) == code && again_len == reason_len);
}

static void header(const uint8_t *bytes, size_t len)
{
    struct ws_head h;
    uint8_t out[WS_HEAD_MAX];
    int size = ws_head_parse(&h, bytes, len);

    must(size <= WS_HEAD_MAX && size <= (int)len && size >= -WS_CLOSE_PROTOCOL);
    if (size <= 0) return;
    must(ws_head_write(out, &h) == (size_t)size && memcmp(out, bytes, (size_t)size) == 0);
    for (int cut = 0; cut < size; cut++) must(ws_head_parse(&h, bytes, (size_t)cut) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *bytes = malloc(size ? size : 1);
    uint32_t whole = 0, pieces = 0;
    bool ok = true;

    must(bytes != NULL);
    memcpy(bytes, data, size);
    close_frame(bytes, size);
    header(bytes, size);
    ws_key_ok((const char *)bytes, size);
    for (size_t i = 0; i < size && ok; i++) ok = ws_utf8(&pieces, bytes + i, 1);
    must(ws_utf8(&whole, bytes, size) == ok && (!ok || whole == pieces));
    free(bytes);
    return 0;
}
