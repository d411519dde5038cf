/* origin.h - may a page of this origin connect? (RFC 6455 section 10.2, protocol.md section 9)
 *
 * Pure functions. Any thread. */
#ifndef ORIGIN_H
#define ORIGIN_H

#include <stdbool.h>
#include <stddef.h>

#include "http.h"

/* origin_allowed: no Origin header (p NULL) is always allowed: it is not a browser. Else the
 * lower-cased value must match one of the glob patterns (* and ? and [...]; "*" alone allows all).
 * Without patterns every origin is refused. */
bool origin_allowed(const char *const *patterns, size_t count, struct http_str origin);

#endif
