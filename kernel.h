/* kernel.h - what the kernel says: how much memory there is for us, and how its sockets do.
 *
 * Files that are not there (in containers, or hidden by a service manager) and texts that are not
 * understood leave their figures out. The parsers are pure: any bytes, no NUL needed. Any thread;
 * the rest asks the kernel. */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "metrics.h"

/* ---- parsers: false, and *out as it was, if what they look for is not there ---- */

struct kernel_listen {  /* of all listening sockets of the network namespace, since it began */
    uint64_t overflows; /* accept queue full */
    uint64_t drops;     /* connections not taken, for whatever reason */
};
bool kernel_parse_netstat(struct kernel_listen *out, const char *text, size_t len);

/* kernel_parse_sockstat: pages that TCP uses for payload, in the whole namespace. */
bool kernel_parse_sockstat(uint64_t *pages, const char *text, size_t len);

/* kernel_parse_tcp_mem: pages below which TCP saves nothing, above which it does, and of which it
 * takes no more. */
struct kernel_tcp_mem {
    uint64_t low, pressure, max;
};
bool kernel_parse_tcp_mem(struct kernel_tcp_mem *out, const char *text, size_t len);

/* kernel_memory_max reads a file of a cgroup, memory.max (v2) or memory.limit_in_bytes (v1):
 * UINT64_MAX if it sets no limit. */
uint64_t kernel_memory_max(const char *text, size_t len);

/* ---- the machine ---- */

/* kernel_memory_bytes: of the machine, or what the cgroups we are in allow of it. */
uint64_t kernel_memory_bytes(void);

/* ---- sockets ---- */

#define KERNEL_SAMPLES 64u
#define KERNEL_LISTENERS 32u

/* What a worker was last told of its sockets. It alone writes, anyone reads: relaxed, each number
 * right for itself. Zeroed memory is a good one. */
struct kernel_sockets {
    _Atomic uint32_t count; /* of samples */
    _Atomic uint32_t rtt_us[KERNEL_SAMPLES], unsent_bytes[KERNEL_SAMPLES];
    _Atomic uint32_t accept_queue[KERNEL_LISTENERS], accept_max[KERNEL_LISTENERS];
};

/* kernel_ask_connection is told by TCP_INFO how an open connection does; false for another kind of
 * socket. kernel_ask_listener: how many wait to be accepted, and how many may. */
bool kernel_ask_connection(int fd, uint32_t *rtt_us, uint32_t *unsent_bytes);
uint32_t kernel_ask_unsent(int fd); /* bytes that the peer has not got yet (SIOCOUTQ); 0: none, or
                                       not known */
bool kernel_ask_listener(int fd, uint32_t *queue, uint32_t *max);

/* ---- for /metrics ---- */

struct kernel_view {
    const struct kernel_sockets *const *workers;
    size_t worker_count;
    const char *const *listeners; /* their URLs, in the order in which each worker has them */
    size_t listener_count;
    uint64_t descriptors_open; /* if the kernel does not say (before Linux 6.2) */
    uint64_t descriptors_max;
};

/* kernel_render asks the kernel and appends its figures to t. Takes some 0.1 ms. */
void kernel_render(struct metrics_text *t, const struct kernel_view *v);

#endif
