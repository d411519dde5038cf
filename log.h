/* log.h - one line an event, logfmt or a JSON object (RFC 8259), to standard error or a file.
 *
 *     ts=2026-11-24T07:15:00.123Z level=info msg="conn closed" worker=1 conn=42 code=1001
 *     {"ts":"2026-11-24T07:15:00.123Z","level":"info","msg":"conn closed","worker":1,"conn":42}
 *
 * A value can not break its line or forge a field: what is not a plain word is quoted, control
 * characters and broken UTF-8 are escaped. A line has LOG_LINE_MAX bytes at most and is written by
 * one write(2), so lines of several threads never mix. Nothing is allocated.
 * Never log a token, a key or a payload. The message path logs nothing; it counts.
 *
 *     log_event(LOG_INFO, "conn closed", LOG_U64("conn", id), LOG_STR("peer", peer));
 *
 * Threads: log_event, log_limited and log_seldom any thread; the rest as said. */
#ifndef LOG_H
#define LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_LINE_MAX                                                                               \
    1024 /* bytes of a line with its newline; longer ones end in truncated=true                    \
            ("truncated":true) */

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

enum log_kind { LOG_KIND_END, LOG_KIND_STR, LOG_KIND_U64, LOG_KIND_I64, LOG_KIND_ERRNO };

struct log_field { /* made by the LOG_... macros below; borrows name and string */
    const char *name;
    enum log_kind kind;
    union {
        struct {
            const char *p;
            size_t len; /* SIZE_MAX: p ends with a NUL */
        } str;
        uint64_t u64;
        int64_t i64;
    };
};

/* The fields of a line. Names are literals like "conn". A NULL string is an empty one. */
#define LOG_STR(name_, s_)                                                                         \
    ((struct log_field){.name = (name_), .kind = LOG_KIND_STR, .str = {(s_), SIZE_MAX}})
#define LOG_STRN(name_, p_, len_)                                                                  \
    ((struct log_field){.name = (name_), .kind = LOG_KIND_STR, .str = {(p_), (len_)}})
#define LOG_U64(name_, n_)                                                                         \
    ((struct log_field){.name = (name_), .kind = LOG_KIND_U64, .u64 = (uint64_t)(n_)})
#define LOG_I64(name_, n_)                                                                         \
    ((struct log_field){.name = (name_), .kind = LOG_KIND_I64, .i64 = (int64_t)(n_)})
/* LOG_ERRNO is error="No such file or directory". */
#define LOG_ERRNO(errno_)                                                                          \
    ((struct log_field){.name = "error", .kind = LOG_KIND_ERRNO, .i64 = (int64_t)(errno_)})
#define LOG_END ((struct log_field){.name = NULL, .kind = LOG_KIND_END})

/* log_event writes a line if level is on; if not, it costs a load and a compare and the fields are
 * not evaluated. errno is kept. */
#define log_event(level_, ...) log_event_(level_, __VA_ARGS__, LOG_END)

/* log_limited is log_event with at most per_second lines a second from this place in the code; the
 * first line after a silence says suppressed=N. For what a peer or a full disk may repeat. */
#define log_limited(per_second_, level_, ...)                                                      \
    log_limited_(per_second_, level_, __VA_ARGS__, LOG_END)

/* log_seldom is log_limited with at most one line in so many seconds from this place;
 * log_seldom_of the same for all places that give the same limit. For what may go on for hours. */
#define log_seldom(seconds_, level_, ...)                                                          \
    do {                                                                                           \
        static struct log_limit seldom_;                                                           \
        log_seldom_of(&seldom_, seconds_, level_, __VA_ARGS__);                                    \
    } while (0)
#define log_seldom_of(limit_, seconds_, level_, ...)                                               \
    log_seldom_of_(limit_, seconds_, level_, __VA_ARGS__, LOG_END)

struct log_options {
    enum log_level level;
    const char *file; /* NULL or "": standard error. Created 0640, appended to. Borrowed */
    bool json;        /* JSON lines instead of logfmt */
};

/* log_open begins logging with o. Before it is called lines go to standard error at level info.
 * Returns 0, or -1 with errno when the file can not be opened (then the old place is kept).
 * Main thread. May be called again at any time: the level changes, and the file is opened anew, so
 * that a rotated log goes on under its name; other threads may be logging meanwhile. */
int log_open(const struct log_options *o);
void log_set_level(enum log_level level); /* from now on. Any thread */
void log_close(void);                     /* no other thread may be logging */

/* log_thread names the calling thread: its lines say worker=N. -1: none (the start). */
void log_thread(int worker);

const char *log_level_name(enum log_level level);
/* log_level_parse: error, warn, info or debug; returns false for any other text. */
bool log_level_parse(const char *text, enum log_level *level);

/* ---- under the macros ---- */

#define log_event_(level_, msg_, ...)                                                              \
    do {                                                                                           \
        if (log_on(level_)) log_write(level_, msg_, (const struct log_field[]){__VA_ARGS__}, 0);   \
    } while (0)

#define log_limited_(per_second_, level_, msg_, ...)                                               \
    do {                                                                                           \
        static struct log_limit limit_;                                                            \
        uint32_t suppressed_ = 0;                                                                  \
        if (log_on(level_) && log_limit_pass(&limit_, per_second_, log_clock_s(), &suppressed_))   \
            log_write(level_, msg_, (const struct log_field[]){__VA_ARGS__}, suppressed_);         \
    } while (0)

#define log_seldom_of_(limit_, seconds_, level_, msg_, ...)                                        \
    do {                                                                                           \
        uint32_t suppressed_ = 0;                                                                  \
        if (log_on(level_) && log_limit_pass(limit_, 1, log_clock_s() / (seconds_), &suppressed_)) \
            log_write(level_, msg_, (const struct log_field[]){__VA_ARGS__}, suppressed_);         \
    } while (0)

extern _Atomic int log_level_now;

static inline bool log_on(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_level_now, memory_order_relaxed);
}

void log_write(enum log_level level, const char *msg, const struct log_field *fields,
               uint32_t suppressed);

struct log_limit {           /* zero is the start */
    _Atomic uint64_t window; /* the second in the upper half, lines let through in the lower */
    _Atomic uint32_t suppressed;
};
/* log_limit_pass says whether a line may be written at second now_s (or whatever else counts
 * windows), and then how many were not since the last one that was. Any thread. */
bool log_limit_pass(struct log_limit *l, uint32_t per_second, uint32_t now_s, uint32_t *suppressed);
uint32_t log_clock_s(void); /* monotonic seconds */

struct log_line {  /* what log_format needs beside the fields */
    int64_t ts_ms; /* wall clock, ms since 1970 */
    enum log_level level;
    const char *msg;
    const struct log_field *fields; /* up to LOG_END */
    uint32_t suppressed;
    int worker;       /* -1 = not said */
    bool color, json; /* JSON has no color */
};
/* log_format writes the line with its newline, without a NUL, and returns its length. Pure. */
size_t log_format(char out[static LOG_LINE_MAX], const struct log_line *line);

#endif
