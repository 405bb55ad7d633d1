/* SPDX-License-Identifier: Apache-2.0
 * The AVX-512 BF16 product core, its instructions emulated: see emulated.h. */
#ifdef __clang__
#include "test.h"
TEST(core_emulated) { SKIP("clang cannot change the target inside a file"); }
#else
#include "emulated.h"

#include "../../src/kernel/avx512/gemm_bf16.c"

TEST(core_emulated) {
    if (!machine_can_run_this()) SKIP("no AVX-512 to emulate it on");
    check_core(kern_avx512_gemm_bf16);
}
#endif
