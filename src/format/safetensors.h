/* SPDX-License-Identifier: Apache-2.0
 * Safetensors files.
 *
 *   u64 n, little endian   n bytes of JSON, may end in spaces   data
 *   {"__metadata__": {"key": "text"}, "NAME": {"dtype": "BF16", "shape": [4, 3], "data_offsets": [b, e]}}
 *
 * Offsets count from the start of the data; the tensors cover it from its first byte to its last without
 * holes and without overlap. Shapes are outermost first. Limits: 64 MB of JSON, 262,144 tensors in a
 * model, names of 1..1,024 bytes, 0..8 dims. A tensor may lie at any address: its elements need not be
 * aligned.
 *
 * A model in several files has model.safetensors.index.json beside them:
 *   {"metadata": {...}, "weight_map": {"NAME": "model-00001-of-00002.safetensors"}} */
#ifndef INGOT_FORMAT_SAFETENSORS_H
#define INGOT_FORMAT_SAFETENSORS_H

#include "base/io.h"

enum {
    ST_MAX_HEADER = 64 << 20,
    ST_MAX_TENSORS = 1 << 18,
    ST_MAX_NAME = 1024,
    ST_MAX_DIMS = 8,
    ST_MAX_FILES = 4096,
    ST_ALIGNMENT = 64 /* of the data in files that are written */
};

typedef enum StType {
    ST_BOOL,
    ST_U8,
    ST_I8,
    ST_F8_E5M2,
    ST_F8_E4M3,
    ST_I16,
    ST_U16,
    ST_F16,
    ST_BF16,
    ST_I32,
    ST_U32,
    ST_F32,
    ST_F64,
    ST_I64,
    ST_U64,
    ST_TYPE_COUNT
} StType;

typedef struct StTensor {
    Slice name; /* borrowed from the file */
    StType type;
    int n_dims;
    uint64_t shape[ST_MAX_DIMS]; /* outermost first; 1 beyond n_dims */
    uint64_t n_elem, n_bytes;
    size_t i_file;    /* which of the model's files it is in */
    const void *data; /* borrowed from the map; any alignment */
} StTensor;

typedef struct St St; /* an opened model: immutable, so any thread may read it */

/* Map and check one file. ERR_FORMAT names the tensor, the value and the limit. */
MUST_CHECK Status st_open(St **out, const char *path, Err *e);
/* The same over bytes that the caller keeps alive (tests, fuzzing). */
MUST_CHECK Status st_open_bytes(St **out, const void *p, size_t n, Err *e);
/* The model of a folder: model.safetensors, or the files its index names. ERR_UNSUPPORTED where there are
 * only pickled weights, ERR_NOT_FOUND where there are none. */
MUST_CHECK Status st_open_dir(St **out, const char *dir, Err *e);
/* NULL is fine. */
void st_close(St *s);

/* Tensors; i < n, in the order of the files' JSON, borrowed. */
size_t st_n_tensors(const St *s);
const StTensor *st_tensor_at(const St *s, size_t i);
/* Borrowed, or NULL if there is none. Constant time. */
const StTensor *st_find(const St *s, Slice name);
size_t st_n_files(const St *s);
/* Bytes of all files. */
uint64_t st_file_bytes(const St *s);

/* "BF16" */
const char *st_type_name(StType t);
/* Bytes of an element. */
size_t st_type_bytes(StType t);

/* ---- writing ---- Declare tensors, then stream their data in the order of declaration. Sticky failure:
 * st_w_begin reports the first of the declarations. Elements are aligned to their size where wide types are
 * declared before narrow ones. One thread. */
typedef struct StW StW;

/* Nothing is written before st_w_begin. The file appears whole or not at all. ERR_NOMEM. */
MUST_CHECK Status st_w_new(StW **out, const char *path, Err *e);
void st_w_free(StW *w); /* aborts an unfinished file */
/* Text in __metadata__. */
void st_w_meta(StW *w, const char *key, const char *text);
/* shape is outermost first. A name may be declared once. */
void st_w_tensor(StW *w, Slice name, StType type, int n_dims, const uint64_t *shape);
MUST_CHECK Status st_w_begin(StW *w, Err *e);
/* Append bytes. ERR_ARG for more than all tensors take together. */
MUST_CHECK Status st_w_data(StW *w, const void *p, size_t n, Err *e);
/* Check that all data came, put the file in place. w stays to be freed. */
MUST_CHECK Status st_w_end(StW *w, Err *e);

#endif
