/* config/change.c - what is different in another configuration, for a reload. */
#include "config/table.h"

#include <stdlib.h>
#include <string.h>

static bool same_secret(const struct config_secret *a, const struct config_secret *b)
{
    return a->len == b->len && (!a->len || memcmp(a->bytes, b->bytes, a->len) == 0);
}

static bool same_strings(const struct config_strings *a, const struct config_strings *b)
{
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->items[i], b->items[i]) != 0) return false;
    return true;
}

static bool same_urls(const struct config_urls *a, const struct config_urls *b)
{
    char x[CONFIG_URL_MAX], y[CONFIG_URL_MAX];
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(config_url_format(x, &a->items[i]), config_url_format(y, &b->items[i])) != 0)
            return false;
    return true;
}

static bool same_keys(const struct config_keys *a, const struct config_keys *b)
{
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct config_key *x = &a->items[i], *y = &b->items[i];
        if (strcmp(x->kid, y->kid) != 0 || x->scope != y->scope ||
            !same_secret(&x->secret, &y->secret))
            return false;
    }
    return true;
}

static bool same_namespaces(const struct config_namespaces *a, const struct config_namespaces *b);

static bool same_field(const void *a, const void *b, enum option_kind kind)
{
    switch (kind) {
    case OPTION_BOOL: return *(const bool *)a == *(const bool *)b;
    case OPTION_INT:
    case OPTION_SIZE:
    case OPTION_DURATION: return *(const int64_t *)a == *(const int64_t *)b;
    case OPTION_FRACTION: return memcmp(a, b, sizeof(double)) == 0;
    case OPTION_CHOICE: return memcmp(a, b, sizeof(int)) == 0;
    case OPTION_STRING: return strcmp(*(char *const *)a, *(char *const *)b) == 0;
    case OPTION_SECRET: return same_secret(a, b);
    case OPTION_STRINGS: return same_strings(a, b);
    case OPTION_URLS: return same_urls(a, b);
    case OPTION_KEYS: return same_keys(a, b);
    case OPTION_NAMESPACES: return same_namespaces(a, b);
    }
    return true;
}

static bool same_value(const void *a, const void *b, const struct option *o)
{
    if (o->field == OPTION_NO_FIELD) return true;
    return same_field(option_field_const(a, o), option_field_const(b, o), o->kind);
}

static bool same_namespace(const struct config_namespace *a, const struct config_namespace *b)
{
    if (strcmp(a->name, b->name) != 0) return false;
    for (size_t i = 0; i < namespace_option_count; i++)
        if (!same_value(a, b, &namespace_option_table[i])) return false;
    return true;
}

static bool same_namespaces(const struct config_namespaces *a, const struct config_namespaces *b)
{
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++)
        if (!same_namespace(&a->items[i], &b->items[i])) return false;
    return true;
}

/* What is read from a file whose name an option is: that may be another one under the same name. */
static const struct {
    const char *key;
    size_t secret;
} files[] = {
    {"client.token.hmac_secret_key_file", offsetof(struct config, token.secret)},
    {"client.token.hmac_previous_secret_key_file", offsetof(struct config, token.previous)},
    {"client.subscription_token.hmac_secret_key_file",
     offsetof(struct config, subscription_token.secret)},
    {"client.subscription_token.hmac_previous_secret_key_file",
     offsetof(struct config, subscription_token.previous)},
    {"http_api.key_file", offsetof(struct config, api_key)},
    {"admin.password_file", offsetof(struct config, console_password)},
};

static bool same_file(const struct config *a, const struct config *b, const struct option *o)
{
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (strcmp(files[i].key, o->key) != 0) continue;
        const void *x = (const char *)a + files[i].secret, *y = (const char *)b + files[i].secret;
        return !**(char *const *)option_field_const(b, o) || same_secret(x, y);
    }
    return true;
}

static size_t append(char *out, size_t cap, size_t n, const char *key)
{
    const char *apart = n ? " " : "";
    if (n + strlen(apart) + strlen(key) + sizeof " ..." > cap) { /* once: then nothing fits */
        if (n + sizeof " ..." <= cap) memcpy(out + n, " ...", sizeof " ...");
        return cap;
    }
    return n + (size_t)snprintf(out + n, cap - n, "%s%s", apart, key);
}

size_t config_changed(const struct config *from, const struct config *to, bool restart, char *out,
                      size_t cap)
{
    size_t count = 0, n = 0;
    *out = '\0';
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        if (o->restart != restart || (same_value(from, to, o) && same_file(from, to, o))) continue;
        if (n < cap) n = append(out, cap, n, o->key);
        count++;
    }
    return count;
}

static size_t field_size(enum option_kind kind)
{
    switch (kind) {
    case OPTION_BOOL: return sizeof(bool);
    case OPTION_INT:
    case OPTION_SIZE:
    case OPTION_DURATION: return sizeof(int64_t);
    case OPTION_FRACTION: return sizeof(double);
    case OPTION_CHOICE: return sizeof(int);
    case OPTION_STRING: return sizeof(char *);
    case OPTION_SECRET: return sizeof(struct config_secret);
    case OPTION_STRINGS: return sizeof(struct config_strings);
    case OPTION_URLS: return sizeof(struct config_urls);
    case OPTION_KEYS: return sizeof(struct config_keys);
    case OPTION_NAMESPACES: return sizeof(struct config_namespaces);
    }
    return 0;
}

void config_swap_fixed(struct config *a, struct config *b)
{
    char kept[sizeof(struct config_urls) + sizeof(struct config_secret)];
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        if (!o->restart) continue;
        const size_t size = field_size(o->kind);
        memcpy(kept, option_field(a, o), size);
        memcpy(option_field(a, o), option_field(b, o), size);
        memcpy(option_field(b, o), kept, size);
    }
}
