/* A channel with history across worker threads: both publish, and clients subscribe meanwhile, with
 * and without recovery. What each gets, recovered and live, is every offset from its position on,
 * once and in order (protocol.md 6.3, 2.2). And many channels, whose histories share one budget. */
#include "engine.h"

#include "../ops.h"
#include "../pubsub/shared.h"

#define WORKERS 2
#define EACH 5000u     /* publications of a worker */
#define SUBSCRIBES 100 /* of a worker, while both publish */
#define PER_TURN 8
#define TOTAL (WORKERS * EACH)

struct sub {
    struct conn c;
    struct subscription s;
    uint64_t next; /* offset due */
};

struct side { /* a worker's own */
    struct sub subs[SUBSCRIBES];
    struct publication *missed[TOTAL];
    unsigned count, sent, recoveries;
    uint32_t random;
    bool leaving;
};

static struct side sides[WORKERS];
static _Atomic unsigned publishing; /* workers that are not done with it */
static _Atomic bool wrong;          /* assertions belong to the main thread */

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition) && !atomic_exchange(&wrong, true))                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
    } while (0)

/* finish writes the offset into the message, as ops.c does. */
static void finish(struct publication *p)
{
    memcpy(p->as[ENCODING_JSON].frame->bytes + 2, &p->offset, sizeof p->offset);
}

static uint64_t offset_in(const uint8_t *message)
{
    uint64_t offset;
    memcpy(&offset, message + 2, sizeof offset);
    return offset;
}

static void publish_one(struct worker *w)
{
    static const uint8_t room[8];
    struct pubsub_position at;
    struct channel *ch = pubsub_channel(w, "c", 1);
    struct publication *p = pubsub_publication(w, PUBLICATION_MESSAGE, PUBSUB_NOBODY);
    EXPECT(ch && p);
    p->as[ENCODING_JSON].frame = conn_message_frame(w->pool, WS_TEXT, room, sizeof room);
    p->finish = finish;
    EXPECT(pubsub_publish(w, ch, p, NULL, &at) == 0);
    EXPECT(at.offset >= 1 && at.offset <= TOTAL);
    pubsub_channel_unref(ch);
}

static void read_all(struct sub *s)
{
    const uint32_t size = 2 + sizeof(uint64_t);
    struct out_queue *q = s->c.out;
    for (uint32_t i = 0; q && i < q->count; i++) {
        const struct out_entry *e = &q->entries[q->head + i];
        for (uint32_t at = e->from; at < e->frame->len; at += size)
            EXPECT(offset_in(e->frame->bytes + at) == s->next++);
    }
    metric_sub(&s->c.worker->metrics, METRIC_QUEUED_BYTES, outq_bytes(q));
    outq_free(s->c.worker->pool, &s->c.out);
}

/* take_missed checks what was recovered: all between what the client had and the position. */
static void take_missed(struct sub *s, const struct pubsub_recovery *r)
{
    EXPECT(r->recovered);
    for (uint32_t i = 0; i < r->count; i++) {
        EXPECT(r->missed[i]->offset == s->next++);
        EXPECT(offset_in(r->missed[i]->as[ENCODING_JSON].frame->bytes) == r->missed[i]->offset);
        pubsub_publication_unref(r->missed[i]);
    }
    EXPECT(s->next == r->top.offset + 1);
}

/* subscribe: every second one recovers, from some of what an earlier one has seen. */
static void subscribe(struct worker *w, struct side *me)
{
    struct sub *s = &me->subs[me->count++];
    struct pubsub_recovery r = {.missed = me->missed, .max = TOTAL, .any_epoch = true};
    r.wanted = me->count % 2 == 0;
    if (r.wanted) {
        uint64_t seen = me->subs[0].next - 1;
        r.offset = seen - engine_random(&me->random, seen < 200 ? (uint32_t)seen + 1 : 200);
        me->recoveries++;
    }
    fake_open(&s->c, w, me->count);
    s->c.protocol = CONN_CLIENT;
    s->s = (struct subscription){.conn = &s->c,
                                 .flags = SUBSCRIPTION_POSITIONED | SUBSCRIPTION_PRESENT};
    struct local *l = pubsub_attach(w, "c", 1);
    EXPECT(l && pubsub_subscribe_client(&s->s, l, &r) == 0);
    EXPECT(!s->c.out); /* nothing before the reply */
    s->next = r.wanted ? r.offset + 1 : r.top.offset + 1;
    if (r.wanted) take_missed(s, &r);
}

static void client_closed(struct conn *c)
{
    struct sub *s = &sides[c->worker->index].subs[c->id - 1];
    if (s->s.local) pubsub_unsubscribe_client(&s->s);
}

static void client_missed(struct subscription *s)
{
    (void)s;
    EXPECT(!"nothing is lost here");
}

static void drop_all(struct worker *w, struct side *me)
{
    for (unsigned i = 0; i < me->count; i++) {
        EXPECT(me->subs[i].next == TOTAL + 1);
        fake_drop(&me->subs[i].c);
    }
    w->dirty.count = w->closed.count = 0;
}

static void act(struct worker *w)
{
    struct side *me = &sides[w->index];
    for (unsigned i = 0; i < me->count; i++) {
        EXPECT(me->subs[i].c.state == CONN_OPEN);
        read_all(&me->subs[i]);
    }
    for (uint32_t i = 0; i < w->dirty.count; i++) w->dirty.items[i]->flags &= ~(uint32_t)CONN_DIRTY;
    w->dirty.count = 0;
    if (me->leaving) {
        worker_stop(w, WORKER_ENDS);
        return;
    }
    bool over = atomic_load(&publishing) == 0; /* first: then the mailbox has all of it */
    for (unsigned i = 0; i < PER_TURN && me->sent < EACH && !w->congested; i++) {
        publish_one(w);
        if (me->sent * SUBSCRIBES / EACH >= me->count)
            subscribe(w, me); /* among the publications */
        if (++me->sent == EACH) atomic_fetch_sub(&publishing, 1);
    }
    if (!over || engine_pending(w) || atomic_load(&w->mailbox.newest)) return;
    me->leaving = true;
    drop_all(w, me);
    me->count = 0;
}

static int always(const struct worker *w)
{
    (void)w;
    return 0;
}

static void nothing(struct worker *w)
{
    (void)w;
}

static void no_timer(struct wheel_timer *t, void *worker)
{
    (void)t;
    (void)worker;
}

static void test_offsets_are_contiguous(void **state)
{
    (void)state;
    engine_open(&(struct engine_options){.workers = WORKERS,
                                         .bus = {.slice = 7, .missed = client_missed},
                                         .channel = {.history_size = TOTAL,
                                                     .history_ttl_ms = 3600000,
                                                     .history_meta_ttl_ms = 3600000}});
    engine.app.handlers[CONN_CLIENT] = (struct conn_handler){.closed = client_closed};
    engine.ops = (struct worker_ops){.ready = nothing,
                                     .idle_ms = always,
                                     .posts = pubsub_posts,
                                     .timer = no_timer,
                                     .flush = act,
                                     .end = nothing,
                                     .stopping = nothing};
    memset(sides, 0, sizeof sides);
    publishing = WORKERS;
    for (unsigned i = 0; i < WORKERS; i++) sides[i].random = i + 1;
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(worker_start(engine.server.workers[i]), 0);
    for (unsigned i = 0; i < WORKERS; i++) worker_join(engine.server.workers[i]);
    assert_false(wrong);
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_int_equal(sides[i].sent, EACH);
        assert_int_equal(sides[i].recoveries, SUBSCRIBES / 2);
    }
    assert_int_equal(engine_metric(METRIC_LOST), 0);
    assert_int_equal(engine_metric(METRIC_QUEUED_BYTES), 0);
    assert_int_equal(pubsub_channel_count(), 1); /* its history */
    engine_close();
}

/* ---- one budget ---- */

#define CHANNELS 200 /* at a time: other names come, and these end */
#define FOR_MS 5000  /* so long each */
#define ALL_MS 50000u
#define BUDGET (64 * 1024)
#define ROUNDS (SLOW ? 5000u : 50000u)

/* read_some checks that what is kept of a channel ends at its top, without a gap. */
static void read_some(struct worker *w, struct channel *ch)
{
    struct publication *found[16];
    struct pubsub_history h = {.max = 16, .reverse = true, .found = found};
    pubsub_history(w, ch, &h);
    for (uint32_t i = 0; i < h.count; i++) {
        EXPECT(found[i]->offset == h.top.offset - i);
        pubsub_publication_unref(found[i]);
    }
}

static void *spend(void *arg)
{
    static const char text[] =
        "\"what is published is of some length, and not always of the same\"";
    struct worker *w = arg;
    uint32_t random = w->index + 1;
    const int64_t start_ms = w->now_ms;
    mem_pool_own(w->pool);
    for (unsigned i = 0; i < ROUNDS; i++) {
        char name[16];
        const unsigned times = (unsigned)((w->now_ms - start_ms) / FOR_MS);
        size_t len = (size_t)snprintf(name, sizeof name, "%u",
                                      times * CHANNELS + engine_random(&random, CHANNELS));
        struct message m = {.publisher = PUBSUB_NOBODY, .payload = {text, sizeof text - 1}};
        struct channel *ch = pubsub_channel(w, name, len);
        w->now_ms += engine_random(&random, 2 * ALL_MS / ROUNDS + 1);
        EXPECT(ch && ops_publish(w, ch, &m, NULL) == 0);
        if (i % 4 == 0) read_some(w, ch);
        if (i % 64 == 0) pubsub_history_remove(ch);
        pubsub_channel_unref(ch);
        pubsub_posts(w, NULL); /* sweeps */
        mem_pool_reclaim(w->pool);
    }
    return NULL;
}

static void test_budget_of_all(void **state)
{
    (void)state;
    pthread_t threads[WORKERS];
    engine_open(&(struct engine_options){
        .workers = WORKERS,
        .bus = {.history_max_bytes = BUDGET},
        .channel = {.history_size = 10, .history_ttl_ms = 2000, .history_meta_ttl_ms = 4000}});
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, spend, engine.server.workers[i]), 0);
    for (unsigned i = 0; i < WORKERS; i++) pthread_join(threads[i], NULL);
    assert_false(wrong);
    assert_in_range(atomic_load(&bus.history_bytes), BUDGET / 2, BUDGET);
    assert_in_range(pubsub_channel_count(), CHANNELS, 3 * CHANNELS);
    assert_true(engine_metric(METRIC_HISTORY_EVICTED) > ROUNDS / 2);
    engine_close();
    assert_int_equal(atomic_load(&bus.history_bytes), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offsets_are_contiguous),
        cmocka_unit_test(test_budget_of_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
