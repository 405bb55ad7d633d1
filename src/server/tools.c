/* SPDX-License-Identifier: Apache-2.0
 * Tools of a request: which of them the model may call, how calls stand in an answer, and the form of an answer that
 * has to be a call. */
#include "server/prepare.h"

static Slice tool_mode(const Job *j) {
    return json_is_str(j->q.tool_choice) ? json_str(j->q.tool_choice) : (Slice){"", 0};
}

Slice server__tool_named(const Job *j) {
    const Json *f = json_get(j->q.tool_choice, "function");
    Slice name = json_str(json_get(f ? f : j->q.tool_choice, "name"));
    return json_is_object(j->q.tool_choice) ? name : (Slice){"", 0};
}

/* As the template in use writes them. */
static ApiCalls template_style(const Chat *c) {
    static const ApiCalls of[] = {[CHAT_CALLS_TAGS] = API_CALLS_TAGS,
                                  [CHAT_CALLS_BARE] = API_CALLS_BARE,
                                  [CHAT_CALLS_DEEPSEEK] = API_CALLS_DEEPSEEK};
    return of[chat_caps(c)->calls];
}

bool server__shows_tools(const Job *j) {
    return json_len(j->q.tools) > 0 && !slice_eq_str(tool_mode(j), "none");
}

ApiCalls server__calls(const Job *j) {
    if (!server__shows_tools(j)) return API_CALLS_NONE;
    if (server__tool_named(j).n > 0) return API_CALLS_NAMED;
    if (slice_eq_str(tool_mode(j), "required")) return API_CALLS_LIST;
    if (server__n_forms(&j->q) > 0) return API_CALLS_NONE; /* JSON that was asked for is no call */
    return template_style(j->server->cfg.chat);
}

static const Json *function_of(const Json *tool) {
    const Json *f = json_get(tool, "function");
    return f ? f : tool;
}

static const Json *find_tool(const Job *j, Slice name) {
    for (size_t i = 0; i < json_len(j->q.tools); i++) {
        const Json *tool = json_at(j->q.tools, i);
        if (slice_eq(name, json_str(json_get(function_of(tool), "name")))) return tool;
    }
    return NULL;
}

bool server__knows_tool(const void *ctx, Slice name) { return find_tool(ctx, name) != NULL; }

static Status no_tool(Slice name, Err *e) {
    return err_set(e, ERR_ARG, "tool_choice: \"%.*s\" is none of the tools", (int)MIN(name.n, 64),
                   name.p);
}

/* {"type": "allowed_tools", "mode", "tools"}, or the same within "allowed_tools": as if these tools alone were given. */
static Status narrow(Job *j, Err *e) {
    const Json *choice = j->q.tool_choice, *in = json_get(choice, "allowed_tools"), *list;
    StrBuf b = {0};
    JsonW w;
    if (!in && !slice_eq_str(json_str(json_get(choice, "type")), "allowed_tools")) return OK;
    list = json_get(in ? in : choice, "tools");
    if (!json_is_array(list) || json_len(list) == 0)
        return err_set(e, ERR_ARG, "tool_choice: allowed_tools.tools: a list is needed");
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_json(&w, "mode", json_get(in ? in : choice, "mode"));
    jw_arr(&w, "tools");
    Status st = OK;
    for (size_t i = 0; st == OK && i < json_len(list); i++) {
        Slice name = json_str(json_get(function_of(json_at(list, i)), "name"));
        const Json *tool = find_tool(j, name);
        if (tool) jw_json(&w, NULL, tool);
        else st = no_tool(name, e);
    }
    jw_end_arr(&w);
    jw_end_obj(&w);
    if (st == OK) st = sb_check(&b, e);
    if (st == OK) st = json_parse(&j->allowed, (Slice){sb_str(&b), b.n}, e);
    sb_deinit(&b);
    j->q.tools = json_get(j->allowed, "tools");
    j->q.tool_choice = json_get(j->allowed, "mode");
    return st;
}

static Status check_each(const Job *j, Err *e) {
    for (size_t i = 0; i < json_len(j->q.tools); i++) {
        const Json *f = function_of(json_at(j->q.tools, i)), *params = json_get(f, "parameters");
        Slice name = json_str(json_get(f, "name"));
        if (name.n == 0 || name.n > 64)
            return err_set(e, ERR_ARG, "tools: [%zu].function.name: 1 to 64 bytes are needed", i);
        if (params && !json_is_object(params))
            return err_set(e, ERR_ARG, "tools: [%zu].function.parameters: an object is needed", i);
    }
    return OK;
}

Status server__check_tools(Job *j, Err *e) {
    TRY(check_each(j, e));
    TRY(narrow(j, e));
    Slice mode = tool_mode(j), named = server__tool_named(j);
    if (json_is_object(j->q.tool_choice) && named.n == 0)
        return err_set(e, ERR_ARG, "tool_choice: function.name is missing");
    if (named.n > 0 && !find_tool(j, named)) return no_tool(named, e);
    if (mode.n > 0 && !slice_eq_str(mode, "none") && !slice_eq_str(mode, "auto") &&
        !slice_eq_str(mode, "required"))
        return err_set(e, ERR_ARG, "tool_choice: \"%.*s\" is none of none, auto, required",
                       (int)MIN(mode.n, 40), mode.p);
    if (json_len(j->q.tools) == 0 && slice_eq_str(mode, "required"))
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

Status server__tool_grammar(Grammar **out, Job *j, Err *e) {
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
