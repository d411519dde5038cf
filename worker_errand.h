/* worker_errand.h - what every worker must do in a turn of its own, for one that waits for all of
 * them: calls of the HTTP API that name a user, lists of connections.
 *
 * The asker posts a leg to each worker, itself included; each runs it once, in no order among the
 * workers; when the last one has, the errand comes back to the asker. So an answer is true for all
 * workers when it is given, and nothing of another worker is touched. Errands have a mailbox of
 * their own, so that they need no word in the bus; what was published before one is started is
 * handed over before it is run, as far as a turn's slices go. Rejected: a lock around every
 * worker's users, which each connection would take twice. Threads: worker_errand_start and
 * worker_errands worker only. */
#ifndef WORKER_ERRAND_H
#define WORKER_ERRAND_H

#include "worker.h"

struct errand { /* the first member of what carries the question and the answers */
    /* run is called once on each worker. What it writes for different workers must not overlap. */
    void (*run)(struct worker *w, struct errand *e);
    /* done is called on the asker when all have run, and takes e over. w is NULL when the server
     * has ended meanwhile: then e is only to be freed. */
    void (*done)(struct worker *w, struct errand *e);
    unsigned asker;
    _Atomic uint32_t left; /* workers that have not run it; release by each, acquire by the last */
    struct errand_leg {
        struct post post;
        struct errand *errand;
    } legs[WORKERS_MAX + 1]; /* one a worker, and the way back */
};

/* worker_errand_start sends e, whose run and done are set, to every worker. It can not come back
 * before the caller returns to its worker's turn. */
void worker_errand_start(struct worker *w, struct errand *e);

/* worker_errands does what was taken from w->errands, may be NULL; once a turn. */
void worker_errands(struct worker *w, struct post *oldest);

/* worker_errands_abandon lets go of what nobody will do any more. Main thread, no worker runs, all
 * of them still exist. */
void worker_errands_abandon(struct worker *w);

#endif
