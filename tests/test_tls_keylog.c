#include "tls_pair.h"

/* SSLKEYLOGFILE: obeyed by a debug build, and by no other. */

static struct cert_files files;
static char path[] = "/tmp/roost-keylog-XXXXXX";
static char text[64 * 1024];

/* read_log gives the file's text, "" if there is none. */
static void read_log(void)
{
    FILE *f = fopen(path, "r");
    text[0] = '\0';
    if (!f) return;
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    assert_int_equal(fclose(f), 0);
}

static void shake_once(int minor)
{
    struct tls_server *s = new_server(&files);
    struct tls_client *c = new_client(&files);
    tls_client_set_version(c, minor);
    struct pair *p = new_pair(c, s, "localhost");
    assert_true(handshake(p));
    converse(p);
    free_pair(p);
    tls_client_delete(c);
    tls_server_delete(s);
}

#ifdef ROOST_KEYLOG
static void hex_of(char *to, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) (void)snprintf(to + 2 * i, 3, "%02x", bytes[i]);
}

/* Both ends are in this process, so a secret is there twice. */
static void test_what_is_written(void **state)
{
    (void)state;
    char master[97], secret[129];
    struct tls_server *s = new_server(&files);
    for (int minor = 2; minor <= 3; minor++) {
        struct tls_client *c = new_client(&files);
        tls_client_set_version(c, minor);
        struct pair *p = new_pair(c, s, "localhost");
        assert_true(handshake(p));
        const struct tls_exported *x = &tls_attached(p->server.t)->exported;
        read_log();
        if (minor == 2) {
            char random[65];
            hex_of(master, x->secret[0], 48);
            hex_of(random, x->randoms + 32, 32);
            assert_non_null(strstr(text, "CLIENT_RANDOM "));
            assert_non_null(strstr(text, random));
            assert_non_null(strstr(text, master));
        } else {
            for (int whose = 0; whose < 2; whose++) {
                hex_of(secret, x->secret[whose], x->secret_len[whose]);
                assert_non_null(strstr(text, secret));
            }
            assert_non_null(strstr(text, "CLIENT_HANDSHAKE_TRAFFIC_SECRET "));
            assert_non_null(strstr(text, "SERVER_HANDSHAKE_TRAFFIC_SECRET "));
            assert_non_null(strstr(text, "CLIENT_TRAFFIC_SECRET_0 "));
            assert_non_null(strstr(text, "SERVER_TRAFFIC_SECRET_0 "));
        }
        free_pair(p);
        tls_client_delete(c);
    }
    tls_server_delete(s);
}
#endif

static void test_who_obeys(void **state)
{
    (void)state;
    shake_once(2);
    shake_once(3);
    read_log();
#ifdef ROOST_KEYLOG
    assert_true(strlen(text) > 500);
#else
    assert_string_equal(text, "");
    assert_int_equal(access(path, F_OK), -1); /* not even made */
#endif
}

static int set_up(void **state)
{
    (void)state;
    const int fd = mkstemp(path);
    assert_true(fd != -1);
    assert_int_equal(close(fd), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(setenv("SSLKEYLOGFILE", path, 1), 0); /* before the first handshake */
    make_files(&files, &(struct cert_spec){0});
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)unlink(path);
    remove_files(&files);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_obeys),
#ifdef ROOST_KEYLOG
        cmocka_unit_test(test_what_is_written),
#endif
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
