/* SPDX-License-Identifier: Apache-2.0
 * The device: two dozen coarse operations on handles. Model, engine and trainer reach tensors only through
 * these, so a GPU is another DeviceOps table and not another forward pass. Nothing outside device/ looks
 * into a Buf; results come back through ops->download.
 *
 * Operations cannot fail one by one: sizes are the caller's duty, and a failure inside (scratch
 * memory, a lost GPU) is sticky: later operations do nothing and ops->sync returns it. One thread calls a
 * device at a time; only buf_new, buf_wrap, buf_free and upload, with a buffer that nobody else uses meanwhile,
 * are for any thread at any time. Activations are f32, row-major, `ld` counts floats between rows.
 *
 * Shapes use the letters of tensor/dims.h. Gradients: weight gradients accumulate (+=), activation
 * gradients assign (=) unless `add` is set or the contract says +=. */
#ifndef INGOT_DEVICE_BACKEND_H
#define INGOT_DEVICE_BACKEND_H

#include "base/err.h"
#include "base/team.h"
#include "kernel/kernel.h"
#include "tensor/dtype.h"

typedef struct Device Device;
typedef struct Buf Buf;   /* device memory */
typedef struct Pack Pack; /* a weight in a layout of the device's own */
typedef struct KvStore
    KvStore; /* KV blocks of all layers; only rope_kv and attn know what lies inside */

/* How a cache keeps K and V; zero is the default of options. */
typedef enum KvType { KV_F16, KV_Q8_0, KV_F32 } KvType;
static inline DType kv_dtype(KvType t) {
    return t == KV_F16 ? DT_F16 : t == KV_Q8_0 ? DT_Q8_0 : DT_F32;
}

/* A place in a Buf, counted in floats. buf == NULL: absent (optional arguments). */
typedef struct BufAt {
    Buf *buf;
    size_t off;
} BufAt;

static inline BufAt buf_at(Buf *b, size_t off) { return (BufAt){b, off}; }
static inline BufAt buf_add(BufAt a, size_t off) { return (BufAt){a.buf, a.off + off}; }

/* A matrix [rows, cols] of any type, rows contiguous, at a byte offset of a Buf (which may be a wrapped
 * part of a mapped file). */
typedef struct Weight {
    DType type;
    int rows, cols;
    Buf *buf; /* borrowed; NULL: absent */
    size_t off_bytes;
    Pack *pack; /* owned by whoever asked for it; linear takes it instead of buf; NULL: none */
} Weight;

/* Rows of a step: tokens of several sequences side by side. */
typedef struct Batch {
    int T;              /* rows */
    const int32_t *tok; /* [T] */
    const int32_t *pos; /* [T] position within its sequence; rows of one sequence stand in order */
    const int32_t *seq; /* [T] index into blocks */
    int n_seq;
    const int32_t *const *blocks; /* [n_seq] KV block table of each sequence, 32 tokens a block */
    int n_out;
    const int32_t *out; /* [n_out] rows whose logits are wanted */
    bool only_out;      /* nobody asks about the others: their last layer ends with K and V */
    const struct LoraUse
        *lora; /* [n_seq] adapter of each sequence (model/lora.h); NULL: none has one */
} Batch;

typedef enum NormKind { NORM_RMS, NORM_LAYER } NormKind;
typedef enum ActKind { ACT_NONE, ACT_GELU, ACT_SWIGLU } ActKind;

/* y[i] = w row ids[i], + pos_w row pos[i] when pos_w is there. ids and pos are checked by the caller. */
typedef struct RowsArgs {
    BufAt y;
    Weight w, pos_w;
    const int32_t *ids, *pos; /* [T] host */
    int T;
} RowsArgs;

/* dw[ids[i]] += dy[i], dpos[pos[i]] += dy[i]. */
typedef struct RowsBwdArgs {
    BufAt dw, dpos, dy;
    const int32_t *ids, *pos;
    int T, C;
} RowsBwdArgs;

/* y = norm(x) w (+ b); stat keeps 1 (rms) or 2 (layer) floats a row for the backward (absent: not kept). */
typedef struct NormArgs {
    NormKind kind;
    BufAt y, x, w, b, stat;
    int T, C;
    float eps;
} NormArgs;

/* dx += gradient (it joins the residual stream's), dw +=, db += (absent without b). */
typedef struct NormBwdArgs {
    NormKind kind;
    BufAt dx, dw, db, dy, x, w, stat;
    int T, C;
} NormBwdArgs;

/* y[T, rows] = x[T, cols] W^T (+ bias[rows]); with add: y += ; with act (and no add): y = gelu of it, or swiglu of
 * gate[T, rows] and it. same_x: the operation before this one was a linear of the same rows of x. */
typedef struct LinearArgs {
    BufAt y, x, bias, gate;
    size_t ldy, ldx, ldg;
    Weight w;
    int T;
    bool add, same_x;
    ActKind act;
} LinearArgs;

/* dx[T, cols] = dy[T, rows] W; with add: dx += . */
typedef struct LinearTArgs {
    BufAt dx, dy;
    size_t ldx, ldy;
    Weight w;
    int T;
    bool add;
} LinearTArgs;

/* dw[rows, cols] += dy[T, rows]^T x[T, cols]; dbias[rows] += column sums of dy. */
typedef struct LinearDwArgs {
    BufAt dw, dbias, dy, x;
    size_t ldy, ldx;
    int rows, cols, T;
} LinearDwArgs;

/* Each head of q and k in qkv[T, (nh + 2 nkv) hd] becomes its rms norm times wq or wk [hd], in place. With raw
 * [T, (nh + nkv) hd] and stat [T, nh + nkv], what stood there and 1 / rms are kept for the backward, where dqkv
 * is the gradient of the normalised heads on entry, of the raw ones on return, and dwq, dwk are added to. */
typedef struct QkNormArgs {
    BufAt qkv, wq, wk, raw, stat;
    BufAt dqkv, dwq, dwk; /* backward only */
    int T, nh, nkv, hd;
    float eps;
} QkNormArgs;

/* Rotary positions: the angle of pair i at position p is p * freq[i]. */
typedef struct RopeSpec {
    int n_rot;         /* rotated pairs per head; 0: no rotation at all */
    bool halves;       /* pairs (i, i + n_rot) instead of (2i, 2i + 1) */
    const float *freq; /* [n_rot] angle per position of each pair, host, scaling already applied */
    float gain;        /* what is rotated is multiplied by it, too; 0: 1 */
} RopeSpec;

/* Rotate q and k of qkv[T, (nh + 2 nkv) hd] in place by their positions, then, with a cache, put k and v of
 * each row at its place there (layer `layer`, block tables of the batch). inverse: the backward. */
typedef struct RopeKvArgs {
    BufAt qkv;
    const int32_t *pos; /* [T] host */
    RopeSpec rope;
    int T, nh, nkv, hd;
    bool inverse;
    KvStore *kv; /* NULL: none */
    int layer;
    const Batch *batch; /* with kv */
} RopeKvArgs;

/* o[T, nh hd] = attention of each row's q over its sequence's cache up to its own position. */
typedef struct AttnArgsDev {
    BufAt o, qkv;
    int nh, nkv, hd, layer;
    float scale;
    KvStore *kv;
    const Batch *batch;
} AttnArgsDev;

/* Dropout: keep probability 1 - p, numbers keyed by (key, site). p == 0: off. */
typedef struct DropSpec {
    float p;
    uint64_t key, site;
} DropSpec;

/* Training attention over n_row rows of T tokens each (qkv has n_row * T rows). Token t of a row sees
 * tokens seg[row * T + t] .. t: seg is where its document starts. lse [n_row, nh, T] is kept for the
 * backward, where dqkv is assigned. Dropout acts on the probabilities. */
typedef struct AttnTrainArgs {
    BufAt o, lse, qkv;
    BufAt dqkv, d_o; /* backward only */
    const int32_t *seg;
    int n_row, T, nh, nkv, hd;
    float scale;
    DropSpec drop;
} AttnTrainArgs;

/* gelu: y[T, ff] from x[T, ff]. swiglu: from x[T, 2 ff], gate then up. */
typedef struct ActArgs {
    ActKind kind;
    BufAt y, x;
    BufAt dx, dy; /* backward: dx has x's shape; dy may lie at y */
    int T, ff;
} ActArgs;

/* loss[i] = -log softmax(logits[i])[target[i]] (host), logits become (softmax - onehot) * scale. A target
 * below 0 gives loss 0 and a zero row. */
typedef struct XentArgs {
    BufAt logits; /* [T, V] */
    const int32_t *target;
    float *loss; /* [T] host; ready when the call returns */
    int T, V;
    float scale;
} XentArgs;

typedef struct AdamwStep {
    BufAt p, m, v, g;
    size_t n;
    float lr, beta1, beta2, eps, weight_decay, grad_scale;
    int64_t t; /* step number from 1 */
} AdamwStep;

/* What the host has for work of the caller's own between two operations: results that are looked through, say. */
typedef struct DeviceHost {
    Team *team;       /* its threads are idle then; NULL: there are none */
    const Kern *kern; /* the kernels of the level asked for */
} DeviceHost;

typedef struct DeviceOps {
    const char *name;
    void (*free)(Device *d);
    Buf *(*buf_new)(Device *d, size_t n_bytes); /* zeroed; NULL when memory is out */
    Buf *(*buf_wrap)(Device *d, const void *host,
                     size_t n_bytes); /* read-only view of host memory */
    void (*buf_free)(Device *d, Buf *b);
    size_t (*pack_bytes)(const Device *d,
                         const Weight *w); /* of its pack; 0: is used where it lies */
    /* Made in pack_bytes at room, which begins at a multiple of 64 bytes and outlives it; NULL when memory is out. */
    Pack *(*pack_new)(Device *d, const Weight *w, BufAt room);
    void (*pack_free)(Device *d, Pack *p);
    KvStore *(*kv_new)(Device *d, DType type, int n_layer, int n_blocks, int nkv, int hd);
    void (*kv_free)(Device *d, KvStore *kv);
    /* The memory of the first n_bytes is there from now on, if the system can; NULL: it always is. */
    void (*kv_warm)(Device *d, KvStore *kv, size_t n_bytes);
    void (*kv_copy)(Device *d, KvStore *kv, int32_t dst, int32_t src); /* a block, all layers */
    void (*upload)(Device *d, BufAt dst, const void *src, size_t n_bytes);
    void (*download)(Device *d, void *dst, BufAt src, size_t n_bytes);
    /* n_bytes at src for the host to read, where they lie or in a copy of the device's own: borrowed until the next
     * operation that writes there, or the next view. */
    const void *(*view)(Device *d, BufAt src, size_t n_bytes);
    void (*copy)(Device *d, BufAt dst, BufAt src, size_t n);
    void (*fill)(Device *d, BufAt dst, float v, size_t n);
    void (*add)(Device *d, BufAt y, BufAt x, size_t n);   /* y += x */
    void (*scale)(Device *d, BufAt y, float s, size_t n); /* y *= s */
    void (*dropout)(Device *d, BufAt x, size_t n, const DropSpec *s);
    double (*sum_sq)(Device *d, BufAt x, size_t n);
    void (*rows)(Device *d, const RowsArgs *a);
    void (*rows_bwd)(Device *d, const RowsBwdArgs *a);
    void (*norm)(Device *d, const NormArgs *a);
    void (*norm_bwd)(Device *d, const NormBwdArgs *a);
    void (*linear)(Device *d, const LinearArgs *a);
    void (*linear_t)(Device *d, const LinearTArgs *a);
    void (*linear_dw)(Device *d, const LinearDwArgs *a);
    void (*qk_norm)(Device *d, const QkNormArgs *a);
    void (*qk_norm_bwd)(Device *d, const QkNormArgs *a);
    void (*rope_kv)(Device *d, const RopeKvArgs *a);
    void (*attn)(Device *d, const AttnArgsDev *a);
    void (*attn_train)(Device *d, const AttnTrainArgs *a);
    void (*attn_bwd)(Device *d, const AttnTrainArgs *a);
    void (*act)(Device *d, const ActArgs *a);
    void (*act_bwd)(Device *d, const ActArgs *a);
    void (*xent)(Device *d, const XentArgs *a);
    void (*adamw)(Device *d, const AdamwStep *a);
    Status (*sync)(Device *d, Err *e);
    DeviceHost (*host)(Device *d); /* borrowed, as long as the device lives */
} DeviceOps;

struct Device {
    const DeviceOps *ops; /* first member of every backend's own struct */
};

typedef struct DeviceOpts {
    const char *cpu; /* kernel level by name; NULL: the best */
    int n_threads;   /* 0: one per processor */
    bool
        batch_invariant; /* a row's bits never depend on the rows beside it: one class of product for few and
                           * many rows; prompts may be slower for it */
    bool no_pack; /* quantized weights are used where they lie: no second copy of them, slower */
    bool bf16;    /* products of linear, linear_t, linear_dw in bf16 where the processor has it */
} DeviceOpts;

/* The CPU behind the interface. ERR_NOMEM, ERR_UNSUPPORTED (level). */
MUST_CHECK Status device_cpu_new(Device **out, const DeviceOpts *o, Err *e);
/* "cpu avx512, 2 threads, f32 products" into buf. */
const char *device_describe(const Device *d, char buf[96]);
/* True if the CPU's products really run in bf16 (asked for and available). */
bool device_has_bf16(const Device *d);
/* Floating-point operations a second of the product core on all threads, measured on panels that fit the
 * first caches (about 20 ms): what MFU is a share of. */
double device_peak_flops(Device *d);
/* Bytes of K (or V) of one head in a block of 32 tokens: f32, f16 or q8_0. */
size_t device_kv_head_bytes(DType type, int hd);
/* Bytes of scratch the CPU device holds for training rows of T tokens with heads of hd. */
size_t device_scratch_bytes(const Device *d, int T, int hd);
static inline void device_free(Device *d) {
    if (d) d->ops->free(d);
}

#endif
