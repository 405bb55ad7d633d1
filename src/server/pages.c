/* SPDX-License-Identifier: Apache-2.0
 * Pages for browsers and what they load: the assets of src/web, as they were compressed when the program was built.
 * Browsers keep them and ask each time whether they are still right (ETag, 304), so a new program has new pages at once.
 * The policy lets a page load and ask this server alone, and no text of a model can become a script. */
#include "web/web.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "server/internal.h"

static const char policy[] =
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\n";

/* ---- what clients take ---- */

/* The next element of a comma-separated list; false at its end. */
static bool next_element(Slice *element, Slice *rest) {
    if (rest->n == 0) return false;
    const char *comma = memchr(rest->p, ',', rest->n);
    size_t n = comma ? (size_t)(comma - rest->p) : rest->n;
    *element = server__trim((Slice){rest->p, n});
    rest->p += comma ? n + 1 : n;
    rest->n -= comma ? n + 1 : n;
    return true;
}

/* "q" among the parameters of an element, 1 if there is none; what is no number is 0. */
static double weight_of(Slice params) {
    char text[16];
    for (size_t i = 0; i + 2 < params.n; i++) {
        bool starts = params.p[i] == ';' || params.p[i] == ' ';
        if (!starts || (params.p[i + 1] | 0x20) != 'q' || params.p[i + 2] != '=') continue;
        size_t n = 0;
        while (i + 3 + n < params.n && n + 1 < sizeof text && params.p[i + 3 + n] != ';') n++;
        Slice v = server__trim((Slice){params.p + i + 3, n});
        double q = 0;
        snprintf(text, sizeof text, "%.*s", (int)v.n, v.p);
        return str_to_f64(&q, text) ? q : 0;
    }
    return 1;
}

/* How much a list like that of Accept wants `name`; -1: it is not in it. */
static double wanted(Slice list, const char *name) {
    Slice element;
    double best = -1;
    while (next_element(&element, &list)) {
        const char *semi = memchr(element.p, ';', element.n);
        size_t n = semi ? (size_t)(semi - element.p) : element.n;
        Slice word = server__trim((Slice){element.p, n});
        if (word.n != strlen(name) || strncasecmp(word.p, name, word.n) != 0) continue;
        best = MAX(best, weight_of((Slice){element.p + n, element.n - n}));
    }
    return best;
}

bool server__wants_html(const HttpReq *r) {
    Slice accept = http_header(r, "Accept");
    double html = wanted(accept, "text/html");
    return html > 0 && html >= wanted(accept, "application/json");
}

static bool takes_gzip(const HttpReq *r) {
    Slice list = http_header(r, "Accept-Encoding");
    double q = wanted(list, "gzip");
    if (q < 0) q = wanted(list, "x-gzip");
    if (q < 0) q = wanted(list, "*");
    return q > 0;
}

/* Whether If-None-Match names this tag; W/ before one makes no difference (RFC 9110, 13.1.2). */
static bool has_it(const HttpReq *r, const char *tag) {
    Slice list = http_header(r, "If-None-Match"), one;
    while (next_element(&one, &list)) {
        if (one.n > 2 && memcmp(one.p, "W/", 2) == 0) one = (Slice){one.p + 2, one.n - 2};
        if (slice_eq_str(one, tag) || slice_eq_str(one, "*")) return true;
    }
    return false;
}

/* ---- answering ---- */

static void reply_asset(HttpReq *r, const WebAsset *a, const char *extra, bool gzip) {
    StrBuf plain = {0};
    Err e = {0};
    if (gzip) {
        http_reply(r, 200, a->type, extra, (Slice){(const char *)a->gz, a->n_gz});
    } else if (web_plain(&plain, a, &e) != OK) {
        server__reply_err(r, API_PLAIN, NULL, &e);
    } else {
        http_reply(r, 200, a->type, extra, (Slice){sb_str(&plain), plain.n});
    }
    sb_deinit(&plain);
}

void server__get_page(Server *s, HttpReq *r) {
    const WebAsset *a = web_find(http_path(r));
    bool gzip = takes_gzip(r);
    char tag[40];
    StrBuf head = {0};
    (void)s;
    if (!a) {
        server__reply_text(r, API_PLAIN, 404, NULL, "not in this build");
        return;
    }
    snprintf(tag, sizeof tag, "\"%s%s\"", a->hash, gzip ? "-gz" : "");
    sb_printf(&head,
              "ETag: %s\r\nCache-Control: private, no-cache\r\nVary: Accept, Accept-Encoding\r\n%s",
              tag, policy);
    bool same = has_it(r, tag);
    if (gzip && !same) sb_puts(&head, "Content-Encoding: gzip\r\n");
    if (head.failed) server__reply_text(r, API_PLAIN, 503, NULL, "out of memory");
    else if (same) http_reply(r, 304, NULL, sb_str(&head), (Slice){"", 0});
    else reply_asset(r, a, sb_str(&head), gzip);
    sb_deinit(&head);
}
