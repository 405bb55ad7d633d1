/* SPDX-License-Identifier: Apache-2.0
 * A conversation with a model: the messages so far, which its template makes a prompt of for each answer, and what can
 * be typed besides messages. The engine's prefix cache makes up for rendering all of it anew. What a model thought is
 * shown but does not become part of the conversation. */
#include <stdio.h>
#include <unistd.h>

#include "base/io.h"
#include "cli/cli.h"
#include "cli/run_session.h"

enum { MAX_FILE = 64 << 20 };

static const char help[] =
    "Type a message and press Enter; \"\"\" begins and ends one of several lines.\n"
    "  /reset          forget the conversation\n"
    "  /undo           forget the last message and its answer\n"
    "  /retry          another answer to the last message\n"
    "  /system [TEXT]  set the system message, or show it\n"
    "  /save FILE      the messages as JSON; /load FILE reads them back\n"
    "  /help           this\n"
    "  /quit           leave (or Ctrl-D)\n"
    "Ctrl-C stops an answer. Arrow keys edit and recall lines.\n";

const char *cli_chat_help(void) { return help; }
bool cli_chat_on(const RunSession *r) { return r->talk.chat != NULL; }
bool cli_chat_more(const RunSession *r) { return r->talk.many_lines; }

/* ---- messages ---- */

static void drop_to(RunTalk *t, size_t n) {
    while (t->n > n) {
        t->n--;
        mem_free(t->v[t->n].role);
        mem_free(t->v[t->n].text);
    }
}

static Status push(RunTalk *t, const char *role, Slice text, Err *e) {
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 16;
        RunMessage *v = mem_realloc_n(t->v, cap, sizeof *v);
        if (!v) return err_set(e, ERR_NOMEM, "a message");
        t->v = v;
        t->cap = cap;
    }
    RunMessage m = {mem_dup(role, strlen(role)), mem_dup(text.n ? text.p : "", text.n), text.n};
    if (m.role && m.text) {
        t->v[t->n++] = m;
        return OK;
    }
    mem_free(m.role);
    mem_free(m.text);
    return err_set(e, ERR_NOMEM, "a message");
}

static bool is_role(const RunTalk *t, size_t i, const char *role) {
    return i < t->n && strcmp(t->v[i].role, role) == 0;
}

/* The messages behind the system message. */
static size_t n_lead(const RunTalk *t) { return is_role(t, 0, "system"); }

static void put_messages(StrBuf *b, const RunTalk *t) {
    JsonW w;
    jw_init(&w, b);
    jw_arr(&w, NULL);
    for (size_t i = 0; i < t->n; i++) {
        jw_obj(&w, NULL);
        jw_cstr(&w, "role", t->v[i].role);
        jw_str(&w, "content", (Slice){t->v[i].text, t->v[i].n});
        jw_end_obj(&w);
    }
    jw_end_arr(&w);
}

/* ---- opening ---- */

static Status read_template(Chat **out, const char *path, const Tokenizer *tok, Err *e) {
    StrBuf b = {0};
    Status st = io_read_file(&b, path, MAX_FILE, e);
    if (st == OK) {
        st = chat_new_text(out, (Slice){sb_str(&b), b.n}, tok, e);
        if (st != OK) err_in(e, path);
    }
    sb_deinit(&b);
    return st;
}

/* A plain conversation has no token that ends an answer: the next line of the other side does. */
static void stop_plain(RunSession *r) {
    if (chat_kind(r->talk.chat) == CHAT_PLAIN && r->n_stop < SAMPLE_MAX_STOPS)
        r->stop[r->n_stop++] = slice_of("\nuser:");
}

static Status begin(RunSession *r, Err *e) {
    const RunCmd *c = r->c;
    stop_plain(r);
    if (chat_kind(r->talk.chat) != CHAT_OWN) fprintf(stderr, "%s\n", chat_describe(r->talk.chat));
    if (c->has_think)
        TRY(json_parse(&r->talk.vars,
                       slice_of(c->think ? "{\"enable_thinking\":true}"
                                         : "{\"enable_thinking\":false}"),
                       e));
    return c->system ? push(&r->talk, "system", slice_of(c->system), e) : OK;
}

Status cli_chat_open(RunSession *r, bool one, Err *e) {
    const RunCmd *c = r->c;
    Chat *chat = NULL;
    bool wanted = c->has_chat ? c->chat : !one || c->system || c->template_file || c->has_think;
    if (!wanted) return OK;
    if (c->template_file) TRY(read_template(&chat, c->template_file, r->m.tok, e));
    else TRY(chat_new(&chat, r->m.tok, e));
    if (!c->has_chat && chat_kind(chat) == CHAT_PLAIN && !c->system) {
        fprintf(stderr,
                "no chat template in the model: texts are continued; --chat talks as \"user: "
                "...\"\n");
        chat_free(chat);
        return OK;
    }
    r->talk.chat = chat;
    return begin(r, e);
}

void cli_chat_close(RunTalk *t) {
    drop_to(t, 0);
    mem_free(t->v);
    chat_free(t->chat);
    json_free(t->vars);
    sb_deinit(&t->rendered);
    sb_deinit(&t->lines);
    *t = (RunTalk){0};
}

/* ---- an answer ---- */

static Status render(RunTalk *t, Err *e) {
    StrBuf b = {0};
    Json *messages = NULL;
    put_messages(&b, t);
    Status st = sb_check(&b, e);
    if (st == OK) st = json_parse(&messages, (Slice){sb_str(&b), b.n}, e);
    Json *fit = NULL;
    if (st == OK) st = chat_messages(&fit, t->chat, messages, e);
    ChatReq req = {.messages = fit, .vars = t->vars, .add_prompt = true};
    sb_clear(&t->rendered);
    if (st == OK) st = chat_render(&t->rendered, NULL, t->chat, &req, e);
    json_free(messages);
    json_free(fit);
    sb_deinit(&b);
    return st;
}

/* Keep what the model said, not what it thought. */
static Status keep(RunTalk *t, Slice text, Err *e) {
    StrBuf thought = {0}, content = {0};
    ChatSplit s;
    chat_split_init(&s, t->chat, (Slice){sb_str(&t->rendered), t->rendered.n});
    chat_split_push(&s, text, &thought, &content);
    chat_split_finish(&s, &thought, &content);
    Status st = sb_check(&content, e);
    if (st == OK) st = push(t, "assistant", (Slice){sb_str(&content), content.n}, e);
    sb_deinit(&thought);
    sb_deinit(&content);
    return st;
}

/* An answer to the messages so far. What was interrupted is kept as far as it came. */
static int answer(RunSession *r) {
    RunTalk *t = &r->talk;
    TokBuf ids = {0};
    StrBuf text = {0};
    Err e = {0};
    int rc = CLI_FAIL;
    Status st = render(t, &e);
    Slice prompt = {sb_str(&t->rendered), t->rendered.n};
    if (st == OK) st = chat_encode_text(&ids, t->chat, r->m.tok, prompt, &e);
    if (st == OK && ids.n == 0) st = err_set(&e, ERR_ARG, "the template makes nothing of this");
    if (st == OK) {
        rc = cli_run_generate_ids(r, &ids, &text);
        if (rc == CLI_OK || text.n) st = keep(t, (Slice){sb_str(&text), text.n}, &e);
    }
    if (st != OK) rc = cli_fail(&e);
    tokbuf_deinit(&ids);
    sb_deinit(&text);
    return rc;
}

int cli_chat_say(RunSession *r, Slice text) {
    Err e = {0};
    size_t n = r->talk.n;
    if (push(&r->talk, "user", text, &e) != OK) return cli_fail(&e);
    int rc = answer(r);
    if (r->talk.n < n + 2) drop_to(&r->talk, n);
    return rc;
}

/* ---- commands ---- */

static int retry(RunSession *r, Slice arg) {
    RunTalk *t = &r->talk;
    size_t n = t->n;
    Err e = {0};
    (void)arg;
    if (n < 2 || !is_role(t, n - 1, "assistant")) {
        puts("There is no answer yet.");
        return CLI_OK;
    }
    RunMessage old = t->v[--t->n];
    int rc = answer(r);
    bool again = t->n == n;
    if (!again && push(t, old.role, (Slice){old.text, old.n}, &e) != OK) rc = cli_fail(&e);
    mem_free(old.role);
    mem_free(old.text);
    return rc;
}

static int undo(RunSession *r, Slice arg) {
    RunTalk *t = &r->talk;
    size_t n = t->n;
    (void)arg;
    while (n > n_lead(t) && !is_role(t, n - 1, "user")) n--;
    if (n > n_lead(t)) n--;
    printf("%zu messages forgotten.\n", t->n - n);
    drop_to(t, n);
    return CLI_OK;
}

static int reset(RunSession *r, Slice arg) {
    (void)arg;
    drop_to(&r->talk, n_lead(&r->talk));
    return CLI_OK;
}

static int set_system(RunSession *r, Slice arg) {
    RunTalk *t = &r->talk;
    Err e = {0};
    if (arg.n == 0) {
        if (n_lead(t)) printf("%.*s\n", (int)t->v[0].n, t->v[0].text);
        else puts("There is no system message.");
        return CLI_OK;
    }
    if (push(t, "system", arg, &e) != OK) return cli_fail(&e);
    RunMessage m = t->v[t->n - 1];
    if (n_lead(t) && t->n > 1) {
        RunMessage old = t->v[0];
        t->v[0] = m;
        t->v[t->n - 1] = old;
        drop_to(t, t->n - 1);
    } else {
        memmove(t->v + 1, t->v, (t->n - 1) * sizeof m);
        t->v[0] = m;
    }
    return CLI_OK;
}

/* The file's name as a string; NULL, and words, where none is given. */
static char *file_name(Slice arg) {
    if (arg.n == 0) puts("Which file?");
    return arg.n ? mem_dup(arg.p, arg.n) : NULL;
}

static Status write_file(const char *path, const StrBuf *b, Err *e) {
    IoWriter w;
    TRY(sb_check(b, e));
    TRY(io_writer_open(&w, path, true, e));
    Status st = io_write(&w, b->p, b->n, e);
    if (st == OK) return io_writer_close(&w, e);
    io_writer_abort(&w);
    return st;
}

static int save(RunSession *r, Slice arg) {
    StrBuf b = {0};
    Err e = {0};
    char *path = file_name(arg);
    if (!path) return CLI_OK;
    put_messages(&b, &r->talk);
    sb_putc(&b, '\n');
    Status st = write_file(path, &b, &e);
    if (st == OK) printf("%zu messages in %s\n", r->talk.n, path);
    mem_free(path);
    sb_deinit(&b);
    return st == OK ? CLI_OK : cli_fail(&e);
}

static Status take_messages(RunTalk *t, const Json *j, Err *e) {
    if (!json_is_array(j)) return err_set(e, ERR_FORMAT, "not an array of messages");
    for (size_t i = 0; i < json_len(j); i++) {
        const Json *role = json_get(json_at(j, i), "role"),
                   *content = json_get(json_at(j, i), "content");
        if (!json_is_str(role) || !json_is_str(content))
            return err_set(e, ERR_FORMAT, "message %zu: role or content is not a text", i);
        char *name = mem_dup(json_str(role).p, json_str(role).n);
        if (!name) return err_set(e, ERR_NOMEM, "a message");
        Status st = push(t, name, json_str(content), e);
        mem_free(name);
        TRY(st);
    }
    return OK;
}

static int load(RunSession *r, Slice arg) {
    StrBuf b = {0};
    Json *j = NULL;
    Err e = {0};
    RunTalk fresh = {0};
    char *path = file_name(arg);
    if (!path) return CLI_OK;
    Status st = io_read_file(&b, path, MAX_FILE, &e);
    if (st == OK) {
        st = json_parse(&j, (Slice){sb_str(&b), b.n}, &e);
        if (st == OK) st = take_messages(&fresh, j, &e);
        if (st != OK) err_in(&e, path);
    }
    if (st == OK) {
        drop_to(&r->talk, 0);
        mem_free(r->talk.v);
        r->talk.v = fresh.v;
        r->talk.n = fresh.n;
        r->talk.cap = fresh.cap;
        printf("%zu messages from %s\n", r->talk.n, path);
    } else {
        cli_chat_close(&fresh);
    }
    json_free(j);
    mem_free(path);
    sb_deinit(&b);
    return st == OK ? CLI_OK : cli_fail(&e);
}

static int show_help(RunSession *r, Slice arg) {
    (void)r;
    (void)arg;
    fputs(help, stdout);
    return CLI_OK;
}

static const struct {
    const char *name;
    int (*fn)(RunSession *r, Slice arg);
} commands[] = {{"/help", show_help}, {"/?", show_help}, {"/reset", reset}, {"/clear", reset},
                {"/undo", undo},      {"/retry", retry}, {"/regen", retry}, {"/system", set_system},
                {"/save", save},      {"/load", load}};

static Slice strip(Slice s) {
    while (s.n && (s.p[0] == ' ' || s.p[0] == '\t')) s = (Slice){s.p + 1, s.n - 1};
    while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t')) s.n--;
    return s;
}

static int run_command(RunSession *r, Slice word, Slice arg) {
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        if (slice_eq_str(word, commands[i].name)) return commands[i].fn(r, arg);
    printf("There is no %.*s; /help lists what there is.\n", (int)MIN(word.n, 40), word.p);
    return CLI_OK;
}

/* A line of a message of several lines: """ ends it. */
static bool more_lines(RunSession *r, Slice line, int *rc) {
    RunTalk *t = &r->talk;
    Slice s = strip(line);
    bool end = s.n >= 3 && memcmp(s.p + s.n - 3, "\"\"\"", 3) == 0;
    sb_put(&t->lines, line.p, end ? (size_t)(s.p + s.n - 3 - line.p) : line.n);
    if (!end) {
        sb_putc(&t->lines, '\n');
        return true;
    }
    t->many_lines = false;
    if (t->lines.n) *rc = cli_chat_say(r, (Slice){t->lines.p, t->lines.n});
    sb_clear(&t->lines);
    return true;
}

bool cli_chat_line(RunSession *r, Slice line, int *rc) {
    Slice s = strip(line);
    if (r->talk.many_lines) return more_lines(r, line, rc);
    if (s.n >= 3 && memcmp(s.p, "\"\"\"", 3) == 0) {
        r->talk.many_lines = true;
        return more_lines(r, (Slice){s.p + 3, s.n - 3}, rc);
    }
    if (s.n == 0) return true;
    size_t n = 0;
    while (n < s.n && s.p[n] != ' ' && s.p[n] != '\t') n++;
    Slice word = {s.p, n};
    if (slice_eq_str(word, "/quit") || slice_eq_str(word, "/exit") || slice_eq_str(word, "/bye"))
        return false;
    bool is_command = s.p[0] == '/' && !memchr(word.p + 1, '/', word.n - 1);
    if (is_command) *rc = run_command(r, word, strip((Slice){s.p + n, s.n - n}));
    else *rc = cli_chat_say(r, line);
    return true;
}
