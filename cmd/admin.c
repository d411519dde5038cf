/* cmd/admin.c - roost rebalance and roost ready: a request to a running server. */
#include "cmd/admin.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "credentials.h"

#define CONNECT_MS 5000
#define CALL_MS 15000
#define DEFAULT_URL "http://127.0.0.1:8080"

/* ---- the server and the key ---- */

const char admin_options_help[] =
    "  --api-key-file FILE    the key of the HTTP API, of scope all; else the variable\n"
    "                         ROOST_HTTP_API_KEY, or for a server on this machine the key of\n"
    "                         roost serve --dev\n"
    "  --cacert FILE          trust the certificates in FILE, instead of the system's\n";

bool admin_option(struct admin *a, int value, const char *arg)
{
    if (value == ADMIN_OPT_KEY_FILE)
        a->key_file = arg;
    else if (value == ADMIN_OPT_CACERT)
        a->cacert = arg;
    else
        return false;
    return true;
}

/* parse_url takes http and https as well, which is what is spoken here. */
static const char *parse_url(struct url *u, const char *text)
{
    char with_ws[URL_PATH_MAX * 2 + URL_HOST_MAX];
    if (strncmp(text, "http", 4) == 0) {
        int n = snprintf(with_ws, sizeof with_ws, "ws%s", text + 4);
        if (n < 0 || (size_t)n >= sizeof with_ws) return "it is too long";
        text = with_ws;
    }
    return url_parse(u, text);
}

static bool set_key(struct admin *a, const char *key, size_t len)
{
    while (len && strchr("\r\n", key[len - 1])) len--;
    for (size_t i = 0; i < len; i++)
        if (key[i] <= ' ' || key[i] >= 0x7f) return false;
    int n = snprintf(a->authorization, sizeof a->authorization, "apikey %.*s", (int)len, key);
    return len > 0 && n > 0 && (size_t)n < sizeof a->authorization;
}

static int read_key(struct admin *a, const char *path)
{
    char key[ADMIN_KEY_MAX];
    FILE *f = fopen(path, "re");
    const size_t n = f ? fread(key, 1, sizeof key, f) : 0;
    const bool failed = !f || ferror(f);
    const int e = errno;
    if (f) fclose(f);
    const bool ok = !failed && n < sizeof key && set_key(a, key, n);
    explicit_bzero(key, sizeof key);
    if (ok) return 0;
    fprintf(stderr, "roost: %s: %s\n", path, failed ? strerror(e) : "holds no key");
    return 1;
}

static int find_key(struct admin *a)
{
    char dir[1024], file[1100];
    const char *key = getenv("ROOST_HTTP_API_KEY");
    if (a->key_file) return read_key(a, a->key_file);
    if (key && *key) {
        if (set_key(a, key, strlen(key))) return 0;
        fprintf(stderr, "roost: ROOST_HTTP_API_KEY holds what can not be in a header\n");
        return 1;
    }
    if (!url_loopback(&a->url) || !credentials_dev_dir(dir, sizeof dir)) return 0;
    snprintf(file, sizeof file, "%s/api_key", dir);
    return read_key(a, file);
}

int admin_open(struct admin *a)
{
    const char *text = a->url_text ? a->url_text : DEFAULT_URL, *why = parse_url(&a->url, text);
    if (!why) return find_key(a);
    fprintf(stderr, "roost: %s: %s\n", text, why);
    return 2;
}

void admin_close(struct admin *a)
{
    explicit_bzero(a->authorization, sizeof a->authorization);
}

struct collector *admin_call(const struct admin *a, const char *method, const char *path,
                             int64_t total_ms)
{
    char err[256];
    struct collector *c =
        collector_new(&(struct collector_options){.url = &a->url,
                                                  .path = path,
                                                  .content_type = "application/json",
                                                  .user_agent = "roost/" ROOST_VERSION,
                                                  .authorization = a->authorization,
                                                  .method = method,
                                                  .ca_file = a->cacert,
                                                  .connect_ms = CONNECT_MS,
                                                  .total_ms = total_ms},
                      err, sizeof err);
    if (!c) fprintf(stderr, "roost: %s\n", err);
    return c;
}

/* put_line writes the first line of what a server says: nothing that could steer a terminal. */
static void put_line(FILE *to, const char *p, size_t len)
{
    for (size_t i = 0; i < len && p[i] != '\n'; i++) {
        const unsigned char c = (unsigned char)p[i];
        fputc(c < ' ' || c >= 0x7f ? '?' : c, to);
    }
    fputc('\n', to);
}

int admin_refused(const struct collector_answer *answer)
{
    fprintf(stderr, "roost: the server answers %d%s", answer->status, answer->len ? ": " : "");
    put_line(stderr, answer->len ? answer->body : "", answer->len);
    if (answer->status == 401)
        fputs("roost: it wants a key of the HTTP API: --api-key-file FILE\n", stderr);
    return 1;
}

/* ask makes one request; 0, or the exit status. */
static int ask(const struct admin *a, const char *method, const char *path, const char *body,
               struct collector_answer *answer)
{
    char err[256];
    struct collector *c = admin_call(a, method, path, CALL_MS);
    if (!c) return 1;
    const int failed = collector_post(c, body, strlen(body), answer, err, sizeof err);
    collector_delete(c);
    if (!failed) return 0;
    fprintf(stderr, "roost: %s\n", err);
    return 1;
}

/* ---- roost rebalance ---- */

static void rebalance_usage(FILE *to)
{
    fprintf(to,
            "usage: roost rebalance --percent P [--rate N] [URL] [options]\n"
            "Closes the oldest P %% of a server's connections, N a second (100), so that their\n"
            "clients come back through the balancer, to servers that have been added. Says how\n"
            "many that will be and ends; the server goes on (roost_rebalance_left). A second call\n"
            "takes the place of the first; --percent 0 ends it.\n"
            "URL is http://HOST:PORT, https://HOST:PORT or unix:/SOCKET; without it " DEFAULT_URL
            "\n\n"
            "  --percent P            from 0 to 100\n"
            "  --rate N               connections a second, in all\n"
            "%s"
            "\nStatus: 0 done, 1 refused or not reached, 2 wrong usage.\n",
            admin_options_help);
}

enum { OPT_PERCENT = ADMIN_OPT_END, OPT_RATE, OPT_HELP };

static bool number(const char *name, const char *text, long least, long most, long *out)
{
    char *end;
    errno = 0;
    *out = strtol(text, &end, 10);
    if (*text && !*end && !errno && *out >= least && *out <= most) return true;
    fprintf(stderr, "roost: --%s: a whole number from %ld to %ld\n", name, least, most);
    return false;
}

struct wish {
    long percent, rate;
};

/* parse_rebalance returns -1 to go on, or the exit status. */
static int parse_rebalance(struct admin *a, struct wish *w, int argc, char **argv)
{
    static const struct option options[] = {ADMIN_LONG_OPTIONS,
                                            {"percent", required_argument, NULL, OPT_PERCENT},
                                            {"rate", required_argument, NULL, OPT_RATE},
                                            {"help", no_argument, NULL, OPT_HELP},
                                            {NULL, 0, NULL, 0}};
    int value;
    bool good = true;
    optind = 0;
    while (good && (value = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (value == OPT_HELP || value == 'h') {
            rebalance_usage(stdout);
            return 0;
        }
        if (value == OPT_PERCENT)
            good = number("percent", optarg, 0, 100, &w->percent);
        else if (value == OPT_RATE)
            good = number("rate", optarg, 1, 1000000, &w->rate);
        else
            good = admin_option(a, value, optarg);
    }
    if (!good) return 2;
    if (w->percent < 0 || argc - optind > 1) {
        fputs("usage: roost rebalance --percent P [URL]; roost rebalance --help says more\n",
              stderr);
        return 2;
    }
    a->url_text = argv[optind]; /* NULL behind the last one */
    return -1;
}

int cmd_rebalance(int argc, char **argv)
{
    static struct admin a;
    static struct collector_answer answer;
    struct wish w = {.percent = -1, .rate = 100};
    char body[64];
    int status = parse_rebalance(&a, &w, argc, argv);
    if (status != -1) return status;
    snprintf(body, sizeof body, "{\"percent\":%ld,\"rate\":%ld}", w.percent, w.rate);
    status = admin_open(&a);
    if (!status) status = ask(&a, NULL, "/api/rebalance", body, &answer);
    admin_close(&a);
    if (status) return status;
    unsigned long n;
    if (answer.status != 200 || answer.len == sizeof answer.body) return admin_refused(&answer);
    answer.body[answer.len] = 0;
    if (sscanf(answer.body, "{\"result\":{\"closing\":%lu}}", &n) != 1)
        return admin_refused(&answer);
    printf("%lu connections will be closed\n", n);
    return 0;
}

/* ---- roost ready ---- */

static void ready_usage(FILE *to)
{
    fputs("usage: roost ready [URL] [--cacert FILE]\n"
          "Asks a server's /readyz: for images that have no other program. Status: 0 ready, 1 not\n"
          "(stopping, full, or not reached), 2 wrong usage. Without URL " DEFAULT_URL "\n",
          to);
}

int cmd_ready(int argc, char **argv)
{
    static const struct option options[] = {
        ADMIN_LONG_OPTIONS, {"help", no_argument, NULL, OPT_HELP}, {NULL, 0, NULL, 0}};
    static struct admin a;
    static struct collector_answer answer;
    int value;
    optind = 0;
    while ((value = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (value == OPT_HELP || value == 'h') {
            ready_usage(stdout);
            return 0;
        }
        if (!admin_option(&a, value, optarg)) return 2;
    }
    if (argc - optind > 1) {
        ready_usage(stderr);
        return 2;
    }
    a.url_text = argv[optind];
    const char *text = a.url_text ? a.url_text : DEFAULT_URL, *why = parse_url(&a.url, text);
    if (why) {
        fprintf(stderr, "roost: %s: %s\n", text, why);
        return 2;
    }
    if (ask(&a, "GET", "/readyz", "", &answer)) return 1;
    return answer.status == 200 ? 0 : admin_refused(&answer);
}
