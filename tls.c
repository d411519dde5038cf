#include "tls.h"
#include "tls/internal.h"

/* The two backends behind one set of calls. */

bool tls_looks_like_handshake(const uint8_t *buf, size_t len)
{
    if (len == 0 || buf[0] != MBEDTLS_SSL_MSG_HANDSHAKE) return false;
    return len < 2 || buf[1] == 3;
}

enum io tls_handshake(struct tls *t, const uint8_t *in, size_t len, size_t *used, uint8_t *out,
                      size_t cap, size_t *out_len)
{
    if (t->detached) {
        *used = *out_len = 0;
        return IO_DONE;
    }
    return tls_attached_handshake(tls_attached(t), in, len, used, out, cap, out_len);
}

enum io tls_open(struct tls *t, const uint8_t *in, size_t len, size_t *used, uint8_t *plain,
                 size_t cap, size_t *n, uint8_t *out, size_t out_cap, size_t *out_len)
{
    if (t->detached)
        return tls_detached_open(tls_detached(t), in, len, used, plain, cap, n, out, out_cap,
                                 out_len);
    return tls_attached_open(tls_attached(t), in, len, used, plain, cap, n, out, out_cap, out_len);
}

enum io tls_seal(struct tls *t, const struct iovec *pieces, unsigned count, size_t *used,
                 uint8_t *out, size_t cap, size_t *out_len)
{
    if (t->detached)
        return tls_detached_seal(tls_detached(t), pieces, count, used, out, cap, out_len);
    return tls_attached_seal(tls_attached(t), pieces, count, used, out, cap, out_len);
}

void tls_close_notify(struct tls *t, uint8_t *out, size_t cap, size_t *out_len)
{
    if (t->detached)
        tls_detached_close_notify(tls_detached(t), out, cap, out_len);
    else
        tls_attached_close_notify(tls_attached(t), out, cap, out_len);
}

void tls_free(struct tls *t)
{
    if (!t) return;
    if (t->detached)
        tls_detached_free(tls_detached(t));
    else
        tls_attached_free(tls_attached(t));
}

bool tls_is_detached(const struct tls *t)
{
    return t->detached;
}

uint8_t tls_note(const struct tls *t)
{
    return t->note;
}

void tls_set_note(struct tls *t, uint8_t note)
{
    t->note = note;
}

size_t tls_kept(const struct tls *t)
{
    return t->detached ? tls_detached(t)->kept_cap : 0;
}

bool tls_closed_cleanly(const struct tls *t)
{
    return t->closed_cleanly;
}

bool tls_resumed(const struct tls *t)
{
    return t->over && (t->detached ? tls_detached(t)->resumed : !tls_attached(t)->full);
}

const char *tls_why(const struct tls *t)
{
    return t->why ? t->why : "";
}

const char *tls_version(const struct tls *t)
{
    if (!t->detached) return mbedtls_ssl_get_version(&tls_attached(t)->ssl);
    return tls_detached(t)->version == RECORD_TLS13 ? "TLSv1.3" : "TLSv1.2";
}

const char *tls_suite(const struct tls *t)
{
    if (t->detached) return aead_text((enum aead)tls_detached(t)->suite);
    const char *name = mbedtls_ssl_get_ciphersuite(&tls_attached(t)->ssl);
    return name ? name : "";
}
