/* Input that is not looked at for a while, output that is not taken for a while: nothing is lost or
 * reordered, nothing costs more than its cap, and every end is noticed. Plain and over TLS. */
#include "engine.h"

#include "../tls.h"

struct peer {
    int fd;
    struct tls *tls;
    size_t len;
    bool eof;
    uint8_t got[1u << 20];
};

static struct peer peer;
static struct worker *w;
static struct tls_server *tls_server;
static struct tls_client *tls_client;

static int make_tls(void **state)
{
    char dir[] = "/tmp/roost-pressure-XXXXXX", cert[64], key[64], err[256];
    (void)state;
    if (!mkdtemp(dir)) return -1;
    snprintf(cert, sizeof cert, "%s/cert.pem", dir);
    snprintf(key, sizeof key, "%s/key.pem", dir);
    if (tls_make_certificate(cert, key) == -1) return -1;
    tls_server = tls_server_new(&(struct tls_files){cert, key}, 1, err, sizeof err);
    tls_client = tls_client_new(cert, false, err, sizeof err);
    unlink(cert);
    unlink(key);
    rmdir(dir);
    return tls_server && tls_client ? 0 : -1;
}

static int free_tls(void **state)
{
    (void)state;
    tls_client_delete(tls_client);
    tls_server_delete(tls_server);
    return 0;
}

static void raw_send(const void *bytes, size_t len)
{
    const uint8_t *b = bytes;
    for (unsigned i = 0; len && i < 100000; i++) {
        ssize_t n = send(peer.fd, b, len, MSG_NOSIGNAL);
        if (n > 0) b += n, len -= (size_t)n;
        if (len) worker_turn(w, 0);
    }
    assert_int_equal(len, 0);
}

static void decrypt(const uint8_t *bytes, size_t len)
{
    for (;;) {
        uint8_t alert[TLS_OVERHEAD];
        size_t used = 0, n = 0, alert_len = 0;
        enum io io = tls_open(peer.tls, bytes, len, &used, peer.got + peer.len,
                              sizeof peer.got - peer.len, &n, alert, sizeof alert, &alert_len);
        bytes += used;
        len -= used;
        peer.len += n;
        if (io == IO_CLOSED) peer.eof = true;
        if (io != IO_DONE) return;
    }
}

static void collect(void)
{
    static uint8_t in[64 * 1024];
    while (!peer.eof) {
        ssize_t n = recv(peer.fd, in, sizeof in, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) peer.eof = true;
        if (n <= 0) return;
        if (peer.tls) {
            decrypt(in, (size_t)n);
            continue;
        }
        assert_true(peer.len + (size_t)n <= sizeof peer.got);
        memcpy(peer.got + peer.len, in, (size_t)n);
        peer.len += (size_t)n;
    }
}

/* wait_for turns until that many bytes have come, at most ms. */
static void wait_for(size_t len, int64_t ms)
{
    for (int64_t until = clock_us() + ms * 1000;
         peer.len < len && !peer.eof && clock_us() < until;) {
        worker_turn(w, 10);
        collect();
    }
}

static void shake_hands(void)
{
    static uint8_t in[16 * 1024], out[TLS_OUT_MAX];
    size_t len = 0;
    for (unsigned i = 0; i < 100; i++) {
        size_t used = 0, n = 0;
        enum io io = tls_handshake(peer.tls, in, len, &used, out, sizeof out, &n);
        memmove(in, in + used, len - used);
        len -= used;
        raw_send(out, n);
        if (io == IO_DONE) return;
        assert_int_not_equal(io, IO_CLOSED);
        worker_turn(w, 0);
        ssize_t got = recv(peer.fd, in + len, sizeof in - len, 0);
        if (got > 0) len += (size_t)got;
    }
    fail_msg("no handshake");
}

static struct conn *dial(bool tls)
{
    int fds[2];
    struct peer_address from = {.port = 0};
    engine_open(&(struct engine_options){0});
    w = engine.server.workers[0];
    heartbeat_init(&(struct heartbeat_options){0});
    w->listeners[0] =
        (struct listener){.fd = -1, .local = true, .clients = true, .tls = tls ? tls_server : NULL};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    engine.ops.accepted(w, &w->listeners[0], fds[0], &from);
    peer.fd = fds[1];
    peer.len = 0;
    peer.eof = false;
    tls_client_keep_sessions(tls_client, false);
    peer.tls = tls ? tls_connect(tls_client, "127.0.0.1") : NULL;
    if (tls) shake_hands();
    return w->conns.items[0];
}

/* say sends it all at once; over TLS in records of 100 bytes, so that one read brings many. */
static void say(const uint8_t *bytes, size_t len, bool goodbye)
{
    static uint8_t sealed[256 * 1024];
    size_t at = 0;
    while (peer.tls && len) {
        size_t used = 0, n = 0;
        assert_int_equal(tls_seal(peer.tls,
                                  &(struct iovec){(void *)(uintptr_t)bytes, len < 100 ? len : 100},
                                  1, &used, sealed + at, sizeof sealed - at, &n),
                         IO_DONE);
        at += n;
        bytes += used;
        len -= used;
    }
    if (peer.tls && goodbye) {
        size_t n = 0;
        tls_close_notify(peer.tls, sealed + at, sizeof sealed - at, &n);
        at += n;
    }
    raw_send(peer.tls ? sealed : bytes, peer.tls ? at : len);
    if (goodbye) shutdown(peer.fd, SHUT_WR);
}

static struct conn *open_echo(bool tls)
{
    struct conn *c = dial(tls);
    say((const uint8_t *)UPGRADE("/echo"), sizeof UPGRADE("/echo") - 1, false);
    wait_for(sizeof SWITCHED - 1, 5000);
    assert_int_equal(c->state, CONN_OPEN);
    peer.len = 0;
    return c;
}

/* gone waits until the server has let go of the connection, at most ms. */
static bool gone(int64_t ms)
{
    for (int64_t until = clock_us() + ms * 1000; w->conns.count && clock_us() < until;)
        worker_turn(w, 10);
    return w->conns.count == 0;
}

static void end(void)
{
    close(peer.fd);
    tls_free(peer.tls);
    assert_true(gone(10000));
    assert_int_equal(engine_metric(METRIC_QUEUED_BYTES), 0);
    engine_close();
}

/* ---- input ---- */

static uint8_t script[64 * 1024], answer[64 * 1024];
static size_t script_len, answer_len;

static void ask(enum ws_opcode opcode, bool fin, const char *payload, size_t len)
{
    script_len += masked_frame(script + script_len, opcode, fin, payload, len);
}

static void expect(unsigned first_byte, const char *payload, size_t len)
{
    answer[answer_len++] = (uint8_t)first_byte;
    answer[answer_len++] = (uint8_t)len;
    memcpy(answer + answer_len, payload, len);
    answer_len += len;
}

static void assert_answered(int64_t ms)
{
    wait_for(answer_len, ms);
    assert_int_equal(peer.len, answer_len);
    assert_memory_equal(peer.got, answer, answer_len);
}

/* More control frames than a second may have, in the middle of a message, the FIN right behind: all
 * of it is one read. The rest is looked at a second later, and so on. */
static void flood(bool tls)
{
    enum { A_SECOND = 50, PINGS = 120 };
    struct conn *c = open_echo(tls);
    engine.conn.control_frames_per_second = A_SECOND;
    script_len = answer_len = 0;
    ask(WS_TEXT, false, "ab", 2);
    for (unsigned i = 0; i < PINGS; i++) {
        char number[12];
        size_t len = (size_t)snprintf(number, sizeof number, "%u", i);
        ask(WS_PING, true, number, len);
        expect(0x8a, number, len);
    }
    ask(WS_CONTINUATION, true, "cd", 2);
    expect(0x81, "abcd", 4);
    ask(WS_TEXT, true, "end", 3);
    expect(0x81, "end", 3);
    say(script, script_len, true);
    int64_t began = clock_us();
    worker_turn(w, 0);
    assert_true(c->flags & CONN_THROTTLED);
    assert_non_null(c->in->kept);
    assert_answered(10000);
    assert_true(clock_us() - began > 1000000);
    assert_true(engine_metric(METRIC_CONTROL_THROTTLED) >= 2);
    assert_true(gone(1000)); /* the FIN was not forgotten */
    end();
}

static void test_flood(void **state)
{
    (void)state;
    flood(false);
    flood(true);
}

/* Its own answers fill its queue within one read. */
static void pauses(bool tls)
{
    (void)open_echo(tls);
    engine.conn.queue_max_bytes = 4096;
    script_len = answer_len = 0;
    for (unsigned i = 0; i < 500; i++) {
        char text[64];
        memset(text, 'a' + (int)(i % 26), sizeof text);
        ask(WS_TEXT, true, text, i % 40);
        expect(0x81, text, i % 40);
    }
    say(script, script_len, true);
    assert_answered(5000);
    assert_true(gone(1000));
    end();
}

static void test_pause(void **state)
{
    (void)state;
    pauses(false);
    pauses(true);
}

/* An echo of nothing is not free: a queue of them has the same cap in memory. */
static void test_empty_messages_cost(void **state)
{
    (void)state;
    enum { MANY = 50000, AT_ONCE = 1000 };
    static uint8_t frames[AT_ONCE * 6];
    struct conn *c = open_echo(false);
    const int64_t half = engine.conn.queue_max_bytes / 2;
    unsigned sent = 0;
    for (size_t i = 0; i < sizeof frames; i += 6) masked_frame(frames + i, WS_BINARY, true, "", 0);
    setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &(int){4096}, sizeof(int));
    for (unsigned i = 0; i < 100 && sent < MANY; i++) {
        ssize_t n = send(peer.fd, frames, sizeof frames, MSG_NOSIGNAL);
        if (n > 0) assert_int_equal(n, sizeof frames);
        if (n > 0) sent += AT_ONCE;
        worker_turn(w, 0);
        assert_true((int64_t)outq_cost(c->out) <= half + 2 + OUT_ENTRY_COST);
    }
    assert_true(c->flags & CONN_PAUSED);
    assert_true(mem_pool_stats(w->pool).used_bytes < (size_t)(3 * half));
    wait_for(2 * (size_t)sent, 10000);
    assert_int_equal(peer.len, 2 * sent);
    end();
}

/* A connection that was throttled or paused when it began to end is read again: the peer's FIN ends
 * it, not a deadline. */
static void test_ends_are_read(void **state)
{
    (void)state;
    open_echo(false);
    engine.conn.control_frames_per_second = 10;
    script_len = 0;
    for (unsigned i = 0; i < 10; i++) ask(WS_PING, true, "", 0);
    ask(WS_CLOSE, true, "\x03\xe8", 2); /* the eleventh */
    say(script, script_len, false);
    wait_for(24, 1000);
    assert_int_equal(peer.len, 24);
    assert_memory_equal(peer.got + 20, "\x88\x02\x03\xe8", 4);
    shutdown(peer.fd, SHUT_WR);
    assert_true(gone(1000));
    end();

    for (unsigned i = 0; i < 2; i++) {
        struct conn *c = open_echo(false);
        c->flags |= i ? CONN_PAUSED : CONN_THROTTLED;
        shutdown(peer.fd, SHUT_WR);
        worker_turn(w, 0);
        assert_int_equal(c->state, CONN_OPEN);
        conn_finish(c, 1000);
        assert_true(gone(1000));
        end();
    }
}

/* ---- output ---- */

static struct out_entry entry(enum out_kind kind, unsigned first_byte, uint32_t len)
{
    struct frame *f = frame_new(w->pool, len);
    assert_non_null(f);
    memset(f->bytes, 'x', len);
    f->bytes[0] = (uint8_t)first_byte;
    f->bytes[1] = (uint8_t)(len - 2);
    return (struct out_entry){.frame = f, .kind = (uint16_t)kind, .messages = kind == OUT_MESSAGE};
}

/* A slow one is closed: what was published is dropped, what was answered is not. */
static void test_slow_close_keeps_replies(void **state)
{
    (void)state;
    struct conn *c = open_echo(false);
    engine.conn.queue_max_bytes = 3 * (20 + OUT_ENTRY_COST) + 40 + OUT_ENTRY_COST;
    uint32_t before = c->messages_out;
    conn_queue(c, entry(OUT_REPLY, 0x8a, 20));
    conn_deliver(c, entry(OUT_MESSAGE, 0x82, 20), SLOW_CLOSE);
    conn_queue(c, entry(OUT_PONG, 0x8a, 20));
    conn_deliver(c, entry(OUT_MESSAGE, 0x82, 40), SLOW_CLOSE);
    assert_int_equal(c->messages_out, before + 2);
    assert_int_equal(c->out->count, 4);
    conn_deliver(c, entry(OUT_MESSAGE, 0x82, 2), SLOW_CLOSE);
    assert_int_equal(c->messages_out, before);
    assert_int_equal(engine_metric(METRIC_SLOW_CLOSED), 1);
    wait_for(28, 1000);
    assert_int_equal(peer.len, 28);
    assert_memory_equal(peer.got, "\x8a\x12xxx", 5);
    assert_memory_equal(peer.got + 20, "\x88\x06\x0b\xc0slow", 8);
    end();
}

/* A ping behind a backlog can not be answered before that is read: bytes that the peer takes are a
 * sign of life. One that takes none gives none. */
static void test_taking_is_a_sign_of_life(void **state)
{
    (void)state;
    struct conn *c = open_echo(false);
    for (unsigned i = 0; i < 1000 && !(c->flags & CONN_BLOCKED); i++) {
        conn_queue(c, entry(OUT_REPLY, 0x82, 100000));
        worker_turn(w, 0);
    }
    assert_true(c->flags & CONN_BLOCKED);
    conn_ping(c);
    for (unsigned i = 0; i < 10; i++) worker_turn(w, 0);
    assert_true(c->flags & CONN_PONG_DUE);
    collect();
    worker_turn(w, 0);
    assert_false(c->flags & CONN_PONG_DUE);
    for (unsigned i = 0; i < 100 && !outq_empty(c->out); i++) wait_for(peer.len + 1, 1000);
    assert_true(outq_empty(c->out));
    conn_ping(c);
    worker_turn(w, 0);
    assert_true(c->flags & CONN_PONG_DUE); /* nothing in front of it: only its pong counts */
    end();
}

/* The socket takes nothing of the close_notify: the FIN comes behind it, not instead of it. */
static void test_fin_behind_close_notify(void **state)
{
    (void)state;
    static const uint8_t junk[4096];
    struct conn *c = open_echo(true);
    size_t filled = 0, got = 0;
    for (size_t size = sizeof junk; size; size /= 16)
        for (ssize_t n; (n = send(c->fd, junk, size, MSG_NOSIGNAL)) > 0;) filled += (size_t)n;
    conn_finish(c, 1000);
    for (unsigned i = 0; i < 5; i++) worker_turn(w, 0);
    assert_int_equal(c->state, CONN_LINGER);
    assert_false(outq_empty(c->out));
    assert_false(c->flags & CONN_SHUT);
    bool fin = false;
    for (unsigned i = 0; i < 100000 && !fin; i++) {
        static uint8_t in[4096];
        ssize_t n = recv(peer.fd, in, sizeof in, 0);
        if (n > 0) got += (size_t)n;
        if (n == 0) fin = true;
        worker_turn(w, 0);
    }
    assert_true(fin);
    assert_in_range(got - filled, 19, 64); /* one record with an alert */
    assert_true(c->flags & CONN_SHUT);
    shutdown(peer.fd, SHUT_WR);
    assert_true(gone(1000));
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_empty_messages_cost),
        cmocka_unit_test(test_ends_are_read),
        cmocka_unit_test(test_slow_close_keeps_replies),
        cmocka_unit_test(test_taking_is_a_sign_of_life),
        cmocka_unit_test(test_fin_behind_close_notify),
    };
    return cmocka_run_group_tests(tests, make_tls, free_tls);
}
