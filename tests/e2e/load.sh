#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ingot load beside a server whose delays are known: what it says is what happened, a stall of the server shows, a server
# that dies leaves a report, and every failure has its kind.
# alone: percentiles are held against known delays
. "$(dirname "$0")/lib.sh"

start() { # options of known_server.py; sets PID and URL
    python3 "$E2E/known_server.py" "$@" >port 2>server.err &
    PID=$!
    for _ in $(seq 100); do
        [ -s port ] && break
        sleep 0.05
    done
    URL=http://127.0.0.1:$(cat port)
}
stop() {
    kill "$PID"
    wait "$PID" 2>/dev/null
    : >port
}
value() { python3 -c 'import json,sys; d=json.loads(open(sys.argv[1]).readlines()[-1])
for k in sys.argv[2].split("."): d=d[int(k)] if k.isdigit() else d[k]
print(d)' "$1" "$2"; }
above() { python3 -c 'import sys; sys.exit(not float(sys.argv[1]) > float(sys.argv[2]))' "$1" "$2" || fail "$1 is not above $2"; }
below() { above "$2" "$1"; }

# ---- the truth ----
for try in 1 2 3 4; do # a machine that is busy with other things makes a client late
    start --ttft 150,0.4 --itl 25,0.4 --log server.jsonl
    expect_ok "$INGOT" load "$URL" --rate 60 --requests 300 --warmup 8 --max-tokens 8 --no-probe --json -q \
        --log log.jsonl --report report.html
    stop
    cp out point.json
    python3 "$E2E/load_truth.py" server.jsonl point.json log.jsonl 0.02 >truth.txt
    truth=$?
    [ $truth = 0 ] && break
    [ $try = 4 ] || continue
    cat truth.txt
    [ $truth = 3 ] || fail "quantiles are more than 2% off"
    echo "SKIP quantiles beside the server's own: the machine is too busy"
done
eq answered "$(value point.json answered)" 300
eq warmup "$(value point.json warmup)" 8
eq tokens "$(value point.json tokens_out)" 2400
eq model "$(value point.json model)" known
eq lines "$(wc -l <log.jsonl)" 308
grep -q '</html>' report.html || fail "no whole report"
grep -qE '(src|href)=|https?://[^1]|nan|inf<' report.html && fail "the report loads something, or has no numbers"

# ---- a stall of a second is seen by those who would have asked meanwhile ----
start --ttft 5,0.1 --itl 1,0.1 --stall 1,1
expect_ok "$INGOT" load "$URL" --rate 50 --pattern constant --duration 3 --warmup 0 --max-tokens 2 --no-probe --json -q
above "$(value out ttft_ms.p99)" 900
above "$(value out ttft_ms.p90)" 500
stop
start --ttft 5,0.1 --itl 1,0.1 --stall 1,1
expect_ok "$INGOT" load "$URL" --concurrency 1 --duration 3 --warmup 0 --max-tokens 2 --no-probe --json -q
below "$(value out e2e_ms.p99)" 500 # one user: one request of hundreds, which is why a closed loop says so
above "$(value out e2e_ms.max)" 900
eq pattern "$(value out pattern)" closed
expect_ok "$INGOT" load "$URL" --concurrency 1 --requests 20 --max-tokens 2 --no-probe -q
out_has 'closed loop'
stop

# ---- users that are all asking: 20 tokens in 100 + 19 x 10 ms, four at a time, are 276 tokens a second ----
start --ttft 100,0.01 --itl 10,0.01
expect_ok "$INGOT" load "$URL" --concurrency 4 --duration 3 --warmup 4 --max-tokens 20 --no-probe --json -q
above "$(value out tokens_out_per_s_full)" 240
below "$(value out tokens_out_per_s_full)" 283
stop

# ---- what does not fit is sent late, and said ----
start --ttft 300,0.01 --itl 1,0.1
expect_ok "$INGOT" load "$URL" --rate 40 --pattern constant --requests 40 --warmup 0 --max-tokens 2 --max-in-flight 4 --no-probe -q --json
above "$(value out generator.held)" 20
above "$(value out generator.late)" 20
above "$(value out ttft_ms.p99)" 1500 # the wait for a place is part of it
eq flight "$(value out in_flight_max)" 4

# ---- routes, words a token, mixtures, limits ----
for route in completions generate v1-generate inference api-inference complete; do
    expect_ok "$INGOT" load "$URL" --route $route --rate 50 --requests 5 --warmup 0 --max-tokens 3 -q --json
    eq "$route" "$(value out answered) $(value out events)" "5 15"
done
expect_ok "$INGOT" load "$URL/v1/completions" --no-stream --rate 50 --requests 5 --warmup 0 --json -q
eq whole "$(value out ttft_ms) $(value out answered)" "None 5"
expect_ok "$INGOT" load "$URL" --rate 20 --requests 20 --max-tokens 2:0.5,4:0.5 --slo ttft=200ms -q
out_has '0.00%.*99% wanted: over$'
expect_ok "$INGOT" load "$URL" --rate 20 --requests 20 --max-tokens 2 --slo ttft=2s,e2e=10s --slo-share 0.5 -q
out_has '100.00%.*50% wanted: within$'
expect_ok "$INGOT" load "$URL" --pattern burst --burst 5 --rate 50 --requests 20 --warmup 0 --max-tokens 2 -q --json
above "$(value out in_flight_max)" 4
printf '{"prompt":"one"}\n{"messages":[{"role":"user","content":"two"}],"max_tokens":3}\n' >prompts.jsonl
expect_ok "$INGOT" load "$URL" --prompts prompts.jsonl --rate 50 --requests 10 --warmup 0 --max-tokens 2 --json -q
eq "tokens of a file" "$(value out tokens_out)" 25
expect_fail 2 'prompt 2 is a conversation' "$INGOT" load "$URL" --route generate --prompts prompts.jsonl

# ---- a sweep ----
expect_ok "$INGOT" load "$URL" --sweep concurrency=1,2,4 --requests 10 --warmup 0 --max-tokens 2 --slo e2e=5s --slo-share 0.5 \
    -q --report sweep.html
out_has '^most users within e2e=5s for 50%: 4\.00 '
grep -q 'Time to the first token, ms' sweep.html || fail "a sweep without curves"
eq "points of the page" "$(grep -c '<details' sweep.html)" 3

# ---- a sweep says in its last line what it found; a point of it without any answer is a result, not a failure ----
expect_ok "$INGOT" load "$URL" --sweep rate=20,40 --requests 10 --warmup 0 --max-tokens 2 --slo e2e=5s --slo-share 0.5 --no-probe -q --json
eq "lines of a sweep" "$(wc -l <out)" 3
eq "the highest rate" "$(value out sweep) $(value out highest) $(value out sure)" "rate 40 True"
above "$(value out tok_s)" 20
stop
start --ttft 5,0.1 --itl 1,0.1 --stall 1,8
expect_ok "$INGOT" load "$URL" --sweep rate=10,11 --pattern constant --requests 15 --warmup 0 --max-tokens 2 --timeout 0.4 \
    --slo e2e=5s --slo-share 0.5 --no-probe -q --json
eq "the rate before the stall" "$(value out highest)" 10
sed -n 2p out >two
eq "answers in the stall" "$(value two answered)" 0
"$INGOT" load "$URL" --rate 10 --requests 2 --warmup 0 --timeout 0.2 --no-probe -q >out 2>err
eq "exit of a load without answers" $? 1
err_has 'not one of 2 requests was answered'
stop
start --ttft 300,0.01 --itl 1,0.1

# ---- it dies in the middle ----
(sleep 1; kill -9 "$PID") &
disown "$PID" # its end is no news
"$INGOT" load "$URL" --rate 50 --duration 20 --max-tokens 20 --give-up 2 --report dead.html -q >out 2>err
eq "exit of a load on a dead server" $? 1
err_has 'nobody answers any more, after [0-9]+ answers'
out_has 'connection refused +[0-9]+, such as: cannot connect to 127.0.0.1'
out_has 'the answer was cut off +[0-9]+, such as'
out_has 'given up'
grep -q 'Failures' dead.html || fail "no report of a server that died"
expect_fail 1 'cannot connect' "$INGOT" load "$URL" --duration 1 -q
wait
: >port

# ---- TLS ----
if command -v openssl >/dev/null; then
    openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
        -addext subjectAltName=IP:127.0.0.1 2>/dev/null
    start --ttft 5,0.1 --itl 1,0.1 --tls cert.pem,key.pem
    URL=${URL/http:/https:}
    expect_ok "$INGOT" load "$URL" --cacert cert.pem --rate 50 --requests 5 --max-tokens 2 -q
    expect_ok "$INGOT" load "$URL" --insecure --rate 50 --requests 5 --max-tokens 2 -q
    expect_fail 1 'certificate' "$INGOT" load "$URL" --rate 50 --requests 5 -q
    stop
fi

# ---- ingot serve itself: keys, tokens of prompts as asked, names of requests in its log ----
PYTHONDONTWRITEBYTECODE=1 python3 "$E2E/tiny_model.py" model.gguf || fail "no model"
INGOT_API_KEY=sesame "$INGOT" serve model.gguf --port 0 --log-format json >serve.out 2>serve.log &
PID=$!
for _ in $(seq 200); do
    URL=$(sed -n 's/^listening on //p' serve.log)
    [ -n "$URL" ] && [ "$(curl -s -o /dev/null -w '%{http_code}' "$URL/health/ready")" = 200 ] && break
    sleep 0.05
done
expect_ok "$INGOT" load "$URL" --route completions --api-key sesame --rate 20 --requests 20 --warmup 0 --prompt-tokens 200 \
    --max-tokens 8 --ignore-eos --json -q
eq "of ingot serve" "$(value out answered) $(value out tokens_out) $(value out tokens_by)" "20 160 server"
cp out whole
expect_ok "$INGOT" load "$URL" --route completions --api-key sesame --rate 20 --requests 4 --warmup 0 --max-tokens 8 --ignore-eos \
    --body '{"max_tokens":3,"temperature":0}' --temperature 1 --json -q
eq "a member of one's own" "$(value out answered) $(value out tokens_out)" "4 12"
cp whole out
above "$(value out tokens_in)" 3600 # 20 prompts of 200, to a tenth
below "$(value out tokens_in)" 4400
cat serve.out serve.log | grep -q 'load-1-19' || fail "the server's log does not name the requests"
expect_fail 1 'status 401' "$INGOT" load "$URL" --route completions --api-key wrong --requests 5 -q
stop

# ---- what is refused ----
expect_fail 2 'slo: "ttft=5"' "$INGOT" load http://127.0.0.1:1 --slo ttft=5
expect_fail 2 'needs --slo' "$INGOT" load http://127.0.0.1:1 --sweep rate=1..4
expect_fail 2 'sweep: "speed=1"' "$INGOT" load http://127.0.0.1:1 --sweep speed=1
expect_fail 2 'prompt-tokens: "x"' "$INGOT" load http://127.0.0.1:1 --prompt-tokens x
expect_fail 2 'body: "1": not a JSON object' "$INGOT" load http://127.0.0.1:1 --body 1
expect_fail 2 'body: .*"messages" is made for each request' "$INGOT" load http://127.0.0.1:1 --body '{"messages":[]}'
expect_fail 2 'without streams only e2e' "$INGOT" load http://127.0.0.1:1 --no-stream --slo ttft=1s
expect_fail 2 'URL' "$INGOT" load ftp://127.0.0.1 --no-probe
expect_fail 2 'raise the limit of open files' bash -c 'ulimit -n 256; exec "$0" load http://127.0.0.1:1 --concurrency 1000' "$INGOT"
