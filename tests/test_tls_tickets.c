#include "tls_pair.h"

#include <mbedtls/platform.h>
#include <sys/stat.h>

/* Session tickets: good where they were issued, for as long as they live, and nowhere else. */

static struct cert_files files;
static struct tls_server *server;

static bool resumes(struct tls_client *c, struct tls_server *s)
{
    struct pair *p = new_pair(c, s, "localhost");

    if (!handshake(p)) fail_msg("%s, %s", tls_why(p->client.t), tls_why(p->server.t));
    bool resumed = tls_resumed(p->server.t);
    assert_int_equal(tls_resumed(p->client.t), resumed);
    converse(p);
    free_pair(p);
    return resumed;
}

/* A ticket is good for the certificate under which it was issued. */
static void test_ticket_of_another_server(void **state)
{
    (void)state;
    struct tls_server *other = new_server(&files);
    struct tls_client *c = new_client(&files);

    for (int minor = 2; minor <= 3; minor++) {
        tls_client_set_version(c, minor);
        assert_false(resumes(c, server));
        assert_true(resumes(c, server));
        assert_false(resumes(c, other));
        assert_true(resumes(c, other));
        assert_false(resumes(c, server));
    }
    tls_client_delete(c);
    tls_server_delete(other);
}

/* A session goes with its host's name. */
static void test_ticket_of_another_host(void **state)
{
    (void)state;
    struct tls_client *c = new_client(NULL);

    assert_false(resumes(c, server));
    struct pair *p = new_pair(c, server, "127.0.0.1");
    assert_true(handshake(p));
    assert_false(tls_resumed(p->server.t));
    free_pair(p);
    tls_client_delete(c);
}

static void keep_ticket(struct tls_client *c, int minor)
{
    tls_client_set_version(c, minor);
    assert_false(resumes(c, server));
    assert_true(c->has_session);
}

static void test_damaged_tickets(void **state)
{
    (void)state;
    struct tls_client *c = new_client(&files);

    for (int minor = 2; minor <= 3; minor++) {
        keep_ticket(c, minor);
        for (size_t at = 0, len = c->session.ticket_len; at < len; at += slow() ? 13 : 1) {
            if (minor == 3 && !c->has_session) keep_ticket(c, minor);
            c->session.ticket[at % c->session.ticket_len] ^= 1;
            assert_false(resumes(c, server));
            assert_true(c->has_session);
        }
    }
    tls_client_delete(c);
}

/* make_12 turns the client's 1.3 ticket into what a 1.2 client would offer, as one who has read it
 * on the wire could; it has no secret, and the server would find none in the ticket either. */
static void make_12(struct tls_client *c)
{
    mbedtls_ssl_session forged;

    mbedtls_ssl_session_init(&forged);
    forged.tls_version = MBEDTLS_SSL_VERSION_TLS1_2;
    forged.endpoint = MBEDTLS_SSL_IS_CLIENT;
    forged.ciphersuite = c->session.ciphersuite;
    forged.ticket_len = c->session.ticket_len;
    forged.ticket_lifetime = c->session.ticket_lifetime;
    forged.ticket = mbedtls_calloc(1, forged.ticket_len);
    assert_non_null(forged.ticket);
    memcpy(forged.ticket, c->session.ticket, forged.ticket_len);
    tls_client_set_version(c, 2);
    c->session = forged;
    c->has_session = true;
}

/* CVE-2026-93831, both ways. */
static void test_ticket_of_another_version(void **state)
{
    (void)state;
    struct tls_client *c = new_client(&files);

    keep_ticket(c, 3);
    make_12(c);
    assert_false(resumes(c, server));

    keep_ticket(c, 2);
    mbedtls_ssl_session stolen = c->session; /* now a 1.2 ticket in a session of 1.3 */
    c->has_session = false;
    keep_ticket(c, 3);
    mbedtls_free(c->session.ticket);
    c->session.ticket = stolen.ticket;
    c->session.ticket_len = stolen.ticket_len;
    stolen.ticket = NULL;
    mbedtls_ssl_session_free(&stolen);
    assert_false(resumes(c, server));
    tls_client_delete(c);
}

/* The test above has teeth: with mbedTLS's own callbacks, one key for both, such a ticket is
 * opened. */
static void test_ticket_of_another_version_stock(void **state)
{
    (void)state;
    struct tls_server *s = new_server(&files);
    struct tls_client *c = new_client(&files);

    mbedtls_ssl_conf_session_tickets_cb(&s->current->conf, mbedtls_ssl_ticket_write,
                                        mbedtls_ssl_ticket_parse,
                                        &s->current->pairs[0].tickets->v13);
    tls_client_set_version(c, 3);
    assert_false(resumes(c, s));
    make_12(c);
    struct pair *p = new_pair(c, s, "localhost");
    bool works = handshake(p);
    if (works && !tls_resumed(p->server.t))
        print_message("mbedTLS of this build refuses 1.3 tickets in 1.2 by itself\n");
    else
        print_message("stock mbedTLS: handshake %s, %s\n", works ? "resumed" : "failed",
                      tls_why(p->server.t));
    free_pair(p);
    tls_client_delete(c);
    tls_server_delete(s);
}

/* CVE-2026-115491: refused tickets leak nothing. */
static void test_many_bad_tickets(void **state)
{
    (void)state;
    struct tls_client *c = new_client(&files);

    for (int minor = 2; minor <= 3; minor++) {
        keep_ticket(c, minor);
        mbedtls_ssl_session kept = c->session;
        c->has_session = false;
        struct tls_memory before = tls_memory();
        for (int i = 0; i < (slow() ? 100 : 5000); i++) {
            struct pair *p = new_pair(c, server, "localhost");
            kept.ticket[(size_t)random() % kept.ticket_len] ^= (uint8_t)(1 + random() % 255);
            assert_int_equal(mbedtls_ssl_set_session(&tls_attached(p->client.t)->ssl, &kept), 0);
            shake(&p->client, WHOLE);
            shake(&p->server, WHOLE); /* up to the server's whole flight */
            assert_int_equal(p->server.answer, IO_WANT_READ);
            assert_true(p->down.len > 100);
            free_pair(p);
        }
        assert_int_equal(tls_memory().live, before.live);
        assert_int_equal(tls_memory().live_bytes, before.live_bytes);
        mbedtls_ssl_session_free(&kept);
    }
    tls_client_delete(c);
    serve_a_fresh_client(server);
}

/* The same inside one handshake, where a million cost seconds: the server is asked to open damaged
 * copies of the ticket that it was offered. */
static struct tls_memory before_bad, after_bad;
static unsigned opened_bad;

static int parse_bad_ones(void *ctx, mbedtls_ssl_session *session, unsigned char *buf, size_t len)
{
    before_bad = tls_memory();
    for (int i = 0; i < (slow() ? 20000 : 1000000); i++) {
        uint8_t bad[1024];
        mbedtls_ssl_session out;
        assert_true(len <= sizeof bad);
        memcpy(bad, buf, len);
        size_t bad_len = len;
        if (i % 8 == 0)
            bad_len = (size_t)random() % len; /* cut */
        else
            bad[(size_t)random() % len] ^= (uint8_t)(1 + random() % 255);
        mbedtls_ssl_session_init(&out);
        opened_bad += tls_ticket_parse(ctx, &out, bad, bad_len) == 0;
        mbedtls_ssl_session_free(&out);
    }
    after_bad = tls_memory();
    return tls_ticket_parse(ctx, session, buf, len);
}

static void test_a_million_bad_tickets(void **state)
{
    (void)state;
    struct tls_client *c = new_client(&files);
    for (int minor = 2; minor <= 3; minor++) {
        keep_ticket(c, minor);
        mbedtls_ssl_conf_session_tickets_cb(&server->current->conf, tls_ticket_write,
                                            parse_bad_ones, NULL);
        memset(&after_bad, 0, sizeof after_bad);
        opened_bad = 0;
        assert_true(resumes(c, server));
        assert_true(after_bad.calls > 0);
        assert_int_equal(opened_bad, 0);
        assert_int_equal(after_bad.live, before_bad.live);
        assert_int_equal(after_bad.live_bytes, before_bad.live_bytes);
        mbedtls_ssl_conf_session_tickets_cb(&server->current->conf, tls_ticket_write,
                                            tls_ticket_parse, NULL);
        forget(c);
    }
    tls_client_delete(c);
    serve_a_fresh_client(server);
}

/* ---- time ---------------------------------------------------------------------------------- */

static void test_lifetime(void **state)
{
    (void)state;
    struct tls_client *c = new_client(&files);

    for (int minor = 2; minor <= 3; minor++) {
        struct tls_server *s = new_server(&files);
        tls_client_set_version(c, minor);
        assert_false(resumes(c, s));
        assert_int_equal(c->session.ticket_lifetime, TLS_TICKET_LIFETIME_S);
        assert_true(c->session.ticket_lifetime * 2 <= 24 * 3600);
        assert_true(resumes(c, s));
        mbedtls_ssl_ticket_context *keys =
            minor == 3 ? &s->current->pairs[0].tickets->v13 : &s->current->pairs[0].tickets->v12;
        keys->keys[keys->active].lifetime = 0; /* is over after a millisecond */
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        assert_false(resumes(c, s));
        tls_server_delete(s);
    }
    tls_client_delete(c);
}

static void make_older(mbedtls_ssl_ticket_context *keys)
{
    keys->keys[keys->active].generation_time -= TLS_TICKET_LIFETIME_S + 1;
}

/* A key that was replaced still opens its tickets; the one before it does not. */
static void test_rotation(void **state)
{
    (void)state;
    struct tls_server *s = new_server(&files);
    struct tls_client *c = new_client(&files);
    uint8_t first[4];

    tls_client_set_version(c, 2); /* there a ticket may be used again */
    assert_false(resumes(c, s));
    memcpy(first, c->session.ticket, sizeof first);
    make_older(&s->current->pairs[0].tickets->v12);
    assert_true(resumes(c, s));
    assert_memory_equal(c->session.ticket, first, sizeof first);
    make_older(&s->current->pairs[0].tickets->v12);
    assert_false(resumes(c, s));
    assert_memory_not_equal(c->session.ticket, first, sizeof first);
    assert_true(resumes(c, s));
    tls_client_delete(c);
    tls_server_delete(s);
}

/* RFC 8446 C.4: a ticket of 1.3 is offered once. */
static void test_used_once(void **state)
{
    (void)state;
    struct tls_client *c = new_client(&files);

    keep_ticket(c, 3);
    struct pair *p = new_pair(c, server, "localhost");
    assert_false(c->has_session);
    assert_true(handshake(p)); /* its new ticket is not read */
    assert_true(tls_resumed(p->server.t));
    free_pair(p);
    assert_false(resumes(c, server));
    tls_client_delete(c);
}

static int set_up(void **state)
{
    (void)state;
    make_files(&files, &(struct cert_spec){0});
    server = new_server(&files);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tls_server_delete(server);
    remove_files(&files);
    return 0;
}

/* ---- keys from files ---- */

static void write_key(char *path, int seed, size_t len)
{
    uint8_t bytes[200];
    memset(bytes, seed, sizeof bytes);
    strcpy(path, "/tmp/roost-ticket-XXXXXX");
    const int fd = mkstemp(path);
    assert_true(fd != -1 && write(fd, bytes, len) == (ssize_t)len);
    close(fd);
}

static void use_keys(const char *first, const char *second)
{
    char err[256];
    const char *const files_of[] = {first, second};
    assert_int_equal(tls_ticket_keys(files_of, second ? 2 : first ? 1 : 0, err, sizeof err), 0);
    assert_string_equal(err, "");
}

/* Servers with the same file are one, whatever process they are in; a key goes when its file does.
 */
static void test_keys_of_files(void **state)
{
    (void)state;
    char old[40], new[40];
    write_key(old, 1, 80);
    write_key(new, 2, 48);
    for (int minor = 2; minor <= 3; minor++) {
        use_keys(old, NULL);
        struct tls_server *a = new_server(&files), *b = new_server(&files);
        struct tls_client *c = new_client(&files);
        tls_client_set_version(c, minor);
        assert_false(resumes(c, a));
        assert_true(resumes(c, b));
        assert_false(resumes(c, server)); /* keys of its own */
        assert_false(resumes(c, a));

        char err[256];
        use_keys(new, old); /* a rotation */
        assert_int_equal(
            tls_server_reload(b, &(struct tls_files){files.cert, files.key}, 1, err, sizeof err),
            0);
        assert_true(resumes(c, b));                  /* the old one opens still */
        if (minor == 3) assert_false(resumes(c, a)); /* what the new one has sealed */
        use_keys(new, NULL);
        assert_int_equal(
            tls_server_reload(a, &(struct tls_files){files.cert, files.key}, 1, err, sizeof err),
            0);
        assert_false(resumes(c, a) && minor == 2); /* 1.2 has the old ticket yet */
        assert_true(resumes(c, a));
        assert_true(resumes(c, b));
        use_keys(NULL, NULL);
        assert_int_equal(
            tls_server_reload(a, &(struct tls_files){files.cert, files.key}, 1, err, sizeof err),
            0);
        assert_false(resumes(c, a));
        assert_true(resumes(c, a));
        tls_client_delete(c);
        tls_server_delete(a);
        tls_server_delete(b);
    }
    unlink(old);
    unlink(new);
}

/* Other names have other keys, though the file is the same. */
static void test_file_key_and_names(void **state)
{
    (void)state;
    char file[40];
    struct cert_files others;
    write_key(file, 3, 80);
    make_files(&others, &(struct cert_spec){.dns = "example.org"});
    use_keys(file, NULL);
    struct tls_server *a = new_server(&files), *b = new_server(&others);
    struct tls_client *c = new_client(NULL);
    for (int minor = 2; minor <= 3; minor++) {
        tls_client_set_version(c, minor);
        assert_false(resumes(c, a));
        assert_false(resumes(c, b));
        assert_true(resumes(c, b));
    }
    use_keys(NULL, NULL);
    tls_client_delete(c);
    tls_server_delete(a);
    tls_server_delete(b);
    remove_files(&others);
    unlink(file);
}

/* mbedTLS would replace a key by one of its own after its lifetime. */
static void test_file_keys_do_not_age(void **state)
{
    (void)state;
    char file[40];
    write_key(file, 4, 80);
    use_keys(file, NULL);
    struct tls_server *a = new_server(&files), *b = new_server(&files);
    struct tls_client *c = new_client(&files);
    for (int minor = 2; minor <= 3; minor++) {
        tls_client_set_version(c, minor);
        struct tls_tickets *t = a->current->pairs[0].tickets;
        for (int k = 0; k < 2; k++) {
            t->v12.keys[k].generation_time -= 10 * TLS_TICKET_LIFETIME_S;
            t->v13.keys[k].generation_time -= 10 * TLS_TICKET_LIFETIME_S;
        }
        assert_false(resumes(c, a));
        assert_true(resumes(c, b));
    }
    use_keys(NULL, NULL);
    tls_client_delete(c);
    tls_server_delete(a);
    tls_server_delete(b);
    unlink(file);
}

static void test_bad_key_files(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 47, 49, 79, 81, 200};
    char err[256], file[40];
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        write_key(file, 5, sizes[i]);
        assert_int_equal(tls_ticket_keys((const char *const[]){file}, 1, err, sizeof err), -1);
        assert_non_null(strstr(err, "openssl rand 80 >"));
        unlink(file);
    }
    assert_int_equal(tls_ticket_keys((const char *const[]){file}, 1, err, sizeof err), -1);
    assert_non_null(strstr(err, "No such file"));
    assert_int_equal(tls_ticket_keys((const char *const[]){"/tmp"}, 1, err, sizeof err), -1);
    assert_non_null(strstr(err, "Is a directory"));
    write_key(file, 5, 80);
    chmod(file, 0644);
    assert_int_equal(tls_ticket_keys((const char *const[]){file}, 1, err, sizeof err), 0);
    assert_non_null(strstr(err, "chmod o-r"));
    use_keys(NULL, NULL);
    unlink(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ticket_of_another_server),
        cmocka_unit_test(test_ticket_of_another_host),
        cmocka_unit_test(test_damaged_tickets),
        cmocka_unit_test(test_ticket_of_another_version),
        cmocka_unit_test(test_ticket_of_another_version_stock),
        cmocka_unit_test(test_many_bad_tickets),
        cmocka_unit_test(test_a_million_bad_tickets),
        cmocka_unit_test(test_lifetime),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_used_once),
        cmocka_unit_test(test_keys_of_files),
        cmocka_unit_test(test_file_key_and_names),
        cmocka_unit_test(test_file_keys_do_not_age),
        cmocka_unit_test(test_bad_key_files),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
