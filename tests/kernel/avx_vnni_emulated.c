/* SPDX-License-Identifier: Apache-2.0
 * Packed products on AVX-VNNI, which this processor may lack: the source is compiled with its one instruction replaced
 * by its definition, and must have the bits of ref. Where the processor has it, packed.c of this folder runs it. */
#ifdef __clang__
#include "test.h"
TEST(avx_vnni_emulated) { SKIP("clang cannot change the target inside a file"); }
#else
#pragma GCC target("avx2,fma,f16c")
#include "common.h"

#include <immintrin.h>

#include "kernel/packed.h"

/* a + the four products of unsigned bytes of u and signed ones of s, in each lane. */
static __m256i emu_dpbusd(__m256i a, __m256i u, __m256i s) {
    int32_t lane[8];
    uint8_t x[32];
    int8_t y[32];
    memcpy(lane, &a, sizeof lane);
    memcpy(x, &u, sizeof x);
    memcpy(y, &s, sizeof y);
    for (int i = 0; i < 32; i++) lane[i / 4] += x[i] * y[i];
    memcpy(&a, lane, sizeof a);
    return a;
}
#define _mm256_dpbusd_avx_epi32 emu_dpbusd

#include "../../src/kernel/avx2/packed_vnni.c"

static const DType types[] = {DT_Q8_0, DT_Q4_0, DT_Q4_1, DT_Q5_0,
                              DT_Q5_1, DT_Q4_K, DT_Q5_K, DT_Q6_K};

enum { N = 11 }; /* a whole group and a part */

static void check(const Kern *ref, const Kern *emu, DType t, int k, int m) {
    size_t row = dtype_bytes(t, (size_t)k), group = pack_group_bytes(t, 8, k);
    char *w = kt_bytes(N * row), *packed = kt_bytes(2 * group), *x = kt_bytes(pack_x_bytes(m, k));
    float *f = kt_normals((size_t)(m * k), 1), *got = kt_floats((size_t)(m * N)),
          *want = kt_floats((size_t)(m * N));
    kt_blocks(w, t, (size_t)(N * k), false, 0.01f);
    ref->pack[t](packed, w, row, 8, k, 8);
    ref->pack[t](packed + group, w + 8 * row, row, N - 8, k, 8);
    ref->round_x(x, f, (size_t)k, m, k, t);
    ref->packed_dot[t](want, N, packed, x, m, N, k);
    emu->packed_dot[t](got, N, packed, x, m, N, k);
    kt_same("packed_dot by AVX-VNNI", got, want, (size_t)(m * N) * sizeof *got);
}

TEST(avx_vnni_emulated) {
    if (!(kern_caps() & CAP_AVX2)) SKIP("no AVX2 to emulate it on");
    Kern ref = kt_ref(), emu = ref;
    kt = ref;
    kern_avx2_packed_vnni(&emu);
    EQ(emu.pack_rows, 8);
    for (size_t i = 0; i < COUNT_OF(types); i++)
        for (int m = 1; m <= 8; m *= 2)
            for (int n = 0; n <= 3; n++) {
                kt_start(i * 100 + (size_t)(10 * m + n));
                check(&ref, &emu, types[i], n * dtype_info((uint32_t)types[i])->block, m);
                kt_free();
            }
}
#endif
