/* SPDX-License-Identifier: Apache-2.0
 *
 * The words tests are written in. TEST(name) { ... } registers itself; every file under tests/unit,
 * tests/kernel, tests/golden and tests/fault is one program, linked with tests/main.c, which runs its
 * cases as one cmocka group. A failed check ends the case at once (by longjmp): check only on the
 * thread that runs the case, and hand results of other threads back to it.
 */
#ifndef INGOT_TEST_H
#define INGOT_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"

typedef struct TestCase {
    const char *name;
    void (*fn)(void);
    bool bench; /* runs only with --bench */
    struct TestCase *next;
} TestCase;

/* A case: TEST(kv_reuse_after_cancel) { ... } */
#define TEST(name) TEST_DEFINE(name, false)

/* A measurement: left out unless the program is run with --bench, and then only these run. */
#define BENCH(name) TEST_DEFINE(name, true)

#define TEST_DEFINE(name, is_bench)                                                       \
    static void test_##name(void);                                                        \
    static TestCase case_##name = {#name, test_##name, is_bench, NULL};                   \
    __attribute__((constructor)) static void reg_##name(void) { test_add(&case_##name); } \
    static void test_##name(void)

/* Integers (and pointers), both values printed. A float does not compile: use NEAR. */
#define EQ(a, b)                                                           \
    do {                                                                   \
        TEST_NO_FLOAT(a);                                                  \
        TEST_NO_FLOAT(b);                                                  \
        test_eq((intmax_t)(a), (intmax_t)(b), #a, #b, __FILE__, __LINE__); \
    } while (0)
#define NE(a, b)                                                           \
    do {                                                                   \
        TEST_NO_FLOAT(a);                                                  \
        TEST_NO_FLOAT(b);                                                  \
        test_ne((intmax_t)(a), (intmax_t)(b), #a, #b, __FILE__, __LINE__); \
    } while (0)
#define TEST_NO_FLOAT(a)                                                               \
    _Static_assert(_Generic((a), float : 0, double : 0, long double : 0, default : 1), \
                   "integers only: use NEAR for " #a)

/* C strings; NULL equals only NULL. */
#define EQ_STR(a, b) test_eq_str(a, b, #a, #b, __FILE__, __LINE__)

/* n bytes; says where the first difference is. */
#define EQ_MEM(a, b, n) test_eq_mem(a, b, n, #a, #b, __FILE__, __LINE__)

/* |a - b| <= tol; equal infinities are near, NaN is near nothing. */
#define NEAR(a, b, tol) \
    test_near((double)(a), (double)(b), (double)(tol), #a, #b, __FILE__, __LINE__)

#define TRUE_(cond) test_true((cond) ? 1 : 0, #cond, __FILE__, __LINE__)
#define FALSE_(cond) test_true((cond) ? 0 : 1, "!(" #cond ")", __FILE__, __LINE__)

/* OK_(vocab_load(&v, path, TERR)): status OK, else its message is printed.
 * FAILS(ERR_IO, vocab_load(&v, "/no", TERR)): that very status, and it said why.
 * TERR clears and gives the case's own Err; test_err holds the last message. */
#define TERR test_err_clear()
#define OK_(expr) test_status(OK, expr, #expr, __FILE__, __LINE__)
#define FAILS(code, expr) test_status(code, expr, #expr, __FILE__, __LINE__)

/* Prints `SKIP name: reason` and ends the case; for absent models and hardware only. */
#define SKIP(...) test_skip(__VA_ARGS__)

/* Ends the case as failed with a message of its own. */
#define FAIL(...) test_fail(__FILE__, __LINE__, __VA_ARGS__)

extern Err test_err;

/* Err of the running case, emptied. */
Err *test_err_clear(void);

/* True when the program was started with this argument, such as "--bench". */
bool test_flag(const char *name);

/* Path of a fresh empty folder for this case, removed when the case passes. Borrowed. */
const char *test_tmpdir(void);

/* Name of the running case. Borrowed. */
const char *test_name(void);

/* What the macros call. */
void test_add(TestCase *c);
void test_eq(intmax_t a, intmax_t b, const char *sa, const char *sb, const char *file, int line);
void test_ne(intmax_t a, intmax_t b, const char *sa, const char *sb, const char *file, int line);
void test_eq_str(const char *a, const char *b, const char *sa, const char *sb, const char *file,
                 int line);
void test_eq_mem(const void *a, const void *b, size_t n, const char *sa, const char *sb,
                 const char *file, int line);
void test_near(double a, double b, double tol, const char *sa, const char *sb, const char *file,
               int line);
void test_true(int ok, const char *what, const char *file, int line);
void test_status(Status want, Status got, const char *what, const char *file, int line);
__attribute__((format(printf, 1, 2), noreturn)) void test_skip(const char *fmt, ...);
__attribute__((format(printf, 3, 4), noreturn)) void test_fail(const char *file, int line,
                                                               const char *fmt, ...);

#endif
