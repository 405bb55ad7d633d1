/* SPDX-License-Identifier: Apache-2.0
 * Certificates for tests, signed by themselves, made as they are needed. */
#ifndef INGOT_TEST_TLS_FILES_H
#define INGOT_TEST_TLS_FILES_H

#include <stdbool.h>

/* Write a certificate for "localhost" and 127.0.0.1 and its P-256 key as PEM. `name` is its common name; days may be negative
 * (expired). */
bool tls_files_make(const char *cert, const char *key, const char *name, int days);

#endif
