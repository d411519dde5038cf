/* bare_fanout - the ceiling of a fan-out by send(): one for each member. */
#include "bare.h"

static void send_to_all(const int *fds, size_t count, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < count; i++) bare_send_all(fds[i], bytes, len);
}

int main(void)
{
    return bare_fanout(send_to_all);
}
