/* Connect and refresh: who a client is and until when, and what the server subscribes it to. */
#include "client.h"

#include <string.h>
#include <time.h>

#include "heartbeat.h"
#include "users.h"

#define FAILED_MS 5000 /* a client whose connect failed has so long to close */

static struct text text_of_str(struct jwt_str s)
{
    return text_of(s.p, s.len);
}

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
    conn_arm(s->c, CONN_DEADLINE_HEARTBEAT, FAILED_MS);
}

static enum jwt_verdict verify_connect(struct session *s, struct text token,
                                       struct jwt_claims *claims)
{
    const char *why;
    return jwt_verify(client_options.connect_rules, token.p, token.len, (int64_t)time(NULL), claims,
                      s->w->tx, s->w->tx_size, &why);
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
    else if (client_options.anonymous || client_options.insecure)
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
    if (!is_good(s, m, verify_connect(s, token, &who->claims))) return false;
    who->expires_s = client_expires_of(&who->claims);
    if (!client_options.no_anonymous_tokens || who->claims.sub.len) return true;
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

/* find_position looks for a channel in connect's subs: where a server-side subscription recovers
 * from. Its epoch is copied. */
static bool find_position(struct session *s, const struct command *m, struct text channel,
                          struct position *from, char epoch[static 8])
{
    struct mem_pool *pool = s->w->pool;
    char *scratch = m->subs.len ? mem_alloc(pool, m->subs.len) : NULL;
    struct position p = {0};
    struct text name;
    size_t at = 0;
    bool recover = false, found = false;
    while (scratch && !found &&
           command_json_sub(m, &at, &name, &recover, &p, scratch, m->subs.len) == 1)
        found = name.len == channel.len && memcmp(name.p, channel.p, name.len) == 0;
    *from = (struct position){.offset = p.offset};
    if (found && p.epoch.len) /* one of another length is none of ours */
        from->epoch = p.epoch.len == 8 ? text_of(memcpy(epoch, p.epoch.p, 8), 8) : text_of("-", 1);
    mem_free(pool, scratch, m->subs.len);
    return found && recover;
}

/* subscribe_by_token adds the channels of the token's claim (protocol.md 5.2). Returns 0 or an
 * error code. */
static uint32_t subscribe_by_token(struct session *s, const struct command *m,
                                   const struct jwt_claims *claims, struct json_out *o, bool *had)
{
    for (size_t i = 0; i < claims->subs_count; i++) {
        const struct jwt_sub *sub = &claims->subs[i];
        struct text channel = text_of_str(sub->channel);
        struct position from;
        char epoch[8];
        bool recover = find_position(s, m, channel, &from, epoch);
        uint32_t code = client_subscribe_by_server(s, o, !*had, sub, recover, &from);
        if (code) return code;
        *had = true;
    }
    return 0;
}

static void reply_connect(struct session *s, const struct command *m,
                          const struct credentials_of *who)
{
    char id[OPS_UUID_TEXT];
    struct connect_result r = {.client = ops_uuid_text(s->k->id, id),
                               .version =
                                   text_of(client_options.version, strlen(client_options.version)),
                               .expires = who->expires_s > 0,
                               .ttl_s = ops_left_s(who->expires_s),
                               .ping_s = s->k->ws_pings ? 0 : heartbeat_ping_s(),
                               .pong = !s->k->ws_pings && heartbeat_ping_s()};
    if (client_options.include_time) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        r.time_ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
    }
    struct json_out o = client_line(s, 1024);
    bool had = false;
    reply_json_connect_begin(&o, m->id, &r);
    uint32_t code = subscribe_by_token(s, m, &who->claims, &o, &had);
    if (code == 106) {
        client_close(s, 3505);
        return;
    }
    if (code) { /* what has been written is not taken in */
        fail_connect(s, m, code);
        return;
    }
    reply_json_connect_end(&o, had);
    client_line_end(s, &o);
}

/* enter makes the connection one of its user. false: memory is out. */
static bool enter(struct session *s, const struct credentials_of *who)
{
    struct conn *c = s->c;
    c->user = users_intern(s->w, who->claims.sub.p, who->claims.sub.len);
    if (!c->user || users_join(c) == -1) return false;
    return set_info(c, text_of_str(who->claims.info));
}

void client_connect(struct session *s, const struct command *m)
{
    struct credentials_of who;
    struct conn *c = s->c;
    if (!identify(s, m, &who)) return;
    frame_unref(s->k->token, 1);
    s->k->token = NULL;
    int64_t left_ms = who.expires_s ? heartbeat_left_ms(who.expires_s) : -1;
    if (left_ms == 0 || !enter(s, &who)) {
        fail_connect(s, m, left_ms == 0 ? 110 : 100);
        return;
    }
    s->k->phase = CLIENT_CONNECTED;
    reply_connect(s, m, &who);
    if (c->state == CONN_OPEN && s->k->phase == CLIENT_CONNECTED) heartbeat_start(c, left_ms);
}

void client_refresh(struct session *s, const struct command *m)
{
    struct jwt_claims claims;
    if (!m->token.len) {
        client_close(s, 3501);
        return;
    }
    const struct user *u = s->c->user;
    enum jwt_verdict v = verify_connect(s, m->token, &claims);
    int64_t expires_s = client_expires_of(&claims),
            left_ms = expires_s ? heartbeat_left_ms(expires_s) : -1;
    if (v == JWT_OK && (claims.sub.len != u->len || memcmp(claims.sub.p, u->name, u->len) != 0))
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
    if (!set_info(s->c, text_of_str(claims.info))) {
        client_error(s, m->id, 100);
        return;
    }
    heartbeat_start(s->c, left_ms);
    struct json_out o = client_line(s, 128);
    reply_json_refresh(&o, m->id, COMMAND_REFRESH, expires_s > 0, ops_left_s(expires_s));
    client_line_end(s, &o);
}

void client_extend(struct conn *c, int64_t expires_s, struct text info)
{
    char text[128];
    struct json_out o = {.p = text, .cap = sizeof text};
    (void)set_info(c, info);
    heartbeat_start(c, expires_s ? heartbeat_left_ms(expires_s) : -1);
    push_json_refresh(&o, expires_s > 0, ops_left_s(expires_s));
    conn_send(c, WS_TEXT, text, o.len);
}
