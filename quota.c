/* A shard is an array with open addressing, half full at most on average; what is taken out leaves
 * no hole: those behind it that do not lie where their hash says move up. */
#include "quota.h"

#include <errno.h>

#define FIRST_CAP 16u

struct quota_account {
    uint64_t hash;
    uint32_t count; /* places taken; 0: this one is free */
};

void quota_set(struct quota *q, int64_t limit)
{
    atomic_store_explicit(&q->limit, limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX,
                          memory_order_relaxed);
}

void quota_open(struct quota *q, int64_t limit, const struct hash_key *key)
{
    quota_set(q, limit);
    q->key = *key;
    for (unsigned i = 0; i < QUOTA_SHARDS; i++) {
        q->shards[i] = (struct quota_shard){.cap = 0};
        pthread_mutex_init(&q->shards[i].lock, NULL);
    }
}

static void give_back(struct quota_shard *s)
{
    mem_free(s->pool, s->accounts, s->cap * sizeof *s->accounts);
    s->accounts = NULL;
    s->cap = 0;
}

void quota_close(struct quota *q)
{
    for (unsigned i = 0; i < QUOTA_SHARDS; i++)
        if (q->shards[i].cap) give_back(&q->shards[i]);
}

/* place_of: where hash is, or the free place where it would be. */
static uint32_t place_of(const struct quota_shard *s, uint64_t hash)
{
    uint32_t i = (uint32_t)hash & (s->cap - 1);
    while (s->accounts[i].count && s->accounts[i].hash != hash) i = (i + 1) & (s->cap - 1);
    return i;
}

/* resize: a failure leaves it as it is. */
static void resize(struct quota_shard *s, struct mem_pool *pool, uint32_t cap)
{
    struct quota_shard other = {.pool = pool, .cap = cap, .used = s->used};
    other.accounts = mem_zalloc(pool, cap * sizeof *other.accounts);
    if (!other.accounts) return;
    for (uint32_t i = 0; i < s->cap; i++)
        if (s->accounts[i].count)
            other.accounts[place_of(&other, s->accounts[i].hash)] = s->accounts[i];
    if (s->cap) give_back(s);
    s->accounts = other.accounts;
    s->pool = pool;
    s->cap = cap;
}

static bool enter(struct quota_shard *s, struct mem_pool *pool, uint64_t hash, uint32_t limit)
{
    if (s->used * 2 >= s->cap) resize(s, pool, s->cap ? s->cap * 2 : FIRST_CAP);
    if (s->used + 1 >= s->cap) { /* one place stays free: it ends a search */
        errno = ENOMEM;
        return false;
    }
    struct quota_account *a = &s->accounts[place_of(s, hash)];
    if (a->count >= limit) {
        errno = ENOSPC;
        return false;
    }
    s->used += a->count == 0;
    a->hash = hash;
    a->count++;
    return true;
}

/* take_out frees place i. */
static void take_out(struct quota_shard *s, uint32_t i)
{
    const uint32_t mask = s->cap - 1;
    for (uint32_t k = (i + 1) & mask; s->accounts[k].count; k = (k + 1) & mask) {
        if (!hash_fills(i, k, (uint32_t)s->accounts[k].hash, mask)) continue;
        s->accounts[i] = s->accounts[k];
        i = k;
    }
    s->accounts[i].count = 0;
    s->used--;
}

static void leave(struct quota_shard *s, struct mem_pool *pool, uint64_t hash)
{
    uint32_t i = place_of(s, hash);
    if (s->accounts[i].count > 1)
        s->accounts[i].count--;
    else
        take_out(s, i);
    if (!s->used)
        give_back(s);
    else if (s->cap > FIRST_CAP && s->used < s->cap / 8)
        resize(s, pool, s->cap / 2);
}

static struct quota_shard *lock_shard(struct quota *q, uint64_t hash)
{
    struct quota_shard *s = &q->shards[hash >> 58];
    pthread_mutex_lock(&s->lock);
    return s;
}

bool quota_enter(struct quota *q, struct mem_pool *pool, const void *key, size_t len)
{
    const uint64_t hash = hash_bytes(&q->key, key, len);
    struct quota_shard *s = lock_shard(q, hash);
    const bool entered =
        enter(s, pool, hash, atomic_load_explicit(&q->limit, memory_order_relaxed));
    pthread_mutex_unlock(&s->lock);
    return entered;
}

void quota_leave(struct quota *q, struct mem_pool *pool, const void *key, size_t len)
{
    const uint64_t hash = hash_bytes(&q->key, key, len);
    struct quota_shard *s = lock_shard(q, hash);
    leave(s, pool, hash);
    pthread_mutex_unlock(&s->lock);
}
