/* credentials.c: where a token comes from, and when a new one is asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "credentials.h"

static char dir[] = "/tmp/roost-credentials-XXXXXX";

static void test_exp(void **state)
{
    (void)state;
    static const struct {
        const char *token;
        int64_t exp_s;
    } cases[] = {
        {"h.eyJleHAiOjE3MDAwMDAwMDB9.s", 1700000000},    /* {"exp":1700000000} */
        {"h.eyJleHAiOjE3MDAwMDAwMDAuOX0.s", 1700000000}, /* {"exp":1700000000.9} */
        {"h.eyJzdWIiOiJhIn0.s", -1},                     /* {"sub":"a"} */
        {"h.eyJleHAiOiJ4In0.s", -1},                     /* {"exp":"x"} */
        {"h.!!!.s", -1},
        {"h..s", -1},
        {"no-dots", -1},
        {"", -1},
        {"h.eyJleHAiOjE3MDAwMDAwMDB9", 1700000000}, /* no signature: we only plan by it */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(credentials_exp(cases[i].token), cases[i].exp_s);
}

static void test_renew_at(void **state)
{
    (void)state;
    assert_int_equal(credentials_renew_at(1000, 1100), 1090);
    assert_int_equal(credentials_renew_at(1000, 1004), 1003);
    assert_int_equal(credentials_renew_at(1000, 4600), 4240);
    assert_int_equal(credentials_renew_at(0, 864000), 863400); /* ten minutes are enough */
    assert_int_equal(credentials_renew_at(1000, 1001), 1001);
    assert_int_equal(credentials_renew_at(1000, 900), 1001); /* past: soon, not at once for ever */
}

static void test_fixed(void **state)
{
    (void)state;
    struct credentials c = {.token_flag = " Bearer abc.def.ghi\n"};
    char err[200];
    assert_int_equal(credentials_load(&c, 1000, err, sizeof err), 1);
    assert_string_equal(c.token, "abc.def.ghi");
    assert_false(c.renewable);
    assert_int_equal(c.generation, 1);
    assert_int_equal(credentials_load(&c, 1000, err, sizeof err), 0);
    assert_int_equal(c.generation, 1);
}

static void test_file(void **state)
{
    (void)state;
    char path[100], err[200];
    snprintf(path, sizeof path, "%s/token", dir);
    struct credentials c = {.file = path};
    assert_int_equal(credentials_load(&c, 1000, err, sizeof err), -1);
    assert_non_null(strstr(err, "No such file"));
    for (int i = 0; i < 2; i++) {
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fprintf(f, "h.eyJleHAiOjE3MDAwMDAwMDB9.s%d\n", i);
        fclose(f);
        assert_int_equal(credentials_load(&c, 1699999900, err, sizeof err), 1);
        assert_int_equal(c.generation, i + 1);
        assert_true(c.renewable);
        assert_int_equal(c.renew_at_s, 1699999990);
    }
    unlink(path);
    assert_int_equal(credentials_load(&c, 1699999900, err, sizeof err), -1);
    assert_string_equal(c.token, "h.eyJleHAiOjE3MDAwMDAwMDB9.s1"); /* the old one is kept */
}

static void test_command(void **state)
{
    (void)state;
    static const struct {
        const char *cmd, *token, *err;
    } cases[] = {
        {"echo a.b.c", "a.b.c", NULL},     {"printf ' a.b.c \\n\\n'", "a.b.c", NULL},
        {"exit 3", NULL, "exit status 3"}, {"kill -9 $$", NULL, "exit status 137"},
        {"true", NULL, "gave no token"},   {"head -c 100000 /dev/zero", NULL, "printed too much"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct credentials c = {.cmd = cases[i].cmd};
        char err[200] = "";
        int rc = credentials_load(&c, 1000, err, sizeof err);
        assert_int_equal(rc, cases[i].token ? 1 : -1);
        if (cases[i].token)
            assert_string_equal(c.token, cases[i].token);
        else
            assert_non_null(strstr(err, cases[i].err));
    }
}

/* The secret of `roost serve --dev` makes a token that its rules accept. */
static void test_dev(void **state)
{
    (void)state;
    static const char secret[] = "0123456789abcdef0123456789abcdef";
    const char *const channels[] = {"chat", "with \"quotes\""};
    struct credentials c = {.channels = channels, .channel_count = 2};
    char path[100], err[200];
    snprintf(path, sizeof path, "%s/hmac_secret", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "%s\n", secret);
    fclose(f);
    setenv("ROOST_STATE_DIR", dir, 1);
    assert_true(credentials_dev_dir(c.dev_dir, sizeof c.dev_dir));
    assert_int_equal(credentials_load(&c, 1000, err, sizeof err), 1);
    assert_true(c.renewable);
    assert_int_equal(c.renew_at_s, 1000 + 3600 - 360);

    static _Alignas(8) uint8_t scratch[JWT_SCRATCH];
    struct jwt_rules rules = {
        .keys = {{.secret = (const uint8_t *)secret, .secret_len = sizeof secret - 1}},
        .key_count = 1};
    struct jwt_claims claims;
    const char *why = NULL;
    assert_int_equal(
        jwt_verify(&rules, c.token, strlen(c.token), 1001, &claims, scratch, sizeof scratch, &why),
        JWT_OK);
    assert_true(jwt_may(claims.pub, claims.pub_count, "chat", 4));
    assert_true(jwt_may(claims.sub_to, claims.sub_to_count, channels[1], strlen(channels[1])));
    assert_false(jwt_may(claims.pub, claims.pub_count, "other", 5));
    unlink(path);
    assert_false(credentials_dev_dir(c.dev_dir, sizeof c.dev_dir));
}

static int set_up(void **state)
{
    (void)state;
    unsetenv("ROOST_TOKEN");
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp),  cmocka_unit_test(test_renew_at), cmocka_unit_test(test_fixed),
        cmocka_unit_test(test_file), cmocka_unit_test(test_command),  cmocka_unit_test(test_dev),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
