/* emf.h - figures for CloudWatch: lines in its embedded metric format, one JSON object each, which
 * an agent or the container's log driver turns into metrics.
 *
 * Counters are told as what was added since the last line; a line that can not be written at once
 * is left out, and the next one has its figures too. Main thread. */
#ifndef EMF_H
#define EMF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "json.h"
#include "metrics.h"

struct emf_figures {
    uint64_t open;                                 /* connections, now */
    uint64_t opened, messages, bytes_out, dropped; /* in all */
};

struct emf {
    int64_t interval_ms, next_ms; /* monotonic */
    char host[256];
    struct emf_figures told; /* what the lines so far add up to */
};

/* emf_begin: a line each interval_ms (0: none). host "": the host's name. */
void emf_begin(struct emf *e, int64_t interval_ms, const char *host, int64_t now_ms);

/* emf_left_ms: until the next line is due; INT64_MAX: none ever is. */
int64_t emf_left_ms(const struct emf *e, int64_t now_ms);

/* emf_tell writes a line to fd if one is due, or if it is the last. */
void emf_tell(struct emf *e, const struct metrics *const *workers, size_t count, int fd,
              int64_t now_ms, bool last);

/* emf_line writes the object of f, whose counters count from the last line, and a newline. Pure. */
#define EMF_LINE_MAX 2400
void emf_line(struct json_out *o, const struct emf_figures *f, const char *host, int64_t at_ms,
              int64_t interval_ms);

#endif
