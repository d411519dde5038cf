/* bare_uring - the ceiling of a fan-out by io_uring: bare_fanout, its sends in batches of 256.
 *
 * Completions are for failures only. MSG_DONTWAIT: the kernel is done with the bytes when
 * io_uring_enter returns. MSG_WAITALL: a short send is a failure, so that it is told. */
#include "bare.h"

#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BATCH 256u

static struct {
    int fd;
    uint32_t *sq_tail, *sq_mask, *cq_head, *cq_tail, *cq_mask;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
} ring;

static void *map(size_t len, off_t what)
{
    void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, what);
    return at == MAP_FAILED ? NULL : at;
}

/* The kernel's offsets are multiples of four. */
static uint32_t *word(void *base, uint32_t offset)
{
    return (uint32_t *)(void *)((char *)base + offset);
}

/* ring_open returns false, and errno says why. Both queues lie in one mapping (Linux 5.4). */
static bool ring_open(void)
{
    struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                         IORING_SETUP_SUBMIT_ALL};
    ring.fd = (int)syscall(SYS_io_uring_setup, BATCH, &p);
    if (ring.fd == -1) return false;
    size_t sq = p.sq_off.array + p.sq_entries * sizeof(uint32_t);
    size_t cq = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    void *queues = map(sq > cq ? sq : cq, IORING_OFF_SQ_RING);
    ring.sqes = map(p.sq_entries * sizeof *ring.sqes, IORING_OFF_SQES);
    if (!queues || !ring.sqes) return false;
    ring.sq_tail = word(queues, p.sq_off.tail);
    ring.sq_mask = word(queues, p.sq_off.ring_mask);
    ring.cq_head = word(queues, p.cq_off.head);
    ring.cq_tail = word(queues, p.cq_off.tail);
    ring.cq_mask = word(queues, p.cq_off.ring_mask);
    ring.cqes = (void *)word(queues, p.cq_off.cqes);
    for (uint32_t i = 0; i < p.sq_entries; i++) word(queues, p.sq_off.array)[i] = i;
    return true;
}

/* reap sends by send() what the batch for fds did not send: the rest after a short send, too. */
static void reap(const int *fds, const uint8_t *bytes, size_t len)
{
    uint32_t head = *ring.cq_head;
    for (; head != __atomic_load_n(ring.cq_tail, __ATOMIC_ACQUIRE); head++) {
        const struct io_uring_cqe *c = &ring.cqes[head & *ring.cq_mask];
        size_t sent = c->res > 0 ? (size_t)c->res : 0;
        bare_send_all(fds[c->user_data], bytes + sent, len - sent);
    }
    __atomic_store_n(ring.cq_head, head, __ATOMIC_RELEASE);
}

static void submit(unsigned count)
{
    long n = syscall(SYS_io_uring_enter, ring.fd, count, 0, IORING_ENTER_GETEVENTS, NULL, 0);
    if (n == (long)count) return;
    perror("io_uring_enter"); /* a ceiling that left sends out would be none */
    exit(1);
}

static void send_batch(const int *fds, unsigned count, const uint8_t *bytes, size_t len)
{
    uint32_t tail = *ring.sq_tail;
    for (unsigned i = 0; i < count; i++)
        ring.sqes[tail++ & *ring.sq_mask] = (struct io_uring_sqe){
            .opcode = IORING_OP_SEND,
            .flags = IOSQE_CQE_SKIP_SUCCESS,
            .fd = fds[i],
            .addr = (uintptr_t)bytes,
            .len = (uint32_t)len,
            .msg_flags = MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL,
            .user_data = i,
        };
    __atomic_store_n(ring.sq_tail, tail, __ATOMIC_RELEASE);
    submit(count);
    reap(fds, bytes, len);
}

static void send_to_all(const int *fds, size_t count, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < count; i += BATCH)
        send_batch(fds + i, count - i < BATCH ? (unsigned)(count - i) : BATCH, bytes, len);
}

int main(void)
{
    if (!ring_open()) {
        perror("io_uring");
        return 1;
    }
    return bare_fanout(send_to_all);
}
