/* dial_queue.h - bytes that wait for a socket. dial.c only. Zeroed memory is an empty queue. */
#ifndef DIAL_QUEUE_H
#define DIAL_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_KEEP_BYTES 4096 /* a queue that runs empty keeps this much */

struct queue { /* bytes [at, len) of p are waiting */
    uint8_t *p;
    size_t at, len, cap;
};

static inline uint8_t *queue_room(struct queue *q, size_t len)
{
    if (q->at == q->len) q->at = q->len = 0;
    if (q->cap - q->len < len && q->at) {
        memmove(q->p, q->p + q->at, q->len - q->at);
        q->len -= q->at;
        q->at = 0;
    }
    if (q->cap - q->len < len) {
        size_t cap = q->cap ? q->cap : 256;
        while (cap - q->len < len) cap *= 2;
        uint8_t *p = realloc(q->p, cap);
        if (!p) return NULL;
        q->p = p;
        q->cap = cap;
    }
    return q->p + q->len;
}

static inline bool queue_add(struct queue *q, const void *bytes, size_t len)
{
    if (len == 0) return true;
    uint8_t *to = queue_room(q, len);
    if (!to) return false;
    memcpy(to, bytes, len);
    q->len += len;
    return true;
}

static inline void queue_took(struct queue *q, size_t n)
{
    q->at += n;
    if (q->at < q->len) return;
    q->at = q->len = 0;
    if (q->cap > QUEUE_KEEP_BYTES) {
        free(q->p);
        memset(q, 0, sizeof *q);
    }
}

static inline void queue_drop(struct queue *q)
{
    free(q->p);
    memset(q, 0, sizeof *q);
}

static inline size_t queue_len(const struct queue *q)
{
    return q->len - q->at;
}

#endif
