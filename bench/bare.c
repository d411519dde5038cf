#include "bare.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ws.h"

#define EVENTS 512

static bool open_handshake[BARE_DESCRIPTORS_MAX]; /* true while fd has not sent its request */

bool bare_send_all(int fd, const uint8_t *bytes, size_t len)
{
    while (len) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
        if (n >= 0) {
            bytes += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            poll(&p, 1, 1000);
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

/* The request comes in one piece on loopback; what does not is hung up on. */
static bool shake_hands(int fd)
{
    char request[8192 + 1], accept[29], answer[256];
    ssize_t n = recv(fd, request, sizeof request - 1, 0);
    if (n <= 0) return false;
    request[n] = 0;
    const char *key = strcasestr(request, "\r\nSec-WebSocket-Key: ");
    if (!key || !strstr(request, "\r\n\r\n")) return false;
    ws_accept_key(accept, key + strlen("\r\nSec-WebSocket-Key: "), 24);
    int len = snprintf(answer, sizeof answer,
                       "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                       "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                       accept);
    open_handshake[fd] = false;
    return bare_send_all(fd, (const uint8_t *)answer, (size_t)len);
}

static void accept_all(int epoll_fd, int listener)
{
    for (;;) {
        int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd == -1) return;
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        if (fd >= BARE_DESCRIPTORS_MAX || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) == -1) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        open_handshake[fd] = true;
    }
}

static void serve_one(const struct bare_handler *h, int fd)
{
    bool was_open = !open_handshake[fd];
    bool alive = was_open ? h->readable(fd) : shake_hands(fd);
    if (alive && !was_open && h->opened) h->opened(fd);
    if (alive) return;
    if (was_open && h->closed) h->closed(fd);
    close(fd);
}

static int listen_somewhere(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof any;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd == -1 || bind(fd, (struct sockaddr *)&any, len) == -1 || listen(fd, 4096) == -1 ||
        getsockname(fd, (struct sockaddr *)&any, &len) == -1)
        return -1;
    fprintf(stderr, "msg=listening url=ws://127.0.0.1:%u\n", ntohs(any.sin_port));
    return fd;
}

int bare_serve(const struct bare_handler *handler)
{
    struct epoll_event events[EVENTS];
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    signal(SIGPIPE, SIG_IGN);
    int listener = listen_somewhere(), epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener};
    if (listener == -1 || epoll_fd == -1 ||
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e) == -1) {
        perror("bare");
        return 1;
    }
    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == listener)
                accept_all(epoll_fd, listener);
            else
                serve_one(handler, events[i].data.fd);
        }
    }
}
