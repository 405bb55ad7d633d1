/* SPDX-License-Identifier: Apache-2.0
 *
 * What masks cost: `grammar_time --bench [--vocab=FILE.gguf]` prints one line per grammar. Without a file the
 * vocabulary is made up: 151,936 pieces of words with blanks, digits and brackets.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "engine/grammar/internal.h"
#include "token/token.h"
#include "unit/engine/grammar_help.h"

enum { V = 151936 };

static char text[V][24];

/* Syllables by number, so that the trie is as wide at its top and as deep as a real one's. */
static GrammarVocab *made_up_vocab(void) {
    static const char *const syl[] = {"a",  "er", "in",  "the",      "st",           "on", "ti",
                                      "re", "al", "co",  "de",       "Ma",           "lo", "u",
                                      "_",  "S",  "ing", "\xc3\xa9", "\xe4\xbd\xa0", "i"};
    static const char *const ends[] = {"", "\"", "\",", "\":", "(", ".", "}", "0"};
    Slice *s = malloc(V * sizeof *s);
    bool *end = calloc(V, 1);
    GrammarVocab *v = NULL;
    for (uint32_t i = 0; i < V; i++) {
        uint32_t x = i * 2654435761u;
        size_t n = 0;
        if (i < 256) {
            text[i][n++] = (char)i;
        } else {
            if (x & 1) text[i][n++] = ' ';
            for (uint32_t k = 0; k < 1 + (x >> 1) % 4; k++)
                n += (size_t)snprintf(text[i] + n, 24 - n, "%s",
                                      syl[(x >> (5 + 4 * k)) % COUNT_OF(syl)]);
            if ((x >> 27) % 8 == 0)
                n += (size_t)snprintf(text[i] + n, 24 - n, "%s", ends[(x >> 24) % COUNT_OF(ends)]);
        }
        s[i] = (Slice){text[i], n};
    }
    end[V - 1] = true;
    OK_(grammar_vocab_from_pieces(&v, s, end, V, TERR));
    free(s);
    free(end);
    return v;
}

static GrammarVocab *file_vocab(const char *path) {
    GrammarVocab *v = NULL;
    Gguf *g = NULL;
    Tokenizer *t = NULL;
    OK_(gguf_open(&g, path, TERR));
    OK_(tok_load(&t, g, TERR));
    OK_(grammar_vocab_new(&v, t, TERR));
    tok_free(t);
    gguf_close(g);
    return v;
}

static GrammarVocab *vocab(void) {
    const char *path = getenv("INGOT_VOCAB");
    return path ? file_vocab(path) : made_up_vocab();
}

static int by_value(const void *x, const void *y) {
    double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

typedef struct Times {
    double first[4000], again[4000];
    int n_first, n_again;
} Times;

/* Of this thread alone: others may be using the machine. */
static double cpu_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Random texts; `first` are masks of states without one. */
static void walk(Grammar *g, const GrammarVocab *v, uint64_t seed, Times *t) {
    static uint32_t mask[(V + 31) / 32 + 8], same[(V + 31) / 32 + 8];
    GrammarState s;
    OK_(grammar_state_init(&s, g, v, TERR));
    for (int step = 0; step < 60 && !grammar_is_done(&s) && t->n_first < 4000; step++) {
        bool known = g->a.d.v[g->pins[s.pin]].slot != 0;
        double t0 = cpu_s();
        OK_(grammar_mask(&s, mask, TERR));
        double t1 = cpu_s();
        OK_(grammar_mask(&s, same, TERR));
        double t2 = cpu_s();
        EQ_MEM(mask, same, grammar_vocab_words(v) * sizeof *mask);
        if (!known) t->first[t->n_first++] = (t1 - t0) * 1e6;
        if (t->n_again < 4000) t->again[t->n_again++] = (t2 - t1) * 1e6;
        int32_t n = grammar_vocab_size(v), i = (int32_t)(rng_uniform(seed, 3, (uint64_t)step) * n);
        while (!(mask[i >> 5] >> (i & 31) & 1)) i = (i + 1) % n;
        if (step > 8 && mask['"' >> 5] >> ('"' & 31) & 1 && step % 2) i = '"';
        OK_(grammar_accept(&s, i, TERR));
    }
    grammar_state_deinit(&s);
}

static void report(const char *name, const char *warm, Times *t, double compile_ms, double warm_ms,
                   const Grammar *g) {
    qsort(t->first, (size_t)t->n_first, sizeof *t->first, by_value);
    qsort(t->again, (size_t)t->n_again, sizeof *t->again, by_value);
    printf("{\"bench\":\"grammar_mask\",\"grammar\":\"%s\",\"warm\":\"%s\",\"n\":%d,\"compile_ms\":"
           "%.2f,"
           "\"warm_ms\":%.1f,\"first_us\":{\"median\":%.1f,\"p99\":%.1f,\"max\":%.1f},\"again_us\":"
           "%.1f,"
           "\"bytes\":%zu}\n",
           name, warm, t->n_first, compile_ms, warm_ms, t->first[t->n_first / 2],
           t->first[t->n_first * 99 / 100], t->first[t->n_first - 1], t->again[t->n_again / 2],
           grammar_bytes(g));
}

typedef Status (*Make)(Grammar **, Slice, const GrammarLimits *, Err *);

static void measure(const GrammarVocab *v, const char *name, Make make, const char *source,
                    bool warm) {
    static Times t;
    Grammar *g = NULL;
    t = (Times){0};
    double t0 = clock_now_s();
    OK_(make(&g, slice_of(source), NULL, TERR));
    double t1 = clock_now_s();
    if (warm) OK_(grammar_warm(g, v, 500, TERR));
    double t2 = clock_now_s();
    for (uint64_t seed = 0; seed < 20; seed++) walk(g, v, seed, &t);
    report(name, warm ? "yes" : "no", &t, (t1 - t0) * 1e3, (t2 - t1) * 1e3, g);
    grammar_free(g);
}

BENCH(masks) {
    static const struct {
        const char *name;
        Make make;
        const char *source;
    } all[] = {
        {"object", grammar_from_schema, "{\"type\":\"object\"}"},
        {"person", grammar_from_schema,
         "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":"
         "\"integer\",\"minimum\":"
         "0,\"maximum\":150},\"email\":{\"type\":\"string\",\"format\":\"email\"},\"tags\":{"
         "\"type\":\"array\",\"items\":{"
         "\"type\":\"string\",\"maxLength\":20}},\"kind\":{\"enum\":[\"a\",\"b\",\"other\"]}},"
         "\"required\":[\"name\","
         "\"age\",\"email\",\"tags\",\"kind\"],\"additionalProperties\":false}"},
        {"tree", grammar_from_schema,
         "{\"$ref\":\"#/$defs/"
         "t\",\"$defs\":{\"t\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"string\"},"
         "\"kids\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/"
         "t\"}}},\"required\":[\"v\",\"kids\"]}}}"},
        {"map", grammar_from_schema,
         "{\"type\":\"object\",\"properties\":{\"alpha\":{\"type\":\"integer\"},\"beta\":{\"type\":"
         "\"string\"}},"
         "\"additionalProperties\":{\"type\":\"string\",\"pattern\":\"^[a-z ]{1,40}$\"}}"},
        {"length", grammar_from_schema, "{\"type\":\"string\",\"minLength\":5,\"maxLength\":400}"},
        {"words", grammar_from_gbnf, "root ::= (word \" \")+ \".\"\nword ::= [a-zA-Z]+"},
        {"free", grammar_from_gbnf,
         "root ::= item+\nitem ::= \"- \" [^\\n]+ \"\\n\" (\"(\" item \")\")?"},
        {"regex", grammar_from_regex, "(.*\\n){1,5}[A-Za-z]+"},
    };
    GrammarVocab *v = vocab();
    printf("{\"bench\":\"grammar_vocab\",\"n\":%d,\"bytes\":%zu}\n", (int)grammar_vocab_size(v),
           grammar_vocab_bytes(v));
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        measure(v, all[i].name, all[i].make, all[i].source, false);
        measure(v, all[i].name, all[i].make, all[i].source, true);
    }
    grammar_vocab_free(v);
}

/* The bound the engine counts on, with room for a busy machine: a mask of a large vocabulary stays within a
 * few milliseconds, and the same one again is a copy. */
TEST(large_vocabulary) {
    static Times t;
    Grammar *g = NULL;
    GrammarVocab *v = made_up_vocab();
    t = (Times){0};
    OK_(grammar_from_schema(&g, slice_of("{\"type\":\"object\"}"), NULL, TERR));
    for (uint64_t seed = 0; seed < 4; seed++) walk(g, v, seed, &t);
    qsort(t.first, (size_t)t.n_first, sizeof *t.first, by_value);
    TRUE_(t.first[t.n_first / 2] < 20000);
    OK_(grammar_check(g, TERR));
    grammar_free(g);
    grammar_vocab_free(v);
}
