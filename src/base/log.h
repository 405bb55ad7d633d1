/* SPDX-License-Identifier: Apache-2.0
 * Log lines to standard error: "2026-01-31 12:00:00 LEVEL message". Level from INGOT_LOG (error, warn,
 * info, debug; default warn). Any thread; one write call per line.
 *
 * A server puts a writer in between (log_writer.c): lines go into a queue of fixed size, and a thread of its own writes
 * them, so that a terminal that was stopped or a pipe nobody reads holds no one up:
 *
 *   log_line, log_raw -[room]-> queue -[writer thread]-> standard error or a file
 *                     -[full]-> counted; once half of the queue is free, a line says how many are missing
 *
 * Lines that are not lost keep their order. */
#ifndef INGOT_BASE_LOG_H
#define INGOT_BASE_LOG_H

#include "base/err.h"

typedef enum LogLevel { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG } LogLevel;

/* Lines above this level are dropped from now on. */
void log_set_level(LogLevel level);
/* Print one line, control bytes as blanks; a very long one is cut and ends in "...". */
void log_line(LogLevel level, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The same of a text as it is, whatever the level; its control bytes as blanks, nothing is cut. */
void log_raw(const char *text);
/* Are lines of this level printed? */
bool log_enabled(LogLevel level);
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/* Lines go through a queue of this many bytes from now on, to standard error or appended to the file at path (NULL:
 * standard error). One at a time. ERR_IO, ERR_NOMEM. */
MUST_CHECK Status log_writer_start(const char *path, size_t queue_bytes, Err *e);
/* Open the file at path again, which may have been renamed meanwhile. On failure the old one stays. Without a path nothing is done. */
MUST_CHECK Status log_writer_reopen(Err *e);
/* Write what waits, for at most wait_ms, and lines directly again from then on. Nothing to do without a writer. */
void log_writer_stop(int wait_ms);
/* Lines that found no room in the queue, or could not be written, since the process began. */
uint64_t log_lost(void);

#endif
