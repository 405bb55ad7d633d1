/* SPDX-License-Identifier: Apache-2.0
 * Batches out of a token shard. The shard is cut into rows of T tokens; an epoch visits each row once, in an
 * order and with a shift of the cut that are functions of (key, epoch), so that there is no position to save.
 * The target of an end-of-text token is the first token of the next document: how texts begin is learned too. */
#include "base/rng.h"
#include "train/internal.h"

Status loader_init(Loader *l, const Shard *s, int n_row, int T, uint64_t key, bool doc_mask,
                   Err *e) {
    *l = (Loader){.shard = s, .n_row = n_row, .T = T, .key = key, .doc_mask = doc_mask};
    if (s->n_tok < (uint64_t)T + 1)
        return err_set(e, ERR_ARG, "shard has %llu tokens, a row of block_size %d needs %d",
                       (unsigned long long)s->n_tok, T, T + 1);
    size_t n = (size_t)n_row * (size_t)T;
    l->ids = mem_new_n(int32_t, n);
    l->targets = mem_new_n(int32_t, n);
    l->pos = mem_new_n(int32_t, n);
    l->seg = mem_new_n(int32_t, n);
    l->span = mem_new_n(int32_t, (size_t)T + 1);
    if (l->ids && l->targets && l->pos && l->seg && l->span) return OK;
    loader_deinit(l);
    return err_set(e, ERR_NOMEM, "batch of %zu tokens: out of memory", n);
}

void loader_deinit(Loader *l) {
    mem_free(l->ids);
    mem_free(l->targets);
    mem_free(l->pos);
    mem_free(l->seg);
    mem_free(l->span);
    *l = (Loader){0};
}

uint64_t loader_n_rows(const Loader *l) { return (l->shard->n_tok - 1) / (uint64_t)l->T; }

/* First token of row `i` of the run. */
static uint64_t row_start(const Loader *l, uint64_t i, bool in_order) {
    uint64_t n = loader_n_rows(l), T = (uint64_t)l->T;
    if (in_order) return i % n * T;
    uint64_t rows = n > 1 ? n - 1 : 1, epoch = i / rows, key = l->key + epoch * 0x9e3779b97f4a7c15u;
    uint64_t room = l->shard->n_tok - 1 - rows * T; /* the cut may move this far */
    uint64_t shift = (uint64_t)(rng_uniform(key, 1, 0) * (double)(MIN(room, T) + 1));
    return rng_permute(i % rows, rows, key) * T + MIN(shift, room);
}

Status loader_get(Loader *l, uint64_t index, bool in_order, GraphBatch *out, Err *e) {
    size_t T = (size_t)l->T;
    for (int r = 0; r < l->n_row; r++) {
        uint64_t row = index * (uint64_t)l->n_row + (uint64_t)r;
        TRY(data_shard_read(l->shard, row_start(l, row, in_order), l->span, T + 1, e));
        size_t at = (size_t)r * T;
        memcpy(l->ids + at, l->span, T * sizeof(int32_t));
        memcpy(l->targets + at, l->span + 1, T * sizeof(int32_t));
        graph_segments(l->ids + at, l->T, l->doc_mask ? l->shard->eot : -1, l->seg + at,
                       l->pos + at);
    }
    *out = (GraphBatch){
        .ids = l->ids, .targets = l->targets, .pos = l->pos, .seg = l->seg, .index = index};
    return OK;
}
