#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# bench/speculate.sh MODEL.gguf PROMPT_FILE [DRAFT.gguf...]   decoding with guesses ahead, and without
#
# The same prompt in turn: plain, --speculate ngram, --speculate DRAFT for each draft model; greedy, then at
# temperature 0.8 with the same seed. A line for each way to guess and temperature: tokens a second [least, median, most]
# both ways, the median of the ratios, the share of the guesses that were right, and in how many of the pairs the tokens
# were the same.
#
# --pairs N (5)   --n TOKENS (100)   --tokens GUESSES (8)
source "$(dirname "$0")/lib.sh"
command_line="bench/speculate.sh $*"
pairs=5 n=100 tokens=8 args=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '3,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --pairs) pairs=${2-}; shift ;;
        --n) n=${2-}; shift ;;
        --tokens) tokens=${2-}; shift ;;
        --*) die "unknown option $1" ;;
        *) args+=("$1") ;;
    esac
    shift
done
[ ${#args[@]} -ge 2 ] || die "give a model and a file with a prompt"
model=${args[0]} prompt=${args[1]}

out=$(mktemp)
trap 'rm -f "$out"' EXIT
mkdir -p "$RESULTS"
one() { # SIDE OPTIONS...
    local side=$1
    shift
    "$INGOT" run "$model" -f "$prompt" -n "$n" --ignore-end --seed 1 --json "$@" | jq -c --arg side "$side" '. + {side: $side}' >>"$out"
}
about=$(circumstances "$command_line")
for temp in 0 0.8; do
    for how in ngram "${args[@]:2}"; do
        : >"$out"
        for ((i = 1; i <= pairs; i++)); do
            echo "$how, temperature $temp: pair $i of $pairs" >&2
            one plain --temp $temp
            one guess --temp $temp --speculate "$how" --speculate-tokens "$tokens"
        done
        jq -cs --argjson about "$about" --arg model "$(basename "$model")" --arg how "$(basename "$how")" \
            --argjson temp $temp --argjson k "$tokens" "$median"'
            def of($side): [.[] | select(.side == $side)];
            def spread: sort | [.[0], median, .[-1]] | map(. * 10 | round / 10);
            of("plain") as $p | of("guess") as $g | [$p, $g] | transpose as $pairs
            | {bench: "speculate", model: $model, how: $how, k: $k, temp: $temp, prompt_tokens: $p[0].prompt_tokens,
               tokens: $p[0].tokens, plain_tok_s: ($p | map(.decode_tok_s) | spread),
               guess_tok_s: ($g | map(.decode_tok_s) | spread),
               ratio: ($pairs | map(.[1].decode_tok_s / .[0].decode_tok_s) | median | round3),
               right: ($g | map(if .drafted > 0 then .drafted_right / .drafted else 0 end) | median | round3),
               drafted: $g[0].drafted, same: ($pairs | map(select(.[0].ids == .[1].ids)) | length), pairs: ($pairs | length)}
              + $about' "$out"
    done
done | tee -a "$RESULTS/speculate.jsonl"
