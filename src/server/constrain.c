/* SPDX-License-Identifier: Apache-2.0
 * What an answer must keep to: a request's schema, expression, grammar, choices, or the functions it must call
 * (tools.c). */
#include "server/prepare.h"

enum { WARM_MS = 50 };

static bool says_text(const Json *format) {
    return slice_eq_str(json_str(json_get(format, "type")), "text");
}

int server__n_forms(const ApiRequest *q) {
    return (q->response_format && !says_text(q->response_format)) +
           (q->structured_outputs != NULL) + (q->json_schema != NULL) + (q->guided_json != NULL) +
           (q->guided_choice != NULL) + (q->guided_regex.n > 0) + (q->guided_grammar.n > 0);
}

bool server__constrained(const Job *j) {
    ApiCalls calls = server__calls(j);
    return calls == API_CALLS_NAMED || calls == API_CALLS_LIST || server__n_forms(&j->q) > 0;
}

/* The field's name in front of what is wrong with it. */
static Status within(Status st, const char *what, Err *e) {
    if (st != OK) err_in(e, what);
    return st;
}

static Status from_json(Grammar **out, const Json *schema, const char *what, Err *e) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    if (json_is_str(schema)) sb_put(&b, json_str(schema).p, json_str(schema).n);
    else jw_json(&w, NULL, schema);
    Status st = sb_check(&b, e);
    if (st == OK) st = grammar_from_schema(out, (Slice){sb_str(&b), b.n}, NULL, e);
    sb_deinit(&b);
    return within(st, what, e);
}

static Status from_choices(Grammar **out, const Json *list, const char *what, Job *j, Err *e) {
    size_t n = json_len(list);
    Slice *v = arena_new_n(&j->arena, Slice, MAX(n, 1));
    if (!v) return err_set(e, ERR_NOMEM, "choices");
    for (size_t i = 0; i < n; i++) {
        v[i] = json_str(json_at(list, i));
        if (v[i].n == 0) return err_set(e, ERR_ARG, "%s: element %zu is no text", what, i);
    }
    return within(grammar_from_choices(out, v, n, NULL, e), what, e);
}

static Status from_format(Grammar **out, const Json *f, Err *e) {
    Slice type = json_str(json_get(f, "type"));
    const Json *wrap = json_get(f, "json_schema"), *schema = json_get(wrap, "schema");
    if (slice_eq_str(type, "text")) return OK;
    if (slice_eq_str(type, "json_object")) return grammar_json_object(out, NULL, e);
    if (!slice_eq_str(type, "json_schema"))
        return err_set(e, ERR_ARG,
                       "response_format: type \"%.*s\" is none of text, json_object, json_schema",
                       (int)MIN(type.n, 40), type.n ? type.p : "");
    if (!schema) schema = json_get(f, "schema"); /* as the Responses API has it */
    if (!schema) return err_set(e, ERR_ARG, "response_format: json_schema.schema is missing");
    return from_json(out, schema, "response_format", e);
}

static Status from_structured(Grammar **out, const Json *s, Job *j, Err *e) {
    const Json *v;
    if ((v = json_get(s, "json"))) return from_json(out, v, "structured_outputs.json", e);
    for (int i = 0; i < 2; i++) {
        v = json_get(s, i ? "grammar" : "regex");
        if (!v) continue;
        if (json_str(v).n == 0)
            return err_set(e, ERR_ARG, "structured_outputs.%s: a text is needed",
                           i ? "grammar" : "regex");
        return within(i ? grammar_from_gbnf(out, json_str(v), NULL, e)
                        : grammar_from_regex(out, json_str(v), NULL, e),
                      "structured_outputs", e);
    }
    if ((v = json_get(s, "choice"))) return from_choices(out, v, "structured_outputs.choice", j, e);
    if (json_bool(json_get(s, "json_object"))) return grammar_json_object(out, NULL, e);
    return err_set(
        e, ERR_ARG,
        "structured_outputs: one of json, regex, choice, grammar, json_object is needed");
}

static Status check_one(const Job *j, bool by_tools, Err *e) {
    int n = by_tools + server__n_forms(&j->q);
    if (n > 1)
        return err_set(e, ERR_ARG, "response_format: %d constraints are given, one is possible", n);
    return OK;
}

static Status compile(Grammar **out, Job *j, Err *e) {
    const ApiRequest *q = &j->q;
    ApiCalls calls = server__calls(j);
    bool by_tools = calls == API_CALLS_NAMED || calls == API_CALLS_LIST;
    TRY(check_one(j, by_tools, e));
    if (by_tools) return server__tool_grammar(out, j, e);
    if (q->structured_outputs) return from_structured(out, q->structured_outputs, j, e);
    if (q->json_schema) return from_json(out, q->json_schema, "json_schema", e);
    if (q->guided_json) return from_json(out, q->guided_json, "guided_json", e);
    if (q->guided_choice) return from_choices(out, q->guided_choice, "guided_choice", j, e);
    if (q->guided_regex.n > 0)
        return within(grammar_from_regex(out, q->guided_regex, NULL, e), "guided_regex", e);
    if (q->guided_grammar.n > 0)
        return within(grammar_from_gbnf(out, q->guided_grammar, NULL, e), "guided_grammar", e);
    return q->response_format ? from_format(out, q->response_format, e) : OK;
}

/* A grammar that cannot be had is the request's fault, whatever it was that did not go. */
Status server__grammar(Grammar **out, Job *j, Err *e) {
    *out = NULL;
    Status st = compile(out, j, e);
    if (st == OK && *out && j->server->cfg.vocab && !j->warmed) {
        j->warmed = true;
        st = grammar_warm(*out, j->server->cfg.vocab, WARM_MS, e);
        if (st != OK) grammar_free(*out);
    }
    if (st == OK || st == ERR_NOMEM) return st;
    if (e) e->code = ERR_FORMAT;
    return ERR_FORMAT;
}
