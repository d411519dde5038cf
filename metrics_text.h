/* metrics_text.h - the exposition under construction: between metrics.c, metrics_series.c and
 * metrics_centrifugo.c. Any thread. */
#ifndef METRICS_TEXT_H
#define METRICS_TEXT_H

#include "metrics.h"

/* metrics_family begins a family: name with its prefix, in OpenMetrics without a counter's _total.
 * A counter whose name has none can not be one in OpenMetrics, and is of unknown type there. */
void metrics_family(struct metrics_text *t, const char *name, const char *type, const char *help);

/* metrics_sum sums a cell over all workers: METRICS_CELL(value[id]). */
#define METRICS_CELL(member) offsetof(struct metrics, member)
uint64_t metrics_sum(const struct metrics_text *t, size_t cell);

/* metrics_value is what is shown of a counter or gauge. Workers go on while their cells are read,
 * so connections that are open are those opened less those closed, in every text. */
uint64_t metrics_value(const struct metrics_text *t, enum metric id);

/* metrics_histogram writes a family's samples. labels: "" or type="x". */
void metrics_histogram(struct metrics_text *t, const char *name, const char *labels,
                       enum histogram id);

/* Labels of the counters with several values: the number's, or "other". */
#define METRIC_LABEL 16
const char *metrics_close_code(unsigned i, char out[static METRIC_LABEL]);
const char *metrics_error_code(unsigned i, char out[static METRIC_LABEL]);
const char *metrics_client_name(unsigned i);

void metrics_series(struct metrics_text *t, const struct metrics_process *process);
void metrics_centrifugo(struct metrics_text *t, const struct metrics_process *process);

#endif
