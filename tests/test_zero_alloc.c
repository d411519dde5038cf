/* Once warm, a message costs no allocation: malloc, calloc, realloc, free and aligned_alloc, ours
 * and mbedTLS's, are counted in the server's process over 10,000 messages of echo, fan-out on two
 * workers and API publish, plain and over TLS. The clients are a process of their own. */
/* link: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free,--wrap=aligned_alloc */
/* link: -Wl,--wrap=mmap */
#include "engine.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "../listen.h"
#include "../tls.h"

#define MESSAGES (SLOW ? 1000u : 10000u)
#define WARM_UP (SLOW ? 300u : 3000u)
#define SUBSCRIBERS 50
#define WINDOW 10 /* publications under way */
#define SECONDS 60

/* ---- counting ---- */

static _Atomic uint64_t heap_calls, mmap_calls;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
void __real_free(void *p);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t from);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
void __wrap_free(void *p);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t from);

void *__wrap_malloc(size_t n)
{
    heap_calls++;
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    heap_calls++;
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    heap_calls++;
    return __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    heap_calls++;
    return __real_aligned_alloc(align, n);
}

void __wrap_free(void *p)
{
    heap_calls++;
    __real_free(p);
}

void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t from)
{
    mmap_calls++;
    return __real_mmap(at, n, prot, flags, fd, from);
}

/* ---- a client (in the child: it says what is wrong and ends) ---- */

struct client {
    int fd;
    struct tls *tls;
    size_t len; /* plain bytes received and not taken yet */
    uint8_t plain[256 * 1024];
};

static struct tls_client *tls_client;
static uint16_t port;

static void need(bool ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "client: %s: %s\n", what, strerror(errno));
    _exit(1);
}

static void send_all(const struct client *c, const uint8_t *bytes, size_t len)
{
    while (len) {
        ssize_t n = send(c->fd, bytes, len, MSG_NOSIGNAL);
        need(n > 0, "send");
        bytes += n;
        len -= (size_t)n;
    }
}

static void shake_hands(struct client *c)
{
    static uint8_t in[32 * 1024], out[TLS_OUT_MAX];
    size_t len = 0;
    for (;;) {
        size_t used = 0, n = 0;
        enum io io = tls_handshake(c->tls, in, len, &used, out, sizeof out, &n);
        send_all(c, out, n);
        memmove(in, in + used, len - used);
        len -= used;
        if (io == IO_DONE) break;
        need(io != IO_CLOSED, tls_why(c->tls));
        if (io == IO_WANT_WRITE) continue;
        ssize_t got = recv(c->fd, in + len, sizeof in - len, 0);
        need(got > 0, "handshake");
        len += (size_t)got;
    }
    need(len == 0, "bytes behind the handshake"); /* the server does not speak first */
}

static void dial(struct client *c)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval t = {.tv_sec = SECONDS};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    need(connect(c->fd, (struct sockaddr *)&to, sizeof to) == 0, "connect");
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    c->len = 0;
    c->tls = tls_client ? tls_connect(tls_client, "127.0.0.1") : NULL;
    if (tls_client) shake_hands(c);
}

static void say(struct client *c, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    static uint8_t sealed[TLS_RECORD_MAX + TLS_OVERHEAD];
    while (c->tls && len) {
        size_t used = 0, n = 0;
        need(tls_seal(c->tls, &(struct iovec){(void *)(uintptr_t)p, len}, 1, &used, sealed,
                      sizeof sealed, &n) == IO_DONE,
             "seal");
        send_all(c, sealed, n);
        p += used;
        len -= used;
    }
    send_all(c, p, len);
}

static void hear(struct client *c)
{
    static uint8_t in[64 * 1024];
    uint8_t *to = c->tls ? in : c->plain + c->len;
    ssize_t got = recv(c->fd, to, c->tls ? sizeof in : sizeof c->plain - c->len, 0);
    need(got > 0, "receive");
    if (!c->tls) {
        c->len += (size_t)got;
        return;
    }
    for (size_t at = 0;;) {
        uint8_t alert[TLS_OVERHEAD];
        size_t used = 0, n = 0, alert_len = 0;
        enum io io = tls_open(c->tls, in + at, (size_t)got - at, &used, c->plain + c->len,
                              sizeof c->plain - c->len, &n, alert, sizeof alert, &alert_len);
        at += used;
        c->len += n;
        need(io != IO_CLOSED, "closed");
        if (io == IO_WANT_READ) return;
    }
}

/* expect waits for exactly these bytes. */
static void expect(struct client *c, const void *bytes, size_t len)
{
    while (c->len < len) hear(c);
    need(memcmp(c->plain, bytes, len) == 0, "other bytes");
    c->len -= len;
    memmove(c->plain, c->plain + len, c->len);
}

static void open_websocket(struct client *c, const char *path)
{
    char head[512];
    dial(c);
    int n = snprintf(head, sizeof head,
                     "GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                     path);
    say(c, head, (size_t)n);
    expect(c, SWITCHED, sizeof SWITCHED - 1);
}

static void say_message(struct client *c, const void *payload, size_t len)
{
    static uint8_t frame[128 * 1024 + WS_HEAD_MAX];
    say(c, frame, masked_frame(frame, WS_BINARY, true, payload, len));
}

static void expect_message(struct client *c, const void *payload, size_t len)
{
    uint8_t head[WS_HEAD_MAX];
    struct ws_head h = {.opcode = WS_BINARY, .fin = true, .payload_len = len};
    expect(c, head, ws_head_write(head, &h));
    expect(c, payload, len);
}

/* ---- what the clients do ---- */

static struct client clients[1 + SUBSCRIBERS];

static void echo_open_one(void)
{
    open_websocket(&clients[0], "/echo");
}

static void echo_some(unsigned n)
{
    static const size_t sizes[] = {0, 1, 64, 125, 126, 1000, 16384, 40000, 70000, 120000};
    static uint8_t payload[120000];
    for (unsigned i = 0; i < n; i++) {
        size_t len = sizes[i % (sizeof sizes / sizeof *sizes)];
        memset(payload, (int)i, len);
        say_message(&clients[0], payload, len);
        expect_message(&clients[0], payload, len);
    }
}

static void fanout_open(void)
{
    for (unsigned i = 0; i <= SUBSCRIBERS; i++) open_websocket(&clients[i], "/raw/c");
}

/* fanout_some publishes from two connections in turn; all hear it, in one order. */
static void fanout_some(unsigned n)
{
    uint8_t payload[WINDOW][128];
    for (unsigned i = 0; i < n; i += WINDOW) {
        struct client *publisher = &clients[i / WINDOW % SUBSCRIBERS];
        for (unsigned k = 0; k < WINDOW; k++) {
            memset(payload[k], (int)(i + k), sizeof payload[k]);
            say_message(publisher, payload[k], sizeof payload[k]);
        }
        for (unsigned s = 0; s <= SUBSCRIBERS; s++)
            for (unsigned k = 0; k < WINDOW; k++)
                expect_message(&clients[s], payload[k], sizeof payload[k]);
    }
}

static void api_open(void)
{
    dial(&clients[0]);
    open_websocket(&clients[1], "/raw/c");
}

static void api_some(unsigned n)
{
    static const char body[] = "{\"channel\":\"c\",\"data\":\"0123456789\"}",
                      b64[] = "{\"channel\":\"c\",\"b64data\":\"MDEyMzQ1Njc4OQ==\"}";
    static const char answer[] = "HTTP/1.1 200 OK\r\nServer: roost\r\n"
                                 "Content-Type: application/json\r\nContent-Length: 13\r\n\r\n"
                                 "{\"result\":{}}";
    for (unsigned i = 0; i < n; i++) {
        char request[512];
        const char *json = i % 2 ? b64 : body;
        int len = snprintf(request, sizeof request,
                           "POST /api/publish HTTP/1.1\r\nHost: x\r\nX-API-Key: k\r\n"
                           "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                           strlen(json), json);
        say(&clients[0], request, (size_t)len);
        expect(&clients[0], answer, sizeof answer - 1);
        if (i % 2)
            expect_message(&clients[1], "0123456789", 10);
        else
            expect(&clients[1], "\x81\x0c\"0123456789\"", 14);
    }
}

struct scene {
    void (*open)(void);
    void (*some)(unsigned n);
    unsigned least; /* subscriptions on each worker */
};

static const struct scene echo = {echo_open_one, echo_some, 0},
                          fanout = {fanout_open, fanout_some, SUBSCRIBERS / 10},
                          api = {api_open, api_some, 0};

/* ---- the server ---- */

static void tell(int fd)
{
    need(write(fd, "", 1) == 1, "pipe");
}

static void wait_for(int fd)
{
    char c;
    need(read(fd, &c, 1) == 1, "pipe");
}

static _Noreturn void play(const struct scene *scene, int up, int down)
{
    alarm(2 * SECONDS);
    scene->open();
    scene->some(WARM_UP);
    tell(up);
    wait_for(down);
    scene->some(MESSAGES);
    tell(up);
    wait_for(down);
    _exit(0);
}

static struct tls_server *tls_server;

static void listen_on_all(void)
{
    const struct listen_options o = {.backlog = 1024, .user_timeout_ms = 60000};
    port = 0;
    for (unsigned i = 0; i < engine.server.worker_count; i++) {
        struct listener l = {.fd = listen_tcp("127.0.0.1", false, &port, &o),
                             .local = true,
                             .clients = true,
                             .tls = tls_server};
        assert_int_not_equal(l.fd, -1);
        assert_int_equal(worker_listen(engine.server.workers[i], &l), 0);
    }
}

/* quiet waits until no worker has anything to do: the last of the clients' bytes are sent already.
 */
static void quiet(void)
{
    for (uint64_t before = UINT64_MAX, now; (now = engine_metric(METRIC_TURNS)) != before;
         before = now)
        usleep(20000);
}

static void measure(const struct scene *scene)
{
    int up[2], down[2], status;
    engine_open(&(struct engine_options){.workers = 2});
    heartbeat_init(&(struct heartbeat_options){0}); /* no pings between the messages */
    listen_on_all();
    assert_int_equal(pipe(up), 0);
    assert_int_equal(pipe(down), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_int_not_equal(child, -1);
    if (child == 0) play(scene, up[1], down[0]);
    close(up[1]);
    close(down[0]);
    for (unsigned i = 0; i < 2; i++) assert_int_equal(worker_start(engine.server.workers[i]), 0);

    char c;
    bool warm = read(up[0], &c, 1) == 1;
    if (warm) quiet();
    uint64_t heap = heap_calls, maps = mmap_calls, tls = tls_allocations();
    uint64_t messages = engine_metric(METRIC_MESSAGES_OUT);
    bool done = warm && write(down[1], "", 1) == 1 && read(up[0], &c, 1) == 1;
    heap = heap_calls - heap;
    maps = mmap_calls - maps;
    tls = tls_allocations() - tls;
    messages = engine_metric(METRIC_MESSAGES_OUT) - messages;
    uint64_t on[2];
    for (unsigned i = 0; i < 2; i++)
        on[i] = metric_get(&engine.server.workers[i]->metrics, METRIC_SUBSCRIPTIONS);

    if (done) done = write(down[1], "", 1) == 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    for (unsigned i = 0; i < 2; i++) worker_stop(engine.server.workers[i], WORKER_ENDS);
    for (unsigned i = 0; i < 2; i++) worker_join(engine.server.workers[i]);
    close(up[0]);
    close(down[1]);
    engine_close();
    print_message("%llu messages out: %llu heap calls, %llu of mbedTLS, %llu mmap\n",
                  (unsigned long long)messages, (unsigned long long)heap, (unsigned long long)tls,
                  (unsigned long long)maps);
    assert_true(done);
    assert_int_equal(status, 0);
    assert_true(messages >= MESSAGES);
    assert_true(on[0] >= scene->least && on[1] >= scene->least);
    assert_int_equal(heap, 0);
    assert_int_equal(tls, 0);
    assert_true(maps <= 200); /* chunks of a size that was idle for a second come back */
}

static void test_echo(void **state)
{
    (void)state;
    measure(&echo);
}

static void test_fanout(void **state)
{
    (void)state;
    measure(&fanout);
}

static void test_api(void **state)
{
    (void)state;
    measure(&api);
}

static char dir[64], cert[96], key[96];

static int with_tls(void **state)
{
    char err[256];
    (void)state;
    strcpy(dir, "/tmp/roost-zero-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(cert, sizeof cert, "%s/cert.pem", dir);
    snprintf(key, sizeof key, "%s/key.pem", dir);
    if (tls_make_certificate(cert, key) == -1) return -1;
    tls_server = tls_server_new(&(struct tls_files){cert, key}, 1, err, sizeof err);
    tls_client = tls_client_new(cert, false, err, sizeof err);
    return tls_server && tls_client ? 0 : -1;
}

static int without_tls(void **state)
{
    (void)state;
    tls_client_delete(tls_client);
    tls_server_delete(tls_server);
    tls_client = NULL;
    tls_server = NULL;
    unlink(cert);
    unlink(key);
    return rmdir(dir);
}

/* The counters do count. */
static void test_counting(void **state)
{
    (void)state;
    uint64_t before = heap_calls;
    void *volatile p = malloc(10);
    free(p);
    assert_int_equal(heap_calls - before, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counting),
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_fanout),
        cmocka_unit_test(test_api),
        {"test_echo_tls", test_echo, with_tls, without_tls, NULL},
        {"test_fanout_tls", test_fanout, with_tls, without_tls, NULL},
        {"test_api_tls", test_api, with_tls, without_tls, NULL},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
