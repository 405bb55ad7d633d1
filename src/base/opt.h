/* SPDX-License-Identifier: Apache-2.0
 * Options: one table row per option gives the flag, the YAML key, the range check, the default and the
 * help line. Values land in a caller's struct at `offset`.
 *
 *   flags: --key value, --key=value, -k value, --flag (booleans: --flag, --no-flag, --flag true)
 *   YAML:  key: value, one mapping, lists as [a, b] or - a; null or ~ is back to the default; `include:
 *          other.yaml` (seen from this file) is loaded first and overridden; no aliases, no nesting
 *
 * Later values win; a list grows within one command line or file and the next one replaces it. Whole
 * numbers may be written 1e6, 8k (8000) or 8K (8192). Dashes and underscores in keys are the same. An unknown key or a value out
 * of range is an error that names the key, the value and the limit (and the nearest known key). */
#ifndef INGOT_BASE_OPT_H
#define INGOT_BASE_OPT_H

#include "base/str.h"

typedef enum OptType {
    OPT_INT,    /* int64_t */
    OPT_FLOAT,  /* double */
    OPT_BOOL,   /* bool */
    OPT_STR,    /* const char *, kept in the OptSet's arena */
    OPT_CHOICE, /* const char *, one of `choices` */
    OPT_LIST    /* OptList: may be given several times */
} OptType;

typedef struct OptList {
    const char **v; /* borrowed from the OptSet */
    int n;
} OptList;

typedef struct OptSpec {
    const char *key; /* with underscores: "batch_size" */
    char letter;     /* short flag or 0 */
    OptType type;
    size_t offset;       /* of the value in the target struct */
    const char *def;     /* default as text; NULL leaves the field zero */
    double min, max;     /* for OPT_INT and OPT_FLOAT, inclusive; both 0: no limit */
    const char *choices; /* OPT_CHOICE: "a|b|c" */
    const char *metavar; /* shown in help: "N", "FILE" */
    const char *help;    /* one line */
} OptSpec;

/* Another name of an option, as another program has it. */
typedef struct OptAlias {
    const char *name, *key;
    bool env; /* name is an environment variable, besides PREFIX_KEY (opt_load_env) */
} OptAlias;

typedef struct OptSet OptSet;

/* Bind a table to a target struct and store the defaults. specs and target are borrowed, the strings are
 * owned by the set and live until opt_free. ERR_NOMEM, ERR_ARG (a default out of its own range). */
MUST_CHECK Status opt_new(OptSet **out, const OptSpec *specs, int n_specs, void *target, Err *e);
void opt_free(OptSet *o);
/* Further names from now on, for flags and YAML alike; borrowed. */
void opt_also(OptSet *o, const OptAlias *names, int n);
/* Parse argv[0..argc): flags are consumed, positionals go to *positional (borrowed from the set). "--"
 * ends flags. ERR_ARG. */
MUST_CHECK Status opt_parse_args(OptSet *o, int argc, char **argv, OptList *positional, Err *e);
/* Read a YAML file of options (at most 1 MB, includes 8 deep). ERR_ARG with "path:line:column: ...";
 * values before the bad one may have been set. */
MUST_CHECK Status opt_load_yaml(OptSet *o, const char *path, Err *e);
/* Values from environment variables: PREFIX and the key in capitals ("INGOT_" and "port": INGOT_PORT), then the
 * aliases that are variables; empty ones count as not set. A list is written with commas. ERR_ARG names the
 * variable. */
MUST_CHECK Status opt_load_env(OptSet *o, const char *prefix, Err *e);
/* Set one value from text, as if by flag. A list grows by calls in a row. */
MUST_CHECK Status opt_set(OptSet *o, const char *key, const char *value, Err *e);
/* True if the key was given by flag, file or opt_set (not only by default). */
bool opt_given(const OptSet *o, const char *key);
/* Value of a key as it stands behind "key: " in YAML, to write a configuration back; appended to b. */
void opt_format(const OptSet *o, const char *key, StrBuf *b);
/* The option lines of --help, wrapped at 100 columns, with defaults and ranges. */
void opt_format_help(const OptSpec *specs, int n_specs, StrBuf *b);

#endif
