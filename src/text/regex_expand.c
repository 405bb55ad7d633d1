/* SPDX-License-Identifier: Apache-2.0
 *
 * Rewrites \s \S \p{L} \P{Lu} \pN ... of a pattern as ranges of Unicode 15.1, inside and outside of
 * classes: `\p{Zs}` becomes `[\x{20}\x{a0}...]`, `[^\s\p{L}]` keeps its brackets. Everything else is
 * copied, so PCRE2 judges the syntax; what is tracked here is only escapes, \Q..\E, (?#..) and whether
 * a class is open. Comments of the (?x) mode are not recognised: they must not hold a bracket.
 */
#include "text/regex_expand.h"

#include "text/ucd.h"

enum { MAX_EXPANDED = 1 << 20, MAX_SETS = 40 };

/* One set's ranges, made once per pattern. */
typedef struct SetText {
    UcdSet set;
    bool negate;
    StrBuf ranges;
} SetText;

typedef struct Expander {
    StrBuf *out;
    const char *src;
    size_t pos; /* in src */
    bool in_class;
    bool after_set; /* the last thing in this class was a set: a hyphen here is itself */
    SetText *sets;  /* [2 * MAX_SETS] */
    size_t n_sets;
} Expander;

/* The set that an escape at p stands for and its length; 0 if it is none of ours. */
static size_t read_set(const char *p, UcdSet *set, bool *negate) {
    if (p[0] != '\\') return 0;
    *negate = p[1] == 'S' || p[1] == 'P';
    if (p[1] == 's' || p[1] == 'S') {
        *set = UCD_SPACE;
        return 2;
    }
    if (p[1] != 'p' && p[1] != 'P') return 0;
    if (p[2] != '{') {
        *set = p[2] ? ucd_find_set((Slice){p + 2, 1}) : 0;
        return *set ? 3 : 0;
    }
    const char *name = p + 3;
    if (*name == '^') {
        *negate = !*negate;
        name++;
    }
    size_t n = strcspn(name, "}");
    *set = name[n] ? ucd_find_set((Slice){name, n}) : 0;
    return *set ? (size_t)(name + n + 1 - p) : 0;
}

static const StrBuf *ranges_of(Expander *x, UcdSet set, bool negate) {
    size_t i = 0;
    while (i < x->n_sets && (x->sets[i].set != set || x->sets[i].negate != negate)) i++;
    if (i == x->n_sets) {
        x->n_sets++;
        x->sets[i] = (SetText){.set = set, .negate = negate};
        ucd_put_ranges(&x->sets[i].ranges, set, negate);
    }
    return &x->sets[i].ranges;
}

static void put_set(Expander *x, UcdSet set, bool negate) {
    /* outside of a class the shorter form: [^...] of the plain set */
    const StrBuf *r = ranges_of(x, set, negate && x->in_class);
    if (r->failed) x->out->failed = true;
    if (!x->in_class) sb_puts(x->out, negate ? "[^" : "[");
    sb_put(x->out, r->p, r->n);
    if (!x->in_class) sb_putc(x->out, ']');
}

/* Copy n source bytes as they are. */
static void copy(Expander *x, size_t n) {
    sb_put(x->out, x->src + x->pos, n);
    x->pos += n;
    x->after_set = false;
}

/* From the opening of a literal stretch up to and with its end mark (or all that is left). */
static void copy_through(Expander *x, const char *end_mark) {
    const char *end = strstr(x->src + x->pos + 2, end_mark);
    copy(x, end ? (size_t)(end - (x->src + x->pos)) + strlen(end_mark) : strlen(x->src + x->pos));
}

static void step_escape(Expander *x) {
    const char *p = x->src + x->pos;
    UcdSet set;
    bool negate;
    size_t n = read_set(p, &set, &negate);
    if (n) {
        put_set(x, set, negate);
        x->pos += n;
        x->after_set = true;
    } else if (p[1] == 'Q') {
        copy_through(x, "\\E");
    } else {
        copy(x, p[1] ? 2 : 1);
    }
}

/* "[" and what may stand right after it: "^" and a "]" that is itself. */
static void open_class(Expander *x) {
    const char *p = x->src + x->pos;
    size_t n = p[1] == '^' ? 2 : 1;
    copy(x, p[n] == ']' ? n + 1 : n);
    x->in_class = true;
}

static Status step_in_class(Expander *x, Err *e) {
    const char *p = x->src + x->pos;
    UcdSet set;
    bool negate;
    if (p[0] == '[' && (p[1] == ':' || p[1] == '.' || p[1] == '=')) {
        copy_through(x, (char[]){p[1], ']', 0});
    } else if (p[0] == '[' || (p[0] == '&' && p[1] == '&')) {
        return err_set(e, ERR_ARG,
                       "regular expression, offset %zu: set operations in a class are not "
                       "supported, write \\%c for the character",
                       x->pos, p[0]);
    } else if (p[0] == '-' && (x->after_set || read_set(p + 1, &set, &negate))) {
        sb_putc(x->out, '\\'); /* not a range: one side is a set */
        copy(x, 1);
    } else {
        x->in_class = p[0] != ']';
        copy(x, 1);
    }
    return OK;
}

static Status step(Expander *x, Err *e) {
    const char *p = x->src + x->pos;
    if (p[0] == '\\') {
        step_escape(x);
    } else if (x->in_class) {
        return step_in_class(x, e);
    } else if (p[0] == '[') {
        open_class(x);
    } else if (!strncmp(p, "(?#", 3)) {
        copy_through(x, ")");
    } else {
        copy(x, 1);
    }
    return OK;
}

Status regex__expand(StrBuf *b, const char *pattern, size_t limit, size_t *src_at, Err *e) {
    Status st = OK;
    Expander x = {.out = b, .src = pattern, .sets = mem_new_n(SetText, (size_t)2 * MAX_SETS)};
    if (!x.sets) return err_set(e, ERR_NOMEM, "regular expression: out of memory");
    size_t at = 0;
    while (st == OK && pattern[x.pos] && !b->failed && (limit == 0 || b->n <= limit)) {
        at = x.pos;
        st = step(&x, e);
        if (st == OK && b->n > MAX_EXPANDED) {
            st = err_set(e, ERR_FULL,
                         "regular expression: over %d bytes with its classes written out",
                         MAX_EXPANDED);
        }
    }
    if (st == OK && b->failed) st = err_set(e, ERR_NOMEM, "regular expression: out of memory");
    if (src_at) *src_at = limit && b->n <= limit ? x.pos : at;
    for (size_t i = 0; i < x.n_sets; i++) sb_deinit(&x.sets[i].ranges);
    mem_free(x.sets);
    return st;
}
