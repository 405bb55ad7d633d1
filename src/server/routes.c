/* SPDX-License-Identifier: Apache-2.0
 * The one table of routes, and finding the row of a request. */
#include "server/internal.h"

const Route server__routes[] = {
    {"GET", "/", server__get_index, "the routes of this server"},
    {"GET", "/health", server__get_health, "status, model, memory and processor use"},
    {"GET", "/health/live", server__get_live, "200 while the process answers"},
    {"GET", "/health/ready", server__get_ready, "200 while requests are taken, 503 once stopping"},
    {"POST", "/complete", server__post_complete, "complete code"},
};
const int server__n_routes = COUNT_OF(server__routes);

/* HEAD is GET whose body net/ leaves out. */
static bool method_matches(const Route *t, Slice method) {
    if (slice_eq_str(method, t->method)) return true;
    return slice_eq_str(method, "HEAD") && strcmp(t->method, "GET") == 0;
}

void server__route(Server *s, HttpReq *r) {
    const Route *other = NULL; /* right path, wrong method */
    for (int i = 0; i < server__n_routes; i++) {
        const Route *t = &server__routes[i];
        if (!slice_eq_str(http_path(r), t->path)) continue;
        if (method_matches(t, http_method(r))) {
            t->handle(s, r);
            return;
        }
        other = t;
    }
    if (!other) {
        server__reply_text(r, 404, "not_found_error", NULL, "Not Found");
        return;
    }
    bool get = strcmp(other->method, "GET") == 0;
    const char *allow = get ? "Allow: GET, HEAD\r\n" : "Allow: POST\r\n";
    server__reply_text(r, 405, "invalid_request_error", allow, "Method Not Allowed");
}

void server__get_index(Server *s, HttpReq *r) {
    StrBuf b = {0};
    JsonW w;
    (void)s;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
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
    server__reply_json(r, 200, &b);
}
