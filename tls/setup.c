#include "tls.h"
#include "tls/internal.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include <mbedtls/error.h>
#include <mbedtls/platform.h>
#include <mbedtls/version.h>
#include <psa/crypto.h>

/* ---- mbedTLS's allocator: counted, and made to fail by tests --------------------------------- */

/* A counter that all workers add to would cost more than the allocations: so each thread has a line
 * of its own, or shares one with few others. */
static struct counts {
    _Alignas(64) _Atomic uint64_t calls;
    _Atomic int64_t live, live_bytes;
} counts[64];
static _Atomic unsigned threads;
static _Thread_local struct counts *mine;

static _Atomic uint64_t fail_countdown; /* 0: off */

static void count(int64_t blocks, size_t bytes)
{
    if (!mine) mine = &counts[atomic_fetch_add(&threads, 1) % (sizeof counts / sizeof counts[0])];
    atomic_fetch_add_explicit(&mine->calls, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&mine->live, blocks, memory_order_relaxed);
    atomic_fetch_add_explicit(&mine->live_bytes, blocks * (int64_t)bytes, memory_order_relaxed);
}

static bool fails_now(void)
{
    uint64_t k = atomic_load_explicit(&fail_countdown, memory_order_relaxed);

    while (k > 0)
        if (atomic_compare_exchange_weak(&fail_countdown, &k, k - 1)) return k == 1;
    return false;
}

static void *counted_calloc(size_t n, size_t size)
{
    void *p = fails_now() ? NULL : calloc(n, size);

    if (p) count(1, malloc_usable_size(p));
    return p;
}

static void counted_free(void *p)
{
    if (!p) return;
    count(-1, malloc_usable_size(p));
    free(p);
}

/* Before main, so that no block is taken by one allocator and given back to the other, whoever uses
 * mbedTLS first. */
__attribute__((constructor)) static void install_allocator(void)
{
    mbedtls_platform_set_calloc_free(counted_calloc, counted_free);
}

struct tls_memory tls_memory(void)
{
    struct tls_memory sum = {0};

    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        sum.calls += atomic_load_explicit(&counts[i].calls, memory_order_relaxed);
        sum.live += atomic_load_explicit(&counts[i].live, memory_order_relaxed);
        sum.live_bytes += atomic_load_explicit(&counts[i].live_bytes, memory_order_relaxed);
    }
    return sum;
}

uint64_t tls_allocations(void)
{
    return tls_memory().calls;
}

void tls_memory_fail_at(uint64_t k)
{
    atomic_store(&fail_countdown, k);
}

/* ---- the library ----------------------------------------------------------------------------- */

void random_bytes(void *buf, size_t len)
{
    uint8_t *p = buf;

    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);
        if (n == -1 && errno == EINTR) continue;
        if (n <= 0) abort(); /* keys that can be guessed are worse than no server */
        p += n;
        len -= (size_t)n;
    }
}

int tls_random(void *unused, unsigned char *buf, size_t len)
{
    (void)unused;
    random_bytes(buf, len);
    return 0;
}

/* Not pthread_once: a start that failed for want of memory may be tried again. */
int tls_start(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool started;

    pthread_mutex_lock(&lock);
    psa_status_t status = started ? PSA_SUCCESS : psa_crypto_init(); /* TLS 1.3 needs it */
    started = status == PSA_SUCCESS;
    pthread_mutex_unlock(&lock);
    if (status == PSA_SUCCESS) return 0;
    return status == PSA_ERROR_INSUFFICIENT_MEMORY ? MBEDTLS_ERR_SSL_ALLOC_FAILED
                                                   : MBEDTLS_ERR_SSL_INTERNAL_ERROR;
}

const char *tls_library_version(void)
{
    return "mbedTLS " MBEDTLS_VERSION_STRING;
}

const char *tls_text(int error)
{
    if (error == MBEDTLS_ERR_SSL_ALLOC_FAILED || error == MBEDTLS_ERR_X509_ALLOC_FAILED ||
        error == MBEDTLS_ERR_PK_ALLOC_FAILED)
        return "out of memory";
    const char *text = mbedtls_high_level_strerr(error);
    if (!text) text = mbedtls_low_level_strerr(error);
    return text ? text : "unknown TLS error";
}

/* ---- what both ends offer -------------------------------------------------------------------- */

/* AEAD with ECDHE only. A 1.2 server follows its own order, mbedTLS's 1.3 one the client's, and
 * OpenSSL's clients say AES-256, ChaCha20, AES-128. So where AES is in hardware a 1.3 server offers
 * AES-128-GCM alone, which every 1.3 client must have (RFC 8446 9.1): the fastest here, and the
 * smallest keys. Where it is not, ChaCha20 as well. */
#define SUITES_AES12                                                                               \
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,                                               \
        MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,                                             \
        MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,                                           \
        MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
#define SUITES_CHACHA12                                                                            \
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,                                         \
        MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256

static const int server_suites_aes_first[] = {
    MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
    SUITES_AES12,
    SUITES_CHACHA12,
    0,
};
static const int server_suites_chacha_first[] = {
    MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
    SUITES_CHACHA12,
    SUITES_AES12,
    0,
};
static const int client_suites[] = {
    MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
    MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
    SUITES_AES12,
    SUITES_CHACHA12,
    0,
};

static bool cpu_has_aes(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
    enum { HWCAP_AES_AND_PMULL = 1 << 3 | 1 << 4 };
    return (getauxval(AT_HWCAP) & HWCAP_AES_AND_PMULL) == HWCAP_AES_AND_PMULL;
#else
    return false;
#endif
}

static void set_versions(mbedtls_ssl_config *conf, int minor) /* 0: 1.2 and 1.3 */
{
    mbedtls_ssl_conf_min_tls_version(conf, minor == 3 ? MBEDTLS_SSL_VERSION_TLS1_3
                                                      : MBEDTLS_SSL_VERSION_TLS1_2);
    mbedtls_ssl_conf_max_tls_version(conf, minor == 2 ? MBEDTLS_SSL_VERSION_TLS1_2
                                                      : MBEDTLS_SSL_VERSION_TLS1_3);
}

int tls_set_up(mbedtls_ssl_config *conf, int endpoint)
{
    static const uint16_t groups[] = {
        MBEDTLS_SSL_IANA_TLS_GROUP_X25519,
        MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
        MBEDTLS_SSL_IANA_TLS_GROUP_SECP384R1,
        MBEDTLS_SSL_IANA_TLS_GROUP_NONE,
    };
    static const char *alpn[] = {"http/1.1", NULL};

    int ret = mbedtls_ssl_config_defaults(conf, endpoint, MBEDTLS_SSL_TRANSPORT_STREAM,
                                          MBEDTLS_SSL_PRESET_DEFAULT);
    if (ret != 0) return ret;
    set_versions(conf, 0);
    mbedtls_ssl_conf_rng(conf, tls_random, NULL);
    mbedtls_ssl_conf_ciphersuites(conf, endpoint == MBEDTLS_SSL_IS_CLIENT ? client_suites
                                        : cpu_has_aes()                   ? server_suites_aes_first
                                                        : server_suites_chacha_first);
    mbedtls_ssl_conf_groups(conf, groups);
    mbedtls_ssl_conf_session_tickets(conf, MBEDTLS_SSL_SESSION_TICKETS_ENABLED);
    return mbedtls_ssl_conf_alpn_protocols(conf, alpn);
}

/* ---- client ---------------------------------------------------------------------------------- */

static const char *system_bundle(void)
{
    static const char *const known[] = {
        "/etc/ssl/certs/ca-certificates.crt", /* Debian */
        "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora */
        "/etc/ssl/cert.pem",                  /* Alpine */
    };
    const char *chosen = getenv("SSL_CERT_FILE");

    if (chosen && *chosen != '\0') return chosen;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (access(known[i], R_OK) == 0) return known[i];
    return known[0];
}

struct tls_client *tls_client_new(const char *ca_file, bool insecure, char *err, size_t err_len)
{
    tls_say(err, err_len, "%s", "");
    int ret = tls_start();
    struct tls_client *c = ret == 0 ? mbedtls_calloc(1, sizeof *c) : NULL;

    if (!c) {
        tls_say(err, err_len, "TLS can not start: %s", ret ? tls_text(ret) : "out of memory");
        return NULL;
    }
    mbedtls_ssl_config_init(&c->conf);
    mbedtls_x509_crt_init(&c->trust);
    c->insecure = insecure;
    ret = tls_set_up(&c->conf, MBEDTLS_SSL_IS_CLIENT);
    if (ret != 0) {
        tls_say(err, err_len, "TLS can not start: %s", tls_text(ret));
        goto fail;
    }
    if (!ca_file) ca_file = system_bundle();
    if (!insecure && tls_load_trust(&c->trust, ca_file, err, err_len) == -1) goto fail;
    mbedtls_ssl_conf_ca_chain(&c->conf, &c->trust, NULL);
    mbedtls_ssl_conf_authmode(&c->conf,
                              insecure ? MBEDTLS_SSL_VERIFY_NONE : MBEDTLS_SSL_VERIFY_REQUIRED);
    tls_client_keep_sessions(c, true);
    return c;
fail:
    tls_client_delete(c);
    return NULL;
}

static void forget_session(struct tls_client *c)
{
    if (c->has_session) mbedtls_ssl_session_free(&c->session);
    c->has_session = false;
}

void tls_client_delete(struct tls_client *c)
{
    if (!c) return;
    forget_session(c);
    mbedtls_ssl_config_free(&c->conf);
    mbedtls_x509_crt_free(&c->trust);
    mbedtls_free(c);
}

void tls_client_set_version(struct tls_client *c, int minor)
{
    set_versions(&c->conf, minor);
    forget_session(c);
}

void tls_client_keep_sessions(struct tls_client *c, bool keep)
{
    c->keep_sessions = keep;
    mbedtls_ssl_conf_tls13_enable_signal_new_session_tickets(
        &c->conf, keep ? MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED
                       : MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_DISABLED);
    if (!keep) forget_session(c);
}

void tls_client_share_tickets(struct tls_client *c)
{
    c->share_tickets = true;
}

void tls_session_arrived(struct tls_attached *t)
{
    struct tls_client *c = t->client;
    mbedtls_ssl_session session;

    /* mbedTLS offers a session's version alone. With a kept 1.2 one a client would stay at 1.2,
     * and out, when its server goes to 1.3. */
    if (!c->keep_sessions || t->ssl.tls_version != c->conf.max_tls_version) return;
    mbedtls_ssl_session_init(&session);
    /* If memory is out, the next connection makes a full handshake. */
    if (mbedtls_ssl_get_session(&t->ssl, &session) != 0 || session.ticket_len == 0) {
        mbedtls_ssl_session_free(&session);
        return;
    }
    forget_session(c);
    c->session = session;
    c->has_session = true;
    memcpy(c->session_host, t->host, strlen(t->host) + 1);
}
