/* tls.h - TLS 1.2 and 1.3 (RFC 5246, 8446) by mbedTLS, without sockets: ciphertext in, plain bytes
 * out, and the other way.
 *
 * A session turns bytes that were received into plain bytes and plain bytes into bytes to send; who
 * reads and writes the socket is the caller. Two backends do the records: attached, mbedTLS itself
 * (about 40 KiB a session); and detached, for which mbedTLS shakes hands only and leaves keys and
 * sequence numbers as plain bytes (record.h, some 200 bytes). docs/tls.md.
 *
 * Threads: a tls_server is shared by all workers (tickets are valid across them); a session belongs
 * to one worker; a tls_client and its sessions belong to one thread. */
#ifndef TLS_H
#define TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Every transport's answers; bytes moved are told through a pointer. */
enum io { IO_DONE, IO_WANT_READ, IO_WANT_WRITE, IO_CLOSED };

struct tls_server; /* certificate chain, key, settings, ticket keys of one listener */
struct tls_client; /* trust anchors and settings of roost sub/pub/bench */
struct tls;        /* a session */

/* Which backend sessions get. tls_backend_set: before any worker runs. tls_backend_try shakes hands
 * with itself over s, in each version and suite that it offers, detaches and talks both ways; a
 * suite that does not stand this, or whose known answers are not right, stays attached from then on
 * (in that version). Returns how many do not stand it, with one line in err. Main thread, before
 * workers run. tls_backend_in_use: "detached (ipsec-mb)", "attached (mbedTLS)", "detached,
 * attached: ...".*/
enum tls_backend {
    TLS_BACKEND_AUTO,     /* detached where it has stood its test */
    TLS_BACKEND_DETACHED, /* the same; but the server does not start if a suite has not */
    TLS_BACKEND_MBEDTLS,
};
void tls_backend_set(enum tls_backend b);
unsigned tls_backend_try(struct tls_server *s, char *err, size_t err_len);
const char *tls_backend_in_use(void);

struct tls_files { /* PEM: a chain, the server's own certificate first; and its key */
    const char *cert, *key;
};

/* tls_ticket_keys reads keys for session tickets from files of 48 or 80 random bytes: what servers
 * seal from their next tls_server_new or tls_server_reload on opens wherever the file is, for the
 * same version and names. The first seals, all open. 0 files: keys of this process alone. -1 with a
 * line in err, nothing has changed; 0, err may hold a warning. Main thread. */
#define TLS_TICKET_KEYS_MAX 2
int tls_ticket_keys(const char *const *files, size_t count, char *err, size_t err_len);

/* tls_server_new loads certificates and keys, checks that they belong together and are strong
 * enough (RSA 2048 bits, P-256, P-384, P-521), and does a handshake with itself with each in each
 * version. A client that asks for a name (SNI, RFC 6066 section 3) is shown the certificate that
 * has it, else one with a wildcard for it, else the first. On failure returns NULL and writes one
 * line that says what to do into err. On success err is empty or holds one line of warning
 * (certificate has expired, key can be read by others). Main thread. */
#define TLS_PAIRS_MAX 64
struct tls_server *tls_server_new(const struct tls_files *files, size_t count, char *err,
                                  size_t err_len);

/* tls_server_reload does the same for handshakes from now on; sessions go on with what they have,
 * and tickets stay good for certificates with the same names. -1 with a line in err: nothing has
 * changed. Main thread, while others accept. */
int tls_server_reload(struct tls_server *s, const struct tls_files *files, size_t count, char *err,
                      size_t err_len);
void tls_server_delete(struct tls_server *s); /* no session may be left; s may be NULL */

/* tls_server_not_after: when the first of the certificates that are shown, those of
 * their chains among them, ends, Unix time. Main
 * thread. */
int64_t tls_server_not_after(struct tls_server *s);

/* tls_client_new: ca_file NULL = $SSL_CERT_FILE or the system's bundle; insecure = no verification
 * (ca_file is not read). NULL with a line in err on failure. */
struct tls_client *tls_client_new(const char *ca_file, bool insecure, char *err, size_t err_len);
void tls_client_delete(struct tls_client *c); /* no session may be left; c may be NULL */

/* tls_client_set_version offers only TLS 1.2 (minor 2) or 1.3 (3), or both (0, as at first), and
 * forgets the kept ticket. For bench and tests. */
void tls_client_set_version(struct tls_client *c, int minor);

/* tls_client_keep_sessions says whether the newest ticket is kept and offered at the next
 * tls_connect to the same host (on at first). Switching it off forgets the one that is kept. A
 * ticket pins the version: so those of 1.2 are kept only by a client that was set to 1.2; and if a
 * server has lost 1.3 since, one handshake fails and the next succeeds. */
void tls_client_keep_sessions(struct tls_client *c, bool keep);

/* tls_client_share_tickets lets a ticket of 1.3 be offered again and again, which links the
 * connections to whoever looks on (RFC 8446 appendix C.4): for bench. */
void tls_client_share_tickets(struct tls_client *c);

/* tls_looks_like_handshake tells whether the first received bytes (one is enough) begin a TLS
 * handshake record: type 22, version 3.x. Whoever sends something else gets no session. */
bool tls_looks_like_handshake(const uint8_t *buf, size_t len);

/* tls_accept starts a server session (about 40 KiB until it is detached or freed): call it only
 * when tls_looks_like_handshake. tls_connect starts a client one; host is a name or an IP address
 * without brackets, verified against the certificate (and sent as SNI if it is a name); kept as a
 * copy. NULL when memory is out. */
struct tls *tls_accept(struct tls_server *s);
struct tls *tls_connect(struct tls_client *c, const char *host);
void tls_free(struct tls *t); /* wipes; t may be NULL */

/* tls_handshake feeds len received bytes and puts what is to be sent into out (cap >= TLS_OUT_MAX),
 * *out_len bytes, which the caller sends whatever the answer is. *used = bytes consumed. Bytes
 * behind the handshake's end are left alone. A client calls it first with len 0. IO_DONE: the
 * handshake is over, tickets included; IO_WANT_READ: more input; IO_WANT_WRITE: call again with
 * room in out; IO_CLOSED: failed (tls_why), an alert may be in out. */
#define TLS_OUT_MAX (20u * 1024)
enum io tls_handshake(struct tls *t, const uint8_t *in, size_t len, size_t *used, uint8_t *out,
                      size_t cap, size_t *out_len);

/* tls_detach, once tls_handshake has said IO_DONE, gives the session that takes the place of t: a
 * detached one in memory of pool, which must outlive it; or t itself, where the backend is not to
 * be used or memory is out. A client's gets no more tickets. */
struct mem_pool;
struct tls *tls_detach(struct tls *t, struct mem_pool *pool);
bool tls_is_detached(const struct tls *t);

/* A note of the caller's, which detaching keeps; 0 at first. */
uint8_t tls_note(const struct tls *t);
void tls_set_note(struct tls *t, uint8_t note);

/* tls_open takes received bytes and gives plain bytes. *used = consumed, *n = plain bytes in plain
 * (cap >= TLS_OPEN_ROOM; of an attached session >= 1). Alerts, and answers to KeyUpdates, to be
 * sent in front of what is sealed later, are put into out (out_cap >= TLS_REPLY_ROOM), *out_len
 * bytes, often 0. IO_DONE: call again with the rest, even if that is empty: there may be more;
 * IO_WANT_READ: everything was used and nothing complete is left, *n may be > 0; IO_CLOSED:
 * close_notify (tls_closed_cleanly) or a fatal error (tls_why), always with *n = 0: what came
 * before it was given out by an earlier call. An incomplete record's bytes are kept inside the
 * session; tls_kept says how much memory a detached one has for that, at most TLS_OPEN_ROOM. */
#define TLS_OPEN_ROOM (17u * 1024)
#define TLS_REPLY_ROOM 128u
enum io tls_open(struct tls *t, const uint8_t *in, size_t len, size_t *used, uint8_t *plain,
                 size_t cap, size_t *n, uint8_t *out, size_t out_cap, size_t *out_len);

size_t tls_kept(const struct tls *t);

/* tls_seal turns up to 16 KiB of plain bytes, of count pieces, into one record in out, which must
 * not overlap with them. *used = plain bytes taken, *out_len = bytes to send. Takes as much as
 * fits: at most cap - TLS_OVERHEAD. IO_DONE (call again for the rest); IO_WANT_WRITE: no room for a
 * single byte; IO_CLOSED: the session has failed or said goodbye. A sealed record must be sent
 * wholly and in order: what the socket does not take is the caller's to keep. Works after the
 * peer's close_notify as well (RFC 8446 6.1: half-close). */
#define TLS_RECORD_MAX 16384u
#define TLS_OVERHEAD 64u
enum io tls_seal(struct tls *t, const struct iovec *pieces, unsigned count, size_t *used,
                 uint8_t *out, size_t cap, size_t *out_len);

/* tls_close_notify puts the closing alert into out (cap >= TLS_OVERHEAD), once; nothing before the
 * handshake is over or after a failure. Nothing can be sealed afterwards. */
void tls_close_notify(struct tls *t, uint8_t *out, size_t cap, size_t *out_len);
/* tls_save writes a detached session down, in the byte order of this host, so that another process
 * can go on with it: out has room for cap bytes, TLS_SAVED_MAX are enough. Returns how many; 0: it
 * is attached, has failed, or there is no room. Afterwards only one of the two may be used: free
 * this one. tls_load makes a session of that; NULL: it is not what tls_save writes, or memory is
 * out. */
#define TLS_SAVED_MAX (TLS_OPEN_ROOM + 256u)
size_t tls_save(const struct tls *t, uint8_t *out, size_t cap);
struct tls *tls_load(struct mem_pool *pool, const uint8_t *bytes, size_t len);

bool tls_closed_cleanly(const struct tls *t); /* the peer's close_notify was received */
bool tls_resumed(const struct tls *t);    /* the handshake used a ticket; valid once it is over */
const char *tls_why(const struct tls *t); /* static text: why a handshake or a record failed */
const char *tls_version(const struct tls *t); /* "TLSv1.3" */
/* tls_suite: "TLS1-3-AES-128-GCM-SHA256"; of a detached session its AEAD, "AES-128-GCM". */
const char *tls_suite(const struct tls *t);

/* tls_memory counts what mbedTLS does with the heap, all threads together. tls_allocations is
 * calls, for tests that none are made. Relaxed: exact while no other thread is inside mbedTLS. */
struct tls_memory {
    uint64_t calls;     /* of calloc and free since the start */
    int64_t live;       /* blocks in use */
    int64_t live_bytes; /* usable bytes in them */
};
struct tls_memory tls_memory(void);
uint64_t tls_allocations(void);

/* tls_memory_fail_at makes the k-th allocation of mbedTLS from now on fail once (k = 1 is the
 * next); 0 switches it off. The seam of the failure-injection tests. Any thread. */
void tls_memory_fail_at(uint64_t k);

/* tls_make_certificate writes a fresh self-signed P-256 certificate (subjectAltName: DNS localhost,
 * IP 127.0.0.1 and ::1; 10 years; not a CA, and usable as its own --cacert) and its key as PEM,
 * files 0600, whole or not at all, never overwriting (EEXIST). 0 or -1 with errno. For --dev. */
int tls_make_certificate(const char *cert_file, const char *key_file);

const char *tls_library_version(void); /* "mbedTLS 3.6.6" */

/* random_bytes fills buf from the kernel (getrandom); never fails once the system is up: if it did,
 * the process ends. Any thread. */
void random_bytes(void *buf, size_t len);

#endif
