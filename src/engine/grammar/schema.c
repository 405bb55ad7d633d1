/* SPDX-License-Identifier: Apache-2.0
 * JSON Schema to a tree: one value at a time. What a $ref names is a rule, so recursion is free; rules are compiled
 * from a list, so the depth of C calls is that of the schema's text. Objects have their members in the order of the
 * schema. Every text generated fulfils the schema; not every text that does is generated (docs/grammar.md). */
#include "engine/grammar/schema.h"

#include <stdlib.h>

static Node *none(Schema *s) { return grammar__none(&s->c); }

/* ---- references ---- */

static bool hex2(const char *p, char *out) {
    int v = 0;
    for (int i = 0; i < 2; i++) {
        char l = (char)(p[i] | 32);
        int d = p[i] >= '0' && p[i] <= '9' ? p[i] - '0' : l >= 'a' && l <= 'f' ? l - 'a' + 10 : -1;
        if (d < 0) return false;
        v = v * 16 + d;
    }
    *out = (char)v;
    return true;
}

/* One member name of a pointer, from p[0..n), decoded in place of a copy. */
static char *token(Schema *s, const char *p, size_t n) {
    char *t = arena_dup(&s->c.arena, p, n);
    size_t k = 0;
    for (size_t i = 0; t && i < n; i++, k++) {
        t[k] = p[i];
        if (p[i] == '%' && i + 2 < n && hex2(p + i + 1, &t[k])) i += 2;
        else if (p[i] == '~' && i + 1 < n && (p[i + 1] == '0' || p[i + 1] == '1'))
            t[k] = p[++i] == '0' ? '~' : '/';
    }
    if (t) t[k] = 0;
    return t;
}

static const Json *member(Schema *s, const Json *j, const char *name, const Where **w) {
    int64_t i;
    if (json_is_array(j)) {
        if (!str_to_i64(&i, name) || i < 0) return NULL;
        *w = grammar__where(&s->c, *w, (Slice){0}, (size_t)i);
        return json_at(j, (size_t)i);
    }
    *w = grammar__schema_at(s, *w, name);
    return json_get(j, name);
}

const Json *grammar__schema_find(Schema *s, Slice ptr, const Where *at, const Where **found) {
    const Json *j = s->root;
    const Where *w = grammar__where(&s->c, NULL, (Slice){0}, 0);
    if (ptr.n == 0 || ptr.p[0] != '#' || (ptr.n > 1 && ptr.p[1] != '/')) {
        grammar__fail(&s->c, at, ERR_UNSUPPORTED, "only references to #/... are supported");
        return NULL;
    }
    for (size_t i = 1; i < ptr.n && j;) {
        size_t n = 1;
        while (i + n < ptr.n && ptr.p[i + n] != '/') n++;
        char *name = token(s, ptr.p + i + 1, n - 1);
        if (!name || grammar__failed(&s->c)) return NULL;
        j = member(s, j, name, &w);
        i += n;
    }
    if (!j) grammar__fail(&s->c, at, ERR_FORMAT, "refers to something that is not there");
    *found = w;
    return j;
}

uint32_t grammar__schema_rule(Schema *s, Slice ptr, const Where *at) {
    const Where *found = NULL;
    const Json *target = grammar__schema_find(s, ptr, at, &found);
    if (!target) return 0;
    for (uint32_t i = 0; i < s->n_refs; i++)
        if (s->refs[i].target == target) return s->refs[i].rule;
    uint32_t r = grammar__rule(&s->c, (Slice){"", 0}, found);
    if (!grammar__grow((void **)&s->refs, &s->cap_refs, (size_t)s->n_refs + 1, sizeof *s->refs)) {
        if (s->c.st == OK) s->c.st = err_set(s->c.e, ERR_NOMEM, "grammar: references");
        return 0;
    }
    s->refs[s->n_refs++] = (SchemaRef){.target = target, .at = found, .rule = r};
    return r;
}

/* Whether the schema says nothing but this keyword: then what it leads to can be a rule, and recurse. */
static bool only(const Json *j, const char *keyword) {
    static const char *const idle[] = {"title",    "description", "default",  "examples",
                                       "$defs",    "definitions", "$comment", "deprecated",
                                       "readOnly", "writeOnly",   "$schema",  "$id"};
    const Json *v;
    Slice key;
    if (!json_get(j, keyword)) return false;
    for (void *it = NULL; (it = json_next(j, it, &key, &v));) {
        bool known = slice_eq_str(key, keyword);
        for (size_t i = 0; i < COUNT_OF(idle) && !known; i++) known = slice_eq_str(key, idle[i]);
        if (!known) return false;
    }
    return true;
}

static bool only_ref(const Json *j) { return only(j, "$ref") && json_is_str(json_get(j, "$ref")); }

/* ---- anyOf, oneOf ---- */

/* Whether no value fulfils both: other types, or a member both require has other values. Conservative. */
static bool disjoint(Schema *s, const Flat *x, const Flat *y);

static bool fixed_apart(const Flat *x, const Flat *y) {
    if (!x->fixed || !y->fixed) return false;
    size_t nx = x->is_const ? 1 : json_len(x->fixed), ny = y->is_const ? 1 : json_len(y->fixed);
    for (size_t i = 0; i < nx; i++)
        for (size_t k = 0; k < ny; k++) {
            const Json *a = x->is_const ? x->fixed : json_at(x->fixed, i);
            const Json *b = y->is_const ? y->fixed : json_at(y->fixed, k);
            if (!json_is_str(a) || !json_is_str(b) || slice_eq(json_str(a), json_str(b)))
                return false;
        }
    return true;
}

static bool requires(const Json *j, Slice name) {
    const Json *list = json_get(j, "required");
    for (size_t i = 0; i < json_len(list); i++)
        if (slice_eq(json_str(json_at(list, i)), name)) return true;
    return false;
}

static bool member_apart(Schema *s, const Json *x, const Json *y) {
    const Json *px = json_get(x, "properties"), *py = json_get(y, "properties"), *v;
    Slice key;
    for (void *it = NULL; (it = json_next(px, it, &key, &v));) {
        const Json *w = json_get(py, key.p);
        Flat a, b;
        if (!w || !requires(x, key) || !requires(y, key)) continue;
        Parts pa = {.v = {{.j = v}}, .n = 1}, pb = {.v = {{.j = w}}, .n = 1};
        if (grammar__schema_flatten(s, &a, &pa) && grammar__schema_flatten(s, &b, &pb) &&
            (fixed_apart(&a, &b) || !(a.types & b.types)))
            return true;
    }
    return false;
}

static bool disjoint(Schema *s, const Flat *x, const Flat *y) {
    uint32_t both = x->types & y->types;
    if (!both || fixed_apart(x, y)) return true;
    if (both != TYPE_OBJECT) return false;
    for (int i = 0; i < x->parts.n; i++)
        for (int k = 0; k < y->parts.n; k++)
            if (member_apart(s, x->parts.v[i].j, y->parts.v[k].j)) return true;
    return false;
}

static void check_one_of(Schema *s, const Json *list, const Where *at) {
    enum { MOST = 64 };
    size_t n = json_len(list);
    Flat *f = n <= MOST ? mem_new_n(Flat, n) : NULL;
    if (n > MOST) grammar__fail(&s->c, at, ERR_FULL, "%zu alternatives, limit %d", n, (int)MOST);
    else if (!f) s->c.st = err_set(s->c.e, ERR_NOMEM, "grammar: oneOf");
    for (size_t i = 0; f && i < n && s->c.st == OK; i++) {
        Parts p = {.v = {{.j = json_at(list, i), .at = grammar__where(&s->c, at, (Slice){0}, i)}},
                   .n = 1};
        if (!grammar__schema_flatten(s, &f[i], &p)) break;
        for (size_t k = 0; k < i && s->c.st == OK; k++)
            if (!disjoint(s, &f[i], &f[k]))
                grammar__fail(&s->c, p.v[0].at, ERR_UNSUPPORTED,
                              "may hold together with alternative %zu; use anyOf", k);
    }
    mem_free(f);
}

static Node *choice(Schema *s, const Flat *f) {
    const char *key = f->choice_is_one ? "oneOf" : "anyOf";
    const Json *list = json_get(f->choice->j, key);
    const Where *at = grammar__schema_at(s, f->choice->at, key);
    Parts *p = mem_new(Parts);
    NodeList alts = {0};
    if (!p && s->c.st == OK) s->c.st = err_set(s->c.e, ERR_NOMEM, "grammar: schema");
    if (f->choice_is_one) check_one_of(s, list, at);
    for (size_t i = 0; p && i < json_len(list) && !grammar__failed(&s->c); i++) {
        *p = f->parts;
        for (int k = 0; k < p->n; k++) { /* opened already */
            if (p->v[k].j != f->choice->j) continue;
            if (f->choice_is_one) p->v[k].no_one = true;
            else p->v[k].no_any = true;
        }
        Part part = {.j = json_at(list, i), .at = grammar__where(&s->c, at, (Slice){0}, i)};
        if (p->n == 1 && only(p->v[0].j, key)) p->n = 0;
        if (grammar__schema_add(s, p, part))
            grammar__push(&s->c, &alts, grammar__schema_value(s, p));
    }
    Node *k = grammar__alt(&s->c, alts.v, alts.n);
    mem_free(alts.v);
    mem_free(p);
    return k;
}

/* ---- values ---- */

static Node *by_type(Schema *s, const Flat *f) {
    NodeList alts = {0};
    Slice booleans[] = {{"true", 4}, {"false", 5}};
    if (f->types & TYPE_OBJECT) grammar__push(&s->c, &alts, grammar__schema_object(s, f));
    if (f->types & TYPE_ARRAY) grammar__push(&s->c, &alts, grammar__schema_array(s, f));
    if (f->types & TYPE_STR) grammar__push(&s->c, &alts, grammar__schema_string(s, f));
    if (f->types & (TYPE_INT | TYPE_NUM))
        grammar__push(&s->c, &alts, grammar__schema_number(s, f, f->types));
    if (f->types & TYPE_BOOL) grammar__push(&s->c, &alts, grammar__words(&s->c, booleans, 2));
    if (f->types & TYPE_NULL) grammar__push(&s->c, &alts, grammar__str(&s->c, "null"));
    Node *k = grammar__alt(&s->c, alts.v, alts.n);
    mem_free(alts.v);
    return k;
}

static Node *value(Schema *s, const Parts *in, Flat *f) {
    if (!grammar__schema_flatten(s, f, in)) return none(s);
    if (f->choice) return choice(s, f);
    if (f->fixed) return grammar__schema_fixed(s, f);
    return f->empty ? grammar__json_value(&s->c, &s->json) : by_type(s, f);
}

Node *grammar__schema_value(Schema *s, const Parts *in) {
    if (grammar__failed(&s->c)) return none(s);
    if (in->n == 1 && json_is_object(in->v[0].j) && only_ref(in->v[0].j)) {
        const Where *at = grammar__schema_at(s, in->v[0].at, "$ref");
        return grammar__ref(&s->c,
                            grammar__schema_rule(s, json_str(json_get(in->v[0].j, "$ref")), at),
                            at);
    }
    const Json *all = in->n == 1 ? json_get(in->v[0].j, "allOf") : NULL;
    if (json_is_array(all) && json_len(all) == 1 && only(in->v[0].j, "allOf") &&
        only_ref(json_at(all, 0))) {
        const Where *at = grammar__schema_at(s, in->v[0].at, "allOf");
        Slice ptr = json_str(json_get(json_at(all, 0), "$ref"));
        return grammar__ref(&s->c, grammar__schema_rule(s, ptr, at), at);
    }
    if (++s->depth > s->c.lim.depth)
        grammar__fail(&s->c, in->v[0].at, ERR_FULL, "schemas nested deeper than %d",
                      s->c.lim.depth);
    Flat *f = mem_new(Flat);
    if (!f && s->c.st == OK) s->c.st = err_set(s->c.e, ERR_NOMEM, "grammar: schema");
    Node *k = f && s->c.st == OK ? value(s, in, f) : none(s);
    mem_free(f);
    s->depth--;
    return k;
}

/* ---- the whole ---- */

static void compile(Schema *s) {
    Comp *c = &s->c;
    const Where *at = grammar__where(c, NULL, (Slice){0}, 0);
    uint32_t root = grammar__rule(c, (Slice){"", 0}, at), first;
    first = c->st == OK ? grammar__schema_rule(s, slice_of("#"), at) : 0;
    for (uint32_t i = 0; i < s->n_refs && c->st == OK; i++) {
        SchemaRef r = s->refs[i];
        Parts p = {.v = {{.j = r.target, .at = r.at}}, .n = 1};
        Node *body = grammar__schema_value(s, &p);
        if (grammar__failed(c)) break;
        c->rules[r.rule].body = body;
        c->rules[r.rule].must_call = i > 0;
    }
    if (!grammar__failed(c)) c->rules[root].body = grammar__ref(c, first, at);
}

Status grammar_from_schema(Grammar **out, Slice json, const GrammarLimits *limits, Err *e) {
    Schema *s = mem_new(Schema);
    Json *root = NULL;
    if (!s) return err_set(e, ERR_NOMEM, "grammar: schema");
    grammar__comp_init(&s->c, limits, (Slice){NULL, 0}, e);
    if (json.n > s->c.lim.source_bytes)
        s->c.st = err_set(e, ERR_FULL, "#: %zu bytes, limit %zu", json.n, s->c.lim.source_bytes);
    if (s->c.st == OK) s->c.st = json_parse(&root, json, e);
    s->root = root;
    if (s->c.st == OK) compile(s);
    mem_free(s->refs);
    Comp c = s->c;
    mem_free(s);
    Status st = grammar__finish(out, &c);
    json_free(root);
    return st;
}

Status grammar_json_object(Grammar **out, const GrammarLimits *limits, Err *e) {
    return grammar_from_schema(out, slice_of("{\"type\":\"object\"}"), limits, e);
}
