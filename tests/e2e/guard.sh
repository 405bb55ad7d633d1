#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Who is answered by ingot serve: keys, scopes, addresses, TLS; ratings that outlive a kill; metrics; configuration.
source "$(dirname "$0")/lib.sh"
command -v curl >/dev/null || skip "no curl"
command -v python3 >/dev/null || skip "no python3"
python3 "$E2E/tiny_model.py" model.gguf || fail "no model"
code() { curl -s -o out -w '%{http_code}' "$@"; }
body='{"prompt": "x", "max_tokens": 3, "temperature": 0}'

# ---- no keys ----
expect_fail 2 '0\.0\.0\.0.*no keys.*--no-auth' "$INGOT" serve model.gguf --host 0.0.0.0 --port 0
start
grep -q '^no keys: everybody' serve.log || fail "no warning: $(cat serve.log)"
eq open "$(code "$URL/v1/completions" -d "$body")" 200
stop

# ---- keys ----
"$INGOT" keys create app >key 2>/dev/null || fail "no key"
"$INGOT" keys create ops --scopes admin >admin 2>/dev/null || fail "no key"
"$INGOT" keys create other --models another >other 2>/dev/null || fail "no key"
start --host 0.0.0.0
URL=${URL/0.0.0.0/127.0.0.1}
eq "without a key" "$(code "$URL/v1/completions" -d "$body")" 401
eq "its shape" "$(jq -r '.error.type, .error.code' out | xargs)" "authentication_error invalid_api_key"
eq "a wrong key" "$(code -H 'Authorization: Bearer sk-wrong' "$URL/v1/completions" -d "$body")" 401
key="Authorization: Bearer $(cat key)"
eq "a right key" "$(code -H "$key" "$URL/v1/completions" -d "$body")" 200
eq "the other header" "$(code -H "X-Api-Key: $(cat key)" "$URL/v1/completions" -d "$body")" 200
eq "another model's key" "$(code -H "Authorization: Bearer $(cat other)" "$URL/v1/completions" -d "$body")" 403
eq "metrics for an app" "$(code -H "$key" "$URL/metrics")" 403
eq "metrics for operators" "$(code -H "Authorization: Bearer $(cat admin)" "$URL/metrics")" 200
eq "health for everybody" "$(curl -s "$URL/health")" '{"status":"healthy"}'
eq "more with a key" "$(curl -s -H "$key" "$URL/health" | jq .model_loaded)" true
for path in / /openapi.json /v1/models /version; do eq "$path" "$(code "$URL$path")" 401; done
eq "a short route's shape" "$(code "$URL/complete" -d '{"code": "x"}')" 401
jq -e '(.error | type) == "string" and .error == .detail' out >/dev/null || fail "$(cat out)"
"$INGOT" keys create late >late 2>/dev/null
late="Authorization: Bearer $(cat late)"
eq "a key made since" "$(code -H "$late" "$URL/v1/models")" 401
kill -HUP $PID
for _ in $(seq 50); do [ "$(code -H "$late" "$URL/v1/models")" = 200 ] && break; sleep 0.05; done
eq "after SIGHUP" "$(code -H "$late" "$URL/v1/models")" 200
stop

# ---- ratings ----
start --model-version qwen2.5-v1.0.1 --api-key plainkey
key="Authorization: Bearer plainkey"
curl -s -H "$key" -H 'X-Request-Id: r-1' "$URL/complete" -d '{"code": "x", "max_tokens": 2, "temperature": 0}' >/dev/null
eq "a rating in the query" "$(code -H "$key" -X POST "$URL/feedback?request_id=r-1&rating=1")" 200
eq "joined to its request" "$(jq -r '.request_known, .model_version' out | xargs)" "true qwen2.5-v1.0.1"
eq "a rating as JSON" "$(code -H "$key" "$URL/feedback" -d '{"request_id": "nobody", "rating": "like"}')" 200
eq "of no request" "$(jq -c '[.request_known, .rating]' out)" "[false,5]"
eq "rating 9" "$(code -H "$key" "$URL/feedback" -d '{"request_id": "r-1", "rating": 9}')" 422
curl -s -H "$key" "$URL/metrics" >metrics
grep -q '^feedback_low_ratings_total 1$' metrics || fail "$(grep feedback metrics)"
{ kill -9 $PID; wait $PID; } 2>/dev/null

eq "after kill -9" "$(python3 -c "
import sqlite3
print(sqlite3.connect('$INGOT_STATE_DIR/feedback.db').execute('select count(*) from ratings').fetchone()[0])")" 2

# ---- metrics ----
grep -q '^llm_requests_total{method="POST",endpoint="/complete",status="success"} 1$' metrics || fail "$(grep llm_requests metrics)"
grep -q '^tokens_generated_total 2$' metrics || fail "$(grep tokens_generated metrics)"
grep -q '^vllm:generation_tokens_total{model_name="model",engine="0"} 2$' metrics || fail "$(grep generation metrics)"
# conversations: one of two turns, one of one, one that its client names; what they cost
python3 "$E2E/tiny_chat.py" --context 512 model.gguf - '<|im_start|>' '<|im_end|>' || fail "no model"
start --cost-per-hour 36 --api-key plainkey
one='{"role": "user", "content": "a"}'
chat() { eq "chat $1" "$(code -H "$key" "$URL/v1/chat/completions" -d "{\"max_tokens\": 2, \"messages\": [$1] ${2-}}")" 200; }
chat "$one"
chat "$one, {\"role\": \"assistant\", \"content\": \"x\"}, {\"role\": \"user\", \"content\": \"b\"}"
chat '{"role": "user", "content": "z"}'
chat "$one" ', "metadata": {"conversation_id": "c-1"}'
eq "a rating" "$(code -H "$key" "$URL/feedback" -d '{"request_id": "nobody", "rating": "like"}')" 200
curl -s -H "$key" "$URL/metrics" >metrics
grep -q '^sessions_active 3$' metrics || fail "$(grep session metrics)"
grep -q '^session_length_messages_count 0$' metrics || fail "$(grep session metrics)"
grep -q '^user_satisfaction_ratio 1$' metrics || fail "$(grep satisf metrics)"
awk '/^machine_cost_dollars_total/ {m = $2} /^cost_per_inference_dollars/ {c = $2} END {exit !(m > 0 && c > 0.2 * m && c < 0.3 * m)}' \
    metrics || fail "$(grep dollars metrics)"
if command -v promtool >/dev/null; then
    promtool check metrics <metrics >out 2>&1
    grep -vE "metric names should not contain ':'|iteration_tokens_total|no help text" out >lint || :
    [ ! -s lint ] || fail "promtool: $(cat lint)"
fi
stop

# ---- TLS ----
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout k.pem -out c.pem -days 2 \
    -subj /CN=localhost -addext 'subjectAltName=IP:127.0.0.1' 2>/dev/null || fail "no certificate"
start --ssl-certfile c.pem --ssl-keyfile k.pem --api-key plainkey
case $URL in https://*) ;; *) fail "$URL" ;; esac
eq "over TLS" "$(code --cacert c.pem -H "$key" "$URL/v1/completions" -d "$body")" 200
eq "not trusted" "$(code -H "$key" "$URL/v1/models")" 000
stop

# ---- configuration ----
printf 'port: 1234\nmax_num_seqs: 3\ntitle: from a file\n' >serve.yaml
expect_ok env INGOT_TITLE=variable "$INGOT" serve --config serve.yaml --preset production --max-model-len 256 --check-config
out_has '^port: 1234$'
out_has '^max_seqs: 3$'
out_has '^title: variable$'
out_has '^ctx: 256$'
out_has '^log_format: json$'
expect_fail 2 'trust-remote-code' "$INGOT" serve model.gguf --trust-remote-code
expect_fail 2 'disable-log-requests' "$INGOT" serve model.gguf --disable-log-requests
expect_fail 2 'INGOT_PORT.*99999' env INGOT_PORT=99999 "$INGOT" serve model.gguf

# ---- events ----
start --log-format json --api-key plainkey
curl -s -H "$key" -H 'X-Request-Id: r-2' "$URL/complete" -d '{"code": "secret words", "max_tokens": 2, "temperature": 0, "user": "u"}' >/dev/null
stop
jq -es 'map(select(.event == "request_completed" and .request_id == "r-2" and .output_length == 2 and .status_code == 200)) | length == 1' \
    <(grep '^{' serve.log) >/dev/null || fail "$(cat serve.log)"
jq -es 'map(select(.event == "request_received" and .request_id == "r-2" and .max_tokens == 2)) | length == 1' <(grep '^{' serve.log) >/dev/null ||
    fail "$(cat serve.log)"
! grep -q 'secret words' serve.log || fail "a prompt in the log"

# ---- stopping: who asks meanwhile is told ----
start --grace 20 --api-key plainkey
curl -sN -H "$key" "$URL/v1/completions" -d '{"prompt": "x", "max_tokens": 200, "stream": true, "ignore_eos": true, "temperature": 0}' >stream &
reader=$!
for _ in $(seq 100); do grep -q '^data' stream && break; sleep 0.02; done
kill -TERM $PID
sleep 0.05
ready=$(curl -s -o out -w '%{http_code}' "$URL/health/ready")
if [ "$ready" != 000 ]; then # it may have ended by then
    eq "ready while stopping" "$ready" 503
    eq "a request while stopping" "$(code -H "$key" "$URL/v1/completions" -d "$body")" 503
fi
wait $PID
eq "exit status after SIGTERM" $? 0
wait $reader
eq "the stream's end" "$(grep '^data' stream | tail -1)" 'data: [DONE]'

# ---- traces, webhook ----
python3 "$E2E/otlp_sink.py" posts >sink &
for _ in $(seq 100); do [ -s sink ] && break; sleep 0.05; done
start --otlp-endpoint "http://127.0.0.1:$(cat sink)/" --feedback-webhook "http://127.0.0.1:$(cat sink)/hook" --api-key plainkey
trace=4bf92f3577b34da6a3ce929d0e0e4736
curl -s -H "$key" -H "traceparent: 00-$trace-00f067aa0ba902b7-01" -H 'X-Request-Id: r-3' "$URL/v1/completions" -d "$body" >/dev/null
curl -s -H "$key" -H "traceparent: 00-$trace-00f067aa0ba902b7-00" "$URL/v1/completions" -d "$body" >/dev/null
curl -s -H "$key" "$URL/feedback" -d '{"request_id": "r-3", "rating": "dislike"}' >/dev/null
stop
grep '^/v1/traces ' posts | cut -d' ' -f2- >spans || fail "no spans came"
jq -es '[.[].resourceSpans[].scopeSpans[].spans[]] | length == 5 and all(.traceId == "'$trace'") and
    (map(.name) | sort) == ["POST /v1/completions", "engine.decode", "engine.prefill", "engine.queue", "text_completion model"] and
    (map(select(.kind == 2 and .parentSpanId == "00f067aa0ba902b7")) | length == 1) and
    all((.startTimeUnixNano | type) == "string" and (.endTimeUnixNano | tonumber) >= (.startTimeUnixNano | tonumber))' spans >/dev/null ||
    fail "$(cat spans)"
grep -q '^/hook {"event":"low_rating","rating":1,"model":"model"' posts || fail "$(cat posts)"
echo ok
