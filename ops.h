/* ops.h - the operations that clients, raw connections and the HTTP API share: publish, joins and
 * leaves, users. No rule exists twice.
 *
 * Here a publication is encoded, once per encoding that somebody wants. Worker only. */
#ifndef OPS_H
#define OPS_H

#include "command.h"
#include "pubsub.h"

struct message {           /* what is published, as it came; texts are borrowed for the call */
    bool is_raw;           /* payload is a raw client's message; else it is JSON for SDKs */
    enum ws_opcode opcode; /* raw: text or binary */
    struct text payload;
    struct text tags;               /* raw JSON object, or absent */
    const struct client_info *info; /* of a publishing client, or NULL */
    uint64_t publisher;             /* conn_key or PUBSUB_NOBODY */
    struct pubsub_terms terms;
    bool may_be_json; /* raw bytes of b64data: SDK clients get them as data if they are JSON */
};

/* ops_publish publishes to ch, as pubsub_channel gives it (NULL: nobody listens); *at (may be NULL)
 * is the position. 0, also if m is outdated and not published; or -1 when memory is out. */
int ops_publish(struct worker *w, struct channel *ch, const struct message *m,
                struct pubsub_position *at);

/* ops_publish_to finds the channel by its name; -1 also if it has a history and there is no room
 * for another channel. */
int ops_publish_to(struct worker *w, struct text channel, const struct message *m,
                   struct pubsub_position *at);

/* ops_membership tells a channel's subscribers that a client has joined or left. */
void ops_membership(struct worker *w, struct channel *ch, bool joined,
                    const struct client_info *info);

/* ops_presence_stats counts a channel's present clients and their distinct users (the empty one
 * counts as one). */
void ops_presence_stats(struct worker *w, struct channel *ch, uint32_t *clients, uint32_t *users);

/* ops_info_of says who holds a subscription, as presence shows it; texts are the subscription's and
 * id's. ops_info_size: how many bytes it takes in a reply or push, at most. */
#define OPS_UUID_TEXT 36
void ops_info_of(const struct subscription *s, struct client_info *i,
                 char id[static OPS_UUID_TEXT]);
size_t ops_info_size(const struct client_info *i);

/* ops_put_publications writes count publications of a history into a reply, as they were encoded;
 * ops_publications_size is how many bytes that takes. */
void ops_put_publications(struct json_out *o, struct publication *const *list, uint32_t count);
size_t ops_publications_size(struct publication *const *list, uint32_t count);
struct text ops_publication_object(const struct publication *p); /* one of them; borrowed */

static inline struct text ops_epoch(const struct pubsub_position *at)
{
    return text_of(at->epoch, sizeof at->epoch);
}

/* ops_other_epoch: does a position's epoch, if it has one, name another stream? */
bool ops_other_epoch(struct text epoch, const struct pubsub_position *at);

/* ops_left_s: whole seconds from now to a wall-clock end, 0 if it has passed, a year at most, which
 * is what SDKs are told of a longer one (protocol.md 5.4). */
uint32_t ops_left_s(int64_t end_s);

/* ops_error_text: the message of an error code (protocol.md 4.1), and whether it is temporary. */
const char *ops_error_text(uint32_t code, bool *temporary);

/* client ids are UUIDs (RFC 9562): 16 bytes kept, 36 characters shown. */
void ops_uuid_make(uint8_t id[static 16]);
struct text ops_uuid_text(const uint8_t id[static 16], char out[static OPS_UUID_TEXT]);
/* ops_uuid_read: false if s is not as ops_uuid_text writes one. */
bool ops_uuid_read(struct text s, uint8_t id[static 16]);

#endif
