/* SPDX-License-Identifier: Apache-2.0
 * The slot table and the choice of a level. */
#include "common.h"

/* Representation of a function pointer of any type. */
static bool is_null(const Kern *k, const KernSlot *s) {
    static const char zero[sizeof(void (*)(void))];
    return memcmp((const char *)k + s->offset, zero, sizeof zero) == 0;
}

TEST(every_slot_is_filled_at_every_level) {
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (!kt_level(l)) continue;
        int n;
        const KernSlot *s = kern_slots(&n);
        for (int i = 0; i < n; i++) {
            if (strcmp(s[i].name, "gemm_bf16") == 0) continue; /* needs its instructions */
            if (is_null(&kt, &s[i]))
                FAIL("level %s lacks %s", kern_level_name(kt.level), s[i].name);
            TRUE_(kern_slot_level(&kt, &s[i]) <= kt.level);
        }
    }
}

/* A pointer that was forgotten in the slot list would never be tested. */
TEST(every_pointer_of_the_table_is_a_slot) {
    Kern k = kt_ref();
    int n;
    const KernSlot *s = kern_slots(&n);
    size_t from = offsetof(Kern, to_f32), words = 0, in_cores = 0;
    for (size_t at = from; at + sizeof(void *) <= sizeof k; at += sizeof(void *)) {
        void *p;
        memcpy(&p, (const char *)&k + at, sizeof p);
        bool in_core = at >= offsetof(Kern, gemm_f32) && at < offsetof(Kern, dot);
        if (p && !in_core) words++;
        if (p && in_core) in_cores++;
    }
    TRUE_(in_cores > 0);
    EQ(words, n - 2); /* all but the two cores */
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < i; j++)
            TRUE_(s[i].offset != s[j].offset && strcmp(s[i].name, s[j].name));
    }
}

TEST(level_names) {
    CpuLevel level;
    for (int l = 0; l < CPU_LEVELS; l++) {
        TRUE_(kern_level_from_name(&level, kern_level_name((CpuLevel)l)));
        EQ(level, l);
    }
    FALSE_(kern_level_from_name(&level, "sse9"));
    FALSE_(kern_level_from_name(&level, ""));
}

TEST(best_level_follows_caps) {
    EQ(kern_best_level(0), CPU_REF);
    EQ(kern_best_level(CAP_AVX2), CPU_AVX2);
    EQ(kern_best_level(CAP_AVX512), CPU_REF);
    EQ(kern_best_level(CAP_AVX2 | CAP_AVX512), CPU_AVX512);
    EQ(kern_best_level(CAP_AVX2 | CAP_AVX512 | CAP_AMX_INT8), CPU_AVX512);
    EQ(kern_best_level(CAP_AVX2 | CAP_AVX512 | CAP_AMX_BF16), CPU_AMX);
}

TEST(init_takes_the_best_and_refuses_the_unknown) {
    Kern k;
    OK_(kern_init(&k, NULL, TERR));
    EQ(k.level, kern_best_level(kern_caps()));
    EQ(k.caps, kern_caps());
    FAILS(ERR_ARG, kern_init(&k, "quantum", TERR));
    for (int l = 0; l < CPU_LEVELS; l++) {
        if (l <= (int)kern_best_level(kern_caps())) continue;
        FAILS(ERR_UNSUPPORTED, kern_init(&k, kern_level_name((CpuLevel)l), TERR));
    }
}

TEST(slot_level_of_ref_is_ref) {
    Kern k = kt_ref();
    int n;
    const KernSlot *s = kern_slots(&n);
    for (int i = 0; i < n; i++) EQ(kern_slot_level(&k, &s[i]), CPU_REF);
}
