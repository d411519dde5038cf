/* proxy.h - the PROXY protocol, versions 1 and 2: what a balancer says in front of a connection
 * about who is behind it (HAProxy's specification "The PROXY protocol", 2020).
 *
 * Pure functions. Any thread. */
#ifndef PROXY_H
#define PROXY_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROXY_MAX 2048 /* a header longer than this is refused; version 1 has 107 bytes at most */

struct proxy_header {
    bool known; /* else: the balancer's own check, or not an IP connection: as if there were no
                   header */
    struct in6_addr ip; /* of the client; IPv4 as ::ffff:a.b.c.d */
    uint16_t port;
};

/* proxy_parse reads the header at the front of len bytes. Returns its length, 0 if more is needed,
 * -1 if this is none. Version 2's TLVs are skipped, but for a CRC32c, which must be right. */
int proxy_parse(struct proxy_header *h, const uint8_t *bytes, size_t len);

#endif
