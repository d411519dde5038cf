/* config/value.c - texts to values and back: durations, sizes, URLs, and the fields they go to. */
#include "config/table.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- memory ---- */

static void *must(void *p)
{
    if (p) return p;
    fputs("roost: out of memory while reading the configuration\n", stderr);
    exit(1);
}

void *config_grow(void *items, size_t count, size_t size)
{
    char *p = must(reallocarray(items, count + 1, size));
    memset(p + count * size, 0, size);
    return p;
}

static char *copy_text(const char *text, size_t len)
{
    char *p = must(malloc(len + 1));
    memcpy(p, text, len);
    p[len] = '\0';
    return p;
}

void config_string_set(char **s, const char *text)
{
    char *old = *s;
    *s = copy_text(text, strlen(text));
    free(old);
}

void config_secret_set(struct config_secret *s, const void *bytes, size_t len)
{
    uint8_t *new = NULL;
    if (bytes && len > 0) new = (uint8_t *)copy_text(bytes, len);
    if (s->bytes) explicit_bzero(s->bytes, s->len);
    free(s->bytes);
    s->bytes = new;
    s->len = new ? len : 0;
}

/* ---- durations and sizes ---- */

struct unit {
    const char *name;
    int64_t worth;
};

static const struct unit time_units[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
};
static const struct unit size_units[] = {
    {"B", 1},
    {"KiB", 1024},
    {"MiB", 1024 * 1024},
    {"GiB", 1024 * 1024 * 1024},
};
#define COUNT(a) (sizeof(a) / sizeof *(a))

/* take_digits reads decimal digits into *n; false at overflow. *digits: how many there were. */
static bool take_digits(const char **p, int64_t *n, int *digits)
{
    *n = 0;
    for (*digits = 0; isdigit((unsigned char)**p); (*p)++, (*digits)++)
        if (__builtin_mul_overflow(*n, 10, n) || __builtin_add_overflow(*n, **p - '0', n))
            return false;
    return true;
}

/* take_fraction reads .DIGITS as a part of worth, rounded down; nine digits at most count. */
static int64_t take_fraction(const char **p, int64_t worth)
{
    if (**p != '.' || !isdigit((unsigned char)(*p)[1])) return 0;
    int64_t part = 0, scale = 1;
    for ((*p)++; isdigit((unsigned char)**p); (*p)++) {
        if (scale >= 1000000000) continue;
        part = part * 10 + (**p - '0');
        scale *= 10;
    }
    return part * worth / scale;
}

const char *config_parse_duration(int64_t *ms, const char *text)
{
    static const char *const form = "a time is written like 25s, 300ms, 1h30m or 2d";
    static const char *const unit_missing = "the unit is missing: write 25s, 300ms, 1h30m or 2d";
    static const char *const too_long = "too long";
    if (strcmp(text, "0") == 0) {
        *ms = 0;
        return NULL;
    }
    int64_t total = 0;
    const char *p = text;
    do {
        int64_t n;
        int digits;
        if (!take_digits(&p, &n, &digits)) return too_long;
        if (digits == 0) return form;
        const char *fraction = p;
        take_fraction(&p, 1);
        size_t len = strspn(p, "abcdefghijklmnopqrstuvwxyz"), i = 0;
        if (len == 0) return *p ? form : unit_missing;
        while (i < COUNT(time_units) &&
               !(strlen(time_units[i].name) == len && strncmp(time_units[i].name, p, len) == 0))
            i++;
        if (i == COUNT(time_units)) return form;
        int64_t worth = time_units[i].worth;
        if (__builtin_mul_overflow(n, worth, &n) || __builtin_add_overflow(total, n, &total) ||
            __builtin_add_overflow(total, take_fraction(&fraction, worth), &total))
            return too_long;
        p += len;
    } while (*p);
    *ms = total;
    return NULL;
}

const char *config_parse_size(int64_t *bytes, const char *text)
{
    static const char *const form = "a size is written like 131072, 128KiB, 1MiB or 1GiB";
    const char *p = text;
    int64_t n;
    int digits;
    if (!take_digits(&p, &n, &digits)) return "too large";
    if (digits == 0) return form;
    while (*p == ' ') p++;
    if (!*p) {
        *bytes = n;
        return NULL;
    }
    for (size_t i = 0; i < COUNT(size_units); i++) {
        if (strcasecmp(p, size_units[i].name) != 0) continue;
        if (__builtin_mul_overflow(n, size_units[i].worth, &n)) return "too large";
        *bytes = n;
        return NULL;
    }
    return form;
}

char *config_format_duration(char out[static CONFIG_NUMBER_MAX], int64_t ms)
{
    size_t i = COUNT(time_units) - 2; /* hours, not days: Centrifugo reads those as well */
    while (i > 0 && (ms < time_units[i].worth || ms % time_units[i].worth != 0)) i--;
    if (ms == 0) i = 1;
    snprintf(out, CONFIG_NUMBER_MAX, "%lld%s", (long long)(ms / time_units[i].worth),
             time_units[i].name);
    return out;
}

char *config_format_size(char out[static CONFIG_NUMBER_MAX], int64_t bytes)
{
    size_t i = COUNT(size_units) - 1;
    while (i > 0 && (bytes == 0 || bytes % size_units[i].worth != 0)) i--;
    snprintf(out, CONFIG_NUMBER_MAX, "%lld%s", (long long)(bytes / size_units[i].worth),
             i ? size_units[i].name : "");
    return out;
}

/* ---- URLs ---- */

static const char *parse_unix(struct config_url *url, const char *path)
{
    url->scheme = CONFIG_UNIX;
    url->loopback = true;
    size_t len = strlen(path);
    if (len == 0) return "a Unix socket needs a path: unix:/run/roost.sock";
    if (len >= CONFIG_PATH_MAX) return "a Unix socket's path has 107 bytes at most";
    memcpy(url->path, path, len + 1);
    return NULL;
}

static const char *parse_host(struct config_url *url, const char *host, size_t len)
{
    static const char *const form = "the host must be an address like 127.0.0.1, 0.0.0.0, [::1] "
                                    "or [::], or localhost";
    struct in_addr v4;
    struct in6_addr v6;
    bool brackets = len >= 2 && host[0] == '[' && host[len - 1] == ']';
    if (brackets) {
        host++;
        len -= 2;
    }
    if (len >= CONFIG_HOST_MAX) return form;
    memcpy(url->host, host, len);
    url->host[len] = '\0';
    if (!brackets && strcasecmp(url->host, "localhost") == 0) memcpy(url->host, "127.0.0.1", 10);
    if (brackets && inet_pton(AF_INET6, url->host, &v6) == 1) {
        url->ipv6 = true;
        url->loopback = IN6_IS_ADDR_LOOPBACK(&v6);
        return NULL;
    }
    if (brackets || inet_pton(AF_INET, url->host, &v4) != 1) {
        if (inet_pton(AF_INET6, url->host, &v6) == 1)
            return "an IPv6 address stands in brackets: [::1]";
        return form;
    }
    url->loopback = ntohl(v4.s_addr) >> 24 == 127;
    return NULL;
}

static const char *parse_port(struct config_url *url, const char *text)
{
    int64_t port;
    int digits;
    if (!take_digits(&text, &port, &digits) || port > 65535) return "a port is at most 65535";
    if (digits == 0) return "the port is missing: write HOST:PORT";
    if (*text == '/') text++;
    if (*text) return "a listener's URL ends after the port";
    url->port = (uint16_t)port;
    return NULL;
}

const char *config_parse_url(struct config_url *url, const char *text)
{
    memset(url, 0, sizeof *url);
    const char *rest;
    if (strncmp(text, "unix:", 5) == 0) {
        return parse_unix(url, strncmp(text, "unix:///", 8) == 0 ? text + 7 : text + 5);
    } else if (strncmp(text, "ws://", 5) == 0) {
        url->scheme = CONFIG_WS;
        rest = text + 5;
    } else if (strncmp(text, "wss://", 6) == 0) {
        url->scheme = CONFIG_WSS;
        rest = text + 6;
    } else {
        return "a listener is written wss://HOST:PORT, ws://HOST:PORT or unix:/path";
    }
    const char *end = *rest == '[' ? strchr(rest, ']') : rest;
    const char *colon = end ? strchr(end, ':') : NULL;
    size_t host_len = colon ? (size_t)(colon - rest) : strcspn(rest, "/");
    /* ::1 without brackets: the whole is the host, which says what is wrong with it */
    if (colon && *rest != '[' && strchr(colon + 1, ':')) host_len = strcspn(rest, "/");
    const char *why = parse_host(url, rest, host_len);
    if (why) return why;
    return colon ? parse_port(url, colon + 1) : "the port is missing: write HOST:PORT";
}

char *config_url_format(char out[static CONFIG_URL_MAX], const struct config_url *url)
{
    if (url->scheme == CONFIG_UNIX) {
        snprintf(out, CONFIG_URL_MAX, "unix:%s", url->path);
    } else {
        snprintf(out, CONFIG_URL_MAX, url->ipv6 ? "%s://[%s]:%u" : "%s://%s:%u",
                 url->scheme == CONFIG_WSS ? "wss" : "ws", url->host, (unsigned)url->port);
    }
    return out;
}

/* ---- fields ---- */

void *option_field(void *base, const struct option *o)
{
    return (char *)base + o->field;
}

const void *option_field_const(const void *base, const struct option *o)
{
    return (const char *)base + o->field;
}

static bool wrong(char why[static OPTION_WHY_MAX], const char *text)
{
    snprintf(why, OPTION_WHY_MAX, "%s", text);
    return false;
}

static bool parse_bool(bool *out, const char *text)
{
    static const char *const words[] = {"false", "true", "0", "1", "no", "yes", "off", "on"};
    for (size_t i = 0; i < COUNT(words); i++) {
        if (strcasecmp(text, words[i]) != 0) continue;
        *out = i % 2 == 1;
        return true;
    }
    return false;
}

static void format_bound(char out[static CONFIG_NUMBER_MAX], const struct option *o, int64_t n)
{
    if (o->kind == OPTION_DURATION) {
        config_format_duration(out, n);
    } else if (o->kind == OPTION_SIZE) {
        config_format_size(out, n);
    } else {
        snprintf(out, CONFIG_NUMBER_MAX, "%lld", (long long)n);
    }
}

static bool in_bounds(const struct option *o, int64_t n, char why[static OPTION_WHY_MAX])
{
    if (n >= o->min && (o->max == 0 || n <= o->max)) return true;
    char min[CONFIG_NUMBER_MAX], max[CONFIG_NUMBER_MAX];
    format_bound(min, o, o->min);
    format_bound(max, o, o->max);
    snprintf(why, OPTION_WHY_MAX, "must be between %s and %s", min, max);
    return false;
}

static bool parse_int(int64_t *n, const char *text)
{
    int digits;
    return take_digits(&text, n, &digits) && digits > 0 && *text == '\0';
}

static bool parse_number(const struct option *o, int64_t *n, const char *text,
                         char why[static OPTION_WHY_MAX])
{
    const char *said = NULL;
    if (o->automatic && strcmp(text, "auto") == 0) {
        *n = CONFIG_AUTOMATIC;
        return true;
    }
    if (o->kind == OPTION_DURATION) {
        said = config_parse_duration(n, text);
    } else if (o->kind == OPTION_SIZE) {
        said = config_parse_size(n, text);
    } else if (!parse_int(n, text)) {
        said = "must be a whole number, not negative";
    }
    return said ? wrong(why, said) : in_bounds(o, *n, why);
}

static bool parse_choice(const struct option *o, int *out, const char *text,
                         char why[static OPTION_WHY_MAX])
{
    int n = snprintf(why, OPTION_WHY_MAX, "must be one of:");
    for (int i = 0; o->choices[i]; i++) {
        if (strcmp(o->choices[i], text) == 0) {
            *out = i;
            return true;
        }
        n += snprintf(why + n, OPTION_WHY_MAX - (size_t)n, "%s %s", i ? "," : "",
                      *o->choices[i] ? o->choices[i] : "\"\"");
    }
    return false;
}

static bool parse_fraction(double *n, const char *text, char why[static OPTION_WHY_MAX])
{
    char *end;
    *n = strtod(text, &end);
    if (end != text && !*end && *n >= 0 && *n <= 1) return true;
    return wrong(why, "must be a number from 0 to 1");
}

static bool add_url(struct config_urls *list, const char *text, char why[static OPTION_WHY_MAX])
{
    struct config_url url;
    const char *said = config_parse_url(&url, text);
    if (said) return wrong(why, said);
    if (!list) return true;
    list->items = config_grow(list->items, list->count, sizeof *list->items);
    list->items[list->count++] = url;
    return true;
}

void config_strings_add(struct config_strings *list, const char *text)
{
    list->items = config_grow(list->items, list->count, sizeof *list->items);
    list->items[list->count++] = copy_text(text, strlen(text));
}

void config_strings_swap(struct config_strings *a, struct config_strings *b)
{
    struct config_strings kept = *a;
    *a = *b;
    *b = kept;
}

/* set_field stores the text, which ends with a NUL; field NULL: only checks it. */
static bool set_field(void *field, const struct option *o, const char *text, size_t len,
                      char why[static OPTION_WHY_MAX])
{
    bool yes;
    int64_t n = 0;
    double fraction = 0;
    int choice = 0;
    switch (o->kind) {
    case OPTION_BOOL:
        if (!parse_bool(&yes, text)) return wrong(why, "must be true or false");
        if (field) *(bool *)field = yes;
        return true;
    case OPTION_INT:
    case OPTION_SIZE:
    case OPTION_DURATION:
        if (!parse_number(o, &n, text, why)) return false;
        if (field) *(int64_t *)field = n;
        return true;
    case OPTION_FRACTION:
        if (!parse_fraction(&fraction, text, why)) return false;
        if (field) *(double *)field = fraction;
        return true;
    case OPTION_CHOICE:
        if (!parse_choice(o, &choice, text, why)) return false;
        if (field) memcpy(field, &choice, sizeof choice);
        return true;
    case OPTION_STRING:
        if (field) config_string_set(field, text);
        return true;
    case OPTION_SECRET:
        if (field) config_secret_set(field, text, len);
        return true;
    case OPTION_STRINGS:
        if (field) config_strings_add(field, text);
        return true;
    case OPTION_URLS: return add_url(field, text, why);
    case OPTION_KEYS:
    case OPTION_NAMESPACES: return wrong(why, "must be a list of objects");
    }
    return false;
}

bool option_add(void *base, const struct option *o, const char *text, size_t len,
                char why[static OPTION_WHY_MAX])
{
    if (len > OPTION_TEXT_MAX) return wrong(why, "too long");
    if (memchr(text, '\0', len)) return wrong(why, "a NUL character can not be part of it");
    char copy[OPTION_TEXT_MAX + 1];
    memcpy(copy, text, len);
    copy[len] = '\0';
    bool ok =
        set_field(o->field == OPTION_NO_FIELD ? NULL : option_field(base, o), o, copy, len, why);
    if (o->kind == OPTION_SECRET) explicit_bzero(copy, len);
    return ok;
}

static bool is_text(const struct option *o)
{
    return o->kind == OPTION_STRING || o->kind == OPTION_SECRET || option_is_list(o);
}

/* number_of gives what is no text as a number that is the same for the same value. */
static bool number_of(const struct option *o, const char *text, int64_t *n)
{
    char why[OPTION_WHY_MAX];
    double fraction = 0;
    int choice = 0;
    bool yes = false, ok = false;
    if (o->kind == OPTION_BOOL) {
        ok = parse_bool(&yes, text);
        *n = yes;
    } else if (o->kind == OPTION_CHOICE) {
        ok = parse_choice(o, &choice, text, why);
        *n = choice;
    } else if (o->kind == OPTION_FRACTION) {
        ok = parse_fraction(&fraction, text, why);
        memcpy(n, &fraction, sizeof *n);
    } else {
        ok = parse_number(o, n, text, why);
    }
    return ok;
}

bool option_is_initial(const struct option *o, const char *text, size_t len)
{
    const char *initial = o->initial ? o->initial : is_text(o) ? "" : "0";
    if (is_text(o)) return strlen(initial) == len && memcmp(initial, text, len) == 0;
    char copy[OPTION_TEXT_MAX + 1];
    int64_t given = 0, without = 0;
    if (len > OPTION_TEXT_MAX) return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    return number_of(o, copy, &given) && number_of(o, initial, &without) && given == without;
}

static void clear_keys(struct config_keys *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].kid);
        config_secret_set(&list->items[i].secret, NULL, 0);
    }
    free(list->items);
    *list = (struct config_keys){0};
}

static void clear_strings(struct config_strings *list)
{
    for (size_t i = 0; i < list->count; i++) free(list->items[i]);
    free(list->items);
    *list = (struct config_strings){0};
}

static void clear_namespaces(struct config_namespaces *list)
{
    for (size_t i = 0; i < list->count; i++) config_namespace_clear(&list->items[i]);
    free(list->items);
    *list = (struct config_namespaces){0};
}

void option_clear(void *base, const struct option *o)
{
    if (o->field == OPTION_NO_FIELD) return;
    void *field = option_field(base, o);
    struct config_urls *urls = field;
    switch (o->kind) {
    case OPTION_BOOL: *(bool *)field = false; return;
    case OPTION_INT:
    case OPTION_SIZE:
    case OPTION_DURATION: *(int64_t *)field = 0; return;
    case OPTION_CHOICE: memset(field, 0, sizeof(int)); return;
    case OPTION_FRACTION: *(double *)field = 0; return;
    case OPTION_STRING:
        free(*(char **)field);
        *(char **)field = NULL;
        return;
    case OPTION_SECRET: config_secret_set(field, NULL, 0); return;
    case OPTION_STRINGS: clear_strings(field); return;
    case OPTION_URLS:
        free(urls->items);
        *urls = (struct config_urls){0};
        return;
    case OPTION_KEYS: clear_keys(field); return;
    case OPTION_NAMESPACES: clear_namespaces(field); return;
    }
}
