/* SPDX-License-Identifier: Apache-2.0
 * What all commands share: finding a command by its name, parsing, help, the one line an error
 * gets, the stop flag. Main thread, the signal handler apart. */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>

#include "base/team.h"

ConfigEnv cli_env;

/* ---- errors ---- */

/* A name of a file may hold anything; a message is one line and cannot steer the terminal. */
static void put_line(FILE *f, const char *s) {
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c < 0x20 || c == 0x7f) fprintf(f, "\\x%02x", c);
        else fputc(c, f);
    }
    fputc('\n', f);
}

int cli_fail(const Err *e) {
    fputs("ingot: ", stderr);
    put_line(stderr, e->msg[0] ? e->msg : err_name(e->code));
    return e->code == ERR_ARG ? CLI_USAGE : CLI_FAIL;
}

/* Bytes of usage that are the command: "ingot tokenizer train" of "ingot tokenizer train
 * docs.jsonl ...". */
static size_t command_len(const char *usage) {
    size_t n = 0;
    while (usage[n]) {
        size_t word = n + (n > 0), k = word;
        while (islower((unsigned char)usage[k])) k++;
        if (k == word || (usage[k] && usage[k] != ' ')) break;
        n = k;
        if (!usage[n]) break;
    }
    return n;
}

int cli_usage(const CliSpec *spec, const char *fmt, ...) {
    StrBuf b = {0};
    va_list ap;
    va_start(ap, fmt);
    sb_vprintf(&b, fmt, ap);
    va_end(ap);
    sb_printf(&b, " (help: %.*s --help)", (int)command_len(spec->usage), spec->usage);
    fputs("ingot: ", stderr);
    put_line(stderr, sb_str(&b));
    sb_deinit(&b);
    return CLI_USAGE;
}

KvType cli_kv_type(const char *name) {
    if (strcmp(name, "f32") == 0) return KV_F32;
    return strcmp(name, "q8_0") == 0 ? KV_Q8_0 : KV_F16;
}

int cli_flush_stdout(void) {
    Err e = {0};
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return CLI_OK;
    err_set(&e, ERR_IO, "standard output: %s", errno ? strerror(errno) : "a write failed");
    return cli_fail(&e);
}

int cli_print_json(StrBuf *b) {
    Err e = {0};
    if (sb_check(b, &e) != OK) return cli_fail(&e);
    fwrite(b->p, 1, b->n, stdout);
    fputc('\n', stdout);
    return cli_flush_stdout();
}

/* ---- one command's words ---- */

static bool wants_help(int argc, char **argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) return true;
    }
    return false;
}

static int print_help(const CliSpec *spec) {
    StrBuf b = {0};
    printf("usage: %s\n\n%s\n", spec->usage, spec->about);
    if (spec->n_opts) {
        opt_format_help(spec->opts, spec->n_opts, &b);
        printf("\noptions:\n%s", sb_str(&b));
    }
    sb_deinit(&b);
    return cli_flush_stdout();
}

/* The value of --config among the words, or NULL. */
static const char *find_config(const CliSpec *spec, int argc, char **argv) {
    size_t n = strlen(spec->config);
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (!str_starts_with(argv[i], "--") || strncmp(argv[i] + 2, spec->config, n) != 0) continue;
        if (argv[i][2 + n] == '=') return argv[i] + 3 + n;
        if (argv[i][2 + n] == '\0' && i + 1 < argc) return argv[i + 1];
    }
    return NULL;
}

/* What stands behind the words: a file, then the environment. */
static Status load_behind(CliArgs *a, const CliSpec *spec, int argc, char **argv, Err *e) {
    if (spec->also) opt_also(a->set, spec->also, spec->n_also);
    if (!spec->config) return OK;
    const char *path = find_config(spec, argc, argv);
    if (path) TRY(opt_load_yaml(a->set, path, e));
    return opt_load_env(a->set, "INGOT_", e);
}

/* --model-public-key, of the commands that have it, goes before the environment's. */
static void take_model_key(const CliSpec *spec, const void *target) {
    for (int i = 0; i < spec->n_opts; i++) {
        const char *key = NULL;
        if (strcmp(spec->opts[i].key, "model_public_key") != 0) continue;
        memcpy(&key, (const char *)target + spec->opts[i].offset, sizeof key);
        if (key) cli_env.model_key = key;
    }
}

Status cli_read(CliArgs *a, const CliSpec *spec, void *target, int argc, char **argv, Err *e) {
    *a = (CliArgs){0};
    TRY(opt_new(&a->set, spec->opts, spec->n_opts, target, e));
    TRY(load_behind(a, spec, argc, argv, e));
    return opt_parse_args(a->set, argc, argv, &a->pos, e);
}

int cli_parse(CliArgs *a, const CliSpec *spec, void *target, int argc, char **argv) {
    Err e = {0};
    *a = (CliArgs){0};
    if (wants_help(argc, argv)) return print_help(spec);
    Status st = cli_read(a, spec, target, argc, argv, &e);
    if (st == OK) take_model_key(spec, target);
    if (st == ERR_ARG) return cli_usage(spec, "%s", e.msg);
    if (st != OK) return cli_fail(&e);
    if (a->pos.n < spec->min_pos) return cli_usage(spec, "an argument is missing: %s", spec->usage);
    if (spec->max_pos >= 0 && a->pos.n > spec->max_pos) {
        return cli_usage(spec, "unexpected argument \"%s\"", a->pos.v[spec->max_pos]);
    }
    return -1;
}

void cli_args_deinit(CliArgs *a) {
    opt_free(a->set);
    *a = (CliArgs){0};
}

int cli_ctx(int64_t wanted, int of_model) {
    enum { DEFAULT_CTX = 4096 };
    if (wanted < 0) return of_model;
    return wanted > 0 ? (int)wanted : MIN(of_model, DEFAULT_CTX);
}

int cli_threads(int64_t wanted) {
    if (wanted > 0) return (int)MIN(wanted, INT32_MAX);
    return cli_env.threads > 0 ? cli_env.threads : team_default_size();
}

/* ---- finding a command ---- */

/* Letters to change, add or drop to make b of a; words longer than the table are far from
 * everything. */
static size_t edit_distance(const char *a, const char *b) {
    enum { MAX_WORD = 31 };
    size_t row[MAX_WORD + 1], na = strlen(a), nb = strlen(b);
    if (na > MAX_WORD || nb > MAX_WORD) return MAX_WORD;
    for (size_t j = 0; j <= nb; j++) row[j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t diag = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t change = diag + (a[i - 1] != b[j - 1]);
            diag = row[j];
            row[j] = MIN(change, MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[nb];
}

static const CliCommand *nearest(const CliGroup *g, const char *word) {
    const CliCommand *best = NULL;
    size_t least = strlen(word) / 2 + 1; /* more than half of the word wrong is another word */
    for (int i = 0; i < g->n_cmds; i++) {
        size_t d = edit_distance(word, g->cmds[i].name);
        if (d >= least) continue;
        least = d;
        best = &g->cmds[i];
    }
    return best;
}

static int unknown_command(const CliGroup *g, const char *word) {
    StrBuf b = {0};
    const CliCommand *c = nearest(g, word);
    sb_puts(&b, "ingot: unknown command \"");
    sb_put_quoted(&b, slice_of(word), 40);
    sb_puts(&b, "\"");
    if (c) sb_printf(&b, "; did you mean \"%s\"?", c->name);
    else sb_printf(&b, " (help: %s --help)", g->name);
    put_line(stderr, sb_str(&b));
    sb_deinit(&b);
    return CLI_USAGE;
}

static const CliCommand *find_command(const CliGroup *g, const char *word) {
    for (int i = 0; i < g->n_cmds; i++) {
        if (!strcmp(g->cmds[i].name, word)) return &g->cmds[i];
    }
    return NULL;
}

static int print_group(const CliGroup *g) {
    printf("usage: %s COMMAND [arguments]\n\n%s\n\ncommands:\n", g->name, g->about);
    for (int i = 0; i < g->n_cmds; i++) printf("  %-11s %s\n", g->cmds[i].name, g->cmds[i].summary);
    printf("\n%s COMMAND --help explains one of them.\n", g->name);
    return cli_flush_stdout();
}

int cli_dispatch(const CliGroup *g, int argc, char **argv) {
    static char help_flag[] = "--help";
    char *help_argv[] = {help_flag, NULL};
    bool help = argc > 0 &&
                (!strcmp(argv[0], "help") || !strcmp(argv[0], "--help") || !strcmp(argv[0], "-h"));
    if (argc == 0 || (help && argc == 1)) return print_group(g);
    const CliCommand *c = find_command(g, argv[help]);
    if (!c) return unknown_command(g, argv[help]);
    return help ? c->fn(1, help_argv) : c->fn(argc - 1, argv + 1);
}

/* ---- stopping ---- */

static atomic_int stop_flag;

static void on_stop(int sig) {
    (void)sig;
    atomic_store_explicit(&stop_flag, 1, memory_order_relaxed);
}

/* A signal that is ignored on entry stays so: nohup and shells' background jobs ask for it. */
static void catch_stop(int sig) {
    struct sigaction a = {.sa_handler = on_stop, .sa_flags = (int)SA_RESETHAND}, old;
    sigemptyset(&a.sa_mask);
    if (sigaction(sig, NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(sig, &a, NULL);
}

const atomic_int *cli_stop_flag(void) {
    catch_stop(SIGINT);
    catch_stop(SIGTERM);
    return &stop_flag;
}
