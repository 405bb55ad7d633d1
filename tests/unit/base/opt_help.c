/* SPDX-License-Identifier: Apache-2.0 */
#include "opt_fixture.h"
#include "test.h"

TEST(help_lines) {
    static const char *const WANT[] = {
        "  -b, --batch-size N     sequences decoded together in one step (default 16; 1 to 256)",
        "      --learning-rate X  step size of the optimizer at the end of the warm-up"
        " (default 5e-5; 0 to 1)",
        "      --[no-]mmap        map the file (default true)",
        "  -q, --quiet            print nothing",
        "      --dtype TYPE       number format of the weights while they are trained,"
        " which is not the one",
        "                         they are saved in (default bf16; f32|f16|bf16)",
        "  -m, --model FILE       model to load",
        "  -f, --file FILE        text to read (may be repeated)",
        "      --seed N           of all random numbers",
    };
    StrBuf b = {0}, want = {0};
    opt_format_help(DEMO, N_DEMO, &b);
    for (size_t i = 0; i < COUNT_OF(WANT); i++) sb_printf(&want, "%s\n", WANT[i]);
    EQ_STR(sb_str(&b), sb_str(&want));
    sb_deinit(&b);
    sb_deinit(&want);
}

TEST(limits_on_one_side) {
    static const OptSpec SPECS[] = {
        {.key = "n", .type = OPT_INT, .min = 1, .max = 1e18, .help = "a"},
        {.key = "m", .type = OPT_FLOAT, .min = -1e30, .max = 0.5, .help = "b"},
        {.key = "c", .type = OPT_CHOICE, .choices = "x|y", .help = "c"},
        {.key = "an_option_with_a_very_long_name", .type = OPT_INT, .def = "1", .help = "d"},
    };
    StrBuf b = {0};
    opt_format_help(SPECS, COUNT_OF(SPECS), &b);
    EQ_STR(sb_str(&b), "      --n N    a (at least 1)\n"
                       "      --m X    b (at most 0.5)\n"
                       "      --c x|y  c\n"
                       "      --an-option-with-a-very-long-name N\n"
                       "               d (default 1)\n");
    sb_deinit(&b);
}

TEST(no_line_is_too_long) {
    StrBuf b = {0};
    opt_format_help(DEMO, N_DEMO, &b);
    for (const char *p = sb_str(&b); *p; p += strcspn(p, "\n") + 1) TRUE_(strcspn(p, "\n") <= 100);
    sb_deinit(&b);
}
