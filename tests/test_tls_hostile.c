#include "tls_pair.h"

/* TLS sessions that go wrong: hostile bytes, certificates that must not be trusted, memory that
 * runs out. After each a fresh client is served. */

/* mbedTLS's own, of library/ssl_misc.h: to send what a well-behaved end would not. */
int mbedtls_ssl_write_record(mbedtls_ssl_context *ssl, int force_flush);

static struct cert_files files;
static struct tls_server *server; /* the one of most tests */
static struct tls_client *client;

static struct pair *connected(int minor)
{
    tls_client_set_version(client, minor);
    struct pair *p = new_pair(client, server, "localhost");
    assert_true(handshake(p));
    return p;
}

/* ---- the first bytes ------------------------------------------------------------------------- */

static void test_looks_like_handshake(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        bool yes;
    } rows[] = {
        {"", 0, false},
        {"\x16", 1, true},
        {"\x16\x03", 2, true},
        {"\x16\x03\x01", 3, true},
        {"\x16\x02\x01", 3, false},
        {"GET /", 5, false},
        {"\x80\x2e\x01", 3, false},
        {"\x15\x03\x01", 3, false},
        {"\x17\x03\x03", 3, false},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t *in = guard_copy(rows[i].bytes, rows[i].len);
        assert_int_equal(tls_looks_like_handshake(in, rows[i].len), rows[i].yes);
        guard_free(in, rows[i].len);
    }
}

/* What a server answers to len bytes, in a session of their own. */
static enum io answer_to(const uint8_t *bytes, size_t len, uint8_t *out, size_t *out_len)
{
    size_t used;
    struct tls *t = tls_accept(server);
    uint8_t *in = guard_copy(bytes, len);

    assert_non_null(t);
    enum io answer = tls_handshake(t, in, len, &used, out, TLS_OUT_MAX, out_len);
    assert_int_equal(answer == IO_CLOSED, *tls_why(t) != '\0');
    if (answer == IO_WANT_READ) assert_int_equal(used, len);
    tls_free(t);
    guard_free(in, len);
    return answer;
}

#define RANDOM32 "01234567890123456789012345678901"
/* Offers ECDHE-ECDSA-AES128-GCM, no compression; 38 bytes behind the version. */
#define HELLO_BODY RANDOM32 "\x00\x00\x02\xc0\x2b\x01\x00"

/* Versions below 1.2 are refused by protocol_version (RFC 8446 D.5, RFC 7568), not before the hello
 * is whole. */
static void test_old_versions(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char bytes[64];
    } rows[] = {
        {"SSL 3.0", "\x16\x03\x00\x00\x2d\x01\x00\x00\x29\x03\x00" HELLO_BODY},
        {"TLS 1.0", "\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x01" HELLO_BODY},
        {"TLS 1.1", "\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x02" HELLO_BODY},
    };
    enum { HELLO = 5 + 4 + 2 + 32 + 7 };
    uint8_t out[TLS_OUT_MAX];
    size_t out_len;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const uint8_t *bytes = (const uint8_t *)rows[i].bytes;
        for (size_t cut = 0; cut < HELLO; cut++) {
            assert_int_equal(answer_to(bytes, cut, out, &out_len), IO_WANT_READ);
            assert_int_equal(out_len, 0);
        }
        assert_int_equal(answer_to(bytes, HELLO, out, &out_len), IO_CLOSED);
        assert_int_equal(out_len, 7);
        assert_int_equal(out[0], 21);
        assert_int_equal(out[5], MBEDTLS_SSL_ALERT_LEVEL_FATAL);
        if (out[6] != MBEDTLS_SSL_ALERT_MSG_PROTOCOL_VERSION)
            fail_msg("%s: alert %d", rows[i].name, out[6]);
    }
    serve_a_fresh_client(server);
}

/* Garbage that begins like a handshake record. */
static void test_garbage(void **state)
{
    (void)state;
    uint8_t bytes[2000], out[TLS_OUT_MAX];
    size_t out_len;

    for (int i = 0; i < (slow() ? 2000 : 20000); i++) {
        size_t len = 1 + (size_t)random() % sizeof bytes;
        for (size_t j = 0; j < len; j++) bytes[j] = (uint8_t)random();
        memcpy(bytes, "\x16\x03\x01\x00\x40\x01\x00\x00\x3c\x03\x03", len < 11 ? len : 11);
        if (answer_to(bytes, len, out, &out_len) == IO_CLOSED) assert_true(out_len >= 7);
    }
    serve_a_fresh_client(server);
}

/* A whole ClientHello is answered, every shorter prefix is waited for. */
static void test_hello_at_every_cut(void **state)
{
    (void)state;
    uint8_t out[TLS_OUT_MAX];
    size_t out_len;

    for (int minor = 2; minor <= 3; minor++) {
        tls_client_set_version(client, minor);
        struct pair *p = new_pair(client, server, "localhost");
        shake(&p->client, WHOLE);
        for (size_t cut = 0; cut < p->up.len; cut++) {
            assert_int_equal(answer_to(p->up.bytes, cut, out, &out_len), IO_WANT_READ);
            assert_int_equal(out_len, 0);
        }
        assert_int_equal(answer_to(p->up.bytes, p->up.len, out, &out_len), IO_WANT_READ);
        assert_true(out_len > 100);
        free_pair(p);
    }
}

/* ---- in the handshake ------------------------------------------------------------------------ */

/* One damaged bit anywhere: the handshake fails with reasons, or the bit had no meaning (the
 * version in a record's header). It never succeeds at one end and stays silent at the other. */
static void test_flipped_bits(void **state)
{
    (void)state;
    size_t step = slow() ? 31 : 3;

    for (int minor = 2; minor <= 3; minor++) {
        tls_client_set_version(client, minor);
        tls_client_keep_sessions(client, false);
        struct pair *p = new_pair(client, server, "localhost");
        assert_true(handshake(p));
        size_t totals[2] = {p->up.total, p->down.total};
        free_pair(p);
        for (size_t way = 0; way < 2; way++)
            for (size_t at = 0; at < totals[way]; at += 1 + (size_t)random() % step) {
                p = new_pair(client, server, "localhost");
                struct wire *w = way == 0 ? &p->up : &p->down;
                w->flip_at = at;
                w->flip = (uint8_t)(1 << random() % 8);
                if (handshake(p))
                    say(&p->client, &p->server, "harmless", WHOLE);
                else if (p->client.answer == IO_CLOSED)
                    assert_true(*tls_why(p->client.t) != '\0');
                else if (p->server.answer == IO_CLOSED)
                    assert_true(*tls_why(p->server.t) != '\0');
                free_pair(p);
            }
        tls_client_keep_sessions(client, true);
    }
    serve_a_fresh_client(server);
}

/* The peer goes away after any number of bytes, at any stage. */
static void test_gone_at_every_byte(void **state)
{
    (void)state;
    int64_t live;

    for (int minor = 2; minor <= 3; minor++) {
        tls_client_set_version(client, minor);
        live = tls_memory().live;
        bool over = false;
        for (int rounds = 0; !over; rounds += slow() ? 37 : 5) {
            struct pair *p = new_pair(client, server, "localhost");
            for (int i = 0; i < rounds && p->server.answer == IO_WANT_READ; i++) {
                while (p->client.answer == IO_WANT_READ && (p->down.len > 0 || i == 0)) {
                    shake(&p->client, WHOLE);
                    if (i == 0) break;
                }
                shake(&p->server, BYTEWISE);
            }
            over = p->server.answer == IO_DONE;
            free_pair(p);
            forget(client);
            assert_int_equal(tls_memory().live, live);
        }
    }
    serve_a_fresh_client(server);
}

static void test_alpn(void **state)
{
    (void)state;
    static const char *h2[] = {"h2", NULL}, *both[] = {"h2", "http/1.1", NULL};

    for (int minor = 2; minor <= 3; minor++) {
        struct tls_client *c = new_client(&files);
        tls_client_set_version(c, minor);
        mbedtls_ssl_conf_alpn_protocols(&c->conf, h2);
        struct pair *p = new_pair(c, server, "localhost");
        assert_false(handshake(p));
        assert_int_equal(p->server.answer, IO_CLOSED);
        assert_string_equal(tls_why(p->client.t), "the peer says: no_application_protocol");
        free_pair(p);

        mbedtls_ssl_conf_alpn_protocols(&c->conf, both);
        p = new_pair(c, server, "localhost");
        assert_true(handshake(p));
        assert_string_equal(mbedtls_ssl_get_alpn_protocol(&tls_attached(p->server.t)->ssl),
                            "http/1.1");
        free_pair(p);

        c->conf.alpn_list = NULL; /* a client that does not speak of it */
        p = new_pair(c, server, "localhost");
        assert_true(handshake(p));
        assert_null(mbedtls_ssl_get_alpn_protocol(&tls_attached(p->server.t)->ssl));
        converse(p);
        free_pair(p);
        tls_client_delete(c);
    }
}

/* Nothing in common: CBC and static RSA are not in the library, so a suite of the other
 * certificate. */
static void test_no_common_suite(void **state)
{
    (void)state;
    static const int rsa_only[] = {MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, 0};
    static const int aes256_only[] = {MBEDTLS_TLS1_3_AES_256_GCM_SHA384, 0};

    for (int minor = 2; minor <= 3; minor++) {
        struct tls_client *c = new_client(&files);
        tls_client_set_version(c, minor);
        mbedtls_ssl_conf_ciphersuites(&c->conf, minor == 2 ? rsa_only : aes256_only);
        struct pair *p = new_pair(c, server, "localhost");
        assert_false(handshake(p));
        assert_non_null(strstr(tls_why(p->client.t), "handshake_failure"));
        free_pair(p);
        tls_client_delete(c);
    }
}

/* ---- after the handshake --------------------------------------------------------------------- */

/* feed gives the server bytes and expects it to close with an alert that the client understands. */
static void expect_alert(struct pair *p, const char *words)
{
    size_t before = p->down.len;

    open_all(&p->server, WHOLE, 1000);
    assert_int_equal(p->server.answer, IO_CLOSED);
    assert_false(tls_closed_cleanly(p->server.t));
    assert_true(*tls_why(p->server.t) != '\0');
    assert_true(p->down.len > before);
    open_all(&p->client, WHOLE, 1000);
    assert_int_equal(p->client.answer, IO_CLOSED);
    assert_false(tls_closed_cleanly(p->client.t));
    if (!strstr(tls_why(p->client.t), words)) fail_msg("%s", tls_why(p->client.t));
    uint8_t out[TLS_OUT_MAX];
    size_t used, out_len; /* nothing more goes out */
    assert_int_equal(tls_seal(p->server.t, &(struct iovec){(uint8_t[]){0}, 1}, 1, &used, out,
                              sizeof out, &out_len),
                     IO_CLOSED);
    tls_close_notify(p->server.t, out, sizeof out, &out_len);
    assert_int_equal(out_len, 0);
}

static void test_damaged_record(void **state)
{
    (void)state;
    for (int minor = 2; minor <= 3; minor++)
        for (size_t at = 0; at < 45; at++) {
            struct pair *p = connected(minor);
            seal_all(&p->client, (const uint8_t *)"a record of 20 bytes", 20, TLS_OUT_MAX);
            if (at < p->up.len) p->up.bytes[at] ^= (uint8_t)(1 << random() % 8);
            bool version_or_length = at >= 1 && at <= 4;
            if (at >= 5 && at < p->up.len) {
                expect_alert(p, "bad_record_mac");
            } else {
                open_all(&p->server, WHOLE, 1000);
                if (at == 0) assert_int_equal(p->server.answer, IO_CLOSED);
                if (p->server.answer == IO_CLOSED) assert_true(p->down.len > 0);
                if (!version_or_length && at < p->up.len) assert_int_equal(p->server.got_len, 0);
            }
            free_pair(p);
        }
    serve_a_fresh_client(server);
}

static void test_bad_records(void **state)
{
    (void)state;
    for (int minor = 2; minor <= 3; minor++) {
        struct pair *p = connected(minor);
        put(&p->up, (const uint8_t *)"\x17\x03\x03\x41\x01", 5); /* RFC 8446 5.2: 2^14 + 256 */
        expect_alert(p, "record_overflow");
        free_pair(p);

        p = connected(minor); /* replay */
        seal_all(&p->client, (const uint8_t *)"once", 4, TLS_OUT_MAX);
        put(&p->up, p->up.bytes, p->up.len);
        open_all(&p->server, WHOLE, 4);
        assert_int_equal(p->server.got_len, 4); /* the first one counts */
        assert_int_equal(p->server.answer, IO_CLOSED);
        free_pair(p);

        p = connected(minor);
        put(&p->up, (const uint8_t *)"\x17\x03\x03\x00\x02xy", 7); /* shorter than a tag */
        open_all(&p->server, WHOLE, 1000);
        assert_int_equal(p->server.answer, IO_CLOSED);
        free_pair(p);

        p = connected(minor);
        put(&p->up, (const uint8_t *)"GET / HTTP/1.1\r\n\r\n", 18); /* no TLS at all */
        open_all(&p->server, WHOLE, 1000);
        assert_int_equal(p->server.answer, IO_CLOSED);
        free_pair(p);
    }
    serve_a_fresh_client(server);
}

/* A connection that ends without close_notify: the caller sees its end, and that it was not clean.
 */
static void test_truncation(void **state)
{
    (void)state;
    struct pair *p = connected(3);

    seal_all(&p->client, (const uint8_t *)"half a record", 13, TLS_OUT_MAX);
    p->up.len -= 3;
    open_all(&p->server, WHOLE, 1000);
    assert_int_equal(p->server.answer, IO_WANT_READ);
    assert_int_equal(p->server.got_len, 0);
    assert_false(tls_closed_cleanly(p->server.t));
    free_pair(p);
}

/* send_message puts one record with one handshake message of the client's on the wire. */
static void send_message(struct end *e, uint8_t type, const uint8_t *body, size_t len)
{
    uint8_t out[TLS_OUT_MAX];
    mbedtls_ssl_context *ssl = &tls_attached(e->t)->ssl;

    tls_attached(e->t)->out = out;
    tls_attached(e->t)->out_cap = sizeof out;
    tls_attached(e->t)->out_len = 0;
    ssl->out_msgtype = MBEDTLS_SSL_MSG_HANDSHAKE;
    ssl->out_msglen = len + 4;
    memcpy(ssl->out_msg, (uint8_t[]){type, 0, (uint8_t)(len >> 8), (uint8_t)len}, 4);
    memcpy(ssl->out_msg + 4, body, len);
    assert_int_equal(mbedtls_ssl_write_record(ssl, 1), 0);
    put(e->out, out, tls_attached(e->t)->out_len);
}

/* RFC 5246 7.2.2: no_renegotiation, and the connection goes on; not for ever. In 1.3 a ClientHello
 * is an unexpected message. */
static void test_renegotiation(void **state)
{
    (void)state;
    const uint8_t *hello = (const uint8_t *)"\x03\x03" HELLO_BODY;
    size_t len = 2 + 32 + 7;

    struct pair *p = connected(2);
    send_message(&p->client, 1, hello, len);
    open_all(&p->server, WHOLE, 1000);
    assert_int_equal(p->server.answer, IO_WANT_READ);
    assert_true(p->down.len > 0);
    converse(p);
    free_pair(p);

    p = connected(2);
    for (int i = 0; i < 100; i++) send_message(&p->client, 1, hello, len);
    expect_alert(p, "unexpected_message");
    free_pair(p);

    p = connected(3);
    send_message(&p->client, 1, hello, len);
    expect_alert(p, "unexpected_message");
    free_pair(p);
    serve_a_fresh_client(server);
}

/* ---- certificates that a client must not trust ------------------------------------------------
 */

static void test_verification(void **state)
{
    (void)state;
    static const struct {
        const char *name, *host, *why; /* NULL: trusted */
        struct cert_spec spec;
        bool other_ca;
    } rows[] = {
        {"name", "localhost", NULL, {0}, false},
        {"upper case", "LocalHost", NULL, {0}, false},
        {"other name", "example.com", "another host", {0}, false},
        {"wildcard", "a.example.com", NULL, {.dns = "*.example.com"}, false},
        {"wildcard, two labels",
         "a.b.example.com",
         "another host",
         {.dns = "*.example.com"},
         false},
        {"wildcard, no label", "example.com", "another host", {.dns = "*.example.com"}, false},
        {"other CA", "localhost", "trusted CA", {0}, true},
        {"expired", "localhost", "expired", {.to = "20210101000000"}, false},
        {"not yet", "localhost", "not valid yet", {.from = "20490101000000"}, false},
        {"IPv4", "127.0.0.1", NULL, {.ip = {127, 0, 0, 1}, .ip_len = 4}, false},
        {"IPv4, other", "127.0.0.2", "another host", {.ip = {127, 0, 0, 1}, .ip_len = 4}, false},
        {"IPv6", "::1", NULL, {.ip = {[15] = 1}, .ip_len = 16}, false},
        {"IPv6, other form", "0:0::0:1", NULL, {.ip = {[15] = 1}, .ip_len = 16}, false},
        {"IPv6, other", "::2", "another host", {.ip = {[15] = 1}, .ip_len = 16}, false},
        {"a name like an address", "127.0.0.1", "another host", {.dns = "127.0.0.1"}, false},
        {"an address and no address", "127.0.0.1", "another host", {0}, false},
        {"RSA", "localhost", NULL, {.rsa = true}, false},
    };
    struct cert_files other;

    make_files(&other, &(struct cert_spec){0});
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct cert_files shown;
        make_files(&shown, &rows[i].spec);
        struct tls_server *s = new_server(&shown);
        struct tls_client *c = new_client(rows[i].other_ca ? &other : &shown);
        for (int minor = 2; minor <= 3; minor++) {
            tls_client_set_version(c, minor);
            struct pair *p = new_pair(c, s, rows[i].host);
            bool trusted = handshake(p);
            if (trusted != !rows[i].why)
                fail_msg("%s: %s", rows[i].name, trusted ? "trusted" : tls_why(p->client.t));
            if (!trusted) {
                assert_int_equal(p->client.answer, IO_CLOSED);
                if (!strstr(tls_why(p->client.t), rows[i].why))
                    fail_msg("%s: %s", rows[i].name, tls_why(p->client.t));
                if (!strstr(tls_why(p->server.t), "the peer says: "))
                    fail_msg("%s: the server heard: %s", rows[i].name, tls_why(p->server.t));
            }
            free_pair(p);
        }
        tls_client_delete(c);
        c = new_client(NULL); /* --insecure takes them all */
        struct pair *p = new_pair(c, s, rows[i].host);
        assert_true(handshake(p));
        free_pair(p);
        tls_client_delete(c);
        tls_server_delete(s);
        remove_files(&shown);
    }
    remove_files(&other);
}

/* ---- memory runs out --------------------------------------------------------------------------
 */

/* One scripted session; whether it went well does not matter here. */
static void try_session(struct tls_client *c)
{
    struct pair *p = calloc(1, sizeof *p);

    assert_non_null(p);
    p->client.t = tls_connect(c, "localhost");
    p->server.t = tls_accept(server);
    p->client.in = p->server.out = &p->down;
    p->client.out = p->server.in = &p->up;
    p->client.answer = p->server.answer = IO_WANT_READ;
    if (p->client.t && p->server.t && handshake(p)) {
        uint8_t plain[100], out[TLS_OUT_MAX];
        size_t used, n, out_len;
        if (p->down.len > 0) /* the ticket */
            tls_open(p->client.t, p->down.bytes, p->down.len, &used, plain, sizeof plain, &n, out,
                     sizeof out, &out_len);
    }
    free_pair(p);
}

/* Returns how many blocks are lost when the k-th allocation of a session fails. */
static int64_t lost_at(struct tls_client *c, uint64_t k, bool resumed)
{
    int64_t live = tls_memory().live;

    if (resumed) try_session(c);
    tls_memory_fail_at(k);
    try_session(c);
    tls_memory_fail_at(0);
    forget(c);
    return tls_memory().live - live;
}

/* No crash at any allocation, and nothing lost, but for what mbedTLS 3.6.6 itself loses in 1.3:
 * when the second half of a record key's context can not be had, the first is not freed
 * (mbedtls_ssl_tls13_compute_handshake_transform and _application_transform): at a dozen of 2000
 * places, up to 3 blocks of some 400 bytes. And in 1.2 ssl_compute_master goes on when calc_verify
 * has failed, with 16 bytes of the stack behind session_hash; the Finished is wrong then, so the
 * handshake fails, but address sanitizers object: there without that extension (RFC 7627). */
static void test_out_of_memory(void **state)
{
    (void)state;
    struct tls_client *c = new_client(&files);

    if (SLOW) mbedtls_ssl_conf_extended_master_secret(&c->conf, MBEDTLS_SSL_EXTENDED_MS_DISABLED);
    for (int minor = 2; minor <= 3; minor++)
        for (int resumed = 0; resumed <= 1; resumed++) {
            int64_t lost = 0, most = 0;
            tls_client_set_version(c, minor);
            uint64_t calls = tls_memory().calls;
            assert_int_equal(lost_at(c, 0, resumed), 0);
            uint64_t allocations = (tls_memory().calls - calls) / 2;
            assert_true(allocations > 500);
            for (uint64_t k = 1; k <= allocations; k += slow() ? 1 + (uint64_t)random() % 97 : 1) {
                int64_t now = lost_at(c, k, resumed);
                assert_true(now >= 0);
                lost += now;
                if (now > most) most = now;
            }
            assert_true(most <= (minor == 3 ? 3 : 0));
            assert_true(lost <= (minor == 3 ? 40 : 0));
        }
    tls_client_delete(c);
    serve_a_fresh_client(server);
}

static int set_up(void **state)
{
    (void)state;
    make_files(&files, &(struct cert_spec){0});
    server = new_server(&files);
    client = new_client(&files);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    tls_client_delete(client);
    tls_server_delete(server);
    remove_files(&files);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_looks_like_handshake),
        cmocka_unit_test(test_old_versions),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_hello_at_every_cut),
        cmocka_unit_test(test_flipped_bits),
        cmocka_unit_test(test_gone_at_every_byte),
        cmocka_unit_test(test_alpn),
        cmocka_unit_test(test_no_common_suite),
        cmocka_unit_test(test_damaged_record),
        cmocka_unit_test(test_bad_records),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_renegotiation),
        cmocka_unit_test(test_verification),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
