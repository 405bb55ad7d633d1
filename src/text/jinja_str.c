/* SPDX-License-Identifier: Apache-2.0
 *
 * Methods of strings, as Python's str has them: positions count code points, white space and case are Unicode's.
 */
#include "text/jinja_internal.h"
#include "text/ucd.h"
#include "text/utf8.h"

/* ---- ends ---- */

static Status strip(JRun *r, JVal *out, JVal v, const JArgs *a, bool left, bool right) {
    const JVal *set = jinja__arg(a, 0, NULL);
    Slice chars = {0};
    TRY(jinja__step(r, v.s.n / 8));
    TRY(jinja__arg_str(r, &chars, a, 0, NULL));
    TRY(jinja__step(r, chars.n ? v.s.n / 64 * chars.n : 0));
    bool given = set && set->kind == JV_STR;
    *out = jinja__slice(given ? jinja__strip_set(v.s, chars, left, right)
                              : jinja__strip(v.s, left, right));
    return OK;
}
static Status m_strip(JRun *r, JVal *out, JVal v, const JArgs *a) {
    return strip(r, out, v, a, true, true);
}
static Status m_lstrip(JRun *r, JVal *out, JVal v, const JArgs *a) {
    return strip(r, out, v, a, true, false);
}
static Status m_rstrip(JRun *r, JVal *out, JVal v, const JArgs *a) {
    return strip(r, out, v, a, false, true);
}

static bool has_end(Slice s, Slice part, bool tail) {
    return part.n <= s.n &&
           (part.n == 0 || memcmp(tail ? s.p + s.n - part.n : s.p, part.p, part.n) == 0);
}

/* The part of a text that arguments 1 and 2 name (start, end), and its first code point; *first is SIZE_MAX where the
 * start lies behind the end of the text. */
static Status window(JRun *r, Slice *out, size_t *first, Slice s, const JArgs *a) {
    int64_t n = (int64_t)jinja__n_cp(s), from = 0, to = n;
    TRY(jinja__step(r, s.n / 16));
    TRY(jinja__arg_int(r, &from, a, 1, NULL));
    TRY(jinja__arg_int(r, &to, a, 2, NULL));
    if (from < 0) from = MAX(0, from + n);
    if (to < 0) to = MAX(0, to + n);
    *first = from > n ? SIZE_MAX : (size_t)from;
    to = MIN(to, n);
    if (from > to) {
        *first = SIZE_MAX;
        from = to;
    }
    size_t begin = jinja__cp_at(s, (size_t)from), end = jinja__cp_at(s, (size_t)to);
    *out = (Slice){s.p + begin, end - begin};
    return OK;
}

static Status ends(JRun *r, JVal *out, JVal v, const JArgs *a, bool tail) {
    const JVal *part = jinja__arg(a, 0, NULL);
    bool yes = false;
    size_t first;
    Slice s;
    TRY(window(r, &s, &first, v.s, a));
    if (part && jinja__is_tuple(*part)) {
        for (size_t i = 0; i < part->list->n; i++) {
            if (part->list->v[i].kind != JV_STR) return jinja__fail(r, "a tuple of str is wanted");
            yes |= first != SIZE_MAX && has_end(s, part->list->v[i].s, tail);
        }
    } else if (part && part->kind == JV_STR) {
        yes = first != SIZE_MAX && has_end(s, part->s, tail);
    } else {
        return jinja__fail(r, "%s wants a str or a tuple of them",
                           tail ? "endswith()" : "startswith()");
    }
    *out = jinja__bool(yes);
    return OK;
}
static Status m_startswith(JRun *r, JVal *out, JVal v, const JArgs *a) {
    return ends(r, out, v, a, false);
}
static Status m_endswith(JRun *r, JVal *out, JVal v, const JArgs *a) {
    return ends(r, out, v, a, true);
}

static Status m_removeprefix(JRun *r, JVal *out, JVal v, const JArgs *a) {
    Slice part = {0};
    TRY(jinja__arg_str(r, &part, a, 0, NULL));
    bool has = has_end(v.s, part, false);
    *out = jinja__slice(has ? (Slice){v.s.p + part.n, v.s.n - part.n} : v.s);
    return OK;
}
static Status m_removesuffix(JRun *r, JVal *out, JVal v, const JArgs *a) {
    Slice part = {0};
    TRY(jinja__arg_str(r, &part, a, 0, NULL));
    *out = jinja__slice((Slice){v.s.p, v.s.n - (has_end(v.s, part, true) ? part.n : 0)});
    return OK;
}

/* ---- parts ---- */

/* What searching from the end may cost. */
static Status charge_back(JRun *r, Slice s, Slice needle) {
    return jinja__step(r, (s.n / 64 + 1) * (needle.n / 8 + 1));
}

static Status push_text(JRun *r, JList *l, Slice s, size_t from, size_t to) {
    return jinja__push(r, l, jinja__slice((Slice){s.p + from, to - from}));
}

static bool space_at(Slice s, size_t i, size_t *n) {
    uint32_t cp = 0xfffd;
    *n = (size_t)MAX(1, utf8_decode(&cp, s.p + i, s.n - i));
    return jinja__is_space(cp);
}

/* Words between white space, at most `max` cuts (negative: any). */
static Status split_words(JRun *r, JList *l, Slice s, int64_t max) {
    size_t n;
    s = jinja__strip(s, true, max < 0);
    while (s.n && max != 0) {
        size_t i = 0;
        while (i < s.n && !space_at(s, i, &n)) i += n;
        TRY(push_text(r, l, s, 0, i));
        s = jinja__strip((Slice){s.p + i, s.n - i}, true, false);
        max--;
    }
    return s.n ? push_text(r, l, s, 0, s.n) : OK;
}

static Status m_split(JRun *r, JVal *out, JVal v, const JArgs *a) {
    const JVal *sep = jinja__arg(a, 0, "sep");
    Slice by = {0};
    int64_t max = -1;
    size_t from = 0;
    TRY(jinja__step(r, v.s.n / 16));
    TRY(jinja__arg_str(r, &by, a, 0, "sep"));
    TRY(jinja__arg_int(r, &max, a, 1, "maxsplit"));
    TRY(jinja__list(r, out, JL_LIST, 0));
    if (!sep || sep->kind == JV_NONE) return split_words(r, out->list, v.s, max);
    if (by.n == 0) return jinja__fail(r, "split() by an empty str");
    for (; max != 0; max--) {
        size_t at = jinja__search(v.s, by, from);
        if (at == SIZE_MAX) break;
        TRY(push_text(r, out->list, v.s, from, at));
        from = at + by.n;
    }
    return push_text(r, out->list, v.s, from, v.s.n);
}

/* Start of the last `needle` in s, or SIZE_MAX. */
static size_t search_back(Slice s, Slice needle) {
    for (size_t at = s.n; needle.n <= s.n && at + 1 > needle.n; at--)
        if (memcmp(s.p + at - needle.n, needle.n ? needle.p : "", needle.n) == 0)
            return at - needle.n;
    return SIZE_MAX;
}

static void turn_round(JList *l) {
    for (size_t i = 0; i < l->n / 2; i++) {
        JVal t = l->v[i];
        l->v[i] = l->v[l->n - 1 - i];
        l->v[l->n - 1 - i] = t;
    }
}

/* Words from the end, at most `max` cuts. */
static Status rsplit_words(JRun *r, JList *l, Slice s, int64_t max) {
    s = jinja__strip(s, false, true);
    for (; s.n && max > 0; max--) {
        size_t i = s.n, n;
        while (i > 0) {
            size_t k = i - 1;
            while (k > 0 && ((unsigned char)s.p[k] & 0xc0) == 0x80) k--;
            if (space_at(s, k, &n)) break;
            i = k;
        }
        TRY(push_text(r, l, s, i, s.n));
        s = jinja__strip((Slice){s.p, i}, false, true);
    }
    if (s.n) TRY(push_text(r, l, s, 0, s.n));
    turn_round(l);
    return OK;
}

static Status m_rsplit(JRun *r, JVal *out, JVal v, const JArgs *a) {
    const JVal *sep = jinja__arg(a, 0, "sep");
    Slice by = {0}, s = v.s;
    int64_t max = -1;
    TRY(jinja__step(r, v.s.n / 16));
    TRY(jinja__arg_str(r, &by, a, 0, "sep"));
    TRY(jinja__arg_int(r, &max, a, 1, "maxsplit"));
    TRY(jinja__list(r, out, JL_LIST, 0));
    if (!sep || sep->kind == JV_NONE)
        return rsplit_words(r, out->list, s, max < 0 ? INT64_MAX : max);
    if (by.n == 0) return jinja__fail(r, "rsplit() by an empty str");
    for (; max != 0; max--) {
        TRY(charge_back(r, s, by));
        size_t at = search_back(s, by);
        if (at == SIZE_MAX) break;
        TRY(push_text(r, out->list, s, at + by.n, s.n));
        s.n = at;
    }
    TRY(push_text(r, out->list, s, 0, s.n));
    turn_round(out->list);
    return OK;
}

static Status partition(JRun *r, JVal *out, JVal v, const JArgs *a, bool back) {
    Slice by = {0}, s = v.s;
    TRY(jinja__step(r, s.n / 16));
    TRY(jinja__arg_str(r, &by, a, 0, NULL));
    if (by.n == 0) return jinja__fail(r, "partition() by an empty str");
    if (back) TRY(charge_back(r, s, by));
    size_t at = back ? search_back(s, by) : jinja__search(s, by, 0);
    bool found = at != SIZE_MAX;
    if (!found) at = back ? 0 : s.n;
    size_t behind = found ? at + by.n : back ? 0 : s.n;
    TRY(jinja__list(r, out, JL_TUPLE, 3));
    TRY(push_text(r, out->list, s, 0, at));
    TRY(push_text(r, out->list, s, at, behind));
    return push_text(r, out->list, s, behind, s.n);
}
static Status m_partition(JRun *r, JVal *out, JVal v, const JArgs *a) {
    return partition(r, out, v, a, false);
}
static Status m_rpartition(JRun *r, JVal *out, JVal v, const JArgs *a) {
    return partition(r, out, v, a, true);
}

/* Bytes of the line end at i, 0 if there is none. */
static size_t line_end(Slice s, size_t i) {
    unsigned char c = (unsigned char)s.p[i];
    if (c == '\r') return 1 + (i + 1 < s.n && s.p[i + 1] == '\n');
    if ((c >= '\n' && c <= '\f') || (c >= 0x1c && c <= 0x1e)) return 1;
    if (c == 0xc2 && i + 1 < s.n && (unsigned char)s.p[i + 1] == 0x85) return 2;
    bool separator =
        i + 2 < s.n && (memcmp(s.p + i, "\u2028", 3) == 0 || memcmp(s.p + i, "\u2029", 3) == 0);
    return separator ? 3 : 0;
}

Status jinja__lines(JRun *r, JVal *out, Slice s, bool keep) {
    size_t from = 0, n;
    TRY(jinja__step(r, s.n / 16));
    TRY(jinja__list(r, out, JL_LIST, 0));
    for (size_t i = 0; i < s.n; i += MAX(n, (size_t)1)) {
        n = line_end(s, i);
        if (!n) continue;
        TRY(push_text(r, out->list, s, from, keep ? i + n : i));
        from = i + n;
    }
    return from < s.n ? push_text(r, out->list, s, from, s.n) : OK;
}

static Status m_splitlines(JRun *r, JVal *out, JVal v, const JArgs *a) {
    return jinja__lines(r, out, v.s, jinja__arg_bool(a, 0, "keepends", false));
}

static Status put_replaced(JRun *r, StrBuf *b, Slice s, Slice old, Slice by, int64_t max) {
    size_t from = 0;
    for (; max != 0; max--) {
        size_t at = jinja__search(s, old, from);
        if (at == SIZE_MAX) break;
        TRY(jinja__step(r, 1 + by.n / 64));
        if (b->n > jinja__room(r)) return jinja__fail(r, "a text too long");
        if (old.n == 0) { /* in front of each character, and at the end */
            sb_put(b, by.p, by.n);
            if (from == s.n) return OK;
            at = from + jinja__cp_at((Slice){s.p + from, s.n - from}, 1);
            sb_put(b, s.p + from, at - from);
            from = at;
            continue;
        }
        sb_put(b, s.p + from, at - from);
        sb_put(b, by.p, by.n);
        from = at + old.n;
    }
    sb_put(b, s.p + from, s.n - from);
    return OK;
}

static Status m_replace(JRun *r, JVal *out, JVal v, const JArgs *a) {
    Slice old = {0}, by = {0};
    int64_t max = -1;
    StrBuf b = {0};
    TRY(jinja__step(r, v.s.n / 16));
    TRY(jinja__arg_str(r, &old, a, 0, "old"));
    TRY(jinja__arg_str(r, &by, a, 1, "new"));
    TRY(jinja__arg_int(r, &max, a, 2, "count"));
    Status st = put_replaced(r, &b, v.s, old, by, max);
    if (st == OK) return jinja__take(r, out, &b);
    sb_deinit(&b);
    return st;
}

static Status find(JRun *r, JVal *out, JVal v, const JArgs *a, bool back) {
    Slice part = {0}, s;
    size_t first;
    if (!jinja__arg(a, 0, NULL) || a->v[0].kind != JV_STR) return jinja__fail(r, "a str is wanted");
    TRY(jinja__arg_str(r, &part, a, 0, NULL));
    TRY(window(r, &s, &first, v.s, a));
    if (back) TRY(charge_back(r, s, part));
    size_t at = back ? search_back(s, part) : jinja__search(s, part, 0);
    bool none = at == SIZE_MAX || first == SIZE_MAX;
    *out = jinja__int(none ? -1 : (int64_t)(first + jinja__n_cp((Slice){s.p, at})));
    return OK;
}
static Status m_find(JRun *r, JVal *out, JVal v, const JArgs *a) {
    return find(r, out, v, a, false);
}
static Status m_rfind(JRun *r, JVal *out, JVal v, const JArgs *a) {
    return find(r, out, v, a, true);
}
static Status m_index(JRun *r, JVal *out, JVal v, const JArgs *a) {
    TRY(find(r, out, v, a, false));
    return out->i >= 0 ? OK : jinja__fail(r, "index(): not in the str");
}
static Status m_rindex(JRun *r, JVal *out, JVal v, const JArgs *a) {
    TRY(find(r, out, v, a, true));
    return out->i >= 0 ? OK : jinja__fail(r, "rindex(): not in the str");
}

static Status m_count(JRun *r, JVal *out, JVal v, const JArgs *a) {
    Slice part = {0}, s;
    size_t first;
    int64_t n = 0;
    if (a->v[0].kind != JV_STR) return jinja__fail(r, "a str is wanted");
    TRY(jinja__arg_str(r, &part, a, 0, NULL));
    TRY(window(r, &s, &first, v.s, a));
    if (first == SIZE_MAX) n = 0;
    else if (part.n == 0) n = (int64_t)jinja__n_cp(s) + 1;
    else
        for (size_t at = 0; (at = jinja__search(s, part, at)) != SIZE_MAX; at += part.n) n++;
    *out = jinja__int(n);
    return OK;
}

static Status m_join(JRun *r, JVal *out, JVal v, const JArgs *a) {
    JList *l;
    StrBuf b = {0};
    const JVal *list = jinja__arg(a, 0, NULL);
    if (!list) return jinja__fail(r, "join() wants a list");
    TRY(jinja__iter(r, &l, *list));
    for (size_t i = 0; i < l->n; i++) {
        if (l->v[i].kind != JV_STR || b.n > jinja__room(r)) {
            sb_deinit(&b);
            return jinja__fail(r, "join(): %s in the list", jinja__type(l->v[i]));
        }
        if (i) sb_put(&b, v.s.p, v.s.n);
        sb_put(&b, l->v[i].s.p, l->v[i].s.n);
    }
    return jinja__take(r, out, &b);
}

/* ---- padding ---- */

static Status pad(JRun *r, JVal *out, JVal v, const JArgs *a, int left_half, int right_half) {
    enum { MOST = 1 << 20 };
    int64_t width = 0, n = (int64_t)jinja__n_cp(v.s);
    Slice fill = slice_of(" ");
    StrBuf b = {0};
    TRY(jinja__arg_int(r, &width, a, 0, "width"));
    TRY(jinja__arg_str(r, &fill, a, 1, "fillchar"));
    if (jinja__n_cp(fill) != 1) return jinja__fail(r, "a fill of one character is wanted");
    if (width > MOST) return jinja__fail(r, "a width of %lld", (long long)width);
    int64_t need = MAX(0, width - n), left = need * left_half / 2;
    if (left_half && right_half && (need & 1)) left = need / 2 + (width & 1);
    TRY(jinja__step(r, (size_t)need / 16));
    for (int64_t i = 0; i < left; i++) sb_put(&b, fill.p, fill.n);
    sb_put(&b, v.s.p, v.s.n);
    for (int64_t i = left; i < need; i++) sb_put(&b, fill.p, fill.n);
    return jinja__take(r, out, &b);
}
static Status m_ljust(JRun *r, JVal *out, JVal v, const JArgs *a) {
    return pad(r, out, v, a, 0, 2);
}
static Status m_rjust(JRun *r, JVal *out, JVal v, const JArgs *a) {
    return pad(r, out, v, a, 2, 0);
}
static Status m_center(JRun *r, JVal *out, JVal v, const JArgs *a) {
    return pad(r, out, v, a, 1, 1);
}
static Status m_zfill(JRun *r, JVal *out, JVal v, const JArgs *a) {
    enum { MOST = 1 << 20 };
    int64_t width = 0, n = (int64_t)jinja__n_cp(v.s);
    size_t sign = v.s.n && (v.s.p[0] == '-' || v.s.p[0] == '+');
    StrBuf b = {0};
    TRY(jinja__arg_int(r, &width, a, 0, NULL));
    if (width > MOST) return jinja__fail(r, "a width of %lld", (long long)width);
    sb_put(&b, v.s.p, sign);
    for (; n < width; n++) sb_putc(&b, '0');
    sb_put(&b, v.s.p + sign, v.s.n - sign);
    return jinja__take(r, out, &b);
}

static Status m_expandtabs(JRun *r, JVal *out, JVal v, const JArgs *a) {
    int64_t size = 8, column = 0;
    StrBuf b = {0};
    TRY(jinja__arg_int(r, &size, a, 0, "tabsize"));
    if (size > 1000) return jinja__fail(r, "a tab of %lld, the limit is 1000", (long long)size);
    TRY(jinja__step(r, v.s.n));
    for (size_t i = 0; i < v.s.n && b.n <= jinja__room(r); i++) {
        char c = v.s.p[i];
        int64_t n = c == '\t' && size > 0 ? size - column % size : 0;
        for (int64_t k = 0; k < n; k++) sb_putc(&b, ' ');
        if (c != '\t') sb_putc(&b, c);
        column += n + (c != '\t' && ((unsigned char)c & 0xc0) != 0x80);
        if (c == '\n' || c == '\r') column = 0;
    }
    return jinja__take(r, out, &b);
}

static Status m_format(JRun *r, JVal *out, JVal v, const JArgs *a) {
    return jinja__format(r, out, v.s, a);
}
static Status m_format_map(JRun *r, JVal *out, JVal v, const JArgs *a) {
    JArgs named = {0};
    if (a->v[0].kind != JV_DICT) return jinja__fail(r, "format_map() wants a dict");
    const JDict *d = a->v[0].dict;
    TRY(jinja__alloc(r, &named.name, d->n + 1, sizeof *named.name));
    TRY(jinja__alloc(r, &named.kw, d->n + 1, sizeof *named.kw));
    for (size_t i = 0; i < d->n; i++) {
        if (d->key[i].kind != JV_STR) continue;
        named.name[named.n_kw] = d->key[i].s;
        named.kw[named.n_kw++] = d->val[i];
    }
    return jinja__format(r, out, v.s, &named);
}

const JCallRow jinja__text_methods[] = {{"strip", m_strip, "/chars", 0},
                                        {"lstrip", m_lstrip, "/chars", 0},
                                        {"rstrip", m_rstrip, "/chars", 0},
                                        {"split", m_split, "sep maxsplit", 0},
                                        {"rsplit", m_rsplit, "sep maxsplit", 0},
                                        {"splitlines", m_splitlines, "keepends", 0},
                                        {"partition", m_partition, "/sep", 1},
                                        {"rpartition", m_rpartition, "/sep", 1},
                                        {"startswith", m_startswith, "/prefix start end", 1},
                                        {"endswith", m_endswith, "/suffix start end", 1},
                                        {"removeprefix", m_removeprefix, "/prefix", 1},
                                        {"removesuffix", m_removesuffix, "/suffix", 1},
                                        {"replace", m_replace, "/old new count", 2},
                                        {"find", m_find, "/sub start end", 1},
                                        {"rfind", m_rfind, "/sub start end", 1},
                                        {"index", m_index, "/sub start end", 1},
                                        {"rindex", m_rindex, "/sub start end", 1},
                                        {"count", m_count, "/sub start end", 1},
                                        {"join", m_join, "/iterable", 1},
                                        {"format", m_format, "*", 0},
                                        {"format_map", m_format_map, "/mapping", 1},
                                        {"ljust", m_ljust, "/width fillchar", 1},
                                        {"rjust", m_rjust, "/width fillchar", 1},
                                        {"center", m_center, "/width fillchar", 1},
                                        {"zfill", m_zfill, "/width", 1},
                                        {"expandtabs", m_expandtabs, "tabsize", 0},
                                        {NULL, NULL, NULL, 0}};
