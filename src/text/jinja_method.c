/* SPDX-License-Identifier: Apache-2.0
 *
 * Methods of strings, dicts, lists and loops. Those that would change a value are not there: a call of one fails as
 * in Jinja's sandbox.
 */
#include "text/jinja_internal.h"
#include "text/ucd.h"
#include "text/utf8.h"

typedef Status (*MethodFn)(JRun *r, JVal *out, JVal self, const JArgs *a);

/* ---- strings: case ---- */

static uint32_t recase(uint32_t cp, char how, bool first) {
    switch (how) {
    case 'u': return ucd_upper(cp);
    case 'l': return ucd_lower(cp);
    case 's': return ucd_class(cp) & UCD_LU ? ucd_lower(cp) : ucd_upper(cp);
    default: return first ? ucd_title(cp) : ucd_lower(cp);
    }
}

Status jinja__case(JRun *r, JVal *out, Slice s, char how) {
    StrBuf b = {0};
    bool first = true;
    TRY(jinja__step(r, s.n / 16));
    for (size_t i = 0; i < s.n;) {
        uint32_t cp = 0xfffd;
        char u[4];
        int n = MAX(1, utf8_decode(&cp, s.p + i, s.n - i));
        if (cp == 0xdf && (how == 'u' || how == 's')) sb_puts(&b, "SS");
        else sb_put(&b, u, (size_t)utf8_encode(u, recase(cp, how, first)));
        first = how == 't' && !(ucd_class(cp) & (UCD_LU | UCD_LL | UCD_LT));
        i += (size_t)n;
    }
    return jinja__take(r, out, &b);
}

static Status m_upper(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return jinja__case(r, out, v.s, 'u');
}
static Status m_lower(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return jinja__case(r, out, v.s, 'l');
}
static Status m_title(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return jinja__case(r, out, v.s, 't');
}
static Status m_capitalize(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return jinja__case(r, out, v.s, 'c');
}
static Status m_swapcase(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return jinja__case(r, out, v.s, 's');
}

/* ---- strings: ends ---- */

static Status strip(JRun *r, JVal *out, JVal v, const JArgs *a, bool left, bool right) {
    const JVal *set = jinja__arg(a, 0, NULL);
    Slice chars = {0};
    TRY(jinja__step(r, v.s.n / 64));
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

static Status ends(JRun *r, JVal *out, JVal v, const JArgs *a, bool tail) {
    const JVal *part = jinja__arg(a, 0, NULL);
    bool yes = false;
    if (part && part->kind == JV_LIST && part->list->kind == JL_TUPLE) {
        for (size_t i = 0; i < part->list->n; i++)
            yes |= part->list->v[i].kind == JV_STR && has_end(v.s, part->list->v[i].s, tail);
    } else if (part && part->kind == JV_STR) {
        yes = has_end(v.s, part->s, tail);
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

/* ---- strings: parts ---- */

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

static Status m_rsplit(JRun *r, JVal *out, JVal v, const JArgs *a) {
    Slice by = {0}, s = v.s;
    int64_t max = -1;
    TRY(jinja__step(r, v.s.n / 16));
    TRY(jinja__arg_str(r, &by, a, 0, "sep"));
    TRY(jinja__arg_int(r, &max, a, 1, "maxsplit"));
    if (max < 0) return m_split(r, out, v, a);
    if (by.n == 0) return jinja__fail(r, "rsplit() wants a str to split by");
    TRY(jinja__list(r, out, JL_LIST, 0));
    for (; max != 0; max--) {
        size_t at = search_back(s, by);
        if (at == SIZE_MAX) break;
        TRY(push_text(r, out->list, s, at + by.n, s.n));
        s.n = at;
    }
    TRY(push_text(r, out->list, s, 0, s.n));
    JList *l = out->list;
    for (size_t i = 0; i < l->n / 2; i++) {
        JVal t = l->v[i];
        l->v[i] = l->v[l->n - 1 - i];
        l->v[l->n - 1 - i] = t;
    }
    return OK;
}

static Status partition(JRun *r, JVal *out, JVal v, const JArgs *a, bool back) {
    Slice by = {0}, s = v.s;
    TRY(jinja__step(r, s.n / 16));
    TRY(jinja__arg_str(r, &by, a, 0, NULL));
    if (by.n == 0) return jinja__fail(r, "partition() by an empty str");
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

static Status m_splitlines(JRun *r, JVal *out, JVal v, const JArgs *a) {
    bool keep = jinja__arg_bool(a, 0, "keepends", false);
    Slice s = v.s;
    size_t from = 0;
    TRY(jinja__list(r, out, JL_LIST, 0));
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '\n' && s.p[i] != '\r') continue;
        size_t end = i + (s.p[i] == '\r' && i + 1 < s.n && s.p[i + 1] == '\n');
        TRY(push_text(r, out->list, s, from, keep ? end + 1 : i));
        i = end;
        from = end + 1;
    }
    return from < s.n ? push_text(r, out->list, s, from, s.n) : OK;
}

static Status put_replaced(JRun *r, StrBuf *b, Slice s, Slice old, Slice by, int64_t max) {
    size_t from = 0;
    for (; max != 0; max--) {
        size_t at = jinja__search(s, old, from);
        if (at == SIZE_MAX) break;
        TRY(jinja__step(r, 1 + by.n / 64));
        if (b->n > r->max_mem) return jinja__fail(r, "a text too long");
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
    Slice part = {0};
    TRY(jinja__step(r, v.s.n / 16));
    TRY(jinja__arg_str(r, &part, a, 0, NULL));
    size_t at = back ? search_back(v.s, part) : jinja__search(v.s, part, 0);
    *out = jinja__int(at == SIZE_MAX ? -1 : (int64_t)jinja__n_cp((Slice){v.s.p, at}));
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

static Status m_count(JRun *r, JVal *out, JVal v, const JArgs *a) {
    Slice part = {0};
    int64_t n = 0;
    TRY(jinja__step(r, v.s.n / 16));
    TRY(jinja__arg_str(r, &part, a, 0, NULL));
    if (part.n == 0) n = (int64_t)jinja__n_cp(v.s) + 1;
    else
        for (size_t at = 0; (at = jinja__search(v.s, part, at)) != SIZE_MAX; at += part.n) n++;
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
        if (l->v[i].kind != JV_STR || b.n > r->max_mem) {
            sb_deinit(&b);
            return jinja__fail(r, "join(): %s in the list", jinja__type(l->v[i]));
        }
        if (i) sb_put(&b, v.s.p, v.s.n);
        sb_put(&b, l->v[i].s.p, l->v[i].s.n);
    }
    return jinja__take(r, out, &b);
}

/* True where every character is of the set, and there is one. */
static Status all_of(JRun *r, JVal *out, JVal v, UcdSet set) {
    bool yes = v.s.n > 0;
    TRY(jinja__step(r, v.s.n / 16));
    for (size_t i = 0; i < v.s.n && yes;) {
        uint32_t cp = 0xfffd;
        int n = MAX(1, utf8_decode(&cp, v.s.p + i, v.s.n - i));
        yes = set == UCD_SPACE ? jinja__is_space(cp) : (ucd_class(cp) & set) != 0;
        i += (size_t)n;
    }
    *out = jinja__bool(yes);
    return OK;
}
static Status m_isalpha(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return all_of(r, out, v, UCD_L);
}
static Status m_isdigit(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return all_of(r, out, v, 1 << 9);
}
static Status m_isalnum(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return all_of(r, out, v, UCD_L | 1 << 9);
}
static Status m_isspace(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return all_of(r, out, v, UCD_SPACE);
}

/* Some letter has a case, and none the other. */
static Status one_case(JRun *r, JVal *out, JVal v, UcdSet want) {
    bool any = false, other = false;
    TRY(jinja__step(r, v.s.n / 16));
    for (size_t i = 0; i < v.s.n;) {
        uint32_t cp = 0xfffd;
        int n = MAX(1, utf8_decode(&cp, v.s.p + i, v.s.n - i));
        UcdSet c = ucd_class(cp) & (UCD_LU | UCD_LL | UCD_LT);
        any |= (c & want) != 0;
        other |= (c & ~want) != 0;
        i += (size_t)n;
    }
    *out = jinja__bool(any && !other);
    return OK;
}
static Status m_isupper(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return one_case(r, out, v, UCD_LU);
}
static Status m_islower(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return one_case(r, out, v, UCD_LL);
}

static Status pad(JRun *r, JVal *out, JVal v, const JArgs *a, int left_half, int right_half) {
    enum { MOST = 1 << 20 };
    int64_t width = 0, n = (int64_t)jinja__n_cp(v.s);
    Slice fill = slice_of(" ");
    StrBuf b = {0};
    TRY(jinja__arg_int(r, &width, a, 0, "width"));
    TRY(jinja__arg_str(r, &fill, a, 1, "fillchar"));
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
static Status m_format(JRun *r, JVal *out, JVal v, const JArgs *a) {
    return jinja__format(r, out, v.s, a);
}

/* ---- dicts ---- */

static Status view(JRun *r, JVal *out, JVal v, bool key, bool val) {
    TRY(jinja__list(r, out, JL_VIEW, 0));
    for (size_t i = 0; i < v.dict->n; i++) {
        JVal item = key ? v.dict->key[i] : v.dict->val[i];
        if (key && val) TRY(jinja__pair(r, &item, v.dict->key[i], v.dict->val[i]));
        TRY(jinja__push(r, out->list, item));
    }
    return OK;
}
static Status m_items(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return view(r, out, v, true, true);
}
static Status m_keys(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return view(r, out, v, true, false);
}
static Status m_values(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)a;
    return view(r, out, v, false, true);
}
static Status m_get(JRun *r, JVal *out, JVal v, const JArgs *a) {
    const JVal *usual = jinja__arg(a, 1, NULL);
    JVal *found;
    if (a->n == 0) return jinja__fail(r, "get() wants a key");
    TRY(jinja__find(r, &found, v.dict, a->v[0]));
    *out = found ? *found : usual ? *usual : jinja__none();
    return OK;
}
static Status m_copy(JRun *r, JVal *out, JVal v, const JArgs *a) {
    (void)r;
    (void)a;
    *out = v;
    return OK;
}

/* ---- lists, loops ---- */

static Status l_count(JRun *r, JVal *out, JVal v, const JArgs *a) {
    int64_t n = 0;
    for (size_t i = 0; a->n && i < v.list->n; i++) {
        bool same;
        TRY(jinja__equal(r, &same, v.list->v[i], a->v[0]));
        n += same;
    }
    *out = jinja__int(n);
    return OK;
}
static Status l_index(JRun *r, JVal *out, JVal v, const JArgs *a) {
    for (size_t i = 0; a->n && i < v.list->n; i++) {
        bool same;
        TRY(jinja__equal(r, &same, v.list->v[i], a->v[0]));
        *out = jinja__int((int64_t)i);
        if (same) return OK;
    }
    return jinja__fail(r, "index(): not in the list");
}
static Status loop_cycle(JRun *r, JVal *out, JVal v, const JArgs *a) {
    if (a->n == 0) return jinja__fail(r, "cycle() without items");
    *out = a->v[v.loop->i % a->n];
    return OK;
}
static Status loop_changed(JRun *r, JVal *out, JVal v, const JArgs *a) {
    JVal now;
    bool same = false;
    TRY(jinja__list(r, &now, JL_TUPLE, 0));
    for (size_t i = 0; i < a->n; i++) TRY(jinja__push(r, now.list, a->v[i]));
    if (v.loop->changed.kind == JV_LIST) TRY(jinja__equal(r, &same, v.loop->changed, now));
    v.loop->changed = now;
    *out = jinja__bool(!same);
    return OK;
}
static Status cycler_next(JRun *r, JVal *out, JVal v, const JArgs *a) {
    const JList *l = v.func->self.list;
    (void)r;
    (void)a;
    *out = l->v[v.func->turn++ % l->n];
    return OK;
}

static const struct {
    JKind kind;
    const char *name;
    MethodFn fn;
} methods[] = {{JV_STR, "strip", m_strip},
               {JV_STR, "lstrip", m_lstrip},
               {JV_STR, "rstrip", m_rstrip},
               {JV_STR, "split", m_split},
               {JV_STR, "rsplit", m_rsplit},
               {JV_STR, "splitlines", m_splitlines},
               {JV_STR, "partition", m_partition},
               {JV_STR, "rpartition", m_rpartition},
               {JV_STR, "startswith", m_startswith},
               {JV_STR, "endswith", m_endswith},
               {JV_STR, "removeprefix", m_removeprefix},
               {JV_STR, "removesuffix", m_removesuffix},
               {JV_STR, "upper", m_upper},
               {JV_STR, "lower", m_lower},
               {JV_STR, "casefold", m_lower},
               {JV_STR, "title", m_title},
               {JV_STR, "capitalize", m_capitalize},
               {JV_STR, "swapcase", m_swapcase},
               {JV_STR, "replace", m_replace},
               {JV_STR, "find", m_find},
               {JV_STR, "rfind", m_rfind},
               {JV_STR, "index", m_index},
               {JV_STR, "count", m_count},
               {JV_STR, "join", m_join},
               {JV_STR, "format", m_format},
               {JV_STR, "isalpha", m_isalpha},
               {JV_STR, "isdigit", m_isdigit},
               {JV_STR, "isdecimal", m_isdigit},
               {JV_STR, "isnumeric", m_isdigit},
               {JV_STR, "isalnum", m_isalnum},
               {JV_STR, "isspace", m_isspace},
               {JV_STR, "isupper", m_isupper},
               {JV_STR, "islower", m_islower},
               {JV_STR, "ljust", m_ljust},
               {JV_STR, "rjust", m_rjust},
               {JV_STR, "center", m_center},
               {JV_DICT, "items", m_items},
               {JV_DICT, "keys", m_keys},
               {JV_DICT, "values", m_values},
               {JV_DICT, "get", m_get},
               {JV_DICT, "copy", m_copy},
               {JV_LIST, "count", l_count},
               {JV_LIST, "index", l_index},
               {JV_LIST, "copy", m_copy},
               {JV_LOOP, "cycle", loop_cycle},
               {JV_LOOP, "changed", loop_changed},
               {JV_FUNC, "next", cycler_next}};

/* A list is no receiver where it is a view or lazy, nor a function that is no cycler. */
static bool has_methods(JVal v) {
    if (v.kind == JV_LIST) return v.list->kind == JL_LIST || v.list->kind == JL_TUPLE;
    return v.kind != JV_FUNC || v.func->kind == JF_CYCLER;
}

static MethodFn find_method(JVal v, Slice name) {
    for (size_t i = 0; has_methods(v) && i < COUNT_OF(methods); i++)
        if (methods[i].kind == v.kind && slice_eq_str(name, methods[i].name)) return methods[i].fn;
    return NULL;
}

bool jinja__has_method(JVal v, Slice name) { return find_method(v, name) != NULL; }

Status jinja__method(JRun *r, JVal *out, const JFunc *f, const JArgs *a) {
    MethodFn fn = find_method(f->self, f->name);
    return fn ? fn(r, out, f->self, a) : jinja__fail(r, "no such method");
}
