/* conn/shed.c: one budget for all out queues. The worst go first, nobody else is hurt, newcomers
 * are refused while it does not help. */
#include "engine.h"

enum { KIB = 1024, PEERS_MAX = 64 };

struct peer {
    int fd;
    struct conn *conn;
};
static struct peer peers[PEERS_MAX];
static unsigned peer_count;

static struct worker *worker_of(unsigned i)
{
    return engine.server.workers[i];
}

static void begin(unsigned workers, int64_t budget)
{
    engine_open(&(struct engine_options){.workers = workers});
    engine.conn.queue_max_bytes = 64 << 20;
    engine.conn.queues_max_bytes = budget;
    for (unsigned i = 0; i < workers; i++)
        worker_of(i)->sample_at_ms = INT64_MAX; /* sockets are asked in the test of that alone */
    peer_count = 0;
}

static uint64_t waiting(void)
{
    return engine_metric(METRIC_WAITING_QUEUES) + engine_metric(METRIC_WAITING_KERNEL);
}

static void hang_up(struct peer *p)
{
    if (p->fd != -1) close(p->fd);
    p->fd = -1;
}

static void end(void)
{
    for (unsigned i = 0; i < peer_count; i++) hang_up(&peers[i]);
    engine_turns(20);
    for (unsigned i = 0; i < engine.server.worker_count; i++)
        assert_int_equal(worker_of(i)->waiting.count, 0);
    assert_int_equal(waiting(), 0);
    assert_int_equal(engine_metric(METRIC_QUEUED_BYTES), 0);
    engine_close();
}

/* sleeper opens a connection whose socket takes no more, and whose peer reads nothing. */
static struct conn *sleeper(unsigned worker)
{
    static const char head[] = UPGRADE("/echo");
    struct worker *w = worker_of(worker);
    struct peer *p = &peers[peer_count++];
    char answer[sizeof SWITCHED], full[KIB] = {0};
    p->fd = engine_connect(w);
    p->conn = w->conns.items[w->conns.count - 1];
    setsockopt(p->conn->fd, SOL_SOCKET, SO_SNDBUF, &(int){4096}, sizeof(int));
    assert_int_equal(send(p->fd, head, sizeof head - 1, 0), sizeof head - 1);
    worker_turn(w, 1000);
    assert_int_equal(p->conn->state, CONN_OPEN);
    assert_int_equal(recv(p->fd, answer, sizeof answer, 0), sizeof SWITCHED - 1);
    while (send(p->conn->fd, full, sizeof full, MSG_NOSIGNAL) > 0) {
    }
    p->conn->flags |= CONN_BLOCKED;
    return p->conn;
}

/* put queues so many frames of 1 KiB. */
static void put(struct conn *c, unsigned count)
{
    while (count--) {
        struct frame *f = frame_new(c->worker->pool, KIB);
        memset(f->bytes, 0, KIB);
        conn_queue(c, (struct out_entry){.frame = f, .messages = 1, .kind = OUT_REPLY});
    }
}

static bool is_closed(const struct conn *c)
{
    return c->state == CONN_CLOSING && c->close_code == 3008;
}

/* look lets w look again although it has just looked. */
static void look(unsigned worker)
{
    worker_of(worker)->look_at_ms = 0;
    worker_turn(worker_of(worker), 0);
}

/* The worst first, and no more than that. */
static void test_order(void **state)
{
    enum { COUNT = 6 };
    struct conn *c[COUNT];
    (void)state;
    begin(1, 1100 * KIB);
    for (unsigned i = 0; i < COUNT; i++) c[(i * 5) % COUNT] = sleeper(0); /* in another order */
    for (unsigned i = 0; i < COUNT; i++)
        put(c[i], 16u << i); /* 1008 in all; 1071 with their cost */
    worker_turn(worker_of(0), 0);
    assert_int_equal(waiting(), 1008 * (KIB + OUT_ENTRY_COST));
    assert_int_equal(engine_metric(METRIC_SHED), 0);
    for (unsigned gone = 1; gone < COUNT; gone++) {
        engine.conn.queues_max_bytes = (int64_t)waiting() - 1;
        look(0);
        assert_int_equal(engine_metric(METRIC_SHED), gone);
        assert_true(waiting() <= (uint64_t)engine.conn.queues_max_bytes / 8 * 7);
        for (unsigned i = 0; i < COUNT; i++) {
            assert_int_equal(is_closed(c[i]), i >= COUNT - gone);
            if (!is_closed(c[i]))
                assert_int_equal(c[i]->out->count, 16u << i); /* nothing is lost */
        }
    }
    end();
}

/* At the budget nobody goes; one byte above it, somebody. */
static void test_at_the_budget(void **state)
{
    (void)state;
    begin(1, 300 * (KIB + OUT_ENTRY_COST));
    for (unsigned i = 0; i < 3; i++) put(sleeper(0), 100);
    for (unsigned i = 0; i < 10; i++) look(0);
    assert_int_equal(waiting(), 300 * (KIB + OUT_ENTRY_COST));
    assert_int_equal(engine_metric(METRIC_SHED), 0);
    engine.conn.queues_max_bytes--;
    look(0);
    assert_int_equal(engine_metric(METRIC_SHED), 1); /* a third is more than the eighth */
    end();
}

/* When all is well again nobody looks any more: a worker with nothing to do sleeps. */
static void test_calm_sleeps(void **state)
{
    (void)state;
    begin(2, 100 * KIB);
    put(sleeper(0), 200);
    worker_turn(worker_of(0), 0);
    assert_int_equal(engine_metric(METRIC_SHED), 1);
    assert_true(worker_of(0)->look_at_ms > 0);
    hang_up(&peers[0]);
    worker_turn(worker_of(0), 0);
    worker_turn(worker_of(0), 0);
    worker_turn(worker_of(1), 0); /* it sees that all is well */
    assert_int_equal(engine.server.over_since_ms, 0);
    worker_turn(worker_of(0), 0);
    assert_int_equal(worker_of(0)->look_at_ms, 0);
    end();
}

/* A reload takes the limit away while newcomers are refused: they are not any more. */
static void test_limit_goes(void **state)
{
    (void)state;
    begin(1, 100 * KIB);
    engine.server.crowded = true;
    engine.server.over_since_ms = 1;
    engine.conn.queues_max_bytes = 0;
    assert_false(conn_queues_full(&engine.server));
    assert_false(engine.server.crowded);
    end();
}

static void test_no_limit(void **state)
{
    (void)state;
    begin(1, 0);
    put(sleeper(0), 1000);
    for (unsigned i = 0; i < 3; i++) look(0);
    assert_int_equal(engine_metric(METRIC_SHED), 0);
    assert_false(conn_queues_full(&engine.server));
    end();
}

/* One frame in many queues is there once. */
static void test_shared_frames(void **state)
{
    enum { SHARERS = 40, FRAME = 64 * KIB };
    (void)state;
    begin(1, 1000 * KIB);
    struct conn *c[SHARERS];
    struct frame *f = frame_new(worker_of(0)->pool, FRAME);
    memset(f->bytes, 0, FRAME);
    frame_ref(f, SHARERS - 1);
    for (unsigned i = 0; i < SHARERS; i++) c[i] = sleeper(0);
    for (unsigned i = 0; i < SHARERS; i++) conn_queue(c[i], (struct out_entry){.frame = f});
    for (unsigned i = 0; i < 3; i++) look(0);
    assert_true(waiting() > 2 * 1000 * KIB);
    assert_true(conn_queues_bytes(&engine.server) < 1000 * KIB);
    assert_int_equal(engine_metric(METRIC_SHED), 0);
    end();
}

/* A worker with less than an even share sheds nothing, whoever looks first. */
static void test_shares(void **state)
{
    (void)state;
    for (unsigned first = 0; first < 2; first++) {
        begin(2, 1000 * KIB);
        struct conn *good[4], *bad[8];
        for (unsigned i = 0; i < 4; i++) put(good[i] = sleeper(0), 50);
        for (unsigned i = 0; i < 8; i++) put(bad[i] = sleeper(1), 100);
        worker_turn(worker_of(first), 0);
        worker_turn(worker_of(!first), 0);
        look(first);
        look(!first);
        for (unsigned i = 0; i < 4; i++) assert_false(is_closed(good[i]));
        assert_in_range(engine_metric(METRIC_SHED), 1, 3);
        assert_true(waiting() <= 1000 * KIB);
        end();
    }
}

/* Who is asleep is woken by who sees it. */
static void test_sleepers_are_woken(void **state)
{
    (void)state;
    begin(2, 400 * KIB);
    struct conn *far = sleeper(1), *near = sleeper(0);
    put(far, 350);
    worker_turn(worker_of(1), 0);
    put(near, 100);
    worker_turn(worker_of(0), 0);
    const int64_t began = clock_us();
    worker_turn(worker_of(1), 60000);
    assert_true(clock_us() - began < 30000000);
    assert_true(is_closed(far));
    assert_false(is_closed(near));
    end();
}

/* What has begun must be sent to its end; if that is still too much, it is cut: before anybody else
 * has to go. */
static void test_those_that_end_go_first(void **state)
{
    enum { BIG = 700 };
    (void)state;
    begin(1, 800 * KIB);
    struct conn *big = sleeper(0), *small = sleeper(0);
    struct frame *f = frame_new(big->worker->pool, BIG * KIB);
    memset(f->bytes, 0, BIG * KIB);
    conn_queue(big, (struct out_entry){.frame = f});
    big->out->sent = 1;
    big->out->bytes--;
    metric_sub(&big->worker->metrics, METRIC_QUEUED_BYTES, 1);
    put(big, 50);
    put(small, 100);
    worker_turn(worker_of(0), 0);
    assert_true(is_closed(big));
    assert_int_equal(big->out->count, 2); /* the rest of that message, and the Close */
    const unsigned ended = engine.ended;
    engine.conn.queues_max_bytes = 750 * KIB;
    look(0);
    assert_int_equal(engine.ended, ended + 1);
    assert_int_equal(small->state, CONN_OPEN);
    assert_int_equal(engine_metric(METRIC_SHED), 1);
    end();
}

static void ask(const char *request, char *answer, size_t cap)
{
    const int fd = engine_connect(worker_of(0));
    assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
    engine_turns(3);
    const ssize_t n = recv(fd, answer, cap - 1, 0);
    assert_true(n > 0);
    answer[n] = 0;
    close(fd);
    engine_turns(2);
}

#define READYZ "GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

/* press keeps it above the budget until newcomers are refused. */
static void press(void)
{
    for (int64_t until = clock_us() + 20000000; !atomic_load(&engine.server.crowded);) {
        assert_true(clock_us() < until);
        if (peer_count < PEERS_MAX) sleeper(0);
        for (unsigned i = 0; i < peer_count && waiting() <= 800 * KIB; i++)
            if (peers[i].conn && peers[i].conn->state == CONN_OPEN) put(peers[i].conn, 100);
        worker_turn(worker_of(0), 10);
        for (unsigned i = 0; i < peer_count; i++)
            if (peers[i].conn && is_closed(peers[i].conn)) peers[i].conn = NULL;
    }
}

static void test_newcomers(void **state)
{
    char answer[2048];
    (void)state;
    begin(1, 800 * KIB);
    ask(READYZ, answer, sizeof answer);
    assert_memory_equal(answer, "HTTP/1.1 200 ", 13);
    press();
    ask(READYZ, answer, sizeof answer);
    assert_memory_equal(answer, "HTTP/1.1 503 ", 13);
    assert_non_null(strstr(answer, "too much waits"));
    ask(UPGRADE("/echo"), answer, sizeof answer);
    assert_memory_equal(answer, "HTTP/1.1 503 ", 13);
    assert_non_null(strstr(answer, "Retry-After: "));
    assert_int_equal(engine_metric(METRIC_REFUSED_QUEUES), 1);
    assert_true(waiting() >= 600 * KIB); /* until three quarters of the budget are left */
    for (unsigned i = 0; i < peer_count && waiting() >= 600 * KIB; i++) {
        hang_up(&peers[i]);
        engine_turns(3);
    }
    ask(READYZ, answer, sizeof answer);
    assert_memory_equal(answer, "HTTP/1.1 200 ", 13);
    ask(UPGRADE("/echo"), answer, sizeof answer);
    assert_memory_equal(answer, SWITCHED, sizeof SWITCHED - 1);
    end();
}

/* What lies in the kernel counts, while the connection is open. */
static void test_kernel(void **state)
{
    (void)state;
    begin(1, 64 << 20);
    struct conn *c = sleeper(0);
    put(c, 10);
    worker_turn(worker_of(0), 0);
    assert_int_equal(engine_metric(METRIC_WAITING_KERNEL), 0);
    worker_of(0)->sample_at_ms = 0;
    worker_turn(worker_of(0), 0);
    assert_true(engine_metric(METRIC_WAITING_KERNEL) >= KIB);
    engine.conn.queues_max_bytes = KIB;
    look(0);
    assert_true(is_closed(c));
    assert_int_equal(engine_metric(METRIC_WAITING_KERNEL), 0);
    end();
}

/* read_some of what the server has sent. */
static void read_some(struct peer *p)
{
    char bytes[8 * KIB];
    if (p->fd != -1) (void)!recv(p->fd, bytes, sizeof bytes, 0);
}

static void check_sums(void)
{
    uint64_t sum = 0;
    const struct worker *w = worker_of(0);
    for (uint32_t i = 0; i < w->waiting.count; i++) {
        const struct out_queue *q = w->waiting.items[i]->out;
        assert_int_equal(q->place, i);
        assert_int_equal(q->counted, outq_cost(q));
        sum += q->counted;
    }
    assert_int_equal(engine_metric(METRIC_WAITING_QUEUES), sum);
}

/* Whatever comes and goes, the sum is that of the queues, and the budget holds after each look. */
static void test_sums(void **state)
{
    uint32_t seed = 7;
    (void)state;
    begin(1, 2000 * KIB);
    for (unsigned i = 0; i < 16; i++) sleeper(0);
    for (unsigned step = 0; step < 4000; step++) {
        struct peer *p = &peers[engine_random(&seed, peer_count)];
        const unsigned what = engine_random(&seed, 100);
        if (p->conn && p->conn->state == CONN_OPEN && what < 50)
            put(p->conn, engine_random(&seed, 40));
        else if (what < 98)
            read_some(p);
        else
            hang_up(p);
        look(0);
        check_sums();
        assert_true(waiting() <= 2000 * KIB);
        for (unsigned i = 0; i < peer_count; i++)
            if (peers[i].conn && (peers[i].fd == -1 || is_closed(peers[i].conn)))
                peers[i].conn = NULL;
        if (what >= 90 && peer_count < PEERS_MAX) sleeper(0);
    }
    assert_true(engine_metric(METRIC_SHED) > 0);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_at_the_budget),
        cmocka_unit_test(test_calm_sleeps),
        cmocka_unit_test(test_limit_goes),
        cmocka_unit_test(test_no_limit),
        cmocka_unit_test(test_shared_frames),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_sleepers_are_woken),
        cmocka_unit_test(test_those_that_end_go_first),
        cmocka_unit_test(test_newcomers),
        cmocka_unit_test(test_kernel),
        cmocka_unit_test(test_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
