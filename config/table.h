/* config/table.h - the table of options, and the one way a text becomes a field. For config*.c and
 * their tests only; everybody else reads struct config.
 *
 * A row is everything there is to know about an option: its key, its flag, where it is kept, its
 * default, its bounds and its help. Adding a row adds it to the file, the environment, the flags,
 * --help, `roost check` and docs/options.md. Main thread. */
#ifndef CONFIG_TABLE_H
#define CONFIG_TABLE_H

#include "config.h"

enum option_kind {
    OPTION_BOOL,       /* bool */
    OPTION_INT,        /* int64_t */
    OPTION_SIZE,       /* int64_t, bytes */
    OPTION_DURATION,   /* int64_t, ms */
    OPTION_FRACTION,   /* double, from 0 to 1 */
    OPTION_CHOICE,     /* enum, by its place in choices */
    OPTION_STRING,     /* char * */
    OPTION_SECRET,     /* struct config_secret */
    OPTION_STRINGS,    /* struct config_strings */
    OPTION_URLS,       /* struct config_urls */
    OPTION_KEYS,       /* struct config_keys: list of {kid, secret or secret_file} */
    OPTION_NAMESPACES, /* struct config_namespaces: list of {name, options} */
};

enum option_group {
    GROUP_LISTEN,
    GROUP_ACCESS,
    GROUP_API,
    GROUP_CONSOLE,
    GROUP_CONNECTION,
    GROUP_LIMIT,
    GROUP_CHANNEL,
    GROUP_NAMESPACE, /* keys of a namespace, and with a prefix of channels without one */
    GROUP_OBSERVE,
    GROUP_WORKER,
    GROUP_PLANNED, /* known, checked, without effect: a warning names the key */
    GROUP_COUNT,
};

#define OPTION_NO_FIELD ((size_t)-1)

struct option {
    const char *key;      /* dotted: client.ping_interval */
    const char *flag;     /* "ping-interval", or NULL: then --client.ping_interval */
    const char *argument; /* its name in --help; NULL: by kind */
    enum option_group group;
    enum option_kind kind;
    size_t field;        /* offset in struct config, or for namespace_option_table in struct
                            config_namespace; or OPTION_NO_FIELD */
    const char *initial; /* default, as it would be written; NULL: none */
    bool automatic;      /* SIZE: "auto" is CONFIG_AUTOMATIC */
    int64_t min, max;    /* INT, SIZE, DURATION; max 0: no bounds beyond >= 0 */
    const char *const *choices;
    const char *help;
    bool restart; /* only a restart changes it; the others a reload does */
};

extern const struct option option_table[];
extern const size_t option_count;

/* The options of one namespace; keys without prefix, fields of struct config_namespace. */
extern const struct option namespace_option_table[];
extern const size_t namespace_option_count;

extern const char *const option_group_titles[GROUP_COUNT];

/* option_find finds a row by its dotted key; option_find_flag by flag or key, len bytes;
 * option_find_env by variable name, "ROOST_" included. NULL: none. */
const struct option *option_find(const char *key);
const struct option *option_find_flag(const char *name, size_t len);
const struct option *option_find_env(const char *name, size_t len);

/* option_is_section: do rows exist whose keys begin with key and a dot? */
bool option_is_section(const char *key);

/* option_env writes the variable's name, ROOST_CLIENT_PING_INTERVAL; returns out. */
#define OPTION_NAME_MAX 128
char *option_env(char out[static OPTION_NAME_MAX], const struct option *o);

/* The nearest known name by edit distance, for "did you mean". out has OPTION_NAME_MAX bytes. */
const char *option_nearest_key(char out[static OPTION_NAME_MAX], const char *key);
const char *option_nearest_namespace_key(const char *key);
const char *option_nearest_flag(char out[static OPTION_NAME_MAX], const char *flag);
const char *option_nearest_env(char out[static OPTION_NAME_MAX], const char *name);

bool option_is_list(const struct option *o);
const char *option_argument(const struct option *o); /* "URL"; "" for a bool */

/* base, here and below: the struct that the row's field is in. option_add sets a field from text
 * (len bytes), or adds one element to a list. Returns false and says in why what is wrong.
 * OPTION_KEYS and OPTION_NAMESPACES are not set by text. A row without a field is only checked. */
#define OPTION_WHY_MAX 200
#define OPTION_TEXT_MAX 4096 /* bytes of one value */
bool option_add(void *base, const struct option *o, const char *text, size_t len,
                char why[static OPTION_WHY_MAX]);
/* option_is_initial: does text, which option_add takes, mean what the option is without it? As a
 * value: "0s" is "0". What is not said to be anything is 0, or the empty text. */
bool option_is_initial(const struct option *o, const char *text, size_t len);
/* option_clear empties a field (secrets are wiped): lists before the first element of a layer. */
void option_clear(void *base, const struct option *o);

/* option_field gives the address of the row's field; it must have one. */
void *option_field(void *base, const struct option *o);
const void *option_field_const(const void *base, const struct option *o);

/* config_namespace_clear frees what belongs to *n and zeroes it; config_forget_items frees
 * c->namespace_items. */
void config_namespace_clear(struct config_namespace *n);
void config_forget_items(struct config *c);

/* config_grow makes room for one more element of size bytes behind count, zeroed. Out of memory
 * ends the process: nothing can be configured then. */
void *config_grow(void *items, size_t count, size_t size);

/* config_format_duration writes 25s, 1h30m... with the greatest unit that divides; returns out. */
#define CONFIG_NUMBER_MAX 32
char *config_format_duration(char out[static CONFIG_NUMBER_MAX], int64_t ms);
char *config_format_size(char out[static CONFIG_NUMBER_MAX], int64_t bytes);

#endif
