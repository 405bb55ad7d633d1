/* SPDX-License-Identifier: Apache-2.0
 * The kinds of values: fixed ones, strings, numbers, arrays, objects. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/grammar/schema.h"

static Node *seq(Schema *s, Node *a, Node *b, Node *d) {
    return grammar__seq(&s->c, (Node *[]){a, b, d}, 3);
}

static void refuse(Schema *s, const Where *at, const char *what) {
    grammar__fail(&s->c, at, ERR_UNSUPPORTED, "%s", what);
}

static Parts *new_parts(Schema *s) {
    Parts *p = mem_new(Parts);
    if (!p && s->c.st == OK) s->c.st = err_set(s->c.e, ERR_NOMEM, "grammar: schema");
    return p;
}

/* The value of parts; of no parts, any. */
static Node *any_or(Schema *s, const Parts *p) {
    return p->n ? grammar__schema_value(s, p) : grammar__json_value(&s->c, &s->json);
}

/* ---- enum, const ---- */

static void write(JsonW *w, const char *key, const Json *v);

static void write_members(JsonW *w, const Json *v) {
    const Json *m;
    Slice key;
    for (void *it = NULL; (it = json_next(v, it, &key, &m));) write(w, key.p, m);
}

static void write(JsonW *w, const char *key, const Json *v) {
    switch (json_kind(v)) {
    case JSON_KIND_NULL: jw_null(w, key); break;
    case JSON_KIND_BOOL: jw_bool(w, key, json_bool(v)); break;
    case JSON_KIND_INT: jw_int(w, key, json_int(v)); break;
    case JSON_KIND_REAL: jw_num(w, key, json_num(v)); break;
    case JSON_KIND_STR: jw_str(w, key, json_str(v)); break;
    case JSON_KIND_ARRAY:
        jw_arr(w, key);
        for (size_t i = 0; i < json_len(v); i++) write(w, NULL, json_at(v, i));
        jw_end_arr(w);
        break;
    case JSON_KIND_OBJECT:
        jw_obj(w, key);
        write_members(w, v);
        jw_end_obj(w);
        break;
    }
}

static void text_of(StrBuf *b, const Json *v) {
    JsonW w;
    sb_clear(b);
    jw_init(&w, b);
    write(&w, NULL, v);
}

static uint32_t type_of(const Json *v) {
    static const uint32_t bits[] = {[JSON_KIND_NULL] = TYPE_NULL,    [JSON_KIND_BOOL] = TYPE_BOOL,
                                    [JSON_KIND_INT] = TYPE_INT,      [JSON_KIND_REAL] = TYPE_NUM,
                                    [JSON_KIND_STR] = TYPE_STR,      [JSON_KIND_ARRAY] = TYPE_ARRAY,
                                    [JSON_KIND_OBJECT] = TYPE_OBJECT};
    double d = json_num(v);
    return json_kind(v) == JSON_KIND_REAL && d == floor(d) ? TYPE_INT : bits[json_kind(v)];
}

/* How many comparisons it takes to find n values in all enums; 0 where there is one list only. */
static size_t n_compared(const Flat *f, size_t n) {
    size_t lists = 0, values = 0;
    for (int i = 0; i < f->parts.n; i++) {
        const Json *j = f->parts.v[i].j, *v, *list = json_get(j, "enum");
        Slice key;
        for (void *it = NULL; (it = json_next(j, it, &key, &v));)
            lists += slice_eq_str(key, "enum") || slice_eq_str(key, "const");
        values += json_len(list);
    }
    return lists > 1 ? n * (values + 1) : 0;
}

/* Whether every enum and const of the conjunction has this value, by its text. */
static bool in_all(const Flat *f, Slice text, StrBuf *b) {
    for (int i = 0; i < f->parts.n; i++) {
        const Json *list = json_get(f->parts.v[i].j, "enum"), *v;
        Slice key;
        bool found = !list;
        for (size_t k = 0; k < json_len(list) && !found; k++) {
            text_of(b, json_at(list, k));
            found = slice_eq((Slice){sb_str(b), b->n}, text);
        }
        for (void *it = NULL; found && (it = json_next(f->parts.v[i].j, it, &key, &v));) {
            if (!slice_eq_str(key, "const")) continue;
            text_of(b, v);
            found = slice_eq((Slice){sb_str(b), b->n}, text);
        }
        if (!found) return false;
    }
    return true;
}

static bool within(const Flat *f, const Json *v) {
    double d = json_num(v), q = f->multiple > 0 ? d / f->multiple : 0;
    JsonKind k = json_kind(v);
    if (k != JSON_KIND_INT && k != JSON_KIND_REAL) return true;
    if (f->lo.given && (d < f->lo.v || (f->lo.strict && d == f->lo.v))) return false;
    if (f->hi.given && (d > f->hi.v || (f->hi.strict && d == f->hi.v))) return false;
    return q == floor(q);
}

/* Keywords a fixed value would have to be checked against, and is not. */
static bool checkable(const Flat *f, const Json *v) {
    JsonKind k = json_kind(v);
    if (k == JSON_KIND_STR) return !f->len_at && !f->pattern_at && !f->format_at;
    if (k != JSON_KIND_ARRAY && k != JSON_KIND_OBJECT) return true;
    for (int i = 0; i < f->parts.n; i++) {
        const Json *j = f->parts.v[i].j;
        if (json_get(j, "properties") || json_get(j, "required") ||
            json_get(j, "additionalProperties") || json_get(j, "items") ||
            json_get(j, "prefixItems"))
            return false;
    }
    return !f->items_at && !f->props_at;
}

Node *grammar__schema_fixed(Schema *s, const Flat *f) {
    size_t n = f->is_const ? 1 : json_len(f->fixed), m = 0, work = n_compared(f, n);
    StrBuf one = {0}, other = {0};
    Slice *w = mem_new_n(Slice, n);
    if (work > 1000000)
        grammar__fail(&s->c, f->fixed_at, ERR_FULL, "too many values in several enums to compare");
    for (size_t i = 0; w && i < n && !grammar__failed(&s->c); i++) {
        const Json *v = f->is_const ? f->fixed : json_at(f->fixed, i);
        if (!(type_of(v) & f->types) || !within(f, v)) continue;
        if (!checkable(f, v))
            refuse(s, f->fixed_at, "together with other limits of the same value");
        text_of(&one, v);
        if (work && !in_all(f, (Slice){sb_str(&one), one.n}, &other)) continue;
        w[m++] = (Slice){arena_dup(&s->c.arena, sb_str(&one), one.n), one.n};
    }
    if ((!w || one.failed || other.failed) && s->c.st == OK)
        s->c.st = err_set(s->c.e, ERR_NOMEM, "grammar: enum");
    Node *k = grammar__failed(&s->c) ? grammar__none(&s->c) : grammar__words(&s->c, w, m);
    mem_free(w);
    sb_deinit(&one);
    sb_deinit(&other);
    return k;
}

/* ---- strings ---- */

static const struct {
    const char *name, *pattern;
} formats[] = {
#define MONTH_DAY                                                                                  \
    "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-" \
    "9]|2[0-8]))"
#define DATE "[0-9]{3}[1-9]-" MONTH_DAY
#define TIME                                                                                       \
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]" \
    ")"
#define BYTE "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?"
    {"date", DATE},
    {"time", TIME},
    {"date-time", DATE "T" TIME},
    {"duration", "P([0-9]{1,4}W|[0-9]{1,4}D(T[0-9]{1,4}[HMS])?|T[0-9]{1,4}[HMS])"},
    {"uuid", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"},
    {"email",
     "[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,16}){0,2}@(" LABEL "\\.){1,3}[A-Za-z]{2,12}"},
    {"hostname", "(" LABEL "\\.){0,4}" LABEL},
    {"ipv4", BYTE "(\\." BYTE "){3}"},
    {"ipv6", "[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7}"},
};

static Node *formatted(Schema *s, const Flat *f) {
    for (size_t i = 0; i < COUNT_OF(formats); i++)
        if (slice_eq_str(f->format, formats[i].name))
            return grammar__regex(&s->c, slice_of(formats[i].pattern), f->format_at, true, false);
    grammar__fail(&s->c, f->format_at, ERR_UNSUPPORTED, "format \"%.*s\" is not supported",
                  (int)MIN(f->format.n, (size_t)40), f->format.p);
    return grammar__none(&s->c);
}

Node *grammar__schema_string(Schema *s, const Flat *f) {
    Node *in;
    int kinds = (f->len_at != NULL) + (f->pattern_at != NULL) + (f->format_at != NULL);
    if (kinds == 0) return grammar__json_str(&s->c, &s->json);
    if (kinds > 1) {
        refuse(s, f->pattern_at ? f->pattern_at : f->format_at,
               "together with another limit of the string");
        return grammar__none(&s->c);
    }
    if (f->max_len != GRAMMAR_INF && f->min_len > f->max_len) return grammar__none(&s->c);
    if (f->pattern_at) in = grammar__regex(&s->c, f->pattern, f->pattern_at, true, true);
    else if (f->format_at) in = formatted(s, f);
    else in = grammar__repeat(&s->c, grammar__json_char(&s->c), f->min_len, f->max_len, f->len_at);
    return grammar__call(&s->c, grammar__json_quoted(&s->c, in), f->at);
}

/* ---- numbers ---- */

/* k if m is 10 to the k, for k from -12 to 12; else 99. */
static int power_of_ten(double m) {
    double p = 1e-12;
    for (int k = -12; k <= 12; k++) {
        char buf[16];
        snprintf(buf, sizeof buf, "1e%d", k);
        if (str_to_f64(&p, buf) && p == m) return k;
    }
    return 99;
}

Node *grammar__schema_number(Schema *s, const Flat *f, uint32_t types) {
    int64_t m = 0;
    int n_frac = 16, k = f->multiple > 0 ? power_of_ten(f->multiple) : 0;
    if (f->multiple > 0 && f->multiple == floor(f->multiple) && f->multiple < 1e15)
        m = (int64_t)f->multiple;
    if (f->multiple > 0 && !m && (k == 99 || k > 0)) {
        refuse(s, f->multiple_at, "only whole numbers and 0.1, 0.01 ... are supported");
        return grammar__none(&s->c);
    }
    if (k < 0) n_frac = -k;
    if (!(types & TYPE_NUM) || m > 0) { /* multiples of 0.01 and the like hold for integers */
        Node *i = grammar__integers(&s->c, &s->json, &f->lo, &f->hi, m, f->multiple_at);
        return types & TYPE_INT ? grammar__call(&s->c, i, f->at) : grammar__none(&s->c);
    }
    if (!f->lo.given && !f->hi.given && k == 0) return grammar__json_number(&s->c, &s->json);
    return grammar__call(&s->c, grammar__decimals(&s->c, &f->lo, &f->hi, n_frac), f->at);
}

/* ---- arrays ---- */

/* What element i has to fulfil: prefixItems[i], else items, of every part. False: none is possible there. */
static bool item_parts(Schema *s, const Flat *f, size_t i, Parts *out) {
    out->n = 0;
    for (int k = 0; k < f->parts.n; k++) {
        const Part *p = &f->parts.v[k];
        const Json *items = json_get(p->j, "items"), *prefix = json_get(p->j, "prefixItems");
        const char *key = "prefixItems";
        if (!prefix && json_is_array(items)) {
            prefix = items;
            items = NULL;
            key = "items";
        }
        const Json *v = json_at(prefix, i);
        const Where *at = grammar__schema_at(s, p->at, v ? key : "items");
        if (v) at = grammar__where(&s->c, at, (Slice){0}, i);
        else v = items;
        if (v && !grammar__schema_add(s, out, (Part){.j = v, .at = at})) return false;
    }
    return true;
}

static size_t n_prefix(const Flat *f, bool *items) {
    size_t n = 0;
    *items = false;
    for (int k = 0; k < f->parts.n; k++) {
        const Json *p = json_get(f->parts.v[k].j, "prefixItems"),
                   *i = json_get(f->parts.v[k].j, "items");
        n = MAX(n, json_is_array(p) ? json_len(p) : 0);
        if (json_is_array(i)) n = MAX(n, json_len(i));
        else if (i) *items = true;
    }
    return n;
}

/* Behind a call where it is used more than once. */
static Node *item(Schema *s, const Flat *f, size_t i, bool call) {
    Parts *p = arena_new(&s->c.arena, Parts);
    if (!p || !item_parts(s, f, i, p)) return grammar__none(&s->c);
    if (p->n == 0) return grammar__json_value(&s->c, &s->json);
    Node *k = grammar__schema_value(s, p);
    return call && k->kind != NODE_FAIL && k->kind != NODE_REF ? grammar__call(&s->c, k, p->v[0].at)
                                                               : k;
}

/* From the last to the first: after element i there may be more only if there are those before. */
static Node *tuple(Schema *s, const Flat *f, size_t n, Node *rest) {
    Comp *c = &s->c;
    for (size_t i = n; i-- > 0 && !grammar__failed(c);) {
        Node *one = item(s, f, i, false);
        Node *sep = i ? grammar__json_sep(c, &s->json) : grammar__empty(c);
        rest = seq(s, sep, one, rest);
        if ((int64_t)i >= f->min_items) rest = grammar__repeat(c, rest, 0, 1, NULL);
    }
    return rest;
}

Node *grammar__schema_array(Schema *s, const Flat *f) {
    enum { MAX_PREFIX = 64 };
    Comp *c = &s->c;
    bool items;
    int64_t max = f->max_items;
    size_t n = n_prefix(f, &items);
    Node *list;
    if (n > MAX_PREFIX)
        grammar__fail(c, f->at, ERR_FULL, "%zu prefixItems, limit %d", n, (int)MAX_PREFIX);
    if (n && !items && f->min_items <= (int64_t)n && max == GRAMMAR_INF)
        max = (int64_t)n; /* a tuple */
    if (max != GRAMMAR_INF && f->min_items > max) return grammar__none(c);
    if (grammar__failed(c)) return grammar__none(c);
    if (max != GRAMMAR_INF && (int64_t)n > max) n = (size_t)max;
    if (n == 0 && !items && !f->items_at) return grammar__json_array(c, &s->json);
    bool often = n == 0 || f->min_items > 1 || (max != GRAMMAR_INF && max > 1);
    Node *one = max == (int64_t)n ? grammar__none(c) : item(s, f, n, often);
    if (n == 0) {
        if (one->kind == NODE_FAIL) max = 0;
        if (max == 0 && f->min_items > 0) return grammar__none(c);
        list = grammar__json_list(c, &s->json, one, f->min_items, max, f->items_at);
    } else {
        int64_t least = MAX(f->min_items - (int64_t)n, 0),
                most = max == GRAMMAR_INF ? max : max - (int64_t)n;
        Node *more = seq(s, grammar__json_sep(c, &s->json), one, grammar__empty(c));
        list = tuple(s, f, n, grammar__repeat(c, more, least, most, f->items_at));
    }
    if (list->kind == NODE_FAIL) return list;
    return grammar__json_brackets(c, &s->json, "[", list, "]");
}

/* ---- objects ---- */

/* Whether an earlier part declares the property. */
static bool declared_before(const Flat *f, int part, const char *name) {
    for (int k = 0; k < part; k++)
        if (json_get(json_get(f->parts.v[k].j, "properties"), name)) return true;
    return false;
}

/* What a member has to fulfil: its schema in parts that declare it, additionalProperties of the others. With name
 * NULL what an undeclared one has to. */
static bool member_parts(Schema *s, const Flat *f, const char *name, Parts *out) {
    out->n = 0;
    for (int k = 0; k < f->parts.n; k++) {
        const Part *p = &f->parts.v[k];
        const Json *v = name ? json_get(json_get(p->j, "properties"), name) : NULL;
        const Where *at = grammar__schema_at(s, p->at, v ? "properties" : "additionalProperties");
        if (v) at = grammar__schema_at(s, at, name);
        else v = json_get(p->j, "additionalProperties");
        if (v && !grammar__schema_add(s, out, (Part){.j = v, .at = at})) return false;
    }
    return true;
}

static Node *member_value(Schema *s, const Flat *f, const char *name) {
    Parts *p = new_parts(s);
    Node *k = grammar__none(&s->c);
    if (p && member_parts(s, f, name, p)) k = any_or(s, p);
    mem_free(p);
    return k;
}

static bool is_required(const Flat *f, Slice name) {
    for (int k = 0; k < f->parts.n; k++) {
        const Json *list = json_get(f->parts.v[k].j, "required");
        for (size_t i = 0; i < json_len(list); i++)
            if (slice_eq(json_str(json_at(list, i)), name)) return true;
    }
    return false;
}

typedef struct Members {
    NodeList nodes;
    bool *needed; /* owned */
    Slice *names; /* owned, borrowed texts */
    uint32_t n, cap, cap_names;
    bool impossible; /* a required member has no value */
} Members;

static void add_member(Schema *s, const Flat *f, Members *m, Slice name) {
    StrBuf b = {0};
    JsonW w;
    bool needed = is_required(f, name);
    Node *v = member_value(s, f, name.p);
    if (v->kind == NODE_FAIL) m->impossible |= needed;
    jw_init(&w, &b);
    jw_str(&w, NULL, name);
    Node *key = grammar__bytes(&s->c, (Slice){sb_str(&b), b.n});
    bool ok = !b.failed;
    sb_deinit(&b);
    ok = ok && grammar__grow((void **)&m->needed, &m->cap, (size_t)m->n + 1, sizeof *m->needed) &&
         grammar__grow((void **)&m->names, &m->cap_names, (size_t)m->n + 1, sizeof *m->names);
    if (!ok && s->c.st == OK) s->c.st = err_set(s->c.e, ERR_NOMEM, "grammar: properties");
    if (grammar__failed(&s->c)) return;
    m->needed[m->n] = needed;
    m->names[m->n++] = name;
    if (v->kind == NODE_FAIL) { /* known, so that it is no additional one, but never there */
        grammar__push(&s->c, &m->nodes, v);
        return;
    }
    grammar__push(&s->c, &m->nodes, grammar__json_member(&s->c, &s->json, key, v));
}

static void collect(Schema *s, const Flat *f, Members *m) {
    for (int k = 0; k < f->parts.n; k++) {
        const Part *p = &f->parts.v[k];
        const Json *props = json_get(p->j, "properties"), *req = json_get(p->j, "required"), *v;
        Slice key;
        if (props && !json_is_object(props))
            grammar__fail(&s->c, grammar__schema_at(s, p->at, "properties"), ERR_FORMAT,
                          "an object is needed");
        if (req && !json_is_array(req))
            grammar__fail(&s->c, grammar__schema_at(s, p->at, "required"), ERR_FORMAT,
                          "a list is needed");
        for (void *it = NULL; !grammar__failed(&s->c) && (it = json_next(props, it, &key, &v));)
            if (!declared_before(f, k, key.p)) add_member(s, f, m, key);
    }
    for (int k = 0; k < f->parts.n; k++) { /* required, but described nowhere */
        const Json *req = json_get(f->parts.v[k].j, "required");
        for (size_t i = 0; i < json_len(req) && !grammar__failed(&s->c); i++) {
            Slice name = json_str(json_at(req, i));
            bool known = false;
            for (uint32_t x = 0; x < m->n && !known; x++) known = slice_eq(m->names[x], name);
            if (strlen(name.p) != name.n)
                refuse(s, grammar__schema_at(s, f->parts.v[k].at, "required"),
                       "a name with a zero byte");
            if (!known) add_member(s, f, m, name);
        }
    }
}

static int by_bytes(const void *x, const void *y) {
    const Slice *a = x, *b = y;
    int d = memcmp(a->p, b->p, MIN(a->n, b->n));
    return d ? d : (a->n > b->n) - (a->n < b->n);
}

/* Keys other than names[0..n), which share their first `at` bytes, from there on. Each character has one
 * spelling, or a name could hide behind an escape. Compared code point by code point. */
static Node *other_keys(Schema *s, const Slice *names, size_t n, size_t at, Node *any) {
    Comp *c = &s->c;
    SetBuild taken = {0};
    NodeList alts = {0};
    size_t i = 0;
    if (names[0].n == at) i = 1; /* ending here would be one of them */
    else grammar__push(c, &alts, grammar__empty(c));
    while (i < n && !grammar__failed(c)) {
        SetBuild one = {0};
        uint8_t lead = (uint8_t)names[i].p[at];
        size_t len = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4, k = i + 1;
        uint32_t cp = lead < 0x80 ? lead : lead & (0xffu >> (len + 1));
        for (size_t x = 1; x < len; x++) cp = cp << 6 | ((uint8_t)names[i].p[at + x] & 0x3f);
        while (k < n && names[k].n >= at + len &&
               memcmp(names[k].p + at, names[i].p + at, len) == 0)
            k++;
        grammar__set_add(c, &taken, cp, cp);
        grammar__set_add(c, &one, cp, cp);
        Node *rest = other_keys(s, names + i, k - i, at + len, any);
        Node *first = grammar__json_set(c, grammar__set_take(c, &one, false));
        grammar__push(c, &alts, seq(s, first, rest, grammar__empty(c)));
        i = k;
    }
    Node *other = grammar__json_set(c, grammar__set_take(c, &taken, true));
    grammar__push(c, &alts, seq(s, other, any, grammar__empty(c)));
    Node *k = grammar__alt(c, alts.v, alts.n);
    mem_free(alts.v);
    return k;
}

static Node *additional_key(Schema *s, const Flat *f, Members *m) {
    enum { MAX_NAME = 128 };
    SetBuild none = {0};
    if (m->n == 0) return grammar__json_str(&s->c, &s->json);
    for (uint32_t i = 0; i < m->n; i++)
        if (m->names[i].n > MAX_NAME) {
            refuse(s, f->at, "additionalProperties beside a property name of over 128 bytes");
            return grammar__none(&s->c);
        }
    qsort(m->names, m->n, sizeof *m->names, by_bytes);
    Node *any = grammar__json_set(&s->c, grammar__set_take(&s->c, &none, true));
    Node *tail = grammar__repeat(&s->c, any, 0, GRAMMAR_INF, NULL);
    Node *in = other_keys(s, m->names, m->n, 0, tail);
    return grammar__call(&s->c, grammar__json_quoted(&s->c, in), f->at);
}

/* Members beyond the declared ones: wanted where additionalProperties says so, or nothing is declared. */
static bool is_open(const Flat *f, bool declared) {
    bool said = false;
    for (int k = 0; k < f->parts.n; k++) {
        const Json *v = json_get(f->parts.v[k].j, "additionalProperties");
        if (json_kind(v) == JSON_KIND_BOOL && !json_bool(v)) return false;
        said |= v != NULL;
    }
    return said || !declared;
}

static Node *members_node(Schema *s, Members *m, Node *more) {
    Comp *c = &s->c;
    Node *k = grammar__empty(c);
    if (grammar__failed(c) || (m->n == 0 && !more)) return k;
    Node *out = arena_new(&c->arena, Node);
    if (!out) return k;
    *out = (Node){.kind = NODE_MEMBERS, .more = more, .sep = grammar__json_sep(c, &s->json)};
    out->kid = arena_new_n(&c->arena, Node *, m->n);
    out->needed = arena_new_n(&c->arena, bool, m->n);
    for (uint32_t i = 0; out->kid && out->needed && i < m->n; i++) {
        if (m->nodes.v[i]->kind == NODE_FAIL) continue;
        out->kid[out->n] = m->nodes.v[i];
        out->needed[out->n++] = m->needed[i];
    }
    return out->n || more ? out : k;
}

static Node *object(Schema *s, const Flat *f, Members *m) {
    Comp *c = &s->c;
    collect(s, f, m);
    bool open = is_open(f, m->n > 0);
    if (m->n && f->props_at) refuse(s, f->props_at, "together with properties");
    if (grammar__failed(c) || m->impossible) return grammar__none(c);
    if (f->max_props != GRAMMAR_INF && f->min_props > f->max_props) return grammar__none(c);
    Node *v = open ? member_value(s, f, NULL) : grammar__none(c), *more = NULL, *list;
    bool free = v->kind == NODE_REF && s->json.value && v->rule == s->json.value - 1;
    if (m->n == 0 && free && !f->props_at) return grammar__json_object(c, &s->json);
    if (v->kind != NODE_FAIL) {
        Node *key = additional_key(s, f, m);
        more = grammar__json_member(c, &s->json, key, v);
        if (f->props_at) more = grammar__call(c, more, f->props_at);
    }
    if (m->n == 0 && !more && f->min_props > 0) return grammar__none(c);
    /* the names are sorted by now, the nodes are in the schema's order */
    if (m->n || !more) list = members_node(s, m, more);
    else list = grammar__json_list(c, &s->json, more, f->min_props, f->max_props, f->props_at);
    return grammar__json_brackets(c, &s->json, "{", list, "}");
}

Node *grammar__schema_object(Schema *s, const Flat *f) {
    Members m = {0};
    Node *k = object(s, f, &m);
    mem_free(m.nodes.v);
    mem_free(m.needed);
    mem_free(m.names);
    return k;
}
