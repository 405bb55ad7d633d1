/* SPDX-License-Identifier: Apache-2.0
 * Adapters on the command line: words to names and files, files to room and places in an engine. */
#include "cli/lora.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/model.h"

/* ---- words ---- */

/* Cut ":SCALE" off, if that is what stands behind the last colon. */
static void cut_scale(CliLora *l) {
    char *colon = strrchr(l->path, ':');
    if (!colon || !str_to_f64(&l->scale, colon + 1)) return;
    *colon = '\0';
}

/* The file's name without folders and ending. */
static Slice stem(const char *path) {
    const char *slash = strrchr(path, '/');
    Slice s = slice_of(slash ? slash + 1 : path);
    if (s.n > 5 && str_ends_with(s.p, ".gguf")) s.n -= 5;
    return s;
}

void cli_lora_stem(char *out, size_t n, const char *path) {
    Slice s = stem(path);
    snprintf(out, n, "%.*s", (int)MIN(s.n, n - 1), s.p);
}

static Status parse_one(CliLora *l, const char *word, Err *e) {
    const char *eq = strchr(word, '='), *slash = strchr(word, '/');
    bool named = eq && (!slash || eq < slash);
    l->scale = 1;
    l->path = mem_dup(named ? eq + 1 : word, strlen(named ? eq + 1 : word));
    if (!l->path) return err_set(e, ERR_NOMEM, "--lora");
    cut_scale(l);
    Slice name = named ? (Slice){word, (size_t)(eq - word)} : stem(l->path);
    if (l->path[0] == '\0') return err_set(e, ERR_ARG, "--lora %s: no file", word);
    if (name.n < 1 || name.n >= sizeof l->name)
        return err_set(e, ERR_ARG, "--lora %s: a name of %zu bytes, 1 to %d are possible", word,
                       name.n, ENGINE_ADAPTER_NAME - 1);
    if (!(l->scale >= -1e6 && l->scale <= 1e6))
        return err_set(e, ERR_ARG, "--lora %s: scale %g is outside -1e6 to 1e6", word, l->scale);
    memcpy(l->name, name.p, name.n);
    return OK;
}

Status cli_loras_parse(CliLoras *out, const OptList *words, Err *e) {
    if (words->n == 0) return OK;
    out->v = mem_new_n(CliLora, (size_t)words->n);
    if (!out->v) return err_set(e, ERR_NOMEM, "--lora");
    for (; out->n < words->n; out->n++) {
        CliLora *l = &out->v[out->n];
        Status st = parse_one(l, words->v[out->n], e);
        for (int i = 0; st == OK && i < out->n; i++)
            if (strcmp(out->v[i].name, l->name) == 0)
                st = err_set(e, ERR_ARG, "--lora: two adapters are named \"%s\"", l->name);
        if (st == OK) continue;
        out->n++;
        return st;
    }
    return OK;
}

void cli_loras_deinit(CliLoras *l) {
    for (int i = 0; i < l->n; i++) mem_free(l->v[i].path);
    mem_free(l->v);
    *l = (CliLoras){0};
}

/* ---- engines ---- */

static Status plan_one(CliLora *l, const ModelConfig *c, Err *e) {
    Gguf *g = NULL;
    TRY(gguf_open(&g, l->path, e));
    Status st = lora_read_info(&l->info, c, g, e);
    gguf_close(g);
    if (st != OK) err_in(e, l->path);
    return st;
}

Status cli_loras_plan(EngineOpts *o, CliLoras *l, const ModelConfig *c, Err *e) {
    for (int i = 0; i < l->n; i++) {
        TRY(cli_model_check_file(l->v[i].path, e));
        TRY(plan_one(&l->v[i], c, e));
        o->max_loras = l->n;
        o->max_lora_rank = MAX(o->max_lora_rank, l->v[i].info.rank);
        o->lora_bytes += l->v[i].info.n_bytes;
    }
    return OK;
}

Status cli_loras_load(Engine *en, const CliLoras *l, Err *e) {
    for (int i = 0; i < l->n; i++)
        TRY(engine_adapter_load(en, l->v[i].name, l->v[i].path, l->v[i].scale, e));
    return OK;
}
