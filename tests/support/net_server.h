/* SPDX-License-Identifier: Apache-2.0
 * A server in a process of its own (so that faults armed in a test do not hit it), for tests of the client:
 *   /bytes/N      N bytes, byte i is (i * 31 + i / 251) & 255; ranges, ETag "n"
 *   /echo         the body;  /header/NAME  the value of that header, "-" if absent
 *   /status/N     that status with a body "words";  /to/URL  302 to the URL behind, percent-decoded
 *   /count        how many requests came before this one */
#ifndef INGOT_TEST_NET_SERVER_H
#define INGOT_TEST_NET_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct NetServer {
    pid_t pid;
    int port;
} NetServer;

/* Fork it; false if it does not start. */
bool net_server_start(NetServer *s);
void net_server_stop(NetServer *s);
/* Byte i of /bytes/N. */
uint8_t net_server_byte(uint64_t i);

#endif
