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
    return tls_attached_handshake(tls_attached(t), in, len, used, out, cap, out_len);
}

enum io tls_open(struct tls *t, const uint8_t *in, size_t len, size_t *used, uint8_t *plain,
                 size_t cap, size_t *n, uint8_t *out, size_t out_cap, size_t *out_len)
{
    return tls_attached_open(tls_attached(t), in, len, used, plain, cap, n, out, out_cap, out_len);
}

enum io tls_seal(struct tls *t, const uint8_t *plain, size_t len, size_t *used, uint8_t *out,
                 size_t cap, size_t *out_len)
{
    return tls_attached_seal(tls_attached(t), plain, len, used, out, cap, out_len);
}

void tls_close_notify(struct tls *t, uint8_t *out, size_t cap, size_t *out_len)
{
    tls_attached_close_notify(tls_attached(t), out, cap, out_len);
}

void tls_free(struct tls *t)
{
    if (t) tls_attached_free(tls_attached(t));
}

bool tls_closed_cleanly(const struct tls *t)
{
    return t->closed_cleanly;
}

bool tls_resumed(const struct tls *t)
{
    return t->over && !tls_attached(t)->full;
}

const char *tls_why(const struct tls *t)
{
    return t->why ? t->why : "";
}

const char *tls_version(const struct tls *t)
{
    return mbedtls_ssl_get_version(&tls_attached(t)->ssl);
}

const char *tls_suite(const struct tls *t)
{
    const char *name = mbedtls_ssl_get_ciphersuite(&tls_attached(t)->ssl);
    return name ? name : "";
}
