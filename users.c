#include "users.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "tls.h"

/* A client in the list of its user. Places are numbers, which stay good when the array grows, and
 * half as long as pointers. */
struct member {
    struct conn *conn;
    uint32_t next, prev; /* USER_NONE = none */
};

struct users {
    struct hash_key key;
    struct user **buckets;
    uint32_t bucket_count, count; /* a power of two; users */
    struct member *members;       /* dense */
    uint32_t member_count, member_cap;
};

#define FIRST_BUCKETS 64
#define FIRST_MEMBERS 64

int users_open(struct worker *w)
{
    struct users *t = calloc(1, sizeof *t);
    if (!t) return -1;
    t->buckets = mem_zalloc(w->pool, FIRST_BUCKETS * sizeof *t->buckets);
    if (!t->buckets) {
        free(t);
        return -1;
    }
    t->bucket_count = FIRST_BUCKETS;
    random_bytes(&t->key, sizeof t->key);
    w->users = t;
    return 0;
}

void users_close(struct worker *w)
{
    struct users *t = w->users;
    if (!t) return;
    mem_free(w->pool, t->buckets, t->bucket_count * sizeof *t->buckets);
    mem_free(w->pool, t->members, t->member_cap * sizeof *t->members);
    free(t);
    w->users = NULL;
}

/* size_for: what the name's bytes need behind the other fields, without the padding that the struct
 * has at its end: eight bytes less for a UUID. */
static size_t size_for(size_t len)
{
    return offsetof(struct user, name) + len;
}

static struct user **bucket_of(struct users *t, const char *name, size_t len)
{
    return &t->buckets[hash_bytes(&t->key, name, len) & (t->bucket_count - 1)];
}

/* resize keeps one user a bucket on average: grown when fuller, shrunk when a churn has gone. A
 * failure leaves it as it is. */
static void resize(struct worker *w, struct users *t, uint32_t bucket_count)
{
    struct user **old = t->buckets;
    uint32_t old_count = t->bucket_count;
    struct user **buckets = mem_zalloc(w->pool, bucket_count * sizeof *buckets);
    if (!buckets) return;
    t->buckets = buckets;
    t->bucket_count = bucket_count;
    for (uint32_t i = 0; i < old_count; i++) {
        for (struct user *u = old[i], *next; u; u = next) {
            next = u->next;
            struct user **b = bucket_of(t, u->name, u->len);
            u->next = *b;
            *b = u;
        }
    }
    mem_free(w->pool, old, old_count * sizeof *old);
}

struct user *users_find(struct worker *w, const char *name, size_t len)
{
    struct user *u = *bucket_of(w->users, name, len);
    while (u && !(u->len == len && (!len || memcmp(u->name, name, len) == 0))) u = u->next;
    return u;
}

uint32_t users_count(const struct worker *w)
{
    const struct users *t = w->users;
    return t->count;
}

struct user *users_intern(struct worker *w, const char *name, size_t len)
{
    struct users *t = w->users;
    if (len > USER_NAME_MAX) {
        errno = EINVAL;
        return NULL;
    }
    struct user *u = users_find(w, name, len);
    if (u) {
        u->refs++;
        return u;
    }
    u = mem_alloc(w->pool, size_for(len));
    if (!u) {
        errno = ENOMEM;
        return NULL;
    }
    if (t->count >= t->bucket_count) resize(w, t, t->bucket_count * 2);
    u->refs = 1;
    u->first = USER_NONE;
    u->len = (uint8_t)len;
    if (len) memcpy(u->name, name, len);
    struct user **b = bucket_of(t, name, len);
    u->next = *b;
    *b = u;
    t->count++;
    return u;
}

void users_release(struct worker *w, struct user *u)
{
    if (!u || --u->refs) return;
    struct users *t = w->users;
    struct user **at = bucket_of(t, u->name, u->len);
    while (*at != u) at = &(*at)->next;
    *at = u->next;
    t->count--;
    mem_free(w->pool, u, size_for(u->len));
    if (t->bucket_count > FIRST_BUCKETS && t->count < t->bucket_count / 8)
        resize(w, t, t->bucket_count / 4);
}

/* ---- a user's clients ---- */

static bool resize_members(struct worker *w, struct users *t, uint32_t cap)
{
    struct member *other = mem_alloc(w->pool, cap * sizeof *other);
    if (!other) return false;
    if (t->member_count) memcpy(other, t->members, t->member_count * sizeof *other);
    mem_free(w->pool, t->members, t->member_cap * sizeof *other);
    t->members = other;
    t->member_cap = cap;
    return true;
}

/* link_in makes i the neighbour of what its member says are its neighbours. */
static void link_in(struct users *t, uint32_t i)
{
    const struct member *m = &t->members[i];
    if (m->prev == USER_NONE)
        m->conn->user->first = i;
    else
        t->members[m->prev].next = i;
    if (m->next != USER_NONE) t->members[m->next].prev = i;
}

int users_join(struct conn *c)
{
    struct users *t = c->worker->users;
    if (t->member_count == t->member_cap &&
        !resize_members(c->worker, t, t->member_cap ? t->member_cap * 2 : FIRST_MEMBERS))
        return -1;
    c->sub_index = t->member_count++;
    t->members[c->sub_index] =
        (struct member){.conn = c, .next = c->user->first, .prev = USER_NONE};
    link_in(t, c->sub_index);
    return 0;
}

void users_leave(struct conn *c)
{
    struct users *t = c->worker->users;
    const uint32_t hole = c->sub_index, last = --t->member_count;
    const struct member gone = t->members[hole];
    if (gone.prev == USER_NONE)
        c->user->first = gone.next;
    else
        t->members[gone.prev].next = gone.next;
    if (gone.next != USER_NONE) t->members[gone.next].prev = gone.prev;
    if (hole != last) {
        t->members[hole] = t->members[last];
        t->members[hole].conn->sub_index = hole;
        link_in(t, hole);
    }
    c->sub_index = USER_NONE;
    if (t->member_cap > FIRST_MEMBERS && t->member_count < t->member_cap / 4)
        (void)resize_members(c->worker, t, t->member_cap / 2);
}

void users_each(struct worker *w, const struct user *u, void (*visit)(struct conn *c, void *arg),
                void *arg)
{
    const struct users *t = w->users;
    for (uint32_t i = u->first, next; i != USER_NONE; i = next) {
        struct conn *c = t->members[i].conn;
        const uint32_t last = t->member_count - 1;
        next = t->members[i].next;
        visit(c, arg);
        if (c->sub_index == USER_NONE && next == last) next = i; /* it has moved into the hole */
    }
}

void users_visit(struct worker *w, void (*visit)(const struct user *u, void *arg), void *arg)
{
    const struct users *t = w->users;
    for (uint32_t i = 0; i < t->bucket_count; i++)
        for (const struct user *u = t->buckets[i]; u; u = u->next) visit(u, arg);
}
