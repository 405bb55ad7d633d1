#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Clients that people have, against ingot serve with a tiny random model: the npm packages of tests/clients.
# INGOT_CLIENTS: a folder where they are installed already; else npm fetches them into build/clients.
source "$(dirname "$0")/lib.sh"
command -v node >/dev/null || skip "no node"
command -v python3 >/dev/null || skip "no python3"
CLIENTS=${INGOT_CLIENTS:-$E2E/../../build/clients}
if [ ! -d "$CLIENTS/node_modules/openai" ]; then
    command -v npm >/dev/null || skip "no npm to fetch the packages of tests/clients with"
    mkdir -p "$CLIENTS" && cp "$E2E/../clients/package.json" "$CLIENTS/"
    (cd "$CLIENTS" && timeout 200 npm install --no-package-lock --ignore-scripts --no-audit --no-fund) >npm.log 2>&1 ||
        skip "the packages of tests/clients cannot be fetched: $(tail -1 npm.log)"
fi
ln -s "$(cd "$CLIENTS" && pwd)/node_modules" node_modules
cp "$E2E"/../clients/*.mjs .
python3 "$E2E/tiny_model.py" model.gguf || fail "no model"

"$INGOT" serve model.gguf --port 0 2>serve.log &
for _ in $(seq 200); do
    BASE_URL=$(sed -n 's/^listening on //p' serve.log)
    [ -z "$BASE_URL" ] || break
    sleep 0.05
done
[ -n "$BASE_URL" ] || fail "the server did not start: $(cat serve.log)"
export BASE_URL
for client in *.mjs; do
    timeout 100 node "$client" >out 2>err || fail "$client"
done
! grep -qE 'ERROR|Sanitizer|runtime error' serve.log || fail "$(cat serve.log)"
