#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# bench/serving.sh MODEL.gguf [options]   a model served by ingot serve, and ingot load asking it over HTTP
#
#   --clients LIST  clients at a time, each asks when it has its answer (1,4,16,64)
#   --prompt N      tokens of a prompt (64)        --tokens N   of an answer, all of them made (64)
#   --duration S    seconds for each (30)          --route R    as in ingot load (completions)
#   --engine        before and after, the same number of streams without HTTP (ingot bench), for each of LIST; their mean
#   --pairs N       all of it N times in turn: on a machine that others use too, only what stands side by side compares
#   --temperature T of the answers (1); 0: the best token, as --engine takes it
#   --slo LIMITS    search the highest rate within these limits instead (--rates A..B, 1..64; --share, 0.999)
#   --rate R        with --slo: an open loop at this rate alone, R answers a second asked for
#
# Prints a line for each and adds it to bench/results/serving.jsonl (RESULTS=folder: elsewhere).
source "$(dirname "$0")/lib.sh"
command_line="bench/serving.sh $*"
model= clients=1,4,16,64 prompt=64 tokens=64 duration=30 route=completions engine= slo= rates=1..64 share=0.999 pairs=1 rate= temperature=1
while [ $# -gt 0 ]; do
    case $1 in
        --clients) clients=$2; shift ;;
        --prompt) prompt=$2; shift ;;
        --tokens) tokens=$2; shift ;;
        --duration) duration=$2; shift ;;
        --route) route=$2; shift ;;
        --slo) slo=$2; shift ;;
        --temperature) temperature=$2; shift ;;
        --rates) rates=$2; shift ;;
        --rate) rate=$2; shift ;;
        --share) share=$2; shift ;;
        --engine) engine=yes ;;
        --pairs) pairs=$2; shift ;;
        -h | --help) sed -n '3,15s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --*) die "unknown option $1" ;;
        *) model=$1 ;;
    esac
    shift
done
[ -n "$model" ] || die "give a model"
about=$(circumstances "${command_line/"$model"/"$(basename "$model")"}")
work=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
mkdir -p "$RESULTS"

# Tokens a second of so many streams side by side without a server: while they decode, and with the time their prompts take.
streams() { # N
    "$INGOT" bench "$model" --pp "$prompt" --tg "$tokens" --streams "$1" --reps 3 --no-price --json |
        jq -c 'select(.bench == "model")
            | {decode: .tok_s_decode[1], with_prompts: .tok_s_answers[1]}'
}
start() {
    INGOT_STATE_DIR=$work "$INGOT" serve "$model" --port 0 --max-seqs 64 2>"$work/log" &
    server=$!
    for _ in $(seq 600); do
        url=$(sed -n 's/^listening on //p' "$work/log")
        [ -z "$url" ] || [ "$(curl -s -o /dev/null -w '%{http_code}' "$url/health/ready")" != 200 ] || return 0
        sleep 0.1
    done
    die "the server did not start: $(cat "$work/log")"
}
measure() { # OPTIONS...
    "$INGOT" load "$url" --route "$route" --prompt-tokens "$prompt" --max-tokens "$tokens" --ignore-eos --duration "$duration" \
        --temperature "$temperature" --json --quiet "$@"
}
put() { # FILE
    jq -c --argjson about "$about" --arg model "$(basename "$model")" --argjson engine "${alone:-null}" \
        '{bench: "serving", model: $model, engine_tok_s: $engine} + . + $about | del(.url)' "$1" | tee -a "$RESULTS/serving.jsonl"
}

if [ -n "$rate" ]; then
    start
    measure --slo "$slo" --slo-share "$share" --rate "$rate" >"$work/point"
    put "$work/point"
    exit 0
fi
if [ -n "$slo" ]; then
    start
    measure --slo "$slo" --slo-share "$share" --sweep rate="$rates" >"$work/points"
    # the sweep's own word is its last line; of that rate the longest look
    jq -cs '(last.highest // error("no rate is within the limits")) as $r | map(select(.rate == $r)) | last' "$work/points" >"$work/best"
    put "$work/best"
    exit 0
fi
for n in $(for _ in $(seq "$pairs"); do echo "${clients//,/ }"; done); do
    alone=
    [ -z "$engine" ] || streams "$n" >"$work/alone"
    start
    measure --concurrency "$n" --warmup "$n" >"$work/point"
    kill "$server" && wait "$server" || true
    server=
    if [ -n "$engine" ]; then
        streams "$n" >>"$work/alone"
        alone=$(jq -cs '{decode: (map(.decode) | add / 2), with_prompts: (map(.with_prompts) | add / 2)}' "$work/alone")
    fi
    put "$work/point"
done
