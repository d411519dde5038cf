/* centrifuge: the client protocol of Centrifuge in JSON, as its SDKs speak it. A connection is open
 * when connect (with the token) and subscribe, sent in one message, are answered. It publishes by
 * the publish command; every reply is waited for, pings are answered. A message is a JSON string:
 * sequence number and time in hexadecimal, then the pattern in 64 letters. */
#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reply.h"

#define CONNECT_ID 1
#define SUBSCRIBE_ID 2
#define FIRST_ID 3 /* of publish commands, which go up: good for 4 billion of them a connection */
#define HEX 16
#define HEAD (1 + 2 * HEX) /* a quote, sequence number, time */

/* Subscribers of one channel get the same line, so one that has been verified need only be compared
 * for the others: the last SEEN ones by sequence number. Without this the client would be the
 * slower side. */
#define SEEN 64
#define SEEN_BYTES 4096 /* longer lines are verified each time */

static struct seen {
    size_t len; /* 0 = none */
    uint64_t seq, sent_ns, offset;
    char line[SEEN_BYTES];
} seen[SEEN];

enum { AWAITED_CONNECT = 1, AWAITED_SUBSCRIBE = 2 };

static void target(const struct bench *b, unsigned i, char *out, size_t cap)
{
    (void)i;
    snprintf(out, cap, "%s", *b->peer.url.path ? b->peer.url.path : "/connection/websocket");
}

static int prepare(struct bench *b)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (size_t i = HEAD; i < b->o.size; i++) b->message[i] = (uint8_t)letters[b->message[i] & 63];
    b->message[0] = b->message[b->o.size - 1] = '"';
    /* every byte of a name escaped; a token in connect */
    b->line_cap = b->o.size + 6 * BENCH_CHANNEL_MAX + JWT_TOKEN_MAX + 256;
    b->line = malloc(b->line_cap);
    return b->line ? 0 : -1;
}

/* ---- commands ---- */

static void put_channel(const struct bench_conn *c, struct json_out *o)
{
    char name[BENCH_CHANNEL_MAX + 1];
    bench_channel(c->bench, c->index, name);
    json_puts(o, "\"channel\":");
    json_put_string(o, name, strlen(name));
}

static bool send_line(struct bench_conn *c, const struct json_out *o)
{
    return !o->full && dial_send(c->dial, WS_TEXT, o->p, o->len) >= 0;
}

static void upgraded(struct bench_conn *c)
{
    struct bench *b = c->bench;
    char token[2048];
    const char *t = load_token(b, token, sizeof token);
    struct json_out o = {.p = b->line, .cap = b->line_cap};
    json_puts(&o, "{\"connect\":{");
    if (t) {
        json_puts(&o, "\"token\":");
        json_put_string(&o, t, strlen(t));
        json_puts(&o, ",");
    }
    json_puts(&o, "\"name\":\"roost-bench\"},\"id\":1}");
    c->client.awaited = AWAITED_CONNECT;
    if (!b->o.no_subscribe) {
        json_puts(&o, "\n{\"subscribe\":{");
        put_channel(c, &o);
        json_puts(&o, "},\"id\":2}");
        c->client.awaited |= AWAITED_SUBSCRIBE;
    }
    send_line(c, &o); /* if not, the connection ends and says why */
}

static void put_hex(uint8_t *out, uint64_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (int i = HEX - 1; i >= 0; i--, n >>= 4) out[i] = (uint8_t)digits[n & 15];
}

static bool send_message(struct bench_conn *c, uint64_t seq)
{
    struct bench *b = c->bench;
    struct json_out o = {.p = b->line, .cap = b->line_cap};
    if (!c->dial) return false;
    put_hex(b->message + 1, seq);
    put_hex(b->message + 1 + HEX, (uint64_t)b->now_ns);
    json_puts(&o, "{\"publish\":{");
    put_channel(c, &o);
    json_puts(&o, ",\"data\":");
    json_put(&o, (const char *)b->message, b->o.size);
    json_puts(&o, "},\"id\":");
    json_put_uint(&o, FIRST_ID + c->client.commands);
    json_puts(&o, "}");
    if (!send_line(c, &o)) return false;
    c->client.commands++;
    return true;
}

/* ---- replies ---- */

static void damaged(struct bench_conn *c)
{
    c->bench->counts.damaged++;
}

/* An error, or a push that ends something: said once, and the run is over. */
static void refused(struct bench_conn *c, const char *what, const struct reply *r)
{
    struct bench *b = c->bench;
    if (!*b->failure)
        snprintf(b->failure, sizeof b->failure, "connection %u: %s %u %.*s", c->index, what,
                 r->code, (int)(r->message.len < 100 ? r->message.len : 100), r->message.p);
    if (c->open)
        bench_stop = true;
    else
        dial_close(c->dial, WS_CLOSE_NORMAL, "refused");
}

static void answered(struct bench_conn *c, uint8_t awaited)
{
    if (!(c->client.awaited & awaited)) {
        damaged(c);
        return;
    }
    c->client.awaited &= (uint8_t)~awaited;
    if (!c->client.awaited) load_opened(c);
}

/* Replies to publish may come in any order, but each once (protocol.md 1.3). */
static void published(struct bench_conn *c, const struct reply *r)
{
    struct bench_client *k = &c->client;
    uint64_t n = r->id - FIRST_ID;
    if (n >= k->commands)
        damaged(c);
    else
        order_take(&k->answers, n, &c->bench->answer_faults);
}

static void result(struct bench_conn *c, const struct reply *r)
{
    if (r->id == CONNECT_ID && r->method == COMMAND_CONNECT) {
        c->client.pong = r->pong;
        answered(c, AWAITED_CONNECT);
    } else if (r->id == SUBSCRIBE_ID && r->method == COMMAND_SUBSCRIBE) {
        c->client.positioned = c->client.offset_known = r->positioned;
        c->client.offset_base = r->offset;
        answered(c, AWAITED_SUBSCRIBE);
    } else if (r->id >= FIRST_ID && r->method == COMMAND_PUBLISH) {
        published(c, r);
    } else {
        damaged(c);
    }
}

/* ---- publications ---- */

static bool read_hex(const char *p, uint64_t *out)
{
    *out = 0;
    for (int i = 0; i < HEX; i++) {
        char d = p[i];
        if (!((d >= '0' && d <= '9') || (d >= 'a' && d <= 'f'))) return false;
        *out = *out << 4 | (uint64_t)(d <= '9' ? d - '0' : d - 'a' + 10);
    }
    return true;
}

/* Offsets go up by one with each publication; without a position the first one says from where. */
static bool take_offset(struct bench_conn *c, uint64_t offset)
{
    struct bench_client *k = &c->client;
    if (offset == 0) return !k->positioned;
    if (!k->offset_known) {
        k->offset_known = true;
        k->offset_base = offset - 1;
    }
    if (offset <= k->offset_base) return false;
    order_take(&k->offsets, offset - k->offset_base - 1, &c->bench->offset_faults);
    return true;
}

static bool is_ours(const struct bench_conn *c, const struct reply *r)
{
    const struct bench *b = c->bench;
    char name[BENCH_CHANNEL_MAX + 1];
    bench_channel(b, c->index, name);
    return c->client.awaited == 0 && strlen(name) == r->channel_len &&
           memcmp(name, r->channel, r->channel_len) == 0 && r->data.len == b->o.size &&
           r->data.p[0] == '"' &&
           memcmp(r->data.p + HEAD, b->message + HEAD, b->o.size - HEAD) == 0;
}

static void remember(uint64_t seq, uint64_t sent_ns, uint64_t offset, const char *line, size_t len)
{
    struct seen *s = &seen[seq % SEEN];
    if (len > SEEN_BYTES) return;
    memcpy(s->line, line, len);
    s->len = len;
    s->seq = seq;
    s->sent_ns = sent_ns;
    s->offset = offset;
}

/* The line that is due, if somebody has had it already. */
static const struct seen *recall(const struct bench_conn *c, const char *line, size_t len)
{
    const struct seen *s = &seen[c->order.next % SEEN];
    return c->client.awaited == 0 && s->len == len && memcmp(s->line, line, len) == 0 ? s : NULL;
}

static void verified(struct bench_conn *c, uint64_t seq, uint64_t sent_ns, uint64_t offset)
{
    if (take_offset(c, offset))
        load_received(c, seq, (int64_t)sent_ns, c->bench->o.size);
    else
        damaged(c);
}

static void publication(struct bench_conn *c, const struct reply *r, const char *line, size_t len)
{
    uint64_t seq, sent_ns;
    if (!is_ours(c, r) || !read_hex(r->data.p + 1, &seq) ||
        !read_hex(r->data.p + 1 + HEX, &sent_ns)) {
        damaged(c);
        return;
    }
    if (c->bench->mode->publishers == BENCH_THE_FIRST) remember(seq, sent_ns, r->offset, line, len);
    verified(c, seq, sent_ns, r->offset);
}

/* ---- what arrives ---- */

static void take_line(struct bench_conn *c, const char *line, size_t len)
{
    struct reply r;
    const struct seen *s = recall(c, line, len);
    if (s) {
        verified(c, s->seq, s->sent_ns, s->offset);
        return;
    }
    if (reply_read(&r, line, len) == -1) {
        damaged(c);
        return;
    }
    switch (r.kind) {
    case REPLY_PING:
        c->bench->counts.pings++;
        if (c->client.pong) dial_send(c->dial, WS_TEXT, "{}", 2);
        return;
    case REPLY_RESULT: result(c, &r); return;
    case REPLY_ERROR: refused(c, "error", &r); return;
    case REPLY_PUBLICATION:
        if (c->bench->mode->message) publication(c, &r, line, len);
        return;
    case REPLY_UNSUBSCRIBED: refused(c, "unsubscribed", &r); return;
    case REPLY_DISCONNECTED: refused(c, "disconnected", &r); return;
    case REPLY_OTHER: return;
    }
}

static void take_message(struct bench_conn *c, const char *text, size_t len)
{
    if (c->bad) {
        damaged(c);
        return;
    }
    const char *end = text + len, *newline;
    while ((newline = memchr(text, '\n', (size_t)(end - text)))) {
        take_line(c, text, (size_t)(newline - text));
        text = newline + 1;
    }
    take_line(c, text, (size_t)(end - text)); /* none may be empty (protocol.md 1.2) */
}

/* dial has bounded the length of a message. */
static bool keep(struct bench_client *k, const struct ws_event *ev)
{
    size_t cap = k->part_cap ? k->part_cap : 4096;
    while (cap < k->part_len + ev->len) cap *= 2;
    uint8_t *part = cap == k->part_cap ? k->part : realloc(k->part, cap);
    if (!part) return false;
    memcpy(part + k->part_len, ev->payload, ev->len);
    k->part = part;
    k->part_cap = cap;
    k->part_len += ev->len;
    return true;
}

static void take_piece(struct bench_conn *c, const struct ws_event *ev)
{
    struct bench_client *k = &c->client;
    if (ev->first) {
        c->bad = ev->opcode != WS_TEXT;
        k->part_len = 0;
    }
    if (ev->first && ev->last) {
        take_message(c, (const char *)ev->payload, ev->len);
        return;
    }
    if (!keep(k, ev)) c->bad = true;
    if (ev->last) take_message(c, (const char *)k->part, k->part_len);
}

const struct bench_dialect dialect_centrifuge = {.name = "centrifuge",
                                                 .claims = "",
                                                 .token_in_command = true,
                                                 .size_min = HEAD + 1,
                                                 .target = target,
                                                 .prepare = prepare,
                                                 .upgraded = upgraded,
                                                 .piece = take_piece,
                                                 .send = send_message};
