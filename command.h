/* command.h - the Centrifuge client protocol v2 as structs: commands in, replies and pushes out;
 * and its JSON codec (protocol.md sections 1.2, 1.3, 2 and 3).
 *
 * Nothing outside the codec knows how a command is spelled: protobuf can be a second codec with the
 * same functions. command_json.c reads, reply_json.c writes. Pure functions: no I/O, no allocation,
 * no clock, no globals. Any thread. */
#ifndef COMMAND_H
#define COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "json.h"

/* Bytes, not terminated. {NULL, 0} is absent, and so is "", which means the same in this protocol:
 * what is read never has len 0 with another p, what is written is absent if len is 0. */
struct text {
    const char *p;
    size_t len;
};

static inline struct text text_of(const char *p, size_t len)
{
    return (struct text){p, len};
}

/* Several in one command: the first in this order is the one (protocol.md 1.3). */
enum command_method {
    COMMAND_PONG, /* the line {}, and any without an id that is not send, a connect as well */
    COMMAND_CONNECT,
    COMMAND_SUBSCRIBE,
    COMMAND_UNSUBSCRIBE,
    COMMAND_PUBLISH,
    COMMAND_PRESENCE,
    COMMAND_PRESENCE_STATS,
    COMMAND_HISTORY,
    COMMAND_RPC,
    COMMAND_SEND, /* has no reply, whatever its id */
    COMMAND_REFRESH,
    COMMAND_SUB_REFRESH,
};

struct position {
    uint64_t offset;
    struct text epoch; /* absent: any epoch */
};

/* A command. Texts are decoded UTF-8, may hold NUL bytes, and lie in the line or in the scratch;
 * raw JSON is as it was sent, and lies in the line. A field that the method has not is zero. */
struct command {
    uint32_t id; /* 0: none */
    enum command_method method;
    struct text channel, token;
    struct text data;          /* raw JSON, null as well */
    struct text name, version; /* connect */
    struct text subs;          /* connect: raw JSON object, for command_json_sub */
    struct text delta;         /* subscribe */
    struct text rpc_method;
    struct position position; /* subscribe: recover from; history: since */
    bool has_since;           /* history */
    bool recover, positioned, recoverable, join_leave, has_tags_filter; /* subscribe */
    bool reverse;                                                       /* history */
    int64_t flag;                                                       /* subscribe */
    int32_t type;  /* subscribe, publish: 0 = stream */
    int32_t limit; /* history */
};

/* The method's name, as in a command and its reply; "" for a pong. */
const char *command_method_name(enum command_method method);

/* command_json_parse reads one line, without its newline. Returns 0, or -1 when it is no command of
 * the protocol (close code 3501) and *c is undefined: bad JSON, more behind it, an id that is no
 * uint32, no known method, a field of the wrong type, known but there twice, or a text with half of
 * a surrogate pair. Unknown fields are ignored, null is absent except as data.
 * scratch: len bytes are always enough. tokens: COMMAND_TOKENS are enough for a line with fewer
 * than some 200 members in its own and its method's object, whatever is deeper inside. */
#define COMMAND_TOKENS 512
int command_json_parse(struct command *c, const char *line, size_t len, char *scratch,
                       size_t scratch_len, jsmntok_t *tokens, uint32_t token_count);

/* command_json_sub walks c->subs, whose members name channels, perhaps one twice: *at starts as 0.
 * Returns 1 with the next one's channel and where to recover from; 0 at the end; -1 if a member is
 * malformed (close code 3501), then ask no more. scratch: not the one that the command's texts are
 * in; subs.len bytes are always enough. The texts hold until the next call. */
int command_json_sub(const struct command *c, size_t *at, struct text *channel, bool *recover,
                     struct position *position, char *scratch, size_t scratch_len);

/* ---- replies and pushes ----
 *
 * Texts become strings and must be UTF-8; raw JSON is written as it is but for newlines, which
 * separate lines and in valid JSON can only be space (protocol.md 1.2): they are left out. */

struct client_info { /* protocol.md section 3 */
    struct text user, client;
    struct text conn_info, chan_info; /* raw JSON */
};

struct publication_view {           /* one publication as it is written into replies and pushes */
    struct text data;               /* raw JSON */
    uint64_t offset;                /* 0: absent */
    const struct client_info *info; /* NULL: absent */
    struct text tags;               /* raw JSON object; absent if it has no members */
};

struct subscribe_result {
    bool expires, recoverable, positioned, was_recovering, recovered;
    uint32_t ttl_s; /* if expires; written as 1 or more */
    struct text epoch;
    uint64_t offset;  /* 0: absent */
    struct text data; /* raw JSON */
    /* publications follow by reply_json_publication between begin and end */
};

struct connect_result {
    struct text client, version;
    struct text data; /* raw JSON */
    bool expires, pong;
    uint32_t ttl_s;  /* if expires; written as 1 or more */
    uint32_t ping_s; /* 0: absent */
    int64_t time_ms; /* 0: absent */
    /* subs follow by reply_json_connect_sub_begin */
};

/* Every writer appends one line without a newline to o, or a part of one; o->full says that it did
 * not fit. Parts of a line go to the same o in this order, where "pubs" is reply_json_publication
 * for each:
 *     connect_begin, (connect_sub_begin, result_begin, pubs, result_end) for each, connect_end
 *     subscribe_begin, pubs, subscribe_end
 *     history_begin, pubs, history_end
 *     presence_begin, presence_entry for each, presence_end
 * first and had_... tell whether one of the repeated parts came before. */
void reply_json_error(struct json_out *o, uint32_t id, uint32_t code, const char *message,
                      bool temporary);
/* A success without content, {"id":3,"publish":{}}: the method's object must be there. */
void reply_json_empty(struct json_out *o, uint32_t id, enum command_method method);
void reply_json_connect_begin(struct json_out *o, uint32_t id, const struct connect_result *r);
void reply_json_connect_sub_begin(struct json_out *o, bool first, struct text channel);
void reply_json_connect_end(struct json_out *o, bool had_subs);
void reply_json_subscribe_begin(struct json_out *o, uint32_t id, const struct subscribe_result *r);
void reply_json_subscribe_end(struct json_out *o, bool had_publications);
void reply_json_result_begin(struct json_out *o, const struct subscribe_result *r);
void reply_json_result_end(struct json_out *o, bool had_publications);
void reply_json_publication(struct json_out *o, bool first, const struct publication_view *p);
/* The same with a Publication object that push_json_pub and push_json_pub_end have written. */
void reply_json_publication_object(struct json_out *o, bool first, struct text object);
void reply_json_history_begin(struct json_out *o, uint32_t id);
void reply_json_history_end(struct json_out *o, bool had_publications, struct text epoch,
                            uint64_t offset);
/* The same for a result that stands alone, without the bracket of a reply around it. */
void reply_json_history_result_end(struct json_out *o, bool had_publications, struct text epoch,
                                   uint64_t offset);
void reply_json_presence_begin(struct json_out *o, uint32_t id);
void reply_json_presence_entry(struct json_out *o, bool first, const struct client_info *i);
void reply_json_presence_end(struct json_out *o);
void reply_json_presence_stats(struct json_out *o, uint32_t id, uint64_t clients, uint64_t users);
/* method: COMMAND_REFRESH or COMMAND_SUB_REFRESH; ttl_s as in the results above */
void reply_json_refresh(struct json_out *o, uint32_t id, enum command_method method, bool expires,
                        uint32_t ttl_s);

void push_json_join(struct json_out *o, struct text channel, const struct client_info *i);
void push_json_leave(struct json_out *o, struct text channel, const struct client_info *i);
void push_json_unsubscribe(struct json_out *o, struct text channel, uint32_t code,
                           const char *reason);
/* Of r only what a push has: recoverable, positioned, epoch, offset, data. */
void push_json_subscribe(struct json_out *o, struct text channel, const struct subscribe_result *r);
void push_json_message(struct json_out *o, struct text data);
void push_json_refresh(struct json_out *o, bool expires, uint32_t ttl_s);

/* A publication's push is written in two steps, since its offset is known only under the channel's
 * lock: push_json_pub writes all but the end and does not look at p->offset; push_json_pub_end
 * appends the offset, if > 0, and the closing brackets, to the same o or another one: at most
 * PUSH_PUB_END bytes, and never fails if o has that much room. */
#define PUSH_PUB_END 40
/* Returns where in o the Publication object begins; it ends two brackets before the push does. */
size_t push_json_pub(struct json_out *o, struct text channel, const struct publication_view *p);
void push_json_pub_end(struct json_out *o, uint64_t offset);
/* push_json_pub_object writes the whole push of a Publication object that these two have written.
 */
void push_json_pub_object(struct json_out *o, struct text channel, struct text object);

#endif
