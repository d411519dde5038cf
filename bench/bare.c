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
#define RX_BYTES (256u * 1024)

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

static uint8_t rx[RX_BYTES], out[RX_BYTES];
static size_t rx_len; /* there is one publisher, so one buffer is enough */
static int members[BARE_DESCRIPTORS_MAX];
static size_t member_count;
static bare_fanout_fn *fan_out;

static void member_opened(int fd)
{
    members[member_count++] = fd;
}

static void member_closed(int fd)
{
    for (size_t i = 0; i < member_count; i++)
        if (members[i] == fd) members[i--] = members[--member_count];
}

/* unwrap turns the whole frames in rx into unmasked ones in out; returns their length, or -1. */
static ssize_t unwrap(void)
{
    size_t at = 0, len = 0;
    for (;;) {
        struct ws_head h;
        int head = ws_head_parse(&h, rx + at, rx_len - at);
        if (head < 0 || (head > 0 && (!h.masked || h.opcode >= WS_CLOSE))) return -1;
        if (head == 0 || h.payload_len > rx_len - at - (size_t)head) break;
        uint8_t *payload = rx + at + head;
        size_t payload_len = (size_t)h.payload_len;
        ws_unmask(payload, payload_len, h.masking_key, 0);
        h.masked = false;
        len += ws_head_write(out + len, &h);
        memcpy(out + len, payload, payload_len);
        len += payload_len;
        at += (size_t)head + payload_len;
    }
    rx_len -= at;
    memmove(rx, rx + at, rx_len);
    return (ssize_t)len;
}

static bool member_readable(int fd)
{
    ssize_t n = recv(fd, rx + rx_len, sizeof rx - rx_len, 0);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    if (n == 0) return false;
    rx_len += (size_t)n;
    ssize_t len = unwrap();
    if (len > 0) fan_out(members, member_count, out, (size_t)len);
    return len >= 0;
}

int bare_fanout(bare_fanout_fn *send_to_all)
{
    fan_out = send_to_all;
    return bare_serve(&(const struct bare_handler){
        .opened = member_opened, .readable = member_readable, .closed = member_closed});
}
