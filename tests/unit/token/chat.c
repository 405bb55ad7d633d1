/* SPDX-License-Identifier: Apache-2.0
 * A model's template: which one it gets, what it makes of messages, what an API's messages have to become for it, and
 * an answer's reasoning cut out wherever the pieces end. */
#include "token/chat.h"

#include <pthread.h>

#include "support/vocab_build.h"
#include "test.h"

static const char chatml[] =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

static VocabSpec spec_of(const char *chat) {
    return (VocabSpec){.tokens = {"<|im_start|>", "<|im_end|>", "<s>", "th"},
                       .types = {TOK_CONTROL, TOK_CONTROL, TOK_CONTROL},
                       .merges = {"t h"},
                       .id_key = {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"},
                       .id = {258, 257},
                       .chat = chat};
}

static Chat *chat_of(const char *source) {
    Chat *c = NULL;
    OK_(chat_new_text(&c, slice_of(source), NULL, TERR));
    return c;
}

static Json *json_of(const char *text) {
    Json *j = NULL;
    OK_(json_parse(&j, slice_of(text), TERR));
    return j;
}

static void check_render(const Chat *c, const char *messages, const ChatReq *more,
                         const char *want) {
    ChatReq req = *more;
    StrBuf out = {0};
    Json *m = json_of(messages);
    req.messages = m;
    OK_(chat_render(&out, NULL, c, &req, TERR));
    EQ_STR(sb_str(&out), want);
    sb_deinit(&out);
    json_free(m);
}

#define HI "[{\"role\":\"user\",\"content\":\"hi\"}]"

TEST(models_without_a_template_get_one) {
    Tokenizer *t = NULL;
    Chat *c = NULL;
    VocabSpec marks = spec_of(NULL);
    OK_(vocab_build_load(&t, &marks, TERR));
    OK_(chat_new(&c, t, TERR));
    EQ(chat_kind(c), CHAT_CHATML);
    check_render(c, HI, &(ChatReq){.add_prompt = true},
                 "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
    EQ(chat_end_id(c), 257);
    chat_free(c);
    tok_free(t);
    OK_(vocab_build_load(&t, &vocab_small, TERR));
    OK_(chat_new(&c, t, TERR));
    EQ(chat_kind(c), CHAT_PLAIN);
    check_render(c, HI, &(ChatReq){.add_prompt = true}, "user: hi\nassistant:");
    EQ(chat_end_id(c), -1);
    chat_free(c);
    tok_free(t);
}

TEST(a_template_of_the_file) {
    Tokenizer *t = NULL;
    Chat *c = NULL;
    TokBuf ids = {0};
    Json *m = json_of(HI);
    VocabSpec own =
        spec_of("{{ bos_token }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}");
    OK_(vocab_build_load(&t, &own, TERR));
    OK_(chat_new(&c, t, TERR));
    EQ(chat_kind(c), CHAT_OWN);
    OK_(chat_encode(&ids, c, t, &(ChatReq){.messages = m}, TERR));
    EQ(ids.n, 4);
    EQ(ids.v[0], 258);
    EQ(ids.v[3], 257);
    tokbuf_deinit(&ids);
    chat_free(c);
    tok_free(t);
    VocabSpec broken = spec_of("{{ 1 +");
    OK_(vocab_build_load(&t, &broken, TERR));
    FAILS(ERR_FORMAT, chat_new(&c, t, TERR));
    TRUE_(strstr(test_err.msg, "tokenizer.chat_template") != NULL);
    TRUE_(strstr(test_err.msg, "line 1") != NULL);
    tok_free(t);
    json_free(m);
}

TEST(variables_of_the_caller_win) {
    Chat *c = chat_of(
        "{{ bos_token }}{{ add_generation_prompt }}{{ x }}{{ tools is none }}{{ documents | "
        "length if documents }}");
    Json *vars = json_of("{\"bos_token\":\"B\",\"x\":[1]}"), *docs = json_of("[1,2]");
    check_render(c, HI, &(ChatReq){.vars = vars}, "BFalse[1]True");
    check_render(c, HI, &(ChatReq){.vars = vars, .documents = docs, .add_prompt = true},
                 "BTrue[1]True2");
    StrBuf out = {0};
    FAILS(ERR_ARG, chat_render(&out, NULL, c, &(ChatReq){.messages = vars}, TERR));
    FAILS(ERR_ARG, chat_render(&out, NULL, c, &(ChatReq){.messages = docs}, TERR));
    json_free(vars);
    json_free(docs);
    chat_free(c);
}

TEST(a_last_message_goes_on) {
    Chat *c = chat_of(chatml);
    ChatReq on = {.continue_last = true};
    check_render(c, "[{\"role\":\"assistant\",\"content\":\"so far \"}]", &on,
                 "<|im_start|>assistant\nso far ");
    check_render(
        c, "[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":\"x\"}]",
        &on, "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\nx");
    Json *m = json_of("[{\"role\":\"assistant\",\"content\":\" \"}]");
    StrBuf out = {0};
    FAILS(ERR_ARG,
          chat_render(&out, NULL, c, &(ChatReq){.messages = m, .continue_last = true}, TERR));
    EQ(out.n, 0);
    sb_deinit(&out);
    json_free(m);
    chat_free(c);
}

/* ---- messages of an API ---- */

static void check_fit(const Chat *c, const char *messages, const char *want) {
    Json *m = json_of(messages), *fit = NULL, *wanted = json_of(want);
    Chat *show = chat_of("{{ messages | tojson }}");
    StrBuf a = {0}, b = {0};
    OK_(chat_messages(&fit, c, m, TERR));
    OK_(chat_render(&a, NULL, show, &(ChatReq){.messages = fit}, TERR));
    OK_(chat_render(&b, NULL, show, &(ChatReq){.messages = wanted}, TERR));
    EQ_STR(sb_str(&a), sb_str(&b));
    sb_deinit(&a);
    sb_deinit(&b);
    json_free(m);
    json_free(fit);
    json_free(wanted);
    chat_free(show);
}

#define CALLS(content, args)                                                                    \
    "[{\"role\":\"assistant\"," content "\"tool_calls\":[{\"id\":\"c\",\"function\":{\"name\":" \
    "\"f\",\"arguments\":" args "}}]}]"

/* Arguments as JSON in a JSON list, content only where it is one. */
static const char objects[] = "{% for m in messages %}{{ m.role + ':' }}{% if m.tool_calls %}{{ "
                              "m.content or '' }}{% for t in "
                              "m.tool_calls %}{{ t.function.name }}{{ t.function.arguments | "
                              "tojson }}{% endfor %}{% else %}{{ "
                              "m.content + '' }}{% endif %}{% endfor %}{{ tools | tojson }}";
/* Arguments put in as they are, calls only beside null. */
static const char texts[] =
    "{% for m in messages %}{% if m.content is none %}{% for t in m.tool_calls %}{{ '' + "
    "t.function.name + t.function.arguments }}{% endfor %}{% else %}{{ m.content + '' }}{% endif "
    "%}{% "
    "endfor %}";
static const char parts[] =
    "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}";

TEST(what_templates_take_is_found_out) {
    Chat *a = chat_of(objects), *b = chat_of(texts), *c = chat_of(parts);
    EQ(chat_caps(a)->object_args, true);
    EQ(chat_caps(a)->tools, true);
    EQ(chat_caps(a)->texts, true);
    EQ(chat_caps(a)->parts, false);
    EQ(chat_caps(a)->null_content, true);
    EQ(chat_caps(a)->empty_content, true);
    EQ(chat_caps(b)->object_args, false);
    EQ(chat_caps(b)->tools, false);
    EQ(chat_caps(b)->empty_content, false);
    EQ(chat_caps(b)->null_content, true);
    EQ(chat_caps(c)->parts, true);
    EQ(chat_caps(c)->texts, false);
    chat_free(a);
    chat_free(b);
    chat_free(c);
}

static void check_calls(const char *source, ChatCalls want) {
    Chat *c = chat_of(source);
    EQ(chat_caps(c)->calls, want);
    chat_free(c);
}

TEST(calls_are_written_as_the_template_does) {
    check_calls("{{ messages }}", CHAT_CALLS_TAGS);
    check_calls("{{ '<tool_call>' }}{{ '\"parameters\"' }}", CHAT_CALLS_TAGS);
    check_calls("{{ '{\"name\": 1, \"parameters\": 2}' }}", CHAT_CALLS_BARE);
    check_calls("{{ '<\xef\xbd\x9ctool\xe2\x96\x81"
                "calls' }}",
                CHAT_CALLS_DEEPSEEK);
}

TEST(messages_are_made_to_fit) {
    Chat *a = chat_of(objects), *b = chat_of(texts), *c = chat_of(parts);
    check_fit(a, CALLS("\"content\":\"\",", "\"{\\\"x\\\": 1.0}\""),
              CALLS("\"content\":\"\",", "{\"x\":1.0}"));
    check_fit(a, CALLS("", "\"\""),
              "[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c\","
              "\"function\":{\"name\":\"f\",\"arguments\":{}}}],\"content\":null}]");
    check_fit(a, CALLS("\"content\":null,", "\"[1\""), CALLS("\"content\":null,", "\"[1\""));
    check_fit(b, CALLS("\"content\":\"\",", "{\"x\":1}"),
              CALLS("\"content\":null,", "\"{\\\"x\\\":1}\""));
    check_fit(b, CALLS("\"content\":\"\",", "\"{}\""), CALLS("\"content\":null,", "\"{}\""));
    check_fit(
        a,
        "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\","
        "\"text\":\"b\"}],\"n\":[2.0,1e300,-3,true,null]}]",
        "[{\"role\":\"user\",\"content\":\"a\\nb\",\"n\":[2.0,1e300,-3,true,null]}]");
    check_fit(c, HI, "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"}]}]");
    Json *m = json_of("[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]"), *fit = NULL;
    FAILS(ERR_ARG, chat_messages(&fit, a, m, TERR));
    TRUE_(strstr(test_err.msg, "image_url") != NULL);
    json_free(m);
    m = json_of("[1]");
    FAILS(ERR_ARG, chat_messages(&fit, a, m, TERR));
    json_free(m);
    chat_free(a);
    chat_free(b);
    chat_free(c);
}

/* Deep arguments in deep messages: an error, not a half-written text. */
TEST(deep_messages_are_refused) {
    Chat *a = chat_of(objects);
    StrBuf b = {0};
    Json *m = NULL, *fit = NULL;
    sb_puts(&b,
            "[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"arguments\":\"{\\\"a\\\":");
    for (int i = 0; i < 60; i++) sb_putc(&b, '[');
    for (int i = 0; i < 60; i++) sb_putc(&b, ']');
    sb_puts(&b, "}\"}}]}]");
    OK_(json_parse(&m, (Slice){sb_str(&b), b.n}, TERR));
    FAILS(ERR_ARG, chat_messages(&fit, a, m, TERR));
    json_free(m);
    sb_deinit(&b);
    chat_free(a);
}

/* ---- reasoning ---- */

static void check_split(const char *template, const char *prompt, const char *text,
                        const char *thought, const char *content) {
    Chat *c = chat_of(template);
    size_t n = strlen(text);
    for (size_t cut = 0; cut <= n; cut++) {
        ChatSplit s;
        StrBuf a = {0}, b = {0};
        chat_split_init(&s, c, slice_of(prompt));
        chat_split_push(&s, (Slice){text, cut}, &a, &b);
        for (size_t i = cut; i < n; i++) chat_split_push(&s, (Slice){text + i, 1}, &a, &b);
        chat_split_finish(&s, &a, &b);
        EQ_STR(sb_str(&a), thought);
        EQ_STR(sb_str(&b), content);
        sb_deinit(&a);
        sb_deinit(&b);
    }
    chat_free(c);
}

TEST(reasoning_is_cut_out) {
    const char *think = "{{ '</think>' }}", *none = "x",
               *channels = "<|channel|><|message|><|end|>";
    check_split(think, "q", "<think>\na < b\n</think>\n\nyes", "a < b", "yes");
    check_split(think, "q<think>\n", "a\n\nb</think>yes </think>", "a\n\nb", "yes </think>");
    check_split(think, "q<think>\n\n</think>\n\n", " yes", "", " yes");
    check_split(think, "q", " plain <think>x</think>", "", " plain <think>x</think>");
    check_split(think, "q", "<think>never done </thin", "never done </thin", "");
    check_split(think, "q", "<thin", "", "<thin");
    check_split(think, "q", "", "", "");
    check_split(none, "q<think>", "<think>a</think>b", "", "<think>a</think>b");
    check_split(
        channels, "<|start|>assistant",
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>yes",
        "hm", "yes");
    check_split(channels, "<|start|>assistant", "<|channel|>final<|message|>yes<|e", "", "yes<|e");
    check_split(channels, "<|start|>assistant", "no header", "", "no header");
}

/* ---- threads ---- */

enum { THREADS = 4, TIMES = 50 };

typedef struct Job {
    const Chat *c;
    const Json *messages;
    int n_wrong;
} Job;

static void *render_often(void *arg) {
    Job *j = arg;
    for (int i = 0; i < TIMES; i++) {
        StrBuf out = {0};
        ChatReq req = {.messages = j->messages, .add_prompt = i & 1};
        Status st = chat_render(&out, NULL, j->c, &req, NULL);
        j->n_wrong += st != OK || !strstr(sb_str(&out), "user\nhi") ||
                      str_ends_with(sb_str(&out), "assistant\n") != (i & 1);
        sb_deinit(&out);
    }
    return NULL;
}

TEST(many_threads_share_a_template) {
    pthread_t t[THREADS];
    Job jobs[THREADS];
    Chat *c = chat_of(chatml);
    Json *m = json_of(HI);
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (Job){.c = c, .messages = m};
        EQ(pthread_create(&t[i], NULL, render_often, &jobs[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < THREADS; i++) EQ(jobs[i].n_wrong, 0);
    json_free(m);
    chat_free(c);
}
