/* SPDX-License-Identifier: Apache-2.0
 * From a file to a folder, in steps: open it, plan the folder (format/hf_out.h), write texts and weights beside the
 * place, read the result as a converter would, put it in place. One thread. */
#include "quant/export.h"

#include <stdio.h>
#include <strings.h>

#include "format/hf.h"
#include "model/model.h"
#include "quant/export_internal.h"
#include "token/token.h"

/* ---- what the file says ---- */

static bool yarn_is_odd(const YarnSpec *y) {
    return y->ctx > 0 && (y->beta_fast < 32.0f || y->beta_fast > 32.0f || y->beta_slow < 1.0f ||
                          y->beta_slow > 1.0f || y->log_mul > 0.0f);
}

static HfSpec spec_of(const ModelConfig *c) {
    return (HfSpec){.arch = c->arch->name,
                    .n_layer = c->n_layer,
                    .C = c->C,
                    .nh = c->nh,
                    .nkv = c->nkv,
                    .hd = c->hd,
                    .ff = c->ff,
                    .V = c->V,
                    .ctx = c->ctx,
                    .n_rot = c->n_rot,
                    .eps = c->norm_eps,
                    .rope_base = c->rope_base,
                    .rope_scale = c->rope_scale,
                    .rope_attn = c->rope_attn,
                    .yarn_ctx = c->yarn.ctx,
                    .yarn_odd = yarn_is_odd(&c->yarn),
                    .tied = c->tied,
                    .qkv_bias = model_has(c, PART_QKV_BIAS),
                    .out_bias = model_has(c, PART_OUT_BIAS),
                    .mlp_bias = model_has(c, PART_MLP_BIAS)};
}

static Status plan(Export *x, const ModelConfig *c, Err *e) {
    HfSpec s = spec_of(c);
    Slice from = {0};
    char name[32];
    TRY(gguf_opt_str(&from, x->g, "ingot.hf.class", e));
    snprintf(name, sizeof name, "%.*s", (int)MIN(from.n, sizeof name - 1), from.n ? from.p : "");
    s.class_name = x->o->class_name ? x->o->class_name : from.n ? name : NULL;
    return hf_out_new(&x->out, &s, x->g, e);
}

/* ---- ids ---- */

static void add_end(HfOutIds *ids, int64_t id, int V) {
    if (id < 0 || id >= V || ids->n_end == HF_OUT_ENDS) return;
    for (int i = 0; i < ids->n_end; i++)
        if (ids->end[i] == id) return;
    ids->end[ids->n_end++] = (int32_t)id;
}

static Status read_id(int64_t *id, const Gguf *g, const char *key, int V, Err *e) {
    TRY(gguf_opt_int(id, g, key, -1, UINT32_MAX, e));
    if (*id >= V) *id = -1;
    return OK;
}

/* All that end a text where the file lists them; else its end of text, of turn, of message. */
static Status read_ids(HfOutIds *ids, const Export *x, const Tokenizer *tok, int V, Err *e) {
    static const char *const keys[] = {"tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    int64_t bos = tok_bos(tok), pad = -1, end = tok_eot(tok);
    const GgufKv *list = NULL;
    *ids = (HfOutIds){0};
    TRY(read_id(&bos, x->g, "tokenizer.ggml.bos_token_id", V, e));
    TRY(read_id(&pad, x->g, "tokenizer.ggml.padding_token_id", V, e));
    ids->bos = (int32_t)bos;
    ids->pad = (int32_t)pad;
    if (gguf_find(x->g, "tokenizer.ingot.end_ids"))
        TRY(gguf_get_arr(&list, x->g, "tokenizer.ingot.end_ids", GGUF_I32, e));
    for (uint64_t i = 0; list && i < list->v.arr.n; i++)
        add_end(ids, (int64_t)gguf_arr_num(list, i), V);
    if (list) return OK;
    add_end(ids, end, V);
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        end = -1;
        TRY(read_id(&end, x->g, keys[i], V, e));
        add_end(ids, end, V);
    }
    return OK;
}

/* ---- texts ---- */

static DType most_of(const Export *x) {
    uint64_t n[DT_COUNT] = {0};
    DType most = DT_F32;
    for (size_t i = 0; i < hf_out_n_tensors(x->out); i++) {
        const HfOutTensor *t = hf_out_tensor_at(x->out, i);
        if (t->n_dims == 2) n[x->to[i]] += t->rows * t->cols;
    }
    for (uint32_t t = 0; t < DT_COUNT; t++)
        if (n[t] > n[most]) most = (DType)t;
    return most;
}

static Status write_tokenizer(Export *x, const Tokenizer *tok, const ModelConfig *c, Err *e) {
    StrBuf b = {0}, line = {0};
    Status st = tok_format_json(&b, tok, e);
    if (st == OK) st = quant__export_text(x, "tokenizer.json", &b, e);
    sb_clear(&b);
    if (st == OK) st = tok_format_json_config(&line, tok, c->ctx, e);
    if (st == OK) {
        hf_out_put_pretty(&b, (Slice){line.p, line.n});
        st = quant__export_text(x, "tokenizer_config.json", &b, e);
    }
    sb_deinit(&b);
    sb_deinit(&line);
    return st;
}

static Status write_texts(Export *x, const Tokenizer *tok, const ModelConfig *c, Err *e) {
    HfOutIds ids;
    StrBuf b = {0};
    if (tok_n_vocab(tok) > c->V)
        return err_set(e, ERR_FORMAT, "%d tokens for %d rows of the embedding",
                       (int)tok_n_vocab(tok), c->V);
    TRY(read_ids(&ids, x, tok, c->V, e));
    hf_out_put_config(&b, x->out, &ids, most_of(x));
    Status st = quant__export_text(x, "config.json", &b, e);
    sb_clear(&b);
    hf_out_put_generation(&b, &ids);
    if (st == OK) st = quant__export_text(x, "generation_config.json", &b, e);
    sb_deinit(&b);
    return st == OK ? write_tokenizer(x, tok, c, e) : st;
}

/* ---- what came of it ---- */

static Status read_texts(StrBuf *text, StrBuf *conf, const HfModel *hf, Err *e) {
    TRY(hf_read_tokenizer_file(text, hf, "tokenizer.json", e));
    return hf_read_tokenizer_file(conf, hf, "tokenizer_config.json", e);
}

/* The folder as a converter reads it. */
static Status check_folder(Export *x, Err *e) {
    HfOpts o = {.type = HF_AS_STORED};
    HfModel *hf = NULL;
    Tokenizer *tok = NULL;
    StrBuf text = {0}, conf = {0};
    Err why = {0};
    Status st = hf_open(&hf, x->stage.tmp, &o, &why);
    if (st == OK) st = read_texts(&text, &conf, hf, &why);
    if (st == OK)
        st = tok_load_json_for(&tok, (Slice){sb_str(&text), text.n}, (Slice){sb_str(&conf), conf.n},
                               hf_n_vocab(hf), &why);
    tok_free(tok);
    sb_deinit(&text);
    sb_deinit(&conf);
    hf_close(hf);
    if (st == OK || st == ERR_NOMEM || st == ERR_IO || st == ERR_NOT_FOUND)
        return st == OK ? OK : err_set(e, st, "%s", why.msg);
    return err_set(e, ERR_UNSUPPORTED, "the folder could not be read again: %s", why.msg);
}

static void sum_up(QuantExported *st, const Export *x, const ModelConfig *c, const Tokenizer *tok) {
    *st = (QuantExported){.type = most_of(x),
                          .n_tensors = hf_out_n_tensors(x->out),
                          .bytes_out = x->total,
                          .n_files = x->n_files,
                          .n_vocab = tok_n_vocab(tok),
                          .has_template = tok_meta_str(tok, "tokenizer.chat_template").n > 0};
    snprintf(st->class_name, sizeof st->class_name, "%s", hf_out_class(x->out));
    snprintf(st->arch, sizeof st->arch, "%s", c->arch->name);
    for (size_t i = 0; i < hf_out_n_tensors(x->out); i++) {
        const HfOutTensor *t = hf_out_tensor_at(x->out, i);
        st->n_params += t->rows * t->cols;
        st->n_expanded += dtype_info(t->src->type)->is_quantized;
    }
}

/* ---- the whole ---- */

static bool is_ours(const char *name) {
    static const char *const names[] = {"config.json",       "generation_config.json",
                                        "tokenizer.json",    "tokenizer_config.json",
                                        "model.safetensors", "model.safetensors.index.json"};
    int at = 0, no = 0, of = 0;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(name, names[i]) == 0) return true;
    bool shard = sscanf(name, "model-%5d-of-%5d.safetensors%n", &no, &of, &at) == 2;
    return shard && at > 0 && !name[at];
}

static Status write_folder(Export *x, const ModelConfig *c, const Tokenizer *tok, const char *dir,
                           Err *e) {
    TRY(quant__export_types(x, e));
    TRY(io_stage_open(&x->stage, dir, x->o->replace, is_ours, e));
    TRY(write_texts(x, tok, c, e));
    TRY(quant__export_weights(x, e));
    TRY(check_folder(x, e));
    return io_stage_commit(&x->stage, e);
}

static Status run(Export *x, QuantExported *st, Tokenizer **tok, const char *in, const char *dir,
                  Err *e) {
    ModelConfig c;
    TRY(gguf_open(&x->g, in, e));
    Status s = model_read_config(&c, x->g, e);
    if (s == OK) s = plan(x, &c, e);
    if (s == OK) s = tok_load(tok, x->g, e);
    if (s != OK) {
        err_in(e, in);
        return s;
    }
    if (hf_out_note(x->out)[0] && x->o->warn) x->o->warn(x->o->warn_ctx, hf_out_note(x->out));
    TRY(kern_init(&x->kern, x->o->cpu, e));
    TRY(write_folder(x, &c, *tok, dir, e));
    sum_up(st, x, &c, *tok);
    return OK;
}

Status quant_export(QuantExported *st, const char *in, const char *dir, const QuantExportOpts *o,
                    Err *e) {
    Export x = {.o = o};
    Tokenizer *tok = NULL;
    Status s = run(&x, st, &tok, in, dir, e);
    io_stage_abort(&x.stage);
    tok_free(tok);
    hf_out_free(x.out);
    gguf_close(x.g);
    mem_free(x.to);
    mem_free(x.file);
    mem_free(x.raw);
    mem_free(x.wide);
    mem_free(x.narrow);
    return s;
}
