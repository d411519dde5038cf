#include "cidr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static bool parse_ip(struct in6_addr *ip, bool *v4, const char *text)
{
    struct in_addr in;
    *v4 = inet_pton(AF_INET, text, &in) == 1;
    if (!*v4) return inet_pton(AF_INET6, text, ip) == 1;
    memset(ip, 0, sizeof *ip);
    ip->s6_addr[10] = ip->s6_addr[11] = 0xff;
    memcpy(ip->s6_addr + 12, &in, sizeof in);
    return true;
}

/* number reads up to max digits and nothing else. */
static bool number(const char *p, size_t len, unsigned most, unsigned *out)
{
    unsigned n = 0;
    if (len == 0 || len > 5) return false;
    for (size_t i = 0; i < len; i++) {
        if (p[i] < '0' || p[i] > '9') return false;
        n = n * 10 + (unsigned)(p[i] - '0');
    }
    *out = n;
    return n <= most;
}

static bool has_bits_behind(const struct cidr *c)
{
    for (unsigned i = c->bits; i < 128; i++)
        if (c->ip.s6_addr[i / 8] & 0x80 >> i % 8) return true;
    return false;
}

bool cidr_parse(struct cidr *c, const char *text)
{
    char ip[INET6_ADDRSTRLEN];
    bool v4;
    const char *slash = strchr(text, '/');
    const size_t len = slash ? (size_t)(slash - text) : strlen(text);
    if (len >= sizeof ip) return false;
    memcpy(ip, text, len);
    ip[len] = 0;
    if (!parse_ip(&c->ip, &v4, ip)) return false;
    unsigned bits = v4 ? 32 : 128;
    if (slash && !number(slash + 1, strlen(slash + 1), bits, &bits)) return false;
    c->bits = (uint8_t)(v4 ? bits + 96 : bits);
    return !has_bits_behind(c);
}

static bool is_in(const struct cidr *c, const struct in6_addr *ip)
{
    const unsigned bytes = c->bits / 8, rest = c->bits % 8;
    if (memcmp(c->ip.s6_addr, ip->s6_addr, bytes) != 0) return false;
    return !rest || (c->ip.s6_addr[bytes] ^ ip->s6_addr[bytes]) >> (8 - rest) == 0;
}

bool cidr_contains(const struct cidr_list *list, const struct in6_addr *ip)
{
    for (size_t i = 0; i < list->count; i++)
        if (is_in(&list->items[i], ip)) return true;
    return false;
}

bool cidr_address(struct in6_addr *ip, uint16_t *port, const char *text, size_t len)
{
    char copy[INET6_ADDRSTRLEN];
    bool v4;
    unsigned n = 0;
    const char *host = text, *colon = NULL;
    size_t host_len = len;
    if (len && *text == '[') {
        const char *end = memchr(text, ']', len);
        if (!end) return false;
        host++;
        host_len = (size_t)(end - host);
        if (end + 1 < text + len) colon = end + 1;
    } else {
        colon = memchr(text, ':', len);
        if (colon && memchr(colon + 1, ':', len - (size_t)(colon + 1 - text)))
            colon = NULL; /* several: IPv6 without a port */
        if (colon) host_len = (size_t)(colon - text);
    }
    if (colon &&
        (*colon != ':' || !number(colon + 1, len - (size_t)(colon + 1 - text), UINT16_MAX, &n)))
        return false;
    if (host_len >= sizeof copy || memchr(host, 0, host_len)) return false;
    memcpy(copy, host, host_len);
    copy[host_len] = 0;
    *port = (uint16_t)n;
    return parse_ip(ip, &v4, copy);
}
