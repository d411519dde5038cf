/* namespace.h - which options a channel has, and what its name means (protocol.md sections 6.1
 * and 6.2).
 *
 * A table made from the configuration, a part of the settings (settings.h): what is found in it is
 * good until the end of the turn. Any thread. */
#ifndef NAMESPACE_H
#define NAMESPACE_H

#include <regex.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum recovery_mode { RECOVERY_STREAM, RECOVERY_CACHE };
enum data_format { DATA_DEFAULT, DATA_JSON, DATA_JSON_OBJECT, DATA_BINARY };

struct channel_options { /* of one namespace; all off by default */
    bool presence, join_leave, force_push_join_leave;
    uint32_t history_size;       /* publications kept, 0 = no history */
    int64_t history_ttl_ms;      /* 0 = no history */
    int64_t history_meta_ttl_ms; /* epoch and offset are kept so long after the last use */
    bool force_positioning, allow_positioning, force_recovery, allow_recovery;
    enum recovery_mode recovery_mode;
    bool allow_tags_filter;
    bool subscribe_for_client, subscribe_for_anonymous;
    bool publish_for_client, publish_for_subscriber, publish_for_anonymous;
    bool presence_for_client, presence_for_subscriber, presence_for_anonymous;
    bool history_for_client, history_for_subscriber, history_for_anonymous;
    bool user_limited_channels;
    bool has_regex;
    regex_t regex; /* of the part behind the namespace, POSIX extended */
    enum data_format data_format;
    int slow_policy; /* enum slow_policy of conn.h */
};

static inline bool channel_has_history(const struct channel_options *o)
{
    return o->history_size && o->history_ttl_ms;
}

/* What the configuration hands over; strings are borrowed for as long as the table is used. */
struct namespace_item {
    const char *name; /* "" = channels without a namespace */
    struct channel_options options;
};

struct namespace_rules {
    const struct namespace_item *items; /* items[0] is the one without a name */
    size_t count;
    size_t max_length; /* bytes of a channel's name */
    /* the characters that mean something in a name; "" = off */
    char private_prefix[8], namespace_boundary[8], user_boundary[8], user_separator[8];
    bool any_namespace; /* --dev: an unknown one has the options of items[0] */
};

/* namespace_init keeps r, of the first settings; before workers start. */
void namespace_init(const struct namespace_rules *r);

/* namespace_of finds the options of a channel by its name; NULL: unknown namespace (error 102). */
const struct channel_options *namespace_of(const char *name, size_t len);

/* namespace_name_ok: may a channel be called so? By the namespace's channel_regex, or, without one,
 * ASCII only (error 107). Length is not looked at. */
bool namespace_name_ok(const struct channel_options *o, const char *name, size_t len);

/* namespace_is_private: does it begin with the private prefix? Then a subscription token is
 * mandatory. */
bool namespace_is_private(const char *name, size_t len);

/* namespace_is_user_limited: does the name have the user boundary, in a namespace that gives it
 * that meaning? namespace_lists_user: is user among those listed behind the last one? The empty
 * user never is. */
bool namespace_is_user_limited(const struct channel_options *o, const char *name, size_t len);
bool namespace_lists_user(const char *name, size_t len, const char *user, size_t user_len);

/* namespace_personal writes the name of a user's personal channel, NAMESPACE:#USER, or #USER if
 * space is "", and returns its length; 0 if it has more than cap bytes. */
size_t namespace_personal(char *out, size_t cap, const char *space, const char *user,
                          size_t user_len);

#endif
