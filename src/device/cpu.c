/* SPDX-License-Identifier: Apache-2.0
 * The CPU device: lifetime, memory, and the table of operations. The operations are in cpu_gemm.c (products),
 * cpu_attn.c (paged attention), cpu_attn_train.c (training attention) and cpu_elem.c (all the rest). */
#include <limits.h>
#include <stdio.h>

#include "device/internal.h"

enum { PACKED_ROWS = 16 };

bool cpu__reserve(CpuDevice *d, size_t n_bytes) {
    if (d->failed.code != OK) return false;
    for (int i = 0; i < team_size(d->team); i++) {
        CpuScratch *s = &d->scratch[i];
        if (s->n_bytes >= n_bytes) continue;
        char *p = mem_map_alloc(n_bytes);
        if (!p) {
            err_set(&d->failed, ERR_NOMEM, "device scratch of %zu bytes: out of memory", n_bytes);
            return false;
        }
        if (s->p) mem_map_free(s->p, s->n_bytes);
        *s = (CpuScratch){p, n_bytes};
    }
    return true;
}

void cpu__for(CpuDevice *d, size_t n, size_t step, TeamFn fn, void *ctx) {
    if (n == 0 || d->failed.code != OK) return;
    team_run(d->team, (int64_t)((n + step - 1) / step), fn, ctx);
}

static Buf *cpu_buf_new(Device *d, size_t n_bytes) {
    (void)d;
    Buf *b = mem_new(Buf);
    if (!b) return NULL;
    *b = (Buf){mem_map_alloc(n_bytes), n_bytes, false};
    if (b->p) return b;
    mem_free(b);
    return NULL;
}

static Buf *cpu_buf_wrap(Device *d, const void *host, size_t n_bytes) {
    (void)d;
    Buf *b = mem_new(Buf);
    if (b) *b = (Buf){(char *)(uintptr_t)host, n_bytes, true};
    return b;
}

static void cpu_buf_free(Device *d, Buf *b) {
    (void)d;
    if (!b) return;
    if (!b->wrapped) mem_map_free(b->p, b->n_bytes);
    mem_free(b);
}

static void cpu_upload(Device *d, BufAt dst, const void *src, size_t n_bytes) {
    (void)d;
    assert(!dst.buf->wrapped && dst.off * sizeof(float) + n_bytes <= dst.buf->n_bytes);
    memcpy(cpu_ptr(dst), src, n_bytes);
}

static void cpu_download(Device *d, void *dst, BufAt src, size_t n_bytes) {
    (void)d;
    assert(src.off * sizeof(float) + n_bytes <= src.buf->n_bytes);
    memcpy(dst, cpu_ptr(src), n_bytes);
}

static const void *cpu_view(Device *d, BufAt src, size_t n_bytes) {
    (void)d;
    assert(src.off * sizeof(float) + n_bytes <= src.buf->n_bytes);
    (void)n_bytes;
    return cpu_ptr(src);
}

static void cpu_copy(Device *d, BufAt dst, BufAt src, size_t n) {
    (void)d;
    memcpy(cpu_ptr(dst), cpu_ptr(src), n * sizeof(float));
}

static Status cpu_sync(Device *d, Err *e) {
    CpuDevice *c = cpu_of(d);
    if (c->failed.code == OK) return OK;
    return err_set(e, c->failed.code, "%s", c->failed.msg);
}

static DeviceHost cpu_host(Device *d) {
    CpuDevice *c = cpu_of(d);
    return (DeviceHost){.team = c->team, .kern = &c->kern};
}

static void cpu_free(Device *d) {
    CpuDevice *c = cpu_of(d);
    for (int i = 0; c->scratch && i < team_size(c->team); i++)
        if (c->scratch[i].p) mem_map_free(c->scratch[i].p, c->scratch[i].n_bytes);
    mem_free(c->scratch);
    if (c->shared) mem_map_free(c->shared, CPU_SHARED_BYTES);
    team_free(c->team);
    mem_free(c);
}

static const DeviceOps cpu_ops = {
    .name = "cpu",
    .free = cpu_free,
    .buf_new = cpu_buf_new,
    .buf_wrap = cpu_buf_wrap,
    .buf_free = cpu_buf_free,
    .pack_bytes = cpu__pack_bytes,
    .pack_new = cpu__pack_new,
    .pack_free = cpu__pack_free,
    .kv_new = cpu__kv_new,
    .kv_free = cpu__kv_free,
    .kv_warm = cpu__kv_warm,
    .kv_copy = cpu__kv_copy,
    .upload = cpu_upload,
    .download = cpu_download,
    .view = cpu_view,
    .copy = cpu_copy,
    .fill = cpu__fill,
    .add = cpu__add,
    .scale = cpu__scale,
    .dropout = cpu__dropout,
    .sum_sq = cpu__sum_sq,
    .rows = cpu__rows,
    .rows_bwd = cpu__rows_bwd,
    .norm = cpu__norm,
    .norm_bwd = cpu__norm_bwd,
    .linear = cpu__linear,
    .linear_t = cpu__linear_t,
    .linear_dw = cpu__linear_dw,
    .qk_norm = cpu__qk_norm,
    .qk_norm_bwd = cpu__qk_norm_bwd,
    .rope_kv = cpu__rope_kv,
    .attn = cpu__attn,
    .attn_train = cpu__attn_train,
    .attn_bwd = cpu__attn_bwd,
    .act = cpu__act,
    .act_bwd = cpu__act_bwd,
    .xent = cpu__xent,
    .adamw = cpu__adamw,
    .sync = cpu_sync,
    .host = cpu_host,
};

/* Tiles of bf16 beat products of integers where there are many rows; nothing else does. */
static void choose_wide(CpuDevice *c, const DeviceOpts *o) {
    bool tiles = c->kern.level == CPU_AMX && !o->batch_invariant;
    c->wide = tiles ? &c->kern.gemm_bf16 : c->core;
    c->packed_rows = tiles ? PACKED_ROWS : INT_MAX;
    c->no_pack = o->no_pack;
    c->invariant = o->batch_invariant;
}

Status device_cpu_new(Device **out, const DeviceOpts *o, Err *e) {
    CpuDevice *c = mem_new(CpuDevice);
    if (!c) return err_set(e, ERR_NOMEM, "device: out of memory");
    c->base.ops = &cpu_ops;
    Status st = team_new(&c->team, o->n_threads > 0 ? o->n_threads : team_default_size(), e);
    if (st != OK) goto done;
    st = kern_init(&c->kern, o->cpu, e);
    if (st != OK) goto done;
    c->core = o->bf16 && c->kern.gemm_bf16.tile ? &c->kern.gemm_bf16 : &c->kern.gemm_f32;
    c->gemv_rows = o->batch_invariant ? INT_MAX : cpu__gemv_rows(c->core);
    choose_wide(c, o);
    c->shared = mem_map_alloc(CPU_SHARED_BYTES);
    c->scratch = mem_new_n(CpuScratch, (size_t)team_size(c->team));
    if (!c->shared || !c->scratch) {
        st = err_set(e, ERR_NOMEM, "device: out of memory");
        goto done;
    }
    if (!cpu__reserve(c, MAX(cpu__gemm_scratch(c->core), cpu__gemm_scratch(c->wide)))) {
        st = err_set(e, c->failed.code, "%s", c->failed.msg);
        goto done;
    }
    *out = &c->base;
    c = NULL;
done:
    if (c) cpu_free(&c->base);
    return st;
}

const char *device_describe(const Device *d, char buf[96]) {
    const CpuDevice *c = (const CpuDevice *)d;
    snprintf(buf, 96, "cpu %s, %d thread%s, %s products", kern_level_name(c->kern.level),
             team_size(c->team), team_size(c->team) == 1 ? "" : "s",
             device_has_bf16(d) ? "bf16" : "f32");
    return buf;
}

bool device_has_bf16(const Device *d) {
    const CpuDevice *c = (const CpuDevice *)d;
    return c->core == &c->kern.gemm_bf16;
}

size_t device_scratch_bytes(const Device *d, int T, int hd) {
    const CpuDevice *c = (const CpuDevice *)d;
    size_t gemm = MAX(cpu__gemm_scratch(c->core), cpu__gemm_scratch(c->wide)),
           each = MAX(gemm, cpu__attn_scratch(c->core, T, hd));
    return CPU_SHARED_BYTES + (size_t)team_size(c->team) * each;
}
