/* The configuration file, read, checked and printed: libFuzzer. An operator writes it, no peer
 * does; a mistake in it must still be said and not crash a reload. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "config/load.h"
#include "guard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config c;
    struct config_report report = {0};
    char *no_arguments[] = {"serve", NULL}, *no_environment[] = {NULL};
    /* names in the input must not make the target read devices that never end, nor expressions
     * like ((a{9999}){9999}){9999} make the C library take all memory */
    if (size > 65536 || memmem(data, size, "_file", 5) || memmem(data, size, "_regex", 6) ||
        memmem(data, size, "\\u", 2))
        return 0;

    config_load(&c, 1, no_arguments, no_environment, &report);
    struct loader l = {.c = &c, .report = &report};
    l.origins = calloc(option_count, sizeof *l.origins);
    if (!l.origins) abort();
    char *text = guard_copy(data, size);
    config_read_text(&l, "fuzz.json", text, size);
    config_check(&l, report.errors == 0);

    char *printed;
    size_t len;
    FILE *to = open_memstream(&printed, &len);
    if (!to) abort();
    config_print_json(to, &c);
    config_report_print(&report, to);
    fclose(to);
    free(printed);
    guard_free(text, size);
    free(l.origins);
    config_free(&c);
    config_report_free(&report);
    return 0;
}
