/* worker.c where a system runs out: of descriptors, of address space. */
#include "engine.h"

#include "../listen.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>

#define FILLERS_MAX 256

static int fillers[FILLERS_MAX];
static unsigned filler_count;

static void fill(void)
{
    for (int fd; filler_count < FILLERS_MAX && (fd = dup(0)) != -1;) fillers[filler_count++] = fd;
    assert_int_equal(errno, EMFILE);
}

static void free_one(void)
{
    close(fillers[--filler_count]);
}

/* An other worker has taken the descriptor that this one's spare left. */
static void lose_spare(struct worker *w)
{
    close(w->spare_fd);
    w->spare_fd = -1;
    fill();
}

static int dial(uint16_t port)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

/* turns_until lets w turn until its connections are as many as wanted; returns how many ms that
 * took. */
static int64_t turns_until(struct worker *w, uint32_t conns)
{
    int64_t began = clock_us();
    for (int i = 0; i < 100 && w->conns.count != conns; i++) worker_turn(w, 1000);
    assert_int_equal(w->conns.count, conns);
    return (clock_us() - began) / 1000;
}

static void test_no_spare_descriptor(void **state)
{
    (void)state;
    struct rlimit before, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = FILLERS_MAX;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    engine_open(&(struct engine_options){0});
    struct worker *w = engine.server.workers[0];
    struct listener l = {.clients = true};
    uint16_t port = 0;
    l.fd = listen_tcp("127.0.0.1", false, &port, &(struct listen_options){.backlog = 16});
    assert_true(l.fd >= 0);
    assert_int_equal(worker_listen(w, &l), 0);
    int held = dial(port);
    turns_until(w, 1);

    int waits = dial(port);
    lose_spare(w);
    int64_t end_us = clock_us() + 350000;
    unsigned turns = 0;
    for (; clock_us() < end_us; turns++) worker_turn(w, 1000);
    assert_true(turns < 10); /* it does not spin */
    assert_true(engine_metric(METRIC_ACCEPT_RESTS) == 1);
    assert_int_equal(engine_metric(METRIC_REFUSED_DESCRIPTORS), 0);

    free_one(); /* by somebody else: noticed soon, and then whoever waits is turned away */
    for (int i = 0; i < 20 && engine_metric(METRIC_REFUSED_DESCRIPTORS) == 0; i++)
        worker_turn(w, 1000);
    char byte;
    assert_int_equal(engine_metric(METRIC_REFUSED_DESCRIPTORS), 1);
    assert_int_equal(recv(waits, &byte, 1, 0), 0);
    close(waits);
    fill();

    waits = dial(
        (free_one(), port)); /* one more rest, which ends with a connection of this worker's own */
    lose_spare(w);
    worker_turn(w, 0);
    assert_true(w->rest_until_ms > 0);
    conn_drop(w->conns.items[0], WS_CLOSE_ABNORMAL);
    worker_turn(w, 0);
    assert_true(w->rest_until_ms == 0);
    assert_true(w->spare_fd != -1);
    free_one();
    assert_true(turns_until(w, 1) < 1000);

    while (filler_count) free_one();
    conn_drop(w->conns.items[0], WS_CLOSE_ABNORMAL);
    worker_turn(w, 0);
    close(held);
    close(waits);
    engine_close();
    setrlimit(RLIMIT_NOFILE, &before);
}

static void test_no_address_space(void **state)
{
    (void)state;
    if (SLOW) skip(); /* a sanitizer wants it all */
    struct rlimit before, few = {.rlim_cur = 1u << 30, .rlim_max = RLIM_INFINITY};
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    few.rlim_max = before.rlim_max;
    engine_fill(&(struct engine_options){0});
    engine.server.conns_max = 1u << 30;
    assert_int_equal(setrlimit(RLIMIT_AS, &few), 0);
    struct worker *w = worker_new(&engine.server, 0);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_non_null(w);
    assert_in_range(w->conns_max, 1u << 20, 1u << 24);
    w->closed.items[2 * w->conns_max - 1] = NULL; /* it is there to its end */
    worker_delete(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_spare_descriptor),
        cmocka_unit_test(test_no_address_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
