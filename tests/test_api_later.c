/* A call of the API that waits for other workers, while its connection goes on, or away (api.c,
 * conn/http.c). */
#include "engine.h"

#define CALL "POST /api/info HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"

static struct worker *a, *b;

/* begin sends bytes to worker a, which handles the call in them and waits for b. */
static int begin(const char *bytes)
{
    a = engine.server.workers[0];
    b = engine.server.workers[1];
    int fd = engine_connect(a);
    assert_int_equal(send(fd, bytes, strlen(bytes), 0), strlen(bytes));
    worker_turn(a, 0);
    worker_turn(a, 0);
    return fd;
}

static bool is_awaited(void)
{
    return a->conns.count == 1 && a->conns.items[0]->flags & CONN_AWAITED;
}

static unsigned answers(int fd)
{
    char text[8192];
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    unsigned count = 0;
    text[n > 0 ? n : 0] = 0;
    for (const char *p = text; (p = strstr(p, "HTTP/1.1 200 OK")); p++) count++;
    return count;
}

static void test_pipelined(void **state)
{
    (void)state;
    engine_open(&(struct engine_options){.workers = 2});
    int fd = begin(CALL CALL CALL);
    for (unsigned i = 0; i < 4; i++) worker_turn(a, 0);
    assert_true(is_awaited());
    assert_int_equal(answers(fd), 0);
    unsigned got = 0;
    for (unsigned i = 0; i < 20; i++) {
        engine_turns(1);
        got += answers(fd);
    }
    assert_int_equal(got, 3);
    close(fd);
    engine_turns(3);
    engine_close();
}

/* It waits for us: no idle time-out ends it. */
static void test_idle_timeout(void **state)
{
    (void)state;
    engine_open(&(struct engine_options){.workers = 2});
    engine.conn.http_idle_timeout_ms = 1;
    int fd = begin(CALL);
    for (unsigned i = 0; i < 5; i++) {
        usleep(20000);
        worker_turn(a, 0);
    }
    assert_true(is_awaited());
    worker_turn(b, 0);
    worker_turn(a, 0);
    assert_int_equal(answers(fd), 1);
    close(fd);
    engine_turns(3);
    engine_close();
}

/* Whatever its end is, the call finds that nobody waits any more. */
static void test_gone(void **state)
{
    (void)state;
    enum { RESETS, SHUTS_ONE_SIDE, HAS_MORE_THAN_FITS, SERVER_ENDS, WAYS };
    for (int way = 0; way < WAYS; way++) {
        engine_open(&(struct engine_options){.workers = 2});
        if (way == HAS_MORE_THAN_FITS) engine.conn.unauthenticated_max_bytes = 1;
        int fd = begin(way == HAS_MORE_THAN_FITS ? CALL "POST /api/info HTTP/1.1\r\n" : CALL);
        if (way == SHUTS_ONE_SIDE) shutdown(fd, SHUT_WR);
        if (way == RESETS) close(fd);
        if (way == SERVER_ENDS)
            for (unsigned i = 0; i < 2; i++) worker_stop(engine.server.workers[i], WORKER_ENDS);
        for (unsigned i = 0; i < 5; i++) worker_turn(a, 0);
        if (way == SHUTS_ONE_SIDE) { /* its answer it still gets */
            worker_turn(b, 0);
            for (unsigned i = 0; i < 3; i++) worker_turn(a, 0);
            assert_int_equal(answers(fd), 1);
        }
        if (way == HAS_MORE_THAN_FITS) assert_int_equal(answers(fd), 0); /* no other's answer */
        engine_turns(5);
        if (way != RESETS) close(fd);
        engine_turns(5);
        engine_close();
    }
}

/* Finishing, as a stop or a time-out makes it, with a call under way. */
static void test_finished_meanwhile(void **state)
{
    (void)state;
    engine_open(&(struct engine_options){.workers = 2});
    int fd = begin(CALL);
    assert_true(is_awaited());
    conn_finish(a->conns.items[0], WS_CLOSE_ABNORMAL);
    worker_turn(a, 0);
    close(fd);
    for (unsigned i = 0; i < 5 && a->conns.count; i++) worker_turn(a, 0);
    assert_int_equal(a->conns.count, 0);
    engine_turns(5); /* the errand comes back to nobody */
    engine_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_idle_timeout),
        cmocka_unit_test(test_gone),
        cmocka_unit_test(test_finished_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
