#include "reactor.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int reactor_open(struct reactor *r)
{
    r->wake_fd = -1;
    r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (r->epoll_fd == -1) return -1;
    r->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (r->wake_fd == -1) goto fail;
    if (reactor_add(r, r->wake_fd, EPOLLIN, r, REACTOR_WAKE) == -1) goto fail;
    return 0;
fail:
    reactor_close(r);
    return -1;
}

void reactor_close(struct reactor *r)
{
    int saved = errno;
    if (r->wake_fd != -1) close(r->wake_fd);
    if (r->epoll_fd != -1) close(r->epoll_fd);
    r->wake_fd = r->epoll_fd = -1;
    errno = saved;
}

int reactor_add(struct reactor *r, int fd, uint32_t events, void *object, enum reactor_tag tag)
{
    struct epoll_event e = {.events = events, .data.u64 = (uint64_t)(uintptr_t)object | tag};
    return epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, fd, &e);
}

void reactor_remove(struct reactor *r, int fd)
{
    epoll_ctl(r->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

int reactor_wait(struct reactor *r, int timeout_ms)
{
    int n = epoll_wait(r->epoll_fd, r->events, REACTOR_EVENTS, timeout_ms);
    return n > 0 ? n : 0;
}

void reactor_wake(struct reactor *r)
{
    (void)eventfd_write(r->wake_fd, 1); /* fails only when the counter is full: then it is awake */
}

void reactor_woken(struct reactor *r)
{
    eventfd_t n;
    (void)eventfd_read(r->wake_fd, &n);
}
