/* SPDX-License-Identifier: Apache-2.0
 * What an answer must keep to: a request's schema, expression, grammar, choices, or the functions it must call. */
#include "server/prepare.h"

enum { WARM_MS = 50 };

/* ---- tools ---- */

static Slice tool_mode(const Job *j) {
    return json_is_str(j->q.tool_choice) ? json_str(j->q.tool_choice) : (Slice){"", 0};
}

Slice server__tool_named(const Job *j) {
    const Json *f = json_get(j->q.tool_choice, "function");
    Slice name = json_str(json_get(f ? f : j->q.tool_choice, "name"));
    return json_is_object(j->q.tool_choice) ? name : (Slice){"", 0};
}

/* How the model's own template writes calls. */
static ApiCalls template_style(const Tokenizer *t) {
    Slice s = tok_meta_str(t, "tokenizer.chat_template");
    if (s.n > 0 && memmem(s.p, s.n,
                          "tool\xe2\x96\x81"
                          "calls",
                          10))
        return API_CALLS_DEEPSEEK;
    if (s.n > 0 && memmem(s.p, s.n, "<tool_call>", 11)) return API_CALLS_TAGS;
    if (s.n > 0 && (memmem(s.p, s.n, "python_tag", 10) || memmem(s.p, s.n, "\"parameters\"", 12)))
        return API_CALLS_BARE;
    return API_CALLS_TAGS;
}

static bool says_text(const Json *format) {
    return slice_eq_str(json_str(json_get(format, "type")), "text");
}

/* How many forms a request asks for besides calls. */
static int n_forms(const ApiRequest *q) {
    return (q->response_format && !says_text(q->response_format)) +
           (q->structured_outputs != NULL) + (q->json_schema != NULL) + (q->guided_json != NULL) +
           (q->guided_choice != NULL) + (q->guided_regex.n > 0) + (q->guided_grammar.n > 0);
}

bool server__shows_tools(const Job *j) {
    return json_len(j->q.tools) > 0 && !slice_eq_str(tool_mode(j), "none");
}

ApiCalls server__calls(const Job *j) {
    if (!server__shows_tools(j)) return API_CALLS_NONE;
    if (server__tool_named(j).n > 0) return API_CALLS_NAMED;
    if (slice_eq_str(tool_mode(j), "required")) return API_CALLS_LIST;
    if (n_forms(&j->q) > 0) return API_CALLS_NONE; /* JSON that was asked for is no call */
    return template_style(j->server->cfg.tok);
}

bool server__constrained(const Job *j) {
    ApiCalls calls = server__calls(j);
    return calls == API_CALLS_NAMED || calls == API_CALLS_LIST || n_forms(&j->q) > 0;
}

static const Json *function_of(const Json *tool) {
    const Json *f = json_get(tool, "function");
    return f ? f : tool;
}

bool server__knows_tool(const void *ctx, Slice name) {
    const Job *j = ctx;
    for (size_t i = 0; i < json_len(j->q.tools); i++) {
        const Json *f = function_of(json_at(j->q.tools, i));
        if (slice_eq(name, json_str(json_get(f, "name")))) return true;
    }
    return false;
}

Status server__check_tools(const Job *j, Err *e) {
    Slice mode = tool_mode(j), named = server__tool_named(j);
    bool found = named.n == 0;
    for (size_t i = 0; i < json_len(j->q.tools); i++) {
        const Json *f = function_of(json_at(j->q.tools, i));
        Slice name = json_str(json_get(f, "name"));
        const Json *params = json_get(f, "parameters");
        if (name.n == 0 || name.n > 64)
            return err_set(e, ERR_ARG, "tools: [%zu].function.name: 1 to 64 bytes are needed", i);
        if (params && !json_is_object(params))
            return err_set(e, ERR_ARG, "tools: [%zu].function.parameters: an object is needed", i);
        found = found || slice_eq(name, named);
    }
    if (json_is_object(j->q.tool_choice) && named.n == 0)
        return err_set(e, ERR_ARG, "tool_choice: function.name is missing");
    if (!found)
        return err_set(e, ERR_ARG, "tool_choice: \"%.*s\" is none of the tools",
                       (int)MIN(named.n, 64), named.p);
    if (mode.n > 0 && !slice_eq_str(mode, "none") && !slice_eq_str(mode, "auto") &&
        !slice_eq_str(mode, "required"))
        return err_set(e, ERR_ARG, "tool_choice: \"%.*s\" is none of none, auto, required",
                       (int)MIN(mode.n, 40), mode.p);
    if (json_len(j->q.tools) == 0 && (named.n > 0 || slice_eq_str(mode, "required")))
        return err_set(e, ERR_ARG, "tool_choice: needs tools");
    return OK;
}

/* "#/$defs/X" of function i as "#/$defs/i.X": definitions of all functions lie at the root, where names may meet. */
static void put_ref(JsonW *w, const char *key, Slice ref, int i) {
    static const char *const roots[] = {"#/$defs/", "#/definitions/"};
    StrBuf b = {0};
    for (size_t k = 0; k < COUNT_OF(roots) && b.n == 0; k++) {
        size_t n = strlen(roots[k]);
        if (ref.n <= n || memcmp(ref.p, roots[k], n) != 0) continue;
        sb_printf(&b, "#/$defs/%d.", i);
        sb_put(&b, ref.p + n, ref.n - n);
    }
    if (b.n == 0) sb_put(&b, ref.p, ref.n);
    if (b.failed) w->b->failed = true;
    jw_str(w, key, (Slice){sb_str(&b), b.n});
    sb_deinit(&b);
}

/* A schema of function i, its references made to fit. */
static void put_schema(JsonW *w, const char *key, const Json *v, int i) {
    Slice name;
    const Json *m;
    if (json_is_array(v)) {
        jw_arr(w, key);
        for (size_t k = 0; k < json_len(v); k++) put_schema(w, NULL, json_at(v, k), i);
        jw_end_arr(w);
    } else if (json_is_object(v)) {
        jw_obj(w, key);
        for (void *it = NULL; (it = json_next(v, it, &name, &m));) {
            if (slice_eq_str(name, "$ref") && json_is_str(m)) put_ref(w, name.p, json_str(m), i);
            else put_schema(w, name.p, m, i);
        }
        jw_end_obj(w);
    } else {
        jw_json(w, key, v);
    }
}

static bool is_defs(Slice name) {
    return slice_eq_str(name, "$defs") || slice_eq_str(name, "definitions");
}

/* What the arguments of function i are: an object, whatever the schema forgets to say. */
static void put_members(JsonW *w, const Json *p, int i) {
    Slice name;
    const Json *v;
    if (!json_get(p, "type")) jw_cstr(w, "type", "object");
    for (void *it = NULL; (it = json_next(p, it, &name, &v));) {
        if (!is_defs(name)) put_schema(w, name.p, v, i);
    }
}

static void put_parameters(JsonW *w, const char *key, const Json *f, int i) {
    jw_obj(w, key);
    put_members(w, json_get(f, "parameters"), i);
    jw_end_obj(w);
}

static void put_defs_of(JsonW *w, const Json *defs, int i) {
    Slice name;
    const Json *v;
    for (void *it = NULL; (it = json_next(defs, it, &name, &v));) {
        StrBuf key = {0};
        sb_printf(&key, "%d.%.*s", i, (int)MIN(name.n, 1000), name.p);
        put_schema(w, sb_str(&key), v, i);
        sb_deinit(&key);
    }
}

static void put_defs(JsonW *w, const Json *tools) {
    jw_obj(w, "$defs");
    for (size_t i = 0; i < json_len(tools); i++) {
        const Json *p = json_get(function_of(json_at(tools, i)), "parameters");
        put_defs_of(w, json_get(p, "$defs"), (int)i);
        put_defs_of(w, json_get(p, "definitions"), (int)i);
    }
    jw_end_obj(w);
}

static void put_call_schema(JsonW *w, const Json *f, int i) {
    Slice name = json_str(json_get(f, "name"));
    jw_obj(w, NULL);
    jw_cstr(w, "type", "object");
    jw_obj(w, "properties");
    jw_obj(w, "name");
    jw_str(w, "const", name);
    jw_end_obj(w);
    put_parameters(w, "parameters", f, i);
    jw_end_obj(w);
    jw_arr(w, "required");
    jw_cstr(w, NULL, "name");
    jw_cstr(w, NULL, "parameters");
    jw_end_arr(w);
    jw_bool(w, "additionalProperties", false);
    jw_end_obj(w);
}

static void put_list_schema(JsonW *w, const Job *j) {
    jw_obj(w, NULL);
    jw_cstr(w, "type", "array");
    jw_int(w, "minItems", 1);
    jw_int(w, "maxItems", j->q.parallel_tool_calls ? 16 : 1);
    jw_obj(w, "items");
    jw_arr(w, "anyOf");
    for (size_t i = 0; i < json_len(j->q.tools); i++)
        put_call_schema(w, function_of(json_at(j->q.tools, i)), (int)i);
    jw_end_arr(w);
    jw_end_obj(w);
    put_defs(w, j->q.tools);
    jw_end_obj(w);
}

/* The arguments of function i alone, as a schema of its own. */
static void put_named_schema(JsonW *w, const Job *j, int i) {
    const Json *f = function_of(json_at(j->q.tools, (size_t)i));
    jw_obj(w, NULL);
    put_members(w, json_get(f, "parameters"), i);
    put_defs(w, j->q.tools);
    jw_end_obj(w);
}

static Status tool_grammar(Grammar **out, Job *j, Err *e) {
    StrBuf b = {0};
    JsonW w;
    Slice named = server__tool_named(j);
    jw_init(&w, &b);
    if (named.n == 0) put_list_schema(&w, j);
    for (size_t i = 0; named.n > 0 && i < json_len(j->q.tools); i++) {
        const Json *f = function_of(json_at(j->q.tools, i));
        if (!slice_eq(json_str(json_get(f, "name")), named)) continue;
        put_named_schema(&w, j, (int)i);
        break;
    }
    Status st = sb_check(&b, e);
    if (st == OK) st = grammar_from_schema(out, (Slice){sb_str(&b), b.n}, NULL, e);
    sb_deinit(&b);
    if (st != OK) err_in(e, "tools");
    return st;
}

/* ---- formats ---- */

static Status from_json(Grammar **out, const Json *schema, const char *what, Err *e) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    if (json_is_str(schema)) sb_put(&b, json_str(schema).p, json_str(schema).n);
    else jw_json(&w, NULL, schema);
    Status st = sb_check(&b, e);
    if (st == OK) st = grammar_from_schema(out, (Slice){sb_str(&b), b.n}, NULL, e);
    sb_deinit(&b);
    if (st != OK) err_in(e, what);
    return st;
}

static Status from_choices(Grammar **out, const Json *list, const char *what, Job *j, Err *e) {
    size_t n = json_len(list);
    Slice *v = arena_new_n(&j->arena, Slice, MAX(n, 1));
    if (!v) return err_set(e, ERR_NOMEM, "choices");
    for (size_t i = 0; i < n; i++) {
        v[i] = json_str(json_at(list, i));
        if (v[i].n == 0) return err_set(e, ERR_ARG, "%s: element %zu is no text", what, i);
    }
    Status st = grammar_from_choices(out, v, n, NULL, e);
    if (st != OK) err_in(e, what);
    return st;
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
        return i ? grammar_from_gbnf(out, json_str(v), NULL, e)
                 : grammar_from_regex(out, json_str(v), NULL, e);
    }
    if ((v = json_get(s, "choice"))) return from_choices(out, v, "structured_outputs.choice", j, e);
    if (json_bool(json_get(s, "json_object"))) return grammar_json_object(out, NULL, e);
    return err_set(
        e, ERR_ARG,
        "structured_outputs: one of json, regex, choice, grammar, json_object is needed");
}

static Status check_one(const Job *j, bool by_tools, Err *e) {
    int n = by_tools + n_forms(&j->q);
    if (n > 1)
        return err_set(e, ERR_ARG, "response_format: %d constraints are given, one is possible", n);
    return OK;
}

static Status compile(Grammar **out, Job *j, Err *e) {
    const ApiRequest *q = &j->q;
    ApiCalls calls = server__calls(j);
    bool by_tools = calls == API_CALLS_NAMED || calls == API_CALLS_LIST;
    TRY(check_one(j, by_tools, e));
    if (by_tools) return tool_grammar(out, j, e);
    if (q->structured_outputs) return from_structured(out, q->structured_outputs, j, e);
    if (q->json_schema) return from_json(out, q->json_schema, "json_schema", e);
    if (q->guided_json) return from_json(out, q->guided_json, "guided_json", e);
    if (q->guided_choice) return from_choices(out, q->guided_choice, "guided_choice", j, e);
    if (q->guided_regex.n > 0) return grammar_from_regex(out, q->guided_regex, NULL, e);
    if (q->guided_grammar.n > 0) return grammar_from_gbnf(out, q->guided_grammar, NULL, e);
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
