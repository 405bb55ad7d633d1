#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot serve with a tiny random model: answers, errors, many clients, clients that leave, stopping.
# alone: one answer's time is held against another's
source "$(dirname "$0")/lib.sh"
command -v curl >/dev/null || skip "no curl"
command -v python3 >/dev/null || skip "no python3"
python3 "$E2E/tiny_model.py" model.gguf || fail "no model"

ask() { # BODY [CURL OPTIONS...]: POST /complete; the answer in out, its status in CODE
    local body=$1
    shift
    CODE=$(curl -s -o out -w '%{http_code}' "$@" -d "$body" "$URL/complete")
}

# ---- the command line ----
expect_fail 1 'no.gguf' "$INGOT" serve no.gguf
expect_fail 2 'port.*65536' "$INGOT" serve model.gguf --port 65536
expect_fail 2 'port.*-1' "$INGOT" serve model.gguf --port=-1
expect_fail 2 'argument is missing' "$INGOT" serve
head -c 5000 model.gguf >cut.gguf
expect_fail 1 'cut.gguf' "$INGOT" serve cut.gguf
expect_ok "$INGOT" serve --help
out_has 'usage: ingot serve MODEL.gguf'

start
grep -q "^try: curl -s $URL/complete" serve.log || fail "no example: $(cat serve.log)"
"$INGOT" serve model.gguf --port "${URL##*:}" >out 2>err
eq "exit status for a port in use" $? 1
err_has "^ingot: cannot listen on 127.0.0.1 port ${URL##*:}: Address already in use"

# ---- health ----
eq health "$(curl -s "$URL/health" | jq -r '.status, .model_loaded, .device, .gpu_memory_used' | xargs)" "healthy true cpu 0"
curl -s "$URL/health" | jq -e '.memory_usage > 1000000 and .cpu_usage >= 0 and .cpu_usage <= 100' >/dev/null ||
    fail "$(curl -s "$URL/health")"
for path in /health/live /health/ready /; do
    eq "$path" "$(curl -s -o /dev/null -w '%{http_code}' "$URL$path")" 200
done

# ---- completions ----
ask '{"code": "def add(a, b):", "max_tokens": 16, "temperature": 0}'
eq status "$CODE" 200
eq tokens "$(jq .tokens out)" 16
jq -e '.latency_ms > 0 and (.completion | length) > 0' out >/dev/null || fail "$(cat out)"
alone=$(jq -c .completion out)
expect_ok "$INGOT" run model.gguf -p 'def add(a, b):' -n 16 --temp 0 --json
eq "the same as ingot run" "$alone" "$(jq -c .text out)"
ask '{"code": "x", "seed": 7}'; first=$(jq -c .completion out)
eq "default length" "$(jq .tokens out)" 50
ask '{"code": "x", "seed": 7}'; eq "same seed" "$(jq -c .completion out)" "$first"
ask '{"code": "x", "seed": 8}'; [ "$(jq -c .completion out)" != "$first" ] || fail "another seed, same text"
ask '{"code": "x", "top_k": null, "top_p": 0.9}'; eq "top_k null" "$CODE" 200
ask '{"code": "x", "top_k": 1}'; one=$(jq -c .completion out)
ask '{"code": "x", "temperature": 0}'; eq "top_k 1 is greedy" "$one" "$(jq -c .completion out)"

ask '{"code": "x", "temperature": 0, "n": 3, "max_tokens": 20, "ignore_eos": true}'
eq "three greedy ones" "$(jq -c '.completions | [length, (unique | length)]' out)" "[3,1]"
ask '{"code": "x", "temperature": 1, "n": 3, "max_tokens": 20, "ignore_eos": true}'
eq "three that differ" "$(jq -c '.completions | [length, (unique | length)]' out)" "[3,3]"
eq "their tokens" "$(jq .tokens out)" 60
ask '{"code": "x", "temperature": 0, "max_tokens": 20}'
jq -c '{code: "x", temperature: 0, max_tokens: 4000, stop: ["never there", .completion[5:7]]}' out >stop.json
whole=$(jq -r .completion out)
ask "$(cat stop.json)"
stop=$(jq -r '.stop[1]' stop.json)
eq "text before a stop string" "$(jq -r .completion out)" "${whole%%"$stop"*}"
jq -e '.latency_ms < 2000 and .tokens <= 20' out >/dev/null || fail "it went on: $(cat out)"

# only the last 512 tokens count
tail=$(head -c 512 /dev/zero | tr '\0' q)
ask "{\"code\": \"$tail\", \"temperature\": 0}"; cut=$(jq -c .completion out)
ask "{\"code\": \"something else before it $tail\", \"temperature\": 0}"
eq "left truncation" "$(jq -c .completion out)" "$cut"
python3 -c 'import json; print(json.dumps({"code": "spam ham\n" * 100000, "max_tokens": 1}))' >long.json
eq "1 MB of code" "$(curl -s -o out -w '%{http_code}' -d @long.json "$URL/complete")" 200

# ---- refusals ----
refuse() { # STATUS PATTERN BODY
    ask "$3"
    eq "status of $3" "$CODE" "$1"
    jq -e '(.error | type) == "string" and .error == .detail' out >/dev/null || fail "$(cat out)"
    jq -r .error out | grep -qE -- "$2" || fail "\"$2\" is not in $(cat out)"
}
refuse 400 'No prompt provided' '{"code": ""}'
refuse 422 'code' '{}'
refuse 422 'code' '{"code": 5}'
refuse 400 'json' '{"code": '
refuse 422 'max_tokens.*0' '{"code": "x", "max_tokens": 0}'
refuse 422 'max_tokens: 5000.*4095' '{"code": "x", "max_tokens": 5000}'
refuse 422 'temperature' '{"code": "x", "temperature": -1}'
refuse 422 'top_k' '{"code": "x", "top_k": "all"}'
refuse 422 'max_tokens: 4096.*4095' '{"code": "x", "max_tokens": 4096}' # the default context is 4096
eq "wrong method" "$(curl -s -o /dev/null -w '%{http_code}' "$URL/complete")" 405
eq "unknown path" "$(curl -s -o /dev/null -w '%{http_code}' "$URL/nowhere")" 404
head -c 8388609 /dev/zero | tr '\0' x >big
eq "more than 8 MB" "$(curl -s -o /dev/null -w '%{http_code}' --data-binary @big "$URL/complete")" 413
raw() { # BYTES: the status line that they get
    exec 3<>"/dev/tcp/127.0.0.1/${URL##*:}"
    printf "$1" >&3
    head -1 <&3 | tr -d '\r'
    exec 3>&-
}
eq "bare line feeds" "$(raw 'GET /health HTTP/1.1\nHost: x\n\n')" "HTTP/1.1 400 Bad Request"
eq "length and chunks" "$(raw 'POST /complete HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n')" \
    "HTTP/1.1 400 Bad Request"
eq "no host" "$(raw 'GET /health HTTP/1.1\r\n\r\n')" "HTTP/1.1 400 Bad Request"

# ---- many at once: each gets what it gets alone ----
seq 48 | xargs -P 16 -I{} curl -s -o many.{} -d '{"code": "def add(a, b):", "max_tokens": 16, "temperature": 0}' "$URL/complete"
for i in $(seq 48); do eq "answer $i of 48" "$(jq -c .completion many.$i)" "$alone"; done

# ---- clients that leave make room ----
curl -s -o /dev/null "$URL/health" || fail "not there"
ask '{"code": "x", "max_tokens": 4000, "temperature": 0}'
whole=$(jq .latency_ms out)
for _ in $(seq 24); do curl -s -o /dev/null --max-time 0.2 -d '{"code": "x", "max_tokens": 4000, "temperature": 0}' "$URL/complete" & done
sleep 0.1
curl -s --max-time 2 -o /dev/null "$URL/health" || fail "health waits for inference"
wait $(jobs -p | grep -vx $PID)
sleep 0.1
ask '{"code": "x", "max_tokens": 1}' --max-time 5
eq "after 24 left" "$CODE" 200
jq -e --argjson whole "$whole" '.latency_ms < $whole / 2' out >/dev/null || fail "$(cat out), a whole one took $whole ms"

# ---- stopping ----
stop INT
grep -qE '^INFO:     127\.0\.0\.1:[0-9]+ - "POST /complete HTTP/1\.1" 200 OK$' serve.log || fail "no access line"
grep -q '^stopped$' serve.log || fail "not stopped: $(tail -1 serve.log)"
! curl -s "$URL/health" >/dev/null || fail "still there"

start --log-level warn
curl -s -o out -d '{"code": "x", "max_tokens": 3000, "temperature": 0}' "$URL/complete" & client=$!
for _ in $(seq 100); do [ -n "$(ss -Htn state established "sport = :${URL##*:}" 2>/dev/null)" ] && break; sleep 0.01; done
sleep 0.1
stop TERM
wait $client || fail "the running answer was cut"
eq "the running answer" "$(jq .tokens out)" 3000
err=$(grep -c INFO: serve.log)
eq "access lines below info" "$err" 0

start --max-seqs 1 --max-queue 1 --grace 0
for i in 1 2 3 4 5 6; do curl -s -o /dev/null -w '%{http_code}\n' -D head.$i \
    -d '{"code": "x", "max_tokens": 4000, "temperature": 0}' "$URL/complete" >code.$i & done
for _ in $(seq 100); do grep -qx 429 code.* && break; sleep 0.02; done
grep -qx 429 code.* || fail "no 429 from a queue of one: $(cat code.*)"
grep -qi '^retry-after: 1' head.* || fail "no Retry-After"
stop TERM # no grace: what runs is cut

ask_both() { # OPTIONS...: an answer with and without guesses
    start --batch-invariant "$@"
    ask '{"code": "abcabcabc", "max_tokens": 200, "temperature": 0}'
    jq -c .completion out
    stop TERM
}
want=$(ask_both)
eq "an answer with guesses from its text" "$(ask_both --speculate ngram)" "$want"
eq "an answer with a draft model" "$(ask_both --speculate model.gguf --speculate-tokens 5)" "$want"

start --timeout 0.02
ask '{"code": "x", "max_tokens": 4000, "temperature": 0}'
eq "an answer that takes too long" "$CODE" 504
grep -q '"error": *"inference timeout"' out || fail "$(cat out)"
ask '{"code": "x", "max_tokens": 1, "temperature": 0}'
eq "the next one" "$CODE" 200
stop TERM
echo ok
