/* user_limit.h - how many connections each user has in the process, and a cap for that
 * (client.user_connection_limit), by quota.h.
 *
 * The user "" is anonymous, and has no cap. Worker only, but for open and close. */
#ifndef USER_LIMIT_H
#define USER_LIMIT_H

#include "conn.h"

/* user_limit_open: limit 0 = no cap. Main thread, before workers start; user_limit_close: no thread
 * runs any more, but the workers' memory is there. */
void user_limit_open(int64_t limit);
void user_limit_set(int64_t limit); /* from now on; any thread. Who came while there was none is not
                                       counted */
void user_limit_close(void);

/* user_limit_enter counts c as one of c->user's connections; false with errno: ENOSPC, the user has
 * as many as it may, which is counted in the metrics; ENOMEM. user_limit_leave takes it out again,
 * if it is counted. */
bool user_limit_enter(struct conn *c);
void user_limit_leave(struct conn *c);

#endif
