#include "proxy.h"

#include <string.h>

#include "cidr.h"

/* ---- version 1: a line of text ---- */

#define LINE_MAX_V1 107

/* word takes the next word of a line: the bytes up to one space, or to the end. */
static bool word(const char **p, const char *end, const char **w, size_t *len)
{
    const char *space = memchr(*p, ' ', (size_t)(end - *p));
    *w = *p;
    *len = (size_t)((space ? space : end) - *p);
    *p = space ? space + 1 : end;
    return *len > 0;
}

static bool is_word(const char *w, size_t len, const char *text)
{
    return len == strlen(text) && memcmp(w, text, len) == 0;
}

static bool port_of(const char *w, size_t len, uint16_t *port)
{
    unsigned n = 0;
    if (len == 0 || len > 5 || (len > 1 && *w == '0')) return false;
    for (size_t i = 0; i < len; i++) {
        if (w[i] < '0' || w[i] > '9') return false;
        n = n * 10 + (unsigned)(w[i] - '0');
    }
    *port = (uint16_t)n;
    return n <= UINT16_MAX;
}

static bool ip_of(const char *w, size_t len, bool v6, struct in6_addr *ip)
{
    uint16_t none;
    const bool colon = memchr(w, ':', len);
    return v6 == colon && *w != '[' && cidr_address(ip, &none, w, len);
}

/* line reads what stands between "PROXY " and the end. */
static bool line(struct proxy_header *h, const char *p, const char *end)
{
    const char *w;
    size_t n;
    struct in6_addr to;
    uint16_t to_port;
    if (!word(&p, end, &w, &n)) return false;
    if (is_word(w, n, "UNKNOWN")) return true;
    const bool v6 = is_word(w, n, "TCP6");
    if (!v6 && !is_word(w, n, "TCP4")) return false;
    h->known = true;
    return word(&p, end, &w, &n) && ip_of(w, n, v6, &h->ip) && word(&p, end, &w, &n) &&
           ip_of(w, n, v6, &to) && word(&p, end, &w, &n) && port_of(w, n, &h->port) &&
           word(&p, end, &w, &n) && port_of(w, n, &to_port) && p == end && end[-1] != ' ';
}

static int version_1(struct proxy_header *h, const uint8_t *bytes, size_t len)
{
    static const char start[] = "PROXY ";
    const size_t n = sizeof start - 1;
    const char *text = (const char *)bytes;
    if (memcmp(text, start, len < n ? len : n) != 0) return -1;
    const char *lf = memchr(text, '\n', len < LINE_MAX_V1 ? len : LINE_MAX_V1);
    if (!lf) return len < LINE_MAX_V1 ? 0 : -1;
    if (lf < text + n + 1 || lf[-1] != '\r') return -1;
    if (!line(h, text + n, lf - 1)) return -1;
    return (int)(lf + 1 - text);
}

/* ---- version 2: binary ---- */

static const uint8_t signature[12] = "\r\n\r\n\0\r\nQUIT\n";

enum { HEAD_V2 = 16, COMMAND_LOCAL = 0, COMMAND_PROXY = 1, TLV_CRC32C = 3 };

static uint32_t crc32c(const uint8_t *p, size_t len,
                       const uint8_t *skip) /* Castagnoli; four bytes at skip count as zero */
{
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < len; i++) {
        crc ^= p + i >= skip && p + i < skip + 4 ? 0 : p[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
    }
    return ~crc;
}

/* tlvs checks that they fill what is left, and a checksum among them. */
static bool tlvs(const uint8_t *all, size_t all_len, const uint8_t *p, const uint8_t *end)
{
    while (p < end) {
        if (end - p < 3) return false;
        const size_t len = (size_t)p[1] << 8 | p[2];
        const uint8_t *value = p + 3;
        if ((size_t)(end - value) < len) return false;
        if (*p == TLV_CRC32C) {
            if (len != 4) return false;
            const uint32_t said = (uint32_t)value[0] << 24 | (uint32_t)value[1] << 16 |
                                  (uint32_t)value[2] << 8 | value[3];
            if (said != crc32c(all, all_len, value)) return false;
        }
        p = value + len;
    }
    return true;
}

static int version_2(struct proxy_header *h, const uint8_t *bytes, size_t len)
{
    if (memcmp(bytes, signature, len < sizeof signature ? len : sizeof signature) != 0) return -1;
    if (len < HEAD_V2) return 0;
    const uint8_t command = bytes[12] & 0x0f, family = bytes[13] >> 4, transport = bytes[13] & 0x0f;
    const size_t rest = (size_t)bytes[14] << 8 | bytes[15], total = HEAD_V2 + rest;
    if (bytes[12] >> 4 != 2 || command > COMMAND_PROXY || family > 3 || transport > 2) return -1;
    if (total > PROXY_MAX) return -1;
    if (len < total) return 0;
    const uint8_t *p = bytes + HEAD_V2;
    static const uint8_t sizes[] = {0, 12, 36,
                                    216}; /* of two addresses and ports: none, IPv4, IPv6, Unix */
    if (command == COMMAND_LOCAL) return (int)total; /* the balancer speaks for itself */
    if (rest < sizes[family] || !tlvs(bytes, total, p + sizes[family], bytes + total)) return -1;
    h->known = transport == 1 && (family == 1 || family == 2);
    if (family == 1) {
        h->ip.s6_addr[10] = h->ip.s6_addr[11] = 0xff;
        memcpy(h->ip.s6_addr + 12, p, 4);
        h->port = (uint16_t)(p[8] << 8 | p[9]);
    } else if (family == 2) {
        memcpy(&h->ip, p, 16);
        h->port = (uint16_t)(p[32] << 8 | p[33]);
    }
    return (int)total;
}

int proxy_parse(struct proxy_header *h, const uint8_t *bytes, size_t len)
{
    *h = (struct proxy_header){0};
    if (len == 0) return 0;
    return *bytes == signature[0] ? version_2(h, bytes, len) : version_1(h, bytes, len);
}
