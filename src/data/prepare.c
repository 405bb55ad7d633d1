/* SPDX-License-Identifier: Apache-2.0
 * prepare: docs.jsonl -> train.bin, val.bin, tokenizer.gguf, meta.json.
 *
 * A first pass checks every line and keys each document by SHA-256 of (seed, path); documents
 * are put in the order of their keys, which shuffles them and is the same wherever they stand
 * in the file. The first val_share of them are validation, the others training: whole files, so
 * that no file is in both. A second pass tokenizes them, a batch at a time over the team, and
 * writes each batch in order; so the bytes do not depend on the number of threads, and memory
 * is one batch and 40 bytes a document.
 *
 * Order of appearance: both shards are complete on disk before the old meta.json is removed,
 * the shards and the tokenizer take their places, the new meta.json comes last. A folder with a
 * meta.json is whole. */
#include <math.h>
#include <stdlib.h>

#include "base/team.h"
#include "data/internal.h"

enum { BATCH_DOCS = 256, BATCH_BYTES = 16 << 20 };

typedef struct DocRef {
    uint64_t key[2];
    uint64_t line_no; /* breaks ties between equal paths */
    size_t at, n;     /* the line in the file */
} DocRef;

typedef struct DocIndex {
    DocRef *v; /* owned */
    size_t n, cap;
    uint64_t n_bytes; /* of all lines */
} DocIndex;

/* What a worker makes of one line. */
typedef struct Slot {
    DocRef ref;
    TokBuf ids; /* owned, reused */
    uint64_t n_chars, n_bytes;
    Status st;
    Err err;
} Slot;

typedef struct Prepare {
    const PrepareOpts *o;
    const Tokenizer *t;
    const char *docs_path, *dir;
    IoMap map;
    DocIndex index;
    Team *team;
    Slot *slot; /* owned, [BATCH_DOCS] */
    IoWriter out[2];
    Meta meta;
    size_t n_val;
    uint64_t done; /* bytes of lines tokenized */
} Prepare;

/* ---- first pass ---- */

static Status index_push(DocIndex *x, DocRef r, Err *e) {
    if (x->n == x->cap) {
        size_t cap = x->cap ? 2 * x->cap : 1024;
        DocRef *v = mem_realloc_n(x->v, cap, sizeof *v);
        if (!v) return err_set(e, ERR_NOMEM, "index of %zu documents", cap);
        x->v = v;
        x->cap = cap;
    }
    x->v[x->n++] = r;
    x->n_bytes += r.n;
    return OK;
}

static Status doc_key(uint64_t key[2], uint64_t seed, Slice path, StrBuf *scratch, Err *e) {
    Sha256 d;
    sb_clear(scratch);
    sb_printf(scratch, "%llu:", (unsigned long long)seed);
    sb_put(scratch, path.p, path.n);
    TRY(sb_check(scratch, e));
    TRY(sha_256(&d, scratch->p, scratch->n, e));
    for (int i = 0; i < 16; i++) key[i / 8] = key[i / 8] << 8 | d.b[i];
    return OK;
}

/* Check one line and enter it. */
static Status index_line(Prepare *p, Slice line, uint64_t line_no, StrBuf *scratch, Err *e) {
    Json *root = NULL;
    Slice path, text;
    DocRef r = {.line_no = line_no, .at = (size_t)(line.p - (const char *)p->map.p), .n = line.n};
    TRY(data__doc_parse(&root, &path, &text, line, p->docs_path, line_no, e));
    Status st = doc_key(r.key, p->o->seed, path, scratch, e);
    json_free(root);
    return st == OK ? index_push(&p->index, r, e) : st;
}

static int ref_cmp(const void *va, const void *vb) {
    const DocRef *a = va, *b = vb;
    for (int i = 0; i < 2; i++) {
        if (a->key[i] != b->key[i]) return a->key[i] < b->key[i] ? -1 : 1;
    }
    return a->line_no < b->line_no ? -1 : a->line_no > b->line_no;
}

static Status stop_check(const Prepare *p, Err *e) {
    return data__stopped(&p->o->progress) ? err_set(e, ERR_CANCELLED, "interrupted") : OK;
}

static Status index_docs(Prepare *p, Err *e) {
    Slice all = {(const char *)p->map.p, p->map.n}, line;
    StrBuf scratch = {0};
    size_t pos = 0;
    uint64_t line_no = 0;
    Status st = OK;
    while (st == OK && data__next_line(all, &pos, &line_no, &line)) {
        st = stop_check(p, e);
        if (st == OK) st = index_line(p, line, line_no, &scratch, e);
    }
    sb_deinit(&scratch);
    if (st == OK && p->index.n < 2) {
        st = err_set(e, ERR_FORMAT, "%s: documents: %zu, at least 2 are needed to have both parts",
                     p->docs_path, p->index.n);
    }
    if (st == OK) qsort(p->index.v, p->index.n, sizeof *p->index.v, ref_cmp);
    return st;
}

static size_t count_val(double share, size_t n) {
    double want = floor((double)n * share + 0.5);
    return want < 1 ? 1 : want > (double)(n - 1) ? n - 1 : (size_t)want;
}

/* ---- second pass ---- */

static Status slot_encode(const Prepare *p, Slot *s) {
    Json *root = NULL;
    Slice path, text, line = {(const char *)p->map.p + s->ref.at, s->ref.n};
    s->ids.n = 0;
    TRY(data__doc_parse(&root, &path, &text, line, p->docs_path, s->ref.line_no, &s->err));
    s->n_bytes = text.n;
    s->n_chars = data_count_chars(text);
    Status st = tok_encode(p->t, text, false, &s->ids, &s->err);
    json_free(root);
    if (st == OK) tokbuf_push(&s->ids, p->meta.eot);
    if (st == OK && s->ids.failed) st = err_set(&s->err, ERR_NOMEM, "%zu tokens", s->ids.n);
    return st;
}

static void encode_tile(void *ctx, int64_t tile, int worker) {
    Prepare *p = ctx;
    (void)worker;
    p->slot[tile].st = slot_encode(p, &p->slot[tile]);
}

/* Fill the slots from index entry i on; gives how many. */
static size_t batch_fill(Prepare *p, size_t i) {
    size_t n = 0, bytes = 0;
    while (n < BATCH_DOCS && i + n < p->index.n && bytes < BATCH_BYTES) {
        Slot *s = &p->slot[n];
        s->ref = p->index.v[i + n];
        s->err = (Err){0};
        bytes += s->ref.n;
        n++;
    }
    return n;
}

static Status write_ids(IoWriter *w, const TokBuf *ids, int id_bytes, Err *e) {
    uint8_t buf[4096];
    size_t n = 0;
    for (size_t i = 0; i < ids->n; i++) {
        for (int b = 0; b < id_bytes; b++) buf[n++] = (uint8_t)((uint32_t)ids->v[i] >> (8 * b));
        if (n < sizeof buf && i + 1 < ids->n) continue;
        TRY(io_write(w, buf, n, e));
        n = 0;
    }
    return OK;
}

static Status batch_write(Prepare *p, size_t i, size_t n, Err *e) {
    for (size_t k = 0; k < n; k++) {
        Slot *s = &p->slot[k];
        int part = i + k < p->n_val;
        if (s->st != OK) return err_set(e, s->st, "%s", s->err.msg);
        TRY(write_ids(&p->out[part], &s->ids, p->meta.id_bytes, e));
        p->meta.count.n_docs[part]++;
        p->meta.count.n_chars[part] += s->n_chars;
        p->meta.count.n_bytes[part] += s->n_bytes;
        p->meta.count.n_tok[part] += s->ids.n;
        p->done += s->ref.n;
    }
    return OK;
}

static Status encode_docs(Prepare *p, Err *e) {
    const DataProgress *pr = &p->o->progress;
    p->slot = mem_new_n(Slot, BATCH_DOCS);
    if (!p->slot) return err_set(e, ERR_NOMEM, "batch of %d documents", BATCH_DOCS);
    TRY(team_new(&p->team, MAX(p->o->n_threads, 1), e));
    for (size_t i = 0, n; i < p->index.n; i += n) {
        TRY(stop_check(p, e));
        n = batch_fill(p, i);
        team_run(p->team, (int64_t)n, encode_tile, p);
        TRY(batch_write(p, i, n, e));
        if (pr->fn) pr->fn(pr->ctx, p->done, p->index.n_bytes);
    }
    return OK;
}

/* ---- files ---- */

/* dir/name, to be freed. */
static Status in_dir(char **out, const char *dir, const char *name, const char *ending, Err *e) {
    StrBuf b = {0};
    sb_printf(&b, "%s/%s%s", dir, name, ending);
    *out = sb_take(&b);
    return *out ? OK : err_set(e, ERR_NOMEM, "path in %s", dir);
}

static Status open_shards(Prepare *p, Err *e) {
    TRY(io_mkdirs(p->dir, e));
    for (int i = 0; i < 2; i++) {
        char *path = NULL;
        TRY(in_dir(&path, p->dir, data__part_name[i], ".bin", e));
        Status st = io_writer_open(&p->out[i], path, true, e);
        mem_free(path);
        if (st != OK) return st;
    }
    return OK;
}

static Status remove_meta(const Prepare *p, Err *e) {
    char *path = NULL;
    TRY(in_dir(&path, p->dir, "meta.json", "", e));
    Status st = io_exists(path) ? io_remove(path, e) : OK;
    mem_free(path);
    return st;
}

static Status write_meta(const Prepare *p, Err *e) {
    char *path = NULL;
    IoWriter w = {0};
    StrBuf b = {0};
    data__meta_format(&p->meta, &b);
    Status st = sb_check(&b, e);
    if (st == OK) st = in_dir(&path, p->dir, "meta.json", "", e);
    if (st == OK) st = io_writer_open(&w, path, true, e);
    if (st == OK) st = io_write(&w, b.p, b.n, e);
    if (st == OK) st = io_writer_close(&w, e);
    io_writer_abort(&w);
    mem_free(path);
    sb_deinit(&b);
    return st;
}

static Status write_tokenizer(const Prepare *p, Err *e) {
    char *path = NULL;
    TRY(in_dir(&path, p->dir, "tokenizer.gguf", "", e));
    Status st = data_tokenizer_save(p->t, path, e);
    mem_free(path);
    return st;
}

static Status put_in_place(Prepare *p, Err *e) {
    for (int i = 0; i < 2; i++) TRY(io_writer_flush(&p->out[i], true, e));
    TRY(remove_meta(p, e));
    for (int i = 0; i < 2; i++) TRY(io_writer_close(&p->out[i], e));
    TRY(write_tokenizer(p, e));
    return write_meta(p, e);
}

static Status prepare_run(Prepare *p, Err *e) {
    p->meta.n_vocab = tok_n_vocab(p->t);
    p->meta.eot = tok_eot(p->t);
    p->meta.id_bytes = p->meta.n_vocab > 65536 ? 4 : 2;
    p->meta.val_share = p->o->val_share;
    p->meta.seed = p->o->seed;
    if (p->meta.eot < 0)
        return err_set(e, ERR_ARG, "the tokenizer has no end-of-text token to put between files");
    TRY(io_map(&p->map, p->docs_path, e));
    TRY(index_docs(p, e));
    p->n_val = count_val(p->o->val_share, p->index.n);
    TRY(open_shards(p, e));
    TRY(encode_docs(p, e));
    return put_in_place(p, e);
}

Status data_prepare(PrepareStats *st, const PrepareOpts *o, const Tokenizer *t,
                    const char *docs_path, const char *out_dir, Err *e) {
    Prepare p = {.o = o, .t = t, .docs_path = docs_path, .dir = out_dir};
    Status s = prepare_run(&p, e);
    if (s == OK) *st = p.meta.count;
    for (int i = 0; i < 2; i++) io_writer_abort(&p.out[i]);
    for (size_t i = 0; p.slot && i < BATCH_DOCS; i++) tokbuf_deinit(&p.slot[i].ids);
    mem_free(p.slot);
    team_free(p.team);
    mem_free(p.index.v);
    io_unmap(&p.map);
    return s;
}
