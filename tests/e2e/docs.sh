#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The documentation speaks of what is there: files, functions, configuration keys, commands.
. "$(dirname "$0")/lib.sh"
cd "$E2E/../.." || exit 2
pages=(README.md docs/*.md bench/README.md)
n=0

# `src/x.c:function` is defined in that file, `src/x.c` exists
while IFS=: read -r file fn; do
    [ -e "$file" ] || fail "no file $file"
    [ -z "$fn" ] || grep -qE "^[A-Za-z].*\b$fn\(" "$file" || fail "$file has no function $fn"
    n=$((n + 1))
done < <(grep -ohE '`(src|tests|tools|bench)/[A-Za-z0-9_./]+(:[a-z_0-9]+)?`' "${pages[@]}" | tr -d '`' | sort -u)
[ $n -gt 50 ] || fail "only $n references found"

# links between pages
for page in "${pages[@]}"; do
    while read -r link; do
        [ -e "$(dirname "$page")/$link" ] || fail "$page: no file $link"
    done < <(grep -oE '\]\([^)#:]+\)' "$page" | sed 's/^](//; s/)$//')
done

# the keys of docs/training.md are those of ingot train, each once
said=$(sed -n '/^## Keys/,/^## Resuming/p' docs/training.md | grep '^| `' | cut -d'|' -f2 | grep -oE '[a-z0-9_]+' | sort)
have=$("$INGOT" train --help | grep -oE -- '^ +(-[a-z], |    )?--(\[no-\])?[a-z0-9-]+' |
    sed -E 's/.*--(\[no-\])?//; s/-/_/g' | grep -vxE 'quiet|json' | sort)
eq "keys of docs/training.md" "$said" "$have"

# commands that are shown exist
for c in $(grep -ohE '^ +ingot [a-z]+' "${pages[@]}" | awk '{print $2}' | sort -u); do
    "$INGOT" "$c" --help >/dev/null || fail "no command ingot $c"
done
[ "$(wc -l <README.md)" -lt 200 ] || fail "README.md has 200 lines or more"
echo ok
