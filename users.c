#include "users.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "tls.h"

struct users {
    struct hash_key key;
    struct user **buckets;
    uint32_t bucket_count, count; /* a power of two; users */
};

#define FIRST_BUCKETS 64

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
    free(t);
    w->users = NULL;
}

static size_t size_of(const struct user *u)
{
    return sizeof *u + u->len;
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

struct user *users_intern(struct worker *w, const char *name, size_t len)
{
    struct users *t = w->users;
    if (len > USER_NAME_MAX) {
        errno = EINVAL;
        return NULL;
    }
    for (struct user *u = *bucket_of(t, name, len); u; u = u->next) {
        if (u->len == len && (!len || memcmp(u->name, name, len) == 0)) {
            u->refs++;
            return u;
        }
    }
    struct user *u = mem_alloc(w->pool, sizeof *u + len);
    if (!u) return NULL;
    if (t->count >= t->bucket_count) resize(w, t, t->bucket_count * 2);
    u->refs = 1;
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
    mem_free(w->pool, u, size_of(u));
    if (t->bucket_count > FIRST_BUCKETS && t->count < t->bucket_count / 8)
        resize(w, t, t->bucket_count / 4);
}
