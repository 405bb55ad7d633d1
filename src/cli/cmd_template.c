/* SPDX-License-Identifier: Apache-2.0
 * ingot template: what a chat template makes of messages. */
#include <stdio.h>

#include "base/io.h"
#include "cli/cli.h"
#include "token/chat.h"

enum { MAX_FILE = 64 << 20 };

typedef struct TemplateCmd {
    const char *messages, *tools, *vars;
    bool prompt, ids, spans;
    int64_t now;
} TemplateCmd;

#define AT(field) offsetof(TemplateCmd, field)
static const OptSpec opts[] = {
    {.key = "messages",
     .letter = 'm',
     .type = OPT_STR,
     .offset = AT(messages),
     .metavar = "FILE",
     .help = "JSON array of {\"role\", \"content\"}; without it: one that says Hello"},
    {.key = "tools",
     .type = OPT_STR,
     .offset = AT(tools),
     .metavar = "FILE",
     .help = "JSON array of tools"},
    {.key = "vars",
     .type = OPT_STR,
     .offset = AT(vars),
     .metavar = "FILE",
     .help = "JSON object of further variables, bos_token for one"},
    {.key = "prompt",
     .type = OPT_BOOL,
     .offset = AT(prompt),
     .def = "true",
     .help = "end where the answer begins (add_generation_prompt)"},
    {.key = "now",
     .type = OPT_INT,
     .offset = AT(now),
     .def = "0",
     .min = 0,
     .max = 253402300799.0,
     .help = "the time that templates see, in seconds since 1970; 0: the clock"},
    {.key = "ids", .type = OPT_BOOL, .offset = AT(ids), .help = "print token ids instead of text"},
    {.key = "spans",
     .type = OPT_BOOL,
     .offset = AT(spans),
     .help = "print where generation blocks begin and end, in bytes, instead of text"},
};
#undef AT

static const CliSpec spec = {
    .usage = "ingot template MODEL.gguf|FILE.jinja [options]",
    .about = "Prints the text that a chat template makes of messages: the model's own, or one in "
             "a file.\n"
             "\n"
             "examples:\n"
             "  ingot template model.gguf\n"
             "  ingot template model.gguf --messages chat.json --tools tools.json --ids",
    .opts = opts,
    .n_opts = (int)COUNT_OF(opts),
    .min_pos = 1,
    .max_pos = 1,
};

/* What a command holds. */
typedef struct Rendering {
    const TemplateCmd *c;
    Tokenizer *tok; /* NULL: a template in a file */
    Chat *chat;
    Json *messages, *tools, *vars;
    StrBuf text;
    JinjaSpans spans;
    TokBuf ids;
} Rendering;

static Status read_json(Json **out, const char *path, Err *e) {
    StrBuf b = {0};
    if (!path) return OK;
    Status st = io_read_file(&b, path, MAX_FILE, e);
    if (st == OK) {
        st = json_parse(out, (Slice){sb_str(&b), b.n}, e);
        if (st != OK) err_in(e, path);
    }
    sb_deinit(&b);
    return st;
}

static Status open_template(Rendering *x, const char *path, Err *e) {
    StrBuf b = {0};
    if (!str_ends_with(path, ".jinja")) {
        TRY(tok_open(&x->tok, path, e));
        return chat_new(&x->chat, x->tok, e);
    }
    Status st = io_read_file(&b, path, MAX_FILE, e);
    if (st == OK) {
        st = chat_new_text(&x->chat, (Slice){sb_str(&b), b.n}, NULL, e);
        if (st != OK) err_in(e, path);
    }
    sb_deinit(&b);
    return st;
}

static Status render(Rendering *x, const char *path, Err *e) {
    const TemplateCmd *c = x->c;
    TRY(open_template(x, path, e));
    TRY(read_json(&x->tools, c->tools, e));
    TRY(read_json(&x->vars, c->vars, e));
    if (c->messages) TRY(read_json(&x->messages, c->messages, e));
    else TRY(json_parse(&x->messages, slice_of("[{\"role\":\"user\",\"content\":\"Hello\"}]"), e));
    ChatReq req = {.messages = x->messages,
                   .tools = x->tools,
                   .vars = x->vars,
                   .add_prompt = c->prompt,
                   .opts.now_s = c->now};
    if (!c->ids) return chat_render(&x->text, &x->spans, x->chat, &req, e);
    if (!x->tok) return err_set(e, ERR_ARG, "--ids wants a model, which has the tokens");
    return chat_encode(&x->ids, x->chat, x->tok, &req, e);
}

static int print(const Rendering *x) {
    if (x->c->ids) {
        for (size_t i = 0; i < x->ids.n; i++) printf(i ? " %d" : "%d", x->ids.v[i]);
        putchar('\n');
    } else if (x->c->spans) {
        for (size_t i = 0; i < x->spans.n; i++)
            printf("%zu %zu\n", x->spans.v[i].begin, x->spans.v[i].end);
    } else if (x->text.n) {
        fwrite(x->text.p, 1, x->text.n, stdout);
    }
    if (chat_kind(x->chat) != CHAT_OWN) fprintf(stderr, "%s\n", chat_describe(x->chat));
    return cli_flush_stdout();
}

int cmd_template(int argc, char **argv) {
    TemplateCmd c = {0};
    CliArgs a;
    Err e = {0};
    Rendering x = {.c = &c};
    int rc = cli_parse(&a, &spec, &c, argc, argv);
    if (rc < 0) rc = render(&x, a.pos.v[0], &e) == OK ? print(&x) : cli_fail(&e);
    chat_free(x.chat);
    tok_free(x.tok);
    json_free(x.messages);
    json_free(x.tools);
    json_free(x.vars);
    sb_deinit(&x.text);
    jinja_spans_deinit(&x.spans);
    tokbuf_deinit(&x.ids);
    cli_args_deinit(&a);
    return rc;
}
