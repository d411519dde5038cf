/* stream.h - the history of a channel: the last publications in a ring, numbered by offset
 * (protocol.md section 6.3).
 *
 * Offsets of what is kept are contiguous and end at top. top stays when the list is emptied. A
 * stream counts nothing and frees nothing: what falls out is handed back. One thread at a time (the
 * channel's lock). */
#ifndef STREAM_H
#define STREAM_H

#include <stdint.h>

struct stream {
    uint64_t top; /* offset of the newest publication ever; 0 = there was none */
    void **ring;  /* cap places; the oldest at head */
    uint32_t cap, head, count;
};

/* stream_push makes item the publication top + 1 and keeps at most max (>= 1). *evicted is the item
 * that fell out, or NULL. 0, or -1 when memory is out and nothing was changed. */
int stream_push(struct stream *s, void *item, uint32_t max, void **evicted);

/* stream_oldest: offset of the oldest item kept, top + 1 if none is. stream_get: the item of an
 * offset, NULL if it is not kept. */
static inline uint64_t stream_oldest(const struct stream *s)
{
    return s->top - s->count + 1;
}
void *stream_get(const struct stream *s, uint64_t offset);

/* stream_pop takes the oldest item out, NULL if there is none. stream_move moves all items, in
 * O(1), to another stream that has no ring; top stays. stream_free frees the ring, which must be
 * empty. */
void *stream_pop(struct stream *s);
void stream_move(struct stream *to, struct stream *from);
void stream_free(struct stream *s);

#endif
