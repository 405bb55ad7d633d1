# SPDX-License-Identifier: Apache-2.0
# Words for end-to-end scripts. Source it first: it sets INGOT, makes a work folder, enters it and
# removes it at the end (KEEP=1 keeps it). The first failed check ends the script with status 1.
#
#   expect_ok CMD...                exit 0; standard output in ./out, standard error in ./err
#   expect_fail CODE PATTERN CMD... that exit status, nothing but one line on standard error, which begins
#                                   with "ingot: " and matches the extended regular expression
#   out_has PATTERN, err_has PATTERN, out_lacks PATTERN, err_lacks PATTERN
#   eq WHAT GOT WANT                equal strings
#   fail WORDS..., skip WORDS...    end the script
#   start OPTIONS...                ingot serve with model.gguf on a free port; sets PID and URL; it writes to serve.log
#   stop [SIGNAL]                   it ends by itself with status 0 and has logged no error
set -u
E2E=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
INGOT=${INGOT:-$E2E/../../build/ingot}
WORK=$(mktemp -d /tmp/ingot-e2e-XXXXXX) || exit 2
e2e_cleanup() {
    local rc=$?
    for pid in $(jobs -p); do kill "$pid" 2>/dev/null; done
    if [ -n "${KEEP-}" ]; then echo "kept $WORK"; else rm -rf "$WORK"; fi
    exit $rc
}
trap e2e_cleanup EXIT
cd "$WORK" || exit 2
export INGOT_STATE_DIR=$WORK/state # keys and ratings of servers

fail() {
    echo "FAIL $0:${BASH_LINENO[${FAIL_LEVEL:-1}]}: $*"
    for f in out err; do
        if [ -s "$WORK/$f" ]; then echo "--- $f"; head -c 2000 "$WORK/$f"; fi
    done
    exit 1
}

skip() {
    echo "$*"
    exit 77
}

expect_ok() {
    "$@" >"$WORK/out" 2>"$WORK/err"
    local rc=$?
    [ $rc = 0 ] || fail "exit $rc of: $*"
}

expect_fail() {
    local code=$1 pattern=$2
    shift 2
    "$@" >"$WORK/out" 2>"$WORK/err"
    local rc=$?
    [ $rc = "$code" ] || fail "exit $rc, want $code, of: $*"
    [ "$(wc -l <"$WORK/err")" = 1 ] || fail "not one line on standard error, of: $*"
    grep -q '^ingot: ' "$WORK/err" || fail "standard error does not begin with ingot:, of: $*"
    grep -qE -- "$pattern" "$WORK/err" || fail "standard error lacks \"$pattern\", of: $*"
    [ ! -s "$WORK/out" ] || fail "something on standard output, of: $*"
}

out_has() { grep -qE -- "$1" "$WORK/out" || fail "standard output lacks \"$1\""; }
err_has() { grep -qE -- "$1" "$WORK/err" || fail "standard error lacks \"$1\""; }
out_lacks() { ! grep -qE -- "$1" "$WORK/out" || fail "standard output has \"$1\""; }
err_lacks() { ! grep -qE -- "$1" "$WORK/err" || fail "standard error has \"$1\""; }
eq() { [ "$2" = "$3" ] || fail "$1: \"$2\", want \"$3\""; }

start() {
    : >serve.log # what the server before wrote is not this one's
    "$INGOT" serve model.gguf --port 0 "$@" 2>>serve.log &
    PID=$!
    for _ in $(seq 400); do
        URL=$(sed -n 's/^listening on //p' serve.log)
        [ -z "$URL" ] || return 0
        kill -0 $PID 2>/dev/null || break
        sleep 0.03
    done
    fail "the server did not start: $(cat serve.log)"
}
stop() {
    kill -"${1-TERM}" $PID
    wait $PID
    eq "exit status after ${1-TERM}" $? 0
    ! grep -qE 'ERROR|Sanitizer|runtime error' serve.log || fail "$(cat serve.log)"
}
