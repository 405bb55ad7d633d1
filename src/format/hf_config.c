/* SPDX-License-Identifier: Apache-2.0
 * config.json: the architecture, its sizes, and a verdict on every key. A key is read here, or known to
 * change nothing, or has a value that says "off"; any other one is refused by name, since a model that
 * computes something else would still answer, only worse. */
#include <stdio.h>

#include "format/hf_internal.h"

static const HfArch arch_table[] = {
    {.name = "GPT2LMHeadModel", .gguf = "gpt2", .family = HF_GPT2, .tied = true, .qkv_bias = true},
    {.name = "LlamaForCausalLM",
     .gguf = "llama",
     .family = HF_LLAMA,
     .pairs = true,
     .may_bias = true},
    {.name = "MistralForCausalLM",
     .gguf = "llama",
     .family = HF_LLAMA,
     .pairs = true,
     .kv_needed = true},
    {.name = "Qwen2ForCausalLM",
     .gguf = "qwen2",
     .family = HF_LLAMA,
     .qkv_bias = true,
     .kv_needed = true},
    {.name = "Qwen3ForCausalLM",
     .gguf = "qwen3",
     .family = HF_LLAMA,
     .qk_norm = true,
     .head_dim = 128,
     .kv_needed = true},
};

const HfArch *hf__arch_at(size_t i) { return i < COUNT_OF(arch_table) ? &arch_table[i] : NULL; }

/* What a key may say without changing the mathematics. */
typedef enum Want {
    ANY, /* read elsewhere in this file, or without influence */
    OFF, /* false, 0, null */
    ON,  /* true or absent */
    ONE
} Want;

enum { BOTH = HF_GPT2 | HF_LLAMA };

static const struct {
    const char *key;
    int family;
    Want want;
} key_table[] = {
    /* read */
    {"architectures", BOTH, ANY},
    {"vocab_size", BOTH, ANY},
    {"bos_token_id", BOTH, ANY},
    {"eos_token_id", BOTH, ANY},
    {"tie_word_embeddings", BOTH, ANY},
    {"quantization_config", BOTH, ANY},
    {"n_layer", HF_GPT2, ANY},
    {"n_embd", HF_GPT2, ANY},
    {"n_head", HF_GPT2, ANY},
    {"n_inner", HF_GPT2, ANY},
    {"n_positions", HF_GPT2, ANY},
    {"layer_norm_epsilon", HF_GPT2, ANY},
    {"activation_function", HF_GPT2, ANY},
    {"num_hidden_layers", HF_LLAMA, ANY},
    {"hidden_size", HF_LLAMA, ANY},
    {"intermediate_size", HF_LLAMA, ANY},
    {"num_attention_heads", HF_LLAMA, ANY},
    {"num_key_value_heads", HF_LLAMA, ANY},
    {"head_dim", HF_LLAMA, ANY},
    {"max_position_embeddings", HF_LLAMA, ANY},
    {"rms_norm_eps", HF_LLAMA, ANY},
    {"hidden_act", HF_LLAMA, ANY},
    {"rope_theta", HF_LLAMA, ANY},
    {"rope_scaling", HF_LLAMA, ANY},
    {"rope_parameters", HF_LLAMA, ANY},
    {"attention_bias", HF_LLAMA, ANY},
    {"mlp_bias", HF_LLAMA, ANY},
    {"sliding_window", HF_LLAMA, ANY},
    {"use_sliding_window", HF_LLAMA, ANY},
    {"layer_types", HF_LLAMA, ANY},
    /* must be as it is here */
    {"scale_attn_weights", HF_GPT2, ON},
    {"scale_attn_by_inverse_layer_idx", HF_GPT2, OFF},
    {"add_cross_attention", BOTH, OFF},
    {"is_encoder_decoder", BOTH, OFF},
    {"use_mrope", HF_LLAMA, OFF},
    {"partial_rotary_factor", HF_LLAMA, ONE},
    /* without influence on what is computed */
    {"model_type", BOTH, ANY},
    {"torch_dtype", BOTH, ANY},
    {"dtype", BOTH, ANY},
    {"transformers_version", BOTH, ANY},
    {"use_cache", BOTH, ANY},
    {"pad_token_id", BOTH, ANY},
    {"sep_token_id", BOTH, ANY},
    {"decoder_start_token_id", BOTH, ANY},
    {"initializer_range", BOTH, ANY},
    {"attention_dropout", HF_LLAMA, ANY},
    {"max_window_layers", HF_LLAMA, ANY},
    {"pretraining_tp", HF_LLAMA, ANY},
    {"attn_pdrop", HF_GPT2, ANY},
    {"embd_pdrop", HF_GPT2, ANY},
    {"resid_pdrop", HF_GPT2, ANY},
    {"n_ctx", HF_GPT2, ANY},
    {"reorder_and_upcast_attn", HF_GPT2, ANY},
    {"gradient_checkpointing", BOTH, ANY},
    {"task_specific_params", BOTH, ANY},
    {"is_decoder", BOTH, ANY},
    {"return_dict", BOTH, ANY},
    {"id2label", BOTH, ANY},
    {"label2id", BOTH, ANY},
    {"tokenizer_class", BOTH, ANY},
    {"tie_encoder_decoder", BOTH, ANY},
    {"chunk_size_feed_forward", BOTH, ANY},
    {"max_length", BOTH, ANY},
    {"do_sample", BOTH, ANY},
    {"temperature", BOTH, ANY},
    {"top_k", BOTH, ANY},
    {"top_p", BOTH, ANY},
    {"num_beams", BOTH, ANY},
    {"repetition_penalty", BOTH, ANY},
    {"unsloth_fixed", BOTH, ANY},
    {"unsloth_version", BOTH, ANY},
    /* by their beginning */
    {"summary_*", HF_GPT2, ANY},
    {"_*", BOTH, ANY},
};

/* ---- typed members ---- */

static Status as_format(Status st, const Err *why, Err *e) {
    return st == OK ? OK : err_set(e, ERR_FORMAT, "%s", why->msg);
}

static Status missing(const char *key, Err *e) {
    return err_set(e, ERR_FORMAT, "%s is missing", key);
}

Status hf__int(int *out, const Json *j, const char *key, int64_t min, int64_t max, bool needed,
               Err *e) {
    Err why = {0};
    int64_t v = *out;
    if (needed && !json_get(j, key)) return missing(key, e);
    TRY(as_format(json_opt_int(&v, j, key, min, max, &why), &why, e));
    *out = (int)v;
    return OK;
}

Status hf__num(double *out, const Json *j, const char *key, double min, double max, bool needed,
               Err *e) {
    Err why = {0};
    if (needed && !json_get(j, key)) return missing(key, e);
    return as_format(json_opt_num(out, j, key, min, max, &why), &why, e);
}

Status hf__bool(bool *out, const Json *j, const char *key, Err *e) {
    Err why = {0};
    return as_format(json_opt_bool(out, j, key, &why), &why, e);
}

/* ---- every key ---- */

static bool is_named(const char *row, Slice key) {
    size_t n = strlen(row);
    if (row[n - 1] != '*') return slice_eq_str(key, row);
    return key.n >= n - 1 && memcmp(key.p, row, n - 1) == 0;
}

static bool is_off(const Json *v) {
    switch (json_kind(v)) {
    case JSON_KIND_NULL: return true;
    case JSON_KIND_BOOL: return !json_bool(v);
    case JSON_KIND_INT: return json_int(v) == 0;
    case JSON_KIND_ARRAY:
    case JSON_KIND_OBJECT: return json_len(v) == 0;
    default: return false;
    }
}

static bool is_one(const Json *v) {
    double d = json_num(v);
    return json_kind(v) == JSON_KIND_NULL || (d >= 1.0 && d <= 1.0);
}

static bool is_fine(Want want, const Json *v) {
    switch (want) {
    case ANY: return true;
    case OFF: return is_off(v);
    case ON: return json_kind(v) == JSON_KIND_NULL || json_bool(v);
    case ONE: return is_one(v);
    }
    return false;
}

static Status refuse_key(Slice key, const char *why, Err *e) {
    StrBuf shown = {0};
    sb_put_quoted(&shown, key, 60);
    Status st = err_set(e, ERR_UNSUPPORTED, "key \"%s\": %s", sb_str(&shown), why);
    sb_deinit(&shown);
    return st;
}

static bool is_ignored(const HfOpts *o, Slice key) {
    for (int i = 0; i < o->n_ignore; i++)
        if (slice_eq_str(key, o->ignore[i])) return true;
    return false;
}

static Status check_key(const HfModel *m, Slice key, const Json *v, Err *e) {
    if (is_ignored(m->opts, key)) return OK;
    for (size_t i = 0; i < COUNT_OF(key_table); i++) {
        if (!(key_table[i].family & (int)m->cfg.arch->family) || !is_named(key_table[i].key, key))
            continue;
        return is_fine(key_table[i].want, v) ? OK
                                             : refuse_key(key, "a value that is not supported", e);
    }
    if (is_off(v)) return OK;
    return refuse_key(key,
                      "not known here and may change the model; --ignore KEY takes it as "
                      "meaningless",
                      e);
}

/* ---- the architecture ---- */

static Status find_arch(HfConfig *c, const Json *config, Err *e) {
    const Json *list = json_get(config, "architectures");
    Slice name = json_str(json_at(list, 0));
    StrBuf shown = {0};
    for (size_t i = 0; i < COUNT_OF(arch_table) && json_len(list) == 1; i++) {
        c->arch = &arch_table[i];
        if (slice_eq_str(name, c->arch->name)) return OK;
    }
    sb_put_quoted(&shown, name, 60);
    err_set(e, ERR_UNSUPPORTED,
            "architectures: \"%s\" is not known: GPT2LMHeadModel, LlamaForCausalLM, "
            "MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM",
            sb_str(&shown));
    sb_deinit(&shown);
    return ERR_UNSUPPORTED;
}

/* mistral3 is what newer files of mistral call themselves. */
const HfArch *hf__arch_of(const char *gguf) {
    if (strcmp(gguf, "mistral3") == 0) gguf = "llama";
    for (size_t i = 0; i < COUNT_OF(arch_table); i++)
        if (strcmp(arch_table[i].gguf, gguf) == 0) return &arch_table[i];
    return NULL;
}

static Status check_act(const Json *config, const char *key, const char *const *good, size_t n,
                        Err *e) {
    const Json *v = json_get(config, key);
    for (size_t i = 0; i < n; i++)
        if (!v || slice_eq_str(json_str(v), good[i])) return OK;
    return refuse_key(slice_of(key), "an activation that is not supported", e);
}

/* ---- sizes ---- The limits are the model's (model/arch.c), so that what is written loads. */
enum {
    MAX_LAYER = 512,
    MAX_WIDTH = 65536,
    MAX_HEADS = 1024,
    MAX_CTX = 1 << 24,
    MAX_VOCAB = 4000000
};

static Status read_gpt2(HfConfig *c, const Json *j, Err *e) {
    static const char *const acts[] = {"gelu_new", "gelu_pytorch_tanh", "gelu_fast"};
    TRY(hf__int(&c->n_layer, j, "n_layer", 1, MAX_LAYER, true, e));
    TRY(hf__int(&c->C, j, "n_embd", 8, MAX_WIDTH, true, e));
    TRY(hf__int(&c->nh, j, "n_head", 1, MAX_HEADS, true, e));
    TRY(hf__int(&c->ctx, j, "n_positions", 1, MAX_CTX, true, e));
    c->ff = 4 * c->C;
    TRY(hf__int(&c->ff, j, "n_inner", 8, 8 * MAX_WIDTH, false, e));
    c->nkv = c->nh;
    c->eps = 1e-5;
    c->out_bias = c->mlp_bias = true;
    TRY(hf__num(&c->eps, j, "layer_norm_epsilon", 1e-12, 0.1, false, e));
    return check_act(j, "activation_function", acts, COUNT_OF(acts), e);
}

/* Positions up to the window see all before them, so a model with a window is exact as far as it reaches. */
static Status read_window(HfModel *m, const Json *j, Err *e) {
    HfConfig *c = &m->cfg;
    const Json *types = json_get(j, "layer_types");
    bool use = strcmp(c->arch->gguf, "llama") == 0, slides = false;
    int window = 0;
    TRY(hf__bool(&use, j, "use_sliding_window", e));
    TRY(hf__int(&window, j, "sliding_window", 1, MAX_CTX, false, e));
    for (size_t i = 0; i < json_len(types); i++) {
        Slice s = json_str(json_at(types, i));
        if (slice_eq_str(s, "sliding_attention")) slides = true;
        else if (!slice_eq_str(s, "full_attention"))
            return refuse_key(slice_of("layer_types"), "a value that is not supported", e);
    }
    if (types && !slides) use = false;
    if (slides && window == 0) return missing("sliding_window", e);
    if (window == 0 || !(use || slides) || window >= c->ctx) return OK;
    hf__note(m, "sliding_window %d: the context is cut from %d to it", window, c->ctx);
    c->ctx = window;
    return OK;
}

static Status read_biases(HfConfig *c, const Json *j, Err *e) {
    bool attn = false, mlp = false;
    TRY(hf__bool(&attn, j, "attention_bias", e));
    TRY(hf__bool(&mlp, j, "mlp_bias", e));
    if ((attn || mlp) && !c->arch->may_bias)
        return refuse_key(slice_of(attn ? "attention_bias" : "mlp_bias"),
                          "a value that is not supported", e);
    c->qkv_bias = c->arch->qkv_bias || attn;
    c->out_bias = attn;
    c->mlp_bias = mlp;
    return OK;
}

static Status read_llama(HfModel *m, const Json *j, Err *e) {
    static const char *const acts[] = {"silu", "swish"};
    HfConfig *c = &m->cfg;
    TRY(hf__int(&c->n_layer, j, "num_hidden_layers", 1, MAX_LAYER, true, e));
    TRY(hf__int(&c->C, j, "hidden_size", 8, MAX_WIDTH, true, e));
    TRY(hf__int(&c->nh, j, "num_attention_heads", 1, MAX_HEADS, true, e));
    TRY(hf__int(&c->ff, j, "intermediate_size", 8, 8 * MAX_WIDTH, true, e));
    TRY(hf__int(&c->ctx, j, "max_position_embeddings", 1, MAX_CTX, true, e));
    c->nkv = c->nh;
    TRY(hf__int(&c->nkv, j, "num_key_value_heads", 1, c->nh, c->arch->kv_needed, e));
    c->hd = c->arch->head_dim;
    TRY(hf__int(&c->hd, j, "head_dim", 8, 256, false, e));
    c->eps = 1e-6;
    TRY(hf__num(&c->eps, j, "rms_norm_eps", 1e-12, 0.1, false, e));
    TRY(read_biases(c, j, e));
    TRY(check_act(j, "hidden_act", acts, COUNT_OF(acts), e));
    TRY(hf__read_rope(c, j, e));
    if (c->rope.kind == HF_ROPE_DYNAMIC)
        hf__note(m, "rope_scaling dynamic: begins behind %d positions, which stay the limit",
                 c->ctx);
    return read_window(m, j, e);
}

static Status check_heads(HfConfig *c, Err *e) {
    if (c->hd == 0 && c->C % c->nh != 0)
        return err_set(e, ERR_FORMAT, "%d heads do not divide the width of %d", c->nh, c->C);
    if (c->hd == 0) c->hd = c->C / c->nh;
    if (c->hd < 8 || c->hd > 256 || c->hd % 8 != 0)
        return err_set(e, ERR_UNSUPPORTED,
                       "heads of %d, only multiples of 8 up to 256 are supported", c->hd);
    if (c->nh % c->nkv != 0)
        return err_set(e, ERR_FORMAT, "num_key_value_heads %d does not divide %d heads", c->nkv,
                       c->nh);
    return OK;
}

/* ---- ids ---- */

static void add_end(HfModel *m, const Json *v) {
    HfConfig *c = &m->cfg;
    int64_t id = json_int_or(v, 0, INT32_MAX);
    if (id < 0) return;
    if (id >= c->V) {
        hf__note(m, "eos_token_id %lld is outside the vocabulary of %d: left out", (long long)id,
                 c->V);
        return;
    }
    for (size_t i = 0; i < c->n_end; i++)
        if (c->end[i] == id) return;
    if (c->n_end < HF_MAX_ENDS) c->end[c->n_end++] = (int32_t)id;
    else hf__note(m, "eos_token_id %lld: over %d of them, left out", (long long)id, HF_MAX_ENDS);
}

static void read_ids(HfModel *m, const Json *config, const Json *gen) {
    HfConfig *c = &m->cfg;
    const Json *end = json_get(gen, "eos_token_id");
    if (!end) end = json_get(config, "eos_token_id");
    if (json_is_array(end))
        for (size_t i = 0; i < json_len(end); i++) add_end(m, json_at(end, i));
    else add_end(m, end);
    c->bos = (int32_t)json_int_or(json_get(config, "bos_token_id"), 0, c->V - 1);
}

static Status read_quant(HfModel *m, const Json *config, const Json *own, Err *e) {
    static const char key[] = "quantization_config";
    const Json *j = json_get(config, key);
    if (!j) j = own;
    if (is_off(j) || is_ignored(m->opts, slice_of(key))) return OK;
    return hf__read_quant(&m->cfg.quant, j, e);
}

Status hf__read_config(HfModel *m, const Json *config, const Json *gen, const Json *quant, Err *e) {
    HfConfig *c = &m->cfg;
    Slice key;
    const Json *v;
    bool tied = false;
    if (!json_is_object(config)) return err_set(e, ERR_FORMAT, "not a JSON object");
    TRY(find_arch(c, config, e));
    for (void *it = NULL; (it = json_next(config, it, &key, &v));) TRY(check_key(m, key, v, e));
    TRY(read_quant(m, config, quant, e));
    TRY(hf__int(&c->V, config, "vocab_size", 2, MAX_VOCAB, true, e));
    c->qkv_bias = c->arch->qkv_bias;
    TRY(c->arch->family == HF_GPT2 ? read_gpt2(c, config, e) : read_llama(m, config, e));
    TRY(check_heads(c, e));
    TRY(hf__bool(&tied, config, "tie_word_embeddings", e));
    c->tied = json_get(config, "tie_word_embeddings") ? tied : c->arch->tied ? 1 : -1;
    read_ids(m, config, gen);
    return OK;
}
