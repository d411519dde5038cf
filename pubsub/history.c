/* Histories of channels: kept under the shard's lock, and ended by time and by the budget for all.
 *
 * The budget is one number for all shards. Who went beyond it lets go of its own shard and takes
 * publications, one by one, from the stream that was used least recently in any: each shard says
 * when that was, in 64 numbers that are read without a lock. So a busy channel does not pay for
 * idle ones that happen to lie elsewhere, and a stream loses only as much as is needed. It keeps
 * epoch and top: whoever has missed nothing goes on, and whoever has is told, since what it asks
 * for is not kept. */
#include <stdlib.h>
#include <string.h>

#include "pubsub/shared.h"

#define FORGET_LOOKS 16 /* channels looked at under the lock, for one that nobody holds */
#define SHED_MAX 32     /* publications that go in one piece of work under a lock */
#define TICK_MS 1000    /* of the wheels */
#define TICKS_MAX (INT64_C(1) << 30)
#define FIRED_MAX 32   /* streams looked at under one lock because of their time, */
#define CLEAR_MAX 32   /* publications that go from one of them at a time, */
#define STEPS_MAX 2048 /* and both together in a turn, about */

static int64_t kept_bytes(const struct publication *p)
{
    return (int64_t)p->size + p->as[ENCODING_JSON].frame->size +
           (p->as[ENCODING_RAW].frame ? p->as[ENCODING_RAW].frame->size : 0);
}

static void forget_item(struct publication *p)
{
    if (!p) return;
    atomic_fetch_sub_explicit(&bus.history_bytes, kept_bytes(p), memory_order_relaxed);
    pubsub_publication_unref(p);
}

/* note_oldest tells all which shard has the stream that was used least recently. */
static void note_oldest(struct shard *s)
{
    const bool none = list_empty(&s->recent);
    int64_t ms = none ? INT64_MAX : list_entry(s->recent.next, struct channel, recent)->used_ms;
    atomic_store_explicit(&bus.oldest_ms[s - bus.shards], ms, memory_order_relaxed);
}

/* enlist puts ch at the end of the list that its stream is for; the shard's first one is looked at
 * only if it is another now. */
static void enlist(struct channel *ch)
{
    struct shard *s = shard_of(ch);
    const struct list *first = s->recent.next;
    list_remove(&ch->recent);
    list_push_back(ch->stream.count ? &s->recent : &s->emptied, &ch->recent);
    if (first == &ch->recent || first != s->recent.next) note_oldest(s);
}

void history_use(struct channel *ch, int64_t now_ms)
{
    if (list_empty(&ch->recent)) return;
    ch->used_ms = now_ms;
    enlist(ch);
}

static void emptied(struct channel *ch)
{
    stream_free(&ch->stream);
    enlist(ch);
}

void history_free(struct stream *gone)
{
    for (struct publication *p; (p = stream_pop(gone));) forget_item(p);
    stream_free(gone);
}

/* history_clear does not free under the lock: a million publications take 70 ms. One stream ends
 * while it is held; of several all but the last are freed here. */
void history_clear(struct channel *ch)
{
    struct shard *s = shard_of(ch);
    if (!ch->stream.count) return;
    history_free(&s->gone);
    stream_move(&s->gone, &ch->stream);
    enlist(ch);
}

/* forget ends a stream, epoch and top as well: the next use of the name begins anew, and says so by
 * another epoch. */
static void forget(struct channel *ch)
{
    history_clear(ch);
    ch->stream.top = 0;
    ch->version = ch->version_epoch = 0;
    list_remove(&ch->recent);
    wheel_cancel(shard_of(ch)->wheel, &ch->timer);
    shard_of(ch)->generation++;
    channel_make_epoch(ch);
}

static void forget_whole(struct channel *ch)
{
    forget(ch);
    channel_unlist_if_idle(ch);
    channel_unref(ch); /* the list's */
}

static bool forget_one_of(struct list *streams)
{
    int looks = FORGET_LOOKS;
    for (struct list *n = streams->next; n != streams && looks > 0; n = n->next, looks--) {
        struct channel *ch = list_entry(n, struct channel, recent);
        if (ch->holders) continue;
        forget_whole(ch);
        return true;
    }
    return false;
}

bool history_forget_one(struct shard *s)
{
    return forget_one_of(&s->emptied) || forget_one_of(&s->recent);
}

void history_close(struct shard *s)
{
    struct list *const lists[] = {&s->recent, &s->emptied};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        while (!list_empty(lists[i]))
            forget_whole(list_entry(lists[i]->next, struct channel, recent));
    history_free(&s->gone);
}

/* ---- time ---- */

static bool list_is_over(struct channel *ch, int64_t now_ms)
{
    return now_ms - ch->published_ms >= channel_options(ch)->history_ttl_ms;
}

static bool meta_is_over(struct channel *ch, int64_t now_ms)
{
    return !ch->positioned && now_ms - ch->used_ms >= channel_options(ch)->history_meta_ttl_ms;
}

void history_touch(struct channel *ch, int64_t now_ms)
{
    (void)channel_options(ch);
    if (list_empty(&ch->recent)) return;
    if (list_is_over(ch, now_ms)) history_clear(ch);
    if (!meta_is_over(ch, now_ms)) return;
    forget(ch);
    channel_unref(ch); /* the list's; never the last: the caller has one */
}

/* arm sets a stream's timer for the end of its list, or, if that is empty, of the rest; returns
 * when that is. A use puts the end off without touching the timer, which looks when it fires. */
static int64_t arm(struct channel *ch, int64_t now_ms)
{
    const struct channel_options *o = channel_options(ch);
    int64_t at_ms = ch->used_ms + o->history_meta_ttl_ms;
    if (ch->positioned) at_ms = now_ms + o->history_meta_ttl_ms;
    if (ch->stream.count) at_ms = ch->published_ms + o->history_ttl_ms;
    if (at_ms - now_ms > TICKS_MAX * TICK_MS) at_ms = now_ms + TICKS_MAX * TICK_MS;
    const int64_t tick = (at_ms + TICK_MS - 1) / TICK_MS; /* up: it has outlived its time then */
    wheel_arm(shard_of(ch)->wheel, &ch->timer, (uint32_t)tick);
    return tick * TICK_MS;
}

struct sweep {
    int64_t now_ms;
    uint32_t steps; /* done: streams looked at and publications that went */
};

static void fired(struct wheel_timer *t, void *arg)
{
    struct channel *ch = list_entry(t, struct channel, timer);
    struct sweep *sweep = arg;
    sweep->steps++;
    if (list_is_over(ch, sweep->now_ms) && ch->stream.count) {
        for (unsigned i = 0; i < CLEAR_MAX && ch->stream.count; i++, sweep->steps++)
            forget_item(stream_pop(&ch->stream));
        if (!ch->stream.count) emptied(ch);
    }
    if (!ch->stream.count && meta_is_over(ch, sweep->now_ms))
        forget_whole(ch);
    else
        arm(ch, sweep->now_ms);
}

/* sweep_shard returns when it has to be done again, INT64_MAX if it has no stream. */
static int64_t sweep_shard(struct shard *s, struct sweep *sweep)
{
    const uint32_t now = (uint32_t)(sweep->now_ms / TICK_MS);
    pthread_mutex_lock(&s->lock);
    wheel_advance(s->wheel, now, FIRED_MAX, fired, sweep);
    uint32_t ticks = wheel_next(s->wheel, now);
    shard_unlock(s);
    if (ticks == UINT32_MAX) return INT64_MAX;
    return ticks ? (sweep->now_ms / TICK_MS + ticks) * TICK_MS : sweep->now_ms;
}

void history_sweep(struct worker *w)
{
    struct pubsub_worker *mine = w->pubsub;
    struct sweep sweep = {.now_ms = w->now_ms};
    if (w->now_ms < mine->sweep_at_ms) return;
    mine->sweep_at_ms = INT64_MAX;
    for (uint64_t bits = mine->watched; bits; bits &= bits - 1) {
        int64_t at_ms = w->now_ms; /* too much for one turn: it goes on in the next */
        if (sweep.steps < STEPS_MAX)
            at_ms = sweep_shard(&bus.shards[__builtin_ctzll(bits)], &sweep);
        if (at_ms == INT64_MAX) mine->watched &= ~(bits & -bits);
        if (at_ms < mine->sweep_at_ms) mine->sweep_at_ms = at_ms;
    }
}

/* watch arms the timer of a stream that had no publication and has one. Whoever does so sweeps that
 * shard from now on, since it is awake. */
static void watch(struct worker *w, struct channel *ch)
{
    struct pubsub_worker *mine = w->pubsub;
    const int64_t at_ms = arm(ch, w->now_ms);
    mine->watched |= 1ull << (shard_of(ch) - bus.shards);
    if (at_ms < mine->sweep_at_ms) mine->sweep_at_ms = at_ms;
}

static bool has_wheel(struct shard *s, int64_t now_ms)
{
    if (s->wheel) return true;
    s->wheel = malloc(sizeof *s->wheel);
    if (s->wheel) wheel_init(s->wheel, (uint32_t)(now_ms / TICK_MS));
    return s->wheel;
}

/* ---- the budget for all ---- */

static bool too_much(void)
{
    return atomic_load_explicit(&bus.history_bytes, memory_order_relaxed) >
           pubsub_options()->history_max_bytes;
}

/* oldest_shard gives the shard with the stream that was used least recently, but none of spent;
 * NULL if there is none. The numbers may be a moment old, so it need not be the very oldest. */
static struct shard *oldest_shard(uint64_t spent)
{
    struct shard *oldest = NULL;
    int64_t least = INT64_MAX;
    for (unsigned i = 0; i < SHARDS; i++) {
        int64_t ms = atomic_load_explicit(&bus.oldest_ms[i], memory_order_relaxed);
        if (ms >= least || (spent >> i & 1)) continue;
        least = ms;
        oldest = &bus.shards[i];
    }
    return oldest;
}

/* shed lets the oldest publications of a shard's first stream go, as many as are too much, some at
 * a time. Returns how many. */
static uint32_t shed(struct shard *s, const struct channel *own)
{
    uint32_t n = 0;
    pthread_mutex_lock(&s->lock);
    if (!list_empty(&s->recent)) {
        struct channel *ch = list_entry(s->recent.next, struct channel, recent);
        const uint32_t least = ch == own ? 1 : 0;
        for (; n < SHED_MAX && ch->stream.count > least && too_much(); n++)
            forget_item(stream_pop(&ch->stream));
        if (!ch->stream.count) emptied(ch);
    }
    pthread_mutex_unlock(&s->lock);
    return n;
}

void history_make_room(struct worker *w, const struct channel *own)
{
    uint64_t spent = 0; /* shards that have nothing to give */
    while (too_much()) {
        struct shard *s = oldest_shard(spent);
        if (!s) return;
        uint32_t n = shed(s, own);
        metric_add(&w->metrics, METRIC_HISTORY_EVICTED, n);
        if (!n) spent |= 1ull << (s - bus.shards);
    }
}

/* ---- publications ---- */

uint64_t pubsub_version_epoch(const char *name, size_t len)
{
    return len ? hash_bytes(&bus.key, name, len) | 1 : 0;
}

bool history_outdates(struct channel *ch, const struct pubsub_terms *t, int64_t now_ms)
{
    if (!t->version) return false;
    history_touch(ch, now_ms);
    const bool same_epoch = !t->version_epoch || t->version_epoch == ch->version_epoch;
    return same_epoch && t->version <= ch->version;
}

/* shrink: a stream that may have fewer publications than it has loses its oldest, some at a time.
 */
static void shrink(struct channel *ch, uint32_t max)
{
    for (unsigned i = 0; i < SHED_MAX && ch->stream.count > max; i++)
        forget_item(stream_pop(&ch->stream));
}

bool history_append(struct worker *w, struct channel *ch, struct publication *p)
{
    void *evicted;
    const uint32_t size = channel_options(ch)->history_size;
    history_touch(ch, w->now_ms);
    shrink(ch, size);
    const bool was_empty = !ch->stream.count;
    if (!has_wheel(shard_of(ch), w->now_ms)) return false;
    if (stream_push(&ch->stream, p, size, &evicted) == -1) return false;
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&bus.history_bytes, kept_bytes(p), memory_order_relaxed);
    p->offset = ch->stream.top;
    forget_item(evicted);
    ch->published_ms = ch->used_ms = w->now_ms;
    if (list_empty(&ch->recent)) channel_ref(ch); /* it stays, also without a holder */
    enlist(ch);
    if (was_empty) watch(w, ch);
    return true;
}

void history_position(const struct channel *ch, struct pubsub_position *at)
{
    memcpy(at->epoch, ch->epoch, sizeof at->epoch);
    at->offset = ch->stream.top;
}

static void take(struct channel *ch, uint64_t offset, struct publication **out)
{
    *out = stream_get(&ch->stream, offset);
    atomic_fetch_add_explicit(&(*out)->refs, 1, memory_order_relaxed);
}

/* protocol.md section 6.3: recovered iff everything behind the offset is still kept, and not more
 * than was asked for. */
void history_recover(struct channel *ch, struct pubsub_recovery *r)
{
    const struct stream *s = &ch->stream;
    history_position(ch, &r->top);
    r->count = 0;
    r->recovered = false;
    if (!r->wanted) return;
    bool same_epoch = r->any_epoch || memcmp(r->epoch, ch->epoch, sizeof r->epoch) == 0;
    if (r->cache) { /* the newest one is all that matters */
        r->recovered = s->count > 0 || (same_epoch && r->offset == s->top);
        if (s->count && !(same_epoch && !r->any_epoch && r->offset == s->top))
            take(ch, s->top, &r->missed[r->count++]);
        return;
    }
    if (!same_epoch || r->offset > s->top) return;
    uint64_t missed = s->top - r->offset;
    if (missed && (missed > r->max || r->offset + 1 < stream_oldest(s))) return;
    r->recovered = true;
    for (uint64_t o = r->offset + 1; o <= s->top; o++) take(ch, o, &r->missed[r->count++]);
}

void pubsub_history(struct worker *w, struct channel *ch, struct pubsub_history *h)
{
    const struct stream *s = &ch->stream;
    pthread_mutex_lock(&shard_of(ch)->lock);
    history_touch(ch, w->now_ms);
    history_position(ch, &h->top);
    h->count = 0;
    uint64_t oldest = stream_oldest(s);
    if (h->reverse) {
        uint64_t o = h->has_since ? h->since - 1 : s->top;
        for (; h->count < h->max && o >= oldest && o <= s->top && s->count; o--)
            take(ch, o, &h->found[h->count++]);
    } else {
        uint64_t o = h->has_since && h->since >= oldest ? h->since + 1 : oldest;
        for (; o && h->count < h->max && o <= s->top && s->count;
             o++) /* 0: behind the last of all numbers */
            take(ch, o, &h->found[h->count++]);
    }
    history_use(ch, w->now_ms);
    channel_unlock(ch);
}

void pubsub_history_remove(struct channel *ch)
{
    pthread_mutex_lock(&shard_of(ch)->lock);
    history_clear(ch);
    channel_unlock(ch);
}
