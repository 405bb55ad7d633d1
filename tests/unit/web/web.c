/* SPDX-License-Identifier: Apache-2.0
 * The assets as they are in the program. */
#include "web/web.h"

#include <stdio.h>

#include "base/sha.h"
#include "test.h"

enum { MOST = 1 << 20 };

TEST(every_asset_unpacks_to_what_its_hash_says) {
    int n = 0;
    for (const WebAsset *a; (a = web_at(n)); n++) {
        StrBuf b = {0};
        Sha256 d;
        OK_(web_plain(&b, a, TERR));
        EQ(b.n, a->n_plain);
        OK_(sha_256(&d, sb_str(&b), b.n, TERR));
        for (int i = 0; i < 8; i++) {
            char two[3];
            snprintf(two, sizeof two, "%02x", (unsigned)((const unsigned char *)&d)[i]);
            EQ_MEM(two, a->hash + 2 * i, 2);
        }
        TRUE_(web_find(slice_of(a->path)) == a);
        sb_deinit(&b);
    }
    TRUE_(n > 10);
    TRUE_(web_at(-1) == NULL);
}

TEST(pages_take_less_than_a_megabyte) {
    size_t sum = 0;
    for (int i = 0; web_at(i); i++) sum += web_at(i)->n_gz;
    if (sum >= MOST) FAIL("%zu bytes of assets, want less than %d", sum, MOST);
}

/* What the policy forbids is not in them: scripts, styles and handlers within the page, and other hosts. */
TEST(pages_keep_to_their_policy) {
    static const char *const pages[] = {"/", "/dashboard", "/docs"};
    static const char *const never[] = {"<style",   "style=",  " onclick", " onload",
                                        "<script>", "http://", "https://", "javascript:"};
    for (size_t i = 0; i < COUNT_OF(pages); i++) {
        StrBuf b = {0};
        const WebAsset *a = web_find(slice_of(pages[i]));
        TRUE_(a != NULL);
        EQ_STR(a->type, "text/html; charset=utf-8");
        OK_(web_plain(&b, a, TERR));
        for (size_t k = 0; k < COUNT_OF(never); k++) {
            if (strstr(sb_str(&b), never[k])) FAIL("%s has %s", pages[i], never[k]);
        }
        sb_deinit(&b);
    }
}

TEST(damaged_bytes_are_refused) {
    const WebAsset *a = web_find(slice_of("/"));
    WebAsset bad = *a;
    StrBuf b = {0};
    bad.n_gz /= 2;
    FAILS(ERR_FORMAT, web_plain(&b, &bad, TERR));
    bad = *a;
    bad.n_plain++;
    sb_clear(&b);
    FAILS(ERR_FORMAT, web_plain(&b, &bad, TERR));
    bad = *a;
    bad.gz = (const unsigned char *)"not compressed at all, by no means";
    bad.n_gz = 34;
    sb_clear(&b);
    FAILS(ERR_FORMAT, web_plain(&b, &bad, TERR));
    sb_deinit(&b);
}

TEST(what_is_not_there_is_not_found) {
    static const char *const paths[] = {"", "/assets/", "/assets/../table.c", "/index.html",
                                        "/Dashboard"};
    for (size_t i = 0; i < COUNT_OF(paths); i++) TRUE_(web_find(slice_of(paths[i])) == NULL);
}
