/* The conformance table of ws_cases.h at ws_read: each case whole, cut at every byte, byte by byte
 * and in random pieces. Every piece ends at an unreadable page. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "guard.h"
#include "ws_cases.h"
#include "ws_listener.h"

#define MAX_MESSAGE (16u << 20) /* group 9 goes up to here */
#define ROOM (MAX_MESSAGE + (1u << 20))
#define EVERY_CUT_MAX 1024
#define BYTE_BY_BYTE_MAX (100u << 10)

static uint8_t *wire;  /* what the client sends */
static uint8_t *guard; /* ROOM bytes that end at the unreadable page */

struct run {
    struct ws_listener listener;
    size_t fed;
    size_t ended_from, ended_to; /* the piece in which the connection ended */
};

static struct run start(bool forget)
{
    struct run run = {
        .listener = {.limits = {MAX_MESSAGE, true}, .forget = forget, .digest = DIGEST_START}};
    return run;
}

/* Feeds the next len bytes of wire; what comes after the end of the connection is dropped. */
static void feed(struct run *run, size_t len)
{
    uint8_t *piece = guard + ROOM - len;

    if (run->listener.close) return;
    memcpy(piece, wire + run->fed, len);
    if (!ws_listener_feed(&run->listener, piece, len)) {
        run->ended_from = run->fed;
        run->ended_to = run->fed + len;
    }
    run->fed += len;
}

static struct ws_listener expectation(const struct ws_case *c)
{
    struct ws_listener l = {.digest = DIGEST_START, .close = c->close};

    for (unsigned n = 0; n < (c->repeat ? c->repeat : 1); n++) {
        for (const struct ws_case_event *e = c->events; e->opcode; e++) {
            uint64_t digest = DIGEST_START;
            for (size_t i = 0; i < e->len; i++)
                digest = ws_digest(digest, (const uint8_t *)(e->payload ? e->payload + i : "*"), 1);
            ws_listener_heard(&l, e->opcode, digest, e->len);
        }
        if (c->close) break;
    }
    return l;
}

static void check(const struct ws_case *c, const struct ws_listener *expected,
                  const struct run *run, size_t bad_end, const char *how)
{
    const struct ws_listener *l = &run->listener;

    if (l->events != expected->events || l->digest != expected->digest ||
        l->close != expected->close)
        fail_msg("%s (%s) %s: %u events instead of %u, close %d instead of %d, payloads %s", c->id,
                 c->about, how, l->events, expected->events, l->close, expected->close,
                 l->digest == expected->digest ? "right" : "wrong");
    if (c->close == 0 && !ws_reader_at_rest(&l->reader))
        fail_msg("%s (%s) %s: not at rest behind the last message", c->id, c->about, how);
    if (bad_end && (bad_end <= run->ended_from || bad_end > run->ended_to))
        fail_msg("%s (%s) %s: byte %zu is wrong, failed in bytes %zu to %zu", c->id, c->about, how,
                 bad_end, run->ended_from + 1, run->ended_to);
}

static void run_case(const struct ws_case *c)
{
    size_t bad_end, len = ws_case_wire(c, NULL, &bad_end);
    struct ws_listener expected = expectation(c);

    assert_true(len <= ROOM);
    ws_case_wire(c, wire, NULL);

    struct run run = start(false);
    feed(&run, len);
    check(c, &expected, &run, bad_end, "whole");

    for (size_t cut = 1; cut < len && len <= EVERY_CUT_MAX; cut++) {
        run = start(false);
        feed(&run, cut);
        feed(&run, len - cut);
        check(c, &expected, &run, bad_end, "in two pieces");
    }
    if (len <= BYTE_BY_BYTE_MAX) {
        run = start(false);
        while (run.fed < len && !run.listener.close) feed(&run, 1);
        check(c, &expected, &run, bad_end, "byte by byte");
    }
    for (unsigned seed = 1; seed <= 3; seed++) {
        size_t most = len / (seed * seed * 7) + 16;
        run = start(seed & 1);
        srand(seed);
        while (run.fed < len && !run.listener.close) {
            size_t piece = 1 + (size_t)rand() % most;
            feed(&run, piece < len - run.fed ? piece : len - run.fed);
        }
        check(c, &expected, &run, bad_end, "in random pieces");
    }
}

static void test_group(void **state)
{
    const char *group = *state;
    unsigned found = 0;

    for (size_t i = 0; i < WS_CASES; i++) {
        struct ws_case c = ws_case_at(i);
        if (strncmp(c.id, group, strlen(group)) != 0) continue;
        run_case(&c);
        found++;
    }
    assert_true(found > 0);
}

static int open_room(void **state)
{
    (void)state;
    wire = malloc(ROOM);
    guard = guard_copy(NULL, ROOM);
    return wire ? 0 : -1;
}

static int close_room(void **state)
{
    (void)state;
    free(wire);
    guard_free(guard, ROOM);
    return 0;
}

#define GROUP(name, prefix)                                                                        \
    {                                                                                              \
        name, test_group, NULL, NULL, (void *)(uintptr_t)prefix                                    \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        GROUP("the RFC's own examples and sections", "rfc"),
        GROUP("1 lengths", "1."),
        GROUP("2 pings and pongs", "2."),
        GROUP("3 reserved bits", "3."),
        GROUP("4 reserved opcodes", "4."),
        GROUP("5 fragments", "5."),
        GROUP("6 UTF-8", "6."),
        GROUP("7 closing", "7."),
        GROUP("9 large messages", "9."),
        GROUP("10 many fragments", "10."),
    };
    return cmocka_run_group_tests(tests, open_room, close_room);
}
