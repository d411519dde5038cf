/* metrics.c: sums over workers, histograms, and the text format (Prometheus exposition, 0.0.4). */
#include "../metrics.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct metrics workers[64];
static const struct metrics *all[64];
static char text[METRICS_TEXT_MAX];
static const struct metrics_process process = {.version = "1.2.3",
                                               .channels = 7,
                                               .history_bytes = 9,
                                               .memory_used_bytes = 1000,
                                               .memory_mapped_bytes = 65536,
                                               .start_time_s = 1700000000};

static int64_t render(size_t count)
{
    for (size_t i = 0; i < count; i++) all[i] = &workers[i];
    int64_t len = metrics_render(text, sizeof text, all, count, &process);
    assert_true(len > 0);
    assert_int_equal(strlen(text), len);
    return len;
}

/* value of the line that begins with name and a space. */
static double value(const char *name)
{
    char line[256];
    snprintf(line, sizeof line, "\n%s ", name);
    const char *at = strstr(text, line);
    if (at) return strtod(at + strlen(line), NULL);
    fail_msg("no line %s", name);
    return -1;
}

static int begin(void **state)
{
    (void)state;
    memset(workers, 0, sizeof workers);
    return 0;
}

static void test_sums(void **state)
{
    (void)state;
    metric_add(&workers[0], METRIC_MESSAGES_IN, 3);
    metric_add(&workers[2], METRIC_MESSAGES_IN, 4);
    metric_add(&workers[0], METRIC_QUEUED_BYTES, 5); /* queued here, */
    metric_sub(&workers[1], METRIC_QUEUED_BYTES, 2); /* and sent there */
    metric_add(&workers[1], METRIC_REFUSED_TOKEN, 9);
    metric_add(&workers[1], METRIC_CONNECTIONS, 11);
    metric_add(&workers[2], METRIC_BYTES_OUT, UINT64_C(1) << 40);
    render(3);
    assert_true(value("roost_messages_received_total") == 7);
    assert_true(value("roost_queued_bytes") == 3);
    assert_true(value("roost_refused_total{reason=\"token\"}") == 9);
    assert_true(value("roost_refused_total{reason=\"origin\"}") == 0);
    assert_true(value("roost_bytes_sent_total") == 1099511627776.0);
    assert_true(value("roost_worker_connections{worker=\"0\"}") == 0);
    assert_true(value("roost_worker_connections{worker=\"1\"}") == 11);
    assert_true(value("roost_workers") == 3);
    assert_true(value("roost_channels") == 7);
    assert_true(value("roost_history_bytes") == 9);
    assert_true(value("roost_memory_used_bytes") == 1000);
    assert_true(value("roost_memory_mapped_bytes") == 65536);
    assert_true(value("roost_start_time_seconds") == 1700000000);
    assert_true(value("roost_build_info{version=\"1.2.3\"}") == 1);
}

/* A bucket counts what is not above its bound, and all smaller ones. */
static void test_histogram(void **state)
{
    (void)state;
    static const uint64_t us[] = {0, 1, 2, 3, 4, 5, 1000, 1u << 23, (1u << 23) + 1, UINT64_MAX / 4};
    for (size_t i = 0; i < sizeof us / sizeof *us; i++)
        metric_observe(&workers[i % 2], HISTOGRAM_TURN, us[i]);
    render(2);
    unsigned last = 0;
    for (unsigned b = 0; b < METRIC_BUCKETS; b++) {
        char name[128];
        unsigned due = 0;
        for (size_t i = 0; i < sizeof us / sizeof *us; i++) due += us[i] <= UINT64_C(1) << b;
        snprintf(name, sizeof name, "roost_loop_lag_seconds_bucket{le=\"%g\"}",
                 (double)(1u << b) / 1e6);
        assert_int_equal(value(name), due);
        assert_true(due >= last);
        last = due;
    }
    assert_true(value("roost_loop_lag_seconds_bucket{le=\"+Inf\"}") == 10);
    assert_true(value("roost_loop_lag_seconds_count") == 10);
    assert_true(value("roost_loop_lag_seconds_sum") > 1e12);
    assert_true(value("roost_fanout_seconds_count") == 0);
}

/* ---- the format ---- */

static bool is_name(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)s[i]) && s[i] != '_' && s[i] != ':') return false;
    return len > 0 && !isdigit((unsigned char)s[0]);
}

/* check_sample: name{label="value",...} number, of the family announced before. */
static void check_sample(const char *line, const char *family, const char *type)
{
    size_t len = strcspn(line, "{ "), plain = strlen(family);
    assert_true(is_name(line, len));
    assert_memory_equal(line, family, plain);
    bool suffix = len != plain;
    if (suffix) assert_string_equal(type, "histogram");
    const char *at = line + len;
    if (*at == '{') {
        at++;
        while (*at != '}') {
            size_t label = strcspn(at, "=");
            assert_true(is_name(at, label));
            assert_int_equal(at[label + 1], '"');
            at += label + 2;
            at += strcspn(at, "\"") + 1;
            if (*at == ',') at++;
        }
        at++;
    }
    assert_int_equal(*at, ' ');
    char *end;
    assert_true(strtod(at + 1, &end) >= 0);
    assert_int_equal(*end, 0);
    if (strcmp(type, "counter") == 0 && !strstr(family, "_total"))
        fail_msg("the counter %s has no _total", family);
}

static void test_format(void **state)
{
    (void)state;
    static char lines[METRICS_TEXT_MAX], families[128][64];
    char family[64] = "", type[16] = "", help[64] = "";
    size_t count = 0;
    int64_t len = render(64);
    assert_int_equal(text[len - 1], '\n');
    memcpy(lines, text, sizeof lines);
    for (char *line = strtok(lines, "\n"); line; line = strtok(NULL, "\n")) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            assert_int_equal(sscanf(line + 7, "%63s", help), 1);
            assert_true(strlen(line) > 8 + strlen(help)); /* there is a text */
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_int_equal(sscanf(line + 7, "%63s %15s", family, type), 2);
            assert_string_equal(family, help);
            for (size_t i = 0; i < count; i++) assert_string_not_equal(families[i], family);
            assert_true(count < 128);
            strcpy(families[count++], family); /* each once, its lines together */
        } else {
            check_sample(line, family, type);
        }
    }
    assert_true(count > 30);
}

/* No room: it says so and writes nothing behind the end. */
static void test_no_room(void **state)
{
    (void)state;
    size_t len = (size_t)render(2);
    for (size_t cap = 0; cap <= len; cap += cap < 300 ? 1 : 97) {
        char *small = malloc(cap + 1);
        assert_non_null(small);
        small[cap] = '#';
        assert_int_equal(metrics_render(small, cap, all, 2, &process), -1);
        assert_int_equal(small[cap], '#');
        free(small);
    }
    char *enough = malloc(len + 1);
    assert_int_equal(metrics_render(enough, len + 1, all, 2, &process), len);
    free(enough);
}

/* METRICS_TEXT_MAX is enough with the longest numbers. */
static void test_longest(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 64; i++) {
        for (int id = 0; id < METRIC_COUNT; id++)
            metric_add(&workers[i], (enum metric)id, UINT64_MAX / 64 - 1);
        for (unsigned k = 0; k < 100; k++)
            metric_observe(&workers[i], HISTOGRAM_FANOUT, 1u << k % 24);
    }
    assert_true(render(64) < METRICS_TEXT_MAX / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_sums, begin),    cmocka_unit_test_setup(test_histogram, begin),
        cmocka_unit_test_setup(test_format, begin),  cmocka_unit_test_setup(test_no_room, begin),
        cmocka_unit_test_setup(test_longest, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
