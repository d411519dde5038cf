#include "frame.h"

#include <stddef.h>

struct frame *frame_new(struct mem_pool *pool, uint32_t cap)
{
    size_t size = sizeof(struct frame) + (size_t)cap;
    struct frame *f = mem_alloc(pool, size); /* refuses what size below could not hold */
    if (!f) return NULL;
    atomic_init(&f->refs, 1);
    f->len = cap;
    f->pool = pool;
    f->size = (uint32_t)size;
    return f;
}

void frame_unref(struct frame *f, uint32_t n)
{
    if (!f) return;
    /* Who holds all that are left needs no locked instruction: nobody else can add or take. */
    if (atomic_load_explicit(&f->refs, memory_order_acquire) != n &&
        atomic_fetch_sub_explicit(&f->refs, n, memory_order_acq_rel) != n)
        return;
    mem_free(f->pool, f, f->size);
}
