/* P-256 and P-384 by Nettle's hogweed library, over GMP, whose time does not depend on secrets
 * either: a signature of P-256 takes it a seventh of what mbedTLS's big numbers need.
 *
 * GMP asks for memory and can not be told that there is none. What is needed here is small and the
 * same each time, so each thread has an arena for it, which is emptied, and wiped, at the end of
 * each operation. */
#include "curves/internal.h"

#ifdef ROOST_HOGWEED

#include <gmp.h>
#include <mbedtls/hmac_drbg.h>
#include <mbedtls/platform_util.h>
#include <nettle/curve25519.h>
#include <nettle/ecc-curve.h>
#include <nettle/ecc.h>
#include <nettle/ecdsa.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory ---- */

enum { ARENA_BYTES = 16 * 1024, ALIGN = 16, COORDINATE_MAX = 48 };

static _Thread_local struct {
    size_t used, most;
    _Alignas(ALIGN) uint8_t bytes[ARENA_BYTES];
} arena;

static void *arena_alloc(size_t size)
{
    size = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (size > ARENA_BYTES - arena.used) abort(); /* tests/test_curves.c: half of it is enough */
    void *p = arena.bytes + arena.used;
    arena.used += size;
    return p;
}

static void *arena_realloc(void *old, size_t old_size, size_t size)
{
    void *p = arena_alloc(size);
    memcpy(p, old, old_size < size ? old_size : size);
    return p;
}

static void arena_free(void *p, size_t size)
{
    (void)p;
    (void)size;
}

static void arena_empty(void)
{
    mbedtls_platform_zeroize(arena.bytes, arena.used);
    if (arena.used > arena.most) arena.most = arena.used;
    arena.used = 0;
}

size_t hogweed_memory(size_t *room)
{
    *room = ARENA_BYTES;
    return arena.most;
}

__attribute__((constructor)) static void give_gmp_the_arena(void)
{
    mp_set_memory_functions(arena_alloc, arena_realloc, arena_free);
}

/* ---- numbers ---- */

static const struct ecc_curve *curve_of(mbedtls_ecp_group_id id)
{
    if (id == MBEDTLS_ECP_DP_SECP256R1) return nettle_get_secp_256r1();
    if (id == MBEDTLS_ECP_DP_SECP384R1) return nettle_get_secp_384r1();
    return NULL;
}

bool hogweed_has(mbedtls_ecp_group_id id)
{
    return curve_of(id) != NULL;
}

static size_t bytes_of(const mbedtls_ecp_group *grp)
{
    return (grp->pbits + 7) / 8;
}

static int to_mpz(mpz_t z, const mbedtls_mpi *n)
{
    uint8_t bytes[COORDINATE_MAX];
    const int rc = mbedtls_mpi_write_binary(n, bytes, sizeof bytes);
    if (rc == 0) mpz_import(z, sizeof bytes, 1, 1, 0, 0, bytes);
    mbedtls_platform_zeroize(bytes, sizeof bytes);
    return rc;
}

/* bytes_from writes z as len bytes, big-endian. */
static void bytes_from(uint8_t *out, size_t len, const mpz_t z)
{
    const size_t n = (mpz_sizeinbase(z, 2) + 7) / 8;
    memset(out, 0, len);
    mpz_export(out + len - n, NULL, 1, 1, 0, 0, z);
}

static int from_mpz(mbedtls_mpi *n, size_t len, const mpz_t z)
{
    uint8_t bytes[COORDINATE_MAX];
    bytes_from(bytes, len, z);
    const int rc = mbedtls_mpi_read_binary(n, bytes, len);
    mbedtls_platform_zeroize(bytes, sizeof bytes);
    return rc;
}

/* ---- multiplication ---- */

static int set_scalar(struct ecc_scalar *s, const mbedtls_mpi *m)
{
    mpz_t z;
    mpz_init(z);
    const int rc = to_mpz(z, m);
    return rc ? rc : ecc_scalar_set(s, z) ? 0 : MBEDTLS_ERR_ECP_INVALID_KEY;
}

static int set_point(struct ecc_point *p, const mbedtls_ecp_point *from)
{
    mpz_t x, y;
    mpz_init(x);
    mpz_init(y);
    int rc = to_mpz(x, &from->X);
    if (rc == 0) rc = to_mpz(y, &from->Y);
    return rc ? rc : ecc_point_set(p, x, y) ? 0 : MBEDTLS_ERR_ECP_INVALID_KEY;
}

static int get_point(const mbedtls_ecp_group *grp, mbedtls_ecp_point *to, const struct ecc_point *p)
{
    mpz_t x, y;
    mpz_init(x);
    mpz_init(y);
    ecc_point_get(p, x, y);
    int rc = from_mpz(&to->X, bytes_of(grp), x);
    if (rc == 0) rc = from_mpz(&to->Y, bytes_of(grp), y);
    if (rc == 0) rc = mbedtls_mpi_lset(&to->Z, 1);
    return rc;
}

static bool is_base(const mbedtls_ecp_group *grp, const mbedtls_ecp_point *P)
{
    return mbedtls_mpi_cmp_mpi(&P->X, &grp->G.X) == 0 && mbedtls_mpi_cmp_mpi(&P->Y, &grp->G.Y) == 0;
}

int hogweed_multiply(const mbedtls_ecp_group *grp, mbedtls_ecp_point *R, const mbedtls_mpi *m,
                     const mbedtls_ecp_point *P)
{
    const struct ecc_curve *curve = curve_of(grp->id);
    struct ecc_scalar scalar;
    struct ecc_point point, product;
    ecc_scalar_init(&scalar, curve);
    ecc_point_init(&point, curve);
    ecc_point_init(&product, curve);
    int rc = set_scalar(&scalar, m);
    if (rc == 0 && is_base(grp, P)) {
        ecc_point_mul_g(&product, &scalar);
    } else if (rc == 0) {
        rc = set_point(&point, P);
        if (rc == 0) ecc_point_mul(&product, &scalar, &point);
    }
    if (rc == 0) rc = get_point(grp, R, &product);
    arena_empty();
    return rc;
}

/* ---- signatures ---- */

struct nonces { /* k, by RFC 6979 section 3.2 */
    mbedtls_hmac_drbg_context drbg;
    int rc;
};

/* seed: RFC 6979 section 3.2 takes the key and the hash, reduced, as HMAC_DRBG's entropy and nonce.
 */
static int seed(struct nonces *n, const mbedtls_ecp_keypair *key, mbedtls_md_type_t md,
                const uint8_t *hash, size_t hash_len)
{
    uint8_t data[2 * COORDINATE_MAX];
    const size_t len = bytes_of(&key->grp);
    mbedtls_mpi h;
    mbedtls_mpi_init(&h);
    int rc = mbedtls_mpi_write_binary(&key->d, data, len);
    if (rc == 0) rc = mbedtls_mpi_read_binary(&h, hash, hash_len < len ? hash_len : len);
    if (rc == 0 && mbedtls_mpi_cmp_mpi(&h, &key->grp.N) >= 0)
        rc = mbedtls_mpi_sub_mpi(&h, &h, &key->grp.N);
    if (rc == 0) rc = mbedtls_mpi_write_binary(&h, data + len, len);
    if (rc == 0)
        rc = mbedtls_hmac_drbg_seed_buf(&n->drbg, mbedtls_md_info_from_type(md), data, 2 * len);
    mbedtls_mpi_free(&h);
    mbedtls_platform_zeroize(data, sizeof data);
    return rc;
}

/* draw is hogweed's source of k; it goes on asking until k is in range, so it gets one. */
static void draw(void *ctx, size_t len, uint8_t *out)
{
    struct nonces *n = ctx;
    if (n->rc == 0) n->rc = mbedtls_hmac_drbg_random(&n->drbg, out, len);
    if (n->rc != 0) memset(out, 1, len); /* the signature will be thrown away */
}

/* put_integer writes an INTEGER of DER; returns its length. */
static size_t put_integer(uint8_t *out, const mpz_t z)
{
    uint8_t bytes[COORDINATE_MAX + 1];
    const size_t n = mpz_sizeinbase(z, 2) / 8 + 1; /* a zero in front, if the first bit is set */
    bytes_from(bytes, n, z);
    out[0] = 0x02;
    out[1] = (uint8_t)n;
    memcpy(out + 2, bytes, n);
    return 2 + n;
}

static int put_signature(uint8_t *sig, size_t sig_size, size_t *sig_len,
                         const struct dsa_signature *s)
{
    uint8_t der[2 + 2 * (2 + COORDINATE_MAX + 1)];
    size_t n = 2;
    n += put_integer(der + n, s->r);
    n += put_integer(der + n, s->s);
    der[0] = 0x30;
    der[1] = (uint8_t)(n - 2); /* below 128 */
    if (n > sig_size) return MBEDTLS_ERR_ECP_BUFFER_TOO_SMALL;
    memcpy(sig, der, n);
    *sig_len = n;
    return 0;
}

int hogweed_sign(const mbedtls_ecp_keypair *key, mbedtls_md_type_t md, const uint8_t *hash,
                 size_t hash_len, uint8_t *sig, size_t sig_size, size_t *sig_len)
{
    struct nonces nonces = {.rc = 0};
    struct ecc_scalar scalar;
    struct dsa_signature s;
    mbedtls_hmac_drbg_init(&nonces.drbg);
    ecc_scalar_init(&scalar, curve_of(key->grp.id));
    dsa_signature_init(&s);
    int rc = set_scalar(&scalar, &key->d);
    if (rc == 0) rc = seed(&nonces, key, md, hash, hash_len);
    if (rc == 0) {
        ecdsa_sign(&scalar, &nonces, draw, hash_len, hash, &s);
        rc = nonces.rc;
    }
    if (rc == 0) rc = put_signature(sig, sig_size, sig_len, &s);
    mbedtls_hmac_drbg_free(&nonces.drbg);
    arena_empty();
    return rc;
}

void hogweed_x25519_base(uint8_t product[static 32], const uint8_t scalar[static 32])
{
    curve25519_mul_g(product, scalar);
    arena_empty();
}

#else

bool hogweed_has(mbedtls_ecp_group_id id)
{
    (void)id;
    return false;
}

#endif
