#include "notify.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct {
    int fd; /* -1: nobody listens */
    int64_t watchdog_ms;
} manager = {.fd = -1};

static int dial(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    const size_t len = strlen(path);
    if ((*path != '/' && *path != '@') || len >= sizeof sa.sun_path) return -1;
    memcpy(sa.sun_path, path, len);
    if (*path == '@') sa.sun_path[0] = 0; /* an abstract one */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd == -1) return -1;
    if (connect(fd, (const struct sockaddr *)&sa,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* sd_watchdog_enabled(3): the interval is for us if the pid is ours or is not said. Half of it is
 * what the manual advises. */
static int64_t watchdog_from(const char *usec, const char *pid)
{
    if (!usec || (pid && strtoll(pid, NULL, 10) != getpid())) return 0;
    const long long us = strtoll(usec, NULL, 10);
    return us >= 2000 ? us / 2000 : 0;
}

void notify_open(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    if (path) manager.fd = dial(path);
    if (manager.fd != -1)
        manager.watchdog_ms = watchdog_from(getenv("WATCHDOG_USEC"), getenv("WATCHDOG_PID"));
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void notify_close(void)
{
    if (manager.fd != -1) close(manager.fd);
    manager.fd = -1;
    manager.watchdog_ms = 0;
}

void notify(const char *format, ...)
{
    char text[512];
    va_list args;
    if (manager.fd == -1) return;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n > 0 && (size_t)n < sizeof text)
        (void)send(manager.fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int64_t notify_watchdog_ms(void)
{
    return manager.watchdog_ms;
}
