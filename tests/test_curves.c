/* test_curves.c - curves through mbedTLS's functions: RFC 7748's vectors and Everest's code against
 * the ladder; P-256 and P-384 by hogweed against mbedTLS's own, and RFC 6979's vectors. */
#include "../curves/internal.h"

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

int __real_mbedtls_ecdsa_write_signature(mbedtls_ecdsa_context *ctx, mbedtls_md_type_t md_alg,
                                         const unsigned char *hash, size_t hlen, unsigned char *sig,
                                         size_t sig_size, size_t *slen,
                                         int (*f_rng)(void *, unsigned char *, size_t),
                                         void *p_rng);

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

/* ---- hogweed's curves ---- */

static const mbedtls_ecp_group_id curves[] = {MBEDTLS_ECP_DP_SECP256R1, MBEDTLS_ECP_DP_SECP384R1};

static void same_product(mbedtls_ecp_group *grp, const mbedtls_mpi *m, const mbedtls_ecp_point *P)
{
    mbedtls_ecp_point fast, slow;
    mbedtls_ecp_point_init(&fast);
    mbedtls_ecp_point_init(&slow);
    assert_int_equal(mbedtls_ecp_mul(grp, &fast, m, P, rng, NULL), 0);
    assert_int_equal(__real_mbedtls_ecp_mul(grp, &slow, m, P, rng, NULL), 0);
    assert_int_equal(mbedtls_ecp_point_cmp(&fast, &slow), 0);
    mbedtls_ecp_point_free(&fast);
    mbedtls_ecp_point_free(&slow);
}

/* Scalars at both ends, and many others; the base point, others, and R that is P. */
static void multiplies_like_mbedtls(void **state)
{
    (void)state;
    for (size_t c = 0; c < 2; c++) {
        mbedtls_ecp_group grp;
        mbedtls_ecp_point p;
        mbedtls_mpi m;
        mbedtls_ecp_group_init(&grp);
        mbedtls_ecp_point_init(&p);
        mbedtls_mpi_init(&m);
        assert_int_equal(mbedtls_ecp_group_load(&grp, curves[c]), 0);
        assert_int_equal(mbedtls_ecp_copy(&p, &grp.G), 0);
        for (int i = 0; i < 60; i++) {
            if (i < 10)
                assert_int_equal(mbedtls_mpi_lset(&m, i + 1), 0);
            else if (i < 20)
                assert_int_equal(mbedtls_mpi_sub_int(&m, &grp.N, i - 9), 0);
            else
                assert_int_equal(mbedtls_ecp_gen_privkey(&grp, &m, rng, NULL), 0);
            same_product(&grp, &m, &grp.G);
            same_product(&grp, &m, &p);
            if (i % 3) assert_int_equal(mbedtls_ecp_mul(&grp, &p, &m, &p, rng, NULL), 0);
        }
        mbedtls_ecp_group_free(&grp);
        mbedtls_ecp_point_free(&p);
        mbedtls_mpi_free(&m);
    }
}

/* What a peer may send: a point that is not on the curve, or none. */
static void refuses_bad_points(void **state)
{
    (void)state;
    for (size_t c = 0; c < 2; c++) {
        mbedtls_ecp_group grp;
        mbedtls_ecp_point p, r;
        mbedtls_mpi m;
        mbedtls_ecp_group_init(&grp);
        mbedtls_ecp_point_init(&p);
        mbedtls_ecp_point_init(&r);
        mbedtls_mpi_init(&m);
        assert_int_equal(mbedtls_ecp_group_load(&grp, curves[c]), 0);
        assert_int_equal(mbedtls_ecp_gen_privkey(&grp, &m, rng, NULL), 0);
        assert_int_equal(mbedtls_ecp_copy(&p, &grp.G), 0);
        assert_int_equal(mbedtls_mpi_add_int(&p.Y, &p.Y, 1), 0);
        assert_int_not_equal(mbedtls_ecp_mul(&grp, &r, &m, &p, rng, NULL), 0);
        assert_int_equal(mbedtls_ecp_set_zero(&p), 0);
        assert_int_not_equal(mbedtls_ecp_mul(&grp, &r, &m, &p, rng, NULL), 0);
        assert_int_equal(mbedtls_mpi_lset(&m, 0), 0);
        assert_int_not_equal(mbedtls_ecp_mul(&grp, &r, &m, &grp.G, rng, NULL), 0);
        assert_int_equal(mbedtls_mpi_copy(&m, &grp.N), 0);
        assert_int_not_equal(mbedtls_ecp_mul(&grp, &r, &m, &grp.G, rng, NULL), 0);
        mbedtls_ecp_group_free(&grp);
        mbedtls_ecp_point_free(&p);
        mbedtls_ecp_point_free(&r);
        mbedtls_mpi_free(&m);
    }
}

/* k is a function of key and hash, so both give the same signature; and it is good. */
static void signs_like_mbedtls(void **state)
{
    (void)state;
    static const mbedtls_md_type_t hashes[] = {MBEDTLS_MD_SHA256, MBEDTLS_MD_SHA384,
                                               MBEDTLS_MD_SHA512};
    static const size_t lens[] = {32, 48, 64};
    for (int i = 0; i < 60; i++) {
        mbedtls_ecdsa_context key;
        uint8_t hash[64], fast[MBEDTLS_ECDSA_MAX_LEN], slow[MBEDTLS_ECDSA_MAX_LEN];
        size_t fast_len = 0, slow_len = 0;
        mbedtls_ecdsa_init(&key);
        assert_int_equal(mbedtls_ecdsa_genkey(&key, curves[i % 2], rng, NULL), 0);
        assert_int_equal(rng(NULL, hash, sizeof hash), 0);
        if (i > 50) memset(hash, 0xff, sizeof hash); /* above the order */
        const int h = i % 3;
        assert_int_equal(mbedtls_ecdsa_write_signature(&key, hashes[h], hash, lens[h], fast,
                                                       sizeof fast, &fast_len, rng, NULL),
                         0);
        assert_int_equal(__real_mbedtls_ecdsa_write_signature(&key, hashes[h], hash, lens[h], slow,
                                                              sizeof slow, &slow_len, rng, NULL),
                         0);
        assert_int_equal(fast_len, slow_len);
        assert_memory_equal(fast, slow, fast_len);
        assert_int_equal(mbedtls_ecdsa_read_signature(&key, hash, lens[h], fast, fast_len), 0);
        assert_int_not_equal(mbedtls_ecdsa_write_signature(&key, hashes[h], hash, lens[h], fast,
                                                           fast_len - 1, &slow_len, rng, NULL),
                             0); /* no room */
        mbedtls_ecdsa_free(&key);
    }
}

static void rfc6979_a_2_5(void **state) /* P-256, SHA-256, "sample" */
{
    (void)state;
    static const char key_text[] =
        "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721";
    static const char r_text[] = "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716";
    static const char s_text[] = "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8";
    uint8_t d[32], r[32], s[32], hash[32], sig[80];
    size_t len;
    mbedtls_ecdsa_context key;
    unhex(d, key_text);
    unhex(r, r_text);
    unhex(s, s_text);
    mbedtls_ecdsa_init(&key);
    assert_int_equal(mbedtls_ecp_group_load(&key.grp, MBEDTLS_ECP_DP_SECP256R1), 0);
    assert_int_equal(mbedtls_mpi_read_binary(&key.d, d, 32), 0);
    assert_int_equal(mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256),
                                (const unsigned char *)"sample", 6, hash),
                     0);
    assert_int_equal(mbedtls_ecdsa_write_signature(&key, MBEDTLS_MD_SHA256, hash, 32, sig,
                                                   sizeof sig, &len, rng, NULL),
                     0);
    assert_int_equal(len, 72); /* both have their first bit set */
    assert_memory_equal(sig + 5, r, 32);
    assert_memory_equal(sig + 40, s, 32);
    mbedtls_ecdsa_free(&key);
}

/* Its memory can not grow: what all operations of the tests before have needed is at most half of
 * it. */
static void memory_is_enough(void **state)
{
    (void)state;
#ifdef ROOST_HOGWEED
    size_t room;
    const size_t most = hogweed_memory(&room);
    assert_true(most > 1000 && most <= room / 2);
#else
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rfc7748_5_2),        cmocka_unit_test(rfc7748_5_2_iterated),
        cmocka_unit_test(like_the_ladder),    cmocka_unit_test(small_order_is_refused),
        cmocka_unit_test(a_shared_secret),    cmocka_unit_test(multiplies_like_mbedtls),
        cmocka_unit_test(refuses_bad_points), cmocka_unit_test(signs_like_mbedtls),
        cmocka_unit_test(rfc6979_a_2_5),      cmocka_unit_test(memory_is_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
