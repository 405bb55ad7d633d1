/* SPDX-License-Identifier: Apache-2.0
 * Loading, making, copying and saving models with the n-th allocation or the n-th I/O call failing: words
 * each time, no leak, and an older file of that name stays whole. */
#include "base/fault.h"
#include "base/mem.h"
#include "unit/model/edit.h"

typedef Status (*Step)(Device *d, Err *e);

/* Calls step with the n-th fault armed until it does not go off; every failure is looked at. */
static void sweep(FaultKind kind, const char *what, Device *d, Step step, int at_least) {
    Err first = {0};
    int n_failed = 0;
    EQ(step(d, &first), OK); /* what is made once and kept is made here */
    size_t live = mem_live_bytes();
    for (uint64_t n = 1;; n++) {
        Err e = {0};
        fault_arm(kind, n);
        Status st = step(d, &e);
        bool fired = fault_fired(kind);
        fault_arm(kind, 0);
        if (mem_live_bytes() != live)
            FAIL("%s, n = %llu: %zu bytes held, %zu before", what, (unsigned long long)n,
                 mem_live_bytes(), live);
        if (!fired) {
            EQ(st, OK);
            break;
        }
        if (st == OK) FAIL("%s, n = %llu: the fault went unnoticed", what, (unsigned long long)n);
        if (!e.msg[0] || strchr(e.msg, '\n'))
            FAIL("%s, n = %llu: words \"%s\"", what, (unsigned long long)n, e.msg);
        EQ(st, kind == FAULT_ALLOC ? ERR_NOMEM : ERR_IO);
        n_failed++;
    }
    if (n_failed < at_least) FAIL("%s: only %d faults", what, n_failed);
}

static Status step_load(Device *d, Err *e) {
    Model *m = NULL;
    static const int32_t ids[] = {1, 2, 3};
    Status st = model_load(&m, d, UNTIED, e);
    if (st != OK) TRUE_(m == NULL);
    if (st == OK) st = edit_forward(m, ids, 3, NULL, e);
    model_free(m);
    return st;
}

TEST(loading_and_running) {
    Device *d = edit_device();
    sweep(FAULT_ALLOC, "load, alloc", d, step_load, 15);
    sweep(FAULT_IO, "load, io", d, step_load, 2);
    device_free(d);
}

static ModelConfig config;

static Status step_make(Device *d, Err *e) {
    Model *m = NULL;
    Gguf *g = NULL;
    const char *path = edit_path("m.gguf");
    Status st = model_new(&m, d, &config, e);
    if (st == OK) st = model_init(m, 1, e);
    if (st == OK) st = gguf_open(&g, UNTIED, e);
    if (st == OK) st = model_copy_from(m, g, e);
    if (st == OK) st = model_save(m, path, NULL, NULL, e);
    gguf_close(g);
    model_free(m);
    return st;
}

/* After each failure the file of the first, good round is there, and none beside it. */
static Status step_make_and_look(Device *d, Err *e) {
    Status st = step_make(d, e);
    if (st == OK) return OK;
    fault_arm(FAULT_ALLOC, 0);
    fault_arm(FAULT_IO, 0);
    Model *m = NULL;
    OK_(model_load(&m, d, edit_path("m.gguf"), TERR));
    model_free(m);
    FALSE_(io_exists(edit_path("m.gguf.tmp")));
    return st;
}

TEST(making_and_saving) {
    Device *d = edit_device();
    Gguf *g = NULL;
    OK_(gguf_open(&g, UNTIED, TERR));
    OK_(model_read_config(&config, g, TERR));
    gguf_close(g);
    sweep(FAULT_ALLOC, "make, alloc", d, step_make_and_look, 15);
    sweep(FAULT_IO, "make, io", d, step_make_and_look, 5);
    device_free(d);
}

static Status step_device(Device *unused, Err *e) {
    Device *d = NULL;
    (void)unused;
    Status st = device_cpu_new(&d, &(DeviceOpts){.n_threads = 3}, e);
    device_free(d);
    return st;
}

TEST(starting_a_device) { sweep(FAULT_ALLOC, "device", NULL, step_device, 5); }

static Status step_buffers(Device *d, Err *e) {
    Buf *a = d->ops->buf_new(d, 100), *b = d->ops->buf_wrap(d, "abcd", 4);
    KvStore *kv = d->ops->kv_new(d, DT_F16, 2, 3, 1, 8);
    Status st = a && b && kv ? OK : err_set(e, ERR_NOMEM, "no buffer");
    d->ops->buf_free(d, a);
    d->ops->buf_free(d, b);
    d->ops->kv_free(d, kv);
    return st;
}

TEST(buffers) {
    Device *d = edit_device();
    sweep(FAULT_ALLOC, "buffers", d, step_buffers, 5);
    device_free(d);
}
