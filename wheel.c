#include "wheel.h"

#include <stddef.h>

/* The problem: a million timers, one a connection, armed and fired some 40,000 times a second,
 * and no turn of the worker may stand still for long.
 *
 * Level L has slots of 32^L ticks and looks 64 of them ahead, twice what one slot of the level
 * above holds. So the next slot of level L + 1 may be spread over level L during the whole
 * time before it begins, a bounded number of timers an advance, instead of all at its first tick
 * (500,000 timers in one slot would be 50 ms). What is left when a slot begins is spread then.
 * A timer is placed on the lowest level that reaches its deadline, so it is moved at most five
 * times in its life, a ping of 25 s in ticks of 8 ms twice.
 *
 * Bits in a word a level say which slots may hold timers, so that a long gap is crossed slot by
 * occupied slot and not tick by tick. A cancelled timer leaves its bit; the next visit clears it.
 * Invariant: what a level holds is 1..64 slots ahead of now's slot, which itself was emptied when
 * now came to it.
 * Rejected: a heap (log n cache misses an arm), levels of 64 slots of 64 (no room to spread). */

/* Timers moved per advance ahead of their time: some 50 us. At one advance a tick it keeps
 * three million timers a minute smooth. */
#define SPREAD_MAX 1024

void wheel_init(struct wheel *w, uint32_t now)
{
    w->now = now;
    w->armed = 0;
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        w->occupied[level] = 0;
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++) list_init(&w->slots[level][slot]);
    }
    list_init(&w->due);
}

/* place links t, which is in no list, where its deadline belongs. */
static void place(struct wheel *w, struct wheel_timer *t)
{
    uint32_t ahead = t->deadline - w->now;
    if (ahead - 1 > INT32_MAX - 1u) { /* now, or in the past */
        list_push_back(&w->due, &t->link);
        return;
    }
    unsigned level = 0, shift = 0;
    while (ahead > WHEEL_SLOTS) { /* ends: 2^31 - 1 ticks are at most 64 slots of the top level */
        level++;
        shift += WHEEL_BITS;
        /* In whole slots, counted from the beginning of now's slot. */
        ahead = ((t->deadline >> shift) - (w->now >> shift)) & UINT32_MAX >> shift;
    }
    unsigned slot = ((w->now >> shift) + ahead) & (WHEEL_SLOTS - 1);
    w->occupied[level] |= UINT64_C(1) << slot;
    list_push_back(&w->slots[level][slot], &t->link);
}

void wheel_arm(struct wheel *w, struct wheel_timer *t, uint32_t deadline)
{
    if (wheel_armed(t))
        list_remove(&t->link);
    else
        w->armed++;
    t->deadline = deadline;
    place(w, t);
}

void wheel_cancel(struct wheel *w, struct wheel_timer *t)
{
    if (!wheel_armed(t)) return;
    list_remove(&t->link);
    w->armed--;
}

/* slot_begins says how many ticks after w->now the next occupied slot of level begins. */
static inline uint32_t slot_begins(const struct wheel *w, unsigned level)
{
    uint64_t bits = w->occupied[level];
    if (!bits) return UINT32_MAX;
    unsigned shift = level * WHEEL_BITS;
    uint32_t here = w->now >> shift;
    unsigned turn = (here + 1) & (WHEEL_SLOTS - 1); /* bit 0 shall be the slot after here */
    bits = bits >> turn | bits << (-turn & (WHEEL_SLOTS - 1));
    uint32_t ahead = (uint32_t)__builtin_ctzll(bits) + 1;
    return ((here + ahead) << shift) - w->now;
}

static uint32_t next_step(const struct wheel *w)
{
    uint32_t first = UINT32_MAX;
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        uint32_t begins = slot_begins(w, level);
        if (begins < first) first = begins;
    }
    return first;
}

uint32_t wheel_next(const struct wheel *w, uint32_t now)
{
    if (!w->armed) return UINT32_MAX;
    if (!list_empty(&w->due)) return 0;
    uint32_t step = next_step(w), gone = now - w->now;
    if (gone > INT32_MAX) return step; /* now is behind: be early rather than late */
    return step > gone ? step - gone : 0;
}

/* spread moves up to max timers of a slot to lower levels (or to the due); returns how many. */
static uint32_t spread(struct wheel *w, unsigned level, unsigned slot, uint32_t max)
{
    struct list *l = &w->slots[level][slot];
    uint32_t moved = 0;
    for (; !list_empty(l) && moved < max; moved++) {
        struct list *node = l->next;
        list_remove(node);
        place(w, list_entry(node, struct wheel_timer, link));
    }
    if (list_empty(l)) w->occupied[level] &= ~(UINT64_C(1) << slot);
    return moved;
}

/* begin_tick empties the slots that begin at w->now; what is due comes to w->due. From the lowest
 * level up, since what is 64 slots ahead goes where now's slot was. */
static void begin_tick(struct wheel *w)
{
    unsigned slot = w->now & (WHEEL_SLOTS - 1);
    w->occupied[0] &= ~(UINT64_C(1) << slot);
    list_splice(&w->due, &w->slots[0][slot]);
    for (unsigned level = 1; level < WHEEL_LEVELS; level++) {
        unsigned shift = level * WHEEL_BITS;
        if (w->now & ((1u << shift) - 1)) break;
        slot = w->now >> shift & (WHEEL_SLOTS - 1);
        if (w->occupied[level] >> slot & 1) spread(w, level, slot, UINT32_MAX);
    }
}

/* spread_ahead takes from each level's next slot, the most urgent level first. */
static void spread_ahead(struct wheel *w)
{
    uint32_t budget = SPREAD_MAX;
    for (unsigned level = 1; level < WHEEL_LEVELS; level++) {
        unsigned slot = ((w->now >> level * WHEEL_BITS) + 1) & (WHEEL_SLOTS - 1);
        if (w->occupied[level] >> slot & 1) budget -= spread(w, level, slot, budget);
    }
}

static void collect_due(struct wheel *w, uint32_t now)
{
    uint32_t left = now - w->now;
    if (left > INT32_MAX) return; /* the caller's clock is behind: nothing new is due */
    for (uint32_t step; (step = next_step(w)) <= left; left -= step) {
        w->now += step;
        begin_tick(w);
    }
    w->now = now;
    spread_ahead(w);
}

uint32_t wheel_advance(struct wheel *w, uint32_t now, uint32_t max,
                       void (*fire)(struct wheel_timer *t, void *arg), void *arg)
{
    if (now == w->now && list_empty(&w->due)) return 0; /* a worker turns oftener than it ticks */
    collect_due(w, now);
    /* What fire arms for the past goes to w->due, and so waits for the next pass. */
    struct list firing;
    list_init(&firing);
    list_splice(&firing, &w->due);
    uint32_t fired = 0;
    for (; !list_empty(&firing) && (fired < max || !max); fired++) {
        struct list *node = firing.next;
        list_remove(node);
        w->armed--;
        fire(list_entry(node, struct wheel_timer, link), arg);
    }
    list_splice(&firing, &w->due);
    list_splice(&w->due, &firing);
    return fired;
}
