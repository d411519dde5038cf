/* The shared halves: found by name in shards, made and forgotten. */
#include "pubsub.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pubsub/shared.h"
#include "tls.h"

#define FIRST_BUCKETS 16

struct pubsub_bus bus;

int pubsub_open(const struct pubsub_options *o, unsigned worker_count)
{
    static struct pubsub_options first;
    first = *o;
    settings_first.of[SETTINGS_PUBSUB] = &first;
    bus.worker_count = worker_count;
    atomic_init(&bus.channels, 0);
    atomic_init(&bus.history_bytes, 0);
    random_bytes(&bus.key, sizeof bus.key);
    random_bytes(&bus.epoch_key, sizeof bus.epoch_key);
    for (int i = 0; i < SHARDS; i++) {
        struct shard *s = &bus.shards[i];
        pthread_mutex_init(&s->lock, NULL);
        list_init(&s->recent);
        list_init(&s->emptied);
        atomic_init(&bus.oldest_ms[i], INT64_MAX);
        s->buckets = calloc(FIRST_BUCKETS, sizeof(struct channel *));
        s->bucket_count = FIRST_BUCKETS;
        s->count = s->used = 0;
        if (!s->buckets) {
            pubsub_close();
            return -1;
        }
    }
    return 0;
}

void pubsub_close(void)
{
    for (int i = 0; i < SHARDS; i++) {
        struct shard *s = &bus.shards[i];
        if (s->buckets) history_close(s);
        free(s->wheel);
        s->wheel = NULL;
        free(s->buckets);
        s->buckets = NULL;
    }
}

uint64_t pubsub_channel_count(void)
{
    return (uint64_t)atomic_load_explicit(&bus.channels, memory_order_relaxed);
}

uint64_t pubsub_history_bytes(void)
{
    return (uint64_t)atomic_load_explicit(&bus.history_bytes, memory_order_relaxed);
}

uint64_t pubsub_used_count(void)
{
    uint64_t n = 0;
    for (int i = 0; i < SHARDS; i++) {
        pthread_mutex_lock(&bus.shards[i].lock);
        n += bus.shards[i].used;
        pthread_mutex_unlock(&bus.shards[i].lock);
    }
    return n;
}

static uint32_t subscribers_of(const struct channel *ch)
{
    uint32_t n = 0;
    for (unsigned e = 0; e < ENCODINGS; e++)
        n += atomic_load_explicit(&ch->wanted[e], memory_order_relaxed);
    return n;
}

/* ---- all channels: names are copied under the lock, some at a time, and looked at without it ----
 */

#define NAMES_BYTES (32 * 1024) /* of one piece; what is left of its last bucket comes on top */

struct names { /* {subscribers, len, bytes} one behind the other */
    char *p;
    size_t len, cap;
};

static bool add_name(struct names *n, const struct channel *ch, uint32_t subscribers)
{
    const size_t need = n->len + sizeof subscribers + 1 + ch->len;
    if (need > n->cap) { /* some 100 more names in one bucket: memory was out to widen the table */
        char *bigger = realloc(n->p, 2 * need);
        if (!bigger) return false;
        n->p = bigger;
        n->cap = 2 * need;
    }
    char *at = n->p + n->len;
    memcpy(at, &subscribers, sizeof subscribers);
    at[sizeof subscribers] = (char)ch->len;
    memcpy(at + sizeof subscribers + 1, ch->name, ch->len);
    n->len = need;
    return true;
}

static bool add_bucket(struct names *n, const struct channel *ch)
{
    bool ok = true;
    for (; ch && ok; ch = ch->next) {
        const uint32_t subscribers = subscribers_of(ch);
        if (subscribers) ok = add_name(n, ch, subscribers);
    }
    return ok;
}

/* next_bucket counts from the highest bit down: what was visited is then a set of endings of the
 * hash, and stays one when the table is widened between two pieces. 0: that was the last. */
static uint32_t next_bucket(uint32_t b, uint32_t count)
{
    uint32_t bit = count / 2;
    for (; bit && b & bit; bit /= 2) b &= ~bit;
    return b | bit;
}

/* copy_piece copies from bucket *b on, which moves to where the next piece begins. */
static bool copy_piece(struct shard *s, uint32_t *b, struct names *n)
{
    bool ok = true;
    n->len = 0;
    pthread_mutex_lock(&s->lock);
    do {
        ok = add_bucket(n, s->buckets[*b]);
        *b = next_bucket(*b, s->bucket_count);
    } while (ok && *b && n->len < NAMES_BYTES);
    pthread_mutex_unlock(&s->lock);
    return ok;
}

static bool
visit_names(const struct names *n,
            bool (*visit)(const char *name, size_t len, uint32_t subscribers, void *arg), void *arg)
{
    for (const char *at = n->p; at < n->p + n->len;) {
        uint32_t subscribers;
        memcpy(&subscribers, at, sizeof subscribers);
        const char *name = at + sizeof subscribers + 1;
        const size_t len = (uint8_t)name[-1];
        if (!visit(name, len, subscribers, arg)) return false;
        at = name + len;
    }
    return true;
}

int pubsub_each_channel(bool (*visit)(const char *name, size_t len, uint32_t subscribers,
                                      void *arg),
                        void *arg)
{
    struct names n = {.p = malloc(2 * NAMES_BYTES), .cap = 2 * NAMES_BYTES};
    bool ok = n.p, more = true;
    for (int i = 0; i < SHARDS && ok && more; i++) {
        uint32_t b = 0;
        do {
            ok = copy_piece(&bus.shards[i], &b, &n);
            more = ok && visit_names(&n, visit, arg);
        } while (more && b);
    }
    free(n.p);
    return ok ? 0 : -1;
}

/* ---- one channel ---- */

static struct channel **bucket_of(struct shard *s, uint64_t hash)
{
    return &s->buckets[hash & (s->bucket_count - 1)];
}

static struct channel *find(struct shard *s, uint64_t hash, const char *name, size_t len)
{
    struct channel *ch = *bucket_of(s, hash);
    while (ch && !(ch->hash == hash && ch->len == len && memcmp(ch->name, name, len) == 0))
        ch = ch->next;
    return ch;
}

/* widen doubles the buckets; when memory is out the table stays as it is. */
static void widen(struct shard *s)
{
    uint32_t old_count = s->bucket_count;
    struct channel **old = s->buckets;
    struct channel **buckets = calloc((size_t)old_count * 2, sizeof *buckets);
    if (!buckets) return;
    s->buckets = buckets;
    s->bucket_count = old_count * 2;
    for (uint32_t i = 0; i < old_count; i++) {
        for (struct channel *ch = old[i], *next; ch; ch = next) {
            next = ch->next;
            struct channel **b = bucket_of(s, ch->hash);
            ch->next = *b;
            *b = ch;
        }
    }
    free(old);
}

/* An epoch follows from the name as long as nothing in its shard was forgotten: so a channel that
 * was only read or subscribed to needs no memory to have the same epoch the next time. Eight
 * letters. */
void channel_make_epoch(struct channel *ch)
{
    const struct shard *s = shard_of(ch);
    struct hash_key key = {bus.epoch_key.k0 + s->generation, bus.epoch_key.k1};
    uint64_t h = hash_bytes(&key, ch->name, ch->len);
    for (int i = 0; i < 8; i++, h /= 52) {
        unsigned letter = (unsigned)(h % 52);
        ch->epoch[i] = (char)(letter < 26 ? 'a' + letter : 'A' + letter - 26);
    }
}

/* look_up takes the options of the calling worker's settings. A history that is not kept any more
 * ends then: with the channel's next use, or when its timer fires; its numbers go on
 * (pubsub_publish), so that nobody is told later that it has missed nothing of what was not kept.
 */
static void look_up(struct channel *ch)
{
    static const struct channel_options none; /* of a namespace that is no more */
    const struct channel_options *o = namespace_of(ch->name, ch->len);
    ch->options = o ? o : &none;
    ch->generation = settings_now->generation;
    const bool kept = channel_has_history(ch->options);
    atomic_store_explicit(&ch->wants_json, kept, memory_order_relaxed);
    if (!kept) history_clear(ch);
}

const struct channel_options *channel_options(struct channel *ch)
{
    if (ch->generation < settings_now->generation) look_up(ch);
    return ch->options;
}

static struct channel *create(struct mem_pool *pool, struct shard *s, uint64_t hash,
                              const char *name, size_t len)
{
    if (atomic_load_explicit(&bus.channels, memory_order_relaxed) >=
            pubsub_options()->channels_max &&
        !history_forget_one(s)) {
        errno = ENOSPC;
        return NULL;
    }
    size_t locals = bus.worker_count * sizeof(struct local *);
    struct channel *ch = mem_zalloc(pool, sizeof *ch + locals + len);
    if (!ch) {
        errno = ENOMEM;
        return NULL;
    }
    ch->pool = pool;
    ch->size = (uint32_t)(sizeof *ch + locals + len);
    ch->hash = hash;
    ch->len = (uint8_t)len;
    ch->name = (char *)ch + sizeof *ch + locals;
    memcpy(ch->name, name, len);
    list_init(&ch->present);
    list_init(&ch->recent);
    look_up(ch);
    channel_make_epoch(ch);
    if (s->count >= s->bucket_count) widen(s);
    struct channel **b = bucket_of(s, hash);
    ch->next = *b;
    *b = ch;
    ch->listed = true;
    s->count++;
    atomic_fetch_add_explicit(&bus.channels, 1, memory_order_relaxed);
    return ch;
}

struct channel *channel_lock(struct worker *w, const char *name, size_t len, bool make)
{
    uint64_t hash = hash_bytes(&bus.key, name, len);
    struct shard *s = &bus.shards[hash >> 58];
    pthread_mutex_lock(&s->lock);
    struct channel *ch = find(s, hash, name, len);
    errno = 0;
    if (!ch && make) ch = create(w->pool, s, hash, name, len);
    const int failed = errno;
    if (!ch) shard_unlock(s);
    errno = failed;
    return ch;
}

void channel_unlock(const struct channel *ch)
{
    shard_unlock(shard_of(ch));
}

void shard_unlock(struct shard *s)
{
    if (!s->gone.ring) {
        pthread_mutex_unlock(&s->lock);
        return;
    }
    struct stream gone;
    stream_move(&gone, &s->gone);
    pthread_mutex_unlock(&s->lock);
    history_free(&gone);
}

void channel_ref(struct channel *ch)
{
    atomic_fetch_add_explicit(&ch->refs, 1, memory_order_relaxed);
}

void channel_unref(struct channel *ch)
{
    if (atomic_fetch_sub_explicit(&ch->refs, 1, memory_order_acq_rel) == 1)
        mem_free(ch->pool, ch, ch->size);
}

void channel_unlist_if_idle(struct channel *ch)
{
    if (!ch->listed || ch->holders || !list_empty(&ch->recent)) return;
    struct shard *s = shard_of(ch);
    struct channel **at = bucket_of(s, ch->hash);
    while (*at != ch) at = &(*at)->next;
    *at = ch->next;
    ch->listed = false;
    s->count--;
    atomic_fetch_sub_explicit(&bus.channels, 1, memory_order_relaxed);
}

void channel_hold(struct channel *ch)
{
    ch->holders++;
    channel_ref(ch);
}

void channel_let_go(struct channel *ch)
{
    ch->holders--;
    channel_unlist_if_idle(ch);
}

struct channel *pubsub_channel(struct worker *w, const char *name, size_t len)
{
    const struct channel_options *o = namespace_of(name, len);
    struct channel *ch = channel_lock(w, name, len, o && channel_has_history(o));
    if (!ch) return NULL;
    channel_hold(ch);
    channel_unlock(ch);
    return ch;
}

void pubsub_channel_unref(struct channel *ch)
{
    if (!ch) return;
    pthread_mutex_lock(&shard_of(ch)->lock);
    channel_let_go(ch);
    channel_unlock(ch);
    channel_unref(ch);
}

const char *pubsub_name(const struct channel *ch, size_t *len)
{
    *len = ch->len;
    return ch->name;
}

unsigned pubsub_wanted(const struct channel *ch)
{
    const bool json = atomic_load_explicit(&ch->wants_json, memory_order_relaxed);
    unsigned bits = json ? 1u << ENCODING_JSON : 0;
    for (unsigned e = 0; e < ENCODINGS; e++)
        if (atomic_load_explicit(&ch->wanted[e], memory_order_relaxed)) bits |= 1u << e;
    return bits;
}
