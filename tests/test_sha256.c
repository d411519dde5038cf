/* test_sha256.c - the compression function against the standard's examples, and both ways against
 * each other. */
#include "sha256.h"

#include <mbedtls/md.h>
#include <mbedtls/sha256.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h wants the above */
#include <cmocka.h>

#include "guard.h"

static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

static void hex(char *out, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        out[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    out[2 * len] = '\0';
}

static void through_mbedtls(void **state) /* FIPS 180-4's examples, RFC 4231's HMAC */
{
    (void)state;
    static const struct {
        const char *message, *digest;
    } rows[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqr"
         "lmnopqrsmnopqrstnopqrstu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    uint8_t digest[32];
    char text[65];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *m = rows[i].message;
        assert_int_equal(mbedtls_sha256((const uint8_t *)m, strlen(m), digest, 0), 0);
        hex(text, digest, sizeof(digest));
        assert_string_equal(text, rows[i].digest);
    }

    static const char *key = "Jefe",
                      *data = "what do ya want for nothing?"; /* RFC 4231 test case 2 */
    const mbedtls_md_info_t *md = mbedtls_md_info_from_type(MBEDTLS_MD_SHA256);
    assert_int_equal(mbedtls_md_hmac(md, (const uint8_t *)key, strlen(key), (const uint8_t *)data,
                                     strlen(data), digest),
                     0);
    hex(text, digest, sizeof(digest));
    assert_string_equal(text, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

static void portable_vector(void **state) /* "abc" padded to its one block */
{
    (void)state;
    uint8_t block[64] = {'a', 'b', 'c', 0x80};
    block[63] = 24;
    uint32_t s[8];
    memcpy(s, initial, sizeof(s));
    sha256_blocks_portable(s, block, 1);
    assert_int_equal(s[0], 0xba7816bf);
    assert_int_equal(s[7], 0xf20015ad);
}

static void both_ways_agree(void **state)
{
    (void)state;
    if (!sha256_accelerated()) {
        print_message("this CPU has no SHA instructions: both ways are one\n");
        skip();
    }
    srandom(1);
    for (int round = 0; round < 2000; round++) {
        size_t blocks = (size_t)random() % 9;
        uint8_t *data = guard_copy(NULL, 64 * blocks); /* ends at an unreadable page */
        for (size_t i = 0; i < 64 * blocks; i++) data[i] = (uint8_t)random();
        uint32_t a[8], b[8];
        for (size_t i = 0; i < 8; i++) a[i] = b[i] = (uint32_t)random() << 1 ^ (uint32_t)random();
        sha256_blocks(a, data, blocks);
        sha256_blocks_portable(b, data, blocks);
        assert_memory_equal(a, b, sizeof(a));
        guard_free(data, 64 * blocks);
    }
}

static void in_pieces(void **state) /* the same bytes whole and cut anywhere give one digest */
{
    (void)state;
    uint8_t message[300], whole[32], cut[32];
    for (size_t i = 0; i < sizeof(message); i++) message[i] = (uint8_t)(i * 7);
    assert_int_equal(mbedtls_sha256(message, sizeof(message), whole, 0), 0);
    for (size_t at = 0; at <= sizeof(message); at++) {
        mbedtls_sha256_context ctx;
        mbedtls_sha256_init(&ctx);
        assert_int_equal(mbedtls_sha256_starts(&ctx, 0), 0);
        assert_int_equal(mbedtls_sha256_update(&ctx, message, at), 0);
        assert_int_equal(mbedtls_sha256_update(&ctx, message + at, sizeof(message) - at), 0);
        assert_int_equal(mbedtls_sha256_finish(&ctx, cut), 0);
        mbedtls_sha256_free(&ctx);
        assert_memory_equal(cut, whole, sizeof(whole));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(through_mbedtls),
        cmocka_unit_test(portable_vector),
        cmocka_unit_test(both_ways_agree),
        cmocka_unit_test(in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
