/* guard.h - test input that ends at an unreadable page, so that reading one byte past it faults.
 *
 * Test programs only. Header only: static functions, so that a fuzz target may use it as well. */
#ifndef GUARD_H
#define GUARD_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static inline size_t guard_pages(size_t len) /* bytes of whole pages that hold len bytes */
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (len + page - 1) / page * page;
}

/* guard_copy gives a writable copy of len bytes whose end touches an unreadable page; bytes may be
 * NULL for zeros. The copy is aligned to nothing. Ends the program when memory is out. */
static inline void *guard_copy(const void *bytes, size_t len)
{
    size_t usable = guard_pages(len), page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *map =
        mmap(NULL, usable + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (map == MAP_FAILED || mprotect(map + usable, page, PROT_NONE) == -1) abort();
    uint8_t *copy = map + usable - len;
    if (bytes && len > 0) memcpy(copy, bytes, len);
    return copy;
}

/* guard_free gives back what guard_copy made, with the same len. */
static inline void guard_free(void *copy, size_t len)
{
    size_t usable = guard_pages(len), page = (size_t)sysconf(_SC_PAGESIZE);
    munmap((uint8_t *)copy + len - usable, usable + page);
}

#endif
