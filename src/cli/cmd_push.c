/* SPDX-License-Identifier: Apache-2.0
 * ingot push: files and folders to S3 stores (hub/hub.h). Here: options and the report. */
#include <stdio.h>

#include "base/clock.h"
#include "cli/hub.h"

typedef struct PushCmd {
    CliHub hub;
    bool abort;
} PushCmd;

static const OptSpec opts[] = {
    {.key = "abort",
     .type = OPT_BOOL,
     .offset = offsetof(PushCmd, abort),
     .help = "give up an upload that was broken off: the store throws its parts away"},
    CLI_HUB_OPTS(PushCmd, hub, "of one part, at least 1M, S3 wants 5M (default 16M, or more)"),
};

static const CliSpec spec = {
    .usage = "ingot push FILE|DIR s3://BUCKET/PREFIX [options]",
    .about =
        "Sends a file or a folder to an S3 store. A PREFIX that ends in / is a folder: the file\n"
        "keeps its name below it; otherwise it is the name. Large files go in parts, several at a\n"
        "time, each checked by the store (sha256); after Ctrl-C, a kill or a lost connection the\n"
        "same command sends what is missing, --abort gives the upload up. Objects carry their\n"
        "sha256, by which ingot pull checks them and what is there already is not sent again.\n"
        "Hidden files and unfinished ones (NAME.part, NAME.push) stay here. Read from the\n"
        "environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION,\n"
        "AWS_ENDPOINT_URL (stores other than Amazon's: bucket in the path), AWS_PROFILE with\n"
        "~/.aws/credentials and ~/.aws/config, the proxies, SSL_CERT_FILE.\n"
        "\n"
        "example:\n"
        "  AWS_ENDPOINT_URL=https://minio.example.org ingot push qwen-q4.gguf s3://models/qwen/\n"
        "next:\n"
        "  ingot pull s3://models/qwen/qwen-q4.gguf",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 2,
    .max_pos = 2,
};

static int print_json(const char *path, const char *target, const HubPushed *p, double seconds) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "path", path);
    jw_cstr(&w, "target", target);
    jw_int(&w, "n_files", p->n_files);
    jw_int(&w, "n_present", p->n_present);
    jw_int(&w, "bytes", (int64_t)p->bytes);
    jw_int(&w, "sent", (int64_t)p->sent);
    jw_int(&w, "retries", p->n_retries);
    jw_num(&w, "seconds", seconds);
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static int print_text(const PushCmd *c, const char *target, const HubPushed *p, double seconds) {
    char a[32], b[32], span[24];
    if (c->abort) printf("%s: upload given up\n", target);
    else
        printf("%s: %d file%s of %s, %s sent in %s%s\n", target, p->n_files,
               p->n_files == 1 ? "" : "s", cli_bytes(a, (double)p->bytes),
               cli_bytes(b, (double)p->sent), clock_format_span(span, seconds),
               p->n_present == p->n_files ? ": there already" : "");
    return cli_flush_stdout();
}

static int push(const PushCmd *c, const char *path, const char *target) {
    Err e = {0};
    ConfigNet env;
    HubOpts o;
    HubPushed out;
    CliHubRun r = {.quiet = c->hub.quiet || c->hub.json};
    double t0 = clock_now_s();
    Status st = cli_hub_opts(&o, &env, &c->hub, &r, &e);
    if (st == OK) st = hub_push(&out, path, target, c->abort, &o, &e);
    cli_hub_end(&r);
    if (st != OK) return cli_fail(&e);
    double seconds = clock_now_s() - t0;
    return c->hub.json ? print_json(path, target, &out, seconds)
                       : print_text(c, target, &out, seconds);
}

int cmd_push(int argc, char **argv) {
    PushCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0) rc = push(&c, a.pos.v[0], a.pos.v[1]);
    cli_args_deinit(&a);
    return rc;
}
