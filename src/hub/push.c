/* SPDX-License-Identifier: Apache-2.0
 * Pushing files to S3. The file is read once for its sha256 and that of each part; then the store checks every part
 * that comes (x-amz-content-sha256), and the object says its sha256 itself (x-amz-meta-sha256), by which a pull
 * checks it and the next push knows that it is there.
 *
 *   small file:  PUT
 *   large file:  POST ?uploads -> PUT ?partNumber=N&uploadId=X, several at a time -> POST ?uploadId=X
 *
 * FILE.push remembers the upload that runs: after whatever ended it, ListParts says what the store has, and the
 * same call sends the rest. */
#include "hub/push_internal.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/io.h"
#include "text/json.h"

#define PUSH_PART_MIN ((uint64_t)16 << 20)
#define PUSH_HASH_STEP ((size_t)4 << 20)
enum { PUSH_MAX_DEPTH = 16, PUSH_PARTS_WANTED = 5000, PUSH_MAX_STATE = 1 << 16 };

/* ---- one request, waited for ---- */

Status hub__push_ask(NetAnswer *out, Push *p, const char *method, const char *query, Slice body,
                     const char *const *headers, int n_headers, Err *e) {
    Sha256 h;
    char hex[DIGEST_HEX];
    TRY(sha_256(&h, body.p, body.n, e));
    sha_hex(hex, &h);
    HubS3Call s = {.s3 = &p->run.s3,
                   .rq = {.method = method,
                          .url = hub__s3_url(&p->run.s3, p->bucket, p->key, query, &p->run.arena),
                          .payload = hex,
                          .headers = headers,
                          .n_headers = n_headers}};
    if (!s.rq.url) return err_set(e, ERR_NOMEM, "out of memory for a request");
    NetRequest rq = {.method = method,
                     .url = s.rq.url,
                     .sign = hub__s3_sign_call,
                     .ctx = &s,
                     .body = body,
                     .no_redirects = true,
                     .retry_post = true,
                     .max_reply = HUB_MAX_LISTING};
    Status st = net_ask(out, p->run.net, &rq, e);
    if (st != OK) hub__hint(&p->run, e, out->fault, s.rq.url);
    return st;
}

Status hub__push_refused(Push *p, const NetAnswer *a, Err *e) {
    StrBuf why = {0};
    const char *url = hub__s3_url(&p->run.s3, p->bucket, "", NULL, &p->run.arena);
    Slice region = net_answer_header(a, "x-amz-bucket-region");
    hub__s3_error(&why, (Slice){sb_str(&a->body), a->body.n});
    if (region.n > 0 && !slice_eq_str(region, p->run.s3.region))
        sb_printf(&why, " (the bucket is in %.*s: set AWS_REGION)", (int)MIN(region.n, (size_t)32),
                  region.p);
    Status st = hub__say_status(&p->run, p->key, url ? url : "", a->status,
                                (Slice){sb_str(&why), why.n}, e);
    sb_deinit(&why);
    return st;
}

/* ---- reading the file ---- */

static Status make_parts(Push *p, Err *e) {
    uint64_t part = MAX(p->o->piece_bytes, PUSH_PART_MIN / 16), size = p->map.n;
    if (p->o->piece_bytes == 0) part = PUSH_PART_MIN;
    part = MAX(part, ROUND_UP(size / PUSH_PARTS_WANTED, (uint64_t)1 << 20));
    p->part = part;
    p->n_parts = (int)MAX((size + part - 1) / part, (uint64_t)1);
    p->parts = mem_new_n(PushPart, (size_t)p->n_parts);
    return p->parts ? OK : err_set(e, ERR_NOMEM, "out of memory for %d parts", p->n_parts);
}

static Status hash_part(Push *p, Digest *all, int i, Err *e) {
    Slice s = hub__push_part(p, i);
    Digest *one = NULL;
    Status st = digest_new(&one, DIGEST_SHA256, e);
    for (size_t at = 0, n; st == OK && at < s.n; at += n) {
        n = MIN(s.n - at, PUSH_HASH_STEP);
        if (hub__stopped(p->o)) st = hub__fail_stopped(e);
        digest_add(one, s.p + at, n);
        digest_add(all, s.p + at, n);
    }
    if (st == OK) st = digest_finish(p->parts[i].sha256, one, e);
    if (p->o->progress) p->o->progress(p->o->ctx, "read", (uint64_t)i * p->part + s.n, p->map.n);
    digest_free(one);
    return st;
}

static Status hash_file(Push *p, Err *e) {
    Digest *all = NULL;
    Status st = digest_new(&all, DIGEST_SHA256, e);
    for (int i = 0; st == OK && i < p->n_parts; i++) st = hash_part(p, all, i, e);
    if (st == OK) st = digest_finish(p->sha256, all, e);
    digest_free(all);
    return st;
}

Slice hub__push_part(const Push *p, int i) {
    uint64_t at = (uint64_t)i * p->part;
    if (p->map.n == 0) return (Slice){"", 0};
    return (Slice){(const char *)p->map.p + at, (size_t)MIN(p->part, p->map.n - at)};
}

/* ---- what is there ---- */

/* The object has the same size and says the same sha256. */
static Status is_present(Push *p, bool *yes, Err *e) {
    NetAnswer a = {0};
    char size[24];
    Status st = hub__push_ask(&a, p, "HEAD", NULL, (Slice){"", 0}, NULL, 0, e);
    snprintf(size, sizeof size, "%llu", (unsigned long long)p->map.n);
    *yes = st == OK && a.status == 200 &&
           slice_eq_str(net_answer_header(&a, "content-length"), size) &&
           slice_eq_str(net_answer_header(&a, "x-amz-meta-sha256"), p->sha256);
    net_answer_deinit(&a);
    return st;
}

static Status put_whole(Push *p, Err *e) {
    NetAnswer a = {0};
    char sum64[PUSH_BASE64], meta[PUSH_MAX_LINE], sum[PUSH_MAX_LINE];
    hub__push_base64(sum64, p->sha256);
    snprintf(sum, sizeof sum, "x-amz-checksum-sha256: %s", sum64);
    snprintf(meta, sizeof meta, "x-amz-meta-sha256: %s", p->sha256);
    const char *headers[] = {sum, meta};
    Status st = hub__push_ask(&a, p, "PUT", NULL, hub__push_part(p, 0), headers, 2, e);
    if (st == OK && a.status != 200) st = hub__push_refused(p, &a, e);
    if (st == OK) p->out->sent += p->map.n;
    net_answer_deinit(&a);
    return st;
}

static unsigned hex_digit(char c) { return (unsigned)(c >= 'a' ? c - 'a' + 10 : c - '0'); }

void hub__push_base64(char out[PUSH_BASE64], const char *hex) {
    static const char A[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t b[33] = {0};
    for (int i = 0; i < 32; i++) b[i] = hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]);
    for (int i = 0; i < 33; i += 3, out += 4) {
        uint32_t v = b[i] << 16 | b[i + 1] << 8 | b[i + 2];
        for (int k = 0; k < 4; k++) out[k] = A[v >> (18 - 6 * k) & 63];
    }
    out[-1] = '='; /* 32 bytes: 43 digits */
    out[0] = '\0';
}

/* ---- the upload that runs ---- */

static Status save_state(Push *p, Err *e) {
    StrBuf b = {0};
    IoWriter w = {0};
    JsonW j;
    jw_init(&j, &b);
    jw_obj(&j, NULL);
    jw_cstr(&j, "format", "ingot push 1");
    jw_cstr(&j, "bucket", p->bucket);
    jw_cstr(&j, "key", p->key);
    jw_cstr(&j, "endpoint", p->run.s3.endpoint ? p->run.s3.endpoint : "");
    jw_cstr(&j, "sha256", p->sha256);
    jw_int(&j, "part", (int64_t)p->part);
    jw_cstr(&j, "upload", sb_str(&p->upload));
    jw_end_obj(&j);
    Status st = sb_check(&b, e);
    if (st == OK) st = io_writer_open(&w, p->state, true, e);
    if (st == OK) st = io_write(&w, b.p, b.n, e);
    if (st == OK) st = io_writer_close(&w, e);
    io_writer_abort(&w);
    sb_deinit(&b);
    return st;
}

static bool says(const Json *j, const char *key, const char *want) {
    return slice_eq_str(json_str(json_get(j, key)), want);
}

/* The upload of this file to this place, into p->upload. */
static bool take_state(Push *p, const Json *j, bool any_content) {
    Slice id = json_str(json_get(j, "upload"));
    if (!says(j, "format", "ingot push 1") || !says(j, "bucket", p->bucket) ||
        !says(j, "key", p->key) ||
        !says(j, "endpoint", p->run.s3.endpoint ? p->run.s3.endpoint : "") || id.n == 0)
        return false;
    if (!any_content && (!says(j, "sha256", p->sha256) ||
                         json_int_or(json_get(j, "part"), 0, INT64_MAX) != (int64_t)p->part))
        return false;
    sb_clear(&p->upload);
    net_put_escaped(&p->upload, id, "%"); /* it was written escaped */
    return !p->upload.failed;
}

static bool load_state(Push *p, bool any_content) {
    StrBuf b = {0};
    Json *j = NULL;
    Err e = {0};
    bool ok = io_read_file(&b, p->state, PUSH_MAX_STATE, &e) == OK &&
              json_parse(&j, (Slice){b.p, b.n}, &e) == OK && take_state(p, j, any_content);
    json_free(j);
    sb_deinit(&b);
    return ok;
}

static void forget_state(const Push *p) {
    if (io_exists(p->state) && io_remove(p->state, NULL) != OK)
        hub__note(p->o, "%s cannot be removed", p->state);
}

/* An upload that is not finished is paid for: the store is told to throw its parts away. */
static Status abort_upload(Push *p, Err *e) {
    NetAnswer a = {0};
    StrBuf q = {0};
    if (!load_state(p, true))
        return err_set(e, ERR_NOT_FOUND, "%.150s: no upload to that place is under way", p->path);
    sb_printf(&q, "uploadId=%s", sb_str(&p->upload));
    Status st = sb_check(&q, e);
    if (st == OK) st = hub__push_ask(&a, p, "DELETE", sb_str(&q), (Slice){"", 0}, NULL, 0, e);
    if (st == OK && a.status != 204 && a.status != 200 && a.status != 404)
        st = hub__push_refused(p, &a, e);
    if (st == OK) forget_state(p);
    net_answer_deinit(&a);
    sb_deinit(&q);
    return st;
}

static Status put_parts(Push *p, Err *e) {
    bool alive = false;
    if (load_state(p, false)) TRY(hub__push_resume(p, &alive, e));
    if (!alive) {
        TRY(hub__push_create(p, e));
        Err why = {0};
        if (save_state(p, &why) != OK)
            hub__note(p->o, "an interrupted upload could not be continued: %s", why.msg);
    }
    TRY(hub__push_send(p, e));
    Err why = {0};
    Status st = hub__push_complete(p, &why);
    bool there = false;
    /* it may have worked although the answer was lost; asking again then says that there is no such upload */
    if (st == ERR_NOT_FOUND && is_present(p, &there, NULL) == OK && there) st = OK;
    if (st != OK) return err_set(e, st, "%s", why.msg);
    forget_state(p);
    return OK;
}

/* ---- one file ---- */

static Status push_mapped(Push *p, Err *e) {
    bool present = false;
    TRY(make_parts(p, e));
    TRY(hash_file(p, e));
    TRY(is_present(p, &present, e));
    if (present) {
        p->out->n_present++;
        forget_state(p);
        return OK;
    }
    return p->n_parts == 1 ? put_whole(p, e) : put_parts(p, e);
}

static char *state_name(const char *path) {
    StrBuf b = {0};
    sb_printf(&b, "%s.push", path);
    return sb_take(&b);
}

static Status push_file(Push *p, const char *path, const char *key, Err *e) {
    p->path = path;
    p->key = key;
    p->state = state_name(path);
    if (!p->state) return err_set(e, ERR_NOMEM, "out of memory for a file");
    Status st = io_map(&p->map, path, e);
    if (st == OK) {
        p->out->n_files++;
        p->out->bytes += p->map.n;
        st = p->abort ? abort_upload(p, e) : push_mapped(p, e);
    }
    io_unmap(&p->map);
    mem_free(p->parts);
    mem_free(p->state);
    sb_deinit(&p->upload);
    p->parts = NULL;
    p->state = NULL;
    return st;
}

/* ---- folders ---- */

static bool is_ours(const char *name) {
    static const char *const TAILS[] = {".part", ".part.json", ".push", ".push.tmp"};
    for (size_t i = 0; i < COUNT_OF(TAILS); i++)
        if (str_ends_with(name, TAILS[i])) return true;
    return name[0] == '.';
}

static Status gather(HubList *l, const char *dir, const char *under, int depth, Err *e);

static Status gather_one(HubList *l, const char *dir, const char *under, const char *name,
                         int depth, Err *e) {
    StrBuf path = {0}, rel = {0};
    struct stat s;
    HubFile *f = NULL;
    sb_printf(&path, "%s/%s", dir, name);
    sb_printf(&rel, "%s%s", under, name);
    Status st = sb_check(&path, e);
    if (st == OK) st = sb_check(&rel, e);
    if (st == OK && stat(path.p, &s) < 0)
        st = err_set(e, ERR_IO, "%.200s: cannot be looked at", path.p);
    if (st == OK && S_ISDIR(s.st_mode)) {
        sb_putc(&rel, '/');
        st = gather(l, path.p, sb_str(&rel), depth + 1, e);
    } else if (st == OK && S_ISREG(s.st_mode)) {
        st = hub__list_add(l, (Slice){rel.p, rel.n}, "", (uint64_t)s.st_size, &f, e);
        if (st == OK) f->path = arena_dup(&l->arena, path.p, path.n);
        if (st == OK && !f->path) st = err_set(e, ERR_NOMEM, "out of memory for a folder");
    }
    sb_deinit(&path);
    sb_deinit(&rel);
    return st;
}

/* Links to files are followed: that is how caches of models keep them. */
static Status gather(HubList *l, const char *dir, const char *under, int depth, Err *e) {
    if (depth > PUSH_MAX_DEPTH)
        return err_set(e, ERR_FULL, "%.150s: folders more than %d deep", dir, (int)PUSH_MAX_DEPTH);
    DIR *d = opendir(dir);
    if (!d) return err_set(e, ERR_IO, "%.200s: cannot be read", dir);
    Status st = OK;
    for (struct dirent *x; st == OK && (x = readdir(d)) != NULL;)
        if (!is_ours(x->d_name)) st = gather_one(l, dir, under, x->d_name, depth, e);
    closedir(d);
    return st;
}

static Status push_folder(Push *p, const char *dir, const char *prefix, Err *e) {
    HubList l = {.folder = true};
    arena_init(&l.arena, 16 << 10);
    Status st = gather(&l, dir, "", 0, e);
    if (st == OK) st = hub__list_check(&l, e);
    if (st == OK && l.n == 0) st = err_set(e, ERR_NOT_FOUND, "%.200s: no file in it", dir);
    for (size_t i = 0; st == OK && i < l.n; i++) {
        StrBuf key = {0};
        size_t n = strlen(prefix);
        sb_printf(&key, "%s%s%s", prefix, n == 0 || prefix[n - 1] == '/' ? "" : "/", l.v[i].name);
        st = sb_check(&key, e);
        if (st == OK) st = push_file(p, l.v[i].path, sb_str(&key), e);
        if (st == ERR_NOT_FOUND && p->abort) st = OK; /* of most files no upload is under way */
        if (st == OK && e) *e = (Err){0};
        sb_deinit(&key);
    }
    hub__list_deinit(&l);
    return st;
}

static Status push_single(Push *p, const char *path, const char *prefix, Err *e) {
    StrBuf key = {0};
    const char *slash = strrchr(path, '/');
    size_t n = strlen(prefix);
    sb_puts(&key, prefix);
    if (n == 0 || prefix[n - 1] == '/') sb_puts(&key, slash ? slash + 1 : path);
    Status st = sb_check(&key, e);
    if (st == OK) st = push_file(p, path, sb_str(&key), e);
    sb_deinit(&key);
    return st;
}

static Status push(Push *p, const char *path, const char *target, Err *e) {
    char *bucket, *prefix;
    struct stat s;
    if (!str_starts_with(target, "s3://"))
        return err_set(e, ERR_ARG, "\"%.120s\": want s3://BUCKET/PREFIX", target);
    TRY(hub__s3_split(&bucket, &prefix, target, &p->run.arena, e));
    TRY(hub__s3_init(&p->run.s3, p->o->env, &p->run.arena, e));
    if (!p->run.s3.key_id)
        return err_set(e, ERR_ARG,
                       "no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                       "AWS_PROFILE");
    p->bucket = bucket;
    if (stat(path, &s) < 0) return err_set(e, ERR_NOT_FOUND, "%.200s: not there", path);
    return S_ISDIR(s.st_mode) ? push_folder(p, path, prefix, e) : push_single(p, path, prefix, e);
}

Status hub_push(HubPushed *out, const char *path, const char *target, bool abort, const HubOpts *o,
                Err *e) {
    Err own = {0};
    Push p = {.o = o, .out = out, .abort = abort};
    *out = (HubPushed){0};
    Status st = hub__run_init(&p.run, o, &own);
    if (st == OK) st = push(&p, path, target, &own);
    hub__run_deinit(&p.run);
    if (st != OK) err_set(e, st, "%s", own.msg);
    return st;
}
