/* SPDX-License-Identifier: Apache-2.0
 * The one table of routes, and finding the row of a request. */
#include <inttypes.h>
#include <stdio.h>

#include "base/rng.h"
#include "server/internal.h"

#define GET(where, fn, who, form, text) \
    { .method = "GET", .path = where, .handle = fn, .scope = who, .shape = form, .summary = text }
#define PAGE(where, fn, text)                                                                   \
    {                                                                                           \
        .method = "GET", .path = where, .handle = fn, .scope = ROUTE_INFER, .shape = API_PLAIN, \
        .page = true, .summary = text                                                           \
    }
#define POST(where, what, prep, write, form, op, text)                                       \
    {                                                                                        \
        .method = "POST", .path = where, .prepare = prep, .writer = &write, .schema = &what, \
        .shape = form, .scope = ROUTE_INFER, .operation = op, .summary = text                \
    }

#define FILES(how, where, fn, text)                                                            \
    {                                                                                          \
        .method = how, .path = where, .handle = fn, .shape = API_OPENAI, .scope = ROUTE_BATCH, \
        .summary = text                                                                        \
    }

const Route server__routes[] = {
    PAGE("/", server__get_index, "to a browser the playground; else what this is, and its routes"),
    PAGE("/dashboard", server__get_page, "live numbers, for a browser"),
    {.method = "GET",
     .path = "/dashboard/data",
     .handle = server__get_dashboard,
     .scope = ROUTE_ADMIN,
     .shape = API_PLAIN,
     .query =
         "[{\"name\":\"since\",\"in\":\"query\",\"schema\":{\"type\":\"number\",\"minimum\":0,"
         "\"default\":0},\"description\":\"only rows later than this, in seconds since 1970\"},"
         "{\"name\":\"step\",\"in\":\"query\",\"schema\":{\"type\":\"integer\",\"minimum\":1,"
         "\"maximum\":60,\"default\":1},\"description\":\"samples, one a second, in a row\"},"
         "{\"name\":\"rows\",\"in\":\"query\",\"schema\":{\"type\":\"integer\",\"minimum\":0,"
         "\"maximum\":900,\"default\":900},\"description\":\"at most the newest so many\"}]",
     .summary = "the last hour in numbers, and the requests that are not answered yet"},
    PAGE("/docs", server__get_page, "this API to read and try, for a browser"),
    {.method = "GET",
     .path = "/assets/",
     .handle = server__get_page,
     .scope = ROUTE_INFER,
     .shape = API_PLAIN,
     .rest = "file",
     .summary = "what the pages load"},
    GET("/health", server__get_health, ROUTE_OPEN, API_PLAIN,
        "status, model, memory and processor use; 503 until the model is loaded"),
    GET("/health/live", server__get_live, ROUTE_OPEN, API_PLAIN, "200 while the process answers"),
    GET("/health/ready", server__get_ready, ROUTE_OPEN, API_PLAIN,
        "200 while requests are taken, 503 while loading and once stopping"),
    GET("/metrics", server__get_metrics, ROUTE_ADMIN, API_PLAIN, "numbers for Prometheus"),
    GET("/version", server__get_version, ROUTE_INFER, API_PLAIN, "the program's version"),
    GET("/openapi.json", server__get_openapi, ROUTE_INFER, API_PLAIN, "this API, described"),
    GET("/v1/models", server__get_models, ROUTE_INFER, API_OPENAI, "the model and its adapters"),
    {.method = "GET",
     .path = "/v1/models/",
     .handle = server__get_model,
     .scope = ROUTE_INFER,
     .shape = API_OPENAI,
     .rest = "model",
     .summary = "one of them, by name"},
    POST("/v1/chat/completions", api_chat, server__prepare_chat, server__write_chat, API_OPENAI,
         "chat", "the next message of a conversation"),
    POST("/v1/completions", api_completion, server__prepare_completion, server__write_completion,
         API_OPENAI, "text_completion", "how a text goes on"),
    POST("/v1/embeddings", api_embedding, server__prepare_embeddings, server__write_embeddings,
         API_OPENAI, "embeddings", "texts as vectors"),
    POST("/v1/responses", api_response, server__prepare_response, server__write_response,
         API_OPENAI, "chat", "an answer to items; nothing is stored"),
    POST("/tokenize", api_tokenize, server__prepare_tokenize, server__write_made, API_OPENAI, NULL,
         "a text or a conversation as tokens"),
    POST("/detokenize", api_detokenize, server__prepare_detokenize, server__write_made, API_OPENAI,
         NULL, "tokens as text"),
    {.method = "POST",
     .path = "/v1/files",
     .handle = server__post_file,
     .form = "{\"type\":\"object\",\"required\":[\"file\",\"purpose\"],\"properties\":{"
             "\"file\":{\"type\":\"string\",\"format\":\"binary\"},"
             "\"purpose\":{\"type\":\"string\",\"enum\":[\"batch\"]}}}",
     .shape = API_OPENAI,
     .scope = ROUTE_BATCH,
     .summary = "upload a file of requests"},
    FILES("GET", "/v1/files", server__get_files,
          "files, newest first: limit, after, order, purpose"),
    FILES("GET", "/v1/files/{file_id}", server__get_file, "one of them"),
    FILES("DELETE", "/v1/files/{file_id}", server__delete_file, "delete it"),
    FILES("GET", "/v1/files/{file_id}/content", server__get_content, "what is in it"),
    {.method = "POST",
     .path = "/v1/batches",
     .handle = server__post_batch,
     .schema = &batches_schema,
     .shape = API_OPENAI,
     .scope = ROUTE_BATCH,
     .summary = "run the lines of a file when there is nothing else to do"},
    FILES("GET", "/v1/batches", server__get_batches, "batches, newest first: limit, after"),
    FILES("GET", "/v1/batches/{batch_id}", server__get_batch, "one of them"),
    FILES("POST", "/v1/batches/{batch_id}/cancel", server__cancel_batch,
          "run no more of its lines"),
    {.method = "POST",
     .path = "/feedback",
     .handle = server__post_feedback,
     .schema = &api_feedback,
     .shape = API_PLAIN,
     .scope = ROUTE_FEEDBACK,
     .summary = "a rating of an answer, by its request id; in JSON or in the query"},
    POST("/complete", api_complete, server__prepare_complete, server__write_complete, API_PLAIN,
         "text_completion", "complete code"),
    POST("/generate", api_generate, server__prepare_prompt, server__write_generate, API_PLAIN,
         "text_completion", "go on with a text"),
    POST("/v1/generate", api_v1_generate, server__prepare_prompt, server__write_generate, API_PLAIN,
         "text_completion", "go on with a text"),
    POST("/inference", api_inference, server__prepare_prompt, server__write_inference, API_PLAIN,
         "text_completion", "go on with a text"),
    POST("/api/inference", api_inference, server__prepare_prompt, server__write_inference,
         API_PLAIN, "text_completion", "the same, as a cluster's front calls it"),
};
const int server__n_routes = COUNT_OF(server__routes);

/* HEAD is GET whose body net/ leaves out. */
static bool method_matches(const Route *t, Slice method) {
    if (slice_eq_str(method, t->method)) return true;
    return slice_eq_str(method, "HEAD") && strcmp(t->method, "GET") == 0;
}

/* A path with {name} for any one segment. */
static bool segments_match(const char *t, Slice path) {
    const char *p = path.p, *end = path.p + path.n;
    while (*t) {
        if (*t != '{') {
            if (p == end || *p++ != *t++) return false;
            continue;
        }
        const char *from = p;
        while (p < end && *p != '/') p++;
        if (p == from) return false;
        t = strchr(t, '}') + 1;
    }
    return p == end;
}

static bool path_matches(const Route *t, Slice path) {
    size_t n = strlen(t->path);
    if (strchr(t->path, '{')) return segments_match(t->path, path);
    if (slice_eq_str(path, t->path)) return true;
    return n > 1 && t->path[n - 1] == '/' && path.n > n && memcmp(path.p, t->path, n) == 0;
}

static void call(Server *s, HttpReq *r, const Route *t) {
    static const char retry[] = "Retry-After: 5\r\n";
    if (!server__admit(&s->user, s, r, t)) return;
    if (strcmp(t->method, "POST") == 0 && !server__admit_rate(s, r, t)) return;
    if (t->handle) t->handle(s, r);
    else if (!s->cfg.engine.submit)
        server__reply_text(r, t->shape, 503, retry, "the model is loading");
    else if (http_stopping(s->http))
        server__reply_text(r, t->shape, 503, retry, "the server is stopping");
    else server__job_start(s, r, t);
}

/* "Allow: GET, HEAD, DELETE": the methods of this path. */
static void list_methods(char *out, size_t cap, Slice path) {
    size_t n = (size_t)snprintf(out, cap, "Allow: ");
    const char *comma = "";
    for (int i = 0; i < server__n_routes; i++) {
        const Route *t = &server__routes[i];
        if (!path_matches(t, path)) continue;
        const char *head = strcmp(t->method, "GET") == 0 ? ", HEAD" : "";
        n += (size_t)snprintf(out + n, cap - n, "%s%s%s", comma, t->method, head);
        comma = ", ";
    }
    snprintf(out + n, cap - n, "\r\n");
}

void server__route(Server *s, HttpReq *r) {
    const Route *other = NULL; /* right path, wrong method */
    for (int i = 0; i < server__n_routes; i++) {
        const Route *t = &server__routes[i];
        if (!path_matches(t, http_path(r))) continue;
        if (method_matches(t, http_method(r))) {
            call(s, r, t);
            return;
        }
        other = t;
    }
    bool openai = http_path(r).n > 4 && memcmp(http_path(r).p, "/v1/", 4) == 0;
    if (!other) {
        server__reply_text(r, openai ? API_OPENAI : API_PLAIN, 404, NULL, "Not Found");
        return;
    }
    char allow[64];
    list_methods(allow, sizeof allow, http_path(r));
    server__reply_text(r, other->shape, 405, allow, "Method Not Allowed");
}

uint64_t server__draw(Server *s) {
    uint32_t w[4];
    rng_philox(w, s->seed_base, 0, atomic_fetch_add(&s->n_drawn, 1));
    return (uint64_t)w[0] << 32 | w[1];
}

void server__draw_id(char out[48], Server *s, const char *prefix) {
    snprintf(out, 48, "%.15s%016" PRIx64, prefix, server__draw(s));
}
