/* hash.h - SipHash-1-3 of byte strings, keyed, for tables whose keys peers choose: without the key
 * nobody can aim many names at one bucket. Pure functions, any thread. */
#ifndef HASH_H
#define HASH_H

#include <stddef.h>
#include <stdint.h>

struct hash_key {
    uint64_t k0, k1;
};

uint64_t hash_bytes(const struct hash_key *key, const void *bytes, size_t len);

#endif
