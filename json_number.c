/* json_number.c - numbers and truth values of json.h.
 *
 * RFC 8259 section 6 lets a number be written in many ways and of any size; what is asked here is
 * mostly a whole number (a time, an id, a limit). So the decimal digits are read as they are, with
 * the point moved by the exponent, and no double comes in between: 9007199254740993 stays what it
 * is, and 1e300 is above every limit instead of undefined. Linear in the digits. */
#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool json_bool(const struct json *doc, int v, bool *out)
{
    if (json_type(doc, v) != JSON_BOOL) return false;
    *out = *json_raw(doc, v).p == 't';
    return true;
}

/* A number's size, exactly: (-1)^negative * (whole + something below 1 if fraction). */
struct number {
    bool negative, fraction;
    bool huge; /* whole did not fit */
    uint64_t whole;
};

static void add_digit(struct number *n, unsigned digit)
{
    if (__builtin_mul_overflow(n->whole, 10u, &n->whole)) n->huge = true;
    if (__builtin_add_overflow(n->whole, digit, &n->whole)) n->huge = true;
}

/* The exponent behind p, held far outside what any text's digits could make good. */
static int64_t read_exponent(const char *p, const char *end)
{
    if (p == end) return 0;
    bool negative = *++p == '-';
    int64_t e = 0;
    for (p += *p == '-' || *p == '+'; p < end; p++)
        if (e < INT64_C(1) << 40) e = e * 10 + (*p - '0');
    return negative ? -e : e;
}

static bool read_number(const struct json *doc, int v, struct number *n)
{
    *n = (struct number){0};
    if (json_type(doc, v) != JSON_NUMBER) return false;
    struct json_slice s = json_raw(doc, v);
    const char *end = s.p + s.len, *mantissa_end = s.p;
    n->negative = *s.p == '-';
    const char *p = s.p + n->negative;
    while (mantissa_end < end && (*mantissa_end | 0x20) != 'e') mantissa_end++;
    const char *dot = memchr(p, '.', (size_t)(mantissa_end - p));
    int64_t left =
        (dot ? dot : mantissa_end) - p; /* digits before the decimal point, once it is moved */
    left += read_exponent(mantissa_end, end);
    for (; p < mantissa_end; p++) {
        if (*p == '.') continue;
        if (left-- > 0)
            add_digit(n, (unsigned)(*p - '0'));
        else if (*p != '0')
            n->fraction = true;
        if (n->huge) return true;
    }
    while (left-- > 0 && n->whole && !n->huge) add_digit(n, 0);
    return true;
}

bool json_floor(const struct json *doc, int v, int64_t *out, bool *exact)
{
    struct number n;
    if (!read_number(doc, v, &n)) return false;
    const uint64_t most = n.negative ? UINT64_C(1) << 63 : INT64_MAX;
    bool whole = !n.fraction;
    /* away from zero is down for a negative number */
    if (!n.huge && n.negative && n.fraction && n.whole < most) n.whole++;
    if (n.huge || n.whole > most) {
        n.whole = most;
        whole = false;
    }
    *out = n.negative ? (int64_t)(0 - n.whole) : (int64_t)n.whole;
    if (exact) *exact = whole;
    return true;
}

bool json_int64(const struct json *doc, int v, int64_t *out)
{
    int64_t n;
    bool exact;
    if (!json_floor(doc, v, &n, &exact) || !exact) return false;
    *out = n;
    return true;
}

bool json_uint64(const struct json *doc, int v, uint64_t *out)
{
    struct number n;
    if (!read_number(doc, v, &n) || n.huge || n.fraction || (n.negative && n.whole)) return false;
    *out = n.whole;
    return true;
}

bool json_double(const struct json *doc, int v, double *out)
{
    char copy[129]; /* strtod wants a NUL, and must not see the bytes behind the number */
    if (json_type(doc, v) != JSON_NUMBER) return false;
    struct json_slice s = json_raw(doc, v);
    if (s.len >= sizeof copy) return false;
    memcpy(copy, s.p, s.len);
    copy[s.len] = 0;
    double d = strtod(copy, NULL);
    if (!isfinite(d)) return false;
    *out = d;
    return true;
}
