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
 * that was last found full when an object came back, which is about the fullest. So objects stay
 * close together. A chunk that lost its last object becomes a spare, or is unmapped if the slab
 * has enough. Enough is one, and twice as many each time a slab must map again what it has just
 * unmapped (frames come and go in waves, a turn each), until mem_pool_trim finds spares that
 * nobody asked for since its last call.
 *
 * Cost: 32 bytes a chunk of 64 KiB or more, some 20 instructions an alloc or free. An object freed
 * by another thread becomes a node (link and size) of one stack a pool.
 * Rejected: malloc (16 bytes an object, and its heaps seldom shrink), a lock or a queue a thread
 * pair for foreign frees. */

#define ALIGN 8u
#define OBJECT_MIN 16u /* link and size of a remote free */
#define SMALL_MAX 256u /* classes in steps of ALIGN up to here, then 8 a doubling */
#define SMALL_CLASSES (SMALL_MAX / ALIGN + 1)
#define CLASSES (SMALL_CLASSES + 10 * 8 + 1) /* 10 doublings from SMALL_MAX, and MEM_SLAB_MAX */
#define CHUNK_MIN (64u * 1024)
#define CHUNK_MAX (1u << 20)
#define CHUNK_OBJECTS                                                                              \
    16u /* a chunk has room for about so many, if CHUNK_MAX has: 3 of the largest */
#define SPARES_MAX_BYTES (16u << 20) /* a slab; one chunk is always allowed */
#define SIZE_MAX_BYTES ((64u << 20) + 64)

struct object { /* a free one */
    struct object *next;
    size_t size; /* remote frees only */
};

struct chunk {
    struct list link;    /* in partial, full or spares of its slab; current is in none */
    struct object *free; /* came back */
    uint32_t used;       /* objects out */
    uint32_t fresh;      /* objects handed out at least once; those above touched no page */
};

struct slab {
    struct chunk *current; /* allocations come from here; may be empty, full or NULL */
    uint32_t object_bytes, chunk_bytes;
    uint32_t capacity;   /* objects a chunk */
    uint16_t spare;      /* chunks in spares, */
    uint16_t spare_low;  /* the fewest of them since the last trim, */
    uint16_t spare_keep; /* and how many may be there, an empty current counted */
    bool unmapped;       /* since the last trim */
    struct list partial; /* with room, the one that last became so first */
    struct list full;
    struct list spares; /* wholly free */
};

struct large { /* in front of an object above MEM_SLAB_MAX */
    struct list link;
};

struct mem_pool {
    _Atomic(const char *) owner; /* the owner's thread_identity */
    bool secret;                 /* chunks are not for core dumps */
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
                                                       memory_order_relaxed))
        ;
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
    if (size <= SMALL_MAX) return (unsigned)(size + ALIGN - 1) / ALIGN;
    unsigned last = (unsigned)size - 1;
    unsigned doubling = 31 - (unsigned)__builtin_clz(last); /* 8..18 */
    unsigned step = last >> (doubling - 3) & 7;
    return SMALL_CLASSES + (doubling - 8) * 8 + step;
}

static uint32_t class_bytes(unsigned size_class)
{
    if (size_class <= OBJECT_MIN / ALIGN) return OBJECT_MIN;
    if (size_class < SMALL_CLASSES) return size_class * ALIGN;
    unsigned doubling = 8 + (size_class - SMALL_CLASSES) / 8;
    unsigned step = (size_class - SMALL_CLASSES) % 8;
    return (8 + step + 1) << (doubling - 3);
}

size_t mem_usable(size_t size)
{
    return size <= MEM_SLAB_MAX ? class_bytes(class_of(size)) : size;
}

static void slab_init(struct slab *s, unsigned size_class)
{
    s->object_bytes = class_bytes(size_class);
    s->chunk_bytes = CHUNK_MIN;
    /* Above 4 KiB: twice the chunk for twice the object. */
    while (s->chunk_bytes < s->object_bytes * CHUNK_OBJECTS && s->chunk_bytes < CHUNK_MAX)
        s->chunk_bytes *= 2;
    s->capacity = (s->chunk_bytes - (uint32_t)sizeof(struct chunk)) / s->object_bytes;
    s->spare_keep = 1;
    list_init(&s->partial);
    list_init(&s->full);
    list_init(&s->spares);
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
    for (unsigned size_class = 0; size_class < CLASSES; size_class++)
        slab_init(&p->slabs[size_class], size_class);
    mem_pool_own(p);
    return p;
}

void mem_pool_own(struct mem_pool *p)
{
    atomic_store_explicit(&p->owner, &thread_identity, memory_order_relaxed);
}

void mem_pool_keep_secret(struct mem_pool *p)
{
    p->secret = true;
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
    if (p->secret) (void)madvise(c, s->chunk_bytes, MADV_DONTDUMP);
    add(&p->mapped_bytes, s->chunk_bytes);
    list_init(&c->link); /* the rest is zero */
    HIDE(c + 1, s->chunk_bytes - sizeof *c);
    return c;
}

static void chunk_unmap(struct mem_pool *p, const struct slab *s, struct chunk *c)
{
    list_remove(&c->link);
    SHOW(c, s->chunk_bytes);
    munmap(c, s->chunk_bytes);
    add(&p->mapped_bytes, -(size_t)s->chunk_bytes);
}

/* The hot paths are written out in mem_alloc and own_free; all else is kept out of them. */
#define COLD __attribute__((noinline, cold))
#define LIKELY(x) __builtin_expect(!!(x), 1)

static struct chunk *first_of(struct list *l)
{
    return list_entry(l->next, struct chunk, link);
}

/* map_more has found no spare. If one was unmapped a moment ago, more shall be kept. */
static struct chunk *map_more(struct mem_pool *p, struct slab *s)
{
    if (s->unmapped && s->spare_keep * s->chunk_bytes < SPARES_MAX_BYTES)
        s->spare_keep = (uint16_t)(2 * s->spare_keep);
    return chunk_map(p, s);
}

/* next_chunk puts a chunk with room in the place of a full one (or of none). */
static struct chunk *next_chunk(struct mem_pool *p, struct slab *s)
{
    struct chunk *c;
    if (!list_empty(&s->partial)) {
        c = first_of(&s->partial);
    } else if (s->spare) {
        c = first_of(&s->spares);
        s->spare--;
        if (s->spare < s->spare_low) s->spare_low = s->spare;
    } else {
        c = map_more(p, s);
        if (!c) return NULL;
    }
    list_remove(&c->link);
    if (s->current) list_push_back(&s->full, &s->current->link);
    s->current = c;
    return c;
}

static inline void *take(struct mem_pool *p, struct slab *s, struct chunk *c, struct object *o)
{
    c->used++;
    SHOW(o, s->object_bytes);
    add(&p->used_bytes, s->object_bytes);
    return o;
}

static inline void *take_freed(struct mem_pool *p, struct slab *s, struct chunk *c)
{
    struct object *o = c->free;
    c->free = o->next;
    return take(p, s, c, o);
}

/* take_fresh takes what was not in use since c was empty: so the objects of a wave, whose chunks
 * the wave before has left empty. */
static inline void *take_fresh(struct mem_pool *p, struct slab *s, struct chunk *c)
{
    return take(p, s, c, (struct object *)((char *)(c + 1) + (size_t)c->fresh++ * s->object_bytes));
}

static void *slab_alloc(struct mem_pool *p, struct slab *s)
{
    struct chunk *c = s->current;
    if (!c || c->used == s->capacity) c = next_chunk(p, s);
    if (!c) return NULL;
    return c->free ? take_freed(p, s, c) : take_fresh(p, s, c);
}

static void add_spare(struct slab *s, struct chunk *c)
{
    list_push_front(&s->spares, &c->link);
    s->spare++;
}

static void drop_spare(struct mem_pool *p, struct slab *s)
{
    chunk_unmap(p, s, list_entry(s->spares.prev, struct chunk, link));
    s->spare--;
}

/* keep_enough unmaps a spare if there are too many; an empty current chunk is one of them. */
static void keep_enough(struct mem_pool *p, struct slab *s)
{
    int idle = s->spare + (s->current && !s->current->used);
    if (idle <= s->spare_keep) return;
    drop_spare(p, s);
    if (s->spare < s->spare_low) s->spare_low = s->spare;
    s->unmapped = true;
}

/* chunk_idle: c has lost its last object. As the current one it may stay, so that one object that
 * comes and goes costs nothing, unless there are holes elsewhere to fill first. */
static void chunk_idle(struct mem_pool *p, struct slab *s, struct chunk *c)
{
    c->free = NULL; /* from the first page again */
    c->fresh = 0;
    if (c != s->current) {
        list_remove(&c->link);
        add_spare(s, c);
    } else if (!list_empty(&s->partial)) {
        s->current = first_of(&s->partial);
        list_remove(&s->current->link);
        add_spare(s, c);
    }
    keep_enough(p, s);
}

/* chunk_freed: c has just lost an object, and was full or is now empty (or both). */
static COLD void chunk_freed(struct mem_pool *p, struct slab *s, struct chunk *c)
{
    if (c->used + 1 == s->capacity && c != s->current) {
        list_remove(&c->link);
        list_push_front(&s->partial, &c->link);
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

static COLD void large_free(struct mem_pool *p, void *ptr, size_t size)
{
    struct large *l = (struct large *)ptr - 1;
    list_remove(&l->link);
    free(l);
    add(&p->used_bytes, -size);
    add(&p->mapped_bytes, -(sizeof *l + size));
}

static COLD void *alloc_slowly(struct mem_pool *p, size_t size)
{
    void *ptr = NULL;
    if (!must_fail()) {
        if (size <= MEM_SLAB_MAX)
            ptr = slab_alloc(p, &p->slabs[class_of(size)]);
        else
            ptr = large_alloc(p, size);
    }
    if (!ptr) add(&p->failed, 1);
    return ptr;
}

void *mem_alloc(struct mem_pool *p, size_t size)
{
    if (LIKELY(size <= MEM_SLAB_MAX && !atomic_load_explicit(&fail_in, memory_order_relaxed))) {
        struct slab *s = &p->slabs[class_of(size)];
        struct chunk *c = s->current;
        if (LIKELY(c && c->free)) return take_freed(p, s, c);
        if (c && c->used < s->capacity) return take_fresh(p, s, c);
    }
    return alloc_slowly(p, size);
}

void *mem_zalloc(struct mem_pool *p, size_t size)
{
    void *ptr = mem_alloc(p, size);
    return ptr ? memset(ptr, 0, size) : NULL;
}

static inline void own_free(struct mem_pool *p, void *ptr, size_t size)
{
    if (!LIKELY(size <= MEM_SLAB_MAX)) {
        large_free(p, ptr, size);
        return;
    }
    struct slab *s = &p->slabs[class_of(size)];
    struct chunk *c = chunk_of(s, ptr);
    struct object *o = ptr;
    assert(c->used > 0);
    o->next = c->free;
    c->free = o;
    HIDE(&o->size, s->object_bytes - sizeof o->next);
    add(&p->used_bytes, -(size_t)s->object_bytes);
    uint32_t used = c->used--;
    if (!LIKELY(used != 1 && used != s->capacity)) chunk_freed(p, s, c);
}

static COLD void remote_free(struct mem_pool *p, struct object *o, size_t size)
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
    else
        remote_free(p, ptr, size);
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

static bool slab_trim(struct mem_pool *p, struct slab *s)
{
    struct chunk *c = s->current;
    if (c && !c->used) { /* counts as a spare from now on */
        s->current = NULL;
        add_spare(s, c);
    }
    if (s->spare_low) s->spare_keep = 1; /* will grow again if that was wrong */
    for (; s->spare_low; s->spare_low--) drop_spare(p, s);
    s->spare_low = s->spare;
    s->unmapped = false;
    return s->spare;
}

bool mem_pool_trim(struct mem_pool *p)
{
    bool left = false;
    for (unsigned size_class = 0; size_class < CLASSES; size_class++)
        left |= slab_trim(p, &p->slabs[size_class]);
    return left;
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
    while (!list_empty(l)) chunk_unmap(p, s, first_of(l));
}

void mem_pool_delete(struct mem_pool *p)
{
    if (!p) return;
    for (unsigned size_class = 0; size_class < CLASSES; size_class++) {
        struct slab *s = &p->slabs[size_class];
        if (s->current) chunk_unmap(p, s, s->current);
        unmap_list(p, s, &s->spares);
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
