// SPDX-License-Identifier: Apache-2.0
// The @langchain/openai package against a server: BASE_URL.
import { ChatOpenAI, OpenAI, OpenAIEmbeddings } from "@langchain/openai";
import assert from "node:assert/strict";

const url = process.env.BASE_URL;
const model = (await (await fetch(url + "/v1/models")).json()).data[0].id;
const common = { model, apiKey: "none", maxRetries: 0, configuration: { baseURL: url + "/v1" } };
const chat = new ChatOpenAI({ ...common, temperature: 0, maxTokens: 10 });
const r = await chat.invoke([["system", "You add."], ["human", "2 + 2?"]]);
assert.equal(typeof r.content, "string");
assert.equal(r.usage_metadata.output_tokens, 10);
assert.equal(r.response_metadata.finish_reason, "length");

let text = "";
for await (const c of await chat.stream([["system", "You add."], ["human", "2 + 2?"]])) text += c.content;
assert.equal(text, r.content);

const tool = { type: "function", function: { name: "flag", description: "a flag", parameters: {
  type: "object", required: ["ok"], additionalProperties: false, properties: { ok: { type: "boolean" } } } } };
const bound = new ChatOpenAI({ ...common, maxTokens: 500 }).bindTools([tool], { tool_choice: "flag" });
const call = await bound.invoke("call it");
assert.equal(call.tool_calls[0].name, "flag");
assert.equal(typeof call.tool_calls[0].args.ok, "boolean");

const shaped = new ChatOpenAI({ ...common, maxTokens: 400 }).withStructuredOutput(tool.function.parameters,
  { name: "flag", method: "jsonSchema" });
assert.equal(typeof (await shaped.invoke("yes?")).ok, "boolean");

const plain = new OpenAI({ ...common, maxTokens: 5 });
assert.equal(typeof (await plain.invoke("def a")), "string");
const v = await new OpenAIEmbeddings(common).embedDocuments(["a", "b", "c"]);
assert.equal(v.length, 3);
