/* SPDX-License-Identifier: Apache-2.0
 * URLs, by libcurl's own parser, so that what is checked here and what is asked for later are read alike. */
#include "net/client_internal.h"

#include <stdio.h>
#include <strings.h>

/* One part of a URL into buf; false if it is absent or does not fit. */
static bool get_part(char *buf, size_t cap, CURLU *u, CURLUPart part, unsigned flags) {
    char *s = NULL;
    if (curl_url_get(u, part, &s, flags) != CURLUE_OK) return false;
    size_t n = strlen(s);
    bool fits = n < cap;
    if (fits) memcpy(buf, s, n + 1);
    curl_free(s);
    return fits;
}

static bool has_part(CURLU *u, CURLUPart part) {
    char *s = NULL;
    bool there = curl_url_get(u, part, &s, 0) == CURLUE_OK;
    curl_free(s);
    return there;
}

static bool is_web(CURLU *u) {
    char scheme[16];
    return get_part(scheme, sizeof scheme, u, CURLUPART_SCHEME, 0) &&
           (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
}

static Status refuse(const char *url, const char *why, Err *e) {
    StrBuf b = {0};
    sb_put_quoted(&b, slice_of(url), 100);
    Status st = err_set(e, ERR_ARG, "\"%s\": %s", sb_str(&b), why);
    sb_deinit(&b);
    return st;
}

/* A blank or a control byte in a URL could become a second line of the request. */
static bool is_visible(const char *s) {
    for (; *s; s++)
        if ((unsigned char)*s <= 0x20 || (unsigned char)*s >= 0x7F) return false;
    return true;
}

Status net_check_url(const char *url, Err *e) {
    if (strlen(url) > NET_MAX_URL) return refuse(url, "longer than 16384 bytes", e);
    if (!is_visible(url)) return refuse(url, "not a URL: only visible ASCII, the rest as %XX", e);
    CURLU *u = curl_url();
    if (!u) return err_set(e, ERR_NOMEM, "out of memory for a url");
    Status st = OK;
    char host[NET_MAX_HOST];
    if (curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK || !is_web(u) ||
        !get_part(host, sizeof host, u, CURLUPART_HOST, 0))
        st = refuse(url, "not an http or https URL", e);
    else if (has_part(u, CURLUPART_USER) || has_part(u, CURLUPART_PASSWORD))
        st = err_set(e, ERR_ARG, "%.100s: a URL with credentials in it is not taken; use a header",
                     host);
    curl_url_cleanup(u);
    return st;
}

void net__url_host(char host[NET_MAX_HOST], const char *url) {
    CURLU *u = curl_url();
    bool ok = u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
              get_part(host, NET_MAX_HOST, u, CURLUPART_HOST, 0);
    if (!ok) memcpy(host, "?", 2);
    curl_url_cleanup(u);
}

typedef struct Origin {
    char scheme[16], host[NET_MAX_HOST], port[8];
} Origin;

static bool get_origin(Origin *o, const char *url) {
    CURLU *u = curl_url();
    bool ok = u && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
              get_part(o->scheme, sizeof o->scheme, u, CURLUPART_SCHEME, 0) &&
              get_part(o->host, sizeof o->host, u, CURLUPART_HOST, 0) &&
              get_part(o->port, sizeof o->port, u, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    curl_url_cleanup(u);
    return ok;
}

bool net_same_origin(const char *a, const char *b) {
    Origin oa, ob;
    return get_origin(&oa, a) && get_origin(&ob, b) && strcmp(oa.scheme, ob.scheme) == 0 &&
           strcasecmp(oa.host, ob.host) == 0 && strcmp(oa.port, ob.port) == 0;
}

/* From https to http the bytes, and what the request says, would go in the open. */
static Status check_join(const char *base, const char *to, Err *e) {
    Err why = {0};
    if (net_check_url(to, &why) != OK)
        return err_set(e, ERR_FORMAT, "redirect refused: %.200s", why.msg);
    if (strncasecmp(base, "https:", 6) == 0 && strncasecmp(to, "https:", 6) != 0)
        return err_set(e, ERR_UNSUPPORTED, "redirect from https to http refused");
    return OK;
}

Status net__url_join(char **out, const char *base, Slice location, Err *e) {
    CURLU *u = curl_url();
    char *loc = mem_dup(location.p, location.n), *s = NULL;
    Status st = OK;
    if (!u || !loc) {
        st = err_set(e, ERR_NOMEM, "out of memory for a redirect");
        goto done;
    }
    if (!is_visible(loc) || location.n > NET_MAX_URL ||
        curl_url_set(u, CURLUPART_URL, base, 0) != CURLUE_OK ||
        curl_url_set(u, CURLUPART_URL, loc, 0) != CURLUE_OK ||
        curl_url_get(u, CURLUPART_URL, &s, 0) != CURLUE_OK) {
        st = err_set(e, ERR_FORMAT, "redirect to something that is no URL");
        goto done;
    }
    st = check_join(base, s, e);
    if (st != OK) goto done;
    *out = mem_dup(s, strlen(s));
    if (!*out) st = err_set(e, ERR_NOMEM, "out of memory for a redirect");
done:
    curl_free(s);
    mem_free(loc);
    curl_url_cleanup(u);
    return st;
}

void net_put_escaped(StrBuf *b, Slice text, const char *keep) {
    for (size_t i = 0; i < text.n; i++) {
        unsigned char c = (unsigned char)text.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     (c != '\0' && (strchr("-._~", c) || strchr(keep, c)));
        if (plain) sb_putc(b, (char)c);
        else sb_printf(b, "%%%02X", c);
    }
}
