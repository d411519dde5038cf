/* ws_utf8_cases.h - texts, and where they stop being UTF-8 (RFC 3629): group 6 of ws_cases.h.
 *
 * Test programs only. */
#ifndef WS_UTF8_CASES_H
#define WS_UTF8_CASES_H

#include <stddef.h>

/* UTF-8, RFC 3629: text, its length, and the first byte that can not be there (GOOD: valid; the
 * length: it ends within a character). Each is sent as one message, and in fragments of one byte.
 */
#define GOOD (-1)
#define UTF8(text) text, sizeof(text) - 1
static const struct ws_utf8_case {
    const char *id;
    const char *text;
    size_t len;
    int bad;
} ws_utf8_cases[] = {
    {"6.2.1", UTF8("Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!"),
     GOOD},
    {"6.2.4", UTF8("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"), GOOD},
    {"6.3.1",
     UTF8("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80"
          "edited"),
     12},
    {"6.5.1", UTF8("hello\x24world"), GOOD},
    {"6.5.2", UTF8("hello\xc2\xa2world"), GOOD},
    {"6.5.3", UTF8("hello\xe2\x82\xacworld"), GOOD},
    {"6.5.4", UTF8("hello\xf0\xa4\xad\xa2world"), GOOD},
    {"6.5.5", UTF8("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"), GOOD},
    /* every prefix of a text with characters of several bytes */
    {"6.6.1", UTF8("\xce"), 1},
    {"6.6.2", UTF8("\xce\xba"), GOOD},
    {"6.6.3", UTF8("\xce\xba\xe1"), 3},
    {"6.6.4", UTF8("\xce\xba\xe1\xbd"), 4},
    {"6.6.5", UTF8("\xce\xba\xe1\xbd\xb9"), GOOD},
    {"6.6.6", UTF8("\xce\xba\xe1\xbd\xb9\xcf"), 6},
    {"6.6.7", UTF8("\xce\xba\xe1\xbd\xb9\xcf\x83"), GOOD},
    {"6.6.8", UTF8("\xce\xba\xe1\xbd\xb9\xcf\x83\xce"), 8},
    {"6.6.9", UTF8("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc"), GOOD},
    {"6.6.10", UTF8("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce"), 10},
    {"6.6.11", UTF8("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"), GOOD},
    /* first sequence of each length */
    {"6.7.1", UTF8("\x00"), GOOD},
    {"6.7.2", UTF8("\xc2\x80"), GOOD},
    {"6.7.3", UTF8("\xe0\xa0\x80"), GOOD},
    {"6.7.4", UTF8("\xf0\x90\x80\x80"), GOOD},
    {"6.8.1", UTF8("\xf8\x88\x80\x80\x80"), 0},
    {"6.8.2", UTF8("\xfc\x84\x80\x80\x80\x80"), 0},
    /* last sequence of each length */
    {"6.9.1", UTF8("\x7f"), GOOD},
    {"6.9.2", UTF8("\xdf\xbf"), GOOD},
    {"6.9.3", UTF8("\xef\xbf\xbf"), GOOD},
    {"6.9.4", UTF8("\xf4\x8f\xbf\xbf"), GOOD},
    {"6.10.1", UTF8("\xf7\xbf\xbf\xbf"), 0},
    {"6.10.2", UTF8("\xfb\xbf\xbf\xbf\xbf"), 0},
    {"6.10.3", UTF8("\xfd\xbf\xbf\xbf\xbf\xbf"), 0},
    /* other boundaries */
    {"6.11.1", UTF8("\xed\x9f\xbf"), GOOD},
    {"6.11.2", UTF8("\xee\x80\x80"), GOOD},
    {"6.11.3", UTF8("\xef\xbf\xbd"), GOOD},
    {"6.11.4", UTF8("\xf4\x8f\xbf\xbf"), GOOD},
    {"6.11.5", UTF8("\xf4\x90\x80\x80"), 1},
    /* continuation bytes that continue nothing */
    {"6.12.1", UTF8("\x80"), 0},
    {"6.12.2", UTF8("\xbf"), 0},
    {"6.12.3", UTF8("\x80\xbf"), 0},
    {"6.12.4", UTF8("\x80\xbf\x80"), 0},
    {"6.12.5", UTF8("\x80\xbf\x80\xbf"), 0},
    {"6.12.6", UTF8("\x80\xbf\x80\xbf\x80"), 0},
    {"6.12.7", UTF8("\x80\xbf\x80\xbf\x80\xbf"), 0},
    {"6.12.8", UTF8("\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\xa0\xb0"),
     0},
    {"6.12.9", UTF8("A\x80"), 1},
    /* first bytes without what should follow */
    {"6.13.1", UTF8("\xc0 \xc1 \xc2 \xc3 \xdf "), 0},
    {"6.13.2", UTF8("\xe0 \xe1 \xef "), 1},
    {"6.13.3", UTF8("\xf0 \xf1 \xf4 \xf7 "), 1},
    {"6.13.4", UTF8("\xf8 \xf9 \xfa \xfb "), 0},
    {"6.13.5", UTF8("\xfc \xfd "), 0},
    {"6.13.6", UTF8("\xc2 \xdf "), 1},
    {"6.13.7", UTF8("\xe1\x80 "), 2},
    {"6.13.8", UTF8("\xf1\x80\x80 "), 3},
    /* the last continuation byte is missing */
    {"6.14.1", UTF8("\xc0"), 0},
    {"6.14.2", UTF8("\xe0\x80"), 1},
    {"6.14.3", UTF8("\xf0\x80\x80"), 1},
    {"6.14.4", UTF8("\xf8\x80\x80\x80"), 0},
    {"6.14.5", UTF8("\xfc\x80\x80\x80\x80"), 0},
    {"6.14.6", UTF8("\xdf"), 1},
    {"6.14.7", UTF8("\xef\xbf"), 2},
    {"6.14.8", UTF8("\xf7\xbf\xbf"), 0},
    {"6.14.9", UTF8("\xfb\xbf\xbf\xbf"), 0},
    {"6.14.10", UTF8("\xfd\xbf\xbf\xbf\xbf"), 0},
    {"6.14.11", UTF8("\xf4\x8f\xbf"), 3},
    {"6.15.1", UTF8("\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf"), 0},
    {"6.15.2", UTF8("\xdf\xef\xbf\xf4\x8f\xbf"), 1},
    /* bytes that are never right */
    {"6.16.1", UTF8("\xfe"), 0},
    {"6.16.2", UTF8("\xff"), 0},
    {"6.16.3", UTF8("\xfe\xfe\xff\xff"), 0},
    {"6.16.4", UTF8("\xf5\x80\x80\x80"), 0},
    {"6.16.5", UTF8("\xc1\x80"), 0},
    /* longer than needed: a slash */
    {"6.17.1", UTF8("\xc0\xaf"), 0},
    {"6.17.2", UTF8("\xe0\x80\xaf"), 1},
    {"6.17.3", UTF8("\xf0\x80\x80\xaf"), 1},
    {"6.17.4", UTF8("\xf8\x80\x80\x80\xaf"), 0},
    {"6.17.5", UTF8("\xfc\x80\x80\x80\x80\xaf"), 0},
    /* the largest that is longer than needed */
    {"6.18.1", UTF8("\xc1\xbf"), 0},
    {"6.18.2", UTF8("\xe0\x9f\xbf"), 1},
    {"6.18.3", UTF8("\xf0\x8f\xbf\xbf"), 1},
    {"6.18.4", UTF8("\xf8\x87\xbf\xbf\xbf"), 0},
    {"6.18.5", UTF8("\xfc\x83\xbf\xbf\xbf\xbf"), 0},
    /* longer than needed: NUL */
    {"6.19.1", UTF8("\xc0\x80"), 0},
    {"6.19.2", UTF8("\xe0\x80\x80"), 1},
    {"6.19.3", UTF8("\xf0\x80\x80\x80"), 1},
    {"6.19.4", UTF8("\xf8\x80\x80\x80\x80"), 0},
    {"6.19.5", UTF8("\xfc\x80\x80\x80\x80\x80"), 0},
    /* surrogates, alone and in pairs */
    {"6.20.1", UTF8("\xed\xa0\x80"), 1},
    {"6.20.2", UTF8("\xed\xad\xbf"), 1},
    {"6.20.3", UTF8("\xed\xae\x80"), 1},
    {"6.20.4", UTF8("\xed\xaf\xbf"), 1},
    {"6.20.5", UTF8("\xed\xb0\x80"), 1},
    {"6.20.6", UTF8("\xed\xbe\x80"), 1},
    {"6.20.7", UTF8("\xed\xbf\xbf"), 1},
    {"6.21.1", UTF8("\xed\xa0\x80\xed\xb0\x80"), 1},
    {"6.21.2", UTF8("\xed\xa0\x80\xed\xbf\xbf"), 1},
    {"6.21.3", UTF8("\xed\xad\xbf\xed\xb0\x80"), 1},
    {"6.21.4", UTF8("\xed\xad\xbf\xed\xbf\xbf"), 1},
    {"6.21.5", UTF8("\xed\xae\x80\xed\xb0\x80"), 1},
    {"6.21.6", UTF8("\xed\xae\x80\xed\xbf\xbf"), 1},
    {"6.21.7", UTF8("\xed\xaf\xbf\xed\xb0\x80"), 1},
    {"6.21.8", UTF8("\xed\xaf\xbf\xed\xbf\xbf"), 1},
    /* code points that are no characters, and are valid all the same */
    {"6.22.1", UTF8("\xef\xbf\xbe"), GOOD},
    {"6.22.2", UTF8("\xef\xbf\xbf"), GOOD},
    {"6.22.3", UTF8("\xf0\x9f\xbf\xbe\xf0\x9f\xbf\xbf"), GOOD},
    {"6.22.4", UTF8("\xf0\xaf\xbf\xbe\xf0\xaf\xbf\xbf"), GOOD},
    {"6.22.5", UTF8("\xf0\xbf\xbf\xbe\xf0\xbf\xbf\xbf"), GOOD},
    {"6.22.6", UTF8("\xf1\x8f\xbf\xbe\xf1\x8f\xbf\xbf"), GOOD},
    {"6.22.7", UTF8("\xf1\x9f\xbf\xbe\xf1\xaf\xbf\xbf"), GOOD},
    {"6.22.8", UTF8("\xf1\xbf\xbf\xbe\xf2\x8f\xbf\xbf"), GOOD},
    {"6.22.9", UTF8("\xf2\x9f\xbf\xbe\xf2\xaf\xbf\xbf"), GOOD},
    {"6.22.10", UTF8("\xf2\xbf\xbf\xbe\xf3\x8f\xbf\xbf"), GOOD},
    {"6.22.11", UTF8("\xf3\x9f\xbf\xbe\xf3\xaf\xbf\xbf"), GOOD},
    {"6.22.12", UTF8("\xf3\xbf\xbf\xbe\xf3\xbf\xbf\xbf"), GOOD},
    {"6.22.13", UTF8("\xf4\x8f\xbf\xbe\xf4\x8f\xbf\xbf"), GOOD},
    /* U+FFF9 to U+FFFF */
    {"6.23.1", UTF8("\xef\xbf\xb9\xef\xbf\xba\xef\xbf\xbb\xef\xbf\xbc"), GOOD},
    {"6.23.2", UTF8("\xef\xbf\xbd\xef\xbf\xbe\xef\xbf\xbf"), GOOD},
};

#endif
