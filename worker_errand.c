#include "worker_errand.h"

static void push(struct worker *from, unsigned to, struct errand_leg *leg)
{
    if (mailbox_push(&from->server->workers[to]->errands, &leg->post, &leg->post))
        from->wake |= 1ull << to;
}

void worker_errand_start(struct worker *w, struct errand *e)
{
    const unsigned count = w->server->worker_count;
    e->asker = w->index;
    atomic_init(&e->left, count);
    for (unsigned i = 0; i <= count; i++) e->legs[i].errand = e;
    for (unsigned i = 0; i < count; i++) push(w, i, &e->legs[i]);
}

static bool is_back(const struct worker *w, const struct errand_leg *leg)
{
    return leg == &leg->errand->legs[w->server->worker_count];
}

static bool was_last(struct errand *e)
{
    return atomic_fetch_sub_explicit(&e->left, 1, memory_order_acq_rel) == 1;
}

void worker_errands(struct worker *w, struct post *oldest)
{
    for (struct post *p = oldest, *next; p; p = next) {
        struct errand_leg *leg = (struct errand_leg *)(void *)p;
        struct errand *e = leg->errand;
        next = p->next; /* the errand may be gone once it is done */
        if (is_back(w, leg)) {
            e->done(w, e);
            continue;
        }
        e->run(w, e);
        if (was_last(e)) push(w, e->asker, &e->legs[w->server->worker_count]);
    }
}

void worker_errands_abandon(struct worker *w)
{
    for (struct post *p = mailbox_take(&w->errands), *next; p; p = next) {
        struct errand_leg *leg = (struct errand_leg *)(void *)p;
        next = p->next;
        if (is_back(w, leg) || was_last(leg->errand)) leg->errand->done(NULL, leg->errand);
    }
}
