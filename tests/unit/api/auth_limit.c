/* SPDX-License-Identifier: Apache-2.0 */
#include "api/auth_limit.h"

#include <stdio.h>

#include "test.h"

TEST(an_address_is_blocked_for_the_rest_of_its_minute) {
    AuthLimit *l = NULL;
    OK_(auth_limit_new(&l, 3, TERR));
    for (int i = 0; i < 3; i++) {
        FALSE_(auth_limit_blocked(l, "10.0.0.1:1000", 100 + i));
        auth_limit_fail(l, "10.0.0.1:2000", 100 + i); /* the port does not matter */
    }
    TRUE_(auth_limit_blocked(l, "10.0.0.1:3", 102));
    TRUE_(auth_limit_blocked(l, "10.0.0.1", 159));
    FALSE_(auth_limit_blocked(l, "10.0.0.1:3", 160));
    FALSE_(auth_limit_blocked(l, "10.0.0.2:3", 102));
    FALSE_(auth_limit_blocked(l, "10.0.0.1:3", 50)); /* the clock was set back */
    auth_limit_fail(l, "10.0.0.1:3", 200);
    FALSE_(auth_limit_blocked(l, "10.0.0.1:3", 200));
    auth_limit_free(l);
    auth_limit_free(NULL);
}

TEST(forms_of_one_address) {
    AuthLimit *l = NULL;
    OK_(auth_limit_new(&l, 1, TERR));
    auth_limit_fail(l, "[::ffff:1.2.3.4]:80", 10);
    TRUE_(auth_limit_blocked(l, "1.2.3.4:9", 10));
    FALSE_(auth_limit_blocked(l, "1.2.3.5:9", 10));
    auth_limit_fail(l, "[2001:db8:1:2::5]:80", 10);
    TRUE_(auth_limit_blocked(l, "2001:db8:1:2:ffff::9", 10)); /* one /64 is one client */
    FALSE_(auth_limit_blocked(l, "[2001:db8:1:3::5]:80", 10));
    auth_limit_fail(l, "nonsense", 10);
    TRUE_(auth_limit_blocked(l, "other nonsense", 10));
    char longest[300];
    memset(longest, 'x', sizeof longest);
    longest[299] = '\0';
    TRUE_(auth_limit_blocked(l, longest, 10));
    TRUE_(auth_limit_blocked(l, "", 10));
    auth_limit_free(l);
}

/* However many addresses fail, the table stays as large as it is, and the last ones are known. */
TEST(many_addresses) {
    AuthLimit *l = NULL;
    char peer[64];
    OK_(auth_limit_new(&l, 1, TERR));
    for (int i = 0; i < 100000; i++) {
        snprintf(peer, sizeof peer, "10.%d.%d.%d:80", i >> 16 & 255, i >> 8 & 255, i & 255);
        auth_limit_fail(l, peer, 1000 + i / 10000);
        TRUE_(auth_limit_blocked(l, peer, 1000 + i / 10000));
    }
    int known = 0;
    for (int i = 0; i < 100000; i++) {
        snprintf(peer, sizeof peer, "10.%d.%d.%d:80", i >> 16 & 255, i >> 8 & 255, i & 255);
        known += auth_limit_blocked(l, peer, 1009);
    }
    TRUE_(known > 1900 && known <= 2048);
    auth_limit_free(l);
}
