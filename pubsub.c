#include "pubsub.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "probes.h"
#include "pubsub/shared.h"
#include "trace.h"

#define POST_COST 128 /* what a post costs beside its bytes, for the mailbox's bound */
#define RUN_MAX                                                                                    \
    (256u * 1024) /* publications of a turn are gathered into one run up to this size              \
                   */
#define PASS_MAX                                                                                   \
    1024 /* publications of a pass: what is handed out one by one is bounded as well               \
          */
#define HOLD_FIRST_MS                                                                              \
    10 /* after a burst that left subscribers behind, their channel waits so long, ... */
#define HOLD_MAX_MS 160 /* ... twice as long each time up to this, before the next pass */
#define NOT_SUBSCRIBED UINT32_MAX

/* Who hears: a raw connection, or, with the low bit set, a client's subscription. */
struct subscriber {
    uintptr_t who;
    uint64_t after; /* publications with a greater seq are for it */
};

enum run_kind { RUN_RAW, RUN_JSON, RUN_JSON_ALL, RUNS }; /* ALL: joins and leaves as well */

struct run {             /* what one kind of subscriber is sent by a pass, in one piece */
    struct frame *frame; /* NULL: not made, or memory is out: one by one */
    bool tried;
    uint32_t messages;
    uint32_t lent; /* references taken for this slice and not handed out */
};

struct pending { /* taken from the mailbox, not yet with every subscriber */
    struct publication *publication;
    uint32_t run_from[RUNS];  /* where it, or the next one of that kind, begins in the run */
    uint16_t run_index[RUNS]; /* how many of that kind come before it */
};

struct local {
    struct channel *channel; /* held */
    struct worker *worker;
    struct subscriber *subscribers;
    uint32_t count, cap;
    uint32_t attached; /* holders */
    uint32_t cursor;   /* of the pass under way: subscribers below it have been served */
    uint32_t shown;    /* the same, of those that were shown to who follows them */
    uint32_t pass;     /* how many pending publications the pass under way hands out; 0 = none is */
    bool busy;         /* a slice is running: do not free */
    bool orphan;       /* detached, but its reserved post is still in the mailbox */
    uint8_t policy;    /* enum slow_policy of its subscriptions, */
    uint64_t generation; /* by the settings of that number */
    struct pending *pending;
    uint32_t pending_count, pending_cap;
    struct run runs[RUNS];
    uint32_t pass_bytes;
    uint32_t much_left; /* bytes in a queue that are much to have left of earlier passes */
    uint32_t delivered; /* messages in this slice */
    bool left_behind;   /* in this pass: somebody had much left of earlier ones */
    uint16_t hold_ms;   /* the last wait of a burst, 0 = none */
    int64_t hold_until_ms;
    struct list active; /* in worker's list while anything is pending */
    /* under the shard's lock */
    bool lost_posted;
    uint64_t lost_seq;
    struct delivery lost;
};

static struct subscription *subscription_of(const struct subscriber *s)
{
    return s->who & 1 ? (struct subscription *)(s->who - 1)
                      : NULL; /* NOLINT(performance-no-int-to-ptr) */
}

static struct conn *conn_of(const struct subscriber *s)
{
    struct subscription *sub = subscription_of(s);
    return sub ? sub->conn : (struct conn *)s->who; /* NOLINT(performance-no-int-to-ptr) */
}

/* ---- set-up ---- */

int pubsub_worker_open(struct worker *w)
{
    struct pubsub_worker *p = calloc(1, sizeof *p);
    if (!p) return -1;
    list_init(&p->active);
    p->sweep_at_ms = INT64_MAX;
    w->pubsub = p;
    return 0;
}

void pubsub_worker_close(struct worker *w)
{
    for (struct post *p = mailbox_take(&w->mailbox), *next; p; p = next) {
        next = p->next;
        struct delivery *d = (struct delivery *)(void *)p;
        if (d->publication) pubsub_publication_unref(d->publication);
    }
    free(w->pubsub);
    w->pubsub = NULL;
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

/* look_up finds the policy that the worker's settings have for l's channel; the channel's options
 * are under a lock. */
static void look_up(struct local *l)
{
    const struct channel_options *o = namespace_of(l->channel->name, l->channel->len);
    l->policy = (uint8_t)(o ? o->slow_policy : SLOW_CLOSE);
    l->generation = settings_now->generation;
}

struct local *pubsub_attach(struct worker *w, const char *name, size_t len)
{
    struct channel *ch = channel_lock(w, name, len, true);
    if (!ch) return NULL;
    struct local *l = ch->local[w->index];
    if (!l && (l = new_local(w))) {
        l->channel = ch;
        look_up(l);
        ch->local[w->index] = l;
        channel_hold(ch);
    }
    if (l)
        l->attached++;
    else
        channel_unlist_if_idle(ch);
    bool idle = !ch->listed;
    channel_unlock(ch);
    if (!l && idle) mem_free(ch->pool, ch, ch->size); /* was made for us alone */
    if (!l) errno = ENOMEM;
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

static void drop_runs(struct local *l)
{
    for (int k = 0; k < RUNS; k++) {
        frame_unref(l->runs[k].frame, 1);
        l->runs[k] = (struct run){0};
    }
}

/* end_local takes an unattached half out of its channel, and the channel out of the table if
 * nothing else needs it. */
static void end_local(struct local *l)
{
    struct channel *ch = l->channel;
    drop_runs(l);
    pending_done(l, l->pending_count);
    list_remove(&l->active);
    pthread_mutex_lock(&shard_of(ch)->lock);
    ch->local[l->worker->index] = NULL;
    channel_let_go(ch);
    l->orphan = l->lost_posted;
    channel_unlock(ch);
    if (!l->orphan) free_local(l);
    channel_unref(ch);
}

void pubsub_detach(struct local *l)
{
    if (--l->attached == 0 && !l->busy) end_local(l); /* busy: at the end of the slice */
}

struct channel *pubsub_shared(const struct local *l)
{
    return l->channel;
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

static void count_wanted(struct channel *ch, enum encoding e, uint32_t n)
{
    uint32_t v = atomic_load_explicit(&ch->wanted[e], memory_order_relaxed);
    atomic_store_explicit(&ch->wanted[e], v + n, memory_order_relaxed);
}

/* join_locked makes l's worker interested and answers from which seq on a newcomer hears. */
static uint64_t join_locked(struct local *l, enum encoding e)
{
    struct channel *ch = l->channel;
    if (!ch->interested) shard_of(ch)->used++;
    ch->interested |= 1ull << l->worker->index;
    count_wanted(ch, e, 1);
    return ch->seq;
}

static void add(struct local *l, uintptr_t who, uint64_t after)
{
    l->subscribers[l->count++] = (struct subscriber){who, after};
    metric_add(&l->worker->metrics, METRIC_SUBSCRIPTIONS, 1);
    PROBE3(subscribe, l->channel->name, l->channel->len,
           conn_of(&l->subscribers[l->count - 1])->id);
}

int pubsub_subscribe(struct conn *c, struct local *l)
{
    if (!room_for_subscriber(l)) return -1;
    pthread_mutex_lock(&shard_of(l->channel)->lock);
    uint64_t seq = join_locked(l, ENCODING_RAW);
    channel_unlock(l->channel);
    c->channel = l;
    c->sub_index = l->count;
    add(l, (uintptr_t)c, seq);
    return 0;
}

int pubsub_subscribe_client(struct subscription *s, struct local *l, struct pubsub_recovery *r)
{
    if (!room_for_subscriber(l)) return -1;
    struct channel *ch = l->channel;
    pthread_mutex_lock(&shard_of(ch)->lock);
    uint64_t seq = join_locked(l, ENCODING_JSON);
    if (r) {
        history_touch(ch, l->worker->now_ms);
        history_recover(ch, r);
        history_use(ch, l->worker->now_ms);
    }
    if (s->flags & SUBSCRIPTION_POSITIONED) ch->positioned++;
    if (s->flags & SUBSCRIPTION_PRESENT) {
        list_push_back(&ch->present, &s->in_presence);
        ch->present_count++;
    }
    channel_unlock(ch);
    s->local = l;
    s->index = l->count;
    add(l, (uintptr_t)s + 1, seq);
    return 0;
}

/* put moves the subscriber at from to to. from is a hole then, and what it still holds must not be
 * touched again. */
static void put(struct local *l, uint32_t to, uint32_t from)
{
    if (to == from) return;
    struct subscriber *s = &l->subscribers[to];
    *s = l->subscribers[from];
    struct subscription *sub = subscription_of(s);
    if (sub)
        sub->index = to;
    else
        conn_of(s)->sub_index = to;
}

static void take_out(struct local *l, uint32_t i)
{
    if (i < l->cursor) { /* served: keep the served ones together, so that nobody is skipped or
                            served twice */
        put(l, i, --l->cursor);
        i = l->cursor;
    }
    put(l, i, --l->count);
    metric_sub(&l->worker->metrics, METRIC_SUBSCRIPTIONS, 1);
}

static void leave_locked(struct local *l, enum encoding e)
{
    struct channel *ch = l->channel;
    count_wanted(ch, e, (uint32_t)-1);
    if (l->count) return;
    ch->interested &= ~(1ull << l->worker->index);
    if (!ch->interested) shard_of(ch)->used--;
}

void pubsub_unsubscribe(struct conn *c)
{
    struct local *l = c->channel;
    take_out(l, c->sub_index);
    c->sub_index = NOT_SUBSCRIBED;
    pthread_mutex_lock(&shard_of(l->channel)->lock);
    leave_locked(l, ENCODING_RAW);
    channel_unlock(l->channel);
}

void pubsub_unsubscribe_client(struct subscription *s)
{
    struct local *l = s->local;
    struct channel *ch = l->channel;
    take_out(l, s->index);
    pthread_mutex_lock(&shard_of(ch)->lock);
    leave_locked(l, ENCODING_JSON);
    if (s->flags & SUBSCRIPTION_POSITIONED) {
        ch->positioned--;
        history_use(ch, l->worker->now_ms); /* it may come back for what it misses */
    }
    if (s->flags & SUBSCRIPTION_PRESENT) {
        list_remove(&s->in_presence);
        ch->present_count--;
    }
    channel_unlock(ch);
    s->local = NULL;
    pubsub_detach(l);
}

void pubsub_set_info(struct subscription *s, struct frame **at, struct frame *f)
{
    struct channel *ch = s->local->channel;
    struct frame *old = *at;
    pthread_mutex_lock(&shard_of(ch)->lock);
    *at = f;
    channel_unlock(ch);
    frame_unref(old, 1);
}

bool pubsub_is_subscribed(const struct conn *c)
{
    return c->channel && c->sub_index != NOT_SUBSCRIBED;
}

void pubsub_presence(struct channel *ch, void (*visit)(const struct subscription *s, void *arg),
                     void *arg)
{
    pthread_mutex_lock(&shard_of(ch)->lock);
    for (struct list *n = ch->present.next; n != &ch->present; n = n->next)
        visit(list_entry(n, struct subscription, in_presence), arg);
    channel_unlock(ch);
}

uint32_t pubsub_presence_count(struct channel *ch)
{
    pthread_mutex_lock(&shard_of(ch)->lock);
    uint32_t n = ch->present_count;
    channel_unlock(ch);
    return n;
}

/* ---- publishing ---- */

static void publication_unref(struct publication *p, uint32_t n)
{
    if (n == 0 || atomic_fetch_sub_explicit(&p->refs, n, memory_order_acq_rel) != n) return;
    for (int e = 0; e < ENCODINGS; e++) frame_unref(p->as[e].frame, 1);
    if (p->channel) channel_unref(p->channel);
    mem_free(p->pool, p, p->size);
}

void pubsub_publication_unref(struct publication *p)
{
    publication_unref(p, 1);
}

struct publication *pubsub_publication(struct worker *w, enum publication_kind kind,
                                       uint64_t publisher)
{
    uint32_t size =
        (uint32_t)(sizeof(struct publication) + bus.worker_count * sizeof(struct delivery));
    struct publication *p = mem_alloc(w->pool, size);
    if (!p) {
        metric_add(&w->metrics, METRIC_REFUSED_MEMORY, 1);
        return NULL;
    }
    *p = (struct publication){
        .size = size, .pool = w->pool, .kind = kind, .publisher = publisher, .at_us = w->now_us};
    atomic_init(&p->refs, 1 + bus.worker_count);
    return p;
}

void pubsub_discard(struct publication *p)
{
    publication_unref(p, 1 + bus.worker_count);
}

static uint64_t bytes_of(const struct publication *p) /* of its longest encoding */
{
    uint64_t bytes = 0;
    for (int e = 0; e < ENCODINGS; e++)
        if (p->as[e].frame && p->as[e].frame->len > bytes) bytes = p->as[e].frame->len;
    return bytes;
}

/* post_cost is the same from the push to the end of the pass: what a mailbox is charged and given
 * back. */
static uint64_t post_cost(const struct publication *p)
{
    return bytes_of(p) + POST_COST;
}

/* push_lost tells worker i that a publication did not fit into its mailbox: by the post that its
 * local half keeps for that, once until it is read. Under the shard's lock. */
static bool push_lost(struct channel *ch, struct mailbox *box, unsigned i)
{
    struct local *l = ch->local[i];
    l->lost_seq = ch->seq;
    if (l->lost_posted) return false;
    l->lost_posted = true;
    return mailbox_push(box, &l->lost.post, &l->lost.post);
}

/* post pushes p to each interested worker. Pushing under the shard's lock makes every worker see
 * one order. */
static void post(struct worker *w, struct channel *ch, struct publication *p)
{
    uint32_t unused = 1 + bus.worker_count;
    for (uint64_t bits = ch->interested; bits; bits &= bits - 1) {
        unsigned i = (unsigned)__builtin_ctzll(bits);
        struct mailbox *box = &w->server->workers[i]->mailbox;
        struct delivery *d = &p->deliveries[i];
        bool was_empty;
        if (mailbox_charge(box, post_cost(p))) {
            *d = (struct delivery){.publication = p};
            unused--;
            was_empty = mailbox_push(box, &d->post, &d->post);
        } else {
            metric_add(&w->metrics, METRIC_LOST, 1);
            was_empty = push_lost(ch, box, i);
        }
        if (was_empty) w->wake |= 1ull << i;
    }
    if (p->flight) trace_handed_over(w->trace, p->flight, unused);
    publication_unref(p, unused); /* refs were set for every worker before the first push */
}

static unsigned lacking(const struct channel *ch, const struct publication *p)
{
    unsigned bits = pubsub_wanted(ch);
    if (p->kind == PUBLICATION_MEMBERSHIP) bits &= ~(1u << ENCODING_RAW);
    for (unsigned e = 0; e < ENCODINGS; e++)
        if (p->as[e].frame) bits &= ~(1u << e);
    return bits;
}

/* enter puts p into the channel's history, if it has one and p is for it. Returns what
 * pubsub_publish does; 0: p may be sent. */
static unsigned enter(struct worker *w, struct channel *ch, struct publication *p,
                      const struct pubsub_terms *t)
{
    if (p->kind != PUBLICATION_MESSAGE || t->skip_history) return 0;
    if (!channel_has_history(channel_options(ch))) {
        ch->stream.top += ch->stream.top > 0; /* it had one, and may have again */
        return 0;
    }
    if (history_outdates(ch, t, w->now_ms)) return PUBSUB_OUTDATED;
    /* sent but not kept, a recovery would say that nothing was missed */
    if (!history_append(w, ch, p)) return PUBSUB_NO_MEMORY;
    if (t->version) {
        ch->version = t->version;
        ch->version_epoch = t->version_epoch;
    }
    return 0;
}

unsigned pubsub_publish(struct worker *w, struct channel *ch, struct publication *p,
                        const struct pubsub_terms *t, struct pubsub_position *at)
{
    static const struct pubsub_terms none;
    pthread_mutex_lock(&shard_of(ch)->lock);
    const bool kept = channel_has_history(channel_options(ch));
    unsigned refused = lacking(ch, p);
    if (!refused) refused = enter(w, ch, p, t ? t : &none);
    if (refused) {
        if (at) history_position(ch, at);
        channel_unlock(ch);
        return refused;
    }
    if (p->kind == PUBLICATION_MESSAGE) metric_add(&w->metrics, METRIC_PUBLISHED, 1);
    p->channel = ch;
    channel_ref(ch);
    p->seq = ++ch->seq;
    if (p->finish) p->finish(p);
    if (at) history_position(ch, at);
    if (w->trace && p->kind == PUBLICATION_MESSAGE)
        p->flight = trace_publish(w->trace, ch->name, ch->len, bytes_of(p), 1 + bus.worker_count);
    const uint64_t bytes =
        p->kind == PUBLICATION_MESSAGE ? bytes_of(p) : 0; /* p may be gone soon */
    post(w, ch, p);
    channel_unlock(ch);
    if (bytes) PROBE3(publish, ch->name, ch->len, bytes);
    if (kept) history_make_room(w, ch);
    return 0;
}

/* ---- handing over ---- */

/* done_with gives up what w's mailbox brought. */
static void done_with(struct worker *w, struct publication *p)
{
    if (p->flight) trace_handed_over(w->trace, p->flight, 1);
    mailbox_credit(&w->mailbox, post_cost(p));
    publication_unref(p, 1);
}

static void pending_done(struct local *l, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) done_with(l->worker, l->pending[i].publication);
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

/* miss tells one subscriber that publications were lost for it: it was promised every one or to be
 * told. */
static void miss(const struct subscriber *s)
{
    struct subscription *sub = subscription_of(s);
    if (sub && sub->flags & SUBSCRIPTION_POSITIONED)
        pubsub_options()->missed(sub);
    else
        conn_close(conn_of(s), 3008, "publications were lost: server too slow");
}

/* lose tells all that missed a publication up to seq. */
static void lose(struct local *l, uint64_t seq)
{
    l->busy = true;
    for (uint32_t i = l->count;
         i-- > 0;) { /* downwards: a removal moves one from behind, which has been looked at */
        if (i >= l->count) continue;
        struct subscriber s = l->subscribers[i];
        if (s.after < seq) miss(&s);
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
    pthread_mutex_lock(&shard_of(l->channel)->lock);
    l->lost_posted = false;
    uint64_t seq = l->lost_seq;
    channel_unlock(l->channel);
    log_seldom(10, LOG_WARN, "limit met: publications were lost",
               LOG_STR("limit", "worker.mailbox_max_size"));
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
    done_with(w, p);
    if (!l) return; /* everybody has left meanwhile */
    metric_add(&w->metrics, METRIC_LOST, 1);
    lose(l, seq);
}

/* in_run gives p's bytes for a kind of subscriber, or NULL if p is not for it. */
static const struct encoded *in_run(const struct publication *p, enum run_kind kind)
{
    if (p->kind == PUBLICATION_MEMBERSHIP && kind != RUN_JSON_ALL) return NULL;
    const struct encoded *e = &p->as[kind == RUN_RAW ? ENCODING_RAW : ENCODING_JSON];
    return e->frame ? e : NULL;
}

/* gather makes the run of one kind: a pass's publications in one piece, each where run_from says.
 */
static void gather(struct local *l, enum run_kind kind)
{
    struct run *run = &l->runs[kind];
    uint32_t total = 0;
    const struct encoded *only = NULL;
    run->tried = true;
    for (uint32_t i = 0; i < l->pass; i++) {
        struct pending *p = &l->pending[i];
        const struct encoded *e = in_run(p->publication, kind);
        p->run_from[kind] = total;
        p->run_index[kind] = (uint16_t)run->messages;
        if (!e) continue;
        only = e;
        total += e->frame->len - e->from;
        run->messages++;
    }
    if (run->messages <= 1) { /* the usual case: as it is */
        if (!only) return;
        for (uint32_t i = 0; i < l->pass; i++) l->pending[i].run_from[kind] += only->from;
        run->frame = only->frame;
        frame_ref(run->frame, 1);
        return;
    }
    run->frame = frame_new(l->worker->pool, total);
    for (uint32_t i = 0; run->frame && i < l->pass; i++) {
        const struct encoded *e = in_run(l->pending[i].publication, kind);
        if (!e) continue;
        memcpy(run->frame->bytes + l->pending[i].run_from[kind], e->frame->bytes + e->from,
               e->frame->len - e->from);
    }
}

/* Who a pass serves at the moment: what its steps ask again and again. */
struct served {
    struct conn *conn;
    struct subscription *subscription; /* NULL: raw */
    enum run_kind kind;
    enum slow_policy policy;
};

__attribute__((always_inline)) static inline struct served served_by(const struct local *l,
                                                                     const struct subscriber *s)
{
    struct subscription *sub = subscription_of(s);
    if (!sub)
        return (struct served){
            .conn = conn_of(s), .kind = RUN_RAW, .policy = pubsub_options()->policy};
    return (struct served){.conn = sub->conn,
                           .subscription = sub,
                           .kind = sub->flags & SUBSCRIPTION_MEMBERSHIP ? RUN_JSON_ALL : RUN_JSON,
                           .policy = (enum slow_policy)l->policy};
}

/* deliver returns false when the subscriber is out of it: closed, or unsubscribed because it missed
 * something. */
static bool deliver(struct local *l, const struct served *to, struct out_entry e)
{
    l->delivered += e.messages;
    e.kind = OUT_MESSAGE;
    if (!conn_deliver(to->conn, e, to->policy)) {
        pubsub_options()->missed(to->subscription);
        return false;
    }
    return to->conn->state == CONN_OPEN;
}

/* hand_over_singly returns how many it queued. */
static uint32_t hand_over_singly(struct local *l, const struct served *to, uint32_t first)
{
    uint64_t key = conn_key(to->conn);
    bool not_its_own = to->conn->flags & CONN_NO_SELF;
    uint32_t n = 0;
    for (uint32_t i = first; i < l->pass; i++) {
        struct publication *p = l->pending[i].publication;
        const struct encoded *e = in_run(p, to->kind);
        if (!e || (not_its_own && p->publisher == key)) continue;
        frame_ref(e->frame, 1);
        n++;
        if (!deliver(l, to, (struct out_entry){.frame = e->frame, .from = e->from, .messages = 1}))
            break;
    }
    return n;
}

static int64_t queue_max(void)
{
    return conn_options()->queue_max_bytes;
}

/* hand_over queues the pass's publications to one subscriber; returns how many steps of work that
 * was. most: subscribers that this slice may still serve. */
static uint32_t hand_over(struct local *l, const struct subscriber *s, uint32_t most)
{
    const struct served to = served_by(l, s);
    const struct out_queue *waiting = to.conn->out;
    uint32_t first = 0;
    while (first < l->pass && l->pending[first].publication->seq <= s->after) first++;
    if (first == l->pass) return 1;
    struct run *run = &l->runs[to.kind];
    if (!run->tried) gather(l, to.kind);
    uint32_t messages = run->messages - l->pending[first].run_index[to.kind];
    if (!messages) return 1; /* nothing of its kind */
    if (outq_bytes(waiting) > l->much_left) l->left_behind = true;
    /* One by one where boundaries matter: to leave out its own, or so that a policy can drop single
     * messages. */
    if (!run->frame || to.conn->flags & CONN_NO_SELF || (waiting && to.policy != SLOW_CLOSE))
        return 1 + hand_over_singly(l, &to, first);
    if (!run->lent) { /* for everybody of this slice in one step */
        frame_ref(run->frame, most);
        run->lent = most;
    }
    run->lent--;
    deliver(l, &to,
            (struct out_entry){.frame = run->frame,
                               .from = l->pending[first].run_from[to.kind],
                               .messages = (uint16_t)messages});
    return 1;
}

/* begin_pass takes the oldest pending publications, at least one, as far as an empty queue has room
 * for them: nobody is slow only because much was published in one turn. The rest waits for the next
 * pass. */
static void begin_pass(struct local *l)
{
    uint64_t max = (uint64_t)queue_max() / 2 < RUN_MAX ? (uint64_t)queue_max() / 2 : RUN_MAX,
             total = 0;
    for (l->pass = 0; l->pass < l->pending_count && l->pass < PASS_MAX; l->pass++) {
        uint64_t bytes = bytes_of(l->pending[l->pass].publication);
        if (l->pass && total + bytes > max) break;
        total += bytes;
    }
    l->cursor = l->shown = 0;
    l->pass_bytes = total > UINT32_MAX ? UINT32_MAX : (uint32_t)total;
    l->much_left = (uint32_t)(queue_max() / 4);
    l->left_behind = false;
}

/* hold_burst: passes follow each other faster than anybody can read. After a large one that found
 * subscribers with much left of earlier ones, they get some time before they are closed for being
 * slow; what is published meanwhile waits with the rest. */
static void hold_burst(struct local *l)
{
    if (!l->left_behind || l->pass_bytes < queue_max() / 8 ||
        pubsub_options()->policy != SLOW_CLOSE || l->policy != SLOW_CLOSE) {
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
    const uint64_t us = (uint64_t)(clock_us() - l->pending[0].publication->at_us);
    metric_observe(&w->metrics, HISTOGRAM_FANOUT, us);
    PROBE4(fanout, l->channel->name, l->channel->len, l->count, us);
    drop_runs(l);
    hold_burst(l);
    pending_done(l, l->pass);
    if (l->pending_count) return;
    list_remove(&l->active);
    mem_free(w->pool, l->pending, l->pending_cap * sizeof *l->pending);
    l->pending = NULL;
    l->pending_cap = 0;
}

/* show tells who follows the subscriber of what it is about to be given. */
static void show(const struct local *l, const struct subscriber *s)
{
    const struct served to = served_by(l, s);
    for (uint32_t i = 0; i < l->pass; i++) {
        const struct publication *p = l->pending[i].publication;
        const struct encoded *e = in_run(p, to.kind);
        const bool own = to.conn->flags & CONN_NO_SELF && p->publisher == conn_key(to.conn);
        if (!e || own || p->seq <= s->after) continue;
        const uint8_t *message = e->frame->bytes + e->from;
        const size_t head = message[1] < 126 ? 2 : message[1] == 126 ? 4 : 10;
        conn_see(to.conn, &(struct conn_sight){.kind = SIGHT_DELIVERED,
                                               .channel = l->channel->name,
                                               .channel_len = l->channel->len,
                                               .payload = message + head,
                                               .len = e->frame->len - e->from - head,
                                               .offset = p->offset});
    }
}

/* show_slice does so for all whom this slice may serve, in front of it, so that a delivery pays
 * nothing for it. Who moves in the array between two slices may be shown twice, or not. */
__attribute__((noinline, cold)) static void show_slice(struct local *l)
{
    uint32_t end = l->cursor + pubsub_options()->slice;
    if (end > l->count) end = l->count;
    if (l->shown < l->cursor) l->shown = l->cursor;
    for (; l->shown < end; l->shown++) show(l, &l->subscribers[l->shown]);
}

/* is_followed is asked once a slice, so that who follows a channel or a connection elsewhere costs
 * the subscribers of this one nothing. */
static inline bool is_followed(const struct local *l)
{
    const struct worker *w = l->worker;
    return __builtin_expect(w->watchers != NULL, 0) &&
           w->server->app->follows(w, l->channel->name, l->channel->len);
}

/* slice serves some subscribers of l; what is left is gone on with in the next turn, at the cursor.
 */
static void slice(struct local *l)
{
    if (l->generation != settings_now->generation) look_up(l);
    if (!l->pass) {
        if (l->worker->now_ms < l->hold_until_ms) return;
        begin_pass(l);
    }
    l->busy = true;
    if (is_followed(l)) show_slice(l);
    const uint32_t most = pubsub_options()->slice;
    for (uint32_t steps = 0; steps < most && l->cursor < l->count;) {
        struct subscriber s =
            l->subscribers[l->cursor++]; /* first: it may be closed and leave by this */
        steps += hand_over(l, &s, most - steps);
    }
    l->busy = false;
    metric_add(&l->worker->metrics, METRIC_DELIVERIES, l->delivered);
    l->delivered = 0;
    for (int k = 0; k < RUNS; k++) {
        frame_unref(l->runs[k].lent ? l->runs[k].frame : NULL, l->runs[k].lent);
        l->runs[k].lent = 0;
    }
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
    history_sweep(w);
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
    int64_t least = mine->sweep_at_ms - w->now_ms;
    if (least > INT_MAX) least = INT_MAX;
    if (least < 0) least = 0;
    for (const struct list *n = mine->active.next; n != &mine->active && least > 0; n = n->next) {
        const struct local *l = list_entry(n, struct local, active);
        int64_t ms = l->pass ? 0 : l->hold_until_ms - w->now_ms;
        if (ms < least) least = ms < 0 ? 0 : ms;
    }
    return (int)least;
}
