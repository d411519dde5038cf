/* curves/internal.h - between curves.c and curves/hogweed.c; nobody else includes it, but for their
 * tests. Numbers and points are mbedTLS's; errors as well. Any thread. */
#ifndef CURVES_INTERNAL_H
#define CURVES_INTERNAL_H

#define MBEDTLS_ALLOW_PRIVATE_ACCESS /* the coordinates of a point */

#include <mbedtls/ecdsa.h>
#include <mbedtls/ecp.h>
#include <stdbool.h>

/* hogweed_has: is there faster code for this curve? Where roost is built without Nettle's library:
 * for none, and the others are not called. */
bool hogweed_has(mbedtls_ecp_group_id id);

/* hogweed_multiply: R = m * P; R may be P. The caller has looked at m and P. */
int hogweed_multiply(const mbedtls_ecp_group *grp, mbedtls_ecp_point *R, const mbedtls_mpi *m,
                     const mbedtls_ecp_point *P);

/* hogweed_sign signs as mbedtls_ecdsa_write_signature does: k by RFC 6979, so that both give the
 * same bytes; DER (RFC 3279 section 2.2.3) of *sig_len bytes into sig. */
int hogweed_sign(const mbedtls_ecp_keypair *key, mbedtls_md_type_t md, const uint8_t *hash,
                 size_t hash_len, uint8_t *sig, size_t sig_size, size_t *sig_len);

/* hogweed_memory: how much of an operation's memory this thread has ever needed, of *room bytes. */
size_t hogweed_memory(size_t *room);

/* hogweed_x25519_base: RFC 7748 section 5, of the base point. */
void hogweed_x25519_base(uint8_t product[static 32], const uint8_t scalar[static 32]);

#endif
