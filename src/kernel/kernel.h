/* SPDX-License-Identifier: Apache-2.0
 * Kernels: pure functions on plain arrays, one thread each; the caller splits the work.
 *
 * kern_init fills every slot of the table with the plain-C definition (ref/), then lets each instruction
 * set the processor has overlay what it does faster (avx2/, avx512/, amx/). ref is the meaning: tests hold
 * every other level against it. The table is passed, not global, so that two levels can stand side by side.
 *
 * Every slot: no allocation, no lock, no I/O; arrays need no alignment beyond their element's unless said;
 * outputs do not alias inputs unless said; n and k may be any size >= 0 unless a block size is named.
 * Accuracy: EXACT = the same bits at every level; REL(x) = each output within x of the float64 result,
 * relative to the sum of the absolute values of the terms added up in it. */
#ifndef INGOT_KERNEL_KERNEL_H
#define INGOT_KERNEL_KERNEL_H

#include "base/err.h"
#include "tensor/dtype.h"

typedef enum CpuLevel { CPU_REF, CPU_AVX2, CPU_AVX512, CPU_AMX, CPU_LEVELS } CpuLevel;

/* What the processor and the operating system allow together (CPUID, XGETBV, AMX permission). */
enum {
    CAP_AVX2 = 1u << 0,   /* AVX2, FMA, F16C */
    CAP_AVX512 = 1u << 1, /* AVX-512 F, BW, DQ, VL */
    CAP_AVX512_VNNI = 1u << 2,
    CAP_AVX512_BF16 = 1u << 3,
    CAP_AMX_BF16 = 1u << 4,
    CAP_AMX_INT8 = 1u << 5,
    CAP_AVX_VNNI = 1u << 6 /* dot products of bytes in 256 bits, without AVX-512 */
};

/* A packed-panel matrix product core: C[M, N] (+)= A[M, K] B[K, N].
 * A is packed into panels of mr rows, B into panels of nr columns, K in order and padded with zeros to a
 * multiple of kr; any strides, so NN, NT and TN are the same code. Each element of C is one chain of
 * additions over k in order: the bits do not depend on how M, N or K were cut (K cut at multiples of kr). */
typedef struct GemmCore {
    const char *name; /* "f32 avx512 12x32" */
    int mr, nr, kr;
    size_t elem; /* bytes of a packed element: 4 (f32) or 2 (bf16, rounded to nearest even) */
    /* dst[mr * kp] = rows 0..m-1 (m <= mr; the rest zero) and k columns of A, element (i, j) at
     * src[i * rs + j * cs]; kp = k rounded up to kr. dst is 64-byte aligned. */
    void (*pack_a)(void *dst, const float *src, ptrdiff_t rs, ptrdiff_t cs, int m, int k);
    /* dst[nr * kp] = columns 0..n-1 (n <= nr; the rest zero) of B, element (j, i) at src[j * rs + i * cs]. */
    void (*pack_b)(void *dst, const float *src, ptrdiff_t rs, ptrdiff_t cs, int k, int n);
    /* c[i * ldc + j] (+)= sum over kp of the two panels, for i < m, j < n (m <= mr, n <= nr). */
    void (*tile)(float *c, size_t ldc, const void *a, const void *b, int kp, int m, int n,
                 bool accumulate);
    /* Bracket a run of tile calls on one thread (AMX tile configuration); NULL: nothing to do. */
    void (*enter)(void);
    void (*leave)(void);
} GemmCore;

typedef struct AdamwArgs {
    float lr, beta1, beta2, eps, weight_decay;
    float c1, c2;     /* 1 / (1 - beta1^t), 1 / (1 - beta2^t) */
    float grad_scale; /* clipping and loss normalisation, applied to g first */
} AdamwArgs;

/* Query heads that share one key/value head, of rows that stand one after the other in a sequence, against
 * tokens of its paged cache. Block b of the sequence lies at k + table[b] * stride (and v likewise). Inside a
 * block K is [hd][32] (transposed), V is [32][hd]; in a q8_0 cache bytes, behind them f16 scales [groups][32],
 * one for each 32 values of a token's head (of the last group there may be fewer). */
typedef struct AttnArgs {
    float *o;       /* head i of row r at o + r * row_o + i * ldo */
    const float *q; /* likewise */
    size_t ldo, ldq, row_o, row_q;
    const char *k, *v; /* of this layer and head */
    const int32_t *table;
    size_t stride;     /* bytes between blocks */
    int nq, n_row, hd; /* heads, rows; hd <= 256, a multiple of 8 */
    int from, n_tok,
        to; /* row r sees tokens from (whole blocks) .. min(n_tok + r, to) - 1, at least one */
    float scale;
    /* [n_row, nq] largest score, and sum of the weights relative to its exponential: o is then the sum of
     * weights times values, for attn_join. NULL: o is divided by the sum of weights. */
    float (*stat)[2];
    void *work; /* kern_attn_work bytes, 64-byte aligned */
} AttnArgs;

enum { KERN_LOGITS = 128 }; /* logits that are weighed together */

enum {
    KV_BLOCK = 32,
    KV_GROUP = 32
}; /* tokens in a block of the paged cache; values with one scale */

/* Scales of a token's head of hd values in a q8_0 cache; where 32 does not divide hd the last group is smaller. */
static inline int kern_kv_groups(int hd) { return (hd + KV_GROUP - 1) / KV_GROUP; }

/* Scratch of an attn call with so many queries: a block of K or V as f32, and 256 bytes a query. */
static inline size_t kern_attn_work(int hd, int n_query) {
    return KV_BLOCK * sizeof(float) * (size_t)hd + 256 * (size_t)n_query;
}

typedef struct Kern {
    CpuLevel level;
    uint32_t caps;
    int pack_rows; /* R of this table's packed weights: rows of a group, 8 or 16 */

    /* ---- conversion: n elements, whole blocks ---- */
    void (*to_f32[DT_COUNT])(float *y, const void *x, size_t n); /* EXACT */
    /* EXACT. f16 and bf16: nearest even. Blocks: the published reference rules (ref/quant.c, ref/quant_k.c),
     * byte for byte. Finite input. */
    void (*from_f32[DT_COUNT])(void *y, const float *x, size_t n);
    /* The same for rows of a matrix whose columns differ in importance: w[cols] >= 0, finite, weighs each
     * column's squared error; NULL: as from_f32. cols is whole blocks. Block types only. EXACT */
    void (*quant[DT_COUNT])(void *y, const float *x, const float *w, size_t rows, size_t cols);

    /* n values (16 or 32) as x' = s l - min with l the nearest integers in lo..hi (s 0: l 0 held to the range):
     * sum w (x - x')^2; and sums[5] = w l, w l^2, w l x, w x, w. Added in 16 places, then halves. EXACT */
    float (*level_error)(const float *x, const float *w, int n, float s, float min, int lo, int hi);
    void (*level_sums)(float sums[5], const float *x, const float *w, int n, float s, float min,
                       int lo, int hi);

    /* ---- products ---- */
    /* y[j * ldy + i] = dot(row i of W, x row j), i < n, j < m, 1 <= m <= 4; W rows are k elements of the
     * type, contiguous, k whole blocks; x rows at x + j * ldx, f32. REL(2e-6) */
    void (*gemv[DT_COUNT])(float *y, size_t ldy, const void *w, const float *x, size_t ldx, int m,
                           int n, int k);

    /* ---- products of packed weights with rounded rows: layouts in packed.h ---- */
    /* A group of R rows from n <= R rows of k elements, row_bytes apart. EXACT */
    void (*pack[DT_COUNT])(void *dst, const void *rows, size_t row_bytes, int n, int k, int R);
    /* The weights again: y[r * ldy + i] = column k0 + i of row r, i < kn, r < R = pack_rows; k0 and kn multiples of
     * 32. Equal to to_f32. EXACT */
    void (*packed_to_f32[DT_COUNT])(float *y, size_t ldy, const void *group, int k0, int kn, int R);
    /* m <= PACK_M rows of k elements as the other side of a product with type t. EXACT */
    void (*round_x)(void *dst, const float *x, size_t ldx, int m, int k, DType t);
    /* y[j * ldy + i] = dot(row i of the groups, rounded row j), i < n, j < m; m is 1, 2, 4 or 8. EXACT: sums of 32
     * columns are integers, scaled and added in order by fused multiply-adds, so a row's bits depend neither on
     * the level nor on m and n. Within 2e-6 of the float64 product of what was rounded. */
    void (*packed_dot[DT_COUNT])(float *y, size_t ldy, const void *groups, const void *x, int m,
                                 int n, int k);

    GemmCore gemm_f32; /* REL(2e-6) */
    GemmCore
        gemm_bf16; /* REL(8e-3) of inputs rounded to bf16; .tile == NULL where the level has none */
    float (*dot)(const float *a, const float *b, size_t n); /* REL(2e-6) */
    double (*sum_sq)(const float *x, size_t n); /* REL(1e-6), f64 accumulation in fixed order */
    void (*col_sum)(float *y, const float *x, size_t ldx, int rows,
                    int n); /* y[n] += column sums. REL(2e-6) */

    /* ---- element-wise ---- */
    void (*add)(float *y, const float *x, size_t n); /* y += x. EXACT */
    void (*scale)(float *y, float s, size_t n);      /* y *= s. EXACT */
    /* y = gelu(x), tanh form: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). y may be x. REL(4e-6) */
    void (*gelu)(float *y, const float *x, size_t n);
    void (*gelu_bwd)(float *dx, const float *dy, const float *x,
                     size_t n); /* dx may be dy. REL(4e-6) */
    /* y = silu(g) * u, silu(g) = g / (1 + exp(-g)). y may be g or u. REL(4e-6) */
    void (*swiglu)(float *y, const float *g, const float *u, size_t n);
    /* dg, du may be g, u (each its own). REL(4e-6) */
    void (*swiglu_bwd)(float *dg, float *du, const float *dy, const float *g, const float *u,
                       size_t n);
    /* Inverted dropout in place: element i is kept when word (first + i) of the Philox stream (key, hi), as a
     * 32-bit integer, is >= threshold, and scaled by `scale`; else zero. Word w of a stream is
     * philox(key, hi, w / 4)[w % 4]. EXACT */
    void (*dropout)(float *x, size_t n, uint32_t threshold, float scale, uint64_t key, uint64_t hi,
                    uint64_t first);

    /* ---- normalisation, one row of C ---- */
    /* y = x * rstd * w, rstd = 1 / sqrt(mean(x^2) + eps); *rstd is stored; y may be x. REL(2e-6) */
    void (*rmsnorm)(float *y, float *rstd, const float *x, const float *w, int C, float eps);
    /* dx += gradient (it joins the residual stream's), dw += gradient. REL(4e-6) */
    void (*rmsnorm_bwd)(float *dx, float *dw, const float *dy, const float *x, const float *w,
                        float rstd, int C);
    /* y = (x - mean) * rstd * w + b; stat[0] = mean, stat[1] = rstd. b may be NULL. REL(2e-6) */
    void (*layernorm)(float *y, float *stat, const float *x, const float *w, const float *b, int C,
                      float eps);
    /* dx += , dw +=, db += (db may be NULL). REL(4e-6) */
    void (*layernorm_bwd)(float *dx, float *dw, float *db, const float *dy, const float *x,
                          const float *w, const float *stat, int C);

    /* ---- softmax and loss, one row ---- */
    /* x = softmax(scale * x) in place; returns logsumexp(scale * x). n >= 1. REL(4e-6) */
    float (*softmax)(float *x, int n, float scale);
    /* x = exp(scale * x - lse) in place: the softmax again from its saved logsumexp. REL(4e-6) */
    void (*exp_shift)(float *x, int n, float scale, float lse);
    /* dp = p * (dp - d) * scale in place: gradient of the softmax's input. REL(2e-6) */
    void (*softmax_bwd)(float *dp, const float *p, float d, float scale, int n);
    /* Returns -log softmax(x)[target]; x becomes (softmax(x) - onehot(target)) * scale. REL(4e-6) */
    float (*xent)(float *x, int n, int target, float scale);

    /* ---- weights of KERN_LOGITS logits, for sampling; top is at least each of them, and finite ---- */
    /* y[i] = exp((x[i] - top) * per_temp), within 2e-15; exp(-708) for anything below that. EXACT */
    void (*exp_below)(double *y, const float *x, double top, double per_temp);
    /* w[i] = exp((x[i] - top) * per_temp) * one to the nearest whole number, one <= 2^51, the exponent and its exp
     * in f32: within 5e-7 plus 1e-7 for each unit of depth, exp(-87) for anything below that. Returns their sum.
     * EXACT */
    uint64_t (*weigh)(uint64_t *w, const float *x, float top, float per_temp, double one);

    /* ---- attention ---- */
    /* Rotate n_heads heads of hd in place by cs[hd/2][2] = cos, sin of each pair's angle (n_rot pairs are
     * rotated, the rest stays). Pairs are (2i, 2i+1), or (i, i + n_rot) with `halves`. inverse: by the
     * negative angle. Su et al. 2021. REL(1e-6) */
    void (*rope)(float *x, const float *cs, int n_heads, int hd, int n_rot, bool halves,
                 bool inverse);
    /* Put one token's k[hd], v[hd] at place `slot` of its block (f32, f16, q8_0). EXACT */
    void (*kv_put[DT_COUNT])(void *kblock, void *vblock, const float *k, const float *v, int slot,
                             int hd);
    /* o = softmax(scale q K^T) V over tokens from .., block after block (online softmax). REL(1e-5) */
    void (*attn[DT_COUNT])(const AttnArgs *a);
    /* Join what attn gave for later tokens (po[hd], pstat) to what it gave for earlier ones. REL(4e-6) */
    void (*attn_join)(float *o, float stat[2], const float *po, const float pstat[2], int hd);

    /* ---- optimizer ---- */
    /* Decoupled weight decay (Loshchilov & Hutter 2019), p -= lr (mhat / (sqrt(vhat) + eps) + wd p), for n
     * elements. REL(4e-6) */
    void (*adamw)(float *p, float *m, float *v, const float *g, size_t n, const AdamwArgs *a);

    /* ---- probes of the machine's limits, for benches ---- */
    /* Xor of all 64-bit words: reads n bytes (a multiple of 64) as fast as the machine can. EXACT */
    uint64_t (*read)(const void *p, size_t n);
    /* Runs n rounds of f32 multiply-adds that stay in registers; returns the operations done (2 a multiply-add). */
    uint64_t (*fma_peak)(int n);
} Kern;

/* Capabilities of this machine, found once. */
uint32_t kern_caps(void);
/* Highest level the capabilities allow. */
CpuLevel kern_best_level(uint32_t caps);
const char *kern_level_name(CpuLevel level);
/* Level by name ("ref", "avx2", "avx512", "amx"); false if unknown. */
MUST_CHECK bool kern_level_from_name(CpuLevel *out, const char *name);
/* Fill the table for a level; ERR_UNSUPPORTED names what the processor lacks. `name` NULL: the best. */
MUST_CHECK Status kern_init(Kern *k, const char *name, Err *e);

/* The slots by name, for tests and benches. */
typedef struct KernSlot {
    const char *name; /* "gemv q4_0" */
    size_t offset;    /* of the function pointer in Kern */
    double rel;       /* accuracy class: 0 EXACT, else the x of REL(x) */
} KernSlot;
const KernSlot *kern_slots(int *n);
/* The level whose code this table uses for a slot: the lowest level that has the same function. */
CpuLevel kern_slot_level(const Kern *k, const KernSlot *s);

#endif
