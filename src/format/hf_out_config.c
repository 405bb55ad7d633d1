/* SPDX-License-Identifier: Apache-2.0
 * config.json and generation_config.json: what Transformers needs to build the class, no more. Where its default
 * for an absent key would be another model, the key is written. */
#include <math.h>

#include "format/hf_out_internal.h"

/* ---- text ---- */

static void new_line(StrBuf *b, int depth) {
    sb_putc(b, '\n');
    for (int i = 0; i < depth; i++) sb_puts(b, "  ");
}

/* The end of the string that begins at i. */
static size_t end_of_string(Slice s, size_t i) {
    for (i++; i < s.n && s.p[i] != '"'; i++) i += s.p[i] == '\\';
    return MIN(i + 1, s.n);
}

void hf_out_put_pretty(StrBuf *b, Slice s) {
    int depth = 0;
    for (size_t i = 0, next; i < s.n; i = next) {
        char c = s.p[i];
        bool opens = c == '{' || c == '[', closes = c == '}' || c == ']';
        next = c == '"' ? end_of_string(s, i) : i + 1;
        bool empty = opens && next < s.n && (s.p[next] == '}' || s.p[next] == ']');
        if (empty) next++;
        else if (closes) new_line(b, --depth);
        sb_put(b, s.p + i, next - i);
        if (c == ':') sb_putc(b, ' ');
        if (opens && !empty) new_line(b, ++depth);
        if (c == ',') new_line(b, depth);
    }
    sb_putc(b, '\n');
}

/* A number that reads back as this float and is not taken for an integer. */
static void put_real(JsonW *w, const char *key, double v) {
    size_t at = w->b->n;
    jw_f32(w, key, (float)v);
    for (size_t i = w->b->n; !w->b->failed && i > at && w->b->p[i - 1] != ':'; i--)
        if (strchr(".en", w->b->p[i - 1])) return;
    sb_puts(w->b, ".0");
}

static void put_id(JsonW *w, const char *key, int32_t id) {
    if (id >= 0) jw_int(w, key, id);
    else jw_null(w, key);
}

static void put_ids(JsonW *w, const HfOutIds *ids) {
    put_id(w, "bos_token_id", ids->bos);
    if (ids->n_end <= 1) {
        put_id(w, "eos_token_id", ids->n_end ? ids->end[0] : -1);
    } else {
        jw_arr(w, "eos_token_id");
        for (int i = 0; i < ids->n_end; i++) jw_int(w, NULL, ids->end[i]);
        jw_end_arr(w);
    }
    if (ids->pad >= 0) jw_int(w, "pad_token_id", ids->pad);
}

static void finish(StrBuf *b, StrBuf *line) {
    if (line->failed) b->failed = true;
    else hf_out_put_pretty(b, (Slice){line->p, line->n});
    sb_deinit(line);
}

/* ---- families ---- */

static void put_gpt2(JsonW *w, const HfConfig *c) {
    jw_cstr(w, "activation_function", "gelu_new");
    jw_int(w, "n_layer", c->n_layer);
    jw_int(w, "n_embd", c->C);
    jw_int(w, "n_head", c->nh);
    if (c->ff == 4 * c->C) jw_null(w, "n_inner");
    else jw_int(w, "n_inner", c->ff);
    jw_int(w, "n_positions", c->ctx);
    put_real(w, "layer_norm_epsilon", c->eps);
    jw_bool(w, "scale_attn_weights", true);
}

static void put_scaling(JsonW *w, const HfRope *r) {
    static const char *const names[] = {"default", "linear", "yarn", "llama3"};
    if (r->kind == HF_ROPE_NONE) {
        jw_null(w, "rope_scaling");
        return;
    }
    jw_obj(w, "rope_scaling");
    jw_cstr(w, "rope_type", names[r->kind]);
    put_real(w, "factor", r->factor);
    if (r->kind == HF_ROPE_LLAMA3) {
        put_real(w, "low_freq_factor", r->low);
        put_real(w, "high_freq_factor", r->high);
    }
    if (r->kind != HF_ROPE_LINEAR) jw_int(w, "original_max_position_embeddings", r->ctx);
    if (r->kind == HF_ROPE_YARN && fabs(r->attn - 1.0) > 1e-9)
        jw_num(w, "attention_factor", r->attn * (1.0 + 0.1 * log(r->factor)));
    jw_end_obj(w);
}

static void put_llama(JsonW *w, const HfConfig *c) {
    jw_cstr(w, "hidden_act", "silu");
    jw_int(w, "num_hidden_layers", c->n_layer);
    jw_int(w, "hidden_size", c->C);
    jw_int(w, "intermediate_size", c->ff);
    jw_int(w, "num_attention_heads", c->nh);
    jw_int(w, "num_key_value_heads", c->nkv);
    jw_int(w, "head_dim", c->hd);
    jw_int(w, "max_position_embeddings", c->ctx);
    put_real(w, "rms_norm_eps", c->eps);
    put_real(w, "rope_theta", c->rope.base);
    put_scaling(w, &c->rope);
    if (c->arch->may_bias) {
        jw_bool(w, "attention_bias", c->out_bias);
        jw_bool(w, "mlp_bias", c->mlp_bias);
    } else if (c->arch->qk_norm) {
        jw_bool(w, "attention_bias", false);
    }
    if (!c->arch->may_bias) jw_null(w, "sliding_window"); /* Mistral's default is one of 4096 */
    if (strcmp(c->arch->gguf, "llama") != 0) jw_bool(w, "use_sliding_window", false);
    put_real(w, "attention_dropout", 0);
}

static const char *model_type(const HfArch *a) {
    return strcmp(a->name, "MistralForCausalLM") == 0 ? "mistral" : a->gguf;
}

static const char *type_name(DType t) {
    return t == DT_F16 ? "float16" : t == DT_BF16 ? "bfloat16" : "float32";
}

void hf_out_put_config(StrBuf *b, const HfOut *o, const HfOutIds *ids, DType t) {
    const HfConfig *c = &o->cfg;
    StrBuf line = {0};
    JsonW w;
    jw_init(&w, &line);
    jw_obj(&w, NULL);
    jw_arr(&w, "architectures");
    jw_cstr(&w, NULL, c->arch->name);
    jw_end_arr(&w);
    jw_cstr(&w, "model_type", model_type(c->arch));
    jw_int(&w, "vocab_size", c->V);
    if (c->arch->family == HF_GPT2) put_gpt2(&w, c);
    else put_llama(&w, c);
    jw_bool(&w, "tie_word_embeddings", c->tied != 0);
    put_ids(&w, ids);
    put_real(&w, "initializer_range", 0.02);
    jw_bool(&w, "use_cache", true);
    jw_cstr(&w, "torch_dtype", type_name(t));
    jw_end_obj(&w);
    finish(b, &line);
}

void hf_out_put_generation(StrBuf *b, const HfOutIds *ids) {
    StrBuf line = {0};
    JsonW w;
    jw_init(&w, &line);
    jw_obj(&w, NULL);
    put_ids(&w, ids);
    jw_end_obj(&w);
    finish(b, &line);
}
