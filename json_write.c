/* json_write.c - the writing half of json.h: nothing in it needs a parsed text. */
#include "json.h"

#include <string.h>

/* How c is written inside a string; returns the length, at most 6. */
static size_t escape_put(char *out, unsigned char c)
{
    static const char hex[] = "0123456789abcdef", plain[] = "\"\\\b\f\n\r\t",
                      letters[] = "\"\\bfnrt";
    const char *at = memchr(plain, c, sizeof plain - 1);
    if (at) {
        out[0] = '\\';
        out[1] = letters[at - plain];
        return 2;
    }
    if (c >= 0x20) {
        out[0] = (char)c;
        return 1;
    }
    memcpy(out, "\\u00", 4);
    out[4] = hex[c >> 4];
    out[5] = hex[c & 15];
    return 6;
}

int64_t json_escape(char *out, size_t cap, const char *bytes, size_t len)
{
    const char *p = bytes, *end = bytes + len;
    size_t used = 0;
    while (p < end) {
        const char *next = p;
        while (next < end && (unsigned char)*next >= 0x20 && *next != '"' && *next != '\\') next++;
        size_t run = (size_t)(next - p);
        char one[6];
        size_t n = next < end ? escape_put(one, (unsigned char)*next) : 0;
        if (run > cap - used || n > cap - used - run) return -1;
        memcpy(out + used, p, run);
        memcpy(out + used + run, one, n);
        used += run + n;
        p = next < end ? next + 1 : next;
    }
    return (int64_t)used;
}

void json_put(struct json_out *o, const char *bytes, size_t len)
{
    if (o->full || len > o->cap - o->len) {
        o->full = true;
        return;
    }
    if (len > 0) memcpy(o->p + o->len, bytes, len);
    o->len += len;
}

void json_puts(struct json_out *o, const char *text)
{
    json_put(o, text, strlen(text));
}

void json_put_string(struct json_out *o, const char *bytes, size_t len)
{
    json_put(o, "\"", 1);
    if (o->full) return;
    int64_t n = json_escape(o->p + o->len, o->cap - o->len, bytes, len);
    if (n < 0) {
        o->full = true;
        return;
    }
    o->len += (size_t)n;
    json_put(o, "\"", 1);
}

void json_put_uint(struct json_out *o, uint64_t n)
{
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    json_put(o, digits + at, sizeof digits - at);
}

void json_put_int(struct json_out *o, int64_t n)
{
    if (n < 0) json_put(o, "-", 1);
    json_put_uint(o, n < 0 ? 0 - (uint64_t)n : (uint64_t)n);
}
