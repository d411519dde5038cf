/* pubsub.h - channels and subscriptions: publish on any worker, hand over on every worker that has
 * subscribers; history, recovery and presence.
 *
 * A channel has a shared half (name, seq, history, presence, which workers are interested) in a
 * table of shards, a mutex each, and a local half on each worker that uses it (its subscribers, in
 * a dense array). Publish takes the next seq under the shard's lock and pushes one post to each
 * interested worker, its own included; each worker drains its mailbox once a turn and hands the
 * posts to its subscribers, in slices. design.md section 3.1 says why nothing is lost, doubled or
 * out of order. Cost: publish one short critical section and a compare-and-swap a worker; subscribe
 * and unsubscribe O(1); a raw subscription 16 bytes, a client's 72 more. Rejected: a channel owned
 * by one worker (two hops a publication, a pending state for each subscribe). Threads: worker only,
 * each call with the calling worker's own connections and local halves. */
#ifndef PUBSUB_H
#define PUBSUB_H

#include "conn.h"
#include "namespace.h"
#include "publication.h"

struct channel; /* shared half */
struct local;   /* a worker's half */
struct subscription;

#define PUBSUB_NAME_MAX 255 /* bytes of a channel's name */

struct pubsub_options {        /* a part of the settings (settings.h) */
    uint32_t slice;            /* subscribers of a channel served before others get a turn */
    int64_t channels_max;      /* in the process */
    int64_t history_max_bytes; /* of all histories: beyond it, publications of those used least
                                  recently go */
    enum slow_policy policy;   /* of raw subscribers */
    void (*missed)(struct subscription *s); /* a client's subscription has missed something and must
                                               recover: end it */
};

/* pubsub_open makes the table, o being of the first settings; pubsub_worker_open a worker's half; 0
 * or -1 with errno. The close functions: no thread runs any more. Main thread. */
int pubsub_open(const struct pubsub_options *o, unsigned worker_count);
void pubsub_close(void);
int pubsub_worker_open(struct worker *w);
void pubsub_worker_close(struct worker *w);

/* ---- channels ---- */

/* pubsub_attach gives w's half of the channel of that name, made if need be, with one more holder;
 * NULL with errno ENOMEM, ENOSPC when channels_max exist. pubsub_detach lets go; without history
 * the channel ends with its last holder. */
struct local *pubsub_attach(struct worker *w, const char *name, size_t len);
void pubsub_detach(struct local *l);

/* pubsub_channel gives the shared half, counted: made if its namespace has a history, else NULL
 * with errno 0 if nobody uses it. pubsub_channel_unref lets go. pubsub_shared gives a local half's,
 * not counted. */
struct channel *pubsub_channel(struct worker *w, const char *name, size_t len);
void pubsub_channel_unref(struct channel *ch);
struct channel *pubsub_shared(const struct local *l);
const char *pubsub_name(const struct channel *ch, size_t *len);
uint64_t pubsub_channel_count(void); /* any thread */
uint64_t pubsub_used_count(void);    /* those with subscribers; any thread */
uint64_t pubsub_history_bytes(void); /* of all histories; any thread */

/* pubsub_each_channel calls visit for each channel with subscribers, once and with no lock held,
 * until it returns false. What begins or ends meanwhile may be left out. 0, or -1 if memory is out.
 * Any thread. */
int pubsub_each_channel(bool (*visit)(const char *name, size_t len, uint32_t subscribers,
                                      void *arg),
                        void *arg);

/* ---- subscriptions ---- */

/* pubsub_subscribe makes a raw connection hear what is published from now on; its place is kept in
 * c->sub_index. 0, or -1 when memory is out. pubsub_unsubscribe: O(1), also while a publication is
 * being handed out. c->channel is l and stays. */
int pubsub_subscribe(struct conn *c, struct local *l);
void pubsub_unsubscribe(struct conn *c);
bool pubsub_is_subscribed(const struct conn *c);

enum subscription_flag {
    SUBSCRIPTION_MEMBERSHIP = 1 << 0, /* wants joins and leaves */
    SUBSCRIPTION_POSITIONED = 1 << 1, /* must not miss a publication unnoticed */
    SUBSCRIPTION_SERVER_SIDE = 1 << 2,
    SUBSCRIPTION_PRESENT = 1 << 3,   /* is in the channel's presence */
    SUBSCRIPTION_ANNOUNCED = 1 << 4, /* its join was told, so its leave will be */
    SUBSCRIPTION_BY_TOKEN = 1 << 5,  /* server-side: the connection's token says so */
};

struct subscription {        /* of a client: one object, owned by the connection's worker */
    struct list in_presence; /* the channel's list, under its lock */
    struct local *local;
    struct conn *conn;
    uint32_t index; /* place in the local half's array */
    uint32_t flags; /* enum subscription_flag */
    struct frame *conn_info,
        *chan_info;           /* counted bytes, raw JSON, or NULL; as presence shows them */
    const uint8_t *client_id; /* 16 bytes, of the connection */
    uint32_t expires;         /* tick of the wall clock, 0 = never */
    uint32_t hash;            /* the layer above: of the channel's name */
};

struct pubsub_position {
    char epoch[8]; /* not terminated */
    uint64_t offset;
};

struct pubsub_recovery { /* what a subscriber asks, and what it gets */
    bool wanted;
    bool cache; /* only the newest publication */
    bool any_epoch;
    char epoch[8];
    uint64_t offset; /* the last one it has */
    uint32_t max;    /* publications at most */
    /* answers */
    struct pubsub_position top;
    bool recovered;
    struct publication **missed; /* counted each; ascending; storage of max places by the caller */
    uint32_t count;
};

/* pubsub_subscribe_client adds s (conn, flags, infos set) to l, which it takes over as holder:
 * position, missed publications, presence and membership in one critical section. r may be NULL: no
 * position wanted. 0, or -1 when memory is out. pubsub_unsubscribe_client takes it out of
 * everything and detaches; s is the caller's again. */
int pubsub_subscribe_client(struct subscription *s, struct local *l, struct pubsub_recovery *r);
void pubsub_unsubscribe_client(struct subscription *s);

/* pubsub_set_info makes f, whose reference it takes over, what presence shows of s from now on: at
 * is its conn_info or chan_info. */
void pubsub_set_info(struct subscription *s, struct frame **at, struct frame *f);

/* ---- publishing ---- */

#define PUBSUB_NOBODY UINT64_MAX

/* pubsub_publication makes one without frames; NULL: memory is out. pubsub_discard frees one that
 * was not published, with its frames. */
struct publication *pubsub_publication(struct worker *w, enum publication_kind kind,
                                       uint64_t publisher);
void pubsub_discard(struct publication *p);

/* pubsub_wanted says in which encodings somebody wants to hear now (bits by enum encoding). */
unsigned pubsub_wanted(const struct channel *ch);

struct pubsub_terms { /* of a publication */
    bool skip_history;
    /* in a channel with a history: it must be newer than the last one that had a version, unless
     * the epochs differ. 0: has none */
    uint64_t version, version_epoch;
};
uint64_t pubsub_version_epoch(const char *name, size_t len); /* 0 if there is no name */

/* pubsub_publish takes p over and publishes it; t may be NULL. Returns 0; or, with p still the
 * caller's, the bits of encodings that have become wanted meanwhile and that p lacks: add them and
 * try again; or PUBSUB_NO_MEMORY: the history can not take it, and so nobody gets it; or
 * PUBSUB_OUTDATED: its version is not newer, and nobody gets it. *at (may be NULL) is the position
 * it got, or, of an outdated one, the stream's. */
#define PUBSUB_NO_MEMORY (1u << 31)
#define PUBSUB_OUTDATED (1u << 30)
unsigned pubsub_publish(struct worker *w, struct channel *ch, struct publication *p,
                        const struct pubsub_terms *t, struct pubsub_position *at);

/* ---- history and presence ---- */

struct pubsub_history {
    bool has_since, reverse;
    uint64_t since;             /* offset; its epoch is the caller's to compare */
    uint32_t max;               /* publications at most; 0 = position only */
    struct pubsub_position top; /* answer */
    struct publication **found; /* answer, counted each; storage of max places by the caller */
    uint32_t count;
};
void pubsub_history(struct worker *w, struct channel *ch, struct pubsub_history *h);
void pubsub_history_remove(struct channel *ch);
void pubsub_publication_unref(struct publication *p);

/* pubsub_presence calls visit for each subscription in the channel's presence, under its lock:
 * visit must be quick and touch no channel. */
void pubsub_presence(struct channel *ch, void (*visit)(const struct subscription *s, void *arg),
                     void *arg);
uint32_t pubsub_presence_count(struct channel *ch);

/* struct worker_ops' posts and idle_ms. */
void pubsub_posts(struct worker *w, struct post *oldest);
int pubsub_idle_ms(const struct worker *w);

#endif
