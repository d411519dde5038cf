/* metrics.c, metrics_series.c, metrics_centrifugo.c: sums over workers, histograms, and the text
 * formats (Prometheus exposition 0.0.4, OpenMetrics 1.0.0). */
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
static const char *api_method(unsigned i)
{
    return i >= METRIC_API_METHODS ? NULL : i == 0 ? "publish" : "presence_stats";
}

static const struct metrics_form forms[] = {
    {false, false}, {false, true}, {true, false}, {true, true}};
static const struct metrics_form *form = &forms[0];
static const struct metrics_process process = {.version = "1.2.3",
                                               .used_channels = 6,
                                               .resident_bytes = 4096,
                                               .cpu_us = 12345678,
                                               .api_method = api_method,
                                               .channels = 7,
                                               .history_bytes = 9,
                                               .memory_used_bytes = 1000,
                                               .memory_mapped_bytes = 65536,
                                               .start_time_s = 1700000000};

static int64_t render(size_t count)
{
    for (size_t i = 0; i < count; i++) all[i] = &workers[i];
    int64_t len = metrics_render(text, sizeof text, all, count, &process, form);
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
    form = &forms[0];
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
    metric_add(&workers[1], METRIC_UPGRADED, 12);
    metric_add(&workers[1], METRIC_CLOSED, 1);
    metric_add(&workers[2], METRIC_BYTES_OUT, UINT64_C(1) << 40);
    render(3);
    assert_true(value("roost_messages_received_total") == 7);
    assert_true(value("roost_queued_bytes") == 3);
    assert_true(value("roost_refused_total{reason=\"token\"}") == 9);
    assert_true(value("roost_refused_total{reason=\"origin\"}") == 0);
    assert_true(value("roost_bytes_sent_total") == 1099511627776.0);
    assert_true(value("roost_worker_connections{worker=\"0\"}") == 0);
    assert_true(value("roost_worker_connections{worker=\"1\"}") == 11);
    assert_true(value("roost_connections_open") == 11);
    assert_true(value("roost_connections_upgraded_total") == 12);
    assert_true(value("roost_connections_closed_total") == 1);
    assert_true(value("roost_workers") == 3);
    assert_true(value("roost_cpu_seconds_total") == 12.345678);
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
        snprintf(name, sizeof name, "roost_loop_lag_seconds_bucket{le=\"%.9g\"}",
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

/* What has a label of many values: in its place, by all workers together, or "other". */
static void test_series(void **state)
{
    (void)state;
    static const unsigned codes[] = {1000, 1015, 1016, 2999, 3000, 3015, 3500, 3515, 4999, 65535};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        metric_close(&workers[i % 2], codes[i]);
    metric_reply_error(&workers[0], COMMAND_SUBSCRIBE, 103);
    metric_reply_error(&workers[1], COMMAND_SUBSCRIBE, 103);
    metric_reply_error(&workers[1], COMMAND_SUB_REFRESH, 115);
    metric_reply_error(&workers[1], COMMAND_PUBLISH, 99);
    metric_reply_error(&workers[1], COMMAND_PUBLISH, 4000);
    metric_api(&workers[0], 1, 1500000, false);
    metric_api(&workers[1], 1, 1, true);
    metric_api(&workers[1], METRIC_API_METHODS, 1, true); /* there is no such method */
    form = &forms[1];
    render(2);
    static const char *const alone[] = {"1000", "1015", "3000", "3015", "3500", "3515"};
    char name[96];
    for (size_t i = 0; i < sizeof alone / sizeof *alone; i++) {
        snprintf(name, sizeof name, "roost_closes_sent_total{code=\"%s\"}", alone[i]);
        assert_true(value(name) == 1);
    }
    assert_true(value("roost_closes_sent_total{code=\"other\"}") == 4);
    assert_null(strstr(text, "{code=\"1001\"}"));
    assert_true(value("roost_client_errors_total{method=\"subscribe\",code=\"103\"}") == 2);
    assert_true(value("roost_client_errors_total{method=\"sub_refresh\",code=\"115\"}") == 1);
    assert_true(value("roost_client_errors_total{method=\"publish\",code=\"other\"}") == 2);
    assert_true(value("roost_api_command_seconds_count{method=\"presence_stats\"}") == 2);
    assert_true(value("roost_api_command_seconds_sum{method=\"presence_stats\"}") == 1.500001);
    assert_true(value("roost_api_errors_total{method=\"presence_stats\"}") == 1);
    assert_true(value("centrifugo_client_num_server_disconnects{code=\"3515\"}") == 1);
    assert_true(
        value(
            "centrifugo_transport_outgoing_close_count{transport=\"websocket\",code=\"other\"}") ==
        4);
    assert_true(value("centrifugo_client_num_reply_errors{method=\"subscribe\",code=\"103\"}") ==
                2);
}

static void came(const char *name, struct metrics *m)
{
    metric_client_came(m, metric_client_name((struct text){name, strlen(name)}));
}

/* A client may be counted in on one worker and out on another: the sum is right. */
static void test_client_names(void **state)
{
    (void)state;
    static const char *const names[] = {"js", "js", "python", "", "j", "jss", "none", "a\"b"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) came(names[i], &workers[0]);
    metric_client_left(&workers[1], metric_client_name((struct text){"js", 2}));
    metric_client_left(&workers[1], 0);
    form = &forms[1];
    render(2);
    assert_true(value("roost_clients{name=\"js\"}") == 1);
    assert_true(value("roost_clients{name=\"python\"}") == 1);
    assert_true(value("roost_clients{name=\"none\"}") == 1);
    assert_true(value("roost_clients{name=\"other\"}") == 4);
    assert_true(value("roost_clients_connected_total{name=\"js\"}") == 2);
    assert_true(value("centrifugo_client_connections_inflight{transport=\"websocket\",client_name="
                      "\"other\"}") == 4);
}

/* OpenMetrics: a counter's family has no _total, one that can have none is of no type; # EOF. */
static void test_openmetrics(void **state)
{
    (void)state;
    form = &forms[3];
    int64_t len = render(2);
    struct metrics_text t = {
        .p = text, .cap = sizeof text, .len = (size_t)len, .openmetrics = true};
    metrics_add_end(&t); /* behind what kernel.h adds */
    assert_string_equal(text + len, "# EOF\n");
    assert_ptr_equal(strstr(text, "# EOF"), text + len);
    assert_non_null(strstr(text, "\n# TYPE roost_messages_received counter\n"));
    assert_non_null(strstr(text, "\nroost_messages_received_total 0\n"));
    assert_non_null(strstr(text, "\n# TYPE centrifugo_transport_messages_sent unknown\n"));
    form = &forms[1];
    render(2);
    assert_null(strstr(text, "# EOF"));
    assert_non_null(strstr(text, "\n# TYPE roost_messages_received_total counter\n"));
    assert_non_null(strstr(text, "\n# TYPE centrifugo_transport_messages_sent counter\n"));
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
    if (suffix && strcmp(type, "counter") == 0) {
        assert_true(form->openmetrics);
        assert_memory_equal(line + plain, "_total", len - plain);
    } else if (suffix && strcmp(type, "summary") != 0) {
        assert_string_equal(type, "histogram");
    }
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
    if (strcmp(type, "counter") == 0 && strncmp(family, "roost_", 6) == 0 &&
        !form->openmetrics == !strstr(family, "_total"))
        fail_msg("the counter %s has no _total", family);
}

static void check_form(void)
{
    static char lines[METRICS_TEXT_MAX], families[192][64];
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
            assert_true(count < 192);
            strcpy(families[count++], family); /* each once, its lines together */
        } else if (strcmp(line, "# EOF") != 0) {
            check_sample(line, family, type);
        }
    }
    assert_true(count > 30);
}

static void test_format(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        form = &forms[i];
        check_form();
    }
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
        assert_int_equal(metrics_render(small, cap, all, 2, &process, form), -1);
        assert_int_equal(small[cap], '#');
        free(small);
    }
    char *enough = malloc(len + 1);
    assert_int_equal(metrics_render(enough, len + 1, all, 2, &process, form), len);
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
        _Atomic uint64_t *const cells = (_Atomic uint64_t *)&workers[i];
        for (size_t k = offsetof(struct metrics, closes) / 8; k < sizeof workers[i] / 8; k++)
            metric_cell_add(&cells[k], UINT64_MAX / 64 - 1);
    }
    form = &forms[3];
    assert_true(render(64) < METRICS_TEXT_MAX * 3 / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_sums, begin),
        cmocka_unit_test_setup(test_histogram, begin),
        cmocka_unit_test_setup(test_format, begin),
        cmocka_unit_test_setup(test_no_room, begin),
        cmocka_unit_test_setup(test_longest, begin),
        cmocka_unit_test_setup(test_series, begin),
        cmocka_unit_test_setup(test_client_names, begin),
        cmocka_unit_test_setup(test_openmetrics, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
