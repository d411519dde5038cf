#include "cmd/cmd.h"

#include <getopt.h>
#include <mbedtls/base64.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "json.h"
#include "link.h"

#define CHANNELS_MAX 256

struct sub {
    struct link_hub hub;
    const char *const *channels;
    size_t channel_count;
    struct link *links[CHANNELS_MAX];
    bool json, escape_controls;
    int64_t count, printed; /* count 0 = no end */
    int64_t stop_ms;        /* monotonic; INT64_MAX = never */
    bool out_closed;        /* nobody reads standard output any more */
    char *line;             /* a line under construction */
    size_t line_cap;
};

static void usage(FILE *to)
{
    fprintf(
        to,
        "usage: roost sub URL CHANNEL... [options]\n"
        "Prints what is published to the channels, one line a publication, and keeps connected.\n"
        "URL is wss://HOST[:PORT], ws://HOST[:PORT] or unix:/SOCKET.\n"
        "\n"
        "  --json                 one JSON object a line: "
        "{\"channel\",\"data\",\"binary\",\"time\"}; data is\n"
        "                         a string, of base64 if binary is true; time is when it arrived\n"
        "  --count N              end after N publications\n"
        "  --timeout S            end after S seconds; status 1 if --count was not reached\n"
        "%s"
        "\n"
        "Without --json a line break in a message is shown as \\n, a binary message as "
        "base64:...,\n"
        "and with several channels each line begins with the channel and a tab.\n"
        "A lost connection is opened again after 0.5 to 20 s (exponential, full jitter). Raw "
        "channels\n"
        "have no offsets: what is published meanwhile is missed, and nothing is printed twice.\n"
        "A refused token (401, 403, 4401, 3005) is final unless --token-cmd or --token-file gives\n"
        "another one; so are 404, and the close codes 1002, 1003, 1007, 1009, 3501-3999, "
        "4500-4999,\n"
        "and 1008 but for the reason \"rate\".\n"
        "A token's renewal changes the connection: the old one is closed before the new one is\n"
        "subscribed, so a publication of that moment (two round trips) can be missed.\n"
        "Status: 0 done, 1 refused for good or timeout, 2 wrong usage, 130 interrupted.\n",
        link_options_help);
}

/* ---- printing ---- */

static char *line_room(struct sub *s, size_t need)
{
    if (need > s->line_cap) {
        char *p = realloc(s->line, need + need / 2);
        if (!p) return NULL;
        s->line = p;
        s->line_cap = need + need / 2;
    }
    return s->line;
}

/* A message is somebody else's text: on a terminal it must not be able to steer it, and nowhere to
 * look like two lines. */
static char *escape_byte(char *to, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    *to++ = '\\';
    if (c == '\n' || c == '\r') {
        *to++ = c == '\n' ? 'n' : 'r';
        return to;
    }
    *to++ = 'x';
    *to++ = hex[c >> 4];
    *to++ = hex[c & 15];
    return to;
}

static size_t escape_text(char *out, const uint8_t *text, size_t len, bool controls)
{
    char *to = out;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = text[i];
        bool c1 = c == 0xc2 && i + 1 < len && text[i + 1] < 0xa0; /* U+0080..U+009F */
        if (controls && c1)
            to = escape_byte(to, text[++i]);
        else if (c == '\n' || c == '\r' || (controls && (c == 0x7f || (c < ' ' && c != '\t'))))
            to = escape_byte(to, c);
        else
            *to++ = (char)c;
    }
    return (size_t)(to - out);
}

static size_t base64(char *out, size_t cap, const uint8_t *bytes, size_t len)
{
    size_t n = 0;
    if (mbedtls_base64_encode((unsigned char *)out, cap, &n, bytes, len) != 0) return 0;
    return n;
}

static void print_plain(struct sub *s, const char *channel, bool binary, const uint8_t *p,
                        size_t len)
{
    char *line = line_room(s, len * 4 + 64);
    if (!line) return;
    if (s->channel_count > 1) printf("%s\t", channel);
    if (binary) printf("base64:");
    size_t n =
        binary ? base64(line, s->line_cap, p, len) : escape_text(line, p, len, s->escape_controls);
    fwrite(line, 1, n, stdout);
    putchar('\n');
}

static void put_time(struct json_out *o)
{
    struct timespec ts;
    struct tm tm;
    char text[40];
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, sizeof text - n, ".%03ldZ", ts.tv_nsec / 1000000);
    json_put_string(o, text, strlen(text));
}

static void print_json(struct sub *s, const char *channel, bool binary, const uint8_t *p,
                       size_t len)
{
    size_t need = len * 6 + strlen(channel) * 6 + 128;
    if (!line_room(s, need)) return;
    struct json_out o = {.p = s->line, .cap = s->line_cap};
    json_puts(&o, "{\"channel\":");
    json_put_string(&o, channel, strlen(channel));
    json_puts(&o, ",\"data\":");
    if (binary) {
        json_puts(&o, "\"");
        o.len += base64(o.p + o.len, o.cap - o.len, p, len);
        json_puts(&o, "\"");
    } else {
        json_put_string(&o, (const char *)p, len);
    }
    json_puts(&o, binary ? ",\"binary\":true,\"time\":" : ",\"binary\":false,\"time\":");
    put_time(&o);
    json_puts(&o, "}\n");
    fwrite(o.p, 1, o.len, stdout);
}

static void on_opened(struct link *l)
{
    (void)l;
}

static void on_message(struct link *l, enum ws_opcode opcode, const uint8_t *payload, size_t len)
{
    struct sub *s = link_user(l);
    if (s->count && s->printed >= s->count) return;
    (s->json ? print_json : print_plain)(s, link_channel(l), opcode == WS_BINARY, payload, len);
    s->printed++;
}

static const struct link_handler handler = {.opened = on_opened, .message = on_message};

/* ---- options ---- */

enum { OPT_JSON = LINK_OPT_END, OPT_COUNT, OPT_TIMEOUT, OPT_HELP };

static bool take_option(struct sub *s, int value, const char *arg)
{
    char *end;
    switch (value) {
    case OPT_JSON: s->json = true; return true;
    case OPT_COUNT:
        s->count = strtoll(arg, &end, 10);
        if (*arg && !*end && s->count > 0) return true;
        fprintf(stderr, "roost: --count: %s is not a number above 0\n", arg);
        return false;
    case OPT_TIMEOUT:
        s->stop_ms = link_parse_seconds(arg);
        if (s->stop_ms > 0) return true;
        fprintf(stderr, "roost: --timeout: %s is not a number of seconds\n", arg);
        return false;
    default: return link_option(&s->hub, value, arg);
    }
}

/* Returns -1 to go on, else the exit status. */
static int parse(struct sub *s, int argc, char **argv)
{
    static const struct option options[] = {LINK_LONG_OPTIONS,
                                            {"json", no_argument, NULL, OPT_JSON},
                                            {"count", required_argument, NULL, OPT_COUNT},
                                            {"timeout", required_argument, NULL, OPT_TIMEOUT},
                                            {"help", no_argument, NULL, OPT_HELP},
                                            {NULL, 0, NULL, 0}};
    int value;
    optind = 0; /* argv[0] was another one before */
    s->stop_ms = INT64_MAX;
    while ((value = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (value == OPT_HELP || value == 'h') {
            usage(stdout);
            return 0;
        }
        if (!take_option(s, value, optarg)) return 2;
    }
    if (argc - optind < 2 || argc - optind - 1 > CHANNELS_MAX) {
        fprintf(stderr, "usage: roost sub URL CHANNEL... [options]; roost sub --help says more\n");
        return 2;
    }
    s->hub.url_text = argv[optind];
    s->channels = (const char *const *)argv + optind + 1;
    s->channel_count = (size_t)(argc - optind - 1);
    if (s->stop_ms != INT64_MAX) s->stop_ms += clock_ms();
    return -1;
}

/* ---- the loop ---- */

enum { POLL_SIGNAL, POLL_STDOUT, POLL_LINKS };

struct round { /* who was polled for what */
    struct pollfd fds[POLL_LINKS + CHANNELS_MAX * LINK_FDS];
    size_t at[CHANNELS_MAX + 1];
};

static void poll_all(struct sub *s, struct round *r, int signals, int64_t due_ms)
{
    size_t n = POLL_LINKS;
    int64_t wait_ms = due_ms - clock_ms();
    r->fds[POLL_SIGNAL] = (struct pollfd){.fd = signals, .events = POLLIN};
    r->fds[POLL_STDOUT] =
        (struct pollfd){.fd = STDOUT_FILENO}; /* POLLERR: a pipe's reader is gone */
    for (size_t i = 0; i < s->channel_count; i++) {
        r->at[i] = n;
        n += link_poll(s->links[i], r->fds + n);
    }
    r->at[s->channel_count] = n;
    if (wait_ms < 0) wait_ms = 0;
    if (wait_ms > 60000) wait_ms = 60000;
    if (poll(r->fds, n, (int)wait_ms) <= 0)
        for (size_t i = 0; i < n; i++) r->fds[i].revents = 0;
    int64_t now_ms = clock_ms();
    for (size_t i = 0; i < s->channel_count; i++)
        link_ready(s->links[i], r->fds + r->at[i], r->at[i + 1] - r->at[i], now_ms);
    if (r->fds[POLL_STDOUT].revents & (POLLERR | POLLHUP | POLLNVAL)) s->out_closed = true;
    if (fflush(stdout) == EOF) s->out_closed = true;
}

static int64_t tick_all(struct sub *s, size_t *finished, bool *failed)
{
    int64_t now_ms = clock_ms(), due_ms = INT64_MAX;
    *finished = 0;
    for (size_t i = 0; i < s->channel_count; i++) {
        int64_t due = link_tick(s->links[i], now_ms);
        if (due < due_ms) due_ms = due;
        *finished += link_state(s->links[i]) == LINK_FINISHED;
        if (link_failed(s->links[i])) *failed = true;
    }
    return due_ms;
}

/* run returns the exit status once there is nothing more to print; the links may still be open. */
static int run(struct sub *s, struct round *r, int signals)
{
    for (;;) {
        size_t finished;
        bool failed = false;
        int64_t due_ms = tick_all(s, &finished, &failed);
        if (failed) return 1;
        if (s->out_closed || (s->count && s->printed >= s->count)) return 0;
        if (clock_ms() >= s->stop_ms) {
            if (s->count)
                fprintf(stderr, "roost: timeout: %lld of %lld publications came\n",
                        (long long)s->printed, (long long)s->count);
            return s->count ? 1 : 0;
        }
        poll_all(s, r, signals, due_ms < s->stop_ms ? due_ms : s->stop_ms);
        int signal = r->fds[POLL_SIGNAL].revents ? link_signal(signals) : 0;
        if (signal) return 128 + signal;
    }
}

/* Closing handshakes, bounded by the links' own deadline; a second signal ends at once. */
static void close_all(struct sub *s, struct round *r, int signals)
{
    for (size_t i = 0; i < s->channel_count; i++) link_close(s->links[i], clock_ms());
    for (;;) {
        size_t finished;
        bool failed;
        int64_t due_ms = tick_all(s, &finished, &failed);
        if (finished == s->channel_count) return;
        poll_all(s, r, signals, due_ms);
        if (r->fds[POLL_SIGNAL].revents) return;
    }
}

int cmd_sub(int argc, char **argv)
{
    static struct sub s;
    static struct round r;
    int status = parse(&s, argc, argv);
    if (status >= 0) return status;
    s.escape_controls = isatty(STDOUT_FILENO);
    int signals = link_signals();
    status = link_hub_open(&s.hub, s.channels, s.channel_count);
    for (size_t i = 0; status == 0 && i < s.channel_count; i++) {
        s.links[i] = link_new(&s.hub, s.channels[i], "?pub=0", &handler, &s);
        if (!s.links[i]) status = 2;
        if (!s.links[i]) fprintf(stderr, "roost: the channel name is too long\n");
    }
    if (status == 0) {
        status = run(&s, &r, signals);
        close_all(&s, &r, signals);
    }
    for (size_t i = 0; i < s.channel_count; i++) link_free(s.links[i]);
    link_hub_close(&s.hub);
    close(signals);
    free(s.line);
    return status;
}
