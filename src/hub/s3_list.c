/* SPDX-License-Identifier: Apache-2.0
 * The objects below s3://BUCKET/PREFIX/, page by page (ListObjectsV2). Keys come escaped, as they may hold any byte. */
#include "hub/internal.h"

#include <stdlib.h>

enum { LIST_MAX_PAGES = 1000 };

typedef struct Page {
    HubList *l;
    HubRun *r;
    const HubPullOpts *o;
    const char *bucket, *prefix;
    StrBuf key, token;
    uint64_t size;
    bool more;
} Page;

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static Status unescape(StrBuf *b, Slice s, Err *e) {
    sb_clear(b);
    for (size_t i = 0; i < s.n; i++) {
        bool pct = s.p[i] == '%';
        int hi = pct && i + 2 < s.n ? hex_digit(s.p[i + 1]) : -1;
        int lo = hi >= 0 ? hex_digit(s.p[i + 2]) : -1;
        if (pct && lo < 0) return err_set(e, ERR_FORMAT, "a listing with a key that is cut off");
        char c = pct ? (char)(hi * 16 + lo) : s.p[i];
        sb_putc(b, c == '+' && !pct ? ' ' : c);
        if (pct) i += 2;
    }
    return sb_check(b, e);
}

static Status add_object(Page *p, Err *e) {
    size_t n = strlen(p->prefix);
    HubFile *f = NULL;
    if (p->key.n < n || memcmp(p->key.p, p->prefix, n) != 0)
        return err_set(e, ERR_FORMAT, "a listing with a key outside of %.100s", p->prefix);
    Slice name = {p->key.p + n, p->key.n - n};
    if (name.n == 0 || name.p[name.n - 1] == '/') return OK; /* stands for the folder itself */
    if (memchr(name.p, 0, name.n)) return err_set(e, ERR_FORMAT, "a listing with a zero in a key");
    if (p->o->n_include > 0 && !hub__matches(name.p, p->o->include, p->o->n_include)) return OK;
    if (hub__matches(name.p, p->o->exclude, p->o->n_exclude)) return OK;
    const char *url = hub__s3_url(&p->r->s3, p->bucket, p->key.p, NULL, &p->r->arena);
    if (!url) return err_set(e, ERR_NOMEM, "out of memory for a list of files");
    return hub__list_add(p->l, name, url, p->size, &f, e);
}

static Status take(void *ctx, const char *path, Slice v, Err *e) {
    Page *p = ctx;
    if (!str_starts_with(path, "ListBucketResult/")) return OK;
    path += strlen("ListBucketResult/");
    if (strcmp(path, "Contents/Key") == 0) return unescape(&p->key, v, e);
    if (strcmp(path, "Contents/Size") == 0) {
        char num[24] = {0};
        if (v.n >= sizeof num) v.n = 0;
        if (v.n > 0) memcpy(num, v.p, v.n);
        if (!str_to_u64(&p->size, num) || p->size > HUB_MAX_SIZE)
            return err_set(e, ERR_FORMAT, "a listing with a size that is none");
    }
    if (strcmp(path, "IsTruncated") == 0) p->more = slice_eq_str(v, "true");
    if (strcmp(path, "NextContinuationToken") == 0) {
        sb_clear(&p->token);
        sb_put(&p->token, v.p, v.n);
    }
    if (strcmp(path, "Contents") == 0) return add_object(p, e);
    return OK;
}

/* Names of the query in order, as the signature wants it. */
static char *page_url(Page *p) {
    StrBuf q = {0};
    if (p->token.n > 0) {
        sb_puts(&q, "continuation-token=");
        net_put_escaped(&q, (Slice){p->token.p, p->token.n}, "");
        sb_putc(&q, '&');
    }
    sb_puts(&q, "encoding-type=url&list-type=2&prefix=");
    net_put_escaped(&q, slice_of(p->prefix), "");
    char *url = q.failed ? NULL : hub__s3_url(&p->r->s3, p->bucket, "", sb_str(&q), &p->r->arena);
    sb_deinit(&q);
    return url;
}

static Status one_page(Page *p, Err *e) {
    NetAnswer a = {0};
    StrBuf why = {0};
    HubS3Call s = {.s3 = &p->r->s3,
                   .rq = {.method = "GET", .url = page_url(p), .payload = HUB_EMPTY_SHA256}};
    if (!s.rq.url) return err_set(e, ERR_NOMEM, "out of memory for a listing");
    NetRequest rq = {.url = s.rq.url,
                     .sign = hub__s3_sign_call,
                     .ctx = &s,
                     .no_redirects = true,
                     .max_reply = HUB_MAX_LISTING};
    Status st = net_ask(&a, p->r->net, &rq, e);
    Slice body = {sb_str(&a.body), a.body.n};
    p->more = false;
    if (st != OK) hub__hint(p->r, e, a.fault, s.rq.url);
    else if (a.status == 200) st = hub__xml_walk(body, take, p, e);
    else {
        hub__s3_error(&why, body);
        st = hub__say_status(p->r, p->bucket, s.rq.url, a.status, (Slice){sb_str(&why), why.n}, e);
    }
    net_answer_deinit(&a);
    sb_deinit(&why);
    return st;
}

Status hub__s3_list(HubList *l, HubRun *r, const char *source, const HubPullOpts *o, Err *e) {
    Page p = {.l = l, .r = r, .o = o};
    char *bucket, *prefix;
    TRY(hub__s3_split(&bucket, &prefix, source, &r->arena, e));
    p.bucket = bucket;
    p.prefix = prefix;
    l->folder = true;
    Status st = one_page(&p, e);
    for (int n = 1; st == OK && p.more; n++) {
        if (n >= LIST_MAX_PAGES || p.token.n == 0)
            st = err_set(e, ERR_FORMAT, "%.100s: a listing without an end", source);
        else st = one_page(&p, e);
    }
    if (st == OK && l->n == 0) st = err_set(e, ERR_NOT_FOUND, "%.120s: nothing there", source);
    sb_deinit(&p.key);
    sb_deinit(&p.token);
    return st;
}
