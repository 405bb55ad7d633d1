/* SPDX-License-Identifier: Apache-2.0
 * Packed products on AVX-VNNI where the processor lacks it: the source is compiled here with its one instruction
 * replaced by the definition, and held to all that packed_cases.h asks. */
#ifdef __clang__
#include "test.h"
TEST(avx_vnni_emulated) { SKIP("clang cannot change the target inside a file"); }
#else
enum { WAYS = 1 };
#include "packed_cases.h"

#include "kernel/internal.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#include <immintrin.h>

/* Each 32-bit lane of sum, plus its four unsigned bytes of a times the signed ones of b. */
static __m256i emu_dpbusd(__m256i sum, __m256i a, __m256i b) {
    int32_t s[8];
    uint8_t x[32];
    int8_t y[32];
    memcpy(s, &sum, sizeof s);
    memcpy(x, &a, sizeof x);
    memcpy(y, &b, sizeof y);
    for (int i = 0; i < 32; i++) s[i / 4] += x[i] * y[i];
    memcpy(&sum, s, sizeof sum);
    return sum;
}

#define _mm256_dpbusd_avx_epi32 emu_dpbusd
#include "../../src/kernel/avx2/packed_vnni.c"
#pragma GCC pop_options

static bool way(int i) {
    if (!kt_level(CPU_AVX2)) return false;
    kern_avx2_packed_vnni(&kt);
    return i == 0;
}
#endif
