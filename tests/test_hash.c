/* hash.c: SipHash-1-3 against a second way of writing it down, and what a table needs of it. */
#include "../hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "guard.h"

#include <cmocka.h>

/* SipHash-c-d from the figures of the paper (Aumasson and Bernstein, "SipHash: a fast short-input
 * PRF", section 2): byte by byte, for any number of rounds, so that the paper's own vector for
 * SipHash-2-4 vouches for it. */
struct lanes {
    uint64_t v0, v1, v2, v3;
};

static uint64_t rotate(uint64_t x, unsigned by)
{
    return (x << by) | (x >> (64 - by));
}

static struct lanes rounds(struct lanes s, int n)
{
    while (n--) {
        s.v0 += s.v1;
        s.v2 += s.v3;
        s.v1 = rotate(s.v1, 13);
        s.v3 = rotate(s.v3, 16);
        s.v1 ^= s.v0;
        s.v3 ^= s.v2;
        s.v0 = rotate(s.v0, 32);
        s.v2 += s.v1;
        s.v0 += s.v3;
        s.v1 = rotate(s.v1, 17);
        s.v3 = rotate(s.v3, 21);
        s.v1 ^= s.v2;
        s.v3 ^= s.v0;
        s.v2 = rotate(s.v2, 32);
    }
    return s;
}

static uint64_t by_the_paper(struct hash_key k, const uint8_t *m, size_t len, int c, int d)
{
    struct lanes s = {k.k0 ^ 0x736f6d6570736575, k.k1 ^ 0x646f72616e646f6d,
                      k.k0 ^ 0x6c7967656e657261, k.k1 ^ 0x7465646279746573};
    size_t words = len / 8 + 1;
    for (size_t i = 0; i < words; i++) {
        uint64_t word = 0;
        for (size_t b = 0; b < 8; b++) {
            size_t at = i * 8 + b;
            uint64_t byte = at < len ? m[at] : i == words - 1 && b == 7 ? len & 0xff : 0;
            word |= byte << (8 * b);
        }
        s.v3 ^= word;
        s = rounds(s, c);
        s.v0 ^= word;
    }
    s.v2 ^= 0xff;
    s = rounds(s, d);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

static const struct hash_key paper_key = {0x0706050403020100, 0x0f0e0d0c0b0a0908};

static void test_vector_of_the_paper(void **state)
{
    uint8_t m[15];
    (void)state;
    for (uint8_t i = 0; i < 15; i++) m[i] = i;
    assert_true(by_the_paper(paper_key, m, 15, 2, 4) == 0xa129ca6149be45e5); /* appendix A */
}

static void test_same_as_the_paper(void **state)
{
    (void)state;
    uint8_t m[300];
    for (size_t i = 0; i < sizeof m; i++) m[i] = (uint8_t)(i * 7 + 1);
    for (size_t len = 0; len <= sizeof m; len++) {
        uint8_t *end = guard_copy(m, len);
        struct hash_key key = {len * 0x9E3779B97F4A7C15u, ~len};
        assert_true(hash_bytes(&key, end, len) == by_the_paper(key, m, len, 1, 3));
        assert_true(hash_bytes(&paper_key, end, len) == by_the_paper(paper_key, m, len, 1, 3));
        guard_free(end, len);
    }
}

/* Names that differ little fall into buckets evenly, by the low bits and by the high ones (which
 * choose shards). */
static void test_even(void **state)
{
    (void)state;
    unsigned low[64] = {0}, high[64] = {0};
    for (unsigned i = 0; i < 64000; i++) {
        char name[32];
        int n = snprintf(name, sizeof name, "chat:room-%u", i);
        uint64_t h = hash_bytes(&paper_key, name, (size_t)n);
        low[h & 63]++;
        high[h >> 58]++;
    }
    for (unsigned b = 0; b < 64; b++) { /* 1000 expected; 6 standard deviations */
        assert_in_range(low[b], 810, 1190);
        assert_in_range(high[b], 810, 1190);
    }
}

/* Each bit of the key and of the name changes about half of the answer. */
static void test_every_bit_counts(void **state)
{
    (void)state;
    const uint8_t name[] = "a channel's name";
    const uint64_t was = hash_bytes(&paper_key, name, 16);
    for (unsigned bit = 0; bit < 128; bit++) {
        struct hash_key key = paper_key;
        uint8_t other[16];
        memcpy(other, name, 16);
        *(bit < 64 ? &key.k0 : &key.k1) ^= (uint64_t)1 << bit % 64;
        other[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_in_range(__builtin_popcountll(was ^ hash_bytes(&key, name, 16)), 12, 52);
        assert_in_range(__builtin_popcountll(was ^ hash_bytes(&paper_key, other, 16)), 12, 52);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vector_of_the_paper),
        cmocka_unit_test(test_same_as_the_paper),
        cmocka_unit_test(test_even),
        cmocka_unit_test(test_every_bit_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
