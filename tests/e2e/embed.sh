#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The library as others use it: installed, linked shared and static with the header alone, from C89.
source "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip "no python3"
python3 "$E2E/tiny_model.py" model.gguf || fail "no model"
root=$(cd "$E2E/../.." && pwd)
built=$(dirname "$INGOT")

# ---- the example, as the build made it ----
expect_ok "$built/examples/generate" model.gguf "def add(a, b):"
cp out shown
expect_ok "$INGOT" run model.gguf -p "def add(a, b):" -n 64 --temp 0
cmp -s shown out || fail "the example and ingot run differ"
"$built/examples/generate" no.gguf x >out 2>err
eq "exit status without a model" $? 1
err_has '^no.gguf: No such file'
[ "$(wc -l <"$root/examples/generate.c")" -lt 45 ] || fail "the example is long"
[ "$(wc -l <"$root/include/ingot.h")" -lt 300 ] || fail "the header has 300 lines"

# ---- only ingot_ is visible ----
eq "shared symbols" "$(nm -D --defined-only "$built/embed/libingot.so" | awk '{print $3}' | grep -v '^ingot_')" ""
eq "static symbols" "$(nm -g --defined-only "$built/embed/libingot.a" | awk 'NF == 3 {print $3}' | grep -v '^ingot_')" ""
for f in $(grep -oE '\bingot_[a-z_]+\(' "$root/include/ingot.h" | tr -d '(' | sort -u); do
    nm -D --defined-only "$built/embed/libingot.so" | grep -q " T $f\$" || fail "$f is not in the library"
done

# ---- installed ----
command -v pkg-config >/dev/null || skip "no pkg-config"
make -s -C "$root" SETUP=true BUILD="$(dirname "$built")" V="$(basename "$built")" install DESTDIR="$WORK/root" PREFIX=/usr >make.log 2>&1 ||
    fail "make install: $(tail -3 make.log)"
export PKG_CONFIG_PATH=$WORK/root/usr/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$WORK/root
eq "version" "$(pkg-config --modversion ingot)" "$("$INGOT" --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+')"
flags=$(pkg-config --cflags --libs ingot)
static=$(pkg-config --static --libs ingot)
# shellcheck disable=SC2086
cc -std=c89 -pedantic -Wall -Wextra -Werror -o shared "$root/examples/generate.c" $flags || fail "shared build"
expect_ok env LD_LIBRARY_PATH="$WORK/root/usr/lib" ./shared model.gguf "def add(a, b):"
cmp -s shown out || fail "the shared one differs"
rm root/usr/lib/libingot.so*
# shellcheck disable=SC2086
cc -std=c89 -o static "$root/examples/generate.c" $(pkg-config --cflags ingot) $static || fail "static build"
expect_ok ./static model.gguf "def add(a, b):"
cmp -s shown out || fail "the static one differs"
if command -v c++ >/dev/null; then
    echo '#include "ingot.h"
int main() { return ingot_version()[0] == 0; }' >x.cc
    # shellcheck disable=SC2086
    c++ -Wall -Wextra -pedantic -Werror -o x x.cc $(pkg-config --cflags ingot) $static || fail "C++ build"
    ./x || fail "C++"
fi
echo ok
