/* kernel.h - what the kernel says: how much memory there is for us, and how its sockets do.
 *
 * Files that are not there (in containers) and lines that are not understood leave their figures
 * out. The parsers are pure: any bytes, no NUL needed. Any thread; the rest reads files. */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* kernel_memory_bytes: of the machine, or what the cgroups we are in allow of it. */
uint64_t kernel_memory_bytes(void);

/* kernel_memory_max reads a file of a cgroup, memory.max (v2) or memory.limit_in_bytes (v1):
 * UINT64_MAX if it sets no limit. */
uint64_t kernel_memory_max(const char *text, size_t len);

#endif
