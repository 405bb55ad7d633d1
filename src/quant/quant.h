/* SPDX-License-Identifier: Apache-2.0
 * A smaller copy of a GGUF file. The output is laid out as llama.cpp's quantizer lays it out: tensors
 * outside the layers first, then layer by layer, by name; the same type for each tensor (rules.c) and the
 * same bytes in it. All metadata comes along; general.file_type and general.quantization_version say what
 * was done, quantize.imatrix.* what importance it was done with. */
#ifndef INGOT_QUANT_QUANT_H
#define INGOT_QUANT_QUANT_H

#include <stdatomic.h>

#include "format/gguf.h"
#include "quant/imatrix.h"

/* What a whole file is made of, by the name users give it: most matrices in `type`, some in a better one. */
typedef struct QuantMix {
    const char *name;  /* "q4_K_M" */
    int file_type;     /* general.file_type */
    DType type;        /* of most matrices */
    const char *about; /* one line for help */
} QuantMix;

/* Mixture by name, in any case; int8, int4, q4_K, q5_K are other names. NULL if unknown. */
const QuantMix *quant_mix_find(const char *name);
/* All of them, from small to large files. */
const QuantMix *quant_mixes(size_t *n);
/* "q4_0, q4_K_S, ..." */
const char *quant_mix_names(void);

/* Tensors whose name the pattern is found in get `type`. */
typedef struct QuantOverride {
    const char *pattern; /* a regular expression (text/regex.h) */
    DType type;
} QuantOverride;

/* What was decided for a tensor, in the order of the output. */
typedef struct QuantItem {
    const GgufTensor *t; /* borrowed from the input: name, shape, type */
    DType type;          /* in the output */
    uint64_t n_bytes;    /* in the output */
    bool is_fallback;    /* the type the rules wanted has blocks that do not divide the row */
    const float *w;      /* [ne[2]][ne[0]] importance of columns, borrowed; NULL: none */
} QuantItem;

typedef struct QuantOpts {
    const QuantMix *mix;
    bool pure;             /* every matrix that is quantized at all gets mix->type */
    bool leave_output;     /* output.weight stays as it is */
    bool allow_requantize; /* accept quantized input: its errors add to the new ones */
    bool best;    /* search harder than the reference quantizer does: other bytes, less error */
    bool dry_run; /* decide, report through `plan`, write nothing */
    DType output_type;              /* of the head; DT_F32: by the rules */
    DType embedding_type;           /* of the token embedding; DT_F32: by the rules */
    const QuantOverride *overrides; /* the first that matches counts; borrowed */
    int n_overrides;
    const Imat *imat; /* importance of columns; NULL: none; borrowed */
    int n_threads;    /* 0: 1. The output does not depend on it */
    const char *cpu;  /* kernel level by name; NULL: the best. Nor on this */
    void (*plan)(void *ctx, const QuantItem *item); /* each tensor, before the work; NULL: silent */
    void (*warn)(void *ctx, const char *line);      /* what is done another way than asked */
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* bytes read */
    void *plan_ctx, *warn_ctx, *progress_ctx;
    const atomic_int *stop; /* becomes nonzero: end with ERR_CANCELLED, no file; NULL: never */
} QuantOpts;

typedef struct QuantStats {
    uint64_t n_params;
    uint64_t bytes_in, bytes_out; /* of tensor data */
    uint64_t file_in, file_out;   /* of the files */
    uint64_t n_tensors, n_fallback, n_weighted;
    uint64_t n_of_type[DT_COUNT]; /* tensors written in each type */
    /* With `best`, by output type: elements quantized, sum of their weighted squares, and the weighted
     * squared error left by the reference's rule and by the harder search. */
    uint64_t n_elem[DT_COUNT];
    double square[DT_COUNT], error_ref[DT_COUNT], error_best[DT_COUNT];
} QuantStats;

/* Read `in`, write `out` atomically, a slab at a time: never the whole model in memory. *st is filled on
 * success. ERR_FORMAT for NaN, infinity or a value the type cannot hold (names tensor and index) and for
 * importance of the wrong size, ERR_UNSUPPORTED for a tensor that is quantized already, ERR_ARG for a bad
 * pattern, ERR_IO (the disk is too small), ERR_CANCELLED. */
MUST_CHECK Status quant_file(QuantStats *st, const char *in, const char *out, const QuantOpts *o,
                             Err *e);

/* ---- rules ---- What decides the type of a tensor besides its name and shape. */
typedef struct QuantRules {
    const QuantMix *mix;
    bool pure, leave_output;
    DType output_type, embedding_type; /* DT_F32: by the mixture */
    bool tied;                         /* no output.weight: the token embedding is the head */
    bool weighted;                     /* there is importance data */
    bool is_70b;                       /* 80 layers, grouped queries: see rules.c */
    bool is_falcon;
    int n_layer, n_expert;
    int n_attn_v;             /* tensors of the kind of attn_v in the file */
    int i_attn_v, i_ffn_down; /* those seen so far */
} QuantRules;

enum { QUANT_NOT_FORCED = -1 };

/* Type that tensor t gets; its own if it is left as it is. Called for all tensors in output order: counters
 * advance. forced: the type a pattern asks for, or QUANT_NOT_FORCED. *fallback: see QuantItem. */
DType quant_type_for(QuantRules *r, const GgufTensor *t, int forced, bool *fallback);
/* Fill what the rules take from a model, then from the name of each of its tensors. */
void quant_rules_init(QuantRules *r, Slice arch, int n_layer, int heads, int kv);
void quant_rules_add(QuantRules *r, Slice name);
/* Both from a file. */
void quant_rules_read(QuantRules *r, const Gguf *g);
/* Where a tensor stands in the output: <0, 0, >0 as for strcmp. */
int quant_compare_names(Slice a, Slice b);

#endif
