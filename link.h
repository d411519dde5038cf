/* link.h - one channel of a server, kept connected: what roost sub and roost pub have in common.
 *
 * A link connects to URL/raw/CHANNEL, comes back with exponential back-off and full jitter when it
 * was cut, notices a dead server by its silence, gets a new token before the old one ends and
 * changes over to a connection with it. Raw mode has no offsets: what is published while a link is
 * away is not delivered later, and nothing is delivered twice. One thread; time is monotonic
 * milliseconds, given by the caller. */
#ifndef LINK_H
#define LINK_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "credentials.h"
#include "dial.h"

/* ---- what all links of a process share ---- */

struct link_hub {
    const char *url_text, *cacert; /* as given */
    bool insecure, quiet;
    int64_t ping_timeout_ms;    /* silence after which the server is asked for a sign of life; 0 =
                                   default */
    uint64_t max_message_bytes; /* 0 = 64 MiB */
    struct credentials credentials;
    /* the rest is filled by link_hub_open */
    struct dial_peer peer;
    struct dial_loop *loop;
    char ca_file[1100];
};

/* The options that sub and pub share, for getopt_long; link_option takes one of these values and
 * returns false, with a line on standard error, if its argument is no good. */
enum link_option_value {
    LINK_OPT_TOKEN = 1000,
    LINK_OPT_TOKEN_FILE,
    LINK_OPT_TOKEN_CMD,
    LINK_OPT_CACERT,
    LINK_OPT_INSECURE,
    LINK_OPT_PING_TIMEOUT,
    LINK_OPT_QUIET,
    LINK_OPT_END /* the first value that is free for others */
};
#define LINK_LONG_OPTIONS                                                                          \
    {"token", required_argument, NULL, LINK_OPT_TOKEN},                                            \
        {"token-file", required_argument, NULL, LINK_OPT_TOKEN_FILE},                              \
        {"token-cmd", required_argument, NULL, LINK_OPT_TOKEN_CMD},                                \
        {"cacert", required_argument, NULL, LINK_OPT_CACERT},                                      \
        {"insecure", no_argument, NULL, LINK_OPT_INSECURE},                                        \
        {"ping-timeout", required_argument, NULL, LINK_OPT_PING_TIMEOUT},                          \
    {                                                                                              \
        "quiet", no_argument, NULL, LINK_OPT_QUIET                                                 \
    }
extern const char link_options_help[];
bool link_option(struct link_hub *hub, int value, const char *arg);

/* link_parse_seconds reads 10, 0.5 or 10s (more than 0) as milliseconds; -1 if it is no such thing.
 */
int64_t link_parse_seconds(const char *text);

/* link_hub_open parses the URL, loads the trust anchors and the first token. channels is what a
 * token of our own has to allow; borrowed. Returns 0, or the exit status (1, 2), having said why.
 */
int link_hub_open(struct link_hub *hub, const char *const *channels, size_t channel_count);
void link_hub_close(struct link_hub *hub);

/* ---- a link ---- */

struct link;

struct link_handler {
    void (*opened)(struct link *l);
    /* A whole message; valid until the handler returns. */
    void (*message)(struct link *l, enum ws_opcode opcode, const uint8_t *payload, size_t len);
    void (*pong)(struct link *l, const uint8_t *payload, size_t len); /* may be NULL */
    /* d is over, or about to be given up; it will be freed. May be NULL. Called for attempts that
     * failed too. */
    void (*lost)(struct link *l, const struct dial *d);
};

enum link_state {
    LINK_WAITING, /* for the time of the next attempt */
    LINK_CONNECTING,
    LINK_OPEN,
    LINK_CHANGING, /* closing the old connection; a new one waits for the upgrade */
    LINK_CLOSING,  /* link_close was called */
    LINK_FINISHED, /* closed as asked, or refused for good: link_failed tells */
};

/* link_new makes a link to channel with query (such as "?pub=0") that connects at its first
 * link_tick. NULL when memory is out. */
struct link *link_new(struct link_hub *hub, const char *channel, const char *query,
                      const struct link_handler *handler, void *user);
void link_free(struct link *l); /* l may be NULL */

enum link_state link_state(const struct link *l);
bool link_failed(const struct link *l);
void *link_user(const struct link *l);
const char *link_channel(const struct link *l);

/* link_dial: the connection to send on while LINK_OPEN, else NULL. */
struct dial *link_dial(struct link *l);

/* link_poll fills p with up to LINK_FDS descriptors and returns how many; after poll(2) the same
 * ones go to link_ready. link_tick does what is due at now_ms and returns when it wants to be
 * called again. */
#define LINK_FDS 2
size_t link_poll(const struct link *l, struct pollfd p[static LINK_FDS]);
void link_ready(struct link *l, const struct pollfd *p, size_t count, int64_t now_ms);
int64_t link_tick(struct link *l, int64_t now_ms);

/* link_close ends the link with a closing handshake, for which it waits two seconds. */
void link_close(struct link *l, int64_t now_ms);
/* link_closed_cleanly: has the server confirmed, after link_close, by its own Close? */
bool link_closed_cleanly(const struct link *l);

/* link_signals makes SIGINT and SIGTERM readable from the descriptor it returns (-1 with errno) and
 * ignores SIGPIPE. link_signal reads which one came, 0 if none. */
int link_signals(void);
int link_signal(int fd);

#endif
