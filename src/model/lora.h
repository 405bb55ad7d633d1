/* SPDX-License-Identifier: Apache-2.0
 * LoRA adapters (Hu et al. 2021) laid over a model: where a matrix W has a pair A [rank, cols], B [rows, rank],
 * the rows of a batch that use the adapter get y = W x + s B (A x), s = alpha / rank times the use's own scale.
 * The model's weights are never written, so rows of several adapters and of none share one batch.
 *
 * A file is a GGUF file in llama.cpp's layout:
 *   general.type = "adapter", adapter.type = "lora", general.architecture = the model's,
 *   adapter.lora.alpha: f32; 0 or absent: s is the use's scale alone
 *   NAME.lora_a [cols, rank], NAME.lora_b [rank, rows] (innermost first) for tensors NAME of the model
 *   token_embd.weight alone is the other way round: lora_a [rank, V] has a row for each token, lora_b is
 *   [rank, C]; it is added to embeddings that are looked up, never to a head tied to them
 * in f32, f16, bf16 or q8_0. Limits: rank 1..LORA_MAX_RANK, every value finite; matrices only (neither norms, biases
 * nor learned positions), and nothing else in the file. Another source of adapters fills LoraPair and ends in the
 * same checks (lora_file.c). */
#ifndef INGOT_MODEL_LORA_H
#define INGOT_MODEL_LORA_H

#include "base/sha.h"
#include "model/model.h"

typedef struct Lora Lora; /* immutable, so any thread may read it */

enum { LORA_MAX_RANK = 4096 };

/* What a sequence of a batch adds to the model. */
typedef struct LoraUse {
    const Lora *lora; /* borrowed; NULL: nothing */
    float scale;      /* finite; times alpha / rank */
} LoraUse;

typedef struct LoraInfo {
    int n_pairs, rank; /* rank: the largest */
    float alpha;
    uint64_t n_params;
    size_t n_bytes; /* of a loaded one, device memory */
    Sha256 version; /* digest of all that it computes with; only of a loaded one */
} LoraInfo;

/* Read an adapter for m, check it and put it on m's device. It outlives no model. ERR_FORMAT, ERR_UNSUPPORTED name
 * the first thing that does not fit m; ERR_NOMEM, ERR_NOT_FOUND, ERR_IO. Any thread, also while m runs. */
MUST_CHECK Status lora_load(Lora **out, const Model *m, const char *path, Err *e);
void lora_free(Lora *l);
const LoraInfo *lora_info(const Lora *l);
/* True if this GGUF file says that it is an adapter. */
bool lora_is_adapter(const Gguf *g);
/* The same checks without the values, for plans: fits models of configuration c. */
MUST_CHECK Status lora_read_info(LoraInfo *out, const ModelConfig *c, const Gguf *g, Err *e);
/* Device memory of an adapter of that rank for every matrix of the layers, in f32. */
size_t lora_bytes(const ModelConfig *c, int rank);

/* Room for passes of up to max_rows rows with adapters of up to max_rank. Grows only. ERR_NOMEM. */
MUST_CHECK Status lora_reserve(Model *m, int max_rows, int max_rank, Err *e);
size_t lora_work_bytes(int max_rows, int max_rank);

/* ---- files ---- */

/* One adapted matrix. */
typedef struct LoraPair {
    const Param *base;
    int rank;
    bool is_embd;  /* a's rows are looked up: a is [V, rank] */
    DType type[2]; /* of a, b */
    const void *a, *b;
} LoraPair;

/* The pairs of a file in the order of params, data borrowed from it, checked as above but for the values. Array
 * owned by the caller (mem_free). */
MUST_CHECK Status lora_read_pairs(LoraPair **out, int *n, float *alpha, const ModelConfig *c,
                                  const Param *params, int n_params, const Gguf *g, Err *e);
/* ERR_FORMAT names the tensor and the first value of a (b: second) that is not finite. p: the values, checked in
 * place of the pair's own. */
MUST_CHECK Status lora_check_values(const LoraPair *pair, int which, const void *p, Err *e);
/* Elements and bytes of a pair's a (0) or b (1). */
size_t lora_pair_n(const LoraPair *pair, int which);
size_t lora_pair_bytes(const LoraPair *pair, int which);
/* Write an adapter for models of architecture `arch`, atomically. ERR_IO, ERR_NOMEM, ERR_ARG. */
MUST_CHECK Status lora_save(const char *path, const char *arch, float alpha, const LoraPair *pair,
                            int n, Err *e);

#endif
