/* SPDX-License-Identifier: Apache-2.0
 * Dimension letters, the same everywhere:
 *   B  sequences in a batch          T   tokens (rows)          C   model width (embedding length)
 *   V  vocabulary                    L   layers                 ff  feed-forward width
 *   nh query heads    nkv key/value heads    hd width of a head (C / nh unless the file says otherwise)
 * A weight is [rows = outputs, cols = inputs], rows contiguous; a product is y[T, rows] = x[T, cols] W^T.
 * GGUF writes dimensions innermost first: ne[0] = cols, ne[1] = rows. */
#ifndef INGOT_TENSOR_DIMS_H
#define INGOT_TENSOR_DIMS_H
#endif
