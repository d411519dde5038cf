/* config/load.h - a load under way: what config.c, config/file.c and config/check.c share.
 * Main thread. */
#ifndef CONFIG_LOAD_H
#define CONFIG_LOAD_H

#include "config/table.h"

enum layer { LAYER_DEFAULT, LAYER_FILE, LAYER_ENVIRONMENT, LAYER_FLAG };

#define PLACE_MAX 256

struct origin { /* where an option got its value */
    enum layer layer;
    bool warned;           /* of a list that is not supported yet, for this place */
    char place[PLACE_MAX]; /* conf.json:3:14, ROOST_LISTEN or --listen; "" for a default */
};

struct loader {
    struct config *c;
    struct config_report *report;
    struct origin *origins; /* one for each row of option_table */
};

/* loader_note adds a line to the report: "place: text", or "text" if place is "" or NULL. After
 * LOADER_NOTES_MAX lines errors are counted only. */
#define LOADER_NOTES_MAX 50
__attribute__((format(printf, 4, 5))) void loader_note(struct loader *l, bool is_error,
                                                       const char *place, const char *format, ...);

struct origin *loader_origin(struct loader *l, const struct option *o);

/* loader_begin says that layer now gives o its value: lists of lower layers go, place is kept. */
void loader_begin(struct loader *l, const struct option *o, enum layer layer, const char *place);

/* loader_planned says that the option of that name has no effect. loader_add does that for
 * those of the table, unless the value is what happens anyhow (option_is_initial). */
void loader_planned(struct loader *l, const char *place, const char *name);

/* loader_add gives o, whose field is in base, a value or one more element, from text, and reports
 * what is wrong with it. name is what the option is called at this place: its key, with an index if
 * it is a list's element. */
void loader_add(struct loader *l, void *base, const struct option *o, const char *place,
                const char *name, const char *text, size_t len);

/* loader_visible writes text as a message may show it: cut, control characters replaced. */
#define VISIBLE_MAX 160
const char *loader_visible(char out[static VISIBLE_MAX], const char *text, size_t len);

/* config_read_file applies a configuration file; config_read_text its len bytes, called name;
 * config_read_json one option's value given as JSON
 * in a variable or flag, which place names. */
void config_read_file(struct loader *l, const char *path);
void config_read_text(struct loader *l, const char *name, const char *text, size_t len);
void config_read_json(struct loader *l, const struct option *o, enum layer layer, const char *place,
                      const char *text, size_t len);

/* config_slurp reads a file of at most max bytes. Returns its bytes, to be freed, a NUL behind
 * them; or NULL with errno, EFBIG for a longer one. */
char *config_slurp(const char *path, size_t max, size_t *len);

/* config_read_secret fills *s from a file, without a line break at its end. */
void config_read_secret(struct loader *l, struct config_secret *s, const char *place,
                        const char *path);

/* config_check fills in what follows from other options, and reports combinations that are wrong.
 * clean: nothing was wrong so far, so that what is missing is not missing for that reason. */
void config_check(struct loader *l, bool clean);

/* config_check_namespaces does that for what channels may do, and makes c->namespace_items anew. */
void config_check_namespaces(struct loader *l);

#endif
