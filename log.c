/* log.c - logfmt or JSON lines, built in a buffer on the stack and written by one write(2).
 *
 * The line is built by pieces (a byte, an escape, a character), each wholly or not at all, and room
 * for what ends a cut line is kept back, so that even a truncated line is well-formed. A quoted
 * value of logfmt is written as a string of JSON is, so the two differ in little else than what
 * stands between values. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

_Atomic int log_level_now = LOG_INFO;

static _Atomic int log_fd = STDERR_FILENO;
static _Atomic bool log_color, log_json;
static _Thread_local int log_worker = -1;

static const char *const level_names[] = {
    [LOG_ERROR] = "error",
    [LOG_WARN] = "warn",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

static const char *const level_colors[] = {
    [LOG_ERROR] = "\033[31m",
    [LOG_WARN] = "\033[33m",
    [LOG_INFO] = "\033[32m",
    [LOG_DEBUG] = "\033[2m",
};

/* ---- a line under construction ---- */

/* What ends a line whose last value was cut within its quotes; else without the first byte. */
static const char cut_end[] = "\" truncated=true\n";
static const char cut_end_json[] = "\",\"truncated\":true}\n";
#define TEXT_MAX (LOG_LINE_MAX - (sizeof cut_end_json - 1))
_Static_assert(sizeof cut_end <= sizeof cut_end_json, "room is kept for the longer one");

struct line {
    char *p;
    size_t len;
    bool full; /* something did not fit: nothing more is put */
    bool json;
};

static void put(struct line *l, const char *bytes, size_t len)
{
    if (l->full || len > TEXT_MAX - l->len) {
        l->full = true;
        return;
    }
    memcpy(l->p + l->len, bytes, len);
    l->len += len;
}

static void puts_line(struct line *l, const char *text)
{
    put(l, text, strlen(text));
}

static void put_u64(struct line *l, uint64_t n)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    put(l, digits + at, sizeof digits - at);
}

static void put_i64(struct line *l, int64_t n)
{
    if (n < 0) put(l, "-", 1);
    put_u64(l, n < 0 ? 0 - (uint64_t)n : (uint64_t)n);
}

/* utf8_char returns how many bytes the character at p takes (len > 0 bytes are there) and stores
 * it, or 0 if it is not valid UTF-8 (RFC 3629). */
static size_t utf8_char(uint32_t *c, const uint8_t *p, size_t len)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    if (n == 0 || n > len || p[0] > 0xf4) return 0;
    *c = n == 1 ? p[0] : p[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
        *c = *c << 6 | (p[i] & 0x3fu);
    }
    if (*c < least[n] || *c > 0x10ffff || (*c >= 0xd800 && *c < 0xe000)) return 0;
    return n;
}

/* What a terminal would obey or a reader would be misled by: C0 and C1 controls, line and paragraph
 * separators, marks that change the direction of text. */
static bool must_escape(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200e && c <= 0x200f) ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

static void put_escape(struct line *l, uint32_t c)
{
    static const char hex[] = "0123456789abcdef";
    switch (c) {
    case '\n': put(l, "\\n", 2); return;
    case '\r': put(l, "\\r", 2); return;
    case '\t': put(l, "\\t", 2); return;
    default: break;
    }
    char text[] = {'\\', 'u', hex[c >> 12 & 15], hex[c >> 8 & 15], hex[c >> 4 & 15], hex[c & 15]};
    put(l, text, sizeof text);
}

static void put_quoted(struct line *l, const char *text, size_t len)
{
    put(l, "\"", 1);
    for (size_t i = 0, n; i < len && !l->full; i += n) {
        uint32_t c = 0;
        n = utf8_char(&c, (const uint8_t *)text + i, len - i);
        if (n == 0) {
            put_escape(l, 0xfffd); /* the replacement character, for a byte that is not UTF-8 */
            n = 1;
        } else if (must_escape(c)) {
            put_escape(l, c);
        } else if (c == '"' || c == '\\') {
            put(l, c == '"' ? "\\\"" : "\\\\", 2);
        } else {
            put(l, text + i, n);
        }
    }
    if (!l->full) put(l, "\"", 1);
}

/* Only plain ASCII words go without quotes; so a space or '=' of a peer's can not start a field. */
static bool is_plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~' || strchr("\"=\\", text[i])) return false;
    return len > 0;
}

static void put_value(struct line *l, const char *text, size_t len)
{
    if (!text) {
        text = "";
        len = 0;
    }
    if (len == SIZE_MAX) len = strlen(text);
    size_t start = l->len;
    if (!l->json && is_plain(text, len)) {
        put(l, text, len);
        if (!l->full) return;
        l->full = false; /* a long word: cut it as the quoted text it then is */
        l->len = start;
    }
    put_quoted(l, text, len);
}

static void put_errno(struct line *l, int err)
{
    char text[128];
    put_value(l, strerror_r(err, text, sizeof text), SIZE_MAX); /* the GNU form: returns the text */
}

static void put_name(struct line *l, const char *name)
{
    if (l->json)
        puts_line(l, l->len > 0 ? ",\"" : "{\"");
    else if (l->len > 0)
        put(l, " ", 1);
    puts_line(l, name);
    puts_line(l, l->json ? "\":" : "=");
}

static void put_field(struct line *l, const struct log_field *f)
{
    switch (f->kind) {
    case LOG_KIND_STR: put_value(l, f->str.p, f->str.len); return;
    case LOG_KIND_U64: put_u64(l, f->u64); return;
    case LOG_KIND_I64: put_i64(l, f->i64); return;
    case LOG_KIND_ERRNO: put_errno(l, (int)f->i64); return;
    case LOG_KIND_END: return;
    }
}

static void put_time(struct line *l, int64_t ts_ms)
{
    time_t seconds = (time_t)(ts_ms / 1000);
    struct tm tm;
    char text[40];
    if (!gmtime_r(&seconds, &tm)) memset(&tm, 0, sizeof tm);
    size_t n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S.", &tm);
    unsigned ms = (unsigned)(ts_ms % 1000);
    text[n++] = (char)('0' + ms / 100);
    text[n++] = (char)('0' + ms / 10 % 10);
    text[n++] = (char)('0' + ms % 10);
    text[n++] = 'Z';
    put_value(l, text, n);
}

static void put_level(struct line *l, enum log_level level, bool color)
{
    color = color && !l->json;
    if (color) puts_line(l, level_colors[level]);
    put_value(l, level_names[level], SIZE_MAX);
    if (color) puts_line(l, "\033[0m");
}

/* put_fields stops before the first field that does not fit; a string may be cut within. */
static void put_fields(struct line *l, const struct log_field *f)
{
    for (; f->kind != LOG_KIND_END; f++) {
        struct line before = *l;
        put_name(l, f->name);
        size_t value = l->len;
        if (!l->full) put_field(l, f);
        if (!l->full) continue;
        /* Half a number would be a wrong one; without any of its value a name says nothing. */
        if (f->kind == LOG_KIND_U64 || f->kind == LOG_KIND_I64 || l->len <= value) {
            *l = before;
            l->full = true;
        }
        return;
    }
}

static bool ends_in_quotes(const struct line *l)
{
    bool inside = false;
    for (size_t i = 0; i < l->len; i++) {
        if (inside && l->p[i] == '\\') {
            i++;
        } else if (l->p[i] == '"') {
            inside = !inside;
        }
    }
    return inside;
}

/* put_end writes what ends the line into the room that was kept, and returns its length. */
static size_t put_end(char *out, const struct line *l)
{
    const char *end = l->json ? "}\n" : "\n";
    if (l->full) end = (l->json ? cut_end_json : cut_end) + (ends_in_quotes(l) ? 0 : 1);
    size_t len = strlen(end);
    memcpy(out, end, len);
    return len;
}

size_t log_format(char out[static LOG_LINE_MAX], const struct log_line *line)
{
    struct line l = {.p = out, .json = line->json};
    put_name(&l, "ts");
    put_time(&l, line->ts_ms);
    put_name(&l, "level");
    put_level(&l, line->level, line->color);
    put_name(&l, "msg");
    put_value(&l, line->msg, SIZE_MAX);
    const struct log_field extra[] = {LOG_U64("suppressed", line->suppressed), LOG_END};
    if (line->suppressed > 0) put_fields(&l, extra);
    const struct log_field worker[] = {LOG_I64("worker", line->worker), LOG_END};
    if (line->worker >= 0) put_fields(&l, worker);
    if (!l.full) put_fields(&l, line->fields);

    return l.len + put_end(out + l.len, &l);
}

/* ---- where it goes ---- */

static bool wants_color(int fd)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    return !(no_color && *no_color) && term && strcmp(term, "dumb") != 0 && isatty(fd);
}

/* Once a file is open, its descriptor stays: dup3 puts another file, or standard error, behind it
 * in one step, whatever other threads are writing meanwhile. */
static int switch_to(int fd)
{
    int old = atomic_load(&log_fd);
    if (old == STDERR_FILENO) {
        atomic_store(&log_fd, fd);
        return 0;
    }
    int result = dup3(fd, old, O_CLOEXEC) == -1 ? -1 : 0;
    int saved = errno;
    if (fd != STDERR_FILENO) close(fd);
    errno = saved;
    return result;
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&log_level_now, (int)level, memory_order_relaxed);
}

int log_open(const struct log_options *o)
{
    int fd = STDERR_FILENO;
    if (o->file && *o->file) {
        fd = open(o->file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
        if (fd == -1) return -1;
    }
    if (switch_to(fd) == -1) return -1;
    atomic_store(&log_color, fd == STDERR_FILENO && wants_color(fd));
    atomic_store(&log_json, o->json);
    atomic_store(&log_level_now, (int)o->level);
    return 0;
}

void log_close(void)
{
    int old = atomic_exchange(&log_fd, STDERR_FILENO);
    if (old != STDERR_FILENO) close(old);
}

void log_thread(int worker)
{
    log_worker = worker;
}

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

bool log_level_parse(const char *text, enum log_level *level)
{
    for (int i = LOG_ERROR; i <= LOG_DEBUG; i++) {
        if (strcmp(text, level_names[i]) != 0) continue;
        *level = (enum log_level)i;
        return true;
    }
    return false;
}

void log_write(enum log_level level, const char *msg, const struct log_field *fields,
               uint32_t suppressed)
{
    int saved = errno;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    const struct log_line line = {
        .ts_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000,
        .level = level,
        .msg = msg,
        .fields = fields,
        .suppressed = suppressed,
        .worker = log_worker,
        .color = atomic_load_explicit(&log_color, memory_order_relaxed),
        .json = atomic_load_explicit(&log_json, memory_order_relaxed),
    };
    char text[LOG_LINE_MAX];
    size_t len = log_format(text, &line);
    /* A full disk or a closed pipe must not stop the server: what can not be written is lost. */
    while (write(atomic_load(&log_fd), text, len) == -1 && errno == EINTR) {
    }
    errno = saved;
}

/* ---- rate ---- */

uint32_t log_clock_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint32_t)now.tv_sec;
}

bool log_limit_pass(struct log_limit *l, uint32_t per_second, uint32_t now_s, uint32_t *suppressed)
{
    uint64_t old = atomic_load_explicit(&l->window, memory_order_relaxed), new;
    do {
        uint64_t used = old >> 32 == now_s ? old & UINT32_MAX : 0;
        if (used >= per_second) {
            atomic_fetch_add_explicit(&l->suppressed, 1, memory_order_relaxed);
            return false;
        }
        new = (uint64_t)now_s << 32 | (used + 1);
    } while (!atomic_compare_exchange_weak_explicit(&l->window, &old, new, memory_order_relaxed,
                                                    memory_order_relaxed));
    *suppressed = atomic_exchange_explicit(&l->suppressed, 0, memory_order_relaxed);
    return true;
}
