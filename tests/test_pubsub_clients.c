/* pubsub.c for clients: subscriptions beside raw ones in a channel, joins and leaves, losses that
 * are told, presence. On workers without threads. */
#include "pubsub_subs.h"

static struct subscription client_subs[SUBS_MAX]; /* client_subs[i]: of subs[i] */
static unsigned missed;

static void client_closed(struct conn *c)
{
    if (c->id > SUBS_MAX) return;
    struct subscription *s = &client_subs[c->id - 1];
    if (s->local) pubsub_unsubscribe_client(s);
}

/* client_missed does what a client's layer does: unsubscribe, and stay open. */
static void client_missed(struct subscription *s)
{
    missed++;
    pubsub_unsubscribe_client(s);
}

static void begin_clients(struct engine_options o)
{
    o.bus.missed = client_missed;
    begin(&o);
    engine.app.handlers[CONN_CLIENT] = (struct conn_handler){.closed = client_closed};
    missed = 0;
}

static int join_client(unsigned i, struct worker *on, uint32_t flags)
{
    struct sub *s = &subs[i];
    *s = (struct sub){.after = published, .until = UINT64_MAX};
    fake_open(&s->c, on, i + 1);
    s->c.protocol = CONN_CLIENT;
    client_subs[i] = (struct subscription){.conn = &s->c, .flags = flags};
    struct local *l = pubsub_attach(on, "c", 1);
    if (!l) return -1;
    if (pubsub_subscribe_client(&client_subs[i], l, NULL) == 0) return 0;
    pubsub_detach(l);
    return -1;
}

/* membership publishes a join or a leave; it has a number like the rest. */
static void membership(void)
{
    assert_int_equal(publish_kind(w, "c", PUBLICATION_MEMBERSHIP, 8, PUBSUB_NOBODY), 0);
}

static void all_are(unsigned i, enum ws_opcode opcode)
{
    const struct out_queue *q = subs[i].c.out;
    for (uint32_t k = 0; q && k < q->count; k++) {
        const struct out_entry *e = &q->entries[q->head + k];
        assert_int_equal(e->frame->bytes[e->from], 0x80 | opcode);
    }
}

/* Raw and SDK subscribers of one channel: each gets its own encoding, clients share one run, and
 * joins and leaves reach those who want them. Every string of messages and memberships up to five.
 */
static void test_mixed_subscribers(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 5; n++) {
        for (unsigned joins = 0; joins < 1u << n; joins++) {
            const unsigned messages = n - (unsigned)__builtin_popcount(joins);
            begin_clients((struct engine_options){.workers = 2, .bus = {.slice = 2}});
            struct worker *other = engine.server.workers[1];
            assert_int_equal(join(0, w, "c"), 0);
            for (unsigned i = 1; i < 6;
                 i++) /* 2 and 4, and the one of the other worker, want all */
                assert_int_equal(join_client(i, i == 5 ? other : w,
                                             i == 2 || i >= 4 ? SUBSCRIPTION_MEMBERSHIP : 0),
                                 0);
            for (unsigned k = 0; k < n; k++) {
                if (joins >> k & 1)
                    membership();
                else
                    publish();
            }
            fake_turn(other);
            do fake_turn(w);
            while (engine_pending(w));
            for (unsigned i = 0; i < 6; i++) all_are(i, i ? WS_TEXT : WS_BINARY);
            if (messages > 1)
                assert_ptr_equal(subs[1].c.out->entries[0].frame, subs[3].c.out->entries[0].frame);
            assert_int_equal(harvest_with(&subs[0], true), messages);
            assert_int_equal(harvest_with(&subs[1], true), messages);
            assert_int_equal(harvest_with(&subs[3], true), messages);
            assert_int_equal(harvest(2), n); /* without a gap */
            assert_int_equal(harvest(4), n);
            assert_int_equal(harvest(5), n);
            end(6);
        }
    }
}

/* Newcomers of all kinds between the publications of a turn: each a tail of its kind's run. */
static void test_tails_of_clients(void **state)
{
    (void)state;
    unsigned due[12] = {0};
    begin_clients((struct engine_options){0});
    for (unsigned i = 0; i < 12; i++) {
        if (i % 3 == 0)
            assert_int_equal(join(i, w, "c"), 0);
        else
            assert_int_equal(join_client(i, w, i % 3 == 1 ? 0 : SUBSCRIPTION_MEMBERSHIP), 0);
        bool is_join = i % 4 == 1;
        if (is_join)
            membership();
        else
            publish();
        for (unsigned k = 0; k <= i; k++) due[k] += !is_join || k % 3 == 2;
    }
    fake_turn(w);
    for (unsigned i = 0; i < 12; i++) assert_int_equal(harvest_with(&subs[i], i % 3 != 2), due[i]);
    end(12);
}

/* A mailbox that is too small: a positioned subscription is told to recover and its connection
 * stays; any other is closed with 3008. Who came behind the loss hears on. */
static void test_positioned_is_told(void **state)
{
    (void)state;
    begin_clients((struct engine_options){.mailbox_max_bytes = 150});
    assert_int_equal(join_client(0, w, SUBSCRIPTION_POSITIONED), 0);
    assert_int_equal(join_client(1, w, 0), 0);
    assert_int_equal(join_client(2, w, SUBSCRIPTION_POSITIONED), 0);
    publish(); /* fits */
    publish(); /* lost */
    assert_int_equal(join_client(3, w, SUBSCRIPTION_POSITIONED), 0);
    fake_turn(w);
    assert_int_equal(missed, 2);
    assert_int_equal(subs[0].c.state, CONN_OPEN);
    assert_int_equal(subs[2].c.state, CONN_OPEN);
    assert_null(client_subs[0].local);
    assert_int_equal(subs[1].c.state, CONN_CLOSING);
    assert_int_equal(close_code_of(&subs[1].c), 3008);
    assert_non_null(client_subs[3].local);
    assert_int_equal(harvest(3), 0);
    publish();
    fake_turn(w);
    assert_int_equal(harvest(3), 1);
    assert_int_equal(missed, 2);
    end(4);
}

/* Too slow under skip-and-recover: the same, whoever of up to five it is, in every slice. */
static void test_slow_ones_recover(void **state)
{
    (void)state;
    enum { N = 5 };
    for (uint32_t slice = 1; slice <= N; slice++) {
        for (unsigned slow = 0; slow < 1u << N; slow++) {
            begin_clients((struct engine_options){.bus = {.slice = slice},
                                                  .channel = {.slow_policy = SLOW_RECOVER}});
            engine.conn.queue_max_bytes = 4096;
            for (unsigned i = 0; i < N; i++) {
                assert_int_equal(join_client(i, w, SUBSCRIPTION_POSITIONED), 0);
                if (slow >> i & 1) fill_up(i);
            }
            publish();
            publish();
            do fake_turn(w);
            while (engine_pending(w));
            assert_int_equal(missed, __builtin_popcount(slow));
            for (unsigned i = 0; i < N; i++) {
                assert_int_equal(subs[i].c.state, CONN_OPEN);
                if (slow >> i & 1)
                    assert_null(client_subs[i].local);
                else
                    assert_int_equal(harvest(i), 2);
            }
            end(N);
        }
    }
}

static void count_one(const struct subscription *s, void *arg)
{
    assert_true(s->flags & SUBSCRIPTION_PRESENT);
    ++*(unsigned *)arg;
}

static void test_presence(void **state)
{
    (void)state;
    begin_clients((struct engine_options){.workers = 2});
    struct worker *other = engine.server.workers[1];
    unsigned there = 0;
    struct local *hold = pubsub_attach(w, "c", 1);
    struct channel *ch = pubsub_shared(hold);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(join_client(i, i % 2 ? other : w, i < 4 ? SUBSCRIPTION_PRESENT : 0), 0);
    pubsub_presence(ch, count_one, &there);
    assert_int_equal(there, 4);
    assert_int_equal(pubsub_presence_count(ch), 4);
    for (unsigned i = 0; i < 6; i++) {
        fake_drop(&subs[i].c);
        there = 0;
        pubsub_presence(ch, count_one, &there);
        assert_int_equal(there, i < 4 ? 3 - i : 0);
        assert_int_equal(pubsub_presence_count(ch), there);
    }
    pubsub_detach(hold);
    end(0);
}

/* ---- every channel ---- */

#define USED 12000 /* with names so long that a shard's do not fit in one piece */
#define MORE 60000

static struct visited {
    struct subscription subs[USED];
    unsigned times[USED], others, all, until;
    struct local *more[MORE];
    unsigned more_count;
} v;

/* add makes channels without subscribers, so many that the table is widened twice. */
static void add_channels(void)
{
    char name[16];
    for (unsigned i = 0; i < MORE / 2; i++, v.more_count++) {
        const int n = snprintf(name, sizeof name, "more-%u", v.more_count);
        v.more[v.more_count] = pubsub_attach(w, name, (size_t)n);
        assert_non_null(v.more[v.more_count]);
    }
}

static bool visit(const char *name, size_t len, uint32_t subscribers, void *arg)
{
    char text[256];
    assert_ptr_equal(arg, &v);
    assert_int_equal(subscribers, 1);
    memcpy(text, name, len);
    text[len] = 0;
    if (len == 255)
        v.times[atoi(text)]++;
    else
        v.others++;
    v.all++;
    if (v.more_count < MORE && (v.all == 1 || v.all == USED / 2)) add_channels();
    return v.all < v.until;
}

static void subscribe_to_many(struct conn *c)
{
    char name[255];
    memset(name, 'x', sizeof name);
    for (unsigned i = 0; i < USED; i++) {
        char number[16];
        const int n = snprintf(number, sizeof number, "%u", i);
        memset(name, 'x', 8);
        memcpy(name, number, (size_t)n);
        v.subs[i] = (struct subscription){.conn = c};
        struct local *l = pubsub_attach(w, name, sizeof name);
        assert_non_null(l);
        assert_int_equal(pubsub_subscribe_client(&v.subs[i], l, NULL), 0);
    }
}

/* Each is visited once, though the table grows between two pieces of one shard. */
static void test_each_channel(void **state)
{
    (void)state;
    static struct conn c;
    begin_clients((struct engine_options){.bus = {.channels_max = USED + MORE}});
    fake_open(&c, w, SUBS_MAX + 1);
    subscribe_to_many(&c);
    v.until = UINT32_MAX;
    assert_int_equal(pubsub_each_channel(visit, &v), 0);
    assert_int_equal(v.more_count, MORE);
    for (unsigned i = 0; i < USED; i++) assert_int_equal(v.times[i], 1);
    assert_int_equal(v.others, 0); /* nobody has subscribed to them */
    v.all = 0;
    v.until = 3; /* then it has seen enough */
    assert_int_equal(pubsub_each_channel(visit, &v), 0);
    assert_int_equal(v.all, 3);
    for (unsigned i = 0; i < USED; i++) pubsub_unsubscribe_client(&v.subs[i]);
    for (unsigned i = 0; i < MORE; i++) pubsub_detach(v.more[i]);
    fake_drop(&c);
    end(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mixed_subscribers),  cmocka_unit_test(test_tails_of_clients),
        cmocka_unit_test(test_positioned_is_told), cmocka_unit_test(test_slow_ones_recover),
        cmocka_unit_test(test_presence),           cmocka_unit_test(test_each_channel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
