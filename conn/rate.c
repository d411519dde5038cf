/* How many bytes, and on raw connections messages, a connection may send a second.
 *
 * Each limit is a bucket, of which only is known when it will be empty again (the generic cell rate
 * algorithm, 8 bytes): what comes moves that time, which may be so far ahead as a full bucket
 * takes. That of messages holds a second's worth; that of bytes also one message of the largest
 * size, so that none is too large for ever.
 *
 * What we have left unread for a while, for our own reasons, may have been sent all the while:
 * then, until it is read to its end, time counts from the last bytes before (CONN_WAITED,
 * last_seen). */
#include "conn.h"

#define SECOND_NS 1000000000ll
#define HEAD_MAX 14 /* of a masked frame (RFC 6455 section 5.2) */

size_t conn_size(const struct conn_options *o)
{
    return sizeof(struct conn) + (o->byte_rate || o->message_rate ? sizeof(struct conn_rate) : 0);
}

static struct conn_rate *rate_of(struct conn *c)
{
    return (struct conn_rate *)(void *)(c + 1);
}

/* left_ns settles a bucket and says how much more it takes, as time. */
static int64_t left_ns(const struct conn *c, int64_t *empty_at, int64_t full_ns)
{
    const struct worker *w = c->worker;
    const int64_t now = w->now_us * 1000;
    const int64_t unread_ms =
        c->flags & CONN_WAITED ? (int64_t)(worker_tick(w) - c->last_seen) * WORKER_TICK_MS : 0;
    const int64_t since = now - unread_ms * 1000000;
    if (*empty_at < since) *empty_at = since;
    return full_ns - (*empty_at - now);
}

size_t conn_rate_bytes(struct conn *c, size_t len)
{
    const struct conn_options *o = conn_options();
    const int64_t one = o->max_message_bytes + HEAD_MAX;
    const int64_t most = o->byte_rate > one ? o->byte_rate : one;
    int64_t *empty_at = &rate_of(c)->bytes_ns;
    const int64_t left = left_ns(c, empty_at, most * SECOND_NS / o->byte_rate);
    const int64_t cost = (int64_t)len * SECOND_NS / o->byte_rate;
    if (left <= 0) return 0; /* a reload may have made the bucket smaller than what is in it */
    if (cost <= left) {
        *empty_at += cost;
        return len;
    }
    return (size_t)(left * o->byte_rate / SECOND_NS); /* less than len, since left < cost */
}

bool conn_rate_message(struct conn *c)
{
    const int64_t rate = conn_options()->message_rate;
    if (!rate) return true;
    int64_t *empty_at = &rate_of(c)->messages_ns;
    const int64_t cost = SECOND_NS / rate;
    if (cost > left_ns(c, empty_at, cost * rate)) return false;
    *empty_at += cost;
    return true;
}
