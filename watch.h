/* watch.h - live lines of what happens to some connections: GET /debug/trace?..., for roost trace.
 *
 *     user=, channel=, conn=   whom: what is given must all be so, one at least
 *     payload=1                with the beginning of what is sent, unless it may hold a token
 *     limit=N                  lines a second (100); the rest is left out, and counted
 *     seconds=N                ends by itself after so long (300)
 *
 * The answer is chunks of lines, each a JSON object: {"time":MS,"event":"delivered","conn":ID,
 * "user":...}; the first has the event "watching", once every worker takes part, the last one
 * "end"; after 15 s without a line comes "alive", so that a server that is gone is noticed.
 *
 * A watcher hangs on a list that each worker has of its own (worker.watchers), so that a message
 * costs one load while the list is empty; it is put there and taken off by errands, so that nobody
 * looks at one that is gone. Whether a connection is meant is asked without any lock; only a line
 * that will be given takes the watcher's, for one copy. Its room is bounded: one that does not read
 * loses lines, and holds up nobody. Worker only. */
#ifndef WATCH_H
#define WATCH_H

#include "api.h"

#define WATCH_PATH "/debug/trace"
#define WATCHERS_MAX 4        /* in the process; more are refused */
#define WATCH_PAYLOAD_MAX 200 /* bytes that are shown */
#define WATCH_LIMIT_MAX 10000 /* lines a second */
#define WATCH_SECONDS_MAX 86400

/* watch_open answers request r, of who, who may: the log says whom they follow from when to when,
 * and how much they were shown. */
void watch_open(struct conn *c, const struct http_request *r, const struct api_caller *who);

/* For struct app: stream, seen, follows and a part of ended. */
void watch_stream(struct conn *c);
void watch_seen(struct conn *c, const struct conn_sight *s);
bool watch_follows(const struct worker *w, const char *channel, size_t len);
void watch_ended(struct conn *c);

#endif
