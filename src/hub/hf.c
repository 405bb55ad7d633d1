/* SPDX-License-Identifier: Apache-2.0
 * Repositories of the Hugging Face hub: what a source names, the list of files, and which of them a model needs.
 *
 *   GET {endpoint}/api/models/OWNER/REPO/revision/REV?blobs=true
 *     {"sha": "<commit>", "siblings": [{"rfilename", "size", "blobId", "lfs": {"sha256", "size"}}]}
 *   GET {endpoint}/OWNER/REPO/resolve/COMMIT/PATH
 *
 * Files are asked for by the commit that was listed, so that all are of one state of the repository. */
#include "hub/internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <strings.h>

#include "text/json.h"

enum { HF_MAX_ID = 200, HF_SHOWN = 6 };

typedef struct HfSource {
    const char *repo, *rev, *file; /* file NULL: the folder */
} HfSource;

/* ---- what is meant ---- */

static bool all_in(const char *s, const char *extra) {
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr(extra, *s)) return false;
    return true;
}

static bool repo_ok(const char *s) {
    const char *slash = strchr(s, '/');
    if (slash && (slash == s || !slash[1] || strchr(slash + 1, '/'))) return false;
    return *s && *s != '.' && strlen(s) <= HF_MAX_ID && all_in(s, "/._-") && !strstr(s, "..") &&
           !strstr(s, "/.");
}

static bool rev_ok(const char *s) {
    return *s && *s != '/' && strlen(s) <= HF_MAX_ID && all_in(s, "/._-") && !strstr(s, "..");
}

static Status parse_source(HfSource *out, const char *text, Arena *a, Err *e) {
    char *s = arena_dup(a, text, strlen(text));
    if (!s) return err_set(e, ERR_NOMEM, "out of memory for a source");
    s += strlen("hf:");
    while (str_starts_with(s, "/")) s++; /* hf://OWNER/REPO */
    char *colon = strchr(s, ':'), *at;
    if (colon) *colon++ = '\0';
    at = strchr(s, '@');
    if (at) *at++ = '\0';
    *out = (HfSource){.repo = s, .rev = at ? at : "main", .file = colon && *colon ? colon : NULL};
    if (!repo_ok(out->repo) || !rev_ok(out->rev))
        return err_set(e, ERR_ARG, "\"%.120s\": want hf:OWNER/REPO[@REV][:FILE]", text);
    return OK;
}

const char *hub__hf_folder(HubRun *r, const char *source) {
    HfSource s;
    if (parse_source(&s, source, &r->arena, NULL) != OK) return NULL;
    const char *slash = strrchr(s.repo, '/');
    return slash ? slash + 1 : s.repo;
}

/* ---- the list ---- */

static Status ask_api(NetAnswer *out, HubRun *r, const HfSource *s, Err *e) {
    StrBuf url = {0};
    sb_printf(&url, "%s/api/models/%s/revision/", r->endpoint, s->repo);
    net_put_escaped(&url, slice_of(s->rev), "");
    sb_puts(&url, "?blobs=true");
    NetRequest rq = {.url = sb_str(&url),
                     .secrets = &r->token_line,
                     .n_secrets = r->token_line ? 1 : 0,
                     .max_reply = HUB_MAX_LISTING};
    Status st = sb_check(&url, e);
    if (st == OK) st = net_ask(out, r->net, &rq, e);
    if (st != OK) hub__hint(r, e, out->fault, r->endpoint);
    else if (out->status != 200) {
        Slice why = net_answer_header(out, "x-error-message");
        st = hub__say_status(r, s->repo, r->endpoint, out->status, why, e);
    }
    sb_deinit(&url);
    return st;
}

static const char *file_url(HubRun *r, const HfSource *s, const char *commit, Slice name) {
    StrBuf b = {0};
    sb_printf(&b, "%s/%s/resolve/", r->endpoint, s->repo);
    net_put_escaped(&b, slice_of(commit), "");
    sb_putc(&b, '/');
    net_put_escaped(&b, name, "/");
    const char *url = b.failed ? NULL : arena_dup(&r->arena, sb_str(&b), b.n);
    sb_deinit(&b);
    return url;
}

static uint64_t size_of(const Json *obj) {
    const Json *j = json_get(obj, "size");
    int64_t v = json_kind(j) == JSON_KIND_INT ? json_int(j) : -1;
    return v >= 0 && (uint64_t)v <= HUB_MAX_SIZE ? (uint64_t)v : HUB_UNKNOWN;
}

static Status add_sibling(HubList *l, HubRun *r, const HfSource *s, const char *commit,
                          const Json *j, Err *e) {
    const Json *lfs = json_get(j, "lfs");
    Slice name = json_str(json_get(j, "rfilename"));
    HubFile *f = NULL;
    if (!json_is_str(json_get(j, "rfilename")))
        return err_set(e, ERR_FORMAT, "%.100s: a file without a name in the list", s->repo);
    const char *url = file_url(r, s, commit, name);
    if (!url) return err_set(e, ERR_NOMEM, "out of memory for a list of files");
    TRY(hub__list_add(l, name, url, size_of(lfs ? lfs : j), &f, e));
    if (lfs) digest_parse_hex(f->sha256, json_str(json_get(lfs, "sha256")), HUB_SHA256_HEX);
    else digest_parse_hex(f->git_sha1, json_str(json_get(j, "blobId")), HUB_SHA1_HEX);
    return OK;
}

static Status read_list(HubList *l, HubRun *r, const HfSource *s, Slice text, Err *e) {
    Json *root = NULL;
    TRY(json_parse(&root, text, e));
    const Json *all = json_get(root, "siblings");
    Slice sha = json_str(json_get(root, "sha"));
    char commit[HUB_SHA1_HEX + 1];
    Status st = OK;
    if (!json_is_array(all)) st = err_set(e, ERR_FORMAT, "%.100s: no list of files", s->repo);
    bool pinned = digest_parse_hex(commit, sha, HUB_SHA1_HEX);
    for (size_t i = 0; st == OK && i < json_len(all); i++)
        st = add_sibling(l, r, s, pinned ? commit : s->rev, json_at(all, i), e);
    json_free(root);
    return st;
}

/* ---- which of them ---- */

/* Weights, tokenizer, settings and what people should read; no pickles, no other frameworks' copies. */
static bool is_wanted(const char *name) {
    static const char *const NAMES[] = {
        "*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json",
        "tokenizer*",    "special_tokens_map.json",  "vocab.json",  "vocab.txt",
        "merges.txt",    "added_tokens.json",        "*.jinja",     "chat_template.json",
        "quant*.json",   "adapter_config.json",      "LICENSE*",    "README.md"};
    return !strchr(name, '/') && hub__matches(name, NAMES, (int)COUNT_OF(NAMES));
}

static bool is_gguf(const char *name) {
    size_t n = strlen(name);
    return n > 5 && strcasecmp(name + n - 5, ".gguf") == 0;
}

typedef struct Pick {
    HubList *l;
    const HubPullOpts *o;
    const char *file;
    bool has_model; /* model*.safetensors: consolidated*.safetensors are the same weights again */
    bool (*fits)(const struct Pick *p, const char *name);
} Pick;

static bool fits_default(const Pick *p, const char *name) {
    return is_wanted(name) && !(p->has_model && str_starts_with(name, "consolidated"));
}
static bool fits_include(const Pick *p, const char *name) {
    return hub__matches(name, p->o->include, p->o->n_include);
}
static bool fits_name(const Pick *p, const char *name) { return strcmp(name, p->file) == 0; }
static bool fits_pattern(const Pick *p, const char *name) {
    return hub__matches(name, &p->file, 1);
}
static bool fits_gguf(const Pick *p, const char *name) {
    return is_gguf(name) && strcasestr(name, p->file);
}

static size_t count(const Pick *p) {
    size_t n = 0;
    for (size_t i = 0; i < p->l->n; i++) n += p->fits(p, p->l->v[i].name);
    return n;
}

static void keep(const Pick *p) {
    HubList *l = p->l;
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        const char *name = l->v[i].name;
        if (p->fits(p, name) && !hub__matches(name, p->o->exclude, p->o->n_exclude))
            l->v[n++] = l->v[i];
    }
    l->n = n;
}

static Status say_choices(const Pick *p, const char *what, Err *e) {
    StrBuf b = {0};
    int n = 0;
    for (size_t i = 0; i < p->l->n && n < HF_SHOWN; i++) {
        if (!is_gguf(p->l->v[i].name)) continue;
        sb_puts(&b, n++ ? ", " : "; there are ");
        sb_put_quoted(&b, slice_of(p->l->v[i].name), 60);
    }
    Status st = err_set(e, ERR_NOT_FOUND, "%.60s%s", what, sb_str(&b));
    sb_deinit(&b);
    return st;
}

/* "x-00001-of-00003.gguf": bytes before the number; 0: not one of several. */
static size_t split_stem(const char *name) {
    size_t n = strlen(name);
    if (n < 20 || strcmp(name + n - 5, ".gguf") != 0) return 0;
    const char *t = name + n - 20; /* -00001-of-00003.gguf */
    for (int i = 1; i <= 5; i++)
        if (!isdigit((unsigned char)t[i]) || !isdigit((unsigned char)t[i + 9])) return 0;
    return t[0] == '-' && strncmp(t + 6, "-of-", 4) == 0 ? n - 20 : 0;
}

/* Several matches are one model if they are the parts of one file. */
static bool one_split(const Pick *p) {
    const char *first = NULL;
    size_t stem = 0;
    for (size_t i = 0; i < p->l->n; i++) {
        const char *name = p->l->v[i].name;
        if (!p->fits(p, name)) continue;
        if (!first) stem = split_stem(first = name);
        if (stem == 0 || split_stem(name) != stem || strncmp(first, name, stem) != 0) return false;
    }
    return first != NULL;
}

/* The files of FILE: that name, else a pattern, else the one GGUF file with that in its name. */
static Status pick_file(Pick *p, Err *e) {
    p->fits = fits_name;
    if (count(p) == 1) {
        keep(p);
        return p->l->n ? OK : say_choices(p, "the file asked for is excluded", e);
    }
    p->fits = strpbrk(p->file, "*?[") ? fits_pattern : fits_gguf;
    size_t n = count(p);
    if (n == 0) return say_choices(p, "no such file in the repository", e);
    if (p->fits == fits_gguf && n > 1 && !one_split(p))
        return say_choices(p, "several files have that in their name", e);
    p->l->folder = n > 1 || p->fits == fits_pattern;
    keep(p);
    return OK;
}

static Status pick_folder(Pick *p, Err *e) {
    size_t n_weights = 0;
    bool ggufs = false;
    p->l->folder = true;
    p->fits = p->o->n_include > 0 ? fits_include : fits_default;
    for (size_t i = 0; i < p->l->n; i++) {
        const char *name = p->l->v[i].name;
        bool weights = str_ends_with(name, ".safetensors");
        p->has_model |= weights && str_starts_with(name, "model");
        n_weights += weights && p->fits(p, name);
        ggufs |= is_gguf(name);
    }
    if (p->o->n_include == 0 && n_weights == 0 && ggufs)
        return say_choices(p, "a repository of GGUF files: name one, hf:OWNER/REPO:FILE", e);
    keep(p);
    if (p->l->n == 0) return say_choices(p, "no file of the repository is wanted (--include)", e);
    if (p->o->n_include == 0 && n_weights == 0)
        hub__note(&p->o->hub, "the repository has no safetensors: other weights are not pulled "
                              "unless --include names them");
    return OK;
}

Status hub__hf_list(HubList *l, HubRun *r, const char *source, const HubPullOpts *o, Err *e) {
    HfSource s;
    NetAnswer a = {0};
    TRY(parse_source(&s, source, &r->arena, e));
    if (o->hub.env->hf_offline)
        return err_set(e, ERR_ARG, "HF_HUB_OFFLINE is set: nothing is asked of the hub");
    Status st = ask_api(&a, r, &s, e);
    if (st == OK) st = read_list(l, r, &s, (Slice){sb_str(&a.body), a.body.n}, e);
    net_answer_deinit(&a);
    if (st != OK) return st;
    Pick p = {.l = l, .o = o, .file = s.file};
    return s.file ? pick_file(&p, e) : pick_folder(&p, e);
}
