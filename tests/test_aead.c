#define MBEDTLS_ALLOW_PRIVATE_ACCESS /* round keys */
#include "../aead.h"
#include "../aead/internal.h"
#include "guard.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <mbedtls/aes.h>

/* The AEADs: known answers, every kernel against mbedTLS's primitives at every length around its
 * strides, every alignment and way to cut the input, in place and not; and tags that are wrong. */

enum { MOST = 16640 };

static uint8_t text[MOST], key[AEAD_KEY_MAX], nonce[AEAD_NONCE], aad[64];
static uint8_t expected[MOST + AEAD_TAG], got[MOST + AEAD_TAG + 64], opened[MOST + 64];

static void fresh(void)
{
    for (size_t i = 0; i < sizeof text; i++) text[i] = (uint8_t)random();
    for (size_t i = 0; i < sizeof key; i++) key[i] = (uint8_t)random();
    for (size_t i = 0; i < sizeof nonce; i++) nonce[i] = (uint8_t)random();
    for (size_t i = 0; i < sizeof aad; i++) aad[i] = (uint8_t)random();
}

static const struct aead_kernel *const kernels[] = {
    &aead_mbedtls,
#ifdef AEAD_AESNI
    &aead_aesni,
    &aead_vaes,
#endif
};
enum { KERNELS = sizeof kernels / sizeof kernels[0] };

/* cut describes len bytes of text in up to max pieces, some of them empty. */
static unsigned cut(struct iovec *pieces, size_t len, unsigned max)
{
    unsigned n = 0;
    size_t at = 0;
    while (at < len && n + 1 < max) {
        size_t take = random() % 5 == 0 ? 0 : (size_t)random() % (random() % 2 ? 40 : 1500);
        if (take > len - at) take = len - at;
        pieces[n++] = (struct iovec){text + at, take};
        at += take;
    }
    pieces[n++] = (struct iovec){text + at, len - at};
    return n;
}

static void compare(enum aead a, size_t len, size_t aad_len)
{
    struct iovec pieces[64] = {{text, len}};
    aead_use(&aead_mbedtls);
    aead_seal(a, key, nonce, aad, aad_len, pieces, 1, expected);
    for (unsigned k = 0; k < KERNELS; k++) {
        if (!kernels[k]->works()) continue;
        aead_use(kernels[k]);
        const size_t shift = (size_t)random() % 33;
        aead_seal(a, key, nonce, aad, aad_len, pieces, 1, got + shift);
        assert_memory_equal(got + shift, expected, len + AEAD_TAG);
        struct iovec cuts[64];
        const unsigned count = cut(cuts, len, 1 + (unsigned)random() % 64);
        memset(got, 0xee, sizeof got);
        aead_seal(a, key, nonce, aad, aad_len, cuts, count, got + shift);
        assert_memory_equal(got + shift, expected, len + AEAD_TAG);
        assert_int_equal(got[shift + len + AEAD_TAG], 0xee);
        memset(opened, 0xee, sizeof opened);
        assert_true(aead_open(a, key, nonce, aad, aad_len, got + shift, len, opened + shift));
        assert_memory_equal(opened + shift, text, len);
        assert_int_equal(opened[shift + len], 0xee);
        assert_true(aead_open(a, key, nonce, aad, aad_len, got + shift, len, got + shift));
        assert_memory_equal(got + shift, text, len);
    }
}

static void test_kernels_agree(void **state)
{
    (void)state;
    for (int a = 0; a < AEADS; a++) {
        for (size_t len = 0; len <= 300; len++) {
            fresh();
            compare((enum aead)a, len, len % 33);
        }
        for (int i = 0; i < 300; i++) {
            fresh();
            compare((enum aead)a, (size_t)random() % MOST, random() % 2 ? 5 : 13);
        }
        compare((enum aead)a, MOST, 5);
    }
    aead_use(NULL);
}

/* Counters near the end of 32 bits do not happen: a message has 2^10 blocks. But H of all kinds do.
 */
static void test_many_keys(void **state)
{
    (void)state;
    for (int i = 0; i < 3000; i++) {
        fresh();
        compare(i % 2 ? AEAD_AES_128_GCM : AEAD_AES_256_GCM, 177, 5);
    }
    aead_use(NULL);
}

static void test_wrong_tags(void **state)
{
    (void)state;
    static const uint8_t zeros[200];
    for (int a = 0; a < AEADS; a++) {
        for (unsigned k = 0; k < KERNELS; k++) {
            if (!kernels[k]->works()) continue;
            aead_use(kernels[k]);
            fresh();
            const struct iovec piece = {text, 200};
            aead_seal((enum aead)a, key, nonce, aad, 13, &piece, 1, expected);
            for (size_t bit = 0; bit < (200 + AEAD_TAG) * 8; bit++) {
                memcpy(got, expected, 200 + AEAD_TAG);
                got[bit / 8] ^= (uint8_t)(1u << bit % 8);
                assert_false(aead_open((enum aead)a, key, nonce, aad, 13, got, 200, opened));
                assert_memory_equal(opened, zeros, 200); /* nothing of it is handed out */
            }
            for (size_t bit = 0; bit < 13 * 8; bit++) {
                aad[bit / 8] ^= (uint8_t)(1u << bit % 8);
                assert_false(aead_open((enum aead)a, key, nonce, aad, 13, expected, 200, opened));
                aad[bit / 8] ^= (uint8_t)(1u << bit % 8);
            }
            for (size_t bit = 0; bit < AEAD_NONCE * 8; bit++) {
                nonce[bit / 8] ^= (uint8_t)(1u << bit % 8);
                assert_false(aead_open((enum aead)a, key, nonce, aad, 13, expected, 200, opened));
                nonce[bit / 8] ^= (uint8_t)(1u << bit % 8);
            }
            assert_true(aead_open((enum aead)a, key, nonce, aad, 13, expected, 200, opened));
        }
    }
    aead_use(NULL);
}

/* Input and output end at unreadable pages. */
static void test_bounds(void **state)
{
    (void)state;
    for (size_t len = 0; len < 400; len += 7) {
        fresh();
        uint8_t *in = guard_copy(text, len + 1), *out = guard_copy(NULL, len + 1 + AEAD_TAG);
        const struct iovec pieces[] = {{in, len}, {in + len, 1}};
        for (int a = 0; a < AEADS; a++) {
            aead_seal((enum aead)a, key, nonce, aad, 5, pieces, 2, out);
            uint8_t *back = guard_copy(NULL, len + 1);
            assert_true(aead_open((enum aead)a, key, nonce, aad, 5, out, len + 1, back));
            assert_memory_equal(back, in, len + 1);
            guard_free(back, len + 1);
        }
        guard_free(in, len + 1);
        guard_free(out, len + 1 + AEAD_TAG);
    }
}

/* ---- what stays on the stack ---- */

enum { STACK = 1 << 20 };

struct sealing {
    enum aead aead;
    size_t len;
};

static void *seal_there(void *arg)
{
    const struct sealing *s = arg;
    const struct iovec pieces[] = {{text, s->len}, {text, 1}};
    aead_seal(s->aead, key, nonce, aad, 5, pieces, 2, got);
    return NULL;
}

/* stays: does one of the round keys of an AES key, of which the first are the key, lie in there? */
static bool stays(const uint8_t *stack, enum aead a)
{
    mbedtls_aes_context c;
    bool found = false;
    mbedtls_aes_init(&c);
    assert_int_equal(mbedtls_aes_setkey_enc(&c, key, (unsigned)aead_key_len(a) * 8), 0);
    for (int i = 0; i <= c.nr && !found; i++)
        found = memmem(stack, STACK, c.buf + c.rk_offset + 4 * i, 16) != NULL;
    mbedtls_aes_free(&c);
    return found;
}

static void test_stack_is_wiped(void **state)
{
    (void)state;
    static _Alignas(4096) uint8_t stack[STACK];
    static const size_t lengths[] = {0, 60, 300, 1000, 16000};
    for (unsigned k = 0; k < KERNELS; k++) {
        if (!kernels[k]->works()) continue;
        aead_use(kernels[k]);
        for (unsigned i = 0; i < 2 * sizeof lengths / sizeof lengths[0]; i++) {
            struct sealing s = {i % 2 ? AEAD_AES_256_GCM : AEAD_AES_128_GCM, lengths[i / 2]};
            pthread_attr_t attr;
            pthread_t thread;
            fresh();
            memset(stack, 0, STACK);
            assert_int_equal(pthread_attr_init(&attr), 0);
            assert_int_equal(pthread_attr_setstack(&attr, stack, STACK), 0);
            assert_int_equal(pthread_create(&thread, &attr, seal_there, &s), 0);
            assert_int_equal(pthread_join(thread, NULL), 0);
            pthread_attr_destroy(&attr);
            assert_false(stays(stack, s.aead));
        }
    }
    aead_use(NULL);
}

static void test_self_test(void **state)
{
    (void)state;
    for (unsigned k = 0; k < KERNELS; k++) {
        if (!kernels[k]->works()) continue;
        aead_use(kernels[k]);
        for (int a = 0; a < AEADS; a++) assert_true(aead_self_test((enum aead)a));
    }
    aead_use(NULL);
}

/* A kernel that is wrong is found out. */
static void crypt_wrongly(const struct aead_message *m, bool seal, uint8_t *out,
                          uint8_t tag[static AEAD_TAG])
{
    aead_mbedtls.crypt(m, seal, out, tag);
    size_t len = 0;
    for (unsigned i = 0; i < m->count; i++) len += m->pieces[i].iov_len;
    if (len > 128) out[len - 1] ^= 1;
}

static void test_self_test_can_fail(void **state)
{
    (void)state;
    const struct aead_kernel wrong = {"wrong", aead_mbedtls.works, crypt_wrongly};
    aead_use(&wrong);
    assert_false(aead_self_test(AEAD_AES_128_GCM));
    assert_false(aead_self_test(AEAD_AES_256_GCM));
    assert_true(aead_self_test(AEAD_CHACHA20_POLY1305));
    assert_string_equal(aead_kernel(), "wrong");
    aead_use(NULL);
    assert_string_not_equal(aead_kernel(), "wrong");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels_agree),      cmocka_unit_test(test_many_keys),
        cmocka_unit_test(test_wrong_tags),         cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_stack_is_wiped),     cmocka_unit_test(test_self_test),
        cmocka_unit_test(test_self_test_can_fail),
    };
    srandom(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
