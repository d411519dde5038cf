#include "stream.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CAP 8

/* grow makes room for one more, up to max places, with the oldest at the front. */
static int grow(struct stream *s, uint32_t max)
{
    uint32_t cap = s->cap ? s->cap * 2 : FIRST_CAP;
    if (cap > max) cap = max;
    void **ring = malloc(cap * sizeof *ring);
    if (!ring) return -1;
    for (uint32_t i = 0; i < s->count; i++) ring[i] = s->ring[(s->head + i) % s->cap];
    free(s->ring);
    s->ring = ring;
    s->cap = cap;
    s->head = 0;
    return 0;
}

int stream_push(struct stream *s, void *item, uint32_t max, void **evicted)
{
    *evicted = NULL;
    if (s->count == s->cap && s->cap < max && grow(s, max) == -1) return -1;
    if (s->count >= max) *evicted = stream_pop(s);
    s->ring[(s->head + s->count) % s->cap] = item;
    s->count++;
    s->top++;
    return 0;
}

void *stream_get(const struct stream *s, uint64_t offset)
{
    uint64_t oldest = stream_oldest(s);
    if (offset < oldest || offset > s->top) return NULL;
    return s->ring[(s->head + (uint32_t)(offset - oldest)) % s->cap];
}

void *stream_pop(struct stream *s)
{
    if (!s->count) return NULL;
    void *item = s->ring[s->head];
    s->head = (s->head + 1) % s->cap;
    s->count--;
    return item;
}

void stream_move(struct stream *to, struct stream *from)
{
    *to = *from;
    from->ring = NULL;
    from->cap = from->head = from->count = 0;
}

void stream_free(struct stream *s)
{
    free(s->ring);
    s->ring = NULL;
    s->cap = s->head = s->count = 0;
}
