/* user_limit.h - how many connections each user has in the process, and a cap for that
 * (client.user_connection_limit).
 *
 * Connections of a user lie on any worker, so the counts are in a table for all, in shards with a
 * mutex each, taken once when a connection begins and once when it ends. Without a cap nothing is
 * counted and no lock taken. A user is known by a keyed 64-bit hash of its name: 16 to 64 bytes a
 * user who is there, and never more of them than connections. Two of a million users are taken for
 * one with a probability of 3e-8. The user "" is anonymous, and has no cap. Worker only, but for
 * open and close. */
#ifndef USER_LIMIT_H
#define USER_LIMIT_H

#include "conn.h"

/* user_limit_open: limit 0 = no cap. Main thread, before workers start; user_limit_close: no thread
 * runs any more, but the workers' memory is there. */
void user_limit_open(int64_t limit);
void user_limit_close(void);

/* user_limit_enter counts c as one of c->user's connections; false with errno: ENOSPC, the user has
 * as many as it may, which is counted in the metrics; ENOMEM. user_limit_leave takes it out again,
 * if it is counted. */
bool user_limit_enter(struct conn *c);
void user_limit_leave(struct conn *c);

#endif
