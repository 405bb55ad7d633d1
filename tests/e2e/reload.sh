#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A server's life: options read again on SIGHUP, a log nobody reads, SIGTERM while a model is loaded, rate limits.
source "$(dirname "$0")/lib.sh"
command -v curl >/dev/null || skip "no curl"
command -v python3 >/dev/null || skip "no python3"
python3 "$E2E/tiny_model.py" model.gguf || fail "no model"

stop() {
    kill -TERM $PID
    wait $PID
    eq "exit status" $? 0
    ! grep -qE 'Sanitizer|runtime error' serve.log || fail "$(cat serve.log)"
}
code() { curl -s -o out -D head -w '%{http_code}' "$@"; }
head_of() { tr -d '\r' <head | sed -n "s/^$1: //Ip"; }
reload() { # LINE: send SIGHUP, wait for a line like this
    local before
    before=$(grep -cE "$1" serve.log)
    kill -HUP $PID
    for _ in $(seq 100); do
        [ "$(grep -cE "$1" serve.log)" -gt "$before" ] && return 0
        sleep 0.05
    done
    fail "no line like $1: $(cat serve.log)"
}
body='{"prompt": "x", "max_tokens": 3, "temperature": 0}'

# ---- options read again ----
printf 'rate_limit: 1000/minute\nmax_body: 1M\nlog_level: info\n' >serve.yaml
start --config serve.yaml --max-connections 100 # flags go before the file
eq "a request" "$(code "$URL/v1/completions" -d "$body")" 200
eq "its limit" "$(head_of x-ratelimit-limit-requests)" 1000
head -c 600000 /dev/zero | tr '\0' ' ' >big
eq "600 KB" "$(code "$URL/v1/completions" --data-binary @big)" 400
printf 'rate_limit: 2000/minute\nmax_body: 500K\nmax_connections: 7\nport: 4711\napi_key: secretkey\n' >serve.yaml
reload 'read again: .* 3 options differ'
grep -qE 'INFO  rate_limit: 1000/minute -> 2000/minute' serve.log || fail "$(cat serve.log)"
grep -qE 'INFO  max_body: 1M -> 500K' serve.log || fail "$(cat serve.log)"
! grep -qE '(port|max_connections): ' serve.log || fail "$(cat serve.log)"
! grep -q secretkey serve.log || fail "a key in the log"
eq "no key" "$(code "$URL/v1/completions" -d "$body")" 401
key='Authorization: Bearer secretkey'
eq "the key of the file" "$(code -H "$key" "$URL/v1/completions" -d "$body")" 200
eq "the limit of the file" "$(head_of x-ratelimit-limit-requests)" 2000
eq "600 KB now" "$(code -H "$key" "$URL/v1/completions" --data-binary @big)" 413

for bad in 'max_body: 1G' 'rate_limit: often' 'max_seqs: -3' 'no_such_option: 1' 'a: b: c'; do
    printf 'rate_limit: 5/minute\n%s\n' "$bad" >serve.yaml
    reload 'ERROR reload: .*everything stays as it was'
    eq "after $bad" "$(code -H "$key" "$URL/v1/completions" -d "$body")" 200
    eq "the limit after $bad" "$(head_of x-ratelimit-limit-requests)" 2000
done
mv serve.yaml away.yaml
reload 'ERROR reload: .*serve.yaml'

printf 'rate_limit: 2000/minute\nmax_body: 500K\napi_key: secretkey\nmax_seqs: 3\nlog_level: warn\n' >serve.yaml
reload 'WARN  max_seqs: stays 8 until a restart, 3 is asked for'
lines=$(wc -l <serve.log)
eq "a quiet request" "$(code -H "$key" "$URL/v1/completions" -d "$body")" 200
sleep 0.2
eq "its lines" "$(wc -l <serve.log)" "$lines"
printf 'junk' >"$INGOT_STATE_DIR/keys.db"
reload 'ERROR reload: keys: .*keys.db'
eq "with a damaged keys.db" "$(code -H "$key" "$URL/v1/completions" -d "$body")" 200
rm "$INGOT_STATE_DIR"/keys.db*
stop

# ---- the log's file, renamed by somebody who rotates it ----
mkdir logs
"$INGOT" serve model.gguf --port 0 --log-file logs/a.log 2>err &
PID=$!
for _ in $(seq 200); do grep -q '^listening' logs/a.log 2>/dev/null && break; sleep 0.05; done
URL=$(sed -n 's/^listening on //p' logs/a.log)
code "$URL/v1/models" >/dev/null
mv logs/a.log logs/a.log.1
kill -HUP $PID
for _ in $(seq 100); do [ -e logs/a.log ] && break; sleep 0.05; done
eq "after the rename" "$(code "$URL/version")" 200
kill -TERM $PID
wait $PID
eq "exit status with a file" $? 0
grep -q 'GET /v1/models HTTP' logs/a.log.1 || fail "$(cat logs/a.log.1)"
grep -q 'GET /version HTTP' logs/a.log || fail "$(cat logs/a.log)"
grep -q '^stopped$' logs/a.log || fail "$(cat logs/a.log)"
[ ! -s err ] || fail "$(cat err)"

# ---- a pipe that nobody reads ----
mkfifo pipe
sleep 60 <pipe & # holds it open, reads nothing
holder=$!
"$INGOT" serve model.gguf --port 0 --rate-limit 1e9/s 2>pipe &
PID=$!
for _ in $(seq 100); do
    port=$(python3 - $PID <<'P'
import os, sys
pid = sys.argv[1]
inodes = set()
try:
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try: inodes.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError: pass
    for line in open(f"/proc/{pid}/net/tcp"):
        f = line.split()
        if len(f) > 9 and f[3] == "0A" and f"socket:[{f[9]}]" in inodes: print(int(f[1].split(":")[1], 16))
except OSError: pass
P
)
    [ -n "$port" ] && break
    sleep 0.05
done
[ -n "$port" ] || fail "its port is not seen"
python3 - "$port" <<'P' || fail "a log nobody reads stops the server"
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
f = s.makefile("rb")
path = "/" + "x" * 480
for i in range(990):  # some 600 KB of lines into a pipe of 64 KB and a queue of 1 MB; then again
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    n = 0
    while (line := f.readline().strip()):
        if line.lower().startswith(b"content-length:"): n = int(line.split(b":")[1])
    f.read(n)
P
kill -TERM $PID
wait $PID
eq "exit status with a full pipe" $? 0
kill $holder 2>/dev/null

# ---- rate limits of keys ----
"$INGOT" keys create slow --rpm 2 --tpm 100 >slow 2>/dev/null || fail "no key"
"$INGOT" keys create fast >fast 2>/dev/null || fail "no key"
eq "keys list" "$("$INGOT" keys list --json | jq -c '[.keys[] | [.name, .rpm, .tpm]] | sort')" '[["fast",0,0],["slow",2,100]]'
expect_fail 2 'rpm' "$INGOT" keys create x --rpm -1
start --rate-limit 100/minute --token-rate-limit 1000/minute
slow="Authorization: Bearer $(cat slow)" fast="Authorization: Bearer $(cat fast)"
eq "1 of 2" "$(code -H "$slow" "$URL/v1/completions" -d "$body")" 200
eq "of requests" "$(head_of x-ratelimit-limit-requests) $(head_of x-ratelimit-remaining-requests)" "2 1"
eq "of tokens" "$(head_of x-ratelimit-limit-tokens)" 100
left=$(head_of x-ratelimit-remaining-tokens)
[ "$left" -ge 90 ] && [ "$left" -lt 100 ] || fail "tokens that remain: $left"
eq "2 of 2" "$(code -H "$slow" "$URL/complete" -d '{"code": "x", "max_tokens": 1}')" 200
eq "3 of 2" "$(code -H "$slow" "$URL/v1/completions" -d "$body")" 429
eq "its shape" "$(jq -r '.error.type, .error.code' out | xargs)" "rate_limit_error rate_limit_exceeded"
wait_s=$(head_of retry-after)
[ "$wait_s" -ge 25 ] && [ "$wait_s" -le 30 ] || fail "Retry-After: $wait_s"
eq "what remains" "$(head_of x-ratelimit-remaining-requests)" 0
eq "GETs are free" "$(code -H "$slow" "$URL/v1/models")" 200
eq "another key" "$(code -H "$fast" "$URL/v1/completions" -d "$body")" 200
eq "its limit" "$(head_of x-ratelimit-limit-requests)" 100
many='{"prompt": "x", "max_tokens": 200, "temperature": 0, "n": 4, "ignore_eos": true}'
eq "800 tokens of 1000" "$(code -H "$fast" "$URL/v1/completions" -d "$many")" 200
eq "800 more" "$(code -H "$fast" "$URL/v1/completions" -d "$many")" 429
jq -e '.error.message | test("1000 tokens in 60 s")' out >/dev/null || fail "$(cat out)"
[ -n "$(head_of retry-after)" ] || fail "no Retry-After: $(cat head)"
eq "a stream's limit" "$(code -N -H "$fast" "$URL/v1/completions" -d '{"prompt": "x", "max_tokens": 2, "stream": true}')" 200
eq "in its head" "$(head_of x-ratelimit-limit-tokens)" 1000
stop

# ---- X-Request-Id ----
start --api-key plainkey --rate-limit 1/day
key='Authorization: Bearer plainkey'
id() { eq "X-Request-Id of $1" "$(head_of x-request-id)" "$2"; }
code -H 'X-Request-Id: r-1' "$URL/v1/models" >out2; eq "status" "$(cat out2)" 401; id 401 r-1
code -H "$key" -H 'X-Request-Id: r-2' "$URL/nowhere" >out2; eq "status" "$(cat out2)" 404; id 404 r-2
code -H "$key" -H 'X-Request-Id: r-3' "$URL/v1/completions" >out2; eq "status" "$(cat out2)" 405; id 405 r-3
code -H "$key" -H 'X-Request-Id: r-4' "$URL/v1/models" >out2; eq "status" "$(cat out2)" 200; id GET r-4
code -H "$key" -H 'X-Request-Id: r-5' "$URL/feedback" -d '{"request_id": "x", "rating": 3}' >out2; eq "status" "$(cat out2)" 200; id feedback r-5
code -H "$key" -H 'X-Request-Id: r-6' "$URL/v1/completions" -d "$body" >out2; eq "status" "$(cat out2)" 429; id 429 r-6
code "$URL/health" >/dev/null
head_of x-request-id | grep -qE '^req-[0-9a-f]{16}$' || fail "$(cat head)"
stop

# ---- SIGTERM while the model is being loaded ----
mkfifo template # nobody writes it: reading it never ends
"$INGOT" serve model.gguf --chat-template template --port 0 2>serve.log &
PID=$!
sleep 0.5
t0=$(date +%s%N)
kill -TERM $PID
wait $PID
eq "exit status while loading" $? 0
took=$((($(date +%s%N) - t0) / 1000000))
[ $took -lt 3000 ] || fail "it took $took ms"
grep -q '^stopped while the model was being loaded$' serve.log || fail "$(cat serve.log)"
echo ok
