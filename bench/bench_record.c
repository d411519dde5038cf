/* bench_record - nanoseconds of thread CPU time per sealed and opened record of TLS 1.3, by suite,
 * size and AEAD kernel; with OpenSSL's SSL_write and SSL_read over a memory BIO beside them, in
 * turn with ours, if its headers were there (-DBENCH_OPENSSL). The smallest of the rounds counts:
 * the machine may be busy. A figure of another run or machine says nothing; ratios of one run do.
 */
#include "aead/internal.h"
#include "record.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 25, BATCH_MAX = 64, ROUND_NS = 1500000, HEAD = 4 };

static const size_t sizes[] = {64, 256, 1024, 16384};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static uint8_t text[RECORD_PLAIN_MAX], plain[RECORD_MAX];
static uint8_t wire[BATCH_MAX][RECORD_MAX + RECORD_OVERHEAD];

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void must(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "bench_record: %s\n", what);
    exit(1);
}

static unsigned batch_of(size_t size)
{
    return size > 4096 ? 8 : BATCH_MAX;
}

struct cost {
    double out, in; /* ns a record */
};

/* A way to do it. Each call does n records of size bytes. */
struct way {
    const char *name;
    void *state;
    void (*out)(void *state, size_t size, unsigned n);
    void (*in)(void *state, size_t size, unsigned n);
};

static void round_of(const struct way *w, size_t size, struct cost *best)
{
    const unsigned n = batch_of(size);
    uint64_t out = 0, in = 0, records = 0;
    while (out + in < ROUND_NS) {
        const uint64_t begin = now_ns();
        w->out(w->state, size, n);
        const uint64_t middle = now_ns();
        w->in(w->state, size, n);
        in += now_ns() - middle;
        out += middle - begin;
        records += n;
    }
    const struct cost c = {(double)out / (double)records, (double)in / (double)records};
    if (best->out == 0 || c.out < best->out) best->out = c.out;
    if (best->in == 0 || c.in < best->in) best->in = c.in;
}

/* ---- ours ---- */

struct ours {
    const struct aead_kernel *kernel;
    _Alignas(8) uint8_t from[RECORD_STATE_MAX], to[RECORD_STATE_MAX];
    size_t len[BATCH_MAX];
};

/* As a connection seals what waits in its queue: a frame's header and its payload. */
static void ours_out(void *state, size_t size, unsigned n)
{
    struct ours *o = state;
    const struct iovec pieces[2] = {{text, HEAD}, {text + HEAD, size - HEAD}};
    aead_use(o->kernel);
    for (unsigned i = 0; i < n; i++) {
        size_t used;
        o->len[i] =
            record_seal((struct record *)o->from, pieces, 2, &used, wire[i], sizeof wire[i]);
        must(used == size, "not sealed");
    }
}

static void ours_in(void *state, size_t size, unsigned n)
{
    struct ours *o = state;
    uint8_t reply[RECORD_REPLY_MAX];
    const char *why;
    for (unsigned i = 0; i < n; i++) {
        size_t got, reply_len;
        must(record_open((struct record *)o->to, wire[i], o->len[i], plain, &got, reply, &reply_len,
                         &why) == RECORD_DATA &&
                 got == size,
             "not opened");
    }
    must(memcmp(plain, text, size) == 0, "other bytes");
}

static void ours_begin(struct ours *o, const struct aead_kernel *kernel, enum aead suite)
{
    struct record_keys k = {.version = RECORD_TLS13, .suite = suite}; /* the same both ways */
    o->kernel = kernel;
    must(record_init((struct record *)o->from, &k) && record_init((struct record *)o->to, &k),
         "no keys");
}

/* ---- OpenSSL ---- */

#ifdef BENCH_OPENSSL
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

struct openssl {
    SSL_CTX *server_ctx, *client_ctx;
    SSL *from, *to;
};

static void openssl_out(void *state, size_t size, unsigned n)
{
    struct openssl *o = state;
    for (unsigned i = 0; i < n; i++)
        must(SSL_write(o->from, text, (int)size) == (int)size, "SSL_write");
}

static void openssl_in(void *state, size_t size, unsigned n)
{
    struct openssl *o = state;
    for (unsigned i = 0; i < n; i++)
        must(SSL_read(o->to, plain, sizeof plain) == (int)size, "SSL_read");
    must(memcmp(plain, text, size) == 0, "other bytes");
}

static void own_certificate(SSL_CTX *ctx)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    must(key && cert && X509_gmtime_adj(X509_getm_notBefore(cert), 0) &&
             X509_gmtime_adj(X509_getm_notAfter(cert), 3600) && X509_set_pubkey(cert, key) &&
             X509_sign(cert, key, EVP_sha256()) > 0 && SSL_CTX_use_certificate(ctx, cert) == 1 &&
             SSL_CTX_use_PrivateKey(ctx, key) == 1,
         "no certificate");
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void shake_hands(struct openssl *o)
{
    BIO *there = BIO_new(BIO_s_mem()), *back = BIO_new(BIO_s_mem());
    must(there && back && BIO_up_ref(there) && BIO_up_ref(back), "no BIO");
    BIO_set_mem_eof_return(there, -1); /* empty is not the end */
    BIO_set_mem_eof_return(back, -1);
    o->from = SSL_new(o->server_ctx);
    o->to = SSL_new(o->client_ctx);
    must(o->from && o->to, "no session");
    SSL_set_bio(o->from, back, there);
    SSL_set_bio(o->to, there, back);
    SSL_set_accept_state(o->from);
    SSL_set_connect_state(o->to);
    for (int i = 0; i < 10; i++) {
        const int client = SSL_do_handshake(o->to), server = SSL_do_handshake(o->from);
        if (client == 1 && server == 1) break;
    }
    must(SSL_is_init_finished(o->from) && SSL_is_init_finished(o->to), "no handshake");
}

static void openssl_begin(struct openssl *o, enum aead suite)
{
    static const char *const names[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384",
                                        "TLS_CHACHA20_POLY1305_SHA256"};
    o->server_ctx = SSL_CTX_new(TLS_server_method());
    o->client_ctx = SSL_CTX_new(TLS_client_method());
    must(o->server_ctx && o->client_ctx, "no context");
    own_certificate(o->server_ctx);
    must(SSL_CTX_set_ciphersuites(o->client_ctx, names[suite]) == 1, "no such suite");
    SSL_CTX_set_min_proto_version(o->client_ctx, TLS1_3_VERSION);
    SSL_CTX_set_mode(o->server_ctx, SSL_MODE_RELEASE_BUFFERS); /* as a server of many would */
    SSL_CTX_set_mode(o->client_ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(o->client_ctx, SSL_VERIFY_NONE, NULL);
    shake_hands(o);
}

static void openssl_end(struct openssl *o)
{
    SSL_free(o->from);
    SSL_free(o->to);
    SSL_CTX_free(o->server_ctx);
    SSL_CTX_free(o->client_ctx);
}
#endif

/* ---- all of them ---- */

enum { WAYS_MAX = 5 };

static void print_row(enum aead suite, size_t size, const struct way *ways, unsigned count,
                      const struct cost *costs)
{
    const struct cost *other = strcmp(ways[0].name, "OpenSSL") == 0 ? &costs[0] : NULL;
    for (unsigned i = 0; i < count; i++) {
        printf("%-18s %6zu  %-10s %8.0f %8.0f", aead_text(suite), size, ways[i].name, costs[i].out,
               costs[i].in);
        if (other && i > 0)
            printf("   %5.2f %5.2f", costs[i].out / other->out, costs[i].in / other->in);
        putchar('\n');
    }
    fflush(stdout);
}

static unsigned list_ways(struct way *ways, struct ours *ours, enum aead suite)
{
    const struct aead_kernel *const kernels[] = {
#ifdef AEAD_AESNI
        &aead_vaes,
        &aead_aesni,
#endif
        &aead_mbedtls,
    };
    unsigned count = 0;
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
        if (!kernels[i]->works()) continue;
        if (suite == AEAD_CHACHA20_POLY1305 && kernels[i] != &aead_mbedtls) continue;
        ours_begin(&ours[i], kernels[i], suite);
        ways[count++] = (struct way){kernels[i]->name, &ours[i], ours_out, ours_in};
    }
    return count;
}

static void bench_suite(enum aead suite)
{
    static struct ours ours[WAYS_MAX];
    struct way ways[WAYS_MAX];
    unsigned count = 0;
#ifdef BENCH_OPENSSL
    struct openssl openssl;
    openssl_begin(&openssl, suite);
    ways[count++] = (struct way){"OpenSSL", &openssl, openssl_out, openssl_in};
#endif
    count += list_ways(ways + count, ours, suite);
    for (size_t s = 0; s < SIZES; s++) {
        struct cost costs[WAYS_MAX] = {{0}};
        for (int round = 0; round < ROUNDS; round++)
            for (unsigned i = 0; i < count; i++) round_of(&ways[i], sizes[s], &costs[i]);
        print_row(suite, sizes[s], ways, count, costs);
    }
#ifdef BENCH_OPENSSL
    openssl_end(&openssl);
#endif
}

int main(void)
{
    for (size_t i = 0; i < sizeof text; i++) text[i] = (uint8_t)(i * 7 + i / 251);
#ifdef BENCH_OPENSSL
    printf("%s\n", OpenSSL_version(OPENSSL_VERSION));
#else
    printf("without OpenSSL: its headers were not there\n");
#endif
    printf("%-18s %6s  %-10s %8s %8s   ratio to OpenSSL\n", "TLS 1.3", "bytes", "by", "seal ns",
           "open ns");
    for (int suite = 0; suite < AEADS; suite++) bench_suite((enum aead)suite);
    return 0;
}
