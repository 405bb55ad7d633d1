// SPDX-License-Identifier: Apache-2.0
// The settings beside the conversation: what they are, whether they are right, and what they add to a request. A field
// that is wrong says so beside itself, and nothing is sent.
import { byId, el } from "./dom.js";

const NUMBERS = [
    { key: "temperature", label: "Temperature", min: 0, max: 2, usual: "1" },
    { key: "top_p", label: "Top p", above: 0, max: 1, usual: "1" },
    { key: "top_k", label: "Top k", min: -1, max: 1e7, whole: true, usual: "all" },
    { key: "min_p", label: "Min p", min: 0, max: 1, usual: "0" },
    { key: "max_tokens", label: "Max tokens", min: 1, max: 1e7, whole: true, usual: "what fits" },
    { key: "seed", label: "Seed", min: -(2 ** 53), max: 2 ** 53, whole: true, usual: "random" },
    { key: "presence_penalty", label: "Presence penalty", min: -2, max: 2, usual: "0" },
    { key: "frequency_penalty", label: "Frequency penalty", min: -2, max: 2, usual: "0" },
];
const TEXTS = ["model", "system", "stops", "schema", "tools", "tool-choice"];
const FIELD_OF = { response_format: "schema", json_schema: "schema", tools: "tools", tool_choice: "tool-choice", stop: "stops" };

function number(row, text) {
    const v = Number(text.replace(",", "."));
    const low = row.above ?? row.min;
    const range = `${row.above != null ? "above " : ""}${low} to ${row.max}`;
    if (!Number.isFinite(v)) throw new Error(`a number is needed, ${range}`);
    if (row.whole && !Number.isInteger(v)) throw new Error("a whole number is needed");
    if (v < low || v > row.max || v === row.above) throw new Error(`out of range: ${range}`);
    return v;
}

function json(text) {
    try {
        return JSON.parse(text);
    } catch (e) {
        throw new Error(`not JSON: ${e.message}`);
    }
}

function schema(text) {
    const v = json(text);
    if (v === null || typeof v !== "object" || Array.isArray(v)) throw new Error("a schema is an object: {...}");
    return v;
}

function tools(text) {
    const v = json(text);
    if (!Array.isArray(v)) throw new Error("a list is needed: [...]");
    v.forEach((t, i) => {
        if (t?.type !== "function" || typeof t.function?.name !== "string")
            throw new Error(`tool ${i + 1} is no {"type": "function", "function": {"name": ...}}`);
    });
    return v;
}

// ---- words beside a field ----

export function complain(id, words) {
    const field = byId(id), at = `${id}-wrong`;
    let note = byId(at);
    if (!words) {
        field.removeAttribute("aria-invalid");
        field.removeAttribute("aria-describedby");
        note?.remove();
        return;
    }
    if (!note) {
        note = el("p.wrong", { id: at });
        field.after(note);
    }
    note.textContent = words;
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", at);
}

// What the server said of a field of the request, beside the field; false: it is none of these.
export function complainOf(param, words) {
    const key = param?.split(/[.[]/)[0];
    const id = NUMBERS.some((r) => r.key === key) ? key : FIELD_OF[key];
    if (!id) return false;
    complain(id, words);
    show(id);
    return true;
}

function show(id) {
    for (let d = byId(id).closest("details"); d; d = d.parentElement.closest("details")) d.open = true;
    byId(id).focus();
}

// ---- reading ----

function take(out, id, key, read) {
    const text = byId(id).value.trim();
    try {
        const v = text === "" ? undefined : read(text);
        if (v !== undefined) out[key] = v;
        complain(id, null);
        return null;
    } catch (e) {
        complain(id, e.message);
        return id;
    }
}

// {request, system, wrong}: fields to put into a request, the system prompt, and the id of the first field that is wrong.
export function settings() {
    const request = {}, wrong = [];
    for (const row of NUMBERS) wrong.push(take(request, row.key, row.key, (t) => number(row, t)));
    wrong.push(take(request, "stops", "stop", () => byId("stops").value.split("\n").filter((s) => s !== "")));
    wrong.push(take(request, "schema", "response_format",
        (t) => ({ type: "json_schema", json_schema: { name: "answer", schema: schema(t) } })));
    wrong.push(take(request, "tools", "tools", tools));
    if (request.tools && byId("tool-choice").value) request.tool_choice = byId("tool-choice").value;
    return { request, model: byId("model").value, system: byId("system").value.trim(), wrong: wrong.find((w) => w) ?? null };
}

// The first wrong field gets the focus.
export const point = (id) => show(id);

// ---- keeping ----

export function build(onChange) {
    for (const row of NUMBERS) {
        byId("numbers").append(el("div.field", {}, el("label", { for: row.key }, row.label),
            el("input", { id: row.key, inputmode: row.whole ? "numeric" : "decimal", placeholder: row.usual, autocomplete: "off" })));
    }
    byId("fields").addEventListener("input", onChange);
    byId("fields").addEventListener("submit", (e) => e.preventDefault());
}

const all = () => [...TEXTS, ...NUMBERS.map((r) => r.key)];

export const values = () => Object.fromEntries(all().map((id) => [id, byId(id).value]).filter(([, v]) => v !== ""));

export function restore(kept) {
    for (const id of all()) {
        if (id !== "model" && typeof kept?.[id] === "string") byId(id).value = kept[id];
    }
    if (kept?.schema) byId("more-schema").open = true;
    if (kept?.tools) byId("more-tools").open = true;
}

export function offer(models, chosen) {
    byId("model").replaceChildren(...models.map((m) => el("option", { value: m.id, selected: m.id === chosen },
        m.parent ? `${m.id} (adapter)` : m.id)));
}
