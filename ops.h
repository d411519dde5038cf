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
    bool skip_history;
    bool may_be_json; /* raw bytes of b64data: SDK clients get them as data if they are JSON */
};

/* ops_publish publishes to ch, as pubsub_channel gives it (NULL: nobody listens); *at (may be NULL)
 * is the position. 0, or -1 when memory is out. */
int ops_publish(struct worker *w, struct channel *ch, const struct message *m,
                struct pubsub_position *at);

/* ops_membership tells a channel's subscribers that a client has joined or left. */
void ops_membership(struct worker *w, struct channel *ch, bool joined,
                    const struct client_info *info);

/* ops_presence_stats counts a channel's present clients and their distinct users (the empty one
 * counts as one). */
void ops_presence_stats(struct worker *w, struct channel *ch, uint32_t *clients, uint32_t *users);

/* client ids are UUIDs (RFC 9562): 16 bytes kept, 36 characters shown. */
#define OPS_UUID_TEXT 36
void ops_uuid_make(uint8_t id[static 16]);
struct text ops_uuid_text(const uint8_t id[static 16], char out[static OPS_UUID_TEXT]);

#endif
