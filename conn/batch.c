/* The sends of a turn in batches (batch.h), where there are many: a connection with one piece to
 * send is put into the batch, all others are flushed as ever. Its queue stays as it is until the
 * batch is done, so that whoever looks at it sees what waits; over TLS what is queued is sealed
 * first, into the batch's own memory. */
#include "batch.h"
#include "conn.h"
#include "log.h"
#include "metrics.h"
#include "outq.h"
#include "tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SEALED_MAX 4096u /* of a connection's TLS bytes in a batch */

struct conn_batch {
    struct batch *ring;
    struct conn *conns[BATCH_MAX];
    uint8_t *sealed; /* SEALED_MAX for each; made when TLS needs it */
    int32_t done[BATCH_MAX];
    uint32_t len[BATCH_MAX];
};

static void give_up(struct worker *w, const char *why)
{
    log_event(LOG_WARN, "sends are made one by one", LOG_STR("why", why));
    w->batch_from = 0;
    conn_batch_free(w);
}

/* ready makes the worker's batch, in its own thread, when there is a first use for it. */
static bool ready(struct worker *w)
{
    const char *why = "out of memory";
    if (w->batch) return true;
    w->batch = calloc(1, sizeof *w->batch);
    if (w->batch) w->batch->ring = batch_new(&why);
    if (w->batch && w->batch->ring) return true;
    give_up(w, why);
    return false;
}

void conn_batch_free(struct worker *w)
{
    if (!w->batch) return;
    batch_delete(w->batch->ring);
    free(w->batch->sealed);
    free(w->batch);
    w->batch = NULL;
}

bool conn_batch_begin(struct worker *w)
{
    return w->batch_from && w->dirty.count >= w->batch_from && ready(w);
}

static bool eligible(const struct conn *c)
{
    return c->state == CONN_OPEN && !(c->flags & CONN_BLOCKED) && c->out && c->out->count &&
           !c->out->cipher;
}

static void add(struct conn *c, const uint8_t *bytes, size_t len)
{
    struct conn_batch *b = c->worker->batch;
    const unsigned at = batch_add(b->ring, c->fd, bytes, (uint32_t)len);
    b->conns[at] = c;
    b->len[at] = (uint32_t)len;
}

static bool add_plain(struct conn *c)
{
    struct iovec piece[2];
    if (outq_iov(c->out, piece, 2, SIZE_MAX) != 1 || piece[0].iov_len > INT32_MAX) return false;
    add(c, piece[0].iov_base, piece[0].iov_len);
    return true;
}

static uint8_t *sealed_at(struct conn_batch *b, unsigned at)
{
    if (!b->sealed) b->sealed = malloc((size_t)BATCH_MAX * SEALED_MAX); /* once a worker */
    return b->sealed ? b->sealed + (size_t)at * SEALED_MAX : NULL;
}

static bool add_tls(struct conn *c)
{
    struct conn_batch *b = c->worker->batch;
    if (outq_bytes(c->out) > SEALED_MAX - TLS_OVERHEAD) return false;
    uint8_t *sealed = sealed_at(b, batch_count(b->ring));
    if (!sealed) return false;
    const size_t len = conn_tls_seal(c, sealed, SEALED_MAX);
    if (len) add(c, sealed, len); /* 0: it is closed, and done with */
    return true;
}

bool conn_batch_add(struct conn *c)
{
    struct worker *w = c->worker;
    if (!eligible(c)) return false;
    if (w->batch && batch_count(w->batch->ring) == BATCH_MAX) conn_batch_submit(w);
    if (!w->batch) return false; /* it has been given up */
    return c->tls ? add_tls(c) : add_plain(c);
}

/* taken notes what became of the i-th send; then c's flush goes on as ever. */
static void taken(struct conn_batch *b, unsigned i)
{
    struct conn *c = b->conns[i];
    const int32_t n = b->done[i];
    const ssize_t took = n == BATCH_NOT_DONE ? 0 : n < 0 ? -1 : n;
    if (c->state == CONN_CLOSED) return;
    if (n < 0) errno = -n;
    if (n != BATCH_NOT_DONE) (void)conn_socket_took(c, took, b->len[i]);
    if (c->state == CONN_CLOSED) return;
    const size_t rest = b->len[i] - (size_t)(took > 0 ? took : 0);
    if (c->tls && rest) {
        conn_tls_keep(c, b->sealed + (size_t)i * SEALED_MAX + (b->len[i] - rest), rest);
    } else if (!c->tls && took > 0) {
        outq_sent(c->out, (size_t)took);
        conn_unqueued(c, (size_t)took);
    }
}

void conn_batch_submit(struct worker *w)
{
    struct conn_batch *b = w->batch;
    const unsigned count = b ? batch_count(b->ring) : 0;
    if (!count) return;
    const bool works = batch_submit(b->ring, b->done);
    metric_add(&w->metrics, METRIC_SEND_BATCHES, 1);
    metric_add(&w->metrics, METRIC_SENDS_BATCHED, count);
    for (unsigned i = 0; i < count; i++) taken(b, i);
    for (unsigned i = 0; i < count; i++) conn_flushed(b->conns[i]);
    if (!works) give_up(w, "io_uring has stopped working");
}
