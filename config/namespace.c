/* config/namespace.c - what channels may do: checks, and the table that namespace.c looks them up
 * in.
 *
 * struct config_namespace holds what is written, so that `roost check` can print it; what follows
 * from that, such as a compiled channel_regex, is in c->namespace_items only. */
#include "config/load.h"

#include "conn.h"

#include <stdlib.h>
#include <string.h>

/* ---- what to say, and of which option ---- */

#define WITHOUT_NAMESPACE ((size_t)-1) /* else an index of channel.namespaces */

/* wrong_in and warn_in report on an option of a namespace: "channel.namespaces[0].KEY TEXT". */
static void note_in(struct loader *l, bool is_error, size_t index, const char *key,
                    const char *text)
{
    char full[OPTION_NAME_MAX];
    if (index == WITHOUT_NAMESPACE) {
        snprintf(full, sizeof full, "channel.without_namespace.%s", key);
        loader_note(l, is_error, loader_origin(l, option_find(full))->place, "%s %s", full, text);
    } else {
        snprintf(full, sizeof full, "channel.namespaces[%zu].%s", index, key);
        loader_note(l, is_error, loader_origin(l, option_find("channel.namespaces"))->place,
                    "%s %s", full, text);
    }
}

static void wrong_in(struct loader *l, size_t index, const char *key, const char *text)
{
    note_in(l, true, index, key, text);
}

static void warn_in(struct loader *l, size_t index, const char *key, const char *text)
{
    note_in(l, false, index, key, text);
}

/* ---- one namespace ---- */

static void check_history(struct loader *l, const struct channel_options *o, size_t index)
{
    bool recovery = o->force_recovery || o->allow_recovery;
    if (o->history_size > 0 && o->history_ttl_ms == 0)
        wrong_in(l, index, "history_size", "needs history_ttl as well");
    if (o->history_ttl_ms > 0 && o->history_size == 0)
        wrong_in(l, index, "history_ttl", "needs history_size as well");
    if (o->history_ttl_ms > o->history_meta_ttl_ms)
        wrong_in(l, index, "history_ttl", "must not be longer than history_meta_ttl");
    if (o->force_recovery && !channel_has_history(o))
        wrong_in(l, index, "force_recovery", "needs history_size and history_ttl");
    if (o->slow_policy == SLOW_RECOVER && !(recovery && channel_has_history(o)))
        warn_in(l, index, "slow_policy",
                "is skip-and-recover, but without history and recovery what was skipped is lost");
}

static void compile_regex(struct loader *l, struct channel_options *o, const char *text,
                          size_t index)
{
    char why[VISIBLE_MAX], said[VISIBLE_MAX + 80];
    if (!*text) return;
    int code = regcomp(&o->regex, text, REG_EXTENDED | REG_NOSUB);
    o->has_regex = code == 0;
    if (o->has_regex) return;
    regerror(code, &o->regex, why, sizeof why);
    snprintf(said, sizeof said, "is no POSIX extended regular expression: %s", why);
    wrong_in(l, index, "channel_regex", said);
}

/* add_item makes a row of the table from what is written. */
static void add_item(struct loader *l, const struct config_namespace *n, size_t index)
{
    struct config *c = l->c;
    struct namespace_item *item = &c->namespace_items[c->namespace_item_count++];
    struct channel_options *o = &item->options;
    item->name = n->name ? n->name : "";
    *o = n->options;
    o->history_size = (uint32_t)n->history_size;
    if (o->history_meta_ttl_ms == 0) o->history_meta_ttl_ms = c->history_meta_ttl_ms;
    o->recovery_mode = n->recovery_mode == CONFIG_RECOVERY_CACHE ? RECOVERY_CACHE : RECOVERY_STREAM;
    compile_regex(l, o, n->channel_regex, index);
    check_history(l, o, index);
}

/* ---- names ---- */

static const struct origin *origin_of(struct loader *l, const char *key)
{
    return loader_origin(l, option_find(key));
}

/* protocol.md section 6.1: ^[-a-zA-Z0-9_.]{2,}$ */
static bool is_name(const char *name)
{
    static const char allowed[] =
        "-_.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t len = strlen(name);
    return len >= 2 && strspn(name, allowed) == len;
}

static const struct config_namespace *find(const struct config_namespaces *list, const char *name,
                                           size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(name, list->items[i].name) == 0) return &list->items[i];
    return NULL;
}

static void check_names(struct loader *l)
{
    static const char key[] = "channel.namespaces";
    const struct config_namespaces *list = &l->c->namespaces;
    const char *place = origin_of(l, key)->place;
    char shown[VISIBLE_MAX];
    for (size_t i = 0; i < list->count; i++) {
        const char *name = list->items[i].name;
        loader_visible(shown, name, strlen(name));
        if (!is_name(name))
            loader_note(l, true, place,
                        "%s[%zu].name is \"%s\": two or more letters, digits, - _ or .", key, i,
                        shown);
        if (find(list, name, i))
            loader_note(l, true, place, "%s: \"%s\" is there twice", key, shown);
    }
}

/* ---- the characters that mean something ---- */

static const struct {
    const char *key;
    size_t from, to; /* in struct config, in struct namespace_rules */
} marks[] = {
#define MARK(name)                                                                                 \
    {                                                                                              \
        "channel." #name, offsetof(struct config, name), offsetof(struct namespace_rules, name)    \
    }
    MARK(private_prefix), MARK(namespace_boundary), MARK(user_boundary), MARK(user_separator)};
#define MARK_MAX (sizeof(((struct namespace_rules *)0)->private_prefix) - 1)

static const char *mark(const struct config *c, size_t i)
{
    return *(char *const *)((const char *)c + marks[i].from);
}

static void check_marks(struct loader *l)
{
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (strlen(mark(l->c, i)) > MARK_MAX)
            loader_note(l, true, origin_of(l, marks[i].key)->place, "%s has more than %zu bytes",
                        marks[i].key, MARK_MAX);
}

/* ---- personal channels ---- */

#define PERSONAL "client.subscribe_to_user_personal_channel."

static const struct channel_options *personal_options(const struct config *c)
{
    if (!*c->personal_namespace) return &c->without_namespace.options;
    const struct config_namespace *n =
        find(&c->namespaces, c->personal_namespace, c->namespaces.count);
    return n ? &n->options : NULL;
}

static void warn_disabled(struct loader *l, const char *key)
{
    loader_note(l, false, origin_of(l, key)->place, "%s has no effect without " PERSONAL "enabled",
                key);
}

static void check_personal(struct loader *l)
{
    const struct config *c = l->c;
    const char *place = origin_of(l, PERSONAL "enabled")->place,
               *place_of_name = origin_of(l, PERSONAL "personal_channel_namespace")->place;
    const struct channel_options *o = personal_options(c);
    char shown[VISIBLE_MAX];
    if (!c->personal_channel) {
        if (*c->personal_namespace) warn_disabled(l, PERSONAL "personal_channel_namespace");
        if (c->single_connection) warn_disabled(l, PERSONAL "single_connection");
        return;
    }
    if (!*c->user_boundary)
        loader_note(l, true, place, PERSONAL "enabled needs channel.user_boundary");
    if (!o || (*c->personal_namespace && !*c->namespace_boundary))
        loader_note(l, true, place_of_name,
                    PERSONAL "personal_channel_namespace: there is no namespace \"%s\"",
                    loader_visible(shown, c->personal_namespace, strlen(c->personal_namespace)));
    else if (o->subscribe_for_client && !o->user_limited_channels)
        loader_note(l, false, place,
                    "clients may subscribe to personal channels of others: set "
                    "allow_user_limited_channels in their namespace");
}

/* ---- all of it ---- */

void config_check_namespaces(struct loader *l)
{
    struct config *c = l->c;
    config_forget_items(c);
    c->namespace_items =
        config_grow(NULL, 0, (c->namespaces.count + 1) * sizeof *c->namespace_items);
    add_item(l, &c->without_namespace, WITHOUT_NAMESPACE);
    for (size_t i = 0; i < c->namespaces.count; i++) add_item(l, &c->namespaces.items[i], i);
    check_names(l);
    check_marks(l);
    check_personal(l);
}

void config_namespace_rules(const struct config *c, struct namespace_rules *out)
{
    *out = (struct namespace_rules){.items = c->namespace_items,
                                    .count = c->namespace_item_count,
                                    .max_length = (size_t)c->channel_max_length,
                                    .any_namespace = c->dev};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        memcpy((char *)out + marks[i].to, mark(c, i), strlen(mark(c, i)));
}

void config_namespace_clear(struct config_namespace *n)
{
    free(n->name);
    free(n->channel_regex);
    *n = (struct config_namespace){0};
}

void config_forget_items(struct config *c)
{
    for (size_t i = 0; i < c->namespace_item_count; i++)
        if (c->namespace_items[i].options.has_regex) regfree(&c->namespace_items[i].options.regex);
    free(c->namespace_items);
    c->namespace_items = NULL;
    c->namespace_item_count = 0;
}
