/* Fuzz target of bench/reply.h: what a server sends is a line, and what comes of it lies in the
 * line and is JSON. */
#include "../bench/reply.h"

#include <stdlib.h>
#include <string.h>

#include "guard.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

#define MAX 65536

static void require(bool ok)
{
    if (!ok) abort();
}

static void check_raw(struct json_slice s, const char *line, size_t len)
{
    if (!s.len) return;
    require(s.p >= line && s.len <= len && (size_t)(s.p - line) <= len - s.len);
    require(json_check(s.p, s.len, JSON_LONE_SURROGATES, NULL, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct reply r;
    if (len > MAX) return 0;
    char *line = guard_copy(bytes, len);
    int result = reply_read(&r, line, len);
    require(result == 0 || result == -1);
    if (result == 0) {
        bool pub = r.kind == REPLY_PUBLICATION, ended = r.kind == REPLY_UNSUBSCRIBED;
        check_raw(r.data, line, len);
        check_raw(r.message, line, len);
        require(pub == (r.data.len > 0) && (pub || ended) == (r.channel_len > 0));
        require(r.channel_len <= sizeof r.channel);
        require((r.id > 0) == (r.kind == REPLY_RESULT || r.kind == REPLY_ERROR));
    }
    guard_free(line, len);
    return 0;
}
