/* SPDX-License-Identifier: Apache-2.0
 * Before the work: order, type and importance of every tensor, and the head of the output file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/internal.h"
#include "text/regex.h"
#include "text/utf8.h"

enum {
    TILE = 1 << 15,
    SLAB_TILES = 128,
    IMATRIX_VALUE = 127 /* bytes llama.cpp keeps of a string */
};

QuantCut quant__cut(const QuantItem *it) {
    uint64_t cols = it->t->ne[0];
    if (!it->w) return (QuantCut){it->t->n_elem, TILE, (size_t)TILE * SLAB_TILES};
    size_t tile = (size_t)(cols < TILE ? TILE / cols * cols : cols);
    size_t tiles = MAX(1, (size_t)TILE * SLAB_TILES / tile);
    return (QuantCut){cols * it->t->ne[1], tile, tile * tiles};
}

/* ---- patterns ---- */

typedef struct Patterns {
    Regex **re; /* owned, [n] */
    RegexScratch **scratch;
    int n;
} Patterns;

static void patterns_free(Patterns *p) {
    for (int i = 0; p->re && i < p->n; i++) regex_free(p->re[i]);
    for (int i = 0; p->scratch && i < p->n; i++) regex_scratch_free(p->scratch[i]);
    mem_free(p->re);
    mem_free(p->scratch);
}

static Status patterns_new(Patterns *p, const QuantOpts *o, Err *e) {
    p->n = o->n_overrides;
    p->re = mem_new_n(Regex *, (size_t)p->n);
    p->scratch = mem_new_n(RegexScratch *, (size_t)p->n);
    if (p->n > 0 && (!p->re || !p->scratch))
        return err_set(e, ERR_NOMEM, "%d tensor patterns", p->n);
    for (int i = 0; i < p->n; i++) {
        TRY(regex_new(&p->re[i], o->overrides[i].pattern, e));
        TRY(regex_scratch_new(&p->scratch[i], p->re[i], e));
    }
    return OK;
}

static int forced_type(const Patterns *p, const QuantOpts *o, Slice name) {
    size_t begin, end;
    if (!utf8_valid(name)) return QUANT_NOT_FORCED;
    for (int i = 0; i < p->n; i++)
        if (regex_find(p->re[i], p->scratch[i], name, 0, &begin, &end))
            return (int)o->overrides[i].type;
    return QUANT_NOT_FORCED;
}

/* ---- items ---- */

static void warn(const QuantJob *j, const GgufTensor *t, const char *what) {
    char line[200];
    if (!j->o->warn) return;
    snprintf(line, sizeof line, "%.*s: %s", (int)MIN(t->name.n, (size_t)90), t->name.p, what);
    j->o->warn(j->o->warn_ctx, line);
}

static Status check_source(const QuantJob *j, const QuantItem *it, Err *e) {
    const GgufTensor *t = it->t;
    if (!quant__converts(it)) return OK;
    if (dtype_info(t->type)->is_quantized && !j->o->allow_requantize)
        return err_set(e, ERR_UNSUPPORTED,
                       "tensor %.*s is %s already: start from the f32, f16 or bf16 file, or "
                       "--allow-requantize",
                       (int)t->name.n, t->name.p, dtype_name(t->type));
    if (!j->kern.to_f32[t->type] || !j->kern.from_f32[it->type])
        return err_set(e, ERR_UNSUPPORTED, "tensor %.*s: no conversion from %s to %s",
                       (int)t->name.n, t->name.p, dtype_name(t->type), dtype_name(it->type));
    return OK;
}

/* q8_0 and the plain types are the same with and without importance. */
static bool uses_importance(const QuantItem *it) {
    return quant__converts(it) && dtype_info(it->type)->is_quantized && it->type != DT_Q8_0;
}

static Status find_importance(const QuantJob *j, QuantItem *it, Err *e) {
    size_t n = 0, want = (size_t)(it->t->ne[0] * it->t->ne[2]);
    if (!j->o->imat || !uses_importance(it)) return OK;
    const float *w = imat_find(j->o->imat, it->t->name, &n);
    if (w && n == want && it->t->ne[3] == 1) {
        it->w = w;
        return OK;
    }
    if (w && !slice_eq_str(it->t->name, "token_embd.weight"))
        return err_set(e, ERR_FORMAT, "%s: importance of %.*s has %zu values, the tensor wants %zu",
                       imat_path(j->o->imat), (int)MIN(it->t->name.n, (size_t)90), it->t->name.p, n,
                       want);
    warn(j, it->t, w ? "importance of another size, not used" : "no importance data for it");
    return OK;
}

static int by_name(const void *a, const void *b) {
    return quant_compare_names(((const QuantItem *)a)->t->name, ((const QuantItem *)b)->t->name);
}

static Status decide(QuantJob *j, QuantItem *it, QuantRules *r, const Patterns *p, Err *e) {
    it->type = quant_type_for(r, it->t, forced_type(p, j->o, it->t->name), &it->is_fallback);
    TRY(check_source(j, it, e));
    TRY(find_importance(j, it, e));
    it->n_bytes = quant__converts(it) ? dtype_bytes(it->type, it->t->n_elem) : it->t->n_bytes;
    j->total += it->t->n_bytes;
    if (j->o->plan) j->o->plan(j->o->plan_ctx, it);
    return OK;
}

Status quant__plan(QuantJob *j, Err *e) {
    const QuantOpts *o = j->o;
    Patterns p = {0};
    QuantRules r = {.mix = o->mix,
                    .pure = o->pure,
                    .leave_output = o->leave_output,
                    .output_type = o->output_type,
                    .embedding_type = o->embedding_type,
                    .weighted = o->imat != NULL};
    quant_rules_read(&r, j->g);
    j->n_items = gguf_n_tensors(j->g);
    j->items = mem_new_n(QuantItem, j->n_items);
    if (!j->items) return err_set(e, ERR_NOMEM, "plan of %zu tensors", j->n_items);
    for (size_t i = 0; i < j->n_items; i++) j->items[i].t = gguf_tensor_at(j->g, i);
    qsort(j->items, j->n_items, sizeof *j->items, by_name);
    Status st = patterns_new(&p, o, e);
    for (size_t i = 0; st == OK && i < j->n_items; i++) st = decide(j, &j->items[i], &r, &p, e);
    patterns_free(&p);
    return st;
}

/* ---- the head of the file ---- */

static const char *const own_keys[] = {"general.quantization_version", "general.file_type"};
static const char *const imatrix_keys[] = {"quantize.imatrix.file", "quantize.imatrix.dataset",
                                           "quantize.imatrix.entries_count",
                                           "quantize.imatrix.chunks_count"};
static const char *const split_keys[] = {"split.no", "split.count", "split.tensors.count"};

static bool is_one_of(Slice key, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (slice_eq_str(key, list[i])) return true;
    return false;
}

static bool is_replaced(const QuantJob *j, Slice key) {
    return is_one_of(key, own_keys, COUNT_OF(own_keys)) ||
           is_one_of(key, split_keys, COUNT_OF(split_keys)) ||
           (j->o->imat && is_one_of(key, imatrix_keys, COUNT_OF(imatrix_keys)));
}

static Slice shown(Slice s) { return (Slice){s.p, MIN(s.n, (size_t)IMATRIX_VALUE)}; }

static void declare_importance(QuantJob *j) {
    const Imat *m = j->o->imat;
    if (!m) return;
    Slice set = imat_dataset(m);
    gguf_w_str(j->w, imatrix_keys[0], shown(slice_of(imat_path(m))));
    if (set.n > 0) gguf_w_str(j->w, imatrix_keys[1], shown(set));
    gguf_w_u32(j->w, imatrix_keys[2], (uint32_t)imat_n_entries(m));
    if (imat_n_chunks(m) > 0) gguf_w_u32(j->w, imatrix_keys[3], imat_n_chunks(m));
}

/* Metadata in its order, what is known better here at its end; tensors in theirs. */
void quant__declare(QuantJob *j) {
    for (size_t i = 0; i < gguf_n_kv(j->g); i++) {
        const GgufKv *kv = gguf_kv_at(j->g, i);
        if (!is_replaced(j, kv->key)) gguf_w_kv(j->w, kv);
    }
    gguf_w_u32(j->w, own_keys[0], 2);
    gguf_w_u32(j->w, own_keys[1], (uint32_t)j->o->mix->file_type);
    declare_importance(j);
    for (size_t i = 0; i < j->n_items; i++) {
        const QuantItem *it = &j->items[i];
        gguf_w_tensor(j->w, it->t->name, it->type, it->t->n_dims, it->t->ne);
    }
}
