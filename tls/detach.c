/* From an mbedTLS session whose handshake is over to one of plain bytes: what the records need is
 * exported by mbedTLS's callback while it shakes hands; the sequence numbers are read from its
 * private fields (which is why the build pins 3.6). Whatever is not exactly as expected stays
 * attached. */
#include "tls.h"
#include "tls/internal.h"

#include <string.h>

#include <mbedtls/platform_util.h>
#include <mbedtls/ssl_ciphersuites.h>

/* ---- what the handshake has agreed on ---- */

static void keep_secret(struct tls_exported *x, int whose, const unsigned char *secret, size_t len)
{
    if (len > sizeof x->secret[0]) return; /* no hash of our suites is longer */
    memcpy(x->secret[whose], secret, len);
    x->secret_len[whose] = (uint8_t)len;
}

static void export_keys(void *ctx, mbedtls_ssl_key_export_type type, const unsigned char *secret,
                        size_t len, const unsigned char client_random[32],
                        const unsigned char server_random[32], mbedtls_tls_prf_types prf)
{
    struct tls_exported *x = ctx;
    tls_keylog(type, client_random, secret, len);
    if (type == MBEDTLS_SSL_KEY_EXPORT_TLS12_MASTER_SECRET) {
        keep_secret(x, 0, secret, len);
        memcpy(x->randoms, server_random, 32);
        memcpy(x->randoms + 32, client_random, 32);
        x->prf = prf;
    } else if (type == MBEDTLS_SSL_KEY_EXPORT_TLS1_3_CLIENT_APPLICATION_TRAFFIC_SECRET) {
        keep_secret(x, 0, secret, len);
    } else if (type == MBEDTLS_SSL_KEY_EXPORT_TLS1_3_SERVER_APPLICATION_TRAFFIC_SECRET) {
        keep_secret(x, 1, secret, len);
    }
}

void tls_export(struct tls_attached *t)
{
    mbedtls_ssl_set_export_keys_cb(&t->ssl, export_keys, &t->exported);
}

bool tls_suite_of(int id, enum aead *suite)
{
    switch (id) {
    case MBEDTLS_TLS1_3_AES_128_GCM_SHA256:
    case MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:
    case MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: *suite = AEAD_AES_128_GCM; return true;
    case MBEDTLS_TLS1_3_AES_256_GCM_SHA384:
    case MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:
    case MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384: *suite = AEAD_AES_256_GCM; return true;
    case MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256:
    case MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256:
    case MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:
        *suite = AEAD_CHACHA20_POLY1305;
        return true;
    default: return false;
    }
}

/* secrets_of gives k the traffic secrets of 1.3. */
static bool secrets_of(const struct tls_exported *x, struct record_keys *k)
{
    const size_t len = k->suite == AEAD_AES_256_GCM ? 48 : 32;
    if (x->secret_len[0] != len || x->secret_len[1] != len) return false;
    const int theirs = k->client ? 1 : 0;
    memcpy(k->secret[RECORD_IN], x->secret[theirs], len);
    memcpy(k->secret[RECORD_OUT], x->secret[!theirs], len);
    return true;
}

/* key_block_of gives k its parts of the key block of 1.2 (RFC 5246 section 6.3; AEAD suites have no
 * MAC keys): the client's key, the server's, the client's nonce, the server's. */
static bool key_block_of(const struct tls_exported *x, struct record_keys *k)
{
    const size_t key = k->suite == AEAD_AES_128_GCM ? 16 : 32;
    const size_t iv = k->suite == AEAD_CHACHA20_POLY1305 ? 12 : 4;
    uint8_t block[2 * (32 + 12)];
    if (x->secret_len[0] != 48) return false;
    if (mbedtls_ssl_tls_prf(x->prf, x->secret[0], 48, "key expansion", x->randoms,
                            sizeof x->randoms, block, 2 * (key + iv)) != 0)
        return false;
    for (int whose = 0; whose < 2; whose++) { /* 0: the client's */
        const int way = (whose == 0) == k->client ? RECORD_OUT : RECORD_IN;
        memcpy(k->key[way], block + (size_t)whose * key, key);
        memcpy(k->iv[way], block + 2 * key + (size_t)whose * iv, iv);
    }
    mbedtls_platform_zeroize(block, sizeof block);
    return true;
}

/* ---- where the handshake has left its records ---- */

static uint64_t sequence_number(const unsigned char *big_endian)
{
    uint64_t n = 0;
    for (int i = 0; i < 8; i++) n = n << 8 | big_endian[i];
    return n;
}

/* at_rest: nothing of a record or a message is inside mbedTLS. */
static bool at_rest(const struct tls_attached *t)
{
    const mbedtls_ssl_context *ssl = &t->ssl;
    return t->base.over && !t->base.failed && !t->base.closed_cleanly && !t->base.said_goodbye &&
           ssl->state == MBEDTLS_SSL_HANDSHAKE_OVER && ssl->out_left == 0 && ssl->in_left == 0 &&
           ssl->in_ctr && !mbedtls_ssl_check_pending(ssl) && mbedtls_ssl_get_bytes_avail(ssl) == 0;
}

/* counted: the sequence numbers are what a handshake leaves: in 1.2 one record each way, the
 * Finished; in 1.3 none but the tickets, of which the server sends some. */
static bool counted(const struct tls_attached *t, struct record_keys *k)
{
    enum { TICKETS_MAX = 4 };
    k->seq[RECORD_IN] = sequence_number(t->ssl.in_ctr);
    k->seq[RECORD_OUT] = sequence_number(t->ssl.cur_out_ctr);
    if (k->version == RECORD_TLS12) return k->seq[RECORD_IN] == 1 && k->seq[RECORD_OUT] == 1;
    return k->seq[k->client ? RECORD_OUT : RECORD_IN] == 0 &&
           k->seq[k->client ? RECORD_IN : RECORD_OUT] <= TICKETS_MAX;
}

static bool keys_of(const struct tls_attached *t, struct record_keys *k)
{
    memset(k, 0, sizeof *k);
    k->client = t->client != NULL;
    k->version = t->ssl.tls_version == MBEDTLS_SSL_VERSION_TLS1_3 ? RECORD_TLS13 : RECORD_TLS12;
    return at_rest(t) &&
           tls_suite_of(mbedtls_ssl_get_ciphersuite_id_from_ssl(&t->ssl), &k->suite) &&
           counted(t, k) &&
           (k->version == RECORD_TLS13 ? secrets_of(&t->exported, k)
                                       : key_block_of(&t->exported, k));
}

struct tls *tls_detach(struct tls *t, struct mem_pool *pool)
{
    struct record_keys k;
    struct tls_detached *d = NULL;
    if (t->detached) return t;
    if (keys_of(tls_attached(t), &k) && tls_backend_may(k.version, k.suite))
        d = tls_detached_new(pool, &k);
    mbedtls_platform_zeroize(&k, sizeof k);
    if (!d) return t;
    d->resumed = !tls_attached(t)->full;
    d->base.note = t->note;
    tls_attached_free(tls_attached(t));
    return &d->base;
}
