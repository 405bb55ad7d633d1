/* SPDX-License-Identifier: Apache-2.0
 * The step-time estimate against machines whose times are known. */
#include "base/rng.h"
#include "engine/pace.h"

#include <math.h>
#include "test.h"

/* fixed seconds, seconds a row, attention a token of context in rows. */
typedef struct Machine {
    double fixed, row, ctx;
} Machine;

static double takes(const Machine *m, int n, int from) {
    return m->fixed + m->row * n * (1.0 + m->ctx * (from + 0.5 * n));
}

static Pace pace_for(const Machine *m) {
    Pace p;
    pace_init(&p, 2.0, m->ctx); /* an operation of attention costs two */
    return p;
}

TEST(learns_a_machine_and_keeps_the_limit) {
    static const Machine all[] = {{0.05, 0.002, 0},
                                  {0, 0.01, 1e-4},
                                  {0.2, 1e-4, 1e-3},
                                  {1e-4, 1e-5, 1e-5}};
    for (size_t k = 0; k < COUNT_OF(all); k++) {
        const Machine *m = &all[k];
        Pace p = pace_for(m);
        double limit = 2 * m->fixed + 50 * m->row, worst = 0;
        for (int step = 0; step < 40; step++) {
            int from = step * 20 % 1000, n = pace_rows(&p, 0, from, limit, 512);
            double t = takes(m, n, from);
            pace_observe(&p, pace_work(&p, n, from), t);
            if (step >= 3) worst = fmax(worst, t / limit);
        }
        if (worst > 1.6) FAIL("machine %d: %.2f of the limit", (int)k, worst);
    }
}

TEST(never_less_than_a_row_nor_more_than_asked) {
    Machine m = {0.5, 0.1, 0};
    Pace p = pace_for(&m);
    EQ(pace_rows(&p, 0, 0, 0.1, 256), 32); /* nothing known */
    EQ(pace_rows(&p, 0, 0, 0.1, 5), 5);
    for (int i = 1; i < 20; i++) pace_observe(&p, pace_work(&p, i, 0), takes(&m, i, 0));
    EQ(pace_rows(&p, 1, 0, 1e-9, 256), 3); /* half as long again as without it */
    EQ(pace_rows(&p, 0, 0, 1e9, 256), 256);
    NEAR(pace_predict(&p, 10), 1.5, 0.01);
    /* eight streams take 1.3 s, more than the target: the prompt has a third of the step */
    int n = pace_rows(&p, 8, 0, 0.1, 256);
    EQ(n, 6);
}

TEST(a_stall_is_not_believed) {
    Machine m = {0.01, 0.001, 0};
    Pace p = pace_for(&m);
    for (int i = 0; i < 50; i++) {
        int n = 10 + i % 40;
        pace_observe(&p, n, takes(&m, n, 0));
    }
    int before = pace_rows(&p, 0, 0, 0.06, 512);
    NEAR(before, 50, 1);
    pace_observe(&p, 30, 20.0);
    TRUE_(pace_rows(&p, 0, 0, 0.06, 512) > before / 3);
    for (int i = 0; i < 40; i++) pace_observe(&p, 10 + i % 40, takes(&m, 10 + i % 40, 0));
    NEAR(pace_rows(&p, 0, 0, 0.06, 512), 50, 3);
    pace_observe(&p, 0, 1); /* not samples */
    pace_observe(&p, 1, -1);
    NEAR(pace_rows(&p, 0, 0, 0.06, 512), 50, 3);
}

/* Steps of nearly the same work on a busy machine: what differs is noise, and a line through it may be flat. A prompt
 * was then given hundreds of rows at once, and streams were silent for over a second. */
TEST(noise_gives_no_license) {
    for (uint64_t seed = 0; seed < 20; seed++) {
        Pace p;
        pace_init(&p, 1.0, 0.0);
        double longest = 0.0, total = 0.0;
        for (int i = 0; i < 12; i++) pace_observe(&p, 256, 0.04 + 0.005 * 256); /* a prompt alone */
        for (uint64_t i = 0; i < 2000; i++) {
            int rows = i < 10 ? 0 : pace_rows(&p, 8, 0, 0.1, 256);
            double truth = 0.04 + 0.005 * (8 + rows);
            double slow = rng_uniform(seed, 1, i) < 0.2 ? 2.0 : 0.9 + 0.2 * rng_uniform(seed, 2, i);
            pace_observe(&p, 8 + rows, truth * slow);
            longest = MAX(longest, truth);
            total += rows;
        }
        if (longest > 0.2) FAIL("seed %d: a step of %g s", (int)seed, longest);
        TRUE_(total / 2000 > 2.0); /* and it does get on: 4 rows fit without noise */
    }
}

/* A prompt beside a stream got a row a step for ever: all steps had two rows, and their fixed cost was taken for that
 * of the rows. */
TEST(steps_that_are_alike_are_not_believed) {
    Pace p;
    int rows = 0, n = 0;
    pace_init(&p, 1.0, 0.0);
    pace_observe(&p, 2, 0.012 + 2e-5 * 2);
    for (; n < 20 && rows < 100; n++) {
        rows = pace_rows(&p, 1, 0, 0.004, 256);
        pace_observe(&p, 1 + rows, 0.012 + 2e-5 * (1 + rows));
    }
    TRUE_(rows >= 100 && n < 10);
    for (int i = 0; i < 100; i++)
        pace_observe(&p, 8, 0.08); /* and where rows do cost what they seem */
    EQ(pace_rows(&p, 8, 0, 0.01, 256), 9);
    pace_observe(&p, 17, 0.17);
    EQ(pace_rows(&p, 8, 0, 0.01, 256), 4);
    EQ(pace_rows(&p, 8, 0, 0.01, 2), 2);
}
