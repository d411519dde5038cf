/* Connect and refresh: who a client is and until when, and what the server subscribes it to. */
#include "client.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "heartbeat.h"
#include "user_limit.h"
#include "users.h"

#define FAILED_MS 5000 /* a client whose connect failed has so long to close */

/* ---- who it is ---- */

struct credentials_of {       /* who connects, and until when */
    struct jwt_claims claims; /* texts in the worker's tx */
    int64_t expires_s;        /* 0 = never */
};

/* fail_connect: the connection is not usable after an error to connect; the SDK closes it
 * (protocol.md 2.1 rule 6). Until then nobody finds it by its user. */
static void fail_connect(struct session *s, const struct command *m, uint32_t code)
{
    client_error(s, m->id, code);
    if (s->c->state != CONN_OPEN) return;
    s->k->phase = CLIENT_FAILED;
    client_end_all(s->c);
    if (s->c->sub_index != USER_NONE) users_leave(s->c);
    user_limit_leave(s->c);
    conn_arm(s->c, CONN_DEADLINE_HEARTBEAT, FAILED_MS);
}

/* refuse: code is an error code, or a close code (3000 and above). */
static void refuse(struct session *s, const struct command *m, uint32_t code)
{
    if (code >= 3000)
        client_close(s, code);
    else
        fail_connect(s, m, code);
}

enum jwt_verdict client_verify(struct session *s, const struct jwt_rules *rules, struct text token,
                               struct jwt_claims *claims)
{
    const char *why;
    return jwt_verify(rules, token.p, token.len, (int64_t)time(NULL), claims, s->w->tx,
                      s->w->tx_size, &why);
}

/* is_good answers a token that is not. */
static bool is_good(struct session *s, const struct command *m, enum jwt_verdict v)
{
    switch (v) {
    case JWT_OK: return true;
    case JWT_INVALID: client_close(s, 3500); return false;
    case JWT_EXPIRED: fail_connect(s, m, 109); return false;
    }
    return false;
}

/* token_of: the command's, else the upgrade's. */
static struct text token_of(const struct session *s, const struct command *m)
{
    const struct frame *f = s->k->token;
    if (m->token.len || !f) return m->token;
    return text_of((const char *)f->bytes, f->len);
}

/* may_be_anonymous: there is no token; a bad one in the upgrade is as bad as one in the command,
 * not as good as none. */
static bool may_be_anonymous(struct session *s)
{
    if (s->k->bad_token)
        client_close(s, 3500);
    else if (client_options()->anonymous || client_options()->insecure)
        return true;
    else
        client_close(s, 3501);
    return false;
}

/* identify finds the credentials. Returns false if it has been answered. */
static bool identify(struct session *s, const struct command *m, struct credentials_of *who)
{
    struct text token = token_of(s, m);
    *who = (struct credentials_of){0};
    if (!token.len) return may_be_anonymous(s);
    const enum jwt_verdict v =
        client_verify(s, client_options()->connect_rules, token, &who->claims);
    if (v != JWT_INVALID) s->user = client_text(who->claims.sub);
    if (!is_good(s, m, v)) return false;
    who->expires_s = client_expires_of(&who->claims);
    if (!client_options()->no_anonymous_tokens || who->claims.sub.len) return true;
    client_close(s, 3507);
    return false;
}

/* set_info makes info, unless it is absent, the client's conn_info, also where it is shown already.
 * false: memory is out, and nothing has changed. */
static bool set_info(struct conn *c, struct text info)
{
    struct client *k = client_of(c);
    if (!info.len) return true;
    struct frame *f = client_keep(c->worker, info);
    if (!f) return false;
    frame_unref(k->info, 1);
    k->info = f;
    client_info_changed(c);
    return true;
}

/* ---- what the server subscribes it to ---- */

struct connecting { /* a connect command whose reply is being written */
    struct session *s;
    const struct command *m;
    const struct jwt_claims *claims;
    struct json_out o;
    bool has_subs;
    struct text personal; /* its personal channel, or absent */
};

/* Those below return 0, an error code, or a close code (3000 and above). */
static uint32_t add(struct connecting *n, const struct server_subscription *b)
{
    if (client_find(n->s->k, b->channel.p, b->channel.len)) return 0;
    uint32_t code = client_subscribe_by_server(n->s, &n->o, !n->has_subs, b);
    n->has_subs = n->has_subs || !code;
    return code;
}

static const struct jwt_sub *claim_of(const struct jwt_claims *claims, struct text channel)
{
    for (size_t i = 0; i < claims->subs_count; i++)
        if (client_same(client_text(claims->subs[i].channel), channel)) return &claims->subs[i];
    return NULL;
}

/* add_wished: a channel that the client names in connect is one that it has anyhow, and says where
 * to recover from; or one that it could subscribe to by itself (protocol.md 2.1 rule 8). */
static uint32_t add_wished(struct connecting *n, struct server_subscription *b)
{
    const struct text ch = b->channel;
    b->claim = claim_of(n->claims, ch);
    if (b->claim || (ch.len && client_same(ch, n->personal))) return add(n, b);
    const struct channel_options *o = ch.len ? namespace_of(ch.p, ch.len) : NULL;
    if (!o) return 3501;
    bool may = ch.len <= client_options()->channel_max_length &&
               namespace_name_ok(o, ch.p, ch.len) && client_may_subscribe(n->s->c, ch, o);
    return may ? add(n, b) : 0;
}

static uint32_t add_all_wished(struct connecting *n)
{
    const struct command *m = n->m;
    struct mem_pool *pool = n->s->w->pool;
    if (!m->subs.len) return 0;
    char *scratch = mem_alloc(pool, m->subs.len);
    struct server_subscription b = {0};
    uint32_t code = scratch ? 0 : 100;
    size_t at = 0;
    int more = 1;
    while (!code && (more = command_json_sub(m, &at, &b.channel, &b.recover, &b.from, scratch,
                                             m->subs.len)) == 1)
        code = add_wished(n, &b);
    mem_free(pool, scratch, m->subs.len);
    return more == -1 ? 3501 : code;
}

static uint32_t add_all(struct connecting *n)
{
    uint32_t code = add_all_wished(n);
    for (size_t i = 0; !code && i < n->claims->subs_count; i++) {
        const struct jwt_sub *claim = &n->claims->subs[i];
        code = add(n, &(struct server_subscription){.channel = client_text(claim->channel),
                                                    .claim = claim});
    }
    if (!code && n->personal.len)
        code = add(n, &(struct server_subscription){.channel = n->personal});
    return code;
}

/* name_personal: nobody's connection has no personal channel. Returns 0, or 107 if the user's name
 * is too long to be a part of a channel's. */
static uint32_t name_personal(struct connecting *n, char name[static PUBSUB_NAME_MAX])
{
    const struct user *u = n->s->c->user;
    if (!client_options()->personal || !u->len) return 0;
    size_t len =
        namespace_personal(name, PUBSUB_NAME_MAX, client_options()->personal, u->name, u->len);
    n->personal = text_of(name, len);
    return len ? 0 : 107;
}

static void begin_reply(struct connecting *n, const struct credentials_of *who)
{
    const struct client *k = n->s->k;
    const char *version = client_options()->version;
    char id[OPS_UUID_TEXT];
    struct connect_result r = {.client = ops_uuid_text(k->id, id),
                               .version = text_of(version, strlen(version)),
                               .expires = who->expires_s > 0,
                               .ttl_s = ops_left_s(who->expires_s),
                               .ping_s = k->ws_pings ? 0 : heartbeat_ping_s(),
                               .pong = !k->ws_pings && heartbeat_ping_s()};
    if (client_options()->include_time) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        r.time_ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    }
    n->o = client_line(n->s, 1024);
    reply_json_connect_begin(&n->o, n->m->id, &r);
}

static void reply_connect(struct session *s, const struct command *m,
                          const struct credentials_of *who)
{
    struct connecting n = {.s = s, .m = m, .claims = &who->claims};
    char name[PUBSUB_NAME_MAX];
    uint32_t code = name_personal(&n, name);
    begin_reply(&n, who);
    if (!code) code = add_all(&n);
    if (code) { /* what has been written is not taken in */
        refuse(s, m, code);
        return;
    }
    reply_json_connect_end(&n.o, n.has_subs);
    client_line_end(s, &n.o);
}

/* ---- connect and refresh ---- */

/* enter makes the connection one of its user. Returns 0, error 100 if memory is out, or a close
 * code. Where it will close the user's others it takes none of the user's places: the limit would
 * refuse it while those are still there. */
static uint32_t enter(struct session *s, const struct credentials_of *who)
{
    struct conn *c = s->c;
    c->user = users_intern(s->w, who->claims.sub.p, who->claims.sub.len);
    if (!c->user) return 100;
    if (!client_options()->single_connection && !user_limit_enter(c))
        return errno == ENOSPC ? 3504 : 100;
    return users_join(c) == 0 && set_info(c, client_text(who->claims.info)) ? 0 : 100;
}

void client_connect(struct session *s, const struct command *m)
{
    struct credentials_of who;
    struct conn *c = s->c;
    if (!identify(s, m, &who)) return;
    frame_unref(s->k->token, 1);
    s->k->token = NULL;
    int64_t left_ms = who.expires_s ? heartbeat_left_ms(who.expires_s) : -1;
    uint32_t code = left_ms == 0 ? 110 : enter(s, &who);
    if (code) {
        refuse(s, m, code);
        return;
    }
    s->k->phase = CLIENT_CONNECTED;
    if (conn_watched(c)) conn_see(c, &(struct conn_sight){.kind = SIGHT_CONNECTED});
    reply_connect(s, m, &who);
    if (c->state != CONN_OPEN || s->k->phase != CLIENT_CONNECTED) return;
    s->k->name = metric_client_name(m->name);
    metric_client_came(&s->w->metrics, s->k->name);
    heartbeat_start(c, left_ms);
    if (client_options()->single_connection && c->user->len && !client_close_others(c))
        client_close(s, 3004);
}

/* channels_changed: does a new token subscribe the client to others than the one before? Then it
 * has to connect anew (protocol.md 2.8). What it has by other ways does not matter. */
static bool channels_changed(const struct client *k, const struct jwt_claims *claims)
{
    uint32_t kept = 0;
    for (size_t i = 0; i < claims->subs_count; i++) {
        struct text channel = client_text(claims->subs[i].channel);
        const struct subscription *sub = client_find(k, channel.p, channel.len);
        if (!sub) return true;
        kept += (sub->flags & SUBSCRIPTION_BY_TOKEN) != 0;
    }
    return kept != client_by_token(k);
}

void client_refresh(struct session *s, const struct command *m)
{
    struct jwt_claims claims;
    if (!m->token.len) {
        client_close(s, 3501);
        return;
    }
    const struct user *u = s->c->user;
    enum jwt_verdict v = client_verify(s, client_options()->connect_rules, m->token, &claims);
    int64_t expires_s = client_expires_of(&claims),
            left_ms = expires_s ? heartbeat_left_ms(expires_s) : -1;
    if (v == JWT_OK && !client_same(client_text(claims.sub), text_of(u->name, u->len)))
        v = JWT_INVALID;
    if (v == JWT_INVALID) {
        client_close(s, 3500);
        return;
    }
    if (v == JWT_EXPIRED || left_ms == 0) { /* no error: so the SDK comes back with a fresh token
                                               (protocol.md 2.8) */
        client_close(s, 3005);
        return;
    }
    if (channels_changed(s->k, &claims)) {
        client_close(s, 3010);
        return;
    }
    if (!set_info(s->c, client_text(claims.info))) {
        client_error(s, m->id, 100);
        return;
    }
    heartbeat_start(s->c, left_ms);
    struct json_out o = client_line(s, 128);
    reply_json_refresh(&o, m->id, COMMAND_REFRESH, expires_s > 0, ops_left_s(expires_s));
    client_line_end(s, &o);
}

bool client_extend(struct conn *c, int64_t expires_s, struct text info)
{
    char text[128];
    struct json_out o = {.p = text, .cap = sizeof text};
    if (!set_info(c, info)) return false;
    heartbeat_start(c, expires_s ? heartbeat_left_ms(expires_s) : -1);
    push_json_refresh(&o, expires_s > 0, ops_left_s(expires_s));
    conn_send(c, WS_TEXT, text, o.len);
    return true;
}
