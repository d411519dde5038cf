/* emf.c: the line, field by field (CloudWatch embedded metric format specification); when it is
 * due; and a reader who does not read. */
#include "../emf.h"

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct metrics m[2];
static const struct metrics *const workers[] = {&m[0], &m[1]};
static char text[EMF_LINE_MAX * 4];
static int fd[2];

static int open_pipe(void **state)
{
    (void)state;
    memset(m, 0, sizeof m);
    return pipe2(fd, O_NONBLOCK);
}

static int close_pipe(void **state)
{
    (void)state;
    close(fd[0]);
    close(fd[1]);
    return 0;
}

static size_t told(void)
{
    ssize_t n = read(fd[0], text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    return n > 0 ? (size_t)n : 0;
}

static void test_line(void **state)
{
    (void)state;
    struct json_out o = {.p = text, .cap = sizeof text};
    const struct emf_figures f = {1, 2, 3, 4, 5};
    emf_line(&o, &f, "a\"b", 1700000000123, 60000);
    static const char wanted[] =
        "{\"_aws\":{\"Timestamp\":1700000000123,\"CloudWatchMetrics\":[{\"Namespace\":\"roost\","
        "\"Dimensions\":[[\"Service\"],[\"Service\",\"Host\"]],\"Metrics\":["
        "{\"Name\":\"OpenConnections\",\"Unit\":\"Count\",\"StorageResolution\":60},"
        "{\"Name\":\"NewConnections\",\"Unit\":\"Count\",\"StorageResolution\":60},"
        "{\"Name\":\"Messages\",\"Unit\":\"Count\",\"StorageResolution\":60},"
        "{\"Name\":\"BytesOut\",\"Unit\":\"Bytes\",\"StorageResolution\":60},"
        "{\"Name\":\"SlowDropped\",\"Unit\":\"Count\",\"StorageResolution\":60}]}]},"
        "\"Service\":\"roost\",\"Host\":\"a\\\"b\",\"OpenConnections\":1,\"NewConnections\":2,"
        "\"Messages\":3,\"BytesOut\":4,\"SlowDropped\":5}\n";
    assert_int_equal(o.len, sizeof wanted - 1);
    assert_memory_equal(text, wanted, o.len);
}

/* The longest host and numbers fit into a line, and a line into what a pipe takes whole. */
static void test_room(void **state)
{
    (void)state;
    char host[256];
    memset(host, 1, sizeof host);
    host[255] = 0;
    struct json_out o = {.p = text, .cap = EMF_LINE_MAX};
    const struct emf_figures f = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};
    emf_line(&o, &f, host, INT64_MAX, 1000);
    assert_false(o.full);
    assert_true(EMF_LINE_MAX <= PIPE_BUF);
}

static void test_deltas(void **state)
{
    (void)state;
    struct emf e;
    emf_begin(&e, 10000, "h", 5000);
    assert_true(emf_left_ms(&e, 6000) == 9000);
    metric_add(&m[0], METRIC_CONNECTIONS, 3);
    metric_add(&m[1], METRIC_CONNECTIONS, 4);
    metric_add(&m[1], METRIC_UPGRADED, 9);
    metric_add(&m[0], METRIC_MESSAGES_IN, 5);
    metric_add(&m[0], METRIC_MESSAGES_OUT, 6);
    emf_tell(&e, workers, 2, fd[1], 14999, false);
    assert_int_equal(told(), 0);
    emf_tell(&e, workers, 2, fd[1], 15000, false);
    assert_true(told() > 0);
    assert_non_null(strstr(text, "\"StorageResolution\":1}"));
    assert_non_null(strstr(text, "\"OpenConnections\":7,\"NewConnections\":9,\"Messages\":11,"));
    metric_sub(&m[0], METRIC_CONNECTIONS, 1);
    metric_add(&m[0], METRIC_UPGRADED, 1);
    metric_add(&m[1], METRIC_SLOW_CLOSED, 1);
    metric_add(&m[1], METRIC_SLOW_DROPPED, 1);
    emf_tell(&e, workers, 2, fd[1], 47000, false); /* late: one line, and then at its time again */
    assert_non_null(strchr((told(), text), '\n'));
    assert_true(strchr(text, '\n')[1] == 0);
    assert_non_null(strstr(text, "\"OpenConnections\":6,\"NewConnections\":1,\"Messages\":0,"));
    assert_non_null(strstr(text, "\"SlowDropped\":2}"));
    assert_true(emf_left_ms(&e, 47000) == 8000);
    emf_tell(&e, workers, 2, fd[1], 47001, true);
    assert_true(told() > 0);
    emf_begin(&e, 0, "h", 0);
    assert_true(emf_left_ms(&e, 1) == INT64_MAX);
    emf_tell(&e, workers, 2, fd[1], 1, true);
    assert_int_equal(told(), 0);
}

static void test_full_pipe(void **state)
{
    (void)state;
    struct emf e;
    char page[PIPE_BUF] = {0};
    emf_begin(&e, 1000, "", 0);
    assert_true(*e.host);
    while (write(fd[1], page, sizeof page) > 0) {
    }
    assert_int_equal(fcntl(fd[1], F_SETFL, 0), 0); /* it would block */
    metric_add(&m[0], METRIC_UPGRADED, 2);
    emf_tell(&e, workers, 2, fd[1], 1000, false);
    while (told() == sizeof text - 1) {
    }
    assert_null(strstr(text, "_aws"));
    metric_add(&m[0], METRIC_UPGRADED, 3);
    emf_tell(&e, workers, 2, fd[1], 2000, false);
    told();
    assert_non_null(strstr(text, "\"NewConnections\":5,"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_line),
        cmocka_unit_test(test_room),
        cmocka_unit_test_setup_teardown(test_deltas, open_pipe, close_pipe),
        cmocka_unit_test_setup_teardown(test_full_pipe, open_pipe, close_pipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
