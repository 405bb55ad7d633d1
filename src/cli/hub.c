/* SPDX-License-Identifier: Apache-2.0
 * What pull and push share. */
#include "cli/hub.h"

#include <signal.h>
#include <stdio.h>

static void show(void *ctx, const char *step, uint64_t done, uint64_t total) {
    CliHubRun *r = ctx;
    if (r->step != step) {
        cli_hub_end(r);
        cli_bar_init(&r->bar, step, "MB", 1e-6, r->quiet);
        r->step = step;
    }
    cli_bar_count(&r->bar, done, total);
}

static void note(void *ctx, const char *line) {
    CliHubRun *r = ctx;
    if (r->quiet) return;
    if (r->step) cli_bar_finish(&r->bar);
    fprintf(stderr, "ingot: %s\n", line);
}

void cli_hub_end(CliHubRun *r) {
    if (r->step) cli_bar_finish(&r->bar);
    r->step = NULL;
}

Status cli_hub_opts(HubOpts *o, ConfigNet *env, const CliHub *c, CliHubRun *r, Err *e) {
    size_t piece = 0;
    if (c->piece) TRY(cli_size(&piece, "--piece", c->piece, e));
    if (c->piece && (piece < 1024 || piece > ((size_t)5 << 30)))
        return err_set(e, ERR_ARG, "--piece %.40s: must be from 1K to 5G", c->piece);
    signal(SIGXFSZ, SIG_IGN);
    config_load_net(env);
    *o = (HubOpts){.env = env,
                   .ca_file = c->cacert,
                   .connections = (int)c->connections,
                   .retries = (int)c->retries,
                   .connect_timeout_ms = (int)(c->connect_timeout * 1000),
                   .stall_timeout_ms = (int)(c->stall_timeout * 1000),
                   .piece_bytes = piece,
                   .progress = show,
                   .note = note,
                   .ctx = r,
                   .stop = cli_stop_flag()};
    return OK;
}
