/* collector.c: how long a POST may take in all, and an answer that is followed. The rest is in
 * e2e/traces.test.mjs. */
#include "../collector.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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

static struct collector *caller(unsigned port, int64_t connect_ms, int64_t total_ms)
{
    char text[64], err[256];
    struct url url;
    snprintf(text, sizeof text, "ws://127.0.0.1:%u", port);
    assert_null(url_parse(&url, text));
    struct collector *c = collector_new(&(struct collector_options){.url = &url,
                                                                    .path = "/",
                                                                    .content_type = "text/plain",
                                                                    .user_agent = "test",
                                                                    .authorization = "",
                                                                    .connect_ms = connect_ms,
                                                                    .total_ms = total_ms},
                                        err, sizeof err);
    assert_non_null(c);
    return c;
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
        char err[256];
        struct collector_answer answer;
        struct collector *c = caller(d.port, rows[i].connect_ms, rows[i].total_ms);
        const int64_t began = clock_ms();
        assert_int_equal(collector_post(c, "x", 1, &answer, err, sizeof err), -1);
        const int64_t took = clock_ms() - began;
        if (took < 199 || took > 10000) fail_msg("row %zu: %lld ms, %s", i, (long long)took, err);
        collector_delete(c);
    }
    deaf_close(&d);
}

/* ---- an answer that is followed ---- */

/* A server of one request, a thread: it says what it has to say and hangs up, or waits for the
 * caller to do so. */
struct speaker {
    pthread_t thread;
    int fd;
    unsigned port;
    const char *const *says; /* in pieces; NULL behind the last */
    bool stays;
};

static void read_request(int fd)
{
    char got[4096];
    size_t len = 0;
    for (ssize_t n; len < sizeof got && !memmem(got, len, "\r\n\r\n", 4); len += (size_t)n)
        if ((n = recv(fd, got + len, sizeof got - len, 0)) <= 0) return;
}

static void *speak(void *arg)
{
    char c;
    const struct speaker *s = arg;
    const int fd = accept(s->fd, NULL, NULL);
    if (fd == -1) return NULL;
    read_request(fd);
    for (const char *const *p = s->says; *p; p++)
        (void)!send(fd, *p, strlen(*p), MSG_NOSIGNAL); /* the caller may have heard enough */
    if (!s->stays) shutdown(fd, SHUT_WR);
    while (recv(fd, &c, 1, 0) > 0) continue;
    close(fd);
    return NULL;
}

static void speaker_open(struct speaker *s, const char *const *says, bool stays)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    *s = (struct speaker){.fd = socket(AF_INET, SOCK_STREAM, 0), .says = says, .stays = stays};
    assert_int_equal(bind(s->fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(s->fd, 1), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &len), 0);
    s->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, speak, s), 0);
}

static void speaker_close(struct speaker *s)
{
    assert_int_equal(pthread_join(s->thread, NULL), 0);
    close(s->fd);
}

struct taken {
    char text[256];
    size_t len;
    size_t enough; /* then no more is wanted */
};

static bool take(const char *bytes, size_t len, void *arg)
{
    struct taken *t = arg;
    assert_true(len <= sizeof t->text - 1 - t->len);
    memcpy(t->text + t->len, bytes, len);
    t->len += len;
    t->text[t->len] = 0;
    return t->len < t->enough;
}

#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#define PLENTY_MS 60000 /* of time, when nothing shall depend on it */

struct followed {
    const char *says[6];
    bool stays; /* hangs up otherwise */
    size_t enough;
    int64_t total_ms, silence_ms; /* 0: plenty */
    const char *took, *why;       /* why NULL: it went well */
    int status;
};

static void follow(const struct followed *row)
{
    struct speaker s;
    char err[256] = "";
    struct collector_answer *answer = calloc(1, sizeof *answer);
    struct taken taken = {.enough = row->enough ? row->enough : SIZE_MAX};
    const struct collector_taker taker = {
        .take = take, .arg = &taken, .silence_ms = row->silence_ms ? row->silence_ms : PLENTY_MS};
    assert_non_null(answer);
    speaker_open(&s, row->says, row->stays);
    struct collector *c = caller(s.port, PLENTY_MS, row->total_ms ? row->total_ms : PLENTY_MS);
    const int result = collector_follow(c, &taker, answer, err, sizeof err);
    collector_delete(c);
    speaker_close(&s);
    /* on a busy machine the little time may be over before the connection is there */
    const bool late = row->total_ms && strcmp(err, strerror(ETIMEDOUT)) == 0;
    if (result != (row->why ? -1 : 0) || (!late && strcmp(err, row->why ? row->why : "") != 0) ||
        strcmp(taken.text, row->took) != 0 || (row->status && answer->status != row->status))
        fail_msg("%s: %d, \"%s\", took \"%s\"", row->says[1], result, err, taken.text);
    if (row->status >= 400) assert_memory_equal(answer->body, "four already", 12);
    free(answer);
}

static void test_follow(void **state)
{
    (void)state;
    static const struct followed rows[] = {
        {.says = {CHUNKED, "3\r\nabc\r\n", "0\r\n\r\n"}, .took = "abc", .status = 200},
        {.says = {CHUNKED "3\r\nabc\r\n2", "\r\nde\r\n0", "\r\n\r\n"}, .took = "abcde"},
        {.says = {CHUNKED "0\r\n\r\n", ""}, .stays = true, .took = ""},
        {.says = {"HTTP/1.1 100 Continue\r\n\r\n", CHUNKED, "1\r\na\r\n0\r\n\r\n"}, .took = "a"},
        /* no more is wanted: it ends although the answer goes on */
        {.says = {CHUNKED, "3\r\nabc\r\n"}, .stays = true, .enough = 3, .took = "abc"},
        /* malformed */
        {.says = {CHUNKED, "3\r\nabc\r\nx\r\n"},
         .stays = true,
         .took = "",
         .why = "the answer's body is malformed"},
        {.says = {CHUNKED, "3\r\nabcd\r\n"},
         .stays = true,
         .took = "",
         .why = "the answer's body is malformed"},
        /* hung up in the middle */
        {.says = {CHUNKED, ""}, .took = "", .why = "the server has hung up"},
        {.says = {CHUNKED, "3\r\nabc\r\n"}, .took = "abc", .why = "the server has hung up"},
        {.says = {CHUNKED, "5\r\nabc"}, .took = "abc", .why = "the server has hung up"},
        {.says = {"HTTP/1.1 200 OK\r\n", ""}, .took = "", .why = "the server has hung up"},
        /* something that is no stream */
        {.says = {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "abc"},
         .took = "",
         .why = "the answer is no stream: that is not roost, or a proxy's page"},
        {.says = {"HTTP/1.1 200 OK\r\n\r\n", "abc"},
         .stays = true,
         .took = "",
         .why = "the answer is no stream: that is not roost, or a proxy's page"},
        {.says = {"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 12\r\n\r\n", "four already"},
         .took = "",
         .status = 429},
        /* silence: before the head it is total_ms that counts, behind it silence_ms */
        {.says = {"", ""}, .stays = true, .total_ms = 200, .took = "", .why = "no answer in time"},
        {.says = {"HTTP/1.1 200", ""},
         .stays = true,
         .total_ms = 200,
         .took = "",
         .why = "no answer in time"},
        {.says = {CHUNKED, ""},
         .stays = true,
         .silence_ms = 200,
         .took = "",
         .why = "no answer in time"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) follow(&rows[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_connecting_is_in_total),
                                       cmocka_unit_test(test_follow)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
