/* list.h - intrusive doubly linked list, circular, with the list itself as sentinel.
 *
 * No allocation: the node lives in its object. Any thread, but one at a time. */
#ifndef LIST_H
#define LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

/* list_entry gives the object of which node is the member named. */
#define list_entry(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

/* list_push_back puts node, which must be in no list, at the end of l. */
static inline void list_push_back(struct list *l, struct list *node)
{
    node->prev = l->prev;
    node->next = l;
    l->prev->next = node;
    l->prev = node;
}

/* list_push_front puts node, which must be in no list, at the beginning of l. */
static inline void list_push_front(struct list *l, struct list *node)
{
    list_push_back(l->next, node);
}

/* list_remove takes node out of its list and leaves it as a list of its own, so that
 * removing twice is harmless. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

/* list_splice moves every node of from to the end of l; from is empty afterwards. */
static inline void list_splice(struct list *l, struct list *from)
{
    if (list_empty(from)) return;
    from->next->prev = l->prev;
    l->prev->next = from->next;
    from->prev->next = l;
    l->prev = from->prev;
    list_init(from);
}

#endif
