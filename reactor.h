/* reactor.h - epoll and a wake-up: what a worker sleeps in (epoll(7), edge-triggered for
 * connections).
 *
 * What was registered comes back as a pointer with a tag in its low bits, so that a worker tells a
 * connection from a listener by one compare. reactor_wake: any thread. Everything else: worker
 * only. */
#ifndef REACTOR_H
#define REACTOR_H

#include <stdint.h>
#include <sys/epoll.h>

enum reactor_tag { REACTOR_CONN, REACTOR_LISTENER, REACTOR_WAKE }; /* two low bits of the pointer */

#define REACTOR_EVENTS 512 /* taken from the kernel in one call */

struct reactor {
    int epoll_fd;
    int wake_fd;
    struct epoll_event events[REACTOR_EVENTS];
};

/* reactor_open returns 0, or -1 with errno and nothing left open. */
int reactor_open(struct reactor *r);
void reactor_close(struct reactor *r);

/* reactor_add registers fd once, for good: closing the descriptor takes it out. object is 4-byte
 * aligned at least. 0 or -1 with errno (ENOSPC: fs.epoll.max_user_watches). */
int reactor_add(struct reactor *r, int fd, uint32_t events, void *object, enum reactor_tag tag);
void reactor_remove(struct reactor *r, int fd);

/* reactor_wait fills r->events and returns how many; 0 after timeout_ms (-1 = no timeout) or on a
 * signal. */
int reactor_wait(struct reactor *r, int timeout_ms);

/* reactor_wake makes a sleeping reactor_wait return. Any thread. reactor_woken takes the wake-up
 * in. */
void reactor_wake(struct reactor *r);
void reactor_woken(struct reactor *r);

static inline enum reactor_tag reactor_tag_of(const struct epoll_event *e)
{
    return (enum reactor_tag)(e->data.u64 & 3);
}

static inline void *reactor_object_of(const struct epoll_event *e)
{
    return (void *)(uintptr_t)(e->data.u64 & ~(uint64_t)3); /* NOLINT(performance-no-int-to-ptr) */
}

#endif
