/* How many connections an address has in the process, and a cap for that.
 *
 * An address is one of IPv4 or a /64 of IPv6, which is what one customer gets at least: who has it
 * has all of its addresses. Sockets are counted from where their client is known: at the accept,
 * behind the header of the PROXY protocol, or, for X-Forwarded-For, at the opening handshake, since
 * a proxy's connection carries the requests of many as long as it is none. */
#include "conn.h"

#include <errno.h>
#include <string.h>

#include "quota.h"
#include "tls.h"

#define TURNED_AWAY_MAX                                                                            \
    256 /* of a worker, that are told why; each holds a descriptor meanwhile                       \
         */

static struct quota addresses;

void conn_address_limit_open(int64_t limit)
{
    struct hash_key key;
    random_bytes(&key, sizeof key);
    quota_open(&addresses, limit, &key);
}

void conn_address_limit_set(int64_t limit)
{
    quota_set(&addresses, limit);
}

void conn_address_limit_close(void)
{
    quota_close(&addresses);
}

/* peer_key gives what c's address counts as; 0: it has none. */
static size_t peer_key(const struct conn *c, uint8_t key[static 8])
{
    if (c->flags & CONN_IPV6) {
        memcpy(key, c->peer.ip6, 8);
        return 8;
    }
    memcpy(key, &c->peer.ip4, 4);
    return c->peer.ip4 ? 4 : 0;
}

static struct in6_addr peer_ip(const struct conn *c)
{
    struct in6_addr ip = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    if (c->flags & CONN_IPV6)
        ip = *c->peer.ip6;
    else
        memcpy(ip.s6_addr + 12, &c->peer.ip4, 4);
    return ip;
}

/* is_clients: c's address is that of a client, as far as anybody has said: not of a proxy that has
 * yet to say for whom it speaks, and not of who came by a listener for operators alone. */
static bool is_clients(const struct conn *c)
{
    if (!(c->flags & CONN_CLIENTS) || c->flags & CONN_PROXIED) return false;
    if (!(c->flags & CONN_FORWARDED)) return true;
    const struct in6_addr ip = peer_ip(c);
    return !cidr_contains(&conn_options()->trusted_proxies, &ip);
}

bool conn_address_enter(struct conn *c)
{
    uint8_t key[8];
    if (!quota_is_on(&addresses) || c->flags & CONN_ADDRESS_COUNTED || !is_clients(c)) return true;
    const size_t len = peer_key(c, key);
    if (!len) return true;
    if (quota_enter(&addresses, c->worker->pool, key, len)) {
        c->flags |= CONN_ADDRESS_COUNTED;
        return true;
    }
    if (errno == ENOSPC)
        conn_limit_met(c, METRIC_REFUSED_ADDRESS, "client.ip_connection_limit");
    else
        metric_add(&c->worker->metrics, METRIC_REFUSED_MEMORY, 1);
    return false;
}

void conn_address_leave(struct conn *c)
{
    uint8_t key[8];
    if (!(c->flags & CONN_ADDRESS_COUNTED)) return;
    c->flags &= ~(uint32_t)CONN_ADDRESS_COUNTED;
    quota_leave(&addresses, c->worker->pool, key, peer_key(c, key));
}

void conn_address_refuse(struct conn *c)
{
    struct worker *w = c->worker;
    const bool full = errno == ENOSPC; /* else: memory is out */
    if (!full || c->state != CONN_HTTP || w->turned_away >= TURNED_AWAY_MAX) {
        conn_drop(c, WS_CLOSE_ABNORMAL);
        return;
    }
    c->flags |= CONN_TURNED_AWAY;
    w->turned_away++;
    conn_http_error(c, NULL, 429, CONN_ADDRESS_FULL);
}
