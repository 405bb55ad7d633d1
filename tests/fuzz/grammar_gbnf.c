/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a grammar (gbnf): what is accepted generates, and its masks are what they should be.
 */
#include "fuzz/grammar_help.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return fuzz_one(grammar_from_gbnf, data, size);
}
