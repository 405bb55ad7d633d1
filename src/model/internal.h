/* SPDX-License-Identifier: Apache-2.0
 * Shared inside model/. */
#ifndef INGOT_MODEL_INTERNAL_H
#define INGOT_MODEL_INTERNAL_H

#include "model/model.h"

/* Activations of one forward pass; sizes in rows are those of the last model_reserve. */
struct ModelWork {
    int max_rows, max_out;
    Buf *buf; /* owned, everything below lies in it */
    BufAt x, h, qkv, att, up, act, out, logits;
    float *host; /* owned, [max_out, V] */
};

void model__work_free(Device *dev, ModelWork *w);
/* Every weight of a loaded model in the layout of its device; ERR_NOMEM. Undone by model__unpack, on a model in
 * any state. */
MUST_CHECK Status model__pack(Model *m, Err *e);
void model__unpack(Model *m);
/* Point layer weights and heads at the parameters; `bind` gives the place of one parameter. */
typedef Weight (*ModelBind)(const Model *m, const Param *p);
MUST_CHECK Status model__bind(Model *m, ModelBind bind, Err *e);

#endif
