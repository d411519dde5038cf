/* tune.h - what a Linux host must allow for N connections: one table for `roost tune` and
 * bench/TUNING.md.
 *
 * Reads /proc and /sys, or a tree that stands for them; changes nothing (cmd/tune.c does). A file
 * that is not there, as in many containers, is no error: its check says that only the host knows.
 * Main thread. */
#ifndef TUNE_H
#define TUNE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tune_plan {
    const char *root;     /* "" is the host itself; else a folder with proc and sys in it */
    uint64_t connections; /* of the host */
    uint64_t processes;   /* that share them evenly, 1 or more */
    bool tls;             /* they are wss:// */
    bool clients;         /* the clients run here as well: a load generator, a proxy */
    /* read by tune_open */
    uint64_t memory;    /* bytes that the host has */
    uint64_t open_here; /* descriptors open in the host now */
    bool container;     /* what is not ours to set is the host's */
};

enum tune_verdict {
    TUNE_OK,
    TUNE_WARN, /* works, until something goes wrong */
    TUNE_FAIL, /* so many connections are not possible */
    TUNE_UNKNOWN,
};

/* How what is there is compared with what is needed. */
enum tune_rule {
    TUNE_AT_LEAST,
    TUNE_AT_MOST,
    TUNE_EXACTLY,
    TUNE_WIDTH,    /* of a range of two numbers, at least */
    TUNE_NOT_WORD, /* the word that is chosen must not be this */
    TUNE_NOTE,     /* nothing is wanted: why says who cares */
};

struct tune_check {
    const char *name; /* of the sysctl, or what else it is */
    /* where a check that is no sysctl has its number or word from; -1: there is none */
    int (*read)(const struct tune_plan *plan, char *text, size_t size);
    enum tune_rule rule;
    int field; /* of several numbers in a line: which, from 0 */
    uint64_t (*need)(const struct tune_plan *plan); /* the number; NULL: fixed */
    uint64_t fixed;
    const char *formula; /* the same for people; TUNE_NOT_WORD: the word */
    enum tune_verdict otherwise;
    bool host;       /* the whole host's, not the network namespace's */
    const char *how; /* how it is set if by no sysctl, or NULL */
    const char *why; /* what breaks, or what it is about */
};

extern const struct tune_check tune_checks[];
extern const size_t tune_checks_count;

#define TUNE_TEXT 128

struct tune_result {
    enum tune_verdict verdict;
    char now[TUNE_TEXT];  /* as the kernel writes it, one space between numbers */
    char want[TUNE_TEXT]; /* for people: ">= 65535" */
    char line[TUNE_TEXT]; /* what a sysctl is to be set to; empty if it may stay or is no sysctl */
};

/* tune_open reads what the formulas need. Returns -1 with errno if the tree has no memory size. */
int tune_open(struct tune_plan *plan);
void tune_look(struct tune_result *result, const struct tune_check *check,
               const struct tune_plan *plan);

/* tune_sysctl_path writes the file of a sysctl ("net.core.somaxconn") below root. */
void tune_sysctl_path(char path[static PATH_MAX], const char *root, const char *name);

const char *tune_verdict_name(enum tune_verdict verdict);

#endif
