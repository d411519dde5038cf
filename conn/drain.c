/* The end of the server: requests under way are answered, open connections are closed at a set
 * rate, so that clients do not all come to the next server at once: those first that are not in
 * use. */
#include <stdio.h>

#include "conn.h"

#define RESTART_HINT_S 8 /* clients of a stopping server come back within so many seconds */
#define BURST_MS 50      /* what may be closed at once after a pause: so long's worth */
#define IDLE_TICKS (1000 / WORKER_TICK_MS)
#define LOOKS_PER_TURN 10000u /* connections looked at for one that is due */

static bool is_idle(const struct conn *c)
{
    return worker_tick(c->worker) - c->last_seen > IDLE_TICKS && outq_empty(c->out);
}

static void close_one(struct conn *c)
{
    char reason[64];
    snprintf(reason, sizeof reason, "shutdown, come back in %u s",
             1 + (unsigned)(worker_random(c->worker) % RESTART_HINT_S));
    conn_close(c, c->worker->server->app->handlers[c->protocol].drain_code, reason);
}

/* end_request ends a connection that is between two requests; one that is not has as long as a
 * head. */
static void end_request(struct conn *c)
{
    if (c->flags & CONN_STREAMS) {
        c->worker->server->app->stream(c);
        return;
    }
    if (c->timer.kind != CONN_DEADLINE_REQUEST || c->flags & CONN_AWAITED) return;
    if (c->in)
        conn_arm(c, CONN_DEADLINE_HANDSHAKE, conn_options()->handshake_timeout_ms);
    else if (!(c->flags & CONN_READABLE))
        conn_finish(c, WS_CLOSE_RESTART);
}

static void begin(struct worker *w)
{
    const struct server *s = w->server;
    const uint32_t mine = (uint32_t)metric_get(&w->metrics, METRIC_CONNECTIONS);
    w->drain = (struct drain){.cursor = w->conns.count, .at_ms = w->now_ms};
    /* each worker its share, so that all are done at the same time */
    if (s->drain_from) w->drain.rate = (int64_t)s->drain_rate * mine / s->drain_from;
    if (w->drain.rate < 1) w->drain.rate = 1;
    w->drain.credit = s->drain_rate ? 1000 : INT64_MAX;
}

void conn_stopping(struct worker *w)
{
    conn_rebalance_stop(w);
    for (uint32_t i = 0; i < w->conns.count; i++) {
        struct conn *c = w->conns.items[i];
        if (w->stopped == WORKER_ENDS)
            conn_drop(c, WS_CLOSE_RESTART);
        else if (c->state == CONN_HTTP)
            end_request(c);
    }
    if (w->stopped == WORKER_DRAINS) begin(w);
}

static void earn(struct worker *w)
{
    struct drain *d = &w->drain;
    if (d->credit == INT64_MAX) return; /* all at once */
    const int64_t most = d->rate * BURST_MS > 1000 ? d->rate * BURST_MS : 1000;
    d->credit += d->rate * (w->now_ms - d->at_ms);
    if (d->credit > most) d->credit = most;
    d->at_ms = w->now_ms;
}

/* next_due goes down the list of connections: what is closed meanwhile moves only those above the
 * cursor. First the idle ones, then all. NULL: it has looked enough, or nobody is left. */
static struct conn *next_due(struct worker *w, uint32_t *looks)
{
    struct drain *d = &w->drain;
    if (d->cursor > w->conns.count) d->cursor = w->conns.count;
    while (*looks > 0) {
        if (d->cursor == 0) {
            if (d->busy_too) return NULL;
            d->busy_too = true;
            d->cursor = w->conns.count;
            if (!d->cursor) return NULL;
        }
        struct conn *c = w->conns.items[--d->cursor];
        --*looks;
        if (c->state == CONN_OPEN && (d->busy_too || is_idle(c))) return c;
    }
    return NULL;
}

int conn_draining(struct worker *w)
{
    struct drain *d = &w->drain;
    uint32_t looks = LOOKS_PER_TURN;
    earn(w);
    while (d->credit >= 1000) {
        struct conn *c = next_due(w, &looks);
        if (!c) return looks ? -1 : 0;
        close_one(c);
        if (d->credit != INT64_MAX) d->credit -= 1000;
    }
    return (int)((1000 - d->credit + d->rate - 1) / d->rate);
}
