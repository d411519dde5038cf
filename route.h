/* route.h - which path means what: struct app's head and request. Worker only. */
#ifndef ROUTE_H
#define ROUTE_H

#include "auth.h"
#include "conn.h"

struct route_options { /* a part of the settings (settings.h) */
    struct auth_options auth;
    const char *const *origins; /* allowed; origin.h */
    size_t origin_count;
    const char *client_path; /* of the Centrifuge protocol; NULL = not served */
    bool echo, metrics, metrics_public, health, api;
    bool centrifugo_names; /* in the metrics, beside our own */
    bool has_admin; /* there is an admin listener: the API, metrics and the console are served there
                       alone */
    int64_t connection_limit; /* WebSocket connections of the process; 0 = what descriptors allow */
    int64_t rate_limit;       /* opening handshakes a second of the process; 0 = no limit */
    bool dev;                 /* every listener is for operators too */
};

/* route_init: of the first settings; keeps o's pointers; before workers start. */
void route_init(const struct route_options *o);
int64_t route_head(struct conn *c, const struct http_request *r);
void route_request(struct conn *c, const struct http_request *r, const char *body, size_t len);

#endif
