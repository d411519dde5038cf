/* publication.h - one publication as it travels: a frame for each encoding somebody wants, counted,
 * and the posts that carry it to the workers.
 *
 * Made by the publishing worker; once published nothing but the count changes. The last holder, on
 * whatever thread, frees. */
#ifndef PUBLICATION_H
#define PUBLICATION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "frame.h"
#include "mailbox.h"

enum encoding {                /* how a subscriber hears */
                ENCODING_RAW,  /* the message itself */
                ENCODING_JSON, /* a push of the Centrifuge protocol */
                ENCODINGS
};

enum publication_kind {
    PUBLICATION_MESSAGE,
    PUBLICATION_MEMBERSHIP, /* a join or a leave: only for those who asked for them */
};

struct encoded { /* a whole WebSocket message: frame->bytes[from .. frame->len) */
    struct frame *frame;
    uint32_t from;
};

struct delivery { /* what a mailbox carries */
    struct post post;
    struct publication *publication; /* NULL: posts were lost for this local half */
    struct local *lost_for;
};

struct publication {
    _Atomic uint32_t refs;
    uint32_t size; /* as asked of pool */
    struct mem_pool *pool;
    struct encoded as[ENCODINGS];
    void (*finish)(
        struct publication *p); /* or NULL: called under the channel's lock once offset is known */
    uint32_t object_at,
        object_len; /* the Publication object inside as[ENCODING_JSON], for history and recovery */
    enum publication_kind kind;
    struct channel *channel; /* counted */
    uint64_t seq, offset;    /* offset 0: not in a history */
    uint64_t publisher;      /* conn_key, or PUBSUB_NOBODY */
    int64_t at_us;
    struct trace_flight *flight;  /* its span, until every worker has handed it over; or NULL */
    struct delivery deliveries[]; /* one a worker */
};

#endif
