#include "trace.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tls.h"

#define SPAN_HEAD offsetof(struct trace_span, name)

struct trace_flight {      /* a publication on its way */
    _Atomic uint32_t left; /* holders, and 1 for whoever writes it down; 0: free */
    struct trace_span span;
};

struct trace {
    uint64_t random;            /* state of a splitmix64: ids must differ, they are no secrets */
    _Atomic uint64_t threshold; /* what has a random number below it is sampled; UINT64_MAX:
                                   everything; relaxed, main sets it */
    bool under_way;
    struct trace_span span; /* under way, if something is */
    uint32_t next_flight;
    _Atomic uint64_t dropped; /* written by the worker */
    /* one writer, one reader: each index has a single owner, release by it, acquire by the other */
    _Alignas(64) _Atomic uint32_t head;
    _Alignas(64) _Atomic uint32_t tail;
    struct trace_span ring[TRACE_RING];
    struct trace_flight flights[TRACE_FLIGHTS];
};

struct traces {
    unsigned workers, turn; /* turn: whose ring is emptied first, so that none is always last */
    struct trace *of[];
};

bool trace_failed(const struct trace_span *s)
{
    return (s->result >= 500 && s->result < 600) || s->result == 1011 || s->result == 1013 ||
           s->result == 3004 || s->result == 100;
}

/* ---- traceparent ---- */

/* hex reads n lower-case digits, 16 at most. */
static bool hex(uint64_t *out, const char *text, size_t n)
{
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (c >= '0' && c <= '9')
            *out = *out << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            *out = *out << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    return true;
}

bool trace_parent_parse(struct trace_parent *p, const char *text, size_t len)
{
    uint64_t version, flags;
    if (len < TRACE_PARENT_LEN || text[2] != '-' || text[35] != '-' || text[52] != '-')
        return false;
    if (!hex(&version, text, 2) || !hex(&p->trace_id[0], text + 3, 16) ||
        !hex(&p->trace_id[1], text + 19, 16) || !hex(&p->id, text + 36, 16) ||
        !hex(&flags, text + 53, 2))
        return false;
    if (version == 0xff || (version == 0 && len != TRACE_PARENT_LEN)) return false;
    if (len > TRACE_PARENT_LEN && text[TRACE_PARENT_LEN] != '-') return false; /* section 4.2 */
    p->sampled = flags & 1;
    return (p->trace_id[0] || p->trace_id[1]) && p->id;
}

void trace_hex(char out[static TRACE_HEX], uint64_t id)
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < TRACE_HEX; i++) out[i] = digits[id >> (60 - 4 * i) & 15];
}

/* ---- all tracers ---- */

static uint64_t threshold_of(double sample)
{
    if (sample >= 1) return UINT64_MAX;
    return sample > 0 ? (uint64_t)(sample * 0x1p64) : 0;
}

static struct trace *new_trace(double sample)
{
    struct trace *t = aligned_alloc(64, (sizeof *t + 63) / 64 * 64);
    if (!t) return NULL;
    memset(t, 0, sizeof *t);
    random_bytes(&t->random, sizeof t->random);
    atomic_init(&t->threshold, threshold_of(sample));
    return t;
}

struct traces *traces_new(unsigned workers, double sample)
{
    struct traces *all = calloc(1, sizeof *all + workers * sizeof(struct trace *));
    if (!all) return NULL;
    for (; all->workers < workers; all->workers++) {
        all->of[all->workers] = new_trace(sample);
        if (all->of[all->workers]) continue;
        traces_delete(all);
        return NULL;
    }
    return all;
}

void traces_delete(struct traces *all)
{
    if (!all) return;
    for (unsigned i = 0; i < all->workers; i++) free(all->of[i]);
    free(all);
}

void traces_set_sample(struct traces *all, double sample)
{
    for (unsigned i = 0; i < all->workers; i++)
        atomic_store_explicit(&all->of[i]->threshold, threshold_of(sample), memory_order_relaxed);
}

struct trace *traces_worker(struct traces *all, unsigned worker)
{
    return all->of[worker];
}

static size_t take_from(struct trace *t, struct trace_span *out, size_t max)
{
    uint32_t tail = atomic_load_explicit(&t->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&t->head, memory_order_acquire);
    size_t n = 0;
    for (; n < max && tail != head; n++, tail++) {
        const struct trace_span *s = &t->ring[tail % TRACE_RING];
        memcpy(&out[n], s, SPAN_HEAD + s->name_len);
    }
    atomic_store_explicit(&t->tail, tail, memory_order_release);
    return n;
}

size_t traces_take(struct traces *all, struct trace_span *out, size_t max)
{
    size_t n = 0;
    all->turn++;
    for (unsigned i = 0; i < all->workers; i++)
        n += take_from(all->of[(all->turn + i) % all->workers], out + n, max - n);
    return n;
}

uint64_t traces_dropped(const struct traces *all)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < all->workers; i++)
        n += atomic_load_explicit(&all->of[i]->dropped, memory_order_relaxed);
    return n;
}

/* ---- a worker's ---- */

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static uint64_t next_random(struct trace *t)
{
    uint64_t z = t->random += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static uint64_t next_id(struct trace *t)
{
    uint64_t id = next_random(t);
    return id ? id : 1; /* 0 means "none" */
}

static void drop(struct trace *t)
{
    uint64_t n = atomic_load_explicit(&t->dropped, memory_order_relaxed);
    atomic_store_explicit(&t->dropped, n + 1, memory_order_relaxed);
}

/* put ends s and puts it into the ring. The wall clock may have been set back meanwhile. */
static void put(struct trace *t, struct trace_span *s)
{
    uint32_t head = atomic_load_explicit(&t->head, memory_order_relaxed);
    s->end_ns = now_ns();
    if (s->end_ns < s->start_ns) s->end_ns = s->start_ns;
    if (head - atomic_load_explicit(&t->tail, memory_order_acquire) == TRACE_RING) {
        drop(t);
        return;
    }
    memcpy(&t->ring[head % TRACE_RING], s, SPAN_HEAD + s->name_len);
    atomic_store_explicit(&t->head, head + 1, memory_order_release);
}

static bool by_chance(struct trace *t)
{
    const uint64_t threshold = atomic_load_explicit(&t->threshold, memory_order_relaxed);
    return threshold == UINT64_MAX || next_random(t) < threshold;
}

static void begin(struct trace *t, struct trace_span *s, enum trace_kind kind)
{
    memset(s, 0, SPAN_HEAD);
    s->kind = (uint8_t)kind;
    s->conn = TRACE_NO_CONN;
    s->id = next_id(t);
    s->start_ns = now_ns();
}

struct trace_span *trace_begin(struct trace *t, enum trace_kind kind,
                               const struct trace_parent *parent)
{
    struct trace_span *s = &t->span;
    t->under_way = parent ? parent->sampled : by_chance(t);
    if (!t->under_way) return NULL;
    begin(t, s, kind);
    if (parent) {
        memcpy(s->trace_id, parent->trace_id, sizeof s->trace_id);
        s->parent = parent->id;
    } else {
        s->trace_id[0] = next_random(t);
        s->trace_id[1] = next_id(t);
    }
    return s;
}

void trace_name(struct trace_span *s, const char *name, size_t len, bool ascii)
{
    if (len > TRACE_NAME_MAX) len = TRACE_NAME_MAX;
    memcpy(s->name, name, len);
    s->name_len = (uint8_t)len;
    for (size_t i = 0; ascii && i < len; i++)
        if (s->name[i] <= ' ' || s->name[i] > '~') s->name[i] = '?';
}

void trace_about(struct trace *t, const char *name, size_t len)
{
    if (t->under_way && !t->span.name_len) trace_name(&t->span, name, len, false);
}

void trace_result(struct trace *t, unsigned result)
{
    if (t->under_way) t->span.result = (uint16_t)result;
}

void trace_end(struct trace *t, unsigned result)
{
    if (!t->under_way) return;
    if (result) t->span.result = (uint16_t)result;
    t->under_way = false;
    put(t, &t->span);
}

struct trace_flight *trace_publish(struct trace *t, const char *name, size_t len, uint64_t bytes,
                                   uint32_t holders)
{
    if (!t->under_way) return NULL;
    struct trace_flight *f = &t->flights[t->next_flight % TRACE_FLIGHTS];
    if (atomic_load_explicit(&f->left, memory_order_acquire)) { /* the oldest is still under way */
        drop(t);
        return NULL;
    }
    t->next_flight++;
    t->span.children++;
    begin(t, &f->span, TRACE_PUBLISH);
    memcpy(f->span.trace_id, t->span.trace_id, sizeof f->span.trace_id);
    f->span.parent = t->span.id;
    f->span.bytes = bytes;
    trace_name(&f->span, name, len, false);
    trace_about(t, name, len);
    atomic_store_explicit(&f->left, holders + 1, memory_order_relaxed);
    return f;
}

void trace_handed_over(struct trace *t, struct trace_flight *f, uint32_t holders)
{
    if (!holders) return;
    uint32_t before = atomic_fetch_sub_explicit(&f->left, holders, memory_order_acq_rel);
    if (before - holders != 1) return; /* others are left */
    put(t, &f->span);
    atomic_store_explicit(&f->left, 0, memory_order_release);
}
