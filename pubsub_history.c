/* Histories of channels: kept under the shard's lock, ended by time, and by the budget for all
 * (least recently used first). */
#include <string.h>

#include "pubsub_shared.h"

#define FORGET_LOOKS 16 /* channels looked at under the lock, for one that nobody holds */

static int64_t cost_of(const struct publication *p)
{
    return (int64_t)p->size + p->as[ENCODING_JSON].frame->size +
           (p->as[ENCODING_RAW].frame ? p->as[ENCODING_RAW].frame->size : 0);
}

static void forget_item(struct publication *p)
{
    if (!p) return;
    atomic_fetch_sub_explicit(&bus.history_bytes, cost_of(p), memory_order_relaxed);
    pubsub_publication_unref(p);
}

void history_clear(struct channel *ch)
{
    for (struct publication *p; (p = stream_pop(&ch->stream));) forget_item(p);
}

/* end_stream forgets epoch and top: the next use of the name begins anew, and says so by another
 * epoch. */
static void end_stream(struct channel *ch)
{
    struct shard *s = shard_of(ch);
    history_clear(ch);
    stream_free(&ch->stream);
    ch->stream.top = 0;
    ch->version = ch->version_epoch = 0;
    list_remove(&ch->recent);
    s->generation++;
    channel_make_epoch(ch);
    channel_unref(ch); /* the list's; never the last: the caller has one */
}

static void forget(struct channel *ch)
{
    channel_ref(ch);
    end_stream(ch);
    channel_unlist_if_idle(ch);
    channel_unref(ch);
}

bool history_forget_one(struct shard *s)
{
    int looks = FORGET_LOOKS;
    for (struct list *n = s->recent.next; n != &s->recent && looks > 0; n = n->next, looks--) {
        struct channel *ch = list_entry(n, struct channel, recent);
        if (ch->holders) continue;
        forget(ch);
        return true;
    }
    return false;
}

void history_touch(struct channel *ch, int64_t now_ms)
{
    if (list_empty(&ch->recent)) return;
    if (now_ms >= ch->meta_until_ms)
        end_stream(ch);
    else if (now_ms >= ch->list_until_ms)
        history_clear(ch);
}

/* make_room keeps all histories within their budget, by ending those of this shard that were used
 * least recently. */
static void make_room(struct channel *ch)
{
    struct shard *s = shard_of(ch);
    while (atomic_load_explicit(&bus.history_bytes, memory_order_relaxed) >
           bus.options.history_max_bytes) {
        struct channel *oldest = list_entry(s->recent.next, struct channel, recent);
        if (oldest == ch) {
            struct publication *p = ch->stream.count > 1 ? stream_pop(&ch->stream) : NULL;
            if (!p) return;
            forget_item(p);
            continue;
        }
        forget(oldest);
    }
}

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

bool history_append(struct channel *ch, struct publication *p, int64_t now_ms)
{
    struct shard *s = shard_of(ch);
    void *evicted;
    history_touch(ch, now_ms);
    if (stream_push(&ch->stream, p, ch->options->history_size, &evicted) == -1) return false;
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&bus.history_bytes, cost_of(p), memory_order_relaxed);
    p->offset = ch->stream.top;
    forget_item(evicted);
    ch->list_until_ms = now_ms + ch->options->history_ttl_ms;
    ch->meta_until_ms = now_ms + ch->options->history_meta_ttl_ms;
    if (list_empty(&ch->recent))
        channel_ref(ch); /* it stays, also without a publication or a holder */
    list_remove(&ch->recent);
    list_push_back(&s->recent, &ch->recent);
    make_room(ch);
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
    if (!list_empty(&ch->recent)) { /* used: keep its meta data longer */
        ch->meta_until_ms = w->now_ms + ch->options->history_meta_ttl_ms;
        list_remove(&ch->recent);
        list_push_back(&shard_of(ch)->recent, &ch->recent);
    }
    channel_unlock(ch);
}

void pubsub_history_remove(struct channel *ch)
{
    pthread_mutex_lock(&shard_of(ch)->lock);
    history_clear(ch);
    channel_unlock(ch);
}
