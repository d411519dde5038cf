/* While the server runs: signals, the watchdog, figures; and its polite end. */
#include "cmd/serve.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "log.h"
#include "notify.h"
#include "trace/export.h"

#define RELOAD_MS 20     /* how often it is looked whether all workers have a new set */
#define PROGRESS_MS 1000 /* how often a stop tells how far it is */

int serve_open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* workers inherit it */
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void stop_workers(struct serve *s, enum worker_stop how)
{
    for (unsigned i = 0; i < s->server.worker_count; i++) worker_stop(s->server.workers[i], how);
}

static int64_t open_conns(const struct serve *s)
{
    return atomic_load_explicit(&s->server.connections, memory_order_relaxed);
}

/* watch tells the service manager that all is well, if every worker has made a turn since the last
 * look; then it gives each a reason for another one. */
static void watch(struct serve *s)
{
    const struct server *v = &s->server;
    const int64_t now_ms = clock_us() / 1000;
    bool well = true;
    if (!notify_watchdog_ms() || now_ms < s->watch_at_ms) return;
    s->watch_at_ms = now_ms + notify_watchdog_ms();
    for (unsigned i = 0; i < v->worker_count; i++) {
        const uint64_t turns = metric_get(&v->workers[i]->metrics, METRIC_TURNS);
        well = well && turns != s->turns[i];
        s->turns[i] = turns;
        reactor_wake(&v->workers[i]->reactor);
    }
    if (well)
        notify("WATCHDOG=1");
    else
        log_event(LOG_ERROR, "a worker has made no turn for a while: the watchdog is not told",
                  LOG_I64("ms", notify_watchdog_ms()));
}

static void tell_figures(struct serve *s, bool last)
{
    const struct metrics *all[WORKERS_MAX];
    for (unsigned i = 0; i < s->server.worker_count; i++) all[i] = &s->server.workers[i]->metrics;
    emf_tell(&s->emf, all, s->server.worker_count, STDOUT_FILENO, clock_us() / 1000, last);
}

/* wait_for waits for a signal to stop (returns true) or until running workers are no more or
 * timeout_ms has passed (false). */
static bool wait_for(struct serve *s, int64_t timeout_ms)
{
    int64_t until = timeout_ms < 0 ? INT64_MAX : clock_us() / 1000 + timeout_ms;
    for (;;) {
        int64_t left = until - clock_us() / 1000;
        if (left <= 0) return false;
        watch(s);
        serve_look_at_certificates(s);
        tell_figures(s, false);
        if (left > emf_left_ms(&s->emf, clock_us() / 1000))
            left = emf_left_ms(&s->emf, clock_us() / 1000);
        if (s->tls && left > SERVE_LOOK_MS) left = SERVE_LOOK_MS;
        if (serve_reloading(s) && left > RELOAD_MS) left = RELOAD_MS;
        if (notify_watchdog_ms() && left > notify_watchdog_ms()) left = notify_watchdog_ms();
        struct pollfd p[2] = {{.fd = s->signal_fd, .events = POLLIN},
                              {.fd = s->server.done_fd, .events = POLLIN}};
        poll(p, 2, left > 60000 ? 60000 : (int)left);
        struct signalfd_siginfo info;
        if (read(s->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
            if (info.ssi_signo != SIGHUP) return true;
            serve_reload(s);
        }
        if (atomic_load_explicit(&s->server.running, memory_order_acquire) == 0) return false;
    }
}

/* close_rate: connections a second, so that all are closed in time. */
static uint32_t close_rate(const struct config *c, int64_t connections)
{
    const int64_t least = connections * 1000 / (c->shutdown_timeout_ms * 4 / 5 + 1) + 1;
    if (!c->shutdown_close_rate) return 0;
    return (uint32_t)(c->shutdown_close_rate > least ? c->shutdown_close_rate : least);
}

/* wait_out waits until the workers are done, saying how far they are. Returns true if a second
 * signal came first. */
static bool wait_out(struct serve *s)
{
    for (int64_t left = s->set->config.shutdown_timeout_ms; left > 0; left -= PROGRESS_MS) {
        if (wait_for(s, left < PROGRESS_MS ? left : PROGRESS_MS)) return true;
        if (atomic_load_explicit(&s->server.running, memory_order_acquire) == 0) return false;
        notify("STATUS=stopping: %lld of %u connections are left", (long long)open_conns(s),
               s->server.drain_from);
    }
    return false;
}

/* drain: not ready, then closed to newcomers, then everybody is closed. */
void serve_drain(struct serve *s)
{
    struct server *v = &s->server;
    notify("STOPPING=1\nSTATUS=stopping: %lld connections", (long long)open_conns(s));
    log_event(LOG_INFO, "stopping", LOG_I64("connections", open_conns(s)),
              LOG_I64("delay_ms", s->set->config.shutdown_delay_ms),
              LOG_I64("timeout_ms", s->set->config.shutdown_timeout_ms));
    atomic_store_explicit(&v->draining, true, memory_order_relaxed);
    bool again = s->set->config.shutdown_delay_ms && wait_for(s, s->set->config.shutdown_delay_ms);
    if (!again) {
        v->drain_from = (uint32_t)open_conns(s);
        v->drain_rate = close_rate(&s->set->config, v->drain_from);
        atomic_store_explicit(&v->closing, true, memory_order_relaxed);
        serve_close_unix(
            s); /* before the workers take in what waits, so that nobody comes behind them */
        stop_workers(s, WORKER_DRAINS);
        again = wait_out(s);
    }
    if (again)
        log_event(LOG_WARN, "second signal: ending at once", LOG_I64("connections", open_conns(s)));
    stop_workers(s, WORKER_ENDS);
}

void serve_until_stop(struct serve *s)
{
    wait_for(s, -1);
}

void serve_last_figures(struct serve *s)
{
    tell_figures(s, true);
}
