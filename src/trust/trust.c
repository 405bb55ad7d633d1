/* SPDX-License-Identifier: Apache-2.0
 * Where a manifest stands, and in which order things are believed: the key is the caller's; with it the signature is
 * checked over the manifest's bytes as they lie; only then are they read; only then are files opened by the names in
 * it, which are plain names below its folder. What has been mapped for running is hashed in that map, so that nobody
 * can put another file behind the name in between. */
#include "trust/trust.h"

#include "trust/internal.h"

/* ---- places ---- */

typedef struct Place {
    StrBuf json, sig; /* owned: paths */
    TrustParts parts; /* owned */
    bool is_folder;   /* the target itself: nothing else may lie in it */
} Place;

static void place_deinit(Place *p) {
    sb_deinit(&p->json);
    sb_deinit(&p->sig);
    trust__parts_deinit(&p->parts);
}

static size_t name_at(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash + 1 - path) : 0;
}

/* Of a folder whose path has n bytes, slash included. */
static void name_of_folder(Place *p, const char *path, size_t n) {
    sb_clear(&p->json);
    sb_clear(&p->sig);
    sb_put(&p->json, path, n);
    sb_puts(&p->json, "manifest.json");
    sb_put(&p->sig, path, n);
    sb_puts(&p->sig, "manifest.sig");
}

static void name_of_file(Place *p, const char *path) {
    sb_clear(&p->json);
    sb_clear(&p->sig);
    sb_printf(&p->json, "%s.manifest.json", path);
    sb_printf(&p->sig, "%s.manifest.sig", path);
}

static Status check_paths(const Place *p, Err *e) {
    TRY(sb_check(&p->json, e));
    return sb_check(&p->sig, e);
}

static Status add_model_files(TrustParts *parts, const Gguf *g, const char *path, bool mapped,
                              Err *e) {
    for (size_t i = 0; i < gguf_n_files(g); i++) {
        const char *part = gguf_file_at(g, i) ? gguf_file_at(g, i) : path;
        TRY(trust__parts_add(parts, part, name_at(part), e));
        if (!mapped) continue;
        parts->v[parts->n - 1].map = gguf_file_map(g, i);
        parts->v[parts->n - 1].is_mapped = true;
    }
    return OK;
}

/* The file, and where it is a part of a model the others, too. */
static Status find_files(TrustParts *parts, const char *path, Err *e) {
    Gguf *g = NULL;
    if (!str_ends_with(path, ".gguf")) return trust__parts_add(parts, path, name_at(path), e);
    TRY(gguf_open(&g, path, e));
    Status st = add_model_files(parts, g, path, false, e);
    gguf_close(g);
    return st;
}

static Status find_place(Place *p, const char *target, Err *e) {
    size_t n = strlen(target);
    p->is_folder = trust__is_folder(target);
    if (p->is_folder) {
        StrBuf dir = {0};
        while (n > 1 && target[n - 1] == '/') n--;
        sb_put(&dir, target, n);
        sb_putc(&dir, '/');
        name_of_folder(p, sb_str(&dir), dir.n);
        Status st = sb_check(&dir, e);
        sb_deinit(&dir);
        TRY(st);
        TRY(check_paths(p, e));
        return trust__list(&p->parts, target, e);
    }
    TRY(find_files(&p->parts, target, e));
    name_of_file(p, p->parts.v[0].path);
    return check_paths(p, e);
}

/* Without a manifest of its own a file may be in that of its folder. */
static Status look_in_folder(Place *p, Err *e) {
    const char *path = p->parts.v[0].path;
    if (p->is_folder || io_exists(p->json.p)) return OK;
    name_of_folder(p, path, name_at(path));
    TRY(check_paths(p, e));
    if (io_exists(p->json.p)) return OK;
    return err_set(e, ERR_NOT_FOUND, "%s: not signed: neither it nor its folder has a manifest",
                   path);
}

/* ---- reading ---- */

/* Bytes of the manifest; with a key only if it signed them. */
static Status read_signed(StrBuf *text, const Place *p, const SignKey *key, Err *e) {
    StrBuf sig = {0};
    char id[SIGN_ID + 1];
    if (!io_exists(p->json.p))
        return err_set(e, ERR_NOT_FOUND, "%s: not there: nothing is signed", p->json.p);
    TRY(io_read_file(text, p->json.p, TRUST_MAX_BYTES, e));
    if (!key) return OK;
    Status st = io_read_file(&sig, p->sig.p, SIGN_BYTES, e);
    if (st == OK && sig.n != SIGN_BYTES)
        st = err_set(e, ERR_FORMAT, "%s: %zu bytes, a signature has %d", p->sig.p, sig.n,
                     (int)SIGN_BYTES);
    if (st == OK && !sign_check(key, (Slice){sb_str(text), text->n}, (const uint8_t *)sig.p))
        st = err_set(e, ERR_FORMAT, "%s: the signature is not one of key %s over %s", p->sig.p,
                     sign_key_id(id, key), p->json.p + name_at(p->json.p));
    sb_deinit(&sig);
    return st;
}

static Status read_manifest(Manifest *m, StrBuf *text, const Place *p, const SignKey *key, Err *e) {
    TRY(read_signed(text, p, key, e));
    Status st = trust_manifest_parse(m, (Slice){sb_str(text), text->n}, e);
    if (st != OK) err_in(e, p->json.p);
    return st;
}

Status trust_read(Manifest *m, const char *target, const SignKey *key, Err *e) {
    Place p = {0};
    StrBuf text = {0};
    Status st = find_place(&p, target, e);
    if (st == OK) st = look_in_folder(&p, e);
    if (st == OK) st = read_manifest(m, &text, &p, key, e);
    sb_deinit(&text);
    place_deinit(&p);
    return st;
}

/* ---- verifying ---- */

static Status check_listed(const Manifest *m, const Place *p, Err *e) {
    for (size_t i = 0; i < p->parts.n; i++) {
        const TrustPart *f = &p->parts.v[i];
        if (!trust_manifest_find(m, slice_of(f->name)))
            return err_set(e, ERR_FORMAT, "%s: not in the manifest that was signed (%s)", f->path,
                           p->json.p + name_at(p->json.p));
    }
    return OK;
}

static Status check_present(const Manifest *m, const Place *p, Err *e) {
    for (size_t k = 0; p->is_folder && k < m->n_files; k++) {
        bool there = false;
        for (size_t i = 0; i < p->parts.n && !there; i++)
            there = slice_eq_str(m->file[k].name, p->parts.v[i].name);
        if (there) continue;
        StrBuf name = {0};
        sb_put_quoted(&name, m->file[k].name, 100);
        err_set(e, ERR_FORMAT, "%s: file \"%s\" is missing", p->json.p, sb_str(&name));
        sb_deinit(&name);
        return ERR_FORMAT;
    }
    return OK;
}

static Status check_digests(const Manifest *m, const Place *p, Err *e) {
    for (size_t i = 0; i < p->parts.n; i++) {
        const TrustPart *f = &p->parts.v[i];
        const TrustFile *want = trust_manifest_find(m, slice_of(f->name));
        if (f->size != want->size)
            return err_set(e, ERR_FORMAT, "%s: %llu bytes, %llu were signed", f->path,
                           (unsigned long long)f->size, (unsigned long long)want->size);
        if (memcmp(&f->digest, &want->digest, sizeof f->digest) != 0)
            return err_set(e, ERR_FORMAT, "%s: not the file that was signed: its sha-256 differs",
                           f->path);
    }
    return OK;
}

static Status check_place(Manifest *m, Place *p, const SignKey *key, const TrustOpts *o, Err *e) {
    StrBuf text = {0};
    Manifest own;
    Manifest *to = m ? m : &own;
    Status st = read_manifest(to, &text, p, key, e);
    sb_deinit(&text);
    if (st != OK) return st;
    st = check_listed(to, p, e);
    if (st == OK) st = check_present(to, p, e);
    if (st == OK) st = trust__digest(&p->parts, o, e);
    if (st == OK) st = check_digests(to, p, e);
    if (st != OK || !m) trust_manifest_deinit(to);
    return st;
}

Status trust_verify(Manifest *m, const char *target, const SignKey *key, const TrustOpts *o,
                    Err *e) {
    Place p = {0};
    Status st = find_place(&p, target, e);
    if (st == OK) st = look_in_folder(&p, e);
    if (st == OK) st = check_place(m, &p, key, o, e);
    place_deinit(&p);
    return st;
}

static Status check_parts(Place *p, const SignKey *key, const TrustOpts *o, Err *e) {
    name_of_file(p, p->parts.v[0].path);
    TRY(check_paths(p, e));
    TRY(look_in_folder(p, e));
    return check_place(NULL, p, key, o, e);
}

Status trust_check_model(const Gguf *g, const char *path, const SignKey *key, const TrustOpts *o,
                         Err *e) {
    Place p = {0};
    Status st = add_model_files(&p.parts, g, path, true, e);
    if (st == OK) st = check_parts(&p, key, o, e);
    place_deinit(&p);
    return st;
}

Status trust_check_file(const char *path, const SignKey *key, const TrustOpts *o, Err *e) {
    Place p = {0};
    Status st = trust__parts_add(&p.parts, path, name_at(path), e);
    if (st == OK) st = check_parts(&p, key, o, e);
    place_deinit(&p);
    return st;
}

/* ---- signing ---- */

static Status fill_files(Manifest *m, const Place *p, Err *e) {
    m->file = arena_new_n(&m->mem, TrustFile, p->parts.n);
    if (!m->file) return err_set(e, ERR_NOMEM, "no memory for %zu files", p->parts.n);
    for (size_t i = 0; i < p->parts.n; i++) {
        const TrustPart *f = &p->parts.v[i];
        TRY(trust_check_name(slice_of(f->name), e));
        m->file[i] = (TrustFile){{arena_dup(&m->mem, f->name, strlen(f->name)), strlen(f->name)},
                                 f->size,
                                 f->digest};
        if (!m->file[i].name.p) return err_set(e, ERR_NOMEM, "no memory for %zu files", i);
    }
    m->n_files = p->parts.n;
    return OK;
}

static Status tag_taken(Slice tag, Err *e) {
    return err_set(e, ERR_ARG, "tag %.*s was signed here with other content: take another one",
                   (int)tag.n, tag.p);
}

/* The tags of the manifest that is there, and its own, unless that is the new one's; *same: it says the same. */
static Status take_history(Manifest *m, bool *same, const Manifest *old, Err *e) {
    Sha256 now, before;
    TRY(trust_manifest_fingerprint(&now, m, e));
    TRY(trust_manifest_fingerprint(&before, old, e));
    *same = memcmp(&now, &before, sizeof now) == 0;
    if (*same) return OK;
    if (slice_eq(m->tag, old->tag)) return tag_taken(m->tag, e);
    if (old->n_old == TRUST_MAX_TAGS)
        return err_set(e, ERR_FULL, "over %d tags were signed here", (int)TRUST_MAX_TAGS);
    m->old = arena_new_n(&m->mem, TrustTag, old->n_old + 1);
    if (!m->old) return err_set(e, ERR_NOMEM, "no memory for %zu tags", old->n_old);
    for (size_t i = 0; i <= old->n_old; i++) {
        TrustTag t = i < old->n_old ? old->old[i] : (TrustTag){old->tag, before};
        bool is_new = slice_eq(t.tag, m->tag);
        if (is_new && memcmp(&t.fingerprint, &now, sizeof now) != 0) return tag_taken(m->tag, e);
        if (is_new) continue;
        t.tag.p = arena_dup(&m->mem, t.tag.p, t.tag.n);
        if (!t.tag.p) return err_set(e, ERR_NOMEM, "no memory for %zu tags", old->n_old);
        m->old[m->n_old++] = t;
    }
    return OK;
}

static Status write_bytes(const char *path, const void *p, size_t n, Err *e) {
    IoWriter w = {0};
    TRY(io_writer_open(&w, path, true, e));
    Status st = io_write(&w, p, n, e);
    if (st == OK) return io_writer_close(&w, e);
    io_writer_abort(&w);
    return st;
}

/* The manifest before its signature: between the two nothing is taken for signed. */
static Status write_signed(const Place *p, const StrBuf *text, bool is_new, const SignKey *key,
                           Err *e) {
    uint8_t sig[SIGN_BYTES];
    TRY(sb_check(text, e));
    if (text->n > TRUST_MAX_BYTES)
        return err_set(e, ERR_ARG, "a manifest of %zu bytes, limit %d", text->n, TRUST_MAX_BYTES);
    TRY(sign_make(sig, key, (Slice){text->p, text->n}, e));
    if (is_new) TRY(write_bytes(p->json.p, text->p, text->n, e));
    return write_bytes(p->sig.p, sig, sizeof sig, e);
}

static Status sign_place(Manifest *m, Place *p, const SignKey *key, const TrustOpts *o, Err *e) {
    StrBuf text = {0};
    Manifest old = {0};
    bool same = false;
    TRY(trust__digest(&p->parts, o, e));
    TRY(fill_files(m, p, e));
    Status st = OK;
    if (io_exists(p->json.p)) {
        st = read_manifest(&old, &text, p, NULL, e);
        if (st == OK) st = take_history(m, &same, &old, e);
        trust_manifest_deinit(&old);
    }
    if (st == OK && !same) {
        sb_clear(&text);
        trust_manifest_format(&text, m);
        /* what cannot be read again is not signed */
        st = sb_check(&text, e);
        if (st == OK) st = trust_manifest_parse(&old, (Slice){text.p, text.n}, e);
        trust_manifest_deinit(&old);
    }
    if (st == OK) st = write_signed(p, &text, !same, key, e);
    sb_deinit(&text);
    return st;
}

Status trust_sign(Manifest *m, const char *target, const SignKey *key, const TrustOpts *o, Err *e) {
    Place p = {0};
    TRY(trust_check_tag(m->tag, e));
    Status st = find_place(&p, target, e);
    if (st == OK) st = sign_place(m, &p, key, o, e);
    place_deinit(&p);
    return st;
}
