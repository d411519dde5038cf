/* cmd/cmd.h - the subcommands: what main.c calls for the first word of the command line.
 *
 * argv[0] is the subcommand's own name. Each returns the process's exit status: 0, 1 for a failure,
 * 2 for a command line or configuration that is wrong; token show also 3, for a token that it could
 * not check. Main thread. */
#ifndef CMD_H
#define CMD_H

/* cmd_program is how the binary was called: what lines to paste begin with. Set by main. */
extern const char *cmd_program;

int cmd_serve(int argc, char **argv);
int cmd_token(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_sub(int argc, char **argv);
int cmd_pub(int argc, char **argv);
int cmd_rebalance(int argc, char **argv);
int cmd_trace(int argc, char **argv);
int cmd_ready(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_tune(int argc, char **argv);

#endif
