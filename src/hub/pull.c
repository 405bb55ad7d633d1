/* SPDX-License-Identifier: Apache-2.0
 * Pulling: from a source to a list of files, from there to what has to be fetched, and then the fetching. */
#include <stdio.h>

#include "base/io.h"
#include "hub/internal.h"

#define PULL_ROOM_LEFT ((uint64_t)16 << 20)
enum { PULL_MAX_BESIDE = 4096 };

typedef enum SourceKind { SOURCE_HF, SOURCE_WEB, SOURCE_S3 } SourceKind;

typedef struct Pull {
    HubRun run;
    HubList list;
    const HubPullOpts *o;
    const char *source;
    SourceKind kind;
    HubPulled *out;
} Pull;

static Status find_kind(Pull *p, Err *e) {
    if (str_starts_with(p->source, "hf:")) p->kind = SOURCE_HF;
    else if (str_starts_with(p->source, "s3://")) p->kind = SOURCE_S3;
    else if (str_starts_with(p->source, "https://") || str_starts_with(p->source, "http://"))
        p->kind = SOURCE_WEB;
    else
        return err_set(e, ERR_ARG,
                       "\"%.120s\": want hf:OWNER/REPO, https://..., or s3://BUCKET/KEY",
                       p->source);
    return OK;
}

static const char *last_part(const char *name) {
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

/* ---- one URL ---- */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The last part of a URL's path, %XX decoded; the caller checks it like any other name. */
static void put_url_name(StrBuf *b, const char *url) {
    const char *path = strstr(url, "://");
    path = path ? path + 3 : url;
    size_t n = strcspn(path, "?#");
    size_t from = n;
    while (from > 0 && path[from - 1] != '/') from--;
    if (!memchr(path, '/', n)) from = n;
    for (size_t i = from; i < n; i++) {
        int hi = path[i] == '%' && i + 2 < n ? hex_digit(path[i + 1]) : -1;
        int lo = hi >= 0 ? hex_digit(path[i + 2]) : -1;
        sb_putc(b, lo >= 0 ? (char)(hi * 16 + lo) : path[i]);
        if (lo >= 0) i += 2;
    }
}

static Status list_web(Pull *p, Err *e) {
    StrBuf name = {0};
    HubFile *f = NULL;
    Status st = net_check_url(p->source, e);
    put_url_name(&name, p->source);
    if (st == OK) st = sb_check(&name, e);
    if (st == OK && name.n == 0 && p->o->output) sb_puts(&name, last_part(p->o->output));
    if (st == OK && name.n == 0)
        st = err_set(e, ERR_ARG, "%.150s: names no file; say -o FILE", p->source);
    if (st == OK && (memchr(name.p, '/', name.n) || memchr(name.p, 0, name.n)))
        st = err_set(e, ERR_ARG, "%.150s: no name for a file; say -o FILE", p->source);
    if (st == OK)
        st = hub__list_add(&p->list, (Slice){name.p, name.n}, p->source, HUB_UNKNOWN, &f, e);
    sb_deinit(&name);
    return st;
}

static Status list_object(Pull *p, Err *e) {
    char *bucket, *key;
    HubFile *f = NULL;
    TRY(hub__s3_split(&bucket, &key, p->source, &p->run.arena, e));
    const char *url = hub__s3_url(&p->run.s3, bucket, key, NULL, &p->run.arena);
    if (!url) return err_set(e, ERR_NOMEM, "out of memory for a url");
    return hub__list_add(&p->list, slice_of(last_part(key)), url, HUB_UNKNOWN, &f, e);
}

static Status list_s3(Pull *p, Err *e) {
    TRY(hub__s3_init(&p->run.s3, p->o->hub.env, &p->run.arena, e));
    size_t n = strlen(p->source);
    bool folder = p->source[n - 1] == '/' || !strchr(p->source + 5, '/');
    return folder ? hub__s3_list(&p->list, &p->run, p->source, p->o, e) : list_object(p, e);
}

/* A repository may keep its one wanted file in a folder; it goes where a single file goes. */
static Status list_hf(Pull *p, Err *e) {
    TRY(hub__hf_list(&p->list, &p->run, p->source, p->o, e));
    if (!p->list.folder) p->list.v[0].name = last_part(p->list.v[0].name);
    return OK;
}

static Status make_list(Pull *p, Err *e) {
    Status st = p->kind == SOURCE_HF   ? list_hf(p, e)
                : p->kind == SOURCE_S3 ? list_s3(p, e)
                                       : list_web(p, e);
    return st == OK ? hub__list_check(&p->list, e) : st;
}

/* ---- where to ---- */

static const char *folder_name(Pull *p) {
    if (p->o->output) return p->o->output;
    if (p->kind == SOURCE_HF) return hub__hf_folder(&p->run, p->source);
    size_t n = strlen(p->source);
    while (n > 0 && p->source[n - 1] == '/') n--;
    size_t from = n;
    while (from > 0 && p->source[from - 1] != '/') from--;
    return arena_dup(&p->run.arena, p->source + from, n - from);
}

static bool is_folder(const char *path) {
    StrBuf b = {0};
    sb_printf(&b, "%s/.", path);
    bool yes = io_exists(sb_str(&b));
    sb_deinit(&b);
    return yes;
}

static const char *join(Pull *p, const char *dir, const char *name) {
    StrBuf b = {0};
    size_t n = strlen(dir);
    sb_printf(&b, "%s%s%s", dir, n > 0 && dir[n - 1] == '/' ? "" : "/", name);
    const char *s = b.failed ? NULL : arena_dup(&p->list.arena, b.p, b.n);
    sb_deinit(&b);
    return s;
}

static Status set_paths(Pull *p, Err *e) {
    HubFile *f = p->list.v;
    const char *out = p->o->output;
    const char *top = NULL;
    if (p->list.folder) {
        top = folder_name(p);
        for (size_t i = 0; top && i < p->list.n; i++)
            if (!(f[i].path = join(p, top, f[i].name))) top = NULL;
    } else {
        bool into = out && (str_ends_with(out, "/") || is_folder(out));
        top = f->path = !out ? f->name : into ? join(p, out, f->name) : out;
    }
    if (!top) return err_set(e, ERR_NOMEM, "out of memory for names of files");
    snprintf(p->out->output, sizeof p->out->output, "%s", top);
    return OK;
}

/* ---- digests that somebody promises ---- */

/* "HEX", "HEX  NAME" or "HEX *NAME" lines: the one for this name, or the only one. */
static bool find_digest(char *hex, Slice text, const char *name) {
    char found[DIGEST_HEX];
    int n_lines = 0;
    bool any = false;
    for (const char *p = text.p, *end = text.p + text.n; p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((nl ? nl : end) - p);
        while (n > 0 && strchr(" \r\t", p[n - 1])) n--;
        if (n >= HUB_SHA256_HEX &&
            digest_parse_hex(found, (Slice){p, HUB_SHA256_HEX}, HUB_SHA256_HEX)) {
            Slice rest = {p + HUB_SHA256_HEX, n - HUB_SHA256_HEX};
            while (rest.n > 0 && strchr(" *\t", rest.p[0])) rest = (Slice){rest.p + 1, rest.n - 1};
            bool mine = slice_eq_str(rest, name);
            if (mine || (rest.n == 0 && !any)) memcpy(hex, found, sizeof found);
            any |= rest.n == 0;
            if (mine) return true;
        }
        n_lines += n > 0;
        p = nl ? nl + 1 : end;
    }
    return any && n_lines == 1;
}

/* FILE.sha256 beside FILE, if there is one that says something about it. */
static Status ask_beside(Pull *p, HubFetch *ft, Err *e) {
    HubFile *f = p->list.v;
    StrBuf url = {0};
    NetAnswer a = {0};
    Err why = {0};
    if (strpbrk(f->url, "?#") || f->sha256[0] || str_ends_with(f->url, ".sha256")) return OK;
    sb_printf(&url, "%s.sha256", f->url);
    HubS3Call b = {.s3 = &p->run.s3,
                   .rq = {.method = "GET", .url = sb_str(&url), .payload = HUB_EMPTY_SHA256}};
    NetRequest rq = {.url = sb_str(&url),
                     .secrets = ft->secrets,
                     .n_secrets = ft->n_secrets,
                     .no_redirects = ft->s3,
                     .sign = ft->s3 ? hub__s3_sign_call : NULL,
                     .ctx = &b,
                     .max_reply = PULL_MAX_BESIDE};
    Status st = net_ask(&a, p->run.net, &rq, &why);
    if (st == OK && a.status == 200)
        find_digest(f->sha256, (Slice){sb_str(&a.body), a.body.n}, f->name);
    bool nobody = a.fault == NET_RESOLVE || a.fault == NET_CONNECT || a.fault == NET_TLS;
    if (st != OK && nobody) hub__hint(&p->run, &why, a.fault, sb_str(&url));
    bool matters = st == ERR_CANCELLED || st == ERR_NOMEM || nobody;
    net_answer_deinit(&a);
    sb_deinit(&url);
    return matters ? err_set(e, st, "%s", why.msg) : OK;
}

static Status take_digest(Pull *p, HubFetch *ft, Err *e) {
    const char *want = p->o->sha256;
    HubFile *f = p->list.v;
    if (p->list.folder && want)
        return err_set(e, ERR_ARG, "--sha256 is for one file, and %.100s is a folder", p->source);
    if (p->list.folder) return OK;
    if (!want) return p->kind == SOURCE_HF || p->o->list ? OK : ask_beside(p, ft, e);
    char hex[DIGEST_HEX];
    if (!digest_parse_hex(hex, slice_of(want), HUB_SHA256_HEX))
        return err_set(e, ERR_ARG, "--sha256 %.80s: want 64 hexadecimal digits", want);
    if (f->sha256[0] && strcmp(hex, f->sha256) != 0)
        return err_set(e, ERR_FORMAT, "%.80s: its sha256 is %.16s... there, not %.16s...", f->name,
                       f->sha256, hex);
    memcpy(f->sha256, hex, sizeof hex);
    return OK;
}

/* ---- what is there already ---- */

static Status check_present(Pull *p, HubFile *f, Err *e) {
    char hex[DIGEST_HEX];
    uint64_t size = 0;
    bool git = !f->sha256[0];
    const char *want = git ? f->git_sha1 : f->sha256;
    if (!io_exists(f->path) || !want[0]) return OK;
    TRY(io_file_size(&size, f->path, e));
    if (f->size == HUB_UNKNOWN || f->size == size) {
        TRY(hub__file_digest(hex, f->path, git, &p->o->hub, "look", e));
        f->present = strcmp(hex, want) == 0;
    }
    if (f->present) f->size = size;
    if (f->present || p->o->force) return OK;
    return err_set(e, ERR_ARG, "%.150s: exists and differs; --force replaces it", f->path);
}

static Status check_room(const Pull *p, Err *e) {
    uint64_t want = 0, room = 0, size = 0;
    for (size_t i = 0; i < p->list.n; i++) {
        const HubFile *f = &p->list.v[i];
        StrBuf part = {0};
        if (f->present || f->size == HUB_UNKNOWN) continue;
        want += f->size;
        sb_printf(&part, "%s.part", f->path);
        /* what a .part has taken of the disk already is not taken again */
        if (!part.failed && io_exists(part.p) && io_file_size(&size, part.p, NULL) == OK)
            want -= MIN(want, MIN(size, f->size));
        sb_deinit(&part);
    }
    if (want == 0) return OK;
    TRY(hub__disk_free(&room, p->list.v[0].path, e));
    if (want + PULL_ROOM_LEFT <= room) return OK;
    return err_set(e, ERR_FULL, "needs %llu bytes more, the disk has %llu free",
                   (unsigned long long)want, (unsigned long long)room);
}

static Status look_around(Pull *p, Err *e) {
    for (size_t i = 0; i < p->list.n; i++) TRY(check_present(p, &p->list.v[i], e));
    return check_room(p, e);
}

/* ---- all of it ---- */

static void tell(const Pull *p) {
    for (size_t i = 0; p->o->found && i < p->list.n; i++) {
        const HubFile *f = &p->list.v[i];
        p->o->found(p->o->hub.ctx, f->name, f->size == HUB_UNKNOWN ? -1 : (int64_t)f->size,
                    f->sha256);
    }
}

static void count(Pull *p) {
    HubPulled *out = p->out;
    out->n_files = (int)p->list.n;
    for (size_t i = 0; i < p->list.n; i++) {
        const HubFile *f = &p->list.v[i];
        out->n_present += f->present;
        if (f->size != HUB_UNKNOWN) out->bytes += f->size;
    }
    if (!p->list.folder) memcpy(out->sha256, p->list.v[0].sha256, sizeof out->sha256);
}

static Status pull(Pull *p, Err *e) {
    HubFetch ft = {
        .run = &p->run, .o = p->o, .list = &p->list, .s3 = p->kind == SOURCE_S3, .out = p->out};
    TRY(make_list(p, e));
    bool token = p->run.token_line && net_same_origin(p->list.v[0].url, p->run.endpoint);
    if (p->kind == SOURCE_WEB && p->o->n_headers > 0) {
        ft.secrets = p->o->headers;
        ft.n_secrets = p->o->n_headers;
    } else if (token) {
        ft.secrets = &p->run.token_line;
        ft.n_secrets = 1;
    }
    TRY(take_digest(p, &ft, e));
    TRY(set_paths(p, e));
    Status st = OK;
    if (p->o->list) tell(p);
    else {
        TRY(look_around(p, e));
        st = hub__fetch(&ft, e);
    }
    count(p);
    return st;
}

Status hub_pull(HubPulled *out, const char *source, const HubPullOpts *o, Err *e) {
    Pull p = {.o = o, .source = source, .out = out};
    *out = (HubPulled){0};
    arena_init(&p.list.arena, 16 << 10);
    Status st = find_kind(&p, e);
    if (st == OK) st = hub__run_init(&p.run, &o->hub, e);
    if (st == OK) st = pull(&p, e);
    hub__list_deinit(&p.list);
    hub__run_deinit(&p.run);
    return st;
}
