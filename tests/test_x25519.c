/* test_x25519.c - Curve25519 through mbedTLS's functions: RFC 7748's vectors, and Everest's code
 * against the ladder. */
#define MBEDTLS_ALLOW_PRIVATE_ACCESS
#include <mbedtls/ecdh.h>
#include <mbedtls/ecp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
/* cmocka.h wants the above */
#include <cmocka.h>

int __real_mbedtls_ecp_mul(mbedtls_ecp_group *grp, mbedtls_ecp_point *R, const mbedtls_mpi *m,
                           const mbedtls_ecp_point *P,
                           int (*f_rng)(void *, unsigned char *, size_t), void *p_rng);

static int rng(void *unused, unsigned char *out, size_t len)
{
    (void)unused;
    return getrandom(out, len, 0) == (ssize_t)len ? 0 : -1;
}

static void unhex(uint8_t out[32], const char *text)
{
    for (size_t i = 0; i < 32; i++) assert_int_equal(sscanf(text + 2 * i, "%2hhx", &out[i]), 1);
}

static void clamp(uint8_t k[32])
{
    k[0] &= 248;
    k[31] = (uint8_t)((k[31] & 127) | 64);
}

enum way { WRAPPED, WRAPPED_RESTARTABLE, LADDER };

/* out = k * u, all little-endian as in RFC 7748; what mbedTLS answers */
static int x25519(enum way way, uint8_t out[32], const uint8_t k[32], const uint8_t u[32])
{
    uint8_t scalar[32];
    mbedtls_ecp_group grp;
    mbedtls_ecp_point p, r;
    mbedtls_mpi m;
    int rc = -1;

    mbedtls_ecp_group_init(&grp);
    mbedtls_ecp_point_init(&p);
    mbedtls_ecp_point_init(&r);
    mbedtls_mpi_init(&m);
    memcpy(scalar, k, 32);
    clamp(scalar);
    assert_int_equal(mbedtls_ecp_group_load(&grp, MBEDTLS_ECP_DP_CURVE25519), 0);
    assert_int_equal(mbedtls_ecp_point_read_binary(&grp, &p, u, 32), 0);
    assert_int_equal(mbedtls_mpi_read_binary_le(&m, scalar, 32), 0);
    switch (way) {
    case WRAPPED: rc = mbedtls_ecp_mul(&grp, &r, &m, &p, rng, NULL); break;
    case WRAPPED_RESTARTABLE:
        rc = mbedtls_ecp_mul_restartable(&grp, &r, &m, &p, rng, NULL, NULL);
        break;
    case LADDER: rc = __real_mbedtls_ecp_mul(&grp, &r, &m, &p, rng, NULL); break;
    }
    if (rc == 0) {
        size_t len;
        assert_int_equal(
            mbedtls_ecp_point_write_binary(&grp, &r, MBEDTLS_ECP_PF_UNCOMPRESSED, &len, out, 32),
            0);
        assert_int_equal(len, 32);
    }
    mbedtls_ecp_group_free(&grp);
    mbedtls_ecp_point_free(&p);
    mbedtls_ecp_point_free(&r);
    mbedtls_mpi_free(&m);
    return rc;
}

static void rfc7748_5_2(void **state)
{
    (void)state;
    static const struct {
        const char *k, *u, *out;
    } rows[] = {
        {"a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
         "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
         "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"},
        {"4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
         "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493", /* top bit is ignored
                                                                              */
         "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t k[32], u[32], want[32], got[32];
        unhex(k, rows[i].k);
        unhex(u, rows[i].u);
        unhex(want, rows[i].out);
        assert_int_equal(x25519(WRAPPED, got, k, u), 0);
        assert_memory_equal(got, want, 32);
        assert_int_equal(x25519(WRAPPED_RESTARTABLE, got, k, u), 0);
        assert_memory_equal(got, want, 32);
    }
}

static void rfc7748_5_2_iterated(void **state)
{
    (void)state;
    uint8_t k[32] = {9}, u[32] = {9}, next[32], want[32];
    for (int i = 1; i <= 1000; i++) {
        assert_int_equal(x25519(WRAPPED, next, k, u), 0);
        memcpy(u, k, 32);
        memcpy(k, next, 32);
        if (i == 1) {
            unhex(want, "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
            assert_memory_equal(k, want, 32);
        }
    }
    unhex(want, "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51");
    assert_memory_equal(k, want, 32);
}

static void like_the_ladder(void **state) /* mbedTLS's own code is the oracle */
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        uint8_t k[32], u[32], a[32], b[32];
        assert_int_equal(rng(NULL, k, 32), 0);
        assert_int_equal(rng(NULL, u, 32), 0);
        assert_int_equal(x25519(WRAPPED, a, k, u), 0);
        assert_int_equal(x25519(LADDER, b, k, u), 0);
        assert_memory_equal(a, b, 32);
    }
}

static void
small_order_is_refused(void **state) /* u = 0, 1 and p - 1 give zero, whatever the scalar */
{
    (void)state;
    static const char *const points[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    };
    uint8_t k[32], u[32], out[32];
    assert_int_equal(rng(NULL, k, 32), 0);
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        unhex(u, points[i]);
        assert_int_not_equal(x25519(WRAPPED, out, k, u), 0);
        assert_int_not_equal(x25519(WRAPPED_RESTARTABLE, out, k, u), 0);
    }
}

static void a_shared_secret(void **state) /* through the functions that a handshake uses */
{
    (void)state;
    mbedtls_ecp_group grp;
    mbedtls_ecp_point qa, qb;
    mbedtls_mpi da, db, za, zb;

    mbedtls_ecp_group_init(&grp);
    mbedtls_ecp_point_init(&qa);
    mbedtls_ecp_point_init(&qb);
    mbedtls_mpi_init(&da);
    mbedtls_mpi_init(&db);
    mbedtls_mpi_init(&za);
    mbedtls_mpi_init(&zb);
    for (int id = MBEDTLS_ECP_DP_CURVE25519;; id = MBEDTLS_ECP_DP_SECP256R1) {
        assert_int_equal(mbedtls_ecp_group_load(&grp, (mbedtls_ecp_group_id)id), 0);
        assert_int_equal(mbedtls_ecdh_gen_public(&grp, &da, &qa, rng, NULL), 0);
        assert_int_equal(mbedtls_ecdh_gen_public(&grp, &db, &qb, rng, NULL), 0);
        assert_int_equal(mbedtls_ecdh_compute_shared(&grp, &za, &qb, &da, rng, NULL), 0);
        assert_int_equal(mbedtls_ecdh_compute_shared(&grp, &zb, &qa, &db, rng, NULL), 0);
        assert_int_equal(mbedtls_mpi_cmp_mpi(&za, &zb), 0);
        if (id == MBEDTLS_ECP_DP_SECP256R1) break;
    }
    mbedtls_ecp_group_free(&grp);
    mbedtls_ecp_point_free(&qa);
    mbedtls_ecp_point_free(&qb);
    mbedtls_mpi_free(&da);
    mbedtls_mpi_free(&db);
    mbedtls_mpi_free(&za);
    mbedtls_mpi_free(&zb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc7748_5_2),     cmocka_unit_test(rfc7748_5_2_iterated),
        cmocka_unit_test(like_the_ladder), cmocka_unit_test(small_order_is_refused),
        cmocka_unit_test(a_shared_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
