/* bare_echo - the ceiling of an echo server: one recv and one send of the same bytes, nothing
 * looked at. Frames come back masked as they were sent; `roost bench echo --bare` knows. */
#include "bare.h"

#include <errno.h>
#include <sys/socket.h>

static uint8_t buf[256 * 1024];

static bool readable(int fd)
{
    ssize_t n = recv(fd, buf, sizeof buf, 0);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    return n > 0 && bare_send_all(fd, buf, (size_t)n);
}

int main(void)
{
    return bare_serve(&(const struct bare_handler){.readable = readable});
}
