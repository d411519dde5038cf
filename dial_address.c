#include "dial.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

static int resolve_unix(struct dial_peer *p)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&p->addresses[0];
    memset(un, 0, sizeof *un);
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, p->url.socket, sizeof un->sun_path);
    p->address_len[0] = sizeof *un;
    p->address_count = 1;
    return 0;
}

int dial_resolve(struct dial_peer *p, char *err, size_t err_len, bool *no_such_name)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char port[8];
    if (no_such_name) *no_such_name = false;
    if (p->url.scheme == URL_UNIX) return resolve_unix(p);
    snprintf(port, sizeof port, "%u", p->url.port);
    int rc = getaddrinfo(p->url.host, port, &hints, &found);
    if (rc) {
        snprintf(err, err_len, "%.200s: %s", p->url.host, gai_strerror(rc));
        if (no_such_name) *no_such_name = rc == EAI_NONAME;
        return -1;
    }
    p->address_count = 0;
    for (struct addrinfo *a = found; a && p->address_count < DIAL_ADDRESSES_MAX; a = a->ai_next) {
        memcpy(&p->addresses[p->address_count], a->ai_addr, a->ai_addrlen);
        p->address_len[p->address_count++] = a->ai_addrlen;
    }
    freeaddrinfo(found);
    return 0;
}

/* ---- back-off ---- */

int64_t dial_retry_ms(unsigned failures, uint64_t random)
{
    int64_t window = DIAL_RETRY_MIN_MS;
    for (unsigned i = 0; i < failures && window < DIAL_RETRY_MAX_MS; i++) window *= 2;
    if (window > DIAL_RETRY_MAX_MS) window = DIAL_RETRY_MAX_MS;
    int64_t ms = DIAL_RETRY_MIN_MS + (int64_t)(random % (uint64_t)window);
    return ms < DIAL_RETRY_MAX_MS ? ms : DIAL_RETRY_MAX_MS;
}
