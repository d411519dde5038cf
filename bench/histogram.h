/* histogram.h - latencies in buckets that grow with the value, so that 3,776 counters hold every
 * value of 0 to 2^63 with an error below 1.6 %, and adding one costs a few instructions.
 *
 * The choice: 64 buckets for each power of two (as HdrHistogram has them) and exact ones below 64.
 * One thread at a time. Zeroed memory is an empty histogram. Any unit; bench counts nanoseconds. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_BITS 6
#define HISTOGRAM_SUB (1u << HISTOGRAM_BITS)
#define HISTOGRAM_BUCKETS ((63 - HISTOGRAM_BITS + 1) * HISTOGRAM_SUB + HISTOGRAM_SUB)

struct histogram {
    uint64_t total;
    uint64_t max; /* exact */
    uint64_t counts[HISTOGRAM_BUCKETS];
};

static inline size_t histogram_bucket(uint64_t value)
{
    if (value < HISTOGRAM_SUB) return (size_t)value;
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_BITS;
    return (size_t)shift * HISTOGRAM_SUB + (size_t)(value >> shift);
}

/* histogram_upper is the largest value that falls into bucket i. */
static inline uint64_t histogram_upper(size_t i)
{
    if (i < 2 * HISTOGRAM_SUB) return i;
    unsigned shift = (unsigned)(i / HISTOGRAM_SUB) - 1;
    return ((i % HISTOGRAM_SUB + HISTOGRAM_SUB + 1) << shift) - 1;
}

static inline void histogram_add(struct histogram *h, uint64_t value)
{
    h->total++;
    if (value > h->max) h->max = value;
    h->counts[histogram_bucket(value)]++;
}

/* histogram_quantile gives a value that at least the fraction q (0..1) of all values do not exceed,
 * at most 1.6 % above the true one; 0 when empty. */
static inline uint64_t histogram_quantile(const struct histogram *h, double q)
{
    double exact = q * (double)h->total;
    uint64_t rank = (uint64_t)exact, seen = 0;
    if ((double)rank < exact || rank == 0) rank++;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->counts[i];
        if (seen >= rank) return histogram_upper(i) < h->max ? histogram_upper(i) : h->max;
    }
    return h->max;
}

#endif
