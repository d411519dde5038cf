/* users.h - the subjects of a worker's connections, each name stored once and counted.
 *
 * Worker only. */
#ifndef USERS_H
#define USERS_H

#include <stdint.h>

#include "worker.h"

struct user {
    struct user *next; /* in its bucket */
    uint32_t refs;     /* connections */
    uint8_t len;
    char name[]; /* not terminated; may be empty: anonymous */
};
#define USER_NAME_MAX 255

/* users_open makes w's table; 0 or -1 with errno. users_close frees it; no connection is left. */
int users_open(struct worker *w);
void users_close(struct worker *w);

/* users_intern returns the user of that name (len <= USER_NAME_MAX) with one more holder, or NULL
 * when memory is out. */
struct user *users_intern(struct worker *w, const char *name, size_t len);
void users_release(struct worker *w, struct user *u); /* u may be NULL */

#endif
