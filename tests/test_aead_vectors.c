#include "../aead/internal.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

/* The AEADs against vectors of others: NIST's CAVS files for AES-GCM, and BoringSSL's for
 * ChaCha20-Poly1305, as the Debian package python3-cryptography-vectors has them. Without it these
 * tests are skipped. Every kernel that works here does all of them. */

#define FOLDER "/usr/lib/python3/dist-packages/cryptography_vectors/ciphers/"

enum { FIELD_MAX = 4096 };

struct field {
    uint8_t bytes[FIELD_MAX];
    size_t len;
    bool there;
};

/* A vector: the files name its fields differently, and have them in any order. */
static struct vector {
    struct field key, nonce, plain, aad, sealed, tag;
    bool fails;
} v;

static const struct {
    const char *name;
    struct field *field;
} names[] = {
    {"Key", &v.key}, {"IV", &v.nonce}, {"NONCE", &v.nonce}, {"PT", &v.plain}, {"IN", &v.plain},
    {"AAD", &v.aad}, {"AD", &v.aad},   {"CT", &v.sealed},   {"Tag", &v.tag},
};

static const struct aead_kernel *const kernels[] = {
    &aead_mbedtls,
#ifdef AEAD_AESNI
    &aead_aesni,
    &aead_vaes,
#endif
};

static uint8_t out[FIELD_MAX + AEAD_TAG];

static void check(enum aead a)
{
    const struct iovec pieces[2] = {
        {v.plain.bytes, v.plain.len / 2},
        {v.plain.bytes + v.plain.len / 2, v.plain.len - v.plain.len / 2}};
    assert_int_equal(v.key.len, aead_key_len(a));
    if (!v.fails) {
        assert_true(v.plain.there);
        assert_int_equal(v.plain.len, v.sealed.len);
        aead_seal(a, v.key.bytes, v.nonce.bytes, v.aad.bytes, v.aad.len, pieces, 2, out);
        assert_memory_equal(out, v.sealed.bytes, v.sealed.len);
        assert_memory_equal(out + v.sealed.len, v.tag.bytes, AEAD_TAG);
    }
    memcpy(out, v.sealed.bytes, v.sealed.len);
    memcpy(out + v.sealed.len, v.tag.bytes, AEAD_TAG);
    assert_int_equal(
        aead_open(a, v.key.bytes, v.nonce.bytes, v.aad.bytes, v.aad.len, out, v.sealed.len, out),
        !v.fails);
    if (!v.fails) assert_memory_equal(out, v.plain.bytes, v.plain.len);
}

/* done: the vector is whole. Those with other nonces and tags than TLS has are left out. */
static unsigned done(enum aead a)
{
    const bool ours = v.key.there && v.nonce.len == AEAD_NONCE && v.tag.len == AEAD_TAG;
    for (size_t k = 0; ours && k < sizeof kernels / sizeof kernels[0]; k++) {
        if (!kernels[k]->works()) continue;
        aead_use(kernels[k]);
        check(a);
    }
    memset(&v, 0, sizeof v);
    return ours;
}

static unsigned nibble(char c)
{
    assert_true(isxdigit((unsigned char)c));
    return (unsigned)(isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10);
}

static void take(struct field *f, const char *value) /* hex digits, or text in quotes */
{
    f->there = true;
    f->len = 0;
    if (*value == '"') {
        f->len = strcspn(value + 1, "\"");
        assert_true(f->len <= FIELD_MAX);
        memcpy(f->bytes, value + 1, f->len);
        return;
    }
    for (; value[0] && value[1]; value += 2) {
        assert_true(f->len < FIELD_MAX);
        f->bytes[f->len++] = (uint8_t)(nibble(value[0]) << 4 | nibble(value[1]));
    }
}

static void take_line(char *line)
{
    line[strcspn(line, "\r\n")] = '\0';
    if (strcmp(line, "FAIL") == 0) v.fails = true;
    char *value = strchr(line, '=');
    if (!value) return;
    const size_t len = strcspn(line, " =");
    for (value++; *value == ' ';) value++;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strlen(names[i].name) == len && strncasecmp(names[i].name, line, len) == 0)
            take(names[i].field, value);
}

static void read_file(const char *name, enum aead a, unsigned at_least)
{
    static char line[4 * FIELD_MAX];
    unsigned count = 0;
    FILE *f = fopen(name, "re");
    if (!f) {
        print_message("    no %s: install python3-cryptography-vectors\n", name);
        skip();
    }
    memset(&v, 0, sizeof v);
    while (fgets(line, sizeof line, f)) {
        if (strncasecmp(line, "Count", 5) == 0) count += done(a);
        take_line(line);
    }
    fclose(f);
    count += done(a);
    aead_use(NULL);
    print_message("    %u vectors\n", count);
    assert_true(count >= at_least);
}

static void test_gcm_128_encrypt(void **state)
{
    (void)state;
    read_file(FOLDER "AES/GCM/gcmEncryptExtIV128.rsp", AEAD_AES_128_GCM, 300);
}

static void test_gcm_256_encrypt(void **state)
{
    (void)state;
    read_file(FOLDER "AES/GCM/gcmEncryptExtIV256.rsp", AEAD_AES_256_GCM, 300);
}

static void test_gcm_128_decrypt(void **state)
{
    (void)state;
    read_file(FOLDER "AES/GCM/gcmDecrypt128.rsp", AEAD_AES_128_GCM, 300);
}

static void test_gcm_256_decrypt(void **state)
{
    (void)state;
    read_file(FOLDER "AES/GCM/gcmDecrypt256.rsp", AEAD_AES_256_GCM, 300);
}

static void test_chacha(void **state)
{
    (void)state;
    read_file(FOLDER "ChaCha20Poly1305/boringssl.txt", AEAD_CHACHA20_POLY1305, 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gcm_128_encrypt), cmocka_unit_test(test_gcm_256_encrypt),
        cmocka_unit_test(test_gcm_128_decrypt), cmocka_unit_test(test_gcm_256_decrypt),
        cmocka_unit_test(test_chacha),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
