/* outq.c: order, counts and references, against a plain list of bytes. */
#include "../outq.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static struct mem_pool *pool;

static int begin(void **state)
{
    (void)state;
    pool = mem_pool_new();
    return pool ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    size_t used = mem_pool_stats(pool).used_bytes;
    mem_pool_delete(pool);
    return used ? -1 : 0; /* every reference was given back */
}

static struct frame *frame(const char *text)
{
    struct frame *f = frame_new(pool, (uint32_t)strlen(text));
    assert_non_null(f);
    memcpy(f->bytes, text, f->len);
    return f;
}

static void push(struct out_queue **q, const char *text, enum out_kind kind)
{
    struct out_entry e = {
        .frame = frame(text), .kind = (uint16_t)kind, .messages = kind != OUT_PONG};
    assert_true(outq_push(pool, q, e));
}

/* text gives what is still to be sent, without the cipher. */
static const char *text(const struct out_queue *q)
{
    static char out[4096];
    struct iovec iov[64];
    size_t len = 0;
    unsigned n = outq_iov(q, iov, 64, sizeof out);
    for (unsigned i = 0; i < n; i++) {
        memcpy(out + len, iov[i].iov_base, iov[i].iov_len);
        len += iov[i].iov_len;
    }
    out[len] = 0;
    return out;
}

static void test_in_order(void **state)
{
    (void)state;
    struct out_queue *q = NULL;
    assert_true(outq_empty(q));
    assert_int_equal(outq_bytes(q), 0);
    push(&q, "one ", OUT_MESSAGE);
    push(&q, "two ", OUT_REPLY);
    push(&q, "three", OUT_PONG);
    assert_int_equal(outq_bytes(q), 13);
    assert_string_equal(text(q), "one two three");
    outq_sent(q, 2);
    assert_string_equal(text(q), "e two three");
    outq_sent(q, 2); /* exactly to a boundary */
    assert_string_equal(text(q), "two three");
    outq_sent(q, 0);
    outq_sent(q, 7);
    assert_string_equal(text(q), "ee");
    assert_int_equal(outq_bytes(q), 2);
    assert_false(outq_empty(q));
    outq_sent(q, 2);
    assert_true(outq_empty(q));
    assert_int_equal(outq_bytes(q), 0);
    push(&q, "again", OUT_MESSAGE);
    assert_string_equal(text(q), "again");
    outq_free(pool, &q);
    assert_null(q);
    outq_free(pool, &q);
}

/* An entry may be the tail of a run that others have whole. */
static void test_tail(void **state)
{
    (void)state;
    struct out_queue *a = NULL, *b = NULL;
    struct frame *run = frame("aabbcc");
    frame_ref(run, 1);
    assert_true(outq_push(pool, &a, (struct out_entry){.frame = run, .messages = 3}));
    assert_true(outq_push(pool, &b, (struct out_entry){.frame = run, .from = 4, .messages = 1}));
    assert_string_equal(text(a), "aabbcc");
    assert_string_equal(text(b), "cc");
    assert_int_equal(outq_bytes(b), 2);
    outq_sent(b, 1);
    assert_string_equal(text(b), "c");
    outq_sent(b, 1);
    assert_true(outq_empty(b));
    outq_free(pool, &b);
    outq_free(pool, &a);
}

static void test_iov_limits(void **state)
{
    (void)state;
    struct out_queue *q = NULL;
    struct iovec iov[10];
    for (unsigned i = 0; i < 10; i++) push(&q, "0123456789", OUT_MESSAGE);
    assert_int_equal(outq_iov(q, iov, 10, 1000), 10);
    assert_int_equal(outq_iov(q, iov, 3, 1000), 3);
    assert_int_equal(outq_iov(q, iov, 10, 1), 1); /* at least one, whole */
    assert_int_equal(iov[0].iov_len, 10);
    assert_int_equal(outq_iov(q, iov, 10, 20), 2);
    assert_int_equal(outq_iov(q, iov, 10, 21), 3);
    outq_free(pool, &q);
}

/* ---- dropping ---- */

struct drop_case {
    const char *entries; /* each "M..", "R.." or "P..": its kind and bytes */
    unsigned sent;
    uint64_t max;       /* by COST, of those that may stay */
    const char *oldest; /* what is left of outq_drop_oldest, */
    const char *all;    /* and of outq_drop_all, */
    const char *clear;  /* and of outq_clear */
};

#define COST(entries, bytes) ((entries)*OUT_ENTRY_COST + (bytes))

static const struct drop_case drop_cases[] = {
    {"M1 M2 M3", 0, COST(3, 100), "M1M2M3", "", ""},
    {"M1 M2 M3", 0, COST(3, 6), "M1M2M3", "", ""},
    {"M1 M2 M3", 0, COST(3, 5), "M2M3", "", ""},
    {"M1 M2 M3", 0, COST(2, 6), "M2M3", "", ""},
    {"M1 M2 M3", 0, COST(1, 2), "M3", "", ""},
    {"M1 M2 M3", 0, COST(1, 1), "", "", ""},
    {"M1 M2 M3", 1, COST(2, 3), "1M3", "1", "1"}, /* the first has begun */
    {"M1 M2 M3", 2, COST(1, 2), "M3", "", ""},    /* the first is over */
    {"R1 M2 P3 M4", 0, COST(1, 2), "R1P3", "R1P3", "R1"},
    {"R1 M2 P3 M4", 0, COST(3, 6), "R1P3M4", "R1P3", "R1"},
    {"R1 M2 P3 M4", 1, COST(0, 0), "1P3", "1P3", "1"},
    {"P1 P2", 0, COST(0, 0), "P1P2", "P1P2", ""},
    {"P1 R2 M3", 1, COST(0, 0), "1R2", "1R2", "1R2"}, /* a pong has begun */
    {"M1 R2 M3 R4 P5", 0, COST(0, 0), "R2R4P5", "R2R4P5", "R2R4"},
    /* many that stay, so some more go: steps are paid for by what is dropped */
    {"R1 R2 R3 R4 R5 M6 M7 M8", 0, COST(7, 14), "R1R2R3R4R5M8", "R1R2R3R4R5", "R1R2R3R4R5"},
    {"", 0, 0, "", "", ""},
};

static struct out_queue *fill(const struct drop_case *d)
{
    struct out_queue *q = NULL;
    for (const char *at = d->entries; *at; at += at[2] ? 3 : 2) {
        char bytes[3] = {at[0], at[1]};
        push(&q, bytes, at[0] == 'M' ? OUT_MESSAGE : at[0] == 'R' ? OUT_REPLY : OUT_PONG);
    }
    if (!q) { /* an empty one that was used */
        push(&q, "x", OUT_MESSAGE);
        outq_sent(q, 1);
    }
    outq_sent(q, d->sent);
    return q;
}

static uint32_t counted(const char *s) /* messages in it; push counts replies as well */
{
    uint32_t n = 0;
    for (; *s; s++) n += *s == 'M' || *s == 'R';
    return n;
}

static void check_drop(const struct drop_case *d, struct out_queue *q, const char *left,
                       uint32_t dropped)
{
    assert_string_equal(text(q), left);
    assert_int_equal(outq_bytes(q), strlen(left));
    uint32_t begun = d->sent && strchr("MR", d->entries[0]) ? 1 : 0;
    assert_int_equal(dropped, counted(d->entries) - counted(left) - begun);
    push(&q, "tail", OUT_MESSAGE); /* and it goes on behind */
    assert_memory_equal(text(q) + strlen(left), "tail", 5);
    outq_sent(q, strlen(left) + 4);
    assert_true(outq_empty(q));
    outq_free(pool, &q);
}

static void test_drop(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof drop_cases / sizeof *drop_cases; i++) {
        const struct drop_case *d = &drop_cases[i];
        struct out_queue *q = fill(d);
        check_drop(d, q, d->oldest, outq_drop_oldest(q, d->max));
        q = fill(d);
        check_drop(d, q, d->all, outq_drop_all(q));
        q = fill(d);
        check_drop(d, q, d->clear, outq_clear(q));
    }
}

/* A run counts as all its messages. */
static void test_drop_run(void **state)
{
    (void)state;
    struct out_queue *q = NULL;
    assert_true(outq_push(pool, &q, (struct out_entry){.frame = frame("aabbcc"), .messages = 3}));
    push(&q, "dd", OUT_MESSAGE);
    assert_int_equal(outq_drop_oldest(q, COST(1, 2)), 3);
    assert_string_equal(text(q), "dd");
    outq_free(pool, &q);
}

static void test_replace_pong(void **state)
{
    (void)state;
    struct out_queue *q = NULL;
    struct frame *f = frame("newer");
    push(&q, "M1", OUT_MESSAGE);
    assert_false(outq_replace_pong(q, f)); /* none there: f is still ours */
    push(&q, "P2", OUT_PONG);
    push(&q, "M3", OUT_MESSAGE);
    assert_true(outq_replace_pong(q, f));
    assert_string_equal(text(q), "M1newerM3");
    assert_int_equal(outq_bytes(q), 9);
    outq_sent(q, 3); /* it has begun: too late */
    f = frame("late");
    assert_false(outq_replace_pong(q, f));
    frame_unref(f, 1);
    assert_string_equal(text(q), "ewerM3");
    outq_free(pool, &q);
}

/* Whatever happens to the queue, the pong that is replaced is the last one that waits: against a
 * list of the entries' names. */
static void test_replace_pong_anywhere(void **state)
{
    (void)state;
    uint32_t r = 1;
    for (unsigned round = 0; round < 300; round++) {
        struct out_queue *q = NULL;
        char due[512] = "";
        for (unsigned step = 0; step < 60; step++) {
            r = r * 1664525u + 1013904223u;
            char name[3] = {"MMRP"[r >> 24 & 3], (char)('0' + step % 10)};
            char *last = strrchr(due, 'P');
            switch (r >> 28) {
            case 0:
            case 1: { /* some entries go out whole, the next by a byte */
                size_t n = strlen(due) / 4 * 2 + (r >> 20 & 1);
                if (!q || n > strlen(due)) break;
                outq_sent(q, n);
                memmove(due, due + n, strlen(due) - n + 1);
                break;
            }
            case 2:
                if (!q || strlen(due) % 2) break;
                outq_drop_oldest(q, COST(q->count, 0) / 2);
                strcpy(due, text(q));
                break;
            case 3:
            case 4:
            case 5:
                if (!q) break;
                struct frame *f = frame("Px");
                bool there = outq_replace_pong(q, f);
                assert_int_equal(there, last != NULL);
                if (there)
                    last[1] = 'x';
                else
                    frame_unref(f, 1);
                break;
            default:
                push(&q, name,
                     name[0] == 'P'   ? OUT_PONG
                     : name[0] == 'R' ? OUT_REPLY
                                      : OUT_MESSAGE);
                strcat(due, name);
            }
            if (q) assert_string_equal(text(q), due);
        }
        outq_free(pool, &q);
    }
}

/* A queue of many entries: a pong is replaced, and the oldest go, without a walk over the others.
 * Some 10 s each if there were one. */
static void test_steps_do_not_grow(void **state)
{
    (void)state;
    enum { MANY = 400000 };
    struct out_queue *q = NULL;
    for (unsigned i = 0; i < MANY; i++) push(&q, "M1", OUT_MESSAGE);
    push(&q, "P2", OUT_PONG);
    clock_t began = clock();
    for (unsigned i = 0; i < 20000; i++) assert_true(outq_replace_pong(q, frame("P3")));
    for (unsigned i = 0; i < 20000; i++) {
        push(&q, "M4", OUT_MESSAGE);
        assert_int_equal(outq_drop_oldest(q, COST(MANY, MANY * 2)), i ? 1 : 2);
    }
    assert_true((double)(clock() - began) / CLOCKS_PER_SEC < 2);
    outq_free(pool, &q);
}

/* ---- the rest of a record ---- */

static void test_cipher(void **state)
{
    (void)state;
    struct out_queue *q = NULL;
    assert_true(outq_add_cipher(pool, &q, (const uint8_t *)"abcdef", 6)); /* makes the queue */
    assert_false(outq_empty(q));
    assert_int_equal(outq_bytes(q), 6);
    assert_int_equal(outq_cost(q), 6);
    push(&q, "plain", OUT_MESSAGE);
    assert_int_equal(q->cap, 4);
    outq_cipher_sent(q, 2);
    assert_int_equal(outq_bytes(q), 9);
    assert_true(outq_add_cipher(pool, &q, (const uint8_t *)"gh", 2));
    assert_int_equal(q->cipher->len - q->cipher_at, 6);
    assert_memory_equal(q->cipher->bytes + q->cipher_at, "cdefgh", 6);
    assert_int_equal(outq_bytes(q), 11);
    outq_clear(q); /* what is sealed goes out all the same */
    assert_int_equal(outq_bytes(q), 6);
    outq_cipher_sent(q, 5);
    assert_non_null(q->cipher);
    outq_cipher_sent(q, 1);
    assert_null(q->cipher);
    assert_true(outq_empty(q));
    assert_true(outq_add_cipher(pool, &q, (const uint8_t *)"i", 1));
    outq_free(pool, &q); /* with cipher in it */
}

/* ---- long ones, and memory ---- */

/* Random pushes and sends: the bytes come out as they went in. */
static void test_against_bytes(void **state)
{
    (void)state;
    static uint8_t due[1 << 16];
    size_t in = 0, out = 0;
    struct out_queue *q = NULL;
    uint32_t r = 7;
    for (unsigned step = 0; step < 20000; step++) {
        r = r * 1664525u + 1013904223u;
        if (r >> 31 || in == out) {
            uint32_t len = 1 + (r >> 8) % 20;
            if (in + len > sizeof due) break;
            struct frame *f = frame_new(pool, len);
            for (uint32_t i = 0; i < len; i++) due[in + i] = f->bytes[i] = (uint8_t)(r >> i % 24);
            in += len;
            assert_true(outq_push(pool, &q, (struct out_entry){.frame = f}));
        } else {
            struct iovec iov[8];
            unsigned n = outq_iov(q, iov, 8, 100);
            size_t at = out;
            for (unsigned i = 0; i < n; i++) {
                assert_memory_equal(iov[i].iov_base, due + at, iov[i].iov_len);
                at += iov[i].iov_len;
            }
            size_t take = (r >> 8) % (at - out + 1);
            outq_sent(q, take);
            out += take;
        }
        assert_int_equal(outq_bytes(q), in - out);
    }
    assert_true(in > 10000);
    outq_free(pool, &q);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    for (uint64_t k = 1; k <= 12; k++) {
        struct out_queue *q = NULL;
        struct frame *f = frame("0123");
        unsigned pushed = 0;
        frame_ref(f, 40);
        mem_fail_at(k);
        for (unsigned i = 0; i < 40; i++) /* takes the reference in any case */
            pushed += outq_push(pool, &q, (struct out_entry){.frame = f});
        bool kept = outq_add_cipher(pool, &q, (const uint8_t *)"abc", 3);
        mem_fail_at(0);
        assert_int_equal(outq_bytes(q), pushed * 4 + (kept ? 3 : 0));
        assert_int_equal(f->refs, 1 + pushed);
        frame_unref(f, 1);
        outq_free(pool, &q);
    }
}

/* outq_cut leaves the rest of what is begun, and what is sealed. */
static void test_cut(void **state)
{
    (void)state;
    struct out_queue *q = NULL;
    push(&q, "one", OUT_PONG);
    push(&q, "two", OUT_REPLY);
    push(&q, "three", OUT_MESSAGE);
    outq_sent(q, 1);
    assert_int_equal(outq_cut(q), 2);
    assert_string_equal(text(q), "ne");
    assert_int_equal(outq_bytes(q), 2);
    push(&q, "four", OUT_PONG);
    assert_true(outq_add_cipher(pool, &q, (const uint8_t *)"sealed", 6));
    outq_sent(q, 2);
    assert_int_equal(outq_cut(q), 0); /* a pong is no message */
    assert_string_equal(text(q), "");
    assert_int_equal(outq_bytes(q), 6);
    struct frame *f = frame("pong");
    assert_false(outq_replace_pong(q, f));
    frame_unref(f, 1);
    push(&q, "five", OUT_REPLY); /* it is as good as new */
    assert_string_equal(text(q), "five");
    assert_int_equal(outq_cut(q), 1);
    outq_free(pool, &q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cut, begin, end),
        cmocka_unit_test_setup_teardown(test_in_order, begin, end),
        cmocka_unit_test_setup_teardown(test_tail, begin, end),
        cmocka_unit_test_setup_teardown(test_iov_limits, begin, end),
        cmocka_unit_test_setup_teardown(test_drop, begin, end),
        cmocka_unit_test_setup_teardown(test_drop_run, begin, end),
        cmocka_unit_test_setup_teardown(test_replace_pong, begin, end),
        cmocka_unit_test_setup_teardown(test_replace_pong_anywhere, begin, end),
        cmocka_unit_test_setup_teardown(test_steps_do_not_grow, begin, end),
        cmocka_unit_test_setup_teardown(test_cipher, begin, end),
        cmocka_unit_test_setup_teardown(test_against_bytes, begin, end),
        cmocka_unit_test_setup_teardown(test_out_of_memory, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
