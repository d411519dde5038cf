#include "aead.h"
#include "aead/internal.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <mbedtls/chachapoly.h>
#include <mbedtls/gcm.h>
#include <mbedtls/platform_util.h>

/* ---- mbedTLS's primitives, with a context that is keyed anew for each message, and wiped ---- */

/* must: these never fail, since they allocate nothing (MBEDTLS_BLOCK_CIPHER_C). A record that can
 * not be sealed right must not be sent. */
static void must(int ret)
{
    if (ret != 0) abort();
}

static bool everywhere(void)
{
    return true;
}

static void crypt_gcm(const struct aead_message *m, bool seal, uint8_t *out,
                      uint8_t tag[static AEAD_TAG])
{
    mbedtls_gcm_context gcm;
    size_t n;
    mbedtls_gcm_init(&gcm);
    must(mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, m->key, (unsigned)m->key_len * 8));
    must(mbedtls_gcm_starts(&gcm, seal ? MBEDTLS_GCM_ENCRYPT : MBEDTLS_GCM_DECRYPT, m->nonce,
                            AEAD_NONCE));
    must(mbedtls_gcm_update_ad(&gcm, m->aad, m->aad_len));
    for (unsigned i = 0; i < m->count; i++) {
        const size_t len = m->pieces[i].iov_len;
        must(mbedtls_gcm_update(&gcm, m->pieces[i].iov_base, len, out, len, &n));
        out += len;
    }
    must(mbedtls_gcm_finish(&gcm, NULL, 0, &n, tag, AEAD_TAG));
    mbedtls_gcm_free(&gcm);
}

const struct aead_kernel aead_mbedtls = {"mbedTLS", everywhere, crypt_gcm};

static void crypt_chacha(const struct aead_message *m, bool seal, uint8_t *out,
                         uint8_t tag[static AEAD_TAG])
{
    mbedtls_chachapoly_context chacha;
    mbedtls_chachapoly_init(&chacha);
    must(mbedtls_chachapoly_setkey(&chacha, m->key));
    must(mbedtls_chachapoly_starts(&chacha, m->nonce,
                                   seal ? MBEDTLS_CHACHAPOLY_ENCRYPT : MBEDTLS_CHACHAPOLY_DECRYPT));
    must(mbedtls_chachapoly_update_aad(&chacha, m->aad, m->aad_len));
    for (unsigned i = 0; i < m->count; i++) {
        must(mbedtls_chachapoly_update(&chacha, m->pieces[i].iov_len, m->pieces[i].iov_base, out));
        out += m->pieces[i].iov_len;
    }
    must(mbedtls_chachapoly_finish(&chacha, tag));
    mbedtls_chachapoly_free(&chacha);
}

/* ---- which one ---- */

static const struct aead_kernel *_Atomic in_use;

void aead_use(const struct aead_kernel *k)
{
#ifdef AEAD_AESNI
    if (!k && aead_vaes.works()) k = &aead_vaes;
    if (!k && aead_aesni.works()) k = &aead_aesni;
#endif
    atomic_store_explicit(&in_use, k ? k : &aead_mbedtls, memory_order_relaxed);
}

static const struct aead_kernel *kernel(void)
{
    if (!atomic_load_explicit(&in_use, memory_order_relaxed)) aead_use(NULL);
    return atomic_load_explicit(&in_use, memory_order_relaxed);
}

const char *aead_kernel(void)
{
    return kernel()->name;
}

static void crypt(enum aead a, const struct aead_message *m, bool seal, uint8_t *out,
                  uint8_t tag[static AEAD_TAG])
{
    if (a == AEAD_CHACHA20_POLY1305)
        crypt_chacha(m, seal, out, tag);
    else
        kernel()->crypt(m, seal, out, tag);
}

void aead_seal(enum aead a, const uint8_t *key, const uint8_t nonce[static AEAD_NONCE],
               const uint8_t *aad, size_t aad_len, const struct iovec *pieces, unsigned count,
               uint8_t *out)
{
    const struct aead_message m = {key, nonce, aad, aead_key_len(a), aad_len, pieces, count};
    size_t len = 0;
    for (unsigned i = 0; i < count; i++) len += pieces[i].iov_len;
    crypt(a, &m, true, out, out + len);
}

static bool same(const uint8_t *a, const uint8_t *b, size_t len) /* in constant time */
{
    volatile uint8_t differs = 0;
    for (size_t i = 0; i < len; i++) differs |= a[i] ^ b[i];
    return differs == 0;
}

bool aead_open(enum aead a, const uint8_t *key, const uint8_t nonce[static AEAD_NONCE],
               const uint8_t *aad, size_t aad_len, const uint8_t *in, size_t len, uint8_t *out)
{
    uint8_t sent[AEAD_TAG], tag[AEAD_TAG];
    const struct iovec piece = {(void *)(uintptr_t)in, len};
    const struct aead_message m = {key, nonce, aad, aead_key_len(a), aad_len, &piece, 1};
    memcpy(sent, in + len, AEAD_TAG); /* out may be in, and the tag be written over */
    crypt(a, &m, false, out, tag);
    if (same(sent, tag, AEAD_TAG)) return true;
    mbedtls_platform_zeroize(out, len);
    return false;
}

const char *aead_text(enum aead a)
{
    static const char *const names[] = {"AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305"};
    return names[a];
}

/* ---- known answers ---- */

static const uint8_t gcm_plain[] = {/* McGrew and Viega, test cases 4 and 16 */
                                    0xd9, 0x31, 0x32, 0x25, 0xf8, 0x84, 0x06, 0xe5, 0xa5, 0x59,
                                    0x09, 0xc5, 0xaf, 0xf5, 0x26, 0x9a, 0x86, 0xa7, 0xa9, 0x53,
                                    0x15, 0x34, 0xf7, 0xda, 0x2e, 0x4c, 0x30, 0x3d, 0x8a, 0x31,
                                    0x8a, 0x72, 0x1c, 0x3c, 0x0c, 0x95, 0x95, 0x68, 0x09, 0x53,
                                    0x2f, 0xcf, 0x0e, 0x24, 0x49, 0xa6, 0xb5, 0x25, 0xb1, 0x6a,
                                    0xed, 0xf5, 0xaa, 0x0d, 0xe6, 0x57, 0xba, 0x63, 0x7b, 0x39};

static const char chacha_plain[] = /* RFC 8439 section 2.8.2 */
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
    "sunscreen would be it.";

static const struct known {
    enum aead aead;
    uint8_t key[32], nonce[AEAD_NONCE], aad[20];
    size_t aad_len;
    const void *plain;
    size_t len;
    uint8_t tag[AEAD_TAG]; /* which depends on every byte of the ciphertext */
} known[] = {
    {AEAD_AES_128_GCM,
     {0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83,
      0x08},
     {0xca, 0xfe, 0xba, 0xbe, 0xfa, 0xce, 0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88},
     {0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xfe, 0xed,
      0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xab, 0xad, 0xda, 0xd2},
     20,
     gcm_plain,
     sizeof gcm_plain,
     {0x5b, 0xc9, 0x4f, 0xbc, 0x32, 0x21, 0xa5, 0xdb, 0x94, 0xfa, 0xe9, 0x5a, 0xe7, 0x12, 0x1a,
      0x47}},
    {AEAD_AES_256_GCM,
     {0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c, 0x6d, 0x6a, 0x8f,
      0x94, 0x67, 0x30, 0x83, 0x08, 0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65,
      0x73, 0x1c, 0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08},
     {0xca, 0xfe, 0xba, 0xbe, 0xfa, 0xce, 0xdb, 0xad, 0xde, 0xca, 0xf8, 0x88},
     {0xfe, 0xed, 0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xfe, 0xed,
      0xfa, 0xce, 0xde, 0xad, 0xbe, 0xef, 0xab, 0xad, 0xda, 0xd2},
     20,
     gcm_plain,
     sizeof gcm_plain,
     {0x76, 0xfc, 0x6e, 0xce, 0x0f, 0x4e, 0x17, 0x68, 0xcd, 0xdf, 0x88, 0x53, 0xbb, 0x2d, 0x55,
      0x1b}},
    {AEAD_CHACHA20_POLY1305,
     {0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a,
      0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0x90, 0x91, 0x92, 0x93, 0x94, 0x95,
      0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f},
     {0x07, 0x00, 0x00, 0x00, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47},
     {0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7},
     12,
     chacha_plain,
     sizeof chacha_plain - 1,
     {0x1a, 0xe1, 0x0b, 0x59, 0x4f, 0x09, 0xe2, 0x6a, 0x7e, 0x90, 0x2e, 0xcb, 0xd0, 0x60, 0x06,
      0x91}},
};

static bool answers(const struct known *k)
{
    uint8_t sealed[128 + AEAD_TAG], opened[128];
    const struct iovec pieces[2] = {{(void *)(uintptr_t)k->plain, 17},
                                    {(char *)(uintptr_t)k->plain + 17, k->len - 17}};
    aead_seal(k->aead, k->key, k->nonce, k->aad, k->aad_len, pieces, 2, sealed);
    if (memcmp(sealed + k->len, k->tag, AEAD_TAG) != 0) return false;
    if (!aead_open(k->aead, k->key, k->nonce, k->aad, k->aad_len, sealed, k->len, opened) ||
        memcmp(opened, k->plain, k->len) != 0)
        return false;
    sealed[k->len - 1] ^= 1;
    return !aead_open(k->aead, k->key, k->nonce, k->aad, k->aad_len, sealed, k->len, opened);
}

/* agrees: the kernel in use and mbedTLS's way give the same, at lengths around its strides. */
static bool agrees(enum aead a)
{
    static const uint8_t key[AEAD_KEY_MAX] = {1, 2, 3}, nonce[AEAD_NONCE] = {4}, text[300] = {5, 6};
    uint8_t mine[sizeof text + AEAD_TAG], theirs[sizeof text + AEAD_TAG];
    for (size_t len = 0; len <= sizeof text; len += 13) {
        const struct iovec pieces[2] = {{(void *)(uintptr_t)text, len / 2},
                                        {(void *)(uintptr_t)(text + len / 2), len - len / 2}};
        const struct aead_message m = {key, nonce, text, aead_key_len(a), 13, pieces, 2};
        aead_seal(a, key, nonce, text, 13, pieces, 2, mine);
        crypt_gcm(&m, true, theirs, theirs + len);
        if (memcmp(mine, theirs, len + AEAD_TAG) != 0) return false;
    }
    return true;
}

bool aead_self_test(enum aead a)
{
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].aead == a && !answers(&known[i])) return false;
    return a == AEAD_CHACHA20_POLY1305 || agrees(a);
}
