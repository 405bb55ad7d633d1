/* SPDX-License-Identifier: Apache-2.0
 * Keywords of a conjunction of schemas, gathered. Keywords that only describe are skipped, unknown ones too, as the
 * specification says; known ones that a grammar cannot hold to are refused with their place. */
#include "engine/grammar/schema.h"

#include <math.h>

static const char *const refused[] = {"not",
                                      "if",
                                      "then",
                                      "else",
                                      "patternProperties",
                                      "propertyNames",
                                      "contains",
                                      "minContains",
                                      "maxContains",
                                      "uniqueItems",
                                      "dependentRequired",
                                      "dependentSchemas",
                                      "dependencies",
                                      "unevaluatedProperties",
                                      "unevaluatedItems",
                                      "$dynamicRef",
                                      "$recursiveRef",
                                      "additionalItems"};

const Where *grammar__schema_at(Schema *s, const Where *up, const char *key) {
    return grammar__where(&s->c, up, slice_of(key), 0);
}

#define AT(key) grammar__schema_at(s, p->at, key)

bool grammar__schema_add(Schema *s, Parts *p, Part part) {
    if (p->n == MAX_PARTS) {
        grammar__fail(
            &s->c, part.at, ERR_FULL,
            "over %d schemas combined here, or a reference to itself with nothing in between",
            (int)MAX_PARTS);
        return false;
    }
    p->v[p->n++] = part;
    return s->c.st == OK;
}

/* ---- values of keywords ---- */

static bool get_count(Schema *s, const Part *p, const char *key, const Json *v, int64_t *out) {
    *out = json_int(v);
    if (json_kind(v) == JSON_KIND_REAL && json_num(v) == floor(json_num(v)) && json_num(v) < 1e15)
        *out = (int64_t)json_num(v);
    else if (json_kind(v) != JSON_KIND_INT) *out = -1;
    if (*out < 0) grammar__fail(&s->c, AT(key), ERR_FORMAT, "a count is needed");
    return s->c.st == OK;
}

static void take_min(Schema *s, const Part *p, const char *key, const Json *v, int64_t *min,
                     const Where **at) {
    int64_t n;
    if (!v || !get_count(s, p, key, v, &n) || n <= *min) return;
    *min = n;
    *at = AT(key);
}

static void take_max(Schema *s, const Part *p, const char *key, const Json *v, int64_t *max,
                     const Where **at) {
    int64_t n;
    if (!v || !get_count(s, p, key, v, &n) || (*max != GRAMMAR_INF && n >= *max)) return;
    *max = n;
    *at = AT(key);
}

static void take_bound(Schema *s, const Part *p, const char *key, Bound *b, int dir, bool strict) {
    const Json *v = json_get(p->j, key);
    JsonKind k = json_kind(v);
    if (!v) return;
    if (k != JSON_KIND_INT && k != JSON_KIND_REAL) {
        grammar__fail(&s->c, AT(key), ERR_FORMAT, "a number is needed");
        return;
    }
    double d = json_num(v);
    bool tighter = !b->given || d * dir > b->v * dir || (d == b->v && strict);
    if (tighter) *b = (Bound){true, strict, d, k == JSON_KIND_INT, json_int(v), AT(key)};
}

static void take_str(Schema *s, const Part *p, const char *key, Slice *out, const Where **at) {
    const Json *v = json_get(p->j, key);
    if (!v) return;
    if (!json_is_str(v)) grammar__fail(&s->c, AT(key), ERR_FORMAT, "a string is needed");
    else if (*at && !slice_eq(*out, json_str(v)))
        grammar__fail(&s->c, AT(key), ERR_UNSUPPORTED, "a second %s for the same value", key);
    *out = json_str(v);
    *at = AT(key);
}

static uint32_t type_bits(Slice name) {
    static const struct {
        const char *name;
        uint32_t bits;
    } types[] = {{"null", TYPE_NULL},    {"boolean", TYPE_BOOL},          {"integer", TYPE_INT},
                 {"string", TYPE_STR},   {"number", TYPE_INT | TYPE_NUM}, {"array", TYPE_ARRAY},
                 {"object", TYPE_OBJECT}};
    for (size_t i = 0; i < COUNT_OF(types); i++)
        if (slice_eq_str(name, types[i].name)) return types[i].bits;
    return 0;
}

static void take_type(Schema *s, const Part *p, Flat *f) {
    const Json *t = json_get(p->j, "type");
    uint32_t bits = 0;
    if (!t) return;
    if (json_is_str(t)) bits = type_bits(json_str(t));
    for (size_t i = 0; json_is_array(t) && i < json_len(t); i++) {
        uint32_t one = type_bits(json_str(json_at(t, i)));
        if (!one) bits = 0;
        if (!one) break;
        bits |= one;
    }
    if (!bits) grammar__fail(&s->c, AT("type"), ERR_FORMAT, "not a type, or a list of them");
    f->types &= bits;
    f->typed = true;
}

/* Types that untyped keywords speak of: what is asked for is the kind of value they limit. */
static uint32_t implied(const Json *j) {
    static const struct {
        const char *key;
        uint32_t bits;
    } keys[] = {{"properties", TYPE_OBJECT},
                {"required", TYPE_OBJECT},
                {"additionalProperties", TYPE_OBJECT},
                {"minProperties", TYPE_OBJECT},
                {"maxProperties", TYPE_OBJECT},
                {"items", TYPE_ARRAY},
                {"prefixItems", TYPE_ARRAY},
                {"minItems", TYPE_ARRAY},
                {"maxItems", TYPE_ARRAY},
                {"pattern", TYPE_STR},
                {"format", TYPE_STR},
                {"minLength", TYPE_STR},
                {"maxLength", TYPE_STR},
                {"minimum", TYPE_INT | TYPE_NUM},
                {"maximum", TYPE_INT | TYPE_NUM},
                {"exclusiveMinimum", TYPE_INT | TYPE_NUM},
                {"exclusiveMaximum", TYPE_INT | TYPE_NUM},
                {"multipleOf", TYPE_INT | TYPE_NUM}};
    uint32_t bits = 0;
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (json_get(j, keys[i].key)) bits |= keys[i].bits;
    return bits;
}

static void take_fixed(Schema *s, const Part *p, Flat *f) {
    const Json *v = json_get(p->j, "enum"), *any = NULL;
    Slice key;
    if (v && !json_is_array(v)) grammar__fail(&s->c, AT("enum"), ERR_FORMAT, "a list is needed");
    if (v && !f->fixed) {
        f->fixed = v;
        f->is_const = false;
        f->fixed_at = AT("enum");
    }
    /* const may be null, which json_get does not tell from nothing */
    for (void *it = NULL; (it = json_next(p->j, it, &key, &any));) {
        if (!slice_eq_str(key, "const") || (f->fixed && f->is_const)) continue;
        f->fixed = any;
        f->is_const = true;
        f->fixed_at = AT("const");
    }
}

static void take_multiple(Schema *s, const Part *p, Flat *f) {
    const Json *v = json_get(p->j, "multipleOf");
    if (!v) return;
    if (!(json_num(v) > 0))
        grammar__fail(&s->c, AT("multipleOf"), ERR_FORMAT, "a number over 0 is needed");
    if (f->multiple > 0 && f->multiple != json_num(v))
        grammar__fail(&s->c, AT("multipleOf"), ERR_UNSUPPORTED,
                      "a second multipleOf for the same value");
    f->multiple = json_num(v);
    f->multiple_at = AT("multipleOf");
}

static void refuse_known(Schema *s, const Part *p) {
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        const Json *v = json_get(p->j, refused[i]);
        bool idle = json_kind(v) == JSON_KIND_BOOL && !json_bool(v) &&
                    strcmp(refused[i], "uniqueItems") == 0;
        if (v && !idle) grammar__fail(&s->c, AT(refused[i]), ERR_UNSUPPORTED, "not supported");
    }
}

static void take_choice(Schema *s, const Part *p, Flat *f) {
    static const char *const keys[] = {"anyOf", "oneOf"};
    for (int i = 0; i < 2; i++) {
        const Json *v = json_get(p->j, keys[i]);
        if (!v) continue;
        if (!json_is_array(v) || json_len(v) == 0)
            grammar__fail(&s->c, AT(keys[i]), ERR_FORMAT, "a list of schemas is needed");
        if (f->choice || (i ? p->no_one : p->no_any)) continue;
        f->choice = p;
        f->choice_is_one = i == 1;
    }
}

static void take_part(Schema *s, const Part *p, Flat *f) {
    const Json *j = p->j;
    take_type(s, p, f);
    take_fixed(s, p, f);
    take_min(s, p, "minLength", json_get(j, "minLength"), &f->min_len, &f->len_at);
    take_max(s, p, "maxLength", json_get(j, "maxLength"), &f->max_len, &f->len_at);
    take_min(s, p, "minItems", json_get(j, "minItems"), &f->min_items, &f->items_at);
    take_max(s, p, "maxItems", json_get(j, "maxItems"), &f->max_items, &f->items_at);
    take_min(s, p, "minProperties", json_get(j, "minProperties"), &f->min_props, &f->props_at);
    take_max(s, p, "maxProperties", json_get(j, "maxProperties"), &f->max_props, &f->props_at);
    take_str(s, p, "pattern", &f->pattern, &f->pattern_at);
    take_str(s, p, "format", &f->format, &f->format_at);
    take_bound(s, p, "minimum", &f->lo, 1, false);
    take_bound(s, p, "exclusiveMinimum", &f->lo, 1, true);
    take_bound(s, p, "maximum", &f->hi, -1, false);
    take_bound(s, p, "exclusiveMaximum", &f->hi, -1, true);
    take_multiple(s, p, f);
    take_choice(s, p, f);
    refuse_known(s, p);
    f->has_pattern = f->pattern_at != NULL;
}

/* References and allOf of part i are added behind it. */
static bool open_part(Schema *s, Parts *all, int i) {
    Part p = all->v[i];
    const Json *ref = json_get(p.j, "$ref"), *list = json_get(p.j, "allOf");
    if (p.opened) return true;
    all->v[i].opened = true;
    if (ref) {
        const Where *at = grammar__schema_at(s, p.at, "$ref");
        const Where *found = NULL;
        if (!json_is_str(ref)) grammar__fail(&s->c, at, ERR_FORMAT, "a string is needed");
        const Json *t = s->c.st == OK ? grammar__schema_find(s, json_str(ref), at, &found) : NULL;
        if (!t || !grammar__schema_add(s, all, (Part){.j = t, .at = found})) return false;
    }
    if (!list) return s->c.st == OK;
    const Where *at = grammar__schema_at(s, p.at, "allOf");
    if (!json_is_array(list)) grammar__fail(&s->c, at, ERR_FORMAT, "a list of schemas is needed");
    for (size_t k = 0; k < json_len(list) && s->c.st == OK; k++) {
        const Where *w = grammar__where(&s->c, at, (Slice){0}, k);
        grammar__schema_add(s, all, (Part){.j = json_at(list, k), .at = w});
    }
    return s->c.st == OK;
}

bool grammar__schema_flatten(Schema *s, Flat *f, const Parts *in) {
    uint32_t guess = 0;
    *f = (Flat){.parts = *in, .types = TYPE_ALL, .max_len = GRAMMAR_INF, .max_items = GRAMMAR_INF};
    f->max_props = GRAMMAR_INF;
    f->at = in->n ? in->v[0].at : NULL;
    for (int i = 0; i < f->parts.n; i++) {
        const Part *p = &f->parts.v[i];
        JsonKind k = json_kind(p->j);
        if (k == JSON_KIND_BOOL && !json_bool(p->j)) f->types = 0;
        else if (k != JSON_KIND_BOOL && k != JSON_KIND_OBJECT)
            grammar__fail(&s->c, p->at, ERR_FORMAT, "a schema is an object or a boolean");
        if (s->c.st != OK || (k == JSON_KIND_OBJECT && !open_part(s, &f->parts, i))) return false;
    }
    for (int i = 0; i < f->parts.n && s->c.st == OK; i++) {
        if (json_kind(f->parts.v[i].j) != JSON_KIND_OBJECT) continue;
        take_part(s, &f->parts.v[i], f);
        guess |= implied(f->parts.v[i].j);
    }
    f->empty = !f->typed && !guess && !f->fixed && !f->choice && f->types == TYPE_ALL;
    if (!f->typed && guess && !f->fixed) f->types &= guess;
    return s->c.st == OK;
}
