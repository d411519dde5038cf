/* mailbox.h: order, wake-ups, the bound, many threads at once (also meant for the tsan variant). */
#include "mailbox.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

struct note {
    struct post post; /* first, so that a post is its note */
    int from, number;
};

static void test_order_and_wake_ups(void **state)
{
    (void)state;
    struct mailbox box;
    struct note a = {.number = 1}, b = {.number = 2}, c = {.number = 3};
    mailbox_init(&box, 0);
    for (int round = 0; round < 2; round++) {
        assert_null(mailbox_take(&box));
        assert_true(mailbox_push(&box, &a.post, &a.post));
        assert_false(mailbox_push(&box, &b.post, &b.post));
        assert_false(mailbox_push(&box, &c.post, &c.post));
        struct post *p = mailbox_take(&box);
        assert_ptr_equal(p, &a.post);
        assert_ptr_equal(p->next, &b.post);
        assert_ptr_equal(p->next->next, &c.post);
        assert_null(p->next->next->next);
    }
}

static void test_chain_keeps_its_order(void **state)
{
    (void)state;
    struct mailbox box;
    struct note notes[7];
    mailbox_init(&box, 0);
    for (int before = 0; before < 3; before++) {
        for (int i = 0; i < before; i++) mailbox_push(&box, &notes[i].post, &notes[i].post);
        for (int i = before + 1; i < 6; i++) notes[i].post.next = &notes[i - 1].post;
        assert_int_equal(mailbox_push(&box, &notes[5].post, &notes[before].post), before == 0);
        assert_false(mailbox_push(&box, &notes[6].post, &notes[6].post));
        struct post *p = mailbox_take(&box);
        for (int i = 0; i < 7; i++, p = p->next) assert_ptr_equal(p, &notes[i].post);
        assert_null(p);
    }
}

static void test_bound(void **state)
{
    (void)state;
    static const struct {
        uint64_t max, queued, bytes;
        bool fits;
    } rows[] = {
        {100, 0, 100, true},          {100, 0, 5000, true},         {100, 40, 60, true},
        {100, 40, 61, false},         {100, 5000, 1, false},        {100, 100, 0, false},
        {100, 40, UINT64_MAX, false}, {0, 1, UINT64_MAX / 2, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct mailbox box;
        mailbox_init(&box, rows[i].max);
        assert_true(!rows[i].queued || mailbox_charge(&box, rows[i].queued));
        assert_int_equal(mailbox_charge(&box, rows[i].bytes), rows[i].fits);
        uint64_t queued = rows[i].queued + (rows[i].fits ? rows[i].bytes : 0);
        assert_int_equal(atomic_load(&box.queued_bytes), queued);
        mailbox_credit(&box, queued);
        assert_int_equal(atomic_load(&box.queued_bytes), 0);
    }
}

enum { PUSHERS = 4, EACH = 50000, NOTE_BYTES = 10, BOUND = 1000 * NOTE_BYTES };

static struct mailbox shared;
static struct note notes[PUSHERS][EACH];
static _Atomic int wake_ups;

/* Single posts and chains of three, each charged before; a full box makes the pusher wait. */
static void *push_all(void *arg)
{
    struct note *mine = arg;
    for (int i = 0; i < EACH;) {
        int n = i % 7 == 0 && i + 3 <= EACH ? 3 : 1;
        while (!mailbox_charge(&shared, (uint64_t)n * NOTE_BYTES)) sched_yield();
        for (int k = 1; k < n; k++) mine[i + k].post.next = &mine[i + k - 1].post;
        if (mailbox_push(&shared, &mine[i + n - 1].post, &mine[i].post))
            atomic_fetch_add(&wake_ups, 1);
        i += n;
    }
    return NULL;
}

static void test_many_pushers(void **state)
{
    (void)state;
    pthread_t threads[PUSHERS];
    int next[PUSHERS] = {0}, left = PUSHERS * EACH, drains = 0;
    mailbox_init(&shared, BOUND);
    for (int t = 0; t < PUSHERS; t++) {
        for (int i = 0; i < EACH; i++) notes[t][i].from = t, notes[t][i].number = i;
        assert_int_equal(pthread_create(&threads[t], NULL, push_all, notes[t]), 0);
    }
    while (left > 0) {
        struct post *p = mailbox_take(&shared);
        if (p)
            drains++;
        else
            sched_yield();
        int batch = 0;
        for (struct post *after; p; p = after, batch++) {
            after = p->next;
            struct note *n = (struct note *)p;
            assert_int_equal(n->number, next[n->from]++);
        }
        assert_true(batch * NOTE_BYTES <= BOUND);
        mailbox_credit(&shared, (uint64_t)batch * NOTE_BYTES);
        left -= batch;
    }
    for (int t = 0; t < PUSHERS; t++) pthread_join(threads[t], NULL);
    assert_null(mailbox_take(&shared));
    assert_int_equal(atomic_load(&shared.queued_bytes), 0);
    /* One wake-up for each time the box was filled again, no more and no fewer. */
    assert_int_equal(atomic_load(&wake_ups), drains);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_wake_ups),
        cmocka_unit_test(test_chain_keeps_its_order),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_many_pushers),
    };
    return cmocka_run_group_tests_name("mailbox", tests, NULL, NULL);
}
