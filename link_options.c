#include "link.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

const char link_options_help[] =
    "  --token TOKEN          JWT for the Authorization header; better: the variable ROOST_TOKEN,\n"
    "                         which does not show in the list of processes\n"
    "  --token-file FILE      read the token from FILE, again at each connection\n"
    "  --token-cmd CMD        run CMD (sh) for a token, at the start and before the old one ends;\n"
    "                         it has 6 s\n"
    "  --cacert FILE          PEM certificates to trust, instead of the system's\n"
    "  --insecure             do not verify the server's certificate\n"
    "  --ping-timeout S       silence after which the server is pinged, and 10 s later given up\n"
    "                         (default 25, or the server's own ping interval if that is longer)\n"
    "  --quiet                no status lines on standard error\n";

int64_t link_parse_seconds(const char *text)
{
    char *end;
    double s = strtod(text, &end);
    if (*end == 's') end++;
    if (end == text || *end || !(s > 0) || s > 1e9) return -1;
    return (int64_t)(s * 1000 + 0.5);
}

bool link_option(struct link_hub *hub, int value, const char *arg)
{
    switch ((enum link_option_value)value) {
    case LINK_OPT_TOKEN: hub->credentials.token_flag = arg; return true;
    case LINK_OPT_TOKEN_FILE: hub->credentials.file = arg; return true;
    case LINK_OPT_TOKEN_CMD: hub->credentials.cmd = arg; return true;
    case LINK_OPT_CACERT: hub->cacert = arg; return true;
    case LINK_OPT_INSECURE: hub->insecure = true; return true;
    case LINK_OPT_PING_TIMEOUT:
        hub->ping_timeout_ms = link_parse_seconds(arg);
        if (hub->ping_timeout_ms > 0) return true;
        fprintf(stderr, "roost: --ping-timeout: %s is not a number of seconds\n", arg);
        return false;
    case LINK_OPT_QUIET: hub->quiet = true; return true;
    case LINK_OPT_END: break;
    }
    return false; /* getopt has said what is wrong */
}

/* On the machine on which `roost serve --dev` ran, its certificate and secret are at hand: then a
 * loopback URL needs neither --cacert nor --token. */
static void use_dev_state(struct link_hub *hub)
{
    char dir[1024];
    const struct credentials *c = &hub->credentials;
    if (!url_loopback(&hub->peer.url) || !credentials_dev_dir(dir, sizeof dir)) return;
    if (!hub->cacert && !hub->insecure && hub->peer.url.scheme == URL_WSS) {
        snprintf(hub->ca_file, sizeof hub->ca_file, "%s/cert.pem", dir);
        if (access(hub->ca_file, R_OK) == 0) hub->cacert = hub->ca_file;
    }
    if (!c->token_flag && !c->file && !c->cmd && !getenv("ROOST_TOKEN"))
        memcpy(hub->credentials.dev_dir, dir, sizeof dir);
    if (!hub->quiet && (*hub->credentials.dev_dir || hub->cacert == hub->ca_file))
        fprintf(stderr, "roost: using%s%s%s of `roost serve --dev` from %s\n",
                hub->cacert == hub->ca_file ? " the certificate" : "",
                hub->cacert == hub->ca_file && *hub->credentials.dev_dir ? " and" : "",
                *hub->credentials.dev_dir ? " a token made with the secret" : "", dir);
}

static int fail_with(const char *what, const char *why, int status)
{
    fprintf(stderr, "roost: %s: %s\n", what, why);
    return status;
}

int link_hub_open(struct link_hub *hub, const char *const *channels, size_t channel_count)
{
    char err[400];
    struct credentials *c = &hub->credentials;
    const char *why = url_parse(&hub->peer.url, hub->url_text);
    if (why) return fail_with(hub->url_text, why, 2);
    if (!!c->token_flag + !!c->file + !!c->cmd > 1)
        return fail_with("token", "give one of --token, --token-file and --token-cmd", 2);
    c->channels = channels;
    c->channel_count = channel_count;
    hub->peer.max_message_bytes = hub->max_message_bytes;
    use_dev_state(hub);
    if (credentials_load(c, time(NULL), err, sizeof err) == -1) return fail_with("token", err, 1);
    if (hub->peer.url.scheme == URL_WSS) {
        hub->peer.tls = tls_client_new(hub->cacert, hub->insecure, err, sizeof err);
        if (!hub->peer.tls) return fail_with("TLS", err, 1);
        if (hub->insecure && !hub->quiet)
            fprintf(stderr,
                    "roost: --insecure: anybody on the way can read and change everything\n");
    }
    hub->loop = dial_loop_new();
    return hub->loop ? 0 : fail_with("start", "out of memory", 1);
}

void link_hub_close(struct link_hub *hub)
{
    credentials_wipe(&hub->credentials);
    dial_loop_delete(hub->loop);
    tls_client_delete(hub->peer.tls);
}

int link_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) == -1) return -1;
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

int link_signal(int fd)
{
    struct signalfd_siginfo info;
    return read(fd, &info, sizeof info) == (ssize_t)sizeof info ? (int)info.ssi_signo : 0;
}
