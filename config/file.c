/* config/file.c - the configuration file: JSON, nested objects or dotted keys, every name known. */
#include "config/load.h"

#include "json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONFIG_FILE_MAX (1024 * 1024)
#define SECRET_FILE_MAX 4096

/* A JSON text being applied. */
struct source {
    struct loader *l;
    struct json doc;
    const char *name; /* the file, or the variable or flag that held the text */
    bool is_file;     /* then places have line and column */
    enum layer layer;
};

/* ---- places ---- */

static const char *place_at(const struct source *s, size_t at, char out[static PLACE_MAX])
{
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at && i < s->doc.len; i++) {
        if (s->doc.text[i] == '\n') {
            line++;
            column = 1;
        } else if ((s->doc.text[i] & 0xc0) != 0x80) { /* a character counts once, not its bytes */
            column++;
        }
    }
    if (s->is_file) {
        snprintf(out, PLACE_MAX, "%s:%zu:%zu", s->name, line, column);
    } else {
        snprintf(out, PLACE_MAX, "%s", s->name);
    }
    return out;
}

static const char *place_of(const struct source *s, int v, char out[static PLACE_MAX])
{
    return place_at(s, (size_t)(json_raw(&s->doc, v).p - s->doc.text), out);
}

#define wrong_at(s_, v_, ...)                                                                      \
    do {                                                                                           \
        char place_[PLACE_MAX];                                                                    \
        loader_note((s_)->l, true, place_of(s_, v_, place_), __VA_ARGS__);                         \
    } while (0)

static void report_duplicates(struct source *s, int object)
{
    char place[PLACE_MAX];
    if (json_unique(&s->doc, object)) return;
    loader_note(s->l, true, place_at(s, s->doc.at, place), "%s", s->doc.why);
}

/* ---- values ---- */

/* scalar_text writes a value as the text that means the same; returns its length, or -1 if the
 * option can not be of this JSON type. */
static int64_t scalar_text(const struct source *s, const struct option *o, int v, char *out,
                           size_t cap)
{
    enum json_type type = json_type(&s->doc, v);
    struct json_slice raw = json_raw(&s->doc, v);
    int64_t n;
    bool is_number = o->kind == OPTION_INT || o->kind == OPTION_SIZE ||
                     o->kind == OPTION_DURATION || o->kind == OPTION_FRACTION;
    if (type == JSON_STRING) return json_string(&s->doc, v, out, cap);
    if (type == JSON_BOOL && o->kind != OPTION_BOOL) return -1;
    if (type == JSON_NUMBER && !is_number) return -1;
    if (type != JSON_BOOL && type != JSON_NUMBER) return -1;
    if (type == JSON_NUMBER && o->kind != OPTION_FRACTION && json_int64(&s->doc, v, &n))
        return snprintf(out, cap, "%lld", (long long)n);
    if (raw.len > cap) return -1;
    memcpy(out, raw.p, raw.len);
    return (int64_t)raw.len;
}

static const char *wanted_type(const struct option *o)
{
    switch (o->kind) {
    case OPTION_BOOL: return "true or false";
    case OPTION_INT:
    case OPTION_FRACTION: return "a number";
    case OPTION_SIZE: return "a number of bytes, or a string like \"128KiB\"";
    case OPTION_DURATION: return "a string like \"25s\"";
    case OPTION_CHOICE:
    case OPTION_STRING:
    case OPTION_SECRET: return "a string";
    case OPTION_STRINGS:
    case OPTION_URLS: return "a list of strings";
    case OPTION_KEYS:
    case OPTION_NAMESPACES: return "a list of objects";
    }
    return "";
}

static void add_scalar(struct source *s, void *base, const struct option *o, int v,
                       const char *name)
{
    char text[OPTION_TEXT_MAX], place[PLACE_MAX];
    int64_t len = scalar_text(s, o, v, text, sizeof text);
    if (len < 0) {
        wrong_at(s, v, "%s must be %s%s", name, wanted_type(o),
                 json_type(&s->doc, v) == JSON_STRING ? ", and of at most 4096 bytes" : "");
    } else {
        loader_add(s->l, base, o, place_of(s, v, place), name, text, (size_t)len);
    }
    if (o->kind == OPTION_SECRET) explicit_bzero(text, sizeof text);
}

static void add_list(struct source *s, const struct option *o, int list)
{
    char name[OPTION_NAME_MAX + 16];
    size_t i = 0;
    for (int v = json_first(&s->doc, list); v != JSON_NONE; v = json_next(&s->doc, list, v), i++) {
        snprintf(name, sizeof name, "%s[%zu]", o->key, i);
        if (json_type(&s->doc, v) == JSON_STRING) {
            add_scalar(s, s->l->c, o, v, name);
        } else {
            wrong_at(s, v, "%s must be a string", name);
        }
    }
}

/* member_name decodes the name of the member whose value is v, cut to OPTION_NAME_MAX - 1 bytes. */
static void member_name(const struct source *s, int v, char out[static OPTION_NAME_MAX])
{
    int64_t len = json_string(&s->doc, json_name(&s->doc, v), out, OPTION_NAME_MAX - 1);
    struct json_slice raw = json_raw(&s->doc, json_name(&s->doc, v));
    if (len < 0) { /* long or odd: no known name, shown as it stands in the text */
        len = raw.len < OPTION_NAME_MAX - 1 ? (int64_t)raw.len : OPTION_NAME_MAX - 1;
        memcpy(out, raw.p, (size_t)len);
    }
    out[len] = '\0';
    if (strlen(out) != (size_t)len) memcpy(out, "?", 2); /* a NUL in a name: no known one */
}

/* ---- client.token.keys, http_api.keys ---- */

struct key_words { /* what the members of one key are called */
    const char *list, *name, *secret, *secret_file, *known;
    bool scoped;
};

static const struct key_words *words_of(const struct option *o)
{
    static const struct key_words api = {"http_api.keys",
                                         "name",
                                         "key",
                                         "key_file",
                                         "name, key or key_file, and scope",
                                         true},
                                  token = {"client.token.keys",
                                           "kid",
                                           "secret",
                                           "secret_file",
                                           "kid and secret or secret_file",
                                           false};
    return strcmp(o->key, api.list) == 0 ? &api : &token;
}

static void set_scope(struct source *s, struct config_key *key, int v, const char *value)
{
    if (strcmp(value, "publish") == 0)
        key->scope = CONFIG_SCOPE_PUBLISH;
    else if (strcmp(value, "read") == 0)
        key->scope = CONFIG_SCOPE_READ;
    else if (strcmp(value, "all") == 0)
        key->scope = CONFIG_SCOPE_ALL;
    else
        wrong_at(s, v, "http_api.keys: scope must be publish, read or all");
}

static void add_key_member(struct source *s, struct config_key *key, int v, const char *name,
                           const struct key_words *words)
{
    static const struct option text = {.key = "", .kind = OPTION_STRING};
    char value[OPTION_TEXT_MAX + 1], place[PLACE_MAX], shown[VISIBLE_MAX];
    int64_t len = scalar_text(s, &text, v, value, sizeof value - 1);
    if (len < 0 || memchr(value, '\0', (size_t)len)) {
        wrong_at(s, v, "%s must be a string", name);
        return;
    }
    value[len] = '\0';
    if (strcmp(name, words->name) == 0)
        config_string_set(&key->kid, value);
    else if (strcmp(name, words->secret) == 0)
        config_secret_set(&key->secret, value, (size_t)len);
    else if (strcmp(name, words->secret_file) == 0)
        config_read_secret(s->l, &key->secret, place_of(s, v, place), value);
    else if (words->scoped && strcmp(name, "scope") == 0)
        set_scope(s, key, v, value);
    else
        wrong_at(s, v, "%s: unknown member \"%s\"; a key has %s", words->list,
                 loader_visible(shown, name, strlen(name)), words->known);
    explicit_bzero(value, sizeof value);
}

static void add_key(struct source *s, const struct option *o, struct config_keys *list, int object)
{
    const struct key_words *words = words_of(o);
    list->items = config_grow(list->items, list->count, sizeof *list->items);
    struct config_key *key = &list->items[list->count++];
    config_string_set(&key->kid, "");
    report_duplicates(s, object);
    char name[OPTION_NAME_MAX];
    for (int v = json_first(&s->doc, object); v != JSON_NONE; v = json_next(&s->doc, object, v)) {
        member_name(s, v, name);
        add_key_member(s, key, v, name, words);
    }
    bool both = json_member(&s->doc, object, words->secret) != JSON_NONE &&
                json_member(&s->doc, object, words->secret_file) != JSON_NONE;
    if (!*key->kid) wrong_at(s, object, "%s: a key needs its %s", words->list, words->name);
    if (both)
        wrong_at(s, object, "%s: %s or %s, not both", words->list, words->secret,
                 words->secret_file);
    if (words->scoped && json_member(&s->doc, object, "scope") == JSON_NONE)
        wrong_at(s, object, "http_api.keys: a key needs its scope: publish, read or all");
}

/* ---- channel.namespaces ---- */

static bool is_empty(const struct source *s, int v)
{
    struct json_slice plain;
    return json_type(&s->doc, v) == JSON_STRING && json_plain(&s->doc, v, &plain) && !plain.len;
}

/* asks_for_none: as the value of a list, this is an empty one. */
static bool asks_for_none(const struct source *s, int v)
{
    if (json_type(&s->doc, v) == JSON_ARRAY) return json_first(&s->doc, v) == JSON_NONE;
    return is_empty(s, v);
}

static void add_namespace_option(struct source *s, struct config_namespace *n, int v,
                                 const char *name, size_t index)
{
    char full[2 * OPTION_NAME_MAX], place[PLACE_MAX], shown[VISIBLE_MAX];
    place_of(s, v, place);
    snprintf(full, sizeof full, "channel.namespaces[%zu].%s", index, name);
    for (size_t i = 0; i < namespace_option_count; i++) {
        const struct option *o = &namespace_option_table[i];
        if (strcmp(o->key, name) != 0) continue;
        if (!option_is_list(o))
            add_scalar(s, n, o, v, full);
        else if (o->group == GROUP_PLANNED && !asks_for_none(s, v))
            loader_planned(s->l, place, full);
        return;
    }
    loader_note(s->l, true, place,
                "channel.namespaces[%zu]: unknown option \"%s\"; the nearest is "
                "%s",
                index, loader_visible(shown, name, strlen(name)),
                option_nearest_namespace_key(name));
}

static void add_namespace_name(struct source *s, struct config_namespace *n, int v, size_t index)
{
    static const struct option text = {.key = "", .kind = OPTION_STRING};
    char value[OPTION_NAME_MAX];
    int64_t len = json_type(&s->doc, v) == JSON_STRING
                      ? scalar_text(s, &text, v, value, sizeof value - 1)
                      : -1;
    if (len < 0) {
        wrong_at(s, v, "channel.namespaces[%zu].name must be a string of at most 127 bytes", index);
        return;
    }
    value[len] = '\0';
    config_string_set(&n->name, value);
}

static void add_namespace(struct source *s, struct config_namespaces *list, int object)
{
    char name[OPTION_NAME_MAX];
    list->items = config_grow(list->items, list->count, sizeof *list->items);
    size_t index = list->count++;
    struct config_namespace *n = &list->items[index];
    config_string_set(&n->name, "");
    config_string_set(&n->channel_regex, "");
    report_duplicates(s, object);
    for (int v = json_first(&s->doc, object); v != JSON_NONE; v = json_next(&s->doc, object, v)) {
        member_name(s, v, name);
        if (strcmp(name, "name") == 0) {
            add_namespace_name(s, n, v, index);
        } else {
            add_namespace_option(s, n, v, name, index);
        }
    }
}

static void add_objects(struct source *s, const struct option *o, int list)
{
    size_t i = 0;
    for (int v = json_first(&s->doc, list); v != JSON_NONE; v = json_next(&s->doc, list, v), i++) {
        if (json_type(&s->doc, v) != JSON_OBJECT) {
            wrong_at(s, v, "%s[%zu] must be an object", o->key, i);
        } else if (o->kind == OPTION_KEYS) {
            add_key(s, o, option_field(s->l->c, o), v);
        } else {
            add_namespace(s, option_field(s->l->c, o), v);
        }
    }
}

/* ---- the tree ---- */

static void set_option(struct source *s, const struct option *o, int v)
{
    char place[PLACE_MAX];
    place_of(s, v, place);
    if (loader_origin(s->l, o)->layer == LAYER_FILE && s->layer == LAYER_FILE) {
        loader_note(s->l, true, place, "%s is given twice, first at %s", o->key,
                    loader_origin(s->l, o)->place);
        return;
    }
    loader_begin(s->l, o, s->layer, place);
    enum json_type type = json_type(&s->doc, v);
    bool objects = o->kind == OPTION_KEYS || o->kind == OPTION_NAMESPACES;
    if (objects && type == JSON_ARRAY) {
        add_objects(s, o, v);
    } else if (option_is_list(o) && type == JSON_ARRAY) {
        add_list(s, o, v);
    } else if (objects) {
        wrong_at(s, v, "%s must be a list of objects", o->key);
    } else if (option_is_list(o) && is_empty(s, v)) {
        /* none: Centrifugo's way to leave out what is one text there */
    } else {
        add_scalar(s, s->l->c, o, v, o->key);
    }
}

/* walk applies the members of an object; prefix is the key it stands under, "" at the top. It goes
 * down only where known keys go on, so its depth is theirs. */
static void walk(struct source *s, int object, const char *prefix)
{
    char name[OPTION_NAME_MAX], key[2 * OPTION_NAME_MAX], shown[VISIBLE_MAX], near[OPTION_NAME_MAX];
    report_duplicates(s, object);
    for (int v = json_first(&s->doc, object); v != JSON_NONE; v = json_next(&s->doc, object, v)) {
        member_name(s, v, name);
        snprintf(key, sizeof key, "%s%s%s", prefix, *prefix ? "." : "", name);
        const struct option *o = option_find(key);
        if (o && strcmp(o->key, "config") != 0) {
            set_option(s, o, v);
        } else if (o) {
            wrong_at(s, v, "config names this file and can not stand in it");
        } else if (!option_is_section(key)) {
            wrong_at(s, json_name(&s->doc, v), "unknown key %s; did you mean %s?",
                     loader_visible(shown, key, strlen(key)), option_nearest_key(near, key));
        } else if (json_type(&s->doc, v) == JSON_OBJECT) {
            walk(s, v, key);
        } else {
            wrong_at(s, v, "%s must be an object", key);
        }
    }
}

/* parse reads text into s->doc; the tokens must be freed. A token takes a byte of text at least. */
static bool parse(struct source *s, const char *text, size_t len, jsmntok_t **tokens)
{
    char place[PLACE_MAX];
    *tokens = config_grow(NULL, len, sizeof **tokens);
    if (json_parse(&s->doc, text, len, *tokens, (uint32_t)len + 1, JSON_OPEN_ALL, 0) == 0)
        return true;
    s->doc.text = text;
    s->doc.len = len;
    loader_note(s->l, true, place_at(s, s->doc.at, place), "not valid JSON: %s", s->doc.why);
    return false;
}

void config_read_text(struct loader *l, const char *name, const char *text, size_t len)
{
    struct source s = {.l = l, .name = name, .is_file = true, .layer = LAYER_FILE};
    jsmntok_t *tokens;
    if (parse(&s, text, len, &tokens)) {
        if (json_type(&s.doc, 0) == JSON_OBJECT) {
            walk(&s, 0, "");
        } else {
            wrong_at(&s, 0, "a configuration is one JSON object");
        }
    }
    free(tokens);
}

void config_read_file(struct loader *l, const char *path)
{
    size_t len;
    char *text = config_slurp(path, CONFIG_FILE_MAX, &len);
    if (!text) {
        loader_note(l, true, path, "the configuration can not be read: %s", strerror(errno));
        return;
    }
    config_read_text(l, path, text, len);
    explicit_bzero(text, len);
    free(text);
}

void config_read_json(struct loader *l, const struct option *o, enum layer layer, const char *place,
                      const char *text, size_t len)
{
    struct source s = {.l = l, .name = place, .layer = layer};
    jsmntok_t *tokens;
    if (len > CONFIG_FILE_MAX) {
        loader_note(l, true, place, "too long");
        return;
    }
    if (parse(&s, text, len, &tokens)) set_option(&s, o, 0);
    free(tokens);
}

/* ---- files ---- */

char *config_slurp(const char *path, size_t max, size_t *len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd == -1) return NULL;
    char *text = config_grow(NULL, max + 1, 1); /* max bytes, one that is too many, a NUL */
    ssize_t n = 0;
    *len = 0;
    while (*len <= max && (n = read(fd, text + *len, max + 1 - *len)) > 0) *len += (size_t)n;
    int saved = n == -1 ? errno : EFBIG;
    close(fd);
    if (n == -1 || *len > max) {
        explicit_bzero(text, *len);
        free(text);
        errno = saved;
        return NULL;
    }
    text[*len] = '\0';
    return text;
}

void config_read_secret(struct loader *l, struct config_secret *s, const char *place,
                        const char *path)
{
    size_t len, all;
    char *text = config_slurp(path, SECRET_FILE_MAX, &all), shown[VISIBLE_MAX];
    loader_visible(shown, path, strlen(path));
    if (!text) {
        loader_note(l, true, place, "the file %s can not be read: %s", shown, strerror(errno));
        return;
    }
    len = all;
    if (len > 0 && text[len - 1] == '\n') len--;
    if (len > 0 && len < all && text[len - 1] == '\r') len--;
    if (len == 0) loader_note(l, true, place, "the file %s is empty", shown);
    config_secret_set(s, text, len);
    explicit_bzero(text, all);
    free(text);
}
