/* SPDX-License-Identifier: Apache-2.0
 * JSON itself (RFC 8259), the parts schemas are made of. What is generated is a subset: white space where printers
 * put it and not without end, numbers short enough for a double, no halves of surrogate pairs. */
#include "engine/grammar/internal.h"

Node *grammar__call(Comp *c, Node *body, const Where *at) {
    uint32_t r = grammar__rule(c, (Slice){"", 0}, at);
    if (grammar__failed(c)) return grammar__empty(c);
    c->rules[r].body = body;
    c->rules[r].must_call = true;
    return grammar__ref(c, r, at);
}

#define SEQ(c, ...) \
    grammar__seq((c), (Node *[]){__VA_ARGS__}, sizeof((Node *[]){__VA_ARGS__}) / sizeof(Node *))
#define ALT(c, ...) \
    grammar__alt((c), (Node *[]){__VA_ARGS__}, sizeof((Node *[]){__VA_ARGS__}) / sizeof(Node *))

static Node *opt(Comp *c, Node *k) { return grammar__repeat(c, k, 0, 1, NULL); }
static Node *times(Comp *c, Node *k, int min, int max) {
    return grammar__repeat(c, k, min, max, NULL);
}

/* The rule of *slot, made by `make`, which may refer to it. */
static Node *once(Comp *c, JsonRules *j, uint32_t *slot, Node *(*make)(Comp *, JsonRules *)) {
    if (*slot == 0) {
        uint32_t r = grammar__rule(c, (Slice){"", 0}, NULL);
        *slot = r + 1;
        Node *body = make(c, j);
        if (grammar__failed(c)) return grammar__empty(c);
        c->rules[r].body = body;
        c->rules[r].must_call = true;
    }
    return grammar__ref(c, *slot - 1, NULL);
}

static Node *make_ws(Comp *c, JsonRules *j) {
    (void)j;
    Node *line = times(c, grammar__str(c, "\n"), 1, 2);
    Node *in = times(c, grammar__chars(c, " \t"), 0, 40);
    return opt(c, ALT(c, grammar__str(c, " "), SEQ(c, line, in)));
}

Node *grammar__json_ws(Comp *c, JsonRules *j) { return once(c, j, &j->ws, make_ws); }

Node *grammar__json_char(Comp *c) {
    SetBuild b = {0};
    grammar__set_add(c, &b, 0, 0x1f);
    grammar__set_add(c, &b, '"', '"');
    grammar__set_add(c, &b, '\\', '\\');
    Node *plain = grammar__set(c, grammar__set_take(c, &b, true));
    Node *hex = grammar__chars(c, "0-9A-Fa-f"), *u = grammar__str(c, "u");
    Node *d = grammar__chars(c, "Dd"), *hex2 = times(c, hex, 2, 2);
    Node *one = SEQ(c, u, grammar__chars(c, "0-9A-Ca-cEFef"), times(c, hex, 3, 3));
    Node *low = SEQ(c, u, d, grammar__chars(c, "0-7"), hex2);
    Node *pair = SEQ(c, u, d, grammar__chars(c, "89ABab"), hex2, grammar__str(c, "\\u"), d,
                     grammar__chars(c, "C-Fc-f"), hex2);
    Node *esc = ALT(c, grammar__chars(c, "\"\\/bfnrt"), one, low, pair);
    return ALT(c, plain, SEQ(c, grammar__str(c, "\\"), esc));
}

Node *grammar__json_quoted(Comp *c, Node *k) {
    return SEQ(c, grammar__str(c, "\""), k, grammar__str(c, "\""));
}

static Node *make_str(Comp *c, JsonRules *j) {
    (void)j;
    return grammar__json_quoted(c, grammar__repeat(c, grammar__json_char(c), 0, GRAMMAR_INF, NULL));
}

Node *grammar__json_str(Comp *c, JsonRules *j) { return once(c, j, &j->str, make_str); }

static Node *whole(Comp *c, int more) {
    Node *rest = times(c, grammar__chars(c, "0-9"), 0, more);
    Node *v = ALT(c, grammar__str(c, "0"), SEQ(c, grammar__chars(c, "1-9"), rest));
    return SEQ(c, opt(c, grammar__str(c, "-")), v);
}

static Node *make_integer(Comp *c, JsonRules *j) {
    (void)j;
    return whole(c, 17);
}

Node *grammar__json_integer(Comp *c, JsonRules *j) { return once(c, j, &j->integer, make_integer); }

static Node *make_number(Comp *c, JsonRules *j) {
    (void)j;
    Node *digit = grammar__chars(c, "0-9");
    Node *frac = SEQ(c, grammar__str(c, "."), times(c, digit, 1, 16));
    Node *exp =
        SEQ(c, grammar__chars(c, "eE"), opt(c, grammar__chars(c, "+-")), times(c, digit, 1, 2));
    return SEQ(c, whole(c, 15), opt(c, frac), opt(c, exp));
}

Node *grammar__json_number(Comp *c, JsonRules *j) { return once(c, j, &j->number, make_number); }

Node *grammar__json_sep(Comp *c, JsonRules *j) {
    return SEQ(c, grammar__str(c, ","), grammar__json_ws(c, j));
}

Node *grammar__json_member(Comp *c, JsonRules *j, Node *key, Node *value) {
    return SEQ(c, key, grammar__str(c, ":"), grammar__json_ws(c, j), value);
}

Node *grammar__json_brackets(Comp *c, JsonRules *j, const char *open, Node *list,
                             const char *close) {
    Node *ws = grammar__json_ws(c, j);
    if (list->kind == NODE_EMPTY) return SEQ(c, grammar__str(c, open), ws, grammar__str(c, close));
    return SEQ(c, grammar__str(c, open), ws, list, ws, grammar__str(c, close));
}

Node *grammar__json_list(Comp *c, JsonRules *j, Node *item, int64_t min, int64_t max,
                         const Where *at) {
    if (max == 0) return grammar__empty(c);
    Node *more = SEQ(c, grammar__json_sep(c, j), item);
    int64_t most = max == GRAMMAR_INF ? GRAMMAR_INF : max - 1;
    Node *all = SEQ(c, item, grammar__repeat(c, more, min > 0 ? min - 1 : 0, most, at));
    return min == 0 ? opt(c, all) : all;
}

static Node *make_object(Comp *c, JsonRules *j) {
    Node *m = grammar__json_member(c, j, grammar__json_str(c, j), grammar__json_value(c, j));
    return grammar__json_brackets(c, j, "{", grammar__json_list(c, j, m, 0, GRAMMAR_INF, NULL),
                                  "}");
}

static Node *make_array(Comp *c, JsonRules *j) {
    Node *list = grammar__json_list(c, j, grammar__json_value(c, j), 0, GRAMMAR_INF, NULL);
    return grammar__json_brackets(c, j, "[", list, "]");
}

static Node *make_value(Comp *c, JsonRules *j) {
    Slice words[] = {{"true", 4}, {"false", 5}, {"null", 4}};
    return ALT(c, grammar__json_object(c, j), grammar__json_array(c, j), grammar__json_str(c, j),
               grammar__json_number(c, j), grammar__words(c, words, 3));
}

Node *grammar__json_object(Comp *c, JsonRules *j) { return once(c, j, &j->object, make_object); }
Node *grammar__json_array(Comp *c, JsonRules *j) { return once(c, j, &j->array, make_array); }
Node *grammar__json_value(Comp *c, JsonRules *j) { return once(c, j, &j->value, make_value); }
