/* listen.h - opens listening sockets: TCP by SO_REUSEPORT, one a worker; Unix sockets, one shared
 * by all.
 *
 * Main thread, before workers start. */
#ifndef LISTEN_H
#define LISTEN_H

#include <stdbool.h>
#include <stdint.h>

struct listen_options {
    int backlog;             /* the kernel takes the lesser of this and net.core.somaxconn */
    int64_t user_timeout_ms; /* TCP_USER_TIMEOUT: a peer that acknowledges nothing for so long is
                                gone */
    bool first; /* of this address in this process: fail if another process listens there */
};

/* listen_tcp opens a socket on a literal address; *port 0 lets the kernel choose and is filled in,
 * so that the next worker's socket can share it. IPv6 sockets take IPv6 only. Returns the
 * descriptor or -1 with errno. */
int listen_tcp(const char *host, bool ipv6, uint16_t *port, const struct listen_options *o);

/* listen_unix opens a Unix socket at path; one left behind by a process that is gone is replaced.
 */
int listen_unix(const char *path, const struct listen_options *o);

/* listen_inherited takes a socket that a service manager has opened for us (LISTEN_FDS and
 * LISTEN_PID, sd_listen_fds(3)) on that address, or returns -1. host NULL: the Unix socket at path.
 * It is one for all workers. listen_inherited_rest closes those that nobody has taken and returns
 * how many there were, and takes the variables out of the environment. */
int listen_inherited(const char *host, bool ipv6, uint16_t port, const char *path,
                     const struct listen_options *o);
unsigned listen_inherited_rest(void);

#endif
