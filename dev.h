/* dev.h - what `serve --dev` makes once and keeps, and what it prints for the first hour.
 *
 * The state folder holds a token secret, an API key, a certificate and its key, so that a restart
 * keeps tokens and the browser's exception valid. Main thread, before workers start. */
#ifndef DEV_H
#define DEV_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define DEV_PATH_MAX 1024
#define DEV_SECRET_CHARS 64 /* hex of 32 random bytes: the text itself is the key */
#define DEV_SECRET_MAX 256  /* a secret that the user put there may be longer, up to this */
#define DEV_TOKEN_MAX 512   /* of the token below, with its NUL */
#define DEV_TOKEN_LIFE_S 86400

struct dev_state {
    char dir[DEV_PATH_MAX];
    char hmac_secret_file[DEV_PATH_MAX], api_key_file[DEV_PATH_MAX];
    char cert_file[DEV_PATH_MAX], key_file[DEV_PATH_MAX];
    char token_file[DEV_PATH_MAX]; /* written anew at each start, for the lines of the banner */
    char hmac_secret[DEV_SECRET_MAX + 1]; /* without the line's end */
    char api_key[DEV_SECRET_MAX + 1];
    char token[DEV_TOKEN_MAX]; /* sub "dev", publish and subscribe anything, DEV_TOKEN_LIFE_S */
};

/* dev_state_open finds the folder (ROOST_STATE_DIR, else $XDG_STATE_HOME/roost, else
 * $HOME/.local/state/roost, else
 * ./roost-dev-state), makes it 0700 and makes what is missing in it 0600, each file whole or not at
 * all. Files and folders of another owner or with wider modes are refused. now_s is wall clock.
 * Returns 0, or -1 with one line in err that says what to do. */
int dev_state_open(struct dev_state *s, int64_t now_s, char *err, size_t err_len);

/* dev_state_wipe overwrites the secrets of s. */
void dev_state_wipe(struct dev_state *s);

/* dev_banner writes what to open and lines to paste, each of which works as printed. program is
 * argv[0]; wss_url and ws_url are base addresses without a path, such as "wss://127.0.0.1:8443".
 * Colours only on a terminal, never with NO_COLOR. */
void dev_banner(FILE *out, const struct dev_state *s, const char *program, const char *wss_url,
                const char *ws_url);

#endif
