/* aead/internal.h - what aead.c and the kernels of aead/ share; nobody else includes it, but for
 * their tests and benchmarks. */
#ifndef AEAD_INTERNAL_H
#define AEAD_INTERNAL_H

#include "aead.h"

/* Our kernels: on amd64, unless the build is to have mbedTLS alone (make MINIMAL=1). */
#if defined(__x86_64__) && !defined(ROOST_MINIMAL)
#define AEAD_AESNI
#endif

struct aead_message { /* one to be sealed (pieces) or opened (one piece) */
    const uint8_t *key, *nonce, *aad;
    size_t key_len, aad_len;
    const struct iovec *pieces;
    unsigned count;
};

/* A way to do AES-GCM. crypt writes as many bytes as the pieces have to out, and the tag of what is
 * sealed, or should have been. */
struct aead_kernel {
    const char *name;
    bool (*works)(void); /* on this CPU */
    void (*crypt)(const struct aead_message *m, bool seal, uint8_t *out,
                  uint8_t tag[static AEAD_TAG]);
};

extern const struct aead_kernel aead_mbedtls; /* everywhere */
#ifdef AEAD_AESNI
extern const struct aead_kernel aead_aesni; /* AES-NI, PCLMULQDQ, AVX */
extern const struct aead_kernel aead_vaes;  /* and VAES, VPCLMULQDQ, AVX2 */
#endif

/* aead_use makes k (NULL: the best that works here) the one in use; before other threads seal. */
void aead_use(const struct aead_kernel *k);

#endif
