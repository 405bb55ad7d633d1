/* SPDX-License-Identifier: Apache-2.0
 * Between cmd_top.c, which asks the server and waits, and top_draw.c, which writes what came. */
#ifndef INGOT_CLI_TOP_H
#define INGOT_CLI_TOP_H

#include "text/json.h"

enum { TOP_CELLS = 60 }; /* rows of a window */

/* How to draw. */
typedef struct TopView {
    const char *url;
    int window_s; /* shown: 60, 300, 900 or 3600 */
    int columns, lines;
    bool utf8;
    const char *lost; /* what went wrong with the newest question; NULL: nothing */
} TopView;

/* Append the screen for an answer of /dashboard/data (NULL: there was none yet), each line cut to the width and ended by
 * \n. */
void cli_top_draw(StrBuf *b, const TopView *v, const Json *data);
/* Append one line for logs, the newest row: "14:46:17  12.3 req/s ...". */
void cli_top_line(StrBuf *b, const Json *data);

#endif
