/* SPDX-License-Identifier: Apache-2.0
 * What pull and push share: options of the network, the bar, notes. */
#ifndef INGOT_CLI_HUB_H
#define INGOT_CLI_HUB_H

#include "cli/cli.h"
#include "hub/hub.h"
#include "text/json.h"

typedef struct CliHub {
    const char *cacert, *piece;
    int64_t connections, retries;
    double connect_timeout, stall_timeout;
    bool quiet, json;
} CliHub;

/* Rows of an OptSpec table for a struct T with a CliHub called f. */
#define CLI_HUB_OPTS(T, f, piece_help)                                                           \
    {.key = "connections",                                                                       \
     .letter = 'c',                                                                              \
     .type = OPT_INT,                                                                            \
     .offset = offsetof(T, f.connections),                                                       \
     .def = "0",                                                                                 \
     .min = 0,                                                                                   \
     .max = HUB_MAX_CONNECTIONS,                                                                 \
     .help = "requests at a time; 0: 8 to pull, 4 to push"},                                     \
        {.key = "piece",                                                                         \
         .type = OPT_STR,                                                                        \
         .offset = offsetof(T, f.piece),                                                         \
         .metavar = "SIZE",                                                                      \
         .help = piece_help},                                                                    \
        {.key = "retries",                                                                       \
         .type = OPT_INT,                                                                        \
         .offset = offsetof(T, f.retries),                                                       \
         .def = "8",                                                                             \
         .min = 0,                                                                               \
         .max = 1000,                                                                            \
         .help = "failures in a row that are borne, with longer and longer waits between"},      \
        {.key = "connect_timeout",                                                               \
         .type = OPT_FLOAT,                                                                      \
         .offset = offsetof(T, f.connect_timeout),                                               \
         .def = "15",                                                                            \
         .min = 0.1,                                                                             \
         .max = 3600,                                                                            \
         .metavar = "S",                                                                         \
         .help = "seconds for name, connection and TLS"},                                        \
        {.key = "stall_timeout",                                                                 \
         .type = OPT_FLOAT,                                                                      \
         .offset = offsetof(T, f.stall_timeout),                                                 \
         .def = "30",                                                                            \
         .min = 1,                                                                               \
         .max = 3600,                                                                            \
         .metavar = "S",                                                                         \
         .help = "seconds with less than 512 bytes each, after which a connection is given up"}, \
        {.key = "cacert",                                                                        \
         .type = OPT_STR,                                                                        \
         .offset = offsetof(T, f.cacert),                                                        \
         .metavar = "FILE",                                                                      \
         .help = "certificates to trust instead of the system's"},                               \
        {.key = "quiet",                                                                         \
         .letter = 'q',                                                                          \
         .type = OPT_BOOL,                                                                       \
         .offset = offsetof(T, f.quiet),                                                         \
         .help = "no progress, no notes"},                                                       \
    {                                                                                            \
        .key = "json", .type = OPT_BOOL, .offset = offsetof(T, f.json),                          \
        .help = "print one JSON object"                                                          \
    }

/* The bar of the step that runs. */
typedef struct CliHubRun {
    CliBar bar;
    const char *step; /* borrowed; NULL: no bar yet */
    bool quiet;
    JsonW *json; /* for the command's own use */
} CliHubRun;

/* Options for hub/, from the command line and the environment; r gets progress and notes. From here on a file that
 * outgrows its limit is a failed write and not a signal. ERR_ARG. */
MUST_CHECK Status cli_hub_opts(HubOpts *o, ConfigNet *env, const CliHub *c, CliHubRun *r, Err *e);
/* Take the bar away. */
void cli_hub_end(CliHubRun *r);

#endif
