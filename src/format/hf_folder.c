/* SPDX-License-Identifier: Apache-2.0
 * Opening a folder: where its parts are, its JSON files, and what can be asked of it afterwards. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "format/hf_internal.h"

enum { JSON_FILE_MAX = 16 << 20, TOKENIZER_MAX = 256 << 20 };

void hf__note(HfModel *m, const char *fmt, ...) {
    va_list ap;
    if (m->n_notes == HF_MAX_NOTES) return;
    va_start(ap, fmt);
    vsnprintf(m->note[m->n_notes++], HF_NOTE, fmt, ap);
    va_end(ap);
}

/* ---- places ---- */

/* The first of dir/sub[i] that has the file; dir itself where sub[i] is empty. Without memory out has failed. */
static bool look(StrBuf *out, const char *dir, const char *const *sub, size_t n, const char *file) {
    for (size_t i = 0; i < n; i++) {
        sb_clear(out);
        sb_puts(out, dir);
        if (sub[i][0]) sb_printf(out, "/%s", sub[i]);
        size_t len = out->n;
        sb_printf(out, "/%s", file);
        if (out->failed) return false;
        bool there = io_exists(out->p);
        out->n = len;
        out->p[len] = 0;
        if (there) return true;
    }
    return false;
}

static Status find_places(HfModel *m, const char *dir, Err *e) {
    static const char *const model[] = {"", "fp16", "bf16", "fp32", "model"};
    static const char *const tok[] = {"", "tokenizer", "fp16", "bf16", "fp32", "model"};
    size_t n = strlen(dir);
    StrBuf d = {0};
    while (n > 1 && dir[n - 1] == '/') n--;
    sb_put(&d, dir, n);
    const char *slash = strrchr(sb_str(&d), '/');
    sb_puts(&m->name, slash ? slash + 1 : sb_str(&d));
    bool found = look(&m->dir, sb_str(&d), model, COUNT_OF(model), "config.json");
    /* without one, the tokenizer's files are looked for beside the model, and reported there */
    bool has_tok = look(&m->tok_dir, sb_str(&d), tok, COUNT_OF(tok), "tokenizer.json");
    if (!has_tok && !m->tok_dir.failed) {
        sb_clear(&m->tok_dir);
        sb_puts(&m->tok_dir, sb_str(&m->dir));
    }
    Status st = sb_check(&d, e);
    if (st == OK) st = sb_check(&m->dir, e);
    if (st == OK) st = sb_check(&m->tok_dir, e);
    if (st == OK) st = sb_check(&m->name, e);
    if (st == OK && !found)
        st = err_set(e, ERR_NOT_FOUND,
                     "%s: no config.json, neither there nor in fp16, bf16, fp32 or model",
                     sb_str(&d));
    sb_deinit(&d);
    return st;
}

/* ---- files ---- */

/* A pipe of that name would be waited for, so its size is asked first, which only regular files have. */
static Status read_file(StrBuf *b, const StrBuf *dir, const char *name, size_t max, Err *e) {
    StrBuf path = {0};
    uint64_t size;
    sb_printf(&path, "%s/%s", sb_str(dir), name);
    Status st = sb_check(&path, e);
    if (st == OK && io_exists(path.p)) {
        st = io_file_size(&size, path.p, e);
        if (st == OK) st = io_read_file(b, path.p, max, e);
    }
    sb_deinit(&path);
    return st;
}

/* *out stays NULL where there is no such file. */
static Status read_json(Json **out, const StrBuf *dir, const char *name, Err *e) {
    StrBuf text = {0};
    Status st = read_file(&text, dir, name, JSON_FILE_MAX, e);
    if (st == OK && text.n) {
        st = json_parse(out, (Slice){text.p, text.n}, e);
        if (st != OK) err_in(e, name);
    }
    sb_deinit(&text);
    return st;
}

Status hf_read_tokenizer_file(StrBuf *b, const HfModel *m, const char *name, Err *e) {
    return read_file(b, &m->tok_dir, name, TOKENIZER_MAX, e);
}

/* ---- the whole ---- */

static Status read_config(HfModel *m, Err *e) {
    Json *config = NULL, *gen = NULL, *quant = NULL;
    Status st = read_json(&config, &m->dir, "config.json", e);
    if (st == OK) st = read_json(&gen, &m->dir, "generation_config.json", e);
    if (st == OK) st = read_json(&quant, &m->dir, "quant_config.json", e);
    if (st == OK && !quant) st = read_json(&quant, &m->dir, "quantize_config.json", e);
    if (st == OK) {
        st = hf__read_config(m, config, gen, quant, e);
        if (st != OK) err_in(e, "config.json");
    }
    json_free(config);
    json_free(gen);
    json_free(quant);
    return st;
}

static Status open_folder(HfModel *m, const char *dir, bool weights, Err *e) {
    TRY(find_places(m, dir, e));
    TRY(read_config(m, e));
    if (!weights) return OK;
    TRY(st_open_dir(&m->st, sb_str(&m->dir), e));
    return hf__plan(m, e);
}

static Status open_new(HfModel **out, const char *dir, const HfOpts *o, bool weights, Err *e) {
    HfModel *m = mem_new(HfModel);
    if (!m) return err_set(e, ERR_NOMEM, "no memory to open %s", dir);
    m->opts = o;
    Status st = open_folder(m, dir, weights, e);
    m->opts = NULL;
    if (st == OK) *out = m;
    else hf_close(m);
    return st;
}

Status hf_open(HfModel **out, const char *dir, const HfOpts *o, Err *e) {
    return open_new(out, dir, o, true, e);
}

Status hf_open_config(HfModel **out, const char *dir, const HfOpts *o, Err *e) {
    return open_new(out, dir, o, false, e);
}

Status hf_open_sizes(HfModel **out, const HfSizes *s, Err *e) {
    const HfArch *arch = hf__arch_of(s->arch);
    if (!arch)
        return err_set(e, ERR_UNSUPPORTED, "modules of architecture %s are not known here",
                       s->arch);
    HfModel *m = mem_new(HfModel);
    if (!m) return err_set(e, ERR_NOMEM, "no memory for the sizes of a model");
    m->cfg = (HfConfig){.arch = arch,
                        .n_layer = s->n_layer,
                        .C = s->C,
                        .nh = s->nh,
                        .nkv = s->nkv,
                        .hd = s->hd,
                        .ff = s->ff,
                        .V = s->V,
                        .tied = s->tied};
    *out = m;
    return OK;
}

void hf_close(HfModel *m) {
    if (!m) return;
    st_close(m->st);
    for (size_t i = 0; i < m->n_items; i++) mem_free(m->item[i].packed);
    mem_free(m->item);
    sb_deinit(&m->dir);
    sb_deinit(&m->tok_dir);
    sb_deinit(&m->name);
    mem_free(m);
}

const char *hf_class(const HfModel *m) { return m->cfg.arch->name; }
const char *hf_arch(const HfModel *m) { return m->cfg.arch->gguf; }
int32_t hf_n_vocab(const HfModel *m) { return m->cfg.V; }
int hf_n_layer(const HfModel *m) { return m->cfg.n_layer; }
int hf_n_head(const HfModel *m) { return m->cfg.nh; }
int hf_n_head_kv(const HfModel *m) { return m->cfg.nkv; }
size_t hf_n_tensors(const HfModel *m) { return m->n_items; }
uint64_t hf_n_bytes(const HfModel *m) { return st_file_bytes(m->st); }
size_t hf_n_notes(const HfModel *m) { return m->n_notes; }
const char *hf_note_at(const HfModel *m, size_t i) { return m->note[i]; }

size_t hf_end_ids(const HfModel *m, const int32_t **ids) {
    *ids = m->cfg.end;
    return m->cfg.n_end;
}

uint64_t hf_n_params(const HfModel *m) {
    uint64_t n = 0;
    for (size_t i = 0; i < m->n_items; i++) n += m->item[i].rows * m->item[i].cols;
    return n;
}

/* Of the matrices, in the folder or in the output. */
static DType most_of(const HfModel *m, bool from) {
    uint64_t n[DT_COUNT] = {0};
    DType most = DT_F32;
    for (size_t i = 0; i < m->n_items; i++) {
        const HfItem *it = &m->item[i];
        if (it->n_dims == 2) n[from ? it->from : it->to] += it->rows * it->cols;
    }
    for (uint32_t t = 0; t < DT_COUNT; t++)
        if (n[t] > n[most]) most = (DType)t;
    return most;
}

DType hf_type(const HfModel *m) { return most_of(m, false); }

const char *hf_stored(const HfModel *m, char buf[HF_STORED]) {
    static const char *const names[] = {"", "awq", "gptq", "bitsandbytes"};
    const HfQuant *q = &m->cfg.quant;
    bool packed = false;
    for (size_t i = 0; i < m->n_items; i++) packed |= m->item[i].packed != NULL;
    if (!packed) snprintf(buf, HF_STORED, "%s", dtype_name(most_of(m, true)));
    else if (q->scheme == HF_BNB) snprintf(buf, HF_STORED, "%s, 4 bits", names[q->scheme]);
    else if (q->group < 0) snprintf(buf, HF_STORED, "%s, %d bits", names[q->scheme], q->bits);
    else
        snprintf(buf, HF_STORED, "%s, %d bits in groups of %d", names[q->scheme], q->bits,
                 q->group);
    return buf;
}

/* ---- what becomes of each tensor ---- */

HfTensor hf_tensor_at(const HfModel *m, size_t i) {
    const HfItem *it = &m->item[i];
    HfTensor t = {.name = it->name,
                  .n_dims = it->n_dims,
                  .type = it->to,
                  .ne = {it->cols, it->rows}};
    if (it->n_dims == 1) {
        t.ne[0] = it->cols * it->rows;
        t.ne[1] = 1;
    }
    return t;
}

void hf_set_type(HfModel *m, size_t i, DType type) { m->item[i].to = type; }

static int by_order(const void *pa, const void *pb, void *order) {
    const HfItem *a = pa, *b = pb;
    return (*(HfOrder *)order)(slice_of(a->name), slice_of(b->name));
}

void hf_sort(HfModel *m, HfOrder order) {
    qsort_r(m->item, m->n_items, sizeof *m->item, by_order, &order);
}
