/* auth.h - who a request comes from: finds the token in an opening handshake and has it verified.
 *
 * Accepted places: Authorization: Bearer TOKEN; Sec-WebSocket-Protocol: roost.bearer, TOKEN (for
 * browsers, which can set no header); ?token=TOKEN if switched on. The first that is there counts.
 * Worker only. */
#ifndef AUTH_H
#define AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "http.h"
#include "jwt.h"

#define AUTH_SUBPROTOCOL "roost.bearer"

struct auth_options {
    struct jwt_rules rules;
    bool anonymous;           /* no token is a token of user "" */
    bool insecure;            /* no token may do everything */
    bool no_anonymous_tokens; /* a token needs a subject */
    bool token_query;
};

enum auth_verdict { AUTH_OK, AUTH_MISSING, AUTH_INVALID, AUTH_EXPIRED };

struct auth {
    enum auth_verdict verdict;
    const char *why;       /* static text for the peer; never a part of the token */
    bool has_token;        /* there was one, good or bad */
    struct http_str token; /* that one; points into the request */
    bool by_subprotocol; /* the token came by roost.bearer: the answer names it, and can close with
                            a reason */
    bool everything;     /* insecure: no permission is asked for */
    struct jwt_claims claims; /* of a good token; points into the scratch. Zero without a token */
};

/* auth_check judges r at wall-clock now_s. scratch: JWT_SCRATCH bytes, which claims point into. */
void auth_check(const struct auth_options *o, const struct http_request *r, int64_t now_s,
                void *scratch, size_t scratch_len, struct auth *out);

#endif
