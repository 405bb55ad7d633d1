#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Pages in a real browser, against ingot serve with a tiny random model: tests/web. Pictures go to the work folder
# (KEEP=1 keeps it). INGOT_WEB_TESTS: a folder where their npm packages are installed already; CHROMIUM: the browser.
source "$(dirname "$0")/lib.sh"
for c in node python3 curl; do command -v $c >/dev/null || skip "no $c"; done
CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome)}
[ -n "$CHROMIUM" ] || skip "no chromium"
MODULES=${INGOT_WEB_TESTS:-$E2E/../../build/web-tests}
if [ ! -d "$MODULES/node_modules/playwright-core" ]; then
    command -v npm >/dev/null || skip "no npm to fetch the packages of tests/web with"
    mkdir -p "$MODULES" && cp "$E2E"/../web/package*.json "$MODULES/"
    (cd "$MODULES" && timeout 100 npm ci --ignore-scripts --no-audit --no-fund) >npm.log 2>&1 ||
        skip "the packages of tests/web cannot be fetched: $(tail -1 npm.log)"
fi
ln -s "$(cd "$MODULES" && pwd)/node_modules" node_modules
cp "$E2E"/../web/*.mjs .
cat >chat.jinja <<'J'
{#- calls are written within <tool_call> and </tool_call> -#}
{%- if tools %}{{- '<|im_start|>tools ' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + (m.content or '') }}{%- for c in m.tool_calls or [] %}{{- '<tool_call>' + (c.function | tojson) + '</tool_call>' }}{%- endfor %}{{- '<|im_end|>\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}
J
python3 "$E2E/tiny_chat.py" --context 32768 model.gguf chat.jinja '<|im_start|>' '<|im_end|>' || fail "no model"
mkdir shots
export INGOT CHROMIUM MODEL=$PWD/model.gguf SHOTS=$PWD/shots
# without the npm packages of web/ there are no plots and no page of the API
"$INGOT" serve model.gguf --port 0 2>serve.log &
for _ in $(seq 200); do
    URL=$(sed -n 's/^listening on //p' serve.log)
    [ -z "$URL" ] || break
    sleep 0.05
done
full=$(curl -s -o /dev/null -w '%{http_code}' "$URL/assets/uplot.js")
kill %1
[ "$full" = 200 ] || echo "this build has no uPlot and no Swagger UI: dashboard.mjs and docs.mjs are left out"
for t in playground keys; do
    timeout -k 5 150 node $t.mjs >out 2>&1 || fail "$t"
done
[ "$full" = 200 ] || exit 0
for t in dashboard docs; do timeout -k 5 100 node $t.mjs >out 2>&1 || fail "$t"; done
