/* raw.h - WebSocket without an envelope: /raw/CHANNEL, where a message is a publication, and /echo.
 *
 * Text and binary messages are published to the channel as they are; what anybody publishes arrives
 * as it is. Raw connections have no offsets: what is published while one is away is not sent to it.
 * With ?heartbeat=SECONDS a connection gets {"heartbeat":MILLISECONDS} every so many seconds.
 * What may be published and heard is said by the token's claim roost alone. Worker only. */
#ifndef RAW_H
#define RAW_H

#include "auth.h"
#include "conn.h"

struct raw_options { /* a part of the settings (settings.h) */
    size_t channel_max_length;
};

void raw_init(const struct raw_options *o); /* of the first settings; before workers start */

/* raw_open goes on with a handshake whose token is good: upgrades and subscribes, or refuses.
 * encoded: the path behind /raw/. */
void raw_open(struct conn *c, const struct http_request *r, const struct auth *a,
              struct http_str encoded);
void echo_open(struct conn *c, const struct http_request *r, const struct auth *a);

/* raw_refuse answers a bad token: 401 before the upgrade, or, to a browser that sent roost.bearer,
 * 4401 behind it. */
void raw_refuse(struct conn *c, const struct http_request *r, const struct auth *a);

/* raw_see_refusal tells who follows (conn_watched) of a handshake that is refused; a, what its
 * token says, may be NULL. */
void raw_see_refusal(struct conn *c, const struct http_request *r, const struct auth *a,
                     unsigned code, const char *why);

extern const struct conn_handler raw_handler, echo_handler;

#endif
