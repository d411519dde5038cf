/* pubsub_subs.h - test harness: subscribers of channels whose messages are numbered, so that each
 * knows what it must get next.
 *
 * Test programs only; static functions, not all used by each. */
#ifndef PUBSUB_SUBS_H
#define PUBSUB_SUBS_H

#include "engine.h"

#define SUBS_MAX 64
#define JUNK 3 /* bytes of a frame before its message */

struct sub {
    struct conn c;            /* first: what the handler is given */
    uint64_t got;             /* number of the newest publication received, 0 = none */
    uint64_t after;           /* model: the newest one when it subscribed, */
    uint64_t until;           /* and when it left; UINT64_MAX: it has not */
    uint32_t entries, pieces; /* queue entries and messages at the last harvest */
};

static struct sub subs[SUBS_MAX];
static struct worker *w;
static uint64_t published;

static UNUSED void begin(const struct engine_options *o)
{
    engine_open(o);
    w = engine.server.workers[0];
    published = 0;
}

static UNUSED void end(unsigned count)
{
    for (unsigned i = 0; i < count; i++) fake_drop(&subs[i].c);
    for (unsigned i = 0; i < engine.server.worker_count; i++) fake_turn(engine.server.workers[i]);
    for (unsigned i = 0; i < engine.server.worker_count; i++)
        mem_pool_reclaim(engine.server.workers[i]->pool);
    assert_int_equal(engine_metric(METRIC_QUEUED_BYTES), 0);
    engine_close();
}

/* join makes sub i a subscriber of channel on worker on. */
static UNUSED int join(unsigned i, struct worker *on, const char *channel)
{
    struct sub *s = &subs[i];
    *s = (struct sub){.after = published, .until = UINT64_MAX};
    fake_open(&s->c, on, i + 1);
    struct local *l = pubsub_attach(on, channel, strlen(channel));
    if (!l) return -1;
    s->c.channel = l;
    return pubsub_subscribe(&s->c, l);
}

/* leave takes it out of the channel's array only, as long as somebody else holds the channel. */
static UNUSED void leave(unsigned i)
{
    subs[i].until = published;
    pubsub_unsubscribe(&subs[i].c);
}

static UNUSED struct frame *numbered(struct mem_pool *pool, uint64_t number, size_t len)
{
    struct frame *f = conn_message_frame(pool, WS_BINARY, NULL, 0);
    if (!f) return NULL;
    frame_unref(f, 1);
    uint8_t *payload = calloc(1, len);
    assert_non_null(payload);
    memcpy(payload, &number, sizeof number);
    f = conn_message_frame(pool, WS_BINARY, payload, len);
    free(payload);
    return f;
}

/* pushed is such a message as a text, behind JUNK other bytes. */
static UNUSED struct frame *pushed(struct mem_pool *pool, uint64_t number, size_t len)
{
    struct ws_head h = {.opcode = WS_TEXT, .fin = true, .payload_len = len};
    struct frame *f = frame_new(pool, (uint32_t)(JUNK + WS_HEAD_MAX + len));
    if (!f) return NULL;
    memset(f->bytes, 0xff, JUNK);
    size_t n = JUNK + ws_head_write(f->bytes + JUNK, &h);
    memset(f->bytes + n, 0, len);
    memcpy(f->bytes + n, &number, sizeof number);
    f->len = (uint32_t)(n + len);
    return f;
}

/* encode makes what p lacks. A JSON push begins behind some bytes of its frame, as it does when its
 * header was shorter than the room for it. */
static UNUSED bool encode(struct worker *on, struct publication *p, size_t len, unsigned encodings)
{
    if (encodings & 1u << ENCODING_RAW) {
        p->as[ENCODING_RAW].frame = numbered(on->pool, published + 1, len);
        if (!p->as[ENCODING_RAW].frame) return false;
    }
    if (encodings & 1u << ENCODING_JSON) {
        p->as[ENCODING_JSON].from = JUNK;
        p->as[ENCODING_JSON].frame = pushed(on->pool, published + 1, len);
        if (!p->as[ENCODING_JSON].frame) return false;
    }
    return true;
}

static UNUSED int publish_kind(struct worker *on, const char *channel, enum publication_kind kind,
                               size_t len, uint64_t publisher)
{
    struct channel *ch = pubsub_channel(on, channel, strlen(channel));
    if (!ch) {
        if (errno) return -1;
        published++; /* nobody uses it */
        return 0;
    }
    struct publication *p = pubsub_publication(on, kind, publisher);
    unsigned lacks = pubsub_wanted(ch);
    bool ok;
    do ok = p && encode(on, p, len, lacks);
    while (ok && (lacks = pubsub_publish(on, ch, p, NULL, NULL)));
    if (ok) published++;
    if (p && !ok) pubsub_discard(p);
    pubsub_channel_unref(ch);
    return ok ? 0 : -1;
}

static UNUSED int publish_sized(struct worker *on, const char *channel, size_t len,
                                uint64_t publisher)
{
    return publish_kind(on, channel, PUBLICATION_MESSAGE, len, publisher);
}

static UNUSED void publish(void)
{
    assert_int_equal(publish_sized(w, "c", 8, PUBSUB_NOBODY), 0);
}

/* read_entry gives the numbers of an entry's messages to s, which must be the ones that come next.
 */
static UNUSED uint32_t read_entry(struct sub *s, const struct out_entry *e, bool gaps)
{
    uint32_t messages = 0;
    for (uint32_t at = e->from; at < e->frame->len;) {
        struct ws_head h;
        int n = ws_head_parse(&h, e->frame->bytes + at, e->frame->len - at);
        uint64_t number;
        if (n <= 0 || h.payload_len < 8) fail_msg("an entry does not begin at a frame");
        memcpy(&number, e->frame->bytes + at + n, sizeof number);
        uint64_t due = s->got ? s->got + 1 : s->after + 1;
        if (gaps ? number < due : number != due)
            fail_msg("got %llu, due was %llu", (unsigned long long)number, (unsigned long long)due);
        s->got = number;
        messages++;
        at += (uint32_t)n + (uint32_t)h.payload_len;
    }
    if (messages != e->messages) fail_msg("%u messages counted as %u", messages, e->messages);
    return messages;
}

static UNUSED uint32_t harvest_with(struct sub *s, bool gaps)
{
    struct out_queue *q = s->c.out;
    s->entries = s->pieces = 0;
    if (!q) return 0;
    for (uint32_t i = 0; i < q->count; i++) {
        const struct out_entry *e = &q->entries[q->head + i];
        if (e->kind == OUT_MESSAGE) s->pieces += read_entry(s, e, gaps);
    }
    s->entries = q->count;
    metric_sub(&s->c.worker->metrics, METRIC_QUEUED_BYTES, q->bytes);
    outq_free(s->c.worker->pool, &s->c.out);
    return s->pieces;
}

static UNUSED uint32_t harvest(unsigned i)
{
    return harvest_with(&subs[i], false);
}

/* check: has s got what was published while it was there, up to its leaving at the latest? */
static UNUSED void check(unsigned i)
{
    const struct sub *s = &subs[i];
    uint64_t got = s->got ? s->got : s->after;
    if (s->until == UINT64_MAX ? got != published : got > s->until)
        fail_msg("subscriber %u: got up to %llu of %llu", i, (unsigned long long)got,
                 (unsigned long long)published);
}

static UNUSED void
fill_up(unsigned i) /* its queue is at the cap: the next publication is too much */
{
    struct conn *c = &subs[i].c;
    size_t len = (size_t)engine.conn.queue_max_bytes - 4;
    struct frame *f = frame_new(w->pool, (uint32_t)len);
    assert_non_null(f);
    conn_queue(c, (struct out_entry){.frame = f, .kind = OUT_REPLY});
}

/* close_code_of reads the Close frame that is last in the queue. */
static UNUSED unsigned close_code_of(const struct conn *c)
{
    const struct out_queue *q = c->out;
    assert_non_null(q);
    const struct out_entry *e = &q->entries[q->head + q->count - 1];
    assert_int_equal(e->frame->bytes[0], 0x88);
    return (unsigned)e->frame->bytes[2] << 8 | e->frame->bytes[3];
}

#endif
