/* config/print.c - the table and a configuration as text: --help, `roost check`, docs/options.md.
 */
#include "config/table.h"

#include "json.h"

#include <stdlib.h>
#include <string.h>

/* ---- --help ---- */

#define HELP_COLUMN 29
#define HELP_WIDTH 92

/* print_wrapped breaks text between words; the first line begins at column `at`. */
static void print_wrapped(FILE *to, const char *text, int at)
{
    if (at + 2 > HELP_COLUMN) {
        fputc('\n', to);
        at = 0;
    }
    fprintf(to, "%*s", HELP_COLUMN - at, "");
    at = HELP_COLUMN;
    while (*text) {
        int len = (int)strcspn(text, " ");
        if (at > HELP_COLUMN && at + 1 + len > HELP_WIDTH) {
            fprintf(to, "\n%*s", HELP_COLUMN, "");
            at = HELP_COLUMN;
        }
        if (at > HELP_COLUMN) at += fprintf(to, " ");
        at += fprintf(to, "%.*s", len, text);
        text += len;
        text += strspn(text, " ");
    }
    fputc('\n', to);
}

static void choices_text(const struct option *o, char *out, size_t cap)
{
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; o->choices && o->choices[i] && n < cap; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s%s", i ? ", " : "",
                              *o->choices[i] ? o->choices[i] : "\"\"");
}

static const char *default_text(const struct option *o)
{
    if (!o->initial) return "";
    return *o->initial ? o->initial : "\"\"";
}

static void print_option(FILE *to, const struct option *o)
{
    char text[640], choices[128];
    const char *argument = option_argument(o);
    int at = fprintf(to, "  --%s%s%s", o->flag ? o->flag : o->key, *argument ? " " : "", argument);
    choices_text(o, choices, sizeof choices);
    bool says_default = o->initial && o->kind != OPTION_BOOL;
    snprintf(text, sizeof text, "%s%s%s%s%s%s%s", o->help ? o->help : "",
             *choices ? " One of: " : "", choices, *choices ? "." : "", says_default ? " [" : "",
             says_default ? default_text(o) : "", says_default ? "]" : "");
    print_wrapped(to, text, at);
}

static bool in_short_help(const struct option *o)
{
    return o->flag && o->group != GROUP_PLANNED;
}

static void print_group(FILE *to, int group, bool all)
{
    bool titled = false;
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        if ((int)o->group != group || !(all || in_short_help(o))) continue;
        if (!titled) fprintf(to, "\n%s\n", option_group_titles[group]);
        titled = true;
        print_option(to, o);
    }
}

void config_help(FILE *to, bool all)
{
    for (int group = 0; group < GROUP_COUNT; group++)
        if (group != GROUP_PLANNED) print_group(to, group, all);
    fputs(
        "\nEvery option is also a key of the JSON file (--ping-interval is client.ping_interval)\n"
        "and a variable (ROOST_CLIENT_PING_INTERVAL); flags win over variables, those over the\n"
        "file.\n",
        to);
    fputs(all ? "docs/options.md lists the keys as well, with those not supported yet.\n"
              : "--help-all lists every option; roost check shows what is in effect.\n",
          to);
}

/* ---- JSON ---- */

static void print_text(FILE *to, const char *text)
{
    size_t len = strlen(text), cap = 6 * len;
    char *out = config_grow(NULL, cap, 1);
    int64_t n = json_escape(out, cap, text, len);
    fprintf(to, "\"%.*s\"", n < 0 ? 0 : (int)n, out);
    free(out);
}

static void print_strings(FILE *to, const struct config_strings *list)
{
    fputc('[', to);
    for (size_t i = 0; i < list->count; i++) {
        if (i) fputs(", ", to);
        print_text(to, list->items[i]);
    }
    fputc(']', to);
}

static void print_urls(FILE *to, const struct config_urls *list)
{
    char url[CONFIG_URL_MAX];
    fputc('[', to);
    for (size_t i = 0; i < list->count; i++) {
        if (i) fputs(", ", to);
        print_text(to, config_url_format(url, &list->items[i]));
    }
    fputc(']', to);
}

static void print_secret(FILE *to, const struct config_secret *s)
{
    fputs(s->len ? "\"***\"" : "\"\"", to);
}

static void print_keys(FILE *to, const struct config_keys *list)
{
    static const char *const scopes[] = {[CONFIG_SCOPE_NONE] = "",
                                         [CONFIG_SCOPE_PUBLISH] = ", \"scope\": \"publish\"",
                                         [CONFIG_SCOPE_READ] = ", \"scope\": \"read\"",
                                         [CONFIG_SCOPE_ALL] = ", \"scope\": \"all\""};
    fputc('[', to);
    for (size_t i = 0; i < list->count; i++) {
        const struct config_key *k = &list->items[i];
        fputs(i ? ", " : "", to);
        fputs(k->scope ? "{\"name\": " : "{\"kid\": ", to);
        print_text(to, k->kid ? k->kid : "");
        fputs(k->scope ? ", \"key\": " : ", \"secret\": ", to);
        print_secret(to, &k->secret);
        fputs(scopes[k->scope], to);
        fputc('}', to);
    }
    fputc(']', to);
}

static void print_namespaces(FILE *to, const struct config_namespaces *list);

static void print_value(FILE *to, const void *base, const struct option *o)
{
    const void *field = option_field_const(base, o);
    char duration[CONFIG_NUMBER_MAX];
    int choice;
    switch (o->kind) {
    case OPTION_BOOL: fputs(*(const bool *)field ? "true" : "false", to); return;
    case OPTION_INT:
    case OPTION_SIZE:
        if (o->automatic && *(const int64_t *)field == CONFIG_AUTOMATIC) {
            print_text(to, "auto");
            return;
        }
        fprintf(to, "%lld", (long long)*(const int64_t *)field);
        return;
    case OPTION_DURATION:
        print_text(to, config_format_duration(duration, *(const int64_t *)field));
        return;
    case OPTION_CHOICE:
        memcpy(&choice, field, sizeof choice);
        print_text(to, o->choices[choice]);
        return;
    case OPTION_STRING: print_text(to, *(char *const *)field ? *(char *const *)field : ""); return;
    case OPTION_SECRET: print_secret(to, field); return;
    case OPTION_STRINGS: print_strings(to, field); return;
    case OPTION_URLS: print_urls(to, field); return;
    case OPTION_KEYS: print_keys(to, field); return;
    case OPTION_NAMESPACES: print_namespaces(to, field); return;
    case OPTION_FRACTION: fprintf(to, "%.15g", *(const double *)field); return;
    }
}

/* Is a namespace's option as it would be unsaid? */
static bool is_unset(const struct config_namespace *n, const struct option *o)
{
    static const struct config_namespace none;
    const void *field = option_field_const(n, o), *unset = option_field_const(&none, o);
    switch (o->kind) {
    case OPTION_BOOL: return !*(const bool *)field;
    case OPTION_INT:
    case OPTION_SIZE:
    case OPTION_DURATION: return *(const int64_t *)field == 0;
    case OPTION_CHOICE: return memcmp(field, unset, sizeof(int)) == 0;
    case OPTION_STRING: return !**(char *const *)field;
    case OPTION_FRACTION:
    case OPTION_SECRET:
    case OPTION_STRINGS:
    case OPTION_URLS:
    case OPTION_KEYS:
    case OPTION_NAMESPACES: break; /* no namespace has one */
    }
    return true;
}

/* Of a namespace's options those that are not as they would be unsaid: most of them are. */
static void print_namespace(FILE *to, const struct config_namespace *n)
{
    fputs("{\"name\": ", to);
    print_text(to, n->name ? n->name : "");
    for (size_t i = 0; i < namespace_option_count; i++) {
        const struct option *o = &namespace_option_table[i];
        if (o->field == OPTION_NO_FIELD || is_unset(n, o)) continue;
        fprintf(to, ", \"%s\": ", o->key);
        print_value(to, n, o);
    }
    fputc('}', to);
}

static void print_namespaces(FILE *to, const struct config_namespaces *list)
{
    fputc('[', to);
    for (size_t i = 0; i < list->count; i++) {
        if (i) fputs(", ", to);
        print_namespace(to, &list->items[i]);
    }
    fputc(']', to);
}

static int by_key(const void *a, const void *b)
{
    const struct option *const *x = a, *const *y = b;
    return strcmp((*x)->key, (*y)->key);
}

/* Not printed: config names the file itself; Centrifugo's address and port are in listen by now. */
static bool is_printed(const struct option *o)
{
    static const char *const left_out[] = {
        "config",
        "http_server.address",
        "http_server.port",
        "http_server.internal_address",
        "http_server.internal_port",
        "http_server.tls.enabled",
    };
    for (size_t i = 0; i < sizeof left_out / sizeof *left_out; i++)
        if (strcmp(o->key, left_out[i]) == 0) return false;
    return o->field != OPTION_NO_FIELD;
}

static void new_line(FILE *to, size_t depth, bool comma)
{
    fprintf(to, "%s\n%*s", comma ? "," : "", (int)(2 * depth + 2), "");
}

/* shared_depth: how many sections two keys are both in; depth_of: how many one is in. */
static size_t shared_depth(const char *a, const char *b)
{
    size_t depth = 0;
    for (; *a && *a == *b; a++, b++) depth += *a == '.';
    return depth;
}

static size_t depth_of(const char *key)
{
    return shared_depth(key, key);
}

/* print_key closes the sections that end before key and opens those that it begins. */
static void print_key(FILE *to, const char *previous, const char *key)
{
    size_t shared = shared_depth(previous, key);
    bool comma = *previous;
    for (size_t depth = depth_of(previous); depth > shared; depth--) {
        new_line(to, depth - 1, false);
        fputc('}', to);
    }
    size_t depth = 0;
    for (const char *dot; (dot = strchr(key, '.')); key = dot + 1, depth++) {
        if (depth < shared) continue;
        new_line(to, depth, comma);
        fprintf(to, "\"%.*s\": {", (int)(dot - key), key);
        comma = false;
    }
    new_line(to, depth, comma);
    fprintf(to, "\"%s\": ", key);
}

void config_print_json(FILE *to, const struct config *c)
{
    const struct option **rows = config_grow(NULL, option_count, sizeof(struct option *));
    size_t count = 0;
    for (size_t i = 0; i < option_count; i++)
        if (is_printed(&option_table[i])) rows[count++] = &option_table[i];
    qsort(rows, count, sizeof *rows, by_key);

    const char *previous = "";
    fputc('{', to);
    for (size_t i = 0; i < count; i++) {
        print_key(to, previous, rows[i]->key);
        print_value(to, c, rows[i]);
        previous = rows[i]->key;
    }
    for (size_t depth = depth_of(previous); depth > 0; depth--) {
        new_line(to, depth - 1, false);
        fputc('}', to);
    }
    fputs("\n}\n", to);
    free(rows);
}

/* ---- docs/options.md ---- */

/* In a table's cell a bar would end it. */
static void print_cell(FILE *to, const char *text)
{
    for (; *text; text++) fprintf(to, *text == '|' ? "\\%c" : *text == '<' ? "&lt;" : "%c", *text);
}

static void print_table_head(FILE *to)
{
    fputs("\n| key | flag | default | changes by | |\n|---|---|---|---|---|\n", to);
}

static void print_markdown_row(FILE *to, const struct option *o)
{
    char choices[128];
    const char *argument = option_argument(o);
    choices_text(o, choices, sizeof choices);
    fprintf(to, "| `%s` | ", o->key);
    if (o->flag) fprintf(to, "`--%s%s%s`", o->flag, *argument ? " " : "", argument);
    fprintf(to, " | %s%s%s | %s | ", o->initial ? "`" : "", default_text(o), o->initial ? "`" : "",
            o->restart ? "restart" : "reload");
    print_cell(to, o->help ? o->help : "");
    if (*choices) fprintf(to, " One of: %s.", choices);
    fputs(" |\n", to);
}

static void print_planned(FILE *to)
{
    fputs(
        "\n## Known, not supported yet\n\n"
        "These keys of a Centrifugo configuration, and some of ours, are accepted and have no "
        "effect, those of\n`channel.without_namespace` also within a namespace. There is a warning "
        "for each whose value asks for something that does not happen:\n\n",
        to);
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        if (o->group != GROUP_PLANNED) continue;
        fprintf(to, "- `%s`%s%s\n", o->key, o->help ? ": " : "", o->help ? o->help : "");
    }
}

/* The keys of a namespace once, not again with the prefix of channels without one. */
static void print_namespace_group(FILE *to)
{
    fputs("\nThese are members of each object in `channel.namespaces`, beside its `name`; with\n"
          "`channel.without_namespace.` before them they are options of channels without a\n"
          "namespace. A namespace takes nothing over from there.\n",
          to);
    print_table_head(to);
    for (size_t i = 0; i < namespace_option_count; i++)
        if (namespace_option_table[i].group == GROUP_NAMESPACE)
            print_markdown_row(to, &namespace_option_table[i]);
}

void config_print_markdown(FILE *to)
{
    fputs(
        "# Options\n\n"
        "<!-- Printed by `roost check --options-markdown` from the table in config/table.c. -->\n\n"
        "Every option is a key of the JSON configuration file (nested, or with dots), a variable\n"
        "(`ROOST_` and the key in upper case, `_` for `.`: `ROOST_CLIENT_PING_INTERVAL`; lists\n"
        "parted by commas or spaces) and a flag (the short one below, or the key itself:\n"
        "`--client.ping_interval 25s`). Flags win over variables, variables over the file, the\n"
        "file over the defaults. Times are written `300ms`, `25s`, `1h30m`, `2d`; sizes `131072`,\n"
        "`128KiB`, `1MiB`. An unknown key is an error that names the nearest known one.\n"
        "`roost check CONFIG` says what is wrong and prints what is in effect. What changes by "
        "reload\n"
        "a server that runs reads again on SIGHUP ([operations.md](operations.md#reload)).\n",
        to);
    for (int group = 0; group < GROUP_PLANNED; group++) {
        fprintf(to, "\n## %s\n", option_group_titles[group]);
        if (group == GROUP_NAMESPACE) {
            print_namespace_group(to);
            continue;
        }
        print_table_head(to);
        for (size_t i = 0; i < option_count; i++)
            if ((int)option_table[i].group == group) print_markdown_row(to, &option_table[i]);
    }
    print_planned(to);
}
