/* pace.h - when a message is due, at a rate that is kept whatever comes back (open loop).
 *
 * Who sends late, because the server or the client stalled, counts latency from then, so that the
 * wait of those that could not be sent is not left out (coordinated omission). Any thread: pure. */
#ifndef PACE_H
#define PACE_H

#include <stdint.h>

#define PACE_NS 1000000000
#define PACE_MAX 1000000 /* a second */

/* pace_due_ns: message n (from 0) of `rate` (1 to PACE_MAX) a second from began_ns on. Exact to a
 * nanosecond, however many were before: no interval is added up. */
static inline int64_t pace_due_ns(int64_t began_ns, uint64_t rate, uint64_t n)
{
    return began_ns + (int64_t)(n / rate * PACE_NS + n % rate * PACE_NS / rate);
}

/* pace_count: how many are due before until_ns, which is not before began_ns. */
static inline uint64_t pace_count(int64_t began_ns, uint64_t rate, int64_t until_ns)
{
    const uint64_t ns = (uint64_t)(until_ns - began_ns);
    return ns / PACE_NS * rate + (ns % PACE_NS * rate + PACE_NS - 1) / PACE_NS;
}

#endif
