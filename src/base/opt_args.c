/* SPDX-License-Identifier: Apache-2.0
 * The command line. A value may start with a dash ("--temperature -1", "--stop ---") as long as it
 * is not itself a flag of the table: that is taken as a forgotten value. One thread. */
#include "base/arena.h"
#include "base/internal.h"

typedef struct Args {
    OptSet *o;
    char **argv;
    int argc;
    int at; /* next word */
} Args;

static int find_letter(const OptSet *o, const char *arg) {
    if (arg[0] != '-' || arg[1] == '\0' || arg[1] == '-' || arg[2] != '\0') return -1;
    for (int i = 0; i < opt__n_specs(o); i++)
        if (opt__spec(o, i)->letter == arg[1]) return i;
    return -1;
}

/* Index of the boolean that "no-key" switches off, or -1. */
static int find_negated(const OptSet *o, const char *key, size_t n) {
    if (n < 4 || strncmp(key, "no", 2) != 0 || (key[2] != '-' && key[2] != '_')) return -1;
    int i = opt__find(o, key + 3, n - 3);
    return i >= 0 && opt__spec(o, i)->type == OPT_BOOL ? i : -1;
}

static bool is_known_flag(const OptSet *o, const char *arg) {
    if (find_letter(o, arg) >= 0) return true;
    if (!str_starts_with(arg, "--")) return false;
    size_t n = strcspn(arg + 2, "=");
    return opt__find(o, arg + 2, n) >= 0 || find_negated(o, arg + 2, n) >= 0;
}

static bool is_bool_word(const char *s) {
    return strcmp(s, "true") == 0 || strcmp(s, "false") == 0 || strcmp(s, "yes") == 0 ||
           strcmp(s, "no") == 0;
}

/* Store the value of option i: the next word, or true for a boolean without one. */
static Status take_value(Args *a, int i, Err *e) {
    const char *flag = a->argv[a->at - 1];
    const char *next = a->at < a->argc ? a->argv[a->at] : NULL;
    if (opt__spec(a->o, i)->type == OPT_BOOL) {
        if (!next || !is_bool_word(next)) return opt__put(a->o, i, "true", e);
    } else if (!next || is_known_flag(a->o, next) || strcmp(next, "--") == 0)
        return err_set(e, ERR_ARG, "%.64s needs a value", flag);
    a->at++;
    return opt__put(a->o, i, next, e);
}

static Status parse_long(Args *a, const char *key, Err *e) {
    size_t n = strcspn(key, "=");
    int i = opt__find(a->o, key, n);
    if (i >= 0 && key[n] == '=') return opt__put(a->o, i, key + n + 1, e);
    if (i >= 0) return take_value(a, i, e);
    i = find_negated(a->o, key, n);
    if (i >= 0 && key[n] == '=')
        return err_set(e, ERR_ARG, "--%.64s: takes no value after 'no'", key);
    if (i >= 0) return opt__put(a->o, i, "false", e);
    char *name = mem_dup(key, n);
    Status st = name ? opt__unknown(a->o, "--", name, e)
                     : err_set(e, ERR_NOMEM, "out of memory for the name of a flag");
    mem_free(name);
    return st;
}

static Status parse_short(Args *a, const char *arg, Err *e) {
    int i = find_letter(a->o, arg);
    if (i >= 0) return take_value(a, i, e);
    return err_set(e, ERR_ARG, "unknown option %.64s; short options are one letter: -k value", arg);
}

/* One word, and its value. Positionals are gathered in argument order at the front of pos. */
static Status parse_word(Args *a, bool *flags_over, OptList *pos, Err *e) {
    const char *arg = a->argv[a->at++];
    if (*flags_over || arg[0] != '-' || arg[1] == '\0') {
        pos->v[pos->n++] = arg;
        return OK;
    }
    if (strcmp(arg, "--") == 0) {
        *flags_over = true;
        return OK;
    }
    return arg[1] == '-' ? parse_long(a, arg + 2, e) : parse_short(a, arg, e);
}

Status opt_parse_args(OptSet *o, int argc, char **argv, OptList *positional, Err *e) {
    Args a = {.o = o, .argv = argv, .argc = argc};
    OptList pos = {opt__new_list(o, argc), 0};
    bool flags_over = false;
    if (!pos.v) return err_set(e, ERR_NOMEM, "out of memory for %d arguments", argc);
    opt__begin_source(o);
    while (a.at < argc) TRY(parse_word(&a, &flags_over, &pos, e));
    opt__begin_source(o);
    *positional = pos;
    return OK;
}
