/* SPDX-License-Identifier: Apache-2.0
 * The head of a request: where it ends, and whether every parser would read it the same way. Refused:
 * bare CR or LF, control bytes, folded lines, blanks before the colon, repeated or odd Content-Length,
 * Transfer-Encoding and Host, a length together with chunks, versions other than 1.0 and 1.1. */
#include <strings.h>

#include "net/http_parse.h"
#include "text/utf8.h"

enum {
    REQUEST_LINE_REST = HTTP_MAX_METHOD + 10
}; /* method, version and blanks around the target */

/* RFC 9110, 5.6.2: the bytes of methods and field names. */
static bool is_token(char ch) {
    if ((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9'))
        return true;
    return ch != '\0' && strchr("!#$%&'*+-.^_`|~", ch) != NULL;
}

static bool all_token(Slice s) {
    for (size_t i = 0; i < s.n; i++) {
        if (!is_token(s.p[i])) return false;
    }
    return s.n > 0;
}

static bool all_digits(Slice s) {
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9') return false;
    }
    return s.n > 0;
}

static bool eq_nocase(Slice a, const char *b) {
    return a.n == strlen(b) && strncasecmp(a.p, b, a.n) == 0;
}

static Slice trim(Slice s) {
    while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) s = (Slice){s.p + 1, s.n - 1};
    while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) s.n--;
    return s;
}

/* ---- where the head ends ---- */

/* The LF that must follow a CR. */
static bool line_end(HttpParse *p, char ch) {
    if (ch != '\n')
        return http__parse_fail(p, 400, "carriage return without line feed in the request head");
    p->saw_cr = false;
    if (p->n_line > 0) {
        p->n_line = 0;
        p->n_lines++;
        return true;
    }
    if (p->n_lines > 0) return false; /* the empty line: whole */
    sb_clear(&p->head);
    if (p->skipped) return http__parse_fail(p, 400, "empty lines before the request");
    p->skipped = true;
    return true;
}

static const char *bad_line_byte(const HttpParse *p, char ch) {
    unsigned char u = (unsigned char)ch;
    if (ch == '\n') return "line feed without carriage return in the request head";
    if ((u < 0x20 && u != '\t') || u == 0x7f) return "control byte in the request head";
    if (p->n_line > 0) return NULL;
    if (p->n_lines == 0 && !is_token(ch)) return "not an HTTP request";
    if (ch == ' ' || ch == '\t') return "folded header line";
    return NULL;
}

/* The line at hand has no room for another byte. */
static bool line_is_full(const HttpParse *p) {
    if (p->n_lines > 0) return p->max_line > 0 && p->n_line >= p->max_line;
    return p->max_target > 0 && p->n_line >= p->max_target + REQUEST_LINE_REST;
}

bool http__head_byte(HttpParse *p, char ch) {
    bool full = p->head.n >= p->max_head || (ch != '\r' && !p->saw_cr && line_is_full(p));
    if (full && p->n_lines == 0) return http__parse_fail(p, 414, "request line too long");
    if (full && p->head.n < p->max_head) return http__parse_fail(p, 431, "header line too long");
    if (full) return http__parse_fail(p, 431, "request headers too large");
    sb_putc(&p->head, ch);
    if (p->saw_cr) return line_end(p, ch);
    if (ch == '\r') {
        p->saw_cr = true;
        return true;
    }
    const char *bad = bad_line_byte(p, ch);
    p->n_line++;
    return bad ? http__parse_fail(p, 400, bad) : true;
}

/* ---- request line and fields ---- */

static int hex_digit(char ch) {
    if (ch >= '0' && ch <= '9') return ch - '0';
    ch = (char)(ch | 0x20);
    return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

static bool decode_path(HttpParse *p, Slice raw) {
    sb_clear(&p->path);
    for (size_t i = 0; i < raw.n; i++) {
        char ch = raw.p[i];
        if (ch == '%') {
            int hi = i + 2 < raw.n ? hex_digit(raw.p[i + 1]) : -1;
            int lo = i + 2 < raw.n ? hex_digit(raw.p[i + 2]) : -1;
            if (hi < 0 || lo < 0) return http__parse_fail(p, 400, "bad percent escape in the path");
            ch = (char)(hi << 4 | lo);
            i += 2;
        }
        if (ch == '\0') return http__parse_fail(p, 400, "NUL in the path");
        sb_putc(&p->path, ch);
    }
    if (p->path.failed) return http__parse_fail(p, 503, "out of memory");
    bool utf8 = utf8_valid((Slice){sb_str(&p->path), p->path.n});
    return utf8 ? true : http__parse_fail(p, 400, "path is not UTF-8");
}

/* origin-form, absolute-form (its host is ignored, as there is one site), or * for OPTIONS. */
static bool check_target(HttpParse *p) {
    Slice t = p->target;
    if (memchr(t.p, '#', t.n)) return http__parse_fail(p, 400, "fragment in the request target");
    bool star = slice_eq_str(t, "*") && slice_eq_str(p->method, "OPTIONS");
    size_t scheme = t.n >= 7 && strncasecmp(t.p, "http://", 7) == 0    ? 7
                    : t.n >= 8 && strncasecmp(t.p, "https://", 8) == 0 ? 8
                                                                       : 0;
    if (scheme > 0) {
        size_t i = scheme;
        while (i < t.n && t.p[i] != '/' && t.p[i] != '?') i++;
        if (i == scheme) return http__parse_fail(p, 400, "no host in the request target");
        t = (Slice){t.p + i, t.n - i};
    } else if (t.p[0] != '/' && !star) {
        return http__parse_fail(p, 400, "request target does not start with /");
    }
    const char *q = t.n > 0 ? memchr(t.p, '?', t.n) : NULL;
    size_t n_path = q ? (size_t)(q - t.p) : t.n;
    p->query = q ? (Slice){q + 1, t.n - n_path - 1} : (Slice){"", 0};
    return decode_path(p, n_path > 0 ? (Slice){t.p, n_path} : slice_of("/"));
}

static bool check_version(HttpParse *p, Slice v) {
    p->version = slice_eq_str(v, "HTTP/1.1") ? 11 : slice_eq_str(v, "HTTP/1.0") ? 10 : 0;
    if (p->version != 0) return true;
    bool other = v.n == 8 && memcmp(v.p, "HTTP/", 5) == 0 && v.p[6] == '.';
    if (other) return http__parse_fail(p, 505, "HTTP version is not 1.0 or 1.1");
    return http__parse_fail(p, 400, "bad request line");
}

/* method SP target SP version, one blank each. */
static bool check_request_line(HttpParse *p, Slice line) {
    const char *sp1 = memchr(line.p, ' ', line.n);
    const char *end = line.p + line.n;
    const char *sp2 = sp1 ? memchr(sp1 + 1, ' ', (size_t)(end - sp1 - 1)) : NULL;
    if (!sp2) return http__parse_fail(p, 400, "bad request line");
    p->method = (Slice){line.p, (size_t)(sp1 - line.p)};
    p->target = (Slice){sp1 + 1, (size_t)(sp2 - sp1 - 1)};
    bool ok = all_token(p->method) && p->method.n <= HTTP_MAX_METHOD && p->target.n > 0;
    for (size_t i = 0; i < p->target.n; i++)
        ok = ok && p->target.p[i] > 0x20 && p->target.p[i] < 0x7f;
    if (!ok) return http__parse_fail(p, 400, "bad request line");
    if (p->max_target > 0 && p->target.n > p->max_target)
        return http__parse_fail(p, 414, "request target too long");
    return check_version(p, (Slice){sp2 + 1, (size_t)(end - sp2 - 1)}) && check_target(p);
}

static bool check_field(HttpParse *p, Slice line) {
    const char *colon = memchr(line.p, ':', line.n);
    if (!colon) return http__parse_fail(p, 400, "header line without a colon");
    if (p->n_fields == HTTP_MAX_FIELDS) return http__parse_fail(p, 431, "too many header fields");
    size_t n_name = (size_t)(colon - line.p);
    HttpField *f = &p->fields[p->n_fields++];
    f->name = (Slice){line.p, n_name};
    f->value = trim((Slice){colon + 1, line.n - n_name - 1});
    return all_token(f->name) ? true : http__parse_fail(p, 400, "bad header name");
}

/* ---- framing ---- */

/* *out is the only field of this name or NULL; several of them are refused. */
static bool find_single(HttpParse *p, const HttpField **out, const char *name,
                        const char *why_twice) {
    *out = NULL;
    for (int i = 0; i < p->n_fields; i++) {
        if (!eq_nocase(p->fields[i].name, name)) continue;
        if (*out) return http__parse_fail(p, 400, why_twice);
        *out = &p->fields[i];
    }
    return true;
}

static bool check_length(HttpParse *p, const HttpField *len) {
    if (!all_digits(len->value) || len->value.n > 18)
        return http__parse_fail(p, 400, "bad Content-Length");
    uint64_t n = 0;
    for (size_t i = 0; i < len->value.n; i++) n = n * 10 + (uint64_t)(len->value.p[i] - '0');
    return n <= p->max_body ? true : http__parse_fail(p, 413, "request body too large");
}

static bool check_framing(HttpParse *p) {
    const HttpField *len, *te;
    if (!find_single(p, &len, "content-length", "more than one Content-Length") ||
        !find_single(p, &te, "transfer-encoding", "more than one Transfer-Encoding")) {
        return false;
    }
    if (len && te) return http__parse_fail(p, 400, "both Content-Length and Transfer-Encoding");
    if (len) return check_length(p, len);
    if (!te) return true;
    if (p->version < 11) return http__parse_fail(p, 400, "Transfer-Encoding in HTTP/1.0");
    p->chunked = eq_nocase(te->value, "chunked");
    return p->chunked ? true : http__parse_fail(p, 501, "Transfer-Encoding is not chunked");
}

/* Letters, digits and what RFC 3986 allows in host and port. */
static bool host_is_sane(Slice h) {
    for (size_t i = 0; i < h.n; i++) {
        char ch = h.p[i];
        bool alnum = (ch >= '0' && ch <= '9') || ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'z');
        if (!alnum && (ch == '\0' || !strchr("-._~%!$&'()*+,;=:[]", ch))) return false;
    }
    return true;
}

static bool check_host(HttpParse *p) {
    const HttpField *host;
    if (!find_single(p, &host, "host", "more than one Host")) return false;
    if (!host && p->version >= 11) return http__parse_fail(p, 400, "no Host header");
    return !host || host_is_sane(host->value) ? true : http__parse_fail(p, 400, "bad Host header");
}

static bool check_expect(HttpParse *p) {
    Slice v = http__parse_header(p, "expect");
    if (v.n == 0 || p->version < 11) return true;
    p->wants_continue = eq_nocase(v, "100-continue");
    return p->wants_continue ? true : http__parse_fail(p, 417, "unknown expectation");
}

bool http__head_check(HttpParse *p) {
    const char *at = p->head.p, *end = p->head.p + p->head.n - 2; /* before the empty line */
    for (int i = 0; at < end; i++) {
        const char *cr = memchr(at, '\r', (size_t)(end - at));
        Slice line = {at, (size_t)(cr - at)};
        if (!(i == 0 ? check_request_line(p, line) : check_field(p, line))) return false;
        at = cr + 2;
    }
    size_t most = p->body_limit ? p->body_limit(p) : 0;
    if (most > 0) p->max_body = most;
    if (p->state == PARSE_FAILED) return false;
    return check_framing(p) && check_host(p) && check_expect(p);
}
