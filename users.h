/* users.h - the subjects of a worker's connections, each name stored once and counted; and the
 * clients of each, so that a call that names a user finds them.
 *
 * A client's place is kept in conn.sub_index, which only raw connections use otherwise: 32 bytes a
 * client at most. Raw connections are not listed, since that would cost each of them more than its
 * budget has (design.md 3.1): who wants them looks through the worker's connections. Worker only.
 */
#ifndef USERS_H
#define USERS_H

#include <stdint.h>

#include "conn.h"

struct user {
    struct user *next; /* in its bucket */
    uint32_t refs;     /* connections */
    uint32_t first;    /* of its clients; USER_NONE = none */
    uint8_t len;
    char name[]; /* not terminated; may be empty: anonymous */
};
#define USER_NAME_MAX 255
#define USER_NONE UINT32_MAX

/* users_open makes w's table; 0 or -1 with errno. users_close frees it; no connection is left. */
int users_open(struct worker *w);
void users_close(struct worker *w);

/* users_intern returns the user of that name (len <= USER_NAME_MAX) with one more holder, or NULL
 * with errno: ENOMEM; EINVAL, it is longer. */
struct user *users_intern(struct worker *w, const char *name, size_t len);
void users_release(struct worker *w, struct user *u); /* u may be NULL */

/* users_find returns the user of that name, not counted, or NULL: no connection here has it.
 * users_count: how many there are. */
struct user *users_find(struct worker *w, const char *name, size_t len);
uint32_t users_count(const struct worker *w);

/* users_join lists c among the clients of c->user; 0, or -1 when memory is out. users_leave takes
 * it out again. */
int users_join(struct conn *c);
void users_leave(struct conn *c);

/* users_each calls visit for each client of u; visit may make that client leave, and no other. */
void users_each(struct worker *w, const struct user *u, void (*visit)(struct conn *c, void *arg),
                void *arg);

/* users_visit calls visit for each user. */
void users_visit(struct worker *w, void (*visit)(const struct user *u, void *arg), void *arg);

#endif
