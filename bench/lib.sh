# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034
# Words for the comparisons. Source it first: it sets INGOT, RESULTS and `median`, and stops at errors.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
INGOT=${INGOT:-$HERE/../build/ingot}
RESULTS=${RESULTS:-$HERE/results}

die() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# What a number means nothing without, as the members of a JSON object.
circumstances() { # COMMAND...
    local commit
    commit=$(git -C "$HERE" rev-parse --short HEAD 2>/dev/null || echo none)
    [ -z "$(git -C "$HERE" status --porcelain -- ../src ../Makefile 2>/dev/null)" ] || commit=$commit+
    jq -n --arg command "$*" --arg commit "$commit" --arg date "$(date -u +%Y-%m-%d)" \
        --arg cpu "$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1)" \
        --arg flags "$(grep -m1 ^flags /proc/cpuinfo | grep -oE '\b(avx2|avx512f|avx512_vnni|avx512_bf16|amx_bf16|amx_int8)\b' | tr '\n' ' ')" \
        --argjson cores "$(nproc)" --arg load "$(cut -d' ' -f1 /proc/loadavg)" \
        --arg compiler "$(gcc -dumpfullversion 2>/dev/null || true)" \
        '{machine: {cpu: $cpu, flags: ($flags | rtrimstr(" ")), cores: $cores, load_before: ($load | tonumber)},
          compiler: ("gcc " + $compiler), commit: $commit, date: $date, command: $command}'
}

# jq: the middle of an array of numbers
median='def median: sort | if length % 2 == 1 then .[length / 2 | floor] else (.[length / 2 - 1] + .[length / 2]) / 2 end;
        def round3: . * 1000 | round / 1000;'

[ -x "$INGOT" ] || die "no program at $INGOT: run make, or set INGOT"
command -v jq >/dev/null || die "jq is missing: apt-get install jq"
