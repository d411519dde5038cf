#include "aead/internal.h"

#ifdef AEAD_AESNI

#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

/* AES-GCM (NIST SP 800-38D) on x86-64's AES and carry-less multiplication instructions.
 *
 * mbedTLS does a block at a time: each waits for the one before. Here eight counter blocks are
 * encrypted side by side, and eight blocks of ciphertext are multiplied by eight powers of H and
 * reduced once, which is what the CPU's units need to be busy. Where the CPU has the same
 * instructions for two blocks in one register (VAES, VPCLMULQDQ), sixteen are. The key is expanded
 * anew for each message, since a connection keeps its 16 or 32 bytes only.
 *
 * GHASH treats bits in the order of the wire, the CPU in its own. With bytes turned round, a
 * product of two elements comes out divided by x, once more than the field says; so H is kept
 * multiplied by x. The field's polynomial x^128 + x^127 + x^126 + x^121 + 1 is then folded in twice
 * from below, 64 bits each.
 *
 * Time: no branch and no address depends on a secret; the instructions take the same time always.
 */

#define KERNEL __attribute__((target("aes,pclmul,avx")))
#define ALWAYS static inline __attribute__((always_inline)) KERNEL
#define KERNEL_256 __attribute__((target("aes,pclmul,avx2,vaes,vpclmulqdq")))
#define ALWAYS_256 static inline __attribute__((always_inline)) KERNEL_256
/* Loops over blocks side by side are written out, so that these live in registers. */
#ifdef __clang__
#define UNROLLED _Pragma("unroll")
#else
#define UNROLLED _Pragma("GCC unroll 8")
#endif
#define WIDE 8u   /* blocks side by side */
#define WIDER 16u /* in registers of two */
#define BLOCK 16u
#define COPIED_BELOW 512u /* smaller pieces are put together first */
#define WIDER_FROM 768u   /* bytes: for fewer, eight more powers of H cost more than they gain */

struct gcm {
    __m128i round[15];
    int rounds;       /* 10 or 14 */
    bool wider;       /* WIDER blocks at a time, where there are as many */
    __m128i h[WIDER]; /* x·H^1 .. x·H^16, as many as the message needs */
    __m128i hash;
    __m128i counter; /* bytes turned round */
};

/* ---- AES (FIPS 197) ---- */

ALWAYS __m128i spread(__m128i key) /* w0, w0^w1, w0^w1^w2, ... */
{
    key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
    return _mm_xor_si128(key, _mm_slli_si128(key, 8));
}

/* The round constant must be a constant of the instruction. */
#define EXPAND_128(i, rcon)                                                                        \
    g->round[i] =                                                                                  \
        _mm_xor_si128(spread(g->round[(i)-1]),                                                     \
                      _mm_shuffle_epi32(_mm_aeskeygenassist_si128(g->round[(i)-1], rcon), 0xff))

ALWAYS void expand_128(struct gcm *g, const uint8_t *key)
{
    g->rounds = 10;
    g->round[0] = _mm_loadu_si128((const void *)key);
    EXPAND_128(1, 0x01);
    EXPAND_128(2, 0x02);
    EXPAND_128(3, 0x04);
    EXPAND_128(4, 0x08);
    EXPAND_128(5, 0x10);
    EXPAND_128(6, 0x20);
    EXPAND_128(7, 0x40);
    EXPAND_128(8, 0x80);
    EXPAND_128(9, 0x1b);
    EXPAND_128(10, 0x36);
}

#define EXPAND_256_EVEN(i, rcon)                                                                   \
    g->round[i] =                                                                                  \
        _mm_xor_si128(spread(g->round[(i)-2]),                                                     \
                      _mm_shuffle_epi32(_mm_aeskeygenassist_si128(g->round[(i)-1], rcon), 0xff))
#define EXPAND_256_ODD(i)                                                                          \
    g->round[i] =                                                                                  \
        _mm_xor_si128(spread(g->round[(i)-2]),                                                     \
                      _mm_shuffle_epi32(_mm_aeskeygenassist_si128(g->round[(i)-1], 0), 0xaa))

ALWAYS void expand_256(struct gcm *g, const uint8_t *key)
{
    g->rounds = 14;
    g->round[0] = _mm_loadu_si128((const void *)key);
    g->round[1] = _mm_loadu_si128((const void *)(key + 16));
    EXPAND_256_EVEN(2, 0x01);
    EXPAND_256_ODD(3);
    EXPAND_256_EVEN(4, 0x02);
    EXPAND_256_ODD(5);
    EXPAND_256_EVEN(6, 0x04);
    EXPAND_256_ODD(7);
    EXPAND_256_EVEN(8, 0x08);
    EXPAND_256_ODD(9);
    EXPAND_256_EVEN(10, 0x10);
    EXPAND_256_ODD(11);
    EXPAND_256_EVEN(12, 0x20);
    EXPAND_256_ODD(13);
    EXPAND_256_EVEN(14, 0x40);
}

/* encrypt does n blocks (a constant) side by side. */
ALWAYS void encrypt(const struct gcm *g, __m128i *b, unsigned n)
{
    UNROLLED
    for (unsigned i = 0; i < n; i++) b[i] = _mm_xor_si128(b[i], g->round[0]);
    for (int r = 1; r < g->rounds; r++) UNROLLED
    for (unsigned i = 0; i < n; i++) b[i] = _mm_aesenc_si128(b[i], g->round[r]);
    UNROLLED
    for (unsigned i = 0; i < n; i++) b[i] = _mm_aesenclast_si128(b[i], g->round[g->rounds]);
}

/* ---- GHASH ---- */

ALWAYS __m128i turn(__m128i x)
{
    return _mm_shuffle_epi8(x, _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

struct product { /* of 256 bits: low + mid * 2^64 + high * 2^128 */
    __m128i low, mid, high;
};

ALWAYS void add_product(struct product *p, __m128i a, __m128i b)
{
    p->low = _mm_xor_si128(p->low, _mm_clmulepi64_si128(a, b, 0x00));
    p->high = _mm_xor_si128(p->high, _mm_clmulepi64_si128(a, b, 0x11));
    p->mid = _mm_xor_si128(
        p->mid, _mm_xor_si128(_mm_clmulepi64_si128(a, b, 0x01), _mm_clmulepi64_si128(a, b, 0x10)));
}

ALWAYS __m128i swap_halves(__m128i x)
{
    return _mm_shuffle_epi32(x, 0x4e);
}

ALWAYS __m128i reduce(const struct product *p)
{
    const __m128i fold = _mm_set_epi64x(0, (long long)0xc200000000000000ull);
    __m128i low = _mm_xor_si128(p->low, _mm_slli_si128(p->mid, 8));
    const __m128i high = _mm_xor_si128(p->high, _mm_srli_si128(p->mid, 8));
    low = _mm_xor_si128(swap_halves(low), _mm_clmulepi64_si128(low, fold, 0x00));
    low = _mm_xor_si128(swap_halves(low), _mm_clmulepi64_si128(low, fold, 0x00));
    return _mm_xor_si128(high, low);
}

ALWAYS __m128i multiply(__m128i a, __m128i b)
{
    struct product p = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128()};
    add_product(&p, a, b);
    return reduce(&p);
}

/* times_x multiplies by x: one bit to the left, and the polynomial if one falls out. */
ALWAYS __m128i times_x(__m128i h)
{
    const __m128i carry = _mm_srli_epi64(h, 63);
    const __m128i out = _mm_sub_epi64(_mm_setzero_si128(), _mm_srli_si128(carry, 8)); /* 0 or ~0 */
    const __m128i shifted = _mm_or_si128(_mm_slli_epi64(h, 1), _mm_slli_si128(carry, 8));
    const __m128i polynomial = _mm_set_epi64x((long long)0xc200000000000000ull, 1);
    return _mm_xor_si128(shifted, _mm_and_si128(polynomial, _mm_shuffle_epi32(out, 0x44)));
}

/* make_powers of H, n of them, in as few steps that wait for each other as can be. */
ALWAYS void make_powers(struct gcm *g, size_t n)
{
    __m128i h = _mm_setzero_si128();
    encrypt(g, &h, 1);
    g->h[0] = times_x(turn(h));
    if (n > 1) g->h[1] = multiply(g->h[0], g->h[0]);
    if (n > 2) {
        g->h[2] = multiply(g->h[1], g->h[0]);
        g->h[3] = multiply(g->h[1], g->h[1]);
    }
    if (n > 4)
        for (unsigned i = 0; i < 4; i++) g->h[4 + i] = multiply(g->h[3], g->h[i]);
    if (g->wider)
        for (unsigned i = 0; i < 8; i++) g->h[8 + i] = multiply(g->h[7], g->h[i]);
}

/* hash takes n blocks (a constant, at most WIDE) of ciphertext. */
ALWAYS void hash(struct gcm *g, const __m128i *blocks, unsigned n)
{
    struct product p = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128()};
    add_product(&p, _mm_xor_si128(g->hash, turn(blocks[0])), g->h[n - 1]);
    UNROLLED
    for (unsigned i = 1; i < n; i++) add_product(&p, turn(blocks[i]), g->h[n - 1 - i]);
    g->hash = reduce(&p);
}

/* ---- counter mode ---- */

ALWAYS __m128i next_counter(struct gcm *g)
{
    const __m128i now = turn(g->counter);
    g->counter = _mm_add_epi32(g->counter, _mm_set_epi32(0, 0, 0, 1));
    return now;
}

/* blocks does n whole blocks (a constant, at most WIDE). */
ALWAYS void blocks(struct gcm *g, bool seal, const uint8_t *in, uint8_t *out, unsigned n)
{
    __m128i key[WIDE], text[WIDE];
    UNROLLED
    for (unsigned i = 0; i < n; i++) key[i] = next_counter(g);
    encrypt(g, key, n);
    UNROLLED
    for (unsigned i = 0; i < n; i++) {
        text[i] = _mm_loadu_si128((const void *)(in + i * BLOCK));
        key[i] = _mm_xor_si128(key[i], text[i]);
    }
    hash(g, seal ? key : text, n);
    UNROLLED
    for (unsigned i = 0; i < n; i++) _mm_storeu_si128((void *)(out + i * BLOCK), key[i]);
}

/* ---- the same with two blocks in a register: the first of them in its lower half ---- */

ALWAYS_256 __m256i turn_256(__m256i x)
{
    return _mm256_shuffle_epi8(x, _mm256_broadcastsi128_si256(_mm_set_epi8(
                                      0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)));
}

ALWAYS_256 void encrypt_256(const struct gcm *g, __m256i *b)
{
    __m256i key = _mm256_broadcastsi128_si256(g->round[0]);
    UNROLLED
    for (unsigned i = 0; i < WIDER / 2; i++) b[i] = _mm256_xor_si256(b[i], key);
    for (int r = 1; r < g->rounds; r++) {
        key = _mm256_broadcastsi128_si256(g->round[r]);
        UNROLLED
        for (unsigned i = 0; i < WIDER / 2; i++) b[i] = _mm256_aesenc_epi128(b[i], key);
    }
    key = _mm256_broadcastsi128_si256(g->round[g->rounds]);
    UNROLLED
    for (unsigned i = 0; i < WIDER / 2; i++) b[i] = _mm256_aesenclast_epi128(b[i], key);
}

ALWAYS_256 __m128i sum_of_halves(__m256i x)
{
    return _mm_xor_si128(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
}

/* hash_256 takes WIDER blocks of ciphertext; h: the powers in the order of the blocks. */
ALWAYS_256 void hash_256(struct gcm *g, const __m256i *blocks, const __m256i *h)
{
    __m256i low = _mm256_setzero_si256(), mid = low, high = low;
    UNROLLED
    for (unsigned i = 0; i < WIDER / 2; i++) {
        __m256i b = turn_256(blocks[i]);
        if (i == 0) b = _mm256_xor_si256(b, _mm256_inserti128_si256(low, g->hash, 0));
        low = _mm256_xor_si256(low, _mm256_clmulepi64_epi128(b, h[i], 0x00));
        high = _mm256_xor_si256(high, _mm256_clmulepi64_epi128(b, h[i], 0x11));
        mid = _mm256_xor_si256(mid, _mm256_clmulepi64_epi128(b, h[i], 0x01));
        mid = _mm256_xor_si256(mid, _mm256_clmulepi64_epi128(b, h[i], 0x10));
    }
    const struct product p = {sum_of_halves(low), sum_of_halves(mid), sum_of_halves(high)};
    g->hash = reduce(&p);
}

ALWAYS_256 void blocks_256(struct gcm *g, bool seal, const uint8_t *in, uint8_t *out,
                           const __m256i *h)
{
    __m256i key[WIDER / 2], text[WIDER / 2];
    __m256i counter = _mm256_add_epi32(_mm256_broadcastsi128_si256(g->counter),
                                       _mm256_set_epi32(0, 0, 0, 1, 0, 0, 0, 0));
    g->counter = _mm_add_epi32(g->counter, _mm_set_epi32(0, 0, 0, WIDER));
    UNROLLED
    for (unsigned i = 0; i < WIDER / 2; i++) {
        key[i] = turn_256(counter);
        counter = _mm256_add_epi32(counter, _mm256_set_epi32(0, 0, 0, 2, 0, 0, 0, 2));
    }
    encrypt_256(g, key);
    UNROLLED
    for (unsigned i = 0; i < WIDER / 2; i++) {
        text[i] = _mm256_loadu_si256((const void *)(in + i * 2 * (size_t)BLOCK));
        key[i] = _mm256_xor_si256(key[i], text[i]);
    }
    hash_256(g, seal ? key : text, h);
    UNROLLED
    for (unsigned i = 0; i < WIDER / 2; i++)
        _mm256_storeu_si256((void *)(out + i * 2 * (size_t)BLOCK), key[i]);
}

/* wider_blocks does WIDER blocks at a time; returns how many bytes of len. */
KERNEL_256 static size_t wider_blocks(struct gcm *g, bool seal, const uint8_t *in, uint8_t *out,
                                      size_t len)
{
    __m256i h[WIDER / 2];
    size_t at = 0;
    for (unsigned i = 0; i < WIDER / 2; i++)
        h[i] = _mm256_set_m128i(g->h[WIDER - 2 - 2 * i], g->h[WIDER - 1 - 2 * i]);
    for (; len - at >= WIDER * BLOCK; at += WIDER * BLOCK)
        blocks_256(g, seal, in + at, out + at, h);
    return at;
}

/* ---- input of any length ---- */

/* whole_blocks takes len bytes, a multiple of BLOCK; in may be out. */
KERNEL static void whole_blocks(struct gcm *g, bool seal, const uint8_t *in, uint8_t *out,
                                size_t len)
{
    size_t at = 0;
    if (g->wider && len >= WIDER * BLOCK) at = wider_blocks(g, seal, in, out, len);
    for (; len - at >= 8 * BLOCK; at += 8 * BLOCK) blocks(g, seal, in + at, out + at, 8);
    if (len - at >= 4 * BLOCK) {
        blocks(g, seal, in + at, out + at, 4);
        at += 4 * BLOCK;
    }
    if (len - at >= 2 * BLOCK) {
        blocks(g, seal, in + at, out + at, 2);
        at += 2 * BLOCK;
    }
    if (len - at >= BLOCK) blocks(g, seal, in + at, out + at, 1);
}

/* last_block takes what is left, fewer bytes than a block. */
KERNEL static void last_block(struct gcm *g, bool seal, const uint8_t *in, uint8_t *out, size_t len)
{
    uint8_t bytes[BLOCK] = {0};
    memcpy(bytes, in, len);
    const __m128i text = _mm_loadu_si128((const void *)bytes);
    __m128i key = next_counter(g);
    encrypt(g, &key, 1);
    key = _mm_xor_si128(key, text);
    _mm_storeu_si128((void *)bytes, key);
    memcpy(out, bytes, len);
    memset(bytes + len, 0, BLOCK - len);
    const __m128i sealed = seal ? _mm_loadu_si128((const void *)bytes) : text;
    hash(g, &sealed, 1);
}

/* ---- messages ---- */

KERNEL static void begin(struct gcm *g, const struct aead_message *m, size_t len)
{
    uint8_t counter[BLOCK] = {[BLOCK - 1] = 2}; /* 1 is for the tag */
    memcpy(counter, m->nonce, AEAD_NONCE);
    if (m->key_len == 16)
        expand_128(g, m->key);
    else
        expand_256(g, m->key);
    make_powers(g, len / BLOCK);
    g->counter = turn(_mm_loadu_si128((const void *)counter));
    g->hash = _mm_setzero_si128();
    for (size_t at = 0; at < m->aad_len; at += BLOCK) {
        uint8_t bytes[BLOCK] = {0};
        memcpy(bytes, m->aad + at, m->aad_len - at < BLOCK ? m->aad_len - at : BLOCK);
        const __m128i block = _mm_loadu_si128((const void *)bytes);
        hash(g, &block, 1);
    }
}

KERNEL static void end(struct gcm *g, const struct aead_message *m, size_t len,
                       uint8_t tag[static AEAD_TAG])
{
    uint8_t counter[BLOCK] = {[BLOCK - 1] = 1};
    memcpy(counter, m->nonce, AEAD_NONCE);
    __m128i key = _mm_loadu_si128((const void *)counter);
    const __m128i lengths = turn(_mm_set_epi64x((long long)m->aad_len * 8, (long long)len * 8));
    encrypt(g, &key, 1);
    hash(g, &lengths, 1);
    _mm_storeu_si128((void *)tag, _mm_xor_si128(key, turn(g->hash)));
}

/* A message in pieces: bytes [0, done) of out are done; those up to at are copies that wait until
 * there is something to be done for many at once. */
struct progress {
    uint8_t *out;
    size_t done, at;
};

KERNEL static void do_waiting(struct gcm *g, bool seal, struct progress *p)
{
    const size_t n = (p->at - p->done) & ~(size_t)(BLOCK - 1);
    whole_blocks(g, seal, p->out + p->done, p->out + p->done, n);
    p->done += n;
}

static void copy(struct progress *p, const uint8_t *bytes, size_t len)
{
    if (len) memcpy(p->out + p->at, bytes, len);
    p->at += len;
}

KERNEL static void take_piece(struct gcm *g, bool seal, struct progress *p, const uint8_t *bytes,
                              size_t len)
{
    if (len >= COPIED_BELOW) {
        const size_t fill = -p->at & (BLOCK - 1);
        copy(p, bytes, fill);
        do_waiting(g, seal, p);
        const size_t whole = (len - fill) & ~(size_t)(BLOCK - 1);
        whole_blocks(g, seal, bytes + fill, p->out + p->at, whole);
        p->at = p->done = p->at + whole;
        bytes += fill + whole;
        len -= fill + whole;
    }
    copy(p, bytes, len);
}

/* wipe: the expanded key would be in a core dump's stack. Register by register, since for memset of
 * as much the compiler takes an instruction that is slow to begin. */
ALWAYS void wipe(struct gcm *g)
{
    __m128i *at = (__m128i *)g;
    for (size_t i = 0; i < sizeof *g / sizeof *at; i++) {
        at[i] = _mm_setzero_si128();
        __asm__ volatile("" ::"r"(g) : "memory"); /* looked at, as far as the compiler knows */
    }
}

KERNEL static void crypt(const struct aead_message *m, bool seal, bool wider, uint8_t *out,
                         uint8_t tag[static AEAD_TAG])
{
    struct gcm g;
    struct progress p = {.out = out};
    size_t len = 0;
    for (unsigned i = 0; i < m->count; i++) len += m->pieces[i].iov_len;
    g.wider = wider && len >= WIDER_FROM;
    begin(&g, m, len);
    if (m->count == 1) {
        p.at = len & ~(size_t)(BLOCK - 1);
        whole_blocks(&g, seal, m->pieces[0].iov_base, out, p.at);
        if (len > p.at)
            last_block(&g, seal, (const uint8_t *)m->pieces[0].iov_base + p.at, out + p.at,
                       len - p.at);
    } else {
        for (unsigned i = 0; i < m->count; i++)
            take_piece(&g, seal, &p, m->pieces[i].iov_base, m->pieces[i].iov_len);
        do_waiting(&g, seal, &p);
        if (p.at > p.done) last_block(&g, seal, out + p.done, out + p.done, p.at - p.done);
    }
    end(&g, m, len, tag);
    wipe(&g);
}

static bool works(void)
{
    return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul") &&
           __builtin_cpu_supports("avx");
}

static void crypt_by_8(const struct aead_message *m, bool seal, uint8_t *out,
                       uint8_t tag[static AEAD_TAG])
{
    crypt(m, seal, false, out, tag);
}

const struct aead_kernel aead_aesni = {"AES-NI", works, crypt_by_8};

static bool works_wider(void)
{
    unsigned a, b, c, d; /* clang 14 does not know these two by name */
    return works() && __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
           (c & bit_VAES) && (c & bit_VPCLMULQDQ);
}

static void crypt_by_16(const struct aead_message *m, bool seal, uint8_t *out,
                        uint8_t tag[static AEAD_TAG])
{
    crypt(m, seal, true, out, tag);
}

const struct aead_kernel aead_vaes = {"VAES", works_wider, crypt_by_16};

#endif
