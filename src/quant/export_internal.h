/* SPDX-License-Identifier: Apache-2.0
 * What export.c and export_write.c share. */
#ifndef INGOT_QUANT_EXPORT_INTERNAL_H
#define INGOT_QUANT_EXPORT_INTERNAL_H

#include "base/io_stage.h"
#include "format/hf_out.h"
#include "kernel/kernel.h"
#include "quant/export.h"

typedef struct Export {
    const QuantExportOpts *o;
    Gguf *g;       /* owned */
    HfOut *out;    /* owned */
    IoStage stage; /* owned */
    Kern kern;
    uint8_t *to; /* owned; [tensors] DType in the folder */
    int *file;   /* owned; [tensors] number of its file */
    int n_files;
    uint8_t *raw;         /* owned: gathered rows */
    float *wide;          /* owned: a slab as f32 */
    uint8_t *narrow;      /* owned: a slab, or a turned matrix, in its new type */
    uint64_t done, total; /* bytes */
} Export;

/* Types of all tensors, x->total. */
MUST_CHECK Status quant__export_types(Export *x, Err *e);
/* The safetensors files and their index, into the stage. */
MUST_CHECK Status quant__export_weights(Export *x, Err *e);
/* A file of text into the stage. */
MUST_CHECK Status quant__export_text(Export *x, const char *name, const StrBuf *text, Err *e);

#endif
