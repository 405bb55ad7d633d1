/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "text/json.h"
#include "unit/engine/grammar_help.h"

typedef struct Case {
    const char *schema;
    const char *yes[10], *no[10];
} Case;

static const Case cases[] = {
    {"true", {"1", "\"a\"", "[]", "{\"a\": [null, true]}"}, {"", "[", "tru"}},
    {"{}", {"-1.5e3", "false"}, {"01", "+1"}},
    {"{\"type\":\"object\"}",
     {"{}", "{ }", "{\"a\": 1}", "{\n  \"a\": 1,\n  \"b\": []\n}"},
     {"1", "[]", "{\"a\"}", "{,}", "{\"a\":1,}"}},
    {"{\"type\":\"string\"}",
     {"\"\"", "\"a\\n\\u00e9\\ud83d\\ude00\"", "\"\xc3\xa9\""},
     {"\"", "\"\n\"", "\"\\x\"", "\"\\ud83d\"", "\"\xc3\"", "1"}},
    {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
     {"\"ab\"", "\"\xc3\xa9\\n\\ud83d\\ude00\""},
     {"\"a\"", "\"abcd\"", "\"\xc3\xa9\""}},
    {"{\"type\":\"string\",\"maxLength\":0}", {"\"\""}, {"\"a\""}},
    {"{\"type\":\"string\",\"pattern\":\"^[a-c]+$\"}", {"\"abc\""}, {"\"\"", "\"abd\"", "abc"}},
    {"{\"type\":\"string\",\"pattern\":\"b\"}", {"\"b\"", "\"abc\""}, {"\"\"", "\"ac\""}},
    {"{\"type\":\"string\",\"pattern\":\"^a|b$\"}", {"\"ax\"", "\"xb\""}, {"\"xa\"", "\"bx\""}},
    {"{\"type\":\"string\",\"pattern\":\"^[\\\"\\\\\\\\\\n]$\"}",
     {"\"\\\"\"", "\"\\\\\"", "\"\\n\""},
     {"\"a\"", "\"\"\""}},
    {"{\"type\":\"string\",\"format\":\"date\"}",
     {"\"2024-12-31\"", "\"1999-02-28\""},
     {"\"2024-13-01\"", "\"2024-04-31\"", "\"2024-1-1\""}},
    {"{\"type\":\"string\",\"format\":\"date-time\"}",
     {"\"2024-12-31T23:59:59Z\"", "\"2024-12-31T00:00:00.25+01:30\""},
     {"\"2024-12-31\"", "\"2024-12-31T24:00:00Z\""}},
    {"{\"type\":\"string\",\"format\":\"uuid\"}",
     {"\"01234567-89ab-cdef-0123-456789abcdef\""},
     {"\"01234567\""}},
    {"{\"type\":\"string\",\"format\":\"ipv4\"}",
     {"\"255.0.10.199\""},
     {"\"256.0.0.1\"", "\"1.2.3\"", "\"01.2.3.4\""}},
    {"{\"type\":\"string\",\"format\":\"email\"}", {"\"a.b@c.org\""}, {"\"a@b\"", "\"@b.org\""}},
    {"{\"type\":\"boolean\"}", {"true", "false"}, {"null", "True"}},
    {"{\"type\":[\"null\",\"integer\"]}", {"null", "-12"}, {"1.0", "-", "\"1\""}},
    {"{\"type\":\"number\"}", {"0", "-1.25", "1e5", "2E-3"}, {"1.", ".5", "01", "1e"}},
    {"{\"type\":\"integer\",\"minimum\":-5,\"maximum\":123}",
     {"-5", "0", "7", "99", "100", "123"},
     {"-6", "124", "-0", "200", "007"}},
    {"{\"type\":\"integer\",\"exclusiveMinimum\":9}",
     {"10", "11", "99", "100", "123456789"},
     {"9", "1", "-10"}},
    {"{\"type\":\"integer\",\"maximum\":-10}", {"-10", "-11", "-100", "-999"}, {"-9", "10", "0"}},
    {"{\"type\":\"integer\",\"minimum\":9223372036854775807}",
     {"9223372036854775807"},
     {"9223372036854775806", "9223372036854775808"}},
    {"{\"type\":\"integer\",\"maximum\":-9223372036854775808}",
     {"-9223372036854775808"},
     {"-9223372036854775807"}},
    {"{\"type\":\"integer\",\"minimum\":0.5,\"maximum\":2.5}", {"1", "2"}, {"0", "3"}},
    {"{\"type\":\"integer\",\"multipleOf\":7}", {"0", "7", "-14", "700"}, {"1", "-0", "8", "07"}},
    {"{\"type\":\"integer\",\"multipleOf\":5,\"minimum\":-10,\"maximum\":12}",
     {"-10", "-5", "0", "10"},
     {"12", "-7"}},
    {"{\"type\":\"number\",\"minimum\":0,\"maximum\":1}",
     {"0", "0.5", "1", "1.0", "0.999", "0.0"},
     {"1.01", "-0.1", "2", "1e0"}},
    {"{\"type\":\"number\",\"exclusiveMinimum\":0.25,\"exclusiveMaximum\":0.5}",
     {"0.3", "0.2501", "0.499"},
     {"0.25", "0.250", "0.5", "0.2", "0"}},
    {"{\"type\":\"number\",\"minimum\":-1.5,\"maximum\":2.75}",
     {"-1.5", "-1.49", "-1", "0", "2.75", "2.7", "2.750", "1.999"},
     {"-1.51", "2.751", "-2", "3"}},
    {"{\"type\":\"number\",\"minimum\":10.05}",
     {"10.05", "10.1", "11", "10.051", "99999"},
     {"10", "10.04", "9.9", "1"}},
    {"{\"type\":\"number\",\"exclusiveMaximum\":-3}",
     {"-3.001", "-4", "-10"},
     {"-3", "-3.0", "-2", "3"}},
    {"{\"type\":\"number\",\"multipleOf\":0.01}", {"1", "0.25", "-3.1"}, {"0.125", "1e5"}},
    {"{\"type\":\"number\",\"multipleOf\":0.1,\"minimum\":0,\"maximum\":0.35}",
     {"0", "0.1", "0.3"},
     {"0.35", "0.4", "0.25"}},
    {"{\"enum\":[\"a\",1,null,true,{\"k\":[1,2.5]},\"a\\\"b\"]}",
     {"\"a\"", "1", "null", "{\"k\":[1,2.5]}", "\"a\\\"b\""},
     {"\"b\"", "a", "2"}},
    {"{\"type\":\"string\",\"enum\":[\"x\",2]}", {"\"x\""}, {"2"}},
    {"{\"enum\":[1,2,3,4],\"minimum\":3}", {"3", "4"}, {"2"}},
    {"{\"allOf\":[{\"enum\":[1,2,3]},{\"enum\":[3,2]}],\"const\":2}", {"2"}, {"3", "1"}},
    {"{\"const\":null}", {"null"}, {"0"}},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"}}",
     {"[]", "[1]", "[1, 2,3]"},
     {"[1,]", "[,1]", "[true]", "[1"}},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":2,\"maxItems\":3}",
     {"[1,2]", "[1,2,3]"},
     {"[]", "[1]", "[1,2,3,4]"}},
    {"{\"type\":\"array\",\"minItems\":1}", {"[1]", "[{}, 2]"}, {"[]"}},
    {"{\"type\":\"array\",\"maxItems\":0}", {"[]", "[ ]"}, {"[1]"}},
    {"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"string\"}],"
     "\"minItems\":1}",
     {"[1]", "[1,\"a\"]"},
     {"[]", "[\"a\"]", "[1,\"a\",2]"}},
    {"{\"type\":\"array\",\"prefixItems\":[{\"const\":1}],\"items\":{\"const\":2},\"maxItems\":3}",
     {"[]", "[1]", "[1,2]", "[1,2,2]"},
     {"[2]", "[1,1]", "[1,2,2,2]"}},
    {"{\"type\":\"array\",\"prefixItems\":[{\"const\":1}],\"items\":false,\"minItems\":1}",
     {"[1]"},
     {"[]", "[1,2]"}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"string\"}"
     ",\"c\":{}},\"required\":[\"a\",\"c\"],\"additionalProperties\":false}",
     {"{\"a\":1,\"c\":[]}", "{\"a\": 1, \"b\": \"x\", \"c\": null}"},
     {"{}", "{\"a\":1}", "{\"c\":1,\"a\":1}", "{\"a\":1,\"c\":1,\"d\":1}"}},
    {"{\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"integer\"}}}",
     {"{}", "{\"a\":1}", "{\"b\":1}", "{\"a\":1,\"b\":2}"},
     {"{\"c\":1}", "{\"a\":1,}", "{,\"b\":1}", "{\"b\":1,\"a\":1}"}},
    {"{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"}}",
     {"{}", "{\"x\":1,\"y\":2}"},
     {"{\"x\":\"1\"}"}},
    {"{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"},\"minProperties\":1,"
     "\"maxProperties\":2}",
     {"{\"x\":1}", "{\"x\":1,\"y\":2}"},
     {"{}", "{\"x\":1,\"y\":2,\"z\":3}"}},
    {"{\"type\":\"object\",\"properties\":{\"ab\":{\"const\":1},\"a\\u00e9\":{\"const\":2}},"
     "\"additionalProperties\":{\"const\":3}}",
     {"{\"ab\":1}", "{\"ab\":1,\"a\":3}", "{\"abc\":3}", "{\"a\":3,\"\":3}", "{\"a\xc3\xa8\":3}",
      "{\"\\n\":3}"},
     {"{\"ab\":3}", "{\"a\xc3\xa9\":3}", "{\"\\u0061b\":3}", "{\"x\":1}"}},
    {"{\"type\":\"object\",\"properties\":{\"a\":false,\"b\":{\"const\":1}},"
     "\"additionalProperties\":true}",
     {"{\"b\":1,\"c\":2}", "{}"},
     {"{\"a\":1}"}},
    {"{\"type\":\"object\",\"required\":[\"x\"]}", {"{\"x\":1}"}, {"{}"}},
    {"{\"type\":\"object\",\"additionalProperties\":false}", {"{}"}, {"{\"a\":1}"}},
    {"{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]}", {"1", "\"a\""}, {"null"}},
    {"{\"type\":\"object\",\"properties\":{\"k\":{\"type\":\"string\"}},\"required\":[\"k\"],"
     "\"anyOf\":[{\"properties\":{\"k\":{\"const\":\"a\"}}},{\"properties\":{\"k\":{\"const\":"
     "\"b\"}}}]}",
     {"{\"k\":\"a\"}", "{\"k\":\"b\"}"},
     {"{\"k\":\"c\"}", "{}"}},
    {"{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"t\":{\"const\":\"a\"},\"x\":{\"type\":"
     "\"integer\"}},\"required\":[\"t\",\"x\"]},{\"type\":\"object\",\"properties\":{\"t\":{"
     "\"const\":\"b\"}},\"required\":[\"t\"]}]}",
     {"{\"t\":\"a\",\"x\":1}", "{\"t\":\"b\"}"},
     {"{\"t\":\"a\"}", "{\"t\":\"b\",\"x\":1}"}},
    {"{\"allOf\":[{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":["
     "\"a\"]},{\"properties\":{\"a\":{\"minimum\":5},\"b\":{\"type\":\"null\"}}}]}",
     {"{\"a\":5}", "{\"a\":50,\"b\":null}"},
     {"{\"a\":4}", "{}"}},
    {"{\"$ref\":\"#/$defs/"
     "t\",\"$defs\":{\"t\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"integer\"},"
     "\"kids\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/t\"}}},\"required\":[\"v\"]}}}",
     {"{\"v\":1}", "{\"v\":1,\"kids\":[{\"v\":2},{\"v\":3,\"kids\":[]}]}"},
     {"{}", "{\"v\":1,\"kids\":[1]}"}},
    {"{\"type\":\"object\",\"properties\":{\"next\":{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":"
     "\"null\"}],\"default\":null}},\"required\":[\"next\"]}",
     {"{\"next\":null}", "{\"next\":{\"next\":null}}"},
     {"{}", "{\"next\":1}"}},
    {"{\"properties\":{\"a\":{\"$ref\":\"#/$defs/x~1y%20z\",\"maximum\":3}},\"$defs\":{\"x/y "
     "z\":{\"type\":\"integer\",\"minimum\":2}}}",
     {"{\"a\":2}", "{\"a\":3}"},
     {"{\"a\":1}", "{\"a\":4}"}},
    {"{\"definitions\":{\"n\":{\"type\":\"integer\"}},\"type\":\"array\",\"items\":{\"$ref\":\"#/"
     "definitions/n\"},\"minItems\":3,\"maxItems\":5}",
     {"[1,2,3]"},
     {"[1,2]"}},
    {"{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"string\"}},\"required\":[\"x\"],"
     "\"minimum\":3,\"title\":\"t\",\"x-unknown\":1}",
     {"{\"x\":\"\"}"},
     {"{}"}},
};

static Grammar *compile(const char *schema) {
    Grammar *g = NULL;
    Status st = grammar_from_schema(&g, slice_of(schema), NULL, TERR);
    if (st != OK) FAIL("%s: %s", schema, test_err.msg);
    return g;
}

TEST(texts) {
    GrammarVocab *v = help_vocab();
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const Case *c = &cases[i];
        Grammar *g = compile(c->schema);
        for (int k = 0; k < 10 && c->yes[k]; k++)
            if (!help_accepts(g, v, slice_of(c->yes[k])))
                FAIL("%s refuses %s", c->schema, c->yes[k]);
        for (int k = 0; k < 10 && c->no[k]; k++)
            if (help_accepts(g, v, slice_of(c->no[k]))) FAIL("%s takes %s", c->schema, c->no[k]);
        OK_(grammar_check(g, TERR));
        grammar_free(g);
    }
    grammar_vocab_free(v);
}

/* What is generated is JSON, and the masks are those of trying every token. */
TEST(masks_are_exact_and_texts_are_json) {
    GrammarVocab *v = help_vocab();
    StrBuf out = {0};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        Grammar *g = compile(cases[i].schema);
        int n_done = 0;
        for (uint64_t seed = 0; seed < 10; seed++) {
            Json *j = NULL;
            if (!help_walk(g, v, seed, 12, 120, &out, seed < 2)) continue;
            n_done++;
            Status st = json_parse(&j, (Slice){sb_str(&out), out.n}, TERR);
            bool twice = st != OK && strstr(test_err.msg, "duplicate");
            if (st != OK && !twice) FAIL("%s: %s: %s", cases[i].schema, sb_str(&out), test_err.msg);
            json_free(j);
        }
        if (n_done == 0) FAIL("%s: nothing came to an end", cases[i].schema);
        grammar_free(g);
    }
    sb_deinit(&out);
    grammar_vocab_free(v);
}

/* All integers of a range around borders of lengths and signs. */
TEST(integer_ranges_are_exact) {
    static const int at[] = {-1001, -1000, -999, -101, -100, -10, -9,  -1,  0,
                             1,     9,     10,   11,   99,   100, 105, 999, 1000};
    GrammarVocab *v = help_vocab();
    for (size_t a = 0; a < COUNT_OF(at); a++)
        for (size_t b = a; b < COUNT_OF(at); b++) {
            char schema[120], text[16];
            Grammar *g;
            snprintf(schema, sizeof schema, "{\"type\":\"integer\",\"minimum\":%d,\"maximum\":%d}",
                     at[a], at[b]);
            g = compile(schema);
            for (int x = -1100; x <= 1100; x += x > -20 && x < 120 ? 1 : 7) {
                snprintf(text, sizeof text, "%d", x);
                if (help_accepts(g, v, slice_of(text)) != (x >= at[a] && x <= at[b]))
                    FAIL("%s: %s", schema, text);
            }
            grammar_free(g);
        }
    grammar_vocab_free(v);
}

/* Decimals with two digits on a grid of bounds with two digits. */
TEST(decimal_ranges_are_exact) {
    static const int at[] = {-1050, -1000, -125, -100, -99, -25, -1,  0,    1,   5,
                             10,    50,    99,   100,  101, 250, 999, 1000, 1005};
    GrammarVocab *v = help_vocab();
    for (size_t a = 0; a < COUNT_OF(at); a++)
        for (size_t b = a; b < COUNT_OF(at); b++) {
            bool strict = (a + b) % 2;
            char schema[160], text[16];
            Grammar *g = NULL;
            snprintf(schema, sizeof schema, "{\"type\":\"number\",\"%s\":%.2f,\"%s\":%.2f}",
                     strict ? "exclusiveMinimum" : "minimum", at[a] / 100.0,
                     strict ? "exclusiveMaximum" : "maximum", at[b] / 100.0);
            if (strict && a == b) {
                FAILS(ERR_UNSUPPORTED, grammar_from_schema(&g, slice_of(schema), NULL, TERR));
                continue;
            }
            g = compile(schema);
            for (int x = -1100; x <= 1100; x += x > -130 && x < 130 ? 1 : 5) {
                bool want = strict ? x > at[a] && x < at[b] : x >= at[a] && x <= at[b];
                snprintf(text, sizeof text, "%s%d.%02d", x < 0 ? "-" : "", abs(x) / 100,
                         abs(x) % 100);
                if (help_accepts(g, v, slice_of(text)) != want) FAIL("%s: %s", schema, text);
                if (x % 100) continue;
                snprintf(text, sizeof text, "%d", x / 100);
                if (help_accepts(g, v, slice_of(text)) != want) FAIL("%s: %s", schema, text);
            }
            grammar_free(g);
        }
    grammar_vocab_free(v);
}

TEST(refused_with_the_place) {
    static const struct {
        const char *schema;
        Status st;
        const char *message;
    } bad[] = {
        {"", ERR_FORMAT, "json"},
        {"[]", ERR_FORMAT, "#: a schema is"},
        {"false", ERR_UNSUPPORTED, "#: no text"},
        {"{\"type\":\"int\"}", ERR_FORMAT, "#/type: "},
        {"{\"properties\":{\"a/b~\":{\"not\":{}}}}", ERR_UNSUPPORTED,
         "#/properties/a~1b~0/not: not supported"},
        {"{\"type\":\"array\",\"uniqueItems\":true}", ERR_UNSUPPORTED, "#/uniqueItems: "},
        {"{\"items\":{\"format\":\"uri\"}}", ERR_UNSUPPORTED, "#/items/format: format \"uri\""},
        {"{\"pattern\":\"a(\"}", ERR_FORMAT, "#/pattern: "},
        {"{\"pattern\":\"a\",\"minLength\":1}", ERR_UNSUPPORTED, "#/pattern: together"},
        {"{\"$ref\":\"#/x\"}", ERR_FORMAT, "#/$ref: refers to something that is not there"},
        {"{\"$ref\":\"http://a/b\"}", ERR_UNSUPPORTED, "#/$ref: only"},
        {"{\"$ref\":\"#\"}", ERR_UNSUPPORTED, "#: refers to itself"},
        {"{\"allOf\":[{\"$ref\":\"#\"},{\"type\":\"string\"}]}", ERR_FULL, "reference to itself"},
        {"{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"string\"}]}", ERR_UNSUPPORTED,
         "refers to itself"},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}",
         ERR_UNSUPPORTED, "#: no text can"},
        {"{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", ERR_UNSUPPORTED,
         "#/oneOf/1: may hold together"},
        {"{\"anyOf\":[]}", ERR_FORMAT, "#/anyOf: "},
        {"{\"anyOf\":[{\"type\":\"x\"}]}", ERR_FORMAT, "#/anyOf/0/type"},
        {"{\"type\":\"integer\",\"multipleOf\":7,\"minimum\":3}", ERR_UNSUPPORTED,
         "#/multipleOf: "},
        {"{\"type\":\"number\",\"multipleOf\":0.3}", ERR_UNSUPPORTED, "#/multipleOf: "},
        {"{\"minLength\":-1}", ERR_FORMAT, "#/minLength: "},
        {"{\"minimum\":\"1\"}", ERR_FORMAT, "#/minimum: "},
        {"{\"type\":\"number\",\"minimum\":1e300}", ERR_UNSUPPORTED, "#/minimum: "},
        {"{\"type\":\"integer\",\"minimum\":3,\"maximum\":2}", ERR_UNSUPPORTED, "#: no text"},
        {"{\"type\":\"string\",\"maxLength\":1000000}", ERR_FULL, "#/maxLength: "},
        {"{\"items\":{\"type\":\"string\"},\"maxItems\":1000000}", ERR_FULL, "#/maxItems: "},
        {"{\"pattern\":\"^(a{1000}){1000}$\"}", ERR_FULL, "#/pattern: "},
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        Grammar *g = NULL;
        Status st = grammar_from_schema(&g, slice_of(bad[i].schema), NULL, TERR);
        if (st != bad[i].st || !strstr(test_err.msg, bad[i].message))
            FAIL("%s: %d %s", bad[i].schema, (int)st, test_err.msg);
        TRUE_(g == NULL);
    }
}

/* Schemas that double at each level cost a bounded time and are refused, or stay small. */
TEST(hostile_schemas_are_bounded) {
    StrBuf b = {0};
    Grammar *g = NULL;
    sb_puts(&b, "{\"$ref\":\"#/$defs/d0\",\"$defs\":{");
    for (int i = 0; i < 60; i++) {
        sb_printf(&b,
                  "\"d%d\":{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#/$defs/"
                  "d%d\",\"minProperties\":0},"
                  "\"b\":{\"$ref\":\"#/$defs/d%d\",\"maxLength\":3}}},",
                  i, i + 1, i + 1);
    }
    sb_puts(&b, "\"d60\":{\"type\":\"string\"}}}");
    Status st = grammar_from_schema(&g, (Slice){b.p, b.n}, NULL, TERR);
    if (st != OK) TRUE_(st == ERR_FULL || st == ERR_TIMEOUT || st == ERR_UNSUPPORTED);
    grammar_free(g);
    g = NULL;
    sb_clear(&b);
    sb_puts(&b, "{\"anyOf\":[");
    for (int i = 0; i < 20000; i++) sb_puts(&b, i ? ",{\"$ref\":\"#\"}" : "{\"$ref\":\"#\"}");
    sb_puts(&b, "]}");
    TRUE_(grammar_from_schema(&g, (Slice){b.p, b.n}, NULL, TERR) != OK);
    sb_clear(&b);
    for (int i = 0; i < 60; i++) sb_puts(&b, "{\"items\":");
    sb_puts(&b, "{}");
    for (int i = 0; i < 60; i++) sb_puts(&b, "}");
    OK_(grammar_from_schema(&g, (Slice){b.p, b.n}, NULL, TERR));
    grammar_free(g);
    sb_deinit(&b);
}

/* `--bench`: texts for another validator (tests/peers/grammar_validate.py), a line of schema, tab, text each. */
BENCH(print_for_a_validator) {
    GrammarVocab *v = help_vocab();
    StrBuf out = {0};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        Grammar *g = compile(cases[i].schema);
        for (uint64_t seed = 0; seed < 200; seed++) {
            if (!help_walk(g, v, seed, (int)(seed % 40), 150, &out, false)) continue;
            printf("CASE\t%s\t", cases[i].schema);
            for (size_t k = 0; k < out.n; k++) /* line ends are white space, or escaped, in JSON */
                putchar(out.p[k] == '\n' || out.p[k] == '\t' ? ' ' : out.p[k]);
            putchar('\n');
        }
        grammar_free(g);
    }
    sb_deinit(&out);
    grammar_vocab_free(v);
}
