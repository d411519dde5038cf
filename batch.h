/* batch.h - many sends by one system call, through io_uring.
 *
 * A fan-out sends the same bytes to thousands of sockets; each send() is a system call. A batch
 * hands some hundred of them to the kernel at once, which does them one after the other before it
 * returns: non-blocking, in order, nothing is under way afterwards. So bytes and descriptors need
 * to stay only until batch_submit is back. epoll stays the reactor.
 *
 * Kernels before 6.1, and containers that forbid io_uring, have no batches: batch_new says so, and
 * plain sends are the equal second way.
 * Threads: a batch belongs to the thread that makes it. */
#ifndef BATCH_H
#define BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BATCH_MAX 256u /* sends */

struct batch;

/* batch_new makes one. NULL: *why says why (static text), and errno. batch_delete: b may be NULL.
 */
struct batch *batch_new(const char **why);
void batch_delete(struct batch *b);

/* batch_add appends a send of len bytes to the stream socket fd, while batch_count is below
 * BATCH_MAX. Returns its number: 0, 1, 2 ... of this batch. */
unsigned batch_add(struct batch *b, int fd, const void *bytes, uint32_t len);
unsigned batch_count(const struct batch *b);

/* batch_submit does them and empties the batch. done[i] of batch_count numbers becomes what send()
 * would have returned of the i-th: bytes that the socket took, fewer than asked if it is full, or a
 * negative error number; BATCH_NOT_DONE: the kernel has not looked at it, it is to be sent by other
 * means. false: there are such, and this batch should not be used any more. */
#define BATCH_NOT_DONE INT32_MIN
bool batch_submit(struct batch *b, int32_t done[static BATCH_MAX]);

/* batch_works tries all that is relied on with sockets of its own: whole, short and failed sends.
 */
bool batch_works(const char **why);

/* batch_forbid makes batch_new fail as it does where io_uring is forbidden. The seam of tests. */
void batch_forbid(bool forbidden);

#endif
