/* SPDX-License-Identifier: Apache-2.0
 * Answers that are refusals, in words a user can act upon. */
#include "hub/internal.h"

enum { SAY_MAX = 90 };

static const char *host_of(const char *url, int *n) {
    const char *p = strstr(url, "://");
    p = p ? p + 3 : url;
    *n = (int)MIN(strcspn(p, "/?"), (size_t)80);
    return p;
}

static bool is_hub(const HubRun *r, const char *url) { return net_same_origin(url, r->endpoint); }

static const char *advice(const HubRun *r, const char *url, int status) {
    if (is_hub(r, url)) {
        if (status == 401 && !r->token_line) return "; private or not there: set HF_TOKEN";
        if (status == 401) return "; HF_TOKEN is not accepted";
        if (status == 403) return "; accept the conditions on the model's page, and set HF_TOKEN";
    }
    if (status == 407) return "; the proxy wants credentials: http://USER:PASSWORD@HOST:PORT";
    if (status == 429) return "; too many requests: try again later";
    return "";
}

Status hub__say_status(const HubRun *r, const char *what, const char *url, int status,
                       Slice message, Err *e) {
    StrBuf b = {0};
    int n = 0;
    const char *host = host_of(url, &n);
    Status st = status == 404 || status == 410 ? ERR_NOT_FOUND : ERR_IO;
    if (message.n > 0) {
        sb_puts(&b, ": ");
        sb_put_quoted(&b, message, SAY_MAX);
    }
    st = err_set(e, st, "%.80s: %.*s says %d%s%s", what, n, host, status, sb_str(&b),
                 advice(r, url, status));
    sb_deinit(&b);
    return st;
}

void hub__hint(const HubRun *r, Err *e, NetFault fault, const char *url) {
    const ConfigNet *env = r->o->env;
    bool proxied = env->https_proxy || env->http_proxy || env->all_proxy;
    const char *hint = NULL;
    if (fault == NET_RESOLVE || fault == NET_CONNECT)
        hint = proxied          ? "a proxy is set: see HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY"
               : is_hub(r, url) ? "set HTTPS_PROXY or HF_ENDPOINT"
                                : "set HTTPS_PROXY if there is a proxy";
    if (fault == NET_TLS) hint = "--cacert FILE or SSL_CERT_FILE name the certificates to trust";
    if (!hint || !e || e->code == OK) return;
    Err old = *e;
    *e = (Err){0};
    err_set(e, old.code, "%.140s; %s", old.msg, hint);
}
