#include "privileges.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_MAX_BYTES 64

/* ---- looking up ---- */

/* number reads an id; (uid_t)-1 is no id, but "leave it" to setresuid. */
static bool number(const char *text, uint32_t *out)
{
    char *end;
    errno = 0;
    const unsigned long long n = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || n >= UINT32_MAX) return false;
    *out = (uint32_t)n;
    return true;
}

/* find_user fills uid, gid and name, by a name or a number. */
static bool find_user(struct privileges *p, const char *text, char name[static NAME_MAX_BYTES])
{
    uint32_t id = 0;
    const bool by_number = number(text, &id);
    FILE *f = fopen("/etc/passwd", "re");
    bool found = false;
    for (const struct passwd *u; f && !found && (u = fgetpwent(f));) {
        found = by_number ? u->pw_uid == id : strcmp(u->pw_name, text) == 0;
        if (!found) continue;
        p->uid = u->pw_uid;
        p->gid = u->pw_gid;
        snprintf(name, NAME_MAX_BYTES, "%s", u->pw_name);
    }
    if (f) fclose(f);
    if (found || !by_number) return found;
    p->uid = p->gid = id;
    *name = 0;
    return true;
}

static bool find_group(struct privileges *p, const char *text)
{
    uint32_t id;
    if (number(text, &id)) {
        p->gid = id;
        return true;
    }
    FILE *f = fopen("/etc/group", "re");
    bool found = false;
    for (const struct group *g; f && !found && (g = fgetgrent(f));) {
        found = strcmp(g->gr_name, text) == 0;
        if (found) p->gid = g->gr_gid;
    }
    if (f) fclose(f);
    return found;
}

static bool has_member(const struct group *g, const char *name)
{
    for (char **m = g->gr_mem; *m; m++)
        if (strcmp(*m, name) == 0) return true;
    return false;
}

static void add_groups_of(struct privileges *p, const char *name)
{
    FILE *f = fopen("/etc/group", "re");
    for (const struct group *g; f && *name && (g = fgetgrent(f));)
        if (g->gr_gid != p->gid && has_member(g, name) && p->group_count < PRIVILEGES_GROUPS_MAX)
            p->groups[p->group_count++] = g->gr_gid;
    if (f) fclose(f);
}

static int fail(char *err, size_t err_len, const char *what, const char *why)
{
    snprintf(err, err_len, "%s: %s", what, why);
    return -1;
}

int privileges_find(struct privileges *p, const char *text, char *err, size_t err_len)
{
    char user[NAME_MAX_BYTES], name[NAME_MAX_BYTES];
    const char *colon = strchr(text, ':');
    const size_t len = colon ? (size_t)(colon - text) : strlen(text);
    *p = (struct privileges){0};
    if (len >= sizeof user) return fail(err, err_len, text, "no such user");
    memcpy(user, text, len);
    user[len] = 0;
    if (!find_user(p, user, name)) return fail(err, err_len, text, "no such user");
    if (colon && !find_group(p, colon + 1)) return fail(err, err_len, text, "no such group");
    if (geteuid() != 0)
        return fail(err, err_len, text,
                    "only root can become another user: leave it out, or start as root");
    if (p->uid == 0) return fail(err, err_len, text, "this is root");
    p->groups[p->group_count++] = p->gid;
    if (!colon) add_groups_of(p, name);
    return 0;
}

/* ---- becoming ---- */

int privileges_own(const struct privileges *p, int fd)
{
    struct stat st;
    if (fstat(fd, &st) == -1) return -1;
    if (!S_ISREG(st.st_mode) || st.st_nlink != 1) {
        errno = EPERM;
        return -1;
    }
    return fchown(fd, p->uid, p->gid);
}

int privileges_own_path(const struct privileges *p, const char *path)
{
    struct stat st;
    int result = -1;
    const int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd == -1) return -1;
    if (fstat(fd, &st) == 0) {
        errno = EPERM;
        if (S_ISSOCK(st.st_mode) && st.st_nlink == 1)
            result = fchownat(fd, "", p->uid, p->gid, AT_EMPTY_PATH);
    }
    const int e = errno;
    close(fd);
    errno = e;
    return result;
}

/* is_final: are all ids the user's, and is root out of reach? */
static bool is_final(const struct privileges *p)
{
    uid_t r, e, s;
    gid_t gr, ge, gs;
    if (getresuid(&r, &e, &s) == -1 || getresgid(&gr, &ge, &gs) == -1) return false;
    return r == p->uid && e == p->uid && s == p->uid && gr == p->gid && ge == p->gid &&
           gs == p->gid && setresuid((uid_t)-1, 0, (uid_t)-1) == -1 &&
           (p->gid == 0 || setresgid((gid_t)-1, 0, (gid_t)-1) == -1);
}

int privileges_drop(const struct privileges *p, char *err, size_t err_len)
{
    if (setgroups(p->group_count, p->groups) == -1)
        return fail(err, err_len, "setgroups", strerror(errno));
    if (setresgid(p->gid, p->gid, p->gid) == -1)
        return fail(err, err_len, "setresgid", strerror(errno));
    if (setresuid(p->uid, p->uid, p->uid) == -1)
        return fail(err, err_len, "setresuid", strerror(errno));
    if (!is_final(p)) return fail(err, err_len, "setresuid", "root can be had again");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1)
        return fail(err, err_len, "prctl", strerror(errno));
    return 0;
}
