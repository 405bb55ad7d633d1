/* SPDX-License-Identifier: Apache-2.0
 * Norm of the heads of q and k, forward and backward: the row norms of the kernel table, head by head inside
 * rows of qkv. As in cpu_elem.c, tiles are cut by shape and their weight gradients are summed in order. */
#include "device/internal.h"

enum { MOST_HD = 512 }; /* a head's gradient is moved aside on the stack */

typedef struct QkJob {
    CpuDevice *d;
    const QkNormArgs *a;
    int n;       /* heads of q and k together */
    int rows;    /* of a tile of the backward */
    int n_tiles; /* of the backward */
} QkJob;

static QkJob job_of(Device *d, const QkNormArgs *a) {
    assert(a->hd <= MOST_HD);
    return (QkJob){.d = cpu_of(d), .a = a, .n = a->nh + a->nkv};
}

/* Head h of row t: heads of q, then of k, stand side by side at the row's start. */
static float *head_of(const QkJob *j, BufAt qkv, int t, int h) {
    size_t ld = (size_t)(j->a->nh + 2 * j->a->nkv);
    return cpu_ptr(qkv) + ((size_t)t * ld + (size_t)h) * (size_t)j->a->hd;
}

static void norm_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    QkJob *j = ctx;
    const QkNormArgs *a = j->a;
    size_t row = (size_t)j->n * (size_t)a->hd;
    int t0 = (int)tile * CPU_ROW_CHUNK, t1 = MIN(a->T, t0 + CPU_ROW_CHUNK);
    for (int t = t0; t < t1; t++) {
        float own, *stat = a->stat.buf ? cpu_ptr(a->stat) + (size_t)t * (size_t)j->n : NULL;
        if (a->raw.buf)
            memcpy(cpu_ptr(a->raw) + (size_t)t * row, head_of(j, a->qkv, t, 0),
                   row * sizeof(float));
        for (int h = 0; h < j->n; h++) {
            float *x = head_of(j, a->qkv, t, h);
            j->d->kern.rmsnorm(x, stat ? stat + h : &own, x, cpu_ptr(h < a->nh ? a->wq : a->wk),
                               a->hd, a->eps);
        }
    }
}

void cpu__qk_norm(Device *d, const QkNormArgs *a) {
    QkJob j = job_of(d, a);
    cpu__for(j.d, (size_t)a->T, CPU_ROW_CHUNK, norm_task, &j);
}

/* The kernel adds to dx and reads dy: the head's gradient moves aside and its place is cleared. */
static void norm_bwd_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    QkJob *j = ctx;
    const QkNormArgs *a = j->a;
    size_t hd = (size_t)a->hd;
    float dy[MOST_HD], *dw = (float *)(void *)j->d->shared + (size_t)tile * 2 * hd;
    memset(dw, 0, 2 * hd * sizeof *dw);
    int t0 = (int)tile * j->rows, t1 = MIN(a->T, t0 + j->rows);
    for (int t = t0; t < t1; t++)
        for (int h = 0; h < j->n; h++) {
            bool is_k = h >= a->nh;
            size_t at = (size_t)t * (size_t)j->n + (size_t)h;
            float *dx = head_of(j, a->dqkv, t, h);
            memcpy(dy, dx, hd * sizeof *dy);
            memset(dx, 0, hd * sizeof *dx);
            j->d->kern.rmsnorm_bwd(dx, is_k ? dw + hd : dw, dy, cpu_ptr(a->raw) + at * hd,
                                   cpu_ptr(is_k ? a->wk : a->wq), cpu_ptr(a->stat)[at], a->hd);
        }
}

static void sum_tiles(const QkJob *j) {
    size_t hd = (size_t)j->a->hd;
    const float *part = (const float *)(const void *)j->d->shared;
    for (int i = 0; i < j->n_tiles; i++, part += 2 * hd) {
        j->d->kern.add(cpu_ptr(j->a->dwq), part, hd);
        j->d->kern.add(cpu_ptr(j->a->dwk), part + hd, hd);
    }
}

void cpu__qk_norm_bwd(Device *d, const QkNormArgs *a) {
    QkJob j = job_of(d, a);
    j.rows = MAX(CPU_ROW_CHUNK, (a->T + 255) / 256);
    j.n_tiles = (a->T + j.rows - 1) / j.rows;
    cpu__for(j.d, (size_t)a->T, (size_t)j.rows, norm_bwd_task, &j);
    if (j.d->failed.code == OK) sum_tiles(&j);
}
