/* order.h - is a stream of sequence numbers complete, once each, in order? Counts what is not.
 *
 * Remembers the last 64 numbers, so that one that comes late is told from one that comes twice. */
#ifndef ORDER_H
#define ORDER_H

#include <stdint.h>

struct order { /* zero expects 0 first */
    uint64_t next;
    uint64_t seen; /* bit i: number next - 1 - i came */
};

struct order_faults {
    uint64_t lost;      /* skipped and not come later */
    uint64_t doubled;   /* came again */
    uint64_t reordered; /* came after a later one */
};

/* order_take books seq. Returns how many numbers before it were skipped (0 in a perfect stream). */
static inline uint64_t order_take(struct order *o, uint64_t seq, struct order_faults *f)
{
    if (seq >= o->next) {
        uint64_t gap = seq - o->next;
        f->lost += gap;
        o->seen = gap >= 63 ? 1 : o->seen << (gap + 1) | 1;
        o->next = seq + 1;
        return gap;
    }
    uint64_t back = o->next - 1 - seq;
    if (back < 64 && !(o->seen >> back & 1)) {
        o->seen |= (uint64_t)1 << back;
        f->lost--; /* it was only late */
        f->reordered++;
    } else {
        f->doubled++;
    }
    return 0;
}

#endif
