/* privileges.h - a process that root has started goes on as another user, for good
 * (capabilities(7), credentials(7)).
 *
 * Users and groups are looked up in /etc/passwd and /etc/group, not by NSS, which a static binary
 * does not have; or given as numbers. Main thread, before other threads start. */
#ifndef PRIVILEGES_H
#define PRIVILEGES_H

#include <stddef.h>
#include <sys/types.h>

#define PRIVILEGES_GROUPS_MAX 64

struct privileges {
    uid_t uid;
    gid_t gid;
    gid_t groups[PRIVILEGES_GROUPS_MAX]; /* supplementary ones, gid first; more are left out */
    size_t group_count;
};

/* privileges_find reads NAME, NAME:GROUP or numbers (a number alone is also the group's, unless
 * /etc/passwd knows it). With a GROUP the user has that one alone, else those of /etc/group as
 * well. 0, or -1 with one line in err: also when we are not root, so that a server fails before it
 * has done anything. */
int privileges_find(struct privileges *p, const char *text, char *err, size_t err_len);

/* privileges_own gives the file of an open descriptor to the user; one that has other names (hard
 * links) is left alone. privileges_own_path does the same for a Unix socket's file and for nothing
 * else that somebody may have put there meanwhile. 0 or -1 with errno. */
int privileges_own(const struct privileges *p, int fd);
int privileges_own_path(const struct privileges *p, const char *path);

/* privileges_drop becomes that user and makes sure that there is no way back; no program that is
 * run from here on gets more (PR_SET_NO_NEW_PRIVS), and nobody but root may look into our memory
 * (PR_SET_DUMPABLE). 0, or -1 with one line in err: then the process must end. */
int privileges_drop(const struct privileges *p, char *err, size_t err_len);

#endif
