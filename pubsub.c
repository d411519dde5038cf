#include "pubsub.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "list.h"
#include "tls.h"

#define SHARDS 64
#define FIRST_BUCKETS 16
#define POST_COST 128          /* what a post costs beside its bytes, for the mailbox's bound */
#define RUN_MAX (256u * 1024)  /* publications of a turn are gathered into one run up to this size */
#define PASS_MAX 1024          /* publications of a pass: what is handed out one by one is bounded as well */
#define HOLD_FIRST_MS 10       /* after a burst that left subscribers behind, their channel waits so long, ... */
#define HOLD_MAX_MS 160        /* ... twice as long each time up to this, before the next pass */
#define NOT_SUBSCRIBED UINT32_MAX

struct subscriber {
    struct conn *conn;
    uint64_t after; /* publications with a greater seq are for it */
};

/* What a mailbox carries: a publication, or the news that one was lost. */
struct delivery {
    struct post post;
    struct publication *publication; /* NULL: posts were lost for this local half */
    struct local *lost_for;
};

struct publication {
    _Atomic uint32_t refs;
    uint32_t size; /* as asked of pool */
    struct mem_pool *pool;
    struct frame *frame;
    struct channel *channel; /* counted */
    uint64_t seq, publisher;
    int64_t at_us;
    struct delivery deliveries[]; /* one a worker */
};

struct pending { /* taken from the mailbox, not yet with every subscriber */
    struct publication *publication;
    uint32_t run_from; /* where it begins in the pass's run */
};

struct local {
    struct channel *channel; /* counted */
    struct worker *worker;
    struct subscriber *subscribers;
    uint32_t count, cap;
    uint32_t attached; /* holders */
    uint32_t cursor;   /* of the pass under way: subscribers below it have been served */
    uint32_t pass;     /* how many pending publications the pass under way hands out; 0 = none is */
    bool busy;         /* a slice is running: do not free */
    bool orphan;       /* detached, but its reserved post is still in the mailbox */
    struct pending *pending;
    uint32_t pending_count, pending_cap;
    struct frame *run;  /* the pass's publications in one piece, or NULL: one by one */
    uint32_t run_len;   /* bytes of the pass */
    bool left_behind;   /* in this pass: somebody had much left of earlier ones */
    uint16_t hold_ms;   /* the last wait of a burst, 0 = none */
    int64_t hold_until_ms;
    struct list active; /* in worker's list while anything is pending */
    /* under the shard's lock */
    bool lost_posted;
    uint64_t lost_seq;
    struct delivery lost;
};

struct channel {
    struct channel *next; /* in its bucket */
    uint64_t hash;
    struct mem_pool *pool; /* of the worker that made it */
    uint32_t size;         /* as asked of pool */
    _Atomic uint32_t refs; /* local halves and publications in flight; the table holds none */
    /* under the shard's lock */
    uint64_t seq;
    uint64_t interested; /* workers with subscribers */
    uint32_t locals;
    uint8_t len;
    char *name; /* behind locals_by_worker */
    struct local *local[]; /* local[w] is read and written by worker w; under the lock by others while interested has its bit */
};

struct shard {
    _Alignas(64) pthread_mutex_t lock;
    struct channel **buckets;
    uint32_t bucket_count, count;
};

static struct {
    struct pubsub_options options;
    unsigned worker_count;
    struct hash_key key;
    _Atomic int64_t channels;
    struct shard shards[SHARDS];
} bus;

struct pubsub_worker {
    struct list active; /* local halves with something pending */
};

/* ---- set-up ---- */

int pubsub_open(const struct pubsub_options *o, unsigned worker_count)
{
    bus.options = *o;
    bus.worker_count = worker_count;
    random_bytes(&bus.key, sizeof bus.key);
    for (int i = 0; i < SHARDS; i++) {
        struct shard *s = &bus.shards[i];
        pthread_mutex_init(&s->lock, NULL);
        s->buckets = calloc(FIRST_BUCKETS, sizeof(struct channel *));
        s->bucket_count = FIRST_BUCKETS;
        s->count = 0;
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
        free(bus.shards[i].buckets);
        bus.shards[i].buckets = NULL;
    }
}

int pubsub_worker_open(struct worker *w)
{
    struct pubsub_worker *p = calloc(1, sizeof *p);
    if (!p) return -1;
    list_init(&p->active);
    w->pubsub = p;
    return 0;
}

static void publication_unref(struct publication *p, uint32_t n);

void pubsub_worker_close(struct worker *w)
{
    for (struct post *p = mailbox_take(&w->mailbox), *next; p; p = next) {
        next = p->next;
        struct delivery *d = (struct delivery *)(void *)p;
        if (d->publication) publication_unref(d->publication, 1);
    }
    free(w->pubsub);
    w->pubsub = NULL;
}

uint64_t pubsub_channel_count(void)
{
    return (uint64_t)atomic_load_explicit(&bus.channels, memory_order_relaxed);
}

/* ---- the table of shared halves ---- */

static struct shard *shard_of(uint64_t hash)
{
    return &bus.shards[hash >> 58];
}
_Static_assert(SHARDS == 64, "shard_of takes six bits");

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

static struct channel *create(struct mem_pool *pool, struct shard *s, uint64_t hash,
                              const char *name, size_t len)
{
    if (atomic_load_explicit(&bus.channels, memory_order_relaxed) >= bus.options.channels_max) {
        errno = ENOSPC;
        return NULL;
    }
    size_t locals = bus.worker_count * sizeof(struct local *);
    struct channel *ch = mem_zalloc(pool, sizeof *ch + locals + len);
    if (!ch) return NULL;
    ch->pool = pool;
    ch->size = (uint32_t)(sizeof *ch + locals + len);
    ch->hash = hash;
    ch->len = (uint8_t)len;
    ch->name = (char *)ch + sizeof *ch + locals;
    memcpy(ch->name, name, len);
    if (s->count >= s->bucket_count) widen(s);
    struct channel **b = bucket_of(s, hash);
    ch->next = *b;
    *b = ch;
    s->count++;
    atomic_fetch_add_explicit(&bus.channels, 1, memory_order_relaxed);
    return ch;
}

static void take_out(struct shard *s, struct channel *ch)
{
    struct channel **at = bucket_of(s, ch->hash);
    while (*at != ch) at = &(*at)->next;
    *at = ch->next;
    s->count--;
    atomic_fetch_sub_explicit(&bus.channels, 1, memory_order_relaxed);
}

static void channel_unref(struct channel *ch)
{
    if (atomic_fetch_sub_explicit(&ch->refs, 1, memory_order_acq_rel) == 1)
        mem_free(ch->pool, ch, ch->size);
}

const char *pubsub_name(const struct local *l, size_t *len)
{
    *len = l->channel->len;
    return l->channel->name;
}

/* ---- local halves ---- */

static struct local *new_local(struct worker *w)
{
    struct local *l = mem_zalloc(w->pool, sizeof *l);
    if (!l) return NULL;
    l->worker = w;
    l->lost.lost_for = l;
    list_init(&l->active);
    return l;
}

struct local *pubsub_attach(struct worker *w, const char *name, size_t len)
{
    uint64_t hash = hash_bytes(&bus.key, name, len);
    struct shard *s = shard_of(hash);
    struct local *l = NULL, *made = NULL;
    errno = ENOMEM; /* unless create says otherwise */
    pthread_mutex_lock(&s->lock);
    struct channel *ch = find(s, hash, name, len);
    if (ch) l = ch->local[w->index];
    if (!l && (made = new_local(w)) && (ch || (ch = create(w->pool, s, hash, name, len)))) {
        l = made;
        l->channel = ch;
        ch->local[w->index] = l;
        ch->locals++;
        atomic_fetch_add_explicit(&ch->refs, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&s->lock);
    if (l)
        l->attached++;
    else
        mem_free(w->pool, made, sizeof *made);
    return l;
}

static void pending_done(struct local *l, uint32_t n);

static void free_local(struct local *l)
{
    struct worker *w = l->worker;
    mem_free(w->pool, l->subscribers, l->cap * sizeof *l->subscribers);
    mem_free(w->pool, l->pending, l->pending_cap * sizeof *l->pending);
    mem_free(w->pool, l, sizeof *l);
}

/* end_local takes an unattached half out of its channel, and the channel out of the table if it was the last. */
static void end_local(struct local *l)
{
    struct channel *ch = l->channel;
    struct shard *s = shard_of(ch->hash);
    frame_unref(l->run, 1);
    l->run = NULL;
    pending_done(l, l->pending_count);
    list_remove(&l->active);
    pthread_mutex_lock(&s->lock);
    ch->local[l->worker->index] = NULL;
    if (--ch->locals == 0) take_out(s, ch);
    l->orphan = l->lost_posted;
    pthread_mutex_unlock(&s->lock);
    if (!l->orphan) free_local(l);
    channel_unref(ch);
}

void pubsub_detach(struct local *l)
{
    if (--l->attached == 0 && !l->busy) end_local(l); /* busy: at the end of the slice */
}

/* ---- subscriptions ---- */

static bool room_for_subscriber(struct local *l)
{
    if (l->count < l->cap) return true;
    uint32_t cap = l->cap ? l->cap * 2 : 2;
    struct mem_pool *pool = l->worker->pool;
    struct subscriber *bigger = mem_alloc(pool, cap * sizeof *bigger);
    if (!bigger) return false;
    if (l->count) memcpy(bigger, l->subscribers, l->count * sizeof *bigger);
    mem_free(pool, l->subscribers, l->cap * sizeof *bigger);
    l->subscribers = bigger;
    l->cap = cap;
    return true;
}

int pubsub_subscribe(struct conn *c, struct local *l)
{
    if (!room_for_subscriber(l)) return -1;
    struct channel *ch = l->channel;
    struct shard *s = shard_of(ch->hash);
    pthread_mutex_lock(&s->lock);
    uint64_t seq = ch->seq;
    ch->interested |= 1ull << l->worker->index;
    pthread_mutex_unlock(&s->lock);
    c->channel = l;
    c->sub_index = l->count;
    l->subscribers[l->count++] = (struct subscriber){c, seq};
    metric_add(&l->worker->metrics, METRIC_SUBSCRIPTIONS, 1);
    return 0;
}

/* put moves the subscriber at from to to. from is a hole then, and what it still holds must not be touched again. */
static void put(struct local *l, uint32_t to, uint32_t from)
{
    if (to == from) return;
    l->subscribers[to] = l->subscribers[from];
    l->subscribers[to].conn->sub_index = to;
}

void pubsub_unsubscribe(struct conn *c)
{
    struct local *l = c->channel;
    uint32_t i = c->sub_index;
    if (i < l->cursor) { /* served: keep the served ones together, so that nobody is skipped or served twice */
        put(l, i, --l->cursor);
        i = l->cursor;
    }
    put(l, i, --l->count);
    metric_sub(&l->worker->metrics, METRIC_SUBSCRIPTIONS, 1);
    c->sub_index = NOT_SUBSCRIBED;
    if (l->count) return;
    struct shard *s = shard_of(l->channel->hash);
    pthread_mutex_lock(&s->lock);
    l->channel->interested &= ~(1ull << l->worker->index);
    pthread_mutex_unlock(&s->lock);
}

bool pubsub_is_subscribed(const struct conn *c)
{
    return c->channel && c->sub_index != NOT_SUBSCRIBED;
}

/* ---- publishing ---- */

static void publication_unref(struct publication *p, uint32_t n)
{
    if (n == 0 || atomic_fetch_sub_explicit(&p->refs, n, memory_order_acq_rel) != n) return;
    frame_unref(p->frame, 1);
    channel_unref(p->channel);
    mem_free(p->pool, p, p->size);
}

static uint64_t cost_of(const struct publication *p)
{
    return p->frame->len + POST_COST;
}

/* push_lost tells worker i that a publication did not fit into its mailbox: by the post that its local half keeps for
 * that, once until it is read. Under the shard's lock. */
static bool push_lost(struct channel *ch, struct mailbox *box, unsigned i)
{
    struct local *l = ch->local[i];
    l->lost_seq = ch->seq;
    if (l->lost_posted) return false;
    l->lost_posted = true;
    return mailbox_push(box, &l->lost.post, &l->lost.post);
}

/* publish_locked is the critical section of a publication: its seq, and a post to each interested worker. Pushing under
 * the lock makes every worker see one order. */
static void publish_locked(struct worker *w, struct channel *ch, struct publication *p)
{
    p->seq = ++ch->seq;
    uint32_t unused = 1 + bus.worker_count;
    for (uint64_t bits = ch->interested; bits; bits &= bits - 1) {
        unsigned i = (unsigned)__builtin_ctzll(bits);
        struct mailbox *box = &w->server->workers[i]->mailbox;
        struct delivery *d = &p->deliveries[i];
        bool was_empty;
        if (mailbox_charge(box, cost_of(p))) {
            *d = (struct delivery){.publication = p};
            unused--;
            was_empty = mailbox_push(box, &d->post, &d->post);
        } else {
            metric_add(&w->metrics, METRIC_LOST, 1);
            was_empty = push_lost(ch, box, i);
        }
        if (was_empty) w->wake |= 1ull << i;
    }
    publication_unref(p, unused); /* refs were set for every worker before the first push */
}

static struct publication *new_publication(struct worker *w, struct frame *frame,
                                           uint64_t publisher)
{
    uint32_t size = (uint32_t)(sizeof(struct publication) +
                               bus.worker_count * sizeof(struct delivery));
    struct publication *p = frame ? mem_alloc(w->pool, size) : NULL;
    if (!p) {
        frame_unref(frame, 1);
        metric_add(&w->metrics, METRIC_REFUSED_MEMORY, 1);
        return NULL;
    }
    atomic_init(&p->refs, 1 + bus.worker_count);
    p->size = size;
    p->pool = w->pool;
    p->frame = frame;
    p->channel = NULL;
    p->publisher = publisher;
    p->at_us = w->now_us;
    metric_add(&w->metrics, METRIC_PUBLISHED, 1);
    return p;
}

static void publish(struct worker *w, struct channel *ch, struct publication *p)
{
    p->channel = ch;
    atomic_fetch_add_explicit(&ch->refs, 1, memory_order_relaxed);
    publish_locked(w, ch, p);
}

int pubsub_publish(struct worker *w, struct local *l, struct frame *frame, uint64_t publisher)
{
    struct publication *p = new_publication(w, frame, publisher);
    if (!p) return -1;
    struct shard *s = shard_of(l->channel->hash);
    pthread_mutex_lock(&s->lock);
    publish(w, l->channel, p);
    pthread_mutex_unlock(&s->lock);
    return 0;
}

int pubsub_publish_name(struct worker *w, const char *name, size_t len, struct frame *frame,
                        uint64_t publisher)
{
    struct publication *p = new_publication(w, frame, publisher);
    if (!p) return -1;
    uint64_t hash = hash_bytes(&bus.key, name, len);
    struct shard *s = shard_of(hash);
    pthread_mutex_lock(&s->lock);
    struct channel *ch = find(s, hash, name, len);
    if (ch) publish(w, ch, p);
    pthread_mutex_unlock(&s->lock);
    if (!ch) { /* nobody listens, and without history nothing is kept */
        frame_unref(frame, 1);
        mem_free(w->pool, p, p->size);
    }
    return 0;
}

/* ---- handing over ---- */

static void pending_done(struct local *l, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        mailbox_credit(&l->worker->mailbox, cost_of(l->pending[i].publication));
        publication_unref(l->pending[i].publication, 1);
    }
    l->pending_count -= n;
    if (l->pending_count)
        memmove(l->pending, l->pending + n, l->pending_count * sizeof *l->pending);
    l->pass = 0;
    l->cursor = 0;
}

static bool room_for_pending(struct local *l)
{
    if (l->pending_count < l->pending_cap) return true;
    uint32_t cap = l->pending_cap ? l->pending_cap * 2 : 4;
    struct mem_pool *pool = l->worker->pool;
    struct pending *bigger = mem_alloc(pool, cap * sizeof *bigger);
    if (!bigger) return false;
    if (l->pending_count) memcpy(bigger, l->pending, l->pending_count * sizeof *bigger);
    mem_free(pool, l->pending, l->pending_cap * sizeof *bigger);
    l->pending = bigger;
    l->pending_cap = cap;
    return true;
}

/* lose closes the subscribers that missed a publication up to seq: they were promised every one or to be told. */
static void lose(struct local *l, uint64_t seq)
{
    l->busy = true;
    for (uint32_t i = l->count; i-- > 0;) { /* downwards: a removal moves one from behind, which has been looked at */
        if (i < l->count && l->subscribers[i].after < seq)
            conn_close(l->subscribers[i].conn, 3008, "publications were lost: server too slow");
    }
    l->busy = false;
    if (l->attached == 0) end_local(l);
}

static void read_lost(struct local *l)
{
    if (l->orphan) { /* its channel is gone */
        free_local(l);
        return;
    }
    struct shard *s = shard_of(l->channel->hash);
    pthread_mutex_lock(&s->lock);
    l->lost_posted = false;
    uint64_t seq = l->lost_seq;
    pthread_mutex_unlock(&s->lock);
    lose(l, seq);
}

static void take_in(struct worker *w, struct publication *p)
{
    struct local *l = p->channel->local[w->index];
    if (l && room_for_pending(l)) {
        l->pending[l->pending_count++] = (struct pending){.publication = p};
        struct pubsub_worker *mine = w->pubsub;
        if (list_empty(&l->active)) list_push_back(&mine->active, &l->active);
        return;
    }
    uint64_t seq = p->seq;
    mailbox_credit(&w->mailbox, cost_of(p));
    publication_unref(p, 1);
    if (!l) return; /* everybody has left meanwhile */
    metric_add(&w->metrics, METRIC_LOST, 1);
    lose(l, seq);
}

/* gather puts the publications of a pass into one run of bytes, each where run_from says. Without memory for it they are handed
 * out one by one. */
static void gather(struct local *l, uint32_t total)
{
    if (l->pass == 1) {
        l->run = l->pending[0].publication->frame;
        frame_ref(l->run, 1);
        return;
    }
    l->run = frame_new(l->worker->pool, total);
    for (uint32_t i = 0; l->run && i < l->pass; i++) {
        const struct frame *f = l->pending[i].publication->frame;
        memcpy(l->run->bytes + l->pending[i].run_from, f->bytes, f->len);
    }
}

/* hand_over_singly returns how many it queued. */
static uint32_t hand_over_singly(struct local *l, struct conn *c, uint32_t first)
{
    uint64_t key = conn_key(c);
    uint32_t n = 0;
    for (uint32_t i = first; i < l->pass && c->state == CONN_OPEN; i++) {
        struct publication *p = l->pending[i].publication;
        if (c->flags & CONN_NO_SELF && p->publisher == key) continue;
        frame_ref(p->frame, 1);
        metric_add(&l->worker->metrics, METRIC_DELIVERIES, 1);
        conn_deliver(c, (struct out_entry){.frame = p->frame, .messages = 1, .kind = OUT_MESSAGE},
                     bus.options.policy);
        n++;
    }
    return n;
}

static int64_t queue_max(const struct local *l)
{
    return l->worker->server->app->conn.queue_max_bytes;
}

/* hand_over queues the pass's publications to one subscriber; returns how many steps of work that was. *taken: references to the run. */
static uint32_t hand_over(struct local *l, const struct subscriber *s, uint32_t *taken)
{
    struct conn *c = s->conn;
    uint32_t first = 0;
    while (first < l->pass && l->pending[first].publication->seq <= s->after) first++;
    if (first == l->pass) return 1;
    if (outq_bytes(c->out) > queue_max(l) / 4) l->left_behind = true;
    /* One by one where boundaries matter: to leave out its own, or so that a policy can drop single messages. */
    if (!l->run || c->flags & CONN_NO_SELF || (c->out && bus.options.policy != SLOW_CLOSE))
        return 1 + hand_over_singly(l, c, first);
    ++*taken;
    metric_add(&l->worker->metrics, METRIC_DELIVERIES, l->pass - first);
    conn_deliver(c,
                 (struct out_entry){.frame = l->run,
                                    .from = l->pending[first].run_from,
                                    .messages = (uint16_t)(l->pass - first),
                                    .kind = OUT_MESSAGE},
                 bus.options.policy);
    return 1;
}

/* begin_pass takes the oldest pending publications, at least one, as far as an empty queue has room for them: nobody is slow
 * only because much was published in one turn. The rest waits for the next pass. */
static void begin_pass(struct local *l)
{
    uint32_t max = queue_max(l) / 2 < RUN_MAX ? (uint32_t)(queue_max(l) / 2) : RUN_MAX, total = 0;
    for (l->pass = 0; l->pass < l->pending_count && l->pass < PASS_MAX; l->pass++) {
        uint32_t len = l->pending[l->pass].publication->frame->len;
        if (l->pass && (total >= max || len > max - total)) break;
        l->pending[l->pass].run_from = total;
        total += len;
    }
    l->cursor = 0;
    l->run_len = total;
    l->left_behind = false;
    gather(l, total);
}

/* hold_burst: passes follow each other faster than anybody can read. After a large one that found subscribers with much left of earlier
 * ones, they get some time before they are closed for being slow; what is published meanwhile waits with the rest. */
static void hold_burst(struct local *l)
{
    if (!l->left_behind || l->run_len < queue_max(l) / 8 || bus.options.policy != SLOW_CLOSE) {
        l->hold_ms = 0;
        return;
    }
    l->hold_ms = l->hold_ms ? (uint16_t)(l->hold_ms * 2) : HOLD_FIRST_MS;
    if (l->hold_ms > HOLD_MAX_MS) l->hold_ms = HOLD_MAX_MS;
    l->hold_until_ms = l->worker->now_ms + l->hold_ms;
}

static void end_pass(struct local *l)
{
    struct worker *w = l->worker;
    metric_observe(&w->metrics, HISTOGRAM_FANOUT,
                   (uint64_t)(clock_us() - l->pending[0].publication->at_us));
    frame_unref(l->run, 1);
    l->run = NULL;
    hold_burst(l);
    pending_done(l, l->pass);
    if (l->pending_count) return;
    list_remove(&l->active);
    mem_free(w->pool, l->pending, l->pending_cap * sizeof *l->pending);
    l->pending = NULL;
    l->pending_cap = 0;
}

/* slice serves some subscribers of l; what is left is gone on with in the next turn, at the cursor. */
static void slice(struct local *l)
{
    if (!l->pass) {
        if (l->worker->now_ms < l->hold_until_ms) return;
        begin_pass(l);
    }
    uint32_t budget = bus.options.slice, taken = 0;
    uint32_t left = l->count - l->cursor;
    uint32_t most = left < budget ? left : budget;
    if (l->run && most) frame_ref(l->run, most);
    l->busy = true;
    for (uint32_t steps = 0; steps < budget && l->cursor < l->count;) {
        struct subscriber s = l->subscribers[l->cursor++]; /* first: it may be closed and leave by this */
        steps += hand_over(l, &s, &taken);
    }
    l->busy = false;
    if (l->run) frame_unref(l->run, most - taken);
    if (l->attached == 0)
        end_local(l);
    else if (l->cursor >= l->count)
        end_pass(l);
}

void pubsub_posts(struct worker *w, struct post *oldest)
{
    struct pubsub_worker *mine = w->pubsub;
    for (struct post *p = oldest, *next; p; p = next) {
        next = p->next; /* before the post is given up */
        struct delivery *d = (struct delivery *)(void *)p;
        if (d->publication)
            take_in(w, d->publication);
        else
            read_lost(d->lost_for);
    }
    if (list_empty(&mine->active)) return;
    struct list now; /* each once: those with something left come again in the next turn */
    list_init(&now);
    list_splice(&now, &mine->active);
    while (!list_empty(&now)) {
        struct local *l = list_entry(now.next, struct local, active);
        list_remove(&l->active);
        list_push_back(&mine->active, &l->active);
        slice(l);
    }
}

int pubsub_idle_ms(const struct worker *w)
{
    const struct pubsub_worker *mine = w->pubsub;
    int64_t least = INT_MAX;
    for (const struct list *n = mine->active.next; n != &mine->active && least > 0; n = n->next) {
        const struct local *l = list_entry(n, struct local, active);
        int64_t ms = l->pass ? 0 : l->hold_until_ms - w->now_ms;
        if (ms < least) least = ms < 0 ? 0 : ms;
    }
    return (int)least;
}
