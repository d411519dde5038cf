/* reply.h - one line of a Centrifuge server, as a client reads it: replies, pushes and pings
 * (protocol.md sections 1.3, 2 and 3).
 *
 * Strict where SDKs rely on it: what they would not take for what it is, is no reply. Pure: no I/O,
 * no allocation, no clock, no globals. Any thread. */
#ifndef REPLY_H
#define REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "command.h"

#define REPLY_CHANNEL_MAX 255 /* bytes of a channel's name */

enum reply_kind {
    REPLY_PING,
    REPLY_RESULT,       /* id, method; what connect and subscribe say */
    REPLY_ERROR,        /* id, code, message */
    REPLY_PUBLICATION,  /* channel, data, offset */
    REPLY_UNSUBSCRIBED, /* channel, code, message */
    REPLY_DISCONNECTED, /* code, message */
    REPLY_OTHER,        /* joins, leaves and what else there may be */
};

struct reply {
    enum reply_kind kind;
    uint32_t id;
    enum command_method method;
    uint32_t code;
    struct json_slice message; /* with its quotes, escaped; in the line */
    bool pong;                 /* connect: pings shall be answered */
    bool positioned;           /* subscribe: the offset is that of the stream's top */
    uint64_t offset;           /* 0: absent */
    char channel[REPLY_CHANNEL_MAX];
    size_t channel_len;
    struct json_slice data; /* raw JSON, in the line */
};

/* reply_read reads one line without its newline. Returns 0, or -1 when it is none of the protocol:
 * bad JSON, an id that is no uint32 above 0, a success without its method's object, an error
 * without code or message, a push without what it must have; then *r is undefined. */
int reply_read(struct reply *r, const char *line, size_t len);

#endif
