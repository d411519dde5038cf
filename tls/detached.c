/* A session after its handshake: keys and sequence numbers as plain bytes (record.h), and the
 * beginning of a record whose end has not come. */
#include "tls.h"
#include "tls/internal.h"

#include <string.h>

#include <mbedtls/platform_util.h>

/* blank makes a session whose record is still to be filled in. */
static struct tls_detached *blank(struct mem_pool *pool, enum record_version version,
                                  enum aead suite)
{
    const size_t size = sizeof(struct tls_detached) + record_size(version, suite);
    struct tls_detached *t = mem_zalloc(pool, size);
    if (!t) return NULL;
    t->base.detached = t->base.over = true;
    t->pool = pool;
    t->size = (uint32_t)size;
    t->version = (uint8_t)version;
    t->suite = (uint8_t)suite;
    return t;
}

struct tls_detached *tls_detached_new(struct mem_pool *pool, const struct record_keys *k)
{
    struct tls_detached *t = blank(pool, k->version, k->suite);
    if (!t || record_init(tls_record(t), k)) return t;
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
    mbedtls_platform_zeroize(t->record, t->size - sizeof *t);
    mem_free(t->pool, t, t->size);
}

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

/* ---- from process to process ---- */

struct saved { /* followed by the record and what is kept */
    uint8_t format, version, suite, note;
    uint8_t resumed, closed_cleanly, said_goodbye; /* 0 or 1 */
    uint8_t unused;
    uint32_t kept_len;
};
enum { SAVED_FORMAT = 1 };

size_t tls_save(const struct tls *s, uint8_t *out, size_t cap)
{
    if (!s->detached || s->failed) return 0;
    const struct tls_detached *t = tls_detached(s);
    const struct saved head = {.format = SAVED_FORMAT,
                               .version = t->version,
                               .suite = t->suite,
                               .note = s->note,
                               .resumed = t->resumed,
                               .closed_cleanly = s->closed_cleanly,
                               .said_goodbye = s->said_goodbye,
                               .kept_len = t->kept_len};
    const size_t record_len = t->size - sizeof *t;
    if (cap < sizeof head + record_len + t->kept_len) return 0;
    memcpy(out, &head, sizeof head);
    memcpy(out + sizeof head, t->record, record_len);
    if (t->kept_len) memcpy(out + sizeof head + record_len, t->kept, t->kept_len);
    return sizeof head + record_len + t->kept_len;
}

static bool saved_valid(const struct saved *head, size_t len)
{
    if (head->format != SAVED_FORMAT || head->unused || head->suite >= AEADS) return false;
    if ((head->resumed | head->closed_cleanly | head->said_goodbye) > 1) return false;
    if (head->version != RECORD_TLS12 && head->version != RECORD_TLS13) return false;
    return head->kept_len <= RECORD_MAX &&
           len == sizeof *head + head->kept_len +
                      record_size((enum record_version)head->version, (enum aead)head->suite);
}

/* loaded_valid: the record is of the kind that was announced. */
static bool loaded_valid(const struct tls_detached *t)
{
    const size_t len = t->size - sizeof *t;
    return record_valid(t->record, len) &&
           len == record_size((enum record_version)t->version, (enum aead)t->suite);
}

struct tls *tls_load(struct mem_pool *pool, const uint8_t *bytes, size_t len)
{
    struct saved head;
    if (len < sizeof head) return NULL;
    memcpy(&head, bytes, sizeof head);
    if (!saved_valid(&head, len)) return NULL;
    struct tls_detached *t = blank(pool, (enum record_version)head.version, (enum aead)head.suite);
    if (!t) return NULL;
    t->base.note = head.note;
    t->base.closed_cleanly = head.closed_cleanly;
    t->base.said_goodbye = head.said_goodbye;
    t->resumed = head.resumed;
    memcpy(t->record, bytes + sizeof head, t->size - sizeof *t);
    if (loaded_valid(t) &&
        (!head.kept_len || keep(t, bytes + len - head.kept_len, head.kept_len, 0)))
        return &t->base;
    tls_detached_free(t);
    return NULL;
}

/* ---- in ---- */

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
