/* SPDX-License-Identifier: Apache-2.0
 * GGUF files, versions 2 and 3, little endian.
 *
 *   "GGUF" u32 version  u64 n_tensors  u64 n_kv
 *   n_kv      x { string key, u32 type, value }          string: u64 length, bytes
 *   n_tensors x { string name, u32 n_dims, u64 ne[n_dims], u32 dtype, u64 offset }  innermost first
 *   padding to general.alignment (power of two, default 32), then data; offsets count from there
 *
 * Value types: 0 u8, 1 i8, 2 u16, 3 i16, 4 u32, 5 i32, 6 f32, 7 bool, 8 string, 9 array {u32
 * type, u64 count, elements}, 10 u64, 11 i64, 12 f64. Arrays nest to GGUF_MAX_ARRAY_DEPTH.
 * Strings are bytes.
 * Limits: keys have 1..65,535 bytes and tensor names 1..127, none of them zero; 262,144 entries
 * of each kind; 1..4 dims, none of them 0; alignment is a power of two in 8..65,536. Tensor data
 * may stand in any order and leave gaps, but not overlap. Every count is held against the bytes
 * that are left before anything is allocated from it, so that opening a file takes less than its
 * size plus 64 MB. */
#ifndef INGOT_FORMAT_GGUF_H
#define INGOT_FORMAT_GGUF_H

#include "base/io.h"
#include "tensor/dtype.h"

enum {
    GGUF_MAX_DIMS = 4,
    GGUF_MAX_ARRAY_DEPTH = 2,
    GGUF_MAX_KEY = 65535,
    GGUF_MAX_NAME = 127,
    GGUF_MAX_ENTRIES = 1 << 18,     /* of metadata, and of tensors */
    GGUF_MAX_FILES = 1024,          /* of one model */
    GGUF_MAX_SPLIT_TENSORS = 65536, /* in all of them */
    GGUF_MIN_ALIGNMENT = 8,         /* the data of every element type is aligned as C wants it */
    GGUF_DEFAULT_ALIGNMENT = 32,
    GGUF_MAX_ALIGNMENT = 65536
};

/* Numbered as in the file. */
typedef enum GgufType {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STR = 8,
    GGUF_ARR = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12,
    GGUF_TYPE_COUNT
} GgufType;

/* One metadata entry. Scalars are decoded; strings and arrays are borrowed from the file's
 * bytes. */
typedef struct GgufKv {
    Slice key;
    GgufType type;
    union {
        uint64_t u; /* u8 u16 u32 u64 bool */
        int64_t i;  /* i8 i16 i32 i64 */
        double f;   /* f32 f64 */
        Slice s;
        struct {
            GgufType type;
            uint64_t n;
            Slice bytes; /* the elements, encoded */
        } arr;
    } v;
} GgufKv;

typedef struct GgufTensor {
    Slice name;
    DType type;
    int n_dims;
    uint64_t ne[GGUF_MAX_DIMS]; /* innermost first; 1 beyond n_dims */
    uint64_t offset;            /* from the start of its file's data section */
    uint64_t n_elem, n_bytes;
    const void *data; /* borrowed from the map */
} GgufTensor;

typedef struct Gguf Gguf; /* an opened file: immutable, so any thread may read it */

/* Map and check a whole file. A file that is one of several (split.count) brings the others along: they stand
 * beside it, NAME-00001-of-00003.gguf and so on, and are one Gguf. ERR_FORMAT with one line that names the
 * field, its value and the limit. */
MUST_CHECK Status gguf_open(Gguf **out, const char *path, Err *e);
/* The same over bytes, 8-byte aligned, that the caller keeps alive (tests, fuzzing). */
MUST_CHECK Status gguf_open_bytes(Gguf **out, const void *p, size_t n, Err *e);
void gguf_close(Gguf *g);

/* 2 or 3. */
uint32_t gguf_version(const Gguf *g);
/* Of the data section and of every tensor in it, bytes. */
uint32_t gguf_alignment(const Gguf *g);
/* Metadata entries; i < n, in the order of the file, borrowed. */
size_t gguf_n_kv(const Gguf *g);
const GgufKv *gguf_kv_at(const Gguf *g, size_t i);
/* Tensors; i < n, in the order of the file, borrowed. */
size_t gguf_n_tensors(const Gguf *g);
const GgufTensor *gguf_tensor_at(const Gguf *g, size_t i);
/* Borrowed, or NULL if there is none. Constant time. */
const GgufKv *gguf_find(const Gguf *g, const char *key);
const GgufTensor *gguf_find_tensor(const Gguf *g, const char *name);
/* Files the model is in, and their bytes. */
size_t gguf_n_files(const Gguf *g);
/* File i of a model that is in several, borrowed; NULL where it is in one. */
const char *gguf_file_at(const Gguf *g, size_t i);
uint64_t gguf_file_bytes(const Gguf *g);
/* The bytes of file i, borrowed. */
IoMap gguf_file_map(const Gguf *g, size_t i);
/* The bytes in memory, for releasing pages; several files lie behind one another. */
IoMap gguf_map(const Gguf *g);

/* Typed reads with a range: ERR_NOT_FOUND if absent (message says so), ERR_FORMAT if of another
 * kind or out of [min, max]. Any integer type is accepted where it fits; floats must be finite. */
MUST_CHECK Status gguf_get_int(int64_t *out, const Gguf *g, const char *key, int64_t min,
                               int64_t max, Err *e);
MUST_CHECK Status gguf_get_float(double *out, const Gguf *g, const char *key, double min,
                                 double max, Err *e);
MUST_CHECK Status gguf_get_bool(bool *out, const Gguf *g, const char *key, Err *e);
MUST_CHECK Status gguf_get_str(Slice *out, const Gguf *g, const char *key, Err *e);
/* The same, but an absent key leaves *out as it was and is OK. */
MUST_CHECK Status gguf_opt_int(int64_t *out, const Gguf *g, const char *key, int64_t min,
                               int64_t max, Err *e);
MUST_CHECK Status gguf_opt_float(double *out, const Gguf *g, const char *key, double min,
                                 double max, Err *e);
MUST_CHECK Status gguf_opt_bool(bool *out, const Gguf *g, const char *key, Err *e);
MUST_CHECK Status gguf_opt_str(Slice *out, const Gguf *g, const char *key, Err *e);
/* Array of a given element type: its kv entry. */
MUST_CHECK Status gguf_get_arr(const GgufKv **out, const Gguf *g, const char *key, GgufType elem,
                               Err *e);
/* Walk a string array: *pos starts at 0 and moves on; false at the end. */
bool gguf_arr_next_str(const GgufKv *kv, size_t *pos, Slice *out);
/* Element i < n of an array of numbers or bools; NaN where there is no such number. */
double gguf_arr_num(const GgufKv *kv, uint64_t i);
/* One line of text for a value ([str x 4096], 1e-05, llama), appended; long strings are cut to
 * 80 bytes. */
void gguf_format_value(const GgufKv *kv, StrBuf *b);

/* ---- writing (always version 3) ---- Declare metadata and tensors, then stream the data in
 * declaration order. Sticky failure: declare calls need no checks, gguf_w_begin reports the
 * first. A key written twice keeps the last value in the first place. general.alignment is the
 * writer's own: it is there when the alignment is not 32, and a value declared for it (say, by
 * copying another file's entries) is ignored. */
typedef struct GgufW GgufW;

/* Nothing is written before gguf_w_begin. With `atomic` the file appears whole or not at all
 * (io_writer). alignment: a power of two in 8..65,536. ERR_ARG, ERR_NOMEM. */
MUST_CHECK Status gguf_w_new(GgufW **out, const char *path, uint32_t alignment, bool atomic,
                             Err *e);
void gguf_w_free(GgufW *w); /* aborts an unfinished file */
void gguf_w_u32(GgufW *w, const char *key, uint32_t v);
void gguf_w_i32(GgufW *w, const char *key, int32_t v);
void gguf_w_u64(GgufW *w, const char *key, uint64_t v);
void gguf_w_f32(GgufW *w, const char *key, float v);
void gguf_w_f64(GgufW *w, const char *key, double v);
void gguf_w_bool(GgufW *w, const char *key, bool v);
void gguf_w_str(GgufW *w, const char *key, Slice v);
void gguf_w_arr_str(GgufW *w, const char *key, const Slice *v, size_t n);
void gguf_w_arr_i32(GgufW *w, const char *key, const int32_t *v, size_t n);
void gguf_w_arr_f32(GgufW *w, const char *key, const float *v, size_t n);
/* Any entry of an opened file with its type and value (arrays of every type included). */
void gguf_w_kv(GgufW *w, const GgufKv *kv);
/* ne is innermost first. A name may be declared once. */
void gguf_w_tensor(GgufW *w, Slice name, DType type, int n_dims, const uint64_t *ne);
/* Write the header. Reports any failure of the declarations. */
MUST_CHECK Status gguf_w_begin(GgufW *w, Err *e);
/* Append bytes of the current tensor, in one call or many; padding and stepping to the next
 * tensor happen by themselves. ERR_ARG for more bytes than this tensor still takes. */
MUST_CHECK Status gguf_w_data(GgufW *w, const void *p, size_t n, Err *e);
/* Check that all tensors are complete, put the file in place. w stays to be freed. */
MUST_CHECK Status gguf_w_end(GgufW *w, Err *e);

#endif
