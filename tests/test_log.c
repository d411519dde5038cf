/* Log lines: well-formed whatever is in them, whole whatever the threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guard.h"
#include "json.h"
#include "log.h"

#define TS_MS 1795504500123 /* 2026-11-24T07:15:00.123Z */
#define HEAD "ts=2026-11-24T07:15:00.123Z level=info "
#define JSON_HEAD "{\"ts\":\"2026-11-24T07:15:00.123Z\",\"level\":\"info\""

static const char *format_as(bool json, const char *msg, const struct log_field *fields, int worker)
{
    static char out[LOG_LINE_MAX + 1];
    struct log_line line = {.ts_ms = TS_MS,
                            .level = LOG_INFO,
                            .msg = msg,
                            .fields = fields,
                            .worker = worker,
                            .json = json};
    size_t len = log_format(out, &line);
    assert_in_range(len, 1, LOG_LINE_MAX);
    assert_int_equal(out[len - 1], '\n');
    out[len] = '\0';
    return out;
}

static const char *format(const char *msg, const struct log_field *fields, int worker)
{
    return format_as(false, msg, fields, worker);
}

static void a_line(void **state)
{
    (void)state;
    const struct log_field fields[] = {
        LOG_U64("conn", UINT64_MAX), LOG_I64("left", INT64_MIN), LOG_STR("peer", "10.0.0.1:5"),
        LOG_STR("none", NULL),       LOG_ERRNO(ENOENT),          LOG_END,
    };
    assert_string_equal(format("conn closed", fields, 3),
                        HEAD "msg=\"conn closed\" worker=3 conn=18446744073709551615 "
                             "left=-9223372036854775808 peer=10.0.0.1:5 none=\"\" "
                             "error=\"No such file or directory\"\n");
    const struct log_field none[] = {LOG_END};
    assert_string_equal(format("start", none, -1), HEAD "msg=start\n");
    assert_string_equal(format_as(true, "conn closed", fields, 3),
                        JSON_HEAD ",\"msg\":\"conn closed\",\"worker\":3,"
                                  "\"conn\":18446744073709551615,\"left\":-9223372036854775808,"
                                  "\"peer\":\"10.0.0.1:5\",\"none\":\"\","
                                  "\"error\":\"No such file or directory\"}\n");
    assert_string_equal(format_as(true, "start", none, -1), JSON_HEAD ",\"msg\":\"start\"}\n");
}

/* A value can not forge a field, break its line, or reach the terminal. */
static void values(void **state)
{
    (void)state;
    static const struct {
        const char *value, *shown;
    } rows[] = {
        {"word", "word"},
        {"a/b:c?d&[e]", "a/b:c?d&[e]"},
        {"", "\"\""},
        {"two words", "\"two words\""},
        {"a=b", "\"a=b\""},
        {"x\nlevel=error msg=forged", "\"x\\nlevel=error msg=forged\""},
        {"\" level=error", "\"\\\" level=error\""},
        {"back\\slash", "\"back\\\\slash\""},
        {"\t\r\x01\x7f", "\"\\t\\r\\u0001\\u007f\""},
        {"\033[31mred", "\"\\u001b[31mred\""},
        {"Zo\xc3\xab", "\"Zo\xc3\xab\""},
        {"\xf0\x9f\x90\x93", "\"\xf0\x9f\x90\x93\""},             /* four bytes */
        {"\xc2\x9b", "\"\\u009b\""},                              /* C1: CSI in one character */
        {"\xe2\x80\xae", "\"\\u202e\""},                          /* right-to-left override */
        {"\xe2\x80\xa8", "\"\\u2028\""},                          /* line separator */
        {"\xff", "\"\\ufffd\""},                                  /* never in UTF-8 */
        {"\xc0\xaf", "\"\\ufffd\\ufffd\""},                       /* overlong */
        {"\xe0\x80\xaf", "\"\\ufffd\\ufffd\\ufffd\""},            /* overlong */
        {"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""},            /* surrogate */
        {"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""}, /* above U+10FFFF */
        {"\xc3", "\"\\ufffd\""},                                  /* cut */
        {"\xe2\x82 x", "\"\\ufffd\\ufffd x\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t len = strlen(rows[i].value);
        char *value = guard_copy(rows[i].value, len), expected[256];
        const struct log_field fields[] = {LOG_STRN("v", value, len), LOG_END};
        snprintf(expected, sizeof expected, "%smsg=m v=%s\n", HEAD, rows[i].shown);
        assert_string_equal(format("m", fields, -1), expected);
        const char *mark = rows[i].shown[0] == '"' ? "" : "\""; /* JSON has quotes everywhere */
        snprintf(expected, sizeof expected, "%s,\"msg\":\"m\",\"v\":%s%s%s}\n", JSON_HEAD, mark,
                 rows[i].shown, mark);
        assert_string_equal(format_as(true, "m", fields, -1), expected);
        guard_free(value, len);
    }
}

/* logfmt_ok: NAME=VALUE parted by single spaces, values bare or quoted, one newline at the end. */
static bool logfmt_ok(const char *p)
{
    for (;; p++) {
        size_t name = strspn(p, "abcdefghijklmnopqrstuvwxyz_");
        if (name == 0 || p[name] != '=') return false;
        p += name + 1;
        if (*p == '"') {
            for (p++; *p != '"'; p++) {
                if (*p == '\\') p++;
                if ((unsigned char)*p < ' ') return false;
            }
            p++;
        } else {
            p += strcspn(p, " \n\"=");
        }
        if (*p == '\n') return p[1] == '\0';
        if (*p != ' ') return false;
    }
}

/* json_ok: one object, whole, and a newline; no byte in it that breaks a line. */
static bool json_ok(const char *line)
{
    size_t len = strlen(line), at;
    const char *why;
    if (line[0] != '{' || strcspn(line, "\r\n") != len - 1) return false;
    return json_check(line, len - 1, 0, &why, &at);
}

/* Values of every length, in every style, with a field behind: cut lines are well-formed and say
 * so. */
static void truncation(void **state)
{
    (void)state;
    static const char *const pieces[] = {"x", " ", "\"", "\n", "\xc3\xab", "\xff", "\\"};
    static char value[1200];
    for (size_t k = 0; k < sizeof pieces / sizeof *pieces; k++) {
        size_t step = strlen(pieces[k]);
        for (size_t len = 0; len + step < sizeof value; len += step) {
            memcpy(value + len, pieces[k], step);
            const struct log_field fields[] = {LOG_STRN("v", value, len + step),
                                               LOG_U64("n", 1234567890123456789), LOG_END};
            const char *line = format("m", fields, 1);
            assert_true(logfmt_ok(line));
            bool whole = strstr(line, " n=1234567890123456789\n") != NULL;
            bool cut = strstr(line, " truncated=true\n") != NULL;
            assert_true(whole != cut);
            if (len > 1000) assert_true(cut);
            if (len + step < 100) assert_true(whole);

            line = format_as(true, "m", fields, 1);
            assert_true(json_ok(line));
            whole = strstr(line, ",\"n\":1234567890123456789}\n") != NULL;
            cut = strstr(line, ",\"truncated\":true}\n") != NULL;
            assert_true(whole != cut);
            if (len > 1000) assert_true(cut);
            if (len + step < 100) assert_true(whole);
        }
    }
}

static void color(void **state)
{
    (void)state;
    char out[LOG_LINE_MAX];
    const struct log_field none[] = {LOG_END};
    struct log_line line = {.ts_ms = TS_MS,
                            .level = LOG_WARN,
                            .msg = "m",
                            .fields = none,
                            .suppressed = 7,
                            .worker = -1,
                            .color = true};
    size_t len = log_format(out, &line);
    static const char expected[] =
        "ts=2026-11-24T07:15:00.123Z level=\033[33mwarn\033[0m msg=m suppressed=7\n";
    assert_int_equal(len, sizeof expected - 1);
    assert_memory_equal(out, expected, len);
}

static void level_names(void **state)
{
    (void)state;
    enum log_level level;
    for (int i = LOG_ERROR; i <= LOG_DEBUG; i++) {
        assert_true(log_level_parse(log_level_name((enum log_level)i), &level));
        assert_int_equal(level, i);
    }
    assert_false(log_level_parse("loud", &level));
}

static void limit(void **state)
{
    (void)state;
    struct log_limit l = {0};
    uint32_t suppressed = 0, passed = 0;
    for (int i = 0; i < 10; i++) passed += log_limit_pass(&l, 3, 100, &suppressed);
    assert_int_equal(passed, 3);
    assert_true(log_limit_pass(&l, 3, 101, &suppressed));
    assert_int_equal(suppressed, 7);
    assert_true(log_limit_pass(&l, 3, 101, &suppressed));
    assert_int_equal(suppressed, 0);
}

/* ---- through a file ---- */

static char path[] = "/tmp/roost-log-XXXXXX", old_path[64];

static size_t slurp(const char *file, char *out, size_t cap)
{
    int fd = open(file, O_RDONLY);
    assert_true(fd != -1);
    size_t len = 0;
    for (ssize_t n; (n = read(fd, out + len, cap - 1 - len)) > 0;) len += (size_t)n;
    close(fd);
    out[len] = '\0';
    return len;
}

static int evaluated;
static uint64_t evaluate(void)
{
    return (uint64_t)++evaluated;
}

static void levels_and_rotation(void **state)
{
    (void)state;
    char text[4096];
    close(mkstemp(path));
    const struct log_options o = {.level = LOG_INFO, .file = path};
    assert_int_equal(log_open(&o), 0);
    errno = EPIPE;
    log_event(LOG_INFO, "one", LOG_U64("n", evaluate()));
    assert_int_equal(errno, EPIPE);
    log_event(LOG_DEBUG, "hidden", LOG_U64("n", evaluate()));
    assert_int_equal(evaluated, 1);

    snprintf(old_path, sizeof old_path, "%s.1", path);
    assert_int_equal(rename(path, old_path), 0);
    log_event(LOG_INFO, "two");
    assert_int_equal(log_open(&o), 0);
    log_event(LOG_WARN, "three");

    slurp(old_path, text, sizeof text);
    assert_non_null(strstr(text, "msg=one n=1\n"));
    assert_non_null(strstr(text, "msg=two\n"));
    assert_null(strstr(text, "hidden"));
    slurp(path, text, sizeof text);
    assert_non_null(strstr(text, "level=warn msg=three\n"));

    const struct log_options bad = {.level = LOG_INFO, .file = "/nonexistent/log"};
    assert_int_equal(log_open(&bad), -1);
    assert_int_equal(errno, ENOENT);
    log_event(LOG_INFO, "four");
    slurp(path, text, sizeof text);
    assert_non_null(strstr(text, "msg=four\n"));
    unlink(old_path);
}

/* One line in a window for all places with one limit; what is left out is not evaluated, and told
 * with the next line. */
static void seldom(void **state)
{
    (void)state;
    enum { LONG = 1 << 30 }; /* seconds: the clock stays in one window */
    static struct log_limit shared;
    char text[4096];
    const struct log_options o = {.level = LOG_INFO, .file = path};
    assert_int_equal(log_open(&o), 0);
    evaluated = 0;
    for (int i = 0; i < 10; i++) {
        log_seldom_of(&shared, LONG, LOG_WARN, "seldom a", LOG_U64("n", evaluate()));
        log_seldom_of(&shared, LONG, LOG_WARN, "seldom b", LOG_U64("n", evaluate()));
        log_seldom(LONG, LOG_WARN, "of its own");
        log_seldom_of(&shared, LONG, LOG_DEBUG, "hidden");
    }
    assert_int_equal(evaluated, 1);
    assert_int_equal(atomic_load(&shared.suppressed), 19);
    atomic_store(&shared.window, UINT64_MAX); /* of another window */
    log_seldom_of(&shared, LONG, LOG_WARN, "seldom c", LOG_U64("n", evaluate()));
    slurp(path, text, sizeof text);
    assert_non_null(strstr(text, "level=warn msg=\"seldom a\" n=1\n"));
    assert_null(strstr(text, "seldom b"));
    const char *own = strstr(text, "msg=\"of its own\"\n");
    assert_non_null(own);
    assert_null(strstr(own + 1, "msg=\"of its own\""));
    assert_non_null(strstr(text, "msg=\"seldom c\" suppressed=19 n=2\n"));
}

#define THREADS 4
#define LINES 500

static void *write_lines(void *arg)
{
    log_thread((int)(intptr_t)arg);
    for (int i = 0; i < LINES; i++)
        log_event(LOG_INFO, "from a thread", LOG_I64("i", i), LOG_STR("text", "with\nbreak"));
    return NULL;
}

/* Lines of several threads never mix, though the file is opened anew under them. */
static void threads(void **state)
{
    (void)state;
    static char text[THREADS * LINES * 160];
    const struct log_options o = {.level = LOG_INFO, .file = path};
    assert_int_equal(truncate(path, 0), 0);
    pthread_t thread[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, write_lines, (void *)(intptr_t)i), 0);
    for (int i = 0; i < 20; i++) assert_int_equal(log_open(&o), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);

    slurp(path, text, sizeof text);
    int next[THREADS] = {0}, lines = 0;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1, lines++) {
        *end = '\0';
        int worker, i;
        const char *at = strstr(line, "worker=");
        assert_non_null(at);
        assert_int_equal(sscanf(at, "worker=%d i=%d text=", &worker, &i), 2);
        assert_in_range(worker, 0, THREADS - 1);
        assert_int_equal(i, next[worker]++);
        assert_non_null(strstr(line, "text=\"with\\nbreak\""));
    }
    assert_int_equal(lines, THREADS * LINES);
    log_close();
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line),
        cmocka_unit_test(values),
        cmocka_unit_test(truncation),
        cmocka_unit_test(color),
        cmocka_unit_test(level_names),
        cmocka_unit_test(limit),
        cmocka_unit_test(levels_and_rotation),
        cmocka_unit_test(seldom),
        cmocka_unit_test(threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
