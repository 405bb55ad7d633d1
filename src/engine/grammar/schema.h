/* SPDX-License-Identifier: Apache-2.0
 * Inside schemas: a value is described by the conjunction of parts, because allOf, $ref with siblings, anyOf with
 * siblings and merged properties all mean "and". flatten() turns parts into one Flat; the rest reads that. */
#ifndef INGOT_ENGINE_GRAMMAR_SCHEMA_H
#define INGOT_ENGINE_GRAMMAR_SCHEMA_H

#include "engine/grammar/internal.h"
#include "text/json.h"

enum {
    TYPE_NULL = 1,
    TYPE_BOOL = 2,
    TYPE_INT = 4, /* integers */
    TYPE_NUM = 8, /* the other numbers */
    TYPE_STR = 16,
    TYPE_ARRAY = 32,
    TYPE_OBJECT = 64,
    TYPE_ALL = 127
};
enum { MAX_PARTS = 64 };

typedef struct Part {
    const Json *j;
    const Where *at;
    bool opened;         /* its $ref and allOf are among the parts */
    bool no_any, no_one; /* its anyOf, oneOf is being taken apart by the caller */
} Part;

typedef struct Parts {
    Part v[MAX_PARTS];
    int n;
} Parts;

typedef struct Flat {
    Parts parts; /* all, references and allOf opened */
    const Where *at;
    uint32_t types;
    bool typed, empty; /* types were given; no keyword limits anything */
    const Json *fixed; /* enum, or const */
    const Where *fixed_at;
    bool is_const;
    int64_t min_len, max_len, min_items, max_items, min_props, max_props; /* max: GRAMMAR_INF */
    const Where *len_at, *items_at, *props_at, *pattern_at, *format_at, *multiple_at;
    Slice pattern, format;
    bool has_pattern;
    Bound lo, hi;
    double multiple;    /* 0: none */
    const Part *choice; /* the first part with an anyOf or oneOf still to do */
    bool choice_is_one;
} Flat;

typedef struct SchemaRef {
    Slice pointer; /* in the arena */
    const Json *target;
    const Where *at;
    uint32_t rule;
    bool done;
} SchemaRef;

typedef struct Schema {
    Comp c;
    JsonRules json;
    const Json *root;
    SchemaRef *refs; /* owned */
    uint32_t n_refs, cap_refs;
    int depth;
} Schema;

/* What parts mean, in one. False: refused. */
bool grammar__schema_flatten(Schema *s, Flat *f, const Parts *in);
const Where *grammar__schema_at(Schema *s, const Where *up, const char *key);
/* The texts of a value described by parts. */
Node *grammar__schema_value(Schema *s, const Parts *in);
Node *grammar__schema_string(Schema *s, const Flat *f);
Node *grammar__schema_number(Schema *s, const Flat *f, uint32_t types);
Node *grammar__schema_array(Schema *s, const Flat *f);
Node *grammar__schema_object(Schema *s, const Flat *f);
Node *grammar__schema_fixed(Schema *s, const Flat *f);
/* The rule of "#/..."; made on first use, compiled later. */
uint32_t grammar__schema_rule(Schema *s, Slice pointer, const Where *at);
/* What "#/..." points to, and its place. NULL: refused. */
const Json *grammar__schema_find(Schema *s, Slice pointer, const Where *at, const Where **found);
bool grammar__schema_add(Schema *s, Parts *p, Part part);

#endif
