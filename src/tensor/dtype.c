/* SPDX-License-Identifier: Apache-2.0
 * The table of element types. */
#include "tensor/dtype.h"

#include <string.h>

#include "tensor/half.h"

static const DTypeInfo dtype_table[DT_COUNT] = {
    [DT_F32] = {"f32", 1, 4, false},      [DT_F16] = {"f16", 1, 2, false},
    [DT_BF16] = {"bf16", 1, 2, false},    [DT_Q4_0] = {"q4_0", 32, 18, true},
    [DT_Q4_1] = {"q4_1", 32, 20, true},   [DT_Q5_0] = {"q5_0", 32, 22, true},
    [DT_Q5_1] = {"q5_1", 32, 24, true},   [DT_Q8_0] = {"q8_0", 32, 34, true},
    [DT_Q4_K] = {"q4_K", 256, 144, true}, [DT_Q5_K] = {"q5_K", 256, 176, true},
    [DT_Q6_K] = {"q6_K", 256, 210, true},
};

const DTypeInfo *dtype_info(uint32_t type) {
    if (type >= DT_COUNT || !dtype_table[type].name) return NULL;
    return &dtype_table[type];
}

const char *dtype_foreign_name(uint32_t type) {
    static const char *const names[] = {
        [9] = "q8_1",    [10] = "q2_K",    [11] = "q3_K",  [15] = "q8_K",   [16] = "iq2_xxs",
        [17] = "iq2_xs", [18] = "iq3_xxs", [19] = "iq1_s", [20] = "iq4_nl", [21] = "iq3_s",
        [22] = "iq2_s",  [23] = "iq4_xs",  [24] = "i8",    [25] = "i16",    [26] = "i32",
        [27] = "i64",    [28] = "f64",     [29] = "iq1_m", [34] = "tq1_0",  [35] = "tq2_0",
        [39] = "mxfp4",
    };
    return type < COUNT_OF(names) ? names[type] : NULL;
}

bool dtype_from_name(DType *out, const char *name) {
    if (strcmp(name, "int8") == 0) name = "q8_0";
    if (strcmp(name, "int4") == 0) name = "q4_0";
    for (uint32_t t = 0; t < DT_COUNT; t++) {
        if (!dtype_table[t].name || strcmp(dtype_table[t].name, name) != 0) continue;
        *out = (DType)t;
        return true;
    }
    return false;
}

bool dtype_widen(float *out, DType t, const void *x, size_t n) {
    if (t != DT_F16 && t != DT_BF16) return false;
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)x + 2 * i, sizeof h);
        out[i] = t == DT_F16 ? half_f16_to_f32(h) : half_bf16_to_f32(h);
    }
    return true;
}
