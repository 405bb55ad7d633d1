/* SPDX-License-Identifier: Apache-2.0
 * Packed weights at every level: see packed_cases.h. Where the processor has VNNI, AVX-512 without it too. */
#include "kernel/kernel.h"

enum { WAYS = CPU_LEVELS + 1 };

#include "packed_cases.h"

#include "kernel/internal.h"

static bool way(int i) {
    if (i < CPU_LEVELS) return kt_level(i);
    if ((kern_caps() & CAP_AVX512_VNNI) == 0 || !kt_level(CPU_AVX512)) return false;
    kern_avx512_packed(&kt);
    return true;
}
