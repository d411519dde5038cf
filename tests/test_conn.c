/* conn.c, conn/http.c and conn/ws.c on a worker without a thread: bytes in any pieces, caps, ends
 * of all kinds, memory that runs out. The peer is the other end of a socket pair. */
#include "engine.h"

#include "conn_script.h"

#define ROOM (4u << 20)

struct peer {
    int fd;
    size_t len;
    bool eof;
    uint8_t got[ROOM];
};

static struct peer peers[2];
static struct worker *w;

static void begin(const struct engine_options *o)
{
    engine_open(o);
    w = engine.server.workers[0];
    heartbeat_init(&(struct heartbeat_options){0});
}

static struct peer *dial(unsigned i)
{
    struct peer *p = &peers[i];
    p->fd = engine_connect(w);
    p->len = 0;
    p->eof = false;
    return p;
}

static void hang_up(struct peer *p)
{
    if (p->fd != -1) close(p->fd);
    p->fd = -1;
}

/* collect reads what is there. */
static void collect(struct peer *p)
{
    while (p->fd != -1 && !p->eof && p->len < ROOM) {
        ssize_t n = recv(p->fd, p->got + p->len, ROOM - p->len, 0);
        if (n > 0) p->len += (size_t)n;
        if (n == 0 || (n < 0 && errno != EAGAIN)) p->eof = true;
        if (n <= 0) return;
    }
}

static void turns(struct peer *p, unsigned n)
{
    while (n--) {
        worker_turn(w, 0);
        collect(p);
    }
}

/* settle turns until the worker has nothing left to do. Bounded: a worker that never rests is a
 * failure. */
static void settle(struct peer *p)
{
    for (unsigned i = 0; i < 100000; i++) {
        size_t before = p->len;
        turns(p, 1);
        if (!w->ready.count && !engine_pending(w) && !w->mailbox.newest && p->len == before) return;
    }
    fail_msg("the worker does not rest");
}

/* feed sends all of it, with turns when the pair is full; the peer may have gone meanwhile. */
static void feed(struct peer *p, const void *bytes, size_t len)
{
    const uint8_t *b = bytes;
    for (unsigned i = 0; len && i < 100000; i++) {
        ssize_t n = send(p->fd, b, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) return;
        if (n > 0) b += n, len -= (size_t)n;
        if (len) turns(p, 1);
    }
}

static void feed_text(struct peer *p, const char *text)
{
    feed(p, text, strlen(text));
}

static void feed_frame(struct peer *p, enum ws_opcode opcode, const void *payload, size_t len)
{
    static uint8_t frame[256 * 1024];
    feed(p, frame, masked_frame(frame, opcode, true, payload, len));
}

/* end hangs up and waits until the worker has let go of everything. */
static void end(void)
{
    for (unsigned i = 0; i < 2; i++) hang_up(&peers[i]);
    for (unsigned i = 0; i < 300 && w->conns.count; i++)
        worker_turn(w, 10); /* some are throttled */
    assert_int_equal(engine_metric(METRIC_QUEUED_BYTES), 0);
    assert_int_equal(engine_metric(METRIC_SOCKETS), 0);
    engine_close();
}

/* serves: is a fresh client served? Every test with bad input ends by it. */
static void assert_serves(void)
{
    struct peer *p = dial(1);
    feed_text(p, UPGRADE("/echo"));
    feed_frame(p, WS_TEXT, "hello", 5);
    settle(p);
    assert_int_equal(p->len, sizeof SWITCHED - 1 + 7);
    assert_memory_equal(p->got, SWITCHED "\x81\x05hello", p->len);
}

static void assert_got(const struct peer *p, const void *bytes, size_t len)
{
    if (p->len == len && memcmp(p->got, bytes, len) == 0) return;
    fail_msg("got %zu bytes, %zu expected:\n%.*s", p->len, len, (int)p->len, (const char *)p->got);
}

/* ---- the same bytes in any pieces ---- */

/* pieces feeds s cut where next says how long a piece is (0: all the rest), and compares. */
static void pieces(struct script *s, size_t fixed, uint32_t seed)
{
    begin(&(struct engine_options){0});
    struct peer *p = dial(0);
    for (size_t at = 0; at < s->len;) {
        size_t n = fixed ? fixed : 1 + engine_random(&seed, engine_random(&seed, 4) ? 40 : 5000);
        if (n > s->len - at) n = s->len - at;
        feed(p, s->bytes + at, n);
        turns(p, 1);
        at += n;
    }
    settle(p);
    if (!s->answer_len) answer(s, p->got, p->len);
    assert_got(p, s->answer, s->answer_len);
    end();
}

static struct script script;

static void in_all_pieces(unsigned random_runs)
{
    pieces(&script, script.len, 0);
    pieces(&script, 1, 0);
    for (unsigned seed = 1; seed <= random_runs; seed++) pieces(&script, 0, seed);
}

static void test_in_any_pieces(void **state)
{
    (void)state;
    everything(&script);
    in_all_pieces(SLOW ? 20 : 200);
}

static const char old_version[] =
    "GET /echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/* Input that ends the connection: the same refusal, wherever it is cut. The worker's random numbers
 * are in some answers (Retry-After); not in these. */
static void test_bad_input_in_any_pieces(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "GET /healthz HTTP/1.1\n\n",
        "GET  /healthz HTTP/1.1\r\n\r\n",
        "GET /healthz HTTP/2.0\r\n\r\n",
        "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /healthz HTTP/1.0\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n",
        "POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        "POST /api/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\nabc",
        "POST /api/publish HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST /api/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n{,}",
        "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n",
        old_version,
    };
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        script.len = script.answer_len = 0;
        add(&script, heads[i]);
        in_all_pieces(10);
    }
    static const struct {
        const char *frames;
        size_t len;
        const char *answer; /* of the Close frame, code first */
    } bad[] = {
        {"\x81\x01x", 3, "\x88\x10\x03\xeaprotocol error"},        /* 5.1: not masked */
        {"\xc1\x80\1\2\3\4", 6, "\x88\x10\x03\xeaprotocol error"}, /* 5.2: rsv1 */
        {"\x83\x80\1\2\3\4", 6, "\x88\x10\x03\xeaprotocol error"}, /* 5.2: opcode */
        {"\x80\x80\1\2\3\4", 6, "\x88\x10\x03\xeaprotocol error"}, /* 5.4: continues nothing */
        {"\x09\x80\1\2\3\4", 6, "\x88\x10\x03\xeaprotocol error"}, /* 5.5: fragmented ping */
        {"\x81\x82\0\0\0\0\xff\xff", 8, "\x88\x13\x03\xeftext is not UTF-8"}, /* 8.1 */
        {"\x82\xff\0\0\0\0\x7f\0\0\0\0\0\0\0", 14, "\x88\x13\x03\xf1message too large"},
        {"\x88\x81\0\0\0\0x", 7, "\x88\x10\x03\xeaprotocol error"}, /* 5.5.1: one byte of a code */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        script.len = script.answer_len = 0;
        add(&script, UPGRADE("/echo"));
        answer(&script, SWITCHED, sizeof SWITCHED - 1);
        answer(&script, bad[i].answer, strlen(bad[i].answer));
        memcpy(script.bytes + script.len, bad[i].frames, bad[i].len);
        script.len += bad[i].len;
        in_all_pieces(10);
    }
}

/* ---- what is left over by a cap is not forgotten ---- */

static void test_reads_a_turn(void **state)
{
    (void)state;
    enum { EACH = 64, MANY = 16384 }; /* 1 MiB */
    static uint8_t burst[MANY * (EACH + 6)], payload[EACH];
    size_t len = 0;
    for (unsigned i = 0; i < MANY; i++) {
        memcpy(payload, &i, sizeof i);
        len += masked_frame(burst + len, WS_BINARY, true, payload, EACH);
    }
    begin(&(struct engine_options){.receive_buffer_bytes = 16 * 1024});
    engine.conn.reads_per_turn = 1;
    struct peer *p = dial(0);
    feed_text(p, UPGRADE("/echo"));
    settle(p);
    p->len = 0;
    feed(p, burst, len);
    /* No event will come any more for what is in the socket: a worker that slept on it would sleep
     * its seconds. */
    int64_t began = clock_us();
    for (unsigned i = 0; i < 1000 && p->len < MANY * (EACH + 2); i++) {
        worker_turn(w, 10000);
        collect(p);
    }
    assert_true(clock_us() - began < 5000000);
    assert_int_equal(p->len, MANY * (EACH + 2));
    for (unsigned i = 0, n; i < MANY; i++) {
        memcpy(&n, p->got + i * (EACH + 2) + 2, sizeof n);
        assert_int_equal(n, i);
    }
    end();
}

/* One that sends without end does not keep another waiting. */
static void test_fair(void **state)
{
    (void)state;
    static uint8_t payload[16384];
    begin(&(struct engine_options){.receive_buffer_bytes = 16 * 1024});
    engine.conn.reads_per_turn = 2;
    struct peer *loud = dial(0), *other = dial(1);
    feed_text(loud, UPGRADE("/echo"));
    feed_text(other, UPGRADE("/echo"));
    settle(loud);
    settle(other);
    for (unsigned i = 0; i < 8; i++) feed_frame(loud, WS_BINARY, payload, sizeof payload);
    other->len = 0;
    feed_frame(other, WS_TEXT, "me", 2);
    turns(other, 1);
    assert_got(other, "\x81\x02me", 4);
    assert_true(w->ready.count > 0);
    settle(loud);
    end();
}

/* An echo whose peer does not read is read no further, and goes on when the peer reads again. */
static void test_pause(void **state)
{
    (void)state;
    enum { EACH = 32 * 1024, MANY = 60 };
    static uint8_t payload[EACH], frame[EACH + WS_HEAD_MAX];
    size_t len = masked_frame(frame, WS_BINARY, true, payload, EACH), at = 0;
    begin(&(struct engine_options){0});
    engine.conn.queue_max_bytes = 256 * 1024;
    struct peer *p = dial(0);
    feed_text(p, UPGRADE("/echo"));
    settle(p);
    p->len = 0;
    unsigned sent = 0;
    for (unsigned i = 0; i < 1000 && sent < MANY; i++) { /* until nothing goes in any more */
        ssize_t n = send(p->fd, frame + at, len - at, MSG_NOSIGNAL);
        if (n > 0) at += (size_t)n;
        if (at == len) at = 0, sent++;
        worker_turn(w, 0);
    }
    assert_true(sent < MANY);
    struct conn *c = w->conns.items[0];
    assert_true(c->flags & CONN_PAUSED);
    assert_true(outq_bytes(c->out) <= 256 * 1024 / 2 + 2 * (EACH + 4) + w->rx_size);
    assert_int_equal(w->ready.count, 0); /* and the worker sleeps meanwhile */
    for (; sent < MANY; sent++, at = 0) feed(p, frame + at, len - at);
    for (unsigned i = 0; i < 10000 && p->len < MANY * (EACH + 4); i++) turns(p, 1);
    assert_int_equal(p->len, MANY * (EACH + 4));
    end();
}

/* ---- a handler that takes a bite of a message at a time ---- */

static struct {
    size_t bite, len;
    char eaten[64];
} eater;

static void bite(struct conn *c, enum ws_opcode opcode, uint8_t *payload, size_t len)
{
    const size_t n = len < eater.bite ? len : eater.bite;
    assert_int_equal(opcode, WS_TEXT);
    memcpy(eater.eaten + eater.len, payload, n);
    eater.len += n;
    if (n == len) return;
    conn_pause(c);
    conn_hold(c, opcode, payload + n, len - n);
}

static void begin_bites(size_t n)
{
    begin(&(struct engine_options){0});
    engine.app.handlers[CONN_ECHO].message = bite;
    eater.bite = n;
    eater.len = 0;
}

/* Messages whole and in fragments, a ping among them, and a Close behind them: what a handler holds
 * comes before all that follows, in whatever pieces it arrived. */
static size_t bites_script(uint8_t *out)
{
    size_t n = 0;
    n += masked_frame(out + n, WS_TEXT, true, "abcdef", 6);
    n += masked_frame(out + n, WS_TEXT, false, "gh", 2);
    n += masked_frame(out + n, WS_PING, true, "ping", 4);
    n += masked_frame(out + n, WS_CONTINUATION, true, "ijk", 3);
    n += masked_frame(out + n, WS_TEXT, true, "", 0);
    n += masked_frame(out + n, WS_TEXT, true, "lmnopqr", 7);
    n += masked_frame(out + n, WS_CLOSE, true, "\x03\xe8", 2);
    return n;
}

static void test_held(void **state)
{
    (void)state;
    uint8_t bytes[128];
    const size_t len = bites_script(bytes);
    for (size_t size = 1; size <= 8; size++) {
        for (size_t piece = 1; piece <= len; piece = piece < 9 ? piece + 1 : piece * 2 + 1) {
            for (int fin = 0; fin < 2; fin++) { /* the peer's FIN right behind it */
                begin_bites(size);
                struct peer *p = dial(0);
                feed_text(p, UPGRADE("/echo"));
                settle(p);
                p->len = 0;
                for (size_t at = 0; at < len; at += piece) {
                    feed(p, bytes + at, len - at < piece ? len - at : piece);
                    if (piece < len) turns(p, (unsigned)at % 3);
                }
                if (fin) shutdown(p->fd, SHUT_WR);
                settle(p);
                assert_int_equal(eater.len, 18);
                assert_memory_equal(eater.eaten, "abcdefghijklmnopqr", 18);
                assert_int_equal(engine_metric(METRIC_MESSAGES_IN), 4); /* each once */
                assert_int_equal(p->len, 6 + 4);
                assert_memory_equal(p->got, "\x8a\x04ping\x88\x02\x03\xe8", 10);
                end();
            }
        }
    }
}

/* One bite a turn: others get theirs. */
static void test_held_takes_turns(void **state)
{
    (void)state;
    begin_bites(1);
    struct peer *p = dial(0);
    feed_text(p, UPGRADE("/echo"));
    settle(p);
    feed_frame(p, WS_TEXT, "abcdef", 6);
    for (unsigned i = 1; i <= 6; i++) {
        worker_turn(w, 1000); /* does not sleep: the next bite is due */
        assert_int_equal(eater.len, i);
    }
    end();
}

/* The connection ends, or memory is out, while something is held: nothing stays behind. */
static void test_held_at_the_end(void **state)
{
    (void)state;
    for (uint64_t k = 0; k < 6; k++) { /* the k-th allocation fails, 0: none */
        begin_bites(2);
        struct peer *p = dial(0);
        feed_text(p, UPGRADE("/echo"));
        settle(p);
        mem_fail_at(k);
        feed_frame(p, WS_TEXT, "abcdef", 6);
        worker_turn(w, 0);
        mem_fail_at(0);
        const uint64_t failed = mem_pool_stats(w->pool).failed;
        if (k == 0) assert_non_null(w->conns.items[0]->in->held);
        if (k == 1 || k == 2) assert_int_equal(failed, 1); /* for conn_in, and for what is held */
        assert_int_equal(eater.len, 2);
        hang_up(p);
        for (unsigned i = 0; i < 100 && w->conns.count; i++) worker_turn(w, 0);
        engine.app.handlers[CONN_ECHO] = echo_handler;
        assert_serves();
        end();
    }
}

/* Pongs are merged while an earlier one could not be written (section 5.5.3), and the gauge stays
 * right. */
static void test_merged_pongs(void **state)
{
    (void)state;
    static uint8_t payload[100 * 1024];
    begin(&(struct engine_options){0});
    struct peer *p = dial(0);
    feed_text(p, UPGRADE("/echo"));
    settle(p);
    p->len = 0;
    struct conn *c = w->conns.items[0];
    for (unsigned i = 0; i < 20 && !(c->flags & CONN_BLOCKED); i++) {
        static uint8_t frame[sizeof payload + WS_HEAD_MAX];
        size_t len = masked_frame(frame, WS_BINARY, true, payload, sizeof payload);
        for (size_t at = 0; at < len;) { /* without reading */
            ssize_t n = send(p->fd, frame + at, len - at, MSG_NOSIGNAL);
            if (n > 0) at += (size_t)n;
            worker_turn(w, 0);
        }
    }
    assert_true(c->flags & CONN_BLOCKED);
    static const char *const pings[] = {"long enough to differ", "b", "", "the last"};
    for (unsigned i = 0; i < 4; i++) {
        uint8_t frame[64];
        size_t len = masked_frame(frame, WS_PING, true, pings[i], strlen(pings[i]));
        assert_int_equal(send(p->fd, frame, len, MSG_NOSIGNAL), len);
        worker_turn(w, 0);
    }
    settle(p);
    assert_memory_equal(p->got + p->len - 10, "\x8a\x08the last", 10);
    assert_int_equal((p->len - 10) % (sizeof payload + 10), 0); /* one pong in all */
    assert_int_equal(engine_metric(METRIC_QUEUED_BYTES), 0);
    end();
}

/* More than so many control frames in a second: read no further until the next second. */
static void test_control_flood(void **state)
{
    (void)state;
    begin(&(struct engine_options){0});
    engine.conn.control_frames_per_second = 10;
    struct peer *p = dial(0);
    feed_text(p, UPGRADE("/echo"));
    settle(p);
    p->len = 0;
    for (unsigned i = 0; i < 40; i++) {
        feed_frame(p, WS_PING, "", 0);
        turns(p, 1);
    }
    assert_true(p->len >= 20 && p->len <= 44); /* a second may have begun meanwhile */
    assert_true(engine_metric(METRIC_CONTROL_THROTTLED) >= 1);
    for (int64_t until = clock_us() + 9000000; p->len < 80 && clock_us() < until;) {
        worker_turn(w, 1000);
        collect(p);
    }
    assert_int_equal(p->len, 80);
    end();
}

/* ---- ends ---- */

/* The peer's FIN lies right behind its data when the worker looks for the first time. */
static void test_fin_behind_data(void **state)
{
    (void)state;
    for (int64_t reads = 1; reads <= 4; reads++) {
        everything(&script);
        script.len -= 12; /* without what lies behind the Close, */
        script.len -= 15; /* and without the Close: only the FIN ends it */
        script.answer_len -= 4;
        begin(&(struct engine_options){.receive_buffer_bytes = 16 * 1024});
        engine.conn.reads_per_turn = reads;
        struct peer *p = dial(0);
        assert_int_equal(send(p->fd, script.bytes, script.len, MSG_NOSIGNAL), script.len);
        shutdown(p->fd, SHUT_WR);
        settle(p);
        turns(p, 3);
        assert_got(p, script.answer, script.answer_len);
        assert_true(p->eof);
        assert_int_equal(w->conns.count, 0);
        end();
    }
}

static const struct {
    const char *name, *bytes;
    size_t len;
} stages[] = {
    {"nothing yet", "", 0},
    {"in the head", "GET /ech", 8},
    {"between requests", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 34},
    {"in the body", "POST /api/publish HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc", 61},
    {"open", UPGRADE("/echo"), sizeof UPGRADE("/echo") - 1},
    {"subscribed", UPGRADE("/raw/c"), sizeof UPGRADE("/raw/c") - 1},
    {"in a frame", UPGRADE("/raw/c") "\x82\x85\0\0\0\0ab", sizeof UPGRADE("/raw/c") + 7},
    {"in a message", UPGRADE("/raw/c") "\x02\x82\0\0\0\0ab", sizeof UPGRADE("/raw/c") + 7},
    {"in a ping", UPGRADE("/raw/c") "\x89\x85\0\0\0\0ab", sizeof UPGRADE("/raw/c") + 7},
    {"refused", "GET /nothing HTTP/1.0\r\n\r\n", 25},
    {"failed", UPGRADE("/raw/c") "\x83\x80\0\0\0\0", sizeof UPGRADE("/raw/c") + 5},
    {"closing", UPGRADE("/raw/c?pub=0") "\x81\x81\0\0\0\0a", sizeof UPGRADE("/raw/c?pub=0") + 6},
    {"closed by the peer", UPGRADE("/raw/c") "\x88\x80\0\0\0\0", sizeof UPGRADE("/raw/c") + 5},
};
#define STAGES (sizeof stages / sizeof *stages)

enum way { PEER_SHUTS, PEER_CLOSES, PEER_RESETS, WE_STOP, WE_DRAIN, WAYS };

static struct peer *reach(size_t stage)
{
    begin(&(struct engine_options){0});
    struct peer *p = dial(0);
    feed(p, stages[stage].bytes, stages[stage].len);
    settle(p);
    return p;
}

/* From every stage in every way: the connection ends, and nothing is left of it. */
static void test_every_stage_ends(void **state)
{
    (void)state;
    for (size_t stage = 0; stage < STAGES; stage++) {
        for (enum way way = 0; way < WAYS; way++) {
            struct peer *p = reach(stage);
            switch (way) {
            case PEER_SHUTS: shutdown(p->fd, SHUT_WR); break;
            case PEER_CLOSES: hang_up(p); break;
            case PEER_RESETS: /* unread bytes at close: a Unix socket answers ECONNRESET */
                if (w->conns.count) {
                    struct conn *c = w->conns.items[0];
                    struct frame *f = frame_new(w->pool, 1000);
                    memset(f->bytes, 0, 1000);
                    conn_queue(c, (struct out_entry){.frame = f, .kind = OUT_REPLY});
                    worker_turn(w, 0);
                }
                hang_up(p);
                break;
            case WE_STOP: worker_stop(w, WORKER_ENDS); break;
            case WE_DRAIN: worker_stop(w, WORKER_DRAINS); break;
            case WAYS: break;
            }
            settle(p);
            if (way == WE_DRAIN) { /* the polite way needs the peer */
                feed(p, "\x88\x80\0\0\0\0", 6);
                shutdown(p->fd, SHUT_WR);
                settle(p);
            }
            if (w->conns.count)
                fail_msg("%s, way %d: state %d", stages[stage].name, (int)way,
                         w->conns.items[0]->state);
            if (way < WE_STOP) assert_serves();
            end();
        }
    }
}

/* conn_close, conn_finish and conn_drop may be called in any state, and twice. */
static void test_ends_called_twice(void **state)
{
    (void)state;
    for (size_t stage = 0; stage < STAGES; stage++) {
        for (unsigned calls = 0; calls < 27; calls++) {
            struct peer *p = reach(stage);
            if (w->conns.count) {
                struct conn *c = w->conns.items[0];
                for (unsigned i = 0, n = calls; i < 3; i++, n /= 3) {
                    if (n % 3 == 0) conn_close(c, 3000 + i, "a test");
                    if (n % 3 == 1) conn_finish(c, 1011);
                    if (n % 3 == 2) conn_drop(c, 1006);
                }
            }
            settle(p);
            assert_serves();
            end();
        }
    }
}

/* Deadlines end what the peer does not: with the answer in the table. */
static void test_deadlines(void **state)
{
    (void)state;
    for (size_t stage = 0; stage < STAGES; stage++) {
        begin(&(struct engine_options){0});
        engine.conn.handshake_timeout_ms = 30;
        engine.conn.http_idle_timeout_ms = 40;
        engine.conn.close_timeout_ms = 30;
        struct peer *p = dial(0);
        feed(p, stages[stage].bytes, stages[stage].len);
        settle(p);
        bool open = w->conns.count && w->conns.items[0]->state == CONN_OPEN;
        size_t before = p->len;
        for (int64_t until = clock_us() + (open ? 150000 : 5000000);
             w->conns.count && clock_us() < until;)
            worker_turn(w, 10);
        collect(p);
        assert_int_equal(w->conns.count, open); /* an open one has only its heartbeat */
        if (stage == 1) {
            assert_int_equal(engine_metric(METRIC_TIMED_OUT_HANDSHAKE), 1);
            assert_memory_equal(p->got + before, "HTTP/1.1 408", 12);
        } else {
            assert_int_equal(p->len, before);
        }
        if (stage == 0) assert_int_equal(engine_metric(METRIC_TIMED_OUT_HANDSHAKE), 1);
        if (stage == 2 || stage == 3) assert_int_equal(engine_metric(METRIC_TIMED_OUT_IDLE), 1);
        if (stage == 11) assert_int_equal(engine_metric(METRIC_TIMED_OUT_CLOSE), 1);
        end();
    }
}

/* Single bytes do not extend the head's deadline. */
static void test_slow_head(void **state)
{
    (void)state;
    begin(&(struct engine_options){0});
    engine.conn.handshake_timeout_ms = 60;
    struct peer *p = dial(0);
    int64_t began = clock_us();
    feed_text(p, "GET / HTTP/1.1\r\nA: ");
    while (!p->eof && clock_us() - began < 5000000) {
        feed_text(p, "a");
        usleep(1000);
        turns(p, 1);
    }
    assert_true(clock_us() - began < 1000000);
    assert_memory_equal(p->got, "HTTP/1.1 408", 12);
    end();
}

/* ---- memory runs out ---- */

/* A whole life: requests, echo, a channel with two subscribers; whatever fails on the way. */
static void life(void)
{
    struct peer *a = dial(0);
    struct peer *b = dial(1);
    everything(&script);
    for (size_t at = 0; at < script.len; at += 5000) {
        feed(a, script.bytes + at, script.len - at < 5000 ? script.len - at : 5000);
        turns(a, 1);
    }
    feed_text(b, UPGRADE("/raw/c"));
    settle(b);
    settle(a);
    hang_up(a);
    a = dial(0);
    feed_text(a, UPGRADE("/raw/c?self=0"));
    feed_frame(a, WS_TEXT, "one", 3);
    feed_frame(b, WS_TEXT, "two", 3);
    settle(a);
    settle(b);
    hang_up(a);
    hang_up(b);
    for (unsigned i = 0; i < 100 && w->conns.count; i++) worker_turn(w, 0);
    assert_int_equal(w->conns.count, 0);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    uint64_t k = 0, failed;
    do {
        begin(&(struct engine_options){0});
        mem_fail_at(++k);
        life();
        mem_fail_at(0);
        failed = mem_pool_stats(w->pool).failed;
        assert_serves();
        end();
    } while (failed);
    assert_true(k > 20);
    print_message("%llu allocations\n", (unsigned long long)k - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_any_pieces),
        cmocka_unit_test(test_bad_input_in_any_pieces),
        cmocka_unit_test(test_reads_a_turn),
        cmocka_unit_test(test_fair),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_held),
        cmocka_unit_test(test_held_takes_turns),
        cmocka_unit_test(test_held_at_the_end),
        cmocka_unit_test(test_merged_pongs),
        cmocka_unit_test(test_control_flood),
        cmocka_unit_test(test_fin_behind_data),
        cmocka_unit_test(test_every_stage_ends),
        cmocka_unit_test(test_ends_called_twice),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_slow_head),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
