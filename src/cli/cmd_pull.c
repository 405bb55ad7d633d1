/* SPDX-License-Identifier: Apache-2.0
 * ingot pull: files and folders from the Hugging Face hub, https servers, S3 stores (hub/hub.h). Here: options and
 * the report. */
#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "cli/hub.h"
#include "text/json.h"

typedef struct PullCmd {
    CliHub hub;
    const char *output, *sha256;
    OptList include, exclude, header;
    bool force, list;
} PullCmd;

#define AT(field) offsetof(PullCmd, field)
static const OptSpec opts[] = {
    {.key = "output",
     .letter = 'o',
     .type = OPT_STR,
     .offset = AT(output),
     .metavar = "PATH",
     .help = "the file to make, or the folder (default: the name of the source, here)"},
    {.key = "sha256",
     .type = OPT_STR,
     .offset = AT(sha256),
     .metavar = "HEX",
     .help = "what the one file has to have; the hub's own digests are checked without it"},
    {.key = "include",
     .type = OPT_LIST,
     .offset = AT(include),
     .metavar = "PATTERN",
     .help = "of a folder only what matches, instead of what a model needs: '*.json'"},
    {.key = "exclude",
     .type = OPT_LIST,
     .offset = AT(exclude),
     .metavar = "PATTERN",
     .help = "of a folder nothing that matches"},
    {.key = "list",
     .type = OPT_BOOL,
     .offset = AT(list),
     .help = "only print what would be pulled, with sizes and digests"},
    {.key = "force",
     .type = OPT_BOOL,
     .offset = AT(force),
     .help = "replace files that are there and differ"},
    {.key = "header",
     .type = OPT_LIST,
     .offset = AT(header),
     .metavar = "LINE",
     .help = "'Name: value' for an https source; not sent to hosts it redirects to"},
    CLI_HUB_OPTS(PullCmd, hub, "of one ranged request, such as 32M (default: by the size)"),
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot pull hf:OWNER/REPO[@REV][:FILE] | https://... | s3://BUCKET/KEY [options]",
    .about =
        "Fetches a model: of a repository of the Hugging Face hub the files that a model needs\n"
        "(settings, tokenizer, safetensors), or one file of it; FILE may be part of the name of\n"
        "a GGUF file, as Q4_K_M, or a pattern. An s3 key that ends in / is a folder.\n"
        "Several parts are fetched at a time. Sizes and sha256 (the hub's, --sha256, or a "
        "FILE.sha256\n"
        "beside the file) are checked, and a file appears under its name when it is whole. Until\n"
        "then there is NAME.part; after Ctrl-C, a kill or a lost connection the same command\n"
        "goes on from there. Read from the environment: HF_TOKEN, HF_ENDPOINT, HTTPS_PROXY,\n"
        "HTTP_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE, AWS_ACCESS_KEY_ID,\n"
        "AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL, AWS_PROFILE.\n"
        "\n"
        "examples:\n"
        "  ingot pull hf:Qwen/Qwen2.5-0.5B-Instruct\n"
        "  ingot pull hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:q4_k_m\n"
        "  ingot pull https://example.org/model.gguf -o models/\n"
        "  ingot pull s3://models/qwen/ -o qwen\n"
        "next:\n"
        "  ingot convert Qwen2.5-0.5B-Instruct qwen.gguf --type q8_0",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 1,
    .max_pos = 1,
};

/* Rows of --list, as text on standard output or into a JSON array. */
static void found(void *ctx, const char *name, int64_t size, const char *sha256) {
    CliHubRun *r = ctx;
    char buf[32];
    if (r->json) {
        jw_obj(r->json, NULL);
        jw_cstr(r->json, "name", name);
        if (size >= 0) jw_int(r->json, "bytes", size);
        if (sha256[0]) jw_cstr(r->json, "sha256", sha256);
        jw_end_obj(r->json);
        return;
    }
    printf("%10s  %-64s  %s\n", size < 0 ? "?" : cli_bytes(buf, (double)size), sha256, name);
}

static void put_report(JsonW *w, const char *source, const HubPulled *p, double seconds) {
    jw_cstr(w, "source", source);
    jw_cstr(w, "output", p->output);
    jw_int(w, "n_files", p->n_files);
    jw_int(w, "n_present", p->n_present);
    jw_int(w, "bytes", (int64_t)p->bytes);
    jw_int(w, "fetched", (int64_t)p->fetched);
    jw_int(w, "retries", p->n_retries);
    if (p->sha256[0]) jw_cstr(w, "sha256", p->sha256);
    jw_num(w, "seconds", seconds);
}

static int print_text(const PullCmd *c, const HubPulled *p, double seconds) {
    char a[32], b[32], span[24];
    if (c->list) return cli_flush_stdout();
    printf("%s: %d file%s of %s, ", p->output, p->n_files, p->n_files == 1 ? "" : "s",
           cli_bytes(a, (double)p->bytes));
    if (p->n_present == p->n_files) printf("there already\n");
    else
        printf("%s fetched in %s\n", cli_bytes(b, (double)p->fetched),
               clock_format_span(span, seconds));
    if (p->sha256[0]) printf("sha256: %s\n", p->sha256);
    return cli_flush_stdout();
}

static int pull(const PullCmd *c, const char *source) {
    Err e = {0};
    ConfigNet env;
    HubPulled out;
    CliHubRun r = {.quiet = c->hub.quiet || c->hub.json};
    StrBuf b = {0};
    JsonW w;
    HubPullOpts o = {.output = c->output,
                     .sha256 = c->sha256,
                     .include = c->include.v,
                     .n_include = c->include.n,
                     .exclude = c->exclude.v,
                     .n_exclude = c->exclude.n,
                     .headers = c->header.v,
                     .n_headers = c->header.n,
                     .force = c->force,
                     .list = c->list,
                     .found = found};
    jw_init(&w, &b);
    if (c->hub.json) {
        r.json = &w;
        jw_obj(&w, NULL);
        if (c->list) jw_arr(&w, "files");
    }
    double t0 = clock_now_s();
    Status st = cli_hub_opts(&o.hub, &env, &c->hub, &r, &e);
    if (st == OK) st = hub_pull(&out, source, &o, &e);
    cli_hub_end(&r);
    int rc = CLI_OK;
    if (st != OK) rc = cli_fail(&e);
    else if (!c->hub.json) rc = print_text(c, &out, clock_now_s() - t0);
    else {
        if (c->list) jw_end_arr(&w);
        put_report(&w, source, &out, clock_now_s() - t0);
        jw_end_obj(&w);
        rc = cli_print_json(&b);
    }
    sb_deinit(&b);
    return rc;
}

int cmd_pull(int argc, char **argv) {
    PullCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0) rc = pull(&c, a.pos.v[0]);
    cli_args_deinit(&a);
    return rc;
}
