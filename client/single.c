/* One connection a user: whoever connects closes the others of its user, on all workers
 * (client.subscribe_to_user_personal_channel.single_connection).
 *
 * Two may connect at once, on two workers, and one of them must stay. So connects have an order,
 * counted in the process: what looks for others, an errand, closes only those that are older. It
 * can not miss one: on the worker where it runs, who connects later is newer. Rejected: a table of
 * users for all workers, which every connect and close would lock. */
#include "client.h"

#include "users.h"
#include "worker_errand.h"

struct search {
    struct errand errand;
    struct mem_pool *pool; /* of the worker that began it */
    uint64_t order;
    uint8_t len;
    char user[USER_NAME_MAX];
};

static _Atomic uint64_t last_order;

static void close_older(struct conn *c, void *arg)
{
    const struct search *search = arg;
    if (c->state != CONN_OPEN || client_of(c)->order >= search->order) return;
    metric_add(&c->worker->metrics, METRIC_SUPERSEDED, 1);
    conn_close(c, 3504, "connection limit");
}

static void run(struct worker *w, struct errand *e)
{
    struct search *search = (struct search *)(void *)e;
    const struct user *u = users_find(w, search->user, search->len);
    if (u) users_each(w, u, close_older, search);
}

static void done(struct worker *w, struct errand *e)
{
    struct search *search = (struct search *)(void *)e;
    (void)w;
    mem_free(search->pool, search, sizeof *search);
}

bool client_close_others(struct conn *c)
{
    struct worker *w = c->worker;
    struct search *search = mem_alloc(w->pool, sizeof *search);
    if (!search) return false;
    const uint64_t order = 1 + atomic_fetch_add_explicit(&last_order, 1, memory_order_relaxed);
    client_of(c)->order = order;
    *search = (struct search){
        .errand = {.run = run, .done = done}, .pool = w->pool, .order = order, .len = c->user->len};
    memcpy(search->user, c->user->name, c->user->len);
    worker_errand_start(w, &search->errand);
    return true;
}
