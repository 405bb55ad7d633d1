#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/peers/quant_rows.sh [SECONDS [SEED]] | --hashes   the quantizers of every level against llama.cpp's, on made-up rows
#
# INGOT_PEERS names the folder whose node_modules holds node-llama-cpp (bench/peers/README.md); without it
# this is skipped. The library is build/gcc/libingot.a (make).
set -eu
cd "$(dirname "$0")/../.."
if [ -z "${INGOT_PEERS-}" ]; then echo "INGOT_PEERS is not set"; exit 77; fi
build=${BUILD:-build}/gcc
gcc -std=c11 -O2 -ffp-contract=off -D_GNU_SOURCE -Isrc -Itests -o "$build/quant_rows" tests/peers/quant_rows.c \
    "$build/libingot.a" -ldl -lm -pthread
"$build/quant_rows" "$INGOT_PEERS/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64/libggml-base.so" "$@"
