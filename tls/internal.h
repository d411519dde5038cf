/* tls/internal.h - what tls.c and the files of tls/ share; nobody else includes
 * it, but for their tests.
 *
 * mbedTLS's private fields are read in a few places; that is why the build pins 3.6. */
#ifndef TLS_INTERNAL_H
#define TLS_INTERNAL_H

#define MBEDTLS_ALLOW_PRIVATE_ACCESS

#include "mem.h"
#include "record.h"
#include "tls.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ticket.h>
#include <mbedtls/x509_crt.h>

/* RFC 8446 4.6.1 allows seven days; a key also opens tickets for one lifetime after it was
 * replaced, so 12 hours keep every ticket, and the secrets in it, below a day. */
#define TLS_TICKET_LIFETIME_S (12 * 3600)

/* Keys of their own for each version and each set of names: a ticket opens nowhere else. A renewed
 * certificate goes on with those of the one before it. */
struct tls_tickets {
    _Atomic unsigned refs; /* pairs */
    bool from_files;
    mbedtls_ssl_ticket_context v12, v13;
};

struct tls_pair { /* a certificate and its key */
    mbedtls_x509_crt chain;
    mbedtls_pk_context key;
    struct tls_tickets *tickets;
};

struct tls_settings { /* does not change; lives until its last session is gone */
    mbedtls_ssl_config conf;
    unsigned refs; /* sessions, and the server for its current one; under the server's lock */
    size_t count;
    struct tls_pair pairs[]; /* the first is for names that no certificate has */
};

struct tls_server {
    pthread_mutex_t lock;
    struct tls_settings *current;
};

struct tls_client {
    mbedtls_ssl_config conf;
    mbedtls_x509_crt trust;
    bool insecure;
    bool keep_sessions;
    bool share_tickets;
    bool has_session;
    mbedtls_ssl_session session;                          /* if has_session */
    char session_host[MBEDTLS_SSL_MAX_HOST_NAME_LEN + 1]; /* whom it is for */
};

/* What both backends know of a session; the backend's own state lies around it. */
struct tls {
    bool detached;       /* struct tls_detached, else struct tls_attached */
    bool over;           /* the handshake is */
    bool failed;         /* nothing more comes in or goes out */
    bool closed_cleanly; /* the peer said close_notify: nothing more comes in */
    bool said_goodbye;   /* we said close_notify: nothing more goes out */
    uint8_t note;        /* the caller's */
    const char *why;     /* NULL: nothing has failed */
};

/* What a handshake has agreed on, as mbedTLS exports it: of 1.3 both application traffic secrets,
 * of 1.2 the master secret and both randoms. */
struct tls_exported {
    uint8_t secret[2][48]; /* 1.3: the client's, the server's; 1.2: [0] is the master secret */
    uint8_t secret_len[2];
    uint8_t randoms[64]; /* 1.2: the server's, the client's, as the key block takes them */
    mbedtls_tls_prf_types prf;
};

struct tls_attached { /* mbedTLS does the records: about 40 KiB */
    struct tls base;
    mbedtls_ssl_context ssl;
    struct tls_client *client;     /* NULL in a server's session */
    struct tls_server *server;     /* NULL in a client's session, as the next two are */
    struct tls_settings *settings; /* counted */
    const struct tls_pair *pair;   /* what is shown */
    struct tls_exported exported;

    /* The memory BIO, valid during one call: what was received, and where to put what is to be
     * sent. */
    const uint8_t *in;
    uint8_t *out;
    size_t in_len, in_used, out_cap, out_len;
    bool starved; /* mbedTLS asked for more than the input has */

    bool full;        /* the handshake showed a certificate: not resumed */
    bool reading;     /* application data is */
    uint8_t refusals; /* renegotiations that the peer asked for */
    uint8_t ip_len;   /* client: host is an IP address of 4 or 16 bytes */
    uint8_t ip[16];
    char host[]; /* client: as given to tls_connect */
};

struct tls_detached { /* record.h does them */
    struct tls base;
    struct mem_pool *pool; /* of this, its record and kept */
    uint8_t *kept;         /* the beginning of a record whose end has not been received */
    uint32_t kept_len, kept_cap;
    uint32_t size;   /* of all this */
    uint8_t version; /* enum record_version */
    uint8_t suite;   /* enum aead */
    bool resumed;
    _Alignas(8) uint8_t record[]; /* struct record */
};

/* tls_attached: t, which is not detached. tls_detached: t, which is. */
static inline struct tls_attached *tls_attached(const struct tls *t)
{
    return (struct tls_attached *)(uintptr_t)t; /* base is its first field */
}

static inline struct tls_detached *tls_detached(const struct tls *t)
{
    return (struct tls_detached *)(uintptr_t)t;
}

static inline struct record *tls_record(struct tls_detached *t)
{
    return (struct record *)(void *)t->record;
}

static inline size_t tls_plain_len(const struct iovec *pieces, unsigned count)
{
    size_t len = 0;
    for (unsigned i = 0; i < count; i++) len += pieces[i].iov_len;
    return len;
}

/* tls_keylog writes a line into the file that SSLKEYLOGFILE names; in debug builds only. Any
 * thread. */
#ifdef ROOST_KEYLOG
void tls_keylog(mbedtls_ssl_key_export_type type, const uint8_t client_random[32],
                const uint8_t *secret, size_t len);
#else
#define tls_keylog(type, client_random, secret, len) ((void)0)
#endif

/* tls_export has mbedTLS tell what detaching needs; before the handshake. */
void tls_export(struct tls_attached *t);

/* What tls.h says of tls_handshake, tls_open, tls_seal, tls_close_notify and tls_free. */
enum io tls_attached_handshake(struct tls_attached *t, const uint8_t *in, size_t len, size_t *used,
                               uint8_t *out, size_t cap, size_t *out_len);
enum io tls_attached_open(struct tls_attached *t, const uint8_t *in, size_t len, size_t *used,
                          uint8_t *plain, size_t cap, size_t *n, uint8_t *out, size_t out_cap,
                          size_t *out_len);
enum io tls_attached_seal(struct tls_attached *t, const struct iovec *pieces, unsigned count,
                          size_t *used, uint8_t *out, size_t cap, size_t *out_len);
void tls_attached_close_notify(struct tls_attached *t, uint8_t *out, size_t cap, size_t *out_len);
void tls_attached_free(struct tls_attached *t);
enum io tls_detached_open(struct tls_detached *t, const uint8_t *in, size_t len, size_t *used,
                          uint8_t *plain, size_t cap, size_t *n, uint8_t *out, size_t out_cap,
                          size_t *out_len);
enum io tls_detached_seal(struct tls_detached *t, const struct iovec *pieces, unsigned count,
                          size_t *used, uint8_t *out, size_t cap, size_t *out_len);
void tls_detached_close_notify(struct tls_detached *t, uint8_t *out, size_t cap, size_t *out_len);
void tls_detached_free(struct tls_detached *t);

/* tls_detached_new makes a session of what k says; NULL: out of memory, or the keys can not be
 * made. */
struct tls_detached *tls_detached_new(struct mem_pool *pool, const struct record_keys *k);

/* tls_server_hold gives the settings for a new session, counted. tls_server_let_go ends that. Any
 * thread. */
struct tls_settings *tls_server_hold(struct tls_server *s);
void tls_server_let_go(struct tls_server *s, struct tls_settings *settings);

/* tls_backend_may: are sessions of this kind to be detached? Any thread. tls_suite_of: the AEAD of
 * a suite (mbedTLS's number, which is IANA's); false: none of record.h's. */
bool tls_backend_may(enum record_version version, enum aead suite);
bool tls_suite_of(int id, enum aead *suite);

/* tls_shake_hands: a handshake between two sessions of this process. */
bool tls_shake_hands(struct tls *client, struct tls *server);

/* tls_tickets_for gives p the keys of a pair with the same names in old (may be NULL), or new ones,
 * or those of the files; false: memory is out. tls_tickets_unref: k may be NULL. tls_ticket_write
 * and tls_ticket_parse are mbedTLS's callbacks. */
bool tls_tickets_for(struct tls_pair *p, const struct tls_settings *old);
void tls_tickets_unref(struct tls_tickets *k);
int tls_ticket_write(void *ctx, const mbedtls_ssl_session *session, unsigned char *start,
                     const unsigned char *end, size_t *len, uint32_t *lifetime_s);
int tls_ticket_parse(void *ctx, mbedtls_ssl_session *session, unsigned char *buf, size_t len);

/* tls_set_up fills conf with what an endpoint (MBEDTLS_SSL_IS_...) offers; 0 or an mbedTLS error.
 */
int tls_set_up(mbedtls_ssl_config *conf, int endpoint);

/* tls_names_hash: of a certificate's names, in their order. tls_names_fit: is name (as in SNI) one
 * of them? 2: exactly, 1: by a wildcard, 0: no. */
void tls_names_hash(const mbedtls_x509_crt *leaf, uint8_t hash[static 32]);
int tls_names_fit(const mbedtls_x509_crt *leaf, const char *name, size_t len);

/* tls_start readies mbedTLS, once; 0 or an mbedTLS error. Any thread. */
int tls_start(void);

/* tls_random is mbedTLS's f_rng: the kernel's generator, no state to share between workers. */
int tls_random(void *unused, unsigned char *buf, size_t len);

/* tls_text says what an mbedTLS error means. Static text. */
const char *tls_text(int error);

/* tls_say writes one line into err, printf-like; what does not fit is cut. */
#define tls_say(err, err_len, ...) ((void)snprintf(err, err_len, __VA_ARGS__))

/* tls_now_version is the version under negotiation in the session that this thread is inside of,
 * for the ticket callbacks, to which mbedTLS does not say it. */
mbedtls_ssl_protocol_version tls_now_version(void);
struct tls_attached *tls_now(void); /* that session, or NULL */

/* tls_session_arrived stores a new ticket of session t in its tls_client. */
void tls_session_arrived(struct tls_attached *t);

/* tls_load_pair reads a certificate chain and the key that belongs to its first certificate from
 * PEM files into what the caller has initialised, and checks them; 0, or -1 with a line in err. */
int tls_load_pair(mbedtls_x509_crt *chain, mbedtls_pk_context *key, const char *cert_file,
                  const char *key_file, char *err, size_t err_len);

/* tls_warn_pair writes a line into err if something about a pair that works is odd. */
void tls_warn_pair(const mbedtls_x509_crt *chain, const char *cert_file, const char *key_file,
                   char *err, size_t err_len);

/* tls_load_trust reads a bundle of CA certificates; 0, or -1 with a line in err. */
int tls_load_trust(mbedtls_x509_crt *trust, const char *file, char *err, size_t err_len);

#endif
