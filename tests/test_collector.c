/* collector.c: how long a POST may take in all. The rest is in e2e/traces.test.mjs. */
#include "../collector.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define CALLERS 8

static int64_t clock_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* A server whose queue of connections is full: the kernel leaves each further SYN without an
 * answer. */
struct deaf {
    int fd, callers[CALLERS];
    unsigned port;
};

static struct deaf deaf_open(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    struct deaf d = {.fd = socket(AF_INET, SOCK_STREAM, 0)};
    assert_int_equal(bind(d.fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(d.fd, 0), 0);
    assert_int_equal(getsockname(d.fd, (struct sockaddr *)&a, &len), 0);
    d.port = ntohs(a.sin_port);
    for (size_t i = 0; i < CALLERS; i++) {
        d.callers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(d.callers[i], (struct sockaddr *)&a, len);
    }
    return d;
}

static void deaf_close(struct deaf *d)
{
    for (size_t i = 0; i < CALLERS; i++) close(d->callers[i]);
    close(d->fd);
}

/* Connecting is part of a POST: it ends with connect_ms or total_ms, whichever is less. */
static void test_connecting_is_in_total(void **state)
{
    (void)state;
    static const struct {
        int64_t connect_ms, total_ms;
    } rows[] = {{200, 20000}, {20000, 200}};
    struct deaf d = deaf_open();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[64], err[256];
        struct url url;
        struct collector_answer answer;
        snprintf(text, sizeof text, "ws://127.0.0.1:%u", d.port);
        assert_null(url_parse(&url, text));
        struct collector *c =
            collector_new(&(struct collector_options){.url = &url,
                                                      .path = "/",
                                                      .content_type = "text/plain",
                                                      .user_agent = "test",
                                                      .authorization = "",
                                                      .connect_ms = rows[i].connect_ms,
                                                      .total_ms = rows[i].total_ms},
                          err, sizeof err);
        assert_non_null(c);
        const int64_t began = clock_ms();
        assert_int_equal(collector_post(c, "x", 1, &answer, err, sizeof err), -1);
        const int64_t took = clock_ms() - began;
        if (took < 199 || took > 10000) fail_msg("row %zu: %lld ms, %s", i, (long long)took, err);
        collector_delete(c);
    }
    deaf_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_connecting_is_in_total)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
