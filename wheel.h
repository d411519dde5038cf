/* wheel.h - hierarchical timer wheel: O(1) arm and cancel, for millions of timers.
 *
 * Time is a 32-bit tick count that wraps; how long a tick is, the caller knows. A deadline is at
 * most 2^31 - 1 ticks ahead. A timer never fires before its deadline's tick. One node an object,
 * embedded, 24 bytes.
 * The wheel reads no clock and allocates nothing. One thread at a time (a worker's). */
#ifndef WHEEL_H
#define WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#include "list.h"

#define WHEEL_BITS 5    /* a slot is 32 times as long as one of the level below */
#define WHEEL_SLOTS 64u /* and each level looks twice that far ahead: see wheel.c */
#define WHEEL_LEVELS 6

struct wheel_timer {
    struct list link;  /* in a slot, or alone; zeroed memory is a disarmed timer */
    uint32_t deadline; /* tick */
    uint32_t kind;     /* the caller's word for what is due; the wheel does not look at it */
};

struct wheel {
    uint32_t now;   /* every tick up to and including this one has been processed */
    uint32_t armed; /* timers in the wheel */
    uint64_t occupied[WHEEL_LEVELS]; /* bit s: slot s may hold timers */
    struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
    struct list due; /* for the next wheel_advance: armed for the past, or left over by max */
};

void wheel_init(struct wheel *w, uint32_t now);

/* wheel_arm sets or moves t to fire at deadline; a deadline not after w->now fires at the next
 * advance. wheel_cancel disarms; harmless when t is not armed. wheel_armed tells. */
void wheel_arm(struct wheel *w, struct wheel_timer *t, uint32_t deadline);
void wheel_cancel(struct wheel *w, struct wheel_timer *t);
static inline bool wheel_armed(const struct wheel_timer *t)
{
    return t->link.next && t->link.next != &t->link;
}

/* wheel_next says in how many ticks from `now` something has to be done (0 = at once), for
 * epoll_wait's timeout, or UINT32_MAX when nothing is armed. It may be early (a slot that only has
 * to be spread out), never late. */
uint32_t wheel_next(const struct wheel *w, uint32_t now);

/* wheel_advance moves to tick now and then calls fire(timer, arg) for each timer that is due,
 * disarmed before the call: first what was armed for the past, then the earliest tick first.
 * w->now is already the new tick. fire may arm and cancel any timer, its own included; a timer
 * cancelled during the pass does not fire; one armed during it for a deadline not after w->now
 * fires in the next pass. At most max timers fire (0 = no limit): the rest stay due and wheel_next
 * answers 0. A now before w->now moves nothing. Returns how many fired. fire must not advance. */
uint32_t wheel_advance(struct wheel *w, uint32_t now, uint32_t max,
                       void (*fire)(struct wheel_timer *t, void *arg), void *arg);

#endif
