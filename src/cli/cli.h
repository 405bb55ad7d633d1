/* SPDX-License-Identifier: Apache-2.0
 * The command line: one file per command, one row per command in main.c. Only this folder
 * prints, exits and reads argv. Exit codes: 0 success, 1 failure, 2 usage. Errors are one line
 * on standard error. */
#ifndef INGOT_CLI_CLI_H
#define INGOT_CLI_CLI_H

#include <stdatomic.h>

#include "base/config.h"
#include "base/opt.h"
#include "device/backend.h"

#define CLI_VERSION "0.1.0"

enum { CLI_OK = 0, CLI_FAIL = 1, CLI_USAGE = 2 };

/* What a command is, for its --help and for parsing. */
typedef struct CliSpec {
    const char *usage; /* "ingot collect DIR... -o docs.jsonl [options]" */
    const char *about; /* a few lines: what it does, an example, what to do next */
    const OptSpec *opts;
    int n_opts;
    int min_pos, max_pos; /* positional arguments; max_pos -1: any number */
    const OptAlias *also; /* other names of options */
    int n_also;
    const char
        *config; /* the option that names a YAML file; read first, then INGOT_* variables, then
                         * the words; NULL: words only */
} CliSpec;

/* A parsed command line. */
typedef struct CliArgs {
    OptSet *set;
    OptList pos;
} CliArgs;

/* One command: fn gets the words after the command's name and gives the exit code. */
typedef struct CliCommand {
    const char *name, *summary;
    int (*fn)(int argc, char **argv);
} CliCommand;

/* Commands that share a first word: "ingot", "ingot tokenizer". */
typedef struct CliGroup {
    const char *name, *about;
    const CliCommand *cmds;
    int n_cmds;
} CliGroup;

/* Environment of this process, read once by main. */
extern ConfigEnv cli_env;

/* Run the command argv[0] names with the words after it. No word, help, --help: the list of
 * commands, or the help of one. An unknown word: the nearest name, CLI_USAGE. */
int cli_dispatch(const CliGroup *g, int argc, char **argv);

/* Defaults into target, then argv (after the command's name). Returns -1 to go on, else the
 * exit code (0 after --help, 2 after a usage error that was printed). Free with cli_args_deinit
 * in every case. */
int cli_parse(CliArgs *a, const CliSpec *spec, void *target, int argc, char **argv);
void cli_args_deinit(CliArgs *a);
/* Defaults, file, environment and argv into target, and nothing else: nothing is printed. Free likewise. */
MUST_CHECK Status cli_read(CliArgs *a, const CliSpec *spec, void *target, int argc, char **argv,
                           Err *e);
/* Print "ingot: message" and give the exit code for it: CLI_USAGE for ERR_ARG (a value the
 * caller chose), else CLI_FAIL. */
int cli_fail(const Err *e);
/* Print a usage error for this command; CLI_USAGE. */
int cli_usage(const CliSpec *spec, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Threads to use: --threads if > 0, else INGOT_THREADS, else all processors. */
int cli_threads(int64_t wanted);
/* From the first call on, the first SIGINT or SIGTERM sets the flag that is returned; a second
 * one kills. */
const atomic_int *cli_stop_flag(void);

/* Progress of long work on standard error: a bar with rate and ETA on a terminal, a plain line
 * now and then elsewhere, nothing with `quiet`. Allocates nothing. */
typedef struct CliBar {
    const char *label, *unit; /* borrowed */
    double scale;             /* units per count: 1e-6 shows millions */
    double t_start, t_last;
    double done_start; /* at the first update: what was done before does not count for the rate */
    bool tty, quiet, any;
} CliBar;
void cli_bar_init(CliBar *b, const char *label, const char *unit, double scale, bool quiet);
/* `tail` is appended to the line (loss, tok/s ...); NULL: none. total 0: unknown. Rate-limited
 * by itself. */
void cli_bar_update(CliBar *b, double done, double total, const char *tail);
/* Take the bar off the terminal, at the end or before printing something; a later update draws
 * it again. */
void cli_bar_finish(CliBar *b);
/* The same as an update, in the shape of progress callbacks; ctx is the CliBar. */
void cli_bar_count(void *bar, uint64_t done, uint64_t total);
/* 12345678 -> "12,345,678"; bytes -> "12.3 MB" */
const char *cli_commas(char buf[32], uint64_t n);
const char *cli_bytes(char buf[32], double bytes);
/* Bytes from "4G", "512M", "1.5GB", "100000"; K, M and G are powers of 1024. ERR_ARG names what and the limit. */
MUST_CHECK Status cli_size(size_t *out, const char *what, const char *text, Err *e);
/* The type of KV cache that one of CLI_KV_TYPES names. */
#define CLI_KV_TYPES "f16|q8_0|f32"
KvType cli_kv_type(const char *name);
/* Rows that commands have in common, for a field at this offset. SAME: of commands whose output is a file. */
#define CLI_THREADS_ROW(at, text)                                                             \
    {                                                                                         \
        .key = "threads", .type = OPT_INT, .offset = (at), .def = "0", .min = 0, .max = 4096, \
        .help = (text)                                                                        \
    }
#define CLI_THREADS_OPT(at) CLI_THREADS_ROW(at, "0: all processors")
#define CLI_SAME_THREADS_OPT(at) \
    CLI_THREADS_ROW(at, "0: all processors; the output is the same for any number")
#define CLI_QUIET_OPT(at) \
    { .key = "quiet", .letter = 'q', .type = OPT_BOOL, .offset = (at), .help = "no progress" }
#define CLI_KV_OPT(at)                                                            \
    {                                                                             \
        .key = "kv_cache_type", .type = OPT_CHOICE, .offset = (at), .def = "f16", \
        .choices = CLI_KV_TYPES, .help = "type of the KV cache"                   \
    }
/* Positions that --ctx asks for, of a model that has so many. */
#define CLI_CTX_OPT(at)                                                                           \
    {                                                                                             \
        .key = "ctx", .letter = 'c', .type = OPT_INT, .offset = (at), .def = "0", .min = -1,      \
        .max = MODEL_MAX_CTX, .metavar = "N",                                                     \
        .help = "tokens of prompt and answer together; 0: what the model has, at most 4096; -1: " \
                "all it has"                                                                      \
    }
int cli_ctx(int64_t wanted, int of_model);
#define CLI_SPECIAL_OPT(at)                                                   \
    {                                                                         \
        .key = "special", .type = OPT_BOOL, .offset = (at),                   \
        .help = "names of special tokens in the texts stand for these tokens" \
    }
#define CLI_NO_PACK_OPT(at)                                                             \
    {                                                                                   \
        .key = "no_pack", .type = OPT_BOOL, .offset = (at),                             \
        .help = "use quantized weights where they lie in the file: less memory, slower" \
    }
#define CLI_INVARIANT_OPT(at)                                                              \
    {                                                                                      \
        .key = "batch_invariant", .type = OPT_BOOL, .offset = (at),                        \
        .help = "the same bits whatever is computed beside a request; prompts take longer" \
    }
/* Flush standard output and report a failed write (a full disk, a closed pipe) as a failure. */
int cli_flush_stdout(void);
/* Print a JSON object on a line of its own and flush; an incomplete buffer is a failure. */
int cli_print_json(StrBuf *b);

/* The commands: the words after the command's name, the exit code. One row each in main.c. */
/* folders -> docs.jsonl */
int cmd_collect(int argc, char **argv);
/* train, encode, decode, show */
int cmd_tokenizer(int argc, char **argv);
/* docs.jsonl -> token shards */
int cmd_prepare(int argc, char **argv);
/* token shards -> model */
int cmd_train(int argc, char **argv);
/* hub, https, S3 -> files */
int cmd_pull(int argc, char **argv);
/* files -> S3 */
int cmd_push(int argc, char **argv);
/* Hugging Face folder -> model */
int cmd_convert(int argc, char **argv);
/* model -> Hugging Face folder */
int cmd_export(int argc, char **argv);
/* model, key -> signature; signature -> verdict */
int cmd_model(int argc, char **argv);
/* model, adapter -> model */
int cmd_lora(int argc, char **argv);
/* model, text -> importance of its weights' columns */
int cmd_imatrix(int argc, char **argv);
/* model -> smaller model */
int cmd_quantize(int argc, char **argv);
/* model, text -> perplexity */
int cmd_perplexity(int argc, char **argv);
/* model, texts -> vectors */
int cmd_embed(int argc, char **argv);
/* model, prompt, choices -> log-probabilities */
int cmd_score(int argc, char **argv);
/* model, prompt -> text */
int cmd_run(int argc, char **argv);
/* model or template, messages -> text */
int cmd_template(int argc, char **argv);
/* GGUF file -> what it holds */
int cmd_info(int argc, char **argv);
/* this machine -> speeds */
int cmd_bench(int argc, char **argv);
/* model, requests -> answers */
int cmd_batch(int argc, char **argv);
/* API keys of a server */
int cmd_keys(int argc, char **argv);
/* server -> its dashboard, in the terminal */
int cmd_top(int argc, char **argv);
/* speeds, prices -> dollars */
int cmd_cost(int argc, char **argv);
/* server -> how long its answers take */
int cmd_load(int argc, char **argv);
/* model -> HTTP server */
int cmd_serve(int argc, char **argv);

#endif
