/* SPDX-License-Identifier: Apache-2.0
 * The kernel table: which slots there are, and which level's code fills them.
 *
 * A table is filled from the bottom: ref has every slot, then each instruction set up to the level asked
 * for overlays the slots it has. What a slot means is in kernel.h; the arithmetic is in the folders. */
#include <string.h>

#include "kernel/internal.h"

static const char *const level_names[CPU_LEVELS] = {
    [CPU_REF] = "ref", [CPU_AVX2] = "avx2", [CPU_AVX512] = "avx512", [CPU_AMX] = "amx"};

/* What a level cannot do without. */
static const uint32_t level_caps[CPU_LEVELS] = {[CPU_REF] = 0,
                                                [CPU_AVX2] = CAP_AVX2,
                                                [CPU_AVX512] = CAP_AVX2 | CAP_AVX512,
                                                [CPU_AMX] = CAP_AVX2 | CAP_AVX512 | CAP_AMX_BF16};

static const char *const level_needs[CPU_LEVELS] = {[CPU_REF] = "nothing",
                                                    [CPU_AVX2] = "AVX2, FMA and F16C",
                                                    [CPU_AVX512] = "AVX-512 F, BW, DQ and VL",
                                                    [CPU_AMX] = "AVX-512 and AMX bf16"};

#define SLOT(name, member, rel) \
    { name, offsetof(Kern, member), rel }
static const KernSlot slots[] = {
    SLOT("to_f32 f32", to_f32[DT_F32], 0),
    SLOT("to_f32 f16", to_f32[DT_F16], 0),
    SLOT("to_f32 bf16", to_f32[DT_BF16], 0),
    SLOT("to_f32 q8_0", to_f32[DT_Q8_0], 0),
    SLOT("to_f32 q4_0", to_f32[DT_Q4_0], 0),
    SLOT("to_f32 q4_1", to_f32[DT_Q4_1], 0),
    SLOT("to_f32 q5_0", to_f32[DT_Q5_0], 0),
    SLOT("to_f32 q5_1", to_f32[DT_Q5_1], 0),
    SLOT("to_f32 q4_K", to_f32[DT_Q4_K], 0),
    SLOT("to_f32 q5_K", to_f32[DT_Q5_K], 0),
    SLOT("to_f32 q6_K", to_f32[DT_Q6_K], 0),
    SLOT("from_f32 f32", from_f32[DT_F32], 0),
    SLOT("from_f32 f16", from_f32[DT_F16], 0),
    SLOT("from_f32 bf16", from_f32[DT_BF16], 0),
    SLOT("from_f32 q8_0", from_f32[DT_Q8_0], 0),
    SLOT("from_f32 q4_0", from_f32[DT_Q4_0], 0),
    SLOT("from_f32 q4_1", from_f32[DT_Q4_1], 0),
    SLOT("from_f32 q5_0", from_f32[DT_Q5_0], 0),
    SLOT("from_f32 q5_1", from_f32[DT_Q5_1], 0),
    SLOT("from_f32 q4_K", from_f32[DT_Q4_K], 0),
    SLOT("from_f32 q5_K", from_f32[DT_Q5_K], 0),
    SLOT("from_f32 q6_K", from_f32[DT_Q6_K], 0),
    SLOT("quant q8_0", quant[DT_Q8_0], 0),
    SLOT("quant q4_0", quant[DT_Q4_0], 0),
    SLOT("quant q4_1", quant[DT_Q4_1], 0),
    SLOT("quant q5_0", quant[DT_Q5_0], 0),
    SLOT("quant q5_1", quant[DT_Q5_1], 0),
    SLOT("quant q4_K", quant[DT_Q4_K], 0),
    SLOT("quant q5_K", quant[DT_Q5_K], 0),
    SLOT("quant q6_K", quant[DT_Q6_K], 0),
    SLOT("level_error", level_error, 0),
    SLOT("level_sums", level_sums, 0),
    SLOT("gemv f32", gemv[DT_F32], 2e-6),
    SLOT("gemv f16", gemv[DT_F16], 2e-6),
    SLOT("gemv bf16", gemv[DT_BF16], 2e-6),
    SLOT("gemv q8_0", gemv[DT_Q8_0], 2e-6),
    SLOT("gemv q4_0", gemv[DT_Q4_0], 2e-6),
    SLOT("gemv q4_1", gemv[DT_Q4_1], 2e-6),
    SLOT("gemv q5_0", gemv[DT_Q5_0], 2e-6),
    SLOT("gemv q5_1", gemv[DT_Q5_1], 2e-6),
    SLOT("gemv q4_K", gemv[DT_Q4_K], 2e-6),
    SLOT("gemv q5_K", gemv[DT_Q5_K], 2e-6),
    SLOT("gemv q6_K", gemv[DT_Q6_K], 2e-6),
    SLOT("pack q8_0", pack[DT_Q8_0], 0),
    SLOT("pack q4_0", pack[DT_Q4_0], 0),
    SLOT("pack q4_1", pack[DT_Q4_1], 0),
    SLOT("pack q5_0", pack[DT_Q5_0], 0),
    SLOT("pack q5_1", pack[DT_Q5_1], 0),
    SLOT("pack q4_K", pack[DT_Q4_K], 0),
    SLOT("pack q5_K", pack[DT_Q5_K], 0),
    SLOT("pack q6_K", pack[DT_Q6_K], 0),
    SLOT("packed_to_f32 q8_0", packed_to_f32[DT_Q8_0], 0),
    SLOT("packed_to_f32 q4_0", packed_to_f32[DT_Q4_0], 0),
    SLOT("packed_to_f32 q4_1", packed_to_f32[DT_Q4_1], 0),
    SLOT("packed_to_f32 q5_0", packed_to_f32[DT_Q5_0], 0),
    SLOT("packed_to_f32 q5_1", packed_to_f32[DT_Q5_1], 0),
    SLOT("packed_to_f32 q4_K", packed_to_f32[DT_Q4_K], 0),
    SLOT("packed_to_f32 q5_K", packed_to_f32[DT_Q5_K], 0),
    SLOT("packed_to_f32 q6_K", packed_to_f32[DT_Q6_K], 0),
    SLOT("round_x", round_x, 0),
    SLOT("packed_dot q8_0", packed_dot[DT_Q8_0], 0),
    SLOT("packed_dot q4_0", packed_dot[DT_Q4_0], 0),
    SLOT("packed_dot q4_1", packed_dot[DT_Q4_1], 0),
    SLOT("packed_dot q5_0", packed_dot[DT_Q5_0], 0),
    SLOT("packed_dot q5_1", packed_dot[DT_Q5_1], 0),
    SLOT("packed_dot q4_K", packed_dot[DT_Q4_K], 0),
    SLOT("packed_dot q5_K", packed_dot[DT_Q5_K], 0),
    SLOT("packed_dot q6_K", packed_dot[DT_Q6_K], 0),
    SLOT("gemm_f32", gemm_f32.tile, 2e-6),
    SLOT("gemm_bf16", gemm_bf16.tile, 8e-3),
    SLOT("dot", dot, 2e-6),
    SLOT("sum_sq", sum_sq, 1e-6),
    SLOT("col_sum", col_sum, 2e-6),
    SLOT("add", add, 0),
    SLOT("scale", scale, 0),
    SLOT("gelu", gelu, 4e-6),
    SLOT("gelu_bwd", gelu_bwd, 4e-6),
    SLOT("swiglu", swiglu, 4e-6),
    SLOT("swiglu_bwd", swiglu_bwd, 4e-6),
    SLOT("dropout", dropout, 0),
    SLOT("rmsnorm", rmsnorm, 2e-6),
    SLOT("rmsnorm_bwd", rmsnorm_bwd, 4e-6),
    SLOT("layernorm", layernorm, 2e-6),
    SLOT("layernorm_bwd", layernorm_bwd, 4e-6),
    SLOT("softmax", softmax, 4e-6),
    SLOT("exp_shift", exp_shift, 4e-6),
    SLOT("softmax_bwd", softmax_bwd, 2e-6),
    SLOT("xent", xent, 4e-6),
    SLOT("exp_below", exp_below, 0),
    SLOT("weigh", weigh, 0),
    SLOT("rope", rope, 1e-6),
    SLOT("kv_put f32", kv_put[DT_F32], 0),
    SLOT("kv_put f16", kv_put[DT_F16], 0),
    SLOT("kv_put q8_0", kv_put[DT_Q8_0], 0),
    SLOT("attn f32", attn[DT_F32], 1e-5),
    SLOT("attn f16", attn[DT_F16], 1e-5),
    SLOT("attn q8_0", attn[DT_Q8_0], 1e-5),
    SLOT("attn_join", attn_join, 4e-6),
    SLOT("adamw", adamw, 4e-6),
    SLOT("read", read, 0),
    SLOT("fma_peak", fma_peak, 0),
};

const KernSlot *kern_slots(int *n) {
    *n = (int)COUNT_OF(slots);
    return slots;
}

void kern_fill_ref(Kern *k) {
    kern_ref_convert(k);
    kern_ref_quant(k);
    kern_ref_gemv(k);
    kern_ref_packed(k);
    kern_ref_gemm(k);
    kern_ref_elem(k);
    kern_ref_norm(k);
    kern_ref_softmax(k);
    kern_ref_logits(k);
    kern_ref_attn(k);
    kern_ref_optim(k);
}

void kern_fill_avx2(Kern *k) {
    kern_avx2_convert(k);
    kern_avx2_quant(k);
    kern_avx2_gemv(k);
    kern_avx2_packed(k);
    kern_avx2_gemm(k);
    kern_avx2_elem(k);
    kern_avx2_norm(k);
    kern_avx2_softmax(k);
    kern_avx2_logits(k);
    kern_avx2_attn(k);
    kern_avx2_kv(k);
    kern_avx2_optim(k);
}

void kern_fill_avx512(Kern *k) {
    kern_avx512_convert(k);
    kern_avx512_quant(k);
    kern_avx512_gemv(k);
    kern_avx512_packed(k);
    kern_avx512_gemm(k);
    kern_avx512_elem(k);
    kern_avx512_norm(k);
    kern_avx512_softmax(k);
    kern_avx512_logits(k);
    kern_avx512_attn(k);
    kern_avx512_kv(k);
    kern_avx512_optim(k);
}

static void fill(Kern *k, CpuLevel level, uint32_t caps) {
    memset(k, 0, sizeof *k);
    kern_fill_ref(k);
    if (level >= CPU_AVX2) kern_fill_avx2(k);
    if (level >= CPU_AVX2 && (caps & CAP_AVX_VNNI)) kern_avx2_packed_vnni(k);
    if (level >= CPU_AVX512) kern_fill_avx512(k);
    if (level >= CPU_AVX512 && (caps & CAP_AVX512_BF16)) kern_avx512_gemm_bf16(k);
    if (level >= CPU_AVX512 && (caps & CAP_AVX512_VNNI)) kern_avx512_packed_vnni(k);
    if (level >= CPU_AMX) kern_amx_gemm(k);
    k->level = level;
    k->caps = caps;
}

CpuLevel kern_best_level(uint32_t caps) {
    int level = CPU_LEVELS - 1;
    while ((level_caps[level] & ~caps) != 0) level--;
    return (CpuLevel)level;
}

const char *kern_level_name(CpuLevel level) { return level_names[level]; }

bool kern_level_from_name(CpuLevel *out, const char *name) {
    for (int i = 0; i < CPU_LEVELS; i++) {
        if (strcmp(name, level_names[i]) != 0) continue;
        *out = (CpuLevel)i;
        return true;
    }
    return false;
}

Status kern_init(Kern *k, const char *name, Err *e) {
    uint32_t caps = kern_caps();
    CpuLevel level = kern_best_level(caps);
    if (name && !kern_level_from_name(&level, name)) {
        return err_set(e, ERR_ARG, "cpu level \"%s\": must be ref, avx2, avx512 or amx", name);
    }
    if ((level_caps[level] & ~caps) != 0) {
        return err_set(e, ERR_UNSUPPORTED, "cpu level %s: needs %s; this processor's best is %s",
                       level_names[level], level_needs[level], level_names[kern_best_level(caps)]);
    }
    fill(k, level, caps);
    return OK;
}

/* Slots hold functions of different types; their representation tells whether two are the same. */
static bool same_slot(const Kern *a, const Kern *b, const KernSlot *s) {
    return memcmp((const char *)a + s->offset, (const char *)b + s->offset,
                  sizeof(void (*)(void))) == 0;
}

CpuLevel kern_slot_level(const Kern *k, const KernSlot *s) {
    for (int i = CPU_REF; i < (int)k->level; i++) {
        Kern lower;
        fill(&lower, (CpuLevel)i, k->caps);
        if (same_slot(k, &lower, s)) return (CpuLevel)i;
    }
    return k->level;
}
