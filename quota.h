/* quota.h - how much each of many keys holds (a user's or an address's connections), and a cap for
 * that.
 *
 * The counts are in one table for all threads, in shards with a mutex each, taken once when a place
 * is taken and once when it is given back. A key is known by its keyed 64-bit hash: 16 to 64 bytes
 * a key that holds something, and never more keys than places taken. Two of a million keys are
 * taken for one with a probability of 3e-8. */
#ifndef QUOTA_H
#define QUOTA_H

#include <pthread.h>
#include <stdatomic.h>

#include "hash.h"
#include "mem.h"

#define QUOTA_SHARDS 64

struct quota {              /* opened once; nothing of it is the caller's business */
    _Atomic uint32_t limit; /* relaxed */
    struct hash_key key;
    struct quota_shard {
        _Alignas(64) pthread_mutex_t lock;
        struct quota_account *accounts;
        struct mem_pool *pool; /* of the thread that made them */
        uint32_t cap, used;    /* a power of two, or 0 */
    } shards[QUOTA_SHARDS];
};

/* quota_open: each key may hold limit places; 0 = no cap, which callers ask by quota_is_on so that
 * then nothing is counted and no lock taken. key: random. Main thread, before workers start;
 * quota_close: no thread uses it any more, but the pools are there. */
void quota_open(struct quota *q, int64_t limit, const struct hash_key *key);
void quota_set(struct quota *q, int64_t limit); /* another limit, from now on; any thread */
void quota_close(struct quota *q);

static inline bool quota_is_on(const struct quota *q)
{
    return atomic_load_explicit(&q->limit, memory_order_relaxed) > 0;
}

/* quota_enter takes a place for the key of len bytes; false with errno: ENOSPC, it holds as many as
 * it may; ENOMEM. quota_leave gives back one that was taken. pool: the calling thread's. Any
 * thread. */
bool quota_enter(struct quota *q, struct mem_pool *pool, const void *key, size_t len);
void quota_leave(struct quota *q, struct mem_pool *pool, const void *key, size_t len);

#endif
