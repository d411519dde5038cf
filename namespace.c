/* namespace.c - a channel's name, taken apart (protocol.md section 6.1).
 *
 * A namespace is found by going through the table: a configuration has a handful of them, and a
 * channel keeps what it found for as long as the table is used. */
#include "namespace.h"

#include <string.h>

#include "settings.h"

static const struct namespace_rules *rules(void)
{
    return settings_of(SETTINGS_NAMESPACES);
}

void namespace_init(const struct namespace_rules *r)
{
    settings_first.of[SETTINGS_NAMESPACES] = r;
}

/* ---- parts of a name ---- */

struct part {
    const char *p;
    size_t len;
};

bool namespace_is_private(const char *name, size_t len)
{
    size_t n = strlen(rules()->private_prefix);
    return n > 0 && len >= n && memcmp(name, rules()->private_prefix, n) == 0;
}

/* split gives the namespace, "" if there is none, and what is behind its boundary: all of the name
 * but the private prefix if there is none. */
static void split(const char *name, size_t len, struct part *space, struct part *rest)
{
    size_t skip = namespace_is_private(name, len) ? strlen(rules()->private_prefix) : 0;
    size_t n = strlen(rules()->namespace_boundary);
    *space = (struct part){name + skip, 0};
    *rest = (struct part){name + skip, len - skip};
    const char *at = n > 0 ? memmem(rest->p, rest->len, rules()->namespace_boundary, n) : NULL;
    if (!at) return;
    space->len = (size_t)(at - space->p);
    rest->p = at + n;
    rest->len -= space->len + n;
}

const struct channel_options *namespace_of(const char *name, size_t len)
{
    struct part space, rest;
    split(name, len, &space, &rest);
    for (size_t i = 0; i < rules()->count; i++) {
        const struct namespace_item *n = &rules()->items[i];
        if (strlen(n->name) == space.len && memcmp(n->name, space.p, space.len) == 0)
            return &n->options;
    }
    return rules()->any_namespace ? &rules()->items[0].options : NULL;
}

/* ---- what a name may look like ---- */

static bool is_ascii(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] >= 0x80) return false;
    return true;
}

#define REGEX_TEXT_MAX 1024 /* config.h: a channel's name has 255 bytes at most */

bool namespace_name_ok(const struct channel_options *o, const char *name, size_t len)
{
    char text[REGEX_TEXT_MAX];
    struct part space, rest;
    if (!o->has_regex) return is_ascii(name, len);
    split(name, len, &space, &rest);
    /* regexec sees a C string: what stands behind a NUL would pass unseen */
    if (rest.len >= sizeof text || memchr(name, 0, len)) return false;
    memcpy(text, rest.p, rest.len);
    text[rest.len] = 0;
    return regexec(&o->regex, text, 0, NULL, 0) == 0;
}

/* ---- channels of certain users ---- */

bool namespace_is_user_limited(const struct channel_options *o, const char *name, size_t len)
{
    size_t n = strlen(rules()->user_boundary);
    return o->user_limited_channels && n > 0 && memmem(name, len, rules()->user_boundary, n);
}

/* What stands behind the last user boundary; p is NULL if there is none. */
static struct part user_list(const char *name, size_t len)
{
    size_t n = strlen(rules()->user_boundary);
    struct part list = {NULL, 0};
    const char *end = name + len, *at = n > 0 ? memmem(name, len, rules()->user_boundary, n) : NULL;
    for (; at; at = memmem(list.p, list.len, rules()->user_boundary, n)) {
        list.p = at + n;
        list.len = (size_t)(end - list.p);
    }
    return list;
}

/* next_user takes the first user off the list; after the last one the list's p is NULL. */
static struct part next_user(struct part *list)
{
    size_t n = strlen(rules()->user_separator);
    struct part user = *list;
    const char *at = n > 0 ? memmem(list->p, list->len, rules()->user_separator, n) : NULL;
    if (!at) {
        list->p = NULL;
        return user;
    }
    user.len = (size_t)(at - user.p);
    list->p = at + n;
    list->len -= user.len + n;
    return user;
}

bool namespace_lists_user(const char *name, size_t len, const char *user, size_t user_len)
{
    struct part list = user_list(name, len);
    if (user_len == 0) return false; /* "dialog#" is nobody's, not that of everybody anonymous */
    while (list.p) {
        struct part one = next_user(&list);
        if (one.len == user_len && memcmp(one.p, user, user_len) == 0) return true;
    }
    return false;
}

size_t namespace_personal(char *out, size_t cap, const char *space, const char *user,
                          size_t user_len)
{
    const struct part parts[] = {
        {space, strlen(space)},
        {rules()->namespace_boundary, *space ? strlen(rules()->namespace_boundary) : 0},
        {rules()->user_boundary, strlen(rules()->user_boundary)},
        {user, user_len}};
    size_t len = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (parts[i].len > cap - len) return 0;
        memcpy(out + len, parts[i].p, parts[i].len);
        len += parts[i].len;
    }
    return len;
}
