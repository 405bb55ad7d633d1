/* SPDX-License-Identifier: Apache-2.0
 * Element types of tensors, numbered as in GGUF files. */
#ifndef INGOT_TENSOR_DTYPE_H
#define INGOT_TENSOR_DTYPE_H

#include "base/platform.h"

typedef enum DType {
    DT_F32 = 0,
    DT_F16 = 1,
    DT_Q4_0 = 2,
    DT_Q4_1 = 3,
    DT_Q5_0 = 6,
    DT_Q5_1 = 7,
    DT_Q8_0 = 8,
    DT_Q4_K = 12,
    DT_Q5_K = 13,
    DT_Q6_K = 14,
    DT_BF16 = 30,
    DT_COUNT = 31 /* exclusive bound of the numbers above; not all below it are known */
} DType;

typedef struct DTypeInfo {
    const char *name; /* "q4_0" */
    int block;        /* elements per block; rows are whole blocks */
    int block_bytes;
    bool is_quantized;
} DTypeInfo;

/* Description of a type number found in a file; NULL if this program does not know it. */
const DTypeInfo *dtype_info(uint32_t type);
/* Name of a type that other programs write and this one does not read; NULL for any other number. */
const char *dtype_foreign_name(uint32_t type);
/* Type by name, "int8" and "int4" meaning q8_0 and q4_0; false if unknown. */
MUST_CHECK bool dtype_from_name(DType *out, const char *name);
static inline const char *dtype_name(DType t) { return dtype_info(t)->name; }
/* Bytes of n elements; n is a multiple of the block. */
static inline size_t dtype_bytes(DType t, size_t n) {
    const DTypeInfo *d = dtype_info(t);
    return n / (size_t)d->block * (size_t)d->block_bytes;
}

/* out[n] = n elements of f16 or bf16 as f32, plain C; false for any other type. Any alignment of x. */
MUST_CHECK bool dtype_widen(float *out, DType t, const void *x, size_t n);

#endif
