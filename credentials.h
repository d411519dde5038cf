/* credentials.h - where roost sub, pub and bench take their token from, and when they need a new
 * one.
 *
 * In this order: --token, --token-file, --token-cmd, the variable ROOST_TOKEN; and if there is none
 * and the server is on this machine, a token made with the secret that `roost serve --dev` keeps in
 * its state folder. One thread. */
#ifndef CREDENTIALS_H
#define CREDENTIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "jwt.h"

#define CREDENTIALS_CMD_TIMEOUT_MS                                                                 \
    6000 /* shorter than the time in which a server wants its pong                                 \
          */

struct credentials {                     /* zero is "no token" */
    const char *token_flag, *file, *cmd; /* as given; NULL = not */
    char dev_dir[1024];                  /* "" = not in use */
    const char *const *channels;         /* what a token of our own shall allow; borrowed */
    size_t channel_count;

    char token[JWT_TOKEN_MAX + 1]; /* "" = none */
    bool renewable;                /* asking again may give another one */
    unsigned generation;           /* counts the tokens; 0 = none asked for yet */
    int64_t renew_at_s;            /* wall clock: at about 90 % of its life; 0 = never */
};

/* credentials_dev_dir looks for the state folder of `roost serve --dev` and fills dir if it holds a
 * secret that we may read. Returns whether it does. */
bool credentials_dev_dir(char *dir, size_t cap);

/* credentials_load asks the source for a token at wall-clock now_s. Runs the command if that is the
 * source, for CREDENTIALS_CMD_TIMEOUT_MS at most. Returns 1 if the token is another one than before
 * (generation + 1), 0 if it is the same, -1 with one line in err; then the old one is kept. */
int credentials_load(struct credentials *c, int64_t now_s, char *err, size_t err_len);

/* credentials_exp reads the claim exp without verifying anything: only the server can tell whether
 * a token is good, we just want to come back with a new one in time. Returns -1 if there is none.
 */
int64_t credentials_exp(const char *token);

/* credentials_renew_at: when, between now_s and exp_s, to ask for a new token. Pure. */
int64_t credentials_renew_at(int64_t now_s, int64_t exp_s);

void credentials_wipe(struct credentials *c);

#endif
