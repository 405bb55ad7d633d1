/* SPDX-License-Identifier: Apache-2.0
 *
 * main() of every test program: runs the cases that registered themselves as one cmocka group.
 * Arguments: a word keeps only the cases whose name contains it; words that begin with "--" are for
 * the cases (test_flag), and --bench runs the BENCH cases instead of the TEST cases.
 * The closing lines are cmocka's; tests/run reads them.
 */
#include "test.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define MAX_CASES 1024

Err test_err;

static TestCase *first, **last = &first;
static const TestCase *now;
static char tmp_root[64];
static int main_argc;
static char **main_argv;

void test_add(TestCase *c) {
    *last = c;
    last = &c->next;
}

Err *test_err_clear(void) {
    memset(&test_err, 0, sizeof test_err);
    return &test_err;
}

const char *test_name(void) { return now ? now->name : "?"; }

bool test_flag(const char *name) {
    for (int i = 1; i < main_argc; i++) {
        if (!strcmp(main_argv[i], name)) return true;
    }
    return false;
}

const char *test_tmpdir(void) {
    if (!tmp_root[0]) {
        snprintf(tmp_root, sizeof tmp_root, "/tmp/ingot-test-XXXXXX");
        if (!mkdtemp(tmp_root)) FAIL("mkdtemp %s", tmp_root);
    }
    return tmp_root;
}

static void tmp_remove(void) {
    char cmd[128];
    if (!tmp_root[0]) return;
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", tmp_root);
    if (system(cmd)) print_message("could not remove %s\n", tmp_root);
    tmp_root[0] = 0;
}

void test_fail(const char *file, int line, const char *fmt, ...) {
    char msg[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    print_error("%s:%d: %s\n", file, line, msg);
    if (tmp_root[0]) print_error("files kept in %s\n", tmp_root);
    tmp_root[0] = 0;
    _fail(file, line);
    abort(); /* not reached: _fail leaves by longjmp */
}

void test_skip(const char *fmt, ...) {
    char msg[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    print_message("SKIP %s: %s\n", test_name(), msg);
    tmp_remove();
    _skip(__FILE__, __LINE__);
    abort(); /* not reached */
}

void test_eq(intmax_t a, intmax_t b, const char *sa, const char *sb, const char *file, int line) {
    if (a == b) return;
    test_fail(file, line, "%s == %s: %jd (0x%jx) != %jd (0x%jx)", sa, sb, a, (uintmax_t)a, b,
              (uintmax_t)b);
}

void test_ne(intmax_t a, intmax_t b, const char *sa, const char *sb, const char *file, int line) {
    if (a == b) test_fail(file, line, "%s != %s: both %jd (0x%jx)", sa, sb, a, (uintmax_t)a);
}

void test_eq_str(const char *a, const char *b, const char *sa, const char *sb, const char *file,
                 int line) {
    if (a == b || (a && b && !strcmp(a, b))) return;
    test_fail(file, line, "%s == %s:\n  \"%s\"\n  \"%s\"", sa, sb, a ? a : "(NULL)",
              b ? b : "(NULL)");
}

void test_eq_mem(const void *a, const void *b, size_t n, const char *sa, const char *sb,
                 const char *file, int line) {
    const unsigned char *p = a, *q = b;
    for (size_t i = 0; i < n; i++) {
        if (p[i] != q[i]) {
            test_fail(file, line, "%s == %s: byte %zu of %zu: 0x%02x != 0x%02x", sa, sb, i, n, p[i],
                      q[i]);
        }
    }
}

void test_near(double a, double b, double tol, const char *sa, const char *sb, const char *file,
               int line) {
    if (a == b || fabs(a - b) <= tol) return;
    test_fail(file, line, "%s ~ %s: %.9g and %.9g differ by %.3g > %.3g", sa, sb, a, b, fabs(a - b),
              tol);
}

void test_true(int ok, const char *what, const char *file, int line) {
    if (!ok) test_fail(file, line, "not true: %s", what);
}

void test_status(Status want, Status got, const char *what, const char *file, int line) {
    if (got != want) {
        test_fail(file, line, "%s: status %d, want %d; message: \"%s\" (%s:%d)", what, (int)got,
                  (int)want, test_err.msg, test_err.file ? test_err.file : "?", test_err.line);
    }
    if (want != OK && strstr(what, "TERR") && !test_err.msg[0]) {
        test_fail(file, line, "%s: status %d came without a message", what, (int)got);
    }
}

static void run_case(void **state) {
    now = *state;
    test_err_clear();
    now->fn();
    tmp_remove();
}

int main(int argc, char **argv) {
    static struct CMUnitTest list[MAX_CASES];
    const char *filter = NULL;
    size_t n = 0;
    main_argc = argc;
    main_argv = argv;
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < argc && !filter; i++) {
        if (strncmp(argv[i], "--", 2) != 0) filter = argv[i];
    }
    bool bench = test_flag("--bench");
    for (TestCase *c = first; c; c = c->next) {
        if (c->bench != bench || (filter && !strstr(c->name, filter))) continue;
        if (n == MAX_CASES) {
            fprintf(stderr, "%s: over %d cases in one file\n", argv[0], MAX_CASES);
            return 2;
        }
        list[n++] = (struct CMUnitTest){.name = c->name, .test_func = run_case, .initial_state = c};
    }
    if (n == 0) print_message("[  PASSED  ] 0 test(s).\n");
    if (n == 0) return 0;
    return _cmocka_run_group_tests(argv[0], list, n, NULL, NULL);
}
