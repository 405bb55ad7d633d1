/* SPDX-License-Identifier: Apache-2.0
 * The option lines of --help: flags on the left, one text column on the right, wrapped at 100
 * columns.
 *
 *   -b, --batch-size N      sequences decoded together in one step (default 16; 1 to 256)
 */
#include <math.h>

#include "base/opt.h"

#define HELP_WIDTH 100
#define HELP_LEFT_MAX 34 /* a longer left part gets a line of its own */
#define HELP_NO_LIMIT 1e15

static void put_flag(const OptSpec *s, StrBuf *b) {
    if (s->letter) sb_printf(b, "  -%c, --", s->letter);
    else sb_puts(b, "      --");
    if (s->type == OPT_BOOL && s->def && strcmp(s->def, "true") == 0) sb_puts(b, "[no-]");
    for (const char *p = s->key; *p; p++) sb_putc(b, *p == '_' ? '-' : *p);
    if (s->type == OPT_BOOL) return;
    static const char *const NAMES[] = {
        [OPT_INT] = "N", [OPT_FLOAT] = "X", [OPT_STR] = "TEXT", [OPT_LIST] = "TEXT"};
    const char *value = s->metavar              ? s->metavar
                        : s->type == OPT_CHOICE ? s->choices
                                                : NAMES[s->type];
    sb_printf(b, " %s", value);
}

static void put_number(StrBuf *b, double v) {
    bool whole = v == floor(v) && fabs(v) < HELP_NO_LIMIT;
    sb_printf(b, whole ? "%.0f" : "%g", v);
}

static void put_range(const OptSpec *s, StrBuf *b) {
    bool low = s->min > -HELP_NO_LIMIT, high = s->max < HELP_NO_LIMIT;
    if (!low) sb_puts(b, "at most ");
    if (!high) sb_puts(b, "at least ");
    if (low) put_number(b, s->min);
    if (low && high) sb_puts(b, " to ");
    if (high) put_number(b, s->max);
}

/* help (default D; range), whatever of it there is. */
static void put_text(const OptSpec *s, StrBuf *b) {
    sb_puts(b, s->help);
    bool has_range = (s->type == OPT_INT || s->type == OPT_FLOAT) && (s->min != 0 || s->max != 0) &&
                     (s->min > -HELP_NO_LIMIT || s->max < HELP_NO_LIMIT);
    bool has_names = s->type == OPT_CHOICE && s->metavar;
    const char *sep = " (";
    if (s->def && *s->def && !(s->type == OPT_BOOL && strcmp(s->def, "false") == 0)) {
        sb_printf(b, "%sdefault %s", sep, s->def);
        sep = "; ";
    }
    if (has_names || has_range) {
        sb_puts(b, sep);
        sep = "; ";
    }
    if (has_names) sb_puts(b, s->choices);
    if (has_range) put_range(s, b);
    if (s->type == OPT_LIST) {
        sb_printf(b, "%smay be repeated", sep);
        sep = "; ";
    }
    if (*sep == ';') sb_putc(b, ')');
}

/* Words of text from column `indent`, where the cursor already is. */
static void put_wrapped(StrBuf *b, const char *text, size_t indent) {
    size_t column = indent;
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, " ");
        if (column > indent && column + 1 + n > HELP_WIDTH) {
            sb_printf(b, "\n%*s", (int)indent, "");
            column = indent;
        }
        if (column > indent) sb_putc(b, ' ');
        column += n + (column > indent);
        sb_put(b, p, n);
        p += n;
        p += strspn(p, " ");
    }
    sb_putc(b, '\n');
}

/* Columns of the widest flag that keeps its help on its own line; *failed if memory was out. */
static size_t left_width(const OptSpec *specs, int n_specs, StrBuf *scratch, bool *failed) {
    size_t width = 0;
    for (int i = 0; i < n_specs; i++) {
        sb_clear(scratch);
        put_flag(&specs[i], scratch);
        *failed |= scratch->failed;
        if (scratch->n <= HELP_LEFT_MAX) width = MAX(width, scratch->n);
    }
    return width;
}

void opt_format_help(const OptSpec *specs, int n_specs, StrBuf *b) {
    StrBuf part = {0};
    size_t indent = left_width(specs, n_specs, &part, &b->failed) + 2;
    for (int i = 0; i < n_specs; i++) {
        sb_clear(&part);
        put_flag(&specs[i], &part);
        if (part.n + 2 > indent) sb_printf(b, "%s\n%*s", sb_str(&part), (int)indent, "");
        else sb_printf(b, "%-*s", (int)indent, sb_str(&part));
        b->failed |= part.failed;
        sb_clear(&part);
        put_text(&specs[i], &part);
        put_wrapped(b, sb_str(&part), indent);
        b->failed |= part.failed;
    }
    sb_deinit(&part);
}
