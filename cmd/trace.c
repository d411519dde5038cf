/* cmd/trace.c - roost trace: what happens to some connections of a running server, as it happens.
 */
#include "cmd/admin.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "json.h"

#define LINE_BYTES_MAX 16384
#define TOKENS_MAX 64
#define CALL_MS 15000    /* until the answer begins */
#define SILENCE_MS 60000 /* four times what the server is silent at most (watch.h) */
#define PATH_MAX_BYTES 4096

struct tracer {
    struct admin admin;
    const char *user, *channel, *conn;
    const char *limit, *seconds;
    bool payload, json, colours;
    bool ended; /* the server has said why it ends */
    char line[LINE_BYTES_MAX];
    size_t len;
};

static void usage(FILE *to)
{
    fprintf(
        to,
        "usage: roost trace --user NAME | --channel NAME | --conn ID [URL] [options]\n"
        "Prints what happens to connections of a running server, a line each: connected, closed\n"
        "(with code and reason), subscribed, unsubscribed, message (from the client), delivered "
        "(a\n"
        "publication to it), refused (and why). With several of the three, all must be so.\n"
        "URL is http://HOST:PORT, https://HOST:PORT or unix:/SOCKET, of --admin-listen if there\n"
        "is one; without it http://127.0.0.1:8080. ID is as the API's connections says.\n\n"
        "  --payload              also the first 200 bytes of what is sent, escaped, unless it\n"
        "                         is a command of an SDK client with a token in it\n"
        "  --limit N              lines a second (100); it says how many more there were\n"
        "  --seconds S            end after so long (300, a day at most)\n"
        "  --json                 lines as the server gives them: a JSON object each\n"
        "%s"
        "\nStatus: 0 over, 1 refused, not reached, cut or silent for a minute, 2 wrong usage.\n",
        admin_options_help);
}

/* ---- lines ---- */

/* put_safe writes what is between a string's quotes, escapes as they are; nothing that could steer
 * a terminal. */
static void put_safe(struct json_slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        const unsigned char c = (unsigned char)s.p[i];
        const bool c1 = c == 0xc2 && i + 1 < s.len && (unsigned char)s.p[i + 1] < 0xa0;
        if (c1) i++;
        if (c < ' ' || c == 0x7f || c1)
            putchar('?');
        else
            putchar(c);
    }
}

static bool is(struct json_slice s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.p, text, s.len) == 0;
}

static const char *colour_of(struct json_slice event)
{
    static const struct {
        const char *event, *colour;
    } colours[] = {{"connected", "\033[32m"},  {"closed", "\033[31m"},  {"refused", "\033[31m"},
                   {"delivered", "\033[36m"},  {"message", "\033[33m"}, {"left_out", "\033[35m"},
                   {"subscribed", "\033[32m"}, {"end", "\033[35m"},     {"watching", "\033[35m"}};
    for (size_t i = 0; i < sizeof colours / sizeof *colours; i++)
        if (is(event, colours[i].event)) return colours[i].colour;
    return "";
}

static struct json_slice inside(struct json_slice raw)
{
    if (raw.len >= 2 && *raw.p == '"') return (struct json_slice){raw.p + 1, raw.len - 2};
    return raw;
}

static void put_time(const struct json *doc)
{
    int64_t ms = 0;
    struct tm tm;
    char text[16] = "";
    (void)json_int64(doc, json_member(doc, 0, "time"), &ms);
    const time_t s = (time_t)(ms / 1000);
    if (localtime_r(&s, &tm)) strftime(text, sizeof text, "%H:%M:%S", &tm);
    printf("%s.%03d ", text, (int)(ms % 1000));
}

static void put_member(const struct json *doc, int v)
{
    static const char *const first[] = {"time", "event", "conn"};
    const int name = json_name(doc, v);
    const struct json_slice raw = json_raw(doc, v), text = inside(raw);
    for (size_t i = 0; i < sizeof first / sizeof *first; i++)
        if (json_is(doc, name, first[i], strlen(first[i]))) return;
    putchar(' ');
    put_safe(inside(json_raw(doc, name)));
    putchar('=');
    const bool quoted = text.len != raw.len && (!text.len || memchr(text.p, ' ', text.len));
    put_safe(quoted ? raw : text);
}

/* put_human writes a line for people; false: it is not as expected. */
static bool put_human(struct tracer *t, const char *line, size_t len)
{
    jsmntok_t tokens[TOKENS_MAX];
    struct json doc;
    if (json_parse(&doc, line, len, tokens, TOKENS_MAX, 1, JSON_LONE_SURROGATES) != 0 ||
        json_type(&doc, 0) != JSON_OBJECT)
        return false;
    const struct json_slice event = inside(json_raw(&doc, json_member(&doc, 0, "event"))),
                            conn = inside(json_raw(&doc, json_member(&doc, 0, "conn")));
    if (is(event, "alive")) return true;
    t->ended = t->ended || is(event, "end");
    put_time(&doc);
    if (t->colours) fputs(colour_of(event), stdout);
    put_safe(event);
    for (size_t n = event.len; n < 12; n++) putchar(' ');
    if (t->colours) fputs("\033[0m", stdout);
    put_safe(conn);
    for (int v = json_first(&doc, 0); v != JSON_NONE; v = json_next(&doc, 0, v))
        put_member(&doc, v);
    putchar('\n');
    return true;
}

static void put_line(struct tracer *t)
{
    static const char end[] = "\"event\":\"end\"";
    if (!t->json && put_human(t, t->line, t->len)) return;
    t->ended = t->ended || memmem(t->line, t->len, end, sizeof end - 1);
    put_safe((struct json_slice){t->line, t->len});
    putchar('\n');
}

/* take gathers lines; false: nobody reads what we print. */
static bool take(const char *bytes, size_t len, void *arg)
{
    struct tracer *t = arg;
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != '\n') {
            if (t->len < sizeof t->line) t->line[t->len++] = bytes[i];
            continue;
        }
        put_line(t);
        t->len = 0;
    }
    return fflush(stdout) == 0;
}

/* ---- the request ---- */

/* add writes a parameter, percent-encoded. */
static bool add(char *path, const char *name, const char *value)
{
    size_t at = strlen(path);
    if (!value) return true;
    int n = snprintf(path + at, PATH_MAX_BYTES - at, "%s%s=", strchr(path, '?') ? "&" : "?", name);
    at += (size_t)n;
    for (const char *p = value; *p && at < PATH_MAX_BYTES - 4; p++) {
        const unsigned char c = (unsigned char)*p;
        const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                           (c >= 'A' && c <= 'Z') || strchr("-._~", c);
        at += (size_t)snprintf(path + at, 4, plain ? "%c" : "%%%02X", c);
    }
    return at < PATH_MAX_BYTES - 4;
}

static bool make_path(const struct tracer *t, char path[static PATH_MAX_BYTES])
{
    snprintf(path, PATH_MAX_BYTES, "/debug/trace");
    return add(path, "user", t->user) && add(path, "channel", t->channel) &&
           add(path, "conn", t->conn) && add(path, "limit", t->limit) &&
           add(path, "seconds", t->seconds) && add(path, "payload", t->payload ? "1" : NULL);
}

static int follow(struct tracer *t, const char *path)
{
    static struct collector_answer answer;
    char err[256];
    struct collector *c = admin_call(&t->admin, "GET", path, CALL_MS);
    if (!c) return 1;
    const struct collector_taker taker = {.take = take, .arg = t, .silence_ms = SILENCE_MS};
    const int failed = collector_follow(c, &taker, &answer, err, sizeof err);
    collector_delete(c);
    if (failed) fprintf(stderr, "roost: %s\n", err);
    if (failed) return 1;
    return answer.status == 200 ? !t->ended : admin_refused(&answer);
}

/* ---- options ---- */

enum {
    OPT_USER = ADMIN_OPT_END,
    OPT_CHANNEL,
    OPT_CONN,
    OPT_PAYLOAD,
    OPT_LIMIT,
    OPT_SECONDS,
    OPT_JSON,
    OPT_HELP
};

static bool take_option(struct tracer *t, int value, const char *arg)
{
    switch (value) {
    case OPT_USER: t->user = arg; return true;
    case OPT_CHANNEL: t->channel = arg; return true;
    case OPT_CONN: t->conn = arg; return true;
    case OPT_PAYLOAD: t->payload = true; return true;
    case OPT_LIMIT: t->limit = arg; return true;
    case OPT_SECONDS: t->seconds = arg; return true;
    case OPT_JSON: t->json = true; return true;
    default: return admin_option(&t->admin, value, arg);
    }
}

/* parse returns -1 to go on, or the exit status. */
static int parse(struct tracer *t, int argc, char **argv)
{
    static const struct option options[] = {ADMIN_LONG_OPTIONS,
                                            {"user", required_argument, NULL, OPT_USER},
                                            {"channel", required_argument, NULL, OPT_CHANNEL},
                                            {"conn", required_argument, NULL, OPT_CONN},
                                            {"payload", no_argument, NULL, OPT_PAYLOAD},
                                            {"limit", required_argument, NULL, OPT_LIMIT},
                                            {"seconds", required_argument, NULL, OPT_SECONDS},
                                            {"json", no_argument, NULL, OPT_JSON},
                                            {"help", no_argument, NULL, OPT_HELP},
                                            {NULL, 0, NULL, 0}};
    int value;
    optind = 0;
    while ((value = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (value == OPT_HELP || value == 'h') {
            usage(stdout);
            return 0;
        }
        if (!take_option(t, value, optarg)) return 2;
    }
    if ((!t->user && !t->channel && !t->conn) || argc - optind > 1) {
        fputs("usage: roost trace --user NAME | --channel NAME | --conn ID [URL]; roost trace "
              "--help says more\n",
              stderr);
        return 2;
    }
    t->admin.url_text = argv[optind];
    return -1;
}

int cmd_trace(int argc, char **argv)
{
    static struct tracer t;
    char path[PATH_MAX_BYTES];
    int status = parse(&t, argc, argv);
    if (status != -1) return status;
    if (!make_path(&t, path)) {
        fputs("roost: a name is too long\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    t.colours = isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
    status = admin_open(&t.admin);
    if (!status) status = follow(&t, path);
    admin_close(&t.admin);
    return status;
}
