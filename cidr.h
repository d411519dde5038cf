/* cidr.h - blocks of IP addresses (RFC 4632, RFC 4291 section 2.3), and addresses as they are
 * written.
 *
 * IPv4 is kept as ::ffff:a.b.c.d, so one form serves both. Pure functions. Any thread. */
#ifndef CIDR_H
#define CIDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cidr {
    struct in6_addr ip;
    uint8_t bits; /* of ip, from the left: 0 to 128 */
};

struct cidr_list {
    const struct cidr *items;
    size_t count;
};

/* cidr_parse reads "10.0.0.0/8", "2001:db8::/32" or one address; false if text is none of these, or
 * has bits behind its length. */
bool cidr_parse(struct cidr *c, const char *text);
bool cidr_contains(const struct cidr_list *list, const struct in6_addr *ip);

/* cidr_address reads len bytes: 192.0.2.1, 192.0.2.1:4711, 2001:db8::1 or [2001:db8::1]:4711; *port
 * is 0 if there is none. */
bool cidr_address(struct in6_addr *ip, uint16_t *port, const char *text, size_t len);

#endif
