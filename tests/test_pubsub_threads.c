/* pubsub.c across worker threads: publishers and subscribers on each, who come and go, and are too
 * slow. Every subscriber sees each publisher's numbers without a gap, and all see one order. */
#include "engine.h"

#define CHANNELS 3
#define WORKERS 4
#define STAYING 6  /* subscribers a worker that stay: every channel has some on every worker */
#define COMING 10  /* and such that come and go */
#define LAZY 3     /* of those: they read seldom, and are closed for that */
#define PER_TURN 8 /* publications */

struct note {
    uint32_t publisher, channel;
    uint64_t number; /* the publisher's to this channel, from 1 */
};

struct sub {
    struct conn c;
    bool here;
    unsigned channel;
    uint64_t next[WORKERS]; /* number due from each publisher; 0: any */
    uint64_t order, count;  /* hash of all that came, in order */
};

struct side { /* a worker's own */
    struct sub subs[STAYING + COMING];
    uint64_t sent[CHANNELS], left;
    uint32_t random, ids;
    bool leaving;
};

static struct side sides[WORKERS];
static _Atomic unsigned publishing; /* workers that are not done with it */
static _Atomic bool wrong;          /* assertions belong to the main thread */
static bool losing;                 /* mailboxes are too small */

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition) && !atomic_exchange(&wrong, true))                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
    } while (0)

static void join(struct worker *w, struct side *me, struct sub *s, unsigned channel)
{
    char name[2] = {(char)('a' + channel)};
    *s = (struct sub){.here = true, .channel = channel};
    fake_open(&s->c, w, ++me->ids);
    s->c.channel = pubsub_attach(w, name, 1);
    if (s->c.channel && pubsub_subscribe(&s->c, s->c.channel) == 0) return;
    EXPECT(!"memory is out");
}

static void take(struct sub *s, const struct note *m)
{
    EXPECT(m->channel == s->channel);
    EXPECT(!s->next[m->publisher] || s->next[m->publisher] == m->number);
    s->next[m->publisher] = m->number + 1;
    s->order = s->order * 0x9E3779B97F4A7C15ull + (m->publisher + 1) * 1000003ull + m->number;
    s->count++;
}

static void read_all(struct sub *s)
{
    struct out_queue *q = s->c.out;
    for (uint32_t i = 0; q && i < q->count; i++) {
        const struct out_entry *e = &q->entries[q->head + i];
        if (e->kind != OUT_MESSAGE) continue;
        const uint32_t size = 2 + sizeof(struct note);
        EXPECT((e->frame->len - e->from) / size == e->messages);
        for (uint32_t at = e->from; at < e->frame->len; at += size) {
            struct note m;
            memcpy(&m, e->frame->bytes + at + 2, sizeof m);
            take(s, &m);
        }
    }
    metric_sub(&s->c.worker->metrics, METRIC_QUEUED_BYTES, outq_bytes(q));
    outq_free(s->c.worker->pool, &s->c.out);
}

static void look_after(struct worker *w, struct side *me)
{
    for (unsigned i = 0; i < STAYING + COMING; i++) {
        struct sub *s = &me->subs[i];
        if (!s->here) continue;
        if (s->c.state != CONN_OPEN) { /* closed 3008: too slow, or the mailbox was */
            EXPECT(s->c.close_code == 3008 && (losing || i >= STAYING));
            fake_drop(&s->c);
            s->here = false;
        } else if (i < STAYING + COMING - LAZY || engine_random(&me->random, 50) == 0) {
            read_all(s);
        }
        if (!s->here && i < STAYING && !me->leaving) join(w, me, s, i % CHANNELS);
    }
    for (uint32_t i = 0; i < w->dirty.count; i++) w->dirty.items[i]->flags &= ~(uint32_t)CONN_DIRTY;
    w->dirty.count = w->closed.count = 0;
}

static void come_and_go(struct worker *w, struct side *me)
{
    struct sub *s = &me->subs[STAYING + engine_random(&me->random, COMING)];
    if (s->here) {
        read_all(s);
        fake_drop(&s->c);
        s->here = false;
    } else {
        join(w, me, s, engine_random(&me->random, CHANNELS));
    }
}

static void publish_note(struct worker *w, const char *name, const struct note *m)
{
    struct channel *ch = pubsub_channel(w, name, 1);
    if (!ch) return; /* nobody uses it now */
    struct publication *p = pubsub_publication(w, PUBLICATION_MESSAGE, PUBSUB_NOBODY);
    if (p) p->as[ENCODING_RAW].frame = conn_message_frame(w->pool, WS_BINARY, m, sizeof *m);
    EXPECT(p && p->as[ENCODING_RAW].frame && pubsub_publish(w, ch, p, NULL, NULL) == 0);
    pubsub_channel_unref(ch);
}

static void publish(struct worker *w, struct side *me)
{
    if (w->congested && !losing) return;
    for (unsigned i = 0; i < PER_TURN && me->left; i++) {
        unsigned channel = engine_random(&me->random, CHANNELS);
        struct note m = {w->index, channel, ++me->sent[channel]};
        char name[2] = {(char)('a' + channel)};
        publish_note(w, name, &m);
        if (--me->left == 0) atomic_fetch_sub(&publishing, 1);
    }
}

/* act is what connections do in a turn: read, publish, come and go. */
static void act(struct worker *w)
{
    struct side *me = &sides[w->index];
    look_after(w, me);
    bool over = atomic_load(&publishing) == 0; /* first: then the mailbox has all of it */
    publish(w, me);
    if (!over || engine_pending(w) || atomic_load(&w->mailbox.newest)) {
        if (engine_random(&me->random, 3) == 0 && !over) come_and_go(w, me);
        return;
    }
    if (me->leaving) {
        worker_stop(w, WORKER_ENDS);
        return;
    }
    me->leaving = true; /* one turn more: an orphan's post may be there */
    for (unsigned i = 0; i < STAYING + COMING; i++) {
        struct sub *s = &me->subs[i];
        if (!s->here) continue;
        read_all(s);
        for (unsigned p = 0; p < WORKERS; p++) /* up to the last one */
            EXPECT(!s->next[p] || s->next[p] == sides[p].sent[s->channel] + 1);
        fake_drop(&s->c);
        s->here = false;
    }
    w->closed.count = 0;
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

static void run(unsigned workers, uint64_t each, uint64_t mailbox_max_bytes)
{
    engine_open(&(struct engine_options){
        .workers = workers, .mailbox_max_bytes = mailbox_max_bytes, .bus = {.slice = 3}});
    engine.conn.queue_max_bytes = 4096;
    engine.ops = (struct worker_ops){.ready = nothing,
                                     .idle_ms = always,
                                     .posts = pubsub_posts,
                                     .timer = no_timer,
                                     .flush = act,
                                     .end = nothing,
                                     .stopping = nothing};
    memset(sides, 0, sizeof sides);
    publishing = workers;
    losing = mailbox_max_bytes != 0;
    for (unsigned i = 0; i < workers; i++) {
        struct worker *w = engine.server.workers[i];
        sides[i].random = i + 1;
        sides[i].left = each;
        for (unsigned k = 0; k < STAYING; k++) {
            join(w, &sides[i], &sides[i].subs[k], k % CHANNELS);
            for (unsigned p = 0; p < workers; p++) sides[i].subs[k].next[p] = 1;
        }
    }
    for (unsigned i = 0; i < workers; i++)
        assert_int_equal(worker_start(engine.server.workers[i]), 0);
    for (unsigned i = 0; i < workers; i++) worker_join(engine.server.workers[i]);
    assert_false(wrong);
}

static void test_one_order_on_all_workers(void **state)
{
    (void)state;
    for (unsigned workers = 2; workers <= WORKERS; workers++) {
        const uint64_t each = SLOW ? 10000 : 100000;
        run(workers, each, 0);
        for (unsigned i = 0; i < workers; i++) {
            for (unsigned k = 0; k < STAYING; k++) {
                const struct sub *s = &sides[i].subs[k], *first = &sides[0].subs[k % CHANNELS];
                uint64_t sent = 0;
                for (unsigned p = 0; p < workers; p++) sent += sides[p].sent[s->channel];
                assert_int_equal(s->count, sent);
                assert_true(s->order == first->order);
            }
        }
        assert_int_equal(engine_metric(METRIC_LOST), 0);
        assert_true(engine_metric(METRIC_SLOW_CLOSED) > 0);
        assert_int_equal(engine_metric(METRIC_QUEUED_BYTES), 0);
        engine_close();
    }
}

/* Mailboxes that hold some thirty publications: who misses one is told, and nobody else is. */
static void test_losses_are_told(void **state)
{
    (void)state;
    run(3, SLOW ? 10000 : 100000, 5000);
    assert_true(engine_metric(METRIC_LOST) > 0);
    assert_int_equal(engine_metric(METRIC_QUEUED_BYTES), 0);
    engine_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_order_on_all_workers),
        cmocka_unit_test(test_losses_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
