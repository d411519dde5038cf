/* trace/export.c: its thread, against a server on loopback, while workers make spans. What the
 * requests say is in test_trace_formats.c, and with real servers in e2e/traces.test.mjs. */
#include "../trace/export.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../clock.h"
#include "../trace/otlp.h"

#define WORKERS 2
#define EACH 700 /* spans of a worker: more than two requests hold */
#define PATIENCE_MS 120000
#define REQUEST_MAX (TRACE_OTLP_MAX(512) + 8192)

/* ---- a collector ---- */

static struct {
    int fd;
    unsigned port;
    pthread_t thread;
    char *request; /* the server's thread only, until it is joined */
    pthread_mutex_t lock;
    unsigned busy;       /* so many requests more are told to come later */
    bool refuses;        /* all of them, for good */
    unsigned long spans; /* of those that were taken */
    unsigned odd;        /* requests that are not as they should be */
} server = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* read_request reads until all of a request is there; its head's size, or 0 at the peer's end. */
static size_t read_request(int fd)
{
    size_t len = 0, head = 0, body = 0;
    while (!head || len < head + body) {
        const ssize_t n = recv(fd, server.request + len, REQUEST_MAX - 1 - len, 0);
        if (n <= 0) return 0;
        len += (size_t)n;
        server.request[len] = 0;
        const char *end = strstr(server.request, "\r\n\r\n");
        const char *said = strstr(server.request, "Content-Length: ");
        if (head || !end || !said) continue;
        head = (size_t)(end - server.request) + 4;
        body = strtoul(said + 16, NULL, 10);
    }
    return head;
}

static unsigned long spans_of(const char *body)
{
    unsigned long n = 0;
    while ((body = strstr(body, "\"spanId\"")) != NULL) {
        body++;
        n++;
    }
    return n;
}

static const char *answer_to(const char *request, size_t head)
{
    static const char later[] = "HTTP/1.1 503 Later\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n";
    static const char never[] = "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n";
    static const char taken[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    const char *answer = taken;
    pthread_mutex_lock(&server.lock);
    if (strncmp(request, "POST /v1/traces HTTP/1.1\r\n", 26) != 0 ||
        !strstr(request, "\r\nAuthorization: Bearer abc\r\n"))
        server.odd++;
    if (server.refuses) {
        answer = never;
    } else if (server.busy) {
        server.busy--;
        answer = later;
    } else {
        server.spans += spans_of(request + head);
    }
    pthread_mutex_unlock(&server.lock);
    return answer;
}

static void *serve(void *arg)
{
    int fd;
    (void)arg;
    while ((fd = accept(server.fd, NULL, NULL)) != -1) {
        size_t head;
        while ((head = read_request(fd)) != 0) {
            const char *answer = answer_to(server.request, head);
            if (send(fd, answer, strlen(answer), MSG_NOSIGNAL) == -1) break;
        }
        close(fd);
    }
    return NULL;
}

static void server_open(unsigned busy, bool refuses)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    server.busy = busy;
    server.refuses = refuses;
    server.spans = server.odd = 0;
    server.request = malloc(REQUEST_MAX);
    server.fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_non_null(server.request);
    assert_int_equal(bind(server.fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(listen(server.fd, 8), 0);
    assert_int_equal(getsockname(server.fd, (struct sockaddr *)&a, &len), 0);
    server.port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&server.thread, NULL, serve, NULL), 0);
}

/* server_close: the exporter has hung up before, so that the thread waits for the next caller. */
static void server_close(void)
{
    shutdown(server.fd, SHUT_RDWR); /* ends accept */
    assert_int_equal(pthread_join(server.thread, NULL), 0);
    close(server.fd);
    free(server.request);
    assert_int_equal(server.odd, 0);
}

static unsigned long server_spans(void)
{
    pthread_mutex_lock(&server.lock);
    const unsigned long n = server.spans;
    pthread_mutex_unlock(&server.lock);
    return n;
}

/* ---- the exporter ---- */

static void start(unsigned port)
{
    char text[64], err[256];
    struct trace_export_options o = {
        .authorization = "Bearer abc", .instance = "", .sample = 1, .workers = WORKERS};
    snprintf(text, sizeof text, "otlp+http://127.0.0.1:%u", port);
    assert_null(trace_target_parse(&o.target, text));
    if (trace_export_open(&o, err, sizeof err) == -1) fail_msg("%s", err);
    assert_int_equal(trace_export_start(), 0);
}

static void make_spans(struct trace *t, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        trace_begin(t, TRACE_MESSAGE, NULL);
        trace_about(t, "news", 4);
        trace_end(t, 0);
    }
}

static void *work(void *tracer)
{
    make_spans(tracer, EACH);
    return NULL;
}

/* make_all: two workers at once, as they do, while the exporter looks into their rings. */
static void make_all(void)
{
    pthread_t threads[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, trace_export_worker(i)), 0);
    for (unsigned i = 0; i < WORKERS; i++) pthread_join(threads[i], NULL);
}

/* until_over waits until n spans have been sent or have failed. */
static struct trace_totals until_over(uint64_t n)
{
    static const struct timespec pause = {.tv_nsec = 5000000};
    const int64_t until_ms = clock_ms() + PATIENCE_MS;
    struct trace_totals t;
    for (trace_export_totals(&t); t.sent + t.failed < n && clock_ms() < until_ms;
         trace_export_totals(&t))
        nanosleep(&pause, NULL);
    return t;
}

/* ---- the tests ---- */

/* Everything arrives once, what was told to come later as well; and one totals what the other got.
 */
static void test_spans_arrive(void **state)
{
    (void)state;
    server_open(1, false);
    start(server.port);
    make_all();
    const struct trace_totals t = until_over(WORKERS * EACH);
    assert_int_equal(t.sent, WORKERS * EACH);
    assert_int_equal(t.failed, 0);
    assert_int_equal(t.dropped, 0);
    assert_int_equal(server_spans(), WORKERS * EACH);
    trace_export_stop();
    server_close();
    assert_int_equal(server.busy, 0);
}

static void test_refused(void **state)
{
    (void)state;
    server_open(0, true);
    start(server.port);
    make_all();
    const struct trace_totals t = until_over(WORKERS * EACH);
    assert_int_equal(t.failed, WORKERS * EACH);
    assert_int_equal(t.sent, 0);
    trace_export_stop();
    server_close();
    assert_int_equal(server.spans, 0);
}

/* A port that nobody listens at: bound, so that nobody else gets it. */
static void test_nobody_there(void **state)
{
    (void)state;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    start(ntohs(a.sin_port));
    make_spans(trace_export_worker(0), 1);
    const struct trace_totals t = until_over(1);
    assert_int_equal(t.failed, 1);
    assert_int_equal(t.sent, 0);
    trace_export_stop();
    close(fd);
}

/* What waits at the end is sent, if two seconds are enough: on a busy machine they may not be, so
 * it may take some rounds until they are. */
static void test_rest_is_sent(void **state)
{
    (void)state;
    unsigned long got = 0;
    for (unsigned round = 0; round < 20 && got != 3; round++) {
        server_open(0, false);
        start(server.port);
        make_spans(trace_export_worker(1), 3);
        trace_export_stop();
        server_close();
        got = server.spans;
    }
    assert_int_equal(got, 3);
    struct trace_totals t;
    trace_export_totals(&t); /* zero while it is off */
    assert_true(t.sent == 0 && t.failed == 0 && t.dropped == 0);
    assert_null(trace_export_worker(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spans_arrive),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_rest_is_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
