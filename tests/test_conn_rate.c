/* conn/rate.c: buckets of bytes and messages on a clock of the test's. */
#include "conn.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define START_MS 1000000

static struct conn_options options;
static struct server server;
static struct worker worker = {.server = &server};
static struct { /* as accepted() makes them */
    struct conn c;
    struct conn_rate rate;
} place;
static struct conn *const c = &place.c;

static void at(int64_t ms)
{
    worker.now_ms = START_MS + ms;
    worker.now_us = worker.now_ms * 1000;
}

static void begin(int64_t bytes, int64_t messages, int64_t largest)
{
    settings_first.of[SETTINGS_CONN] = &options;
    options = (struct conn_options){
        .byte_rate = bytes, .message_rate = messages, .max_message_bytes = largest};
    memset(&place, 0, sizeof place);
    c->worker = &worker;
    at(0);
    c->last_seen = worker_tick(&worker);
}

/* some is what received() does around what is read; come, if that was all there is. */
static size_t some(size_t len)
{
    const size_t within = conn_rate_bytes(c, len);
    if (!(c->flags & CONN_WAITED)) c->last_seen = worker_tick(&worker);
    return within;
}

static size_t come(size_t len)
{
    const size_t within = some(len);
    c->flags &= ~(uint32_t)CONN_WAITED;
    c->last_seen = worker_tick(&worker);
    return within;
}

static void test_size(void **state)
{
    (void)state;
    static const struct {
        struct conn_options o;
        size_t more;
    } rows[] = {{{.byte_rate = 0}, 0}, {{.byte_rate = 1}, 16}, {{.message_rate = 1}, 16}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(conn_size(&rows[i].o), sizeof(struct conn) + rows[i].more);
}

static void test_bytes_at_the_cap_and_one_over(void **state)
{
    (void)state;
    begin(1000, 0, 100);
    assert_int_equal(come(1000), 1000); /* as many at once */
    assert_int_equal(come(1), 0);
    begin(1000, 0, 100);
    assert_int_equal(come(1001), 1000); /* the first ones are within */
    begin(1000, 0, 100);
    for (int i = 0; i < 1000; i++) assert_int_equal(come(1), 1);
    assert_int_equal(come(7), 0);
}

static void test_bytes_come_back(void **state)
{
    (void)state;
    begin(1000, 0, 100);
    assert_int_equal(come(1000), 1000);
    at(100);
    assert_int_equal(come(100), 100);
    for (int i = 1; i <= 300; i++) { /* at the rate, for ever */
        at(100 + i * 1000);
        assert_int_equal(come(1000), 1000);
    }
    at(100 + 300 * 1000 + 3600 * 1000); /* a bucket is never fuller than full */
    assert_int_equal(come(1500), 1000);
}

/* A bucket has room for one message of the largest size with its head. */
static void test_the_largest_message(void **state)
{
    (void)state;
    begin(10, 0, 131072);
    assert_int_equal(come(131072 + 14), 131072 + 14);
    assert_int_equal(come(1), 0);
    at(1000);
    assert_int_equal(come(10), 10);
    assert_int_equal(come(1), 0);
    at(1000 + 13108 * 1000 + 700);
    assert_int_equal(come(131072 + 14), 131072 + 14);
}

/* The slowest and the fastest rates there are, and the largest messages. */
static void test_bounds(void **state)
{
    (void)state;
    begin(1, 0, 64 << 20);
    assert_int_equal(come((64 << 20) + 15), (64 << 20) + 14);
    begin(1 << 30, 0, 64 << 20);
    for (int i = 0; i < 16; i++) assert_int_equal(come(64 << 20), 64 << 20);
    assert_true(come(64 << 20) < 100);
}

/* What was left unread may have been sent all the while. */
static void test_unread_for_a_while(void **state)
{
    (void)state;
    begin(1000, 0, 100);
    assert_int_equal(come(1000), 1000);
    at(8000);
    c->flags |= CONN_WAITED;
    assert_int_equal(come(8000), 8000); /* eight seconds' worth, of which a bucket holds one */
    assert_int_equal(come(1), 0);
    begin(1000, 0, 100);
    assert_int_equal(come(1000), 1000);
    at(8000);
    c->flags |= CONN_WAITED;
    assert_int_equal(come(8001), 8000);
}

/* The same in several reads: what waited is one backlog. */
static void test_unread_in_pieces(void **state)
{
    (void)state;
    begin(1000, 0, 100);
    assert_int_equal(come(1000), 1000);
    at(8000);
    c->flags |= CONN_WAITED;
    for (int i = 0; i < 7; i++) assert_int_equal(some(1000), 1000);
    assert_int_equal(come(1000), 1000);
    assert_int_equal(come(1), 0);
}

/* A reload makes the largest message smaller than what a bucket holds: nothing more is within, and
 * never more than came. */
static void test_smaller_bucket(void **state)
{
    (void)state;
    begin(1000, 0, 131072);
    assert_int_equal(come(100000), 100000);
    options.max_message_bytes = 1024;
    assert_int_equal(come(10), 0);
    at(99000); /* 1038 are free */
    assert_int_equal(come(10), 10);
}

static void test_messages(void **state)
{
    (void)state;
    begin(0, 7, 100);
    for (unsigned round = 0; round < 3; round++) {
        at(round * 2000);
        for (int i = 0; i < 7; i++) assert_true(conn_rate_message(c));
        assert_false(conn_rate_message(c));
        at(round * 2000 + 142);
        assert_false(conn_rate_message(c));
        at(round * 2000 + 143); /* a seventh of a second */
        assert_true(conn_rate_message(c));
        assert_false(conn_rate_message(c));
    }
    begin(0, 7, 100);
    for (int i = 0; i < 7; i++) assert_true(conn_rate_message(c));
    at(4000);
    c->flags |= CONN_WAITED;
    for (int i = 0; i < 28; i++) assert_true(conn_rate_message(c));
    assert_false(conn_rate_message(c));
}

static void test_off(void **state)
{
    (void)state;
    begin(0, 0, 100);
    for (int i = 0; i < 100000; i++) assert_true(conn_rate_message(c));
    assert_int_equal(place.rate.messages_ns, 0); /* there is no such place then */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_bytes_at_the_cap_and_one_over),
        cmocka_unit_test(test_bytes_come_back),
        cmocka_unit_test(test_the_largest_message),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_unread_for_a_while),
        cmocka_unit_test(test_unread_in_pieces),
        cmocka_unit_test(test_smaller_bucket),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_off),
    };
    return cmocka_run_group_tests_name("conn_rate", tests, NULL, NULL);
}
