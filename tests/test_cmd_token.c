/* Tests of cmd/token.c: what it prints and its exit status, each call in a process of its own. */
#include "../cmd/cmd.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../jwt.h"

#define SECRET "0123456789abcdef0123456789abcdef"
#define VARIABLE "ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY"

static char dir[] = "/tmp/roost-token-XXXXXX";
static char out[65536], err[65536], path[256];

static void put_file(const char *name, const char *text)
{
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(dir)) return -1;
    unsetenv(VARIABLE);
    unsetenv(VARIABLE "_FILE");
    unsetenv("ROOST_STATE_DIR");
    setenv("XDG_STATE_HOME", dir, 1);
    return 0;
}

static int tear_down(void **state)
{
    static const char *names[] = {
        "in",   "out", "err", "secret", "crlf", "empty", "pem", "short", "roost/hmac_secret",
        "roost"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        remove(path);
    }
    return rmdir(dir);
}

static void slurp(const char *name, char *text, size_t cap)
{
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, cap - 1, f)] = 0;
    fclose(f);
}

static void redirect(const char *name, int flags, int to)
{
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, flags, 0600);
    if (fd == -1 || dup2(fd, to) == -1) _exit(99);
}

/* Runs roost token with the words of line, in which "%" stands for the test's folder and "@" for
 * what is in out, its line break not included. Returns the exit status; out and err hold what was
 * printed. */
static int run(const char *line)
{
    static char words[65536];
    char *argv[64] = {(char *)(uintptr_t) "token"};
    int argc = 1;
    size_t len = 0;
    put_file("in", out);
    for (const char *p = line; *p; p++) {
        if (*p == '%')
            len += (size_t)sprintf(words + len, "%s", dir);
        else if (*p == '@')
            len += (size_t)sprintf(words + len, "%.*s", (int)strcspn(out, "\n"), out);
        else
            words[len++] = *p;
    }
    words[len] = 0;
    for (char *w = strtok(words, " "); w; w = strtok(NULL, " ")) argv[argc++] = w;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        redirect("in", O_RDONLY, 0);
        redirect("out", O_WRONLY | O_CREAT | O_TRUNC, 1);
        redirect("err", O_WRONLY | O_CREAT | O_TRUNC, 2);
        int status = cmd_token(argc, argv);
        fflush(NULL);
        _exit(status);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    slurp("out", out, sizeof out);
    slurp("err", err, sizeof err);
    return WEXITSTATUS(status);
}

static void expect(const char *line, int status, const char *in_out, const char *in_err)
{
    int got = run(line);
    if (got != status || !strstr(out, in_out) || !strstr(err, in_err))
        fail_msg("%s: status %d\n%s%s", line, got, out, err);
    assert_true(status != 2 || out[0] == 0); /* nothing that a script might take for a token */
}

static void test_make(void **state)
{
    (void)state;
    static struct jwt_claims claims;
    static _Alignas(8) char scratch[JWT_SCRATCH];
    struct jwt_rules rules = {
        .keys = {{.secret = (const uint8_t *)SECRET, .secret_len = 32, .kid = "k1"}},
        .key_count = 1};
    rules.audience = "roost";
    rules.issuer = "id";
    const char *why;
    put_file("secret", SECRET "\n");
    expect("make --sub alice --exp 15m --pub chat:* --sub-to chat:* --sub-to news --aud roost "
           "--iss id --kid k1 --claim info={\"a\":[1,2]} --secret-file %/secret",
           0, "eyJ", "");
    size_t len = strcspn(out, "\n");
    assert_int_equal(len, strlen(out) - 1);
    int64_t now_s = time(NULL);
    enum jwt_verdict v =
        jwt_verify(&rules, out, len, now_s, &claims, scratch, sizeof scratch, &why);
    assert_int_equal(v, JWT_OK);
    assert_true(claims.sub.len == 5 && memcmp(claims.sub.p, "alice", 5) == 0);
    assert_true(claims.iat_s <= now_s && claims.iat_s > now_s - 60);
    assert_int_equal(claims.exp_s, claims.iat_s + 900);
    assert_true(jwt_may(claims.pub, claims.pub_count, "chat:1", 6));
    assert_false(jwt_may(claims.pub, claims.pub_count, "news", 4));
    assert_true(jwt_may(claims.sub_to, claims.sub_to_count, "news", 4));
    assert_int_equal(
        jwt_verify(&rules, out, len, claims.exp_s, &claims, scratch, sizeof scratch, &why),
        JWT_EXPIRED);

    expect("show @ --secret-file %/secret", 0, "good", "");
    assert_non_null(strstr(out, "expires    in "));
    assert_non_null(strstr(out, "{\"a\":[1,2]}"));
}

static void test_make_wrong(void **state)
{
    (void)state;
    put_file("secret", SECRET);
    put_file("empty", "\n");
    put_file("pem", "-----BEGIN PUBLIC KEY-----\n");
    put_file("short", "0123456789abcdef0123456789abcde\n");
    expect("make", 2, "", "no secret");
    expect("make --secret-file %/nowhere", 2, "", "No such file");
    expect("make --secret-file %", 2, "", "Is a directory");
    expect("make --secret-file %/empty", 2, "", "is empty");
    expect("make --secret-file %/pem", 2, "", "PEM");
    expect("make --secret-file %/short", 2, "", "31 bytes");
    expect("make --secret-file %/short --insecure-short-secret", 0, "eyJ", "");
    expect("make --secret short", 2, "", "5 bytes");
    expect("make --secret-file %/secret --exp 1y", 2, "", "--exp 1y");
    expect("make --secret-file %/secret --exp -5s", 2, "", "--exp -5s");
    expect("make --secret-file %/secret --claim info", 2, "", "NAME=JSON");
    expect("make --secret-file %/secret --claim =1", 2, "", "NAME=JSON");
    expect("make --secret-file %/secret --claim info=Alice", 2, "", "wants its quotes");
    expect("make --secret-file %/secret --claim info=1,\"x\":2", 2, "", "something follows");
    expect("make --secret-file %/secret --sub a --claim sub=\"b\"", 2, "", "a name twice");
    expect("make --secret-file %/secret --claim sub=42", 2, "", "user id is not a string");
    expect("make --secret-file %/secret --claim roost=[]", 2, "", "roost is not an object");
    expect("make --secret-file %/secret alice", 2, "", "options only");
    expect("make --secret-file %/secret --nothing", 2, "", "--help");
    expect("make --secret-file %/secret --claim exp=1", 0, "eyJ", "note: token has expired");
}

static void test_secret_sources(void **state)
{
    (void)state;
    char dev[256];
    put_file("secret", SECRET);
    put_file("crlf", "a secret from Windows, long enough\r\n");
    setenv(VARIABLE, "the one in the environment, long enough", 1);
    expect("make", 0, "eyJ", "");
    expect("show @", 0, "good (secret of " VARIABLE ")", "");
    expect("make --secret-file %/crlf", 0, "eyJ", ""); /* an option comes before the environment */
    unsetenv(VARIABLE);
    expect("show --secret-file %/crlf @", 0, "good", "");
    expect("make --secret-file %/crlf", 0, "eyJ", "");
    put_file("crlf", "a secret from Windows, long enough");
    expect("show --secret-file %/crlf @", 0, "good", "");

    snprintf(path, sizeof path, "%s/secret", dir);
    setenv(VARIABLE "_FILE", path, 1);
    expect("make", 0, "eyJ", "");
    unsetenv(VARIABLE "_FILE");
    expect("show @ --secret " SECRET, 0, "good", "");

    snprintf(dev, sizeof dev, "%s/roost", dir);
    assert_int_equal(mkdir(dev, 0700), 0);
    put_file("roost/hmac_secret", "dev\n"); /* of any length */
    expect("make --sub dev", 0, "eyJ", "");
    expect("show @", 0, "good (secret of roost serve --dev)", "");
    snprintf(path, sizeof path, "%s/roost/hmac_secret", dir);
    unlink(path);
}

static void test_show(void **state)
{
    (void)state;
    put_file("secret", SECRET);
    expect("make --secret-file %/secret", 0, "eyJ", "");
    expect("show @", 3, "not checked: no secret", "");
    expect("make --secret-file %/secret", 0, "eyJ", "");
    expect("show -", 3, "\"exp\"", "");
    expect("make --secret-file %/secret --exp never", 0, "eyJ", "");
    expect("show - --secret-file %/secret", 0, "expires    never", "");
    expect("make --secret-file %/secret --exp 90m", 0, "eyJ", "");
    expect("show - --secret another", 1, "BAD (secret of --secret)", "");
    expect("make --secret-file %/secret --claim exp=0", 0, "eyJ", "note");
    expect("show @ --secret-file %/secret", 1, "EXPIRED", "");
    assert_non_null(strstr(out, "good"));
    expect("make --secret-file %/secret --claim exp=0", 0, "eyJ", "note");
    expect("show @", 1, "not checked", "");
    expect("make --secret-file %/secret --claim nbf=99999999999.5", 0, "eyJ", "note");
    expect("show @ --secret-file %/secret", 1, "NOT YET    before (5138-11-16 09:46:40 UTC)", "");
    expect("make --secret-file %/secret --claim exp=1e300", 0, "eyJ", "");
    expect("show @ --secret-file %/secret", 0, "expires    in ", "");
    expect("make --secret-file %/secret --claim exp=-1e300", 0, "eyJ", "note");
    expect("show @ --secret-file %/secret", 1, "EXPIRED", "");
    expect("make --secret-file %/secret --claim channel=\"news\"", 0, "eyJ",
           ""); /* a subscription's */
    expect("show @ --secret-file %/secret", 0, "good", "");
    expect("make --secret-file %/secret --claim x=\"\x7f\xc2\x9b\xc3\xa9\"", 0, "eyJ", "");
    expect("show @ --secret-file %/secret", 0, "\"\\u007f\\u009b\xc3\xa9\"", "");
}

static void test_show_wrong(void **state)
{
    (void)state;
    static const char none[] = "eyJhbGciOiJub25lIn0.e30.";
    out[0] = 0;
    expect("show", 2, "", "one token");
    expect("show a b", 2, "", "one token");
    expect("show -", 2, "", "no token");
    expect("show abc", 1, "three parts", "");
    expect("show a.b.c", 1, "INVALID", "");
    expect("show eyJ.eyJ.x", 1, "INVALID", "");
    memcpy(out, none, sizeof none);
    expect("show @", 1, "INVALID    alg is not HS256", "");
    memset(out, 'a', 20000);
    out[20000] = 0;
    expect("show -", 2, "", "too long");
    memset(out, 'a', 20000);
    out[20000] = 0;
    expect("show @", 2, "", "too long");
}

static void test_help(void **state)
{
    (void)state;
    expect("", 2, "", "usage");
    expect("nothing", 2, "", "usage");
    expect("--help", 0, "usage", "");
    expect("make --help", 0, "--sub-to", "");
    expect("show --help", 0, "Exit status", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_make),           cmocka_unit_test(test_make_wrong),
        cmocka_unit_test(test_secret_sources), cmocka_unit_test(test_show),
        cmocka_unit_test(test_show_wrong),     cmocka_unit_test(test_help),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
