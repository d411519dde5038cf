/* wheel.h: vectors near the wrap-around of the tick, and a model that is a plain table. */
#include "wheel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t random_state;

static uint32_t random_32(void) /* splitmix64 */
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (uint32_t)(z >> 32);
}

static uint32_t random_below(uint32_t n)
{
    return (uint32_t)((uint64_t)random_32() * n >> 32);
}

static const uint32_t starts[] = {0,
                                  1,
                                  31,
                                  4095,
                                  1u << 30,
                                  INT32_MAX,
                                  1u << 31,
                                  UINT32_MAX - 70000,
                                  UINT32_MAX - 1000,
                                  UINT32_MAX - 1,
                                  UINT32_MAX};
#define STARTS (sizeof starts / sizeof *starts)

static struct wheel wheel; /* 6 KiB; initialised by each test */

static void count(struct wheel_timer *t, void *arg)
{
    assert_false(wheel_armed(t));
    ++*(int *)arg;
}

static void test_zeroed_timer_is_disarmed(void **state)
{
    (void)state;
    struct wheel_timer t = {0};
    wheel_init(&wheel, 5);
    assert_false(wheel_armed(&t));
    wheel_cancel(&wheel, &t);
    assert_false(wheel_armed(&t));
    assert_int_equal(wheel.armed, 0);
    assert_int_equal(wheel_next(&wheel, 5), UINT32_MAX);
    wheel_arm(&wheel, &t, 7);
    assert_true(wheel_armed(&t));
    wheel_cancel(&wheel, &t);
    wheel_cancel(&wheel, &t);
    assert_false(wheel_armed(&t));
    assert_int_equal(wheel.armed, 0);
}

/* Alone in the wheel, at every interesting distance from every interesting start: not at the tick
 * before, at its own tick, whether time goes there in one jump or as wheel_next says. */
static void test_fires_at_its_tick(void **state)
{
    (void)state;
    for (size_t s = 0; s < STARTS; s++) {
        for (unsigned bit = 0; bit < 31; bit++) {
            for (int off = -2; off <= 2; off++) {
                uint32_t ahead = (1u << bit) + (uint32_t)off, deadline = starts[s] + ahead;
                if (!ahead || ahead > INT32_MAX) continue;
                struct wheel_timer t = {0};
                int fired = 0;
                wheel_init(&wheel, starts[s]);
                wheel_arm(&wheel, &t, deadline);
                assert_int_equal(wheel_advance(&wheel, deadline - 1, 0, count, &fired), 0);
                assert_int_equal(wheel_next(&wheel, deadline - 1), 1);
                assert_int_equal(wheel_advance(&wheel, deadline, 0, count, &fired), 1);
                assert_int_equal(wheel_next(&wheel, deadline), UINT32_MAX);

                wheel_arm(&wheel, &t, deadline + ahead);
                uint32_t now = deadline, steps = 0;
                while (fired == 1) {
                    uint32_t next = wheel_next(&wheel, now);
                    assert_in_range(next, 1, deadline + ahead - now);
                    wheel_advance(&wheel, now += next, 0, count, &fired);
                    steps++;
                }
                assert_int_equal(now, deadline + ahead);
                assert_true(steps <= WHEEL_LEVELS + 1);
            }
        }
    }
}

/* A slot's full reach behind the border of every level: what is spread at the border goes to the
 * lower level's slot that is just being emptied, and must not be handed out with it. */
static void test_reach_of_a_slot_behind_a_border(void **state)
{
    (void)state;
    for (unsigned level = 1; level < WHEEL_LEVELS; level++) {
        for (unsigned lower = 0; lower < level; lower++) {
            uint32_t border = 7u << level * WHEEL_BITS, reach = 64u << lower * WHEEL_BITS;
            struct wheel_timer t = {0};
            int fired = 0;
            wheel_init(&wheel, border - (130u << (level - 1) * WHEEL_BITS));
            wheel_arm(&wheel, &t, border + reach);
            wheel_advance(&wheel, border, 0, count, &fired);
            assert_int_equal(wheel_advance(&wheel, border + reach - 1, 0, count, &fired), 0);
            assert_int_equal(wheel_advance(&wheel, border + reach, 0, count, &fired), 1);
            assert_int_equal(fired, 1);
        }
    }
}

static void test_longest_deadline(void **state)
{
    (void)state;
    for (size_t s = 0; s < STARTS; s++) {
        struct wheel_timer t = {0};
        int fired = 0;
        wheel_init(&wheel, starts[s]);
        wheel_arm(&wheel, &t, starts[s] + INT32_MAX);
        wheel_advance(&wheel, starts[s] + INT32_MAX - 1, 0, count, &fired);
        assert_int_equal(fired, 0);
        wheel_advance(&wheel, starts[s] + INT32_MAX, 0, count, &fired);
        assert_int_equal(fired, 1);
    }
}

static void test_past_fires_at_the_next_advance(void **state)
{
    (void)state;
    for (size_t s = 0; s < STARTS; s++) {
        struct wheel_timer t[3] = {0};
        int fired = 0;
        wheel_init(&wheel, starts[s]);
        wheel_arm(&wheel, &t[0], starts[s]);
        wheel_arm(&wheel, &t[1], starts[s] - 1);
        wheel_arm(&wheel, &t[2], starts[s] - INT32_MAX);
        assert_int_equal(wheel_next(&wheel, starts[s]), 0);
        assert_int_equal(wheel_advance(&wheel, starts[s], 0, count, &fired), 3);
        /* A clock that steps back moves nothing. */
        wheel_arm(&wheel, &t[0], starts[s] + 1);
        assert_int_equal(wheel_advance(&wheel, starts[s] - 100, 0, count, &fired), 0);
        assert_int_equal(wheel.now, starts[s]);
        assert_int_equal(wheel_next(&wheel, starts[s] - 100), 1);
    }
}

static void test_max_leaves_the_rest_due(void **state)
{
    (void)state;
    struct wheel_timer t[10] = {0};
    int fired = 0;
    wheel_init(&wheel, UINT32_MAX - 4);
    for (uint32_t i = 0; i < 10; i++) wheel_arm(&wheel, &t[i], UINT32_MAX - 3 + i);
    assert_int_equal(wheel_advance(&wheel, 100, 4, count, &fired), 4);
    assert_true(!wheel_armed(&t[3]) && wheel_armed(&t[4]));
    assert_int_equal(wheel_next(&wheel, 100), 0);
    wheel_cancel(&wheel, &t[4]);
    wheel_arm(&wheel, &t[5], 200);
    assert_int_equal(wheel_advance(&wheel, 100, 2, count, &fired), 2);
    assert_true(!wheel_armed(&t[7]) && wheel_armed(&t[8]));
    assert_int_equal(wheel_advance(&wheel, 101, 0, count, &fired), 2);
    assert_int_equal(wheel.armed, 1);
    assert_int_equal(wheel_advance(&wheel, 200, 1, count, &fired), 1);
    assert_int_equal(fired, 9);
}

static void rearm_itself(struct wheel_timer *t, void *arg)
{
    ++*(int *)arg;
    wheel_arm(&wheel, t, t->kind ? wheel.now + t->kind : wheel.now);
}

static void test_rearms_itself(void **state)
{
    (void)state;
    struct wheel_timer past = {.kind = 0}, next = {.kind = 1}, later = {.kind = 100};
    int fired = 0;
    wheel_init(&wheel, UINT32_MAX - 1);
    wheel_arm(&wheel, &past, wheel.now);
    wheel_arm(&wheel, &next, wheel.now + 1);
    wheel_arm(&wheel, &later, wheel.now + 100);
    for (int i = 1; i <= 200; i++)
        assert_int_equal(wheel_advance(&wheel, wheel.now + 1, 0, rearm_itself, &fired),
                         2 + (i % 100 == 0));
    /* A jump fires each once: what is armed during the pass waits for the next one. */
    assert_int_equal(wheel_advance(&wheel, wheel.now + 1000, 0, rearm_itself, &fired), 3);
    assert_int_equal(wheel.armed, 3);
}

/* The first of three timers due at once cancels the second and moves the third. */
static struct wheel_timer trio[3];

static void meddle(struct wheel_timer *t, void *arg)
{
    ++*(int *)arg;
    assert_ptr_not_equal(t, &trio[1]);
    if (t != &trio[0]) return;
    wheel_cancel(&wheel, &trio[1]);
    wheel_arm(&wheel, &trio[2], wheel.now + 50);
}

static void test_fire_may_cancel_and_move_others(void **state)
{
    (void)state;
    int fired = 0;
    wheel_init(&wheel, UINT32_MAX - 20);
    memset(trio, 0, sizeof trio);
    for (int i = 0; i < 3; i++) wheel_arm(&wheel, &trio[i], 5);
    assert_int_equal(wheel_advance(&wheel, 5, 0, meddle, &fired), 1);
    assert_int_equal(wheel.armed, 1);
    assert_int_equal(wheel_advance(&wheel, 54, 0, meddle, &fired), 0);
    assert_int_equal(wheel_advance(&wheel, 55, 0, meddle, &fired), 1);
}

/* Far more timers in one slot than are spread ahead in an advance; none early, none late. */
static void test_crowd_of_one_slot(void **state)
{
    (void)state;
    enum { CROWD = 200000 };
    struct wheel_timer *crowd = calloc(CROWD, sizeof *crowd);
    uint32_t start = UINT32_MAX - 2000;
    wheel_init(&wheel, start);
    for (uint32_t i = 0; i < CROWD; i++) wheel_arm(&wheel, &crowd[i], start + 3000 + i % 1000);
    int fired = 0;
    for (uint32_t tick = 1; tick < 4000; tick++) {
        uint32_t due = wheel_advance(&wheel, start + tick, 0, count, &fired);
        assert_int_equal(due, tick < 3000 ? 0 : CROWD / 1000);
    }
    assert_int_equal(fired, CROWD);
    free(crowd);
}

static int length(const struct list *l)
{
    int n = 0;
    for (const struct list *node = l->next; node != l; node = node->next) n++;
    return n;
}

/* Looks inside: the slot of level 2 that begins at tick 4,096 (1,024 ticks wide) is emptied before
 * that, at most 1,024 timers an advance, so that no tick has much to do. */
static void test_slot_is_spread_before_it_begins(void **state)
{
    (void)state;
    enum { CROWD = 20000, BATCH = 1024 };
    struct wheel_timer *crowd = calloc(CROWD, sizeof *crowd);
    const struct list *slot = &wheel.slots[2][4];
    int fired = 0, left = CROWD;
    wheel_init(&wheel, 0);
    for (uint32_t i = 0; i < CROWD; i++) wheel_arm(&wheel, &crowd[i], 4096 + i % 1024);
    wheel_advance(&wheel, 3071, 0, count, &fired);
    assert_int_equal(length(slot), CROWD);
    for (uint32_t tick = 3072; left > 0; tick++) {
        wheel_advance(&wheel, tick, 0, count, &fired);
        left = left > BATCH ? left - BATCH : 0;
        assert_int_equal(length(slot), left);
    }
    assert_int_equal(fired, 0);
    wheel_advance(&wheel, 4096 + 1023, 0, count, &fired);
    assert_int_equal(fired, CROWD);
    free(crowd);
}

/* ---- the model: a table of deadlines, searched from end to end ---- */

enum { TIMERS = 300, OPERATIONS = 100000 };

static struct model {
    struct wheel_timer timer[TIMERS];
    bool armed[TIMERS], past[TIMERS]; /* past: was due when it was armed, or left over */
    uint32_t deadline[TIMERS];
    uint32_t now, fired, armed_count;
    uint32_t last; /* deadline of the last one fired in this pass */
    bool firing_past;
} model;

static uint32_t random_deadline(void)
{
    uint32_t shift = 1 + random_below(31), ahead = random_32() >> shift;
    if (random_below(10) == 0) return model.now - ahead;
    return model.now + ahead;
}

static void model_arm(uint32_t i)
{
    uint32_t deadline = random_deadline();
    wheel_arm(&wheel, &model.timer[i], deadline);
    model.armed_count += !model.armed[i];
    model.armed[i] = true;
    model.deadline[i] = deadline;
    model.past[i] = (int32_t)(deadline - model.now) <= 0;
}

static void model_cancel(uint32_t i)
{
    wheel_cancel(&wheel, &model.timer[i]);
    model.armed_count -= model.armed[i];
    model.armed[i] = false;
}

static bool is_due(uint32_t i)
{
    return model.armed[i] && (model.past[i] || (int32_t)(model.deadline[i] - model.now) <= 0);
}

static uint32_t model_due(void)
{
    uint32_t due = 0;
    for (uint32_t i = 0; i < TIMERS; i++) due += is_due(i);
    return due;
}

static void model_fire(struct wheel_timer *t, void *arg)
{
    uint32_t i = (uint32_t)(t - model.timer);
    assert_ptr_equal(arg, &model);
    assert_true(is_due(i));
    if (!model.past[i]) { /* those of the past come first, then tick by tick */
        assert_true(model.firing_past || (int32_t)(model.deadline[i] - model.last) >= 0);
        model.firing_past = false;
        model.last = model.deadline[i];
    } else {
        assert_true(model.firing_past);
    }
    model.armed[i] = false;
    model.armed_count--;
    model.fired++;
    if (random_below(3) == 0) model_arm(i);
    if (random_below(8) == 0) model_cancel(random_below(TIMERS));
    if (random_below(8) == 0) model_arm(random_below(TIMERS));
}

/* What fire cancels and arms makes the number that must fire hard to say in advance; what must
 * not be left afterwards is easy. */
static void model_advance(void)
{
    uint32_t max = random_below(3) ? 0 : 1 + random_below(5);
    uint32_t next = wheel_next(&wheel, model.now);
    uint32_t shift = 2 + random_below(30), step = random_32() >> shift;
    if (random_below(4)) step = random_below(40);
    model.now += step;
    uint32_t due = model_due();
    if (due) assert_true(next <= step); /* wheel_next is never late */
    model.firing_past = true;
    uint32_t before = model.fired;
    uint32_t fired = wheel_advance(&wheel, model.now, max, model_fire, &model);
    assert_int_equal(fired, model.fired - before);
    assert_true(fired <= due && (!max || fired <= max));
    if (max && fired == max && model_due()) assert_int_equal(wheel_next(&wheel, model.now), 0);
    for (uint32_t i = 0; i < TIMERS; i++) {
        if (!is_due(i)) continue;
        /* Due and not fired: cut off by max, or armed by fire for the past. */
        assert_true(model.past[i] || (max && fired == max));
        model.past[i] = true;
    }
}

static void run_model(uint64_t seed, uint32_t start)
{
    print_message("seed %llu start %u\n", (unsigned long long)seed, start);
    random_state = seed;
    memset(&model, 0, sizeof model);
    model.now = start;
    wheel_init(&wheel, start);
    for (int n = 0; n < OPERATIONS; n++) {
        switch (random_below(4)) {
        case 0:
        case 1: model_arm(random_below(TIMERS)); break;
        case 2: model_cancel(random_below(TIMERS)); break;
        default: model_advance(); break;
        }
        assert_int_equal(wheel.armed, model.armed_count);
        uint32_t i = random_below(TIMERS);
        assert_int_equal(wheel_armed(&model.timer[i]), model.armed[i]);
    }
    assert_true(model.fired > OPERATIONS / 20);
}

static void test_against_model(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 4; seed++) run_model(seed, UINT32_MAX - 5000 * seed);
    run_model(5, 0);
    run_model(6, INT32_MAX - 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zeroed_timer_is_disarmed),
        cmocka_unit_test(test_fires_at_its_tick),
        cmocka_unit_test(test_reach_of_a_slot_behind_a_border),
        cmocka_unit_test(test_longest_deadline),
        cmocka_unit_test(test_past_fires_at_the_next_advance),
        cmocka_unit_test(test_max_leaves_the_rest_due),
        cmocka_unit_test(test_rearms_itself),
        cmocka_unit_test(test_fire_may_cancel_and_move_others),
        cmocka_unit_test(test_crowd_of_one_slot),
        cmocka_unit_test(test_slot_is_spread_before_it_begins),
        cmocka_unit_test(test_against_model),
    };
    return cmocka_run_group_tests_name("wheel", tests, NULL, NULL);
}
