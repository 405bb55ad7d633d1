/* SPDX-License-Identifier: Apache-2.0
 * Weights in the CPU's own layout (kernel/packed.h) and their products with rounded rows: exact integers, scaled
 * and added in one order. A row's bits depend on nothing beside it, so this is one class of product for any number
 * of rows.
 *
 * The rows of x are rounded once into the shared memory, in tiles of up to PACK_M; tasks are groups of weight rows,
 * each of which is read once and meets all tiles while it is near. */
#include "device/internal.h"
#include "kernel/packed.h"

enum {
    MOST_GROUPS = 16,      /* of a task: memory is read faster in long pieces, */
    THREAD_TASKS = 4,      /* but of about so many for each thread, the last one is waited for */
    SERIAL_ROUND = 1 << 12 /* up to so many numbers are rounded by the caller */
};

struct Pack {
    char *p; /* borrowed */
    size_t n_bytes, group_bytes;
    const char *next; /* what was multiplied after this one last time; may be gone */
    size_t next_bytes;
};

static int n_groups(const CpuDevice *c, const Weight *w) {
    return (w->rows + c->kern.pack_rows - 1) / c->kern.pack_rows;
}

static void pack_group(const CpuDevice *c, char *dst, const Weight *w, int g) {
    int R = c->kern.pack_rows;
    size_t row = dtype_bytes(w->type, (size_t)w->cols);
    c->kern.pack[w->type](dst, w->buf->p + w->off_bytes + (size_t)(g * R) * row, row,
                          MIN(R, w->rows - g * R), w->cols, R);
}

/* ---- making ---- */

typedef struct PackJob {
    CpuDevice *d;
    const Weight *w;
    Pack *p;
} PackJob;

static void pack_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    const PackJob *j = ctx;
    pack_group(j->d, j->p->p + (size_t)tile * j->p->group_bytes, j->w, (int)tile);
}

size_t cpu__pack_bytes(const Device *d, const Weight *w) {
    const CpuDevice *c = (const CpuDevice *)d;
    if (c->no_pack || pack_kind(w->type).bits == 0) return 0;
    return (size_t)n_groups(c, w) * pack_group_bytes(w->type, c->kern.pack_rows, w->cols);
}

Pack *cpu__pack_new(Device *d, const Weight *w, BufAt room) {
    CpuDevice *c = cpu_of(d);
    Pack *p = mem_new(Pack);
    if (!p) return NULL;
    p->n_bytes = cpu__pack_bytes(d, w);
    p->group_bytes = pack_group_bytes(w->type, c->kern.pack_rows, w->cols);
    p->p = (char *)cpu_ptr(room);
    assert((room.off * sizeof(float)) % 64 == 0 &&
           room.off * sizeof(float) + p->n_bytes <= room.buf->n_bytes);
    cpu__for(c, (size_t)n_groups(c, w), 1, pack_task, &(PackJob){c, w, p});
    return p;
}

void cpu__pack_free(Device *d, Pack *p) {
    CpuDevice *c = cpu_of(d);
    if (!p) return;
    if (c->last_pack == p) c->last_pack = NULL;
    mem_free(p);
}

const char *cpu__pack_group(const Weight *w, int g) {
    return w->pack->p + (size_t)g * w->pack->group_bytes;
}

/* ---- products ---- */

typedef struct Product {
    CpuDevice *d;
    const LinearArgs *a;
    int t0, T;    /* rows of this round */
    int n_groups; /* of a task */
} Product;

/* Rows that one call of the kernel takes: m from `row` on, the first `twice` of which were in the tile before, too. */
typedef struct Tile {
    int row, m, twice;
} Tile;

/* The tile of row t of T, and of what follows. A last one of seven or three rows is made with a row of the tile before
 * it, since a tile of eight takes less time than those of four, two and one. */
static Tile tile_at(int t, int T) {
    int m = PACK_M, left = T - t;
    if (left >= m) return (Tile){t, m, 0};
    if (t > 0 && (left == 7 || left == 3)) return (Tile){t - 1, left + 1, 1};
    while (m > left) m /= 2;
    return (Tile){t, m, 0};
}

/* Where the rounded rows of the tile of row t are. */
static char *rounded(const Product *p, int t) {
    return p->d->shared + pack_x_bytes(t, p->a->w.cols);
}

static void round_task(void *ctx, int64_t tile, int worker) {
    (void)worker;
    const Product *p = ctx;
    const LinearArgs *a = p->a;
    int t = (int)tile * PACK_M, end = MIN(p->T, t + PACK_M);
    for (Tile s; t < end; t = s.row + s.m) {
        s = tile_at(t, p->T);
        p->d->kern.round_x(rounded(p, t), cpu_ptr(a->x) + (size_t)(p->t0 + s.row) * a->ldx, a->ldx,
                           s.m, a->w.cols, a->w.type);
    }
}

/* Rows of a tile of the product, columns [n, n + nn): out[m][nn], if any, is added to y, then the bias is, and what is
 * made of the sum. */
static void finish(const Product *p, const float *out, Tile s, int n, int nn) {
    const LinearArgs *a = p->a;
    const float *bias = cpu_ptr(a->bias);
    for (int i = out ? s.twice : 0; i < s.m; i++) {
        int t = p->t0 + s.row + i;
        float *y = cpu_ptr(a->y) + (size_t)t * a->ldy + n;
        if (out) p->d->kern.add(y, out + (size_t)i * (size_t)nn, (size_t)nn);
        if (bias) p->d->kern.add(y, bias + n, (size_t)nn);
        if (a->act) cpu__act_part(p->d, a, t, (size_t)n, (size_t)nn);
    }
}

/* The part of the gate that the activation of these rows and columns takes: its lines are far apart, and the product
 * takes longer than memory. Inlined, for gcc takes calls of functions that only prefetch for ones without effect. */
static ALWAYS_INLINE void ask_for_gate(const LinearArgs *a, int t, int m, int n, int nn) {
    for (int i = t; i < t + m; i++) {
        const float *gate = cpu_ptr(a->gate) + (size_t)i * a->ldg + n;
        for (int c = 0; c < nn; c += 64 / (int)sizeof *gate) __builtin_prefetch(gate + c);
    }
}

/* All rows times `count` groups from g on, which lie at `groups`. */
static void run_groups(const Product *p, const char *groups, int g, int count) {
    const LinearArgs *a = p->a;
    const Kern *k = &p->d->kern;
    int R = k->pack_rows, n = g * R, nn = MIN(count * R, a->w.rows - n);
    float out[PACK_M * MOST_GROUPS * 16];
    Tile s;
    for (int t = 0; t < p->T; t = s.row + s.m) {
        s = tile_at(t, p->T);
        float *y = cpu_ptr(a->y) + (size_t)(p->t0 + s.row) * a->ldy + n;
        if (a->gate.buf) ask_for_gate(a, p->t0 + s.row, s.m, n, nn);
        k->packed_dot[a->w.type](a->add ? out : y, a->add ? (size_t)nn : a->ldy, groups,
                                 rounded(p, t), s.m, nn, a->w.cols);
        if (a->add || a->bias.buf || a->act) finish(p, a->add ? out : NULL, s, n, nn);
    }
}

static void product_task(void *ctx, int64_t tile, int worker) {
    const Product *p = ctx;
    const Weight *w = &p->a->w;
    int g = (int)tile * p->n_groups, end = MIN(g + p->n_groups, n_groups(p->d, w));
    int step =
        w->pack ? p->n_groups : 1; /* a tile of x, in the first cache, meets groups in the second */
    for (; g < end; g += step) {
        const char *groups = p->d->scratch[worker].p;
        if (w->pack) groups = cpu__pack_group(w, g);
        else pack_group(p->d, p->d->scratch[worker].p, w, g);
        run_groups(p, groups, g, MIN(step, end - g));
    }
}

/* What followed these weights last time is likely to follow them again. */
static void expect_next(CpuDevice *c, Pack *p) {
    if (!p) return;
    if (c->last_pack && c->last_pack != p) {
        c->last_pack->next = p->p;
        c->last_pack->next_bytes = p->n_bytes;
    }
    c->last_pack = p;
    team_soon(c->team, p->next, p->next_bytes);
}

static void round_rows(const Product *p) {
    if ((int64_t)p->T * p->a->w.cols > SERIAL_ROUND)
        cpu__for(p->d, (size_t)p->T, PACK_M, round_task, (void *)p);
    else
        for (int t = 0; t < p->T; t += PACK_M) round_task((void *)p, t / PACK_M, 0);
}

/* Whether x as rounded for one type serves the other. */
static bool same_rounding(DType a, DType b) {
    PackKind p = pack_kind(a), q = pack_kind(b);
    return p.bits > 0 && p.zero == q.zero && (p.bits == 6) == (q.bits == 6);
}

/* Groups of a task with T rows, of so many in all: an even number, for the kernels take them in pairs. With several
 * tiles of x half as many, which stay in the second cache meanwhile. */
static int task_groups(const CpuDevice *c, int groups, int T) {
    int half = T > PACK_M ? 2 : 1, tasks = half * THREAD_TASKS * team_size(c->team);
    int n = MIN(MOST_GROUPS / half, groups / tasks);
    return n > 1 ? ROUND_UP(n, 2) : 1;
}

void cpu__linear_packed(CpuDevice *c, const LinearArgs *a) {
    int most = (int)(CPU_SHARED_BYTES / pack_x_bytes(1, a->w.cols)) / PACK_M * PACK_M;
    int groups = n_groups(c, &a->w);
    Product p = {.d = c, .a = a, .n_groups = task_groups(c, groups, a->T)};
    if (!a->w.pack && !cpu__reserve(c, pack_group_bytes(a->w.type, c->kern.pack_rows, a->w.cols)))
        return;
    for (; p.t0 < a->T; p.t0 += p.T) {
        p.T = MIN(most, a->T - p.t0);
        if (!a->same_x || p.T < a->T || !same_rounding(c->rounded, a->w.type)) round_rows(&p);
        c->rounded = p.T == a->T ? a->w.type : DT_F32;
        expect_next(c, a->w.pack);
        cpu__for(c, (size_t)groups, (size_t)p.n_groups, product_task, &p);
    }
}
