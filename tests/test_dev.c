/* The state folder of `serve --dev` and its banner. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dev.h"
#include "jwt.h"

static const int64_t NOW_S = 1700000000;
static char root[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static int setup(void **state)
{
    (void)state;
    strcpy(root, "/tmp/roost-dev-XXXXXX");
    if (!mkdtemp(root)) return -1;
    unsetenv("XDG_STATE_HOME");
    unsetenv("HOME");
    return setenv("ROOST_STATE_DIR", root, 1);
}

static int teardown(void **state)
{
    (void)state;
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static unsigned mode_of(const char *path)
{
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 0777;
}

static void open_ok(struct dev_state *s)
{
    char err[512] = "";
    if (dev_state_open(s, NOW_S, err, sizeof err) == -1) fail_msg("%s", err);
}

static void open_refused(const char *words)
{
    struct dev_state s;
    char err[2048] = "";
    assert_int_equal(dev_state_open(&s, NOW_S, err, sizeof err), -1);
    if (!strstr(err, words)) fail_msg("\"%s\" lacks \"%s\"", err, words);
    assert_null(strchr(err, '\n'));
}

static void made_once_and_kept(void **state)
{
    (void)state;
    struct dev_state first, second;
    open_ok(&first);
    assert_int_equal(strlen(first.hmac_secret), DEV_SECRET_CHARS);
    assert_int_equal(strlen(first.api_key), DEV_SECRET_CHARS);
    assert_string_not_equal(first.hmac_secret, first.api_key);
    const char *files[] = {first.hmac_secret_file, first.api_key_file, first.cert_file,
                           first.key_file, first.token_file};
    struct stat before[5], after;
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(mode_of(files[i]), 0600);
        assert_int_equal(stat(files[i], &before[i]), 0);
    }
    assert_int_equal(mode_of(first.dir), 0700);
    open_ok(&second);
    assert_string_equal(first.hmac_secret, second.hmac_secret);
    assert_string_equal(first.api_key, second.api_key);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(stat(files[i], &after), 0);
        assert_int_equal(after.st_ino, before[i].st_ino);
    }
}

static void folder_by_xdg_then_home_then_here(void **state)
{
    (void)state;
    struct dev_state s;
    char path[128], here[512];
    unsetenv("ROOST_STATE_DIR");
    snprintf(path, sizeof path, "%s/xdg/deep", root);
    setenv("XDG_STATE_HOME", path, 1);
    setenv("HOME", root, 1);
    open_ok(&s);
    snprintf(path, sizeof path, "%s/xdg/deep/roost", root);
    assert_string_equal(s.dir, path);
    assert_int_equal(mode_of(path), 0700);

    setenv("XDG_STATE_HOME", "relative", 1);
    open_ok(&s);
    snprintf(path, sizeof path, "%s/.local/state/roost", root);
    assert_string_equal(s.dir, path);

    unsetenv("HOME");
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(root), 0);
    open_ok(&s);
    assert_string_equal(s.dir, "./roost-dev-state");
    assert_int_equal(chdir(here), 0);
}

static void wider_modes_are_refused(void **state)
{
    (void)state;
    struct dev_state s;
    open_ok(&s);
    const char *files[] = {s.hmac_secret_file, s.api_key_file, s.cert_file, s.key_file,
                           s.token_file};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(chmod(files[i], 0640), 0);
        open_refused("chmod 600");
        assert_int_equal(chmod(files[i], 0600), 0);
    }
    assert_int_equal(chmod(s.dir, 0755), 0);
    open_refused("chmod 700");
    assert_int_equal(chmod(s.dir, 0700), 0);
    open_ok(&s);
}

static void other_owners_are_refused(void **state)
{
    (void)state;
    struct dev_state s;
    if (geteuid() != 0) skip();
    open_ok(&s);
    assert_int_equal(chown(s.api_key_file, 12345, (gid_t)-1), 0);
    open_refused("belongs to user 12345");
    assert_int_equal(chown(s.api_key_file, 0, (gid_t)-1), 0);
    assert_int_equal(chown(s.dir, 12345, (gid_t)-1), 0);
    open_refused("belongs to user 12345");
}

static void write_file(const char *path, const char *text)
{
    unlink(path);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(chmod(path, 0600), 0);
}

static void odd_files_are_refused(void **state)
{
    (void)state;
    struct dev_state s;
    open_ok(&s);
    write_file(s.hmac_secret_file, "short\n");
    open_refused("one line of 32 to");
    write_file(s.hmac_secret_file, "");
    open_refused("one line of 32 to");
    write_file(s.hmac_secret_file, "0123456789012345678901234567890123456789\nsecond line\n");
    open_refused("one line of 32 to");
    write_file(s.hmac_secret_file, "0123456789 0123456789 0123456789 0123456789\r\n");
    open_ok(&s);
    assert_string_equal(s.hmac_secret, "0123456789 0123456789 0123456789 0123456789");

    unlink(s.hmac_secret_file);
    assert_int_equal(symlink(s.api_key_file, s.hmac_secret_file), 0);
    open_refused("symbolic link");
    unlink(s.hmac_secret_file);
    assert_int_equal(mkdir(s.hmac_secret_file, 0700), 0);
    open_refused("is not a file");
    rmdir(s.hmac_secret_file);
    assert_int_equal(mkfifo(s.hmac_secret_file, 0600), 0);
    open_refused("is not a file"); /* and does not wait for a writer */
    unlink(s.hmac_secret_file);

    setenv("ROOST_STATE_DIR", s.api_key_file, 1);
    open_refused("can not");
}

static void half_a_pair_is_made_again(void **state)
{
    (void)state;
    struct dev_state s;
    struct stat before, after;
    open_ok(&s);
    assert_int_equal(stat(s.cert_file, &before), 0);
    assert_int_equal(unlink(s.key_file), 0);
    open_ok(&s);
    assert_int_equal(stat(s.cert_file, &after), 0);
    assert_true(before.st_ino != after.st_ino || before.st_mtim.tv_nsec != after.st_mtim.tv_nsec);
    assert_int_equal(mode_of(s.key_file), 0600);
}

/* Eight servers start at once: all have the same secret, and no half-written file is ever seen. */
static void started_at_once(void **state)
{
    (void)state;
    struct dev_state s;
    int report[2];
    assert_int_equal(pipe(report), 0);
    for (int i = 0; i < 8; i++) {
        if (fork() != 0) continue;
        char err[512];
        bool ok = dev_state_open(&s, NOW_S, err, sizeof err) == 0;
        _exit(ok && write(report[1], s.hmac_secret, DEV_SECRET_CHARS) == DEV_SECRET_CHARS ? 0 : 1);
    }
    char first[DEV_SECRET_CHARS], other[DEV_SECRET_CHARS];
    for (int i = 0, status; i < 8; i++) {
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
        assert_int_equal(read(report[0], i ? other : first, DEV_SECRET_CHARS), DEV_SECRET_CHARS);
        if (i) assert_memory_equal(first, other, DEV_SECRET_CHARS);
    }
    close(report[0]);
    close(report[1]);
}

static _Alignas(8) char scratch[JWT_SCRATCH];

static void verify(const struct dev_state *s, const char *token, struct jwt_claims *claims)
{
    struct jwt_rules rules = {.key_count = 1};
    const char *why = "";
    rules.keys[0].secret = (const uint8_t *)s->hmac_secret;
    rules.keys[0].secret_len = strlen(s->hmac_secret);
    enum jwt_verdict v = jwt_verify(&rules, token, strlen(token), NOW_S + 86000, claims, scratch,
                                    sizeof scratch, &why);
    if (v != JWT_OK) fail_msg("%s", why);
    v = jwt_verify(&rules, token, strlen(token), NOW_S + 86401, claims, scratch, sizeof scratch,
                   &why);
    assert_int_equal(v, JWT_EXPIRED);
}

static void tokens(void **state)
{
    (void)state;
    struct dev_state s;
    struct jwt_claims c;
    open_ok(&s);
    verify(&s, s.token, &c);
    assert_memory_equal(c.sub.p, "dev", 3);
    assert_true(jwt_may(c.pub, c.pub_count, "anything", 8) &&
                jwt_may(c.sub_to, c.sub_to_count, "x", 1));
}

static void wiped(void **state)
{
    (void)state;
    struct dev_state s;
    open_ok(&s);
    dev_state_wipe(&s);
    assert_int_equal(s.hmac_secret[0] | s.api_key[0] | s.token[0], 0);
}

static void banner(void **state)
{
    (void)state;
    struct dev_state s;
    char *text = NULL;
    size_t len = 0;
    char quoted[128];
    snprintf(quoted, sizeof quoted, "%s/it's here", root);
    setenv("ROOST_STATE_DIR", quoted, 1);
    setenv("USER", "ann", 1);
    setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.7 22", 1);
    open_ok(&s);
    FILE *out = tmpfile();
    assert_non_null(out);
    dev_banner(out, &s, "./roost", "wss://127.0.0.1:8443", "ws://127.0.0.1:8080");
    len = (size_t)ftell(out);
    rewind(out);
    text = calloc(1, len + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, len, out), len);
    fclose(out);
    const char *wanted[] = {"https://127.0.0.1:8443/\n",
                            "ssh -L 8443:127.0.0.1:8443 -L 8080:127.0.0.1:8080 ann@192.0.2.7\n",
                            s.token,
                            "./roost sub wss://127.0.0.1:8443 chat\n",
                            "it'\\''s here/token",
                            "https://127.0.0.1:8443/api/publish\n",
                            "wss://127.0.0.1:8443/raw/chat"};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (!strstr(text, wanted[i])) fail_msg("no \"%s\" in\n%s", wanted[i], text);
    assert_null(strchr(text, '\033')); /* not a terminal */
    assert_null(strstr(text, s.hmac_secret));
    assert_null(strstr(text, s.api_key));
    free(text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(made_once_and_kept),
        TEST(folder_by_xdg_then_home_then_here),
        TEST(wider_modes_are_refused),
        TEST(other_owners_are_refused),
        TEST(odd_files_are_refused),
        TEST(half_a_pair_is_made_again),
        TEST(started_at_once),
        TEST(tokens),
        TEST(wiped),
        TEST(banner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
