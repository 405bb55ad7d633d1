#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ingot template: a template in a file, one in a model, the defaults of models without one, tools, variables, spans,
# errors with their place.
source "$(dirname "$0")/lib.sh"
command -v python3 >/dev/null || skip "no python3"
D=$E2E/../golden/data/chat

# ---- in a file ----
cat >t.jinja <<'J'
{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}
{% endfor %}{{ tools | tojson if tools }}{{ x }}{{ strftime_now('%Y') }}{% if add_generation_prompt %}>{% endif %}
J
expect_ok "$INGOT" template t.jinja --now 86400
eq "without anything" "$(cat out)" "[user] Hello
1970>"
echo '[{"role": "system", "content": "é"}]' >m.json
echo '[{"n": 1}]' >tools.json
echo '{"bos_token": "<s>", "x": [null, 2.0]}' >v.json
expect_ok "$INGOT" template t.jinja -m m.json --tools tools.json --vars v.json --no-prompt --now 86400
eq "with all" "$(cat out)" '<s>[system] é
[{"n": 1}][None, 2.0]1970'
expect_ok "$INGOT" template "$D/spans.jinja" --spans --no-prompt
[ "$(wc -l <out)" -gt 2 ] || fail "no spans"

# ---- in a model ----
python3 "$E2E/tiny_chat.py" own.gguf "$D/short.jinja" '<|im_start|>' '<|im_end|>' '<|im_sep|>' || fail "no model"
expect_ok "$INGOT" template own.gguf
eq "its own" "$(cat out)" '<|im_start|>user<|im_sep|>Hello<|im_end|><|im_start|>assistant<|im_sep|>'
[ ! -s err ] || fail "words about its own"
expect_ok "$INGOT" template own.gguf --ids
eq "its tokens" "$(cat out)" "257 117 115 101 114 259 72 101 108 108 111 258 257 97 115 115 105 115 116 97 110 116 259"
python3 "$E2E/tiny_chat.py" marks.gguf - '<|im_start|>' '<|im_end|>' || fail "no model"
expect_ok "$INGOT" template marks.gguf
out_has '^<\|im_start\|>user$'
err_has 'no chat template in the model: <\|im_start\|>'
python3 "$E2E/tiny_chat.py" plain.gguf || fail "no model"
expect_ok "$INGOT" template plain.gguf
eq "the last resort" "$(cat out)" 'user: Hello
assistant:'
err_has 'no chat template in the model: plain text'

# ---- wrong ones ----
printf 'a\n  {{ 1 + }}' >bad.jinja
expect_fail 1 'bad.jinja: line 2, column 10: found }}, wanted an expression' "$INGOT" template bad.jinja
printf "{{ raise_exception('not so') }}" >raise.jinja
expect_fail 1 'line 1, column 19: not so' "$INGOT" template raise.jinja
printf '{%% for a in range(99999) %%}{%% for b in range(99999) %%}{%% endfor %%}{%% endfor %%}' >long.jinja
expect_fail 1 'line 1, column [0-9]+: the template takes more than [0-9]+ (steps|bytes)' "$INGOT" template long.jinja
python3 "$E2E/tiny_chat.py" bad.gguf bad.jinja || fail "no model"
expect_fail 1 'tokenizer.chat_template: line 2' "$INGOT" template bad.gguf
expect_fail 1 'nowhere.json' "$INGOT" template t.jinja -m nowhere.json
echo '{"role": "user"}' >one.json
expect_fail 2 'messages are not an array' "$INGOT" template t.jinja -m one.json
echo '[1' >half.json
expect_fail 1 'half.json' "$INGOT" template t.jinja -m half.json
expect_fail 2 'wants a model' "$INGOT" template t.jinja --ids
exit 0
