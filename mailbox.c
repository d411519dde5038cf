#include "mailbox.h"

#include <stddef.h>

/* A Treiber stack that is only ever pushed to and taken whole, so a node cannot come back while
 * a push holds its address (no ABA). The owner turns the stack round: two steps a post, on
 * lines that it is about to read anyway. An array queue was rejected: it needs a size. */

void mailbox_init(struct mailbox *box, uint64_t max_bytes)
{
    atomic_init(&box->newest, NULL);
    atomic_init(&box->queued_bytes, 0);
    box->max_bytes = max_bytes;
}

bool mailbox_push(struct mailbox *box, struct post *newest, struct post *oldest)
{
    struct post *head = atomic_load_explicit(&box->newest, memory_order_relaxed);
    do {
        oldest->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&box->newest, &head, newest,
                                                    memory_order_release, memory_order_relaxed));
    return !head;
}

struct post *mailbox_take(struct mailbox *box)
{
    /* An empty box is the common case of a turn, and a load leaves its line shared. */
    if (!atomic_load_explicit(&box->newest, memory_order_relaxed)) return NULL;
    struct post *p = atomic_exchange_explicit(&box->newest, NULL, memory_order_acquire);
    struct post *oldest = NULL;
    while (p) {
        struct post *next = p->next;
        p->next = oldest;
        oldest = p;
        p = next;
    }
    return oldest;
}

bool mailbox_charge(struct mailbox *box, uint64_t bytes)
{
    /* Compare and swap instead of add and take back, so that a refused post never makes another
     * one, which would have fitted, be refused too. */
    uint64_t queued = atomic_load_explicit(&box->queued_bytes, memory_order_relaxed);
    do {
        bool full = box->max_bytes && queued &&
                    (queued >= box->max_bytes || bytes > box->max_bytes - queued);
        if (full) return false;
    } while (!atomic_compare_exchange_weak_explicit(&box->queued_bytes, &queued, queued + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

void mailbox_credit(struct mailbox *box, uint64_t bytes)
{
    atomic_fetch_sub_explicit(&box->queued_bytes, bytes, memory_order_relaxed);
}
