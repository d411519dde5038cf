#include "../aead/internal.h"
#include "tls_pair.h"

#include <sys/socket.h>
#include <sys/wait.h>

/* Detached sessions against attached ones: whoever does the records, the same bytes come out, in
 * every version and suite, full and resumed, however they are cut. What is refused, and with which
 * alert, is in test_record.c; here a client of mbedTLS understands the alert. */

static struct cert_files ecdsa_files, rsa_files;
static struct mem_pool *pool;

static const struct suite {
    int minor, id;
    bool rsa;
    enum aead aead;
} suites[] = {
    {3, MBEDTLS_TLS1_3_AES_128_GCM_SHA256, false, AEAD_AES_128_GCM},
    {3, MBEDTLS_TLS1_3_AES_256_GCM_SHA384, true, AEAD_AES_256_GCM},
    {3, MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256, false, AEAD_CHACHA20_POLY1305},
    {2, MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, false, AEAD_AES_128_GCM},
    {2, MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, false, AEAD_AES_256_GCM},
    {2, MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, false, AEAD_CHACHA20_POLY1305},
    {2, MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, true, AEAD_AES_128_GCM},
    {2, MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, true, AEAD_AES_256_GCM},
    {2, MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, true, AEAD_CHACHA20_POLY1305},
};
enum { SUITES = sizeof suites / sizeof suites[0] };

static void detach(struct end *e)
{
    e->t = tls_detach(e->t, pool);
    assert_true(tls_is_detached(e->t));
}

/* hear_tickets: a client that is detached takes no tickets any more. */
static void hear_tickets(struct pair *p)
{
    if (p->down.len) open_all(&p->client, WHOLE, sizeof p->client.got);
    assert_int_equal(p->client.got_len, 0);
}

static struct pair *connected(struct tls_client *c, struct tls_server *s, enum pieces pieces)
{
    struct pair *p = new_pair(c, s, "localhost");
    p->pieces = pieces;
    if (!handshake(p)) fail_msg("%s, %s", tls_why(p->client.t), tls_why(p->server.t));
    hear_tickets(p);
    return p;
}

/* ---- the same bytes, whoever does the records ---- */

static uint64_t heard(uint64_t hash, const struct end *e)
{
    for (size_t i = 0; i < e->got_len; i++) hash = (hash ^ e->got[i]) * 1099511628211u;
    return hash ^ e->got_len;
}

/* talk_at_random: what is said depends on the seed alone, how it is cut on what comes out. Returns
 * a hash of all that was heard. */
static uint64_t talk_at_random(struct pair *p, unsigned seed)
{
    static uint8_t words[40000];
    uint64_t hash = 14695981039346656037u, x = seed + 1;
    for (int i = 0; i < 12; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        size_t len = (size_t)(x >> 33) % (i % 4 ? 700 : sizeof words);
        struct end *from = x >> 60 & 1 ? &p->client : &p->server;
        struct end *to = from == &p->client ? &p->server : &p->client;
        memset(words, (int)(x >> 40), len);
        to->got_len = 0;
        for (size_t at = 0; at < len;) {
            size_t piece = 1 + (size_t)random() % (len - at);
            seal_all(from, words + at, piece, TLS_OUT_MAX);
            at += piece;
        }
        open_all(to, p->pieces, sizeof to->got);
        assert_int_equal(to->answer, IO_WANT_READ);
        assert_int_equal(to->got_len, len);
        hash = heard(hash, to);
    }
    return hash;
}

enum who { NEITHER, SERVER, BOTH };

static uint64_t run(struct tls_client *c, struct tls_server *s, const struct suite *suite,
                    enum pieces pieces, enum who who, bool resumed)
{
    struct pair *p = connected(c, s, pieces);
    assert_int_equal(tls_resumed(p->server.t), resumed);
    if (who != NEITHER) {
        detach(&p->server);
        assert_string_equal(tls_suite(p->server.t), aead_text(suite->aead));
        assert_string_equal(tls_version(p->server.t), suite->minor == 3 ? "TLSv1.3" : "TLSv1.2");
        assert_int_equal(tls_resumed(p->server.t), resumed);
    }
    if (who == BOTH) detach(&p->client);
    const uint64_t hash = talk_at_random(p, (unsigned)suite->id);
    converse(p);
    free_pair(p);
    return hash;
}

static void test_differential(void **state)
{
    (void)state;
    struct tls_server *ecdsa = new_server(&ecdsa_files), *rsa = new_server(&rsa_files);
    for (size_t i = 0; i < SUITES; i++) {
        const struct suite *suite = &suites[i];
        struct tls_server *s = suite->rsa ? rsa : ecdsa;
        struct tls_client *c = new_client(suite->rsa ? &rsa_files : &ecdsa_files);
        int only[] = {suite->id, 0};
        tls_client_set_version(c, suite->minor);
        mbedtls_ssl_conf_ciphersuites(&c->conf, only);
        mbedtls_ssl_conf_ciphersuites(&s->current->conf, only);
        for (int pieces = WHOLE; pieces <= RANDOM; pieces++) {
            forget(c);
            const uint64_t expected = run(c, s, suite, (enum pieces)pieces, NEITHER, false);
            for (int resumed = 0; resumed < 2; resumed++) {
                if (!resumed) forget(c);
                for (int who = SERVER; who <= BOTH; who++) {
                    if (who == BOTH && !resumed) forget(c);
                    assert_int_equal(run(c, s, suite, (enum pieces)pieces, (enum who)who, resumed),
                                     expected);
                }
            }
        }
        tls_client_delete(c);
    }
    tls_server_delete(ecdsa);
    tls_server_delete(rsa);
    assert_int_equal(mem_pool_stats(pool).used_bytes, 0);
}

/* ---- when ---- */

/* What lies behind the handshake in one segment is the detached session's to open. */
static void test_data_behind_finished(void **state)
{
    (void)state;
    struct tls_server *s = new_server(&ecdsa_files);
    struct tls_client *c = new_client(&ecdsa_files);
    for (int minor = 2; minor <= 3; minor++) {
        tls_client_set_version(c, minor);
        for (int resumed = minor == 2; resumed <= 1;
             resumed++) {                                      /* 1.2 full: the server's is last */
            if (minor == 2) free_pair(connected(c, s, WHOLE)); /* for its ticket */
            struct pair *p = new_pair(c, s, "localhost");
            while (p->client.answer != IO_DONE) {
                shake(&p->client, WHOLE);
                if (p->client.answer != IO_DONE) shake(&p->server, WHOLE);
            }
            seal_all(&p->client, (const uint8_t *)"early", 5, TLS_OUT_MAX);
            shake(&p->server, WHOLE);
            assert_int_equal(p->server.answer, IO_DONE);
            detach(&p->server);
            hear_tickets(p);
            open_all(&p->server, WHOLE, sizeof p->server.got);
            assert_int_equal(p->server.got_len, 5);
            assert_memory_equal(p->server.got, "early", 5);
            converse(p);
            free_pair(p);
        }
    }
    tls_client_delete(c);
    tls_server_delete(s);
}

/* Who can not be detached goes on as it is. */
static void test_stays_attached(void **state)
{
    (void)state;
    struct tls_server *s = new_server(&ecdsa_files);
    struct tls_client *c = new_client(&ecdsa_files);
    for (int minor = 2; minor <= 3; minor++) {
        tls_client_set_version(c, minor);
        struct pair *p = new_pair(c, s, "localhost");
        struct tls *before = p->server.t;
        for (int i = 0; i < 2; i++) { /* in the handshake */
            assert_ptr_equal(tls_detach(p->server.t, pool), before);
            shake(&p->client, WHOLE);
            shake(&p->server, WHOLE);
        }
        assert_true(handshake(p));
        hear_tickets(p);

        seal_all(&p->client, (const uint8_t *)"word", 4, TLS_OUT_MAX); /* half a record is inside */
        struct wire rest = p->up;
        p->up.len = 7;
        open_all(&p->server, WHOLE, 100);
        assert_int_equal(p->server.answer, IO_WANT_READ);
        assert_ptr_equal(tls_detach(p->server.t, pool), before);
        p->up = rest;
        take(&p->up, 7);
        open_all(&p->server, WHOLE, 100);
        assert_int_equal(p->server.got_len, 4);

        mem_fail_at(1);
        assert_ptr_equal(tls_detach(p->server.t, pool), before);
        mem_fail_at(0);
        tls_backend_set(TLS_BACKEND_MBEDTLS);
        assert_ptr_equal(tls_detach(p->server.t, pool), before);
        assert_string_equal(tls_backend_in_use(), "attached (mbedTLS)");
        tls_backend_set(TLS_BACKEND_AUTO);
        converse(p);
        assert_ptr_equal(tls_detach(p->server.t, pool), before); /* after its end */
        free_pair(p);

        p = connected(c, s, WHOLE);
        detach(&p->server);
        before = p->server.t;
        assert_ptr_equal(tls_detach(p->server.t, pool), before); /* once is enough */
        free_pair(p);
    }
    tls_client_delete(c);
    tls_server_delete(s);
    assert_int_equal(mem_pool_stats(pool).used_bytes, 0);
}

/* Whichever of mbedTLS's allocations fails while keys are made: the session stays as it is. */
static void test_detach_without_memory(void **state)
{
    (void)state;
    struct tls_server *s = new_server(&ecdsa_files);
    struct tls_client *c = new_client(&ecdsa_files);
    for (int minor = 2; minor <= 3; minor++) {
        tls_client_set_version(c, minor);
        bool detached = false;
        uint64_t k = 0;
        while (!detached) {
            struct pair *p = connected(c, s, WHOLE);
            tls_memory_fail_at(++k);
            p->server.t = tls_detach(p->server.t, pool);
            tls_memory_fail_at(0);
            detached = tls_is_detached(p->server.t);
            converse(p);
            free_pair(p);
            assert_true(k < 100);
        }
        assert_true(k > 2);
    }
    tls_client_delete(c);
    tls_server_delete(s);
    assert_int_equal(mem_pool_stats(pool).used_bytes, 0);
}

/* ---- the test at the start ---- */

static void crypt_wrongly(const struct aead_message *m, bool seal, uint8_t *out,
                          uint8_t tag[static AEAD_TAG])
{
    aead_mbedtls.crypt(m, seal, out, tag);
    if (m->key_len == 32) tag[0] ^= 1;
}

static void test_backend_try(void **state)
{
    (void)state;
    char err[256];
    static const int offered[] = {MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
                                  MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
                                  MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, 0};
    const struct aead_kernel wrong = {"wrong", aead_mbedtls.works, crypt_wrongly};
    struct tls_server *s = new_server(&ecdsa_files);
    struct tls_client *c = new_client(&ecdsa_files);

    assert_int_equal(tls_backend_try(s, err, sizeof err), 0);
    assert_string_equal(err, "");
    assert_ptr_equal(strstr(tls_backend_in_use(), "detached ("), tls_backend_in_use());

    mbedtls_ssl_conf_ciphersuites(&s->current->conf, offered);
    aead_use(&wrong);
    assert_int_equal(tls_backend_try(s, err, sizeof err), 1);
    assert_non_null(strstr(err, "TLS1-3-AES-256-GCM-SHA384"));
    assert_string_equal(tls_backend_in_use(), "detached (wrong), attached: TLS 1.3 AES-256-GCM");
    for (int i = 0; i < 2; i++) {
        int only[] = {offered[i], 0};
        mbedtls_ssl_conf_ciphersuites(&c->conf, only);
        forget(c); /* a ticket is for its own hash */
        struct pair *p = connected(c, s, WHOLE);
        p->server.t = tls_detach(p->server.t, pool);
        assert_int_equal(tls_is_detached(p->server.t), i == 0);
        converse(p);
        free_pair(p);
    }
    aead_use(NULL);
    assert_int_equal(tls_backend_try(s, err, sizeof err), 0);
    tls_client_delete(c);
    tls_server_delete(s);
}

/* ---- what comes in pieces ---- */

static void test_kept(void **state)
{
    (void)state;
    struct tls_server *s = new_server(&ecdsa_files);
    struct tls_client *c = new_client(&ecdsa_files);
    static uint8_t words[TLS_RECORD_MAX];
    struct pair *p = connected(c, s, WHOLE);
    detach(&p->client);
    detach(&p->server);
    const size_t alone = mem_pool_stats(pool).used_bytes;

    seal_all(&p->client, words, sizeof words, TLS_OUT_MAX);
    struct wire all = p->up;
    for (size_t at = 0; at + 1 < all.len; at++) { /* a byte at a time, all but the last */
        p->up.bytes[0] = all.bytes[at];
        p->up.len = 1;
        open_all(&p->server, WHOLE, sizeof p->server.got);
        assert_int_equal(p->server.answer, IO_WANT_READ);
        assert_true(tls_kept(p->server.t) > at && tls_kept(p->server.t) <= TLS_OPEN_ROOM);
        assert_true(tls_kept(p->server.t) <= 2 * at + 256);
    }
    assert_int_equal(p->server.got_len, 0);
    p->up.bytes[0] = all.bytes[all.len - 1];
    p->up.len = 1;
    open_all(&p->server, WHOLE, sizeof p->server.got);
    assert_int_equal(p->server.got_len, sizeof words);
    assert_int_equal(tls_kept(p->server.t), 0);
    assert_int_equal(mem_pool_stats(pool).used_bytes, alone);

    /* A header that promises too much is refused as soon as it is there. */
    memcpy(p->up.bytes, "\x17\x03\x03\xff\xff", p->up.len = 5);
    open_all(&p->server, BYTEWISE, sizeof p->server.got);
    assert_int_equal(p->server.answer, IO_CLOSED);
    open_all(&p->client, WHOLE, sizeof p->client.got);
    assert_string_equal(tls_why(p->client.t), "the peer says: record_overflow");
    free_pair(p);
    tls_client_delete(c);
    tls_server_delete(s);
    assert_int_equal(mem_pool_stats(pool).used_bytes, 0);
}

static void test_kept_without_memory(void **state)
{
    (void)state;
    struct tls_server *s = new_server(&ecdsa_files);
    struct tls_client *c = new_client(&ecdsa_files);
    uint8_t out[256], plain[TLS_OPEN_ROOM];
    size_t used, n, out_len;
    struct pair *p = connected(c, s, WHOLE);
    detach(&p->server);
    mem_fail_at(1);
    assert_int_equal(tls_open(p->server.t, (const uint8_t *)"\x17\x03", 2, &used, plain,
                              sizeof plain, &n, out, sizeof out, &out_len),
                     IO_CLOSED);
    mem_fail_at(0);
    assert_string_equal(tls_why(p->server.t), "out of memory");
    assert_int_equal(
        tls_seal(p->server.t, &(struct iovec){plain, 1}, 1, &used, plain, sizeof plain, &out_len),
        IO_CLOSED);
    free_pair(p);
    tls_client_delete(c);
    tls_server_delete(s);
}

/* ---- what is wrong ---- */

/* Any byte of a record that is not what it was ends the session with an alert that mbedTLS's client
 * understands, and nothing of it is handed out. */
static void test_damaged_record(void **state)
{
    (void)state;
    struct tls_server *s = new_server(&ecdsa_files);
    struct tls_client *c = new_client(&ecdsa_files);
    for (int minor = 2; minor <= 3; minor++) {
        tls_client_set_version(c, minor);
        for (size_t at = 0; at < 45; at++) {
            struct pair *p = connected(c, s, WHOLE);
            detach(&p->server);
            seal_all(&p->client, (const uint8_t *)"a record of 20 bytes", 20, TLS_OUT_MAX);
            if (at < p->up.len) p->up.bytes[at] ^= (uint8_t)(1 << random() % 8);
            const bool length = at == 3 || at == 4;
            const bool whole = at < p->up.len && !length;
            open_all(&p->server, WHOLE, sizeof p->server.got);
            if (whole) {
                assert_int_equal(p->server.answer, IO_CLOSED);
                assert_int_equal(p->server.got_len, 0);
                open_all(&p->client, WHOLE, sizeof p->client.got);
                assert_int_equal(p->client.answer, IO_CLOSED);
                const char *says = tls_why(p->client.t);
                assert_string_equal(says, at == 0 && strstr(says, "unexpected")
                                              ? "the peer says: unexpected_message"
                                              : "the peer says: bad_record_mac");
            }
            free_pair(p);
        }
    }
    serve_a_fresh_client(s);
    tls_client_delete(c);
    tls_server_delete(s);
}

/* ---- from process to process ---- */

static void test_load_refuses(void **state)
{
    (void)state;
    uint8_t saved[TLS_SAVED_MAX];
    struct tls_server *s = new_server(&ecdsa_files);
    struct tls_client *c = new_client(&ecdsa_files);
    struct pair *p = connected(c, s, WHOLE);
    assert_int_equal(tls_save(p->server.t, saved, sizeof saved), 0); /* attached */
    detach(&p->server);
    assert_int_equal(tls_save(p->server.t, saved, 100), 0); /* no room */
    const size_t len = tls_save(p->server.t, saved, sizeof saved);
    assert_true(len > 0);
    for (size_t cut = 0; cut < len; cut++) assert_null(tls_load(pool, saved, cut));
    for (size_t at = 0; at < 20; at++) {
        for (int bit = 0; bit < 8; bit++) {
            saved[at] ^= (uint8_t)(1 << bit);
            tls_free(tls_load(pool, saved, len)); /* may be loaded: the bytes of flags, the note */
            saved[at] ^= (uint8_t)(1 << bit);
        }
    }
    for (uint64_t k = 1; k <= 1; k++) {
        mem_fail_at(k);
        assert_null(tls_load(pool, saved, len));
        mem_fail_at(0);
    }
    struct tls *again = tls_load(pool, saved, len);
    assert_non_null(again);
    tls_free(p->server.t);
    p->server.t = again;
    converse(p);
    free_pair(p);
    tls_client_delete(c);
    tls_server_delete(s);
    assert_int_equal(mem_pool_stats(pool).used_bytes, 0);
}

/* The other process: takes a session with its socket from a Unix socket, and goes on with the echo.
 */
static void echo_on(int from)
{
    static uint8_t saved[TLS_SAVED_MAX], in[4096], plain[TLS_OPEN_ROOM * 2], out[TLS_OUT_MAX];
    char control[CMSG_SPACE(sizeof(int))];
    struct iovec iov = {saved, sizeof saved};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    const ssize_t len = recvmsg(from, &m, 0);
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    if (len <= 0 || !h || h->cmsg_type != SCM_RIGHTS) _exit(2);
    int fd;
    memcpy(&fd, CMSG_DATA(h), sizeof fd);
    struct mem_pool *mine = mem_pool_new();
    struct tls *t = tls_load(mine, saved, (size_t)len);
    if (!t) _exit(3);
    for (;;) {
        const ssize_t got = recv(fd, in, sizeof in, 0);
        if (got <= 0) _exit(got == 0 ? 0 : 4);
        size_t at = 0, used, n, out_len;
        enum io io;
        do {
            io = tls_open(t, in + at, (size_t)got - at, &used, plain, sizeof plain, &n, out,
                          sizeof out, &out_len);
            at += used;
            for (size_t sent = 0; sent < n; sent += used) {
                const struct iovec piece = {plain + sent, n - sent};
                if (tls_seal(t, &piece, 1, &used, out, sizeof out, &out_len) != IO_DONE) _exit(5);
                if (send(fd, out, out_len, MSG_NOSIGNAL) != (ssize_t)out_len) _exit(6);
            }
        } while (io == IO_DONE);
    }
}

static void hand_over(struct tls *t, int fd, int to)
{
    static uint8_t saved[TLS_SAVED_MAX];
    union {
        struct cmsghdr h;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {{0}};
    struct iovec iov = {saved, tls_save(t, saved, sizeof saved)};
    assert_true(iov.iov_len > 0);
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(h), &fd, sizeof fd);
    assert_true(sendmsg(to, &m, 0) == (ssize_t)iov.iov_len);
}

/* A server's session moves to another process in the middle of a transfer, half a record inside:
 * the client notices nothing. */
static void move(struct tls_server *s, struct tls_client *c)
{
    static uint8_t words[30000], got[TLS_OPEN_ROOM * 2], out[TLS_OUT_MAX], in[65536];
    int socket[2], between[2], status;
    size_t used, n, out_len, heard_len = 0;
    struct pair *p = connected(c, s, WHOLE);
    detach(&p->server);
    say(&p->client, &p->server, "before", WHOLE);
    for (size_t i = 0; i < sizeof words; i++) words[i] = (uint8_t)random();
    seal_all(&p->client, words, sizeof words, 5000);
    struct wire all = p->up;
    p->up.len = 3000; /* of the first record */
    open_all(&p->server, WHOLE, sizeof p->server.got);
    assert_true(tls_kept(p->server.t) >= 3000);

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, socket), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, between), 0);
    const pid_t child = fork();
    if (child == 0) {
        close(socket[0]); /* and the end that it is sent is the only one it has */
        close(socket[1]);
        echo_on(between[1]);
    }
    hand_over(p->server.t, socket[1], between[0]);
    close(socket[1]);
    tls_free(p->server.t);
    p->server.t = NULL;
    for (size_t at = 3000; at < all.len;) {
        const ssize_t sent =
            send(socket[0], all.bytes + at, all.len - at > 777 ? 777 : all.len - at, MSG_NOSIGNAL);
        assert_true(sent > 0);
        at += (size_t)sent;
    }
    while (heard_len < sizeof words) {
        const ssize_t len = recv(socket[0], in, sizeof in, 0);
        assert_true(len > 0);
        size_t at = 0;
        enum io io;
        do {
            io = tls_open(p->client.t, in + at, (size_t)len - at, &used, got, sizeof got, &n, out,
                          sizeof out, &out_len);
            at += used;
            assert_true(heard_len + n <= sizeof words);
            assert_memory_equal(got, words + heard_len, n);
            heard_len += n;
        } while (io == IO_DONE);
        assert_int_equal(io, IO_WANT_READ);
    }
    close(socket[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(between[0]);
    close(between[1]);
    free_pair(p);
}

static void test_moves_to_another_process(void **state)
{
    (void)state;
    struct tls_server *s = new_server(&ecdsa_files);
    struct tls_client *c = new_client(&ecdsa_files);
    for (int minor = 2; minor <= 3; minor++) {
        tls_client_set_version(c, minor);
        move(s, c);
    }
    tls_client_delete(c);
    tls_server_delete(s);
    assert_int_equal(mem_pool_stats(pool).used_bytes, 0);
}

static int set_up(void **state)
{
    (void)state;
    make_files(&ecdsa_files, &(struct cert_spec){0});
    make_files(&rsa_files, &(struct cert_spec){.rsa = true});
    pool = mem_pool_new();
    mem_pool_keep_secret(pool);
    return pool ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    remove_files(&ecdsa_files);
    remove_files(&rsa_files);
    mem_pool_delete(pool);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_differential),        cmocka_unit_test(test_data_behind_finished),
        cmocka_unit_test(test_stays_attached),      cmocka_unit_test(test_detach_without_memory),
        cmocka_unit_test(test_backend_try),         cmocka_unit_test(test_kept),
        cmocka_unit_test(test_kept_without_memory), cmocka_unit_test(test_damaged_record),
        cmocka_unit_test(test_load_refuses),        cmocka_unit_test(test_moves_to_another_process),
    };
    srandom(1);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
