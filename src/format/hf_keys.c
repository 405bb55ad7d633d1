/* SPDX-License-Identifier: Apache-2.0
 * The architecture's keys of the GGUF file, from what config.json said. Types and the tokenizer come behind
 * them (hf_write.c, the caller). */
#include <math.h>
#include <stdio.h>

#include "format/hf_internal.h"

static const char *key_of(char buf[96], const HfConfig *c, const char *tail) {
    snprintf(buf, 96, "%s.%s", c->arch->gguf, tail);
    return buf;
}

static void put_rope(const HfConfig *c, GgufW *w) {
    char key[96];
    const HfRope *r = &c->rope;
    gguf_w_f32(w, key_of(key, c, "rope.freq_base"), (float)r->base);
    gguf_w_u32(w, key_of(key, c, "rope.dimension_count"), (uint32_t)c->hd);
    if (r->kind != HF_ROPE_LINEAR && r->kind != HF_ROPE_YARN) return;
    gguf_w_str(w, key_of(key, c, "rope.scaling.type"),
               slice_of(r->kind == HF_ROPE_YARN ? "yarn" : "linear"));
    gguf_w_f32(w, key_of(key, c, "rope.scaling.factor"), (float)r->factor);
    if (r->kind != HF_ROPE_YARN) return;
    gguf_w_u32(w, key_of(key, c, "rope.scaling.original_context_length"), (uint32_t)r->ctx);
    if (fabs(r->attn - 1.0) > 1e-9)
        gguf_w_f32(w, key_of(key, c, "rope.scaling.attn_factor"), (float)r->attn);
}

void hf__put_keys(const HfModel *m, GgufW *w) {
    const HfConfig *c = &m->cfg;
    char key[96];
    bool rms = c->arch->family == HF_LLAMA;
    gguf_w_str(w, "general.architecture", slice_of(c->arch->gguf));
    gguf_w_str(w, "general.type", slice_of("model"));
    gguf_w_str(w, "general.name", slice_of(sb_str(&m->name)));
    gguf_w_u32(w, key_of(key, c, "block_count"), (uint32_t)c->n_layer);
    gguf_w_u32(w, key_of(key, c, "context_length"), (uint32_t)c->ctx);
    gguf_w_u32(w, key_of(key, c, "embedding_length"), (uint32_t)c->C);
    gguf_w_u32(w, key_of(key, c, "feed_forward_length"), (uint32_t)c->ff);
    gguf_w_u32(w, key_of(key, c, "attention.head_count"), (uint32_t)c->nh);
    gguf_w_u32(w, key_of(key, c, "attention.head_count_kv"), (uint32_t)c->nkv);
    if (c->hd * c->nh != c->C) {
        gguf_w_u32(w, key_of(key, c, "attention.key_length"), (uint32_t)c->hd);
        gguf_w_u32(w, key_of(key, c, "attention.value_length"), (uint32_t)c->hd);
    }
    gguf_w_f32(w,
               key_of(key, c,
                      rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon"),
               (float)c->eps);
    gguf_w_u32(w, key_of(key, c, "vocab_size"), (uint32_t)c->V);
    if (rms) put_rope(c, w);
    /* where the architecture leaves the class open, for the way back */
    if (strcmp(c->arch->name, "MistralForCausalLM") == 0)
        gguf_w_str(w, "ingot.hf.class", slice_of(c->arch->name));
    if (c->bos >= 0) gguf_w_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)c->bos);
}
