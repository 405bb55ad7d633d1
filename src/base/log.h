/* SPDX-License-Identifier: Apache-2.0
 * Log lines to standard error: "2026-01-31 12:00:00 LEVEL message". Level from INGOT_LOG (error, warn,
 * info, debug; default warn). Any thread; one write call per line. */
#ifndef INGOT_BASE_LOG_H
#define INGOT_BASE_LOG_H

#include "base/platform.h"

typedef enum LogLevel { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG } LogLevel;

/* Lines above this level are dropped from now on. */
void log_set_level(LogLevel level);
/* Print one line, control bytes as blanks; a very long one is cut and ends in "...". */
void log_line(LogLevel level, const char *fmt, ...) PRINTF_LIKE(2, 3);
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
