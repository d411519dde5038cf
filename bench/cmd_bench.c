#include "cmd/cmd.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "credentials.h"
#include "pace.h"

#define SERVER_ARGUMENTS_MAX 64
#define SPARE_DESCRIPTORS 32
#define PENDING_BYTES (64u << 20)

static const struct bench_mode *const modes[] = {&bench_idle, &bench_connect, &bench_echo,
                                                 &bench_fanout, &bench_storm};
#define MODES (sizeof modes / sizeof modes[0])
static const struct bench_dialect *const dialects[] = {&dialect_raw, &dialect_echo,
                                                       &dialect_centrifuge};
#define DIALECTS (sizeof dialects / sizeof dialects[0])

volatile bool bench_stop;

static const char *server_arguments[SERVER_ARGUMENTS_MAX];
static struct credentials credentials;
static char own_channel[32], dev_ca_file[1100];

int64_t bench_clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void usage(FILE *to)
{
    fputs(
        "usage: roost bench idle|connect|echo|fanout|storm [URL] [options]\n"
        "Puts load on a server, verifies every message, and reports work per second of CPU time "
        "of\n"
        "the server. Without URL it starts a server of its own.\n"
        "\n"
        "  idle     connections that do nothing: memory and CPU time of each (15,000)\n"
        "  connect  opening handshakes with a token of their own each\n"
        "  echo     messages to the server and back (64 connections of 64 bytes)\n"
        "  storm    15,000 clients come at once, and again when they are refused, while others "
        "echo\n"
        "  fanout   one publisher, all others listen (1,000 connections, 128 bytes)\n"
        "\n"
        "  --dialect D        raw: the path names the channel; echo: everything comes back;\n"
        "                     centrifuge: as Centrifuge SDKs speak, in JSON, the token in "
        "connect,\n"
        "                     publications by the publish command [raw; of echo: echo]\n"
        "  --connections N    how many\n"
        "  --size BYTES       of a message, 16 (centrifuge: 34) to 16 MiB\n"
        "  --window W         messages under way: on each connection (echo), in all (fanout) [1; "
        "at a\n"
        "                     rate 1,024 at most, less if that were more than 64 MiB]\n"
        "  --rate N           echo, fanout: N messages (publications) a second, whatever comes "
        "back;\n"
        "                     latency counts from when each was due\n"
        "  --established N    storm: connections that were there before [200]\n"
        "  --seconds S        how long is measured; storm: before it and after it [5]\n"
        "  --warm-up S        before that [1]\n"
        "  --count N          stop after N messages, if that is sooner\n"
        "  --ramp N           handshakes under way at once [64]\n"
        "  --channel NAME     that they listen to [bench-...]\n"
        "  --no-subscribe     idle, connect, centrifuge: connect and no more\n"
        "  --leave S          idle: all leave, and memory is looked at again S seconds later\n"
        "  --close            connect, idle: leave by a closing handshake, not by a reset\n"
        "  --json             one JSON object instead of a table\n"
        "  --quiet            no progress line\n"
        "server of its own:\n"
        "  --tls              over TLS, with a certificate made for it\n"
        "  --workers N        worker threads [1]\n"
        "  --history N        its channels keep the last N publications; SDKs see offsets [0]\n"
        "  --server-arg ARG   a further argument of `roost serve`; may be repeated\n"
        "  --bare PROGRAM     start PROGRAM instead, one of those `make bench` builds\n"
        "server at URL:\n"
        "  --server-pid PID   whose CPU time and memory count, its children's included\n"
        "  --token TOKEN      or the variable ROOST_TOKEN; or, on this machine, one is made with\n"
        "                     the secret of `roost serve --dev`\n"
        "  --cacert FILE      certificates to trust\n"
        "  --insecure         do not verify the certificate\n"
        "  --resume           every client offers the newest session ticket, also if another\n"
        "                     has used it before\n"
        "\n"
        "Status: 0 nothing was lost, doubled, out of order, damaged or refused; 1 something was, "
        "or\n"
        "it could not run; 2 wrong usage; 130 interrupted.\n",
        to);
}

/* ---- options ---- */

enum {
    OPT_CONNECTIONS = 1000,
    OPT_SIZE,
    OPT_WINDOW,
    OPT_RATE,
    OPT_ESTABLISHED,
    OPT_SECONDS,
    OPT_WARM_UP,
    OPT_COUNT,
    OPT_RAMP,
    OPT_CHANNEL,
    OPT_DIALECT,
    OPT_NO_SUBSCRIBE,
    OPT_LEAVE,
    OPT_HISTORY,
    OPT_CLOSE,
    OPT_JSON,
    OPT_QUIET,
    OPT_TLS,
    OPT_WORKERS,
    OPT_SERVER_ARG,
    OPT_BARE,
    OPT_SERVER_PID,
    OPT_TOKEN,
    OPT_CACERT,
    OPT_INSECURE,
    OPT_RESUME,
    OPT_HELP,
};

static const struct option long_options[] = {
    {"connections", required_argument, NULL, OPT_CONNECTIONS},
    {"size", required_argument, NULL, OPT_SIZE},
    {"established", required_argument, NULL, OPT_ESTABLISHED},
    {"window", required_argument, NULL, OPT_WINDOW},
    {"rate", required_argument, NULL, OPT_RATE},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"warm-up", required_argument, NULL, OPT_WARM_UP},
    {"count", required_argument, NULL, OPT_COUNT},
    {"ramp", required_argument, NULL, OPT_RAMP},
    {"channel", required_argument, NULL, OPT_CHANNEL},
    {"dialect", required_argument, NULL, OPT_DIALECT},
    {"no-subscribe", no_argument, NULL, OPT_NO_SUBSCRIBE},
    {"leave", required_argument, NULL, OPT_LEAVE},
    {"history", required_argument, NULL, OPT_HISTORY},
    {"close", no_argument, NULL, OPT_CLOSE},
    {"json", no_argument, NULL, OPT_JSON},
    {"quiet", no_argument, NULL, OPT_QUIET},
    {"tls", no_argument, NULL, OPT_TLS},
    {"workers", required_argument, NULL, OPT_WORKERS},
    {"server-arg", required_argument, NULL, OPT_SERVER_ARG},
    {"bare", required_argument, NULL, OPT_BARE},
    {"server-pid", required_argument, NULL, OPT_SERVER_PID},
    {"token", required_argument, NULL, OPT_TOKEN},
    {"cacert", required_argument, NULL, OPT_CACERT},
    {"insecure", no_argument, NULL, OPT_INSECURE},
    {"resume", no_argument, NULL, OPT_RESUME},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static bool whole(const char *name, const char *text, uint64_t least, uint64_t most, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (end != text && !*end && *text != '-' && !errno && n >= least && n <= most) {
        *out = n;
        return true;
    }
    fprintf(stderr, "roost bench: --%s: %s is not a number from %llu to %llu\n", name, text,
            (unsigned long long)least, (unsigned long long)most);
    return false;
}

static bool span(const char *name, const char *text, double *out)
{
    char *end;
    double s = strtod(text, &end);
    if (end != text && !*end && s >= 0 && s <= 86400) {
        *out = s;
        return true;
    }
    fprintf(stderr, "roost bench: --%s: %s is not a number of seconds\n", name, text);
    return false;
}

static bool number_option(struct bench_options *o, int value, const char *arg)
{
    static const struct {
        int value;
        const char *name;
        uint64_t least, most;
    } limits[] = {
        {OPT_CONNECTIONS, "connections", 1, 1000000},
        {OPT_SIZE, "size", BENCH_HEAD, BENCH_SIZE_MAX},
        {OPT_ESTABLISHED, "established", 1, 10000},
        {OPT_WINDOW, "window", 1, BENCH_WINDOW_MAX},
        {OPT_RATE, "rate", 1, PACE_MAX},
        {OPT_COUNT, "count", 1, UINT64_MAX},
        {OPT_RAMP, "ramp", 1, 10000},
        {OPT_WORKERS, "workers", 1, 256},
        {OPT_HISTORY, "history", 0, 1000000},
        {OPT_SERVER_PID, "server-pid", 1, INT32_MAX},
    };
    uint64_t n;
    size_t at = 0;
    while (limits[at].value != value) at++;
    if (!whole(limits[at].name, arg, limits[at].least, limits[at].most, &n)) return false;
    if (value == OPT_CONNECTIONS)
        o->connections = (unsigned)n;
    else if (value == OPT_SIZE)
        o->size = (size_t)n;
    else if (value == OPT_ESTABLISHED)
        o->established = (unsigned)n;
    else if (value == OPT_WINDOW)
        o->window = (unsigned)n;
    else if (value == OPT_RATE)
        o->rate = n;
    else if (value == OPT_COUNT)
        o->count = n;
    else if (value == OPT_RAMP)
        o->ramp = (unsigned)n;
    else if (value == OPT_WORKERS)
        o->target.workers = (unsigned)n;
    else if (value == OPT_HISTORY)
        o->target.history = (unsigned)n;
    else
        o->server_pid = (pid_t)n;
    return true;
}

/* Room is left for the number of a connection behind it. */
static bool channel_option(struct bench_options *o, const char *arg)
{
    o->channel = arg;
    if (*arg && strlen(arg) + 12 <= BENCH_CHANNEL_MAX) return true;
    fprintf(stderr, "roost bench: --channel: the name is empty or too long\n");
    return false;
}

static bool dialect_option(struct bench *b, const char *arg)
{
    for (size_t i = 0; i < DIALECTS; i++)
        if (strcmp(dialects[i]->name, arg) == 0) {
            b->dialect = dialects[i];
            return true;
        }
    fprintf(stderr, "roost bench: there is no dialect %s: raw, echo, centrifuge\n", arg);
    return false;
}

static bool take_option(struct bench *b, int value, const char *arg)
{
    struct bench_options *o = &b->o;
    switch (value) {
    case OPT_CONNECTIONS:
    case OPT_SIZE:
    case OPT_ESTABLISHED:
    case OPT_WINDOW:
    case OPT_RATE:
    case OPT_COUNT:
    case OPT_RAMP:
    case OPT_WORKERS:
    case OPT_HISTORY:
    case OPT_SERVER_PID: return number_option(o, value, arg);
    case OPT_SECONDS: return span("seconds", arg, &o->seconds);
    case OPT_WARM_UP: return span("warm-up", arg, &o->warm_s);
    case OPT_LEAVE: return span("leave", arg, &o->leave_s);
    case OPT_CHANNEL: return channel_option(o, arg);
    case OPT_DIALECT: return dialect_option(b, arg);
    case OPT_NO_SUBSCRIBE: o->no_subscribe = true; return true;
    case OPT_CLOSE: o->close_handshake = true; return true;
    case OPT_JSON: o->json = true; return true;
    case OPT_QUIET: o->quiet = true; return true;
    case OPT_TLS: o->target.tls = true; return true;
    case OPT_SERVER_ARG:
        if (o->target.argument_count < SERVER_ARGUMENTS_MAX)
            server_arguments[o->target.argument_count++] = arg;
        return true;
    case OPT_BARE: o->target.bare = arg; return true;
    case OPT_TOKEN: o->token = arg; return true;
    case OPT_CACERT: o->cacert = arg; return true;
    case OPT_INSECURE: o->insecure = true; return true;
    case OPT_RESUME: o->resume = true; return true;
    default: return false; /* getopt has said what is wrong */
    }
}

static const struct bench_mode *find_mode(const char *name)
{
    for (size_t i = 0; i < MODES; i++)
        if (strcmp(modes[i]->name, name) == 0) return modes[i];
    fprintf(stderr, "roost bench: there is no mode %s: idle, connect, echo, fanout, storm\n", name);
    return NULL;
}

/* default_window: with a rate as many as may be needed, but no more than PENDING_BYTES of them. */
static unsigned default_window(const struct bench *b)
{
    const uint64_t apart = b->mode == &bench_echo ? b->o.connections : 1;
    const uint64_t n = b->o.rate ? PENDING_BYTES / b->o.size / apart : 1;
    return n < 1 ? 1 : n > BENCH_WINDOW_MAX ? BENCH_WINDOW_MAX : (unsigned)n;
}

/* settle looks at the options together. */
static bool settle(struct bench *b)
{
    const char *why = NULL;
    char text[80];
    if (!b->dialect) b->dialect = b->mode->dialect;
    if (!b->o.connections) b->o.connections = b->mode->connections;
    if (!b->o.size) b->o.size = b->mode->size;
    if (!b->o.window) b->o.window = default_window(b);
    b->o.target.clients = b->dialect == &dialect_centrifuge;
    if (b->mode == &bench_fanout && b->dialect == &dialect_echo)
        why = "an echo is no fan-out";
    else if (b->o.target.bare && b->dialect == &dialect_centrifuge)
        why = "a bare loop does not speak centrifuge";
    else if (b->o.no_subscribe && b->mode->message)
        why = "--no-subscribe is for idle and connect";
    else if (b->o.no_subscribe && b->dialect != &dialect_centrifuge)
        why = "--no-subscribe is for --dialect centrifuge";
    else if (b->o.target.history && b->dialect != &dialect_centrifuge)
        why = "--history is for --dialect centrifuge";
    else if (b->o.target.history && b->o.url)
        why = "--history is of a server that the bench starts itself";
    else if (b->o.rate && b->mode != &bench_echo && b->mode != &bench_fanout)
        why = "--rate is for echo and fanout";
    else if (b->o.leave_s >= 0 && b->mode != &bench_idle)
        why = "--leave is for idle";
    else if (b->o.size < b->dialect->size_min) {
        snprintf(text, sizeof text, "--size: a message of %s has %zu bytes or more",
                 b->dialect->name, b->dialect->size_min);
        why = text;
    }
    if (why) fprintf(stderr, "roost bench: %s\n", why);
    return !why;
}

/* Returns -1 to go on, else the exit status. */
static int parse(struct bench *b, int argc, char **argv)
{
    int value;
    optind = 0;
    b->o = (struct bench_options){
        .ramp = 64, .established = 200, .seconds = 5, .warm_s = 1, .leave_s = -1};
    b->o.target.workers = 1;
    b->o.target.arguments = server_arguments;
    while ((value = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
        if (value == OPT_HELP || value == 'h') {
            usage(stdout);
            return 0;
        }
        if (!take_option(b, value, optarg)) return 2;
    }
    if (argc - optind < 1 || argc - optind > 2) {
        fprintf(stderr,
                "usage: roost bench idle|connect|echo|fanout|storm [URL] [options]; --help\n");
        return 2;
    }
    b->mode = find_mode(argv[optind]);
    b->o.url = argv[optind + 1]; /* NULL at argv's end */
    if (!b->mode || !settle(b)) return 2;
    return -1;
}

/* ---- getting ready ---- */

static int complain(const char *what, const char *why)
{
    fprintf(stderr, "roost bench: %s: %s\n", what, why);
    return -1;
}

/* For a server at a URL: its token and certificate, by option or from `roost serve --dev`. */
static int known_server(struct bench *b)
{
    static const char *const everything[] = {"*"};
    char err[300];
    b->target.pid = b->o.server_pid;
    if (!b->o.token) b->o.token = getenv("ROOST_TOKEN");
    if (!url_loopback(&b->peer.url) ||
        !credentials_dev_dir(credentials.dev_dir, sizeof credentials.dev_dir))
        return 0;
    if (!b->o.token) {
        credentials.channels = everything;
        credentials.channel_count = 1;
        if (credentials_load(&credentials, time(NULL), err, sizeof err) == -1)
            return complain("token", err);
        b->o.token = credentials.token;
    }
    snprintf(dev_ca_file, sizeof dev_ca_file, "%s/cert.pem", credentials.dev_dir);
    if (!b->o.cacert && access(dev_ca_file, R_OK) == 0) b->o.cacert = dev_ca_file;
    return 0;
}

static int find_server(struct bench *b)
{
    static char own_ca_file[128];
    const char *why = b->o.url ? url_parse(&b->peer.url, b->o.url) : NULL;
    if (why) return complain(b->o.url, why);
    if (b->o.url) return known_server(b);
    if (target_start(&b->target, &b->o.target) == -1) return -1;
    snprintf(own_ca_file, sizeof own_ca_file, "%s/cert.pem", b->target.dir);
    b->o.cacert = own_ca_file;
    b->peer.echo_masked = b->o.target.bare && b->mode == &bench_echo;
    why = url_parse(&b->peer.url, b->target.url);
    return why ? complain(b->target.url, why) : 0;
}

static int raise_descriptors(unsigned connections)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == -1) return complain("descriptors", strerror(errno));
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit); /* if not, the check below says so */
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur >= connections + SPARE_DESCRIPTORS) return 0;
    fprintf(stderr,
            "roost bench: %u connections need %u descriptors, %llu are allowed (ulimit -n)\n",
            connections, connections + SPARE_DESCRIPTORS, (unsigned long long)limit.rlim_cur);
    return -1;
}

/* Bytes that do not repeat, so that a shifted or swapped piece is noticed. */
static uint8_t *make_message(size_t size)
{
    uint8_t *m = malloc(size);
    uint64_t x = 0x9e3779b97f4a7c15;
    for (size_t i = 0; m && i < size; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        m[i] = (uint8_t)(x >> 32);
    }
    return m;
}

/* most_connections: of one process. */
static unsigned most_connections(const struct bench_options *o)
{
    return o->connections > o->established ? o->connections : o->established;
}

static int prepare(struct bench *b)
{
    char err[400];
    if (b->o.token && strlen(b->o.token) > JWT_TOKEN_MAX)
        return complain("token", "it is longer than the 16 KiB that a server takes");
    if (b->dialect != &dialect_centrifuge) /* there several lines may come in one message */
        b->peer.max_message_bytes = b->o.size + 1024;
    if (b->peer.url.scheme == URL_WSS) {
        b->peer.tls = tls_client_new(b->o.cacert, b->o.insecure, err, sizeof err);
        if (!b->peer.tls) return complain("TLS", err);
        if (b->o.resume) tls_client_share_tickets(b->peer.tls);
    }
    if (dial_resolve(&b->peer, err, sizeof err, NULL) == -1) return complain("host", err);
    if (!b->o.channel) {
        uint32_t random;
        random_bytes(&random, sizeof random);
        snprintf(own_channel, sizeof own_channel, "bench-%08x", random);
        b->o.channel = own_channel;
    }
    b->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    b->conns = calloc(most_connections(&b->o), sizeof *b->conns);
    b->message = make_message(b->o.size);
    b->loop = dial_loop_new();
    if (b->epoll_fd == -1 || !b->conns || !b->message || !b->loop)
        return complain("start", strerror(errno));
    if (b->dialect->prepare && b->dialect->prepare(b) == -1)
        return complain("start", strerror(errno));
    return 0;
}

static void on_signal(int signal)
{
    (void)signal;
    bench_stop = true;
}

static void take_down(struct bench *b)
{
    if (b->conns) load_close_all(b);
    target_stop(&b->target);
    tls_client_delete(b->peer.tls);
    dial_loop_delete(b->loop);
    if (b->epoll_fd > 0) close(b->epoll_fd);
    free(b->conns);
    free(b->message);
    free(b->line);
    credentials_wipe(&credentials);
}

int cmd_bench(int argc, char **argv)
{
    static struct bench b;
    const struct sigaction stop = {.sa_handler = on_signal};
    int status = parse(&b, argc, argv);
    if (status >= 0) return status;
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    signal(SIGPIPE, SIG_IGN);
    status = 1;
    if (raise_descriptors(most_connections(&b.o)) == 0 && find_server(&b) == 0 &&
        prepare(&b) == 0) {
        b.mode->run(&b);
        b.counts.unanswered = load_unanswered(&b);
        report_progress_end(&b);
        report_print(&b);
        status = report_faultless(&b) ? 0 : 1;
        if (bench_stop && !*b.failure) status = 130;
    }
    take_down(&b);
    return status;
}
