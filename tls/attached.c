#include "tls.h"
#include "tls/internal.h"

#include <arpa/inet.h>
#include <string.h>

#include <mbedtls/error.h>
#include <mbedtls/platform.h>
#include <mbedtls/platform_util.h>

/* A session is an mbedTLS context behind a memory BIO: the receive callback reads from the slice
 * that the caller lent for the call, the send callback appends to the caller's buffer.
 *
 * mbedTLS answers WANT_READ in two cases: it wants bytes that are not there, or it has digested a
 * message that is not application data and would like to be called again. Only the receive callback
 * knows which, so it notes the first (starved) and everything else loops. Each round that is not
 * starved digests at least one message of at most 16 KiB of input, so the loops are bounded by the
 * input. An incomplete record stays inside mbedTLS, which asks for a record's header and then for
 * the rest of that record, never for more: bytes behind the handshake stay with the caller. */

static _Thread_local struct tls_attached *inside; /* the session whose handshake this thread runs */

mbedtls_ssl_protocol_version tls_now_version(void)
{
    return inside ? mbedtls_ssl_get_version_number(&inside->ssl) : MBEDTLS_SSL_VERSION_UNKNOWN;
}

struct tls_attached *tls_now(void)
{
    return inside;
}

/* ---- the memory BIO ---------------------------------------------------------------------- */

static int receive(void *ctx, unsigned char *buf, size_t len)
{
    struct tls_attached *t = ctx;
    size_t left = t->in_len - t->in_used;

    if (left == 0) {
        t->starved = true;
        return MBEDTLS_ERR_SSL_WANT_READ;
    }
    if (len > left) len = left;
    memcpy(buf, t->in + t->in_used, len);
    t->in_used += len;
    return (int)len;
}

enum { MAX_REFUSALS = 3 }; /* a peer that asks for a renegotiation again and again is closed */

static int transmit(void *ctx, const unsigned char *buf, size_t len)
{
    struct tls_attached *t = ctx;
    size_t room = t->out_cap - t->out_len;

    /* What mbedTLS sends by itself while it reads is that it will not renegotiate. */
    if (t->reading && t->refusals++ == MAX_REFUSALS) return MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE;
    if (room == 0) return MBEDTLS_ERR_SSL_WANT_WRITE;
    if (len > room) len = room;
    memcpy(t->out + t->out_len, buf, len);
    t->out_len += len;
    return (int)len;
}

static void borrow(struct tls_attached *t, const uint8_t *in, size_t len, uint8_t *out, size_t cap)
{
    t->in = in;
    t->in_len = len;
    t->in_used = 0;
    t->out = out;
    t->out_cap = cap;
    t->out_len = 0;
    t->starved = false;
}

static void give_back(struct tls_attached *t, size_t *used, size_t *out_len)
{
    if (used) *used = t->in_used;
    *out_len = t->out_len;
    t->in = NULL;
    t->out = NULL;
    t->in_len = t->out_cap = 0;
}

/* ---- failure ----------------------------------------------------------------------------- */

/* The alert (RFC 8446 section 6) for an error after which mbedTLS did not send one itself; 0: the
 * peer is gone or knows. */
static uint8_t alert_for(const struct tls_attached *t, int error)
{
    enum { MAX_CIPHERTEXT = 16384 + 256 };       /* RFC 8446 5.2 */
    const unsigned char *length = t->ssl.in_len; /* of the record at hand, in its header */

    if (length && (length[0] << 8 | length[1]) > MAX_CIPHERTEXT &&
        (error == MBEDTLS_ERR_SSL_INVALID_RECORD || error == MBEDTLS_ERR_SSL_BAD_INPUT_DATA))
        return MBEDTLS_SSL_ALERT_MSG_RECORD_OVERFLOW;
    switch (error) {
    case MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE:
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY: return 0;
    case MBEDTLS_ERR_SSL_INVALID_RECORD:
    case MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE: return MBEDTLS_SSL_ALERT_MSG_UNEXPECTED_MESSAGE;
    case MBEDTLS_ERR_SSL_INVALID_MAC: return MBEDTLS_SSL_ALERT_MSG_BAD_RECORD_MAC;
    case MBEDTLS_ERR_SSL_DECODE_ERROR: return MBEDTLS_SSL_ALERT_MSG_DECODE_ERROR;
    case MBEDTLS_ERR_SSL_ILLEGAL_PARAMETER: return MBEDTLS_SSL_ALERT_MSG_ILLEGAL_PARAMETER;
    case MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION: return MBEDTLS_SSL_ALERT_MSG_PROTOCOL_VERSION;
    case MBEDTLS_ERR_SSL_HANDSHAKE_FAILURE: return MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE;
    case MBEDTLS_ERR_SSL_NO_APPLICATION_PROTOCOL:
        return MBEDTLS_SSL_ALERT_MSG_NO_APPLICATION_PROTOCOL;
    default: return MBEDTLS_SSL_ALERT_MSG_INTERNAL_ERROR;
    }
}

static const char *refusal_text(uint32_t flags) /* why a certificate was not accepted */
{
    static const struct {
        uint32_t flag;
        const char *text;
    } why[] = {
        {MBEDTLS_X509_BADCERT_CN_MISMATCH, "the certificate is for another host"},
        {MBEDTLS_X509_BADCERT_NOT_TRUSTED, "the certificate is not signed by a trusted CA"},
        {MBEDTLS_X509_BADCERT_EXPIRED, "the certificate has expired"},
        {MBEDTLS_X509_BADCERT_FUTURE, "the certificate is not valid yet"},
        {MBEDTLS_X509_BADCERT_REVOKED, "the certificate has been revoked"},
        {MBEDTLS_X509_BADCERT_BAD_KEY, "the certificate's key is too weak"},
        {MBEDTLS_X509_BADCERT_BAD_MD, "the certificate's signature hash is too weak"},
        {MBEDTLS_X509_BADCERT_KEY_USAGE, "the certificate's key usage forbids this"},
        {MBEDTLS_X509_BADCERT_EXT_KEY_USAGE, "the certificate is not one for servers"},
        {MBEDTLS_X509_BADCERT_MISSING, "the server showed no certificate"},
    };

    for (size_t i = 0; i < sizeof why / sizeof why[0]; i++)
        if (flags & why[i].flag) return why[i].text;
    return "the certificate could not be verified";
}

/* A 1.3 client that does not like our certificate has no key for its alert yet, so mbedTLS sees a
 * record that can not be opened. Anybody could have sent it; it serves for the log alone. */
static bool is_plain_alert(const struct tls_attached *t)
{
    const unsigned char *record = t->ssl.in_hdr; /* type, version, length, level, description */

    return !t->base.over && record && record[0] == MBEDTLS_SSL_MSG_ALERT && record[3] == 0 &&
           record[4] == 2;
}

static const char *explain(const struct tls_attached *t, int error)
{
    if (error == MBEDTLS_ERR_SSL_INVALID_MAC && is_plain_alert(t))
        return record_alert_text(t->ssl.in_hdr[6]);
    switch (error) {
    case MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE:
        return t->ssl.in_msg ? record_alert_text(t->ssl.in_msg[1]) : record_alert_text(-1);
    case MBEDTLS_ERR_X509_CERT_VERIFY_FAILED:
        return refusal_text(mbedtls_ssl_get_verify_result(&t->ssl));
    case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY: return "the peer closed during the handshake";
    default: return tls_text(error);
    }
}

/* told: mbedTLS has sent the alert itself. */
static void fail(struct tls_attached *t, int error, bool told)
{
    uint8_t alert = told ? 0 : alert_for(t, error);
    /* Best effort: without room for it the peer sees the connection end. What mbedTLS has left to
     * send goes first, and instead of what was to be sent. */
    bool twice = t->ssl.out_left > 0;

    t->base.failed = true;
    t->base.why = explain(t, error);
    if (alert) (void)mbedtls_ssl_send_alert_message(&t->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL, alert);
    if (alert && twice)
        (void)mbedtls_ssl_send_alert_message(&t->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL, alert);
}

/* ---- sessions ---------------------------------------------------------------------------- */

static struct tls_attached *session_new(const mbedtls_ssl_config *conf, size_t host_len)
{
    struct tls_attached *t = mbedtls_calloc(1, sizeof *t + host_len + 1);

    if (!t) return NULL;
    mbedtls_ssl_init(&t->ssl);
    if (mbedtls_ssl_setup(&t->ssl, conf) != 0) {
        tls_attached_free(t);
        return NULL;
    }
    mbedtls_ssl_set_bio(&t->ssl, t, transmit, receive, NULL);
    tls_export(t);
    return t;
}

struct tls *tls_accept(struct tls_server *s)
{
    struct tls_settings *settings = tls_server_hold(s);
    struct tls_attached *t = session_new(&settings->conf, 0);
    if (!t) {
        tls_server_let_go(s, settings);
        return NULL;
    }
    t->server = s;
    t->settings = settings;
    t->pair = &settings->pairs[0];
    return &t->base;
}

/* RFC 2818 3.1, RFC 9110 4.3.5: an address is compared with the iPAddress names alone, never with
 * names that happen to look like it. */
static int check_address(void *ctx, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    const struct tls_attached *t = ctx;

    if (depth > 0) return 0;
    for (const mbedtls_x509_sequence *s = &crt->subject_alt_names; s; s = s->next)
        if ((s->buf.tag & MBEDTLS_ASN1_TAG_VALUE_MASK) == MBEDTLS_X509_SAN_IP_ADDRESS &&
            s->buf.len == t->ip_len && memcmp(s->buf.p, t->ip, t->ip_len) == 0)
            return 0;
    *flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
    return 0;
}

static int set_host(struct tls_attached *t)
{
    if (inet_pton(AF_INET, t->host, t->ip) == 1)
        t->ip_len = 4;
    else if (inet_pton(AF_INET6, t->host, t->ip) == 1)
        t->ip_len = 16;
    if (t->ip_len == 0) return mbedtls_ssl_set_hostname(&t->ssl, t->host);

    /* RFC 6066 3: no address in SNI. */
    mbedtls_ssl_set_verify(&t->ssl, check_address, t);
    return mbedtls_ssl_set_hostname(&t->ssl, NULL);
}

struct tls *tls_connect(struct tls_client *c, const char *host)
{
    size_t host_len = strlen(host);
    if (host_len > MBEDTLS_SSL_MAX_HOST_NAME_LEN) return NULL;
    struct tls_attached *t = session_new(&c->conf, host_len);

    if (!t) return NULL;
    t->client = c;
    memcpy(t->host, host, host_len + 1);
    if (set_host(t) != 0) {
        tls_attached_free(t);
        return NULL;
    }
    if (c->has_session && strcmp(c->session_host, host) == 0) {
        (void)mbedtls_ssl_set_session(&t->ssl, &c->session); /* if not, a full handshake */
        /* RFC 8446 C.4: a ticket is used once, so that nobody can link two connections. A 1.2
         * server issues no new one on resumption, so there it serves again. */
        if (c->session.tls_version == MBEDTLS_SSL_VERSION_TLS1_3 && !c->share_tickets) {
            mbedtls_ssl_session_free(&c->session);
            c->has_session = false;
        }
    }
    return &t->base;
}

void tls_attached_free(struct tls_attached *t)
{
    mbedtls_ssl_free(&t->ssl);
    if (t->server) tls_server_let_go(t->server, t->settings);
    mbedtls_platform_zeroize(&t->exported, sizeof t->exported);
    mbedtls_free(t);
}

/* ---- handshake --------------------------------------------------------------------------- */

static enum io step_through(struct tls_attached *t)
{
    while (t->ssl.state != MBEDTLS_SSL_HANDSHAKE_OVER) {
        size_t out_before = t->out_len;
        t->starved = false;
        if (t->ssl.state == MBEDTLS_SSL_SERVER_CERTIFICATE) t->full = true;
        int ret = mbedtls_ssl_handshake_step(&t->ssl);

        if (ret == 0) continue;
        if (ret == MBEDTLS_ERR_SSL_WANT_READ && !t->starved) continue;
        if (ret == MBEDTLS_ERR_SSL_WANT_READ) return IO_WANT_READ;
        if (ret == MBEDTLS_ERR_SSL_WANT_WRITE) return IO_WANT_WRITE;
        fail(t, ret, t->out_len > out_before);
        return IO_CLOSED;
    }
    return IO_DONE;
}

enum io tls_attached_handshake(struct tls_attached *t, const uint8_t *in, size_t len, size_t *used,
                               uint8_t *out, size_t cap, size_t *out_len)
{
    enum io answer = t->base.over ? IO_DONE : IO_CLOSED;

    borrow(t, in, len, out, cap);
    if (!t->base.over && !t->base.failed) {
        inside = t;
        answer = step_through(t);
        inside = NULL;
        if (answer == IO_DONE) {
            t->base.over = true;
            /* A 1.2 ticket came within the handshake, 1.3 ones come later (tls_open). */
            if (t->client && t->ssl.tls_version == MBEDTLS_SSL_VERSION_TLS1_2)
                tls_session_arrived(t);
        }
    }
    give_back(t, used, out_len);
    return answer;
}

/* ---- records ----------------------------------------------------------------------------- */

static enum io read_records(struct tls_attached *t, uint8_t *plain, size_t cap, size_t *n)
{
    while (*n < cap) {
        t->starved = false;
        t->reading = true;
        int ret = mbedtls_ssl_read(&t->ssl, plain + *n, cap - *n);
        t->reading = false;

        if (ret > 0) {
            *n += (size_t)ret;
            continue;
        }
        if (ret == MBEDTLS_ERR_SSL_WANT_READ) {
            if (t->starved) return IO_WANT_READ;
            continue;
        }
        if (ret == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET) {
            tls_session_arrived(t);
            continue;
        }
        if (ret == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) {
            t->base.closed_cleanly = true;
        } else {
            /* The one alert that mbedTLS sends from here is bad_record_mac. WANT_WRITE is a failure
             * too: only a flood of renegotiations fills out with refusals. */
            fail(t, ret, ret == MBEDTLS_ERR_SSL_INVALID_MAC);
        }
        return *n > 0 ? IO_DONE : IO_CLOSED;
    }
    return IO_DONE;
}

enum io tls_attached_open(struct tls_attached *t, const uint8_t *in, size_t len, size_t *used,
                          uint8_t *plain, size_t cap, size_t *n, uint8_t *out, size_t out_cap,
                          size_t *out_len)
{
    enum io answer = IO_CLOSED;

    *n = 0;
    borrow(t, in, len, out, out_cap);
    if (t->base.over && !t->base.failed && !t->base.closed_cleanly)
        answer = read_records(t, plain, cap, n);
    give_back(t, used, out_len);
    return answer;
}

/* gather puts up to room of the pieces' bytes into one piece at to; returns how many. */
static size_t gather(const struct iovec *pieces, unsigned count, uint8_t *to, size_t room)
{
    size_t at = 0;
    for (unsigned i = 0; i < count && at < room; i++) {
        size_t n = pieces[i].iov_len;
        if (n > room - at) n = room - at;
        if (n) memcpy(to + at, pieces[i].iov_base, n);
        at += n;
    }
    return at;
}

enum io tls_attached_seal(struct tls_attached *t, const struct iovec *pieces, unsigned count,
                          size_t *used, uint8_t *out, size_t cap, size_t *out_len)
{
    *used = *out_len = 0;
    if (!t->base.over || t->base.failed || t->base.said_goodbye) return IO_CLOSED;
    if (tls_plain_len(pieces, count) == 0) return IO_DONE;
    if (cap <= TLS_OVERHEAD) return IO_WANT_WRITE;
    const size_t room = cap - TLS_OVERHEAD;
    /* mbedTLS takes a copy before it has anything to put into out. */
    const size_t len = gather(pieces, count, out, room < TLS_RECORD_MAX ? room : TLS_RECORD_MAX);

    borrow(t, NULL, 0, out, cap);
    int ret = mbedtls_ssl_write(&t->ssl, out, len);
    if (ret > 0)
        *used = (size_t)ret;
    else
        fail(t, ret, false); /* no room for a whole record can not be: TLS_OVERHEAD */
    give_back(t, NULL, out_len);
    return ret > 0 ? IO_DONE : IO_CLOSED;
}

void tls_attached_close_notify(struct tls_attached *t, uint8_t *out, size_t cap, size_t *out_len)
{
    borrow(t, NULL, 0, out, cap);
    if (t->base.over && !t->base.failed && !t->base.said_goodbye)
        (void)mbedtls_ssl_close_notify(&t->ssl);
    t->base.said_goodbye = true;
    give_back(t, NULL, out_len);
}
