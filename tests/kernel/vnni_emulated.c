/* SPDX-License-Identifier: Apache-2.0
 * Packed products on AVX-512 VNNI where the processor lacks it: the source is compiled here with its one instruction
 * replaced by the definition, and held to all that packed_cases.h asks. */
#ifdef __clang__
#include "test.h"
TEST(vnni_emulated) { SKIP("clang cannot change the target inside a file"); }
#else
enum { WAYS = 1 };
#include "packed_cases.h"

#include "kernel/internal.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")
#include <immintrin.h>

/* Each 32-bit lane of sum, plus its four unsigned bytes of a times the signed ones of b. */
static __m512i emu_dpbusd(__m512i sum, __m512i a, __m512i b) {
    int32_t s[16];
    uint8_t x[64];
    int8_t y[64];
    memcpy(s, &sum, sizeof s);
    memcpy(x, &a, sizeof x);
    memcpy(y, &b, sizeof y);
    for (int i = 0; i < 64; i++) s[i / 4] += x[i] * y[i];
    return _mm512_loadu_si512(s);
}

#define _mm512_dpbusd_epi32 emu_dpbusd
#include "../../src/kernel/avx512/packed_vnni.c"
#pragma GCC pop_options

static bool way(int i) {
    if (!kt_level(CPU_AVX512)) return false;
    kern_avx512_packed_vnni(&kt);
    return i == 0;
}
#endif
