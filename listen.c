#include "listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define NOTSENT_LOWAT                                                                              \
    (32 * 1024) /* unsent bytes that the kernel may hold: a slow reader is noticed early */

static int fail(int fd)
{
    int saved = errno;
    if (fd != -1) close(fd);
    errno = saved;
    return -1;
}

static void set(int fd, int level, int name, int value)
{
    (void)setsockopt(fd, level, name, &value,
                     sizeof value); /* what an old kernel lacks, it lacks */
}

static socklen_t fill_address(struct sockaddr_storage *sa, const char *host, bool ipv6,
                              uint16_t port)
{
    memset(sa, 0, sizeof *sa);
    if (ipv6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)sa;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        return inet_pton(AF_INET6, host, &in6->sin6_addr) == 1 ? sizeof *in6 : 0;
    }
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)sa;
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    return inet_pton(AF_INET, host, &in->sin_addr) == 1 ? sizeof *in : 0;
}

union address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
};

static uint16_t bound_port(int fd)
{
    union address sa = {0};
    socklen_t len = sizeof sa;
    if (getsockname(fd, &sa.any, &len) == -1) return 0;
    return ntohs(sa.any.sa_family == AF_INET6 ? sa.in6.sin6_port : sa.in.sin_port);
}

/* is_taken: does anybody listen there? With SO_REUSEPORT alone another server of ours would share
 * the port with us, and each would get some of the other's clients. */
static bool is_taken(const struct sockaddr_storage *sa, socklen_t len)
{
    int fd = socket(sa->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd == -1) return false;           /* the real attempt will say why */
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1); /* connections that are ending do not count */
    if (sa->ss_family == AF_INET6) set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    bool taken = bind(fd, (const struct sockaddr *)sa, len) == -1 && errno == EADDRINUSE;
    close(fd);
    return taken;
}

/* accepted sockets inherit these: no system call per connection */
static void set_inherited_options(int fd, const struct listen_options *o)
{
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOTSENT_LOWAT);
    set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)o->user_timeout_ms);
}

int listen_tcp(const char *host, bool ipv6, uint16_t *port, const struct listen_options *o)
{
    struct sockaddr_storage sa;
    socklen_t len = fill_address(&sa, host, ipv6, *port);
    if (!len) {
        errno = EINVAL;
        return -1;
    }
    if (o->first && *port && is_taken(&sa, len)) {
        errno = EADDRINUSE;
        return -1;
    }
    int one = 1;
    int fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd == -1) return -1;
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) == -1) return fail(fd);
    if (ipv6) set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    set_inherited_options(fd, o);
    if (bind(fd, (struct sockaddr *)&sa, len) == -1 || listen(fd, o->backlog) == -1)
        return fail(fd);
    *port = bound_port(fd);
    return fd;
}

/* is_stale: is there a socket file at which nobody listens? */
static bool is_stale(const struct sockaddr_un *sa)
{
    struct stat st; /* connect refuses a file of any other kind as well */
    if (lstat(sa->sun_path, &st) == -1 || !S_ISSOCK(st.st_mode)) return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd == -1) return false;
    bool refused =
        connect(fd, (const struct sockaddr *)sa, sizeof *sa) == -1 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}

int listen_unix(const char *path, const struct listen_options *o)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof sa.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(sa.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd == -1) return -1;
    int r = bind(fd, (struct sockaddr *)&sa, sizeof sa);
    if (r == -1 && errno == EADDRINUSE && is_stale(&sa) && unlink(path) == 0)
        r = bind(fd, (struct sockaddr *)&sa, sizeof sa);
    if (r == -1 || listen(fd, o->backlog) == -1) return fail(fd);
    return fd;
}

/* ---- sockets of a service manager ---- */

#define FIRST_INHERITED 3 /* SD_LISTEN_FDS_START */
#define INHERITED_MAX 64

static uint64_t taken; /* bits of those that have an owner */

static int inherited_count(void)
{
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
    if (!pid || !fds || strtoll(pid, NULL, 10) != getpid()) return 0;
    const long n = strtol(fds, NULL, 10);
    return n < 0 ? 0 : n > INHERITED_MAX ? INHERITED_MAX : (int)n;
}

static bool is_listening(int fd)
{
    int yes = 0;
    socklen_t len = sizeof yes;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &len) == 0 && yes;
}

static bool is_same_v6(const struct sockaddr_in6 *a, const char *host, uint16_t port)
{
    struct in6_addr ip;
    return a->sin6_family == AF_INET6 && ntohs(a->sin6_port) == port &&
           inet_pton(AF_INET6, host, &ip) == 1 && memcmp(&a->sin6_addr, &ip, sizeof ip) == 0;
}

static bool is_same_v4(const struct sockaddr_in *a, const char *host, uint16_t port)
{
    struct in_addr ip;
    return a->sin_family == AF_INET && ntohs(a->sin_port) == port &&
           inet_pton(AF_INET, host, &ip) == 1 && a->sin_addr.s_addr == ip.s_addr;
}

/* is_at: is fd bound to that address? */
static bool is_at(int fd, const char *host, bool ipv6, uint16_t port, const char *path)
{
    union address have = {0};
    socklen_t len = sizeof have;
    if (getsockname(fd, &have.any, &len) == -1) return false;
    if (!host) return have.any.sa_family == AF_UNIX && strcmp(have.un.sun_path, path) == 0;
    return ipv6 ? is_same_v6(&have.in6, host, port) : is_same_v4(&have.in, host, port);
}

int listen_inherited(const char *host, bool ipv6, uint16_t port, const char *path,
                     const struct listen_options *o)
{
    const int n = inherited_count();
    for (int i = 0; i < n; i++) {
        const int fd = FIRST_INHERITED + i;
        if (taken & 1ull << i || !is_listening(fd) || !is_at(fd, host, ipv6, port, path)) continue;
        taken |= 1ull << i;
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
        if (host) set_inherited_options(fd, o);
        return fd;
    }
    return -1;
}

unsigned listen_inherited_rest(void)
{
    unsigned rest = 0;
    const int n = inherited_count();
    for (int i = 0; i < n; i++) {
        if (taken & 1ull << i) continue;
        close(FIRST_INHERITED + i);
        rest++;
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return rest;
}
