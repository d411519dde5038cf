/* namespace.c: names of channels (protocol.md section 6.1). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "guard.h"
#include "namespace.h"

static struct namespace_item items[] = {
    {"", {.history_size = 1}},
    {"chat", {.history_size = 2, .user_limited_channels = true}},
    {"ch", {.history_size = 3}},
    {"num", {.history_size = 4, .has_regex = true}},
};

static struct namespace_rules usual(void)
{
    return (struct namespace_rules){.items = items,
                                    .count = sizeof items / sizeof *items,
                                    .max_length = 255,
                                    .private_prefix = "$",
                                    .namespace_boundary = ":",
                                    .user_boundary = "#",
                                    .user_separator = ","};
}

/* find gives the history_size of the options found, -1 for none. The name ends at a page that can
 * not be read. */
static int find(const char *name)
{
    size_t len = strlen(name);
    char *copy = guard_copy(name, len);
    const struct channel_options *o = namespace_of(copy, len);
    guard_free(copy, len);
    return o ? (int)o->history_size : -1;
}

static void finds_the_namespace(void **state)
{
    static const struct {
        const char *name;
        int found;
    } rows[] = {
        {"", 1},          {"news", 1},        {"$news", 1},     {":news", 1},    {"$:news", 1},
        {"chat:a", 2},    {"$chat:a", 2},     {"chat:", 2},     {"chat:a:b", 2}, {"chat::a", 2},
        {"ch:a", 3},      {"num:5", 4},       {"cha:a", -1},    {"chats:a", -1}, {"Chat:a", -1},
        {"$$chat:a", -1}, {"chat$:a", -1},    {"unknown:", -1}, {"chat", 1},     {"$chat", 1},
        {"$", 1},         {"a#1:chat:b", -1},
    };
    struct namespace_rules r = usual();
    (void)state;
    namespace_init(&r);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (find(rows[i].name) != rows[i].found)
            fail_msg("%s: %d", rows[i].name, find(rows[i].name));
}

static void characters_can_be_changed_or_off(void **state)
{
    struct namespace_rules r = usual();
    (void)state;
    namespace_init(&r);
    memcpy(r.namespace_boundary, "::", 3);
    memcpy(r.private_prefix, "priv-", 6);
    assert_int_equal(find("chat::a"), 2);
    assert_int_equal(find("chat:a"), 1);
    assert_int_equal(find("priv-chat::a"), 2);
    assert_int_equal(find("$chat::a"), -1);
    assert_true(namespace_is_private("priv-", 5));
    assert_false(namespace_is_private("priv", 4));
    r.namespace_boundary[0] = r.private_prefix[0] = 0;
    assert_int_equal(find("chat:a"), 1);
    assert_false(namespace_is_private("$a", 2));
    assert_false(namespace_is_private("", 0));
    r = usual();
    r.any_namespace = true;
    assert_int_equal(find("unknown:a"), 1);
    assert_int_equal(find("chat:a"), 2);
}

static void private_channels(void **state)
{
    struct namespace_rules r = usual();
    (void)state;
    namespace_init(&r);
    assert_true(namespace_is_private("$a", 2));
    assert_true(namespace_is_private("$", 1));
    assert_false(namespace_is_private("a$", 2));
    assert_false(namespace_is_private("chat:$a", 7));
    assert_false(namespace_is_private("$", 0));
}

static bool may_be_called(const char *name, size_t len)
{
    char *copy = guard_copy(name, len);
    bool ok = namespace_name_ok(namespace_of(copy, len), copy, len);
    guard_free(copy, len);
    return ok;
}

static void names_are_ascii_or_as_the_regex_says(void **state)
{
    static const struct {
        const char *name;
        size_t len;
        bool ok;
    } rows[] = {
        {"news", 4, true},
        {"", 0, true},
        {"n\xc3\xa9ws", 5, false},
        {"a\x7f", 2, true},
        {"a\x80", 2, false},
        {"chat:\xff", 6, false},
        {"num:1", 5, true},
        {"$num:1", 6, true}, /* the part behind the namespace */
        {"num:", 4, false},
        {"num:1a", 6, false},
        {"num:1\0a", 7, false}, /* regexec would see 1 */
        {"num:1:2", 7, false},
        {"num:\xc3\xa9", 6, true}, /* bytes that are not ASCII are up to the regex */
    };
    struct namespace_rules r = usual();
    char long_name[2000];
    (void)state;
    assert_int_equal(regcomp(&items[3].options.regex, "^([0-9]+|\xc3\xa9)$", REG_EXTENDED), 0);
    namespace_init(&r);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (may_be_called(rows[i].name, rows[i].len) != rows[i].ok) fail_msg("row %zu", i);
    memset(long_name, '1', sizeof long_name);
    memcpy(long_name, "num:", 4);
    assert_true(may_be_called(long_name, 255));
    assert_true(may_be_called(long_name, 1027));
    assert_false(may_be_called(long_name, 1028));
    regfree(&items[3].options.regex);
}

static bool lists(const char *name, const char *user)
{
    size_t len = strlen(name), user_len = strlen(user);
    char *copy = guard_copy(name, len), *who = guard_copy(user, user_len);
    bool yes = namespace_lists_user(copy, len, who, user_len);
    guard_free(copy, len);
    guard_free(who, user_len);
    return yes;
}

static void user_limited_channels(void **state)
{
    static const struct {
        const char *name, *user;
        bool listed;
    } rows[] = {
        {"chat:d#42", "42", true},      {"chat:d#42,43", "42", true},
        {"chat:d#42,43", "43", true},   {"chat:d#42,43", "4", false},
        {"chat:d#42,43", "42,", false}, {"chat:d#42,43", "42,43", false},
        {"chat:d#42,43", "", false},    {"#42", "42", true},
        {"chat:#42", "42", true},       {"chat:d#1#42", "42", true},
        {"chat:d#1#42", "1", false},    {"chat:d#42#", "42", false},
        {"chat:d#", "", false},         {"chat:d#,", "", false},
        {"chat:d#,42", "42", true},     {"chat:d#42,", "42", true},
        {"chat:d", "d", false},         {"", "42", false},
    };
    struct namespace_rules r = usual();
    (void)state;
    namespace_init(&r);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (lists(rows[i].name, rows[i].user) != rows[i].listed)
            fail_msg("%s %s", rows[i].name, rows[i].user);

    assert_true(namespace_is_user_limited(&items[1].options, "chat:a#1", 8));
    assert_false(namespace_is_user_limited(&items[1].options, "chat:a", 6));
    assert_false(namespace_is_user_limited(&items[0].options, "a#1", 3)); /* the option is off */
}

static void other_user_characters(void **state)
{
    struct namespace_rules r = usual();
    (void)state;
    namespace_init(&r);
    memcpy(r.user_boundary, "##", 3);
    memcpy(r.user_separator, "--", 3);
    assert_true(lists("a##1--2", "1"));
    assert_true(lists("a##1--2", "2"));
    assert_true(lists("a###2", "2") == false); /* the boundary is the first ##, its rest #2 */
    assert_false(namespace_is_user_limited(&items[1].options, "a#1", 3));
    r.user_separator[0] = 0;
    assert_true(lists("a##1--2", "1--2"));
    assert_false(lists("a##1--2", "1"));
    r.user_boundary[0] = 0;
    assert_false(lists("a##1", "1"));
    assert_false(namespace_is_user_limited(&items[1].options, "a##1", 4));
}

/* personal gives the name that was written, "" for none; cap bytes are there for it. */
static const char *personal(const char *space, const char *user, size_t cap)
{
    static char name[300];
    char *room =
        guard_copy(memset(name, 'x', sizeof name), cap); /* ends at a page not to be touched */
    size_t len = namespace_personal(room, cap, space, user, strlen(user));
    assert_true(len <= cap);
    memcpy(name, room, len);
    name[len] = 0;
    guard_free(room, cap);
    return name;
}

static void personal_channels(void **state)
{
    struct namespace_rules r = usual();
    (void)state;
    namespace_init(&r);
    assert_string_equal(personal("", "42", 255), "#42");
    assert_string_equal(personal("chat", "42", 255), "chat:#42");
    assert_int_equal(find(personal("chat", "a:b", 255)), 2);
    assert_string_equal(personal("chat", "42", 8), "chat:#42");
    for (size_t cap = 0; cap < 8; cap++) assert_string_equal(personal("chat", "42", cap), "");
    assert_true(lists(personal("", "42", 255), "42"));
    memcpy(r.user_boundary, "##", 3);
    memcpy(r.namespace_boundary, "//", 3);
    assert_string_equal(personal("chat", "42", 255), "chat//##42");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_namespace),
        cmocka_unit_test(characters_can_be_changed_or_off),
        cmocka_unit_test(private_channels),
        cmocka_unit_test(names_are_ascii_or_as_the_regex_says),
        cmocka_unit_test(user_limited_channels),
        cmocka_unit_test(other_user_characters),
        cmocka_unit_test(personal_channels),
    };
    return cmocka_run_group_tests_name("namespace", tests, NULL, NULL);
}
