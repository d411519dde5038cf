/* How many commands, and of them publications, a client may send a second.
 *
 * Each limit is a bucket that a second empties: so many may come at once, and so many a second in
 * the long run. What is above is refused with 111, which SDKs take as a reason to try again later,
 * and does not fill the bucket further. Who is refused for ten seconds' worth without ever being
 * calm, all of its bucket empty, is closed with 3013. Beside these, as many refusals as a client
 * may have channels are free: an SDK that comes back asks for all of them in one message, and must
 * not be closed for that for ever. */
#include "client.h"

#define WHOLE 1000u /* of one command, in a bucket */
#define PATIENCE_S 10

static void regain(uint32_t *spent, uint32_t limit, uint64_t ms)
{
    const uint64_t gain = ms * limit; /* a second's worth, WHOLE x limit, in 1000 ms */
    *spent = gain < *spent ? *spent - (uint32_t)gain : 0;
}

static bool take(uint32_t *spent, uint32_t limit)
{
    if (!limit) return true;
    if (*spent + WHOLE > limit * WHOLE) return false;
    *spent += WHOLE;
    return true;
}

enum client_rate_verdict client_rate_take(struct client_rate *r, const struct client_limits *l,
                                          int64_t now_ms, bool publication)
{
    const uint32_t past_ms = (uint32_t)now_ms - r->at_ms;
    r->at_ms = (uint32_t)now_ms;
    regain(&r->commands, l->commands, past_ms);
    regain(&r->publications, l->publications, past_ms);
    if (!r->commands && !r->publications) r->refused = 0;
    uint32_t limit = l->commands;
    if (take(&r->commands, l->commands)) {
        limit = l->publications;
        if (!publication || take(&r->publications, l->publications)) return CLIENT_RATE_WITHIN;
    }
    return ++r->refused > PATIENCE_S * limit + l->free ? CLIENT_RATE_FAR_ABOVE : CLIENT_RATE_ABOVE;
}
