/* tls_pair.h - test harness: certificates made on the spot, and a client and a server session with
 * two wires between them. Test programs only; static functions, not all used by each. */
#ifndef TLS_PAIR_H
#define TLS_PAIR_H

#include "../tls/internal.h"
#include "guard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <mbedtls/ecp.h>
#include <mbedtls/oid.h>
#include <time.h>

#define UNUSED __attribute__((unused))

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOW 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOW 1
#endif
#endif
#ifndef SLOW
#define SLOW 0 /* sanitizers are on */
#endif

/* A key for tests only: GENPRIME is not in our mbedTLS, so it can not be made here. */
static const char rsa_key_pem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDKQASY512SRaZj\n"
    "Ojh2aGMxxTTasqUvW4veQo6C7TrPfnqgGOAzFXtgGZ+zR1KVD/2xiJeRbxNP+EcS\n"
    "Al9Z5Oy4N/eR/LR/7jU158x8mm9lpN1XUh99/eiSawqInfDCgGfabLmPPNSMqGlf\n"
    "IvEzE1YDQiKGYxmYcTkHtFcrH2XKR0tYdTTngaAgd0khZ53JBZX3kFhn3Yedl/RW\n"
    "nZGFb9JkQa41sE7Ipg7RX6b9zxCKCDkZ8Yccja5WEotaqvar2wBColc49+pMRvPZ\n"
    "NT91zRRs/JuvIyqI/Rtd/3WGOQxQUD6Bm9jp0z4FeZPdjxKjxpkmiTxzgQkpNVnd\n"
    "9RfcB6ItAgMBAAECggEAEcY9uspdxaS4klcXIaDbug+gxrX7umu+bd9F8wLlfKYB\n"
    "VN/N/e9Q+aMgdXsHkPFObgAytQwgxsU4ScB+BlwOFpDxZ80TqxXEnpYrUtza4wEk\n"
    "/eJjwVWqAnD4N58M/hFjqL70l9gHis0KMnUGfMlupIUQnH4Ws8UCxBPFs8gXBAdg\n"
    "xJsaALjypT9i0qmewV4eNHZAaZNG/2hnaegVJKSuAscl3aB/T7K+kK6qxj3QkO7u\n"
    "+7JHEtaqC4AJoYjB1+1zjSWsxbpSDrTVZrvWiHpWXmvncVO9ij/OgYOE6GwSQyTI\n"
    "1LjzzavUuEc0gXF8W/pHPNfLRRJ7CQuBiDRK8iOQKQKBgQDqo+dwjVDZRXDVRc8A\n"
    "4VpD6WZ/qabVVeD7BGnKWPLymPI0y6DhJemHcd17bDuRyX93HYN6fSs4JoVRj2yx\n"
    "Si+jt4z8FqLYQggWXIjOAhZI46uz0+jELslOFgMSzUSlzrw/IdCy+MQ/S/wTcmXu\n"
    "tJXsM066Q3ZpYUm4hoSGs55n7wKBgQDcqUmldc/6+ZX/R1XFnEz8fqYVRT3Dx6Ay\n"
    "sq0Ag68Wry+V7tXoMgzzCF9CMk7L82wVe938v+oBUSZ74Tf4J5TFDqorfsCbg9mX\n"
    "VR0R+4HLM06MD9rRHaP4vtrxPdzUoPJ1ZTnMl5fSnCiAOtHoU88M46BFRhk71KTY\n"
    "GJS2xt7bowKBgFseL0AsAJt/NeP8afijipQYzS8CSMFLykRwYEyt4hqHfnc2JFGK\n"
    "kXeBpkrJqxBgOVmeYnJsrR3vB5K2qbTnZDyliOBUQgTND6rvYEjv0ouXrhP1VMzq\n"
    "hk4GikcA44moEL5LeWom5L7X2RoMML1T72x8ODRpAlDF8QTxaAGPOxKNAoGAYCkl\n"
    "/wUobab2xxi/OC61HhPTLNHP6NHF7lIPMnowgyI1CpHahiXJnt+3I5Ho5Nhf8bzZ\n"
    "MJwxzgEfVD0BtxMIsheB8RJ7vUnoORrOYFfKaFMjl8YRBbB1FKGXqCndYowBHUfP\n"
    "uGkXsKB8xeTcNPLQ+Dz6SzYRKRGyBLoxlLV1ySECgYEAjFpCqSpffLccoBMssytS\n"
    "SUDiSez30BH1NPxWt7LcmYZyzpao1AO2aNFqINsZKMPdE/OriIILd3HZ5oPD2k89\n"
    "YMnAQu1U23qBOkORtHGvchBAqvT1eKeVK9LDe/I4Ou0F1YALvEKKUzk+o+Bi4MiF\n"
    "l+2jHJcYU3VtDnCdtVXZoO8=\n"
    "-----END PRIVATE KEY-----\n";

/* ---- certificates ---------------------------------------------------------------------------- */

/* For the leak sanitizer: what mbedTLS loses when memory is out in the
 * middle of a 1.3 handshake; test_tls_hostile.c describes it. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:mbedtls_ssl_tls13_populate_transform\n";
}

struct cert_spec {
    const char *dns; /* NULL: localhost */
    uint8_t ip[16];  /* if ip_len */
    size_t ip_len;
    const char *from, *to; /* NULL: valid now */
    bool rsa;
    const mbedtls_ecp_group_id *curve; /* NULL: P-256 */
    const char *ext_usage;             /* OID, NULL: serverAuth */
};

struct cert_files {
    char dir[64], cert[80], key[80];
};

static UNUSED void write_file(const char *path, const void *bytes, size_t len)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static UNUSED void make_key(mbedtls_pk_context *key, const struct cert_spec *spec)
{
    mbedtls_pk_init(key);
    if (spec->rsa) {
        assert_int_equal(mbedtls_pk_parse_key(key, (const unsigned char *)rsa_key_pem,
                                              sizeof rsa_key_pem, NULL, 0, tls_random, NULL),
                         0);
        return;
    }
    assert_int_equal(mbedtls_pk_setup(key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)), 0);
    assert_int_equal(mbedtls_ecp_gen_key(spec->curve ? *spec->curve : MBEDTLS_ECP_DP_SECP256R1,
                                         mbedtls_pk_ec(*key), tls_random, NULL),
                     0);
}

/* make_files writes a self-signed certificate and its key into a folder of their own. */
static UNUSED void make_files(struct cert_files *files, const struct cert_spec *spec)
{
    mbedtls_pk_context key;
    mbedtls_x509write_cert crt;
    unsigned char pem[4096], serial = 1;
    const char *dns = spec->dns ? spec->dns : "localhost";
    const char *usage = spec->ext_usage ? spec->ext_usage : MBEDTLS_OID_SERVER_AUTH;
    mbedtls_asn1_sequence usages = {
        .buf = {.tag = MBEDTLS_ASN1_OID, .p = (unsigned char *)usage, .len = strlen(usage)}};
    mbedtls_x509_san_list ip = {
        .node = {.type = MBEDTLS_X509_SAN_IP_ADDRESS,
                 .san.unstructured_name = {.p = (unsigned char *)spec->ip, .len = spec->ip_len}}};
    mbedtls_x509_san_list name = {
        .node = {.type = MBEDTLS_X509_SAN_DNS_NAME,
                 .san.unstructured_name = {.p = (unsigned char *)dns, .len = strlen(dns)}},
        .next = spec->ip_len ? &ip : NULL};

    assert_int_equal(tls_start(), 0);
    make_key(&key, spec);
    mbedtls_x509write_crt_init(&crt);
    mbedtls_x509write_crt_set_version(&crt, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&crt, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&crt, &key);
    mbedtls_x509write_crt_set_issuer_key(&crt, &key);
    assert_int_equal(mbedtls_x509write_crt_set_serial_raw(&crt, &serial, 1), 0);
    assert_int_equal(mbedtls_x509write_crt_set_subject_name(&crt, "CN=test"), 0);
    assert_int_equal(mbedtls_x509write_crt_set_issuer_name(&crt, "CN=test"), 0);
    assert_int_equal(mbedtls_x509write_crt_set_validity(&crt,
                                                        spec->from ? spec->from : "20200101000000",
                                                        spec->to ? spec->to : "20491231235959"),
                     0);
    assert_int_equal(mbedtls_x509write_crt_set_subject_alternative_name(&crt, &name), 0);
    assert_int_equal(mbedtls_x509write_crt_set_ext_key_usage(&crt, &usages), 0);

    strcpy(files->dir, "/tmp/roost-tls-XXXXXX");
    assert_non_null(mkdtemp(files->dir));
    sprintf(files->cert, "%s/cert.pem", files->dir);
    sprintf(files->key, "%s/key.pem", files->dir);
    assert_int_equal(mbedtls_x509write_crt_pem(&crt, pem, sizeof pem, tls_random, NULL), 0);
    write_file(files->cert, pem, strlen((char *)pem));
    assert_int_equal(mbedtls_pk_write_key_pem(&key, pem, sizeof pem), 0);
    write_file(files->key, pem, strlen((char *)pem));
    mbedtls_x509write_crt_free(&crt);
    mbedtls_pk_free(&key);
}

static UNUSED void remove_files(const struct cert_files *files)
{
    unlink(files->cert);
    unlink(files->key);
    rmdir(files->dir);
}

/* ---- a client and a server ------------------------------------------------------------------- */

static UNUSED struct tls_server *new_server(const struct cert_files *files)
{
    char err[256];
    struct tls_server *s =
        tls_server_new(&(struct tls_files){files->cert, files->key}, 1, err, sizeof err);
    if (!s) fail_msg("%s", err);
    return s;
}

static UNUSED struct tls_client *new_client(const struct cert_files *files)
{
    char err[256];
    struct tls_client *c = tls_client_new(files ? files->cert : NULL, !files, err, sizeof err);
    if (!c) fail_msg("%s", err);
    return c;
}

static UNUSED void forget(struct tls_client *c)
{
    tls_client_keep_sessions(c, false);
    tls_client_keep_sessions(c, true);
}

/* How the bytes of a wire reach the other end. */
enum pieces { WHOLE, BYTEWISE, RANDOM };

struct wire {
    uint8_t bytes[256 * 1024];
    size_t len;
    size_t total;   /* bytes that were ever put in */
    size_t flip_at; /* the byte of those to be damaged ... */
    uint8_t flip;   /* ... by this; 0: none */
};

struct end {
    struct tls *t;
    struct wire *in, *out;
    enum io answer; /* the newest */
    uint8_t got[128 * 1024];
    size_t got_len;
};

struct pair {
    struct end client, server;
    struct wire up, down; /* to the server, to the client */
    enum pieces pieces;
};

static UNUSED struct pair *new_pair(struct tls_client *c, struct tls_server *s, const char *host)
{
    struct pair *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->client.t = tls_connect(c, host);
    p->server.t = tls_accept(s);
    p->client.in = p->server.out = &p->down;
    p->client.out = p->server.in = &p->up;
    p->client.answer = p->server.answer = IO_WANT_READ;
    return p;
}

static UNUSED void free_pair(struct pair *p)
{
    tls_free(p->client.t);
    tls_free(p->server.t);
    free(p);
}

static UNUSED size_t piece_of(size_t len, enum pieces pieces)
{
    if (len == 0 || pieces == WHOLE) return len;
    return pieces == BYTEWISE ? 1 : 1 + (size_t)random() % (len < 3000 ? len : 3000);
}

/* lend gives the next piece of a wire; its end touches an unreadable page. */
static UNUSED uint8_t *lend(const struct wire *w, size_t len)
{
    static _Thread_local uint8_t *end;
    if (!end) end = (uint8_t *)guard_copy(NULL, sizeof w->bytes) + sizeof w->bytes;
    memcpy(end - len, w->bytes, len);
    return end - len;
}

static UNUSED void take(struct wire *w, size_t used)
{
    assert_true(used <= w->len);
    w->len -= used;
    memmove(w->bytes, w->bytes + used, w->len);
}

static UNUSED void put(struct wire *w, const uint8_t *bytes, size_t len)
{
    assert_true(len <= sizeof w->bytes - w->len);
    memcpy(w->bytes + w->len, bytes, len);
    if (w->flip && w->flip_at >= w->total && w->flip_at - w->total < len)
        w->bytes[w->len + w->flip_at - w->total] ^= w->flip;
    w->len += len;
    w->total += len;
}

static UNUSED void shake(struct end *e, enum pieces pieces)
{
    uint8_t out[TLS_OUT_MAX];
    size_t used, out_len, len = piece_of(e->in->len, pieces);

    e->answer = tls_handshake(e->t, lend(e->in, len), len, &used, out, sizeof out, &out_len);
    if (e->answer == IO_WANT_READ) assert_int_equal(used, len);
    take(e->in, used);
    put(e->out, out, out_len);
}

/* handshake runs both ends until they are done, or one has failed and the other has heard of it. */
static UNUSED bool handshake(struct pair *p)
{
    for (int round = 0; round < 20000; round++) {
        bool waiting = p->up.len + p->down.len > 0;
        if (p->client.answer == IO_WANT_READ) shake(&p->client, p->pieces);
        if (p->server.answer == IO_WANT_READ) shake(&p->server, p->pieces);
        if (p->client.answer == IO_DONE && p->server.answer == IO_DONE) return true;
        if (p->client.answer == IO_CLOSED && p->server.answer == IO_CLOSED) return false;
        if (round > 0 && !waiting && p->up.len + p->down.len == 0) return false;
    }
    return false;
}

/* seal_all puts len bytes on the end's wire, cap bytes of out at a time. */
static UNUSED void seal_all(struct end *e, const uint8_t *plain, size_t len, size_t cap)
{
    uint8_t out[TLS_OUT_MAX];
    size_t used, out_len;

    while (len > 0) {
        assert_int_equal(tls_seal(e->t, &(struct iovec){(void *)(uintptr_t)plain, len}, 1, &used,
                                  out, cap, &out_len),
                         IO_DONE);
        assert_true(used > 0 && used <= len && out_len > used && out_len <= cap);
        assert_true(out_len - used <= TLS_OVERHEAD);
        put(e->out, out, out_len);
        plain += used;
        len -= used;
    }
}

/* open_all reads the whole wire into got, plain bytes cap at a time. */
static UNUSED void open_all(struct end *e, enum pieces pieces, size_t cap)
{
    uint8_t out[TLS_OUT_MAX];
    size_t used, n, out_len;

    do {
        size_t len = piece_of(e->in->len, pieces);
        uint8_t *in = lend(e->in, len);
        do {
            size_t room = sizeof e->got - e->got_len;
            if (cap < room) room = cap;
            assert_true(room > 0);
            e->answer = tls_open(e->t, in, len, &used, e->got + e->got_len, room, &n, out,
                                 sizeof out, &out_len);
            if (e->answer == IO_WANT_READ) assert_int_equal(used, len);
            if (e->answer == IO_CLOSED) assert_int_equal(n, 0);
            if (e->answer == IO_DONE && n == room) assert_true(used <= len);
            put(e->out, out, out_len);
            e->got_len += n;
            take(e->in, used);
            in += used;
            len -= used;
        } while (e->answer == IO_DONE);
    } while (e->answer == IO_WANT_READ && e->in->len > 0);
}

static UNUSED void say(struct end *from, struct end *to, const char *words, enum pieces pieces)
{
    size_t len = strlen(words);
    to->got_len = 0;
    seal_all(from, (const uint8_t *)words, len, TLS_OUT_MAX);
    open_all(to, pieces, sizeof to->got);
    assert_int_equal(to->answer, IO_WANT_READ);
    assert_int_equal(to->got_len, len);
    assert_memory_equal(to->got, words, len);
}

static UNUSED void say_goodbye(struct end *e)
{
    uint8_t out[TLS_OVERHEAD];
    size_t out_len;
    tls_close_notify(e->t, out, sizeof out, &out_len);
    put(e->out, out, out_len);
}

/* slow: sanitizers are on, or this machine is emulated; fewer rounds then. */
static UNUSED bool slow(void)
{
    static int answer = -1;
    struct timespec from, to;
    uint8_t sum[32];

    if (answer != -1) return answer;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    mbedtls_ecp_group group;
    mbedtls_ecp_point point;
    mbedtls_mpi scalar;
    mbedtls_ecp_group_init(&group);
    mbedtls_ecp_point_init(&point);
    mbedtls_mpi_init(&scalar);
    memset(sum, 0x55, sizeof sum);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(mbedtls_ecp_group_load(&group, MBEDTLS_ECP_DP_SECP256R1), 0);
        assert_int_equal(mbedtls_mpi_read_binary(&scalar, sum, sizeof sum), 0);
        assert_int_equal(mbedtls_ecp_mul(&group, &point, &scalar, &group.G, tls_random, NULL), 0);
    }
    mbedtls_ecp_group_free(&group);
    mbedtls_ecp_point_free(&point);
    mbedtls_mpi_free(&scalar);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    int64_t us = (to.tv_sec - from.tv_sec) * 1000000 + (to.tv_nsec - from.tv_nsec) / 1000;
    answer = SLOW || us > 10 * 1500; /* 200 us each here */
    return answer;
}

/* converse: a word each way, then a clean end. */
static UNUSED void converse(struct pair *p)
{
    say(&p->client, &p->server, "from the client", p->pieces);
    say(&p->server, &p->client, "from the server", p->pieces);
    say_goodbye(&p->client);
    open_all(&p->server, p->pieces, sizeof p->server.got);
    assert_int_equal(p->server.answer, IO_CLOSED);
    assert_true(tls_closed_cleanly(p->server.t));
    say_goodbye(&p->server);
    open_all(&p->client, p->pieces, sizeof p->client.got);
    assert_int_equal(p->client.answer, IO_CLOSED);
    assert_true(tls_closed_cleanly(p->client.t));
}

/* serve_a_fresh_client ends each test of bad input. */
static UNUSED void serve_a_fresh_client(struct tls_server *s)
{
    struct tls_client *c = new_client(NULL);
    struct pair *p = new_pair(c, s, "localhost");
    if (!handshake(p)) fail_msg("%s, %s", tls_why(p->client.t), tls_why(p->server.t));
    converse(p);
    free_pair(p);
    tls_client_delete(c);
}

#endif
