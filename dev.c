#include "dev.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jwt.h"
#include "tls.h"

/* ---- the folder -------------------------------------------------------------------------------
 */

struct problem { /* where a refusal's line goes */
    char *text;
    size_t len;
};

static int refuse(struct problem *why, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static int refuse(struct problem *why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why->text, why->len, format, args);
    va_end(args);
    return -1;
}

static int join(char out[static DEV_PATH_MAX], const char *a, const char *b)
{
    int n = snprintf(out, DEV_PATH_MAX, "%s/%s", a, b);
    return n > 0 && n < DEV_PATH_MAX ? 0 : -1;
}

/* XDG base directories: a relative path in the variable is to be ignored. */
static int find_dir(char out[static DEV_PATH_MAX])
{
    const char *own = getenv("ROOST_STATE_DIR"), *xdg = getenv("XDG_STATE_HOME"),
               *home = getenv("HOME");
    if (own && *own) return snprintf(out, DEV_PATH_MAX, "%s", own) < DEV_PATH_MAX ? 0 : -1;
    if (xdg && *xdg == '/') return join(out, xdg, "roost");
    if (home && *home == '/') return join(out, home, ".local/state/roost");
    return join(out, ".", "roost-dev-state");
}

static int make_dirs(const char *path)
{
    char part[DEV_PATH_MAX];
    size_t len = strlen(path);
    if (len >= sizeof part) return -1;
    memcpy(part, path, len + 1);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(part, 0700) == -1 && errno != EEXIST && access(part, F_OK) == -1) return -1;
        *slash = '/';
    }
    return mkdir(part, 0700) == -1 && errno != EEXIST ? -1 : 0;
}

/* A secret that others may read or replace is no secret. */
static int check_owner(struct problem *why, const char *path, const struct stat *st,
                       const char *mode)
{
    if (st->st_uid != geteuid())
        return refuse(why,
                      "%s belongs to user %u, not to us (%u): remove it or set ROOST_STATE_DIR",
                      path, (unsigned)st->st_uid, (unsigned)geteuid());
    if (st->st_mode & 077)
        return refuse(why, "%s is open to others (mode %03o): run chmod %s '%s'", path,
                      (unsigned)st->st_mode & 0777, mode, path);
    return 0;
}

/* Opens the folder and holds its lock, so that two servers that start at once make one set of
 * files. */
static int open_dir(const char *path, struct problem *why)
{
    struct stat st;
    if (make_dirs(path) == -1)
        return refuse(why, "can not make %s: %s; set ROOST_STATE_DIR", path, strerror(errno));
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd == -1 || fstat(fd, &st) == -1 || flock(fd, LOCK_EX) == -1) {
        refuse(why, "can not open %s: %s", path, strerror(errno));
        goto fail;
    }
    if (check_owner(why, path, &st, "700") == -1) goto fail;
    return fd;
fail:
    if (fd != -1) close(fd);
    return -1;
}

/* ---- files ------------------------------------------------------------------------------------
 */

/* Returns a descriptor of a file that is ours alone, -1 after a refusal, -2 if there is none. */
static int open_private(const char *path, struct problem *why)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd == -1 && errno == ENOENT) return -2;
    if (fd == -1 || fstat(fd, &st) == -1) {
        refuse(why, "can not open %s: %s", path,
               errno == ELOOP ? "it is a symbolic link" : strerror(errno));
        goto fail;
    }
    if (!S_ISREG(st.st_mode)) {
        refuse(why, "%s is not a file", path);
        goto fail;
    }
    if (check_owner(why, path, &st, "600") == -1) goto fail;
    return fd;
fail:
    if (fd != -1) close(fd);
    return -1;
}

/* Whole or not at all: the text is written under another name, then renamed. */
static int write_private(const char *path, const char *text, struct problem *why)
{
    char temp[DEV_PATH_MAX + 8];
    size_t len = strlen(text);
    snprintf(temp, sizeof temp, "%s.new", path);
    unlink(temp);
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool ok = fd != -1 && write(fd, text, len) == (ssize_t)len && fsync(fd) == 0;
    if (fd != -1 && close(fd) == -1) ok = false;
    if (ok && rename(temp, path) == 0) return 0;
    refuse(why, "can not write %s: %s", path, strerror(errno));
    unlink(temp);
    return -1;
}

static void hex_secret(char out[static DEV_SECRET_CHARS + 2])
{
    uint8_t bytes[DEV_SECRET_CHARS / 2];
    random_bytes(bytes, sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++) snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    memcpy(out + DEV_SECRET_CHARS, "\n", 2);
    explicit_bzero(bytes, sizeof bytes);
}

static int read_line(int fd, const char *path, char out[static DEV_SECRET_MAX + 1],
                     struct problem *why)
{
    ssize_t n = read(fd, out, DEV_SECRET_MAX + 1);
    while (n > 0 && (out[n - 1] == '\n' || out[n - 1] == '\r')) n--;
    if (n < 32 || n > DEV_SECRET_MAX || memchr(out, '\n', (size_t)n) ||
        memchr(out, '\0', (size_t)n))
        return refuse(why,
                      "%s should hold one line of 32 to %d characters: remove it for a fresh one",
                      path, DEV_SECRET_MAX);
    out[n] = '\0';
    return 0;
}

/* Reads the secret in path; makes it first if there is none. */
static int secret_file(const char *path, char out[static DEV_SECRET_MAX + 1], struct problem *why)
{
    int fd = open_private(path, why);
    if (fd == -2) {
        char text[DEV_SECRET_CHARS + 2];
        hex_secret(text);
        int made = write_private(path, text, why);
        explicit_bzero(text, sizeof text);
        if (made == -1) return -1;
        fd = open_private(path, why);
    }
    if (fd < 0) return -1;
    int rc = read_line(fd, path, out, why);
    close(fd);
    return rc;
}

static int make_certificate(const struct dev_state *s, struct problem *why)
{
    char cert[DEV_PATH_MAX + 8], key[DEV_PATH_MAX + 8];
    snprintf(cert, sizeof cert, "%s.new", s->cert_file);
    snprintf(key, sizeof key, "%s.new", s->key_file);
    unlink(cert);
    unlink(key);
    /* The certificate last: a crash in between leaves no certificate, and the pair is made again.
     */
    unlink(s->cert_file);
    if (tls_make_certificate(cert, key) == 0 && rename(key, s->key_file) == 0 &&
        rename(cert, s->cert_file) == 0)
        return 0;
    refuse(why, "can not make a certificate in %s: %s", s->dir, strerror(errno));
    unlink(cert);
    unlink(key);
    return -1;
}

static int certificate_files(const struct dev_state *s, struct problem *why)
{
    int cert = open_private(s->cert_file, why);
    if (cert == -1) return -1;
    int key = open_private(s->key_file, why);
    if (cert >= 0) close(cert);
    if (key >= 0) close(key);
    if (key == -1) return -1;
    return cert >= 0 && key >= 0 ? 0 : make_certificate(s, why);
}

/* make_token: for user dev, who may do everything. */
static int64_t make_token(struct dev_state *s, int64_t now_s)
{
    char claims[128];
    const int n = snprintf(
        claims, sizeof claims,
        "{\"sub\":\"dev\",\"iat\":%lld,\"exp\":%lld,\"roost\":{\"pub\":[\"*\"],\"sub\":[\"*\"]}}",
        (long long)now_s, (long long)now_s + DEV_TOKEN_LIFE_S);
    const struct jwt_key key = {.secret = (const uint8_t *)s->hmac_secret,
                                .secret_len = strlen(s->hmac_secret)};
    return jwt_make(s->token, sizeof s->token, &key, claims, (size_t)n);
}

static int token_file(struct dev_state *s, int64_t now_s, struct problem *why)
{
    int fd =
        open_private(s->token_file, why); /* a symbolic link or another's file is not written to */
    if (fd == -1) return -1;
    if (fd >= 0) close(fd);
    if (make_token(s, now_s) == -1) return refuse(why, "can not make a token");
    char line[DEV_TOKEN_MAX + 1];
    snprintf(line, sizeof line, "%s\n", s->token);
    return write_private(s->token_file, line, why);
}

static int name_files(struct dev_state *s)
{
    return join(s->hmac_secret_file, s->dir, "hmac_secret") == 0 &&
                   join(s->api_key_file, s->dir, "api_key") == 0 &&
                   join(s->cert_file, s->dir, "cert.pem") == 0 &&
                   join(s->key_file, s->dir, "key.pem") == 0 &&
                   join(s->token_file, s->dir, "token") == 0
               ? 0
               : -1;
}

int dev_state_open(struct dev_state *s, int64_t now_s, char *err, size_t err_len)
{
    struct problem why = {err, err_len};
    memset(s, 0, sizeof *s);
    if (find_dir(s->dir) == -1 || name_files(s) == -1)
        return refuse(&why, "the path of the state folder is too long: set ROOST_STATE_DIR");
    int dir = open_dir(s->dir, &why);
    if (dir == -1) return -1;
    int rc = 0;
    if (secret_file(s->hmac_secret_file, s->hmac_secret, &why) == -1 ||
        secret_file(s->api_key_file, s->api_key, &why) == -1 || certificate_files(s, &why) == -1 ||
        token_file(s, now_s, &why) == -1)
        rc = -1;
    close(dir); /* gives the lock back */
    return rc;
}

void dev_state_wipe(struct dev_state *s)
{
    explicit_bzero(s->hmac_secret, sizeof s->hmac_secret);
    explicit_bzero(s->api_key, sizeof s->api_key);
    explicit_bzero(s->token, sizeof s->token);
}

/* ---- what is printed --------------------------------------------------------------------------
 */

struct ink {
    const char *title, *line, *end;
};

static struct ink choose_ink(FILE *out)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    if (!isatty(fileno(out)) || (no && *no) || (term && strcmp(term, "dumb") == 0))
        return (struct ink){"", "", ""};
    return (struct ink){"\033[1m", "\033[36m", "\033[0m"};
}

/* sh_quote writes text as one word of a POSIX shell, bare when it needs no quotes. */
static void sh_quote(FILE *out, const char *text)
{
    const char *plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+=,";
    if (*text && text[strspn(text, plain)] == '\0') {
        fputs(text, out);
        return;
    }
    fputc('\'', out);
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", out);
        else
            fputc(*text, out);
    }
    fputc('\'', out);
}

static const char *after_scheme(const char *url)
{
    const char *at = strstr(url, "://");
    return at ? at + 3 : url;
}

static const char *port_of(const char *url)
{
    const char *colon = strrchr(url, ':');
    return colon ? colon + 1 : "0";
}

/* Who and where we are, as the user's own ssh reached us if it did. */
static void print_ssh(FILE *out, const char *wss_url, const char *ws_url)
{
    const char *user = getenv("USER"), *connection = getenv("SSH_CONNECTION");
    char host[256] = "", address[256] = "";
    if (gethostname(host, sizeof host - 1) == -1 || !*host) snprintf(host, sizeof host, "host");
    if (connection && sscanf(connection, "%*s %*s %255s", address) != 1) address[0] = '\0';
    const char *tls = port_of(wss_url), *plain = port_of(ws_url);
    fprintf(out, "ssh -L %s:127.0.0.1:%s -L %s:127.0.0.1:%s ", tls, tls, plain, plain);
    if (user && *user) {
        sh_quote(out, user);
        fputc('@', out);
    }
    sh_quote(out, *address ? address : host);
}

/* On this machine sub and pub find certificate and secret by themselves (credentials.h), by the
 * same rules as we did. */
static void print_client(FILE *out, const char *program, const char *verb, const char *wss_url)
{
    const char *own = getenv("ROOST_STATE_DIR");
    if (own && *own) {
        fputs("ROOST_STATE_DIR=", out);
        sh_quote(out, own);
        fputc(' ', out);
    }
    sh_quote(out, strchr(program, '/') ? program : "roost");
    fprintf(out, " %s %s chat", verb, wss_url);
}

static void print_curl(FILE *out, const struct dev_state *s, const char *wss_url)
{
    fputs("curl --cacert ", out);
    sh_quote(out, s->cert_file);
    fputs(" -H \"X-API-Key: $(cat ", out);
    sh_quote(out, s->api_key_file);
    fprintf(out,
            ")\" -d '{\"channel\":\"chat\",\"data\":\"hello from curl\"}' https://%s/api/publish",
            after_scheme(wss_url));
}

static void print_node(FILE *out, const struct dev_state *s, const char *wss_url)
{
    fputs("CA=", out);
    sh_quote(out, s->cert_file);
    fputs(" TOKEN=\"$(cat ", out);
    sh_quote(out, s->token_file);
    fprintf(
        out,
        ")\" node -e 'const {CA, TOKEN} = process.env, WebSocket = require(\"ws\");"
        " const s = new WebSocket(\"%s/raw/chat\","
        " {ca: require(\"fs\").readFileSync(CA), headers: {Authorization: \"Bearer \" + TOKEN}});"
        " s.on(\"open\", () => s.send(\"hello from node\")); s.on(\"message\", m => "
        "console.log(String(m)))'",
        wss_url);
}

void dev_banner(FILE *out, const struct dev_state *s, const char *program, const char *wss_url,
                const char *ws_url)
{
    struct ink ink = choose_ink(out);
    fprintf(out, "\n%sroost --dev%s: this machine only, state in %s\n", ink.title, ink.end, s->dir);
    fprintf(out,
            "\n%sOpen%s (the browser asks once about our own certificate)\n  %shttps://%s/%s\n",
            ink.title, ink.end, ink.line, after_scheme(wss_url), ink.end);
    fprintf(out, "%sFrom another machine%s, first\n  %s", ink.title, ink.end, ink.line);
    print_ssh(out, wss_url, ws_url);
    fprintf(out, "%s\n%sToken%s for 24 hours, any channel (also in %s)\n  %s%s%s\n", ink.end,
            ink.title, ink.end, s->token_file, ink.line, s->token, ink.end);
    fprintf(out, "%sListen%s to the channel chat\n  %s", ink.title, ink.end, ink.line);
    print_client(out, program, "sub", wss_url);
    fprintf(out, "%s\n%sPublish%s what you type, a message a line\n  %s", ink.end, ink.title,
            ink.end, ink.line);
    print_client(out, program, "pub", wss_url);
    fprintf(out, "%s\n%sPublish%s from a backend\n  %s", ink.end, ink.title, ink.end, ink.line);
    print_curl(out, s, wss_url);
    fprintf(out, "%s\n%sBoth%s from Node (npm install ws)\n  %s", ink.end, ink.title, ink.end,
            ink.line);
    print_node(out, s, wss_url);
    fprintf(out, "%s\n\n", ink.end);
    fflush(out);
}
