/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ask.h"

#include "cli/cli.h"

Status cli_ask_open(CliAsk *a, const char *path, int64_t threads, Err *e) {
    *a = (CliAsk){0};
    pthread_mutex_init(&a->mu, NULL);
    pthread_cond_init(&a->over, NULL);
    return cli_model_open(&a->m, path, (DeviceOpts){.n_threads = cli_threads(threads)}, e);
}

void cli_ask_close(CliAsk *a) {
    engine_free(a->en);
    cli_model_close(&a->m);
    pthread_cond_destroy(&a->over);
    pthread_mutex_destroy(&a->mu);
}

Status cli_ask_start(CliAsk *a, int n, int longest, int n_blocks, Err *e) {
    const ModelConfig *c = &a->m.m->cfg;
    char need[32], have[32];
    size_t bytes = 0;
    if (longest > c->ctx)
        return err_set(e, ERR_ARG, "a text of %d tokens, the model's context has %d", longest,
                       c->ctx);
    EngineOpts o = {.max_seqs = MIN(n, CLI_ASK_SEQS),
                    .max_ctx = MAX(longest, 2),
                    .n_blocks = n_blocks,
                    .max_queue = n,
                    .max_queue_tok = INT64_MAX,
                    .itl_target_ms = 1000,
                    .tok = a->m.tok};
    TRY(engine_plan_bytes(&bytes, c, &o, e));
    if (bytes > mem_limit_bytes())
        return err_set(e, ERR_NOMEM, "texts of %d tokens take %s, this machine has %s", longest,
                       cli_bytes(need, (double)bytes), cli_bytes(have, (double)mem_limit_bytes()));
    return engine_new(&a->en, a->m.m, &o, e);
}

void cli_ask_done(void *ctx, FinishReason why, const Err *e) {
    CliAsk *a = *(CliAsk **)ctx;
    pthread_mutex_lock(&a->mu);
    if (why == FINISH_ERROR && e && a->err.code == OK) a->err = *e;
    a->n_over++;
    pthread_cond_signal(&a->over);
    pthread_mutex_unlock(&a->mu);
}

Status cli_ask_wait(CliAsk *a, int n, Err *e) {
    pthread_mutex_lock(&a->mu);
    while (a->n_over < n) pthread_cond_wait(&a->over, &a->mu);
    pthread_mutex_unlock(&a->mu);
    if (a->err.code == OK) return OK;
    *e = a->err;
    return a->err.code;
}
