/* SPDX-License-Identifier: Apache-2.0
 * Option tables: finding keys, checking and storing values, defaults, writing values back. Every
 * way to give a value ends in opt__put, so flags, YAML and defaults obey the same checks. A list
 * appends within one source (one command line, one file) and a later source replaces it: `source`
 * counts sources. One thread. */
#include "base/opt.h"

#include <math.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/internal.h"

#define OPT_ARENA ((size_t)4096)
#define OPT_KEY_MAX 64

typedef struct OptState {
    bool given;
    uint32_t source;   /* that last wrote the list */
    int cap;           /* of the list */
    const char **list; /* owned by the arena; OptList.v of the target points here */
} OptState;

struct OptSet {
    const OptSpec *specs; /* borrowed */
    int n_specs;
    const OptAlias *also; /* borrowed */
    int n_also;
    uint8_t *target; /* borrowed */
    uint32_t source;
    OptState *state; /* owned, one per spec */
    Arena arena;     /* strings and lists */
};

static void *field(const OptSet *o, int i) { return o->target + o->specs[i].offset; }

int opt__n_specs(const OptSet *o) { return o->n_specs; }
const OptSpec *opt__spec(const OptSet *o, int i) { return &o->specs[i]; }
void opt__begin_source(OptSet *o) { o->source++; }

const char **opt__new_list(OptSet *o, int n) {
    return arena_new_n(&o->arena, const char *, (size_t)n);
}

static bool key_eq(const char *spec_key, const char *key, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char c = key[i] == '-' ? '_' : key[i];
        if (spec_key[i] == '\0' || spec_key[i] != c) return false;
    }
    return spec_key[n] == '\0';
}

static int find_key(const OptSet *o, const char *key, size_t n_key) {
    for (int i = 0; i < o->n_specs; i++)
        if (key_eq(o->specs[i].key, key, n_key)) return i;
    return -1;
}

int opt__find(const OptSet *o, const char *key, size_t n_key) {
    int at = find_key(o, key, n_key);
    for (int i = 0; at < 0 && i < o->n_also; i++) {
        const OptAlias *a = &o->also[i];
        if (!a->env && key_eq(a->name, key, n_key)) at = find_key(o, a->key, strlen(a->key));
    }
    return at;
}

const char *opt__variable(const OptSet *o, const char *key, int n) {
    for (int i = 0; i < o->n_also; i++) {
        if (o->also[i].env && strcmp(o->also[i].key, key) == 0 && n-- == 0) return o->also[i].name;
    }
    return NULL;
}

void opt_also(OptSet *o, const OptAlias *names, int n) {
    o->also = names;
    o->n_also = n;
}

/* ---- unknown keys ---- */

/* Edit distance between a spec key and a key given with either dashes or underscores. */
static int distance(const char *a, const char *b) {
    int row[OPT_KEY_MAX + 1], n = (int)strlen(b);
    if (n > OPT_KEY_MAX) return n;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 0; a[i]; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int j = 0; j < n; j++) {
            int swap = diagonal + (a[i] != (b[j] == '-' ? '_' : b[j]));
            diagonal = row[j + 1];
            row[j + 1] = MIN(swap, MIN(row[j], row[j + 1]) + 1);
        }
    }
    return row[n];
}

/* The key a typing slip away from `key`, or NULL. */
static const char *nearest_key(const OptSet *o, const char *key) {
    const char *best = NULL;
    int best_distance = (int)MIN(MAX(strlen(key) / 3, (size_t)1), (size_t)3) + 1;
    for (int i = 0; i < o->n_specs; i++) {
        int d = distance(o->specs[i].key, key);
        if (d >= best_distance) continue;
        best = o->specs[i].key;
        best_distance = d;
    }
    return best;
}

/* The key as it is written on a command line or in a file. */
static void spell_key(char out[OPT_KEY_MAX + 1], const char *key, bool is_flag) {
    size_t n = strnlen(key, OPT_KEY_MAX);
    for (size_t i = 0; i < n; i++) out[i] = is_flag && key[i] == '_' ? '-' : key[i];
    out[n] = '\0';
}

Status opt__unknown(const OptSet *o, const char *dashes, const char *key, Err *e) {
    char spelled[OPT_KEY_MAX + 1];
    const char *near = nearest_key(o, key);
    StrBuf shown = {0};
    sb_put_quoted(&shown, slice_of(key), OPT_KEY_MAX);
    if (near) {
        spell_key(spelled, near, *dashes != '\0');
        err_set(e, ERR_ARG, "unknown option %s%s; did you mean %s%s?", dashes, sb_str(&shown),
                dashes, spelled);
    } else err_set(e, ERR_ARG, "unknown option %s%s", dashes, sb_str(&shown));
    sb_deinit(&shown);
    return ERR_ARG;
}

/* ---- values ---- */

/* "key: 'value' why", the value shortened and made printable. */
static Status bad_value(const OptSpec *s, const char *text, const char *why, Err *e) {
    StrBuf shown = {0};
    sb_put_quoted(&shown, slice_of(text), 60);
    err_set(e, ERR_ARG, "%s: '%s' %s", s->key, sb_str(&shown), why);
    sb_deinit(&shown);
    return ERR_ARG;
}

static Status check_range(const OptSpec *s, double v, const char *text, Err *e) {
    if ((s->min == 0 && s->max == 0) || (v >= s->min && v <= s->max)) return OK;
    StrBuf why = {0};
    bool low = v < s->min;
    sb_puts(&why, low ? "is below the limit of " : "is above the limit of ");
    sb_printf(&why, "%.15g", low ? s->min : s->max);
    Status st = bad_value(s, text, sb_str(&why), e);
    sb_deinit(&why);
    return st;
}

/* "25.6k": the number, and 1000, or 1024 with a capital, to the power of the letter's place. */
static bool parse_scaled(double *v, const char *text) {
    static const char units[] = "kmgKMG";
    char digits[32];
    size_t n = strlen(text);
    const char *unit = n > 1 && n < sizeof digits ? strchr(units, text[n - 1]) : NULL;
    if (!unit) return false;
    memcpy(digits, text, n - 1);
    digits[n - 1] = '\0';
    if (!str_to_f64(v, digits)) return false;
    int power = (int)(unit - units);
    *v *= power < 3 ? pow(1000, power + 1) : pow(1024, power - 2);
    return true;
}

/* Plain decimal, or a form like 1e6 or 8k that is a whole number and exact. */
static bool parse_int(int64_t *out, const char *text) {
    double v;
    if (str_to_i64(out, text)) return true;
    if (!parse_scaled(&v, text) && !(strpbrk(text, "eE") && str_to_f64(&v, text))) return false;
    if (v != floor(v) || fabs(v) > 0x1p53) return false;
    *out = (int64_t)v;
    return true;
}

static bool parse_bool(bool *out, const char *text) {
    bool yes = strcmp(text, "true") == 0 || strcmp(text, "yes") == 0;
    if (!yes && strcmp(text, "false") != 0 && strcmp(text, "no") != 0) return false;
    *out = yes;
    return true;
}

/* True if text is one of the names in "a|b|c". */
static bool is_choice(const char *choices, const char *text) {
    size_t n = strlen(text);
    for (const char *p = choices;;) {
        size_t len = strcspn(p, "|");
        if (len == n && memcmp(p, text, n) == 0) return true;
        if (p[len] == '\0') return false;
        p += len + 1;
    }
}

static Status put_int(const OptSet *o, int i, const char *text, Err *e) {
    int64_t v;
    if (!parse_int(&v, text)) return bad_value(&o->specs[i], text, "is not a whole number", e);
    TRY(check_range(&o->specs[i], (double)v, text, e));
    *(int64_t *)field(o, i) = v;
    return OK;
}

static Status put_float(const OptSet *o, int i, const char *text, Err *e) {
    double v;
    if (!str_to_f64(&v, text)) return bad_value(&o->specs[i], text, "is not a number", e);
    TRY(check_range(&o->specs[i], v, text, e));
    *(double *)field(o, i) = v;
    return OK;
}

static Status put_bool(const OptSet *o, int i, const char *text, Err *e) {
    bool v;
    if (!parse_bool(&v, text)) return bad_value(&o->specs[i], text, "is not true or false", e);
    *(bool *)field(o, i) = v;
    return OK;
}

static Status no_memory(OptSet *o, int i, Err *e) {
    return err_set(e, ERR_NOMEM, "%s: out of memory", o->specs[i].key);
}

static Status put_str(OptSet *o, int i, const char *text, Err *e) {
    const char *copy = arena_dup(&o->arena, text, strlen(text));
    if (!copy) return no_memory(o, i, e);
    *(const char **)field(o, i) = copy;
    return OK;
}

static Status put_choice(OptSet *o, int i, const char *text, Err *e) {
    const OptSpec *s = &o->specs[i];
    if (is_choice(s->choices, text)) return put_str(o, i, text, e);
    StrBuf why = {0};
    sb_printf(&why, "is not one of %s", s->choices);
    Status st = bad_value(s, text, sb_str(&why), e);
    sb_deinit(&why);
    return st;
}

void opt__clear_list(OptSet *o, int i) {
    o->state[i].source = o->source;
    o->state[i].given = true;
    *(OptList *)field(o, i) = (OptList){o->state[i].list, 0};
}

/* The arena cannot free, so growing by doubling wastes at most what the list itself takes. */
static bool grow_list(OptSet *o, OptState *s, int n) {
    if (n < s->cap) return true;
    int cap = MAX(8, n * 2);
    const char **v = arena_new_n(&o->arena, const char *, (size_t)cap);
    if (!v) return false;
    if (n > 0) memcpy(v, s->list, (size_t)n * sizeof *v);
    s->list = v;
    s->cap = cap;
    return true;
}

static Status put_list(OptSet *o, int i, const char *text, Err *e) {
    OptState *s = &o->state[i];
    OptList *list = field(o, i);
    int n = s->source == o->source ? list->n : 0;
    const char *copy = arena_dup(&o->arena, text, strlen(text));
    if (!copy || !grow_list(o, s, n)) return no_memory(o, i, e);
    s->list[n] = copy;
    s->source = o->source;
    *list = (OptList){s->list, n + 1};
    return OK;
}

static Status put_value(OptSet *o, int i, const char *text, Err *e) {
    switch (o->specs[i].type) {
    case OPT_INT: return put_int(o, i, text, e);
    case OPT_FLOAT: return put_float(o, i, text, e);
    case OPT_BOOL: return put_bool(o, i, text, e);
    case OPT_STR: return put_str(o, i, text, e);
    case OPT_CHOICE: return put_choice(o, i, text, e);
    case OPT_LIST: return put_list(o, i, text, e);
    }
    return err_set(e, ERR_INTERNAL, "%s: option of unknown type %d", o->specs[i].key,
                   (int)o->specs[i].type);
}

Status opt__put(OptSet *o, int i, const char *text, Err *e) {
    TRY(put_value(o, i, text, e));
    o->state[i].given = true;
    return OK;
}

static void zero_field(OptSet *o, int i) {
    static const size_t BYTES[] = {
        [OPT_INT] = sizeof(int64_t), [OPT_FLOAT] = sizeof(double),  [OPT_BOOL] = sizeof(bool),
        [OPT_STR] = sizeof(char *),  [OPT_CHOICE] = sizeof(char *), [OPT_LIST] = sizeof(OptList),
    };
    memset(field(o, i), 0, BYTES[o->specs[i].type]);
}

Status opt__reset(OptSet *o, int i, Err *e) {
    const char *def = o->specs[i].def;
    if (o->specs[i].type == OPT_LIST) opt__clear_list(o, i);
    if (!def) zero_field(o, i);
    else TRY(put_value(o, i, def, e));
    o->state[i].source = 0; /* the next list item starts afresh */
    o->state[i].given = false;
    return OK;
}

/* ---- public ---- */

Status opt_new(OptSet **out, const OptSpec *specs, int n_specs, void *target, Err *e) {
    OptSet *o = mem_new(OptSet);
    if (!o) return err_set(e, ERR_NOMEM, "out of memory for %d options", n_specs);
    *o = (OptSet){.specs = specs, .n_specs = n_specs, .target = target, .source = 1};
    arena_init(&o->arena, OPT_ARENA);
    o->state = mem_new_n(OptState, (size_t)n_specs);
    Status st = OK;
    if (!o->state) st = err_set(e, ERR_NOMEM, "out of memory for %d options", n_specs);
    for (int i = 0; st == OK && i < n_specs; i++) st = opt__reset(o, i, e);
    if (st == OK) *out = o;
    else opt_free(o);
    return st;
}

void opt_free(OptSet *o) {
    if (!o) return;
    arena_deinit(&o->arena);
    mem_free(o->state);
    mem_free(o);
}

Status opt_set(OptSet *o, const char *key, const char *value, Err *e) {
    int i = opt__find(o, key, strlen(key));
    return i < 0 ? opt__unknown(o, "", key, e) : opt__put(o, i, value, e);
}

bool opt_given(const OptSet *o, const char *key) {
    int i = opt__find(o, key, strlen(key));
    return i >= 0 && o->state[i].given;
}

/* Shortest decimal that reads back as the same double. */
static void put_double(StrBuf *b, double v) {
    char text[32];
    double back = 0;
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (str_to_f64(&back, text) && back == v) break;
    }
    sb_puts(b, text);
}

/* One character of a double-quoted string; returns the bytes of s that it takes. Controls, line
 * breaks and non-characters are escaped, as YAML refuses or folds them. */
static size_t put_yaml_char(StrBuf *b, const char *s) {
    static const struct {
        const char *raw, *escaped;
    } ODD[] = {
        {"\xE2\x80\xA8", "\\u2028"},
        {"\xE2\x80\xA9", "\\u2029"},
        {"\xEF\xBB\xBF", "\\ufeff"},
        {"\xEF\xBF\xBE", "\\ufffe"},
        {"\xEF\xBF\xBF", "\\uffff"},
        {"\"", "\\\""},
        {"\\", "\\\\"},
    };
    for (size_t i = 0; i < COUNT_OF(ODD); i++) {
        if (!str_starts_with(s, ODD[i].raw)) continue;
        sb_puts(b, ODD[i].escaped);
        return strlen(ODD[i].raw);
    }
    unsigned char c = (unsigned char)s[0], next = (unsigned char)s[1];
    bool is_c1 = c == 0xC2 && next >= 0x80 && next < 0xA0;
    if (is_c1) sb_printf(b, "\\x%02x", next);
    else if (c < 0x20 || c == 0x7F) sb_printf(b, "\\x%02x", c);
    else sb_putc(b, s[0]);
    return is_c1 ? 2 : 1;
}

/* Text that YAML reads back as this very string (if it is UTF-8): bare when that is safe. */
static void put_yaml_str(StrBuf *b, const char *s) {
    static const char *const BARE =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-";
    bool bare = *s && *s != '-' && s[strspn(s, BARE)] == '\0' && strcmp(s, "null") != 0;
    if (bare) {
        sb_puts(b, s);
        return;
    }
    sb_putc(b, '"');
    while (*s) s += put_yaml_char(b, s);
    sb_putc(b, '"');
}

static void put_yaml_list(StrBuf *b, const OptList *list) {
    sb_putc(b, '[');
    for (int i = 0; i < list->n; i++) {
        if (i > 0) sb_puts(b, ", ");
        put_yaml_str(b, list->v[i]);
    }
    sb_putc(b, ']');
}

void opt_format(const OptSet *o, const char *key, StrBuf *b) {
    int i = opt__find(o, key, strlen(key));
    if (i < 0) return;
    const void *p = field(o, i);
    const char *s;
    switch (o->specs[i].type) {
    case OPT_INT: sb_printf(b, "%lld", (long long)*(const int64_t *)p); return;
    case OPT_FLOAT: put_double(b, *(const double *)p); return;
    case OPT_BOOL: sb_puts(b, *(const bool *)p ? "true" : "false"); return;
    case OPT_STR:
    case OPT_CHOICE:
        s = *(const char *const *)p;
        if (s) put_yaml_str(b, s);
        else sb_puts(b, "null");
        return;
    case OPT_LIST: put_yaml_list(b, p); return;
    }
}
