/* SPDX-License-Identifier: Apache-2.0
 *
 * wordwrap: lines of at most a width, filled greedily as Python's textwrap does. A line is cut into chunks first (words,
 * white space, dashes between words, parts of hyphenated words); a chunk longer than a line is broken.
 */
#include "text/jinja_internal.h"
#include "text/ucd.h"
#include "text/utf8.h"

/* ---- chunks ---- */

/* The code point at byte i, or the one that ends there; 0 where there is none. */
static uint32_t cp_from(Slice s, size_t i) {
    uint32_t cp = 0xfffd;
    if (i >= s.n) return 0;
    (void)utf8_decode(&cp, s.p + i, s.n - i);
    return cp;
}

static size_t step_back(Slice s, size_t i) {
    while (i > 0 && ((unsigned char)s.p[--i] & 0xc0) == 0x80) {}
    return i;
}

static uint32_t cp_before(Slice s, size_t i) { return i ? cp_from(s, step_back(s, i)) : 0; }

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
static bool is_letter(uint32_t cp) {
    return cp == '_' || (ucd_class(cp) & (UCD_L | (UCD_N & ~(1 << 9))));
}
static bool is_word(uint32_t cp) { return cp == '_' || (ucd_class(cp) & (UCD_L | UCD_N)); }
static bool is_word_end(uint32_t cp) {
    return is_word(cp) || (cp && cp < 0x80 && strchr("!\"'&.,?", (int)cp));
}

/* Bytes of a dash of two hyphens or more between words; 0 if there is none at i. */
static size_t dash(Slice s, size_t i) {
    size_t n = 0;
    if (!is_word_end(cp_before(s, i))) return 0;
    while (i + n < s.n && s.p[i + n] == '-') n++;
    return n >= 2 && is_word(cp_from(s, i + n)) ? n : 0;
}

/* Whether a word may be cut behind the hyphen at i: letters around it, as in well-known. */
static bool hyphen(Slice s, size_t i) {
    if (s.p[i] != '-') return false;
    size_t one = step_back(s, i), two = step_back(s, one);
    uint32_t last = cp_before(s, i), before = cp_before(s, one), third = cp_before(s, two);
    bool left = (is_letter(last) && is_letter(before)) ||
                (is_word_end(last) && before == '-' && is_letter(third));
    uint32_t next = cp_from(s, i + 1), after;
    size_t at = i + 1 + jinja__cp_at((Slice){s.p + i + 1, s.n - i - 1}, 1);
    if (at < s.n && s.p[at] == '-') at++;
    after = cp_from(s, at);
    return left && is_letter(next) && is_letter(after);
}

/* Where the chunk that begins at i ends. */
static size_t chunk_end(Slice s, size_t i, bool hyphens) {
    size_t n = hyphens ? dash(s, i) : 0, k = i + 1;
    if (n) return i + n;
    if (is_blank(s.p[i])) {
        while (k < s.n && is_blank(s.p[k])) k++;
        return k;
    }
    for (; k < s.n && !is_blank(s.p[k]); k++) {
        if (!hyphens || s.p[k] != '-') continue;
        if (hyphen(s, k)) return k + 1;
        if (dash(s, k)) return k;
    }
    return k;
}

static Status cut(JRun *r, JVal *out, Slice s, bool hyphens) {
    TRY(jinja__step(r, s.n / 2));
    TRY(jinja__list(r, out, JL_LIST, 0));
    for (size_t i = 0; i < s.n;) {
        size_t end = chunk_end(s, i, hyphens);
        TRY(jinja__push(r, out->list, jinja__slice((Slice){s.p + i, end - i})));
        i = end;
    }
    return OK;
}

/* ---- lines ---- */

typedef struct Wrap {
    size_t width;
    Slice by;
    bool break_words, hyphens;
    StrBuf *b;
} Wrap;

static bool is_space(Slice s) { return jinja__strip(s, true, true).n == 0; }

/* Code points of a chunk, as far as they matter: `most` and one more are enough. */
static size_t width_of(Slice s, size_t most) {
    size_t n = 0;
    for (size_t i = 0; i < s.n && n <= most; i++) n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

/* The part of a chunk that still goes into a line with so much room. */
static size_t broken(const Wrap *w, Slice chunk, size_t room) {
    size_t end = jinja__cp_at(chunk, room), at = SIZE_MAX;
    bool other = false;
    for (size_t i = 0; w->hyphens && i < end; i++)
        if (chunk.p[i] == '-') at = i;
    for (size_t i = 0; at != SIZE_MAX && i < at; i++) other |= chunk.p[i] != '-';
    return at != SIZE_MAX && at > 0 && other ? at + 1 : end;
}

/* One line from the front of the chunks: where it begins and ends in the text, empty if nothing is left of it. */
static Slice take_line(const Wrap *w, JList *l, size_t *k, bool first) {
    size_t len = 0, from;
    if (!first && is_space(l->v[*k].s)) ++*k;
    from = *k;
    for (; *k < l->n; ++*k) {
        size_t n = width_of(l->v[*k].s, w->width);
        if (n > w->width - len) break;
        len += n;
    }
    if (*k == l->n && from == *k) return (Slice){"", 0};
    Slice line = {l->v[from].s.p, 0};
    for (size_t i = from; i < *k; i++) line.n += l->v[i].s.n;
    bool too_long = *k < l->n && width_of(l->v[*k].s, w->width) > w->width;
    size_t last = *k > from ? l->v[*k - 1].s.n : 0;
    if (too_long && w->break_words) {
        Slice *chunk = &l->v[*k].s;
        last = broken(w, *chunk, w->width - len);
        line.n += last;
        *chunk = (Slice){chunk->p + last, chunk->n - last};
    } else if (too_long && *k == from) {
        last = l->v[*k].s.n;
        line.n = l->v[(*k)++].s.n;
    }
    if (last && is_space((Slice){line.p + line.n - last, last})) line.n -= last;
    return line;
}

static Status wrap_line(JRun *r, const Wrap *w, Slice s) {
    JVal chunks;
    bool first = true;
    TRY(cut(r, &chunks, s, w->hyphens));
    for (size_t k = 0; k < chunks.list->n;) {
        Slice line = take_line(w, chunks.list, &k, first);
        TRY(jinja__step(r, 1 + line.n / 16));
        if (line.n == 0) continue;
        if (!first) sb_put(w->b, w->by.p, w->by.n);
        sb_put(w->b, line.p, line.n);
        if (w->b->n > jinja__room(r)) return jinja__fail(r, "a text too long");
        first = false;
    }
    return OK;
}

Status jinja__wordwrap(JRun *r, JVal *out, JVal in, const JArgs *a) {
    StrBuf b = {0};
    Wrap w = {.by = slice_of("\n"),
              .break_words = jinja__arg_bool(a, 1, "break_long_words", true),
              .hyphens = jinja__arg_bool(a, 3, "break_on_hyphens", true),
              .b = &b};
    int64_t width = 79;
    JVal lines;
    if (in.kind != JV_STR) return jinja__fail(r, "wordwrap of %s", jinja__type(in));
    TRY(jinja__arg_int(r, &width, a, 0, "width"));
    TRY(jinja__arg_str(r, &w.by, a, 2, "wrapstring"));
    if (width < 1) return jinja__fail(r, "wordwrap to a width of %lld", (long long)width);
    w.width = (size_t)width;
    TRY(jinja__lines(r, &lines, in.s, false));
    Status st = OK;
    for (size_t i = 0; st == OK && i < lines.list->n; i++) {
        if (i) sb_put(&b, w.by.p, w.by.n);
        st = wrap_line(r, &w, lines.list->v[i].s);
    }
    if (st == OK) return jinja__take(r, out, &b);
    sb_deinit(&b);
    return st;
}
