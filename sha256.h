/* sha256.h - the SHA-256 compression function (FIPS 180-4 section 6.2) on x86-64's SHA
 * instructions.
 *
 * mbedTLS calls it for everything it hashes (handshakes, HMAC, HS256) through the hook
 * mbedtls_internal_sha256_process, which sha256.c defines; callers use mbedTLS's functions.
 * Pure functions, no allocation. Any thread. */
#ifndef SHA256_H
#define SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* sha256_blocks hashes blocks * 64 bytes into state, which holds a..h of the standard. Takes the
 * instructions if this CPU has them, else the portable way. Time depends on blocks alone. */
void sha256_blocks(uint32_t state[static 8], const uint8_t *data, size_t blocks);

/* sha256_blocks_portable is the plain C way, for other CPUs and as the other one's test. */
void sha256_blocks_portable(uint32_t state[static 8], const uint8_t *data, size_t blocks);

/* sha256_accelerated says whether sha256_blocks uses the instructions. */
bool sha256_accelerated(void);

#endif
