/* SPDX-License-Identifier: Apache-2.0
 * What the server tells of itself: /, /version, /openapi.json. The description is written once, from the tables of
 * routes and fields. */
#include <ctype.h>

#include "server/internal.h"

static const char *version_of(const Server *s) { return s->cfg.version ? s->cfg.version : "0"; }

static const char *title_of(const Server *s) { return s->cfg.title ? s->cfg.title : "Ingot"; }

void server__get_index(Server *s, HttpReq *r) {
    StrBuf b = {0};
    JsonW w;
    if (server__wants_html(r)) {
        server__get_page(s, r);
        return;
    }
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "message", title_of(s));
    jw_cstr(&w, "version", version_of(s));
    jw_cstr(&w, "name", "ingot");
    jw_arr(&w, "routes");
    for (int i = 0; i < server__n_routes; i++) {
        jw_obj(&w, NULL);
        jw_cstr(&w, "method", server__routes[i].method);
        jw_cstr(&w, "path", server__routes[i].path);
        jw_cstr(&w, "summary", server__routes[i].summary);
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
    jw_end_obj(&w);
    server__reply_json(r, 200, &b, "Vary: Accept\r\n");
}

void server__get_version(Server *s, HttpReq *r) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "version", version_of(s));
    jw_end_obj(&w);
    server__reply_json(r, 200, &b, NULL);
}

/* ---- /openapi.json ---- */

static void put_ref(JsonW *w, const char *name) {
    StrBuf ref = {0};
    sb_printf(&ref, "#/components/schemas/%s", name);
    jw_obj(w, "schema");
    jw_cstr(w, "$ref", sb_str(&ref));
    jw_end_obj(w);
    sb_deinit(&ref);
}

static void put_content(JsonW *w, const char *schema) {
    jw_obj(w, "content");
    jw_obj(w, "application/json");
    put_ref(w, schema);
    jw_end_obj(w);
    jw_end_obj(w);
}

static void put_answer(JsonW *w, const char *status, const char *words, const char *schema) {
    jw_obj(w, status);
    jw_cstr(w, "description", words);
    if (schema) put_content(w, schema);
    jw_end_obj(w);
}

static void put_answers(JsonW *w, const Route *t) {
    const char *error = t->shape == API_OPENAI ? "OpenAIError" : "Error";
    jw_obj(w, "responses");
    put_answer(w, "200", "the answer", NULL);
    if (t->schema) {
        put_answer(w, t->shape == API_OPENAI ? "400" : "422", "a field is wrong", error);
        put_answer(w, "429", "too many requests are waiting; Retry-After says when to come again",
                   error);
        put_answer(w, "503", "the server is loading or stopping", error);
        put_answer(w, "504", "the request took too long", error);
    }
    jw_end_obj(w);
}

static const char *method_key(const Route *t) {
    return t->method[0] == 'G' ? "get" : t->method[0] == 'P' ? "post" : "delete";
}

/* "post_v1_chat_completions" */
static void put_operation_id(JsonW *w, const Route *t) {
    StrBuf id = {0};
    sb_puts(&id, method_key(t));
    for (const char *p = t->path; *p; p++) sb_putc(&id, isalnum((unsigned char)*p) ? *p : '_');
    jw_cstr(w, "operationId", sb_str(&id));
    sb_deinit(&id);
}

/* The path, with a name for what follows a / at its end. */
static void put_path(StrBuf *out, const Route *t) {
    size_t n = strlen(t->path);
    sb_puts(out, t->path);
    if (n > 1 && t->path[n - 1] == '/') sb_printf(out, "{%s}", t->rest);
}

/* The one {name} in it, if there is one, or what stands in the table. */
static void put_parameters(JsonW *w, const Route *t, const char *path) {
    const char *open = strchr(path, '{'), *close = open ? strchr(open, '}') : NULL;
    if (t->query) jw_raw(w, "parameters", slice_of(t->query));
    if (!close) return;
    jw_arr(w, "parameters");
    jw_obj(w, NULL);
    jw_str(w, "name", (Slice){open + 1, (size_t)(close - open - 1)});
    jw_cstr(w, "in", "path");
    jw_bool(w, "required", true);
    jw_raw(w, "schema", slice_of("{\"type\":\"string\"}"));
    jw_end_obj(w);
    jw_end_arr(w);
}

static void put_form(JsonW *w, const char *schema) {
    jw_obj(w, "requestBody");
    jw_bool(w, "required", true);
    jw_obj(w, "content");
    jw_obj(w, "multipart/form-data");
    jw_raw(w, "schema", slice_of(schema));
    jw_end_obj(w);
    jw_end_obj(w);
    jw_end_obj(w);
}

/* Where a route stands in a list of them. */
static const char *const groups[] = {"OpenAI", "short routes", "server", "pages"};

static const char *group_of(const Route *t) {
    if (t->page || strcmp(t->path, "/assets/") == 0) return groups[3];
    if (strncmp(t->path, "/v1/", 4) == 0 && t->shape == API_OPENAI) return groups[0];
    return t->schema ? groups[1] : groups[2];
}

static void put_groups(JsonW *w) {
    jw_arr(w, "tags");
    for (size_t i = 0; i < COUNT_OF(groups); i++) {
        jw_obj(w, NULL);
        jw_cstr(w, "name", groups[i]);
        jw_end_obj(w);
    }
    jw_end_arr(w);
}

static void put_method(JsonW *w, const Route *t, const char *path) {
    jw_obj(w, method_key(t));
    jw_cstr(w, "summary", t->summary);
    put_operation_id(w, t);
    jw_arr(w, "tags");
    jw_cstr(w, NULL, group_of(t));
    jw_end_arr(w);
    put_parameters(w, t, path);
    if (t->form) put_form(w, t->form);
    if (t->schema) {
        jw_obj(w, "requestBody");
        jw_bool(w, "required", true);
        put_content(w, t->schema->name);
        jw_end_obj(w);
    }
    put_answers(w, t);
    if (t->scope == ROUTE_OPEN) jw_raw(w, "security", slice_of("[]"));
    jw_end_obj(w);
}

/* A path with all its methods, where the first of them stands. */
static void put_route(JsonW *w, int i) {
    const Route *all = server__routes;
    StrBuf path = {0};
    for (int k = 0; k < i; k++) {
        if (strcmp(all[k].path, all[i].path) == 0) return;
    }
    put_path(&path, &all[i]);
    jw_obj(w, sb_str(&path));
    for (int k = i; k < server__n_routes; k++) {
        if (strcmp(all[k].path, all[i].path) == 0) put_method(w, &all[k], sb_str(&path));
    }
    jw_end_obj(w);
    sb_deinit(&path);
}

static bool was_put(int i) {
    for (int k = 0; k < i; k++) {
        if (server__routes[k].schema == server__routes[i].schema) return true;
    }
    return false;
}

static const char error_schemas[] =
    "\"OpenAIError\":{\"type\":\"object\",\"required\":[\"error\"],\"properties\":{\"error\":"
    "{\"type\":\"object\",\"required\":[\"message\",\"type\",\"param\",\"code\"],\"properties\":"
    "{\"message\":{\"type\":\"string\"},\"type\":{\"type\":\"string\"},"
    "\"param\":{\"type\":[\"string\",\"null\"]},\"code\":{\"type\":[\"string\",\"null\"]}}}}},"
    "\"Error\":{\"type\":\"object\",\"required\":[\"error\",\"detail\"],\"properties\":"
    "{\"error\":{\"type\":\"string\"},\"detail\":{\"type\":\"string\"},"
    "\"type\":{\"type\":\"string\"}}}";

static void put_components(JsonW *w) {
    jw_obj(w, "components");
    jw_raw(w, "securitySchemes", slice_of("{\"key\":{\"type\":\"http\",\"scheme\":\"bearer\"}}"));
    jw_obj(w, "schemas");
    for (int i = 0; i < server__n_routes; i++) {
        const ApiSchema *sc = server__routes[i].schema;
        if (sc && !was_put(i)) api_put_schema(w, sc->name, sc);
    }
    sb_putc(w->b, ',');
    sb_puts(w->b, error_schemas);
    jw_end_obj(w);
    jw_end_obj(w);
}

Status server__describe(StrBuf *b, const Server *s, Err *e) {
    JsonW w;
    jw_init(&w, b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "openapi", "3.1.0");
    jw_obj(&w, "info");
    jw_cstr(&w, "title", title_of(s));
    jw_cstr(&w, "version", version_of(s));
    jw_end_obj(&w);
    jw_raw(&w, "security", slice_of("[{},{\"key\":[]}]"));
    put_groups(&w);
    jw_obj(&w, "paths");
    for (int i = 0; i < server__n_routes; i++) put_route(&w, i);
    jw_end_obj(&w);
    put_components(&w);
    jw_end_obj(&w);
    return sb_check(b, e);
}

void server__get_openapi(Server *s, HttpReq *r) {
    http_reply(r, 200, "application/json", NULL, (Slice){sb_str(&s->openapi), s->openapi.n});
}
