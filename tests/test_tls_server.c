#include "tls_pair.h"

#include <mbedtls/platform.h>

/* Several certificates, chosen by name (RFC 6066 section 3); and their replacement while sessions
 * go on. */

enum { SITES = 4 };
static const char *const sites[SITES] = {"localhost", "a.example", "*.b.example", "x.b.example"};
static struct cert_files files[SITES];
static struct tls_files list[SITES];

static struct tls_server *server_of(size_t count)
{
    char err[256];
    struct tls_server *s = tls_server_new(list, count, err, sizeof err);
    if (!s) fail_msg("%s", err);
    return s;
}

/* shows: which certificate a client that asks for host is shown, and whether it believes it. */
static size_t shows(struct tls_server *s, const struct cert_files *trust, int minor,
                    const char *host, bool *believed)
{
    struct tls_client *c = new_client(trust);
    tls_client_set_version(c, minor);
    struct pair *p = new_pair(c, s, host);
    *believed = handshake(p);
    size_t at =
        (size_t)(tls_attached(p->server.t)->pair - tls_attached(p->server.t)->settings->pairs);
    free_pair(p);
    tls_client_delete(c);
    return at;
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        const char *host;
        size_t shown;
        bool fits;
    } rows[] = {
        {"localhost", 0, true},    {"a.example", 1, true},      {"A.Example", 1, true},
        {"y.b.example", 2, true},  {"Y.B.EXAMPLE", 2, true},    {"x.b.example", 3, true},
        {"b.example", 0, false},   {"z.y.b.example", 0, false}, {".b.example", 0, false},
        {"nobody.test", 0, false}, {"xa.example", 0, false},    {"127.0.0.1", 0, false},
    };
    struct tls_server *s = server_of(SITES);
    for (int minor = 2; minor <= 3; minor++) {
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            bool believed;
            size_t at = shows(s, &files[rows[i].shown], minor, rows[i].host, &believed);
            if (at != rows[i].shown || believed != rows[i].fits)
                fail_msg("1.%d %s: certificate %zu, believed %d", minor, rows[i].host, at,
                         believed);
        }
    }
    tls_server_delete(s);
}

static bool resumes_as(struct tls_client *c, struct tls_server *s, const char *host)
{
    struct pair *p = new_pair(c, s, host);
    if (!handshake(p)) fail_msg("%s, %s", tls_why(p->client.t), tls_why(p->server.t));
    bool resumed = tls_resumed(p->server.t);
    converse(p);
    free_pair(p);
    return resumed;
}

/* pretend makes the kept session one of another host, as a client that lies would. */
static void pretend(struct tls_client *c, const char *host)
{
    strcpy(c->session_host, host);
    if (!c->session.hostname) return;
    mbedtls_free(c->session.hostname);
    c->session.hostname = mbedtls_calloc(1, strlen(host) + 1);
    assert_non_null(c->session.hostname);
    strcpy(c->session.hostname, host);
}

/* A ticket for one name opens no other, also if the client would like it to. */
static void test_tickets_of_names(void **state)
{
    (void)state;
    struct tls_server *s = server_of(SITES);
    struct tls_client *c = new_client(NULL);
    for (int minor = 2; minor <= 3; minor++) {
        tls_client_set_version(c, minor);
        assert_false(resumes_as(c, s, "a.example"));
        assert_true(resumes_as(c, s, "a.example"));
        pretend(c, "y.b.example");
        assert_false(resumes_as(c, s, "y.b.example"));
        assert_true(resumes_as(c, s, "y.b.example"));
    }
    tls_client_delete(c);
    tls_server_delete(s);
}

static void renew(size_t site, const char *dns)
{
    remove_files(&files[site]);
    make_files(&files[site], &(struct cert_spec){.dns = dns});
    list[site] = (struct tls_files){files[site].cert, files[site].key};
}

/* New handshakes see the renewed certificate; sessions under way, and tickets of the same names,
 * go on. */
static void test_renewed(void **state)
{
    (void)state;
    char err[256];
    bool believed;
    struct tls_server *s = server_of(2);
    for (int minor = 2; minor <= 3; minor++) {
        struct tls_client *old = new_client(&files[1]), *keeps = new_client(NULL);
        tls_client_set_version(old, minor);
        tls_client_set_version(keeps, minor);
        struct pair *under_way = new_pair(old, s, "a.example"),
                    *done = new_pair(old, s, "a.example");
        shake(&under_way->client, WHOLE); /* it has begun, and nothing is shown yet */
        assert_true(handshake(done));
        assert_false(resumes_as(keeps, s, "a.example"));

        renew(1, "a.example");
        assert_int_equal(tls_server_reload(s, list, 2, err, sizeof err), 0);
        say(&done->client, &done->server, "still here", WHOLE);
        say(&done->server, &done->client, "so am I", WHOLE);
        assert_true(handshake(under_way)); /* with what there was when it began */
        (void)shows(s, &files[1], minor, "a.example", &believed);
        assert_true(believed);
        assert_true(resumes_as(keeps, s, "a.example"));
        struct pair *late = new_pair(old, s, "a.example");
        tls_client_keep_sessions(old, false);
        struct pair *full = new_pair(old, s, "a.example");
        assert_false(handshake(full)); /* who trusts only the old one */
        free_pair(full);
        free_pair(late);

        renew(1, "c.example");
        assert_int_equal(tls_server_reload(s, list, 2, err, sizeof err), 0);
        assert_int_equal(shows(s, &files[0], minor, "a.example", &believed), 0);
        pretend(keeps, "c.example");
        assert_false(resumes_as(keeps, s, "c.example")); /* other names, other keys */
        say(&done->client, &done->server, "still here", WHOLE);
        say(&done->server, &done->client, "so am I", WHOLE);
        renew(1, "a.example");
        assert_int_equal(tls_server_reload(s, list, 2, err, sizeof err), 0);
        free_pair(done);
        free_pair(under_way);
        tls_client_delete(old);
        tls_client_delete(keeps);
    }
    tls_server_delete(s);
}

/* Whatever is wrong with the new files, the old ones serve on; and nothing is left behind. */
static void test_refused(void **state)
{
    (void)state;
    char err[256];
    bool believed;
    struct tls_server *s = server_of(2);
    const struct tls_files swapped[2] = {list[0], {list[1].cert, list[0].key}},
                           missing[1] = {{"/nowhere/cert.pem", list[0].key}};
    int64_t live = tls_memory().live;
    assert_int_equal(tls_server_reload(s, swapped, 2, err, sizeof err), -1);
    assert_non_null(strstr(err, "does not belong"));
    assert_int_equal(tls_server_reload(s, missing, 1, err, sizeof err), -1);
    assert_non_null(strstr(err, "/nowhere/cert.pem"));
    assert_int_equal(tls_memory().live, live);
    assert_int_equal(shows(s, &files[1], 3, "a.example", &believed), 1);
    assert_true(believed);
    tls_server_delete(s);
}

static void test_reload_out_of_memory(void **state)
{
    (void)state;
    char err[256];
    bool believed;
    struct tls_server *s = server_of(2);
    unsigned failed = 0;
    for (uint64_t k = 1; k < 4000; k += slow() ? 97 : 7) {
        tls_memory_fail_at(k);
        if (tls_server_reload(s, list, 2, err, sizeof err) == -1) failed++;
        tls_memory_fail_at(0);
        if (k % 5 == 0) {
            (void)shows(s, &files[1], 3, "a.example", &believed);
            assert_true(believed);
        }
    }
    assert_true(failed > 5);
    tls_server_delete(s);
}

static int make_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < SITES; i++) {
        make_files(&files[i], &(struct cert_spec){.dns = sites[i]});
        list[i] = (struct tls_files){files[i].cert, files[i].key};
    }
    return 0;
}

static int remove_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < SITES; i++) remove_files(&files[i]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_tickets_of_names),
        cmocka_unit_test(test_renewed),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_reload_out_of_memory),
    };
    return cmocka_run_group_tests(tests, make_all, remove_all);
}
