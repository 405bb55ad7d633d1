/* SPDX-License-Identifier: Apache-2.0
 * From a folder to a file, in steps: open it (format/hf.h), load its tokenizer, decide on types, write the
 * GGUF file, and read it back as the model's loader would. */
#include "quant/convert.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <strings.h>

#include "format/hf.h"
#include "model/model.h"
#include "quant/internal.h"
#include "text/json.h"
#include "token/token.h"

typedef struct Convert {
    const QuantConvertOpts *o;
    HfModel *hf;     /* owned */
    Tokenizer *tok;  /* owned */
    Json *tok_conf;  /* owned: tokenizer_config.json; NULL: none */
    StrBuf tok_text; /* its text */
    StrBuf jinja;    /* chat_template.jinja */
    Team *team;      /* owned */
    HfLoss *loss;    /* owned [tensors] */
    Kern kern;
} Convert;

/* Types that need no blocks: these, and "auto". */
static int plain_type(const char *name) {
    static const struct {
        const char *name;
        int type;
    } rows[] = {{"auto", HF_AS_STORED}, {"f32", DT_F32}, {"f16", DT_F16}, {"bf16", DT_BF16}};
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (strcasecmp(name, rows[i].name) == 0) return rows[i].type;
    return DT_COUNT;
}

bool quant_convert_type_ok(const char *type) {
    return plain_type(type) != DT_COUNT || quant_mix_find(type);
}

/* ---- the tokenizer ---- */

static Status load_tokenizer(Convert *c, Err *e) {
    StrBuf text = {0};
    Status st = hf_read_tokenizer_file(&text, c->hf, "tokenizer.json", e);
    if (st == OK && text.n == 0)
        st = err_set(
            e, ERR_NOT_FOUND,
            "no tokenizer.json: save the tokenizer as a fast one (tokenizer.model and vocab.json "
            "alone are not read)");
    if (st == OK) st = hf_read_tokenizer_file(&c->tok_text, c->hf, "tokenizer_config.json", e);
    if (st == OK) st = hf_read_tokenizer_file(&c->jinja, c->hf, "chat_template.jinja", e);
    if (st == OK && c->tok_text.n) {
        st = json_parse(&c->tok_conf, (Slice){c->tok_text.p, c->tok_text.n}, e);
        if (st != OK) err_in(e, "tokenizer_config.json");
    }
    if (st == OK)
        st = tok_load_json_for(&c->tok, (Slice){text.p, text.n},
                               (Slice){sb_str(&c->tok_text), c->tok_text.n}, hf_n_vocab(c->hf), e);
    sb_deinit(&text);
    return st;
}

static bool has_template(const Convert *c) {
    const Json *t = json_get(c->tok_conf, "chat_template");
    return c->jinja.n > 0 || json_str(t).n > 0 || json_len(t) > 0;
}

/* A list of named templates; the one called default is the chat template. */
static void put_named(const Json *list, GgufW *w) {
    enum { MOST = 32 };
    Slice names[MOST];
    size_t n = 0;
    char key[96];
    for (size_t i = 0; i < json_len(list) && n < MOST; i++) {
        Slice name = json_str(json_get(json_at(list, i), "name"));
        Slice text = json_str(json_get(json_at(list, i), "template"));
        if (name.n < 1 || name.n > 48 || memchr(name.p, 0, name.n)) continue;
        if (slice_eq_str(name, "default")) {
            gguf_w_str(w, "tokenizer.chat_template", text);
            continue;
        }
        snprintf(key, sizeof key, "tokenizer.chat_template.%.*s", (int)name.n, name.p);
        gguf_w_str(w, key, text);
        names[n++] = name;
    }
    if (n > 0) gguf_w_arr_str(w, "tokenizer.chat_templates", names, n);
}

static void put_template(const Convert *c, GgufW *w) {
    const Json *t = json_get(c->tok_conf, "chat_template");
    if (json_is_array(t)) put_named(t, w);
    else if (json_is_str(t)) gguf_w_str(w, "tokenizer.chat_template", json_str(t));
    if (c->jinja.n) gguf_w_str(w, "tokenizer.chat_template", (Slice){c->jinja.p, c->jinja.n});
}

/* The tokenizer's end stays the first; the others get the words GGUF has, and all a list of our own. */
static void put_ends(const Convert *c, GgufW *w) {
    static const char *const keys[] = {"tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    const int32_t *ids;
    size_t n = hf_end_ids(c->hf, &ids), next = 0;
    int32_t first = tok_eot(c->tok) >= 0 ? tok_eot(c->tok) : n > 0 ? ids[0] : -1;
    if (first >= 0) gguf_w_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)first);
    for (size_t i = 0; i < n && next < COUNT_OF(keys); i++)
        if (ids[i] != first) gguf_w_u32(w, keys[next++], (uint32_t)ids[i]);
    if (n > 1) gguf_w_arr_i32(w, "tokenizer.ingot.end_ids", ids, n);
}

static void put_tokenizer(void *ctx, GgufW *w) {
    const Convert *c = ctx;
    tok_save(c->tok, w);
    put_ends(c, w);
    put_template(c, w);
}

/* ---- steps ---- */

static void warn_notes(const Convert *c) {
    for (size_t i = 0; c->o->warn && i < hf_n_notes(c->hf); i++)
        c->o->warn(c->o->warn_ctx, hf_note_at(c->hf, i));
}

/* Every tensor that the model wants is there, in its shape, and no other. */
static Status check_tensors(const Gguf *g, const Param *p, int n, Err *e) {
    bool freqs = gguf_find_tensor(g, "rope_freqs.weight") != NULL;
    for (int i = 0; i < n; i++) {
        const GgufTensor *t = gguf_find_tensor(g, p[i].name);
        if (!t || t->ne[0] != (uint64_t)p[i].cols || t->ne[1] != (uint64_t)p[i].rows)
            return err_set(e, ERR_INTERNAL, "tensor %s came out wrong: the file is not used",
                           p[i].name);
    }
    if (gguf_n_tensors(g) == (size_t)n + freqs) return OK;
    return err_set(e, ERR_INTERNAL, "%zu tensors came out, the model has %zu", gguf_n_tensors(g),
                   (size_t)n + freqs);
}

static Status check_file(const char *path, Err *e) {
    Gguf *g = NULL;
    Tokenizer *tok = NULL;
    Param *p = NULL;
    ModelConfig c;
    int n = 0;
    TRY(gguf_open(&g, path, e));
    Status st = model_read_config(&c, g, e);
    if (st == OK) st = model_params(&p, &n, &c, e);
    if (st == OK) st = check_tensors(g, p, n, e);
    if (st == OK) st = tok_load(&tok, g, e);
    tok_free(tok);
    mem_free(p);
    gguf_close(g);
    if (st != OK && io_remove(path, NULL) != OK) err_in(e, path);
    return st;
}

/* ---- numbers ---- */

static void widen(void *ctx, DType from, float *y, const void *x, size_t n) {
    const Kern *k = ctx;
    if (from == DT_F32) memcpy(y, x, n * sizeof *y);
    else k->to_f32[from](y, x, n);
}

/* The plain types take infinities and NaN along; what is finite and too large for f16 is refused. */
static size_t find_too_large(DType to, const float *x, size_t n) {
    for (size_t i = 0; to == DT_F16 && i < n; i++)
        if (fabsf(x[i]) >= 65520.0f && fabsf(x[i]) <= FLT_MAX) return i;
    return n;
}

/* A sum of squares that is small enough tells of all numbers at once. */
static size_t find_bad(const Kern *k, DType to, const float *x, size_t n) {
    double limit = (double)quant__limit(to);
    if (to == DT_F32 || to == DT_BF16 || k->sum_sq(x, n) < limit * limit) return n;
    return dtype_info(to)->is_quantized ? quant__find_bad(x, n, quant__limit(to))
                                        : find_too_large(to, x, n);
}

static size_t narrow(void *ctx, DType to, void *y, const float *x, size_t n) {
    const Kern *k = ctx;
    size_t ok = find_bad(k, to, x, n);
    if (ok < n) return ok;
    if (to == DT_F32) memcpy(y, x, n * sizeof *x);
    else k->from_f32[to](y, x, n);
    return quant__find_bad_scale(to, y, n);
}

static void add_loss(void *ctx, HfLoss *l, DType to, const void *y, const float *x, float *work,
                     size_t n) {
    const Kern *k = ctx;
    widen(ctx, to, work, y, n);
    k->scale(work, -1.0f, n);
    k->add(work, x, n);
    l->error += k->sum_sq(work, n);
    l->square += k->sum_sq(x, n);
}

static float limit(DType to) { return to == DT_F16 ? 65504.0f : quant__limit(to); }

/* ---- types ---- */

/* In the order and with the types that quant_file would give the plain file. */
static void set_types(Convert *c, const QuantMix *mix) {
    HfModel *m = c->hf;
    QuantRules r = {.mix = mix};
    quant_rules_init(&r, slice_of(hf_arch(m)), hf_n_layer(m), hf_n_head(m), hf_n_head_kv(m));
    for (size_t i = 0; i < hf_n_tensors(m); i++)
        quant_rules_add(&r, slice_of(hf_tensor_at(m, i).name));
    hf_sort(m, quant_compare_names);
    for (size_t i = 0; i < hf_n_tensors(m); i++) {
        HfTensor t = hf_tensor_at(m, i);
        bool fallback;
        GgufTensor g = {.name = slice_of(t.name),
                        .type = t.type,
                        .n_dims = t.n_dims,
                        .ne = {t.ne[0], t.ne[1], 1, 1},
                        .n_elem = t.ne[0] * t.ne[1]};
        hf_set_type(m, i, quant_type_for(&r, &g, QUANT_NOT_FORCED, &fallback));
    }
}

static Status write_file(Convert *c, const char *path, const QuantMix *mix, Err *e) {
    HfCodec codec = {
        .ctx = &c->kern, .widen = widen, .narrow = narrow, .add_loss = add_loss, .limit = limit};
    HfWrite o = {.codec = &codec,
                 .file_type = mix ? mix->file_type : -1,
                 .extra = put_tokenizer,
                 .extra_ctx = c,
                 .progress = c->o->progress,
                 .progress_ctx = c->o->progress_ctx,
                 .stop = c->o->stop};
    TRY(kern_init(&c->kern, c->o->cpu, e));
    TRY(team_new(&c->team, MAX(c->o->n_threads, 1), e));
    o.team = c->team;
    o.loss = c->loss = mem_new_n(HfLoss, hf_n_tensors(c->hf));
    if (!c->loss) return err_set(e, ERR_NOMEM, "no memory for %zu tensors", hf_n_tensors(c->hf));
    TRY(hf_write(c->hf, path, &o, e));
    return check_file(path, e);
}

/* ---- the report ---- */

static double ratio(double error, double square) { return error > 0 ? error / square : 0; }

static Status report_loss(const Convert *c, QuantConverted *st, Err *e) {
    HfLoss all = {0};
    st->n_loss = hf_n_tensors(c->hf);
    st->loss = mem_new_n(QuantLoss, st->n_loss);
    if (!st->loss)
        return err_set(e, ERR_NOMEM, "no memory for a report of %zu tensors", st->n_loss);
    for (size_t i = 0; i < st->n_loss; i++) {
        HfTensor t = hf_tensor_at(c->hf, i);
        QuantLoss *l = &st->loss[i];
        snprintf(l->name, sizeof l->name, "%s", t.name);
        l->type = t.type;
        l->relative = ratio(c->loss[i].error, c->loss[i].square);
        all.error += c->loss[i].error;
        all.square += c->loss[i].square;
        if (l->relative > st->loss[st->worst].relative) st->worst = i;
    }
    st->relative = ratio(all.error, all.square);
    return OK;
}

static Status report(const Convert *c, QuantConverted *st, const char *out, Err *e) {
    *st = (QuantConverted){.n_tensors = hf_n_tensors(c->hf),
                           .n_params = hf_n_params(c->hf),
                           .bytes_in = hf_n_bytes(c->hf),
                           .n_vocab = hf_n_vocab(c->hf),
                           .has_template = has_template(c)};
    snprintf(st->class_name, sizeof st->class_name, "%s", hf_class(c->hf));
    snprintf(st->arch, sizeof st->arch, "%s", hf_arch(c->hf));
    hf_stored(c->hf, st->stored);
    TRY(io_file_size(&st->file_out, out, e));
    return report_loss(c, st, e);
}

void quant_converted_deinit(QuantConverted *st) {
    mem_free(st->loss);
    st->loss = NULL;
    st->n_loss = 0;
}

/* ---- the whole ---- */

static Status run(Convert *c, QuantConverted *st, const char *dir, const char *out, Err *e) {
    int type = plain_type(c->o->type);
    const QuantMix *mix = type == DT_COUNT ? quant_mix_find(c->o->type) : NULL;
    HfOpts o = {.type = mix ? HF_AS_STORED : type,
                .ignore = c->o->ignore,
                .n_ignore = c->o->n_ignore};
    TRY(hf_open(&c->hf, dir, &o, e));
    TRY(load_tokenizer(c, e));
    warn_notes(c);
    if (mix) set_types(c, mix);
    TRY(write_file(c, out, mix, e));
    return report(c, st, out, e);
}

Status quant_convert(QuantConverted *st, const char *dir, const char *out,
                     const QuantConvertOpts *o, Err *e) {
    Convert c = {.o = o};
    if (!quant_convert_type_ok(o->type))
        return err_set(e, ERR_ARG, "unknown type \"%s\": choose auto, f32, %s", o->type,
                       quant_mix_names());
    Status status = run(&c, st, dir, out, e);
    hf_close(c.hf);
    tok_free(c.tok);
    team_free(c.team);
    json_free(c.tok_conf);
    sb_deinit(&c.tok_text);
    sb_deinit(&c.jinja);
    mem_free(c.loss);
    return status;
}
