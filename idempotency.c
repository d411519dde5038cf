/* A shard is a ring of entries, which come and expire in one order since all are kept for equally
 * long, and a table that finds them: heads of chains, linked by places in the ring. 52 to 56 bytes
 * an entry, in one piece of memory that doubles up to the shard's share of the cap. */
#include "idempotency.h"

#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "tls.h"

#define FIRST_CAP 16u
#define SWEEP_MS 1000  /* between two sweeps */
#define SWEEP_STEPS 64 /* entries of a shard that one sweep forgets */
#define NONE UINT32_MAX

struct entry {
    struct idempotency_id id;
    struct pubsub_position result;
    int64_t until_ms;
    uint32_t next; /* in its chain: an older one, or NONE */
};

struct shard {
    _Alignas(64) pthread_mutex_t lock;
    struct entry *entries;     /* cap places, the oldest at head */
    uint32_t *chains;          /* chain_count heads, behind the entries; a power of two */
    uint32_t cap, head, count; /* cap 0: no memory */
    uint32_t chain_count;
};

static struct {
    struct shard shards[IDEMPOTENCY_SHARDS];
    uint32_t shard_max; /* entries */
    struct hash_key keys[3];
    _Atomic int64_t sweep_at_ms; /* INT64_MAX: nothing is remembered */
} memory;

void idempotency_open(int64_t entries_max)
{
    memory.shard_max = (uint32_t)(entries_max / IDEMPOTENCY_SHARDS);
    random_bytes(memory.keys, sizeof memory.keys);
    atomic_init(&memory.sweep_at_ms, INT64_MAX);
    for (unsigned i = 0; i < IDEMPOTENCY_SHARDS; i++) {
        memory.shards[i] = (struct shard){.cap = 0};
        pthread_mutex_init(&memory.shards[i].lock, NULL);
    }
}

static void give_back(struct shard *s)
{
    free(s->entries);
    s->entries = NULL;
    s->cap = s->head = s->count = 0;
}

void idempotency_close(void)
{
    for (unsigned i = 0; i < IDEMPOTENCY_SHARDS; i++) give_back(&memory.shards[i]);
}

struct idempotency_key idempotency_key(const char *key, size_t len)
{
    return (struct idempotency_key){
        {hash_bytes(&memory.keys[0], key, len), hash_bytes(&memory.keys[1], key, len)}};
}

struct idempotency_id idempotency_id(const struct idempotency_key *key, const char *channel,
                                     size_t len)
{
    const struct hash_key a = {key->h[0], key->h[1]},
                          b = {a.k0 ^ memory.keys[2].k0, a.k1 ^ memory.keys[2].k1};
    return (struct idempotency_id){{hash_bytes(&a, channel, len), hash_bytes(&b, channel, len)}};
}

static struct shard *shard_of(const struct idempotency_id *id)
{
    return &memory.shards[id->h[0] >> 58];
}

static uint32_t *chain_of(struct shard *s, const struct idempotency_id *id)
{
    return &s->chains[id->h[0] & (s->chain_count - 1)];
}

static uint32_t place(const struct shard *s, uint32_t i) /* of the i-th oldest */
{
    return (s->head + i) % s->cap;
}

static void link_in(struct shard *s, uint32_t at)
{
    uint32_t *chain = chain_of(s, &s->entries[at].id);
    s->entries[at].next = *chain;
    *chain = at;
}

static void forget_oldest(struct shard *s)
{
    uint32_t *at = chain_of(s, &s->entries[s->head].id);
    while (*at != s->head) at = &s->entries[*at].next;
    *at = s->entries[*at].next;
    s->head = place(s, 1);
    s->count--;
}

/* forget_expired takes steps at most, but for one: when the newest has expired, all have. */
static void forget_expired(struct worker *w, struct shard *s, uint32_t steps)
{
    if (!s->count) return;
    const uint32_t before = s->count;
    if (s->entries[place(s, s->count - 1)].until_ms <= w->now_ms)
        give_back(s);
    else
        while (steps-- && s->entries[s->head].until_ms <= w->now_ms) forget_oldest(s);
    metric_sub(&w->metrics, METRIC_IDEMPOTENCY_KEYS, before - s->count);
}

/* grow doubles the places; false when memory is out, and nothing has changed. */
static bool grow(struct shard *s)
{
    uint32_t cap = s->cap ? s->cap * 2 : FIRST_CAP, chain_count = FIRST_CAP;
    if (cap > memory.shard_max) cap = memory.shard_max;
    while (chain_count < cap) chain_count *= 2;
    struct entry *entries = malloc(cap * sizeof *entries + chain_count * sizeof *s->chains);
    if (!entries) return false;
    struct entry *old = s->entries;
    const uint32_t old_cap = s->cap;
    uint32_t from = s->head;
    s->entries = entries;
    s->chains = (uint32_t *)(void *)(entries + cap);
    s->cap = cap;
    s->head = 0;
    s->chain_count = chain_count;
    memset(s->chains, 0xff, chain_count * sizeof *s->chains); /* NONE */
    for (uint32_t i = 0; i < s->count; i++) {
        entries[i] = old[from];
        if (++from == old_cap) from = 0;
        link_in(s, i);
    }
    free(old);
    return true;
}

static const struct entry *find(struct shard *s, const struct idempotency_id *id)
{
    if (!s->count) return NULL;
    for (uint32_t at = *chain_of(s, id); at != NONE; at = s->entries[at].next)
        if (memcmp(&s->entries[at].id, id, sizeof *id) == 0) return &s->entries[at];
    return NULL;
}

enum idempotency idempotency_begin(struct worker *w, const struct idempotency_id *id,
                                   struct pubsub_position *first)
{
    struct shard *s = shard_of(id);
    enum idempotency answer = IDEMPOTENCY_FIRST;
    pthread_mutex_lock(&s->lock);
    forget_expired(w, s, SWEEP_STEPS);
    const struct entry *e = find(s, id);
    if (e && e->until_ms > w->now_ms) {
        *first = e->result;
        answer = IDEMPOTENCY_REPEAT;
        metric_add(&w->metrics, METRIC_IDEMPOTENCY_REPEATS, 1);
    } else if (s->count == s->cap && s->cap < memory.shard_max && !grow(s)) {
        answer = IDEMPOTENCY_NO_MEMORY;
        metric_add(&w->metrics, METRIC_REFUSED_MEMORY, 1);
    }
    if (answer != IDEMPOTENCY_FIRST) pthread_mutex_unlock(&s->lock);
    return answer;
}

/* sweep_soon: there is something to sweep, where there was nothing. */
static void sweep_soon(int64_t now_ms)
{
    int64_t none = INT64_MAX;
    if (atomic_load_explicit(&memory.sweep_at_ms, memory_order_relaxed) == none)
        atomic_compare_exchange_strong_explicit(&memory.sweep_at_ms, &none, now_ms + SWEEP_MS,
                                                memory_order_relaxed, memory_order_relaxed);
}

void idempotency_end(struct worker *w, const struct idempotency_id *id,
                     const struct pubsub_position *result)
{
    struct shard *s = shard_of(id);
    if (result && s->count == s->cap) { /* the cap: begin has seen to it otherwise */
        forget_oldest(s);
        metric_sub(&w->metrics, METRIC_IDEMPOTENCY_KEYS, 1);
        metric_add(&w->metrics, METRIC_IDEMPOTENCY_EVICTED, 1);
    }
    if (result) {
        const uint32_t at = place(s, s->count++);
        s->entries[at] = (struct entry){
            .id = *id, .result = *result, .until_ms = w->now_ms + IDEMPOTENCY_TTL_MS};
        link_in(s, at);
        metric_add(&w->metrics, METRIC_IDEMPOTENCY_KEYS, 1);
    }
    pthread_mutex_unlock(&s->lock);
    if (result) sweep_soon(w->now_ms);
}

void idempotency_sweep(struct worker *w)
{
    int64_t at = atomic_load_explicit(&memory.sweep_at_ms, memory_order_relaxed);
    uint32_t left = 0;
    if (w->now_ms < at ||
        !atomic_compare_exchange_strong_explicit(&memory.sweep_at_ms, &at, INT64_MAX,
                                                 memory_order_relaxed, memory_order_relaxed))
        return; /* too early, or another worker does it */
    for (unsigned i = 0; i < IDEMPOTENCY_SHARDS; i++) {
        struct shard *s = &memory.shards[i];
        pthread_mutex_lock(&s->lock);
        forget_expired(w, s, SWEEP_STEPS);
        left += s->count;
        pthread_mutex_unlock(&s->lock);
    }
    if (left) sweep_soon(w->now_ms); /* what came behind our back has said so itself */
}
