/* SPDX-License-Identifier: Apache-2.0
 * Every allocation and every I/O call of an export and of a merge fails once: the failure comes back with a message,
 * nothing stays allocated, and the folder or file is whole or not there. */
#include "quant/export.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"
#include "quant/convert.h"
#include "quant/merge.h"
#include "support/lora_build.h"
#include "support/tiny_model.h"
#include "test.h"

static char in[300], lora[300], out[300], tmp[320], again[300];

typedef Status (*Step)(Err *e);

static Status export_small(Err *e) {
    QuantExported st;
    QuantExportOpts o = {.type = QUANT_AS_STORED, .shard_bytes = 20000};
    return quant_export(&st, in, out, &o, e);
}

static Status replace(Err *e) {
    QuantExported st;
    QuantExportOpts o = {.type = DT_F32, .replace = true};
    return quant_export(&st, in, out, &o, e);
}

static Status merge(Err *e) {
    QuantMerged st;
    QuantMergeOpts o = {.type = DT_F16, .scale = 1, .n_threads = 2};
    return quant_merge(&st, in, lora, out, &o, e);
}

/* The folder, if there is one, can be read. */
static void look(void) {
    QuantConverted st;
    QuantConvertOpts o = {.type = "auto"};
    FALSE_(io_exists(tmp));
    if (io_exists(out)) OK_(quant_convert(&st, out, again, &o, TERR));
}

static void remove_folder(void) {
    DIR *d = opendir(out);
    if (!d) {
        unlink(out);
        return;
    }
    for (struct dirent *f; (f = readdir(d));)
        if (f->d_name[0] != '.') unlinkat(dirfd(d), f->d_name, 0);
    closedir(d);
    EQ(rmdir(out), 0);
}

static void sweep(FaultKind kind, Step step, bool fresh, bool is_folder, uint64_t at_least) {
    for (uint64_t n = 1; n < 5000; n++) {
        Err e = {0};
        if (fresh) remove_folder();
        size_t live = mem_live_bytes();
        fault_arm(kind, n);
        Status st = step(&e);
        bool fired = fault_fired(kind);
        fault_arm(kind, 0);
        EQ(mem_live_bytes(), live);
        if (is_folder) look();
        if (!fired) {
            EQ(st, OK);
            TRUE_(n > at_least);
            return;
        }
        /* threads that do not start are done without */
        if (st == OK ? is_folder : !e.msg[0])
            FAIL("fault %d: status %d, message \"%s\"", (int)n, (int)st, e.msg);
    }
    FAIL("no run without a fault in 5000");
}

static void set_paths(const char *name) {
    snprintf(in, sizeof in, "%s/%s.gguf", test_tmpdir(), name);
    snprintf(lora, sizeof lora, "%s/%s.lora", test_tmpdir(), name);
    snprintf(out, sizeof out, "%s/%s", test_tmpdir(), name);
    snprintf(tmp, sizeof tmp, "%s.tmp", out);
    snprintf(again, sizeof again, "%s/again.gguf", test_tmpdir());
}

static void make(const char *name) {
    QuantConverted st;
    char dir[300];
    set_paths(name);
    snprintf(dir, sizeof dir, "tests/golden/hf/%s", name);
    OK_(quant_convert(&st, dir, in, &(QuantConvertOpts){.type = "auto"}, TERR));
}

TEST(folders_with_faults) {
    make("llama");
    sweep(FAULT_ALLOC, export_small, true, true, 100);
    sweep(FAULT_IO, export_small, true, true, 30);
}

TEST(turned_matrices_with_faults) {
    make("gpt2");
    sweep(FAULT_ALLOC, replace, true, true, 100);
}

TEST(replaced_folders_with_faults) {
    make("qwen2");
    OK_(replace(TERR));
    sweep(FAULT_IO, replace, false, true, 30);
    TRUE_(io_exists(out));
}

TEST(merged_files_with_faults) {
    TinyModel t = tiny_model_new("llama", 60, 64, NULL, 3);
    set_paths("merge");
    OK_(model_save(t.m, in, NULL, NULL, TERR));
    lora_build_file(lora, t.m,
                    &(LoraSpec){.rank = 2, .alpha = 4, .no_embd = true, .no_output = true});
    tiny_model_free(&t);
    sweep(FAULT_ALLOC, merge, true, false, 20);
    sweep(FAULT_IO, merge, true, false, 10);
}
