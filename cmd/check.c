/* cmd/check.c - roost check: validates a configuration and prints the effective one. */
#include "cmd/cmd.h"

#include "config.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void usage(FILE *to, bool all)
{
    fputs("usage: roost check [CONFIG] [OPTION...]\n\n"
          "Says what is wrong with a configuration, and prints the one in effect as JSON, secrets "
          "as\n"
          "\"***\". CONFIG is the same as --config CONFIG; variables and the flags of roost serve\n"
          "count as they do there. Exit status: 0 good, 2 not.\n\n"
          "  --options-markdown        prints the page docs/options.md and ends\n",
          to);
    config_help(to, all);
}

static int check(int argc, char **argv)
{
    struct config config;
    struct config_report report = {0};
    enum config_outcome outcome = config_load(&config, argc, argv, environ, &report);
    switch (outcome) {
    case CONFIG_HELP:
    case CONFIG_HELP_ALL: usage(stdout, outcome == CONFIG_HELP_ALL); break;
    case CONFIG_WRONG: config_report_print(&report, stderr); break;
    case CONFIG_LOADED:
        config_report_print(&report, stderr);
        config_print_json(stdout, &config);
        break;
    }
    config_report_free(&report);
    config_free(&config);
    return outcome == CONFIG_WRONG ? 2 : 0;
}

int cmd_check(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--options-markdown") == 0) {
        config_print_markdown(stdout);
        return 0;
    }
    if (argc < 2 || argv[1][0] == '-') return check(argc, argv);

    /* roost check CONFIG ...: as if --config stood before it */
    char **with_flag = calloc((size_t)argc + 2, sizeof *with_flag);
    if (!with_flag) return 1;
    with_flag[0] = argv[0];
    with_flag[1] = "--config";
    memcpy(with_flag + 2, argv + 1, (size_t)(argc - 1) * sizeof *argv);
    int status = check(argc + 1, with_flag);
    free(with_flag);
    return status;
}
