/* cmd/tune.c - roost tune: may this host hold N connections, and what has to be set? */
#include "cmd/cmd.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "json.h"
#include "tune.h"

#define FILE_BELOW "/etc/sysctl.d/90-roost.conf"
#define FILE_HEAD "# Made by `roost tune --apply`; `roost tune --undo` takes it back."
#define WAS "# was: "
#define SETTINGS_MAX 64
#define CONNECTIONS_MAX 100000000u

static const char usage_text[] =
    "usage: roost tune [--connections N] [OPTION...]\n\n"
    "Looks at every limit and sysctl of this host that N connections depend on: what it is, what\n"
    "they need, and what breaks if it stays. Changes nothing unless told to.\n\n"
    "  --connections N     in all (default 100000); 250k and 1M are numbers too\n"
    "  --processes N       that share them evenly (default 1)\n"
    "  --tls               they are wss://\n"
    "  --clients           the clients run on this host as well: a load generator, a proxy\n"
    "  --apply             shows the difference, writes " FILE_BELOW " and loads it\n"
    "  --undo              sets back what --apply changed, and removes that file\n"
    "  --json              one JSON object\n"
    "  --markdown          the table of bench/TUNING.md\n"
    "  --root DIR          of another tree than / (an image, a test)\n\n"
    "Exit status: 0 nothing fails (warnings may), 1 so many connections are not possible, or\n"
    "something could not be set; 2 wrong command line.\n";

/* A sysctl that --apply sets. */
struct setting {
    char name[TUNE_TEXT], line[TUNE_TEXT], was[TUNE_TEXT];
    bool changes; /* now; others are of an earlier --apply */
};

struct tune {
    struct tune_plan plan;
    struct tune_result *results; /* of each check */
    bool apply, undo, json, markdown;
    struct setting settings[SETTINGS_MAX];
    unsigned settings_count;
};

static int wrong(const char *what, const char *value)
{
    fprintf(stderr, "roost tune: %s%s%s; `roost tune --help` says more\n", what, value ? ": " : "",
            value ? value : "");
    return 2;
}

/* ---- command line ---- */

static bool read_count(const char *text, uint64_t *n)
{
    char *end;
    errno = 0;
    if (!isdigit((unsigned char)*text)) return false;
    *n = strtoull(text, &end, 10);
    const uint64_t unit = *end == 'k' || *end == 'K'   ? 1000
                          : *end == 'm' || *end == 'M' ? 1000000
                                                       : 1;
    if (unit > 1) end++;
    if (*end || errno || *n > CONNECTIONS_MAX / unit) return false;
    *n *= unit;
    return *n > 0;
}

enum { CONNECTIONS = 256, PROCESSES, TLS, CLIENTS, APPLY, UNDO, JSON, MARKDOWN, ROOT };

static const struct option options[] = {
    {"connections", required_argument, NULL, CONNECTIONS},
    {"processes", required_argument, NULL, PROCESSES},
    {"tls", no_argument, NULL, TLS},
    {"clients", no_argument, NULL, CLIENTS},
    {"apply", no_argument, NULL, APPLY},
    {"undo", no_argument, NULL, UNDO},
    {"json", no_argument, NULL, JSON},
    {"markdown", no_argument, NULL, MARKDOWN},
    {"root", required_argument, NULL, ROOT},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

/* take_option returns -1 to go on, or the exit status. */
static int take_option(struct tune *t, int option)
{
    switch (option) {
    case CONNECTIONS:
        if (read_count(optarg, &t->plan.connections)) return -1;
        return wrong("--connections wants a number from 1 to 100M", optarg);
    case PROCESSES:
        if (read_count(optarg, &t->plan.processes)) return -1;
        return wrong("--processes wants a number, 1 or more", optarg);
    case TLS: t->plan.tls = true; return -1;
    case CLIENTS: t->plan.clients = true; return -1;
    case APPLY: t->apply = true; return -1;
    case UNDO: t->undo = true; return -1;
    case JSON: t->json = true; return -1;
    case MARKDOWN: t->markdown = true; return -1;
    case ROOT: t->plan.root = strcmp(optarg, "/") == 0 ? "" : optarg; return -1;
    case 'h': fputs(usage_text, stdout); return 0;
    default: fputs("`roost tune --help` says more\n", stderr); return 2;
    }
}

static int read_options(struct tune *t, int argc, char **argv)
{
    int option;
    optind = 0;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        const int status = take_option(t, option);
        if (status >= 0) return status;
    }
    if (optind < argc) return wrong("no arguments are taken", argv[optind]);
    if (t->apply && t->undo) return wrong("--apply and --undo are opposites", NULL);
    if (t->json && (t->apply || t->undo)) return wrong("--json only looks", NULL);
    return -1;
}

/* ---- telling ---- */

static bool has_colours(void)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(STDOUT_FILENO) && !(no && *no) && !(term && strcmp(term, "dumb") == 0);
}

static const char *colour(enum tune_verdict verdict, bool colours)
{
    if (!colours) return "";
    switch (verdict) {
    case TUNE_OK: return "\033[32m";
    case TUNE_WARN: return "\033[33m";
    case TUNE_FAIL: return "\033[31m";
    case TUNE_UNKNOWN: return "\033[36m";
    }
    return "";
}

static void print_advice(const struct tune_check *c, const struct tune_result *r,
                         const struct tune_plan *plan)
{
    printf("         %s\n", c->why);
    if (c->how)
        printf("         set by: %s\n", c->how);
    else if (r->line[0])
        printf("         sysctl -w %s=\"%s\"\n", c->name, r->line);
    if (r->verdict == TUNE_UNKNOWN)
        puts("         It can not be seen from here (a container?): look on the host.");
    else if (c->host && plan->container)
        puts("         Only the host can set it, not this container.");
}

static void print_table(const struct tune *t)
{
    const bool colours = has_colours();
    printf("%-7s  %-36s %-28s %s\n", "", "what", "now", "wanted");
    for (size_t i = 0; i < tune_checks_count; i++) {
        const struct tune_result *r = &t->results[i];
        printf("%s%-7s%s  %-36s %-28s %s\n", colour(r->verdict, colours),
               tune_verdict_name(r->verdict), colours ? "\033[0m" : "", tune_checks[i].name,
               r->now[0] ? r->now : "-", r->want[0] ? r->want : "-");
        if (r->verdict != TUNE_OK) print_advice(&tune_checks[i], r, &t->plan);
    }
}

static unsigned count(const struct tune *t, enum tune_verdict verdict)
{
    unsigned n = 0;
    for (size_t i = 0; i < tune_checks_count; i++) n += t->results[i].verdict == verdict;
    return n;
}

static void print_sum(const struct tune *t)
{
    const uint64_t each = (t->plan.connections + t->plan.processes - 1) / t->plan.processes;
    printf("\n%u fail, %u warnings, %u unknown, for %" PRIu64 " connections in %" PRIu64
           " process%s.\n",
           count(t, TUNE_FAIL), count(t, TUNE_WARN), count(t, TUNE_UNKNOWN), t->plan.connections,
           t->plan.processes, t->plan.processes == 1 ? "" : "es");
    printf("The unit wants LimitNOFILE=%" PRIu64 ". ", each + 1000);
    puts(t->apply || t->undo ? "" : "`roost tune --apply` sets what sysctls can.");
}

static void print_json(const struct tune *t)
{
    char text[32 * 1024];
    struct json_out o = {.p = text, .cap = sizeof text};
    json_puts(&o, "{\"connections\":");
    json_put_uint(&o, t->plan.connections);
    json_puts(&o, ",\"processes\":");
    json_put_uint(&o, t->plan.processes);
    json_puts(&o, ",\"checks\":[");
    for (size_t i = 0; i < tune_checks_count; i++) {
        const struct tune_result *r = &t->results[i];
        const char *const members[][2] = {{"name", tune_checks[i].name},
                                          {"now", r->now},
                                          {"want", r->want},
                                          {"verdict", tune_verdict_name(r->verdict)},
                                          {"why", tune_checks[i].why}};
        for (size_t k = 0; k < sizeof members / sizeof *members; k++) {
            json_puts(&o, k ? ",\"" : i ? ",{\"" : "{\"");
            json_puts(&o, members[k][0]);
            json_puts(&o, "\":");
            json_put_string(&o, members[k][1], strlen(members[k][1]));
        }
        json_puts(&o, "}");
    }
    json_puts(&o, "]}\n");
    fwrite(o.p, 1, o.len, stdout);
}

static void print_markdown(void)
{
    puts("| what | for N connections | otherwise | what breaks, or why not |\n|---|---|---|---|");
    for (size_t i = 0; i < tune_checks_count; i++) {
        static const char *const sign[] = {[TUNE_AT_LEAST] = "at least ",
                                           [TUNE_AT_MOST] = "at most ",
                                           [TUNE_NOT_WORD] = "not ",
                                           [TUNE_NOTE] = "as it is"};
        const struct tune_check *c = &tune_checks[i];
        printf("| %s | %s%s | %s | %s%s%s |\n", c->name, sign[c->rule] ? sign[c->rule] : "",
               c->formula, c->rule == TUNE_NOTE ? "" : tune_verdict_name(c->otherwise), c->why,
               c->how ? " Set by: " : "", c->how ? c->how : "");
    }
}

/* ---- setting ---- */

static int write_file(const char *path, const char *text)
{
    const int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd == -1) return -1;
    const ssize_t n = write(fd, text, strlen(text));
    const int saved = errno;
    if (close(fd) == -1 && n != -1) return -1;
    errno = saved;
    return n == (ssize_t)strlen(text) ? 0 : -1;
}

/* load sets one sysctl now. */
static int load(const struct tune *t, const char *name, const char *line)
{
    char path[PATH_MAX];
    tune_sysctl_path(path, t->plan.root, name);
    if (write_file(path, line) == 0) return 0;
    const char *const hint = errno == EROFS ? ": only the host of this container can set it"
                             : errno == EACCES || errno == EPERM ? ": root is needed"
                                                                 : "";
    fprintf(stderr, "roost tune: %s = %s: %s%s\n", name, line, strerror(errno), hint);
    return -1;
}

static struct setting *find_setting(struct tune *t, const char *name)
{
    for (unsigned i = 0; i < t->settings_count; i++)
        if (strcmp(t->settings[i].name, name) == 0) return &t->settings[i];
    return NULL;
}

static struct setting *setting_of(struct tune *t, const char *name)
{
    struct setting *found = find_setting(t, name);
    if (found || t->settings_count == SETTINGS_MAX) return found;
    struct setting *s = &t->settings[t->settings_count++];
    snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

/* take_line reads "name = value" behind its prefix. */
static void take_line(struct tune *t, char *line)
{
    const bool was = strncmp(line, WAS, sizeof WAS - 1) == 0;
    if (was) line += sizeof WAS - 1;
    if (*line == '#') return;
    char *equals = strstr(line, " = ");
    if (!equals) return;
    *equals = 0;
    struct setting *s = setting_of(t, line);
    if (s) snprintf(was ? s->was : s->line, sizeof s->line, "%s", equals + 3);
}

/* read_ours reads the file of an earlier --apply. 1: read, 0: there is none, -1: not ours. */
static int read_ours(struct tune *t, const char *path)
{
    char line[3 * TUNE_TEXT];
    FILE *f = fopen(path, "re");
    if (!f && errno == ENOENT) return 0;
    if (!f) {
        fprintf(stderr, "roost tune: %s: %s\n", path, strerror(errno));
        return -1;
    }
    const bool ours =
        fgets(line, sizeof line, f) && strncmp(line, FILE_HEAD, strlen(FILE_HEAD)) == 0;
    while (ours && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        take_line(t, line);
    }
    fclose(f);
    if (ours) return 1;
    fprintf(stderr, "roost tune: %s was not made by roost tune: move it away first\n", path);
    return -1;
}

static int save(const struct tune *t, const char *path)
{
    char new_path[PATH_MAX];
    if (snprintf(new_path, sizeof new_path, "%s.new", path) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    FILE *f = fopen(new_path, "we");
    if (!f) return -1;
    fprintf(f, "%s\n", FILE_HEAD);
    for (unsigned i = 0; i < t->settings_count; i++)
        fprintf(f, WAS "%s = %s\n%s = %s\n", t->settings[i].name, t->settings[i].was,
                t->settings[i].name, t->settings[i].line);
    bool good = fflush(f) == 0 && fchmod(fileno(f), 0644) == 0 && fsync(fileno(f)) == 0;
    int saved = errno;
    if (fclose(f) == -1 && good) {
        saved = errno;
        good = false;
    }
    if (good) {
        if (rename(new_path, path) == 0) return 0;
        saved = errno;
    }
    (void)unlink(new_path);
    errno = saved;
    return -1;
}

/* gather adds what is to be changed now and shows it. */
static unsigned gather(struct tune *t)
{
    unsigned changes = 0;
    for (size_t i = 0; i < tune_checks_count; i++) {
        const struct tune_result *r = &t->results[i];
        struct setting *s =
            r->line[0] ? setting_of(t, tune_checks[i].name) : find_setting(t, tune_checks[i].name);
        if (!s) continue;
        if (!r->line[0]) { /* enough, whoever set it since: it stays */
            snprintf(s->line, sizeof s->line, "%s", r->now);
            continue;
        }
        if (!s->was[0]) snprintf(s->was, sizeof s->was, "%s", r->now);
        snprintf(s->line, sizeof s->line, "%s", r->line);
        s->changes = true;
        printf("- %s = %s\n+ %s = %s\n", s->name, r->now, s->name, s->line);
        changes++;
    }
    return changes;
}

static int apply(struct tune *t)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s" FILE_BELOW, t->plan.root);
    if (read_ours(t, path) == -1) return 1;
    if (gather(t) == 0) {
        puts("Nothing to set: every sysctl is as it should be.");
        return 0;
    }
    if (save(t, path) == -1) {
        fprintf(stderr, "roost tune: %s: %s%s\n", path, strerror(errno),
                errno == EACCES ? ": root is needed" : "");
        return 1;
    }
    printf("Written to %s.\n", path);
    int status = 0;
    for (unsigned i = 0; i < t->settings_count; i++)
        if (t->settings[i].changes && load(t, t->settings[i].name, t->settings[i].line) == -1)
            status = 1;
    puts(status ? "Not all of it could be set now." : "Set.");
    return status;
}

static int undo(struct tune *t)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s" FILE_BELOW, t->plan.root);
    const int found = read_ours(t, path);
    if (found == -1) return 1;
    if (found == 0) {
        printf("Nothing to undo: there is no %s.\n", path);
        return 0;
    }
    int status = 0;
    for (unsigned i = 0; i < t->settings_count; i++) {
        const struct setting *s = &t->settings[i];
        printf("- %s = %s\n+ %s = %s\n", s->name, s->line, s->name, s->was);
        if (s->was[0] && load(t, s->name, s->was) == -1) status = 1;
    }
    if (status == 0 && unlink(path) == -1) {
        fprintf(stderr, "roost tune: %s: %s\n", path, strerror(errno));
        return 1;
    }
    printf(status ? "%s stays: not all of it could be set back.\n" : "Removed %s.\n", path);
    return status;
}

/* ---- all of it ---- */

static void look(struct tune *t)
{
    for (size_t i = 0; i < tune_checks_count; i++)
        tune_look(&t->results[i], &tune_checks[i], &t->plan);
}

static int run(struct tune *t)
{
    if (t->undo) return undo(t);
    if (tune_open(&t->plan) == -1) {
        fprintf(stderr, "roost tune: %s/proc/meminfo: %s: is /proc there?\n", t->plan.root,
                strerror(errno));
        return 1;
    }
    look(t);
    if (t->json) {
        print_json(t);
        return count(t, TUNE_FAIL) > 0;
    }
    int status = 0;
    if (t->apply) {
        status = apply(t);
        look(t);
        putchar('\n');
    }
    print_table(t);
    print_sum(t);
    return status ? status : count(t, TUNE_FAIL) > 0;
}

int cmd_tune(int argc, char **argv)
{
    struct tune t = {.plan = {.root = "", .connections = 100000, .processes = 1}};
    const int status = read_options(&t, argc, argv);
    if (status >= 0) return status;
    if (t.markdown) {
        print_markdown();
        return 0;
    }
    t.results = calloc(tune_checks_count, sizeof *t.results);
    if (!t.results) {
        fputs("roost tune: out of memory\n", stderr);
        return 1;
    }
    const int result = run(&t);
    free(t.results);
    return result;
}
