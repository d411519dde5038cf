#include "url.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool copy(char *out, size_t cap, const char *text, size_t len)
{
    if (len >= cap) return false;
    memcpy(out, text, len);
    out[len] = 0;
    return true;
}

/* What may stand in a request line as it is (RFC 3986 appendix A, without '%' checks): anything
 * else, white space and control bytes first of all, could split the request. */
static bool plain_text(const char *text)
{
    for (; *text; text++)
        if (*text <= ' ' || *text >= 0x7f || strchr("\"<>\\^`{|}", *text)) return false;
    return true;
}

static bool host_name(const char *host)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    return *host && host[strspn(host, allowed)] == 0;
}

static const char *parse_port(struct url *u, const char *text, size_t len)
{
    unsigned port = 0;
    if (len == 0 || len > 5) return "the port must be a number from 1 to 65535";
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') return "the port must be a number from 1 to 65535";
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    if (port == 0 || port > 65535) return "the port must be a number from 1 to 65535";
    u->port = (uint16_t)port;
    return NULL;
}

/* host, host:port or [v6]:port */
static const char *parse_authority(struct url *u, const char *text, size_t len)
{
    const char *host_end;
    if (memchr(text, '@', len)) return "a user name or password in the URL is not supported";
    if (len && *text == '[') {
        struct in6_addr v6;
        host_end = memchr(text, ']', len);
        if (!host_end) return "the bracket of the IPv6 address is not closed";
        if (!copy(u->host, sizeof u->host, text + 1, (size_t)(host_end - text - 1)) ||
            inet_pton(AF_INET6, u->host, &v6) != 1)
            return "what is in brackets is not an IPv6 address";
        u->ipv6 = true;
        host_end++;
    } else {
        host_end = memchr(text, ':', len);
        if (!host_end) host_end = text + len;
        if (!copy(u->host, sizeof u->host, text, (size_t)(host_end - text)) || !host_name(u->host))
            return "the host name is missing or not valid";
    }
    if (host_end == text + len) return NULL;
    if (*host_end != ':') return "only a port may follow the host";
    return parse_port(u, host_end + 1, (size_t)(text + len - host_end - 1));
}

static const char *parse_unix(struct url *u, const char *text)
{
    u->scheme = URL_UNIX;
    if (strncmp(text, "//", 2) == 0) text += 2;
    if (*text != '/') return "unix: needs an absolute path, like unix:/run/roost.sock";
    if (!copy(u->socket, sizeof u->socket, text, strlen(text)))
        return "the path of the Unix socket is too long";
    memcpy(u->host, "localhost", sizeof "localhost");
    return NULL;
}

const char *url_parse(struct url *u, const char *text)
{
    memset(u, 0, sizeof *u);
    if (strncasecmp(text, "unix:", 5) == 0) return parse_unix(u, text + 5);
    if (strncasecmp(text, "wss://", 6) == 0) {
        u->scheme = URL_WSS;
        u->port = 443;
        text += 6;
    } else if (strncasecmp(text, "ws://", 5) == 0) {
        u->scheme = URL_WS;
        u->port = 80;
        text += 5;
    } else {
        return "the URL must begin with wss://, ws:// or unix:/";
    }
    if (!plain_text(text)) return "there is a character in the URL that must be percent-encoded";
    if (strchr(text, '#')) return "the URL must not have a fragment (#)"; /* RFC 6455 section 3 */
    size_t authority = strcspn(text, "/?");
    const char *why = parse_authority(u, text, authority);
    if (why) return why;
    text += authority;
    size_t path = strcspn(text, "?");
    const char *query = text[path] ? text + path + 1 : "";
    while (path && text[path - 1] == '/') path--;
    if (!copy(u->path, sizeof u->path, text, path)) return "the path is too long";
    if (!copy(u->query, sizeof u->query, query, strlen(query))) return "the query is too long";
    return NULL;
}

bool url_loopback(const struct url *u)
{
    struct in_addr v4;
    if (u->scheme == URL_UNIX || strcasecmp(u->host, "localhost") == 0) return true;
    if (u->ipv6) {
        struct in6_addr v6;
        return inet_pton(AF_INET6, u->host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
    }
    return inet_pton(AF_INET, u->host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

char *url_host_header(const struct url *u, char out[static URL_HOST_HEADER_MAX])
{
    const char *open = u->ipv6 ? "[" : "", *close = u->ipv6 ? "]" : "";
    bool own_port = u->scheme == URL_UNIX || u->port == (u->scheme == URL_WSS ? 443 : 80);
    if (own_port)
        snprintf(out, URL_HOST_HEADER_MAX, "%s%s%s", open, u->host, close);
    else
        snprintf(out, URL_HOST_HEADER_MAX, "%s%s%s:%u", open, u->host, close, u->port);
    return out;
}

int64_t url_encode_segment(char *out, size_t cap, const char *text, size_t len)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:@!$'()*,;=";
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (n + 4 > cap) return -1;
        if (c && strchr(plain, c)) {
            out[n++] = (char)c;
        } else {
            out[n++] = '%';
            out[n++] = hex[c >> 4];
            out[n++] = hex[c & 15];
        }
    }
    if (n >= cap) return -1;
    out[n] = 0;
    return (int64_t)n;
}
