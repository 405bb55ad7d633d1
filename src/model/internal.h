/* SPDX-License-Identifier: Apache-2.0
 * Shared inside model/. */
#ifndef INGOT_MODEL_INTERNAL_H
#define INGOT_MODEL_INTERNAL_H

#include "model/lora.h"

/* Activations of one forward pass; sizes in rows are those of the last model_reserve. */
struct ModelWork {
    int max_rows, max_out;
    bool only_out; /* of the last batch, x has only the rows whose logits were wanted */
    Buf *buf;      /* owned; the next line lies in it */
    BufAt x, h, qkv, att, up, act, out, logits;
    int32_t *pos, *seq; /* [max_out] of the rows whose logits are wanted; pos is owned, seq in it */
};

void model__work_free(Device *dev, ModelWork *w);
/* Every weight of a loaded model in the layout of its device; ERR_NOMEM. Undone by model__unpack, on a model in
 * any state. */
MUST_CHECK Status model__pack(Model *m, Err *e);
void model__unpack(Model *m);
/* Point layer weights and heads at the parameters; `bind` gives the place of one parameter. */
typedef Weight (*ModelBind)(const Model *m, const Param *p);
MUST_CHECK Status model__bind(Model *m, ModelBind bind, Err *e);

/* ---- lora_file.c ---- */

/* What pairs are in all; bytes as lora_load lays them out. */
void lora__sum_up(LoraInfo *out, const LoraPair *pair, int n, float alpha);

/* ---- lora.c ---- */

/* Matrices of a layer that an adapter may have pairs for; a fused qkv is LORA_Q. */
typedef enum LoraSite {
    LORA_Q,
    LORA_K,
    LORA_V,
    LORA_OUT,
    LORA_GATE,
    LORA_UP,
    LORA_DOWN,
    LORA_SITES
} LoraSite;

/* Where products read and write. */
typedef struct LoraIo {
    BufAt x, y;
    size_t ldx, ldy;
} LoraIo;

void lora__work_free(Device *dev, LoraWork *w);
/* Note which rows of a batch use which adapter. Before the others, once a pass. ERR_ARG: an adapter of another
 * model, or of a rank beyond lora_reserve's. */
MUST_CHECK Status lora__begin(Model *m, const Batch *b, Err *e);
/* From now on the rows are the batch's out. */
void lora__only_out(Model *m);
/* x += for the embeddings of a batch. */
void lora__embd(Model *m, const Batch *b, BufAt x);
/* y += for the matrices `first` to `last` of a layer, all of which read io->x. */
void lora__layer(Model *m, int layer, LoraSite first, LoraSite last, const LoraIo *io);
/* y += for the head, rows as in the batch's out. */
void lora__head(Model *m, const LoraIo *io);

#endif
