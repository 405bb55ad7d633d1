/* SPDX-License-Identifier: Apache-2.0
 * Options YAML from foreign bytes. Whatever is accepted must survive being written back and read
 * again: the values in the second struct format to the same text. */
#include <stdint.h>
#include <stdlib.h>

#include "base/internal.h"
#include "base/opt.h"

typedef struct Values {
    int64_t n;
    double x;
    bool flag;
    const char *name, *pick;
    OptList items;
} Values;

static const OptSpec SPECS[] = {
    {"n", 0, OPT_INT, offsetof(Values, n), "3", -100, 100, NULL, NULL, "x"},
    {"x", 0, OPT_FLOAT, offsetof(Values, x), NULL, 0, 0, NULL, NULL, "x"},
    {"flag", 0, OPT_BOOL, offsetof(Values, flag), "true", 0, 0, NULL, NULL, "x"},
    {"name", 0, OPT_STR, offsetof(Values, name), NULL, 0, 0, NULL, NULL, "x"},
    {"pick", 0, OPT_CHOICE, offsetof(Values, pick), "a", 0, 0, "a|bc|d", NULL, "x"},
    {"items", 0, OPT_LIST, offsetof(Values, items), "one", 0, 0, NULL, NULL, "x"},
};
enum { N_SPECS = COUNT_OF(SPECS) };

static void require(bool cond) {
    if (!cond) abort();
}

static void format_all(const OptSet *o, StrBuf *b) {
    for (int i = 0; i < N_SPECS; i++) {
        sb_printf(b, "%s: ", SPECS[i].key);
        opt_format(o, SPECS[i].key, b);
        sb_putc(b, '\n');
    }
}

static void read_back(const OptSet *first) {
    Values v;
    Err e = {0};
    OptSet *o = NULL;
    StrBuf a = {0}, b = {0};
    format_all(first, &a);
    require(opt_new(&o, SPECS, N_SPECS, &v, &e) == OK);
    require(opt__parse_yaml(o, "back", sb_str(&a), a.n, &e) == OK);
    format_all(o, &b);
    require(strcmp(sb_str(&a), sb_str(&b)) == 0);
    sb_deinit(&a);
    sb_deinit(&b);
    opt_free(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Values v;
    Err e = {0};
    OptSet *o = NULL;
    size_t live = mem_live_bytes();
    require(opt_new(&o, SPECS, N_SPECS, &v, &e) == OK);
    Status st = opt__parse_yaml(o, "in", (const char *)data, size, &e);
    require(st == OK ? e.code == OK : st == ERR_ARG && e.msg[0] != '\0');
    require(v.n >= -100 && v.n <= 100);
    if (st == OK) read_back(o);
    opt_free(o);
    require(mem_live_bytes() == live);
    return 0;
}
