/* SPDX-License-Identifier: Apache-2.0
 * Lines typed at the terminal, with editing and history through libedit; from a pipe, plain lines. Every line is a
 * prompt of its own, or a message of a conversation (run_chat.c). */
#include <histedit.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/run.h"

enum { HISTORY_LINES = 1000, MAX_LINE = 1 << 20 };

static const char help[] = "Type a text and press Enter: the model continues it.\n"
                           "  /help   this\n"
                           "  /quit   leave (or Ctrl-D)\n"
                           "Ctrl-C stops a generation. Arrow keys edit and recall lines.\n";

/* One line typed or read, its newline taken off. False when it was the last. */
static bool handle_line(RunSession *r, const char *line, size_t n, int *rc) {
    while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) n--;
    Slice s = {line, n};
    if (cli_chat_on(r)) return cli_chat_line(r, s, rc) && cli_flush_stdout() == CLI_OK;
    if (slice_eq_str(s, "/quit")) return false;
    if (slice_eq_str(s, "/help")) fputs(help, stdout);
    else if (n > 0) *rc = cli_run_generate(r, s);
    return cli_flush_stdout() == CLI_OK;
}

static char *prompt(EditLine *el) {
    static char first[] = "> ", further[] = "... ";
    RunSession *r = NULL;
    el_get(el, EL_CLIENTDATA, &r);
    return r && cli_chat_more(r) ? further : first;
}

/* A failed line does not end a session at the terminal. */
static void edit_lines(RunSession *r, EditLine *el, History *h) {
    int rc = CLI_OK;
    for (;;) {
        HistEvent ev;
        int n = 0;
        const char *line = el_gets(el, &n);
        bool stopped = cli_run_interrupted();
        if (stopped) putchar('\n');
        if (!line && !stopped) break;
        if (!line || stopped) continue;
        if (n > 1) history(h, &ev, H_ENTER, line);
        if (!handle_line(r, line, (size_t)n, &rc)) break;
    }
    putchar('\n');
}

static int run_terminal(RunSession *r) {
    HistEvent ev;
    EditLine *el = el_init("ingot", stdin, stdout, stderr);
    History *h = history_init();
    if (!el || !h) {
        Err e = {0};
        err_set(&e, ERR_NOMEM, "line editor");
        if (el) el_end(el);
        if (h) history_end(h);
        return cli_fail(&e);
    }
    history(h, &ev, H_SETSIZE, HISTORY_LINES);
    el_set(el, EL_CLIENTDATA, r);
    el_set(el, EL_PROMPT, prompt);
    el_set(el, EL_EDITOR, "emacs");
    /* Ctrl-D typed before the editor took the terminal over arrives as a zero byte. */
    el_set(el, EL_BIND, "^@", "ed-end-of-file", NULL);
    el_set(el, EL_SIGNAL, 1);
    el_set(el, EL_HIST, history, h);
    fputs(cli_chat_on(r) ? cli_chat_help() : help, stdout);
    edit_lines(r, el, h);
    history_end(h);
    el_end(el);
    return cli_flush_stdout();
}

/* Lines of a pipe: the first that fails ends it. */
static int run_pipe(RunSession *r) {
    StrBuf b = {0};
    int rc = CLI_OK;
    bool go_on = true;
    for (int c = 0; go_on && rc == CLI_OK && c != EOF;) {
        c = getchar();
        if (c != EOF) sb_putc(&b, (char)c);
        if ((c != EOF && c != '\n' && b.n < MAX_LINE) || b.n == 0) continue;
        go_on = handle_line(r, sb_str(&b), b.n, &rc);
        sb_clear(&b);
    }
    sb_deinit(&b);
    return rc;
}

int cli_run_lines(RunSession *r) { return isatty(STDIN_FILENO) ? run_terminal(r) : run_pipe(r); }
