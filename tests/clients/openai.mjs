// SPDX-License-Identifier: Apache-2.0
// The openai package against a server: BASE_URL. Prints nothing and exits 0, or says what is wrong.
import OpenAI, { toFile } from "openai";
import assert from "node:assert/strict";

const url = process.env.BASE_URL;
const client = new OpenAI({ baseURL: url + "/v1", apiKey: process.env.API_KEY ?? "none", maxRetries: 0 });
const messages = [{ role: "system", content: "You add." }, { role: "user", content: "2 + 2?" }];
const model = (await client.models.list()).data[0].id;

async function chat() {
  const r = await client.chat.completions.create({ model, messages, max_tokens: 12, temperature: 0 });
  assert.equal(r.object, "chat.completion");
  assert.equal(r.model, model);
  assert.equal(r.choices.length, 1);
  assert.equal(r.choices[0].message.role, "assistant");
  assert.equal(typeof r.choices[0].message.content, "string");
  assert.equal(r.choices[0].finish_reason, "length");
  assert.equal(r.usage.completion_tokens, 12);
  assert.equal(r.usage.total_tokens, r.usage.prompt_tokens + 12);
  return r.choices[0].message.content;
}

async function stream(whole) {
  const s = await client.chat.completions.create({
    model, messages, max_tokens: 12, temperature: 0, stream: true, stream_options: { include_usage: true },
  });
  let text = "", usage, finish, roles = 0, chunks = 0;
  for await (const c of s) {
    chunks++;
    assert.equal(c.object, "chat.completion.chunk");
    if (c.usage) usage = c.usage;
    if (!c.choices.length) continue;
    if (c.choices[0].delta.role) roles++;
    text += c.choices[0].delta.content ?? "";
    finish = c.choices[0].finish_reason ?? finish;
  }
  assert.equal(text, whole);
  assert.equal(roles, 1);
  assert.equal(finish, "length");
  assert.equal(usage.completion_tokens, 12);
  assert.ok(chunks > 3);
}

async function helper() { // the package's own accumulation of a stream
  const s = client.chat.completions.stream({ model, messages, max_tokens: 9, temperature: 0, n: 2 });
  const r = await s.finalChatCompletion();
  assert.equal(r.choices.length, 2);
  assert.equal(r.choices[0].message.content, r.choices[1].message.content);
}

async function logprobs() {
  const r = await client.chat.completions.create({
    model, messages, max_tokens: 5, logprobs: true, top_logprobs: 3, seed: 1 });
  const lp = r.choices[0].logprobs.content;
  assert.equal(lp.length, 5);
  for (const t of lp) {
    assert.ok(t.logprob <= 0);
    assert.equal(t.top_logprobs.length, 3);
    assert.ok(t.top_logprobs[0].logprob >= t.top_logprobs[1].logprob);
    assert.ok(t.bytes.length > 0);
  }
}

async function completions() {
  const r = await client.completions.create({ model, prompt: ["def a", "def b"], max_tokens: 4, n: 2, logprobs: 2, seed: 3 });
  assert.equal(r.object, "text_completion");
  assert.deepEqual(r.choices.map((c) => c.index), [0, 1, 2, 3]);
  for (const c of r.choices) {
    assert.equal(c.logprobs.tokens.length, 4);
    assert.equal(c.logprobs.text_offset[0], 0);
    assert.equal(c.logprobs.token_logprobs.length, 4);
  }
  const echo = await client.completions.create({ model, prompt: "def a", max_tokens: 2, echo: true, temperature: 0 });
  assert.ok(echo.choices[0].text.startsWith("def a"));
  const s = await client.completions.create({ model, prompt: "def a", max_tokens: 6, stream: true, temperature: 0 });
  let text = "";
  for await (const c of s) text += c.choices[0]?.text ?? "";
  const whole = await client.completions.create({ model, prompt: "def a", max_tokens: 6, temperature: 0 });
  assert.equal(text, whole.choices[0].text);
}

async function schema() {
  const r = await client.chat.completions.create({
    model, messages, max_tokens: 400, temperature: 1, seed: 5,
    response_format: { type: "json_schema", json_schema: { name: "sum", strict: true, schema: {
      type: "object", additionalProperties: false, required: ["sum", "sure"],
      properties: { sum: { type: "integer", minimum: 0, maximum: 99 }, sure: { type: "boolean" } } } } },
  });
  const v = JSON.parse(r.choices[0].message.content);
  assert.ok(Number.isInteger(v.sum) && v.sum >= 0 && v.sum <= 99);
  assert.equal(typeof v.sure, "boolean");
}

const tools = [{ type: "function", function: { name: "weather", description: "of a city", parameters: {
  type: "object", additionalProperties: false, required: ["unit"], properties: { unit: { enum: ["C", "F"] } } } } }];

async function forced() {
  for (const tool_choice of ["required", { type: "function", function: { name: "weather" } }]) {
    const named = typeof tool_choice === "object";
    const ask = { model, messages, tools, tool_choice, max_tokens: 600, seed: 2, parallel_tool_calls: false };
    const r = await client.chat.completions.create(ask);
    const call = r.choices[0].message.tool_calls[0];
    assert.equal(call.function.name, "weather");
    assert.ok(["C", "F"].includes(JSON.parse(call.function.arguments).unit));
    assert.equal(r.choices[0].finish_reason, named ? "stop" : "tool_calls");
    const s = client.chat.completions.stream({ ...ask, stream: true });
    const done = await s.finalChatCompletion();
    assert.equal(done.choices[0].message.tool_calls[0].function.arguments, call.function.arguments);
  }
}

async function allowed() { // a few of the tools: the others cannot be called
  const more = [...tools, { type: "function", function: { name: "news", parameters: { type: "object" } } }];
  const pick = (name, mode) => ({ type: "allowed_tools",
    allowed_tools: { mode, tools: [{ type: "function", function: { name } }] } });
  for (const seed of [1, 2, 3, 4]) {
    const r = await client.chat.completions.create({ model, messages, tools: more, seed, max_tokens: 600,
      tool_choice: pick("weather", "required") });
    assert.ok(r.choices[0].message.tool_calls.every((c) => c.function.name === "weather"));
  }
  await assert.rejects(client.chat.completions.create({ model, messages, tools: more, tool_choice: pick("x", "auto") }),
    (e) => e.status === 400 && e.param === "tool_choice" && /"x" is none of the tools/.test(e.message));
}

async function embeddings() {
  const r = await client.embeddings.create({ model, input: ["a red apple", "a red apple", "rain"] });
  assert.equal(r.data.length, 3);
  const dot = (a, b) => a.reduce((s, x, i) => s + x * b[i], 0);
  assert.ok(Math.abs(dot(r.data[0].embedding, r.data[1].embedding) - 1) < 1e-5);
  const plain = await client.embeddings.create({ model, input: "a red apple", encoding_format: "float" });
  plain.data[0].embedding.forEach((x, i) => assert.ok(Math.abs(x - r.data[0].embedding[i]) < 1e-5));
}

async function responses() {
  const ask = { model, input: "2 + 2?", instructions: "You add.", max_output_tokens: 8, temperature: 0 };
  const r = await client.responses.create(ask);
  assert.equal(r.object, "response");
  assert.equal(r.status, "incomplete");
  assert.equal(r.incomplete_details.reason, "max_output_tokens");
  assert.equal(r.usage.output_tokens, 8);
  assert.equal(r.output[0].type, "message");
  assert.equal(r.output_text, r.output[0].content[0].text);
  let text = "", last, n = 0;
  for await (const e of await client.responses.create({ ...ask, stream: true })) {
    assert.equal(e.sequence_number, n++);
    if (e.type === "response.output_text.delta") text += e.delta;
    last = e;
  }
  assert.equal(text, r.output_text);
  assert.equal(last.type, "response.incomplete");
  assert.equal(last.response.output[0].content[0].text, text);
  const flat = [{ type: "function", name: "weather", parameters: tools[0].function.parameters, strict: true }];
  const c = await client.responses.create({ model, tools: flat, tool_choice: "required", max_output_tokens: 600,
    input: [{ role: "user", content: [{ type: "input_text", text: "and now?" }] }] });
  assert.equal(c.output.at(-1).type, "function_call");
  assert.ok(["C", "F"].includes(JSON.parse(c.output.at(-1).arguments).unit));
  const again = await client.responses.create({ model, tools: flat, max_output_tokens: 4, input: [
    { role: "user", content: "and now?" }, c.output.at(-1),
    { type: "function_call_output", call_id: c.output.at(-1).call_id, output: "20" }] });
  assert.ok(again.usage.input_tokens > 0);
  const call = (i) => ({ type: "function_call", call_id: `c${i}`, name: "weather", arguments: '{"unit":"C"}' });
  const output = (i) => ({ type: "function_call_output", call_id: `c${i}`, output: `${i}` });
  const two = await client.responses.create({ model, tools: flat, max_output_tokens: 4, input: [
    { role: "user", content: "and now?" }, call(1), call(2), output(1), output(2)] });
  assert.ok(two.usage.input_tokens > again.usage.input_tokens);
  await assert.rejects(client.responses.create({ ...ask, input: [{ ...call(1), arguments: 3 }] }),
    (e) => e.param === "input" && /\[0\].arguments/.test(e.message));
  assert.equal(r.output[0].status, "incomplete");
  const sure = { ...ask, top_logprobs: 2, include: ["message.output_text.logprobs"] };
  const whole = (await client.responses.create(sure)).output[0].content[0];
  assert.equal(whole.logprobs.length, 8);
  assert.equal(whole.logprobs.map((x) => x.token).join(""), whole.text);
  whole.logprobs.forEach((x) => assert.ok(x.logprob <= 0 && x.top_logprobs.length === 2));
  const seen = [];
  for await (const e of await client.responses.create({ ...sure, stream: true })) {
    if (e.type === "response.output_text.delta") seen.push(...e.logprobs);
    if (e.type === "response.output_text.done") assert.deepEqual(e.logprobs, whole.logprobs);
  }
  assert.deepEqual(seen, whole.logprobs);
  await assert.rejects(client.responses.create({ ...ask, previous_response_id: "resp_1" }), /nothing is stored/);
}

async function errors() {
  const bad = [
    [{ temperature: 9 }, "temperature"], [{ max_tokens: 0 }, "max_tokens"], [{ n: 1.5 }, "n"],
    [{ messages: [] }, "messages"], [{ messages: "hi" }, "messages"], [{ top_p: 0 }, "top_p"],
    [{ tool_choice: "required" }, undefined], [{ stop: 5 }, "stop"], [{ max_tokens: 1e5 }, "messages"],
    [{ tool_choice: "sometimes", tools }, "tool_choice"], [{ tools: [{ type: "function" }] }, "tools"],
    [{ response_format: { type: "xml" } }, "response_format"], [{ logit_bias: { 5: 101 } }, "logit_bias"],
    [{ response_format: { type: "json_schema", json_schema: { schema: { type: "nothing" } } } }, "response_format"],
    [{ guided_regex: "(" }, "guided_regex"], [{ stop_token_ids: [-1] }, "stop_token_ids"],
    [{ structured_outputs: {} }, "structured_outputs"],
  ];
  for (const [change, param] of bad) {
    await assert.rejects(client.chat.completions.create({ model, messages, max_tokens: 4, ...change }), (e) => {
      assert.equal(e.status, 400);
      assert.equal(e.type, "invalid_request_error");
      if (param) assert.equal(e.param, param);
      return e instanceof OpenAI.BadRequestError;
    });
  }
  await assert.rejects(client.models.retrieve("nobody"), (e) => e instanceof OpenAI.NotFoundError);
  const r = await client.chat.completions.create({ model, messages, max_tokens: 2, store: true, service_tier: "auto",
    metadata: { a: "b" }, prediction: null, verbosity: "low" });
  assert.equal(r.usage.completion_tokens, 2);
}

async function leave() { // a client that goes away in the middle
  const s = await client.chat.completions.create({ model, messages, max_tokens: 4000, stream: true, ignore_eos: true });
  let n = 0;
  for await (const c of s) if (++n === 5) break;
  for (let i = 0; i < 50; i++) {
    const h = await (await fetch(url + "/health")).json();
    if (h.requests_running === 0 && h.kv_blocks_used === 0) return;
    await new Promise((ok) => setTimeout(ok, 20));
  }
  assert.fail("its blocks are still held");
}

async function batches() { // files of requests
  const line = (id, body) => JSON.stringify({ custom_id: id, method: "POST", url: "/v1/chat/completions", body });
  const text = [line("a", { model, messages, max_tokens: 5 }), line("b", { model, messages, max_tokens: 0 }),
    line("c", { model, messages, max_tokens: 3 })].join("\n");
  const file = await client.files.create({ file: await toFile(Buffer.from(text), "asks.jsonl"), purpose: "batch" });
  assert.equal(file.object, "file");
  assert.equal(file.bytes, text.length);
  assert.equal(await (await client.files.content(file.id)).text(), text);
  let b = await client.batches.create({ input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h",
    metadata: { who: "test" } });
  for (let i = 0; i < 400 && b.status !== "completed"; i++) {
    await new Promise((ok) => setTimeout(ok, 25));
    b = await client.batches.retrieve(b.id);
  }
  assert.equal(b.status, "completed");
  assert.deepEqual(b.request_counts, { total: 3, completed: 2, failed: 1 });
  assert.deepEqual(b.metadata, { who: "test" });
  const read = async (id) => (await (await client.files.content(id)).text()).trim().split("\n").map(JSON.parse);
  const out = await read(b.output_file_id), err = await read(b.error_file_id);
  assert.deepEqual(out.map((o) => o.custom_id).sort(), ["a", "c"]);
  assert.equal(out.find((o) => o.custom_id === "a").response.body.usage.completion_tokens, 5);
  assert.equal(err[0].response.status_code, 400);
  assert.equal(err[0].response.body.error.param, "max_tokens");
  const ids = [];
  for await (const x of client.batches.list({ limit: 1 })) ids.push(x.id);
  assert.ok(ids.includes(b.id));
  const files = [];
  for await (const f of client.files.list({ purpose: "batch", limit: 1 })) files.push(f.id);
  assert.ok(files.includes(file.id) && !files.includes(b.output_file_id));
  await assert.rejects(client.batches.cancel(b.id), (e) => e.status === 409);
  assert.equal((await client.files.delete(file.id)).deleted, true);
  await assert.rejects(client.files.retrieve(file.id), (e) => e instanceof OpenAI.NotFoundError);
  await assert.rejects(client.files.create({ file: await toFile(Buffer.from("x"), "x"), purpose: "fine-tune" }),
    (e) => e.param === "purpose");
}

await stream(await chat());
for (const f of [helper, logprobs, completions, schema, forced, allowed, embeddings, responses, batches, errors, leave]) await f();
