/* The method rebalance: every worker closes its oldest connections, at its share of a rate. */
#include "api/methods.h"
#include "worker_errand.h"

#define RATE_MAX 1000000

struct rebalance_call {
    struct errand errand;
    struct api_call *call;
    struct mem_pool *pool;
    unsigned percent;
    uint32_t rate;
    uint64_t all;             /* connections of the server */
    _Atomic uint64_t closing; /* relaxed: of all workers */
};

static void run(struct worker *w, struct errand *e)
{
    struct rebalance_call *r = (struct rebalance_call *)(void *)e;
    const uint32_t n = conn_rebalance(w, r->percent, r->rate, r->all);
    atomic_fetch_add_explicit(&r->closing, n, memory_order_relaxed);
}

static void done(struct worker *w, struct errand *e)
{
    struct rebalance_call *r = (struct rebalance_call *)(void *)e;
    struct api_call *call = r->call;
    const uint64_t n = atomic_load_explicit(&r->closing, memory_order_relaxed);
    mem_free(r->pool, r, sizeof *r);
    if (w) {
        json_puts(&call->o, "{\"closing\":");
        json_put_uint(&call->o, n);
        json_puts(&call->o, "}");
    }
    call->finished(call, w ? 0 : API_ABANDONED);
}

static uint64_t open_connections(const struct server *s)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < s->worker_count; i++)
        n += metric_get(&s->workers[i]->metrics, METRIC_CONNECTIONS);
    return n;
}

/* api_rebalance: ours, not of protocol.md. */
unsigned api_rebalance(struct api_call *call)
{
    int64_t percent = -1, rate = 100;
    if (!api_optional_int(call->doc, "percent", &percent) ||
        !api_optional_int(call->doc, "rate", &rate))
        return API_BAD_REQUEST;
    if (percent < 0 || percent > 100 || rate < 1 || rate > RATE_MAX) return 107;
    struct rebalance_call *r = mem_zalloc(call->w->pool, sizeof *r);
    if (!r) return 100;
    r->call = call;
    r->pool = call->w->pool;
    r->percent = (unsigned)percent;
    r->rate = (uint32_t)rate;
    r->all = open_connections(call->w->server);
    r->errand.run = run;
    r->errand.done = done;
    worker_errand_start(call->w, &r->errand);
    return API_LATER;
}
