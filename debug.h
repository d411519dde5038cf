/* debug.h - what an operator looks at when something is slow: GET /debug/slow, the clients with
 * most in their out queues, over all workers; as a table, or with ?format=json as JSON. No
 * payloads. Which listeners serve it is route.c's matter. Worker only. */
#ifndef DEBUG_H
#define DEBUG_H

#include "conn.h"

#define DEBUG_SLOW_MAX 20 /* clients of an answer */

/* debug_slow answers r, in a later turn, when all workers have said who is slow. */
void debug_slow(struct conn *c, const struct http_request *r);

#endif
