#include "origin.h"

#include <fnmatch.h>

#define ORIGIN_MAX 512

bool origin_allowed(const char *const *patterns, size_t count, struct http_str origin)
{
    if (!origin.p) return true;
    char lower[ORIGIN_MAX + 1];
    if (origin.len > ORIGIN_MAX) return false;
    for (size_t i = 0; i < origin.len; i++) {
        char ch = origin.p[i];
        if (!ch) return false; /* would end the comparison */
        lower[i] = ch >= 'A' && ch <= 'Z' ? (char)(ch + 32) : ch;
    }
    lower[origin.len] = 0;
    for (size_t i = 0; i < count; i++)
        if (fnmatch(patterns[i], lower, FNM_NOESCAPE) == 0) return true;
    return false;
}
