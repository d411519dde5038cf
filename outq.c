#include "outq.h"

#include <string.h>

#define FIRST_CAP 4
#define MAX_CAP (1u << 20)
#define NO_PONG UINT32_MAX
#define STEPS_PER_DROP 4u

static size_t size_of(uint32_t cap)
{
    return sizeof(struct out_queue) + cap * sizeof(struct out_entry);
}

static uint32_t entry_len(const struct out_entry *e)
{
    return e->frame->len - e->from;
}

static struct out_queue *make(struct mem_pool *pool)
{
    struct out_queue *q = mem_alloc(pool, size_of(FIRST_CAP));
    if (q) *q = (struct out_queue){.cap = FIRST_CAP, .pong = NO_PONG, .place = OUTQ_NO_PLACE};
    return q;
}

/* moved_to_front: the entries begin at 0 from now on. */
static void moved_to_front(struct out_queue *q)
{
    if (q->pong != NO_PONG) q->pong -= q->head;
    q->head = 0;
}

/* make_room answers a queue with a free place behind its last entry, grown or moved to the front.
 */
static struct out_queue *make_room(struct mem_pool *pool, struct out_queue *q)
{
    if (!q) return make(pool);
    if (q->head + q->count < q->cap) return q;
    if (q->head > q->cap / 2) {
        memmove(q->entries, q->entries + q->head, q->count * sizeof *q->entries);
        moved_to_front(q);
        return q;
    }
    if (q->cap >= MAX_CAP) return NULL;
    struct out_queue *bigger = mem_alloc(pool, size_of(q->cap * 2));
    if (!bigger) return NULL;
    *bigger = *q;
    moved_to_front(bigger);
    bigger->cap = q->cap * 2;
    memcpy(bigger->entries, q->entries + q->head, q->count * sizeof *q->entries);
    mem_free(pool, q, size_of(q->cap));
    return bigger;
}

bool outq_push(struct mem_pool *pool, struct out_queue **queue, struct out_entry e)
{
    struct out_queue *q = make_room(pool, *queue);
    if (!q) {
        frame_unref(e.frame, 1);
        return false;
    }
    *queue = q;
    if (e.kind == OUT_PONG) q->pong = q->head + q->count;
    q->entries[q->head + q->count++] = e;
    q->bytes += entry_len(&e);
    return true;
}

unsigned outq_iov(const struct out_queue *q, struct iovec *iov, unsigned max, size_t max_bytes)
{
    unsigned n = 0;
    size_t bytes = 0;
    uint32_t skip = q->sent;
    for (uint32_t i = 0; i < q->count && n < max && bytes < max_bytes; i++) {
        const struct out_entry *e = &q->entries[q->head + i];
        iov[n].iov_base = e->frame->bytes + e->from + skip;
        iov[n].iov_len = entry_len(e) - skip;
        bytes += iov[n++].iov_len;
        skip = 0;
    }
    return n;
}

void outq_sent(struct out_queue *q, size_t n)
{
    q->bytes -= (uint32_t)n;
    n += q->sent;
    while (q->count) {
        struct out_entry *e = &q->entries[q->head];
        if (n < entry_len(e)) break;
        n -= entry_len(e);
        frame_unref(e->frame, 1);
        if (q->head == q->pong) q->pong = NO_PONG;
        q->head++;
        q->count--;
    }
    q->sent = (uint32_t)n;
    if (q->count == 0) q->head = 0;
}

/* drop takes out droppable entries from the oldest on while the queue costs more than max_cost.
 * Those that stay are moved up to the ones behind, so that nothing behind the last one dropped is
 * looked at. */
static uint32_t drop(struct out_queue *q, uint64_t max_cost, bool pongs)
{
    struct out_entry *first = q->entries + q->head;
    uint32_t messages = 0, at = 0, kept = 0, pong = NO_PONG;
    uint64_t cost = outq_cost(q);
    for (; at < q->count && (cost > max_cost || (at - kept) * STEPS_PER_DROP < kept); at++) {
        struct out_entry *e = first + at;
        bool begun = at == 0 && q->sent;
        if (!begun && (e->kind == OUT_MESSAGE || (pongs && e->kind == OUT_PONG))) {
            q->bytes -= entry_len(e);
            cost -= entry_len(e) + OUT_ENTRY_COST;
            messages += e->messages;
            frame_unref(e->frame, 1);
        } else {
            if (q->head + at == q->pong) pong = kept;
            first[kept++] = *e;
        }
    }
    uint32_t dropped = at - kept;
    memmove(first + dropped, first, kept * sizeof *first);
    if (q->pong < q->head + at) q->pong = pong == NO_PONG ? pong : q->head + dropped + pong;
    q->head += dropped;
    q->count -= dropped;
    if (q->count == 0) q->head = 0;
    return messages;
}

uint32_t outq_drop_oldest(struct out_queue *q, uint64_t max_cost)
{
    return drop(q, max_cost, false);
}

uint32_t outq_drop_all(struct out_queue *q)
{
    return drop(q, 0, false);
}

uint32_t outq_clear(struct out_queue *q)
{
    return drop(q, 0, true);
}

uint32_t outq_cut(struct out_queue *q)
{
    const uint32_t stay = q->count && q->sent; /* the one that is begun */
    uint32_t messages = 0;
    for (uint32_t i = stay; i < q->count; i++) {
        struct out_entry *e = &q->entries[q->head + i];
        q->bytes -= entry_len(e);
        messages += e->messages;
        frame_unref(e->frame, 1);
    }
    if (!stay || q->pong != q->head) q->pong = NO_PONG;
    q->count = stay;
    if (!stay) q->head = 0;
    return messages;
}

bool outq_replace_pong(struct out_queue *q, struct frame *f)
{
    if (q->pong == NO_PONG || (q->pong == q->head && q->sent)) return false;
    struct out_entry *e = &q->entries[q->pong];
    q->bytes += f->len - entry_len(e);
    frame_unref(e->frame, 1);
    e->frame = f;
    e->from = 0;
    return true;
}

bool outq_add_cipher(struct mem_pool *pool, struct out_queue **queue, const uint8_t *bytes,
                     uint32_t len)
{
    struct out_queue *q = *queue ? *queue : make(pool);
    if (!q) return false;
    *queue = q;
    uint32_t kept = q->cipher ? q->cipher->len - q->cipher_at : 0;
    struct frame *f = frame_new(pool, kept + len);
    if (!f) return false;
    if (kept) memcpy(f->bytes, q->cipher->bytes + q->cipher_at, kept);
    memcpy(f->bytes + kept, bytes, len);
    frame_unref(q->cipher, 1);
    q->cipher = f;
    q->cipher_at = 0;
    q->bytes += len;
    return true;
}

void outq_cipher_sent(struct out_queue *q, uint32_t n)
{
    q->bytes -= n;
    q->cipher_at += n;
    if (q->cipher_at < q->cipher->len) return;
    frame_unref(q->cipher, 1);
    q->cipher = NULL;
    q->cipher_at = 0;
}

void outq_free(struct mem_pool *pool, struct out_queue **queue)
{
    struct out_queue *q = *queue;
    if (!q) return;
    for (uint32_t i = 0; i < q->count; i++) frame_unref(q->entries[q->head + i].frame, 1);
    frame_unref(q->cipher, 1);
    mem_free(pool, q, size_of(q->cap));
    *queue = NULL;
}
