/* A connection over TLS on a worker without a thread: the same life as in test_conn.c, with
 * ciphertext in any pieces, ends in the middle of everything, readers that do not read, memory that
 * runs out. */
#include "engine.h"

#include "../tls.h"
#include "conn_script.h"

#define ROOM (2u << 20)

struct peer {
    int fd;
    struct tls *tls;
    uint8_t in[64 * 1024]; /* handshake: received and not used yet */
    size_t in_len, len;
    size_t piece;  /* bytes sent at once, a turn behind each; 0: all */
    size_t budget; /* bytes that may still be sent before the peer is cut off */
    bool shaken, eof;
    uint8_t got[ROOM];
};

static struct peer peer;
static struct worker *w;
static struct tls_server *tls_server;
static struct tls_client *tls_client;

static int make_tls(void **state)
{
    char dir[] = "/tmp/roost-conn-XXXXXX", cert[64], key[64], err[256];
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

static void begin(void)
{
    engine_open(&(struct engine_options){0});
    w = engine.server.workers[0];
    heartbeat_init(&(struct heartbeat_options){0});
    /* a TLS connection knows its listener by its place among the worker's */
    w->listeners[0] =
        (struct listener){.fd = -1, .local = true, .clients = true, .tls = tls_server};
}

static int connect_pair(void)
{
    int fds[2];
    struct peer_address from = {.port = 0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    engine.ops.accepted(w, &w->listeners[0], fds[0], &from);
    return fds[1];
}

static void dial(size_t piece)
{
    peer.fd = connect_pair();
    peer.in_len = peer.len = 0;
    peer.piece = piece;
    peer.budget = SIZE_MAX;
    peer.shaken = peer.eof = false;
    tls_client_keep_sessions(tls_client, false);
    peer.tls = tls_connect(tls_client, "127.0.0.1");
    assert_non_null(peer.tls);
}

static void hang_up(void)
{
    if (peer.fd != -1) close(peer.fd);
    peer.fd = -1;
    tls_free(peer.tls);
    peer.tls = NULL;
}

/* transmit sends ciphertext in pieces, as far as the budget goes. */
static void transmit(const uint8_t *bytes, size_t len)
{
    if (len > peer.budget) len = peer.budget;
    peer.budget -= len;
    for (unsigned i = 0; len && i < 200000; i++) {
        ssize_t n =
            send(peer.fd, bytes, peer.piece && peer.piece < len ? peer.piece : len, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) return;
        if (n > 0) bytes += n, len -= (size_t)n;
        worker_turn(w, 0);
    }
}

static void decrypt(const uint8_t *bytes, size_t len)
{
    for (;;) {
        uint8_t alert[TLS_OVERHEAD];
        size_t used = 0, n = 0, alert_len = 0;
        enum io io = tls_open(peer.tls, bytes, len, &used, peer.got + peer.len, ROOM - peer.len, &n,
                              alert, sizeof alert, &alert_len);
        bytes += used;
        len -= used;
        peer.len += n;
        if (io == IO_CLOSED) peer.eof = true;
        if (io != IO_DONE) return;
    }
}

/* listen reads what is there: the handshake goes on, or plain bytes come. Returns whether anything
 * was. */
static bool listen_once(void)
{
    static uint8_t out[TLS_OUT_MAX];
    if (peer.eof || peer.fd == -1) return false;
    ssize_t got = recv(peer.fd, peer.in + peer.in_len, sizeof peer.in - peer.in_len, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) peer.eof = true;
    if (got > 0) peer.in_len += (size_t)got;
    if (!peer.shaken) {
        size_t used = 0, n = 0;
        enum io io = tls_handshake(peer.tls, peer.in, peer.in_len, &used, out, sizeof out, &n);
        memmove(peer.in, peer.in + used, peer.in_len - used);
        peer.in_len -= used;
        if (n) transmit(out, n);
        if (io == IO_CLOSED) peer.eof = true;
        peer.shaken = io == IO_DONE;
        if (!peer.shaken) return got > 0 || n;
    }
    decrypt(peer.in, peer.in_len);
    peer.in_len = 0;
    return got > 0;
}

static void settle(void)
{
    for (unsigned i = 0, quiet = 0; i < 100000 && quiet < 3; i++) {
        bool moved = listen_once();
        worker_turn(w, 0);
        quiet = moved || w->ready.count || engine_pending(w) ? 0 : quiet + 1;
    }
}

static void say(const uint8_t *bytes, size_t len)
{
    static uint8_t sealed[TLS_RECORD_MAX + TLS_OVERHEAD];
    settle();
    while (len && peer.shaken && !peer.eof) {
        size_t used = 0, n = 0;
        if (tls_seal(peer.tls, &(struct iovec){(void *)(uintptr_t)bytes, len}, 1, &used, sealed,
                     sizeof sealed, &n) != IO_DONE)
            return;
        transmit(sealed, n);
        bytes += used;
        len -= used;
        listen_once();
    }
}

static void end(void)
{
    hang_up();
    for (unsigned i = 0; i < 300 && w->conns.count; i++) worker_turn(w, 10);
    assert_int_equal(engine_metric(METRIC_QUEUED_BYTES), 0);
    assert_int_equal(engine_metric(METRIC_SOCKETS), 0);
    assert_int_equal(engine_metric(METRIC_TLS_IN_FLIGHT), 0);
    assert_int_equal(engine.server.tls_in_flight, 0);
    engine_close();
}

static void assert_serves(void)
{
    hang_up();
    dial(0);
    uint8_t bytes[512];
    size_t len = sizeof UPGRADE("/echo") - 1;
    memcpy(bytes, UPGRADE("/echo"), len);
    len += masked_frame(bytes + len, WS_TEXT, true, "hello", 5);
    say(bytes, len);
    settle();
    assert_int_equal(peer.len, sizeof SWITCHED - 1 + 7);
    assert_memory_equal(peer.got, SWITCHED "\x81\x05hello", peer.len);
}

/* ---- pieces ---- */

static struct script script;

static void live(size_t piece, int version)
{
    begin();
    tls_client_set_version(tls_client, version);
    dial(piece);
    say(script.bytes, script.len);
    settle();
    tls_client_set_version(tls_client, 0);
    if (peer.len != script.answer_len || memcmp(peer.got, script.answer, peer.len) != 0)
        fail_msg("pieces of %zu: %zu bytes of %zu", piece, peer.len, script.answer_len);
    assert_true(peer.eof);
    assert_true(tls_closed_cleanly(peer.tls));
    assert_int_equal(engine_metric(METRIC_TLS_HANDSHAKES), 1);
    end();
}

static void test_in_any_pieces(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 2, 5, 100, 1000, 4096, 16384};
    everything(&script);
    for (int version = 2; version <= 3; version++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) live(sizes[i], version);
}

/* The peer is gone behind each byte of what it sends in the handshake and the request. */
static void test_gone_at_every_byte(void **state)
{
    (void)state;
    for (int version = 2; version <= 3; version++) {
        tls_client_set_version(tls_client, version);
        bool over = false;
        for (size_t cut = 0; !over; cut += SLOW || cut % 3 == 2 ? 7 : 1) {
            begin();
            dial(0);
            peer.budget = cut;
            say((const uint8_t *)UPGRADE("/raw/c"), sizeof UPGRADE("/raw/c") - 1);
            settle();
            over = peer.budget > 0;
            hang_up();
            for (unsigned i = 0; i < 10 && w->conns.count; i++) worker_turn(w, 0);
            assert_int_equal(w->conns.count, 0);
            if (over || cut % 50 == 0) assert_serves();
            end();
        }
    }
    tls_client_set_version(tls_client, 0);
}

/* FIN right behind the last record, without a close_notify: all that came is answered. */
static void test_fin_behind_data(void **state)
{
    (void)state;
    everything(&script);
    begin();
    dial(0);
    settle();
    size_t behind = 12 + 15; /* the frame behind the Close, and the Close */
    say(script.bytes, script.len - behind);
    shutdown(peer.fd, SHUT_WR);
    settle();
    assert_int_equal(peer.len, script.answer_len - 4);
    assert_memory_equal(peer.got, script.answer, peer.len);
    assert_true(peer.eof);
    end();
}

/* ---- a peer that does not read ---- */

static void test_blocked(void **state)
{
    (void)state;
    enum { EACH = 30000, MANY = 40 };
    static uint8_t message[EACH + WS_HEAD_MAX], sealed[TLS_RECORD_MAX + TLS_OVERHEAD];
    begin();
    engine.conn.queue_max_bytes = 512 * 1024;
    dial(0);
    say((const uint8_t *)UPGRADE("/echo"), sizeof UPGRADE("/echo") - 1);
    settle();
    peer.len = 0;
    struct conn *c = w->conns.items[0];
    bool blocked = false;
    for (unsigned i = 0; i < MANY; i++) {
        static uint8_t payload[EACH];
        memset(payload, (int)i, EACH);
        size_t len = masked_frame(message, WS_BINARY, true, payload, EACH), at = 0;
        while (at < len) {
            size_t used = 0, n = 0;
            assert_int_equal(tls_seal(peer.tls, &(struct iovec){message + at, len - at}, 1, &used,
                                      sealed, sizeof sealed, &n),
                             IO_DONE);
            for (size_t sent = 0; sent < n;) {
                ssize_t r = send(peer.fd, sealed + sent, n - sent, MSG_NOSIGNAL);
                if (r > 0) sent += (size_t)r;
                worker_turn(w, 0);
                if (r < 0) listen_once(); /* only when nothing goes in any more */
            }
            at += used;
            blocked |= c->flags & CONN_BLOCKED && c->out && c->out->cipher;
        }
    }
    assert_true(blocked);
    settle();
    assert_int_equal(peer.len, MANY * (EACH + 4));
    for (unsigned i = 0; i < MANY; i++) {
        assert_memory_equal(peer.got + i * (EACH + 4), "\x82\x7e\x75\x30", 4);
        assert_int_equal(peer.got[i * (EACH + 4) + 4], (uint8_t)i);
        assert_int_equal(peer.got[(i + 1) * (EACH + 4) - 1], (uint8_t)i);
    }
    end();
}

/* ---- who is not let in ---- */

static void test_plain_http(void **state)
{
    (void)state;
    begin();
    int fd = connect_pair();
    char got[512];
    assert_int_equal(send(fd, "GET / HTTP/1.1\r\n", 16, MSG_NOSIGNAL), 16);
    worker_turn(w, 0);
    ssize_t n = recv(fd, got, sizeof got - 1, 0);
    assert_true(n > 0);
    got[n] = 0;
    assert_memory_equal(got, "HTTP/1.1 400 Bad Request\r\n", 26);
    const char *body = strstr(got, "\r\n\r\n");
    assert_non_null(body);
    assert_int_equal(strlen(body + 4), strtol(strstr(got, "Content-Length: ") + 16, NULL, 10));
    assert_int_equal(w->conns.count, 0);
    close(fd);
    assert_serves();
    end();
}

/* Handshakes in flight are capped; one that was begun and let go makes room. */
static void test_cap(void **state)
{
    (void)state;
    static const uint8_t record[] = {22, 3, 1};
    begin();
    engine.conn.tls_max_handshakes = 2;
    int fds[4];
    for (unsigned i = 0; i < 4; i++) {
        fds[i] = connect_pair();
        assert_int_equal(send(fds[i], record, sizeof record, MSG_NOSIGNAL), sizeof record);
        worker_turn(w, 0);
    }
    assert_int_equal(w->conns.count, 2);
    assert_int_equal(engine_metric(METRIC_REFUSED_TLS_LIMIT), 2);
    assert_int_equal(engine_metric(METRIC_TLS_IN_FLIGHT), 2);
    for (unsigned i = 0; i < 4; i++) close(fds[i]);
    worker_turn(w, 0);
    assert_int_equal(w->conns.count, 0);
    assert_serves();
    end();
}

/* More begin at once than a turn has time for: the others wait their turn, and the worker does not
 * sleep. Any step takes longer than a microsecond. */
static void begin_many(int64_t us_per_turn, unsigned per_turn)
{
    static uint8_t hello[TLS_OUT_MAX];
    size_t used = 0, len = 0;
    struct tls *t = tls_connect(tls_client, "127.0.0.1");
    (void)tls_handshake(t, NULL, 0, &used, hello, sizeof hello, &len);
    begin();
    engine.conn.handshake_us_per_turn = us_per_turn;
    int fds[10];
    for (unsigned i = 0; i < 10; i++) {
        fds[i] = connect_pair();
        assert_int_equal(send(fds[i], hello, len, MSG_NOSIGNAL), len);
    }
    for (unsigned turn = 1; turn <= 10 / per_turn; turn++) {
        unsigned served = 0;
        worker_turn(w, 5000);
        for (unsigned i = 0; i < w->conns.count; i++) served += w->conns.items[i]->bytes_out > 0;
        assert_int_equal(served, turn * per_turn);
    }
    for (unsigned i = 0; i < 10; i++) close(fds[i]);
    tls_free(t);
    end();
}

static void test_handshakes_a_turn(void **state)
{
    (void)state;
    begin_many(1, 1);
    begin_many(1000000000, 10);
}

/* ---- the beginning of a record is kept, within a budget ---- */

/* say_part sends the first part bytes of the record that has bytes in it; returns the rest's
 * beginning. */
static size_t say_part(uint8_t *sealed, size_t cap, const uint8_t *bytes, size_t len, size_t part)
{
    size_t used = 0, n = 0;
    settle();
    assert_true(peer.shaken);
    assert_int_equal(tls_seal(peer.tls, &(struct iovec){(void *)(uintptr_t)bytes, len}, 1, &used,
                              sealed, cap, &n),
                     IO_DONE);
    assert_int_equal(used, len);
    transmit(sealed, part);
    settle();
    return n;
}

static void test_record_budgets(void **state)
{
    (void)state;
    static uint8_t sealed[TLS_RECORD_MAX + TLS_OVERHEAD], large[5000];
    begin();
    dial(0);
    size_t len = say_part(sealed, sizeof sealed, (const uint8_t *)UPGRADE("/echo"),
                          sizeof UPGRADE("/echo") - 1, 100);
    assert_true(engine.server.unauthenticated_bytes >= 100);
    assert_int_equal(engine.server.unfinished_bytes, 0);
    transmit(sealed + 100, len - 100);
    settle();
    assert_true(peer.len > 12 && memcmp(peer.got, "HTTP/1.1 101", 12) == 0);
    assert_int_equal(engine.server.unauthenticated_bytes, 0);

    script.len = masked_frame(script.bytes, WS_BINARY, true, large, sizeof large);
    len = say_part(sealed, sizeof sealed, script.bytes, script.len, 4000);
    assert_true(engine.server.unfinished_bytes >= 4000 && engine.server.unfinished_bytes < 6000);
    transmit(sealed + 4000, len - 4000);
    settle();
    assert_int_equal(engine.server.unfinished_bytes, 0);

    say_part(sealed, sizeof sealed, script.bytes, script.len, 4000); /* gone in the middle of one */
    hang_up();
    for (unsigned i = 0; i < 100 && w->conns.count; i++) worker_turn(w, 0);
    assert_int_equal(engine.server.unfinished_bytes, 0);
    assert_int_equal(engine_metric(METRIC_TLS_DETACHED), 0);
    end();
}

static void test_record_caps(void **state)
{
    (void)state;
    static uint8_t sealed[TLS_RECORD_MAX + TLS_OVERHEAD], large[5000];
    begin();
    engine.conn.unauthenticated_max_bytes = 2000;
    dial(0);
    say_part(sealed, sizeof sealed, large, sizeof large, 1000);
    assert_int_equal(w->conns.count, 1);
    transmit(sealed + 1000, 2000);
    settle();
    assert_true(peer.eof);
    assert_int_equal(engine_metric(METRIC_REFUSED_UNAUTHENTICATED), 1);
    assert_int_equal(engine.server.unauthenticated_bytes, 0);
    hang_up();

    engine.conn.unfinished_max_bytes = 2000;
    dial(0);
    say((const uint8_t *)UPGRADE("/echo"), sizeof UPGRADE("/echo") - 1);
    say_part(sealed, sizeof sealed, large, sizeof large, 3000);
    assert_true(peer.eof);
    assert_int_equal(engine_metric(METRIC_REFUSED_UNFINISHED), 1);
    assert_int_equal(engine.server.unfinished_bytes, 0);
    end();
}

/* ---- memory runs out ---- */

static void short_life(void)
{
    dial(0);
    size_t len = sizeof UPGRADE("/echo") - 1;
    script.len = 0;
    memcpy(script.bytes, UPGRADE("/echo"), len);
    static uint8_t large[40000];
    len += masked_frame(script.bytes + len, WS_BINARY, true, large, sizeof large);
    say(script.bytes, len);
    settle();
    hang_up();
    for (unsigned i = 0; i < 100 && w->conns.count; i++) worker_turn(w, 0);
    assert_int_equal(w->conns.count, 0);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    uint64_t k = 0, failed;
    do {
        begin();
        mem_fail_at(++k);
        short_life();
        mem_fail_at(0);
        failed = mem_pool_stats(w->pool).failed + mem_pool_stats(w->secrets).failed;
        assert_serves();
        end();
    } while (failed);
    assert_true(k > 5);
}

/* For the leak sanitizer: what mbedTLS 3.6 loses itself then; test_tls_hostile.c describes it. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:mbedtls_ssl_tls13_populate_transform\n";
}

/* mbedTLS's memory, the client's included: whichever of the two fails, the other end lives. */
static void test_out_of_tls_memory(void **state)
{
    (void)state;
    begin();
    uint64_t before = tls_allocations();
    short_life();
    uint64_t calls = tls_allocations() - before;
    end();
    for (uint64_t k = 1; k <= calls; k += 1 + k / (SLOW ? 10 : 40)) {
        begin();
        peer.fd = connect_pair();
        peer.in_len = peer.len = 0;
        peer.shaken = peer.eof = false;
        peer.budget = SIZE_MAX;
        peer.tls = tls_connect(tls_client, "127.0.0.1");
        tls_memory_fail_at(k);
        say((const uint8_t *)UPGRADE("/raw/c"), sizeof UPGRADE("/raw/c") - 1);
        settle();
        tls_memory_fail_at(0);
        assert_serves();
        end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_any_pieces),     cmocka_unit_test(test_gone_at_every_byte),
        cmocka_unit_test(test_fin_behind_data),   cmocka_unit_test(test_blocked),
        cmocka_unit_test(test_plain_http),        cmocka_unit_test(test_cap),
        cmocka_unit_test(test_handshakes_a_turn), cmocka_unit_test(test_record_budgets),
        cmocka_unit_test(test_record_caps),       cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_out_of_tls_memory),
    };
    return cmocka_run_group_tests(tests, make_tls, free_tls);
}
