#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/peers/grammar_validate.py [PROGRAM]   hold generated texts to Python's json and jsonschema

Runs build/gcc/tests/unit/engine/grammar_schema --bench, which prints a schema and a text per line, and
validates every one. Needs python3-jsonschema. Exit 1 if any text is wrong.
"""
import json
import subprocess
import sys
import warnings
from decimal import Decimal

import jsonschema

warnings.simplefilter("ignore")
program = sys.argv[1] if len(sys.argv) > 1 else "build/gcc/tests/unit/engine/grammar_schema"
n = bad = 0
for line in subprocess.run([program, "--bench"], stdout=subprocess.PIPE, check=True).stdout.split(b"\n"):
    if not line.startswith(b"CASE\t"):
        continue
    _, schema, text = line.split(b"\t")
    n += 1
    try:
        value = json.loads(text.decode("utf-8"), parse_float=Decimal)
        cls = jsonschema.Draft202012Validator
        s = json.loads(schema, parse_float=Decimal)
        if isinstance(s, dict) and isinstance(s.get("items"), list):
            cls = jsonschema.Draft7Validator
        cls(s, format_checker=cls.FORMAT_CHECKER).validate(value)
    except Exception as e:
        bad += 1
        print(schema.decode(), text, str(e).split("\n")[0], sep="\n  ")
print(f"{n} texts, {bad} wrong")
sys.exit(bad > 0 or n == 0)
