/* record_peer.h - the other end of a TLS connection for tests of record.c: makes and reads records
 * with mbedTLS's one-shot primitives and HMAC alone, so that it shares no code with what it tests,
 * and makes wrong ones on request.
 *
 * Test programs only. Static functions. */
#ifndef RECORD_PEER_H
#define RECORD_PEER_H

#include "../record.h"

#include <stdlib.h>
#include <string.h>

#include <mbedtls/chachapoly.h>
#include <mbedtls/gcm.h>
#include <mbedtls/md.h>

struct peer_way { /* one direction, as its sender sees it */
    enum record_version version;
    enum aead suite;
    uint8_t secret[48], key[32], iv[12];
    uint64_t seq;
};

static inline void peer_must(int ok)
{
    if (!ok) abort();
}

static inline size_t peer_hash_len(const struct peer_way *p)
{
    return p->suite == AEAD_AES_256_GCM ? 48 : 32;
}

/* HKDF-Expand-Label of RFC 8446 section 7.1, of at most one block: HMAC(secret, info | 1). */
static inline void peer_expand(const struct peer_way *p, const char *label, uint8_t *out,
                               size_t len)
{
    uint8_t info[64], block[64];
    const size_t n = strlen(label);
    info[0] = 0;
    info[1] = (uint8_t)len;
    info[2] = (uint8_t)(n + 6);
    memcpy(info + 3, "tls13 ", 6);
    memcpy(info + 9, label, n);
    info[9 + n] = 0;
    info[10 + n] = 1;
    const mbedtls_md_type_t type = peer_hash_len(p) == 48 ? MBEDTLS_MD_SHA384 : MBEDTLS_MD_SHA256;
    peer_must(mbedtls_md_hmac(mbedtls_md_info_from_type(type), p->secret, peer_hash_len(p), info,
                              11 + n, block) == 0);
    memcpy(out, block, len);
}

static inline void peer_take_keys(struct peer_way *p)
{
    peer_expand(p, "key", p->key, aead_key_len(p->suite));
    peer_expand(p, "iv", p->iv, 12);
}

static inline void peer_update(struct peer_way *p)
{
    uint8_t next[48];
    peer_expand(p, "traffic upd", next, peer_hash_len(p));
    memcpy(p->secret, next, peer_hash_len(p));
    peer_take_keys(p);
    p->seq = 0;
}

static inline size_t peer_explicit(const struct peer_way *p)
{
    return p->version == RECORD_TLS12 && p->suite != AEAD_CHACHA20_POLY1305 ? 8 : 0;
}

static inline void peer_u64(uint8_t *to, uint64_t n)
{
    for (int i = 0; i < 8; i++) to[i] = (uint8_t)(n >> (56 - 8 * i));
}

static inline void peer_nonce(const struct peer_way *p, const uint8_t *sent, uint8_t nonce[12])
{
    uint8_t seq[12] = {0};
    peer_u64(seq + 4, p->seq);
    memcpy(nonce, p->iv, 12);
    if (peer_explicit(p)) {
        memcpy(nonce + 4, sent, 8);
        return;
    }
    for (int i = 0; i < 12; i++) nonce[i] ^= seq[i];
}

static inline size_t peer_aad(const struct peer_way *p, const uint8_t *header, size_t plain,
                              uint8_t aad[13])
{
    if (p->version == RECORD_TLS13) {
        memcpy(aad, header, 5);
        return 5;
    }
    peer_u64(aad, p->seq);
    memcpy(aad + 8, header, 3);
    aad[11] = (uint8_t)(plain >> 8);
    aad[12] = (uint8_t)plain;
    return 13;
}

/* peer_crypt: to and from do not overlap; the tag is written (seal) or compared. */
static inline bool peer_crypt(const struct peer_way *p, bool seal, const uint8_t nonce[12],
                              const uint8_t *aad, size_t aad_len, const uint8_t *from, size_t len,
                              uint8_t *to, uint8_t *tag)
{
    int ret;
    if (p->suite == AEAD_CHACHA20_POLY1305) {
        mbedtls_chachapoly_context c;
        mbedtls_chachapoly_init(&c);
        peer_must(mbedtls_chachapoly_setkey(&c, p->key) == 0);
        ret = seal ? mbedtls_chachapoly_encrypt_and_tag(&c, len, nonce, aad, aad_len, from, to, tag)
                   : mbedtls_chachapoly_auth_decrypt(&c, len, nonce, aad, aad_len, tag, from, to);
        mbedtls_chachapoly_free(&c);
    } else {
        mbedtls_gcm_context c;
        mbedtls_gcm_init(&c);
        peer_must(mbedtls_gcm_setkey(&c, MBEDTLS_CIPHER_ID_AES, p->key,
                                     (unsigned)aead_key_len(p->suite) * 8) == 0);
        ret = seal ? mbedtls_gcm_crypt_and_tag(&c, MBEDTLS_GCM_ENCRYPT, len, nonce, 12, aad,
                                               aad_len, from, to, 16, tag)
                   : mbedtls_gcm_auth_decrypt(&c, len, nonce, 12, aad, aad_len, tag, 16, from, to);
        mbedtls_gcm_free(&c);
    }
    return ret == 0;
}

/* peer_seal_fragment encrypts exactly these bytes (of 1.3 with type and padding in them) behind a
 * header with this outer type. out has room for len + 64. Returns the record's length. */
static inline size_t peer_seal_fragment(struct peer_way *p, uint8_t outer, const uint8_t *bytes,
                                        size_t len, uint8_t *out)
{
    uint8_t nonce[12], aad[13];
    const size_t before = peer_explicit(p), fragment = before + len + 16;
    out[0] = outer;
    out[1] = out[2] = 3;
    out[3] = (uint8_t)(fragment >> 8);
    out[4] = (uint8_t)fragment;
    peer_u64(out + 5, 0x0123456789abcdefull + p->seq); /* any that differs: RFC 5288 section 3 */
    peer_nonce(p, out + 5, nonce);
    const size_t aad_len = peer_aad(p, out, len, aad);
    peer_must(peer_crypt(p, true, nonce, aad, aad_len, bytes, len, out + 5 + before,
                         out + 5 + before + len));
    p->seq++;
    return 5 + fragment;
}

/* peer_seal makes a record of this type, in 1.3 with padding zeros behind it. */
static inline size_t peer_seal(struct peer_way *p, uint8_t type, const void *bytes, size_t len,
                               size_t padding, uint8_t *out)
{
    static uint8_t inner[RECORD_PLAIN_MAX + 1024];
    if (len) memcpy(inner, bytes, len);
    if (p->version == RECORD_TLS12) return peer_seal_fragment(p, type, inner, len, out);
    inner[len] = type;
    memset(inner + len + 1, 0, padding);
    return peer_seal_fragment(p, 23, inner, len + 1 + padding, out);
}

/* peer_open reads a record of len bytes; returns its type and *n plain bytes; -1: it is wrong. */
static inline int peer_open(struct peer_way *p, const uint8_t *record, size_t len, uint8_t *plain,
                            size_t *n)
{
    uint8_t nonce[12], aad[13], tag[16];
    const size_t before = peer_explicit(p);
    if (len < 5 + before + 16 || len != 5u + ((size_t)record[3] << 8 | record[4])) return -1;
    *n = len - 5 - before - 16;
    peer_nonce(p, record + 5, nonce);
    const size_t aad_len = peer_aad(p, record, *n, aad);
    memcpy(tag, record + len - 16, 16);
    if (!peer_crypt(p, false, nonce, aad, aad_len, record + 5 + before, *n, plain, tag)) return -1;
    p->seq++;
    if (p->version == RECORD_TLS12) return record[0];
    if (record[0] != 23) return -1;
    while (*n > 0 && plain[*n - 1] == 0) --*n;
    return *n > 0 ? plain[--*n] : -1;
}

/* peer_pair makes a record of fresh keys in r (RECORD_STATE_MAX bytes, or as many as it has) and
 * the other end's two ways: what it sends, what it receives. */
static inline void peer_pair(struct record *r, enum record_version version, enum aead suite,
                             bool client, uint64_t seq_in, uint64_t seq_out, struct peer_way *sends,
                             struct peer_way *receives)
{
    struct record_keys k = {.version = version, .suite = suite, .client = client};
    struct peer_way *ways[2] = {[RECORD_IN] = sends, [RECORD_OUT] = receives};
    k.seq[RECORD_IN] = seq_in;
    k.seq[RECORD_OUT] = seq_out;
    for (int d = 0; d < 2; d++) {
        struct peer_way *p = ways[d];
        *p = (struct peer_way){.version = version, .suite = suite, .seq = k.seq[d]};
        for (size_t i = 0; i < sizeof p->secret; i++) p->secret[i] = (uint8_t)random();
        for (size_t i = 0; i < sizeof p->key; i++) p->key[i] = (uint8_t)random();
        for (size_t i = 0; i < sizeof p->iv; i++) p->iv[i] = (uint8_t)random();
        if (version == RECORD_TLS13) peer_take_keys(p);
        memcpy(k.secret[d], p->secret, sizeof p->secret);
        memcpy(k.key[d], p->key, sizeof p->key);
        memcpy(k.iv[d], p->iv, sizeof p->iv);
    }
    peer_must(record_init(r, &k));
}

#endif
