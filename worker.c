#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "tls.h"
#include "worker_errand.h"

#define TX_SIZE (64u * 1024)
#define SLEEP_MAX_MS 60000
#define TRIM_MS 1000
#define FULL_TURNS_MAX 100
#define CONNS_LEAST 1024     /* room for so many connections, or no start */
#define REST_MS 100          /* listeners rest for so long while no descriptor is left */
#define TIMERS_PER_TURN 4096 /* a worker with a million timers still looks at its sockets */

int64_t clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void read_clock(struct worker *w)
{
    w->now_us = clock_us();
    w->now_ms = w->now_us / 1000;
}

int64_t worker_date_ms(struct worker *w)
{
    if (w->ahead_at_us != w->now_us) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        w->ahead_ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 - w->now_ms;
        w->ahead_at_us = w->now_us;
    }
    return w->now_ms + w->ahead_ms;
}

/* Twice as many as there can be: while the ready list is worked off, those that stay on it are
 * appended. */
static size_t vector_bytes(const struct worker *w)
{
    return (size_t)w->conns_max * 2 * sizeof(struct conn *);
}

static struct conn **map_vector(const struct worker *w)
{
    void *p = mmap(NULL, vector_bytes(w), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void unmap_vectors(struct worker *w)
{
    struct conn_vector *all[] = {&w->conns, &w->dirty, &w->ready, &w->closed, &w->waiting};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i]->items) munmap(all[i]->items, vector_bytes(w));
        all[i]->items = NULL;
    }
}

static bool map_all(struct worker *w)
{
    w->conns.items = map_vector(w);
    w->dirty.items = map_vector(w);
    w->ready.items = map_vector(w);
    w->closed.items = map_vector(w);
    w->waiting.items = map_vector(w);
    return w->conns.items && w->dirty.items && w->ready.items && w->closed.items &&
           w->waiting.items;
}

/* map_vectors maps for as many connections as there can be descriptors. A system that promises no
 * more memory than it has (vm.overcommit_memory=2) or a limit of address space may refuse that for
 * a huge limit of descriptors: then for fewer. */
static bool map_vectors(struct worker *w)
{
    w->conns_max = w->server->conns_max;
    while (!map_all(w)) {
        unmap_vectors(w);
        if (w->conns_max / 2 < CONNS_LEAST) return false;
        w->conns_max /= 2;
    }
    if (w->conns_max < w->server->conns_max)
        log_event(LOG_WARN,
                  "this worker takes fewer connections than there are descriptors: no address "
                  "space for more; "
                  "lower LimitNOFILE, or see vm.overcommit_memory",
                  LOG_U64("connections", w->conns_max),
                  LOG_U64("descriptors", w->server->conns_max));
    return true;
}

static int open_spare(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

struct worker *worker_new(struct server *s, unsigned index)
{
    struct worker *w = aligned_alloc(64, (sizeof *w + 63) / 64 * 64);
    if (!w) return NULL;
    memset(w, 0, sizeof *w);
    w->server = s;
    w->index = index;
    w->spare_fd = -1;
    w->reactor.epoll_fd = w->reactor.wake_fd = -1;
    w->rx_size = (size_t)s->options.receive_buffer_bytes;
    w->tx_size = TX_SIZE;
    random_bytes(&w->random, sizeof w->random);
    w->random |= 1;
    read_clock(w);
    wheel_init(&w->wheel, worker_tick(w));
    mailbox_init(&w->mailbox, s->options.mailbox_max_bytes);
    mailbox_init(&w->errands, 0);
    w->pool = mem_pool_new();
    w->secrets = mem_pool_new();
    w->rx = malloc(w->rx_size + RX_MARGIN);
    w->tx = malloc(w->tx_size);
    if (!w->pool || !w->secrets || !w->rx || !w->tx || !map_vectors(w)) goto fail;
    mem_pool_keep_secret(w->secrets);
    w->spare_fd = open_spare();
    if (reactor_open(&w->reactor) == -1) goto fail;
    return w;
fail:
    worker_delete(w);
    return NULL;
}

static void close_listeners(struct worker *w)
{
    for (unsigned i = 0; i < w->listener_count; i++) {
        struct listener *l = &w->listeners[i];
        if (l->fd == -1) continue;
        reactor_remove(&w->reactor, l->fd);
        if (!l->shared) close(l->fd);
        l->fd = -1;
    }
}

void worker_delete(struct worker *w)
{
    if (!w) return;
    int saved = errno;
    if (w->server->ops && w->server->ops->gone) w->server->ops->gone(w);
    if (w->reactor.epoll_fd != -1) {
        close_listeners(w);
        reactor_close(&w->reactor);
    }
    if (w->spare_fd != -1) close(w->spare_fd);
    unmap_vectors(w);
    free(w->rx);
    free(w->tx);
    free(w->cipher);
    mem_pool_delete(w->pool);
    mem_pool_delete(w->secrets);
    free(w);
    errno = saved;
}

static int watch(struct worker *w, struct listener *l)
{
    /* level-triggered: what a batch leaves in the accept queue is reported again */
    uint32_t events = EPOLLIN | (l->shared ? (uint32_t)EPOLLEXCLUSIVE : 0);
    return reactor_add(&w->reactor, l->fd, events, l, REACTOR_LISTENER);
}

int worker_listen(struct worker *w, const struct listener *l)
{
    if (w->listener_count == LISTENERS_MAX) {
        errno = ENOSPC;
        return -1;
    }
    struct listener *mine = &w->listeners[w->listener_count];
    *mine = *l;
    if (watch(w, mine) == -1) return -1;
    w->listener_count++;
    return 0;
}

/* ---- accepting ---- */

static void peer_from(struct peer_address *out, const struct sockaddr_storage *sa)
{
    *out = (struct peer_address){0};
    if (sa->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;
        out->ip = in6->sin6_addr;
        out->port = ntohs(in6->sin6_port);
    } else if (sa->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;
        out->ip.s6_addr[10] = out->ip.s6_addr[11] = 0xff;
        memcpy(out->ip.s6_addr + 12, &in->sin_addr, 4);
        out->port = ntohs(in->sin_port);
    }
}

/* rest takes the listeners out of epoll, where they would be reported for ever, until a descriptor
 * may be had. */
static void rest(struct worker *w)
{
    for (unsigned i = 0; i < w->listener_count; i++)
        if (w->listeners[i].fd != -1) reactor_remove(&w->reactor, w->listeners[i].fd);
    w->rest_until_ms = w->now_ms + REST_MS;
    w->rest_conns = w->conns.count;
    metric_add(&w->metrics, METRIC_ACCEPT_RESTS, 1);
    log_limited(1, LOG_WARN, "no descriptor left, not even to refuse connections: they wait");
}

/* end_rest goes on listening if a connection has ended or the time is over, and there is a spare
 * descriptor again. */
static void end_rest(struct worker *w)
{
    if (w->now_ms < w->rest_until_ms && w->conns.count >= w->rest_conns) return;
    bool all = w->spare_fd != -1 || (w->spare_fd = open_spare()) != -1;
    for (unsigned i = 0; all && i < w->listener_count;
         i++) /* EEXIST: it is there from the last attempt */
        all = w->listeners[i].fd == -1 || watch(w, &w->listeners[i]) == 0 || errno == EEXIST;
    w->rest_until_ms = all ? 0 : w->now_ms + REST_MS;
    w->rest_conns = w->conns.count;
}

/* No descriptor is left: give up the spare one to take the first of the queue and close it, so that
 * the peer learns at once and a level-triggered listener does not spin. Returns whether there is a
 * spare one again: another worker may have been quicker. */
static bool refuse_for_descriptors(struct worker *w, const struct listener *l)
{
    if (w->spare_fd != -1) close(w->spare_fd);
    int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd != -1) {
        close(fd);
        metric_add(&w->metrics, METRIC_REFUSED_DESCRIPTORS, 1);
        log_limited(1, LOG_WARN, "no descriptor left: connections are refused; raise LimitNOFILE",
                    LOG_U64("open", w->conns.count));
    }
    w->spare_fd = open_spare();
    if (w->spare_fd != -1) return true;
    rest(w);
    return false;
}

/* accept_some takes up to max connections; returns whether there may be more. */
static bool accept_some(struct worker *w, const struct listener *l, int64_t max)
{
    for (int64_t i = 0; i < max; i++) {
        struct sockaddr_storage sa = {0};
        socklen_t len = sizeof sa;
        int fd = accept4(l->fd, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd == -1) {
            if (errno == EMFILE || errno == ENFILE) {
                if (refuse_for_descriptors(w, l)) continue;
                return false;
            }
            if (errno == ECONNABORTED || errno == EINTR || errno == EPROTO) continue;
            if (errno != EAGAIN && errno != EINVAL) /* EINVAL: shut down, we stop soon */
                log_limited(1, LOG_WARN, "accept failed", LOG_ERRNO(errno));
            return false;
        }
        metric_add(&w->metrics, METRIC_ACCEPTED, 1);
        if (w->conns.count >= w->conns_max) {
            metric_add(&w->metrics, METRIC_REFUSED_DESCRIPTORS, 1);
            close(fd);
            continue;
        }
        struct peer_address from;
        peer_from(&from, &sa);
        w->server->ops->accepted(w, l, fd, &from);
    }
    return true;
}

/* ---- the turn ---- */

void worker_wake_others(struct worker *w)
{
    uint64_t bits =
        w->wake & ~(1ull << w->index); /* our own mailbox is looked at before we sleep */
    w->wake = 0;
    for (; bits; bits &= bits - 1)
        reactor_wake(&w->server->workers[__builtin_ctzll(bits)]->reactor);
}

/* trim gives memory that a wave needed and nobody uses back to the system, about once a second;
 * what else is to be done as often is done then. */
/* trim_heap gives back what handshakes have left of malloc's heap, once there are none for a while.
 */
static bool trim_heap(struct worker *w)
{
    if (w->heap_used_ms && w->now_ms - w->heap_used_ms >= TRIM_MS) {
        malloc_trim(0);
        w->heap_used_ms = 0;
    }
    return w->heap_used_ms;
}

static void trim(struct worker *w)
{
    if (w->now_ms < w->trim_at_ms) return;
    w->trim_at_ms = w->now_ms + TRIM_MS;
    const bool pool = mem_pool_trim(w->pool),
               secrets = mem_pool_trim(w->secrets); /* each of them */
    w->trimming = trim_heap(w) || pool || secrets;
    if (w->server->ops->second) w->server->ops->second(w);
}

static int sleep_ms(const struct worker *w, int timeout_ms)
{
    int idle_ms = w->server->ops->idle_ms(w);
    if (w->ready.count || idle_ms == 0 ||
        atomic_load_explicit(&w->mailbox.newest, memory_order_relaxed) ||
        atomic_load_explicit(&w->errands.newest, memory_order_relaxed))
        return 0;
    if (idle_ms < timeout_ms) timeout_ms = idle_ms;
    uint32_t ticks = wheel_next(&w->wheel, (uint32_t)(clock_us() / 1000 / WORKER_TICK_MS));
    int64_t ms = ticks == UINT32_MAX ? SLEEP_MAX_MS : (int64_t)ticks * WORKER_TICK_MS;
    if (w->rest_until_ms && ms > REST_MS) ms = REST_MS;
    if (w->trimming && ms > TRIM_MS) ms = TRIM_MS;
    if (w->drain_ms >= 0 && ms > w->drain_ms) ms = w->drain_ms;
    if (w->look_at_ms && ms > w->look_at_ms - w->now_ms)
        ms = w->look_at_ms > w->now_ms ? w->look_at_ms - w->now_ms : 0;
    if (ms > timeout_ms) ms = timeout_ms;
    return (int)ms;
}

static void dispatch(struct worker *w, int n)
{
    const struct worker_ops *ops = w->server->ops;
    for (int i = 0; i < n; i++) {
        const struct epoll_event *e = &w->reactor.events[i];
        switch (reactor_tag_of(e)) {
        case REACTOR_CONN: ops->event(reactor_object_of(e), e->events); break;
        case REACTOR_LISTENER: {
            const struct listener *l = reactor_object_of(e);
            if (l->fd != -1 && !w->rest_until_ms)
                accept_some(w, l, w->server->options.accepts_per_turn);
            break;
        }
        case REACTOR_WAKE: reactor_woken(&w->reactor); break;
        }
    }
}

/* Connections that the kernel has already accepted would be reset when their listener closes: take
 * them in first, so that they get a polite answer. Bounded: new ones may keep coming. */
static void obey_stop(struct worker *w, enum worker_stop how)
{
    if (w->stopped == WORKER_RUNS) {
        for (unsigned i = 0; i < w->listener_count; i++)
            if (w->listeners[i].fd != -1 && !w->listeners[i].kept)
                accept_some(w, &w->listeners[i], 65536);
        close_listeners(w);
    }
    w->stopped = how;
    w->server->ops->stopping(w);
}

static bool any_mailbox_half_full(const struct server *s)
{
    for (unsigned i = 0; i < s->worker_count; i++) {
        const struct mailbox *box = &s->workers[i]->mailbox;
        if (atomic_load_explicit(&box->queued_bytes, memory_order_relaxed) > box->max_bytes / 2)
            return true;
    }
    return false;
}

#ifdef ROOST_FAULTS
_Atomic bool worker_wedge;
#endif

/* wedge: in builds for tests, a worker can be made to hang until the server is to end at once. */
static void wedge(const struct worker *w)
{
#ifdef ROOST_FAULTS
    while (w->index == 0 && atomic_load(&worker_wedge) && atomic_load(&w->stop) != WORKER_ENDS)
        sched_yield();
#else
    (void)w;
#endif
}

/* close_some closes what a drain or a rebalance has due; how long until more is, -1 = nothing is.
 */
static int close_some(struct worker *w)
{
    if (w->stopped == WORKER_DRAINS) return w->server->ops->draining(w);
    return w->rebalance.left ? w->server->ops->rebalancing(w) : -1;
}

/* take_settings: the turn before is over, so nothing points into the set that it used. */
static void take_settings(struct worker *w)
{
    const struct settings *s = atomic_load_explicit(&w->server->settings, memory_order_acquire);
    if (!s) return;
    settings_now = s;
    if (atomic_load_explicit(&w->took, memory_order_relaxed) != s->generation)
        atomic_store_explicit(&w->took, s->generation, memory_order_release);
}

bool worker_all_took(const struct server *s, uint64_t generation)
{
    for (unsigned i = 0; i < s->worker_count; i++)
        if (atomic_load_explicit(&s->workers[i]->took, memory_order_acquire) != generation)
            return false;
    return true;
}

void worker_turn(struct worker *w, int timeout_ms)
{
    wedge(w);
    const struct worker_ops *ops = w->server->ops;
    int n = reactor_wait(&w->reactor, sleep_ms(w, timeout_ms));
    read_clock(w);
    take_settings(w);
    w->congested = any_mailbox_half_full(w->server);
    w->handshake_us = 0;
    dispatch(w, n);
    if (w->ready.count) ops->ready(w);
    enum worker_stop how = (enum worker_stop)atomic_load_explicit(&w->stop, memory_order_acquire);
    if (how > w->stopped) obey_stop(w, how);
    w->drain_ms = close_some(w);
    if (w->wake) worker_wake_others(w);
    /* Taken first and done last: what was published before an errand was sent comes before it. */
    struct post *errands = mailbox_take(&w->errands);
    ops->posts(w, mailbox_take(&w->mailbox));
    worker_errands(w, errands);
    /* After a stall, what peers sent meanwhile is read before any deadline is looked at. */
    if (n < REACTOR_EVENTS || ++w->full_turns > FULL_TURNS_MAX) {
        w->full_turns = 0;
        wheel_advance(&w->wheel, worker_tick(w), TIMERS_PER_TURN, ops->timer, w);
    }
    ops->flush(w);
    if (w->wake) worker_wake_others(w);
    ops->end(w);
    if (w->rest_until_ms) end_rest(w);
    mem_pool_reclaim(w->pool);
    trim(w);
    metric_add(&w->metrics, METRIC_TURNS, 1);
    if (n)
        w->trimming = true; /* something may have been freed: look once more before a long sleep */
    if (n) metric_observe(&w->metrics, HISTOGRAM_TURN, (uint64_t)(clock_us() - w->now_us));
}

static bool all_drained(const struct server *s)
{
    return atomic_load_explicit(&s->undrained, memory_order_acquire) == 0;
}

/* note_drained: the last one without connections wakes the others, which have waited for it. */
static void note_drained(struct worker *w)
{
    struct server *s = w->server;
    if (atomic_fetch_sub_explicit(&s->undrained, 1, memory_order_acq_rel) != 1) return;
    for (unsigned i = 0; i < s->worker_count; i++) reactor_wake(&s->workers[i]->reactor);
}

static void *run(void *arg)
{
    struct worker *w = arg;
    log_thread((int)w->index);
    mem_pool_own(w->pool);
    mem_pool_own(w->secrets);
    bool drained = false;
    while (w->stopped != WORKER_ENDS && !(drained && all_drained(w->server))) {
        worker_turn(w, SLEEP_MAX_MS);
        if (drained || w->stopped != WORKER_DRAINS || w->conns.count) continue;
        drained = true; /* for good: its listeners are closed */
        note_drained(w);
    }
    if (atomic_fetch_sub_explicit(&w->server->running, 1, memory_order_acq_rel) == 1 &&
        w->server->done_fd != -1)
        (void)eventfd_write(w->server->done_fd, 1);
    return NULL;
}

int worker_start(struct worker *w)
{
    atomic_fetch_add_explicit(&w->server->running, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&w->server->undrained, 1, memory_order_relaxed);
    int e = pthread_create(&w->thread, NULL, run, w);
    if (e == 0) return 0;
    atomic_fetch_sub_explicit(&w->server->running, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&w->server->undrained, 1, memory_order_relaxed);
    errno = e;
    return -1;
}

void worker_stop(struct worker *w, enum worker_stop how)
{
    atomic_store_explicit(&w->stop, how, memory_order_release);
    reactor_wake(&w->reactor);
}

void worker_join(struct worker *w)
{
    pthread_join(w->thread, NULL);
}

void worker_arm(struct worker *w, struct wheel_timer *t, int64_t in_ms)
{
    if (in_ms < 0) in_ms = 0;
    /* up: the wheel never fires before a deadline's tick, and a tick has begun already */
    int64_t ticks = (in_ms + w->now_ms % WORKER_TICK_MS + WORKER_TICK_MS - 1) / WORKER_TICK_MS;
    if (ticks > INT32_MAX) ticks = INT32_MAX;
    wheel_arm(&w->wheel, t, worker_tick(w) + (uint32_t)ticks);
}

uint64_t worker_random(struct worker *w) /* xorshift64* */
{
    uint64_t x = w->random;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    w->random = x;
    return x * 0x2545F4914F6CDD1Dull;
}
