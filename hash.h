/* hash.h - SipHash-1-3 of byte strings, keyed, for tables whose keys peers choose: without the key
 * nobody can aim many names at one bucket. Pure functions, any thread. */
#ifndef HASH_H
#define HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hash_key {
    uint64_t k0, k1;
};

uint64_t hash_bytes(const struct hash_key *key, const void *bytes, size_t len);

/* hash_fills, in a table with open addressing, linear steps and mask + 1 places, from which place
 * `hole` is being taken: does the entry at place `at`, behind it in one row, move there? Unless it
 * would get in front of where its hash says. */
static inline bool hash_fills(uint32_t hole, uint32_t at, uint32_t hash, uint32_t mask)
{
    return ((at - hash) & mask) >= ((at - hole) & mask);
}

#endif
