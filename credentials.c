#include "credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "json.h"

#define DEV_TOKEN_LIFE_S 3600
#define DEV_SECRET_MAX 512
#define CLAIM_TOKENS 512

/* ---- exp ---- */

int64_t credentials_exp(const char *token)
{
    char text[JWT_TOKEN_MAX];
    jsmntok_t tokens[CLAIM_TOKENS];
    struct json doc;
    int64_t exp = -1;
    const char *payload = strchr(token, '.');
    if (!payload) return -1;
    size_t len = strcspn(++payload, ".");
    if (len >= sizeof text) return -1;
    int64_t n = jwt_base64url_decode((uint8_t *)text, payload, len);
    if (n < 0 || json_parse(&doc, text, (size_t)n, tokens, CLAIM_TOKENS, 1, 0) == -1) return -1;
    if (!json_floor(&doc, json_member(&doc, 0, "exp"), &exp, NULL)) return -1;
    return exp;
}

int64_t credentials_renew_at(int64_t now_s, int64_t exp_s)
{
    int64_t left = exp_s - now_s;
    if (left <= 1) return now_s + 1;
    int64_t margin = left / 10;
    if (margin > 600) margin = 600; /* for a token of days ten minutes are enough */
    return exp_s - (margin ? margin : 1);
}

/* ---- the sources ---- */

static void trim(char *text)
{
    size_t len = strlen(text);
    while (len && strchr(" \t\r\n", text[len - 1])) text[--len] = 0;
    size_t start = strspn(text, " \t\r\n");
    if (start) memmove(text, text + start, len - start + 1);
}

static int read_file(const char *path, char *out, size_t cap, char *err, size_t err_len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd == -1 ? -1 : read(fd, out, cap);
    int error = errno;
    if (fd != -1) close(fd);
    if (n < 0) {
        snprintf(err, err_len, "%s: %s", path, strerror(error));
        return -1;
    }
    if ((size_t)n == cap) {
        snprintf(err, err_len, "%s is too large to be a token", path);
        return -1;
    }
    out[n] = 0;
    trim(out);
    return 0;
}

/* The command gets a process group of its own, so that all it started ends with it when it takes
 * too long; and default signals, which we may have blocked. */
static pid_t start_command(const char *cmd, int *out_fd)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) == -1) return -1;
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGPIPE, SIG_DFL);
        setpgid(0, 0);
        if (dup2(fds[1], STDOUT_FILENO) == -1) _exit(126);
        execl("/bin/sh", "sh", "-c", cmd, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    if (pid == -1) close(fds[0]);
    *out_fd = fds[0];
    return pid;
}

/* read_until reads to the end of fd; returns the length, or -1 when time is up or cap is full. */
static ssize_t read_until(int fd, char *out, size_t cap, int64_t deadline_ms)
{
    size_t len = 0;
    while (len < cap) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = deadline_ms - clock_ms();
        if (left <= 0) return -1;
        int ready = poll(&p, 1, (int)left);
        if (ready <= 0) continue;
        ssize_t n = read(fd, out + len, cap - len);
        if (n == 0) return (ssize_t)len;
        if (n < 0 && errno != EINTR) return -1;
        if (n > 0) len += (size_t)n;
    }
    return -1;
}

static int run_command(const char *cmd, char *out, size_t cap, char *err, size_t err_len)
{
    int fd = -1, status = 0;
    pid_t pid = start_command(cmd, &fd);
    if (pid == -1) {
        snprintf(err, err_len, "--token-cmd: %s", strerror(errno));
        return -1;
    }
    ssize_t n = read_until(fd, out, cap, clock_ms() + CREDENTIALS_CMD_TIMEOUT_MS);
    close(fd);
    if (n < 0) kill(-pid, SIGKILL);
    while (waitpid(pid, &status, 0) == -1 && errno == EINTR) continue;
    if (n < 0)
        snprintf(err, err_len, "--token-cmd did not finish within %d s, or printed too much",
                 CREDENTIALS_CMD_TIMEOUT_MS / 1000);
    else if (!WIFEXITED(status) || WEXITSTATUS(status))
        snprintf(err, err_len, "--token-cmd failed (exit status %d)",
                 WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    if (n < 0 || !WIFEXITED(status) || WEXITSTATUS(status)) return -1;
    out[n] = 0;
    trim(out);
    return 0;
}

/* ---- a token of our own, on a development machine ---- */

bool credentials_dev_dir(char *dir, size_t cap)
{
    const char *own = getenv("ROOST_STATE_DIR"), *xdg = getenv("XDG_STATE_HOME"),
               *home = getenv("HOME");
    char file[1100];
    int n;
    if (own && *own)
        n = snprintf(dir, cap, "%s", own);
    else if (xdg && *xdg == '/')
        n = snprintf(dir, cap, "%s/roost", xdg);
    else if (home && *home == '/')
        n = snprintf(dir, cap, "%s/.local/state/roost", home);
    else
        n = snprintf(dir, cap, "./roost-dev-state");
    if (n < 0 || (size_t)n >= cap) return false;
    n = snprintf(file, sizeof file, "%s/hmac_secret", dir);
    return n > 0 && (size_t)n < sizeof file && access(file, R_OK) == 0;
}

static void put_channels(struct json_out *o, const struct credentials *c)
{
    json_puts(o, "[");
    for (size_t i = 0; i < c->channel_count; i++) {
        if (i) json_puts(o, ",");
        json_put_string(o, c->channels[i], strlen(c->channels[i]));
    }
    json_puts(o, "]");
}

static int make_dev_token(struct credentials *c, int64_t now_s, char *out, size_t cap, char *err,
                          size_t err_len)
{
    char file[1100], secret[DEV_SECRET_MAX + 1], claims[8192];
    struct json_out o = {.p = claims, .cap = sizeof claims};
    snprintf(file, sizeof file, "%s/hmac_secret", c->dev_dir);
    if (read_file(file, secret, sizeof secret, err, err_len) == -1) return -1;
    json_puts(&o, "{\"sub\":\"cli\",\"iat\":");
    json_put_int(&o, now_s);
    json_puts(&o, ",\"exp\":");
    json_put_int(&o, now_s + DEV_TOKEN_LIFE_S);
    json_puts(&o, ",\"roost\":{\"pub\":");
    put_channels(&o, c);
    json_puts(&o, ",\"sub\":");
    put_channels(&o, c);
    json_puts(&o, "}}");
    const struct jwt_key key = {.secret = (const uint8_t *)secret, .secret_len = strlen(secret)};
    int64_t n = o.full ? -1 : jwt_make(out, cap, &key, claims, o.len);
    explicit_bzero(secret, sizeof secret);
    if (n > 0) return 0;
    snprintf(err, err_len, "too many channels for one token");
    return -1;
}

/* ---- */

static int ask_source(struct credentials *c, int64_t now_s, char *out, size_t cap, char *err,
                      size_t err_len)
{
    const char *variable = getenv("ROOST_TOKEN");
    const char *fixed = c->token_flag ? c->token_flag : c->file || c->cmd ? NULL : variable;
    c->renewable = !fixed && (c->file || c->cmd || *c->dev_dir);
    out[0] = 0;
    if (fixed && strlen(fixed) >= cap) {
        snprintf(err, err_len, "the token is longer than %d bytes", JWT_TOKEN_MAX);
        return -1;
    }
    if (fixed) {
        memcpy(out, fixed, strlen(fixed) + 1);
        trim(out);
        return 0;
    }
    if (c->file) return read_file(c->file, out, cap, err, err_len);
    if (c->cmd) return run_command(c->cmd, out, cap - 1, err, err_len);
    if (*c->dev_dir) return make_dev_token(c, now_s, out, cap, err, err_len);
    return 0;
}

/* People paste what they find: "Bearer TOKEN" as well. */
static void drop_scheme(char *token)
{
    if (strncasecmp(token, "Bearer ", 7) == 0) memmove(token, token + 7, strlen(token + 7) + 1);
}

int credentials_load(struct credentials *c, int64_t now_s, char *err, size_t err_len)
{
    char token[JWT_TOKEN_MAX + 1];
    if (ask_source(c, now_s, token, sizeof token, err, err_len) == -1) return -1;
    drop_scheme(token);
    if ((c->file || c->cmd) && !*token) {
        snprintf(err, err_len, "%s gave no token", c->file ? c->file : "--token-cmd");
        return -1;
    }
    bool other = c->generation == 0 || strcmp(token, c->token) != 0;
    int64_t exp = credentials_exp(token);
    memcpy(c->token, token, strlen(token) + 1);
    explicit_bzero(token, sizeof token);
    c->renew_at_s = c->renewable && exp > 0 ? credentials_renew_at(now_s, exp) : 0;
    if (other) c->generation++;
    return other;
}

void credentials_wipe(struct credentials *c)
{
    explicit_bzero(c->token, sizeof c->token);
}
