/* SPDX-License-Identifier: Apache-2.0
 * The CPU device's inside: a kernel table, a team, and scratch memory that grows on first use only. */
#ifndef INGOT_DEVICE_INTERNAL_H
#define INGOT_DEVICE_INTERNAL_H

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/team.h"
#include "device/backend.h"
#include "kernel/kernel.h"

enum {
    CPU_SHARED_BYTES = 8 << 20, /* packed operand that all workers read */
    CPU_ELEM_CHUNK = 16384,     /* elements of a tile of an element-wise loop */
    CPU_ROW_CHUNK = 16          /* rows of a tile of a row-wise loop */
};

struct Buf {
    char *p;
    size_t n_bytes;
    bool wrapped; /* somebody else's memory, read-only */
};

struct KvStore {
    char *p;
    size_t n_bytes;
    DType type;
    int n_layer, n_blocks, nkv, hd;
    size_t head_bytes; /* one head's K (or V) of a block: 32 hd elements */
    size_t stride;     /* of a block: [n_layer][K, V][nkv][head] */
};

typedef struct CpuScratch {
    char *p;
    size_t n_bytes;
} CpuScratch;

typedef struct CpuDevice {
    Device base;
    Kern kern;
    const GemmCore *core;    /* of the large products */
    const GemmCore *wide;    /* of those of more than packed_rows rows with packed weights */
    int gemv_rows;           /* up to so many rows, linear goes through gemv */
    int packed_rows;         /* up to so many, packed weights are multiplied as integers */
    bool no_pack, invariant; /* as in DeviceOpts */
    Team *team;
    char *shared;        /* owned, CPU_SHARED_BYTES */
    CpuScratch *scratch; /* owned, one per worker */
    DType
        rounded; /* the last linear left all rows of x in shared, rounded for this type; DT_F32: it did not */
    Pack *last_pack; /* the last one multiplied with; NULL: none */
    Err failed;      /* sticky; code OK: none */
} CpuDevice;

static inline CpuDevice *cpu_of(Device *d) { return (CpuDevice *)d; }
static inline float *cpu_ptr(BufAt a) { return a.buf ? (float *)(void *)a.buf->p + a.off : NULL; }

/* Scratch of at least n bytes for every worker; false (and the sticky failure set) when memory is out. */
bool cpu__reserve(CpuDevice *d, size_t n_bytes);
/* Take n bytes, 64-byte aligned, from a bump pointer. */
static inline void *cpu_take(char **at, size_t n_bytes) {
    void *p = *at;
    *at += ROUND_UP(n_bytes, (size_t)64);
    return p;
}
/* fn for every tile of `step` items in [0, n). */
void cpu__for(CpuDevice *d, size_t n, size_t step, TeamFn fn, void *ctx);

/* The operations, by file. */
void cpu__linear(Device *d, const LinearArgs *a);
/* Weights in packed form, a->w.pack or made on the way. */
void cpu__linear_packed(CpuDevice *c, const LinearArgs *a);
size_t cpu__pack_bytes(const Device *d, const Weight *w);
Pack *cpu__pack_new(Device *d, const Weight *w, BufAt room);
void cpu__pack_free(Device *d, Pack *p);
/* Group g of w->pack. */
const char *cpu__pack_group(const Weight *w, int g);
void cpu__linear_t(Device *d, const LinearTArgs *a);
void cpu__linear_dw(Device *d, const LinearDwArgs *a);
KvStore *cpu__kv_new(Device *d, DType type, int n_layer, int n_blocks, int nkv, int hd);
void cpu__kv_free(Device *d, KvStore *kv);
void cpu__kv_warm(Device *d, KvStore *kv, size_t n_bytes);
void cpu__kv_copy(Device *d, KvStore *kv, int32_t dst, int32_t src);
void cpu__rope_kv(Device *d, const RopeKvArgs *a);
void cpu__attn(Device *d, const AttnArgsDev *a);
void cpu__attn_train(Device *d, const AttnTrainArgs *a);
void cpu__attn_bwd(Device *d, const AttnTrainArgs *a);
size_t cpu__attn_scratch(const GemmCore *c, int T, int hd);
size_t cpu__gemm_scratch(const GemmCore *c);
/* Rows up to which gemv beats this core. */
int cpu__gemv_rows(const GemmCore *c);
void cpu__fill(Device *d, BufAt dst, float v, size_t n);
void cpu__add(Device *d, BufAt y, BufAt x, size_t n);
void cpu__scale(Device *d, BufAt y, float s, size_t n);
void cpu__dropout(Device *d, BufAt x, size_t n, const DropSpec *s);
double cpu__sum_sq(Device *d, BufAt x, size_t n);
void cpu__rows(Device *d, const RowsArgs *a);
void cpu__rows_bwd(Device *d, const RowsBwdArgs *a);
void cpu__norm(Device *d, const NormArgs *a);
void cpu__norm_bwd(Device *d, const NormBwdArgs *a);
void cpu__qk_norm(Device *d, const QkNormArgs *a);
void cpu__qk_norm_bwd(Device *d, const QkNormArgs *a);
void cpu__act(Device *d, const ActArgs *a);
/* a->act of n columns of row t of y, which hold the product, from column `from` on. */
void cpu__act_part(const CpuDevice *c, const LinearArgs *a, int t, size_t from, size_t n);
/* a->act of all of y. */
void cpu__act_all(CpuDevice *c, const LinearArgs *a);
void cpu__act_bwd(Device *d, const ActArgs *a);
void cpu__xent(Device *d, const XentArgs *a);
void cpu__adamw(Device *d, const AdamwStep *a);

#endif
