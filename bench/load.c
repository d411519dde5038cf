#include "bench.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 512
#define TURN_MS 100

/* ---- names and tokens ---- */

void bench_channel(const struct bench *b, unsigned i, char out[static BENCH_CHANNEL_MAX + 1])
{
    size_t len = strlen(b->o.channel);
    memcpy(out, b->o.channel, len + 1);
    if (b->mode->publishers == BENCH_EACH_TO_ITSELF)
        snprintf(out + len, BENCH_CHANNEL_MAX + 1 - len, "-%u", i);
}

/* A token of its own for each connection, as in real life: subject a UUID. */
const char *load_token(const struct bench *b, char *out, size_t cap)
{
    uint8_t id[16];
    char claims[512];
    if (b->o.token) return b->o.token;
    if (!*b->target.secret) return NULL;
    random_bytes(id, sizeof id);
    int n = snprintf(
        claims, sizeof claims,
        "{\"sub\":\"%02x%02x%02x%02x-%02x%02x-4%x%02x-8%x%02x-%02x%02x%02x%02x%02x%02x\","
        "\"exp\":%lld%s}",
        id[0], id[1], id[2], id[3], id[4], id[5], id[6] & 15, id[7], id[8] & 15, id[9], id[10],
        id[11], id[12], id[13], id[14], id[15], (long long)time(NULL) + 86400, b->dialect->claims);
    const struct jwt_key key = {.secret = (const uint8_t *)b->target.secret,
                                .secret_len = strlen(b->target.secret)};
    return jwt_make(out, cap, &key, claims, (size_t)n) > 0 ? out : NULL;
}

/* ---- what arrives ---- */

/* At a rate, what was due in the measured time counts even if it came after: just those that waited
 * longest would be left out. In a closed loop nobody knows how long the next would have waited. */
static bool latency_counts(const struct bench *b, int64_t sent_ns)
{
    if (sent_ns < b->began_ns) return false;
    if (b->phase == BENCH_MEASURING) return true;
    return b->o.rate && b->phase == BENCH_DRAINING && sent_ns < b->ended_ns;
}

void load_received(struct bench_conn *c, uint64_t seq, int64_t sent_ns, size_t len)
{
    struct bench *b = c->bench;
    if (b->phase == BENCH_MEASURING) {
        b->counts.messages++;
        b->counts.bytes += len;
    }
    if (latency_counts(b, sent_ns)) histogram_add(&b->latency, (uint64_t)(b->now_ns - sent_ns));
    b->mode->message(c, seq, sent_ns);
}

static void on_upgraded(struct dial *d, void *user)
{
    struct bench_conn *c = user;
    (void)d;
    c->bench->dialect->upgraded(c);
}

static void on_event(struct dial *d, const struct ws_event *ev, void *user)
{
    struct bench_conn *c = user;
    (void)d;
    if (ev->kind == WS_EVENT_DATA)
        c->bench->dialect->piece(c, ev);
    else if (ev->opcode == WS_PING)
        c->bench->counts.pings++;
}

static const struct dial_handler handler = {.opened = on_upgraded, .event = on_event};

/* ---- the epoll set ---- */

static void watch(struct bench_conn *c)
{
    int fd = c->dial ? dial_fd(c->dial) : -1;
    short wants = c->dial ? dial_wants(c->dial) : 0;
    if (fd == c->fd && wants == c->wants) return;
    if (fd != -1) {
        struct epoll_event e = {.events = (uint32_t)wants, .data.ptr = c};
        epoll_ctl(c->bench->epoll_fd, fd == c->fd ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e);
    }
    c->fd = fd; /* a closed one has left the set by itself */
    c->wants = wants;
}

bool load_begin(struct bench_conn *c)
{
    struct bench *b = c->bench;
    char target[2048], token[2048];
    b->dialect->target(b, c->index, target, sizeof target);
    const struct dial_request request = {
        .target = target,
        .token = b->dialect->token_in_command ? NULL : load_token(b, token, sizeof token),
        .handler = &handler,
        .user = c};
    c->fd = -1;
    c->open = c->leaving = false;
    c->client = (struct bench_client){0};
    c->began_ns = bench_clock_ns();
    c->dial = dial_new(b->loop, &b->peer, &request);
    if (!c->dial || dial_state(c->dial) == DIAL_CLOSED) {
        snprintf(b->failure, sizeof b->failure, "connection %u: %s", c->index,
                 c->dial ? dial_end(c->dial)->text : "out of memory");
        return false;
    }
    b->opening++;
    watch(c);
    return true;
}

static void let_go(struct bench_conn *c)
{
    dial_free(c->dial);
    free(c->client.part);
    c->client.part = NULL;
    c->dial = NULL;
    c->open = false;
    c->fd = -1;
}

void load_drop(struct bench_conn *c)
{
    const struct linger reset = {.l_onoff = 1};
    if (c->dial && dial_fd(c->dial) != -1)
        setsockopt(dial_fd(c->dial), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (c->dial && !c->open && dial_state(c->dial) != DIAL_CLOSED) c->bench->opening--;
    if (c->open) c->bench->open--;
    let_go(c);
}

static void ended(struct bench_conn *c)
{
    struct bench *b = c->bench;
    if (c->open) {
        b->open--;
        b->counts.closed += !c->leaving;
    } else {
        b->opening--;
        if (b->mode->refused && b->mode->refused(c)) {
            let_go(c);
            return;
        }
        b->counts.refused++;
    }
    if (!*b->failure && !c->leaving)
        snprintf(b->failure, sizeof b->failure, "connection %u: %s", c->index,
                 dial_end(c->dial)->text);
    let_go(c);
}

void load_opened(struct bench_conn *c)
{
    struct bench *b = c->bench;
    c->open = true;
    b->opening--;
    b->open++;
    b->counts.opened++;
    b->counts.resumed += dial_tls_resumed(c->dial);
    if (b->mode->opened) b->mode->opened(c);
}

static void step(struct bench_conn *c, uint32_t events)
{
    if (!c->dial) return;
    enum dial_state state = dial_step(c->dial, (short)events);
    /* One that we leave is waited for: who closes the socket first keeps its port for a minute. */
    if (state == DIAL_CLOSED || (dial_close_received(c->dial) && !c->leaving))
        ended(c);
    else
        watch(c);
}

void load_turn(struct bench *b, int timeout_ms)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(b->epoll_fd, events, EVENTS, timeout_ms);
    b->now_ns = bench_clock_ns();
    for (int i = 0; i < n; i++) {
        if (i) /* what a step cost must not count as the next one's latency, and not be left out */
            b->now_ns = bench_clock_ns();
        step(events[i].data.ptr, events[i].events);
    }
}

void load_flush(struct bench_conn *c)
{
    if (!c->dial) return;
    dial_flush(c->dial);
    watch(c);
}

void load_leave(struct bench_conn *c)
{
    if (!c->open || !c->bench->o.close_handshake) {
        load_drop(c);
        return;
    }
    c->leaving = true;
    dial_close(c->dial, WS_CLOSE_NORMAL, "done");
    load_flush(c);
}

/* ---- phases ---- */

bool load_open(struct bench *b)
{
    int64_t deadline_ns = bench_clock_ns() + 60 * 1000000000ll + b->o.connections * 10000000ll;
    b->phase = BENCH_OPENING;
    while (b->open < b->o.connections) {
        while (b->next < b->o.connections && b->opening < b->o.ramp) {
            struct bench_conn *c = &b->conns[b->next];
            c->bench = b;
            c->index = b->next++;
            if (!load_begin(c)) return false;
        }
        load_turn(b, TURN_MS);
        report_progress(b, "connections", b->open);
        if (b->counts.refused || b->counts.closed) return false;
        if (bench_stop || bench_clock_ns() > deadline_ns) {
            snprintf(b->failure, sizeof b->failure, "%s: %u of %u connections are open",
                     bench_stop ? "interrupted" : "time is up", b->open, b->o.connections);
            return false;
        }
    }
    return true;
}

uint64_t load_unanswered(const struct bench *b)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < b->next; i++)
        n += b->conns[i].client.commands - b->conns[i].client.answers.next;
    return n + b->answer_faults.lost;
}

void load_close_all(struct bench *b)
{
    for (unsigned i = 0; i < b->next; i++) load_drop(&b->conns[i]);
}

static int64_t own_cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* wait_until waits for an event or for end_ns: finer than epoll's milliseconds, which would be
 * taken for latency. */
static void wait_until(const struct bench *b, int64_t end_ns)
{
    struct pollfd any = {.fd = b->epoll_fd, .events = POLLIN};
    int64_t left_ns = end_ns - bench_clock_ns();
    if (left_ns <= 0) return;
    const struct timespec left = {.tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000};
    ppoll(&any, 1, &left, NULL);
}

void load_run(struct bench *b, double seconds, void (*each)(struct bench *b))
{
    int64_t end_ns = bench_clock_ns() + (int64_t)(seconds * 1e9);
    while (!bench_stop) {
        int64_t left_ns = end_ns - bench_clock_ns();
        if (left_ns <= 0 || (b->o.count && b->counts.messages >= b->o.count)) return;
        if (b->due_ns) wait_until(b, b->due_ns < end_ns ? b->due_ns : end_ns);
        load_turn(b, b->due_ns                       ? 0
                     : left_ns > TURN_MS * 1000000ll ? TURN_MS
                                                     : (int)(left_ns / 1000000) + 1);
        if (each) each(b);
        report_progress(b, b->mode->what, b->mode->latency ? b->latency.total : b->counts.messages);
    }
}

void load_mark_begin(struct bench *b)
{
    b->counts.messages = b->counts.bytes = 0;
    b->began_server_ns = target_cpu_ns(&b->target);
    b->began_client_ns = own_cpu_ns();
    b->began_ns = bench_clock_ns();
    b->phase = BENCH_MEASURING;
}

void load_mark_end(struct bench *b)
{
    b->phase = BENCH_DRAINING;
    b->ended_ns = bench_clock_ns();
    b->measured_s = (double)(b->ended_ns - b->began_ns) / 1e9;
    b->client_cpu_s = (double)(own_cpu_ns() - b->began_client_ns) / 1e9;
    int64_t server_ns = target_cpu_ns(&b->target);
    b->server_cpu_s = server_ns < 0 || b->began_server_ns < 0
                          ? -1
                          : (double)(server_ns - b->began_server_ns) / 1e9;
}

void load_measure(struct bench *b, void (*each)(struct bench *b))
{
    b->phase = BENCH_WARMING;
    load_run(b, b->o.warm_s, each);
    load_mark_begin(b);
    load_run(b, b->o.seconds, each);
    load_mark_end(b);
}
