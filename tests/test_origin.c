/* origin.c: which pages may connect (RFC 6455 section 10.2), as a table. */
#include "../origin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guard.h"

#include <cmocka.h>

static const struct {
    const char *patterns; /* separated by spaces */
    const char *origin;   /* NULL: no header */
    bool allowed;
} cases[] = {
    {"", NULL, true}, /* not a browser */
    {"https://a.example", NULL, true},
    {"", "https://a.example", false},
    {"", "null", false},
    {"", "", false},
    {"*", "https://a.example", true},
    {"*", "null", true},
    {"*", "file://", true},
    {"https://a.example", "https://a.example", true},
    {"https://a.example", "https://A.Example", true},
    {"https://a.example", "HTTPS://A.EXAMPLE", true},
    {"https://a.example", "http://a.example", false},
    {"https://a.example", "https://a.example:8443", false},
    {"https://a.example", "https://a.example.evil.example", false},
    {"https://a.example", "https://evil-a.example", false},
    {"https://a.example", "https://a.example/", false},
    {"https://a.example", "null", false},
    {"https://*.a.example", "https://x.a.example", true},
    {"https://*.a.example", "https://x.y.a.example", true},
    {"https://*.a.example", "https://a.example", false},
    {"https://*.a.example", "https://xa.example", false},
    {"https://a.example:*", "https://a.example:8443", true},
    {"http://localhost:*", "http://localhost.evil.example:80", false},
    {"http://host?", "http://host1", true},
    {"http://host?", "http://host12", false},
    {"http://host[12]", "http://host2", true},
    {"http://host[12]", "http://host3", false},
    {"http://[[]::1]:*", "http://[::1]:8080", true},
    {"https://b.example https://a.example", "https://a.example", true},
    {"https://b.example https://c.example", "https://a.example", false},
};

static bool allowed(const char *patterns, const char *origin, size_t len)
{
    char copy[256], *list[8];
    size_t count = 0;
    strcpy(copy, patterns);
    for (char *p = strtok(copy, " "); p; p = strtok(NULL, " ")) list[count++] = p;
    if (!origin) return origin_allowed((const char *const *)list, count, (struct http_str){0});
    char *end = guard_copy(origin, len); /* a piece of a head: nothing ends it */
    bool r = origin_allowed((const char *const *)list, count, (struct http_str){end, len});
    guard_free(end, len);
    return r;
}

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *o = cases[i].origin;
        if (allowed(cases[i].patterns, o, o ? strlen(o) : 0) != cases[i].allowed)
            fail_msg("[%s] %s: not %d", cases[i].patterns, o ? o : "(none)", cases[i].allowed);
    }
}

static void test_long(void **state)
{
    (void)state;
    char origin[8192];
    memset(origin, 'a', sizeof origin);
    assert_true(allowed("*", origin, 512));
    assert_false(allowed("*", origin, 513));
    assert_false(allowed("*", origin, sizeof origin));
}

/* A NUL does not end the comparison early. */
static void test_nul(void **state)
{
    (void)state;
    static const char origin[] = "https://a.example\0.evil.example";
    assert_false(allowed("https://a.example", origin, sizeof origin - 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_nul),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
