/* SPDX-License-Identifier: Apache-2.0
 * The keys of a training configuration. */
#include "train/internal.h"

#define AT(field) offsetof(TrainConfig, field)

static const OptSpec options[] = {
    {"name", 0, OPT_STR, AT(name), NULL, 0, 0, NULL, "NAME",
     "run name: files go to runs/NAME (default: the dataset's)"},
    {"out_dir", 0, OPT_STR, AT(out_dir), NULL, 0, 0, NULL, "DIR",
     "folder of the run, instead of runs/NAME"},
    {"dataset", 0, OPT_STR, AT(dataset), NULL, 0, 0, NULL, "DIR",
     "folder made by `ingot prepare`, or its name under data/"},
    {"init_from", 0, OPT_STR, AT(init_from), "scratch", 0, 0, NULL, "FROM",
     "scratch, resume, or a GGUF file to start from"},
    {"resume", 0, OPT_BOOL, AT(resume), "false", 0, 0, NULL, NULL,
     "go on from the run's checkpoint (same as init_from: resume)"},
    {"overwrite", 0, OPT_BOOL, AT(overwrite), "false", 0, 0, NULL, NULL,
     "start again where a run with this name exists"},
    {"arch", 0, OPT_CHOICE, AT(arch), "gpt2", 0, 0, "gpt2|llama|mistral3|qwen2|qwen3|starcoder2",
     NULL, "architecture of a model from scratch"},
    {"n_layer", 0, OPT_INT, AT(n_layer), "12", 1, MODEL_MAX_LAYER, NULL, "N", "layers"},
    {"n_head", 0, OPT_INT, AT(n_head), "12", 1, 1024, NULL, "N", "query heads"},
    {"n_kv_head", 0, OPT_INT, AT(n_kv_head), "0", 0, 1024, NULL, "N",
     "key/value heads; 0: as many as query heads"},
    {"head_dim", 0, OPT_INT, AT(head_dim), "0", 0, 256, NULL, "N",
     "width of a head; 0: n_embd over n_head (llama.cpp reads others of llama, mistral3, qwen3)"},
    {"n_embd", 0, OPT_INT, AT(n_embd), "768", 8, MODEL_MAX_WIDTH, NULL, "N", "width"},
    {"n_ff", 0, OPT_INT, AT(n_ff), "0", 0, 8 * MODEL_MAX_WIDTH, NULL, "N",
     "MLP width; 0: 4 widths, or 8/3 where it is gated (llama, mistral, qwen)"},
    {"tie_embeddings", 0, OPT_BOOL, AT(tie_embeddings), "true", 0, 0, NULL, NULL,
     "head and token embedding are one matrix"},
    {"rope_theta", 0, OPT_FLOAT, AT(rope_theta), "10000", 1, 1e12, NULL, "X",
     "base of the rotary positions (not gpt2)"},
    {"norm_eps", 0, OPT_FLOAT, AT(norm_eps), "1e-5", 1e-12, 0.1, NULL, "X", "epsilon of the norms"},
    {"block_size", 0, OPT_INT, AT(block_size), "512", 8, 1 << 20, NULL, "N",
     "tokens of a training row, and the context length"},
    {"batch_size", 0, OPT_INT, AT(batch_size), "8", 1, 65536, NULL, "N", "rows of a micro-batch"},
    {"gradient_accumulation_steps", 0, OPT_INT, AT(gradient_accumulation_steps), "4", 1, 65536,
     NULL, "N", "micro-batches of a step; the loss is divided by the tokens of the whole step"},
    {"dropout", 0, OPT_FLOAT, AT(dropout), "0.1", 0, 0.95, NULL, "P",
     "dropout on embeddings, attention and both branches"},
    {"learning_rate", 0, OPT_FLOAT, AT(learning_rate), "5e-5", 0, 10, NULL, "X",
     "highest learning rate"},
    {"min_lr", 0, OPT_FLOAT, AT(min_lr), "5e-6", 0, 10, NULL, "X",
     "learning rate at the end of the decay"},
    {"schedule", 0, OPT_CHOICE, AT(schedule), "cosine", 0, 0, "cosine|linear|constant", NULL,
     "shape of the decay"},
    {"decay_lr", 0, OPT_BOOL, AT(decay_lr), "true", 0, 0, NULL, NULL,
     "false: the same as schedule: constant"},
    {"warmup_iters", 0, OPT_INT, AT(warmup_iters), "100", 0, 1e12, NULL, "N",
     "steps of linear warm-up"},
    {"max_iters", 0, OPT_INT, AT(max_iters), "5000", 1, 1e12, NULL, "N", "optimizer steps"},
    {"lr_decay_iters", 0, OPT_INT, AT(lr_decay_iters), "0", 0, 1e12, NULL, "N",
     "step at which min_lr is reached; 0: max_iters"},
    {"train_seconds", 0, OPT_INT, AT(train_seconds), "0", 0, 1e9, NULL, "S",
     "choose max_iters so that the run takes about this long on this machine; 0: off"},
    {"weight_decay", 0, OPT_FLOAT, AT(weight_decay), "0.1", 0, 10, NULL, "X",
     "AdamW weight decay, matrices only"},
    {"beta1", 0, OPT_FLOAT, AT(beta1), "0.9", 0, 0.9999999, NULL, "X", "AdamW first moment"},
    {"beta2", 0, OPT_FLOAT, AT(beta2), "0.95", 0, 0.9999999, NULL, "X", "AdamW second moment"},
    {"eps", 0, OPT_FLOAT, AT(eps), "1e-8", 1e-16, 1, NULL, "X", "AdamW epsilon, outside the root"},
    {"grad_clip", 0, OPT_FLOAT, AT(grad_clip), "1.0", 0, 1e6, NULL, "X",
     "clip the global gradient norm; 0: off"},
    {"eval_interval", 0, OPT_INT, AT(eval_interval), "500", 1, 1e12, NULL, "N",
     "steps between validations"},
    {"eval_iters", 0, OPT_INT, AT(eval_iters), "100", 0, 1e9, NULL, "N",
     "micro-batches of a validation; 0: never validate"},
    {"early_stop", 0, OPT_INT, AT(early_stop), "0", 0, 1e9, NULL, "N",
     "stop after N validations without a new best; 0: off"},
    {"log_interval", 0, OPT_INT, AT(log_interval), "10", 1, 1e12, NULL, "N",
     "steps between lines of metrics.jsonl"},
    {"checkpoint_interval", 0, OPT_INT, AT(checkpoint_interval), "0", 0, 1e12, NULL, "N",
     "steps between checkpoints; 0: at every validation"},
    {"always_save_checkpoint", 0, OPT_BOOL, AT(always_save_checkpoint), "false", 0, 0, NULL, NULL,
     "write model.gguf at every validation, not only at a new best"},
    {"gradient_checkpointing", 0, OPT_BOOL, AT(gradient_checkpointing), "false", 0, 0, NULL, NULL,
     "keep layer inputs only and compute the rest again: less memory, a third more work"},
    {"doc_mask", 0, OPT_BOOL, AT(doc_mask), "true", 0, 0, NULL, NULL,
     "attention stays inside a document"},
    {"dtype", 0, OPT_CHOICE, AT(dtype), "bf16", 0, 0, "f32|float32|bf16|bfloat16|f16|float16", NULL,
     "products in this precision (weights and moments stay f32)"},
    {"device", 0, OPT_CHOICE, AT(device), "cpu", 0, 0, "cpu|cuda", NULL, "where to train"},
    {"compile", 0, OPT_BOOL, AT(compile), "false", 0, 0, NULL, NULL,
     "accepted for compatibility: there is nothing to compile"},
    {"seed", 0, OPT_INT, AT(seed), "1337", 0, 9e15, NULL, "N",
     "initial weights, order of the data, dropout"},
    {"cpu", 0, OPT_CHOICE, AT(cpu), NULL, 0, 0, "ref|avx2|avx512|amx", NULL,
     "highest kernel level to use (INGOT_CPU)"},
    {"threads", 't', OPT_INT, AT(threads), "0", 0, 4096, NULL, "N",
     "worker threads; 0: one per processor"},
};

const OptSpec *train_options(int *n) {
    *n = (int)COUNT_OF(options);
    return options;
}

Status train__model_config(ModelConfig *m, const TrainConfig *c, int n_vocab, Err *e) {
    *m = (ModelConfig){.arch = model_arch_find(slice_of(c->arch)),
                       .n_layer = (int)c->n_layer,
                       .C = (int)c->n_embd,
                       .nh = (int)c->n_head,
                       .nkv = (int)(c->n_kv_head > 0 ? c->n_kv_head : c->n_head),
                       .ff = (int)c->n_ff,
                       .V = n_vocab,
                       .ctx = (int)c->block_size,
                       .norm_eps = (float)c->norm_eps,
                       .rope_base = (float)c->rope_theta,
                       .rope_scale = 1.0f,
                       .tied = c->tie_embeddings};
    m->hd = (int)c->head_dim;
    if (m->hd == 0 && m->C % m->nh != 0)
        return err_set(e, ERR_ARG, "n_embd %d is not a multiple of n_head %d", m->C, m->nh);
    if (m->hd == 0) m->hd = m->C / m->nh;
    m->n_rot = m->hd / 2;
    if (c->head_dim == 0 && (m->hd % 8 != 0 || m->hd > 256))
        return err_set(e, ERR_ARG,
                       "n_embd %d over n_head %d gives heads of %d, want a multiple of 8 up to 256",
                       m->C, m->nh, m->hd);
    if (m->nkv > m->nh || m->nh % m->nkv != 0)
        return err_set(e, ERR_ARG, "n_kv_head %d does not divide n_head %d", m->nkv, m->nh);
    if (m->ff == 0) m->ff = m->arch->act == ACT_SWIGLU ? ROUND_UP(m->C * 8 / 3, 32) : 4 * m->C;
    return model_config_check(m, e);
}

LrSchedule train__schedule(const TrainConfig *c, int64_t max_iters) {
    LrKind kind = strcmp(c->schedule, "cosine") == 0   ? LR_COSINE
                  : strcmp(c->schedule, "linear") == 0 ? LR_LINEAR
                                                       : LR_CONSTANT;
    return (LrSchedule){c->decay_lr ? kind : LR_CONSTANT, c->learning_rate, c->min_lr,
                        c->warmup_iters, c->lr_decay_iters > 0 ? c->lr_decay_iters : max_iters};
}

Status train__check(const TrainConfig *c, Err *e) {
    if (!c->dataset)
        return err_set(e, ERR_ARG, "dataset is not set: give a folder made by `ingot prepare`");
    if (c->min_lr > c->learning_rate)
        return err_set(e, ERR_ARG, "min_lr %g is above learning_rate %g", c->min_lr,
                       c->learning_rate);
    if (c->batch_size * c->block_size > (int64_t)1 << 24)
        return err_set(e, ERR_ARG,
                       "batch_size %lld times block_size %lld is over %d tokens a micro-batch",
                       (long long)c->batch_size, (long long)c->block_size, 1 << 24);
    return OK;
}

/* Keys that may differ between a run and its continuation: places, and what changes no bit of the result (`cpu`
 * does, but then the machine has changed too). */
static const char *const free_keys[] = {"resume",  "overwrite",    "init_from", "threads",
                                        "out_dir", "name",         "cpu",       "device",
                                        "compile", "train_seconds"};

bool train__key_is_free(const char *key) {
    for (size_t i = 0; i < COUNT_OF(free_keys); i++)
        if (strcmp(key, free_keys[i]) == 0) return true;
    return false;
}
