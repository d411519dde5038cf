#include "mem.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "list.h"

/* The problem: millions of small objects without a header each, in memory that goes back.
 *
 * A size class is a slab. Its chunks are aligned to their size, so an object's chunk is found by
 * a mask, and objects that were never used cost no page: a chunk hands them out in order, and
 * those that came back first. A slab fills one chunk at a time; when that is full it takes the one
 * that last had an object freed, which is about the fullest. So objects stay close together,
 * and a chunk that lost its last object is unmapped, but for one spare a slab.
 *
 * Cost: 32 bytes a chunk of 64 KiB or more, some 20 instructions an alloc or free. An object freed
 * by another thread becomes a node (link and size) of one stack a pool.
 * Rejected: malloc (16 bytes an object, and its heaps seldom shrink), a lock or a queue a thread
 * pair for foreign frees. */

#define ALIGN 8u
#define OBJECT_MIN 16u /* link and size of a remote free */
#define SMALL_MAX 256u /* classes in steps of ALIGN up to here, then 8 a doubling */
#define SMALL_CLASSES ((SMALL_MAX - OBJECT_MIN) / ALIGN + 1)
#define CLASSES (SMALL_CLASSES + 8 * 8) /* 8 doublings from SMALL_MAX to MEM_SLAB_MAX */
#define CHUNK_MIN (64u * 1024)
#define CHUNK_OBJECTS 16u /* a chunk of large objects has room for about so many */
#define SIZE_MAX_BYTES ((64u << 20) + 64)

struct object { /* a free one */
    struct object *next;
    size_t size; /* remote frees only */
};

struct chunk {
    struct list link;    /* slab->partial or slab->full, or in neither: current and spare */
    struct object *free; /* came back */
    uint32_t used;       /* objects out */
    uint32_t fresh;      /* objects handed out at least once; those above touched no page */
};

struct slab {
    struct chunk *current; /* allocations come from here; NULL before the first */
    struct chunk *spare;   /* wholly free, or NULL */
    struct list partial;   /* with room, the one that last became so first */
    struct list full;
    uint32_t object_bytes, chunk_bytes;
    uint32_t capacity; /* objects a chunk */
};

struct large { /* in front of an object above MEM_SLAB_MAX */
    struct list link;
};

struct mem_pool {
    _Atomic(const char *) owner; /* the owner's thread_identity */
    struct list large;
    _Atomic size_t used_bytes, mapped_bytes; /* relaxed, written by the owner only */
    _Atomic uint64_t failed;                 /* likewise */
    struct slab slabs[CLASSES];
    _Alignas(64) _Atomic(struct object *) remote; /* release by who frees, acquire by the owner */
};

/* Its address tells threads apart without a call. */
static _Thread_local char thread_identity;

static _Atomic uint64_t fail_in; /* relaxed; 0 = off */

/* AddressSanitizer cannot see into slabs unless it is told what is free. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define HIDE(at, bytes) __asan_poison_memory_region(at, bytes)
#define SHOW(at, bytes) __asan_unpoison_memory_region(at, bytes)
#else
#define HIDE(at, bytes) ((void)0)
#define SHOW(at, bytes) ((void)0)
#endif

void mem_fail_at(uint64_t k)
{
    atomic_store_explicit(&fail_in, k, memory_order_relaxed);
}

static bool count_down(void)
{
    uint64_t k = atomic_load_explicit(&fail_in, memory_order_relaxed);
    while (k && !atomic_compare_exchange_weak_explicit(&fail_in, &k, k - 1, memory_order_relaxed,
                                                       memory_order_relaxed));
    return k == 1;
}

static inline bool must_fail(void)
{
    if (__builtin_expect(!atomic_load_explicit(&fail_in, memory_order_relaxed), 1)) return false;
    return count_down();
}

/* add is for counters that one thread writes: no locked instruction. */
static inline void add(_Atomic size_t *counter, size_t n)
{
    size_t now = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, now + n, memory_order_relaxed);
}

static inline unsigned class_of(size_t size)
{
    if (size <= OBJECT_MIN) return 0;
    if (size <= SMALL_MAX) return (unsigned)((size - OBJECT_MIN + ALIGN - 1) / ALIGN);
    unsigned last = (unsigned)size - 1;
    unsigned doubling = 31 - (unsigned)__builtin_clz(last); /* 8..15 */
    unsigned step = last >> (doubling - 3) & 7;
    return SMALL_CLASSES + (doubling - 8) * 8 + step;
}

static uint32_t class_bytes(unsigned class)
{
    if (class < SMALL_CLASSES) return OBJECT_MIN + class * ALIGN;
    unsigned doubling = 8 + (class - SMALL_CLASSES) / 8, step = (class - SMALL_CLASSES) % 8;
    return (8 + step + 1) << (doubling - 3);
}

size_t mem_usable(size_t size)
{
    return size <= MEM_SLAB_MAX ? class_bytes(class_of(size)) : size;
}

static void slab_init(struct slab *s, unsigned class)
{
    s->object_bytes = class_bytes(class);
    s->chunk_bytes = CHUNK_MIN;
    /* Above 4 KiB: twice the chunk for twice the object. */
    while (s->chunk_bytes < s->object_bytes * CHUNK_OBJECTS) s->chunk_bytes *= 2;
    s->capacity = (s->chunk_bytes - (uint32_t)sizeof(struct chunk)) / s->object_bytes;
    list_init(&s->partial);
    list_init(&s->full);
}

struct mem_pool *mem_pool_new(void)
{
    struct mem_pool *p = must_fail() ? NULL : aligned_alloc(_Alignof(struct mem_pool), sizeof *p);
    if (!p) {
        errno = ENOMEM;
        return NULL;
    }
    memset(p, 0, sizeof *p);
    list_init(&p->large);
    for (unsigned class = 0; class < CLASSES; class++) slab_init(&p->slabs[class], class);
    mem_pool_own(p);
    return p;
}

void mem_pool_own(struct mem_pool *p)
{
    atomic_store_explicit(&p->owner, &thread_identity, memory_order_relaxed);
}

static inline struct chunk *chunk_of(const struct slab *s, void *object)
{
    return (struct chunk *)((uintptr_t)object & ~((uintptr_t)s->chunk_bytes - 1));
}

/* map_aligned: as a rule the kernel maps right below the last chunk, and that is aligned. */
static void *map_aligned(size_t bytes)
{
    const int prot = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
    char *at = mmap(NULL, bytes, prot, flags, -1, 0);
    if (at == MAP_FAILED) return NULL;
    if (!((uintptr_t)at & (bytes - 1))) return at;
    munmap(at, bytes);
    at = mmap(NULL, 2 * bytes, prot, flags, -1, 0);
    if (at == MAP_FAILED) return NULL;
    size_t before = -(uintptr_t)at & (bytes - 1);
    if (before) munmap(at, before);
    munmap(at + before + bytes, bytes - before);
    return at + before;
}

static struct chunk *chunk_map(struct mem_pool *p, const struct slab *s)
{
    struct chunk *c = must_fail() ? NULL : map_aligned(s->chunk_bytes);
    if (!c) return NULL;
    add(&p->mapped_bytes, s->chunk_bytes);
    list_init(&c->link); /* the rest is zero */
    HIDE(c + 1, s->chunk_bytes - sizeof *c);
    return c;
}

static void chunk_unmap(struct mem_pool *p, const struct slab *s, struct chunk *c)
{
    SHOW(c, s->chunk_bytes);
    munmap(c, s->chunk_bytes);
    add(&p->mapped_bytes, -(size_t)s->chunk_bytes);
}

/* next_chunk puts a chunk with room in the place of a full one (or of none). */
static struct chunk *next_chunk(struct mem_pool *p, struct slab *s)
{
    struct chunk *c = s->spare;
    if (!list_empty(&s->partial)) {
        c = list_entry(s->partial.next, struct chunk, link);
        list_remove(&c->link);
    } else if (c) {
        s->spare = NULL;
    } else {
        c = chunk_map(p, s);
        if (!c) return NULL;
    }
    if (s->current) list_push_back(&s->full, &s->current->link);
    s->current = c;
    return c;
}

static void *slab_alloc(struct mem_pool *p, struct slab *s)
{
    struct chunk *c = s->current;
    if (!c || c->used == s->capacity) {
        c = next_chunk(p, s);
        if (!c) return NULL;
    }
    struct object *o = c->free;
    if (o) {
        c->free = o->next;
    } else {
        o = (struct object *)((char *)(c + 1) + (size_t)c->fresh * s->object_bytes);
        c->fresh++;
    }
    c->used++;
    SHOW(o, s->object_bytes);
    add(&p->used_bytes, s->object_bytes);
    return o;
}

/* chunk_idle keeps one wholly free chunk a slab, so that an object that comes and goes does not
 * map and unmap, and lets a partial chunk be filled before an empty one. */
static void chunk_idle(struct mem_pool *p, struct slab *s, struct chunk *c)
{
    c->free = NULL;
    c->fresh = 0;
    if (c == s->current) {
        if (list_empty(&s->partial)) {
            if (s->spare) chunk_unmap(p, s, s->spare);
            s->spare = NULL;
            return;
        }
        s->current = list_entry(s->partial.next, struct chunk, link);
        list_remove(&s->current->link);
    } else {
        list_remove(&c->link);
    }
    if (s->spare || !s->current->used) chunk_unmap(p, s, c);
    else s->spare = c;
}

static void slab_free(struct mem_pool *p, struct slab *s, struct object *o)
{
    struct chunk *c = chunk_of(s, o);
    assert(c->used > 0);
    o->next = c->free;
    c->free = o;
    HIDE(&o->size, s->object_bytes - sizeof o->next);
    add(&p->used_bytes, -(size_t)s->object_bytes);
    if (c->used-- == s->capacity && c != s->current) {
        list_remove(&c->link);
        list_push_back(s->partial.next, &c->link); /* before the first: to the front */
    }
    if (!c->used) chunk_idle(p, s, c);
}

static void *large_alloc(struct mem_pool *p, size_t size)
{
    struct large *l = size <= SIZE_MAX_BYTES ? malloc(sizeof *l + size) : NULL;
    if (!l) return NULL;
    list_push_back(&p->large, &l->link);
    add(&p->used_bytes, size);
    add(&p->mapped_bytes, sizeof *l + size);
    return l + 1;
}

static void large_free(struct mem_pool *p, void *ptr, size_t size)
{
    struct large *l = (struct large *)ptr - 1;
    list_remove(&l->link);
    free(l);
    add(&p->used_bytes, -size);
    add(&p->mapped_bytes, -(sizeof *l + size));
}

void *mem_alloc(struct mem_pool *p, size_t size)
{
    void *ptr = NULL;
    if (!must_fail()) {
        if (__builtin_expect(size <= MEM_SLAB_MAX, 1))
            ptr = slab_alloc(p, &p->slabs[class_of(size)]);
        else ptr = large_alloc(p, size);
    }
    if (__builtin_expect(!ptr, 0)) add(&p->failed, 1);
    return ptr;
}

void *mem_zalloc(struct mem_pool *p, size_t size)
{
    void *ptr = mem_alloc(p, size);
    return ptr ? memset(ptr, 0, size) : NULL;
}

static void own_free(struct mem_pool *p, void *ptr, size_t size)
{
    if (__builtin_expect(size <= MEM_SLAB_MAX, 1)) slab_free(p, &p->slabs[class_of(size)], ptr);
    else large_free(p, ptr, size);
}

static void remote_free(struct mem_pool *p, struct object *o, size_t size)
{
    o->size = size;
    if (size <= MEM_SLAB_MAX) HIDE(o + 1, mem_usable(size) - sizeof *o);
    struct object *head = atomic_load_explicit(&p->remote, memory_order_relaxed);
    do {
        o->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&p->remote, &head, o, memory_order_release,
                                                    memory_order_relaxed));
}

void mem_free(struct mem_pool *p, void *ptr, size_t size)
{
    if (!ptr) return;
    if (atomic_load_explicit(&p->owner, memory_order_relaxed) == &thread_identity)
        own_free(p, ptr, size);
    else remote_free(p, ptr, size);
}

void mem_pool_reclaim(struct mem_pool *p)
{
    if (!atomic_load_explicit(&p->remote, memory_order_relaxed)) return;
    struct object *o = atomic_exchange_explicit(&p->remote, NULL, memory_order_acquire);
    while (o) {
        struct object *next = o->next;
        own_free(p, o, o->size);
        o = next;
    }
}

struct mem_stats mem_pool_stats(const struct mem_pool *p)
{
    return (struct mem_stats){
        .used_bytes = atomic_load_explicit(&p->used_bytes, memory_order_relaxed),
        .mapped_bytes = atomic_load_explicit(&p->mapped_bytes, memory_order_relaxed),
        .failed = atomic_load_explicit(&p->failed, memory_order_relaxed),
    };
}

static void unmap_list(struct mem_pool *p, const struct slab *s, struct list *l)
{
    while (!list_empty(l)) {
        struct chunk *c = list_entry(l->next, struct chunk, link);
        list_remove(&c->link);
        chunk_unmap(p, s, c);
    }
}

void mem_pool_delete(struct mem_pool *p)
{
    if (!p) return;
    for (unsigned class = 0; class < CLASSES; class++) {
        struct slab *s = &p->slabs[class];
        if (s->current) chunk_unmap(p, s, s->current);
        if (s->spare) chunk_unmap(p, s, s->spare);
        unmap_list(p, s, &s->partial);
        unmap_list(p, s, &s->full);
    }
    while (!list_empty(&p->large)) {
        struct large *l = list_entry(p->large.next, struct large, link);
        list_remove(&l->link);
        free(l);
    }
    free(p);
}
