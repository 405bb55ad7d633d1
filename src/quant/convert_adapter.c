/* SPDX-License-Identifier: Apache-2.0
 * A PEFT folder as an adapter file. Its tensors are BASE.lora_A.weight [rank, inputs] and BASE.lora_B.weight
 * [outputs, rank], BASE being base_model.model.MODULE; of embeddings lora_embedding_A [rank, tokens] and
 * lora_embedding_B [width, rank]. Where the model's file has rows in another order than its folder (q and k of
 * architectures that rotate neighbours), B's rows are ordered likewise. Whatever else an adapter may hold -
 * biases, whole modules, magnitudes - and whatever key could change what it computes is refused by name.
 *
 * Tensors are a few megabytes: each is made whole in memory, all of them at once. */
#include <math.h>
#include <stdio.h>
#include <strings.h>

#include "base/arena.h"
#include "base/io.h"
#include "format/hf.h"
#include "format/safetensors.h"
#include "model/lora.h"
#include "quant/convert.h"
#include "tensor/half.h"
#include "text/json.h"

#define CONFIG "adapter_config.json"
#define WEIGHTS "adapter_model.safetensors"

enum { CONFIG_MAX = 16 << 20 };

typedef struct Adapter {
    const QuantConvertOpts *o;
    HfModel *base;  /* owned; sizes and names alone */
    char arch[16];  /* of the base's file */
    Json *config;   /* owned */
    St *st;         /* owned */
    Arena mem;      /* values */
    LoraPair *pair; /* owned [n tensors of the file]; base points into param */
    Param *param;   /* owned, likewise */
    int n;
    int type; /* -1: as stored */
    double alpha;
    bool rslora;
} Adapter;

bool quant_is_adapter(const char *dir) {
    StrBuf path = {0};
    sb_printf(&path, "%s/" CONFIG, dir);
    bool there = !path.failed && io_exists(path.p);
    sb_deinit(&path);
    return there;
}

/* ---- adapter_config.json ---- */

/* What a key may say. */
typedef enum Want { ANY, OFF, LORA } Want;

static const struct {
    const char *key;
    Want want;
} key_table[] = {
    {"peft_type", LORA},
    {"r", ANY},
    {"lora_alpha", ANY},
    {"use_rslora", ANY},
    {"lora_dropout", ANY},
    {"target_modules", ANY},
    {"exclude_modules", ANY},
    {"layers_to_transform", ANY},
    {"layers_pattern", ANY},
    {"rank_pattern", ANY}, /* the tensors say it */
    {"modules_to_save", ANY},
    {"bias", ANY}, /* likewise: what is no pair is refused */
    {"task_type", ANY},
    {"inference_mode", ANY},
    {"base_model_name_or_path", ANY},
    {"revision", ANY},
    {"auto_mapping", ANY},
    {"peft_version", ANY},
    {"fan_in_fan_out", ANY}, /* of the base's own layout */
    {"megatron_config", ANY},
    {"megatron_core", ANY},
    {"runtime_config", ANY},
    {"eva_config", ANY},
    {"loftq_config", OFF},
    {"corda_config", OFF},
    {"ensure_weight_tying", ANY},
    {"qalora_group_size", ANY},
    {"lora_ga_config", OFF},
    {"init_lora_weights", ANY}, /* looked at below */
    {"use_dora", OFF},
    {"alpha_pattern", OFF}, /* a file has one alpha */
    {"lora_bias", OFF},
    {"trainable_token_indices", OFF},
    {"target_parameters", OFF},
    {"layer_replication", OFF},
    {"alora_invocation_tokens", OFF},
    {"use_qalora", OFF},
};

static bool is_off(const Json *v) {
    JsonKind k = json_kind(v);
    return k == JSON_KIND_NULL || (k == JSON_KIND_BOOL && !json_bool(v)) ||
           (k == JSON_KIND_INT && json_int(v) == 0) ||
           ((k == JSON_KIND_ARRAY || k == JSON_KIND_OBJECT) && json_len(v) == 0);
}

static Status refuse_key(Slice key, const char *why, Err *e) {
    StrBuf shown = {0};
    sb_put_quoted(&shown, key, 60);
    Status st = err_set(e, ERR_UNSUPPORTED, "key \"%s\": %s", sb_str(&shown), why);
    sb_deinit(&shown);
    return st;
}

static Status check_key(const Adapter *a, Slice key, const Json *v, Err *e) {
    for (int i = 0; i < a->o->n_ignore; i++)
        if (slice_eq_str(key, a->o->ignore[i])) return OK;
    if (is_off(v)) return OK;
    for (size_t i = 0; i < COUNT_OF(key_table); i++) {
        if (!slice_eq_str(key, key_table[i].key)) continue;
        bool fine = key_table[i].want == ANY ||
                    (key_table[i].want == LORA && slice_eq_str(json_str(v), "LORA"));
        return fine ? OK : refuse_key(key, "a value that is not supported", e);
    }
    return refuse_key(key,
                      "not known here and may change the adapter; --ignore KEY takes it as "
                      "meaningless",
                      e);
}

/* These begin from a base whose weights were changed; the adapter alone is not enough. */
static Status check_init(const Json *config, Err *e) {
    static const char *const changing[] = {"pissa", "olora", "loftq", "corda", "lora_ga"};
    Slice s = json_str(json_get(config, "init_lora_weights"));
    for (size_t i = 0; i < COUNT_OF(changing); i++)
        if (s.n >= strlen(changing[i]) && strncasecmp(s.p, changing[i], strlen(changing[i])) == 0)
            return refuse_key(slice_of("init_lora_weights"),
                              "it changed the base's weights, which the file cannot say", e);
    return OK;
}

static Status as_format(Status st, const Err *why, Err *e) {
    return st == OK ? OK : err_set(e, ERR_FORMAT, "%s", why->msg);
}

static Status read_keys(Adapter *a, Err *e) {
    const Json *j = a->config;
    Slice key;
    const Json *v;
    Err why = {0};
    if (!json_is_object(j)) return err_set(e, ERR_FORMAT, "not a JSON object");
    if (!json_get(j, "peft_type")) return err_set(e, ERR_FORMAT, "peft_type is missing");
    if (!json_get(j, "lora_alpha")) return err_set(e, ERR_FORMAT, "lora_alpha is missing");
    for (void *it = NULL; (it = json_next(j, it, &key, &v));) TRY(check_key(a, key, v, e));
    TRY(check_init(j, e));
    TRY(as_format(json_opt_num(&a->alpha, j, "lora_alpha", 1e-6, 1e6, &why), &why, e));
    return as_format(json_opt_bool(&a->rslora, j, "use_rslora", &why), &why, e);
}

static Status read_config(Adapter *a, const char *dir, Err *e) {
    StrBuf path = {0}, text = {0};
    uint64_t size; /* and that it is a regular file: a pipe would be waited for */
    sb_printf(&path, "%s/" CONFIG, dir);
    Status st = sb_check(&path, e);
    if (st == OK) st = io_file_size(&size, path.p, e);
    if (st == OK) st = io_read_file(&text, path.p, CONFIG_MAX, e);
    if (st == OK) {
        st = json_parse(&a->config, (Slice){sb_str(&text), text.n}, e);
        if (st == OK) st = read_keys(a, e);
        if (st != OK) err_in(e, CONFIG);
    }
    sb_deinit(&path);
    sb_deinit(&text);
    return st;
}

/* ---- the base ---- */

static Status sizes_of_file(Adapter *a, const char *path, Err *e) {
    Gguf *g = NULL;
    ModelConfig c;
    TRY(gguf_open(&g, path, e));
    Status st = model_read_config(&c, g, e);
    if (st == OK) {
        HfSizes s = {.arch = c.arch->name,
                     .n_layer = c.n_layer,
                     .C = c.C,
                     .nh = c.nh,
                     .nkv = c.nkv,
                     .hd = c.hd,
                     .ff = c.ff,
                     .V = c.V,
                     .tied = c.tied};
        st = hf_open_sizes(&a->base, &s, e);
        snprintf(a->arch, sizeof a->arch, "%s", c.arch->name);
    }
    gguf_close(g);
    return st;
}

static Status open_base(Adapter *a, const char *base, Err *e) {
    HfOpts o = {.type = HF_AS_STORED, .ignore = a->o->ignore, .n_ignore = a->o->n_ignore};
    if (!base)
        return err_set(e, ERR_ARG, "an adapter needs --base: the folder or GGUF file of its model");
    bool file = str_ends_with(base, ".gguf");
    Status st = file ? sizes_of_file(a, base, e) : hf_open_config(&a->base, base, &o, e);
    if (st != OK) err_in(e, base);
    else if (!file) snprintf(a->arch, sizeof a->arch, "%s", hf_arch(a->base));
    return st;
}

/* ---- names ---- */

/* What a tensor of the folder is. */
typedef struct Half {
    char module[160]; /* with .weight: as the model's folder has it */
    int which;        /* 0: A, 1: B */
    bool is_embd;
} Half;

static bool parse_name(Half *h, Slice name) {
    static const char head[] = "base_model.model.";
    static const struct {
        const char *tail;
        int which;
        bool is_embd;
    } tails[] = {{".lora_A.weight", 0, false},           {".lora_B.weight", 1, false},
                 {".lora_A.default.weight", 0, false},   {".lora_B.default.weight", 1, false},
                 {".lora_embedding_A", 0, true},         {".lora_embedding_B", 1, true},
                 {".lora_embedding_A.default", 0, true}, {".lora_embedding_B.default", 1, true}};
    size_t n_head = sizeof head - 1;
    if (name.n <= n_head || memcmp(name.p, head, n_head) != 0) return false;
    for (size_t i = 0; i < COUNT_OF(tails); i++) {
        size_t n = strlen(tails[i].tail), module = name.n - n_head - n;
        if (name.n < n_head + n || memcmp(name.p + name.n - n, tails[i].tail, n) != 0) continue;
        if (module == 0 || module > sizeof h->module - sizeof ".weight") return false;
        *h = (Half){.which = tails[i].which, .is_embd = tails[i].is_embd};
        memcpy(h->module, name.p + n_head, module);
        memcpy(h->module + module, ".weight", sizeof ".weight");
        return true;
    }
    return false;
}

static Status no_place(const Adapter *a, const StTensor *t, Err *e) {
    StrBuf name = {0};
    sb_put_quoted(&name, t->name, 100);
    err_set(e, ERR_UNSUPPORTED,
            "tensor \"%s\" is no half of a pair for a matrix of the base (%s, %d layers)",
            sb_str(&name), hf_arch(a->base), hf_n_layer(a->base));
    sb_deinit(&name);
    return ERR_UNSUPPORTED;
}

/* The pair for a place, made where it is not there yet. */
static LoraPair *pair_for(Adapter *a, const HfPlace *place, bool is_embd) {
    for (int i = 0; i < a->n; i++)
        if (strcmp(a->param[i].name, place->name) == 0) return &a->pair[i];
    Param *p = &a->param[a->n];
    *p = (Param){.n_dims = 2, .rows = (int)place->rows, .cols = (int)place->cols};
    snprintf(p->name, sizeof p->name, "%s", place->name);
    a->pair[a->n] = (LoraPair){.base = p, .is_embd = is_embd};
    return &a->pair[a->n++];
}

/* ---- values ---- */

static Status wrong_shape(const StTensor *t, uint64_t rows, uint64_t cols, Err *e) {
    StrBuf name = {0};
    sb_put_quoted(&name, t->name, 100);
    err_set(e, ERR_FORMAT, "tensor \"%s\": %llu x %llu of %d dims, the base wants %llu x %llu",
            sb_str(&name), (unsigned long long)t->shape[0], (unsigned long long)t->shape[1],
            t->n_dims, (unsigned long long)rows, (unsigned long long)cols);
    sb_deinit(&name);
    return ERR_FORMAT;
}

/* A is [rank, inputs], B [outputs, rank]; of embeddings [rank, tokens] and [width, rank]. */
static Status check_shape(LoraPair *p, const Half *h, const HfPlace *place, const StTensor *t,
                          Err *e) {
    uint64_t rank = t->shape[h->which], in = h->is_embd ? place->rows : place->cols;
    uint64_t out = h->is_embd ? place->cols : place->rows;
    if (p->rank == 0 && rank >= 1 && rank <= LORA_MAX_RANK) p->rank = (int)rank;
    uint64_t want = (uint64_t)p->rank, rows = h->which ? out : want, cols = h->which ? want : in;
    if (rank < 1 || rank > LORA_MAX_RANK)
        return err_set(e, ERR_FORMAT, "tensor \"%s\" has rank %llu, out of range: 1 to %d",
                       h->module, (unsigned long long)rank, LORA_MAX_RANK);
    if (t->n_dims == 2 && t->shape[0] == rows && t->shape[1] == cols) return OK;
    return wrong_shape(t, rows, cols, e);
}

static float value_at(const StTensor *t, size_t i) {
    const uint8_t *p = t->data;
    uint16_t h;
    float x;
    if (t->type == ST_F32) memcpy(&x, p + 4 * i, sizeof x);
    else {
        memcpy(&h, p + 2 * i, sizeof h);
        x = t->type == ST_F16 ? half_f16_to_f32(h) : half_bf16_to_f32(h);
    }
    return x;
}

static bool put_value(DType type, uint8_t *to, size_t i, float x) {
    uint16_t h = type == DT_F16 ? half_f32_to_f16(x) : half_f32_to_bf16(x);
    if (type == DT_F32) memcpy(to + 4 * i, &x, sizeof x);
    else memcpy(to + 2 * i, &h, sizeof h);
    return isfinite(x) && (type != DT_F16 || (h & 0x7c00) != 0x7c00);
}

/* Where element (row, col) of the pair's half is in the folder's tensor. */
static size_t source_of(const Adapter *a, const Half *h, const HfPlace *place, const StTensor *t,
                        uint64_t row, uint64_t col) {
    if (h->is_embd && h->which == 0) return (size_t)(col * t->shape[1] + row);
    if (h->which == 1 && place->pairs) row = hf_source_row(a->base, row);
    return (size_t)(row * t->shape[1] + col);
}

static Status copy_values(Adapter *a, LoraPair *p, const Half *h, const HfPlace *place,
                          const StTensor *t, Err *e) {
    DType type = a->type >= 0        ? (DType)a->type
                 : t->type == ST_F32 ? DT_F32
                 : t->type == ST_F16 ? DT_F16
                                     : DT_BF16;
    bool turned = h->is_embd && h->which == 0;
    uint64_t rows = t->shape[turned ? 1 : 0], cols = t->shape[turned ? 0 : 1];
    uint8_t *to = arena_alloc(&a->mem, (size_t)t->n_elem, dtype_bytes(type, 1));
    if (!to) return err_set(e, ERR_NOMEM, "no memory for an adapter");
    for (uint64_t r = 0; r < rows; r++)
        for (uint64_t c = 0; c < cols; c++) {
            float x = value_at(t, source_of(a, h, place, t, r, c));
            if (!put_value(type, to, (size_t)(r * cols + c), x))
                return err_set(e, ERR_FORMAT, "tensor %s: %g is no number that %s holds",
                               p->base->name, (double)x, dtype_name(type));
        }
    p->type[h->which] = type;
    *(h->which ? &p->b : &p->a) = to;
    return OK;
}

static Status take_tensor(Adapter *a, const StTensor *t, Err *e) {
    Half h;
    HfPlace place;
    bool found = parse_name(&h, t->name) && hf_find_place(&place, a->base, slice_of(h.module));
    if (!found || place.n_dims != 2 || strcmp(place.name, "position_embd.weight") == 0)
        return no_place(a, t, e);
    if (h.is_embd != (strcmp(place.name, "token_embd.weight") == 0)) return no_place(a, t, e);
    if (t->type != ST_F32 && t->type != ST_F16 && t->type != ST_BF16)
        return err_set(e, ERR_UNSUPPORTED, "tensor %s: %s is not read, only F32, F16 and BF16",
                       place.name, st_type_name(t->type));
    LoraPair *p = pair_for(a, &place, h.is_embd);
    if (*(h.which ? &p->b : &p->a))
        return err_set(e, ERR_FORMAT, "module \"%s\" has its lora_%c twice", h.module,
                       "AB"[h.which]);
    TRY(check_shape(p, &h, &place, t, e));
    return copy_values(a, p, &h, &place, t, e);
}

/* ---- the whole ---- */

static Status open_weights(Adapter *a, const char *dir, Err *e) {
    StrBuf path = {0}, pickled = {0};
    sb_printf(&path, "%s/" WEIGHTS, dir);
    sb_printf(&pickled, "%s/adapter_model.bin", dir);
    Status st = sb_check(&path, e);
    if (st == OK) st = sb_check(&pickled, e);
    if (st == OK && !io_exists(path.p) && io_exists(pickled.p))
        st = err_set(e, ERR_UNSUPPORTED,
                     "%s: pickled weights run code when they are opened and are not read: save "
                     "them as safetensors first",
                     pickled.p);
    else if (st == OK) st = st_open(&a->st, path.p, e);
    sb_deinit(&path);
    sb_deinit(&pickled);
    return st;
}

static Status read_pairs(Adapter *a, Err *e) {
    size_t n = st_n_tensors(a->st);
    a->pair = mem_new_n(LoraPair, n + 1);
    a->param = mem_new_n(Param, n + 1);
    if (!a->pair || !a->param) return err_set(e, ERR_NOMEM, "no memory for %zu tensors", n);
    for (size_t i = 0; i < n; i++) TRY(take_tensor(a, st_tensor_at(a->st, i), e));
    if (a->n == 0) return err_set(e, ERR_FORMAT, WEIGHTS ": no tensors");
    for (int i = 0; i < a->n; i++)
        if (!a->pair[i].a || !a->pair[i].b)
            return err_set(e, ERR_FORMAT, "tensor %s has a lora_%c without its other half",
                           a->param[i].name, a->pair[i].a ? 'A' : 'B');
    return OK;
}

/* A file says alpha, and its reader divides by the rank; rslora divides by its root, so alpha grows by it. */
static Status file_alpha(const Adapter *a, float *alpha, Err *e) {
    *alpha = (float)a->alpha;
    if (!a->rslora) return OK;
    for (int i = 1; i < a->n; i++)
        if (a->pair[i].rank != a->pair[0].rank)
            return err_set(e, ERR_UNSUPPORTED,
                           "use_rslora with ranks %d and %d: a file has one alpha for all",
                           a->pair[0].rank, a->pair[i].rank);
    *alpha = (float)(a->alpha * sqrt((double)a->pair[0].rank));
    return OK;
}

static Status run(Adapter *a, QuantAdapter *st, const char *dir, const char *base, const char *out,
                  Err *e) {
    float alpha = 0;
    TRY(read_config(a, dir, e));
    TRY(open_base(a, base, e));
    TRY(open_weights(a, dir, e));
    TRY(read_pairs(a, e));
    TRY(file_alpha(a, &alpha, e));
    TRY(lora_save(out, a->arch, alpha, a->pair, a->n, e));
    *st = (QuantAdapter){.n_pairs = a->n, .alpha = alpha, .bytes_in = st_file_bytes(a->st)};
    snprintf(st->arch, sizeof st->arch, "%s", a->arch);
    for (int i = 0; i < a->n; i++) {
        st->rank = MAX(st->rank, a->pair[i].rank);
        for (int k = 0; k < 2; k++) st->n_params += lora_pair_n(&a->pair[i], k);
    }
    return io_file_size(&st->file_out, out, e);
}

static Status find_type(int *type, const char *name, Err *e) {
    static const char *const names[] = {"auto", "f32", "f16", "bf16"};
    static const int types[] = {-1, DT_F32, DT_F16, DT_BF16};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        *type = types[i];
        if (strcasecmp(name, names[i]) == 0) return OK;
    }
    return err_set(e, ERR_ARG, "an adapter cannot be \"%s\": choose auto, f32, f16 or bf16", name);
}

Status quant_convert_adapter(QuantAdapter *st, const char *dir, const char *base, const char *out,
                             const QuantConvertOpts *o, Err *e) {
    Adapter a = {.o = o};
    TRY(find_type(&a.type, o->type, e));
    arena_init(&a.mem, 1 << 20);
    Status status = run(&a, st, dir, base, out, e);
    arena_deinit(&a.mem);
    hf_close(a.base);
    st_close(a.st);
    json_free(a.config);
    mem_free(a.pair);
    mem_free(a.param);
    return status;
}
