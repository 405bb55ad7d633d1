/* SPDX-License-Identifier: Apache-2.0
 * The reader of S3's answers: what it finds, and what it refuses. */
#include "hub/internal.h"
#include "test.h"

static Status put(void *ctx, const char *path, Slice v, Err *e) {
    (void)e;
    sb_printf(ctx, "%s=%.*s;", path, (int)v.n, v.p);
    return OK;
}

static void reads(const char *xml, const char *want) {
    StrBuf b = {0};
    OK_(hub__xml_walk(slice_of(xml), put, &b, TERR));
    EQ_STR(sb_str(&b), want);
    sb_deinit(&b);
}

TEST(paths_and_texts) {
    reads("<?xml version=\"1.0\"?>\n<A xmlns=\"http://x/\"><B>1</B><C a='2'/><B> "
          "&lt;x&gt;&#65;&#x42; </B></A>",
          "A/B=1;A/C=;A/B= <x>AB ;A=;");
    reads("", "");
    reads("<A></A>", "A=;");
    reads("<A/>", "A=;");
}

TEST(refusals) {
    static const char *const bad[] = {"<A>",
                                      "<A><B></A></B>",
                                      "</A>",
                                      "<",
                                      "<>",
                                      "<A",
                                      "< A></A>",
                                      "<A>&x;</A>",
                                      "<A>&</A>",
                                      "<A>&#0;</A>",
                                      "<A>&#999;</A>",
                                      "<!DOCTYPE a [<!ENTITY b \"c\">]><A/>",
                                      "<A><![CDATA[x]]></A>",
                                      "<A>&#x;</A>",
                                      "<A>&#x1000000000000;</A>"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        StrBuf b = {0};
        FAILS(ERR_FORMAT, hub__xml_walk(slice_of(bad[i]), put, &b, TERR));
        sb_deinit(&b);
    }
}

TEST(depth_is_bounded) {
    StrBuf in = {0}, b = {0};
    for (int i = 0; i < 1000; i++) sb_puts(&in, "<abc>");
    FAILS(ERR_FORMAT, hub__xml_walk((Slice){in.p, in.n}, put, &b, TERR));
    sb_deinit(&in);
    sb_deinit(&b);
}
