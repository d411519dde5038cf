/* client.h - the Centrifuge client protocol on a connection: /connection/websocket (protocol.md
 * sections 1 to 6).
 *
 * client.c reads commands and answers them; client/connect.c is who a client is,
 * client/single.c that it is the only one; client/subs.c is what it is subscribed to, and
 * client/table.c finds it. How commands and replies are spelled is command.h's. An idle client owns
 * 64 bytes, 16 more where its rate is limited, and up to 88 for each subscription, beside its
 * connection. Worker only. */
#ifndef CLIENT_H
#define CLIENT_H

#include <string.h>

#include "auth.h"
#include "ops.h"

#define CLIENT_RATE_MAX 1000000 /* a second */

struct client_limits {               /* of what a client sends a second; client/rate.c */
    uint32_t commands, publications; /* 0 = off; CLIENT_RATE_MAX at most */
    uint32_t free;                   /* so many refusals more before it is closed */
};

#define CLIENT_REPLY_MAX (32u << 20) /* half of what memory gives in one piece (mem.h) */

struct client_options { /* a part of the settings (settings.h) */
    const struct jwt_rules *connect_rules, *subscribe_rules;
    bool anonymous, insecure, no_anonymous_tokens;
    bool include_time;
    uint32_t channel_limit, history_max, recovery_max;
    struct client_limits limits;
    size_t channel_max_length; /* bytes of a name */
    size_t reply_max; /* bytes of publications or a presence in a reply or the message of a grant:
                         a recovery that needs more has failed, else error 106 is the answer */
    const char *personal;         /* namespace of personal channels, "" = none; NULL: no such */
    bool single_connection;       /* a user's newest closes the others, and no limit counts it */
    int64_t stale_ms;             /* for the first connect */
    int64_t expired_sub_delay_ms; /* grace after a subscription's end */
    const char *version;
};

/* client_init: of the first settings; keeps o's pointers; before workers start. */
void client_init(const struct client_options *o);

/* client_open upgrades a handshake whose origin is allowed. a: what its Authorization header says;
 * a token there counts in connect as if it were in the command, unless that has one. */
void client_open(struct conn *c, const struct http_request *r, const struct auth *a);

extern const struct conn_handler client_handler;

/* client_fired is struct app's heartbeat for these connections. */
void client_fired(struct conn *c);

/* client_missed is struct pubsub_options' missed: unsubscribes with 2500, so that the client comes
 * back and recovers. */
void client_missed(struct subscription *s);

/* ---- what a backend may do to a client (protocol.md section 7) ---- */

struct client_grant { /* a server-side subscription; texts are borrowed for the call */
    struct text channel;
    struct text info, data; /* raw JSON, or absent */
    int64_t expires_s;      /* wall clock, 0 = never */
    bool recover;           /* from `from` on */
    struct position from;
    struct jwt_override override;
};

/* client_grant subscribes a client and tells it by a push, what it has missed behind it. A channel
 * that it has already stays as it is. 0, or an error code of protocol.md 4.1. client_revoke takes a
 * channel away (2000). Both for CONN_CLIENT connections that users_each gives. */
uint32_t client_grant(struct conn *c, const struct client_grant *g);
void client_revoke(struct conn *c, struct text channel);

/* client_extend sets when the connection ends (wall clock, 0 = never), and its info unless that is
 * absent, and says so by a push. false: memory is out, and nothing has changed. */
bool client_extend(struct conn *c, int64_t expires_s, struct text info);

/* client_has_id: is this the client's id, as SDKs and presence show it? client_id writes it. */
bool client_has_id(const struct conn *c, struct text id);
struct text client_id(const struct conn *c, char out[static OPS_UUID_TEXT]);
uint32_t client_channel_count(const struct conn *c);

/* ---- between client.c, client/connect.c and client/subs.c ---- */

enum client_phase {
    CLIENT_NEW, /* no connect yet */
    CLIENT_CONNECTED,
    CLIENT_FAILED,   /* its connect was answered with an error: nothing more is executed */
    CLIENT_PROTOBUF, /* offered an encoding that is not served: closed at its first message */
};

struct client_rate {                 /* zero is the start */
    uint32_t at_ms;                  /* when it was last looked at */
    uint32_t commands, publications; /* what is in their buckets, thousandths */
    uint32_t refused;                /* since all buckets were empty */
};

struct client {
    struct subscription **places; /* client/table.c */
    uint32_t cap, count;          /* places; subscriptions */
    uint32_t next_expiry; /* tick of the wall clock at which the first of them ends, or earlier; 0 =
                             never */
    uint8_t phase;        /* enum client_phase */
    bool ws_pings;        /* ?cf_ws_frame_ping_pong=true */
    bool bad_token;       /* the token of the upgrade does not verify */
    uint8_t name;         /* metric_client_name, once it is connected; else 0 */
    uint8_t id[16];
    struct frame *info; /* conn_info, or NULL; counted */
    union {
        struct frame *token;      /* of the upgrade, until connect; or NULL */
        struct client_rate *rate; /* once connected: made by the first command under a limit */
    };
    uint64_t order; /* of connects, where a user may have one connection */
};

_Static_assert(sizeof(struct client) <= 64, "paid by every client");

struct session { /* one message under way: its replies are gathered into as few messages as possible
                  */
    const struct command *command; /* under way; NULL: none yet */
    struct text user; /* who connects, as far as is known, before the conn has a user */
    struct conn *c;
    struct client *k;
    struct worker *w;
    enum command_method method; /* of the command that is executed */
    char *out;
    size_t cap, len;
    char *scratch; /* for decoded strings */
    size_t scratch_len;
};

static inline struct client *client_of(const struct conn *c)
{
    return c->channel;
}

/* client_expires_of: when what a token is for ends, wall clock; 0 = never (protocol.md 5.2:
 * expire_at overrides exp). */
static inline int64_t client_expires_of(const struct jwt_claims *claims)
{
    if (claims->has_expire_at) return claims->expire_at_s;
    return claims->has_exp ? claims->exp_s : 0;
}

static inline struct text client_text(struct jwt_str t)
{
    return text_of(t.p, t.len);
}

static inline bool client_same(struct text a, struct text b)
{
    return a.len == b.len && (!a.len || memcmp(a.p, b.p, a.len) == 0);
}

/* client_keep copies t into counted bytes. NULL: it is absent, or memory is out. */
static inline struct frame *client_keep(struct worker *w, struct text t)
{
    struct frame *f = t.len ? frame_new(w->pool, (uint32_t)t.len) : NULL;
    if (f) memcpy(f->bytes, t.p, t.len);
    return f;
}

/* client_line begins a reply of at most need bytes; client_line_end takes it in. client_flush sends
 * what is gathered. After a failure the connection is closed. */
struct json_out client_line(struct session *s, size_t need);
void client_more(struct session *s, struct json_out *o,
                 size_t need); /* room for so much more in this line */
void client_line_end(struct session *s, const struct json_out *o);
void client_flush(struct session *s);
void client_error(struct session *s, uint32_t id, uint32_t code);
void client_close(struct session *s, unsigned code); /* with the reason of protocol.md 4.3 */

/* client_verify verifies a token that came with a command; claims lie in the worker's tx. */
enum jwt_verdict client_verify(struct session *s, const struct jwt_rules *rules, struct text token,
                               struct jwt_claims *claims);

void client_connect(struct session *s, const struct command *m);
void client_refresh(struct session *s, const struct command *m);
/* client_rate_take: may one more command come at now_ms? FAR_ABOVE: the connection is to be closed.
 */
enum client_rate_verdict { CLIENT_RATE_WITHIN, CLIENT_RATE_ABOVE, CLIENT_RATE_FAR_ABOVE };
enum client_rate_verdict client_rate_take(struct client_rate *r, const struct client_limits *l,
                                          int64_t now_ms, bool publication);

/* client_close_others begins to close the other clients of c's user, on all workers (3504). false:
 * memory is out. */
bool client_close_others(struct conn *c);

void client_subscribe(struct session *s, const struct command *m);
void client_unsubscribe(struct session *s, const struct command *m);
void client_sub_refresh(struct session *s, const struct command *m);

/* ---- client/table.c: its subscriptions by channel ---- */

void client_table_init(void);
struct text client_channel(const struct subscription *sub);
struct subscription *client_find(const struct client *k, const char *name, size_t len);

/* client_table_close frees k's array; then it is empty. client_table_reserve makes room for one
 * more; false: memory is out. client_table_add needs it, and a sub that is subscribed.
 * client_table_remove moves nobody but to where sub was. Who goes through k->places finds NULL in
 * free ones. */
void client_table_close(struct worker *w, struct client *k);
bool client_table_reserve(struct worker *w, struct client *k);
void client_table_add(struct client *k, struct subscription *sub);
void client_table_remove(struct worker *w, struct client *k, const struct subscription *sub);

/* ---- */

void client_info_of(const struct conn *c, const struct subscription *sub, struct client_info *i,
                    char id_text[static OPS_UUID_TEXT]);

/* client_info_changed shows the client's new info in what it is subscribed to. */
void client_info_changed(struct conn *c);

struct server_subscription { /* what connect adds by itself */
    struct text channel;
    const struct jwt_sub *claim; /* of the connection's token, or NULL */
    bool recover;
    struct position from;
};

/* client_subscribe_by_server adds one and writes its part of the connect reply. Returns 0, an error
 * code, or a close code (3000 and above). A channel that the client has already is not asked for.
 */
uint32_t client_subscribe_by_server(struct session *s, struct json_out *o, bool first,
                                    const struct server_subscription *b);
/* client_may_subscribe: to a channel with these options, without a token. client_by_token: to how
 * many channels its token has subscribed it. */
bool client_may_subscribe(const struct conn *c, struct text channel,
                          const struct channel_options *o);
uint32_t client_by_token(const struct client *k);
void client_end_all(struct conn *c); /* every subscription; with leaves */

/* client_expire_subscriptions ends those whose time is over; client_next_expiry is the tick at
 * which it wants to be called again, 0 = never. */
void client_expire_subscriptions(struct conn *c);
uint32_t client_next_expiry(const struct conn *c);

/* client_permitted: by the three options of a namespace that say who may do something. */
bool client_permitted(const struct conn *c, bool subscribed, bool for_client, bool for_subscriber,
                      bool for_anonymous);

static inline const struct client_options *client_options(void)
{
    return settings_of(SETTINGS_CLIENT);
}

#endif
