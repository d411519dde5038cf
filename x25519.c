/* x25519.c - Curve25519 (RFC 7748) for mbedTLS by Project Everest's code.
 *
 * mbedTLS multiplies on Curve25519 with the generic ladder over its big numbers: 412 us. It ships
 * Everest's verified code as well, 45 us, but calls it in one place only; TLS 1.3 goes through PSA,
 * which does not. So the linker sends every call of the two functions below here (--wrap in the
 * Makefile), and those for other curves on to where they were going. There is no x25519.h: the
 * functions are declared by <mbedtls/ecp.h>, under the names without __wrap_.
 *
 * Calls inside mbedTLS's ecp.c are not seen by the linker and keep the ladder; the handshake has
 * none. */
#define MBEDTLS_ALLOW_PRIVATE_ACCESS /* the coordinates of a point */
#include <mbedtls/ecp.h>
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

/* R = m * P; R may be P. As in mbedTLS, m must be a clamped scalar: Everest clamps what it gets, so
 * for any other the two would differ, and mbedtls_ecp_check_privkey refuses it. */
static int multiply(mbedtls_ecp_group *grp, mbedtls_ecp_point *R, const mbedtls_mpi *m,
                    const mbedtls_ecp_point *P)
{
    uint8_t scalar[32], u[32], product[32], any = 0;
    int rc = mbedtls_ecp_check_privkey(grp, m);
    if (rc == 0) rc = mbedtls_ecp_check_pubkey(grp, P);
    if (rc == 0) rc = mbedtls_mpi_write_binary_le(m, scalar, sizeof(scalar));
    if (rc == 0) rc = mbedtls_mpi_write_binary_le(&P->X, u, sizeof(u));
    if (rc != 0) goto end;

    Hacl_Curve25519_crypto_scalarmult(product, scalar, u);
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

int __wrap_mbedtls_ecp_mul(mbedtls_ecp_group *grp, mbedtls_ecp_point *R, const mbedtls_mpi *m,
                           const mbedtls_ecp_point *P, random_fn *f_rng, void *p_rng)
{
    if (grp->id == MBEDTLS_ECP_DP_CURVE25519) return multiply(grp, R, m, P);
    return __real_mbedtls_ecp_mul(grp, R, m, P, f_rng, p_rng);
}

int __wrap_mbedtls_ecp_mul_restartable(mbedtls_ecp_group *grp, mbedtls_ecp_point *R,
                                       const mbedtls_mpi *m, const mbedtls_ecp_point *P,
                                       random_fn *f_rng, void *p_rng,
                                       mbedtls_ecp_restart_ctx *rs_ctx)
{
    if (grp->id == MBEDTLS_ECP_DP_CURVE25519) return multiply(grp, R, m, P);
    return __real_mbedtls_ecp_mul_restartable(grp, R, m, P, f_rng, p_rng, rs_ctx);
}
