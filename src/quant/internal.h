/* SPDX-License-Identifier: Apache-2.0
 * What the files of quant share. Not for other folders. */
#ifndef INGOT_QUANT_INTERNAL_H
#define INGOT_QUANT_INTERNAL_H

#include "base/team.h"
#include "kernel/kernel.h"
#include "quant/quant.h"

/* Weighted sums over elements: of squares, of squared errors by the reference's rule and by the search. */
typedef struct QuantError {
    double square, ref, best;
} QuantError;

typedef struct QuantJob {
    const QuantOpts *o;
    Kern kern;
    Team *team;
    Gguf *g;
    GgufW *w;
    QuantItem *items; /* owned; in output order */
    size_t n_items;
    uint8_t *slab;        /* owned; the largest slab of any item, in its output type */
    float *scratch;       /* owned; [team size][tile_max] */
    size_t tile_max;      /* elements of the largest tile of any item */
    uint8_t *tile;        /* owned; [team size] blocks of a tile, for `best`; NULL without */
    size_t tile_bytes;    /* of them */
    QuantError *errors;   /* owned; [tiles of a slab], for `best`; NULL without */
    uint64_t done, total; /* bytes of input */
    QuantStats st;
} QuantJob;

/* A tensor in tiles: one worker's piece, whole blocks and, with importance, whole rows. A slab is as many
 * tiles as are made before they are written. Neither crosses a matrix of a tensor of several. */
typedef struct QuantCut {
    uint64_t matrix; /* elements of one matrix, or of all where they need not be told apart */
    size_t tile, slab;
} QuantCut;
QuantCut quant__cut(const QuantItem *it);
/* Whether an item's values are computed, not copied. */
static inline bool quant__converts(const QuantItem *it) { return it->type != it->t->type; }

/* Greatest magnitude a type holds: of blocks, of a scale times the greatest integer. */
float quant__limit(DType type);
/* Index of the first of x[n] that is no number up to limit; n if all are. */
size_t quant__find_bad(const float *x, size_t n, float limit);
/* First element of the first of n elements' blocks whose scale became infinite or NaN; n if none did. */
size_t quant__find_bad_scale(DType type, const uint8_t *y, size_t n);
/* Decide on every tensor: items, their importance, total bytes. Reports through o->plan and o->warn. */
MUST_CHECK Status quant__plan(QuantJob *j, Err *e);
/* Metadata and tensors to the writer. */
void quant__declare(QuantJob *j);
/* Replace blocks y of x by better ones where a harder search finds them (best.c), weighted by w[cols] (NULL:
 * 1). `other` has room for as many blocks; y holds the reference's. Adds to *e. */
void quant__improve(const Kern *k, DType type, uint8_t *y, uint8_t *other, const float *x,
                    const float *w, size_t rows, size_t cols, QuantError *e);

#endif
