/* url.h - the address of a server as a client is given it (RFC 3986, RFC 6455 section 3):
 * wss://HOST[:PORT][/PATH][?QUERY], ws://..., unix:/path/of/socket.
 *
 * Pure functions: no I/O, no allocation, no globals. Any thread. */
#ifndef URL_H
#define URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum url_scheme { URL_WS, URL_WSS, URL_UNIX };

#define URL_HOST_MAX 256
#define URL_PATH_MAX 1024
#define URL_SOCKET_MAX 108 /* sun_path */

struct url {
    enum url_scheme scheme;
    bool ipv6;                   /* host is an IPv6 literal, here without its brackets */
    uint16_t port;               /* 80 or 443 if the text has none */
    char host[URL_HOST_MAX];     /* "localhost" for unix: */
    char path[URL_PATH_MAX];     /* "" or begins with a slash; has none at its end */
    char query[URL_PATH_MAX];    /* behind the '?', may be "" */
    char socket[URL_SOCKET_MAX]; /* URL_UNIX only */
};

/* url_parse reads text. Returns NULL, or a static text that says what is wrong (then *u is
 * undefined). */
const char *url_parse(struct url *u, const char *text);

/* url_loopback: does the URL lead to this machine (localhost, 127.0.0.0/8, ::1, a Unix socket)? */
bool url_loopback(const struct url *u);

/* url_host_header writes the value of the Host header: the port only if it is not the scheme's own
 * (RFC 9110 section 7.2). Returns out. */
#define URL_HOST_HEADER_MAX (URL_HOST_MAX + 9)
char *url_host_header(const struct url *u, char out[static URL_HOST_HEADER_MAX]);

/* url_encode_segment writes len bytes as one segment of a path, percent-encoded except for the
 * unreserved characters and those that are common in channel names (: @ , ; = and the like, RFC
 * 3986 section 3.3), with a NUL. Returns the length, or -1 if cap is too small. */
int64_t url_encode_segment(char *out, size_t cap, const char *text, size_t len);

#endif
