/* idempotency.h - the results of publishing calls that had an idempotency key: for a while a repeat
 * gets what the first call got, and publishes nothing (protocol.md section 7).
 *
 * A call is known by a keyed hash of 128 bits of its channel and key, so keys may be of any length
 * and entries are of one size. They lie in IDEMPOTENCY_SHARDS shards, a mutex each, which is held
 * from idempotency_begin to idempotency_end, over the publishing between them: so of two workers
 * with the same key at once one publishes and the other gets its result. Lock order: a shard of
 * this module, then a channel's. A shard keeps its even share of the cap; beyond it its oldest
 * entry goes. Memory is made as entries come and given back when all of a shard have expired.
 * Rejected: a mark "under way" that others wait for (a worker can not wait). Any thread, w being
 * the calling one's; at most one shard at a time. */
#ifndef IDEMPOTENCY_H
#define IDEMPOTENCY_H

#include "pubsub.h"

#define IDEMPOTENCY_TTL_MS (300 * 1000)
#define IDEMPOTENCY_SHARDS 64u

/* idempotency_open: entries_max at most in the process, IDEMPOTENCY_SHARDS or more.
 * idempotency_close forgets all. Main thread, while no worker runs. */
void idempotency_open(int64_t entries_max);
void idempotency_close(void);

struct idempotency_key { /* a key, hashed once for all channels of a call */
    uint64_t h[2];
};
struct idempotency_id { /* a channel and a key; h[0] >> 58 is the shard */
    uint64_t h[2];
};
struct idempotency_key idempotency_key(const char *key, size_t len);
struct idempotency_id idempotency_id(const struct idempotency_key *key, const char *channel,
                                     size_t len);

enum idempotency {
    IDEMPOTENCY_FIRST,     /* publish, and then call idempotency_end */
    IDEMPOTENCY_REPEAT,    /* *first is the result; nothing is held */
    IDEMPOTENCY_NO_MEMORY, /* the result could not be remembered: do not publish; nothing is held */
};
enum idempotency idempotency_begin(struct worker *w, const struct idempotency_id *id,
                                   struct pubsub_position *first);

/* idempotency_end remembers result from now on, or, if it is NULL (the call has failed), nothing.
 */
void idempotency_end(struct worker *w, const struct idempotency_id *id,
                     const struct pubsub_position *result);

/* idempotency_sweep forgets some of what has expired, now and then; for every turn of a worker. A
 * load when there is nothing. */
void idempotency_sweep(struct worker *w);

#endif
