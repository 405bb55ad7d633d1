/* SPDX-License-Identifier: Apache-2.0 */
#include "net/http.h"
#include "test.h"

static StrBuf out;

static const char *get(const char *query, const char *name) {
    bool found = true;
    sb_clear(&out);
    OK_(http_query_get(&out, &found, slice_of(query), name, TERR));
    return found ? sb_str(&out) : NULL;
}

TEST(fields_of_a_query) {
    EQ_STR(get("a=1&b=2&a=3", "a"), "1");
    EQ_STR(get("a=1&b=2", "b"), "2");
    EQ_STR(get("a=1&b", "b"), "");
    EQ_STR(get("a=1&b=", "b"), "");
    EQ_STR(get("&&a=x=y&", "a"), "x=y");
    EQ_STR(get("%61b=%41+%2B%c3%a9", "ab"), "A +\xc3\xa9");
    EQ_STR(get("a=1", "b"), NULL);
    EQ_STR(get("aa=1", "a"), NULL);
    EQ_STR(get("a=1", "aa"), NULL);
    EQ_STR(get("", "a"), NULL);
    EQ_STR(get("=1", "a"), NULL);
    EQ_STR(get("%zz=1&a=2", "a"), "2"); /* the bad name is nobody's */
    sb_deinit(&out);
}

TEST(bad_values) {
    static const char *const wrong[] = {"a=%",   "a=%4",  "a=%4g",      "a=%00",
                                        "a=%ff", "a=%c3", "a=%ed%a0%80"};
    bool found;
    sb_puts(&out, "before");
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        FAILS(ERR_FORMAT, http_query_get(&out, &found, slice_of(wrong[i]), "a", TERR));
        EQ_STR(sb_str(&out), "before");
    }
    sb_deinit(&out);
}
