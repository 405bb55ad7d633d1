/* SPDX-License-Identifier: Apache-2.0
 * Times the slots of the kernel table on shapes of real models, each against its own limit, measured in
 * the same run by the table's two probes:
 *   - what streams weights or cache from memory, against reading a buffer no cache holds;
 *   - what works on a row or two, against reading a buffer that fits the second-level cache;
 *   - products on packed panels, against multiply-adds that never leave the registers.
 * Shares above 1 are real: a working set may lie nearer than the probe's, and bf16 products do more a
 * cycle than f32 multiply-adds. */
#include "device/kernel_bench.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "device/backend.h"
#include "kernel/packed.h"
#include "tensor/blocks.h"

enum {
    BIG_BYTES = 256 << 20, /* the memory probe, and what is streamed */
    SLOW_BYTES = 8 << 20, /* streamed at level ref, where memory is not the limit, and in a hurry */
    CACHE_BYTES = 256 << 10, /* the cache probe */
    N = 16384,               /* elements of an element-wise call */
    ROW = 4096,              /* a row of activations or scores */
    VOCAB = 32768,
    K_GEMV = 1536,
    K_GEMM = 256,
    HD = 128,
    N_HEADS = 32,
    N_TOK = 4096, /* of a context */
    N_PACK = 1024,
    M_MAX = 8, /* vectors of a product with few of them */
    N_ARRAYS = 6,
    ARRAY = VOCAB, /* floats in each of the small arrays */
    ROUNDS = 4
};

#define ROUND_S 0.003 /* a round repeats its call for this long */
#define SLOW_S 0.1    /* after a round this long there is no other */

/* What everything is run on; a[i] hold standard normals. */
typedef struct Lab {
    Kern k;
    char *big;
    float *a[N_ARRAYS], *small, *y; /* y: results of a gemv */
    size_t streamed;                /* bytes of big that a gemv or attention goes through */
    bool quick;
    int32_t *table;
    void *work; /* of an attention */
    DType t;    /* of the case at hand */
    int m;
    double memory, cache, fma; /* bytes a second, operations a second */
} Lab;

typedef enum Roof { ROOF_MEMORY, ROOF_CACHE, ROOF_FMA } Roof;

/* work: bytes or operations of one call. */
typedef struct BenchCase {
    const char *slot, *shape;
    Roof roof;
    double work;
    void (*run)(Lab *l);
    DType t;
    int m;
} BenchCase;

/* ---- the calls ---- */

static void run_to_f32(Lab *l) { l->k.to_f32[l->t](l->a[0], l->big, N); }
static void run_from_f32(Lab *l) { l->k.from_f32[l->t](l->big, l->a[1], N); }
static void run_quant(Lab *l) {
    float w[N / 16];
    for (size_t i = 0; i < N / 16; i++) w[i] = 1.0f + (float)(i % 7);
    l->k.quant[l->t](l->big, l->a[1], w, 16, N / 16);
}
static void run_level_error(Lab *l) {
    for (size_t i = 0; i < N; i += 32)
        l->k.level_error(l->a[1] + i, l->a[0] + i, 32, 0.1f, 0.2f, 0, 15);
}
static void run_level_sums(Lab *l) {
    float sums[5];
    for (size_t i = 0; i < N; i += 32)
        l->k.level_sums(sums, l->a[1] + i, l->a[0] + i, 32, 0.1f, 0.2f, 0, 15);
}

static void run_gemv(Lab *l) {
    int n = (int)(l->streamed / dtype_bytes(l->t, K_GEMV));
    l->k.gemv[l->t](l->y, (size_t)n, l->big, l->a[1], K_GEMV, l->m, n, K_GEMV);
}

/* Rows of x rounded at the end of the small arrays. */
static char *rounded(Lab *l) { return (char *)l->a[5]; }

static void run_pack(Lab *l) {
    l->k.pack[l->t](l->a[0], l->big, dtype_bytes(l->t, N_PACK), l->k.pack_rows, N_PACK,
                    l->k.pack_rows);
}
static void run_packed_to_f32(Lab *l) {
    l->k.packed_to_f32[l->t](l->a[0], N_PACK, l->big, 0, N_PACK, l->k.pack_rows);
}
static void run_round_x(Lab *l) {
    l->k.round_x(rounded(l), l->a[1], K_GEMV, PACK_M, K_GEMV, DT_Q4_0);
}
static int packed_rows(const Lab *l) {
    size_t all = l->m == 1 ? l->streamed : CACHE_BYTES;
    return (int)(all / pack_group_bytes(l->t, l->k.pack_rows, K_GEMV)) * l->k.pack_rows;
}
static void run_packed_dot(Lab *l) {
    int n = packed_rows(l);
    l->k.packed_dot[l->t](l->y, (size_t)n, l->big, rounded(l), l->m, n, K_GEMV);
}

static void run_gemm(const GemmCore *c, Lab *l) {
    if (c->enter) c->enter();
    c->tile(l->a[0], (size_t)c->nr, l->big, l->big + (1 << 20), K_GEMM, c->mr, c->nr, false);
    if (c->leave) c->leave();
}

static void run_gemm_f32(Lab *l) { run_gemm(&l->k.gemm_f32, l); }
static void run_gemm_bf16(Lab *l) { run_gemm(&l->k.gemm_bf16, l); }
static void run_dot(Lab *l) { l->a[0][0] = l->k.dot(l->a[1], l->a[2], N); }
static void run_sum_sq(Lab *l) { l->a[0][0] = (float)l->k.sum_sq(l->a[1], N); }
static void run_col_sum(Lab *l) { l->k.col_sum(l->a[0], l->a[1], N / 16, 16, N / 16); }
static void run_add(Lab *l) { l->k.add(l->a[0], l->a[1], N); }
static void run_scale(Lab *l) { l->k.scale(l->a[0], 1.0f, N); }
static void run_gelu(Lab *l) { l->k.gelu(l->a[0], l->a[1], N); }
static void run_gelu_bwd(Lab *l) { l->k.gelu_bwd(l->a[0], l->a[1], l->a[2], N); }
static void run_swiglu(Lab *l) { l->k.swiglu(l->a[0], l->a[1], l->a[2], N); }

static void run_swiglu_bwd(Lab *l) {
    l->k.swiglu_bwd(l->a[0], l->a[3], l->a[4], l->a[1], l->a[2], N);
}

static void run_dropout(Lab *l) { l->k.dropout(l->a[0], N, 0x19999999u, 1.0f, 1, 2, 0); }

static void run_rmsnorm(Lab *l) { l->k.rmsnorm(l->a[0], l->a[3], l->a[1], l->a[2], ROW, 1e-5f); }

static void run_rmsnorm_bwd(Lab *l) {
    l->k.rmsnorm_bwd(l->a[0], l->a[3], l->a[1], l->a[2], l->a[4], 1.0f, ROW);
}

static void run_layernorm(Lab *l) {
    l->k.layernorm(l->a[0], l->a[3], l->a[1], l->a[2], l->a[4], ROW, 1e-5f);
}

static void run_layernorm_bwd(Lab *l) {
    static const float stat[2] = {0.0f, 1.0f};
    l->k.layernorm_bwd(l->a[0], l->a[3], l->a[5], l->a[1], l->a[2], l->a[4], stat, ROW);
}

static void run_softmax(Lab *l) { l->k.softmax(l->a[0], ROW, 1.0f); }
static void run_exp_shift(Lab *l) { l->k.exp_shift(l->a[0], ROW, 1.0f, 1.0f); }
static void run_softmax_bwd(Lab *l) { l->k.softmax_bwd(l->a[0], l->a[1], 0.5f, 1.0f, ROW); }
static void run_xent(Lab *l) { l->k.xent(l->a[0], VOCAB, 7, 1.0f); }
static void run_exp_below(Lab *l) {
    double y[KERN_LOGITS];
    for (int i = 0; i < VOCAB; i += KERN_LOGITS) l->k.exp_below(y, l->a[1] + i, 10.0, 1.0);
}
static void run_weigh(Lab *l) {
    uint64_t w[KERN_LOGITS], total = 0;
    for (int i = 0; i < VOCAB; i += KERN_LOGITS)
        total += l->k.weigh(w, l->a[1] + i, 10.0f, 1.0f, 0x1p44);
    l->a[0][0] = (float)total;
}

static void run_rope(Lab *l) { l->k.rope(l->a[0], l->a[4], N_HEADS, HD, HD / 2, true, false); }

static void run_kv_put(Lab *l) {
    char *v = l->big + (1 << 20);
    for (int s = 0; s < KV_BLOCK; s++) l->k.kv_put[l->t](l->big, v, l->a[0], l->a[1], s, HD);
}

/* One head after another, each with a context of its own. */
static void run_attn(Lab *l) {
    size_t block = device_kv_head_bytes(l->t, HD), head = N_TOK / KV_BLOCK * block;
    for (size_t at = 0; at + 2 * head <= l->streamed; at += 2 * head) {
        AttnArgs a = {.o = l->a[0],
                      .q = l->a[1],
                      .ldo = HD,
                      .ldq = HD,
                      .k = l->big + at,
                      .v = l->big + at + head,
                      .table = l->table,
                      .stride = block,
                      .nq = l->m,
                      .n_row = 1,
                      .hd = HD,
                      .n_tok = N_TOK,
                      .to = N_TOK,
                      .scale = 0.088f,
                      .work = l->work};
        l->k.attn[l->t](&a);
    }
}

static void run_attn_join(Lab *l) {
    float stat[2] = {1.0f, 1.0f}, later[2] = {0.5f, 1.0f};
    for (int h = 0; h < N_HEADS; h++)
        l->k.attn_join(l->a[0] + h * HD, stat, l->a[1] + h * HD, later, HD);
}

static void run_adamw(Lab *l) {
    static const AdamwArgs args = {.lr = 1e-4f,
                                   .beta1 = 0.9f,
                                   .beta2 = 0.95f,
                                   .eps = 1e-8f,
                                   .weight_decay = 0.1f,
                                   .c1 = 1.0f,
                                   .c2 = 1.0f,
                                   .grad_scale = 1.0f};
    l->k.adamw(l->a[0], l->a[3], l->a[5], l->a[1], N, &args);
}

static volatile uint64_t probe_sink; /* keeps the loads of a probe */

static void run_read(Lab *l) { probe_sink = l->k.read(l->big, BIG_BYTES); }
static void run_read_cache(Lab *l) { probe_sink = l->k.read(l->big, CACHE_BYTES); }
static void run_fma(Lab *l) { probe_sink = l->k.fma_peak(K_GEMM); }

#define F4(arrays, n) ((double)(arrays) * (double)(n)*4)

/* Work 0: depends on the type or the level, see case_work. */
static const BenchCase cases[] = {
    {"to_f32 f32", "n=16384", ROOF_CACHE, 0, run_to_f32, DT_F32, 0},
    {"to_f32 f16", "n=16384", ROOF_CACHE, 0, run_to_f32, DT_F16, 0},
    {"to_f32 bf16", "n=16384", ROOF_CACHE, 0, run_to_f32, DT_BF16, 0},
    {"to_f32 q8_0", "n=16384", ROOF_CACHE, 0, run_to_f32, DT_Q8_0, 0},
    {"to_f32 q4_0", "n=16384", ROOF_CACHE, 0, run_to_f32, DT_Q4_0, 0},
    {"to_f32 q4_1", "n=16384", ROOF_CACHE, 0, run_to_f32, DT_Q4_1, 0},
    {"to_f32 q5_0", "n=16384", ROOF_CACHE, 0, run_to_f32, DT_Q5_0, 0},
    {"to_f32 q5_1", "n=16384", ROOF_CACHE, 0, run_to_f32, DT_Q5_1, 0},
    {"to_f32 q4_K", "n=16384", ROOF_CACHE, 0, run_to_f32, DT_Q4_K, 0},
    {"to_f32 q5_K", "n=16384", ROOF_CACHE, 0, run_to_f32, DT_Q5_K, 0},
    {"to_f32 q6_K", "n=16384", ROOF_CACHE, 0, run_to_f32, DT_Q6_K, 0},
    {"from_f32 f32", "n=16384", ROOF_CACHE, 0, run_from_f32, DT_F32, 0},
    {"from_f32 f16", "n=16384", ROOF_CACHE, 0, run_from_f32, DT_F16, 0},
    {"from_f32 bf16", "n=16384", ROOF_CACHE, 0, run_from_f32, DT_BF16, 0},
    {"from_f32 q8_0", "n=16384", ROOF_CACHE, 0, run_from_f32, DT_Q8_0, 0},
    {"from_f32 q4_0", "n=16384", ROOF_CACHE, 0, run_from_f32, DT_Q4_0, 0},
    {"from_f32 q4_1", "n=16384", ROOF_CACHE, 0, run_from_f32, DT_Q4_1, 0},
    {"from_f32 q5_0", "n=16384", ROOF_CACHE, 0, run_from_f32, DT_Q5_0, 0},
    {"from_f32 q5_1", "n=16384", ROOF_CACHE, 0, run_from_f32, DT_Q5_1, 0},
    {"from_f32 q4_K", "n=16384", ROOF_CACHE, 0, run_from_f32, DT_Q4_K, 0},
    {"from_f32 q5_K", "n=16384", ROOF_CACHE, 0, run_from_f32, DT_Q5_K, 0},
    {"from_f32 q6_K", "n=16384", ROOF_CACHE, 0, run_from_f32, DT_Q6_K, 0},
    {"quant q8_0", "16 x 1024", ROOF_CACHE, 0, run_quant, DT_Q8_0, 0},
    {"quant q4_0", "16 x 1024", ROOF_CACHE, 0, run_quant, DT_Q4_0, 0},
    {"quant q4_1", "16 x 1024", ROOF_CACHE, 0, run_quant, DT_Q4_1, 0},
    {"quant q5_0", "16 x 1024", ROOF_CACHE, 0, run_quant, DT_Q5_0, 0},
    {"quant q5_1", "16 x 1024", ROOF_CACHE, 0, run_quant, DT_Q5_1, 0},
    {"quant q4_K", "16 x 1024", ROOF_CACHE, 0, run_quant, DT_Q4_K, 0},
    {"quant q5_K", "16 x 1024", ROOF_CACHE, 0, run_quant, DT_Q5_K, 0},
    {"quant q6_K", "16 x 1024", ROOF_CACHE, 0, run_quant, DT_Q6_K, 0},
    {"level_error", "512 x 32", ROOF_CACHE, 0, run_level_error, DT_F32, 0},
    {"level_sums", "512 x 32", ROOF_CACHE, 0, run_level_sums, DT_F32, 0},
    {"gemv f32", "m=1 k=1536", ROOF_MEMORY, 0, run_gemv, DT_F32, 1},
    {"gemv f32", "m=4 k=1536", ROOF_MEMORY, 0, run_gemv, DT_F32, 4},
    {"gemv f16", "m=1 k=1536", ROOF_MEMORY, 0, run_gemv, DT_F16, 1},
    {"gemv f16", "m=4 k=1536", ROOF_MEMORY, 0, run_gemv, DT_F16, 4},
    {"gemv bf16", "m=1 k=1536", ROOF_MEMORY, 0, run_gemv, DT_BF16, 1},
    {"gemv bf16", "m=4 k=1536", ROOF_MEMORY, 0, run_gemv, DT_BF16, 4},
    {"gemv q8_0", "m=1 k=1536", ROOF_MEMORY, 0, run_gemv, DT_Q8_0, 1},
    {"gemv q8_0", "m=4 k=1536", ROOF_MEMORY, 0, run_gemv, DT_Q8_0, 4},
    {"gemv q4_0", "m=1 k=1536", ROOF_MEMORY, 0, run_gemv, DT_Q4_0, 1},
    {"gemv q4_0", "m=4 k=1536", ROOF_MEMORY, 0, run_gemv, DT_Q4_0, 4},
    {"gemv q4_1", "m=1 k=1536", ROOF_MEMORY, 0, run_gemv, DT_Q4_1, 1},
    {"gemv q4_1", "m=4 k=1536", ROOF_MEMORY, 0, run_gemv, DT_Q4_1, 4},
    {"gemv q5_0", "m=1 k=1536", ROOF_MEMORY, 0, run_gemv, DT_Q5_0, 1},
    {"gemv q5_0", "m=4 k=1536", ROOF_MEMORY, 0, run_gemv, DT_Q5_0, 4},
    {"gemv q5_1", "m=1 k=1536", ROOF_MEMORY, 0, run_gemv, DT_Q5_1, 1},
    {"gemv q5_1", "m=4 k=1536", ROOF_MEMORY, 0, run_gemv, DT_Q5_1, 4},
    {"gemv q4_K", "m=1 k=1536", ROOF_MEMORY, 0, run_gemv, DT_Q4_K, 1},
    {"gemv q4_K", "m=4 k=1536", ROOF_MEMORY, 0, run_gemv, DT_Q4_K, 4},
    {"gemv q5_K", "m=1 k=1536", ROOF_MEMORY, 0, run_gemv, DT_Q5_K, 1},
    {"gemv q5_K", "m=4 k=1536", ROOF_MEMORY, 0, run_gemv, DT_Q5_K, 4},
    {"gemv q6_K", "m=1 k=1536", ROOF_MEMORY, 0, run_gemv, DT_Q6_K, 1},
    {"gemv q6_K", "m=4 k=1536", ROOF_MEMORY, 0, run_gemv, DT_Q6_K, 4},
    {"pack q8_0", "R x 1024", ROOF_CACHE, 0, run_pack, DT_Q8_0, 0},
    {"pack q4_0", "R x 1024", ROOF_CACHE, 0, run_pack, DT_Q4_0, 0},
    {"pack q4_1", "R x 1024", ROOF_CACHE, 0, run_pack, DT_Q4_1, 0},
    {"pack q5_0", "R x 1024", ROOF_CACHE, 0, run_pack, DT_Q5_0, 0},
    {"pack q5_1", "R x 1024", ROOF_CACHE, 0, run_pack, DT_Q5_1, 0},
    {"pack q4_K", "R x 1024", ROOF_CACHE, 0, run_pack, DT_Q4_K, 0},
    {"pack q5_K", "R x 1024", ROOF_CACHE, 0, run_pack, DT_Q5_K, 0},
    {"pack q6_K", "R x 1024", ROOF_CACHE, 0, run_pack, DT_Q6_K, 0},
    {"packed_to_f32 q8_0", "R x 1024", ROOF_CACHE, 0, run_packed_to_f32, DT_Q8_0, 0},
    {"packed_to_f32 q4_0", "R x 1024", ROOF_CACHE, 0, run_packed_to_f32, DT_Q4_0, 0},
    {"packed_to_f32 q4_1", "R x 1024", ROOF_CACHE, 0, run_packed_to_f32, DT_Q4_1, 0},
    {"packed_to_f32 q5_0", "R x 1024", ROOF_CACHE, 0, run_packed_to_f32, DT_Q5_0, 0},
    {"packed_to_f32 q5_1", "R x 1024", ROOF_CACHE, 0, run_packed_to_f32, DT_Q5_1, 0},
    {"packed_to_f32 q4_K", "R x 1024", ROOF_CACHE, 0, run_packed_to_f32, DT_Q4_K, 0},
    {"packed_to_f32 q5_K", "R x 1024", ROOF_CACHE, 0, run_packed_to_f32, DT_Q5_K, 0},
    {"packed_to_f32 q6_K", "R x 1024", ROOF_CACHE, 0, run_packed_to_f32, DT_Q6_K, 0},
    {"round_x", "8 x 1536", ROOF_CACHE, 0, run_round_x, DT_F32, 0},
    {"packed_dot q8_0", "m=1 k=1536", ROOF_MEMORY, 0, run_packed_dot, DT_Q8_0, 1},
    {"packed_dot q8_0", "m=8 k=1536", ROOF_FMA, 0, run_packed_dot, DT_Q8_0, 8},
    {"packed_dot q4_0", "m=1 k=1536", ROOF_MEMORY, 0, run_packed_dot, DT_Q4_0, 1},
    {"packed_dot q4_0", "m=8 k=1536", ROOF_FMA, 0, run_packed_dot, DT_Q4_0, 8},
    {"packed_dot q4_1", "m=1 k=1536", ROOF_MEMORY, 0, run_packed_dot, DT_Q4_1, 1},
    {"packed_dot q4_1", "m=8 k=1536", ROOF_FMA, 0, run_packed_dot, DT_Q4_1, 8},
    {"packed_dot q5_0", "m=1 k=1536", ROOF_MEMORY, 0, run_packed_dot, DT_Q5_0, 1},
    {"packed_dot q5_0", "m=8 k=1536", ROOF_FMA, 0, run_packed_dot, DT_Q5_0, 8},
    {"packed_dot q5_1", "m=1 k=1536", ROOF_MEMORY, 0, run_packed_dot, DT_Q5_1, 1},
    {"packed_dot q5_1", "m=8 k=1536", ROOF_FMA, 0, run_packed_dot, DT_Q5_1, 8},
    {"packed_dot q4_K", "m=1 k=1536", ROOF_MEMORY, 0, run_packed_dot, DT_Q4_K, 1},
    {"packed_dot q4_K", "m=8 k=1536", ROOF_FMA, 0, run_packed_dot, DT_Q4_K, 8},
    {"packed_dot q5_K", "m=1 k=1536", ROOF_MEMORY, 0, run_packed_dot, DT_Q5_K, 1},
    {"packed_dot q5_K", "m=8 k=1536", ROOF_FMA, 0, run_packed_dot, DT_Q5_K, 8},
    {"packed_dot q6_K", "m=1 k=1536", ROOF_MEMORY, 0, run_packed_dot, DT_Q6_K, 1},
    {"packed_dot q6_K", "m=8 k=1536", ROOF_FMA, 0, run_packed_dot, DT_Q6_K, 8},
    {"gemm_f32", "one tile, k=256", ROOF_FMA, 0, run_gemm_f32, DT_F32, 0},
    {"gemm_bf16", "one tile, k=256", ROOF_FMA, 0, run_gemm_bf16, DT_BF16, 0},
    {"dot", "n=16384", ROOF_CACHE, F4(2, N), run_dot, DT_F32, 0},
    {"sum_sq", "n=16384", ROOF_CACHE, F4(1, N), run_sum_sq, DT_F32, 0},
    {"col_sum", "16 rows of 1024", ROOF_CACHE, F4(1, N), run_col_sum, DT_F32, 0},
    {"add", "n=16384", ROOF_CACHE, F4(3, N), run_add, DT_F32, 0},
    {"scale", "n=16384", ROOF_CACHE, F4(2, N), run_scale, DT_F32, 0},
    {"gelu", "n=16384", ROOF_CACHE, F4(2, N), run_gelu, DT_F32, 0},
    {"gelu_bwd", "n=16384", ROOF_CACHE, F4(3, N), run_gelu_bwd, DT_F32, 0},
    {"swiglu", "n=16384", ROOF_CACHE, F4(3, N), run_swiglu, DT_F32, 0},
    {"swiglu_bwd", "n=16384", ROOF_CACHE, F4(5, N), run_swiglu_bwd, DT_F32, 0},
    {"dropout", "n=16384", ROOF_CACHE, F4(2, N), run_dropout, DT_F32, 0},
    {"rmsnorm", "C=4096", ROOF_CACHE, F4(3, ROW), run_rmsnorm, DT_F32, 0},
    {"rmsnorm_bwd", "C=4096", ROOF_CACHE, F4(7, ROW), run_rmsnorm_bwd, DT_F32, 0},
    {"layernorm", "C=4096", ROOF_CACHE, F4(4, ROW), run_layernorm, DT_F32, 0},
    {"layernorm_bwd", "C=4096", ROOF_CACHE, F4(9, ROW), run_layernorm_bwd, DT_F32, 0},
    {"softmax", "n=4096", ROOF_CACHE, F4(2, ROW), run_softmax, DT_F32, 0},
    {"exp_shift", "n=4096", ROOF_CACHE, F4(2, ROW), run_exp_shift, DT_F32, 0},
    {"softmax_bwd", "n=4096", ROOF_CACHE, F4(3, ROW), run_softmax_bwd, DT_F32, 0},
    {"xent", "n=32768", ROOF_CACHE, F4(2, VOCAB), run_xent, DT_F32, 0},
    {"exp_below", "n=32768", ROOF_CACHE, F4(1, VOCAB), run_exp_below, DT_F32, 0},
    {"weigh", "n=32768", ROOF_CACHE, F4(1, VOCAB), run_weigh, DT_F32, 0},
    {"rope", "32 heads of 128", ROOF_CACHE, F4(2, N_HEADS *HD), run_rope, DT_F32, 0},
    {"kv_put f32", "hd=128, a block", ROOF_CACHE, 0, run_kv_put, DT_F32, 0},
    {"kv_put f16", "hd=128, a block", ROOF_CACHE, 0, run_kv_put, DT_F16, 0},
    {"kv_put q8_0", "hd=128, a block", ROOF_CACHE, 0, run_kv_put, DT_Q8_0, 0},
    {"attn f32", "hd=128 nq=4, 4096 tokens", ROOF_MEMORY, 0, run_attn, DT_F32, 4},
    {"attn f16", "hd=128 nq=4, 4096 tokens", ROOF_MEMORY, 0, run_attn, DT_F16, 4},
    {"attn q8_0", "hd=128 nq=4, 4096 tokens", ROOF_MEMORY, 0, run_attn, DT_Q8_0, 4},
    {"attn_join", "32 heads of 128", ROOF_CACHE, F4(3, N_HEADS *HD), run_attn_join, DT_F32, 0},
    {"adamw", "n=16384", ROOF_CACHE, F4(7, N), run_adamw, DT_F32, 0},
    {"read", "256 MB", ROOF_MEMORY, BIG_BYTES, run_read, DT_F32, 0},
    {"read", "256 KB", ROOF_CACHE, CACHE_BYTES, run_read_cache, DT_F32, 0},
    {"fma_peak", "registers", ROOF_FMA, 0, run_fma, DT_F32, 0},
};

/* Bytes read and written by packing R rows, or by expanding them. */
static double pack_work(const Lab *l, const BenchCase *c) {
    double rows = l->k.pack_rows, other = (double)N_PACK * 4;
    if (c->run == run_pack) other = (double)dtype_bytes(c->t, N_PACK);
    return (double)pack_group_bytes(c->t, l->k.pack_rows, N_PACK) + rows * other;
}

/* Bytes of the weights for one row, operations for many. */
static double packed_work(const Lab *l) {
    double rows = packed_rows(l);
    if (l->m > 1) return 2.0 * rows * K_GEMV * l->m;
    return rows / l->k.pack_rows * (double)pack_group_bytes(l->t, l->k.pack_rows, K_GEMV);
}

/* Bytes or operations of a call whose amount depends on the type or the level. */
static double case_work(Lab *l, const BenchCase *c) {
    const GemmCore *g = c->run == run_gemm_bf16 ? &l->k.gemm_bf16 : &l->k.gemm_f32;
    size_t row = dtype_bytes(c->t, K_GEMV), kv_block = device_kv_head_bytes(c->t, HD),
           kv = kv_block * (N_TOK / KV_BLOCK);
    if (c->work > 0) return c->work;
    if (c->run == run_pack || c->run == run_packed_to_f32) return pack_work(l, c);
    if (c->run == run_round_x) return PACK_M * K_GEMV * 4.0 + (double)pack_x_bytes(PACK_M, K_GEMV);
    if (c->run == run_packed_dot) return packed_work(l);
    if (c->run == run_gemv) return (double)(l->streamed / row * row);
    if (c->run == run_attn) return (double)(l->streamed / (2 * kv) * (2 * kv));
    if (c->run == run_kv_put) return 2.0 * (HD * KV_BLOCK * sizeof(float) + (double)kv_block);
    if (c->run == run_fma) return (double)l->k.fma_peak(K_GEMM);
    if (c->roof == ROOF_FMA) return 2.0 * g->mr * g->nr * K_GEMM;
    return (double)(dtype_bytes(c->t, N) + N * sizeof(float));
}

/* Least seconds a call takes. */
static double time_call(void (*run)(Lab *l), Lab *l) {
    double best = HUGE_VAL;
    for (int r = 0; r < ROUNDS; r++) {
        double t0 = clock_now_s(), t = 0;
        int n = 0;
        do {
            run(l);
            n++;
            t = clock_now_s() - t0;
        } while (t < ROUND_S && !l->quick);
        best = fmin(best, t / n);
        if (t > SLOW_S || l->quick) break;
    }
    return best;
}

/* ---- data ---- */

static void fill_arrays(Lab *l) {
    for (int i = 0; i < N_ARRAYS; i++) {
        l->a[i] = l->small + (size_t)i * ARRAY;
        rng_normal_fill(l->a[i], ARRAY, 1.0f, 1, (uint64_t)i);
    }
    for (size_t i = 0; i < ARRAY; i++) {
        l->a[4][i] = i % 2 ? sinf((float)i) : cosf((float)(i + 1)); /* rotations */
        l->a[5][i] = fabsf(l->a[5][i]);                             /* AdamW's squares */
    }
}

/* Blocks of any integers, with ordinary scales: no kernel takes longer or less for what the integers are. */
static void fill_blocks(char *y, DType t, size_t bytes) {
    bool two = t == DT_Q4_1 || t == DT_Q5_1 || t == DT_Q4_K || t == DT_Q5_K;
    const uint16_t half[2] = {0x2000, 0x2000}; /* 2^-7 */
    size_t step = (size_t)dtype_info((uint32_t)t)->block_bytes;
    size_t at = t == DT_Q6_K ? offsetof(BlockQ6_K, d) : 0;
    for (size_t i = 0; i < bytes; i += 16) {
        uint32_t w[4];
        rng_philox(w, 1, 2, i);
        memcpy(y + i, w, MIN(sizeof w, bytes - i));
    }
    for (size_t i = at; i < bytes; i += step) memcpy(y + i, half, two ? 4 : 2);
}

/* The streamed bytes as ordinary weights of a type: one stretch of 16384 over and over. */
static void fill_weights(Lab *l, DType t) {
    size_t n = dtype_bytes(t, N);
    rng_normal_fill(l->a[0], N, 1.0f, 1, 0);
    if (dtype_info((uint32_t)t)->is_quantized) fill_blocks(l->big, t, n);
    else l->k.from_f32[t](l->big, l->a[0], N);
    for (size_t at = n; at + n <= BIG_BYTES; at += n) memcpy(l->big + at, l->big, n);
}

/* The streamed bytes as one packed group over and over. */
static void fill_packed(Lab *l, DType t) {
    size_t n = pack_group_bytes(t, l->k.pack_rows, K_GEMV), row = dtype_bytes(t, K_GEMV);
    char *rows = l->big + BIG_BYTES / 2;
    fill_blocks(rows, t, row * (size_t)l->k.pack_rows);
    l->k.pack[t](l->big, rows, row, l->k.pack_rows, K_GEMV, l->k.pack_rows);
    for (size_t at = n; at + n <= BIG_BYTES; at += n) memcpy(l->big + at, l->big, n);
    l->k.round_x(rounded(l), l->a[1], K_GEMV, l->m, K_GEMV, t);
}

static void prepare(Lab *l, const BenchCase *c) {
    bool other = c->t != l->t;
    l->t = c->t;
    l->m = c->m;
    fill_arrays(l);
    if (c->run == run_packed_dot) fill_packed(l, c->t);
    else if (other || c->run == run_attn || c->run == run_gemm_f32) fill_weights(l, c->t);
}

static void lab_deinit(Lab *l) {
    if (l->big) mem_map_free(l->big, BIG_BYTES);
    mem_free(l->small);
    mem_free(l->y);
    mem_free(l->table);
    if (l->work) mem_map_free(l->work, kern_attn_work(HD, M_MAX));
}

static Status lab_init(Lab *l, const char *level_name, bool quick, Err *e) {
    *l = (Lab){.t = DT_COUNT, .quick = quick};
    TRY(kern_init(&l->k, level_name, e));
    l->big = mem_map_alloc(BIG_BYTES);
    l->small = mem_new_n(float, (size_t)N_ARRAYS *ARRAY);
    l->y = mem_new_n(float, BIG_BYTES / dtype_bytes(DT_Q4_0, K_GEMV) * M_MAX);
    l->table = mem_new_n(int32_t, N_TOK / KV_BLOCK);
    l->work = mem_map_alloc(kern_attn_work(HD, M_MAX));
    l->streamed = quick || l->k.level == CPU_REF ? SLOW_BYTES : BIG_BYTES;
    if (!l->big || !l->small || !l->y || !l->table || !l->work) {
        lab_deinit(l);
        return err_set(e, ERR_NOMEM, "kernel bench: %d MB: out of memory", BIG_BYTES >> 20);
    }
    for (int i = 0; i < N_TOK / KV_BLOCK; i++) l->table[i] = i;
    fill_arrays(l);
    fill_weights(l, DT_F32);
    return OK;
}

/* ---- rows ---- */

/* A limit is the best of several tries, since whatever else runs only takes away from it. */
static double best_rate(void (*run)(Lab *l), Lab *l, double work) {
    double best = 0;
    for (int i = 0; i < ROUNDS; i++) best = fmax(best, work / time_call(run, l));
    return best;
}

static void measure_roofs(Lab *l) {
    l->memory = best_rate(run_read, l, BIG_BYTES);
    l->cache = best_rate(run_read_cache, l, CACHE_BYTES);
    l->fma = best_rate(run_fma, l, (double)l->k.fma_peak(K_GEMM));
}

static const KernSlot *slot_named(const char *name) {
    int n;
    const KernSlot *s = kern_slots(&n);
    for (int i = 0; i < n; i++) {
        if (strcmp(s[i].name, name) == 0) return &s[i];
    }
    return NULL;
}

static void measure(Lab *l, const BenchCase *c, KernelBenchRow *row) {
    static const char *const names[] = {"memory read", "cache read", "fma peak"};
    const double roofs[] = {l->memory, l->cache, l->fma};
    const KernSlot *s = slot_named(c->slot);
    prepare(l, c);
    double rate = case_work(l, c) / time_call(c->run, l), roof = roofs[c->roof];
    *row = (KernelBenchRow){.slot = c->slot,
                            .level = s ? kern_level_name(kern_slot_level(&l->k, s)) : "",
                            .shape = c->shape,
                            .unit = c->roof == ROOF_FMA ? "GFLOP/s" : "GB/s",
                            .value = rate * 1e-9,
                            .roof_name = names[c->roof],
                            .roof = roof * 1e-9,
                            .share = rate / roof};
}

Status kernel_bench_run(const char *level_name, bool quick,
                        void (*on_row)(void *ctx, const KernelBenchRow *row), void *ctx, Err *e) {
    Lab l;
    TRY(lab_init(&l, level_name, quick, e));
    measure_roofs(&l);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        KernelBenchRow row;
        if (cases[i].run == run_gemm_bf16 && !l.k.gemm_bf16.tile) continue;
        if (cases[i].run == run_from_f32 && !l.k.from_f32[cases[i].t]) continue;
        measure(&l, &cases[i], &row);
        on_row(ctx, &row);
    }
    lab_deinit(&l);
    return OK;
}
