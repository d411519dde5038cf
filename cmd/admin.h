/* cmd/admin.h - what the commands that ask a running server have in common: its address, the key,
 * one request. For cmd/admin.c (rebalance, ready) and cmd/trace.c. Main thread. */
#ifndef CMD_ADMIN_H
#define CMD_ADMIN_H

#include "collector.h"

#define ADMIN_KEY_MAX 4096 /* of the header that shows it */

struct admin {
    const char *url_text; /* NULL: the one of roost serve --dev */
    const char *key_file, *cacert;
    struct url url;
    char authorization[ADMIN_KEY_MAX]; /* "" = no key */
};

/* For getopt_long; admin_option returns false for another value. */
enum { ADMIN_OPT_KEY_FILE = 2000, ADMIN_OPT_CACERT, ADMIN_OPT_END };
#define ADMIN_LONG_OPTIONS                                                                         \
    {"api-key-file", required_argument, NULL, ADMIN_OPT_KEY_FILE},                                 \
    {                                                                                              \
        "cacert", required_argument, NULL, ADMIN_OPT_CACERT                                        \
    }
extern const char admin_options_help[];
bool admin_option(struct admin *a, int value, const char *arg);

/* admin_open reads the URL and the key; 0, or the exit status, having said why. */
int admin_open(struct admin *a);
void admin_close(struct admin *a); /* wipes */

/* admin_call makes a connection that will ask method and path; NULL, having said why. */
struct collector *admin_call(const struct admin *a, const char *method, const char *path,
                             int64_t total_ms);

/* admin_refused says what an answer with another status than 200 means; returns the exit status. */
int admin_refused(const struct collector_answer *answer);

#endif
