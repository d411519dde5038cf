/* pubsub/shared.h - the inside of pubsub: the shared halves of channels and their table. Only
 * pubsub*.c include it. */
#ifndef PUBSUB_SHARED_H
#define PUBSUB_SHARED_H

#include <pthread.h>

#include "hash.h"
#include "list.h"
#include "pubsub.h"
#include "stream.h"
#include "wheel.h"

#define SHARDS 64

struct channel {
    struct channel *next; /* in its bucket */
    uint64_t hash;
    struct mem_pool *pool; /* of the worker that made it */
    uint32_t size;         /* as asked of pool */
    uint8_t len;
    bool listed;             /* is in the table */
    char *name;              /* behind local[] */
    _Atomic bool wants_json; /* it has a history; a first look as wanted, stored under the lock */
    _Atomic uint32_t
        refs; /* memory: holders, publications, and its place in recent; the table has none */
    _Atomic uint32_t wanted[ENCODINGS]; /* subscribers by encoding; written under the lock */
    /* under the shard's lock */
    const struct channel_options *options; /* use channel_options */
    uint64_t generation;                   /* of the settings that these are part of */
    uint64_t seq;
    uint64_t interested; /* workers with subscribers */
    uint32_t holders;    /* local halves and callers: it stays in the table for them */
    uint32_t present_count;
    uint32_t positioned; /* subscriptions that were told a position: epoch and top stay for them */
    struct list present; /* subscriptions in its presence */
    char epoch[8];
    struct stream stream;
    uint64_t version, version_epoch; /* of the last publication that had one; 0: none had */
    int64_t published_ms, used_ms;   /* the last publication into the stream; or reading as well */
    struct list recent;              /* in one of the shard's two lists of channels with a stream */
    struct wheel_timer timer;        /* in the shard's wheel, while it has a stream */
    struct local *local[]; /* local[w] is read and written by worker w; under the lock by others
                              while interested has its bit */
};

struct shard {
    _Alignas(64) pthread_mutex_t lock;
    struct channel **buckets;
    uint32_t bucket_count, count;
    uint32_t used;       /* of count, those with subscribers */
    uint64_t generation; /* streams that were forgotten: makes new epochs */
    struct list recent;  /* channels with publications in their stream, least recently used first */
    struct list emptied; /* channels of whose stream only epoch and top are left */
    struct wheel *wheel; /* of streams, in ticks of a second; NULL: there was none yet */
    struct stream gone;  /* what shard_unlock frees behind the lock */
};

struct pubsub_bus {
    unsigned worker_count;
    struct hash_key key, epoch_key;
    _Atomic int64_t channels, history_bytes;
    _Atomic int64_t oldest_ms[SHARDS]; /* when the first of each shard's list recent was used;
                                          INT64_MAX: it is empty. Stored under the shard's lock */
    struct shard shards[SHARDS];
};
extern struct pubsub_bus bus;

static inline const struct pubsub_options *pubsub_options(void)
{
    return settings_of(SETTINGS_PUBSUB);
}

struct pubsub_worker {
    struct list active;  /* local halves with something pending */
    uint64_t watched;    /* shards of whose streams this worker ends what has outlived its time */
    int64_t sweep_at_ms; /* when the first of it does, or earlier; INT64_MAX: there is none */
};

static inline struct shard *shard_of(const struct channel *ch)
{
    return &bus.shards[ch->hash >> 58];
}

/* channel_lock finds, or with make creates, the channel of that name and returns it with its shard
 * locked; NULL with errno, and the shard unlocked. channel_unlock frees what history_clear took
 * away meanwhile, behind the lock; shard_unlock is the same. channel_unlist takes it out of the
 * table, if nothing needs it any more; under the lock. */
struct channel *channel_lock(struct worker *w, const char *name, size_t len, bool make);
void channel_unlock(const struct channel *ch);
void shard_unlock(struct shard *s);
void channel_make_epoch(struct channel *ch); /* by its name and what its shard has forgotten */
void channel_unlist_if_idle(struct channel *ch);
void channel_ref(struct channel *ch); /* memory alone */
void channel_unref(struct channel *ch);
void channel_hold(struct channel *ch);   /* a holder more, and a reference; under the lock */
void channel_let_go(struct channel *ch); /* a holder less; under the lock; the reference is left for
                                            channel_unref */

/* channel_options gives ch's options: those of the calling worker's settings, or of newer ones that
 * another worker has taken first. Of a namespace that is no more: nothing is kept. Under the lock.
 */
const struct channel_options *channel_options(struct channel *ch);

/* under the lock */
void history_touch(struct channel *ch, int64_t now_ms); /* ends what has outlived its time */
void history_use(struct channel *ch, int64_t now_ms);   /* it will last from now on */
bool history_append(struct worker *w, struct channel *ch,
                    struct publication *p); /* false: memory is out */
bool history_outdates(struct channel *ch, const struct pubsub_terms *t, int64_t now_ms);
void history_clear(struct channel *ch); /* what was kept is the shard's gone */
void history_free(struct stream *gone); /* all that is left of it; the lock need not be held */
/* history_forget_one ends the least recently used stream of a shard whose channel nobody holds, so
 * that a new channel has room; false: there is none among the oldest. */
bool history_forget_one(struct shard *s);
void history_close(struct shard *s); /* all of them; no worker runs */
/* history_make_room keeps all histories within their budget: the oldest publications of the streams
 * that were used least recently go, wherever these are, but for the newest one of own. No lock is
 * held. */
void history_make_room(struct worker *w, const struct channel *own);
/* history_sweep ends what has outlived its time in the shards that w watches, some of it at a time;
 * for every turn. No lock is held. */
void history_sweep(struct worker *w);
void history_position(const struct channel *ch, struct pubsub_position *at);
void history_recover(struct channel *ch, struct pubsub_recovery *r);

#endif
