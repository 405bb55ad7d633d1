/* SPDX-License-Identifier: Apache-2.0
 * Packed weights at every level: see packed_cases.h. Where the processor has VNNI, the levels without it too. */
#include "kernel/kernel.h"

enum { WAYS = CPU_LEVELS + 2 };

#include "packed_cases.h"

#include "kernel/internal.h"

/* The level with instructions that it need not have put aside. */
static bool plain(CpuLevel level, uint32_t cap, void (*fill)(Kern *)) {
    if ((kern_caps() & cap) == 0 || !kt_level((int)level)) return false;
    fill(&kt);
    return true;
}

static bool way(int i) {
    if (i < CPU_LEVELS) return kt_level(i);
    if (i == CPU_LEVELS) return plain(CPU_AVX2, CAP_AVX_VNNI, kern_avx2_packed);
    return plain(CPU_AVX512, CAP_AVX512_VNNI, kern_avx512_packed);
}
