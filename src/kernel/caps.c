/* SPDX-License-Identifier: Apache-2.0
 * What the processor can do and the operating system lets it: a feature counts only when CPUID has it,
 * XCR0 says its registers are saved on a context switch and, for AMX, Linux grants the tile state.
 * Found once per process; any thread. */
#include <cpuid.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernel/kernel.h"

enum { ARCH_REQ_XCOMP_PERM_ = 0x1023, XFEATURE_XTILEDATA_ = 18 };

/* Register states in XCR0. */
#define XCR0_AVX 0x6u     /* xmm, ymm */
#define XCR0_AVX512 0xe6u /* and opmask, upper zmm, zmm16-31 */
#define XCR0_AMX 0x60000u /* tile configuration and data */

#define BIT(r, n) (((r) >> (n)) & 1u)

static uint64_t xgetbv0(void) {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static bool amx_permitted(void) {
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM_, XFEATURE_XTILEDATA_) == 0;
}

static uint32_t caps_avx512(uint32_t ebx, uint32_t ecx, uint32_t eax71) {
    /* F, DQ, BW, VL */
    if (!BIT(ebx, 16) || !BIT(ebx, 17) || !BIT(ebx, 30) || !BIT(ebx, 31)) return 0;
    uint32_t caps = CAP_AVX512;
    if (BIT(ecx, 11)) caps |= CAP_AVX512_VNNI;
    if (BIT(eax71, 5)) caps |= CAP_AVX512_BF16;
    return caps;
}

static uint32_t caps_amx(uint32_t edx) {
    if (!BIT(edx, 24) || !amx_permitted()) return 0; /* AMX-TILE */
    return (BIT(edx, 22) ? CAP_AMX_BF16 : 0) | (BIT(edx, 25) ? CAP_AMX_INT8 : 0);
}

static uint32_t find_caps(void) {
    uint32_t a, b, c, d, a71 = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !BIT(c, 27)) return 0; /* OSXSAVE: xgetbv works */
    uint64_t xcr0 = xgetbv0();
    bool fma_f16c = BIT(c, 12) && BIT(c, 29);
    if ((xcr0 & XCR0_AVX) != XCR0_AVX || !fma_f16c) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !BIT(b, 5)) return 0;
    uint32_t caps = CAP_AVX2;
    if (a >= 1) {
        uint32_t b71, c71, d71;
        __cpuid_count(7, 1, a71, b71, c71, d71);
    }
    if (BIT(a71, 4)) caps |= CAP_AVX_VNNI;
    if ((xcr0 & XCR0_AVX512) == XCR0_AVX512) caps |= caps_avx512(b, c, a71);
    if ((caps & CAP_AVX512) && (xcr0 & XCR0_AMX) == XCR0_AMX) caps |= caps_amx(d);
    return caps;
}

static pthread_once_t caps_once = PTHREAD_ONCE_INIT;
static uint32_t caps_found; /* [const] after caps_once */

static void caps_set(void) { caps_found = find_caps(); }

uint32_t kern_caps(void) {
    pthread_once(&caps_once, caps_set);
    return caps_found;
}
