/* pubsub.c on workers without threads: who gets which publication, whatever comes and goes
 * meanwhile. */
#include "pubsub_subs.h"

#ifdef __SANITIZE_THREAD__ /* minutes, and there are no threads here */
#define PATHS_MAX 5
#else
#define PATHS_MAX (getenv("RUNNER") ? 5u : 6u) /* an emulator is slow as well */
#endif

/* ---- seq and after ---- */

static void test_only_what_comes_after(void **state)
{
    (void)state;
    begin(&(struct engine_options){0});
    publish(); /* nobody is there: kept nowhere */
    assert_int_equal(join(0, w, "c"), 0);
    publish(); /* waits in the mailbox while the next one subscribes */
    assert_int_equal(join(1, w, "c"), 0);
    publish();
    fake_turn(w);
    assert_int_equal(harvest(0), 2);
    assert_int_equal(harvest(1), 1);
    check(0);
    check(1);
    end(2);
}

/* Each subscribes after one more publication of the turn, so each is sent another tail of the one
 * run. */
static void test_a_run_and_its_tails(void **state)
{
    (void)state;
    const unsigned n = 8;
    begin(&(struct engine_options){0});
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(join(i, w, "c"), 0);
        publish();
    }
    fake_turn(w);
    const struct frame *run = subs[0].c.out->entries[0].frame;
    for (unsigned i = 0; i < n; i++) {
        const struct out_queue *q = subs[i].c.out;
        assert_int_equal(q->count, 1);
        assert_ptr_equal(q->entries[0].frame, run);
        assert_int_equal(q->entries[0].from, i * 10);
        assert_int_equal(q->bytes, (n - i) * 10);
    }
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(harvest(i), n - i);
        check(i);
    }
    assert_int_equal(engine_metric(METRIC_DELIVERIES), n * (n + 1) / 2);
    end(n);
}

/* What is more than 256 KiB, or than a queue holds, is handed out in several passes, so that a
 * burst makes nobody slow. */
static void burst(size_t len, int64_t queue_max_bytes, unsigned per_pass)
{
    const unsigned n = 40;
    begin(&(struct engine_options){.bus = {.slice = 2}});
    engine.conn.queue_max_bytes = queue_max_bytes;
    for (unsigned i = 0; i < 3; i++) assert_int_equal(join(i, w, "c"), 0);
    subs[1].c.flags |= CONN_NO_SELF; /* gets them one by one */
    for (unsigned i = 0; i < n; i++) assert_int_equal(publish_sized(w, "c", len, PUBSUB_NOBODY), 0);
    do {
        fake_turn(w);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(subs[i].c.state, CONN_OPEN);
            assert_true(harvest(i) <= per_pass);
        }
    } while (engine_pending(w));
    for (unsigned i = 0; i < 3; i++) check(i);
    end(3);
}

static void test_too_long_for_a_pass(void **state)
{
    (void)state;
    burst(120000, 1 << 20, 2);
    burst(256 * 1024, 1 << 20, 1);
    burst(1000, 4096, 4);
    burst(5000, 4096, 1); /* an empty queue admits one of any size */
}

static void test_without_its_own(void **state)
{
    (void)state;
    begin(&(struct engine_options){0});
    for (unsigned i = 0; i < 3; i++) assert_int_equal(join(i, w, "c"), 0);
    subs[1].c.flags |= CONN_NO_SELF;
    assert_int_equal(publish_sized(w, "c", 8, conn_key(&subs[0].c)), 0);
    assert_int_equal(publish_sized(w, "c", 8, conn_key(&subs[1].c)), 0);
    assert_int_equal(publish_sized(w, "c", 8, PUBSUB_NOBODY), 0);
    fake_turn(w);
    assert_int_equal(harvest(0), 3);
    assert_int_equal(harvest_with(&subs[1], true), 2);
    assert_int_equal(subs[1].got, 3);
    assert_int_equal(harvest(2), 3);
    assert_int_equal(publish_sized(w, "c", 8, conn_key(&subs[1].c)),
                     0); /* alone: nothing to send */
    fake_turn(w);
    assert_int_equal(harvest(0), 1);
    assert_int_equal(harvest(1), 0);
    end(3);
}

/* ---- every order of turns and leavings, against a list ---- */

/* Choices in the order of a depth-first walk: choose answers the next one of the path under way. */
static struct {
    uint8_t taken[64], of[64];
    unsigned len, at;
} path;

static unsigned choose(unsigned of)
{
    assert_true(path.at < sizeof path.of);
    if (path.at == path.len) {
        path.taken[path.len] = 0;
        path.of[path.len++] = (uint8_t)of;
    }
    return path.taken[path.at++];
}

static bool next_path(void)
{
    path.at = 0;
    while (path.len && path.taken[path.len - 1] + 1 == path.of[path.len - 1]) path.len--;
    if (!path.len) return false;
    path.taken[path.len - 1]++;
    return true;
}

/* turn lets one slice be served and checks how many that were: as many as the slice allows, or all
 * that are left. */
static void turn(unsigned count, uint32_t slice, bool exactly)
{
    uint32_t waiting = 0, served = 0;
    for (unsigned i = 0; i < count; i++)
        waiting += subs[i].until == UINT64_MAX && subs[i].got < published;
    fake_turn(w);
    for (unsigned i = 0; i < count; i++) served += harvest(i) > 0;
    if (served > slice) fail_msg("%u served in a slice of %u", served, slice);
    if (exactly && served != (waiting < slice ? waiting : slice))
        fail_msg("%u of %u served in a slice of %u", served, waiting, slice);
}

/* walk follows one path: at each step a turn, or one of those present leaves, or, if extras allow
 * it, one more subscribes or one more publication is made. */
static void walk(unsigned n, uint32_t slice, unsigned newcomers, unsigned publications)
{
    unsigned count = n;
    const bool exactly = !newcomers && !publications;
    struct local *hold = pubsub_attach(w, "c", 1);
    published = 0;
    for (unsigned i = 0; i < n; i++)
        if (join(i, w, "c")) fail();
    publish();
    do {
        unsigned here[SUBS_MAX], present = 0;
        for (unsigned i = 0; i < count; i++)
            if (subs[i].until == UINT64_MAX) here[present++] = i;
        unsigned c = choose(1 + present + (newcomers > 0) + (publications > 0));
        if (c == 0) {
            turn(count, slice, exactly);
        } else if (c <= present) {
            leave(here[c - 1]);
        } else if (c == 1 + present && newcomers) {
            newcomers--;
            if (join(count++, w, "c")) fail();
        } else {
            publications--;
            publish();
        }
    } while (engine_pending(w) || w->mailbox.newest);
    for (unsigned i = 0; i < count; i++) {
        check(i);
        fake_drop(&subs[i].c);
    }
    pubsub_detach(hold);
    fake_turn(w);
    assert_int_equal(pubsub_channel_count(), 0);
}

static void walk_all(unsigned n_max, unsigned newcomers, unsigned publications)
{
    unsigned long paths = 0;
    for (uint32_t slice = 1; slice <= n_max; slice++) {
        begin(&(struct engine_options){.bus = {.slice = slice}});
        for (unsigned n = 1; n <= n_max; n++) {
            do {
                walk(n, slice, newcomers, publications);
                paths++;
            } while (next_path());
        }
        end(0);
    }
    print_message("%lu paths\n", paths);
}

static void test_leaving_in_every_order(void **state)
{
    (void)state;
    walk_all(PATHS_MAX, 0, 0);
}

static void test_leaving_beside_newcomers_and_publications(void **state)
{
    (void)state;
    walk_all(PATHS_MAX / 2, 1, 2);
}

/* Many at once, longer: random steps. */
static void test_churn(void **state)
{
    (void)state;
    uint32_t r = 1;
    for (unsigned round = 0; round < (SLOW ? 200 : 2000); round++) {
        uint32_t slice = 1 + engine_random(&r, 20);
        begin(&(struct engine_options){.bus = {.slice = slice}});
        struct local *hold = pubsub_attach(w, "c", 1);
        unsigned count = 0;
        for (unsigned step = 0; step < 150; step++) {
            uint32_t what = engine_random(&r, 10);
            if (what < 3 && count < SUBS_MAX) {
                assert_int_equal(join(count++, w, "c"), 0);
            } else if (what < 5 && count) {
                unsigned i = engine_random(&r, count);
                if (subs[i].until == UINT64_MAX) leave(i);
            } else if (what < 8) {
                publish();
            } else {
                turn(count, slice, false);
            }
        }
        while (engine_pending(w) || w->mailbox.newest) turn(count, slice, false);
        for (unsigned i = 0; i < count; i++) check(i);
        for (unsigned i = 0; i < count; i++) fake_drop(&subs[i].c);
        pubsub_detach(hold);
        end(0);
    }
}

/* ---- leaving by the hand-over itself ---- */

static void slow_ones(unsigned n, uint32_t slice, unsigned slow, unsigned publications)
{
    begin(&(struct engine_options){.bus = {.slice = slice}});
    engine.conn.queue_max_bytes = 4096;
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(join(i, w, "c"), 0);
        if (slow >> i & 1) fill_up(i);
    }
    for (unsigned p = 0; p < publications; p++) publish();
    do fake_turn(w);
    while (engine_pending(w));
    for (unsigned i = 0; i < n; i++) {
        struct conn *c = &subs[i].c;
        if (slow >> i & 1) {
            assert_int_equal(c->state, CONN_CLOSING);
            assert_int_equal(close_code_of(c), 3008);
            assert_int_equal(c->close_code, 3008);
            assert_null(c->channel);
        } else {
            assert_int_equal(c->state, CONN_OPEN);
            assert_int_equal(harvest(i), publications);
        }
    }
    assert_int_equal(engine_metric(METRIC_SLOW_CLOSED), __builtin_popcount(slow));
    assert_int_equal(pubsub_channel_count(), slow + 1 == 1u << n ? 0 : 1);
    end(n);
}

/* Every set of slow ones among up to six, in every slice: all of them may be, then the channel ends
 * meanwhile. */
static void test_closed_while_served(void **state)
{
    (void)state;
    const unsigned n_max = 6;
    for (unsigned n = 1; n <= n_max; n++)
        for (uint32_t slice = 1; slice <= n_max; slice++)
            for (unsigned slow = 0; slow < 1u << n; slow++)
                for (unsigned publications = 1; publications <= 3; publications += 2)
                    slow_ones(n, slice, slow, publications);
}

static void test_drop_policies(void **state)
{
    (void)state;
    static const enum slow_policy policies[] = {SLOW_DROP_OLDEST, SLOW_KEEP_LATEST};
    for (unsigned p = 0; p < 2; p++) {
        begin(&(struct engine_options){.bus = {.policy = policies[p]}});
        engine.conn.queue_max_bytes = 5 * (10 + OUT_ENTRY_COST); /* five messages */
        assert_int_equal(join(0, w, "c"), 0);
        for (unsigned i = 0; i < 8; i++) {
            publish();
            fake_turn(w);
        }
        assert_int_equal(subs[0].c.state, CONN_OPEN);
        unsigned kept = policies[p] == SLOW_KEEP_LATEST ? 3 : 5;
        assert_int_equal(subs[0].c.messages_out, kept);
        assert_int_equal(engine_metric(METRIC_SLOW_DROPPED), 8 - kept);
        assert_int_equal(harvest_with(&subs[0], true), kept);
        assert_int_equal(subs[0].got, 8);
        end(1);
    }
}

/* ---- a full mailbox ---- */

static void test_mailbox_bound(void **state)
{
    (void)state;
    /* two publications of 10 bytes fit, at 138 each */
    begin(&(struct engine_options){.workers = 2, .mailbox_max_bytes = 2 * 138});
    struct worker *other = engine.server.workers[1];
    assert_int_equal(join(0, w, "c"), 0);
    assert_int_equal(join(1, other, "c"), 0);
    publish();
    fake_turn(other); /* only the first worker sleeps */
    publish();
    fake_turn(other);
    assert_int_equal(join(2, w, "c"), 0);
    publish(); /* lost for 0 and 2 */
    fake_turn(other);
    assert_int_equal(join(3, w, "c"), 0);
    publish(); /* and this for 3; told by the same post */
    fake_turn(other);
    assert_int_equal(join(4, w, "c"), 0);
    assert_int_equal(engine_metric(METRIC_LOST), 2);
    fake_turn(w);
    for (unsigned i = 0; i < 5; i++) {
        if (i == 1 || i == 4) {
            assert_int_equal(subs[i].c.state, CONN_OPEN);
        } else {
            assert_int_equal(subs[i].c.state, CONN_CLOSING);
            assert_int_equal(close_code_of(&subs[i].c), 3008);
        }
    }
    assert_int_equal(harvest(1), 4);
    publish();
    fake_turn(w);
    fake_turn(other);
    assert_int_equal(harvest(1), 1);
    assert_int_equal(harvest(4), 1);
    check(1);
    check(4);
    assert_int_equal(w->mailbox.queued_bytes, 0);
    end(5);
}

/* Lost again after the first loss was told: the post is there for the next time. */
static void test_lost_twice(void **state)
{
    (void)state;
    begin(&(struct engine_options){.mailbox_max_bytes = 138});
    for (unsigned round = 0; round < 3; round++) {
        assert_int_equal(join(round, w, "c"), 0);
        publish();
        publish();
        fake_turn(w);
        assert_int_equal(subs[round].c.state, CONN_CLOSING);
        assert_int_equal(close_code_of(&subs[round].c), 3008);
    }
    end(3);
}

/* The last one leaves while its local half's post for losses is in the mailbox: the half must
 * outlive it there. */
static void test_orphan(void **state)
{
    (void)state;
    begin(&(struct engine_options){.mailbox_max_bytes = 138});
    assert_int_equal(join(0, w, "c"), 0);
    publish();
    publish();
    fake_drop(&subs[0].c);
    assert_int_equal(pubsub_channel_count(), 0);
    assert_int_equal(join(1, w, "c"),
                     0); /* a new channel of that name, before the old post is read */
    fake_turn(w);
    assert_int_equal(subs[1].c.state, CONN_OPEN);
    assert_int_equal(harvest(1), 0);
    publish();
    fake_turn(w);
    assert_int_equal(harvest(1), 1);
    end(2);
}

/* ---- life of a channel ---- */

static void test_last_holder_ends_it(void **state)
{
    (void)state;
    begin(&(struct engine_options){.workers = 2});
    struct worker *other = engine.server.workers[1];
    size_t len;
    struct local *a = pubsub_attach(w, "c", 1), *b = pubsub_attach(other, "c", 1);
    assert_ptr_equal(pubsub_attach(w, "c", 1), a);
    assert_ptr_not_equal(a, b);
    assert_memory_equal(pubsub_name(pubsub_shared(b), &len), "c", 1);
    assert_int_equal(len, 1);
    assert_int_equal(pubsub_channel_count(), 1);
    pubsub_detach(a);
    pubsub_detach(b);
    assert_int_equal(pubsub_channel_count(), 1);
    pubsub_detach(a);
    assert_int_equal(pubsub_channel_count(), 0);
    end(0);
}

/* A channel counts as used once, whatever its subscribers' workers. */
static void test_used(void **state)
{
    (void)state;
    begin(&(struct engine_options){.workers = 2});
    struct worker *other = engine.server.workers[1];
    assert_int_equal(pubsub_used_count(), 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(join(i, i < 2 ? w : other, i == 3 ? "d" : "c"), 0);
    assert_int_equal(pubsub_used_count(), 2);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pubsub_used_count(), i < 3 ? 2 : 1);
        leave(i);
        pubsub_detach(subs[i].c.channel);
        subs[i].c.channel = NULL;
    }
    assert_int_equal(pubsub_used_count(), 0);
    end(4);
}

/* It ends while a publication is on its way to another worker, and in the middle of a pass. */
static void test_ends_in_flight(void **state)
{
    (void)state;
    begin(&(struct engine_options){.workers = 2, .bus = {.slice = 1}});
    struct worker *other = engine.server.workers[1];
    assert_int_equal(join(0, other, "c"), 0);
    publish();
    fake_drop(&subs[0].c);
    fake_turn(other); /* the post of a channel that is gone */
    for (unsigned i = 0; i < 3; i++) assert_int_equal(join(i, w, "c"), 0);
    publish();
    publish();
    fake_turn(w);
    assert_true(engine_pending(w));
    publish(); /* behind the pass */
    for (unsigned i = 0; i < 3; i++) fake_drop(&subs[i].c);
    assert_int_equal(pubsub_channel_count(), 0);
    assert_false(engine_pending(w));
    end(0);
}

static void test_channels_max(void **state)
{
    (void)state;
    begin(&(struct engine_options){.bus = {.channels_max = 2}});
    struct local *a = pubsub_attach(w, "a", 1), *b = pubsub_attach(w, "b", 1);
    errno = 0;
    assert_null(pubsub_attach(w, "c", 1));
    assert_int_equal(errno, ENOSPC);
    assert_ptr_equal(pubsub_attach(w, "a", 1), a); /* one that exists */
    pubsub_detach(b);
    b = pubsub_attach(w, "c", 1);
    assert_non_null(b);
    pubsub_detach(a);
    pubsub_detach(a);
    pubsub_detach(b);
    end(0);
}

static void test_many_channels(void **state)
{
    (void)state;
    enum { MANY = 5000 };
    static struct local *l[MANY];
    char name[256];
    begin(&(struct engine_options){.bus = {.channels_max = MANY}});
    for (unsigned i = 0; i < MANY; i++) {
        memset(name, 'x', sizeof name);
        int n = snprintf(name, sizeof name, "%u", i);
        l[i] = pubsub_attach(w, name, i % 2 ? (size_t)n : 255);
        assert_non_null(l[i]);
    }
    assert_int_equal(pubsub_channel_count(), MANY);
    for (unsigned i = 0; i < MANY; i++) {
        size_t len;
        const char *found = pubsub_name(pubsub_shared(l[i]), &len);
        assert_ptr_equal(pubsub_attach(w, found, len), l[i]);
        pubsub_detach(l[i]);
    }
    for (unsigned i = 0; i < MANY; i++) pubsub_detach(l[i]);
    end(0);
}

/* ---- memory runs out ---- */

/* session joins four, of which one leaves, and publishes between; a step that fails must say so or
 * close. Returns how many were promised publications and are still open. */
static unsigned session(void)
{
    unsigned open = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (join(i, w, "c") == -1) conn_close(&subs[i].c, WS_CLOSE_INTERNAL, "out of memory");
        (void)publish_sized(w, "c", 8, PUBSUB_NOBODY);
        if (i == 2) fake_turn(w);
    }
    if (subs[1].c.state == CONN_OPEN) {
        leave(1);
        (void)publish_sized(w, "c", 8, PUBSUB_NOBODY);
    }
    do fake_turn(w);
    while (engine_pending(w));
    for (unsigned i = 0; i < 4; i++) {
        if (subs[i].c.state != CONN_OPEN) continue;
        open++;
        harvest(i);
        check(i);
    }
    return open;
}

static void test_out_of_memory(void **state)
{
    (void)state;
    uint64_t k = 0, failed;
    do {
        begin(&(struct engine_options){.bus = {.slice = 2}});
        mem_fail_at(++k);
        unsigned open = session();
        mem_fail_at(0);
        failed = mem_pool_stats(w->pool).failed;
        if (!failed) assert_int_equal(open, 4);
        for (unsigned i = 0; i < 4; i++) fake_drop(&subs[i].c);
        fake_turn(w);
        assert_int_equal(join(0, w, "c"), 0); /* and a fresh one is served */
        publish();
        fake_turn(w);
        assert_int_equal(harvest(0), 1);
        end(1);
    } while (failed);
    assert_true(k > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_what_comes_after),
        cmocka_unit_test(test_a_run_and_its_tails),
        cmocka_unit_test(test_too_long_for_a_pass),
        cmocka_unit_test(test_without_its_own),
        cmocka_unit_test(test_leaving_in_every_order),
        cmocka_unit_test(test_leaving_beside_newcomers_and_publications),
        cmocka_unit_test(test_churn),
        cmocka_unit_test(test_closed_while_served),
        cmocka_unit_test(test_drop_policies),
        cmocka_unit_test(test_mailbox_bound),
        cmocka_unit_test(test_lost_twice),
        cmocka_unit_test(test_orphan),
        cmocka_unit_test(test_last_holder_ends_it),
        cmocka_unit_test(test_used),
        cmocka_unit_test(test_ends_in_flight),
        cmocka_unit_test(test_channels_max),
        cmocka_unit_test(test_many_channels),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
