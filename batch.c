#include "batch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What is relied on, beside the manual page:
 * - A completion comes for failures and short sends alone (IOSQE_CQE_SKIP_SUCCESS): so the usual
 * case costs nothing but its entry.
 * - Of a full socket both flags are needed: without MSG_WAITALL a short send counts as a success,
 * and says nothing; without MSG_DONTWAIT the kernel would go on with it later, out of memory that
 * may be somebody else's by then.
 * - With both, nothing is ever put off: what is submitted is done when the call returns.
 * The system calls are made here and not by liburing, since a ring that is filled, submitted and
 * read by one thread in one call needs nothing of what that library is good at. */

struct batch {
    int fd;
    unsigned count;
    /* the kernel's rings, mapped */
    void *map;
    size_t map_len;
    struct io_uring_sqe *sqes;
    size_t sqes_len;
    _Atomic unsigned *sq_tail, *cq_head, *cq_tail;
    unsigned *sq_array;
    unsigned sq_mask, cq_mask;
    const struct io_uring_cqe *cqes;
    unsigned tail; /* of the submission ring, as we have it */
    uint32_t len[BATCH_MAX];
};

static _Atomic bool forbidden;

void batch_forbid(bool f)
{
    atomic_store(&forbidden, f);
}

static int set_up(struct io_uring_params *p)
{
    if (atomic_load(&forbidden)) {
        errno = EPERM;
        return -1;
    }
    return (int)syscall(SYS_io_uring_setup, BATCH_MAX, p);
}

static int enter(const struct batch *b, unsigned submit)
{
    return (int)syscall(SYS_io_uring_enter, b->fd, submit, 0, IORING_ENTER_GETEVENTS, NULL, 0);
}

/* map_rings: both rings are in one map (IORING_FEAT_SINGLE_MMAP), the entries in another. */
static bool map_rings(struct batch *b, const struct io_uring_params *p)
{
    const size_t sq = p->sq_off.array + p->sq_entries * sizeof(unsigned);
    const size_t cq = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    const int prot = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_POPULATE;
    b->map_len = sq > cq ? sq : cq;
    b->map = mmap(NULL, b->map_len, prot, flags, b->fd, IORING_OFF_SQ_RING);
    b->sqes_len = p->sq_entries * sizeof(struct io_uring_sqe);
    b->sqes = mmap(NULL, b->sqes_len, prot, flags, b->fd, IORING_OFF_SQES);
    if (b->map == MAP_FAILED || (void *)b->sqes == MAP_FAILED) return false;
    char *at = b->map;
    b->sq_tail = (void *)(at + p->sq_off.tail);
    b->sq_array = (void *)(at + p->sq_off.array);
    b->sq_mask = *(unsigned *)(void *)(at + p->sq_off.ring_mask);
    b->cq_head = (void *)(at + p->cq_off.head);
    b->cq_tail = (void *)(at + p->cq_off.tail);
    b->cq_mask = *(unsigned *)(void *)(at + p->cq_off.ring_mask);
    b->cqes = (void *)(at + p->cq_off.cqes);
    return true;
}

static const char *reason(int error)
{
    switch (error) {
    case EPERM:
    case EACCES: return "io_uring is forbidden here (seccomp, kernel.io_uring_disabled)";
    case ENOSYS: return "this kernel has no io_uring";
    case EINVAL: return "this kernel's io_uring is too old: it takes Linux 6.1";
    case EMFILE:
    case ENFILE: return "no descriptor is left";
    default: return "no memory for io_uring";
    }
}

struct batch *batch_new(const char **why)
{
    struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    const unsigned needs = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_CQE_SKIP;
    struct batch *b = calloc(1, sizeof *b);
    if (b) {
        b->map = b->sqes = MAP_FAILED;
        b->fd = set_up(&p);
        if (b->fd != -1 && (p.features & needs) == needs && map_rings(b, &p)) return b;
        if (b->fd != -1 && (p.features & needs) != needs) errno = EINVAL;
    }
    const int error = errno;
    *why = reason(error);
    batch_delete(b);
    errno = error;
    return NULL;
}

void batch_delete(struct batch *b)
{
    if (!b) return;
    if (b->map != MAP_FAILED) munmap(b->map, b->map_len);
    if ((void *)b->sqes != MAP_FAILED) munmap(b->sqes, b->sqes_len);
    if (b->fd != -1) close(b->fd);
    free(b);
}

unsigned batch_count(const struct batch *b)
{
    return b->count;
}

unsigned batch_add(struct batch *b, int fd, const void *bytes, uint32_t len)
{
    const unsigned at = b->tail & b->sq_mask, number = b->count++;
    struct io_uring_sqe *e = &b->sqes[at];
    memset(e, 0, sizeof *e);
    e->opcode = IORING_OP_SEND;
    e->flags = IOSQE_CQE_SKIP_SUCCESS;
    e->fd = fd;
    e->addr = (uintptr_t)bytes;
    e->len = len;
    e->msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL;
    e->user_data = number;
    b->sq_array[at] = at;
    b->len[number] = len;
    b->tail++;
    return number;
}

/* take_completions notes what did not go as asked. */
static void take_completions(struct batch *b, int32_t *done)
{
    unsigned head = atomic_load_explicit(b->cq_head, memory_order_relaxed);
    const unsigned tail = atomic_load_explicit(b->cq_tail, memory_order_acquire);
    for (; head != tail; head++) {
        const struct io_uring_cqe *c = &b->cqes[head & b->cq_mask];
        if (c->user_data < BATCH_MAX) done[c->user_data] = c->res;
    }
    atomic_store_explicit(b->cq_head, head, memory_order_release);
}

bool batch_submit(struct batch *b, int32_t done[static BATCH_MAX])
{
    unsigned left = b->count;
    for (unsigned i = 0; i < b->count; i++) done[i] = (int32_t)b->len[i];
    atomic_store_explicit(b->sq_tail, b->tail, memory_order_release);
    while (left) {
        const int n = enter(b, left);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        left -= (unsigned)n;
        take_completions(b, done);
    }
    for (unsigned i = b->count - left; i < b->count; i++) done[i] = BATCH_NOT_DONE;
    b->count = 0;
    return left == 0;
}

/* ---- what is relied on ---- */

/* try_sends: a socket that takes all, one that is full in the middle, one whose peer is gone. */
static bool try_sends(struct batch *b, const int whole[2], const int small[2], const int gone[2])
{
    enum { LARGE = 4 << 20 };
    static const char little[100];
    int32_t done[BATCH_MAX];
    char *large = calloc(1, LARGE);
    if (!large) return false;
    batch_add(b, whole[0], little, sizeof little);
    batch_add(b, small[0], large, LARGE);
    batch_add(b, gone[0], little, sizeof little);
    batch_add(b, small[0], little, sizeof little);
    batch_add(b, whole[0], little, sizeof little);
    const bool submitted = batch_submit(b, done);
    free(large);
    return submitted && done[0] == sizeof little && done[1] > 0 && done[1] < LARGE &&
           done[2] == -EPIPE && done[3] == -EAGAIN && done[4] == sizeof little;
}

static bool open_pair(int fds[2])
{
    fds[0] = fds[1] = -1;
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0;
}

static void close_pair(const int fds[2])
{
    if (fds[0] != -1) close(fds[0]);
    if (fds[1] != -1) close(fds[1]);
}

bool batch_works(const char **why)
{
    int whole[2], small[2], gone[2];
    struct batch *b = batch_new(why);
    if (!b) return false;
    *why = "no descriptor is left";
    bool works = true;
    works = open_pair(whole) && works; /* each of them: close_pair comes for all */
    works = open_pair(small) && works;
    works = open_pair(gone) && works;
    if (works) {
        close(gone[1]);
        gone[1] = -1;
        *why = "this kernel's io_uring does not answer as it should";
        works = try_sends(b, whole, small, gone);
    }
    close_pair(whole);
    close_pair(small);
    close_pair(gone);
    batch_delete(b);
    return works;
}
