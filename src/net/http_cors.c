/* SPDX-License-Identifier: Apache-2.0
 * Headers that every answer gets: those that keep browsers from guessing, framing and caching, and, only where the operator
 * named origins, those that let pages of other sites read answers (Fetch standard, 3.2). The origin that is sent back is the
 * operator's text, never the client's; credentials are never allowed, so "*" opens nothing that a cookie protects. */
#include <strings.h>
#include <time.h>

#include "net/internal.h"

enum { MAX_ASKED = 1024 }; /* bytes of header names that a preflight may ask for */

static const struct {
    const char *name, *line;
} safe[] = {
    {"X-Content-Type-Options", "X-Content-Type-Options: nosniff\r\n"},
    {"X-Frame-Options", "X-Frame-Options: DENY\r\n"},
    {"Referrer-Policy", "Referrer-Policy: no-referrer\r\n"},
    {"Content-Security-Policy",
     "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n"},
    {"Cache-Control", "Cache-Control: no-store\r\n"},
};

/* Is there a line of this name among the handler's? */
static bool has_line(const char *lines, const char *name) {
    size_t n = strlen(name);
    while (lines && *lines) {
        if (strncasecmp(lines, name, n) == 0 && lines[n] == ':') return true;
        const char *end = strstr(lines, "\r\n");
        lines = end ? end + 2 : NULL;
    }
    return false;
}

/* The configured origin that this request comes from, or NULL. */
static const char *allowed_origin(const HttpReq *r) {
    const HttpCors *c = &r->conn->server->cfg.cors;
    Slice from = http_header(r, "origin");
    if (from.n == 0) return NULL;
    for (int i = 0; i < c->n_origins; i++) {
        if (strcmp(c->origins[i], "*") == 0 || slice_eq_str(from, c->origins[i]))
            return c->origins[i];
    }
    return NULL;
}

static void put(HttpConn *c, const char *text) { http__conn_put(c, text, strlen(text)); }

static void put_cors(HttpReq *r) {
    HttpConn *c = r->conn;
    if (c->server->cfg.cors.n_origins == 0) return;
    put(c, "Vary: Origin\r\n"); /* also where the origin is not allowed: caches must know */
    const char *origin = allowed_origin(r);
    if (!origin) return;
    put(c, "Access-Control-Allow-Origin: ");
    put(c, origin);
    put(c, "\r\nAccess-Control-Expose-Headers: *\r\n");
}

/* "Date: Sat, 21 Nov 2026 11:00:00 GMT", made once a second. */
static void put_date(HttpConn *c) {
    HttpServer *s = c->server;
    time_t now = time(NULL);
    struct tm t;
    if (now != s->date_s && gmtime_r(&now, &t)) {
        strftime(s->date, sizeof s->date, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &t);
        s->date_s = now;
    }
    put(c, s->date);
}

void http__put_headers(HttpReq *r, const char *extra) {
    HttpConn *c = r->conn;
    const HttpServer *s = c->server;
    char hsts[64];
    put_date(c);
    if (r->id[0] && !has_line(extra, "X-Request-Id")) {
        put(c, "X-Request-Id: ");
        put(c, r->id);
        put(c, "\r\n");
    }
    for (size_t i = 0; i < COUNT_OF(safe); i++) {
        if (!has_line(extra, safe[i].name)) put(c, safe[i].line);
    }
    evutil_snprintf(hsts, sizeof hsts, "Strict-Transport-Security: max-age=%d\r\n", s->cfg.hsts_s);
    if (s->tls && s->cfg.hsts_s > 0) put(c, hsts);
    put_cors(r);
}

/* ---- preflights ---- */

bool http__is_preflight(const HttpReq *r) {
    return r->conn->server->cfg.cors.n_origins > 0 && slice_eq_str(r->parse.method, "OPTIONS") &&
           http_header(r, "origin").n > 0 && http_header(r, "access-control-request-method").n > 0;
}

/* Names, commas, blanks and nothing else: may be sent back. */
static bool is_name_list(Slice s) {
    for (size_t i = 0; i < s.n; i++) {
        char ch = s.p[i];
        bool alnum = (ch >= '0' && ch <= '9') || ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'z');
        if (!alnum && ch != '-' && ch != '_' && ch != ',' && ch != ' ') return false;
    }
    return s.n > 0 && s.n <= MAX_ASKED;
}

void http__reply_preflight(HttpReq *r) {
    const HttpCors *c = &r->conn->server->cfg.cors;
    Slice asked = http_header(r, "access-control-request-headers");
    StrBuf b = {0};
    if (allowed_origin(r)) {
        sb_printf(&b, "Access-Control-Max-Age: %d\r\n", c->max_age_s > 0 ? c->max_age_s : 600);
        sb_puts(&b, "Access-Control-Allow-Methods: GET, HEAD, POST, DELETE, OPTIONS\r\n");
        if (is_name_list(asked))
            sb_printf(&b, "Access-Control-Allow-Headers: %.*s\r\n", (int)asked.n, asked.p);
    }
    http_reply(r, 204, NULL, b.failed ? NULL : sb_str(&b), (Slice){"", 0});
    sb_deinit(&b);
}
