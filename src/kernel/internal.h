/* SPDX-License-Identifier: Apache-2.0
 * The overlays, one per file of an instruction set's folder. Each replaces the slots it has. */
#ifndef INGOT_KERNEL_INTERNAL_H
#define INGOT_KERNEL_INTERNAL_H

#include "kernel/kernel.h"

void kern_fill_ref(Kern *k);
void kern_ref_gemm(Kern *k);
void kern_ref_gemv(Kern *k);
void kern_ref_packed(Kern *k);
void kern_ref_convert(Kern *k);
void kern_ref_quant(Kern *k);
void kern_ref_quant_k(Kern *k);
void kern_ref_quant_fit(Kern *k);
void kern_ref_elem(Kern *k);
void kern_ref_norm(Kern *k);
void kern_ref_softmax(Kern *k);
void kern_ref_logits(Kern *k);
void kern_ref_attn(Kern *k);
void kern_ref_optim(Kern *k);

void kern_fill_avx2(Kern *k);
void kern_avx2_gemm(Kern *k);
void kern_avx2_gemv(Kern *k);
void kern_avx2_packed(Kern *k);
void kern_avx2_convert(Kern *k);
void kern_avx2_quant(Kern *k);
void kern_avx2_quant_search(Kern *k);
void kern_avx2_quant_k(Kern *k);
void kern_avx2_elem(Kern *k);
void kern_avx2_norm(Kern *k);
void kern_avx2_softmax(Kern *k);
void kern_avx2_logits(Kern *k);
void kern_avx2_attn(Kern *k);
void kern_avx2_kv(Kern *k);
void kern_avx2_optim(Kern *k);

void kern_fill_avx512(Kern *k);
void kern_avx512_gemm(Kern *k);
void kern_avx512_gemv(Kern *k);
void kern_avx512_packed(Kern *k);
void kern_avx512_convert(Kern *k);
void kern_avx512_quant(Kern *k);
void kern_avx512_quant_search(Kern *k);
void kern_avx512_quant_k(Kern *k);
void kern_avx512_elem(Kern *k);
void kern_avx512_norm(Kern *k);
void kern_avx512_softmax(Kern *k);
void kern_avx512_logits(Kern *k);
void kern_avx512_attn(Kern *k);
void kern_avx512_kv(Kern *k);
void kern_avx512_optim(Kern *k);

void kern_avx512_gemm_bf16(Kern *k);   /* needs CAP_AVX512_BF16 */
void kern_avx2_packed_vnni(Kern *k);   /* needs CAP_AVX_VNNI */
void kern_avx512_packed_vnni(Kern *k); /* needs CAP_AVX512_VNNI */
void kern_amx_gemm(Kern *k);           /* needs CAP_AMX_BF16 */

#endif
