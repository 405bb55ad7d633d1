/* SPDX-License-Identifier: Apache-2.0
 * Requests from hostile bytes. The first byte says in what pieces the rest arrives; fed whole and fed in
 * pieces it must give the same requests. */
#include "net/http_parse.h"
#include "text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_HEAD = 1024, MAX_BODY = 512, MAX_REQUESTS = 64 };

/* What came of a run, to compare. */
typedef struct Seen {
    int n, last_status;
    size_t used;
    uint64_t sum;
} Seen;

static void add(Seen *s, Slice x) {
    for (size_t i = 0; i < x.n; i++) s->sum = s->sum * 1099511628211u + (unsigned char)x.p[i];
    s->sum = s->sum * 31 + x.n;
}

static void check_done(const HttpParse *p, Seen *s) {
    Slice path = {sb_str(&p->path), p->path.n};
    if (!utf8_valid(path) || path.n == 0 || memchr(path.p, '\0', path.n)) __builtin_trap();
    if (p->body.n > MAX_BODY || p->head.n > MAX_HEAD || (p->version != 10 && p->version != 11))
        __builtin_trap();
    add(s, p->method);
    add(s, path);
    add(s, p->query);
    add(s, (Slice){sb_str(&p->body), p->body.n});
    for (int i = 0; i < p->n_fields; i++) {
        add(s, p->fields[i].name);
        add(s, p->fields[i].value);
    }
    s->n++;
}

static Seen run(const char *d, size_t n, size_t piece) {
    Seen s = {0};
    HttpParse p;
    http__parse_init(&p, MAX_HEAD, MAX_BODY);
    while (s.used < n && s.n < MAX_REQUESTS) {
        size_t k = http__parse_feed(&p, d + s.used, MIN(piece, n - s.used));
        s.used += k;
        if (p.state == PARSE_FAILED) break;
        if (k == 0) __builtin_trap(); /* no progress */
        if (p.state != PARSE_DONE) continue;
        check_done(&p, &s);
        http__parse_reset(&p);
    }
    if (p.state == PARSE_FAILED && (!p.why || p.status < 400)) __builtin_trap();
    s.last_status = p.status;
    http__parse_deinit(&p);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    const char *text = (const char *)data + 1;
    Seen whole = run(text, size - 1, size);
    Seen cut = run(text, size - 1, (size_t)data[0] + 1);
    if (whole.n != cut.n || whole.last_status != cut.last_status || whole.sum != cut.sum)
        __builtin_trap();
    return 0;
}
