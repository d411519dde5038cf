/* cmd/token.c - roost token: makes and explains tokens on a backend's or developer's machine. */
#include "cmd/cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "config.h"
#include "credentials.h"
#include "json.h"
#include "jwt.h"

#define SECRET_MAX 4096
#define SECRET_MIN 32 /* bytes: RFC 7518 section 3.2, a key as long as the hash */
#define SECRET_VARIABLE "ROOST_CLIENT_TOKEN_HMAC_SECRET_KEY"
#define CLAIMS_MAX (JWT_TOKEN_MAX / 4 * 3)
#define LIST_MAX JWT_PATTERNS_MAX
#define NOT_CHECKED 3 /* exit status of show: readable and in time, but nobody vouches for it */

static const char usage_text[] =
    "usage: roost token make [OPTION...]       prints a token\n"
    "       roost token show TOKEN|-           explains one (- reads it from standard input)\n"
    "Each has --help.\n";

static const char make_text[] =
    "usage: roost token make [OPTION...]\n\n"
    "Prints a token (JWT, HS256) with which a client connects.\n\n"
    "  --sub USER          who it is for; without: an anonymous user\n"
    "  --exp DURATION      how long it is valid, such as 90s, 15m, 1h or 7d (default 1h), or "
    "never\n"
    "  --pub PATTERN       channel that a raw client may publish to, or the beginning of several:\n"
    "                      'chat:*'; may be repeated\n"
    "  --sub-to PATTERN    the same for subscribing\n"
    "  --aud TEXT, --iss TEXT   audience and issuer\n"
    "  --claim NAME=JSON   any other claim: --claim 'info={\"name\":\"Alice\"}'; may be repeated\n"
    "  --kid NAME          the name of the key, if the server has several\n";

static const char show_text[] =
    "usage: roost token show TOKEN|-\n\n"
    "Prints header and claims of a token, when it expires and whether its signature is good.\n"
    "Exit status: 0 valid, 1 invalid or expired, 2 wrong command line, 3 not checked for want of "
    "a\n"
    "secret.\n";

static const char secret_text[] =
    "\nThe secret, the first of these that is there:\n"
    "  --secret-file FILE  a file with the secret in one line\n"
    "  --secret SECRET     the secret itself; it stays in your shell's history: better not\n"
    "  " SECRET_VARIABLE ", " SECRET_VARIABLE "_FILE\n"
    "  the one that roost serve --dev has made\n";

static const char short_text[] = "  --insecure-short-secret   take one of less than 32 bytes\n";

static int wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Says what is wrong with the command line. */
static int wrong(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("roost token: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return 2;
}

/* ---- secret ---- */

struct secret {
    uint8_t bytes[SECRET_MAX];
    size_t len;          /* 0 = there is none */
    const char *origin;  /* for people */
    bool dev;            /* made by roost serve --dev: no rule on its length */
    char file[PATH_MAX]; /* where it was read from */
};

struct secret_options {
    const char *file;
    char *text;
    bool allow_short;
};

static void wipe(struct secret *s)
{
    explicit_bzero(s, sizeof *s);
}

static int read_secret_file(struct secret *s, const char *path, const char *origin)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd == -1 ? -1 : read(fd, s->bytes, sizeof s->bytes);
    int error = errno;
    if (fd != -1) close(fd);
    if (n == -1) return wrong("%s: %s", path, strerror(error));
    if ((size_t)n == sizeof s->bytes) return wrong("%s is too large to be a secret", path);
    if (n > 0 && s->bytes[n - 1] == '\n') n--;
    if (n > 0 && s->bytes[n - 1] == '\r') n--;
    if (n == 0) return wrong("%s is empty", path);
    s->len = (size_t)n;
    s->origin = origin;
    snprintf(s->file, sizeof s->file, "%s", path);
    return 0;
}

/* Copies the secret and overwrites the original, which ps shows to others. */
static int take_secret(struct secret *s, char *text, const char *origin)
{
    size_t len = strlen(text);
    if (len >= sizeof s->bytes) return wrong("%s is too long", origin);
    if (len == 0) return wrong("%s is empty", origin);
    memcpy(s->bytes, text, len);
    explicit_bzero(text, len);
    s->len = len;
    s->origin = origin;
    return 0;
}

static int read_dev_secret(struct secret *s)
{
    char dir[PATH_MAX - 16], path[PATH_MAX];
    if (!credentials_dev_dir(dir, sizeof dir)) return 0;
    s->dev = true;
    snprintf(path, sizeof path, "%s/hmac_secret", dir);
    return read_secret_file(s, path, "roost serve --dev");
}

/* Finds the secret. Returns 0, with s->len 0 if there is none, or 2. */
static int find_secret(struct secret *s, const struct secret_options *o)
{
    char *value = getenv(SECRET_VARIABLE);
    const char *file = getenv(SECRET_VARIABLE "_FILE");
    int r;
    s->len = 0;
    s->dev = false;
    if (o->file)
        r = read_secret_file(s, o->file, "--secret-file");
    else if (o->text)
        r = take_secret(s, o->text, "--secret");
    else if (value && *value)
        r = take_secret(s, value, SECRET_VARIABLE);
    else if (file && *file)
        r = read_secret_file(s, file, SECRET_VARIABLE "_FILE");
    else
        r = read_dev_secret(s);
    if (r == 0 && s->len >= 10 && memcmp(s->bytes, "-----BEGIN", 10) == 0)
        return wrong("%s: this is a PEM file; HS256 wants a secret that both sides know",
                     s->origin);
    return r;
}

/* ---- make ---- */

struct list {
    const char *items[LIST_MAX];
    size_t count;
};

struct make_options {
    const char *sub, *aud, *iss, *kid;
    const char *exp; /* as given */
    struct list pub, sub_to, claims;
    struct secret_options secret;
};

static int add(struct list *l, const char *item, const char *option)
{
    if (l->count == LIST_MAX) return wrong("%s more than %d times", option, LIST_MAX);
    l->items[l->count++] = item;
    return 0;
}

static int read_make_options(struct make_options *o, int argc, char **argv)
{
    enum { SUB, EXP, PUB, SUB_TO, AUD, ISS, CLAIM, KID, SECRET_FILE, SECRET, SHORT, HELP };
    static const struct option options[] = {
        {"sub", 1, NULL, SUB},
        {"exp", 1, NULL, EXP},
        {"pub", 1, NULL, PUB},
        {"sub-to", 1, NULL, SUB_TO},
        {"aud", 1, NULL, AUD},
        {"iss", 1, NULL, ISS},
        {"claim", 1, NULL, CLAIM},
        {"kid", 1, NULL, KID},
        {"secret-file", 1, NULL, SECRET_FILE},
        {"secret", 1, NULL, SECRET},
        {"insecure-short-secret", 0, NULL, SHORT},
        {"help", 0, NULL, HELP},
        {0},
    };
    optind = 0;
    for (int c, r = 0; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case SUB: o->sub = optarg; break;
        case EXP: o->exp = optarg; break;
        case PUB: r = add(&o->pub, optarg, "--pub"); break;
        case SUB_TO: r = add(&o->sub_to, optarg, "--sub-to"); break;
        case AUD: o->aud = optarg; break;
        case ISS: o->iss = optarg; break;
        case CLAIM: r = add(&o->claims, optarg, "--claim"); break;
        case KID: o->kid = optarg; break;
        case SECRET_FILE: o->secret.file = optarg; break;
        case SECRET: o->secret.text = optarg; break;
        case SHORT: o->secret.allow_short = true; break;
        case HELP: printf("%s%s%s", make_text, secret_text, short_text); exit(0);
        default: return wrong("see roost token make --help");
        }
        if (r) return r;
    }
    return optind == argc ? 0 : wrong("%s: roost token make takes options only", argv[optind]);
}

/* Is NAME=JSON among the claims that were asked for? */
static bool has_claim(const struct make_options *o, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < o->claims.count; i++)
        if (strncmp(o->claims.items[i], name, len) == 0 && o->claims.items[i][len] == '=')
            return true;
    return false;
}

static void put_member(struct json_out *out, const char *name, size_t len)
{
    if (out->len > 1) json_puts(out, ",");
    json_put_string(out, name, len);
    json_puts(out, ":");
}

static void put_text(struct json_out *out, const char *name, const char *text)
{
    if (!text) return;
    put_member(out, name, strlen(name));
    json_put_string(out, text, strlen(text));
}

static void put_list(struct json_out *out, const char *name, const struct list *l)
{
    json_put_string(out, name, strlen(name));
    json_puts(out, ":[");
    for (size_t i = 0; i < l->count; i++) {
        if (i > 0) json_puts(out, ",");
        json_put_string(out, l->items[i], strlen(l->items[i]));
    }
    json_puts(out, "]");
}

static int put_claims(struct json_out *out, const struct list *claims)
{
    for (size_t i = 0; i < claims->count; i++) {
        const char *claim = claims->items[i], *json = strchr(claim, '='), *why;
        size_t at;
        if (!json || json == claim) return wrong("--claim %s: want NAME=JSON", claim);
        put_member(out, claim, (size_t)(json++ - claim));
        if (!json_check(json, strlen(json), 0, &why, &at))
            return wrong("--claim %s: %s, at byte %zu of the value (a text wants its quotes: "
                         "'name=\"text\"')",
                         claim, why, at + 1);
        json_puts(out, json);
    }
    return 0;
}

static int put_times(struct json_out *out, const struct make_options *o, int64_t now_s)
{
    int64_t ms = 3600 * 1000;
    const char *why =
        o->exp && strcmp(o->exp, "never") != 0 ? config_parse_duration(&ms, o->exp) : NULL;
    if (why) return wrong("--exp %s: %s", o->exp, why);
    if (!has_claim(o, "iat")) {
        put_member(out, "iat", 3);
        json_put_int(out, now_s);
    }
    bool never = o->exp && strcmp(o->exp, "never") == 0;
    if (!never && (o->exp || !has_claim(o, "exp"))) {
        put_member(out, "exp", 3);
        json_put_int(out, now_s + ms / 1000);
    }
    return 0;
}

static int write_claims(struct json_out *out, const struct make_options *o, int64_t now_s)
{
    json_puts(out, "{");
    put_text(out, "sub", o->sub);
    put_text(out, "iss", o->iss);
    put_text(out, "aud", o->aud);
    int r = put_times(out, o, now_s);
    if (r == 0 && o->pub.count + o->sub_to.count > 0) {
        put_member(out, "roost", 5);
        json_puts(out, "{");
        put_list(out, "pub", &o->pub);
        json_puts(out, ",");
        put_list(out, "sub", &o->sub_to);
        json_puts(out, "}");
    }
    if (r == 0) r = put_claims(out, &o->claims);
    json_puts(out, "}");
    if (r == 0 && out->full) return wrong("the claims are too long");
    return r;
}

/* Would a server take it? Whoever signs nonsense shall hear of it here. */
static int check_made(const char *token, size_t len, const struct jwt_key *key, bool subscription,
                      int64_t now_s)
{
    static struct jwt_claims claims;
    static _Alignas(8) char scratch[JWT_SCRATCH];
    struct jwt_rules rules = {.keys = {*key}, .key_count = 1, .subscription = subscription};
    const char *why;
    switch (jwt_verify(&rules, token, len, now_s, &claims, scratch, sizeof scratch, &why)) {
    case JWT_OK: return 0;
    case JWT_EXPIRED: fprintf(stderr, "roost token: note: %s\n", why); return 0;
    case JWT_INVALID: break;
    }
    return wrong("a server would refuse this token: %s", why);
}

static int make_with(const struct make_options *o, const struct secret *s, int64_t now_s)
{
    static char claims[CLAIMS_MAX], token[JWT_TOKEN_MAX + 1];
    if (s->len == 0)
        return wrong("no secret. Give the server's by --secret-file FILE or " SECRET_VARIABLE
                     ", or start roost serve --dev once, which makes one; a new one: openssl rand "
                     "-hex 32 > secret");
    if (s->len < SECRET_MIN && !s->dev && !o->secret.allow_short)
        return wrong("%s: a secret of %zu bytes can be guessed; %d at least, or "
                     "--insecure-short-secret",
                     s->origin, s->len, SECRET_MIN);
    struct json_out out = {.p = claims, .cap = sizeof claims};
    int r = write_claims(&out, o, now_s);
    if (r) return r;
    struct jwt_key key = {.secret = s->bytes, .secret_len = s->len, .kid = o->kid};
    int64_t len = jwt_make(token, sizeof token, &key, claims, out.len);
    if (len < 0) return wrong("the claims are too long");
    r = check_made(token, (size_t)len, &key, has_claim(o, "channel"), now_s);
    if (r) return r;
    if (s->dev && isatty(STDERR_FILENO)) fprintf(stderr, "signed with %s\n", s->file);
    puts(token);
    return fflush(stdout) == 0 ? 0 : 1;
}

static int token_make(int argc, char **argv)
{
    static struct secret secret;
    struct make_options o = {0};
    int r = read_make_options(&o, argc, argv);
    if (r == 0) r = find_secret(&secret, &o.secret);
    if (r == 0) r = make_with(&o, &secret, time(NULL));
    wipe(&secret);
    return r;
}

/* ---- show ---- */

static int read_show_options(struct secret_options *o, int argc, char **argv)
{
    enum { SECRET_FILE, SECRET, HELP };
    static const struct option options[] = {
        {"secret-file", 1, NULL, SECRET_FILE},
        {"secret", 1, NULL, SECRET},
        {"help", 0, NULL, HELP},
        {0},
    };
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case SECRET_FILE: o->file = optarg; break;
        case SECRET: o->text = optarg; break;
        case HELP: printf("%s%s", show_text, secret_text); exit(0);
        default: return wrong("see roost token show --help");
        }
    }
    return optind == argc - 1 ? 0 : wrong("roost token show wants one token, or - to read it");
}

/* The token without white space around it, from the command line or standard input. */
static int read_token(char *out, size_t cap, size_t *len, const char *arg)
{
    if (strcmp(arg, "-") == 0)
        *len = fread(out, 1, cap, stdin);
    else
        *len = (size_t)snprintf(out, cap, "%s", arg);
    if (*len >= cap)
        return wrong("this is too long to be a token (%d bytes at most)", JWT_TOKEN_MAX);
    out[*len] = 0;
    while (*len > 0 && strchr(" \t\r\n", out[*len - 1])) out[--*len] = 0;
    size_t from = strspn(out, " \t\r\n");
    memmove(out, out + from, *len - from + 1);
    *len -= from;
    return *len > 0 ? 0 : wrong("there is no token");
}

/* Writes JSON to a terminal: DEL and U+0080..U+009F, which it might obey, as escapes. */
static void print_raw(struct json_slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.p[i],
                      next = i + 1 < s.len ? (unsigned char)s.p[i + 1] : 0;
        if (c == 0x7f)
            fputs("\\u007f", stdout);
        else if (c == 0xc2 && next < 0xa0)
            printf("\\u%04x", (unsigned char)s.p[++i]);
        else
            putchar(c);
    }
}

static void print_json(const struct json *doc, int v, int depth)
{
    enum json_type type = json_type(doc, v);
    if (json_size(doc, v) == 0 || json_raw(doc, v).len < 60) {
        print_raw(json_raw(doc, v));
        return;
    }
    const char *comma = "";
    putchar(type == JSON_OBJECT ? '{' : '[');
    for (int m = json_first(doc, v); m != JSON_NONE; m = json_next(doc, v, m), comma = ",") {
        printf("%s\n%*s", comma, 2 * depth + 2, "");
        if (type == JSON_OBJECT) {
            print_raw(json_raw(doc, json_name(doc, m)));
            fputs(": ", stdout);
        }
        print_json(doc, m, depth + 1);
    }
    printf("\n%*s%c", 2 * depth, "", type == JSON_OBJECT ? '}' : ']');
}

/* Prints a part of the token, which nobody has verified. doc->count is 0 if it could not be read.
 */
static void print_part(struct json *doc, const char *title, const char *part, size_t len,
                       char *text, jsmntok_t *tokens, uint32_t cap)
{
    int64_t n = jwt_base64url_decode((uint8_t *)text, part, len);
    printf("%-10s ", title);
    *doc = (struct json){.why = "not base64url"};
    if (n >= 0 &&
        json_parse(doc, text, (size_t)n, tokens, cap, JSON_OPEN_ALL, JSON_LONE_SURROGATES) == 0)
        print_json(doc, 0, 0);
    else
        printf("(%s)", doc->why);
    putchar('\n');
}

static void print_span(int64_t s)
{
    static const struct {
        int64_t s;
        const char *name;
    } units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
    size_t i = 0;
    while (i < 3 && s < 2 * units[i].s) i++; /* 90 minutes say more than 1 hour */
    int64_t n = s / units[i].s;
    printf("%" PRId64 " %s%s", n, units[i].name, n == 1 ? "" : "s");
}

static void print_moment(int64_t at_s)
{
    char text[64];
    struct tm tm;
    time_t t = (time_t)at_s;
    if (at_s < 0 || at_s > INT64_C(253402300799) || !gmtime_r(&t, &tm)) return; /* year 9999 */
    strftime(text, sizeof text, " (%Y-%m-%d %H:%M:%S UTC)", &tm);
    fputs(text, stdout);
}

/* Prints when exp, if any, comes, and says whether the token is in time. */
static bool print_times(const struct json *claims, int64_t now_s)
{
    int64_t exp_s, nbf_s;
    bool exact, in_time = true;
    if (json_floor(claims, json_member(claims, 0, "nbf"), &nbf_s, &exact)) {
        if (!exact && nbf_s < INT64_MAX) nbf_s++;
        in_time = nbf_s <= now_s;
        printf("%-10s ", in_time ? "valid" : "NOT YET");
        fputs(in_time ? "since" : "before", stdout);
        print_moment(nbf_s);
        putchar('\n');
    }
    if (!json_floor(claims, json_member(claims, 0, "exp"), &exp_s, NULL)) {
        puts("expires    never");
        return in_time;
    }
    bool expired = exp_s <= now_s;
    uint64_t span = expired ? (uint64_t)now_s - (uint64_t)exp_s : (uint64_t)exp_s - (uint64_t)now_s;
    printf("%-10s ", expired ? "EXPIRED" : "expires");
    if (!expired) fputs("in ", stdout);
    print_span(span > INT64_MAX ? INT64_MAX : (int64_t)span);
    if (expired) fputs(" ago", stdout);
    print_moment(exp_s);
    putchar('\n');
    return in_time && !expired;
}

/* Prints what a server with this secret says. Returns the exit status. */
static int print_verdict(const char *token, size_t len, const struct secret *s, bool subscription,
                         bool in_time, int64_t now_s)
{
    static struct jwt_claims claims;
    static _Alignas(8) char scratch[JWT_SCRATCH];
    struct jwt_rules rules = {.key_count = s->len > 0, .subscription = subscription};
    const char *why;
    rules.keys[0] = (struct jwt_key){.secret = s->bytes, .secret_len = s->len};
    enum jwt_verdict v =
        jwt_verify(&rules, token, len, now_s, &claims, scratch, sizeof scratch, &why);
    if (v != JWT_INVALID) {
        printf("signature  good (secret of %s)\n", s->origin);
        return v == JWT_OK ? 0 : 1;
    }
    if (strcmp(why, JWT_WHY_SIGNATURE) != 0) {
        printf("signature  not checked\nINVALID    %s\n", why);
        return 1;
    }
    if (s->len > 0) {
        printf("signature  BAD (secret of %s)\n", s->origin);
        return 1;
    }
    puts("signature  not checked: no secret (--secret-file FILE)");
    return in_time ? NOT_CHECKED : 1;
}

static int show(const char *token, size_t len, const struct secret *s, int64_t now_s)
{
    static char text[JWT_TOKEN_MAX];
    static jsmntok_t tokens[CLAIMS_MAX / 2];
    const uint32_t cap = sizeof tokens / sizeof *tokens;
    struct json doc;
    const char *dot = strchr(token, '.'), *second = dot ? strchr(dot + 1, '.') : NULL;
    if (!second) {
        puts("INVALID    this is no JWT: a JWT has three parts with dots between them");
        return 1;
    }
    print_part(&doc, "header", token, (size_t)(dot - token), text, tokens, cap);
    print_part(&doc, "claims", dot + 1, (size_t)(second - dot - 1), text, tokens, cap);
    bool readable = doc.count > 0 && json_type(&doc, 0) == JSON_OBJECT;
    bool in_time = readable && print_times(&doc, now_s);
    bool subscription = readable && json_member(&doc, 0, "channel") != JSON_NONE;
    return print_verdict(token, len, s, subscription, in_time, now_s);
}

static int token_show(int argc, char **argv)
{
    static struct secret secret;
    static char token[JWT_TOKEN_MAX + 2];
    size_t len;
    struct secret_options o = {0};
    int r = read_show_options(&o, argc, argv);
    if (r == 0) r = read_token(token, sizeof token, &len, argv[argc - 1]);
    if (r == 0) r = find_secret(&secret, &o);
    if (r == 0) r = show(token, len, &secret, time(NULL));
    wipe(&secret);
    return r;
}

int cmd_token(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    if (strcmp(verb, "make") == 0) return token_make(argc - 1, argv + 1);
    if (strcmp(verb, "show") == 0) return token_show(argc - 1, argv + 1);
    bool help = strcmp(verb, "--help") == 0 || strcmp(verb, "help") == 0;
    fputs(usage_text, help ? stdout : stderr);
    return help ? 0 : 2;
}
