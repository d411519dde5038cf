#include "tls_pair.h"

#include <pthread.h>

/* TLS sessions that go well: every version, suite, kind of certificate, full and resumed, however
 * the bytes are cut. What goes wrong is in test_tls_hostile.c. */

static struct cert_files ecdsa_files, rsa_files;

static const struct suite {
    int minor, id;
    bool rsa;
    const char *name;
} suites[] = {
    {3, MBEDTLS_TLS1_3_AES_128_GCM_SHA256, false, "TLS1-3-AES-128-GCM-SHA256"},
    {3, MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256, false, "TLS1-3-CHACHA20-POLY1305-SHA256"},
    {3, MBEDTLS_TLS1_3_AES_128_GCM_SHA256, true, "TLS1-3-AES-128-GCM-SHA256"},
    {3, MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256, true, "TLS1-3-CHACHA20-POLY1305-SHA256"},
    {2, MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, false,
     "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256"},
    {2, MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, false,
     "TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384"},
    {2, MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, false,
     "TLS-ECDHE-ECDSA-WITH-CHACHA20-POLY1305-SHA256"},
    {2, MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, true,
     "TLS-ECDHE-RSA-WITH-AES-128-GCM-SHA256"},
    {2, MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, true,
     "TLS-ECDHE-RSA-WITH-AES-256-GCM-SHA384"},
    {2, MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, true,
     "TLS-ECDHE-RSA-WITH-CHACHA20-POLY1305-SHA256"},
};

static void connect_once(struct tls_client *c, struct tls_server *s, const struct suite *suite,
                         enum pieces pieces, bool resumed)
{
    struct pair *p = new_pair(c, s, "localhost");

    p->pieces = pieces;
    if (!handshake(p)) fail_msg("%s, %s", tls_why(p->client.t), tls_why(p->server.t));
    for (struct end *e = &p->client; e; e = e == &p->client ? &p->server : NULL) {
        assert_string_equal(tls_version(e->t), suite->minor == 3 ? "TLSv1.3" : "TLSv1.2");
        assert_string_equal(tls_suite(e->t), suite->name);
        assert_int_equal(tls_resumed(e->t), resumed);
        assert_string_equal(tls_why(e->t), "");
        assert_string_equal(mbedtls_ssl_get_alpn_protocol(&tls_attached(e->t)->ssl), "http/1.1");
    }
    converse(p);
    free_pair(p);
}

static void test_handshakes(void **state)
{
    (void)state;
    struct tls_server *ecdsa = new_server(&ecdsa_files), *rsa = new_server(&rsa_files);

    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++) {
        const struct suite *suite = &suites[i];
        int only[] = {suite->id, 0};
        struct tls_client *c = new_client(suite->rsa ? &rsa_files : &ecdsa_files);
        tls_client_set_version(c, suite->minor);
        mbedtls_ssl_conf_ciphersuites(&c->conf, only);
        /* With AES in hardware a server does not offer ChaCha20 in 1.3 by itself. */
        mbedtls_ssl_conf_ciphersuites(suite->rsa ? &rsa->current->conf : &ecdsa->current->conf,
                                      only);
        for (int pieces = WHOLE; pieces <= RANDOM; pieces++) {
            forget(c);
            connect_once(c, suite->rsa ? rsa : ecdsa, suite, (enum pieces)pieces, false);
            connect_once(c, suite->rsa ? rsa : ecdsa, suite, (enum pieces)pieces, true);
            connect_once(c, suite->rsa ? rsa : ecdsa, suite, (enum pieces)pieces, true);
        }
        tls_client_delete(c);
    }
    tls_server_delete(ecdsa);
    tls_server_delete(rsa);
}

/* Whatever the client's order (this is OpenSSL's), the suite is the one that suits our CPU. */
static void test_choice_of_suite(void **state)
{
    (void)state;
    static const int clients_order[] = {MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
                                        MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
                                        MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
                                        MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
                                        MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
                                        MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                                        0};
    struct tls_server *s = new_server(&ecdsa_files);
    struct tls_client *c = new_client(&ecdsa_files);

    mbedtls_ssl_conf_ciphersuites(&c->conf, clients_order);
    for (int minor = 2; minor <= 3; minor++) {
        tls_client_set_version(c, minor);
        struct pair *p = new_pair(c, s, "localhost");
        assert_true(handshake(p));
        bool aes = s->current->conf.ciphersuite_list[0] == MBEDTLS_TLS1_3_AES_128_GCM_SHA256;
        assert_string_equal(tls_suite(p->server.t),
                            minor == 3 && aes ? "TLS1-3-AES-128-GCM-SHA256"
                            : minor == 3      ? "TLS1-3-CHACHA20-POLY1305-SHA256"
                            : aes             ? "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256"
                                              : "TLS-ECDHE-ECDSA-WITH-CHACHA20-POLY1305-SHA256");
        free_pair(p);
    }
    tls_client_delete(c);
    tls_server_delete(s);
}

static void test_groups(void **state)
{
    (void)state;
    static const uint16_t groups[] = {MBEDTLS_SSL_IANA_TLS_GROUP_X25519,
                                      MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
                                      MBEDTLS_SSL_IANA_TLS_GROUP_SECP384R1};
    struct tls_server *s = new_server(&rsa_files);

    for (int minor = 2; minor <= 3; minor++)
        for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
            uint16_t only[] = {groups[i], MBEDTLS_SSL_IANA_TLS_GROUP_NONE};
            struct tls_client *c = new_client(&rsa_files);
            tls_client_set_version(c, minor);
            mbedtls_ssl_conf_groups(&c->conf, only);
            struct pair *p = new_pair(c, s, "localhost");
            if (!handshake(p)) fail_msg("group %d: %s", groups[i], tls_why(p->client.t));
            free_pair(p);
            tls_client_delete(c);
        }
    tls_server_delete(s);
}

/* Application data behind a Finished, in the same segment, is the caller's until tls_open. */
static void test_data_behind_finished(void **state)
{
    (void)state;
    struct tls_server *s = new_server(&ecdsa_files);
    struct tls_client *c = new_client(&ecdsa_files);

    for (int minor = 2; minor <= 3; minor++) {
        tls_client_set_version(c, minor);
        for (int resumed = 0; resumed <= 1; resumed++) {
            struct pair *p = new_pair(c, s, "localhost");
            struct end *first = NULL, *second = NULL;
            for (int round = 0; round < 10 && !first; round++) {
                shake(&p->client, WHOLE);
                if (p->client.answer == IO_DONE) first = &p->client, second = &p->server;
                if (first) break;
                shake(&p->server, WHOLE);
                if (p->server.answer == IO_DONE) first = &p->server, second = &p->client;
            }
            assert_non_null(first); /* 1.2 full: the server's Finished is the last, else ours */
            assert_ptr_equal(first, minor == 2 && !resumed ? &p->server : &p->client);
            seal_all(first, (const uint8_t *)"early", 5, TLS_OUT_MAX);
            size_t before = first->out->len;
            shake(second, WHOLE);
            assert_int_equal(second->answer, IO_DONE);
            assert_true(first->out->len > 5 && first->out->len < before);
            open_all(second, WHOLE, 100);
            assert_int_equal(second->got_len, 5);
            assert_memory_equal(second->got, "early", 5);
            assert_int_equal(tls_resumed(p->server.t), resumed);
            converse(p);
            free_pair(p);
        }
    }
    tls_client_delete(c);
    tls_server_delete(s);
}

static void transfer(struct end *from, struct end *to, size_t len, size_t seal_cap, size_t open_cap,
                     enum pieces pieces)
{
    static uint8_t bytes[100000];

    for (size_t i = 0; i < len; i++) bytes[i] = (uint8_t)random();
    to->got_len = 0;
    seal_all(from, bytes, len, seal_cap);
    open_all(to, pieces, open_cap);
    assert_int_equal(to->answer, IO_WANT_READ);
    assert_int_equal(to->got_len, len);
    assert_memory_equal(to->got, bytes, len);
}

static void test_transfers(void **state)
{
    (void)state;
    static const size_t lens[] = {0,     1,     15,    16,    17,    255,   4096,  16319,
                                  16383, 16384, 16385, 32767, 32768, 65536, 100000};
    static const size_t seal_caps[] = {TLS_OVERHEAD + 1, 200, 4096, TLS_OUT_MAX};
    static const size_t open_caps[] = {1, 100, 16384, 128 * 1024};
    struct tls_server *s = new_server(&ecdsa_files);
    struct tls_client *c = new_client(&ecdsa_files);

    for (int minor = 2; minor <= 3; minor++) {
        tls_client_set_version(c, minor);
        struct pair *p = new_pair(c, s, "localhost");
        assert_true(handshake(p));
        for (size_t l = 0; l < sizeof lens / sizeof lens[0]; l++)
            for (size_t i = 0; i < 4; i++)
                for (size_t j = 0; j < 4; j++) {
                    /* One byte a record: the wire holds no more. */
                    if (lens[l] > 4096 && (i == 0 || j == 0)) continue;
                    enum pieces pieces = (enum pieces)((i + j) % 2 ? RANDOM : WHOLE);
                    transfer(&p->client, &p->server, lens[l], seal_caps[i], open_caps[j], pieces);
                    transfer(&p->server, &p->client, lens[l], seal_caps[j], open_caps[i], pieces);
                }
        transfer(&p->client, &p->server, 5000, TLS_OUT_MAX, 5000, BYTEWISE);
        free_pair(p);
    }
    tls_client_delete(c);
    tls_server_delete(s);
}

static void test_seal_without_room(void **state)
{
    (void)state;
    uint8_t out[TLS_OVERHEAD], byte[1] = {0};
    size_t used = 1, out_len = 1;
    struct tls_server *s = new_server(&ecdsa_files);
    struct tls_client *c = new_client(&ecdsa_files);
    struct pair *p = new_pair(c, s, "localhost");

    assert_int_equal(
        tls_seal(p->client.t, &(struct iovec){byte, 1}, 1, &used, out, sizeof out, &out_len),
        IO_CLOSED);
    assert_true(handshake(p));
    assert_int_equal(
        tls_seal(p->client.t, &(struct iovec){byte, 1}, 1, &used, out, sizeof out, &out_len),
        IO_WANT_WRITE);
    assert_int_equal(used + out_len, 0);
    converse(p);
    assert_int_equal(
        tls_seal(p->client.t, &(struct iovec){byte, 1}, 1, &used, out, sizeof out, &out_len),
        IO_CLOSED);
    free_pair(p);
    tls_client_delete(c);
    tls_server_delete(s);
}

/* A ticket pins the version (tls.h); the client gets over it when its server has changed. */
static void test_server_changes_version(void **state)
{
    (void)state;
    static const struct {
        int minor;
        bool works, resumed;
    } steps[] = {{2, true, false},  {2, true, false}, {3, true, false}, {3, true, true},
                 {2, false, false}, {2, true, false}, {3, true, false}, {3, true, true}};
    struct tls_server *s = new_server(&ecdsa_files);
    struct tls_client *c = new_client(&ecdsa_files);

    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        mbedtls_ssl_conf_max_tls_version(&s->current->conf, steps[i].minor == 2
                                                                ? MBEDTLS_SSL_VERSION_TLS1_2
                                                                : MBEDTLS_SSL_VERSION_TLS1_3);
        struct pair *p = new_pair(c, s, "localhost");
        assert_int_equal(handshake(p), steps[i].works);
        if (steps[i].works) {
            assert_string_equal(tls_version(p->server.t),
                                steps[i].minor == 2 ? "TLSv1.2" : "TLSv1.3");
            assert_int_equal(tls_resumed(p->server.t), steps[i].resumed);
            converse(p);
        }
        free_pair(p);
    }
    tls_client_delete(c);
    tls_server_delete(s);
}

/* A handshake whose answers do not fit goes on when it is called again. */
static void test_handshake_without_room(void **state)
{
    (void)state;
    struct tls_server *s = new_server(&rsa_files);
    struct tls_client *c = new_client(&rsa_files);
    struct pair *p = new_pair(c, s, "localhost");
    uint8_t out[100];
    size_t used, out_len;
    int full = 0;

    for (int round = 0; round < 1000; round++) {
        if (p->client.answer != IO_DONE) shake(&p->client, WHOLE);
        if (p->server.answer == IO_DONE) break;
        p->server.answer =
            tls_handshake(p->server.t, p->up.bytes, p->up.len, &used, out, sizeof out, &out_len);
        take(&p->up, used);
        put(&p->down, out, out_len);
        full += p->server.answer == IO_WANT_WRITE;
    }
    assert_int_equal(p->client.answer, IO_DONE);
    assert_int_equal(p->server.answer, IO_DONE);
    assert_true(full > 5);
    converse(p);
    free_pair(p);
    tls_client_delete(c);
    tls_server_delete(s);
}

/* RFC 8446 6.1: after the peer's close_notify we may still send. */
static void test_half_close(void **state)
{
    (void)state;
    struct tls_server *s = new_server(&ecdsa_files);
    struct tls_client *c = new_client(&ecdsa_files);
    struct pair *p = new_pair(c, s, "localhost");

    assert_true(handshake(p));
    seal_all(&p->client, (const uint8_t *)"last words", 10, TLS_OUT_MAX);
    say_goodbye(&p->client);
    open_all(&p->server, WHOLE, 1000); /* the words first, then the end */
    assert_int_equal(p->server.got_len, 10);
    assert_int_equal(p->server.answer, IO_CLOSED);
    assert_true(tls_closed_cleanly(p->server.t));
    say(&p->server, &p->client, "an answer", WHOLE);
    free_pair(p);
    tls_client_delete(c);
    tls_server_delete(s);
}

static void test_no_allocation_per_record(void **state)
{
    (void)state;
    struct tls_server *s = new_server(&ecdsa_files);
    struct tls_client *c = new_client(&ecdsa_files);
    int rounds = slow() ? 100 : 1000;

    for (int minor = 2; minor <= 3; minor++) {
        tls_client_set_version(c, minor);
        struct pair *p = new_pair(c, s, "localhost");
        assert_true(handshake(p));
        say(&p->server, &p->client, "the ticket comes with this", WHOLE);
        uint64_t before = tls_allocations();
        for (int i = 0; i < rounds; i++) {
            transfer(&p->client, &p->server, (size_t)(i * 20), TLS_OUT_MAX, 20000, WHOLE);
            transfer(&p->server, &p->client, (size_t)(i * 20), TLS_OUT_MAX, 20000, RANDOM);
        }
        assert_int_equal(tls_allocations(), before);
        converse(p);
        free_pair(p);
    }
    tls_client_delete(c);
    tls_server_delete(s);
}

static void test_memory_is_given_back(void **state)
{
    (void)state;
    struct tls_server *s = new_server(&ecdsa_files);
    struct tls_client *c = new_client(&ecdsa_files);
    struct pair *p;

    tls_client_keep_sessions(c, false);
    struct tls_memory before = tls_memory();
    for (int minor = 2; minor <= 3; minor++) {
        tls_client_set_version(c, minor);
        int64_t live = tls_memory().live_bytes;
        struct tls *t = tls_accept(s);
        int64_t fresh = tls_memory().live_bytes - live;
        tls_free(t);
        p = new_pair(c, s, "localhost");
        assert_true(handshake(p));
        tls_free(p->client.t);
        p->client.t = NULL;
        print_message("TLS 1.%d: %lld bytes a server session at first, %lld after the handshake\n",
                      minor, (long long)fresh, (long long)(tls_memory().live_bytes - live));
        free_pair(p);
    }
    assert_int_equal(tls_memory().live, before.live);
    assert_int_equal(tls_memory().live_bytes, before.live_bytes);
    tls_client_delete(c);
    tls_server_delete(s);
}

/* Workers share one tls_server; a ticket got on one is good on the other. */
static void *work(void *arg)
{
    struct tls_server *s = arg;
    struct tls_client *c = new_client(NULL);
    uintptr_t resumed = 0;

    for (int i = 0; i < (slow() ? 10 : 40); i++) {
        if (i % 5 == 0) tls_client_set_version(c, 2 + i / 5 % 2);
        struct pair *p = new_pair(c, s, "localhost");
        if (handshake(p)) {
            resumed += tls_resumed(p->server.t);
            converse(p);
        }
        free_pair(p);
    }
    tls_client_delete(c);
    return (void *)resumed;
}

static void test_threads(void **state)
{
    (void)state;
    struct tls_server *s = new_server(&rsa_files);
    pthread_t threads[4];

    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, work, s), 0);
    for (int i = 0; i < 4; i++) {
        void *resumed = NULL;
        pthread_join(threads[i], &resumed);
        assert_true((uintptr_t)resumed >= 6);
    }
    tls_server_delete(s);
}

static int make_certificates(void **state)
{
    (void)state;
    make_files(&ecdsa_files, &(struct cert_spec){0});
    make_files(&rsa_files, &(struct cert_spec){.rsa = true});
    return 0;
}

static int remove_certificates(void **state)
{
    (void)state;
    remove_files(&ecdsa_files);
    remove_files(&rsa_files);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handshakes),
        cmocka_unit_test(test_choice_of_suite),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_data_behind_finished),
        cmocka_unit_test(test_transfers),
        cmocka_unit_test(test_seal_without_room),
        cmocka_unit_test(test_server_changes_version),
        cmocka_unit_test(test_handshake_without_room),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_no_allocation_per_record),
        cmocka_unit_test(test_memory_is_given_back),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
