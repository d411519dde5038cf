/* bare.h - what bare_echo, bare_fanout and bare_uring share: the ceilings to compare a server with
 * (peers.md).
 *
 * No checks, no timers, no tokens, no closing handshake: a listener, the shortest opening
 * handshake, level-triggered epoll. Not for use, and not in the product. One thread. */
#ifndef BARE_H
#define BARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BARE_DESCRIPTORS_MAX 65536

/* bare_serve listens on a port of 127.0.0.1 that the kernel chooses and says so like `roost serve`
 * does: "msg=listening url=ws://127.0.0.1:PORT". Then, for ever: opened(fd) after an opening
 * handshake, readable(fd) when there is something to read, which returns false when fd is to be
 * closed, and then closed(fd). opened and closed may be NULL. Returns only on failure. */
struct bare_handler {
    void (*opened)(int fd);
    bool (*readable)(int fd);
    void (*closed)(int fd);
};
int bare_serve(const struct bare_handler *handler);

/* bare_send_all sends len bytes, waiting when the socket is full. False when the peer is gone. */
bool bare_send_all(int fd, const uint8_t *bytes, size_t len);

/* bare_fanout serves a fan-out: what any connection sends goes to all of them, the frames of one
 * recv together, their headers and payload made once. send_to_all sends len bytes to each of count
 * descriptors, and is done with the bytes when it returns. Returns only on failure. */
typedef void bare_fanout_fn(const int *fds, size_t count, const uint8_t *bytes, size_t len);
int bare_fanout(bare_fanout_fn *send_to_all);

#endif
