/* SPDX-License-Identifier: Apache-2.0
 * Importance matrices: for each weight matrix, how much each of its input columns matters, as the mean
 * square of what the column is multiplied with over a text.
 *
 * Files, as llama.cpp writes and reads them:
 *   GGUF  general.type "imatrix", imatrix.datasets [str], imatrix.chunk_count u32, imatrix.chunk_size u32;
 *         for a weight NAME with n matrices (experts): NAME.in_sum2 f32 [cols, n], sums of squares, and
 *         NAME.counts f32 [1, n], rows that went into them. A count of 0 stands for "all the same".
 *   .dat  i32 n; n x { i32 len, name, i32 calls, i32 n_values, f32[n_values] }; i32 last chunk; i32 len,
 *         dataset name. Values are divided by calls. The last two may be missing. */
#ifndef INGOT_QUANT_IMATRIX_H
#define INGOT_QUANT_IMATRIX_H

#include "base/str.h"

typedef struct Imat Imat; /* loaded: immutable */

/* Either kind of file, told apart by its first bytes. ERR_FORMAT names the entry: sizes that do not fit,
 * values that are negative or not finite. ERR_NOMEM. */
MUST_CHECK Status imat_load(Imat **out, const char *path, Err *e);
void imat_free(Imat *m);
/* Mean squares of the columns of weight `name`, and how many: columns x matrices. NULL: none. Borrowed. */
const float *imat_find(const Imat *m, Slice name, size_t *n);
/* Entries; chunks of text (0: not said); the text's name (empty: not said); the file. */
size_t imat_n_entries(const Imat *m);
uint32_t imat_n_chunks(const Imat *m);
Slice imat_dataset(const Imat *m);
const char *imat_path(const Imat *m);

#endif
