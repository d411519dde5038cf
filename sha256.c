/* sha256.c - see sha256.h.
 *
 * mbedTLS's own compression takes 3.0 us for 1 KiB where the SHA extensions take 0.7 us; the key
 * schedule of TLS 1.3 and each HS256 token are little else than this function. Two rounds are one
 * instruction, which wants the eight words as two vectors, ABEF and CDGH; four words of the message
 * schedule are two instructions and an addition. */
#include "sha256.h"

#define MBEDTLS_ALLOW_PRIVATE_ACCESS /* state of mbedtls_sha256_context */
#include <mbedtls/sha256.h>
#include <stdatomic.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

static const uint32_t round_constant[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotr(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

static uint32_t load_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

void sha256_blocks_portable(uint32_t state[static 8], const uint8_t *data, size_t blocks)
{
    for (; blocks > 0; blocks--, data += 64) {
        uint32_t w[64];
        for (size_t t = 0; t < 16; t++) w[t] = load_be32(data + 4 * t);
        for (size_t t = 16; t < 64; t++) {
            uint32_t s0 = rotr(w[t - 15], 7) ^ rotr(w[t - 15], 18) ^ w[t - 15] >> 3;
            uint32_t s1 = rotr(w[t - 2], 17) ^ rotr(w[t - 2], 19) ^ w[t - 2] >> 10;
            w[t] = w[t - 16] + s0 + w[t - 7] + s1;
        }
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (size_t t = 0; t < 64; t++) {
            uint32_t s1 = rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25);
            uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + round_constant[t] + w[t];
            uint32_t s0 = rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22);
            uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + t1;
            d = c, c = b, b = a, a = t1 + t2;
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d;
        state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    }
}

#if defined(__x86_64__)

__attribute__((target("sha,sse4.1,ssse3"))) static void
blocks_sha_ni(uint32_t state[static 8], const uint8_t *data, size_t blocks)
{
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    /* Lanes are listed from the lowest: abcd, efgh -> abef = f e b a, cdgh = h g d c. */
    __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)state), 0xb1);
    __m128i hgfe =
        _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(state + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(badc, hgfe, 8);
    __m128i cdgh = _mm_blend_epi16(hgfe, badc, 0xf0);

    for (; blocks > 0; blocks--, data += 64) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4]; /* the last 16 words of the schedule; w[i % 4] holds words 4i .. 4i + 3 */
        for (size_t i = 0; i < 4; i++) {
            __m128i words = _mm_loadu_si128((const __m128i *)(const void *)(data + 16 * i));
            w[i] = _mm_shuffle_epi8(words, big_endian);
        }
#pragma GCC unroll 16
        for (size_t i = 0; i < 16; i++) {
            const __m128i *constants = (const __m128i *)(const void *)(round_constant + 4 * i);
            __m128i wk = _mm_add_epi32(w[i % 4], _mm_loadu_si128(constants));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0e));
            if (i >= 12) continue;
            __m128i next = _mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]);
            next = _mm_add_epi32(next, _mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4));
            w[i % 4] = _mm_sha256msg2_epu32(next, w[(i + 3) % 4]);
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }

    badc = _mm_unpackhi_epi64(abef, cdgh);
    hgfe = _mm_unpacklo_epi64(cdgh, abef);
    _mm_storeu_si128((__m128i *)(void *)state, _mm_shuffle_epi32(badc, 0xb1));
    _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_shuffle_epi32(hgfe, 0x1b));
}

bool sha256_accelerated(void)
{
    /* Asking the CPU is a trap into the hypervisor on virtual machines: once is enough. Threads
     * that race here find the same answer, so relaxed order will do. */
    static _Atomic int known; /* 0 not asked yet, 1 no, 2 yes */
    int k = atomic_load_explicit(&known, memory_order_relaxed);
    if (k == 0) {
        unsigned a, b, c, d, b7 = 0;
        bool yes = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSSE3) && (c & bit_SSE4_1) &&
                   __get_cpuid_count(7, 0, &a, &b7, &c, &d) && (b7 & bit_SHA);
        k = yes ? 2 : 1;
        atomic_store_explicit(&known, k, memory_order_relaxed);
    }
    return k == 2;
}

void sha256_blocks(uint32_t state[static 8], const uint8_t *data, size_t blocks)
{
    if (sha256_accelerated())
        blocks_sha_ni(state, data, blocks);
    else
        sha256_blocks_portable(state, data, blocks);
}

/* MBEDTLS_SHA256_PROCESS_ALT: mbedTLS's hook, called for each block. */
int mbedtls_internal_sha256_process(mbedtls_sha256_context *ctx, const unsigned char data[64])
{
    sha256_blocks(ctx->state, data, 1);
    return 0;
}

#else /* arm64: mbedTLS brings code for the SHA-2 instructions itself, and asks the kernel for     \
         them */

bool sha256_accelerated(void)
{
    return false;
}

void sha256_blocks(uint32_t state[static 8], const uint8_t *data, size_t blocks)
{
    sha256_blocks_portable(state, data, blocks);
}

#endif
