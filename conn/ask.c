/* What the kernel says of a worker's sockets, about once a second: how many wait at each listener,
 * and how a bounded sample of the open connections does, another one each time. A worker asks for
 * itself and leaves the answers in relaxed cells: so /metrics is served even while a worker hangs,
 * which an errand to all of them would wait for. Cost: some 64 system calls a second. */
#include "conn.h"
#include "kernel.h"

#define LOOKS_MAX (4 * KERNEL_SAMPLES) /* connections passed that are not open, or not TCP */

static void set(_Atomic uint32_t *cell, uint32_t n)
{
    atomic_store_explicit(cell, n, memory_order_relaxed);
}

static void ask_listeners(struct worker *w)
{
    for (unsigned i = 0; i < w->listener_count; i++) {
        uint32_t queue = 0, max = 0;
        if (w->listeners[i].fd != -1 && kernel_ask_listener(w->listeners[i].fd, &queue, &max) &&
            w->listeners[i].shared && w->index)
            queue = max = 0; /* all workers ask the same socket: the first one tells */
        set(&w->sockets.accept_queue[i], queue);
        set(&w->sockets.accept_max[i], max);
    }
}

static void ask_connections(struct worker *w)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->conns.count && i < LOOKS_MAX && n < KERNEL_SAMPLES; i++) {
        uint32_t rtt_us, unsent_bytes;
        if (w->asked >= w->conns.count) w->asked = 0;
        const struct conn *c = w->conns.items[w->asked++];
        if (c->state != CONN_OPEN || !kernel_ask_connection(c->fd, &rtt_us, &unsent_bytes))
            continue;
        set(&w->sockets.rtt_us[n], rtt_us);
        set(&w->sockets.unsent_bytes[n], unsent_bytes);
        n++;
    }
    set(&w->sockets.count, n);
}

void conn_ask_kernel(struct worker *w)
{
    ask_listeners(w);
    ask_connections(w);
}
