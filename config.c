/* config.c - loading: defaults, then the file, the environment and the flags, each over the last.
 */
#include "config/load.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- the report ---- */

void loader_note(struct loader *l, bool is_error, const char *place, const char *format, ...)
{
    struct config_report *r = l->report;
    if (is_error) r->errors++;
    if (r->count >= LOADER_NOTES_MAX) return;

    char text[1024];
    va_list args;
    int n = place && *place ? snprintf(text, sizeof text, "%s: ", place) : 0;
    va_start(args, format);
    vsnprintf(text + n, sizeof text - (size_t)n, format, args);
    va_end(args);

    r->notes = config_grow(r->notes, r->count, sizeof *r->notes);
    r->notes[r->count].is_error = is_error;
    config_string_set(&r->notes[r->count++].text, text);
}

void config_report_print(const struct config_report *report, FILE *to)
{
    for (size_t i = 0; i < report->count; i++)
        fprintf(to, "roost: %s: %s\n", report->notes[i].is_error ? "error" : "warning",
                report->notes[i].text);
    if (report->count >= LOADER_NOTES_MAX) fputs("roost: there may be more\n", to);
}

void config_report_free(struct config_report *report)
{
    for (size_t i = 0; i < report->count; i++) free(report->notes[i].text);
    free(report->notes);
    *report = (struct config_report){0};
}

const char *loader_visible(char out[static VISIBLE_MAX], const char *text, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len && n < VISIBLE_MAX - 4; i++)
        out[n++] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    for (int i = 0; i < 3 && n < len; i++) out[n++] = '.';
    out[n] = '\0';
    return out;
}

/* ---- one value ---- */

struct origin *loader_origin(struct loader *l, const struct option *o)
{
    return &l->origins[o - option_table];
}

void loader_begin(struct loader *l, const struct option *o, enum layer layer, const char *place)
{
    struct origin *origin = loader_origin(l, o);
    bool objects = o->kind == OPTION_KEYS || o->kind == OPTION_NAMESPACES;
    if (origin->layer != layer && (objects || option_is_list(o))) option_clear(l->c, o);
    origin->layer = layer;
    origin->warned = false;
    snprintf(origin->place, sizeof origin->place, "%s", place);
}

void loader_planned(struct loader *l, const char *place, const char *name)
{
    loader_note(l, false, place, "%s is not supported yet and has no effect", name);
}

/* warn_planned warns of what a value asks for in vain; of a list once, however long
 * it is. */
static void warn_planned(struct loader *l, const struct option *o, const char *place,
                         const char *name, const char *text, size_t len)
{
    if (o->group != GROUP_PLANNED || option_is_initial(o, text, len)) return;
    if (!option_is_list(o)) {
        loader_planned(l, place, name);
        return;
    }
    struct origin *origin = loader_origin(l, o);
    if (!origin->warned) loader_planned(l, origin->place, o->key);
    origin->warned = true;
}

void loader_add(struct loader *l, void *base, const struct option *o, const char *place,
                const char *name, const char *text, size_t len)
{
    char why[OPTION_WHY_MAX], shown[VISIBLE_MAX];
    if (option_add(base, o, text, len, why)) {
        warn_planned(l, o, place, name, text, len);
        return;
    }
    if (o->kind == OPTION_SECRET) {
        loader_note(l, true, place, "%s: %s", name, why);
    } else {
        loader_note(l, true, place, "%s is \"%s\": %s", name, loader_visible(shown, text, len),
                    why);
    }
}

/* add_words gives a list each of the words in text, which commas or white space part. */
static void add_words(struct loader *l, const struct option *o, const char *place, const char *text)
{
    static const char apart[] = ", \t\r\n";
    for (text += strspn(text, apart); *text; text += strspn(text, apart)) {
        size_t len = strcspn(text, apart);
        loader_add(l, l->c, o, place, o->key, text, len);
        text += len;
    }
}

static void load_defaults(struct loader *l)
{
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        if (o->field == OPTION_NO_FIELD) continue;
        const char *initial = o->initial ? o->initial : "";
        if (o->initial || o->kind == OPTION_STRING)
            loader_add(l, l->c, o, "default", o->key, initial, strlen(initial));
    }
}

/* ---- environment ---- */

/* Kubernetes sets ROOST_SERVICE_HOST, ROOST_PORT_8080_TCP and the like in every container when a
 * service is called roost: those are not meant for us. The others are read by client commands. */
static bool is_foreign(const char *name, size_t len)
{
    static const char *const prefixes[] = {"ROOST_SERVICE_", "ROOST_PORT_"};
    static const char *const names[] = {"ROOST_PORT",
                                        "ROOST_TOKEN",
                                        "ROOST_URL",
                                        "ROOST_API_KEY",
                                        "ROOST_STATE_DIR",
                                        "ROOST_TEST_FAIL_ALLOC",
                                        "ROOST_TEST_FAIL_TLS_ALLOC"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0) return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == len && strncmp(name, names[i], len) == 0) return true;
    return false;
}

static void load_variable(struct loader *l, const char *name, size_t len, const char *value)
{
    char place[PLACE_MAX], near[OPTION_NAME_MAX];
    const struct option *o = option_find_env(name, len);
    loader_visible(place, name, len);
    if (!o) {
        if (!is_foreign(name, len))
            loader_note(l, false, place, "there is no such option; the nearest is %s",
                        option_nearest_env(near, place));
        return;
    }
    if (!*value) return; /* NAME= in a unit or compose file: left empty, not set to nothing */
    if (o->kind == OPTION_KEYS || o->kind == OPTION_NAMESPACES) {
        config_read_json(l, o, LAYER_ENVIRONMENT, place, value, strlen(value));
        return;
    }
    loader_begin(l, o, LAYER_ENVIRONMENT, place);
    if (option_is_list(o)) {
        add_words(l, o, place, value);
    } else {
        loader_add(l, l->c, o, place, o->key, value, strlen(value));
    }
}

static void load_environment(struct loader *l, char *const *environment)
{
    for (; *environment; environment++) {
        const char *equals = strchr(*environment, '=');
        if (!equals || strncmp(*environment, "ROOST_", 6) != 0) continue;
        load_variable(l, *environment, (size_t)(equals - *environment), equals + 1);
    }
}

/* ---- flags ---- */

struct flag {
    const struct option *option;
    const char *value;
    char place[PLACE_MAX]; /* --listen */
};

struct flags {
    struct flag *items;
    size_t count;
    enum config_outcome outcome; /* CONFIG_LOADED, or which help was asked for */
};

/* Without the table's order: --help wins over whatever else is wrong with the line. */
static bool is_help(struct flags *f, const char *argument)
{
    if (strcmp(argument, "--help-all") == 0) {
        f->outcome = CONFIG_HELP_ALL;
    } else if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
        f->outcome = CONFIG_HELP;
    } else {
        return false;
    }
    return true;
}

static void unknown_argument(struct loader *l, const char *argument)
{
    char shown[VISIBLE_MAX], near[OPTION_NAME_MAX];
    loader_visible(shown, argument, strlen(argument));
    if (argument[0] != '-' || argument[1] == '\0') {
        loader_note(l, true, shown, "what is this for? Options begin with --; see --help");
        return;
    }
    const char *name = argument + strspn(argument, "-");
    char cut[OPTION_NAME_MAX];
    snprintf(cut, sizeof cut, "%.*s", (int)strnlen(name, strcspn(name, "=")), name);
    loader_note(l, true, shown, "there is no such option; did you mean --%s?",
                option_nearest_flag(near, cut));
}

static void add_flag(struct flags *f, const struct option *o, const char *name, size_t len,
                     const char *value)
{
    f->items = config_grow(f->items, f->count, sizeof *f->items);
    struct flag *flag = &f->items[f->count++];
    flag->option = o;
    flag->value = value;
    snprintf(flag->place, sizeof flag->place, "--%.*s", (int)len, name);
}

/* --echo and --echo=false are the usual forms; --echo false can mean nothing else either. */
static bool is_truth(const char *argument)
{
    return strcmp(argument, "true") == 0 || strcmp(argument, "false") == 0;
}

static void parse_flags(struct loader *l, struct flags *f, int argc, char *const *argv)
{
    for (int i = 1; i < argc; i++) {
        const char *argument = argv[i];
        if (is_help(f, argument)) continue;
        if (strcmp(argument, "-c") == 0) argument = "--config";
        const char *name = strncmp(argument, "--", 2) == 0 ? argument + 2 : "";
        size_t len = strcspn(name, "=");
        const struct option *o = option_find_flag(name, len);
        if (!o) {
            unknown_argument(l, argument);
            /* what follows an unknown flag is most likely its value: one complaint is enough */
            if (*name && name[len] != '=' && i + 1 < argc && argv[i + 1][0] != '-') i++;
        } else if (name[len] == '=') {
            add_flag(f, o, name, len, name + len + 1);
        } else if (o->kind == OPTION_BOOL) {
            add_flag(f, o, name, len, i + 1 < argc && is_truth(argv[i + 1]) ? argv[++i] : "true");
        } else if (i + 1 < argc) {
            add_flag(f, o, name, len, argv[++i]);
        } else {
            loader_note(l, true, argument, "its value is missing: %s %s", argument,
                        option_argument(o));
        }
    }
}

static void load_flags(struct loader *l, const struct flags *f)
{
    for (size_t i = 0; i < f->count; i++) {
        const struct flag *flag = &f->items[i];
        const struct option *o = flag->option;
        if (o->kind == OPTION_SECRET)
            loader_note(l, false, flag->place,
                        "a command line is seen by every user of this host: "
                        "better a file or a ROOST_ variable");
        if (o->kind == OPTION_KEYS || o->kind == OPTION_NAMESPACES) {
            config_read_json(l, o, LAYER_FLAG, flag->place, flag->value, strlen(flag->value));
            continue;
        }
        loader_begin(l, o, LAYER_FLAG, flag->place);
        loader_add(l, l->c, o, flag->place, o->key, flag->value, strlen(flag->value));
    }
}

/* ---- all of it ---- */

/* The file is named by a flag or a variable, so both are looked at before it is read. */
static const char *find_file(const struct flags *f, char *const *environment)
{
    const char *path = NULL;
    for (; *environment; environment++)
        if (strncmp(*environment, "ROOST_CONFIG=", 13) == 0) path = *environment + 13;
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->items[i].option->key, "config") == 0) path = f->items[i].value;
    return path && *path ? path : NULL;
}

enum config_outcome config_load(struct config *c, int argc, char *const *argv,
                                char *const *environment, struct config_report *report)
{
    struct loader l = {.c = c, .report = report};
    struct flags flags = {.outcome = CONFIG_LOADED};
    size_t errors = report->errors;
    memset(c, 0, sizeof *c);
    l.origins = config_grow(NULL, option_count, sizeof *l.origins);
    memset(l.origins, 0, option_count * sizeof *l.origins);

    load_defaults(&l);
    parse_flags(&l, &flags, argc, argv);
    if (flags.outcome == CONFIG_LOADED) {
        const char *path = find_file(&flags, environment);
        if (path) config_read_file(&l, path);
        load_environment(&l, environment);
        load_flags(&l, &flags);
        config_check(&l, report->errors == errors);
        if (report->errors > errors) flags.outcome = CONFIG_WRONG;
    }
    free(flags.items);
    free(l.origins);
    return flags.outcome;
}

void config_free(struct config *c)
{
    for (size_t i = 0; i < option_count; i++) option_clear(c, &option_table[i]);
    struct config_token *tokens[] = {&c->token, &c->subscription_token};
    for (size_t i = 0; i < 2; i++) {
        config_secret_set(&tokens[i]->secret, NULL, 0);
        config_secret_set(&tokens[i]->previous, NULL, 0);
    }
    config_secret_set(&c->api_key, NULL, 0);
    config_secret_set(&c->console_password, NULL, 0);
    config_namespace_clear(&c->without_namespace);
    config_forget_items(c);
}
