/* mem.h - memory of a worker: slabs of equal objects, and a pool of slabs by size class.
 *
 * The problem: no malloc between two epoll_wait calls once warm, objects of 24 to 200 bytes
 * without a header each, and memory that goes back to the system when connections go.
 * A slab takes aligned chunks from mmap; a chunk knows how many of its objects are in use and its
 * own free list; a chunk that becomes wholly free is unmapped, one spare kept (more for a while
 * where objects come and go in waves).
 *
 * Threads: a slab or pool belongs to one worker. The owner calls everything; any other thread
 * may call only the *_free functions: they notice that the caller is not the owner and
 * push the object on a lock-free stack, which the owner takes by mem_pool_reclaim once a turn.
 * Sizes are bytes. Memory from here is not zeroed unless said. */
#ifndef MEM_H
#define MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mem_pool; /* opaque: a worker's slabs, one a size class, and its counters */

/* Objects up to this size come from slabs; larger ones from malloc (with the same calls). 256 KiB
 * and the class above: a frame of the largest run of publications has a head as well. */
#define MEM_SLAB_MAX (288u * 1024)

/* mem_pool_new makes a pool owned by the thread that calls it (or by the one that later calls
 * mem_pool_own). Returns NULL with errno. mem_pool_delete unmaps everything, objects in use
 * included; no other thread may still free into it. */
struct mem_pool *mem_pool_new(void);
void mem_pool_own(struct mem_pool *p);
void mem_pool_delete(struct mem_pool *p);

/* mem_pool_keep_secret keeps the slabs of p out of core dumps from now on (MADV_DONTDUMP), for keys.
 * What is freed is the caller's to wipe. Owner, before the first mem_alloc. */
void mem_pool_keep_secret(struct mem_pool *p);

/* mem_alloc gives size bytes (1..64 MiB + 64), 8-byte aligned, or NULL when memory is out
 * (counted). The size class is found from size again at mem_free, so both must be given the same
 * size. Slack of a class is at most 8 bytes up to 256 bytes, about 1/8 above. */
void *mem_alloc(struct mem_pool *p, size_t size);
void *mem_zalloc(struct mem_pool *p, size_t size);

/* mem_free gives an object of p back. Any thread. ptr may be NULL. */
void mem_free(struct mem_pool *p, void *ptr, size_t size);

/* mem_usable says how many bytes an object asked for with size really has (>= size). */
size_t mem_usable(size_t size);

/* mem_pool_reclaim takes back what other threads freed. Owner, once a turn; a load and a compare
 * when there is nothing. */
void mem_pool_reclaim(struct mem_pool *p);

/* mem_pool_trim unmaps the spare chunks that were not needed since the last call. Owner, about once
 * a second. Returns true while there are spares left, so that another call may find more to do:
 * a worker that is about to sleep for long should then sleep a second at most. */
bool mem_pool_trim(struct mem_pool *p);

struct mem_stats {
    size_t used_bytes;   /* in objects, slack of classes included */
    size_t mapped_bytes; /* chunks mapped plus large objects */
    uint64_t failed;     /* allocations refused */
};
/* mem_pool_stats: any thread; relaxed reads, each field right for itself. */
struct mem_stats mem_pool_stats(const struct mem_pool *p);

/* mem_fail_at makes the k-th allocation from now on of any pool, mmap or malloc in this module fail
 * once (k = 1 is the next); 0 switches it off. The seam of the failure-injection tests. Any
 * thread. */
void mem_fail_at(uint64_t k);

#endif
