/* raw: the path names the channel, a message is sequence number, time and pattern in a binary
 * message. echo is the same to a path that sends everything back. */
#include "bench.h"

#include <stdio.h>
#include <string.h>

static void raw_target(const struct bench *b, unsigned i, char *out, size_t cap)
{
    char name[BENCH_CHANNEL_MAX + 1], segment[3 * sizeof name];
    bool publishes = b->mode->publishers == BENCH_EACH_TO_ITSELF ||
                     (b->mode->publishers == BENCH_THE_FIRST && i == 0);
    bench_channel(b, i, name);
    url_encode_segment(segment, sizeof segment, name, strlen(name));
    snprintf(out, cap, "%s/raw/%s%s", b->peer.url.path, segment, publishes ? "" : "?pub=0");
}

static void echo_target(const struct bench *b, unsigned i, char *out, size_t cap)
{
    (void)i;
    snprintf(out, cap, "%s", *b->peer.url.path ? b->peer.url.path : "/echo");
}

static void take_message(struct bench_conn *c)
{
    uint64_t seq;
    int64_t sent_ns;
    if (c->bad || c->at != c->bench->o.size) {
        c->bench->counts.damaged++;
        return;
    }
    memcpy(&seq, c->head, sizeof seq);
    memcpy(&sent_ns, c->head + sizeof seq, sizeof sent_ns);
    load_received(c, seq, sent_ns, c->at);
}

/* A piece of a message: the head is kept, everything behind it must be the pattern. */
static void take_piece(struct bench_conn *c, const struct ws_event *ev)
{
    struct bench *b = c->bench;
    const uint8_t *p = ev->payload;
    size_t len = ev->len;
    if (!b->mode->message) return;
    if (ev->first) {
        c->at = 0;
        c->bad = ev->opcode != WS_BINARY;
    }
    if (c->at < BENCH_HEAD) {
        size_t n = BENCH_HEAD - c->at < len ? BENCH_HEAD - c->at : len;
        memcpy(c->head + c->at, p, n);
        c->at += n;
        p += n;
        len -= n;
    }
    if (len > b->o.size - c->at || memcmp(p, b->message + c->at, len) != 0)
        c->bad = true;
    else
        c->at += len;
    if (ev->last) take_message(c);
}

static bool send_message(struct bench_conn *c, uint64_t seq)
{
    struct bench *b = c->bench;
    if (!c->dial) return false;
    memcpy(b->message, &seq, sizeof seq);
    memcpy(b->message + sizeof seq, &b->now_ns, sizeof b->now_ns);
    return dial_send(c->dial, WS_BINARY, b->message, b->o.size) >= 0;
}

const struct bench_dialect dialect_raw = {
    .name = "raw",
    .claims = ",\"roost\":{\"pub\":[\"bench-*\",\"chat:*\",\"news\"],"
              "\"sub\":[\"bench-*\",\"chat:*\",\"news\"]}",
    .size_min = BENCH_HEAD,
    .target = raw_target,
    .upgraded = load_opened,
    .piece = take_piece,
    .send = send_message};

const struct bench_dialect dialect_echo = {.name = "echo",
                                           .claims = "",
                                           .size_min = BENCH_HEAD,
                                           .target = echo_target,
                                           .upgraded = load_opened,
                                           .piece = take_piece,
                                           .send = send_message};
