/* SPDX-License-Identifier: Apache-2.0
 * An upload in parts: begun, asked after, sent several parts at a time, completed. A part counts as there only if
 * the store's checksum, or where it has none its size, is that of the file. */
#include "hub/push_internal.h"

#include <stdio.h>

#include "base/clock.h"

enum { PARTS_MAX_PAGES = 20, PARTS_MAX_SLOTS = 16, PARTS_MAX_WORDS = 4096 };

/* ---- begin ---- */

static Status take_upload_id(void *ctx, const char *path, Slice v, Err *e) {
    StrBuf *id = ctx;
    (void)e;
    if (strcmp(path, "InitiateMultipartUploadResult/UploadId") == 0) sb_put(id, v.p, v.n);
    return OK;
}

Status hub__push_create(Push *p, Err *e) {
    NetAnswer a = {0};
    StrBuf meta = {0}, id = {0};
    sb_printf(&meta, "x-amz-meta-sha256: %s", p->sha256);
    const char *headers[] = {"x-amz-checksum-algorithm: SHA256", sb_str(&meta)};
    Status st = sb_check(&meta, e);
    if (st == OK) st = hub__push_ask(&a, p, "POST", "uploads=", (Slice){"", 0}, headers, 2, e);
    if (st == OK && a.status != 200) st = hub__push_refused(p, &a, e);
    if (st == OK) st = hub__xml_walk((Slice){sb_str(&a.body), a.body.n}, take_upload_id, &id, e);
    if (st == OK && (id.n == 0 || id.n > 1024))
        st = err_set(e, ERR_FORMAT, "%.100s: the store gives no id of an upload", p->key);
    sb_clear(&p->upload);
    if (st == OK) net_put_escaped(&p->upload, (Slice){id.p, id.n}, "");
    if (st == OK) st = sb_check(&p->upload, e);
    net_answer_deinit(&a);
    sb_deinit(&meta);
    sb_deinit(&id);
    return st;
}

/* ---- what is there ---- */

typedef struct Parts {
    Push *p;
    uint64_t number, size;
    char etag[PUSH_MAX_ETAG], sum[64];
    uint64_t marker;
    bool more;
} Parts;

static void copy_text(char *out, size_t cap, Slice v) {
    bool ok = v.n < cap && !memchr(v.p, 0, v.n);
    for (size_t i = 0; ok && i < v.n; i++)
        if ((unsigned char)v.p[i] < 0x20 || strchr("<>&", v.p[i])) ok = false;
    if (ok) memcpy(out, v.p, v.n);
    out[ok ? v.n : 0] = '\0';
}

static uint64_t number(Slice v) {
    char num[24] = {0};
    uint64_t n = 0;
    if (v.n < sizeof num) memcpy(num, v.p, v.n);
    return str_to_u64(&n, num) ? n : 0;
}

static void take_part(Parts *x) {
    Push *p = x->p;
    char mine[PUSH_BASE64];
    if (x->number == 0 || x->number > (uint64_t)p->n_parts) return;
    int i = (int)x->number - 1;
    hub__push_base64(mine, p->parts[i].sha256);
    bool same = x->size == hub__push_part(p, i).n && (!x->sum[0] || strcmp(mine, x->sum) == 0);
    if (same && x->etag[0]) memcpy(p->parts[i].etag, x->etag, sizeof x->etag);
}

static Status take_listing(void *ctx, const char *path, Slice v, Err *e) {
    Parts *x = ctx;
    (void)e;
    if (!str_starts_with(path, "ListPartsResult/")) return OK;
    path += strlen("ListPartsResult/");
    if (strcmp(path, "IsTruncated") == 0) x->more = slice_eq_str(v, "true");
    if (strcmp(path, "NextPartNumberMarker") == 0) x->marker = number(v);
    if (strcmp(path, "Part/PartNumber") == 0) x->number = number(v);
    if (strcmp(path, "Part/Size") == 0) x->size = number(v);
    if (strcmp(path, "Part/ETag") == 0) copy_text(x->etag, sizeof x->etag, v);
    if (strcmp(path, "Part/ChecksumSHA256") == 0) copy_text(x->sum, sizeof x->sum, v);
    if (strcmp(path, "Part") == 0) {
        take_part(x);
        x->number = x->size = 0;
        x->etag[0] = x->sum[0] = '\0';
    }
    return OK;
}

static Status one_page(Parts *x, bool *alive, Err *e) {
    Push *p = x->p;
    NetAnswer a = {0};
    StrBuf q = {0};
    if (x->marker > 0) sb_printf(&q, "part-number-marker=%llu&", (unsigned long long)x->marker);
    sb_printf(&q, "uploadId=%s", sb_str(&p->upload));
    Status st = sb_check(&q, e);
    if (st == OK) st = hub__push_ask(&a, p, "GET", sb_str(&q), (Slice){"", 0}, NULL, 0, e);
    x->more = false;
    *alive = st == OK && a.status == 200;
    if (*alive) st = hub__xml_walk((Slice){sb_str(&a.body), a.body.n}, take_listing, x, e);
    else if (st == OK && a.status != 404) st = hub__push_refused(p, &a, e);
    net_answer_deinit(&a);
    sb_deinit(&q);
    return st;
}

Status hub__push_resume(Push *p, bool *alive, Err *e) {
    Parts x = {.p = p};
    TRY(one_page(&x, alive, e));
    for (int n = 1; *alive && x.more; n++) {
        if (n >= PARTS_MAX_PAGES || x.marker == 0)
            return err_set(e, ERR_FORMAT, "%.100s: a list of parts without an end", p->key);
        TRY(one_page(&x, alive, e));
    }
    return OK;
}

/* ---- send ---- */

typedef struct Send Send;
typedef struct SendSlot {
    Send *x;
    int part; /* -1: free */
    NetCall *call;
    const char *url; /* in the arena of the run */
    uint64_t sent;
} SendSlot;

struct Send {
    Push *p;
    SendSlot slots[PARTS_MAX_SLOTS];
    int n_slots, n_there, n_fails;
    uint64_t there, not_before_ms; /* bytes the store has */
    bool failed;
    Err err;
};

static void give_up(Send *x, const Err *e) {
    if (x->failed) return;
    x->failed = true;
    x->err = *e;
}

static Status read_part(void *ctx, uint64_t at, void *b, size_t n, Err *e) {
    SendSlot *s = ctx;
    (void)e;
    memcpy(b, hub__push_part(s->x->p, s->part).p + at, n);
    s->sent = at + n;
    return OK;
}

static Status sign_part(void *ctx, StrBuf *lines, Err *e) {
    SendSlot *s = ctx;
    Push *p = s->x->p;
    char sum64[PUSH_BASE64], sum[PUSH_MAX_LINE];
    hub__push_base64(sum64, p->parts[s->part].sha256);
    snprintf(sum, sizeof sum, "x-amz-checksum-sha256: %s", sum64);
    const char *headers[] = {sum};
    HubS3Request rq = {.method = "PUT",
                       .url = s->url,
                       .payload = p->parts[s->part].sha256,
                       .headers = headers,
                       .n_headers = 1};
    return hub__s3_sign(lines, &p->run.s3, &rq, hub__s3_now(), e);
}

static void part_there(Send *x, int i, const NetCall *c) {
    PushPart *part = &x->p->parts[i];
    copy_text(part->etag, sizeof part->etag, net_header(c, "etag"));
    Err e = {0};
    if (!part->etag[0]) {
        err_set(&e, ERR_FORMAT, "%.100s: the store gives no ETag for part %d", x->p->key, i + 1);
        give_up(x, &e);
    }
    x->n_there++;
    x->n_fails = 0;
    x->there += hub__push_part(x->p, i).n;
    x->p->out->sent += hub__push_part(x->p, i).n;
}

static void part_failed(Send *x, NetCall *c, const Err *err) {
    Push *p = x->p;
    StrBuf why = {0};
    Err e = *err;
    int status = net_status(c);
    if (status != 0 && e.code == OK) {
        hub__s3_error(&why, net_body(c));
        hub__say_status(&p->run, p->key, net_url(c), status, (Slice){sb_str(&why), why.n}, &e);
    } else hub__hint(&p->run, &e, net_fault(c), net_url(c));
    sb_deinit(&why);
    int ms = net_backoff_ms(++x->n_fails, net_retry_after(c), clock_now_ns());
    if (!net_may_retry(c) || x->n_fails > p->o->retries || ms < 0) {
        give_up(x, &e);
        return;
    }
    p->out->n_retries++;
    x->not_before_ms = clock_now_ns() / 1000000 + (uint64_t)ms;
}

static void on_done(void *ctx, NetCall *c, Status st, const Err *err) {
    SendSlot *s = ctx;
    Send *x = s->x;
    int i = s->part;
    s->part = -1;
    s->call = NULL;
    s->sent = 0;
    x->p->parts[i].busy = false;
    if (st == OK && net_status(c) == 200) part_there(x, i, c);
    else part_failed(x, c, err);
}

static Status start_part(SendSlot *s, int i, Err *e) {
    Push *p = s->x->p;
    StrBuf q = {0};
    sb_printf(&q, "partNumber=%d&uploadId=%s", i + 1, sb_str(&p->upload));
    char *url = hub__s3_url(&p->run.s3, p->bucket, p->key, sb_str(&q), &p->run.arena);
    sb_deinit(&q);
    if (!url) return err_set(e, ERR_NOMEM, "out of memory for a request");
    s->part = i;
    s->url = url;
    p->parts[i].busy = true;
    NetRequest rq = {.method = "PUT",
                     .url = url,
                     .sign = sign_part,
                     .read = read_part,
                     .n_body = hub__push_part(p, i).n,
                     .no_redirects = true,
                     .on_done = on_done,
                     .ctx = s};
    Status st = net_start(&s->call, p->run.net, &rq, e);
    if (st != OK) {
        s->part = -1;
        p->parts[i].busy = false;
    }
    return st;
}

static int next_part(const Push *p) {
    for (int i = 0; i < p->n_parts; i++)
        if (!p->parts[i].etag[0] && !p->parts[i].busy) return i;
    return -1;
}

static Status start_parts(Send *x, Err *e) {
    if (clock_now_ns() / 1000000 < x->not_before_ms) return OK;
    for (int k = 0; k < x->n_slots; k++) {
        int i = x->slots[k].part < 0 ? next_part(x->p) : -1;
        if (i >= 0) TRY(start_part(&x->slots[k], i, e));
    }
    return OK;
}

static void show(const Send *x) {
    const HubOpts *o = x->p->o;
    uint64_t done = x->there;
    for (int k = 0; k < x->n_slots; k++) done += x->slots[k].sent;
    if (o->progress) o->progress(o->ctx, "push", done, x->p->map.n);
}

static Status send_all(Send *x, Err *e) {
    while (!x->failed && x->n_there < x->p->n_parts) {
        if (hub__stopped(x->p->o)) return hub__fail_stopped(e);
        TRY(start_parts(x, e));
        TRY(net_poll(x->p->run.net, 100, e));
        show(x);
    }
    return x->failed ? err_set(e, x->err.code, "%s", x->err.msg) : OK;
}

Status hub__push_send(Push *p, Err *e) {
    Send x = {.p = p};
    x.n_slots = MIN(p->o->connections > 0 ? p->o->connections : 4, (int)PARTS_MAX_SLOTS);
    for (int k = 0; k < x.n_slots; k++) x.slots[k] = (SendSlot){.x = &x, .part = -1};
    for (int i = 0; i < p->n_parts; i++) {
        if (!p->parts[i].etag[0]) continue;
        x.n_there++;
        x.there += hub__push_part(p, i).n;
    }
    Status st = send_all(&x, e);
    for (int k = 0; k < x.n_slots; k++)
        if (x.slots[k].part >= 0) net_cancel(x.slots[k].call);
    return st;
}

/* ---- complete ---- */

static Status take_location(void *ctx, const char *path, Slice v, Err *e) {
    (void)v;
    (void)e;
    if (strcmp(path, "CompleteMultipartUploadResult") == 0) *(bool *)ctx = true;
    return OK;
}

static void put_parts(StrBuf *b, const Push *p) {
    char sum[PUSH_BASE64];
    sb_puts(b, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (int i = 0; i < p->n_parts; i++) {
        hub__push_base64(sum, p->parts[i].sha256);
        sb_printf(b, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag>", i + 1, p->parts[i].etag);
        sb_printf(b, "<ChecksumSHA256>%s</ChecksumSHA256></Part>", sum);
    }
    sb_puts(b, "</CompleteMultipartUpload>");
}

/* The status is sent before the work is done: an error may come with 200. */
Status hub__push_complete(Push *p, Err *e) {
    NetAnswer a = {0};
    StrBuf q = {0}, body = {0};
    bool done = false;
    sb_printf(&q, "uploadId=%s", sb_str(&p->upload));
    put_parts(&body, p);
    Status st = sb_check(&body, e);
    if (st == OK) st = sb_check(&q, e);
    if (st == OK)
        st = hub__push_ask(&a, p, "POST", sb_str(&q), (Slice){body.p, body.n}, NULL, 0, e);
    if (st == OK && a.status == 200) {
        Err why = {0};
        Status ok = hub__xml_walk((Slice){sb_str(&a.body), a.body.n}, take_location, &done, &why);
        if (ok != OK) done = false;
    }
    if (st == OK && !done) st = hub__push_refused(p, &a, e);
    net_answer_deinit(&a);
    sb_deinit(&q);
    sb_deinit(&body);
    return st;
}
