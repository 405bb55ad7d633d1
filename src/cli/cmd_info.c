/* SPDX-License-Identifier: Apache-2.0
 * ingot info: what a GGUF file holds and what running it would take, without loading it. An adapter takes a model to
 * run: of one, what it says about itself is shown in place of the plan. */
#include <stdio.h>

#include "cli/cli.h"
#include "engine/engine.h"
#include "model/lora.h"
#include "text/json.h"

enum { MAX_SHOWN = 120 };

typedef struct InfoCmd {
    int64_t ctx, seqs;
    bool tensors, json;
} InfoCmd;

#define AT(field) offsetof(InfoCmd, field)
static const OptSpec opts[] = {
    CLI_CTX_OPT(AT(ctx)),
    {.key = "seqs",
     .type = OPT_INT,
     .offset = AT(seqs),
     .def = "1",
     .min = 1,
     .max = 4096,
     .help = "sequences of the memory plan that are decoded together"},
    {.key = "tensors",
     .type = OPT_BOOL,
     .offset = AT(tensors),
     .def = "true",
     .help = "list the tensors"},
    {.key = "json", .type = OPT_BOOL, .offset = AT(json), .help = "print one JSON object"},
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot info FILE.gguf [options]",
    .about = "Shows the metadata and the tensors of a GGUF file and plans the memory that running "
             "it takes.\n"
             "Nothing is loaded.\n"
             "\n"
             "examples:\n"
             "  ingot info model.gguf\n"
             "  ingot info model.gguf --no-tensors --ctx 8192 --seqs 16",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 1,
    .max_pos = 1,
};

/* What the file says about itself. */
typedef struct Info {
    const Gguf *g;
    const char *path;
    uint64_t n_params, n_weight_bytes;
    bool is_adapter;
    double alpha;
    uint64_t rank; /* the largest; as the file has it, whatever model it is for */
    uint64_t n_pairs;
    Err model_err; /* why there is no plan */
    bool has_plan;
    ModelConfig cfg;
    int ctx, seqs;
    size_t kv_bytes, work_bytes;
} Info;

static Status plan(Info *f, const InfoCmd *c, Err *e) {
    size_t all = 0;
    TRY(model_read_config(&f->cfg, f->g, e));
    f->ctx = cli_ctx(c->ctx, f->cfg.ctx);
    f->seqs = (int)c->seqs;
    EngineOpts o = {.max_ctx = f->ctx, .max_seqs = f->seqs};
    TRY(engine_plan_bytes(&all, &f->cfg, &o, e));
    f->kv_bytes = model_kv_bytes(&f->cfg, DT_F16, f->seqs * ((f->ctx + 31) / 32));
    f->work_bytes = all - f->kv_bytes;
    return OK;
}

/* Anything that may be a rank: the columns of a B. */
static void look_at_adapter(Info *f) {
    static const char tail[] = ".lora_b";
    f->is_adapter = lora_is_adapter(f->g);
    for (size_t i = 0; f->is_adapter && i < gguf_n_tensors(f->g); i++) {
        const GgufTensor *t = gguf_tensor_at(f->g, i);
        if (t->name.n < sizeof tail || memcmp(t->name.p + t->name.n - 7, tail, 7) != 0) continue;
        f->n_pairs++;
        f->rank = MAX(f->rank, t->ne[0]);
    }
    Status st = gguf_opt_float(&f->alpha, f->g, "adapter.lora.alpha", -1e30, 1e30, NULL);
    if (st != OK) f->alpha = 0;
}

static Slice text_of(const Gguf *g, const char *key) {
    const GgufKv *kv = gguf_find(g, key);
    return kv && kv->type == GGUF_STR ? kv->v.s : slice_of("?");
}

static void collect(Info *f, const InfoCmd *c) {
    look_at_adapter(f);
    for (size_t i = 0; i < gguf_n_tensors(f->g); i++) {
        f->n_params += gguf_tensor_at(f->g, i)->n_elem;
        f->n_weight_bytes += gguf_tensor_at(f->g, i)->n_bytes;
    }
    f->has_plan = !f->is_adapter && plan(f, c, &f->model_err) == OK;
}

/* ---- text ---- */

static void put_shape(StrBuf *b, const GgufTensor *t) {
    for (int d = 0; d < t->n_dims; d++)
        sb_printf(b, d ? " x %llu" : "%llu", (unsigned long long)t->ne[d]);
}

static void put_metadata(StrBuf *b, const Gguf *g) {
    sb_puts(b, "metadata:\n");
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        const GgufKv *kv = gguf_kv_at(g, i);
        sb_puts(b, "  ");
        sb_put_quoted(b, kv->key, MAX_SHOWN);
        sb_puts(b, " = ");
        gguf_format_value(kv, b);
        sb_putc(b, '\n');
    }
}

static void put_tensors(StrBuf *b, const Gguf *g) {
    char size[32];
    StrBuf name = {0}, shape = {0};
    sb_puts(b, "tensors:\n");
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const GgufTensor *t = gguf_tensor_at(g, i);
        sb_clear(&name);
        sb_clear(&shape);
        sb_put_quoted(&name, t->name, MAX_SHOWN);
        put_shape(&shape, t);
        sb_printf(b, "  %-28s %18s  %-5s %10s\n", sb_str(&name), sb_str(&shape),
                  dtype_name(t->type), cli_bytes(size, (double)t->n_bytes));
    }
    sb_deinit(&name);
    sb_deinit(&shape);
}

static void put_plan(StrBuf *b, const Info *f) {
    char w[32], k[32], x[32], all[32];
    if (!f->has_plan) {
        sb_printf(b, "memory: no plan: %s\n", f->model_err.msg);
        return;
    }
    size_t sum = f->n_weight_bytes + f->kv_bytes + f->work_bytes;
    sb_printf(b,
              "memory for %d sequence%s of %d tokens: weights %s, KV cache (f16) %s, workspace %s: "
              "%s in all\n",
              f->seqs, f->seqs > 1 ? "s" : "", f->ctx, cli_bytes(w, (double)f->n_weight_bytes),
              cli_bytes(k, (double)f->kv_bytes), cli_bytes(x, (double)f->work_bytes),
              cli_bytes(all, (double)sum));
}

static void put_adapter(StrBuf *b, const Info *f) {
    bool is_lora = slice_eq_str(text_of(f->g, "adapter.type"), "lora");
    sb_puts(b, is_lora ? "LoRA adapter for " : "adapter for ");
    sb_put_quoted(b, text_of(f->g, "general.architecture"), MAX_SHOWN);
    sb_printf(b, ": rank %llu, alpha %g, %llu matrices\n", (unsigned long long)f->rank, f->alpha,
              (unsigned long long)f->n_pairs);
}

static void put_text(StrBuf *b, const Info *f, const InfoCmd *c) {
    char n[32], size[32];
    put_metadata(b, f->g);
    if (c->tensors) put_tensors(b, f->g);
    sb_printf(b, "file: %s, %s, GGUF version %u, alignment %u, %zu metadata entries, %zu tensors\n",
              f->path, cli_bytes(size, (double)gguf_file_bytes(f->g)), gguf_version(f->g),
              gguf_alignment(f->g), gguf_n_kv(f->g), gguf_n_tensors(f->g));
    if (gguf_n_files(f->g) > 1) sb_printf(b, "in %zu files\n", gguf_n_files(f->g));
    sb_printf(b, "parameters: %s, %.2f bits each\n", cli_commas(n, f->n_params),
              f->n_params ? 8.0 * (double)f->n_weight_bytes / (double)f->n_params : 0);
    if (f->is_adapter) put_adapter(b, f);
    else put_plan(b, f);
}

/* ---- JSON ---- */

static void json_array(JsonW *w, const char *key, const GgufKv *kv) {
    jw_obj(w, key);
    jw_int(w, "array_of", kv->v.arr.type);
    jw_int(w, "length", (int64_t)kv->v.arr.n);
    jw_end_obj(w);
}

static void json_value(JsonW *w, const char *key, const GgufKv *kv) {
    switch (kv->type) {
    case GGUF_STR: jw_str(w, key, kv->v.s); break;
    case GGUF_ARR: json_array(w, key, kv); break;
    case GGUF_BOOL: jw_bool(w, key, kv->v.u != 0); break;
    case GGUF_F32: jw_f32(w, key, (float)kv->v.f); break;
    case GGUF_F64: jw_num(w, key, kv->v.f); break;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64: jw_int(w, key, kv->v.i); break;
    default: jw_int(w, key, (int64_t)MIN(kv->v.u, (uint64_t)INT64_MAX)); break;
    }
}

/* Keys come from the file: they go through jw_str's cleaning by way of a {key, value} pair. */
static void json_metadata(JsonW *w, const Gguf *g) {
    jw_arr(w, "metadata");
    for (size_t i = 0; i < gguf_n_kv(g); i++) {
        const GgufKv *kv = gguf_kv_at(g, i);
        jw_obj(w, NULL);
        jw_str(w, "key", kv->key);
        json_value(w, "value", kv);
        jw_end_obj(w);
    }
    jw_end_arr(w);
}

static void json_tensors(JsonW *w, const Gguf *g) {
    jw_arr(w, "tensors");
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const GgufTensor *t = gguf_tensor_at(g, i);
        jw_obj(w, NULL);
        jw_str(w, "name", t->name);
        jw_arr(w, "shape");
        for (int d = 0; d < t->n_dims; d++) jw_int(w, NULL, (int64_t)t->ne[d]);
        jw_end_arr(w);
        jw_cstr(w, "type", dtype_name(t->type));
        jw_int(w, "bytes", (int64_t)t->n_bytes);
        jw_end_obj(w);
    }
    jw_end_arr(w);
}

static void json_plan(JsonW *w, const Info *f) {
    if (!f->has_plan) {
        jw_null(w, "memory");
        return;
    }
    jw_obj(w, "memory");
    jw_int(w, "ctx", f->ctx);
    jw_int(w, "seqs", f->seqs);
    jw_int(w, "weights", (int64_t)f->n_weight_bytes);
    jw_int(w, "kv_cache", (int64_t)f->kv_bytes);
    jw_int(w, "workspace", (int64_t)f->work_bytes);
    jw_end_obj(w);
}

static void json_adapter(JsonW *w, const Info *f) {
    if (!f->is_adapter) return;
    jw_obj(w, "adapter");
    jw_str(w, "type", text_of(f->g, "adapter.type"));
    jw_str(w, "architecture", text_of(f->g, "general.architecture"));
    jw_int(w, "rank", (int64_t)f->rank);
    jw_num(w, "alpha", f->alpha);
    jw_int(w, "matrices", (int64_t)f->n_pairs);
    jw_end_obj(w);
}

static void put_json(StrBuf *b, const Info *f, const InfoCmd *c) {
    JsonW w;
    jw_init(&w, b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "file", f->path);
    jw_int(&w, "file_bytes", (int64_t)gguf_file_bytes(f->g));
    jw_int(&w, "files", (int64_t)gguf_n_files(f->g));
    jw_int(&w, "version", gguf_version(f->g));
    jw_int(&w, "alignment", gguf_alignment(f->g));
    jw_int(&w, "parameters", (int64_t)f->n_params);
    jw_int(&w, "bytes", (int64_t)f->n_weight_bytes);
    json_plan(&w, f);
    json_adapter(&w, f);
    json_metadata(&w, f->g);
    if (c->tensors) json_tensors(&w, f->g);
    jw_end_obj(&w);
}

/* ---- the command ---- */

static int info(const InfoCmd *c, const char *path) {
    Err e = {0};
    Gguf *g = NULL;
    StrBuf b = {0};
    int rc;
    if (gguf_open(&g, path, &e) != OK) return cli_fail(&e);
    Info f = {.g = g, .path = path};
    collect(&f, c);
    if (c->json) put_json(&b, &f, c);
    else put_text(&b, &f, c);
    if (c->json) rc = cli_print_json(&b);
    else if (sb_check(&b, &e) != OK) rc = cli_fail(&e);
    else {
        fwrite(b.p, 1, b.n, stdout);
        rc = cli_flush_stdout();
    }
    sb_deinit(&b);
    gguf_close(g);
    return rc;
}

int cmd_info(int argc, char **argv) {
    InfoCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0) rc = info(&c, a.pos.v[0]);
    cli_args_deinit(&a);
    return rc;
}
