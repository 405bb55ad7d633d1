/* SPDX-License-Identifier: Apache-2.0
 * The text of a manifest, read and written. Reading is strict, though only signed text comes here on the way to a
 * model: `ingot model show` reads any. */
#include "trust/manifest.h"

#include <math.h>
#include <stdlib.h>

#include "text/json.h"
#include "text/utf8.h"

static const char format_name[] = "ingot-manifest-1";

/* ---- words ---- */

static bool is_lower(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

/* Digits without a zero in front; their number, or 0. */
static size_t number_at(Slice s, size_t i) {
    size_t n = 0;
    while (i + n < s.n && s.p[i + n] >= '0' && s.p[i + n] <= '9') n++;
    return n > 9 || (n > 1 && s.p[i] == '0') ? 0 : n;
}

/* "1.0.1" from i to the end. */
static bool is_version(Slice s, size_t i) {
    for (int part = 0; part < 3; part++) {
        size_t n = number_at(s, i);
        if (n == 0) return false;
        i += n;
        if (part < 2 && (i == s.n || s.p[i++] != '.')) return false;
    }
    return i == s.n;
}

static bool is_tag(Slice s) {
    size_t dash = s.n;
    if (s.n < 8 || s.n > TRUST_MAX_TAG || !is_lower(s.p[0])) return false;
    while (dash > 0 && s.p[dash - 1] != '-') dash--;
    if (dash < 2 || dash == s.n || s.p[dash] != 'v' || !is_version(s, dash + 1)) return false;
    for (size_t i = 0; i + 1 < dash; i++)
        if (!is_lower(s.p[i]) && !strchr("._-", s.p[i])) return false;
    return is_lower(s.p[dash - 2]);
}

static Status refuse(Err *e, Status st, const char *what, Slice s, const char *why) {
    StrBuf shown = {0};
    sb_put_quoted(&shown, s, 80);
    err_set(e, st, "%s \"%s\": %s", what, sb_str(&shown), why);
    sb_deinit(&shown);
    return st;
}

Status trust_check_tag(Slice tag, Err *e) {
    if (tag.n && memchr(tag.p, 0, tag.n) == NULL && is_tag(tag)) return OK;
    return refuse(e, ERR_ARG, "tag", tag,
                  "want NAME-vMAJOR.MINOR.PATCH in lower case, as qwen2.5-v1.0.1");
}

static bool is_plain_part(Slice s) {
    if (s.n == 0 || slice_eq_str(s, ".") || slice_eq_str(s, "..")) return false;
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f || s.p[i] == '\\') return false;
    return true;
}

Status trust_check_name(Slice name, Err *e) {
    bool ok = name.n > 0 && name.n <= TRUST_MAX_NAME && utf8_valid(name);
    for (size_t i = 0, end; ok && i <= name.n; i = end + 1) {
        const char *slash = i < name.n ? memchr(name.p + i, '/', name.n - i) : NULL;
        end = slash ? (size_t)(slash - name.p) : name.n;
        ok = is_plain_part((Slice){name.p + i, end - i});
    }
    if (ok) return OK;
    return refuse(e, ERR_FORMAT, "file", name, "not a plain path below the manifest");
}

/* "2026-01-31T12:00:00Z" */
static bool is_time(Slice s) {
    static const char form[] = "0000-00-00T00:00:00Z";
    if (s.n != sizeof form - 1) return false;
    for (size_t i = 0; i < s.n; i++) {
        bool digit = s.p[i] >= '0' && s.p[i] <= '9';
        if (form[i] == '0' ? !digit : s.p[i] != form[i]) return false;
    }
    return true;
}

/* ---- reading ---- */

typedef struct Reader {
    Manifest *m;
    Err *e;
} Reader;

static Status bad(const Reader *r, const char *what, const char *why) {
    return err_set(r->e, ERR_FORMAT, "%s: %s", what, why);
}

static Status no_memory(const Reader *r) {
    return err_set(r->e, ERR_NOMEM, "no memory for a manifest");
}

static Status take_text(Reader *r, Slice *out, const Json *v, const char *key) {
    Slice s = json_str(v);
    if (!json_is_str(v) || s.n < 1 || s.n > TRUST_MAX_TEXT || memchr(s.p, 0, s.n))
        return bad(r, key, "a text of 1 to 1024 bytes is needed");
    out->p = arena_dup(&r->m->mem, s.p, s.n);
    out->n = s.n;
    return out->p ? OK : no_memory(r);
}

static Status take_digest(const Reader *r, Sha256 *out, const Json *v, const char *key) {
    Slice s = json_str(v);
    if (json_is_str(v) && sha_parse(out, s.p, s.n)) return OK;
    return bad(r, key, "64 hexadecimal digits in lower case are needed");
}

/* A member of an object of exactly n of them. */
static const Json *member(const Json *obj, size_t n, const char *key) {
    return json_is_object(obj) && json_len(obj) == n ? json_get(obj, key) : NULL;
}

static Status read_file(Reader *r, TrustFile *f, const Json *v) {
    const Json *size = member(v, 3, "size");
    TRY(take_text(r, &f->name, member(v, 3, "name"), "files: name"));
    TRY(trust_check_name(f->name, r->e));
    if (json_kind(size) != JSON_KIND_INT || json_int(size) < 0)
        return bad(r, "files: size", "a number of bytes is needed");
    f->size = (uint64_t)json_int(size);
    return take_digest(r, &f->digest, member(v, 3, "sha256"), "files: sha256");
}

static int by_name(const void *pa, const void *pb) {
    Slice a = ((const TrustFile *)pa)->name, b = ((const TrustFile *)pb)->name;
    int c = memcmp(a.p, b.p, MIN(a.n, b.n));
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static Status read_files(Reader *r, const Json *list) {
    Manifest *m = r->m;
    size_t n = json_len(list);
    if (!json_is_array(list) || n < 1 || n > TRUST_MAX_FILES)
        return bad(r, "files", "a list of 1 to 4096 files is needed");
    m->file = arena_new_n(&m->mem, TrustFile, n);
    if (!m->file) return no_memory(r);
    for (size_t i = 0; i < n; i++) TRY(read_file(r, &m->file[i], json_at(list, i)));
    m->n_files = n;
    qsort(m->file, n, sizeof *m->file, by_name);
    for (size_t i = 1; i < n; i++)
        if (by_name(&m->file[i - 1], &m->file[i]) == 0)
            return refuse(r->e, ERR_FORMAT, "file", m->file[i].name, "is listed twice");
    return OK;
}

static Status read_scores(Reader *r, const Json *obj) {
    Manifest *m = r->m;
    Slice key;
    const Json *v;
    if (!json_is_object(obj) || json_len(obj) > TRUST_MAX_SCORES)
        return bad(r, "scores", "an object of at most 256 numbers is needed");
    m->score = arena_new_n(&m->mem, TrustScore, json_len(obj) + 1);
    if (!m->score) return no_memory(r);
    for (void *it = NULL; (it = json_next(obj, it, &key, &v));) {
        TrustScore *s = &m->score[m->n_scores++];
        if ((json_kind(v) != JSON_KIND_INT && json_kind(v) != JSON_KIND_REAL) || key.n < 1 ||
            key.n > TRUST_MAX_TEXT || !isfinite(json_num(v)))
            return bad(r, "scores", "each needs a name of 1 to 1024 bytes and a number");
        *s = (TrustScore){{arena_dup(&m->mem, key.p, key.n), key.n}, json_num(v)};
        if (!s->name.p) return no_memory(r);
    }
    return OK;
}

static Status read_tags(Reader *r, const Json *list) {
    Manifest *m = r->m;
    size_t n = json_len(list);
    if (!json_is_array(list) || n > TRUST_MAX_TAGS)
        return bad(r, "tags", "a list of at most 1024 tags is needed");
    m->old = arena_new_n(&m->mem, TrustTag, n + 1);
    if (!m->old) return no_memory(r);
    for (size_t i = 0; i < n; i++) {
        TrustTag *t = &m->old[m->n_old++];
        const Json *v = json_at(list, i);
        TRY(take_text(r, &t->tag, member(v, 2, "tag"), "tags: tag"));
        if (!is_tag(t->tag)) return bad(r, "tags: tag", "want NAME-vMAJOR.MINOR.PATCH");
        TRY(take_digest(r, &t->fingerprint, member(v, 2, "fingerprint"), "tags: fingerprint"));
    }
    return OK;
}

static Status read_known(Reader *r, Slice key, const Json *v) {
    Manifest *m = r->m;
    Sha256 d;
    const struct {
        const char *key;
        Slice *out;
    } texts[] = {{"tag", &m->tag},
                 {"created", &m->created},
                 {"base_model", &m->base_model},
                 {"licence", &m->licence},
                 {"dataset_sha256", &m->dataset},
                 {"quantization", &m->quantization}};
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (slice_eq_str(key, texts[i].key)) {
            TRY(take_text(r, texts[i].out, v, texts[i].key));
            return texts[i].out == &m->dataset ? take_digest(r, &d, v, texts[i].key) : OK;
        }
    if (slice_eq_str(key, "files")) return read_files(r, v);
    if (slice_eq_str(key, "scores")) return read_scores(r, v);
    if (slice_eq_str(key, "tags")) return read_tags(r, v);
    if (!slice_eq_str(key, "format"))
        return refuse(r->e, ERR_FORMAT, "key", key, "not known in a manifest");
    if (slice_eq_str(json_str(v), format_name)) return OK;
    return refuse(r->e, ERR_UNSUPPORTED, "format", json_str(v), "only ingot-manifest-1 is known");
}

static Status read_all(Reader *r, const Json *root) {
    Manifest *m = r->m;
    Slice key;
    const Json *v;
    if (!json_is_object(root)) return bad(r, "manifest", "not a JSON object");
    if (!json_get(root, "format")) return bad(r, "manifest", "format is missing");
    for (void *it = NULL; (it = json_next(root, it, &key, &v));) TRY(read_known(r, key, v));
    if (m->n_files == 0) return bad(r, "manifest", "files are missing");
    if (!is_time(m->created)) return bad(r, "created", "want 2026-01-31T12:00:00Z");
    if (is_tag(m->tag)) return OK;
    return refuse(r->e, ERR_FORMAT, "tag", m->tag, "want NAME-vMAJOR.MINOR.PATCH in lower case");
}

Status trust_manifest_parse(Manifest *m, Slice text, Err *e) {
    Json *root = NULL;
    Reader r = {m, e};
    *m = (Manifest){0};
    if (text.n > TRUST_MAX_BYTES)
        return err_set(e, ERR_FORMAT, "manifest: %zu bytes, limit %d", text.n, TRUST_MAX_BYTES);
    arena_init(&m->mem, 4 << 10);
    Status st = json_parse(&root, text, e);
    if (st == OK) st = read_all(&r, root);
    json_free(root);
    if (st != OK) trust_manifest_deinit(m);
    return st;
}

void trust_manifest_deinit(Manifest *m) {
    arena_deinit(&m->mem);
    *m = (Manifest){0};
}

const TrustFile *trust_manifest_find(const Manifest *m, Slice name) {
    for (size_t i = 0; i < m->n_files; i++)
        if (slice_eq(m->file[i].name, name)) return &m->file[i];
    return NULL;
}

/* ---- writing ---- */

/* Two spaces a level, lists of objects one to a line: for people, and for lines of diffs. */
static void put_value(StrBuf *b, const char *key, Slice v) {
    JsonW w;
    if (v.n == 0) return;
    sb_printf(b, ",\n  \"%s\": ", key);
    jw_init(&w, b);
    jw_str(&w, NULL, v);
}

static void put_score(StrBuf *b, const TrustScore *s) {
    JsonW w;
    jw_init(&w, b);
    jw_str(&w, NULL, s->name);
    sb_puts(b, ": ");
    jw_init(&w, b);
    jw_num(&w, NULL, s->value);
}

static void put_file(StrBuf *b, const TrustFile *f) {
    JsonW w;
    char hex[65];
    sb_puts(b, "{\"name\": ");
    jw_init(&w, b);
    jw_str(&w, NULL, f->name);
    sb_printf(b, ", \"size\": %llu, \"sha256\": \"%s\"}", (unsigned long long)f->size,
              sha_hex(hex, &f->digest));
}

static void put_tag(StrBuf *b, const TrustTag *t) {
    char hex[65];
    sb_printf(b, "{\"tag\": \"%.*s\", \"fingerprint\": \"%s\"}", (int)t->tag.n, t->tag.p,
              sha_hex(hex, &t->fingerprint));
}

/* What a tag stands for; `whole`: with the time and the earlier tags. */
static void put_all(StrBuf *b, const Manifest *m, bool whole) {
    sb_printf(b, "{\n  \"format\": \"%s\"", format_name);
    put_value(b, "tag", m->tag);
    if (whole) put_value(b, "created", m->created);
    put_value(b, "base_model", m->base_model);
    put_value(b, "licence", m->licence);
    put_value(b, "dataset_sha256", m->dataset);
    put_value(b, "quantization", m->quantization);
    for (size_t i = 0; i < m->n_scores; i++) {
        sb_puts(b, i ? ",\n    " : ",\n  \"scores\": {\n    ");
        put_score(b, &m->score[i]);
    }
    if (m->n_scores) sb_puts(b, "\n  }");
    for (size_t i = 0; i < m->n_files; i++) {
        sb_puts(b, i ? ",\n    " : ",\n  \"files\": [\n    ");
        put_file(b, &m->file[i]);
    }
    sb_puts(b, "\n  ]");
    for (size_t i = 0; whole && i < m->n_old; i++) {
        sb_puts(b, i ? ",\n    " : ",\n  \"tags\": [\n    ");
        put_tag(b, &m->old[i]);
    }
    if (whole && m->n_old) sb_puts(b, "\n  ]");
    sb_puts(b, "\n}\n");
}

void trust_manifest_format(StrBuf *b, const Manifest *m) { put_all(b, m, true); }

Status trust_manifest_fingerprint(Sha256 *out, const Manifest *m, Err *e) {
    StrBuf b = {0};
    put_all(&b, m, false);
    Status st = sb_check(&b, e);
    if (st == OK) st = sha_256(out, b.p, b.n, e);
    sb_deinit(&b);
    return st;
}
