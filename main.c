/* main: the subcommand's name decides. */
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"
#include "tls.h"

static const struct {
    const char *name, *help;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"serve", "the server; `roost serve --dev` to try it on this machine", cmd_serve},
    {"sub", "prints what is published to channels", cmd_sub},
    {"pub", "publishes lines of standard input to a channel", cmd_pub},
    {"bench", "puts load on a server and measures it", cmd_bench},
    {"tune", "says what this host must be set to for N connections, and sets it", cmd_tune},
    {"token", "makes and inspects HS256 tokens", cmd_token},
    {"trace", "prints what happens to a user's connections, as it happens", cmd_trace},
    {"rebalance", "closes the oldest connections of a server, at a rate", cmd_rebalance},
    {"ready", "asks whether a server is ready, for probes", cmd_ready},
    {"check", "validates a configuration and prints the effective one", cmd_check},
};
#define COMMANDS (sizeof commands / sizeof *commands)

static int usage(FILE *to)
{
    fprintf(to, "roost %s: a WebSocket server\n\nUsage: roost COMMAND [OPTION]...\n\n",
            ROOST_VERSION);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].help);
    fputs("\n`roost COMMAND --help` says more.\n", to);
    return to == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
    if (argc < 2) return usage(stderr);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0)
        return usage(stdout);
    if (strcmp(argv[1], "--version") == 0) {
        printf("roost %s (%s)\n", ROOST_VERSION, tls_library_version());
        return 0;
    }
    cmd_program = argv[0];
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "roost: no command \"%s\"\n", argv[1]);
    return usage(stderr);
}
