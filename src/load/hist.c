/* SPDX-License-Identifier: Apache-2.0 */
#include "load/hist.h"

#include <math.h>

#include "base/mem.h"

#define SUB_BITS 8
#define MOST (((uint64_t)1 << 48) - 1)

Status load_hist_init(LoadHist *h, Err *e) {
    *h = (LoadHist){.count = mem_new_n(uint64_t, LOAD_BUCKETS)};
    return h->count ? OK : err_set(e, ERR_NOMEM, "out of memory for a histogram");
}

void load_hist_deinit(LoadHist *h) {
    mem_free(h->count);
    *h = (LoadHist){0};
}

static size_t bucket_of(uint64_t v) {
    v = MIN(v, MOST);
    if (v < 1u << SUB_BITS) return (size_t)v;
    int top = 63 - __builtin_clzll(v), shift = top - SUB_BITS;
    return ((size_t)(shift + 1) << SUB_BITS) + (size_t)((v >> shift) & 255);
}

static int shift_of(size_t i) { return i < 1u << SUB_BITS ? 0 : (int)(i >> SUB_BITS) - 1; }

/* The least value of bucket i. */
static uint64_t low_of(size_t i) {
    if (i < 1u << SUB_BITS) return i;
    return ((uint64_t)256 + (i & 255)) << shift_of(i);
}

/* Middle of bucket i. */
static uint64_t value_of(size_t i) { return low_of(i) + ((((uint64_t)1 << shift_of(i)) - 1) >> 1); }

void load_hist_add(LoadHist *h, uint64_t v) {
    h->count[bucket_of(v)]++;
    h->min = h->n == 0 ? v : MIN(h->min, v);
    h->max = MAX(h->max, v);
    h->sum += (double)v;
    h->n++;
}

uint64_t load_hist_at(const LoadHist *h, double q) {
    if (h->n == 0) return 0;
    uint64_t rank = (uint64_t)ceil(q * (double)h->n - 1e-9), seen = 0;
    if (rank <= 1) return h->min;
    if (rank >= h->n) return h->max;
    for (size_t i = 0; i < LOAD_BUCKETS; i++) {
        seen += h->count[i];
        if (seen >= rank) return MAX(MIN(value_of(i), h->max), h->min);
    }
    return h->max;
}

double load_hist_mean(const LoadHist *h) { return h->n ? h->sum / (double)h->n : 0; }

int load_hist_bars(const LoadHist *h, LoadBar *out, int most) {
    if (h->n == 0) return 0;
    size_t k = bucket_of(h->min), end = bucket_of(h->max) + 1;
    double least = (double)low_of(k), knee = fmax((double)load_hist_at(h, 0.99), least);
    double even = (knee - least) / (most * 5 / 8),
           wide = (double)(low_of(end) - h->min) - (knee - least);
    int n = 0;
    wide = fmax(wide / (most / 8), even);
    while (k < end) {
        LoadBar bar = {.from = (double)low_of(k), .to = (double)low_of(k)};
        double width = bar.from < knee ? even : wide;
        for (; k < end && (bar.to <= bar.from || bar.to - bar.from < width); k++) {
            bar.n += h->count[k];
            bar.to = (double)low_of(k + 1);
        }
        bar.to = fmax(bar.to, bar.from + width); /* the last one: no spike for what is left over */
        out[n++] = bar;
    }
    return n;
}

uint64_t load_hist_below(const LoadHist *h, uint64_t ns) {
    uint64_t seen = 0;
    for (size_t i = 0, last = bucket_of(ns); h->count && i <= last; i++) seen += h->count[i];
    return seen;
}
