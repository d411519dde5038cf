/* aead.h - the three AEADs of TLS (RFC 5116: AES-128-GCM and AES-256-GCM, NIST SP 800-38D; RFC
 * 8439: ChaCha20-Poly1305), one call a message.
 *
 * Keys come raw with each call: nothing is kept of them, and what was made of them on the stack is
 * wiped. Nothing is allocated. Time depends on lengths alone where the CPU has instructions for
 * AES. Threads: any. Sizes are bytes. */
#ifndef AEAD_H
#define AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum aead { AEAD_AES_128_GCM, AEAD_AES_256_GCM, AEAD_CHACHA20_POLY1305, AEADS };

#define AEAD_TAG 16u
#define AEAD_NONCE 12u
#define AEAD_KEY_MAX 32u

static inline size_t aead_key_len(enum aead a)
{
    return a == AEAD_AES_128_GCM ? 16 : 32;
}

const char *aead_text(enum aead a); /* "AES-128-GCM" */

/* aead_seal encrypts the bytes of count pieces, in their order, to out, and puts the tag behind
 * them. out does not overlap with them. */
void aead_seal(enum aead a, const uint8_t *key, const uint8_t nonce[static AEAD_NONCE],
               const uint8_t *aad, size_t aad_len, const struct iovec *pieces, unsigned count,
               uint8_t *out);

/* aead_open decrypts len bytes, behind which the tag lies, to out, which may be in itself or begin
 * in front of it, and does not overlap with it otherwise. False: the tag is wrong, and out is
 * zeros. */
bool aead_open(enum aead a, const uint8_t *key, const uint8_t nonce[static AEAD_NONCE],
               const uint8_t *aad, size_t aad_len, const uint8_t *in, size_t len, uint8_t *out);

/* aead_kernel names what does AES-GCM on this CPU: "mbedTLS" ... */
const char *aead_kernel(void);

/* aead_self_test: known answers. False: it must not be used. */
bool aead_self_test(enum aead a);

#endif
