/* SPDX-License-Identifier: Apache-2.0
 * Heads of answers: kept as lines, bounded, and read at their end. A call sees several heads: of a proxy
 * (which libcurl keeps to itself), of 1xx answers, of redirects, and the last one; each starts over. */
#include "net/client_internal.h"

#include <strings.h>

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static Slice trim(Slice s) {
    while (s.n > 0 && is_blank(s.p[0])) s = (Slice){s.p + 1, s.n - 1};
    while (s.n > 0 && is_blank(s.p[s.n - 1])) s.n--;
    return s;
}

Slice net__find_header(const StrBuf *head, const char *name) {
    size_t n_name = strlen(name);
    const char *p = sb_str(head), *end = p + head->n;
    while (p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((nl ? nl : end) - p);
        if (n > n_name && p[n_name] == ':' && strncasecmp(p, name, n_name) == 0)
            return trim((Slice){p + n_name + 1, n - n_name - 1});
        p += n + 1;
    }
    return (Slice){"", 0};
}

/* "HTTP/1.1 200 OK": three digits after the first blank; 0 if there are none. */
static int parse_status(Slice line) {
    const char *p = memchr(line.p, ' ', line.n);
    int v = 0, n = 0;
    if (!p) return 0;
    for (p++; p < line.p + line.n && *p >= '0' && *p <= '9' && n < 4; p++, n++)
        v = v * 10 + (*p - '0');
    return n == 3 ? v : 0;
}

static bool leads_elsewhere(const NetCall *c) {
    static const int CODES[] = {301, 302, 303, 307, 308};
    for (size_t i = 0; i < COUNT_OF(CODES); i++)
        if (c->status == CODES[i] && !c->rq.no_redirects) return net_header(c, "location").n > 0;
    return false;
}

static Status end_of_head(NetCall *c) {
    if (c->status >= 100 && c->status < 200 && c->status != 101)
        return OK; /* another head follows */
    c->head_done = true;
    if (c->status < 200 || c->status > 599)
        return err_set(&c->err, ERR_FORMAT, "%.120s: an answer with status %d", c->host, c->status);
    c->redirect = leads_elsewhere(c);
    if (c->redirect) return c->rq.on_hop ? c->rq.on_hop(c->rq.ctx, c, &c->err) : OK;
    return c->rq.on_head ? c->rq.on_head(c->rq.ctx, c, &c->err) : OK;
}

Status net__head_line(NetCall *c, Slice line) {
    if (c->head_done) return OK; /* trailers */
    if (line.n >= 5 && memcmp(line.p, "HTTP/", 5) == 0) {
        sb_clear(&c->head);
        c->n_head = 0;
        c->status = parse_status(line);
    }
    c->n_head += line.n;
    if (c->n_head > c->client->cfg.max_head_bytes)
        return err_set(&c->err, ERR_FULL, "%.120s: the head of the answer is over %zu bytes",
                       c->host, c->client->cfg.max_head_bytes);
    Slice s = trim(line);
    if (s.n == 0) return end_of_head(c);
    sb_put(&c->head, s.p, s.n);
    sb_putc(&c->head, '\n');
    return sb_check(&c->head, &c->err);
}

int64_t net_parse_date(const char *text) {
    time_t t = curl_getdate(text, NULL);
    return t > 0 ? (int64_t)t : 0;
}
