/* SPDX-License-Identifier: Apache-2.0
 * ingot model keygen, sign, verify, show: what a model is, signed (trust/). Here: options and reports. */
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/io.h"
#include "cli/cli.h"
#include "quant/quant.h"
#include "text/json.h"
#include "trust/trust.h"

/* ---- common ---- */

typedef struct ModelCmd {
    const char *key, *tag, *base, *licence, *dataset, *quantization, *created;
    OptList scores;
    int64_t threads;
    bool json, quiet;
} ModelCmd;

#define AT(field) offsetof(ModelCmd, field)
#define OPT_KEY(what) \
    { .key = "key", .type = OPT_STR, .offset = AT(key), .metavar = "FILE", .help = (what) }
#define OPT_COMMON                                                                           \
    {.key = "threads",                                                                       \
     .type = OPT_INT,                                                                        \
     .offset = AT(threads),                                                                  \
     .def = "0",                                                                             \
     .min = 0,                                                                               \
     .max = 4096,                                                                            \
     .help = "0: all processors; files are hashed side by side"},                            \
        {.key = "quiet",                                                                     \
         .letter = 'q',                                                                      \
         .type = OPT_BOOL,                                                                   \
         .offset = AT(quiet),                                                                \
         .help = "no progress"},                                                             \
    {                                                                                        \
        .key = "json", .type = OPT_BOOL, .offset = AT(json), .help = "print one JSON object" \
    }

static Status load_public(SignKey **key, const char *path, Err *e) {
    if (!path) path = cli_env.model_key;
    if (!path) return err_set(e, ERR_ARG, "no public key: --key FILE, or INGOT_MODEL_PUBLIC_KEY");
    return sign_load_public(key, path, e);
}

static TrustOpts trust_opts(const ModelCmd *c, CliBar *bar, const char *label) {
    cli_bar_init(bar, label, "MB", 1e-6, c->quiet || c->json);
    return (TrustOpts){.n_threads = cli_threads(c->threads),
                       .progress = cli_bar_count,
                       .progress_ctx = bar,
                       .stop = cli_stop_flag()};
}

static uint64_t total_bytes(const Manifest *m) {
    uint64_t n = 0;
    for (size_t i = 0; i < m->n_files; i++) n += m->file[i].size;
    return n;
}

/* ---- keygen ---- */

static const CliSpec keygen_spec = {
    .usage = "ingot model keygen NAME",
    .about = "Makes an Ed25519 key pair: NAME.key, for its owner alone, signs; NAME.pub verifies.\n"
             "Both are PEM files as openssl makes them. Existing files are not replaced.\n"
             "\n"
             "example:\n"
             "  ingot model keygen release\n"
             "next:\n"
             "  ingot model sign model.gguf --key release.key --tag code-v1.0.0",
    .min_pos = 1,
    .max_pos = 1,
};

static int print_pair(const char *pub) {
    Err e = {0};
    SignKey *key = NULL;
    char id[SIGN_ID + 1];
    if (sign_load_public(&key, pub, &e) != OK) return cli_fail(&e);
    printf("key %s: %.*s.key signs, %s verifies\n", sign_key_id(id, key), (int)strlen(pub) - 4, pub,
           pub);
    sign_key_free(key);
    return cli_flush_stdout();
}

static int keygen(const char *name) {
    Err e = {0};
    StrBuf key = {0}, pub = {0};
    sb_printf(&key, "%s.key", name);
    sb_printf(&pub, "%s.pub", name);
    Status st = sb_check(&key, &e);
    if (st == OK) st = sb_check(&pub, &e);
    if (st == OK) st = sign_keygen(key.p, pub.p, &e);
    int rc = st == OK ? print_pair(pub.p) : cli_fail(&e);
    sb_deinit(&key);
    sb_deinit(&pub);
    return rc;
}

static int cmd_keygen(int argc, char **argv) {
    ModelCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &keygen_spec, &c, argc, argv);
    if (rc < 0) rc = keygen(a.pos.v[0]);
    cli_args_deinit(&a);
    return rc;
}

/* ---- sign ---- */

static const OptSpec sign_opts[] = {
    OPT_KEY("the private key"),
    {.key = "tag",
     .type = OPT_STR,
     .offset = AT(tag),
     .metavar = "TAG",
     .help = "NAME-vMAJOR.MINOR.PATCH; it stands for this content and no other"},
    {.key = "base",
     .type = OPT_STR,
     .offset = AT(base),
     .metavar = "TEXT",
     .help = "the model this one was made from"},
    {.key = "licence",
     .type = OPT_STR,
     .offset = AT(licence),
     .metavar = "TEXT",
     .help = "of the weights"},
    {.key = "dataset",
     .type = OPT_STR,
     .offset = AT(dataset),
     .metavar = "FILE",
     .help = "what it was trained on: a file to be hashed, or its sha-256"},
    {.key = "quantization",
     .type = OPT_STR,
     .offset = AT(quantization),
     .metavar = "TEXT",
     .help = "how it was quantized; else what a GGUF file says"},
    {.key = "score",
     .type = OPT_LIST,
     .offset = AT(scores),
     .metavar = "NAME=N",
     .help = "a result of an evaluation; may be given several times"},
    {.key = "created",
     .type = OPT_STR,
     .offset = AT(created),
     .metavar = "TIME",
     .help = "2026-01-31T12:00:00Z; else now"},
    OPT_COMMON,
};

static const CliSpec sign_spec = {
    .usage = "ingot model sign TARGET --key FILE --tag TAG [options]",
    .about =
        "Writes manifest.json and manifest.sig: which files a model is (size, sha-256), under\n"
        "which tag, made from what, how good; and an Ed25519 signature over that text. TARGET\n"
        "is a folder, or a file: then they stand beside it, TARGET.manifest.json. The same\n"
        "tag again has to say the same.\n"
        "\n"
        "example:\n"
        "  ingot model sign qwen.gguf --key release.key --tag qwen2.5-v1.0.1 --licence apache-2.0\n"
        "next:\n"
        "  ingot run qwen.gguf --model-public-key release.pub -p 'Once upon a time'",
    .opts = sign_opts,
    .n_opts = (int)COUNT_OF(sign_opts),
    .min_pos = 1,
    .max_pos = 1,
};

static Slice slice_or_none(const char *s) { return s ? slice_of(s) : (Slice){"", 0}; }

static const char *time_now(char buf[24]) {
    time_t t = time(NULL);
    struct tm tm;
    if (!gmtime_r(&t, &tm) || strftime(buf, 24, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0) buf[0] = 0;
    return buf;
}

static Status hash_file(char hex[65], const char *path, Err *e) {
    IoMap m = {0};
    Sha256 d;
    TRY(io_map(&m, path, e));
    Status st = sha_256(&d, m.p, m.n, e);
    io_unmap(&m);
    if (st == OK) sha_hex(hex, &d);
    return st;
}

static Status set_dataset(Manifest *m, char hex[65], const char *given, Err *e) {
    Sha256 d;
    if (!given) return OK;
    if (sha_parse(&d, given, strlen(given))) snprintf(hex, 65, "%s", given);
    else TRY(hash_file(hex, given, e));
    m->dataset = slice_of(hex);
    return OK;
}

static Status set_scores(Manifest *m, const OptList *words, Err *e) {
    m->score = arena_new_n(&m->mem, TrustScore, (size_t)words->n + 1);
    if (!m->score) return err_set(e, ERR_NOMEM, "no memory for %d scores", words->n);
    for (int i = 0; i < words->n; i++) {
        const char *word = words->v[i], *eq = strrchr(word, '=');
        TrustScore *s = &m->score[m->n_scores];
        if (!eq || eq == word || !str_to_f64(&s->value, eq + 1))
            return err_set(e, ERR_ARG, "--score %s: want NAME=NUMBER", word);
        s->name = (Slice){word, (size_t)(eq - word)};
        for (size_t k = 0; k < m->n_scores; k++)
            if (slice_eq(m->score[k].name, s->name))
                return err_set(e, ERR_ARG, "--score %s: given twice", word);
        m->n_scores++;
    }
    return OK;
}

/* What a GGUF file says of its types. */
static Slice own_quantization(const char *target) {
    Gguf *g = NULL;
    int64_t type = -1;
    size_t n;
    const QuantMix *mix = quant_mixes(&n);
    if (!str_ends_with(target, ".gguf") || gguf_open(&g, target, NULL) != OK) return (Slice){"", 0};
    Status st = gguf_get_int(&type, g, "general.file_type", 0, INT32_MAX, NULL);
    gguf_close(g);
    for (size_t i = 0; st == OK && i < n; i++)
        if (mix[i].file_type == type) return slice_of(mix[i].name);
    return st == OK && type == 0 ? slice_of("f32") : (Slice){"", 0};
}

static int print_signed(const ModelCmd *c, const char *target, const SignKey *key,
                        const Manifest *m) {
    char id[SIGN_ID + 1], size[32];
    StrBuf b = {0};
    JsonW w;
    if (!c->json) {
        printf("%s: %.*s, %zu file%s, %s, signed with key %s\n", target, (int)m->tag.n, m->tag.p,
               m->n_files, m->n_files == 1 ? "" : "s", cli_bytes(size, (double)total_bytes(m)),
               sign_key_id(id, key));
        return cli_flush_stdout();
    }
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "target", target);
    jw_str(&w, "tag", m->tag);
    jw_int(&w, "files", (int64_t)m->n_files);
    jw_int(&w, "bytes", (int64_t)total_bytes(m));
    jw_cstr(&w, "key", sign_key_id(id, key));
    jw_end_obj(&w);
    int rc = cli_print_json(&b);
    sb_deinit(&b);
    return rc;
}

static Status fill(Manifest *m, const ModelCmd *c, char hex[65], char now[24], const char *target,
                   Err *e) {
    m->tag = slice_of(c->tag);
    m->created = slice_of(c->created ? c->created : time_now(now));
    m->base_model = slice_or_none(c->base);
    m->licence = slice_or_none(c->licence);
    m->quantization = c->quantization ? slice_of(c->quantization) : own_quantization(target);
    TRY(set_dataset(m, hex, c->dataset, e));
    return set_scores(m, &c->scores, e);
}

static int sign(const ModelCmd *c, const char *target) {
    Err e = {0};
    SignKey *key = NULL;
    Manifest m = {0};
    CliBar bar;
    char hex[65], now[24];
    TrustOpts o = trust_opts(c, &bar, "sign");
    arena_init(&m.mem, 4 << 10);
    Status st = sign_load_private(&key, c->key, &e);
    if (st == OK) st = fill(&m, c, hex, now, target, &e);
    if (st == OK) st = trust_sign(&m, target, key, &o, &e);
    cli_bar_finish(&bar);
    int rc = st == OK ? print_signed(c, target, key, &m) : cli_fail(&e);
    trust_manifest_deinit(&m);
    sign_key_free(key);
    return rc;
}

static int cmd_sign(int argc, char **argv) {
    ModelCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &sign_spec, &c, argc, argv);
    if (rc < 0 && !c.key) rc = cli_usage(&sign_spec, "no private key: --key FILE");
    if (rc < 0 && !c.tag) rc = cli_usage(&sign_spec, "no tag: --tag NAME-v1.0.0");
    if (rc < 0) rc = sign(&c, a.pos.v[0]);
    cli_args_deinit(&a);
    return rc;
}

/* ---- verify ---- */

static const OptSpec verify_opts[] = {
    OPT_KEY("the public key; else the one INGOT_MODEL_PUBLIC_KEY names"), OPT_COMMON};

static const CliSpec verify_spec = {
    .usage = "ingot model verify TARGET [--key FILE]",
    .about = "Finds out whether a folder or a file is what was signed: the signature, each file's\n"
             "size and sha-256, and in a folder that no file is missing and none was added.\n"
             "\n"
             "example:\n"
             "  ingot model verify qwen.gguf --key release.pub\n"
             "next:\n"
             "  ingot model show qwen.gguf",
    .opts = verify_opts,
    .n_opts = (int)COUNT_OF(verify_opts),
    .min_pos = 1,
    .max_pos = 1,
};

static int verify(const ModelCmd *c, const char *target) {
    Err e = {0};
    SignKey *key = NULL;
    Manifest m = {0};
    CliBar bar;
    TrustOpts o = trust_opts(c, &bar, "verify");
    Status st = load_public(&key, c->key, &e);
    if (st == OK) st = trust_verify(&m, target, key, &o, &e);
    cli_bar_finish(&bar);
    int rc = st == OK ? print_signed(c, target, key, &m) : cli_fail(&e);
    if (st == OK) trust_manifest_deinit(&m);
    sign_key_free(key);
    return rc;
}

static int cmd_verify(int argc, char **argv) {
    ModelCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &verify_spec, &c, argc, argv);
    if (rc < 0) rc = verify(&c, a.pos.v[0]);
    cli_args_deinit(&a);
    return rc;
}

/* ---- show ---- */

static const OptSpec show_opts[] = {
    OPT_KEY("check the signature with this public key; the files are not looked at"),
    {.key = "json",
     .type = OPT_BOOL,
     .offset = AT(json),
     .help = "print the manifest on one line"}};

static const CliSpec show_spec = {
    .usage = "ingot model show TARGET [--key FILE]",
    .about = "Prints what the manifest of a folder or a file says. Whether that is true is what\n"
             "ingot model verify finds out.\n"
             "\n"
             "example:\n"
             "  ingot model show qwen.gguf\n"
             "next:\n"
             "  ingot model verify qwen.gguf --key release.pub",
    .opts = show_opts,
    .n_opts = (int)COUNT_OF(show_opts),
    .min_pos = 1,
    .max_pos = 1,
};

/* Texts come from a file: control bytes and what is no UTF-8 are shown as such. */
static void print_text(const char *label, Slice v) {
    StrBuf b = {0};
    if (v.n == 0) return;
    sb_put_quoted(&b, v, 4 * TRUST_MAX_TEXT);
    printf("%-13s %s\n", label, sb_str(&b));
    sb_deinit(&b);
}

static void print_files(const Manifest *m) {
    char hex[65], size[32];
    for (size_t i = 0; i < m->n_files; i++) {
        StrBuf name = {0};
        sb_put_quoted(&name, m->file[i].name, TRUST_MAX_NAME);
        printf("%-13s %s  %s  %s\n", i ? "" : "files", sha_hex(hex, &m->file[i].digest),
               sb_str(&name), cli_bytes(size, (double)m->file[i].size));
        sb_deinit(&name);
    }
}

static int print_manifest(const Manifest *m, const char *key_id) {
    print_text("tag", m->tag);
    print_text("created", m->created);
    print_text("base model", m->base_model);
    print_text("licence", m->licence);
    print_text("dataset", m->dataset);
    print_text("quantization", m->quantization);
    for (size_t i = 0; i < m->n_scores; i++) {
        StrBuf b = {0};
        sb_put_quoted(&b, m->score[i].name, 80);
        printf("%-13s %s %g\n", i ? "" : "scores", sb_str(&b), m->score[i].value);
        sb_deinit(&b);
    }
    print_files(m);
    for (size_t i = 0; i < m->n_old; i++) print_text(i ? "" : "earlier tags", m->old[i].tag);
    if (key_id) printf("%-13s right, by key %s; files not looked at\n", "signature", key_id);
    else printf("%-13s not looked at\n", "signature");
    return cli_flush_stdout();
}

/* As it stands in the file, on one line. */
static int print_json(const Manifest *m) {
    StrBuf text = {0}, line = {0};
    bool quoted = false;
    trust_manifest_format(&text, m);
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (quoted && c == '\\') sb_putc(&line, text.p[i++]);
        else if (c == '"') quoted = !quoted;
        if (quoted || (c != ' ' && c != '\n')) sb_putc(&line, text.p[i]);
    }
    if (text.failed) line.failed = true;
    int rc = cli_print_json(&line);
    sb_deinit(&text);
    sb_deinit(&line);
    return rc;
}

static int show(const ModelCmd *c, const char *target) {
    Err e = {0};
    SignKey *key = NULL;
    Manifest m = {0};
    char id[SIGN_ID + 1];
    Status st = c->key ? sign_load_public(&key, c->key, &e) : OK;
    if (st == OK) st = trust_read(&m, target, key, &e);
    int rc = CLI_FAIL;
    if (st != OK) rc = cli_fail(&e);
    else rc = c->json ? print_json(&m) : print_manifest(&m, key ? sign_key_id(id, key) : NULL);
    if (st == OK) trust_manifest_deinit(&m);
    sign_key_free(key);
    return rc;
}

static int cmd_show(int argc, char **argv) {
    ModelCmd c = {0};
    CliArgs a;
    int rc = cli_parse(&a, &show_spec, &c, argc, argv);
    if (rc < 0) rc = show(&c, a.pos.v[0]);
    cli_args_deinit(&a);
    return rc;
}

/* ---- the group ---- */

static const CliCommand commands[] = {
    {"keygen", "make a key pair", cmd_keygen},
    {"sign", "say and sign what a model is", cmd_sign},
    {"verify", "find out whether a model is what was signed", cmd_verify},
    {"show", "print what a manifest says", cmd_show},
};

int cmd_model(int argc, char **argv) {
    static const CliGroup group = {
        .name = "ingot model",
        .about = "Says what a model is, signs it, and finds out whether it still is that.\n"
                 "\n"
                 "  ingot model keygen release\n"
                 "  ingot model sign model.gguf --key release.key --tag code-v1.0.0\n"
                 "  ingot model verify model.gguf --key release.pub",
        .cmds = commands,
        .n_cmds = (int)COUNT_OF(commands),
    };
    return cli_dispatch(&group, argc, argv);
}
