/* SPDX-License-Identifier: Apache-2.0
 * The weights of a file in the layout that the device multiplies fastest. Made once, as the model is loaded; the
 * pages of the file are let go then, and come back from the file where somebody reads them.
 *
 * All packs lie in one buffer in the order of their use: a small model's matrices are less than a huge page each. */
#include "model/internal.h"

typedef Status (*WeightFn)(Model *m, Weight *w, Err *e);

/* Every matrix that products are made with; the first failure ends it. */
static Status each_weight(Model *m, WeightFn fn, Err *e) {
    for (int i = 0; i < m->cfg.n_layer; i++) {
        LayerWeights *l = &m->layer[i];
        for (int j = 0; j < l->qkv.n; j++) TRY(fn(m, &l->qkv.part[j].w, e));
        TRY(fn(m, &l->attn_out.w, e));
        for (int j = 0; j < l->up.n; j++) TRY(fn(m, &l->up.part[j].w, e));
        TRY(fn(m, &l->down.w, e));
    }
    return fn(m, &m->output, e);
}

static size_t pack_room(const Model *m, const Weight *w) {
    return ROUND_UP(m->dev->ops->pack_bytes(m->dev, w), (size_t)64);
}

static Status count_pack(Model *m, Weight *w, Err *e) {
    (void)e;
    m->n_packed += pack_room(m, w);
    return OK;
}

/* n_packed: bytes before this one. */
static Status pack_weight(Model *m, Weight *w, Err *e) {
    size_t n = pack_room(m, w);
    if (n == 0) return OK;
    w->pack = m->dev->ops->pack_new(m->dev, w, buf_at(m->packs, m->n_packed / sizeof(float)));
    if (!w->pack) return err_set(e, ERR_NOMEM, "packed weights of %zu bytes: out of memory", n);
    size_t in_file = dtype_bytes(w->type, (size_t)w->cols) * (size_t)w->rows;
    io_map_release(gguf_map(m->file).p + w->off_bytes, in_file);
    m->n_packed += n;
    m->n_released += in_file;
    return OK;
}

static Status unpack_weight(Model *m, Weight *w, Err *e) {
    (void)e;
    m->dev->ops->pack_free(m->dev, w->pack);
    w->pack = NULL;
    return OK;
}

Status model__pack(Model *m, Err *e) {
    TRY(each_weight(m, count_pack, e));
    size_t n = m->n_packed;
    m->n_packed = 0;
    if (n == 0) return OK;
    m->packs = m->dev->ops->buf_new(m->dev, n);
    if (!m->packs) return err_set(e, ERR_NOMEM, "packed weights of %zu bytes: out of memory", n);
    TRY(each_weight(m, pack_weight, e));
    return m->dev->ops->sync(m->dev, e);
}

void model__unpack(Model *m) {
    if (m->layer && each_weight(m, unpack_weight, NULL) == OK) m->n_packed = m->n_released = 0;
    m->dev->ops->buf_free(m->dev, m->packs);
    m->packs = NULL;
}

size_t model_weight_bytes(const Model *m) {
    if (!m->file) return m->n_flat * sizeof(float);
    return (size_t)gguf_file_bytes(m->file) - m->n_released + m->n_packed;
}
