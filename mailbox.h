/* mailbox.h - many workers post, one drains, one wake-up a batch.
 *
 * A post is an intrusive node of whatever the poster wants to hand over. Lock-free: a push is one
 * compare-and-swap, a drain one exchange.
 * Order: posts pushed by one thread, or under one lock, come out in the order they went in.
 * Threads: mailbox_push any; mailbox_take the owner. */
#ifndef MAILBOX_H
#define MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct post {
    struct post *next;
};

struct mailbox {
    _Alignas(64) _Atomic(struct post *) newest; /* release by the poster, acquire by the owner */
    _Alignas(64) _Atomic uint64_t queued_bytes; /* relaxed; what the bound is compared with */
    uint64_t max_bytes;                         /* bound; 0 = none */
};

void mailbox_init(struct mailbox *box, uint64_t max_bytes);

/* mailbox_push hands over a chain of posts linked from newest to oldest by next (a single post is
 * both). Returns true if the box was empty: then, and only then, wake the owner, once for the
 * chain. */
bool mailbox_push(struct mailbox *box, struct post *newest, struct post *oldest);

/* mailbox_take empties the box and returns the posts linked by next, oldest first, or NULL. */
struct post *mailbox_take(struct mailbox *box);

/* mailbox_charge books bytes before a push and returns false, booking nothing, if that would go
 * over max_bytes (an empty box admits one post of any size); mailbox_credit gives them back after
 * the drain. Any thread. */
bool mailbox_charge(struct mailbox *box, uint64_t bytes);
void mailbox_credit(struct mailbox *box, uint64_t bytes);

#endif
