/* outq.h - what a connection still has to send: counted frames, in order.
 *
 * An idle connection has none (NULL); one is made at the first push and freed when everything is
 * sent. An entry may be a run of several messages of which a connection is sent a tail. Over TLS, a
 * record that the socket took only in part is kept as ciphertext in front of the queue, since it
 * can not be sealed again.
 * Worker only (the connection's). Frames are counted; a queue holds one reference per entry. */
#ifndef OUTQ_H
#define OUTQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "frame.h"

enum out_kind {
    OUT_MESSAGE, /* a publication: the slow-consumer policies may drop it while no byte of it is
                    sent */
    OUT_REPLY,   /* never dropped */
    OUT_PONG,
};

struct out_entry { /* 16 bytes */
    struct frame *frame;
    uint32_t from;     /* first byte of frame to send */
    uint16_t messages; /* data messages from there on */
    uint16_t kind;     /* enum out_kind */
};

/* What a waiting entry costs in memory beside its bytes, about: the entry, with room to grow, and
 * the head of its frame. Caps compare what a queue costs (outq_cost), so that empty messages are
 * not free. */
#define OUT_ENTRY_COST 64u

#define OUTQ_NO_PLACE UINT32_MAX

struct out_queue {
    uint32_t bytes;            /* not yet taken by the socket, cipher included */
    uint32_t sent;             /* bytes of the first entry that are taken (or sealed) */
    uint32_t head, count, cap; /* entries[head .. head + count) */
    uint32_t pong;             /* entries[pong] is the last waiting pong; UINT32_MAX = none */
    uint32_t cipher_at;        /* bytes of cipher that are taken */
    uint32_t place;            /* conn/shed.c: in worker.waiting; OUTQ_NO_PLACE = it is not there */
    uint32_t counted, kernel;  /* conn/shed.c: its cost when last counted; bytes that its socket had
                                  not sent when last asked */
    struct frame *cipher;      /* the rest of a TLS record, or NULL */
    struct out_entry entries[];
};

/* outq_push appends and takes over the entry's reference. Returns false when memory is out (the
 * reference is dropped). */
bool outq_push(struct mem_pool *pool, struct out_queue **q, struct out_entry e);

/* outq_iov describes the bytes to send, up to max pieces and max_bytes; returns how many pieces.
 * Not with cipher. */
unsigned outq_iov(const struct out_queue *q, struct iovec *iov, unsigned max, size_t max_bytes);

/* outq_sent marks n bytes of the entries as taken and drops what is done. It does not free an empty
 * queue. */
void outq_sent(struct out_queue *q, size_t n);

/* outq_drop drops publications of which no byte is sent: the oldest until the queue costs at most
 * max_cost, or all. What is not dropped keeps its order. A call takes as many steps as it drops
 * entries, about: where it has to step over many that are no publications, it drops some more.
 * Returns how many messages were dropped. */
uint32_t outq_drop_oldest(struct out_queue *q, uint64_t max_cost);
uint32_t outq_drop_all(struct out_queue *q);

/* outq_clear drops publications and pongs of which no byte is sent; replies stay. Returns how many
 * messages were dropped. */
uint32_t outq_clear(struct out_queue *q);

/* outq_cut drops everything of which no byte is sent, replies too. Returns how many messages were
 * dropped. */
uint32_t outq_cut(struct out_queue *q);

/* outq_replace_pong puts f in the place of the last pong that still waits; false if there is none
 * (f is left to the caller). */
bool outq_replace_pong(struct out_queue *q, struct frame *f);

/* outq_add_cipher keeps sealed bytes that the socket did not take, behind those kept already:
 * copied. False when memory is out: the stream has a hole, the connection is lost. outq_cipher_sent
 * marks n of them as taken. */
bool outq_add_cipher(struct mem_pool *pool, struct out_queue **q, const uint8_t *bytes,
                     uint32_t len);
void outq_cipher_sent(struct out_queue *q, uint32_t n);

static inline bool outq_empty(const struct out_queue *q)
{
    return !q || (q->count == 0 && !q->cipher);
}

static inline uint32_t outq_bytes(const struct out_queue *q)
{
    return q ? q->bytes : 0;
}

static inline uint64_t outq_cost(const struct out_queue *q)
{
    return q ? q->bytes + (uint64_t)q->count * OUT_ENTRY_COST : 0;
}

void outq_free(struct mem_pool *pool, struct out_queue **q);

#endif
