/* A session after its handshake: keys and sequence numbers as plain bytes (record.h), and the
 * beginning of a record whose end has not come. */
#include "tls.h"
#include "tls/internal.h"

#include <string.h>

struct tls_detached *tls_detached_new(struct mem_pool *pool, const struct record_keys *k)
{
    const size_t size = sizeof(struct tls_detached) + record_size(k->version, k->suite);
    struct tls_detached *t = mem_zalloc(pool, size);
    if (!t) return NULL;
    t->base.detached = t->base.over = true;
    t->pool = pool;
    t->size = (uint32_t)size;
    t->version = (uint8_t)k->version;
    t->suite = (uint8_t)k->suite;
    if (record_init(tls_record(t), k)) return t;
    tls_detached_free(t);
    return NULL;
}

static void forget_kept(struct tls_detached *t)
{
    mem_free(t->pool, t->kept, t->kept_cap);
    t->kept = NULL;
    t->kept_len = t->kept_cap = 0;
}

void tls_detached_free(struct tls_detached *t)
{
    forget_kept(t);
    record_wipe(tls_record(t));
    mem_free(t->pool, t, t->size);
}

/* ---- in ---- */

enum { KEPT_MIN = 256 };

/* keep puts bytes behind those kept of a record of whole bytes (0: not known yet). */
static bool keep(struct tls_detached *t, const uint8_t *bytes, size_t len, size_t whole)
{
    const size_t need = t->kept_len + len;
    if (need > t->kept_cap) {
        size_t cap = 2 * (size_t)t->kept_cap;
        if (cap < KEPT_MIN) cap = KEPT_MIN;
        if (whole && cap > whole) cap = whole;
        if (cap < need) cap = need;
        uint8_t *bigger = mem_alloc(t->pool, cap);
        if (!bigger) return false;
        if (t->kept_len) memcpy(bigger, t->kept, t->kept_len);
        mem_free(t->pool, t->kept, t->kept_cap);
        t->kept = bigger;
        t->kept_cap = (uint32_t)cap;
    }
    memcpy(t->kept + t->kept_len, bytes, len);
    t->kept_len = (uint32_t)need;
    return true;
}

/* whole_at: how long the record at bytes is, 0 if that can not be seen yet. Of one that is too long
 * its header is enough. */
static size_t whole_at(const struct tls_detached *t, const uint8_t *bytes, size_t len)
{
    const int whole = record_length(tls_record((struct tls_detached *)(uintptr_t)t), bytes, len);
    return whole < 0 ? RECORD_HEADER : (size_t)whole;
}

enum next { NEXT_HERE, NEXT_NOT_YET, NEXT_NO_MEMORY };

/* next_kept completes the record that is kept from in. */
static enum next next_kept(struct tls_detached *t, const uint8_t *in, size_t len, size_t *used)
{
    for (;;) {
        const size_t whole = whole_at(t, t->kept, t->kept_len);
        if (whole && t->kept_len >= whole) return NEXT_HERE;
        size_t missing = (whole ? whole : RECORD_HEADER) - t->kept_len;
        if (missing > len - *used) missing = len - *used;
        if (missing == 0) return NEXT_NOT_YET;
        if (!keep(t, in + *used, missing, whole)) return NEXT_NO_MEMORY;
        *used += missing;
    }
}

/* next_record finds the next whole record, in the input or put together in what is kept; what is
 * there of one that is not whole is kept. */
static enum next next_record(struct tls_detached *t, const uint8_t *in, size_t len, size_t *used,
                             const uint8_t **record, size_t *record_len)
{
    if (t->kept_len) {
        const enum next next = next_kept(t, in, len, used);
        *record = t->kept;
        *record_len = whole_at(t, t->kept, t->kept_len);
        return next;
    }
    const size_t left = len - *used, whole = whole_at(t, in + *used, left);
    if (whole && whole <= left) {
        *record = in + *used;
        *record_len = whole;
        *used += whole;
        return NEXT_HERE;
    }
    if (left && !keep(t, in + *used, left, whole)) return NEXT_NO_MEMORY;
    *used = len;
    return NEXT_NOT_YET;
}

static void fail(struct tls_detached *t, const char *why)
{
    t->base.failed = true;
    t->base.why = why;
}

/* open_one opens a record; returns whether another may follow. */
static bool open_one(struct tls_detached *t, const uint8_t *record, size_t len, uint8_t *plain,
                     size_t *n, uint8_t *out, size_t *out_len)
{
    size_t got = 0, reply = 0;
    const char *why = NULL;
    const enum record_got what =
        record_open(tls_record(t), record, len, plain + *n, &got, out + *out_len, &reply, &why);
    *out_len += reply;
    switch (what) {
    case RECORD_DATA: *n += got; return true;
    case RECORD_NOTHING: return true;
    case RECORD_CLOSED: t->base.closed_cleanly = true; return false;
    case RECORD_FAILED: fail(t, why); return false;
    }
    return false;
}

enum io tls_detached_open(struct tls_detached *t, const uint8_t *in, size_t len, size_t *used,
                          uint8_t *plain, size_t cap, size_t *n, uint8_t *out, size_t out_cap,
                          size_t *out_len)
{
    *used = *n = *out_len = 0;
    if (t->base.failed || t->base.closed_cleanly) return IO_CLOSED;
    while (cap - *n >= RECORD_MAX && out_cap - *out_len >= RECORD_REPLY_MAX) {
        const uint8_t *record;
        size_t record_len;
        const enum next next = next_record(t, in, len, used, &record, &record_len);
        if (next == NEXT_NOT_YET) return IO_WANT_READ;
        if (next == NEXT_NO_MEMORY) fail(t, "out of memory");
        const bool more =
            next == NEXT_HERE && open_one(t, record, record_len, plain, n, out, out_len);
        if (next == NEXT_HERE && record == t->kept) forget_kept(t);
        if (!more) return *n > 0 ? IO_DONE : IO_CLOSED;
    }
    return IO_DONE;
}

/* ---- out ---- */

enum io tls_detached_seal(struct tls_detached *t, const struct iovec *pieces, unsigned count,
                          size_t *used, uint8_t *out, size_t cap, size_t *out_len)
{
    *used = *out_len = 0;
    if (t->base.failed || t->base.said_goodbye) return IO_CLOSED;
    if (tls_plain_len(pieces, count) == 0) return IO_DONE;
    if (cap <= RECORD_OVERHEAD) return IO_WANT_WRITE;
    *out_len = record_seal(tls_record(t), pieces, count, used, out, cap);
    if (*out_len) return IO_DONE;
    fail(t, "the keys have sealed as many records as they may");
    return IO_CLOSED;
}

void tls_detached_close_notify(struct tls_detached *t, uint8_t *out, size_t cap, size_t *out_len)
{
    *out_len = 0;
    if (!t->base.failed && !t->base.said_goodbye && cap >= RECORD_OVERHEAD)
        *out_len = record_goodbye(tls_record(t), out);
    t->base.said_goodbye = true;
}
