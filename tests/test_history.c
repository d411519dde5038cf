/* Histories of channels (protocol.md 6.3): recovery, time, history_remove, the budget for all,
 * names that are only read. */
/* link: -Wl,--wrap=malloc */
#include "engine.h"

#include "../ops.h"
#include "../pubsub/shared.h"

#define FEW 16
#define NAMES (SLOW ? 50000u : 1000000u)
#define SECOND 1000
#define LIST_MS (10 * SECOND)
#define META_MS (100 * SECOND)

static struct worker *w;

/* A stream's ring is malloc's and grows once in a while, by whatever worker publishes; so is a
 * shard's wheel. */
static bool fail_next;
void *__real_malloc(size_t size); /* NOLINT(bugprone-reserved-identifier) */
void *__wrap_malloc(size_t size); /* NOLINT(bugprone-reserved-identifier) */
void *__wrap_malloc(size_t size)  /* NOLINT(bugprone-reserved-identifier) */
{
    const bool fails = fail_next;
    fail_next = false;
    return fails ? NULL : __real_malloc(size);
}

static void begin(uint32_t size, int64_t history_max_bytes)
{
    engine_open(&(struct engine_options){
        .channel = {.history_size = size,
                    .history_ttl_ms = LIST_MS,
                    .history_meta_ttl_ms = META_MS},
        .bus = {.channels_max = 100000, .history_max_bytes = history_max_bytes}});
    w = engine.server.workers[0];
}

static void end(void)
{
    fake_turn(w);
    engine_close();
    assert_int_equal(atomic_load(&bus.history_bytes), 0);
}

/* publish lets go of the channel behind each publication, as the HTTP API does. */
static struct pubsub_position publish(const char *name, const char *json)
{
    struct pubsub_position at;
    struct channel *ch = pubsub_channel(w, name, strlen(name));
    struct message m = {.payload = {json, strlen(json)}, .publisher = PUBSUB_NOBODY};
    assert_non_null(ch);
    assert_int_equal(ops_publish(w, ch, &m, &at), 0);
    pubsub_channel_unref(ch);
    return at;
}

static void publish_n(const char *name, unsigned n)
{
    while (n--) publish(name, "1");
}

/* ask reads a history and checks that exactly the offsets from first to last (or down to it) are
 * answered; first 0: none. */
static struct pubsub_position ask(const char *name, struct pubsub_history h, uint64_t first,
                                  uint64_t last)
{
    struct publication *found[FEW];
    struct channel *ch = pubsub_channel(w, name, strlen(name));
    assert_non_null(ch);
    h.found = found;
    pubsub_history(w, ch, &h);
    uint64_t count = !first ? 0 : (last > first ? last - first : first - last) + 1;
    assert_int_equal(h.count, count);
    for (uint32_t i = 0; i < h.count; i++) {
        assert_int_equal(found[i]->offset, last > first ? first + i : first - i);
        pubsub_publication_unref(found[i]);
    }
    pubsub_channel_unref(ch);
    return h.top;
}

static struct pubsub_position position(const char *name)
{
    return ask(name, (struct pubsub_history){0}, 0, 0);
}

static void remove_history(const char *name)
{
    struct channel *ch = pubsub_channel(w, name, strlen(name));
    assert_non_null(ch);
    pubsub_history_remove(ch);
    pubsub_channel_unref(ch);
}

static bool same_epoch(struct pubsub_position a, struct pubsub_position b)
{
    return memcmp(a.epoch, b.epoch, sizeof a.epoch) == 0;
}

/* ---- recovery ---- */

/* subscribe recovers as a client would, and leaves again. */
static struct pubsub_recovery subscribe(const char *name, struct pubsub_recovery r)
{
    struct publication *missed[FEW];
    struct conn c;
    struct subscription s = {.conn = &c, .flags = SUBSCRIPTION_POSITIONED};
    fake_open(&c, w, 1);
    struct local *l = pubsub_attach(w, name, strlen(name));
    assert_non_null(l);
    assert_true(r.max <= FEW);
    r.missed = missed;
    assert_int_equal(pubsub_subscribe_client(&s, l, &r), 0);
    for (uint32_t i = 0; i < r.count; i++) {
        assert_int_equal(missed[i]->offset, r.top.offset - r.count + 1 + i);
        pubsub_publication_unref(missed[i]);
    }
    pubsub_unsubscribe_client(&s);
    fake_drop(&c);
    w->dirty.count = w->closed.count = 0; /* c is on them, and ends here */
    return r;
}

enum which_epoch { MINE, ANOTHER, ANY };

/* A history of five, of which `published` were made and the list may have been removed behind them.
 */
static const struct recovery_case {
    const char *what;
    unsigned published;
    bool removed;
    bool cache;
    enum which_epoch epoch;
    uint64_t offset;
    uint32_t max;
    bool recovered;
    uint32_t count;
} recovery_cases[] = {
    {"nothing was published", 0, false, false, MINE, 0, FEW, true, 0},
    {"nothing was published, any epoch", 0, false, false, ANY, 0, FEW, true, 0},
    {"nothing was published, another epoch", 0, false, false, ANOTHER, 0, FEW, false, 0},
    {"ahead of an empty stream", 0, false, false, MINE, 1, FEW, false, 0},
    {"at the top", 3, false, false, MINE, 3, FEW, true, 0},
    {"one is missing", 3, false, false, MINE, 2, FEW, true, 1},
    {"all are missing", 3, false, false, MINE, 0, FEW, true, 3},
    {"from the start, any epoch", 3, false, false, ANY, 0, FEW, true, 3},
    {"ahead of the top", 3, false, false, MINE, 4, FEW, false, 0},
    {"far ahead of the top", 3, false, false, MINE, UINT64_MAX, FEW, false, 0},
    {"another epoch, at the top", 3, false, false, ANOTHER, 3, FEW, false, 0},
    {"another epoch, one is missing", 3, false, false, ANOTHER, 2, FEW, false, 0},
    {"just as many as are kept", 9, false, false, MINE, 4, FEW, true, 5},
    {"one more than is kept", 9, false, false, MINE, 3, FEW, false, 0},
    {"from the start, not all are kept", 9, false, false, ANY, 0, FEW, false, 0},
    {"just the limit", 4, false, false, MINE, 1, 3, true, 3},
    {"one more than the limit", 4, false, false, MINE, 0, 3, false, 0},
    {"no limit left, none is missing", 4, false, false, MINE, 4, 0, true, 0},
    {"no limit left, one is missing", 4, false, false, MINE, 3, 0, false, 0},
    {"removed, at the top", 4, true, false, MINE, 4, FEW, true, 0},
    {"removed, one is missing", 4, true, false, MINE, 3, FEW, false, 0},
    {"removed, another epoch", 4, true, false, ANOTHER, 4, FEW, false, 0},

    {"cache: nothing was published", 0, false, true, MINE, 0, FEW, true, 0},
    {"cache: has the newest", 3, false, true, MINE, 3, FEW, true, 0},
    {"cache: has an older one", 3, false, true, MINE, 1, FEW, true, 1},
    {"cache: has none", 3, false, true, ANY, 0, FEW, true, 1},
    {"cache: what it has is not kept", 9, false, true, MINE, 1, FEW, true, 1},
    {"cache: another epoch, same offset", 3, false, true, ANOTHER, 3, FEW, true, 1},
    {"cache: removed, has the newest", 3, true, true, MINE, 3, FEW, true, 0},
    {"cache: removed, has an older one", 3, true, true, MINE, 2, FEW, false, 0},
    {"cache: removed, another epoch", 3, true, true, ANOTHER, 3, FEW, false, 0},
};

static void test_recovery(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof recovery_cases / sizeof *recovery_cases; i++) {
        const struct recovery_case *t = &recovery_cases[i];
        begin(5, 0);
        struct local *hold =
            pubsub_attach(w, "c", 1); /* so that "mine" lasts where nothing was published */
        publish_n("c", t->published);
        if (t->removed) remove_history("c");
        struct pubsub_recovery r = {.wanted = true,
                                    .cache = t->cache,
                                    .any_epoch = t->epoch == ANY,
                                    .offset = t->offset,
                                    .max = t->max};
        struct pubsub_position top = position("c");
        memcpy(r.epoch, top.epoch, sizeof r.epoch);
        if (t->epoch == ANOTHER) r.epoch[0] ^= 1;
        r = subscribe("c", r);
        if (r.recovered != t->recovered || r.count != t->count)
            fail_msg("%s: recovered %d with %u", t->what, r.recovered, r.count);
        assert_int_equal(r.top.offset, t->published);
        assert_true(same_epoch(r.top, top));
        r = subscribe("c",
                      (struct pubsub_recovery){.max = FEW}); /* not asked for: a position alone */
        assert_false(r.recovered);
        assert_int_equal(r.count, 0);
        assert_int_equal(r.top.offset, t->published);
        pubsub_detach(hold);
        end();
    }
}

/* ---- reading ---- */

static void test_reading(void **state)
{
    (void)state;
    static const struct {
        struct pubsub_history h;
        uint64_t first, last; /* of 5 to 9 */
    } cases[] = {
        {{.max = FEW}, 5, 9},
        {{.max = 2}, 5, 6},
        {{.max = 0}, 0, 0},
        {{.max = FEW, .has_since = true, .since = 0}, 5, 9},
        {{.max = FEW, .has_since = true, .since = 4}, 5, 9},
        {{.max = FEW, .has_since = true, .since = 5}, 6, 9},
        {{.max = 2, .has_since = true, .since = 5}, 6, 7},
        {{.max = FEW, .has_since = true, .since = 8}, 9, 9},
        {{.max = FEW, .has_since = true, .since = 9}, 0, 0},
        {{.max = FEW, .has_since = true, .since = 10}, 0, 0},
        {{.max = FEW, .has_since = true, .since = UINT64_MAX}, 0, 0},
        {{.max = FEW, .reverse = true}, 9, 5},
        {{.max = 2, .reverse = true}, 9, 8},
        {{.max = FEW, .reverse = true, .has_since = true, .since = 9}, 8, 5},
        {{.max = 2, .reverse = true, .has_since = true, .since = 8}, 7, 6},
        {{.max = FEW, .reverse = true, .has_since = true, .since = 6}, 5, 5},
        {{.max = FEW, .reverse = true, .has_since = true, .since = 5}, 0, 0},
        {{.max = FEW, .reverse = true, .has_since = true, .since = 0}, 0, 0},
    };
    begin(5, 0);
    publish_n("c", 9);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pubsub_position top = ask("c", cases[i].h, cases[i].first, cases[i].last);
        assert_int_equal(top.offset, 9);
    }
    end();
}

static void test_skip_history(void **state)
{
    (void)state;
    begin(5, 0);
    publish_n("c", 2);
    struct channel *ch = pubsub_channel(w, "c", 1);
    struct message m = {
        .payload = {"1", 1}, .publisher = PUBSUB_NOBODY, .terms.skip_history = true};
    assert_int_equal(ops_publish(w, ch, &m, NULL), 0);
    pubsub_channel_unref(ch);
    assert_int_equal(ask("c", (struct pubsub_history){.max = FEW}, 1, 2).offset, 2);
    assert_int_equal(publish("c", "1").offset, 3);
    end();
}

/* ---- versions ---- */

static const struct version_step { /* one channel's publications, one after the other */
    uint64_t version;
    const char *epoch; /* "": none given */
    bool skip_history;
    bool published;
} version_steps[] = {
    {7, "", false, true},           {7, "", false, false},
    {6, "", false, false},          {8, "", false, true},
    {0, "", false, true},  /* has none: always */
    {8, "", false, false}, /* and changes nothing */
    {1, "a", false, true}, /* another epoch begins anew, */
    {1, "a", false, false},         {2, "a", false, true},
    {2, "", false, false}, /* and none given is the same */
    {1, "b", false, true},          {2, "a", false, true},
    {UINT64_MAX, "a", false, true}, {UINT64_MAX, "a", false, false},
    {5, "a", true, true}, /* not for the history: its version does not count */
    {3, "", false, false},
};

static void test_versions(void **state)
{
    (void)state;
    uint64_t top = 0, outdated = 0;
    begin(FEW, 0);
    struct channel *ch = pubsub_channel(w, "c", 1);
    for (size_t i = 0; i < sizeof version_steps / sizeof *version_steps; i++) {
        const struct version_step *t = &version_steps[i];
        struct message m = {.payload = {"1", 1},
                            .publisher = PUBSUB_NOBODY,
                            .terms = {t->skip_history, t->version,
                                      pubsub_version_epoch(t->epoch, strlen(t->epoch))}};
        struct pubsub_position at = {0};
        const uint64_t before = engine_metric(METRIC_PUBLISHED);
        assert_int_equal(ops_publish(w, ch, &m, &at), 0);
        top += t->published && !t->skip_history;
        outdated += !t->published;
        if (engine_metric(METRIC_PUBLISHED) - before != t->published || at.offset != top)
            fail_msg("step %zu: offset %llu, due was %llu", i, (unsigned long long)at.offset,
                     (unsigned long long)top);
        assert_memory_equal(at.epoch, ch->epoch, sizeof at.epoch);
    }
    assert_int_equal(engine_metric(METRIC_OUTDATED), outdated);
    pubsub_channel_unref(ch);
    end();
}

/* A version lasts as long as its stream's epoch and offset. */
static void test_version_ends_with_its_stream(void **state)
{
    (void)state;
    struct message m = {.payload = {"1", 1}, .publisher = PUBSUB_NOBODY, .terms = {.version = 9}};
    struct pubsub_position at;
    begin(5, 0);
    struct channel *ch = pubsub_channel(w, "c", 1);
    assert_int_equal(ops_publish(w, ch, &m, &at), 0);
    w->now_ms += META_MS - 1;
    pubsub_history_remove(ch);
    assert_int_equal(ops_publish(w, ch, &m, &at), 0);
    assert_int_equal(at.offset, 1);
    assert_int_equal(engine_metric(METRIC_OUTDATED), 1);
    w->now_ms += 1;
    assert_int_equal(ops_publish(w, ch, &m, &at), 0);
    assert_int_equal(at.offset, 1);
    assert_int_equal(engine_metric(METRIC_OUTDATED), 1);
    assert_int_equal(engine_metric(METRIC_PUBLISHED), 2);
    pubsub_channel_unref(ch);
    end();
}

/* ---- time ---- */

static void test_list_ttl(void **state)
{
    (void)state;
    begin(5, 0);
    publish_n("c", 2);
    w->now_ms += LIST_MS - 1;
    struct pubsub_position before = publish("c", "1"); /* arms it again */
    w->now_ms += LIST_MS - 1;
    ask("c", (struct pubsub_history){.max = FEW}, 1, 3);
    w->now_ms += 1;
    struct pubsub_position after = ask("c", (struct pubsub_history){.max = FEW}, 0, 0);
    assert_int_equal(after.offset, 3);
    assert_true(same_epoch(before, after));
    assert_int_equal(publish("c", "1").offset, 4);
    ask("c", (struct pubsub_history){.max = FEW}, 4, 4);
    end();
}

static void test_meta_ttl(void **state)
{
    (void)state;
    begin(5, 0);
    struct pubsub_position first = publish("c", "1");
    w->now_ms += META_MS - 1;
    struct pubsub_position read = position("c"); /* a use: lasts longer by it */
    w->now_ms += META_MS - 1;
    assert_int_equal(publish("c", "1").offset, 2);
    assert_true(same_epoch(first, read) && same_epoch(first, position("c")));
    w->now_ms += META_MS;
    struct pubsub_position later = position("c");
    assert_int_equal(later.offset, 0);
    assert_false(same_epoch(first, later));
    later = publish("c", "1");
    assert_int_equal(later.offset, 1);
    assert_false(same_epoch(first, later));
    struct pubsub_recovery r = {.wanted = true, .max = FEW, .offset = 2};
    memcpy(r.epoch, first.epoch, sizeof r.epoch);
    assert_false(subscribe("c", r).recovered);
    end();
}

static void test_history_remove(void **state)
{
    (void)state;
    begin(5, 0);
    publish_n("c", 2);
    struct pubsub_position before = publish("c", "1");
    remove_history("c"); /* nobody holds it any more: offset and epoch stay all the same */
    fake_turn(w);
    assert_int_equal(atomic_load(&bus.history_bytes), 0);
    assert_int_equal(pubsub_channel_count(), 1);
    struct pubsub_position after = ask("c", (struct pubsub_history){.max = FEW}, 0, 0);
    assert_int_equal(after.offset, 3);
    assert_true(same_epoch(before, after));
    remove_history("c");
    after = publish("c", "1");
    assert_int_equal(after.offset, 4);
    assert_true(same_epoch(before, after));
    remove_history("unknown");
    assert_int_equal(pubsub_channel_count(), 1);
    end();
}

/* What ends under the lock is freed behind it, since others wait for the lock. */
static void test_freed_behind_the_lock(void **state)
{
    (void)state;
    begin(FEW, 0);
    publish_n("c", FEW);
    const int64_t bytes = atomic_load(&bus.history_bytes);
    w->now_ms += LIST_MS;
    struct channel *ch = channel_lock(w, "c", 1, false);
    history_touch(ch, w->now_ms);
    assert_int_equal(ch->stream.count, 0);
    assert_null(ch->stream.ring);
    assert_int_equal(atomic_load(&bus.history_bytes), bytes);
    channel_unlock(ch);
    assert_int_equal(atomic_load(&bus.history_bytes), 0);
    assert_null(shard_of(ch)->gone.ring);
    end();
}

/* ---- the budget ---- */

enum { STREAMS = 2000 };

static const char *stream_name(unsigned i)
{
    static char name[16];
    snprintf(name, sizeof name, "s%04u", i);
    return name;
}

/* kept says how many publications a stream has, without using it. */
static uint32_t kept(const char *name)
{
    struct channel *ch = pubsub_channel(w, name, strlen(name));
    uint32_t n = ch->stream.count;
    pubsub_channel_unref(ch);
    return n;
}

/* More publications than the budget allows: those of the streams that were used last stay, wherever
 * they lie. All streams keep epoch and offset. */
static void test_budget(void **state)
{
    (void)state;
    enum { BUDGET = 512 * 1024 };
    static struct pubsub_position at[STREAMS];
    static char big[1024];
    int64_t cost = 0;
    memset(big, '7', sizeof big - 1);
    begin(5, BUDGET);
    for (unsigned i = 0; i < STREAMS; i++, w->now_ms++) {
        at[i] = publish(stream_name(i), big);
        if (i == 0) cost = atomic_load(&bus.history_bytes);
        if (i % 10 == 9) position(stream_name(0)); /* in use */
        assert_true(atomic_load(&bus.history_bytes) <= BUDGET);
    }
    assert_int_equal(kept(stream_name(0)), 1);
    const unsigned room = (unsigned)(BUDGET / cost) - 1; /* beside that one */
    assert_in_range(room, 100, STREAMS / 2);
    for (unsigned i = 1; i < STREAMS; i++)
        assert_int_equal(kept(stream_name(i)), i >= STREAMS - room);
    assert_int_equal(engine_metric(METRIC_HISTORY_EVICTED), STREAMS - 1 - room);
    for (unsigned i = 0; i < STREAMS; i++) {
        struct pubsub_position now = position(stream_name(i));
        assert_true(same_epoch(at[i], now));
        assert_int_equal(now.offset, 1);
    }
    end();
}

/* A busy channel has all of its history for as long as there is something older, in whatever
 * shard; and then they lose their oldest in turn. */
static void test_budget_is_fair(void **state)
{
    (void)state;
    enum { SIZE = 100, BUDGET = 512 * 1024 };
    static char big[1024];
    memset(big, '7', sizeof big - 1);
    begin(SIZE, BUDGET);
    for (unsigned i = 0; i < STREAMS; i++, w->now_ms++) publish(stream_name(i), big);
    for (unsigned i = 0; i < SIZE; i++, w->now_ms++) publish("busy", big);
    assert_int_equal(kept("busy"), SIZE);
    for (unsigned i = 0; i < 10 * SIZE; i++, w->now_ms++) {
        char name[2] = {(char)('a' + i % 10)};
        publish(name, big);
    }
    assert_int_equal(kept("busy"), 0);
    uint32_t least = UINT32_MAX, most = 0;
    for (unsigned i = 0; i < 10; i++) {
        char name[2] = {(char)('a' + i % 10)};
        if (kept(name) < least) least = kept(name);
        if (kept(name) > most) most = kept(name);
    }
    assert_in_range(most - least, 0, 1);
    assert_in_range(least, 10, SIZE - 10); /* all of it is too much */
    end();
}

/* One channel alone is kept within it as well, and always keeps its newest publication. */
static void test_budget_of_one(void **state)
{
    (void)state;
    static char big[1024];
    memset(big, '7', sizeof big - 1);
    begin(FEW, 4096);
    struct pubsub_position first = publish("c", big), last = first;
    for (unsigned i = 0; i < 30; i++) last = publish("c", big);
    assert_int_equal(last.offset, 31);
    assert_true(same_epoch(first, last));
    assert_true(atomic_load(&bus.history_bytes) <= 4096);
    struct channel *ch = pubsub_channel(w, "c", 1);
    assert_in_range(ch->stream.count, 1, 3);
    pubsub_channel_unref(ch);
    engine.bus.history_max_bytes = 1;
    last = publish("c", big);
    ask("c", (struct pubsub_history){.max = FEW}, last.offset, last.offset);
    end();
}

/* ---- positions ---- */

static void never_missed(struct subscription *s)
{
    (void)s;
    fail_msg("nothing was missed");
}

/* What must go goes from the publications: who was told a position can go on from it, whatever
 * happens, for as long as it is subscribed and META_MS longer. The subscriber is on another worker
 * than those who publish. */
static void test_positions_last(void **state)
{
    (void)state;
    struct conn c;
    struct subscription s = {.conn = &c, .flags = SUBSCRIPTION_POSITIONED};
    struct pubsub_recovery r = {.max = 0};
    engine_open(&(struct engine_options){
        .workers = 2,
        .channel = {.history_size = 5, .history_ttl_ms = LIST_MS, .history_meta_ttl_ms = META_MS},
        .bus = {.missed = never_missed}});
    w = engine.server.workers[0];
    struct worker *other = engine.server.workers[1];
    publish_n("c", 2);
    fake_open(&c, other, 1);
    struct local *l = pubsub_attach(other, "c", 1);
    assert_int_equal(pubsub_subscribe_client(&s, l, &r), 0);
    assert_int_equal(r.top.offset, 2);
    engine.bus.history_max_bytes = 1; /* the budget */
    publish("d", "1");
    assert_int_equal(kept("c"), 0);
    w->now_ms += 10 * META_MS; /* time */
    assert_int_equal(position("d").offset, 0);
    assert_true(same_epoch(position("c"), r.top));
    engine.bus.channels_max = 2; /* new channels */
    for (unsigned i = 0; i < 100; i++) {
        struct channel *ch = pubsub_channel(w, stream_name(i), strlen(stream_name(i)));
        struct message m = {.payload = {"1", 1}, .publisher = PUBSUB_NOBODY};
        if (ch) assert_int_equal(ops_publish(w, ch, &m, NULL), 0);
        pubsub_channel_unref(ch);
    }
    assert_true(pubsub_channel_count() <= 2);
    struct pubsub_position third = publish("c", "\"third\"");
    assert_int_equal(third.offset, 3);
    assert_true(same_epoch(third, r.top));
    other->now_ms = w->now_ms;
    fake_turn(other);
    assert_int_equal(c.out->count, 1);
    const struct frame *f = c.out->entries[0].frame;
    assert_non_null(memmem(f->bytes, f->len, ",\"offset\":3", 11));
    w->now_ms = other->now_ms += 10 * META_MS;
    pubsub_unsubscribe_client(&s);
    fake_drop(&c);
    other->dirty.count = other->closed.count = 0;
    w->now_ms += META_MS - 1;
    assert_true(same_epoch(position("c"), r.top));
    w->now_ms += META_MS;
    assert_false(same_epoch(position("c"), r.top));
    end();
}

/* ---- what nobody uses ends by itself ---- */

/* sweep lets turns pass for as long as there is something to do at once; returns how many it took.
 */
static unsigned sweep(struct worker *on)
{
    unsigned turns = 0;
    while (pubsub_idle_ms(on) == 0) {
        pubsub_posts(on, NULL);
        mem_pool_reclaim(on->pool);
        assert_true(++turns < 100000);
    }
    return turns;
}

static bool is_asleep(const struct worker *on) /* no stream wakes it */
{
    return pubsub_idle_ms(on) == INT_MAX;
}

/* Publications go within a second of their time, and the channels of the names, without any use of
 * them; then no turn is needed any more. */
static void test_sweep(void **state)
{
    (void)state;
    begin(5, 0);
    const uint64_t used = mem_pool_stats(w->pool).used_bytes;
    assert_true(is_asleep(w));
    for (unsigned i = 0; i < STREAMS; i++) publish(stream_name(i), "1");
    const int64_t bytes = atomic_load(&bus.history_bytes);
    assert_in_range(pubsub_idle_ms(w), LIST_MS - SECOND, LIST_MS + SECOND);
    w->now_ms += LIST_MS - 1;
    sweep(w);
    assert_int_equal(atomic_load(&bus.history_bytes), bytes);
    assert_in_range(pubsub_idle_ms(w), 1, SECOND);
    w->now_ms += SECOND;
    pubsub_posts(w, NULL);
    const int64_t gone = STREAMS - atomic_load(&bus.history_bytes) * STREAMS / bytes;
    assert_in_range(gone, 1024, 1024 + 32); /* 2048 steps a turn, two a stream, a shard's 32 more */
    assert_in_range(sweep(w), 1, STREAMS / 2);
    assert_int_equal(atomic_load(&bus.history_bytes), 0);
    assert_int_equal(pubsub_channel_count(), STREAMS); /* epochs and offsets */
    w->now_ms += META_MS - LIST_MS - SECOND;
    sweep(w);
    assert_int_equal(pubsub_channel_count(), STREAMS);
    w->now_ms += SECOND;
    sweep(w);
    assert_int_equal(pubsub_channel_count(), 0);
    assert_int_equal(mem_pool_stats(w->pool).used_bytes, used);
    assert_true(is_asleep(w));
    end();
}

/* What is used lasts on: publications arm the list again, readers and positioned subscribers the
 * rest. */
static void test_sweep_spares_what_is_used(void **state)
{
    (void)state;
    struct conn c;
    struct subscription s = {.conn = &c, .flags = SUBSCRIPTION_POSITIONED};
    struct pubsub_recovery r = {.max = 0};
    begin(FEW, 0);
    publish("read", "1");
    publish("subscribed", "1");
    fake_open(&c, w, 1);
    assert_int_equal(pubsub_subscribe_client(&s, pubsub_attach(w, "subscribed", 10), &r), 0);
    for (unsigned i = 0; i < 5; i++) {
        publish("busy", "1");
        w->now_ms += LIST_MS - 1;
        sweep(w);
        assert_int_equal(kept("busy"), i + 1);
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(position("read").offset, 1);
        w->now_ms += META_MS - SECOND;
        sweep(w);
    }
    assert_int_equal(pubsub_channel_count(), 2);
    assert_int_equal(kept("read") + kept("subscribed"), 0);
    pubsub_unsubscribe_client(&s);
    fake_drop(&c);
    w->dirty.count = w->closed.count = 0;
    w->now_ms += META_MS - SECOND;
    sweep(w);
    assert_true(same_epoch(position("subscribed"), r.top));
    w->now_ms += META_MS + SECOND;
    sweep(w);
    assert_int_equal(pubsub_channel_count(), 0);
    assert_true(is_asleep(w));
    end();
}

/* A long history goes some publications a turn. A reader meanwhile sees none of it, and what is
 * left of it goes at once; who publishes as well. Turns alone take many for the third. */
static void test_sweep_of_a_long_one(void **state)
{
    (void)state;
    enum { LONG = 3000 };
    begin(LONG, 0);
    publish_n("long", LONG);
    publish_n("other", LONG);
    publish_n("third", LONG);
    const int64_t bytes = atomic_load(&bus.history_bytes);
    w->now_ms += LIST_MS + SECOND;
    pubsub_posts(w, NULL);
    assert_in_range(atomic_load(&bus.history_bytes), bytes * 3 / 4 + 1, bytes - 1);
    assert_int_equal(pubsub_idle_ms(w), 0);
    assert_int_equal(ask("long", (struct pubsub_history){.max = FEW}, 0, 0).offset, LONG);
    assert_int_equal(kept("long"), 0);
    publish("other", "1"); /* it is alive again, with its new publication alone */
    ask("other", (struct pubsub_history){.max = FEW}, LONG + 1, LONG + 1);
    assert_int_equal(kept("other"), 1);
    assert_in_range(kept("third"), LONG - 2048, LONG);
    assert_in_range(sweep(w), 2, LONG);
    assert_int_equal(kept("third"), 0);
    assert_int_equal(kept("other"), 1);
    w->now_ms += LIST_MS + META_MS;
    sweep(w);
    assert_int_equal(pubsub_channel_count(), 0);
    end();
}

/* More than the wheel looks ahead: the timer fires before its time, and is armed again. */
static void test_sweep_of_what_lasts_for_ages(void **state)
{
    (void)state;
    const int64_t year_ms = INT64_C(365) * 24 * 3600 * SECOND;
    engine_open(&(struct engine_options){.channel = {.history_size = 5,
                                                     .history_ttl_ms = 100 * year_ms,
                                                     .history_meta_ttl_ms = 130 * year_ms}});
    w = engine.server.workers[0];
    publish("c", "1");
    for (unsigned i = 0; i < 9; i++) {
        assert_int_equal(pubsub_idle_ms(w), INT_MAX);
        assert_int_equal(kept("c"), 1);
        w->now_ms += 11 * year_ms;
        sweep(w);
    }
    w->now_ms += year_ms + SECOND;
    sweep(w);
    assert_int_equal(kept("c"), 0);
    w->now_ms += 30 * year_ms + SECOND;
    sweep(w);
    assert_int_equal(pubsub_channel_count(), 0);
    end();
}

/* The worker that made a stream last sees to it; the others sleep. */
static void test_sweep_by_who_published(void **state)
{
    (void)state;
    engine_open(&(struct engine_options){
        .workers = 2,
        .channel = {.history_size = 5, .history_ttl_ms = LIST_MS, .history_meta_ttl_ms = META_MS}});
    struct worker *first = engine.server.workers[0], *second = engine.server.workers[1];
    second->now_ms = first->now_ms;
    w = first;
    publish("c", "1");
    assert_true(is_asleep(second));
    first->now_ms += LIST_MS + SECOND;
    sweep(first);
    w = second;
    second->now_ms = first->now_ms;
    publish("c", "1");
    second->now_ms += LIST_MS + SECOND;
    sweep(second); /* the other one has other things to do */
    second->now_ms += META_MS;
    sweep(second);
    assert_int_equal(pubsub_channel_count(), 0);
    assert_true(is_asleep(second));
    first->now_ms = second->now_ms;
    sweep(first);
    assert_true(is_asleep(first));
    end();
}

/* ---- names that nobody publishes to ---- */

static void test_only_read(void **state)
{
    (void)state;
    begin(5, 0);
    struct pubsub_position empty = position("n1");
    publish("other", "1");
    uint64_t used = mem_pool_stats(w->pool).used_bytes, reserved = 0;
    for (unsigned i = 0; i < NAMES; i++) {
        char name[24];
        struct publication *missed[1];
        int len = snprintf(name, sizeof name, "n%u", i);
        struct channel *ch = pubsub_channel(w, name, (size_t)len);
        struct pubsub_history h = {.max = 1, .found = missed};
        assert_non_null(ch);
        pubsub_history(w, ch, &h);
        assert_int_equal(h.top.offset + h.count, 0);
        pubsub_channel_unref(ch);
        if (i % 8 == 0)
            assert_int_equal(subscribe(name, (struct pubsub_recovery){.max = 1}).top.offset, 0);
        if (i == 1000) reserved = mem_pool_stats(w->pool).used_bytes;
    }
    assert_int_equal(reserved, used);
    assert_int_equal(mem_pool_stats(w->pool).used_bytes, used);
    assert_int_equal(pubsub_channel_count(), 1);
    /* and who was told a position of one of them can go on from there */
    struct pubsub_recovery r = {.wanted = true, .max = FEW};
    memcpy(r.epoch, empty.epoch, sizeof r.epoch);
    publish("n1", "1");
    r = subscribe("n1", r);
    assert_true(r.recovered);
    assert_int_equal(r.count, 1);
    end();
}

/* As many again at once, all held: no more than channels_max. */
static void test_names_at_once(void **state)
{
    (void)state;
    engine_open(&(struct engine_options){
        .channel = {.history_size = 5, .history_ttl_ms = LIST_MS, .history_meta_ttl_ms = META_MS},
        .bus = {.channels_max = 10}});
    w = engine.server.workers[0];
    struct channel *held[10];
    for (unsigned i = 0; i < 10; i++) {
        char name[2] = {(char)('a' + i)};
        held[i] = pubsub_channel(w, name, 1);
        assert_non_null(held[i]);
    }
    errno = 0;
    assert_null(pubsub_channel(w, "z", 1));
    assert_int_equal(errno, ENOSPC);
    for (unsigned i = 0; i < 10; i++) pubsub_channel_unref(held[i]);
    assert_int_equal(pubsub_channel_count(), 0);
    end();
}

/* Streams that nobody uses make way for new channels, the least recently used first; those that
 * are held do not. */
static void test_streams_make_way(void **state)
{
    (void)state;
    engine_open(&(struct engine_options){
        .channel = {.history_size = 5, .history_ttl_ms = LIST_MS, .history_meta_ttl_ms = META_MS},
        .bus = {.channels_max = 200, .history_max_bytes = 1 << 30}});
    bus.key = (struct hash_key){1, 2}; /* by chance 200 would be refused now and then */
    w = engine.server.workers[0];
    struct pubsub_position first = publish("first", "1");
    struct channel *held = pubsub_channel(w, "first", 5);
    assert_non_null(held);
    unsigned refused = 0;
    for (unsigned i = 0; i < 2000; i++) {
        char name[8];
        snprintf(name, sizeof name, "%u", i);
        struct message m = {.payload = {"1", 1}, .publisher = PUBSUB_NOBODY};
        struct channel *ch = pubsub_channel(w, name, strlen(name));
        refused += !ch; /* a shard that has no stream yet when all places are taken */
        if (ch) assert_int_equal(ops_publish(w, ch, &m, NULL), 0);
        pubsub_channel_unref(ch);
        assert_true(pubsub_channel_count() <= 200);
    }
    assert_true(refused < 200);
    struct pubsub_position still = publish("first", "2");
    assert_int_equal(still.offset, 2);
    assert_memory_equal(still.epoch, first.epoch, sizeof first.epoch);
    pubsub_channel_unref(held);
    end();
}

/* ---- memory runs out ---- */

/* What can not be kept is not sent either: a recovery would say that nothing was missed. */
static void fail_to_publish(unsigned before)
{
    begin(20, 1 << 20);
    publish_n("c", before);
    struct channel *ch = pubsub_channel(w, "c", 1);
    struct message m = {.payload = {"1", 1}, .publisher = PUBSUB_NOBODY};
    fail_next = true;
    assert_int_equal(ops_publish(w, ch, &m, NULL), -1);
    assert_false(fail_next);
    pubsub_channel_unref(ch);
    assert_int_equal(position("c").offset, before);
    assert_int_equal(publish("c", "1").offset, before + 1);
    ask("c", (struct pubsub_history){.max = FEW}, 1, before + 1);
    end();
}

static void test_no_wheel(void **state)
{
    (void)state;
    fail_to_publish(0); /* the shard's first stream */
}

static void test_ring_can_not_grow(void **state)
{
    (void)state;
    fail_to_publish(8); /* the ring's first size */
}

static void test_out_of_memory(void **state)
{
    (void)state;
    uint64_t k = 0, failed;
    do {
        uint64_t good = 0;
        begin(5, 0);
        mem_fail_at(++k);
        struct channel *ch = pubsub_channel(w, "c", 1);
        struct message m = {.payload = {"1", 1}, .publisher = PUBSUB_NOBODY};
        for (unsigned i = 0; ch && i < 3; i++) good += ops_publish(w, ch, &m, NULL) == 0;
        pubsub_channel_unref(ch);
        mem_fail_at(0);
        failed = mem_pool_stats(w->pool).failed;
        assert_int_equal(position("c").offset, good);
        assert_int_equal(publish("c", "1").offset, good + 1); /* no offset is skipped */
        ask("c", (struct pubsub_history){.max = FEW}, 1, good + 1);
        end();
    } while (failed);
    assert_true(k > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recovery),
        cmocka_unit_test(test_reading),
        cmocka_unit_test(test_skip_history),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_version_ends_with_its_stream),
        cmocka_unit_test(test_list_ttl),
        cmocka_unit_test(test_meta_ttl),
        cmocka_unit_test(test_history_remove),
        cmocka_unit_test(test_freed_behind_the_lock),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_budget_is_fair),
        cmocka_unit_test(test_budget_of_one),
        cmocka_unit_test(test_positions_last),
        cmocka_unit_test(test_sweep),
        cmocka_unit_test(test_sweep_spares_what_is_used),
        cmocka_unit_test(test_sweep_of_a_long_one),
        cmocka_unit_test(test_sweep_of_what_lasts_for_ages),
        cmocka_unit_test(test_sweep_by_who_published),
        cmocka_unit_test(test_only_read),
        cmocka_unit_test(test_names_at_once),
        cmocka_unit_test(test_streams_make_way),
        cmocka_unit_test(test_no_wheel),
        cmocka_unit_test(test_ring_can_not_grow),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
