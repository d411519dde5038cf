/* curves.c - elliptic curves for mbedTLS by faster code than its own.
 *
 * mbedTLS multiplies on Curve25519 (RFC 7748) with the generic ladder over its big numbers: 412 us.
 * It ships Project Everest's verified code as well, 45 us, but calls it in one place only; TLS 1.3
 * goes through PSA, which does not. P-256 and P-384 are Nettle's (curves/hogweed.c), where that is
 * built in. So the linker sends every call of the functions below here (--wrap in the Makefile),
 * and those for other curves on to where they were going. There is no curves.h: the functions are
 * declared by <mbedtls/ecp.h> and <mbedtls/ecdsa.h>, under the names without __wrap_.
 *
 * Calls inside mbedTLS's own files are not seen by the linker: what verifies signatures stays
 * mbedTLS's, which a server does not do. */
#include "curves/internal.h"

#include <mbedtls/platform_util.h>

/* As everest/Hacl_Curve25519.h has it; that header can not be included without its compiler's
 * others. */
void Hacl_Curve25519_crypto_scalarmult(uint8_t *mypublic, uint8_t *secret, uint8_t *basepoint);

typedef int random_fn(void *, unsigned char *, size_t); /* mbedTLS's shape for a random generator */

int __real_mbedtls_ecp_mul(mbedtls_ecp_group *grp, mbedtls_ecp_point *R, const mbedtls_mpi *m,
                           const mbedtls_ecp_point *P, random_fn *f_rng, void *p_rng);
int __real_mbedtls_ecp_mul_restartable(mbedtls_ecp_group *grp, mbedtls_ecp_point *R,
                                       const mbedtls_mpi *m, const mbedtls_ecp_point *P,
                                       random_fn *f_rng, void *p_rng,
                                       mbedtls_ecp_restart_ctx *rs_ctx);
int __wrap_mbedtls_ecp_mul(mbedtls_ecp_group *grp, mbedtls_ecp_point *R, const mbedtls_mpi *m,
                           const mbedtls_ecp_point *P, random_fn *f_rng, void *p_rng);
int __wrap_mbedtls_ecp_mul_restartable(mbedtls_ecp_group *grp, mbedtls_ecp_point *R,
                                       const mbedtls_mpi *m, const mbedtls_ecp_point *P,
                                       random_fn *f_rng, void *p_rng,
                                       mbedtls_ecp_restart_ctx *rs_ctx);
int __real_mbedtls_ecdsa_write_signature(mbedtls_ecdsa_context *ctx, mbedtls_md_type_t md_alg,
                                         const unsigned char *hash, size_t hlen, unsigned char *sig,
                                         size_t sig_size, size_t *slen, random_fn *f_rng,
                                         void *p_rng);
int __wrap_mbedtls_ecdsa_write_signature(mbedtls_ecdsa_context *ctx, mbedtls_md_type_t md_alg,
                                         const unsigned char *hash, size_t hlen, unsigned char *sig,
                                         size_t sig_size, size_t *slen, random_fn *f_rng,
                                         void *p_rng);

/* scalarmult: of the base point (9) faster, where that is built in. */
static void scalarmult(uint8_t product[static 32], uint8_t scalar[static 32], uint8_t u[static 32])
{
#ifdef ROOST_HOGWEED
    uint8_t others = u[0] ^ 9; /* u is no secret */
    for (size_t i = 1; i < 32; i++) others |= u[i];
    if (!others) {
        hogweed_x25519_base(product, scalar);
        return;
    }
#endif
    Hacl_Curve25519_crypto_scalarmult(product, scalar, u);
}

/* x25519: R = m * P; R may be P. As in mbedTLS, m must be a clamped scalar: Everest clamps what it
 * gets, so for any other the two would differ, and mbedtls_ecp_check_privkey refuses it. */
static int x25519(mbedtls_ecp_group *grp, mbedtls_ecp_point *R, const mbedtls_mpi *m,
                  const mbedtls_ecp_point *P)
{
    uint8_t scalar[32], u[32], product[32], any = 0;
    int rc = mbedtls_ecp_check_privkey(grp, m);
    if (rc == 0) rc = mbedtls_ecp_check_pubkey(grp, P);
    if (rc == 0) rc = mbedtls_mpi_write_binary_le(m, scalar, sizeof(scalar));
    if (rc == 0) rc = mbedtls_mpi_write_binary_le(&P->X, u, sizeof(u));
    if (rc != 0) goto end;

    scalarmult(product, scalar, u);
    for (size_t i = 0; i < sizeof(product); i++) any |= product[i];
    if (any ==
        0) { /* RFC 7748 section 6.1, RFC 8446 section 7.4.2: the peer's point is of small order */
        rc = MBEDTLS_ERR_ECP_INVALID_KEY;
        goto end;
    }
    mbedtls_mpi_free(&R->Y); /* there is none on this curve */
    rc = mbedtls_mpi_read_binary_le(&R->X, product, sizeof(product));
    if (rc == 0) rc = mbedtls_mpi_lset(&R->Z, 1);
end:
    mbedtls_platform_zeroize(scalar, sizeof(scalar));
    mbedtls_platform_zeroize(product, sizeof(product));
    return rc;
}

/* weierstrass: R = m * P, of a curve that hogweed has. */
static int weierstrass(mbedtls_ecp_group *grp, mbedtls_ecp_point *R, const mbedtls_mpi *m,
                       const mbedtls_ecp_point *P)
{
#ifdef ROOST_HOGWEED
    int rc = mbedtls_ecp_check_privkey(grp, m);
    if (rc == 0) rc = mbedtls_ecp_check_pubkey(grp, P);
    return rc ? rc : hogweed_multiply(grp, R, m, P);
#else
    (void)grp, (void)R, (void)m, (void)P;
    return MBEDTLS_ERR_ECP_FEATURE_UNAVAILABLE; /* nobody comes here */
#endif
}

int __wrap_mbedtls_ecp_mul(mbedtls_ecp_group *grp, mbedtls_ecp_point *R, const mbedtls_mpi *m,
                           const mbedtls_ecp_point *P, random_fn *f_rng, void *p_rng)
{
    if (grp->id == MBEDTLS_ECP_DP_CURVE25519) return x25519(grp, R, m, P);
    if (hogweed_has(grp->id)) return weierstrass(grp, R, m, P);
    return __real_mbedtls_ecp_mul(grp, R, m, P, f_rng, p_rng);
}

int __wrap_mbedtls_ecp_mul_restartable(mbedtls_ecp_group *grp, mbedtls_ecp_point *R,
                                       const mbedtls_mpi *m, const mbedtls_ecp_point *P,
                                       random_fn *f_rng, void *p_rng,
                                       mbedtls_ecp_restart_ctx *rs_ctx)
{
    if (grp->id == MBEDTLS_ECP_DP_CURVE25519) return x25519(grp, R, m, P);
    if (hogweed_has(grp->id)) return weierstrass(grp, R, m, P);
    return __real_mbedtls_ecp_mul_restartable(grp, R, m, P, f_rng, p_rng, rs_ctx);
}

int __wrap_mbedtls_ecdsa_write_signature(mbedtls_ecdsa_context *ctx, mbedtls_md_type_t md_alg,
                                         const unsigned char *hash, size_t hlen, unsigned char *sig,
                                         size_t sig_size, size_t *slen, random_fn *f_rng,
                                         void *p_rng)
{
#ifdef ROOST_HOGWEED
    if (hogweed_has(ctx->grp.id)) return hogweed_sign(ctx, md_alg, hash, hlen, sig, sig_size, slen);
#endif
    return __real_mbedtls_ecdsa_write_signature(ctx, md_alg, hash, hlen, sig, sig_size, slen, f_rng,
                                                p_rng);
}
