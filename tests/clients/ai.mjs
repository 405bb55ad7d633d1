// SPDX-License-Identifier: Apache-2.0
// The ai package with @ai-sdk/openai-compatible against a server: BASE_URL.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText, generateObject, embedMany, jsonSchema, tool } from "ai";
import assert from "node:assert/strict";

const url = process.env.BASE_URL;
const model = (await (await fetch(url + "/v1/models")).json()).data[0].id;
const provider = createOpenAICompatible({
  name: "ingot", baseURL: url + "/v1", apiKey: "none", includeUsage: true, supportsStructuredOutputs: true });
const chat = provider(model);

const whole = await generateText({ model: chat, prompt: "2 + 2?", maxOutputTokens: 10, temperature: 0, maxRetries: 0 });
assert.equal(whole.finishReason, "length");
assert.equal(whole.usage.outputTokens, 10);

const s = streamText({ model: chat, prompt: "2 + 2?", maxOutputTokens: 10, temperature: 0, maxRetries: 0 });
let text = "";
for await (const t of s.textStream) text += t;
assert.equal(text, whole.text);
assert.equal((await s.usage).outputTokens, 10);

const schema = jsonSchema({ type: "object", required: ["ok"], additionalProperties: false,
  properties: { ok: { type: "boolean" } } });
const object = await generateObject({ model: chat, schema, prompt: "yes?", maxOutputTokens: 300, seed: 4, maxRetries: 0 });
assert.equal(typeof object.object.ok, "boolean");

const called = await generateText({ model: chat, prompt: "call it", maxOutputTokens: 500, seed: 4, maxRetries: 0,
  tools: { flag: tool({ description: "a flag", inputSchema: schema }) }, toolChoice: "required" });
assert.equal(called.finishReason, "tool-calls");
assert.equal(called.toolCalls[0].toolName, "flag");
assert.equal(typeof called.toolCalls[0].input.ok, "boolean");

const e = await embedMany({ model: provider.textEmbeddingModel(model), values: ["a", "b"], maxRetries: 0 });
assert.equal(e.embeddings.length, 2);
await assert.rejects(generateText({ model: chat, prompt: "x", temperature: 7, maxRetries: 0 }), /temperature/);
