/* SPDX-License-Identifier: Apache-2.0
 * Lists of files to get, and what every run stands on: client, keys, token. Names come from the other side and
 * become paths here, so each is checked part by part. */
#include "hub/internal.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/io.h"
#include "base/log.h"

enum { LIST_MAX_PART = 255, TOKEN_MAX = 4096, NOTE_MAX = 400 };

/* ---- lists ---- */

static const char *bad_part(Slice s) {
    if (s.n == 0) return "an empty part";
    if (slice_eq_str(s, ".") || slice_eq_str(s, "..")) return "a part that leads elsewhere";
    if (s.n > LIST_MAX_PART) return "a part of over 255 bytes";
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7F) return "a control byte";
    return NULL;
}

static bool ends_with(Slice s, const char *tail) {
    size_t n = strlen(tail);
    return s.n >= n && memcmp(s.p + s.n - n, tail, n) == 0;
}

static const char *bad_name(Slice name) {
    if (name.n > HUB_MAX_NAME) return "over 1024 bytes";
    if (ends_with(name, ".part") || ends_with(name, ".part.json"))
        return "an ending that marks unfinished files here";
    for (size_t at = 0; at <= name.n;) {
        const char *slash = memchr(name.p + at, '/', name.n - at);
        size_t n = slash ? (size_t)(slash - name.p) - at : name.n - at;
        const char *why = bad_part((Slice){name.p + at, n});
        if (why) return why;
        at += n + 1;
    }
    return NULL;
}

static Status refuse_name(Slice name, const char *why, Err *e) {
    StrBuf b = {0};
    sb_put_quoted(&b, name, 100);
    Status st = err_set(e, ERR_FORMAT, "a file named \"%s\" is refused: %s", sb_str(&b), why);
    sb_deinit(&b);
    return st;
}

static Status grow(HubList *l, Err *e) {
    if (l->n >= HUB_MAX_FILES)
        return err_set(e, ERR_FULL, "over %d files in one folder", (int)HUB_MAX_FILES);
    if (l->n < l->cap) return OK;
    size_t cap = MAX(l->cap * 2, (size_t)32);
    HubFile *v = mem_realloc_n(l->v, cap, sizeof *v);
    if (!v) return err_set(e, ERR_NOMEM, "out of memory for a list of files");
    l->v = v;
    l->cap = cap;
    return OK;
}

Status hub__list_add(HubList *l, Slice name, const char *url, uint64_t size, HubFile **out,
                     Err *e) {
    const char *why = bad_name(name);
    if (why) return refuse_name(name, why, e);
    TRY(grow(l, e));
    HubFile f = {.size = size};
    f.name = arena_dup(&l->arena, name.p, name.n);
    f.url = arena_dup(&l->arena, url, strlen(url));
    if (!f.name || !f.url) return err_set(e, ERR_NOMEM, "out of memory for a list of files");
    l->v[l->n] = f;
    *out = &l->v[l->n++];
    return OK;
}

void hub__list_deinit(HubList *l) {
    mem_free(l->v);
    arena_deinit(&l->arena);
    *l = (HubList){0};
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const HubFile *)a)->name, ((const HubFile *)b)->name);
}

/* In order of names "a" stands somewhere before "a/b", not always just before it. */
static bool is_folder_of(const char *a, const char *b) {
    size_t n = strlen(a);
    return strncmp(a, b, n) == 0 && b[n] == '/';
}

Status hub__list_check(HubList *l, Err *e) {
    if (l->n > 1) qsort(l->v, l->n, sizeof *l->v, by_name);
    for (size_t i = 1; i < l->n; i++) {
        const char *a = l->v[i - 1].name, *b = l->v[i].name;
        if (strcmp(a, b) == 0 || is_folder_of(a, b))
            return refuse_name(slice_of(b), "another file has that place", e);
    }
    return OK;
}

bool hub__matches(const char *name, const char *const *patterns, int n) {
    for (int i = 0; i < n; i++)
        if (fnmatch(patterns[i], name, 0) == 0) return true;
    return false;
}

/* ---- runs ---- */

bool hub__stopped(const HubOpts *o) {
    return o->stop && atomic_load_explicit(o->stop, memory_order_relaxed) != 0;
}

Status hub__fail_stopped(Err *e) {
    return err_set(e, ERR_CANCELLED, "stopped; the same command goes on from here");
}

void hub__note(const HubOpts *o, const char *fmt, ...) {
    StrBuf b = {0}, shown = {0};
    va_list ap;
    va_start(ap, fmt);
    sb_vprintf(&b, fmt, ap);
    va_end(ap);
    sb_put_quoted(&shown, (Slice){sb_str(&b), b.n}, NOTE_MAX);
    if (o->note) o->note(o->ctx, sb_str(&shown));
    sb_deinit(&b);
    sb_deinit(&shown);
}

static bool token_ok(Slice t) {
    for (size_t i = 0; i < t.n; i++)
        if ((unsigned char)t.p[i] <= 0x20 || (unsigned char)t.p[i] >= 0x7F) return false;
    return t.n > 0 && t.n <= TOKEN_MAX;
}

/* Where `hf auth login` leaves the token; absent: none. */
static void read_token_file(StrBuf *b, const ConfigNet *env) {
    StrBuf path = {0};
    if (env->hf_token_path) sb_puts(&path, env->hf_token_path);
    else if (env->hf_home) sb_printf(&path, "%s/token", env->hf_home);
    else if (env->home) sb_printf(&path, "%s/.cache/huggingface/token", env->home);
    if (path.n > 0 && io_read_file(b, sb_str(&path), TOKEN_MAX, NULL) != OK) sb_clear(b);
    while (b->n > 0 && strchr(" \r\n\t", b->p[b->n - 1])) b->p[--b->n] = '\0';
    sb_deinit(&path);
}

static bool is_local(const char *url) {
    return net_same_origin(url, "http://localhost") || str_starts_with(url, "http://localhost:") ||
           str_starts_with(url, "http://127.") || str_starts_with(url, "http://[::1]");
}

static Status find_token(HubRun *r, const ConfigNet *env, Err *e) {
    StrBuf b = {0};
    Status st = OK;
    if (env->hf_token) sb_puts(&b, env->hf_token);
    else read_token_file(&b, env);
    Slice t = {sb_str(&b), b.n};
    if (env->hf_token && !token_ok(t))
        st = err_set(e, ERR_ARG, "HF_TOKEN: not a token: blanks, control bytes or over 4096 bytes");
    else if (token_ok(t)) {
        if (str_starts_with(r->endpoint, "http:") && !is_local(r->endpoint))
            hub__note(r->o, "the token is not sent to %s: it is not https", r->endpoint);
        else {
            StrBuf line = {0};
            sb_printf(&line, "Authorization: Bearer %s", sb_str(&b));
            r->token_line = arena_dup(&r->arena, sb_str(&line), line.n);
            sb_deinit(&line);
        }
    }
    sb_deinit(&b);
    return st;
}

static Status find_endpoint(HubRun *r, const ConfigNet *env, Err *e) {
    const char *s = env->hf_endpoint ? env->hf_endpoint : "https://huggingface.co";
    size_t n = strlen(s);
    while (n > 0 && s[n - 1] == '/') n--;
    r->endpoint = arena_dup(&r->arena, s, n);
    if (!r->endpoint) return err_set(e, ERR_NOMEM, "out of memory for an endpoint");
    Status st = net_check_url(r->endpoint, e);
    if (st != OK) err_in(e, "HF_ENDPOINT");
    return st;
}

static Status make_client(HubRun *r, Err *e) {
    const HubOpts *o = r->o;
    const ConfigNet *env = o->env;
    NetConfig c = {.http_proxy = env->http_proxy,
                   .https_proxy = env->https_proxy,
                   .all_proxy = env->all_proxy,
                   .no_proxy = env->no_proxy,
                   .ca_file = o->ca_file ? o->ca_file : env->ca_file,
                   .ca_dir = env->ca_dir,
                   .connect_timeout_ms = o->connect_timeout_ms,
                   .stall_timeout_ms = o->stall_timeout_ms,
                   .retries = o->retries,
                   .stop = o->stop};
    return net_client_new(&r->net, &c, e);
}

Status hub__run_init(HubRun *r, const HubOpts *o, Err *e) {
    *r = (HubRun){.o = o};
    arena_init(&r->arena, 4096);
    TRY(find_endpoint(r, o->env, e));
    TRY(find_token(r, o->env, e));
    return make_client(r, e);
}

void hub__run_deinit(HubRun *r) {
    net_client_free(r->net);
    arena_deinit(&r->arena);
    *r = (HubRun){0};
}
