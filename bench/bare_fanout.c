/* bare_fanout - the ceiling of a fan-out by send(): what any connection sends goes to all of them,
 * the frames of one recv in one send each, their headers and payload made once. */
#include "bare.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "ws.h"

#define RX_BYTES (256u * 1024)

static uint8_t rx[RX_BYTES], out[RX_BYTES];
static size_t rx_len; /* there is one publisher, so one buffer is enough */
static int members[BARE_DESCRIPTORS_MAX];
static size_t member_count;

static void opened(int fd)
{
    members[member_count++] = fd;
}

static void closed(int fd)
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

static bool readable(int fd)
{
    ssize_t n = recv(fd, rx + rx_len, sizeof rx - rx_len, 0);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    if (n == 0) return false;
    rx_len += (size_t)n;
    ssize_t len = unwrap();
    for (size_t i = 0; len > 0 && i < member_count; i++)
        bare_send_all(members[i], out, (size_t)len);
    return len >= 0;
}

int main(void)
{
    return bare_serve(
        &(const struct bare_handler){.opened = opened, .readable = readable, .closed = closed});
}
