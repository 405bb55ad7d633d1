/* SPDX-License-Identifier: Apache-2.0 */
#include "text/json.h"

#include <math.h>

#include "base/rng.h"
#include "test.h"

static Json *parse(const char *s) {
    Json *j = NULL;
    OK_(json_parse(&j, slice_of(s), TERR));
    return j;
}

static void refused(Slice s) {
    Json *j = NULL;
    FAILS(ERR_FORMAT, json_parse(&j, s, TERR));
    TRUE_(j == NULL);
    TRUE_(!strchr(test_err.msg, '\n'));
}

TEST(json_typed_members) {
    Json *j = parse("{\"s\":\"a\\u00e4\\u0000b\",\"i\":-7,\"f\":0.5,\"t\":true,\"n\":null,\"w\":3."
                    "0,\"a\":[1,\"x\"]}");
    Slice s = {"keep", 4};
    int64_t i = 1;
    double d = 2;
    bool t = false;
    OK_(json_opt_str(&s, j, "s", TERR));
    EQ(s.n, 5);
    EQ_MEM(s.p, "a\xc3\xa4\0b", 5);
    OK_(json_opt_int(&i, j, "i", -10, 10, TERR));
    EQ(i, -7);
    OK_(json_opt_int(&i, j, "w", 0, 10, TERR));
    EQ(i, 3);
    OK_(json_opt_num(&d, j, "f", 0, 1, TERR));
    NEAR(d, 0.5, 0);
    OK_(json_opt_num(&d, j, "i", -10, 1, TERR));
    NEAR(d, -7, 0);
    OK_(json_opt_bool(&t, j, "t", TERR));
    TRUE_(t);
    OK_(json_opt_int(&i, j, "n", 0, 1, TERR)); /* null is absent */
    OK_(json_opt_int(&i, j, "none", 0, 1, TERR));
    EQ(i, 3);
    TRUE_(json_get(j, "n") == NULL);
    const Json *a = json_get(j, "a");
    TRUE_(json_is_array(a) && json_len(a) == 2 && json_is_str(json_at(a, 1)) && !json_is_object(a));
    EQ(json_str(json_at(a, 1)).n, 1);
    TRUE_(json_at(a, 2) == NULL && json_at(j, 0) == NULL && json_get(a, "x") == NULL);
    EQ(json_str(a).n, 0);
    EQ(json_len(j), 7);
    EQ(json_len(NULL), 0);
    FALSE_(json_is_object(NULL));
    json_free(j);
}

TEST(json_wrong_members_name_the_key) {
    Json *j = parse("{\"s\":1,\"i\":\"x\",\"f\":1.5,\"b\":1,\"big\":99}");
    Slice s;
    int64_t i = 5;
    double d = 5;
    bool t;
    FAILS(ERR_ARG, json_opt_str(&s, j, "s", TERR));
    EQ_STR(test_err.msg, "s: a string is needed, not an integer");
    FAILS(ERR_ARG, json_opt_int(&i, j, "i", 0, 1, TERR));
    FAILS(ERR_ARG, json_opt_int(&i, j, "f", 0, 1, TERR));
    FAILS(ERR_ARG, json_opt_bool(&t, j, "b", TERR));
    FAILS(ERR_ARG, json_opt_int(&i, j, "big", 0, 10, TERR));
    EQ_STR(test_err.msg, "big: 99 is out of range, 0 to 10");
    FAILS(ERR_ARG, json_opt_num(&d, j, "big", 0, 10, TERR));
    EQ_STR(test_err.msg, "big: 99 is out of range, 0 to 10");
    EQ(i, 5);
    NEAR(d, 5, 0);
    json_free(j);
}

TEST(json_refuses_what_is_not_one_clean_value) {
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "[1,]",
        "{\"a\":1,\"a\":2}",
        "1 2",
        "nul",
        "NaN",
        "Infinity",
        "[1e999]",
        "01",
        "'a'",
        "{\"a\" 1}",
        "\"\xff\"",
        "\"\xed\xa0\x80\"",
        "\"\\ud800\"",
        "\"a\nb\"",
        "99999999999999999999",
        "{\"a\\u0000\":1}",
        "[1]]",
        "\xef\xbb\xbf{}",
        "// c\n1",
        "\"\\x\"",
        "\"abc\x01\"",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) refused(slice_of(bad[i]));
    refused((Slice){"1\0", 2}); /* jansson alone takes it */
    refused((Slice){"[1\0]", 4});
    refused((Slice){NULL, 0});
}

TEST(json_depth_is_bounded) {
    StrBuf b = {0};
    Json *j = NULL;
    for (int i = 0; i < JSON_MAX_DEPTH; i++) sb_putc(&b, '[');
    for (int i = 0; i < JSON_MAX_DEPTH; i++) sb_putc(&b, ']');
    OK_(json_parse(&j, (Slice){b.p, b.n}, TERR));
    json_free(j);
    sb_clear(&b);
    for (int i = 0; i < 1000000; i++) sb_puts(&b, "[{\"a\":");
    refused((Slice){b.p, b.n});
    EQ_STR(test_err.msg, "json: nested deeper than 64 levels");
    sb_clear(&b);
    sb_puts(&b, "[\"\\\"");
    for (int i = 0; i < 100; i++) sb_putc(&b, '['); /* brackets in a string are not levels */
    sb_puts(&b, "\"]");
    OK_(json_parse(&j, (Slice){b.p, b.n}, TERR));
    json_free(j);
    sb_deinit(&b);
}

TEST(json_error_has_line_and_column) {
    refused(slice_of("{\n  \"a\": ,\n}"));
    TRUE_(strstr(test_err.msg, "line 2, column") != NULL);
}

TEST(json_writer_text) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    jw_obj(&w, NULL);
    jw_cstr(&w, "s", "a\"\\\n\x01\x7f\xc3\xa4/");
    jw_str(&w, "bad",
           (Slice){"\xff"
                   "a\0",
                   3});
    jw_int(&w, "i", INT64_MIN);
    jw_num(&w, "d", 0.1);
    jw_num(&w, "nan", (double)NAN);
    jw_num(&w, "z0", -0.0);
    jw_f32(&w, "z1", 0.0f);
    jw_f32(&w, "f", 0.1f);
    jw_arr(&w, "a");
    jw_bool(&w, NULL, true);
    jw_null(&w, NULL);
    jw_obj(&w, NULL);
    jw_end_obj(&w);
    jw_arr(&w, NULL);
    jw_int(&w, NULL, 1);
    jw_end_arr(&w);
    jw_end_arr(&w);
    jw_bool(&w, "z", false);
    jw_end_obj(&w);
    EQ_STR(sb_str(&b),
           "{\"s\":\"a\\\"\\\\\\n\\u0001\x7f\xc3\xa4/\",\"bad\":\"\xef\xbf\xbd"
           "a\\u0000\","
           "\"i\":-9223372036854775808,\"d\":0.1,\"nan\":null,\"z0\":-0.0,\"z1\":0,\"f\":0.1,"
           "\"a\":[true,null,{},[1]],\"z\":false}");
    Json *j = parse(sb_str(&b));
    json_free(j);
    sb_deinit(&b);
}

TEST(json_numbers_read_back_the_same) {
    StrBuf b = {0};
    JsonW w;
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t r[4];
        double d;
        float f;
        rng_philox(r, 3, 0, i);
        memcpy(&d, r, 8);
        memcpy(&f, r + 2, 4);
        if (!isfinite(d) || !isfinite(f)) continue;
        sb_clear(&b);
        jw_init(&w, &b);
        jw_obj(&w, NULL);
        jw_num(&w, "d", d);
        jw_f32(&w, "f", f);
        jw_end_obj(&w);
        Json *j = parse(sb_str(&b));
        double d2 = 0, f2 = 0;
        OK_(json_opt_num(&d2, j, "d", -HUGE_VAL, HUGE_VAL, TERR));
        OK_(json_opt_num(&f2, j, "f", -HUGE_VAL, HUGE_VAL, TERR));
        json_free(j);
        if (d2 != d || (float)f2 != f) FAIL("%a %a: %s", d, (double)f, sb_str(&b));
    }
    sb_deinit(&b);
}

TEST(json_writer_too_deep_fails_the_buffer) {
    StrBuf b = {0};
    JsonW w;
    jw_init(&w, &b);
    for (int i = 0; i < JSON_MAX_DEPTH; i++) jw_arr(&w, NULL);
    FALSE_(b.failed);
    jw_arr(&w, NULL);
    TRUE_(b.failed);
    sb_deinit(&b);
}
