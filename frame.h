/* frame.h - one encoded outbound frame: immutable bytes with a count of holders.
 *
 * A frame is made by one worker from its pool and may be held by out queues of any worker; its
 * bytes never change after frame_new's caller has filled them in. The last frame_unref, on
 * whatever thread, gives it back to its pool. */
#ifndef FRAME_H
#define FRAME_H

#include <stdatomic.h>
#include <stdint.h>

#include "mem.h"

struct frame {
    _Atomic uint32_t refs; /* relaxed up, acquire-release down: the last holder sees all writes */
    uint32_t len;          /* bytes that go on the wire */
    struct mem_pool *pool; /* where it goes back to */
    uint32_t size;         /* what was asked of the pool */
    uint8_t bytes[];
};

/* frame_new makes a frame with room for cap bytes, len = cap, one reference, owned by the caller,
 * who fills bytes before anyone else sees it and may lower len. NULL when memory is out or cap is
 * above what mem_alloc gives. Worker only. */
struct frame *frame_new(struct mem_pool *pool, uint32_t cap);

/* frame_ref adds n holders in one step, for a whole fan-out: count first, then hand out. Any
 * thread that holds the frame. */
static inline void frame_ref(struct frame *f, uint32_t n)
{
    atomic_fetch_add_explicit(&f->refs, n, memory_order_relaxed);
}

/* frame_unref takes n holders away; the last one frees. Any thread. f may be NULL. */
void frame_unref(struct frame *f, uint32_t n);

#endif
