/* A shard is an array with open addressing, half full at most on average; what is taken out leaves
 * no hole: those behind it that do not lie where their hash says move up. */
#include "user_limit.h"

#include <errno.h>

#include "hash.h"
#include "tls.h"
#include "users.h"

#define SHARDS 64
#define FIRST_CAP 16u

struct account {
    uint64_t hash;
    uint32_t count; /* connections; 0: the place is free */
};

struct shard {
    _Alignas(64) pthread_mutex_t lock;
    struct account *accounts;
    struct mem_pool *pool; /* of the worker that made them */
    uint32_t cap, used;    /* a power of two, or 0 */
};

static struct {
    uint32_t limit;
    struct hash_key key;
    struct shard shards[SHARDS];
} table;

void user_limit_open(int64_t limit)
{
    table.limit = limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX;
    random_bytes(&table.key, sizeof table.key);
    for (unsigned i = 0; i < SHARDS; i++) {
        table.shards[i] = (struct shard){.cap = 0};
        pthread_mutex_init(&table.shards[i].lock, NULL);
    }
}

static void give_back(struct shard *s)
{
    mem_free(s->pool, s->accounts, s->cap * sizeof *s->accounts);
    s->accounts = NULL;
    s->cap = 0;
}

void user_limit_close(void)
{
    for (unsigned i = 0; i < SHARDS; i++)
        if (table.shards[i].cap) give_back(&table.shards[i]);
}

/* place_of: where hash is, or the free place where it would be. */
static uint32_t place_of(const struct shard *s, uint64_t hash)
{
    uint32_t i = (uint32_t)hash & (s->cap - 1);
    while (s->accounts[i].count && s->accounts[i].hash != hash) i = (i + 1) & (s->cap - 1);
    return i;
}

/* resize: a failure leaves it as it is. */
static void resize(struct shard *s, struct mem_pool *pool, uint32_t cap)
{
    struct shard other = {.pool = pool, .cap = cap, .used = s->used};
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

static bool enter(struct shard *s, struct mem_pool *pool, uint64_t hash)
{
    if (s->used * 2 >= s->cap) resize(s, pool, s->cap ? s->cap * 2 : FIRST_CAP);
    if (s->used + 1 >= s->cap) { /* one place stays free: it ends a search */
        errno = ENOMEM;
        return false;
    }
    struct account *a = &s->accounts[place_of(s, hash)];
    if (a->count >= table.limit) {
        errno = ENOSPC;
        return false;
    }
    s->used += a->count == 0;
    a->hash = hash;
    a->count++;
    return true;
}

/* take_out frees place i. */
static void take_out(struct shard *s, uint32_t i)
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

static void leave(struct shard *s, struct mem_pool *pool, uint64_t hash)
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

static struct shard *lock_shard(const struct conn *c, uint64_t *hash)
{
    *hash = hash_bytes(&table.key, c->user->name, c->user->len);
    struct shard *s = &table.shards[*hash >> 58];
    pthread_mutex_lock(&s->lock);
    return s;
}

bool user_limit_enter(struct conn *c)
{
    uint64_t hash;
    if (!table.limit || !c->user->len) return true;
    struct shard *s = lock_shard(c, &hash);
    const bool entered = enter(s, c->worker->pool, hash);
    pthread_mutex_unlock(&s->lock);
    if (entered)
        c->flags |= CONN_USER_COUNTED;
    else if (errno == ENOSPC)
        metric_add(&c->worker->metrics, METRIC_REFUSED_USER, 1);
    return entered;
}

void user_limit_leave(struct conn *c)
{
    uint64_t hash;
    if (!(c->flags & CONN_USER_COUNTED)) return;
    c->flags &= ~(uint32_t)CONN_USER_COUNTED;
    struct shard *s = lock_shard(c, &hash);
    leave(s, c->worker->pool, hash);
    pthread_mutex_unlock(&s->lock);
}
