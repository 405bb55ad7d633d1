/* SPDX-License-Identifier: Apache-2.0
 * One line, one write call: lines of different threads never mix, and nothing is allocated. A line
 * longer than the buffer is cut and ends in "...". Any thread. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/internal.h"

#define LOG_LINE 2048

static _Atomic int log_level = LOG_WARN; /* [atomic] relaxed: a filter, orders nothing */

void log_set_level(LogLevel level) {
    atomic_store_explicit(&log_level, (int)level, memory_order_relaxed);
}

bool log_enabled(LogLevel level) {
    return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

size_t log__put_head(char *line, size_t cap, LogLevel level) {
    static const char *const NAMES[] = {"ERROR", "WARN", "INFO", "DEBUG"};
    struct tm tm = {0};
    time_t now = time(NULL);
    localtime_r(&now, &tm);
    size_t n = strftime(line, cap, "%Y-%m-%d %H:%M:%S ", &tm);
    return n + (size_t)snprintf(line + n, cap - n, "%-5s ", NAMES[level]);
}

/* A whole line with its end. */
static void emit(const char *line, size_t n) {
    if (log__queue(line, n)) return;
    ssize_t done = write(STDERR_FILENO, line, n);
    (void)done; /* standard error is the last resort: there is nowhere to report to */
}

void log_line(LogLevel level, const char *fmt, ...) {
    if (!log_enabled(level)) return;
    char line[LOG_LINE];
    size_t head = log__put_head(line, sizeof line, level), room = sizeof line - head - 1;
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(line + head, room, fmt, ap);
    va_end(ap);
    size_t n = len < 0 ? 0 : MIN((size_t)len, room - 1);
    if (len >= (int)room) memcpy(line + head + n - 3, "...", 3);
    for (size_t i = head; i < head + n; i++)
        if ((unsigned char)line[i] < 0x20) line[i] = ' ';
    line[head + n] = '\n';
    emit(line, head + n + 1);
}

void log_raw(const char *text) {
    size_t n = strlen(text);
    char small[LOG_LINE], *line = n + 1 < sizeof small ? small : mem_new_n(char, n + 1);
    if (!line) return;
    for (size_t i = 0; i < n; i++) line[i] = (unsigned char)text[i] < 0x20 ? ' ' : text[i];
    line[n] = '\n';
    emit(line, n + 1);
    if (line != small) mem_free(line);
}
