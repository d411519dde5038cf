/* A PROXY header, and an address as X-Forwarded-For has it: libFuzzer. */
#include <stdlib.h>

#include "cidr.h"
#include "guard.h"
#include "proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header h, again;
    struct in6_addr ip;
    uint16_t port;
    if (size > 2 * PROXY_MAX) return 0;
    char *bytes = guard_copy(data, size);
    int used = proxy_parse(&h, (const uint8_t *)bytes, size);
    if (used > (int)size || used > PROXY_MAX) abort();
    if (used > 0 && proxy_parse(&again, (const uint8_t *)bytes, (size_t)used) != used)
        abort(); /* what follows has no say */
    if (used > 0 && proxy_parse(&again, (const uint8_t *)bytes, (size_t)used - 1) != 0) abort();
    (void)cidr_address(&ip, &port, bytes, size);
    guard_free(bytes, size);
    return 0;
}
