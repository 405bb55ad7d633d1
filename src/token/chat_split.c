/* SPDX-License-Identifier: Apache-2.0
 *
 * Reasoning apart from content, byte by byte: bytes that may become a mark are held back until they are one or
 * cannot be any more, white space that may stand in front of one likewise.
 *
 *   START -[open]-> THINKING -[close]-> AFTER -[anything else]-> CONTENT        START -[anything else]-> CONTENT
 *   with channels: HEADER -[<|message|>]-> THINKING or CONTENT -[<|end|>]-> HEADER
 */
#include "token/chat_internal.h"

static const ChatMarks known[] = {
    {"<think>", "</think>", false},
    {"<|START_THINKING|>", "<|END_THINKING|>", false},
    {"[THINK]", "[/THINK]", false},
    {"<seed:think>", "</seed:think>", false},
    {"<thought>", "</thought>", false},
    {"<reasoning>", "</reasoning>", false},
    {"<|begin_of_thought|>", "<|end_of_thought|>", false},
    {"◁think▷", "◁/think▷", false},
    {"<|message|>", "<|end|>", true},
};

const ChatMarks *tok__chat_marks(Slice source, const Tokenizer *tok) {
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        const ChatMarks *m = &known[i];
        if (m->channels && !slice_has(source, "<|channel|>")) continue;
        if (slice_has(source, m->close)) return m;
        if (tok && !m->channels && tok_find(tok, slice_of(m->open)) >= 0 &&
            tok_find(tok, slice_of(m->close)) >= 0)
            return m;
    }
    return NULL;
}

bool chat_thinks(const Chat *c) { return c->marks != NULL; }

static bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

/* Whether s ends with mark and white space. */
static bool ends_with(Slice s, const char *mark) {
    size_t n = strlen(mark);
    while (s.n > 0 && is_blank(s.p[s.n - 1])) s.n--;
    return s.n >= n && memcmp(s.p + s.n - n, mark, n) == 0;
}

void chat_split_init(ChatSplit *s, const Chat *c, Slice prompt) {
    *s = (ChatSplit){.state = CHAT_CONTENT};
    if (!c->marks) return;
    s->open = c->marks->open;
    s->close = c->marks->close;
    s->channels = c->marks->channels;
    s->state = s->channels                   ? CHAT_HEADER
               : ends_with(prompt, s->open)  ? CHAT_THINKING
               : ends_with(prompt, s->close) ? CHAT_CONTENT
                                             : CHAT_START;
}

/* The mark that the present state waits for, or NULL. */
static const char *awaited(const ChatSplit *s) {
    switch (s->state) {
    case CHAT_START: return s->open;
    case CHAT_HEADER: return s->open;
    case CHAT_THINKING: return s->close;
    default: return s->channels ? s->close : NULL;
    }
}

static void put_space(ChatSplit *s, StrBuf *to) {
    sb_put(to, s->space, s->n_space);
    s->n_space = 0;
}

/* A byte that belongs to no mark. */
static void put_byte(ChatSplit *s, char c, StrBuf *thought, StrBuf *content) {
    StrBuf *to = s->state == CHAT_THINKING ? thought : content;
    if (s->state == CHAT_AFTER && is_blank(c)) return;
    if (s->state == CHAT_AFTER) s->state = CHAT_CONTENT;
    if (s->state == CHAT_THINKING && !s->begun && is_blank(c)) return;
    bool may_go = s->state == CHAT_THINKING || s->state == CHAT_START;
    if (may_go && is_blank(c) && s->n_space < sizeof s->space) {
        s->space[s->n_space++] = c;
        return;
    }
    put_space(s, to);
    if (s->state == CHAT_START) s->state = CHAT_CONTENT;
    s->begun = true;
    sb_putc(to, c);
}

/* A whole mark has come. */
static void turn(ChatSplit *s) {
    bool thinks = s->channels && s->state == CHAT_HEADER &&
                  slice_has((Slice){s->held, s->n_held}, "analysis");
    s->n_space = 0;
    s->begun = false;
    if (s->channels)
        s->state = s->state != CHAT_HEADER ? CHAT_HEADER : thinks ? CHAT_THINKING : CHAT_CONTENT;
    else s->state = s->state == CHAT_START ? CHAT_THINKING : CHAT_AFTER;
    s->n_held = 0;
}

/* Give the first held byte up. */
static void release(ChatSplit *s, StrBuf *thought, StrBuf *content) {
    char c = s->held[0];
    memmove(s->held, s->held + 1, --s->n_held);
    put_byte(s, c, thought, content);
}

/* A header is kept whole up to its mark; one without end is no header. */
static void push_header(ChatSplit *s, StrBuf *thought, StrBuf *content) {
    if (ends_with((Slice){s->held, s->n_held}, s->open)) turn(s);
    if (s->n_held < sizeof s->held) return;
    s->state = CHAT_CONTENT;
    while (s->n_held) release(s, thought, content);
}

static void push_byte(ChatSplit *s, char c, StrBuf *thought, StrBuf *content) {
    s->held[s->n_held++] = c;
    if (s->state == CHAT_HEADER) {
        push_header(s, thought, content);
        return;
    }
    while (s->n_held) {
        const char *mark = awaited(s);
        size_t n = mark ? strlen(mark) : 0;
        bool fits = mark && s->n_held <= n && memcmp(mark, s->held, s->n_held) == 0;
        if (fits && s->n_held == n) turn(s);
        if (fits) return;
        release(s, thought, content);
    }
}

void chat_split_push(ChatSplit *s, Slice text, StrBuf *thought, StrBuf *content) {
    if (!s->open) {
        sb_put(content, text.p ? text.p : "", text.n);
        return;
    }
    for (size_t i = 0; i < text.n; i++) push_byte(s, text.p[i], thought, content);
}

void chat_split_finish(ChatSplit *s, StrBuf *thought, StrBuf *content) {
    if (s->state == CHAT_HEADER && s->n_held && !slice_has((Slice){s->held, s->n_held}, "<|"))
        s->state = CHAT_CONTENT;
    if (s->state == CHAT_HEADER) s->n_held = 0;
    while (s->n_held) release(s, thought, content);
    if (s->state == CHAT_START) put_space(s, content);
    s->n_space = 0;
}
