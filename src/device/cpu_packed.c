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
    FEW_GROUPS = 8, /* groups of a task, at most */
    FEW_TASKS =
        16, /* and not more than leave so many tasks: the last one done alone is waited for */
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
    bool acts;    /* the activation is made where the product is */
} Product;

/* Rows that one call of the kernel takes: m from `row` on, the first `twice` of which were in the tile before, too. */
typedef struct Tile {
    int row, m, twice;
} Tile;

/* The tile of row t of T, and of what follows. A last one of seven or three rows is made with a row of the tile before
 * it, since a tile of eight takes less time than those of four, two and one. */
static Tile tile_at(int t, int T) {
    int m = PACK_M, left = T - t;
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
        if (p->acts) cpu__act_part(p->d, a, t, (size_t)n, (size_t)nn);
    }
}

/* All rows times `count` groups from g on, which lie at `groups`. */
static void run_groups(const Product *p, const char *groups, int g, int count) {
    const LinearArgs *a = p->a;
    const Kern *k = &p->d->kern;
    int R = k->pack_rows, n = g * R, nn = MIN(count * R, a->w.rows - n);
    float out[PACK_M * FEW_GROUPS * 16];
    Tile s;
    for (int t = 0; t < p->T; t = s.row + s.m) {
        s = tile_at(t, p->T);
        float *y = cpu_ptr(a->y) + (size_t)(p->t0 + s.row) * a->ldy + n;
        k->packed_dot[a->w.type](a->add ? out : y, a->add ? (size_t)nn : a->ldy, groups,
                                 rounded(p, t), s.m, nn, a->w.cols);
        if (a->add || a->bias.buf || p->acts) finish(p, a->add ? out : NULL, s, n, nn);
    }
}

static void product_task(void *ctx, int64_t tile, int worker) {
    const Product *p = ctx;
    const Weight *w = &p->a->w;
    int g = (int)tile * p->n_groups, end = MIN(g + p->n_groups, n_groups(p->d, w));
    int step = w->pack && p->T <= PACK_M ? p->n_groups : 1;
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

void cpu__linear_packed(CpuDevice *c, const LinearArgs *a) {
    int most = (int)(CPU_SHARED_BYTES / pack_x_bytes(1, a->w.cols)) / PACK_M * PACK_M;
    int groups = n_groups(c, &a->w);
    Product p = {.d = c, .a = a, .n_groups = MAX(1, MIN(FEW_GROUPS, groups / FEW_TASKS))};
    p.acts = a->act && a->T <= PACK_M; /* of more rows, columns are too few at a time */
    if (!a->w.pack && !cpu__reserve(c, pack_group_bytes(a->w.type, c->kern.pack_rows, a->w.cols)))
        return;
    for (; p.t0 < a->T; p.t0 += p.T) {
        p.T = MIN(most, a->T - p.t0);
        if ((int64_t)p.T * a->w.cols > SERIAL_ROUND)
            cpu__for(c, (size_t)p.T, PACK_M, round_task, &p);
        else
            for (int t = 0; t < p.T; t += PACK_M) round_task(&p, t / PACK_M, 0);
        expect_next(c, a->w.pack);
        cpu__for(c, (size_t)groups, (size_t)p.n_groups, product_task, &p);
    }
    if (a->act && !p.acts) cpu__act_all(c, a);
}
