/* SPDX-License-Identifier: Apache-2.0
 * Compiler conditionals live here and nowhere else. */
#ifndef INGOT_BASE_PLATFORM_H
#define INGOT_BASE_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define NORETURN __attribute__((noreturn))
#define UNUSED __attribute__((unused))
#define ALIGNED(n) __attribute__((aligned(n)))
#define NOINLINE __attribute__((noinline))
/* Kernels are written once with sizes as parameters that are constants where they are used: expansion in
 * place is what makes them fast, so it is demanded and not left to the compiler. */
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define ROUND_UP(n, to) (((n) + (to)-1) / (to) * (to))

/* Ask memory for the line at p, which need not be there. */
#define PREFETCH(p) __builtin_prefetch((p), 0, 2)

/* Tell the processor that this is a waiting loop. */
#if defined(__x86_64__)
#define CPU_RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define CPU_RELAX() __asm__ volatile("yield")
#else
#define CPU_RELAX() ((void)0)
#endif

#endif
