/* bench_handshake - what a TLS handshake costs a server: microseconds of thread CPU time of its
 * end alone, from the first byte of the client to a session that may talk (detached, tickets
 * sent), and to free it. In memory, P-256 certificate, X25519. OpenSSL's server in turn with ours
 * if its headers were there (-DBENCH_OPENSSL), each with a client of its own library, whose time
 * is not counted. The smallest of the rounds counts: the machine may be busy. A figure of another
 * run or machine says nothing; ratios of one run do. */
#include "mem.h"
#include "tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 30, BATCH = 25, WIRE = 64 * 1024 };

static char cert_file[] = "/tmp/bench_handshake.XXXXXX/cert.pem",
            key_file[] = "/tmp/bench_handshake.XXXXXX/key.pem";

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void must(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "bench_handshake: %s\n", what);
    exit(1);
}

/* One handshake; returns nanoseconds of the server's end. */
typedef uint64_t one(int minor, bool resumed);

/* ---- ours ---- */

struct wire {
    uint8_t bytes[WIRE];
    size_t len;
};

static struct tls_server *server;
static struct tls_client *client;
static struct mem_pool *pool;
static struct wire up, down;

static void ours_begin(void)
{
    char err[256];
    const struct tls_files files = {cert_file, key_file};
    server = tls_server_new(&files, 1, err, sizeof err);
    must(server, err);
    must(tls_backend_try(server, err, sizeof err) == 0, err);
    client = tls_client_new(NULL, true, err, sizeof err);
    pool = mem_pool_new();
    must(client && pool, "out of memory");
}

static enum io step(struct tls *t, struct wire *in, struct wire *out)
{
    size_t used, len;
    enum io io;
    do {
        io = tls_handshake(t, in->bytes, in->len, &used, out->bytes + out->len, WIRE - out->len,
                           &len);
        memmove(in->bytes, in->bytes + used, in->len - used);
        in->len -= used;
        out->len += len;
    } while (io == IO_WANT_WRITE);
    must(io != IO_CLOSED, "handshake failed");
    return io;
}

/* hear_tickets: those of 1.3 come behind the handshake. */
static void hear_tickets(struct tls *t)
{
    static uint8_t plain[TLS_OPEN_ROOM], reply[TLS_REPLY_ROOM];
    size_t used, n, reply_len;
    for (size_t at = 0; at < down.len; at += used)
        must(tls_open(t, down.bytes + at, down.len - at, &used, plain, sizeof plain, &n, reply,
                      sizeof reply, &reply_len) != IO_CLOSED,
             "no ticket");
    down.len = 0;
}

static uint64_t ours(int minor, bool resumed)
{
    static int set;
    if (set != minor) tls_client_set_version(client, set = minor);
    tls_client_keep_sessions(client, resumed);
    struct tls *c = tls_connect(client, "localhost"), *s = NULL;
    must(c, "out of memory");
    up.len = down.len = 0;
    step(c, &down, &up);
    uint64_t begin = now_ns(), ns;
    s = tls_accept(server);
    must(s, "out of memory");
    enum io io = step(s, &up, &down);
    ns = now_ns() - begin;
    for (int i = 0; io != IO_DONE && i < 10; i++) {
        step(c, &down, &up);
        begin = now_ns();
        io = step(s, &up, &down);
        ns += now_ns() - begin;
    }
    must(io == IO_DONE, "handshake does not end");
    const bool was_resumed = tls_resumed(s);
    begin = now_ns();
    s = tls_detach(s, pool);
    must(tls_is_detached(s), "not detached");
    tls_free(s);
    ns += now_ns() - begin;
    if (step(c, &down, &up) == IO_DONE) hear_tickets(c);
    tls_free(c);
    must(was_resumed == resumed || resumed, "resumed, though it should not");
    return was_resumed == resumed ? ns : 0;
}

/* ---- OpenSSL ---- */

#ifdef BENCH_OPENSSL
#include <openssl/ssl.h>

static SSL_CTX *server_ctx, *client_ctx;
static SSL_SESSION *kept;
static int kept_minor;

static int keep(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(kept);
    kept = session;
    return 1;
}

static void openssl_begin(void)
{
    server_ctx = SSL_CTX_new(TLS_server_method());
    client_ctx = SSL_CTX_new(TLS_client_method());
    must(server_ctx && client_ctx, "no context");
    must(SSL_CTX_use_certificate_chain_file(server_ctx, cert_file) == 1 &&
             SSL_CTX_use_PrivateKey_file(server_ctx, key_file, SSL_FILETYPE_PEM) == 1,
         "no certificate");
    SSL_CTX_set_num_tickets(server_ctx, 1); /* as ours */
    SSL_CTX_set_mode(server_ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(server_ctx, SSL_SESS_CACHE_OFF); /* tickets only */
    SSL_CTX_set_session_id_context(server_ctx, (const unsigned char *)"b", 1);
    SSL_CTX_set_verify(client_ctx, SSL_VERIFY_NONE, NULL);
    must(SSL_CTX_set1_groups_list(client_ctx, "X25519:P-256") == 1, "no groups");
    must(SSL_CTX_set_ciphersuites(client_ctx, "TLS_AES_128_GCM_SHA256") == 1 &&
             SSL_CTX_set_cipher_list(client_ctx, "ECDHE-ECDSA-AES128-GCM-SHA256") == 1,
         "no suite");
    SSL_CTX_set_session_cache_mode(client_ctx,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(client_ctx, keep);
}

static SSL *openssl_client(int minor, bool resumed, BIO *in, BIO *out)
{
    const int version = minor == 3 ? TLS1_3_VERSION : TLS1_2_VERSION;
    SSL *c = SSL_new(client_ctx);
    must(c && SSL_set_min_proto_version(c, version) && SSL_set_max_proto_version(c, version),
         "no session");
    if (kept_minor == minor && kept && resumed) must(SSL_set_session(c, kept) == 1, "no ticket");
    kept_minor = minor;
    SSL_set_bio(c, in, out);
    SSL_set_connect_state(c);
    return c;
}

static uint64_t openssl(int minor, bool resumed)
{
    BIO *there = BIO_new(BIO_s_mem()), *back = BIO_new(BIO_s_mem());
    must(there && back && BIO_up_ref(there) && BIO_up_ref(back), "no BIO");
    BIO_set_mem_eof_return(there, -1); /* empty is not the end */
    BIO_set_mem_eof_return(back, -1);
    SSL *c = openssl_client(minor, resumed, back, there);
    int over = SSL_do_handshake(c);
    uint64_t begin = now_ns(), ns;
    SSL *s = SSL_new(server_ctx);
    must(s, "no session");
    SSL_set_bio(s, there, back);
    SSL_set_accept_state(s);
    int done = SSL_do_handshake(s);
    ns = now_ns() - begin;
    for (int i = 0; !(over == 1 && done == 1) && i < 10; i++) {
        over = SSL_do_handshake(c);
        begin = now_ns();
        done = SSL_do_handshake(s);
        ns += now_ns() - begin;
    }
    char byte;
    must(over == 1 && done == 1 && SSL_read(c, &byte, 1) == -1, "no handshake"); /* its tickets */
    const bool was_resumed = SSL_session_reused(s);
    SSL_shutdown(c);
    SSL_free(c);
    begin = now_ns();
    SSL_free(s);
    ns += now_ns() - begin;
    return was_resumed == resumed ? ns : 0;
}
#endif

/* ---- all of them ---- */

static const struct way {
    const char *name;
    one *one;
} ways[] = {
#ifdef BENCH_OPENSSL
    {"OpenSSL", openssl},
#endif
    {"roost", ours},
};
enum { WAYS = sizeof ways / sizeof ways[0] };

/* round_of: the first handshake of a round may only fetch a ticket. */
static void round_of(const struct way *w, int minor, bool resumed, double *best_us)
{
    uint64_t ns = 0;
    (void)w->one(minor, resumed);
    for (int i = 0; i < BATCH; i++) {
        const uint64_t took = w->one(minor, resumed);
        must(took, "not what it should be: full, or resumed");
        ns += took;
    }
    const double us = (double)ns / BATCH / 1000;
    if (*best_us == 0 || us < *best_us) *best_us = us;
}

static void bench_case(int minor, bool resumed)
{
    double best_us[WAYS] = {0};
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < WAYS; i++) round_of(&ways[i], minor, resumed, &best_us[i]);
    for (int i = 0; i < WAYS; i++) {
        printf("1.%d %-8s %-10s %8.1f %10.0f", minor, resumed ? "resumed" : "full", ways[i].name,
               best_us[i], 1e6 / best_us[i]);
        if (i > 0) printf("   %5.2f", best_us[0] / best_us[i]);
        putchar('\n');
    }
    fflush(stdout);
}

static void make_certificate(void)
{
    char *slash = strrchr(cert_file, '/');
    *slash = '\0';
    must(mkdtemp(cert_file), "no directory");
    memcpy(key_file, cert_file, strlen(cert_file));
    *slash = '/';
    must(tls_make_certificate(cert_file, key_file) == 0, "no certificate");
}

static void remove_certificate(void)
{
    (void)unlink(cert_file);
    (void)unlink(key_file);
    *strrchr(cert_file, '/') = '\0';
    (void)rmdir(cert_file);
}

int main(void)
{
    make_certificate();
    ours_begin();
#ifdef BENCH_OPENSSL
    openssl_begin();
    printf("%s, %s\n", OpenSSL_version(OPENSSL_VERSION), tls_library_version());
#else
    printf("without OpenSSL: its headers were not there\n");
#endif
    remove_certificate();
    printf("%-12s %-10s %8s %10s   ratio to OpenSSL\n", "TLS", "by", "us", "a second");
    bench_case(3, false);
    bench_case(3, true);
    bench_case(2, false);
    bench_case(2, true);
    tls_client_delete(client);
    tls_server_delete(server);
    mem_pool_delete(pool);
#ifdef BENCH_OPENSSL
    SSL_SESSION_free(kept);
    SSL_CTX_free(server_ctx);
    SSL_CTX_free(client_ctx);
#endif
    return 0;
}
