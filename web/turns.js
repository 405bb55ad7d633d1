// SPDX-License-Identifier: Apache-2.0
// One turn of the conversation as an element: what was said, thought and called, and what can be done with it. `acts`
// are the playground's functions: copy, edit, retry, rate.
import { copy, el } from "./dom.js";
import { codeBox, render } from "./markdown.js";

const button = (label, onclick, attributes = {}) =>
    el("button.quiet", { type: "button", onclick, ...attributes }, label);

function pretty(text) {
    try {
        return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
        return text;
    }
}

const seconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

// "first token 120 ms, 34.1 tokens/s, 120 tokens, prompt 40 (32 cached)"
export function figures(m) {
    const parts = [];
    if (m.ttft != null) parts.push(`first token ${seconds(m.ttft)}`);
    if (m.rate != null) parts.push(`${m.rate.toFixed(1)} tokens/s`);
    if (m.tokens) parts.push(`${m.tokens} token${m.tokens === 1 ? "" : "s"}`);
    if (m.prompt) parts.push(`prompt ${m.prompt}${m.cached ? ` (${m.cached} cached)` : ""}`);
    return parts.join(", ");
}

function noteOf(m) {
    if (m.broken) return "The connection broke here.";
    if (m.stopped) return "Stopped.";
    return m.finish === "length" ? "Ended by its length." : "";
}

// ---- the model's ----

function parts(turn) {
    return turn.parts ??= {
        thought: turn.querySelector(".thought"), thinking: turn.querySelector(".thought > div"),
        text: turn.querySelector(".text"), calls: turn.querySelector(".calls"), note: turn.querySelector(".note"),
    };
}

// Bring an answer's element up to date with m; cheap enough for every frame of a stream.
export function show(turn, m) {
    const p = parts(turn);
    p.thought.hidden = !m.reasoning;
    if (m.reasoning && p.thinking.textContent !== m.reasoning) p.thinking.textContent = m.reasoning;
    render(p.text, m.content);
    const calls = m.calls ?? [], source = JSON.stringify(calls);
    if (p.calls.source !== source) {
        p.calls.replaceChildren(...calls.map((c) =>
            el("div.call", {}, codeBox(pretty(c.arguments), `call of ${c.name}`))));
        p.calls.source = source;
    }
    p.note.textContent = noteOf(m);
    p.note.hidden = !p.note.textContent;
}

function rating(m, i, acts) {
    const make = (value, label) => button(label, () => acts.rate(i, value),
        { "aria-pressed": String(m.rated === value), "data-rate": value });
    return [make("like", "Like"), make("dislike", "Dislike")];
}

function answer(m, i, acts) {
    const turn = el("article.turn.model", { "aria-label": "Model" },
        el("h3", {}, m.model ? `Model: ${m.model}` : "Model"),
        el("details.thought", { hidden: true }, el("summary", {}, "Reasoning"), el("div")),
        el("div.text"), el("div.calls"), el("p.note.hint", { hidden: true }));
    show(turn, m);
    if (acts.busy(i)) {
        turn.classList.add("busy");
        return turn;
    }
    const copied = button("Copy", () => copy(m.content, copied));
    turn.append(el("div.acts", { role: "group", "aria-label": "This answer" }, copied,
        button("Retry", () => acts.retry(i)), ...(m.id ? rating(m, i, acts) : []),
        el("span.hint", {}, figures(m))));
    return turn;
}

// ---- the reader's ----

function editor(turn, m, i, acts) {
    const box = el("textarea.edit", { rows: Math.min(12, m.content.split("\n").length + 1), "aria-label": "Edit the message" });
    box.value = m.content;
    const done = () => acts.redraw(i);
    const send = () => { if (box.value.trim()) acts.edit(i, box.value); };
    box.addEventListener("keydown", (e) => {
        if (e.key === "Escape") { e.stopPropagation(); done(); }
        if (e.key === "Enter" && !e.shiftKey && !e.isComposing) { e.preventDefault(); send(); }
    });
    turn.replaceChildren(el("h3", {}, "You"), box, el("div.acts", { role: "group", "aria-label": "This message" },
        button("Send again", send), button("Cancel", done)));
    box.focus();
}

function said(m, i, acts) {
    const turn = el("article.turn.user", { "aria-label": m.role === "tool" ? "Result of a tool" : "You" },
        el("h3", {}, m.role === "tool" ? `Result of ${m.name}` : "You"), el("div.text", {}, m.content));
    const copied = button("Copy", () => copy(m.content, copied));
    turn.append(el("div.acts", { role: "group", "aria-label": "This message" }, copied,
        button("Edit", () => editor(turn, m, i, acts))));
    return turn;
}

export const make = (m, i, acts) => (m.role === "assistant" ? answer(m, i, acts) : said(m, i, acts));
