/* heartbeat.h - what time does to an open raw or echo connection: pings and pong deadlines (RFC
 * 6455 section 5.5.2), the end of its token, its age.
 *
 * One timer a connection, armed for the earliest of these. The schedule of pings follows from when
 * the connection was opened and from its id, so nothing is stored for it: the first ping comes at a
 * random time in the second half of an interval, the others each an interval later, also on a busy
 * connection. The messages of conn.beat_s, for who can not see pings, follow a schedule of the same
 * kind. Jitter only ever shortens a period. Activity touches no timer: it clears
 * CONN_PONG_DUE, and the timer looks. Worker only. */
#ifndef HEARTBEAT_H
#define HEARTBEAT_H

#include "conn.h"

struct heartbeat_options {
    int64_t ping_interval_ms; /* 0 = no pings */
    int64_t pong_timeout_ms;
    int64_t max_age_ms;             /* 0 = no limit; a connection is closed up to 20 % earlier */
    int64_t expired_close_delay_ms; /* grace after a token's end */
};

/* A connection keeps the interval that it was opened with: SDKs were told it, and take a server
 * whose pings come later for dead. So all that there were are kept here, in ticks, and a connection
 * has the number of its own in three bits. */
#define HEARTBEAT_PERIODS CONN_PERIOD_MAX
struct heartbeat_settings { /* a part of the settings (settings.h) */
    struct heartbeat_period {
        uint32_t interval, pong;
    } periods[HEARTBEAT_PERIODS];
    unsigned count, current; /* current: of connections that are opened now */
    uint32_t age, grace_ms;
};

/* heartbeat_set fills *s with o; before: those that it takes the place of, or NULL. false: there
 * have been HEARTBEAT_PERIODS others. */
bool heartbeat_set(struct heartbeat_settings *s, const struct heartbeat_settings *before,
                   const struct heartbeat_options *o);

/* heartbeat_init: o is of the first settings. Main thread, before workers start. */
void heartbeat_init(const struct heartbeat_options *o);

/* heartbeat_start arms the timer of a connection that has just been opened, or whose token is a new
 * one. left_ms: how long its token is still good, or negative for no end. */
void heartbeat_start(struct conn *c, int64_t left_ms);

/* heartbeat_left_ms: from now to a wall-clock end, 0 if it has passed; far ends are cut to what a
 * connection can wait for. */
int64_t heartbeat_left_ms(int64_t end_s);

/* heartbeat_arm looks again at what is due next: a deadline of the layer above has changed.
 * heartbeat_ping_s: the interval in whole seconds, rounded up, so that who is told it waits long
 * enough; 0 = no pings. */
void heartbeat_arm(struct conn *c);
uint32_t heartbeat_ping_s(void);

/* heartbeat_fired is struct app's heartbeat. */
void heartbeat_fired(struct conn *c);

#endif
