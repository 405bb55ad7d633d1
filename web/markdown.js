// SPDX-License-Identifier: Apache-2.0
// Markdown as models write it, made into elements: headings, lists, quotes, tables, code, emphasis, links. Text becomes
// text nodes, never HTML. Pictures are links: a page that loads what a model names would tell others what was said.
// While an answer streams, only blocks whose source has changed are made again.
import { copy, el } from "./dom.js";

const DEEPEST = 8;

// ---- within a line ----

function safeUrl(text) {
    try {
        const url = new URL(text);
        return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
    } catch {
        return null;
    }
}

function link(label, target, depth) {
    const url = safeUrl(target);
    if (!url) return null;
    const a = el("a", { href: url, title: url, target: "_blank", rel: "noopener noreferrer nofollow" });
    inline(a, label, depth + 1);
    return a;
}

// `code`, closed by as many back-quotes as opened it
function codeSpan(s, i) {
    const run = /^`+/.exec(s.slice(i, i + 64))[0];
    for (let at = s.indexOf(run, i + run.length); at >= 0; at = s.indexOf(run, at + 1)) {
        if (s[at + run.length] === "`" || s[at - 1] === "`") continue;
        const inner = s.slice(i + run.length, at);
        return { node: el("code", {}, /^ .+ $/.test(inner) ? inner.slice(1, -1) : inner), end: at + run.length };
    }
    return { node: document.createTextNode(run), end: i + run.length };
}

const EMPHASIS = [["***", "strong"], ["**", "strong"], ["__", "strong"], ["~~", "s"], ["*", "em"], ["_", "em"]];

function emphasis(s, i, depth) {
    for (const [mark, tag] of EMPHASIS) {
        if (!s.startsWith(mark, i)) continue;
        if (mark[0] === "_" && /\w/.test(s[i - 1] ?? "")) return null;
        const at = s.indexOf(mark, i + mark.length + 1);
        if (at < 0 || /\s/.test(s[i + mark.length]) || /\s/.test(s[at - 1])) return null;
        if (mark[0] === "_" && /\w/.test(s[at + mark.length] ?? "")) return null;
        const node = el(tag);
        inline(node, s.slice(i + mark.length, at), depth + 1);
        return { node, end: at + mark.length };
    }
    return null;
}

// [label](target "title"), and ![label](target)
function bracket(s, i, depth) {
    const picture = s[i] === "!";
    const m = /^!?\[([^\]\n]{0,500})\]\(<?([^\s()<>]{1,2000}(?:\([^\s()]*\))?[^\s()<>]*)>?(?:\s+"[^"\n]*")?\)/.exec(s.slice(i, i + 3000));
    if (!m) return null;
    const node = link(picture ? `picture: ${m[1] || m[2]}` : m[1] || m[2], m[2], depth);
    return node && { node, end: i + m[0].length };
}

function bareUrl(s, i) {
    if (/\w/.test(s[i - 1] ?? "")) return null;
    const m = /^https?:\/\/[^\s<>"'`]{1,2000}/.exec(s.slice(i, i + 2010));
    const text = m?.[0].replace(/[.,;:!?)\]*_]+$/, "");
    const url = text && safeUrl(text);
    if (!url) return null;
    return { node: el("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow" }, text), end: i + text.length };
}

function special(s, i, depth) {
    switch (s[i]) {
        case "`": return codeSpan(s, i);
        case "*": case "_": case "~": return emphasis(s, i, depth);
        case "[": return bracket(s, i, depth);
        case "!": return s[i + 1] === "[" ? bracket(s, i, depth) : null;
        case "h": return s.startsWith("http", i) ? bareUrl(s, i) : null;
        case "\n": return { node: el("br"), end: i + 1 };
        default: return null;
    }
}

function inline(out, s, depth = 0) {
    let plain = "";
    for (let i = 0; i < s.length;) {
        if (s[i] === "\\" && /[!-/:-@[-`{-~]/.test(s[i + 1] ?? "")) {
            plain += s[i + 1];
            i += 2;
            continue;
        }
        const made = depth < DEEPEST ? special(s, i, depth) : null;
        if (made) {
            out.append(plain, made.node);
            plain = "";
            i = made.end;
        } else {
            plain += s[i++];
        }
    }
    out.append(plain);
}

// ---- blocks: each is its source and a function that makes it ----

export function codeBox(text, name) {
    const button = el("button.quiet", { type: "button", onclick: () => copy(text, button) }, "Copy");
    return el("div.code-box", {},
        el("div.head", {}, el("span", {}, name || "code"), button),
        el("pre", { tabindex: "0", role: "region", "aria-label": `Code: ${name || "no language"}` }, el("code", {}, text)));
}

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(\s+|$)/;
const RULE = /^ {0,3}([-*_])( *\1){2,} *$/;
const TABLE_LINE = /^ *\|?( *:?-+:? *\|)+ *(:?-+:?)? *$/;

function fence(lines, i) {
    const [, mark, name] = FENCE.exec(lines[i]);
    let end = i + 1;
    while (end < lines.length && !(lines[end].trim().startsWith(mark) && /^[`~]+$/.test(lines[end].trim()))) end++;
    const text = lines.slice(i + 1, end).join("\n");
    return { end: Math.min(end + 1, lines.length), make: () => codeBox(text, name) };
}

function heading(lines, i) {
    const [, marks, text] = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/.exec(lines[i]);
    return { end: i + 1, make: () => { const h = el(`h${Math.min(6, 3 + marks.length)}`); inline(h, text); return h; } };
}

function quote(lines, i, depth) {
    let end = i;
    while (end < lines.length && /^ {0,3}>/.test(lines[end])) end++;
    const inner = lines.slice(i, end).map((l) => l.replace(/^ {0,3}> ?/, ""));
    return { end, make: () => el("blockquote", {}, ...blocks(inner, depth + 1).map((b) => b.make())) };
}

function items(lines, i) {
    const [, indent, mark] = ITEM.exec(lines[i]);
    const numbered = /\d/.test(mark), list = [];
    let end = i;
    for (; end < lines.length; end++) {
        const m = ITEM.exec(lines[end]);
        const depth = /^ */.exec(lines[end])[0].length;
        const blank = lines[end].trim() === "";
        if (m && m[1].length <= indent.length + 1 && m[1].length >= indent.length) {
            if (/\d/.test(m[2]) !== numbered) break;
            list.push([lines[end].slice(m[0].length)]);
        } else if (blank ? !/^( {2,}| *([-*+]|\d+[.)])\s)/.test(lines[end + 1] ?? "") : depth < indent.length + 2) {
            break;
        } else {
            list.at(-1).push(lines[end].slice(Math.min(depth, indent.length + 2)));
        }
    }
    return { end, list, numbered, start: parseInt(mark, 10) };
}

function list(lines, i, depth) {
    const it = items(lines, i);
    const make = () => {
        const node = el(it.numbered ? "ol" : "ul", it.numbered && it.start !== 1 ? { start: it.start } : {});
        for (const part of it.list) {
            const li = el("li"), inner = blocks(part, depth + 1);
            if (inner[0]?.text != null) { inline(li, inner[0].text); inner.shift(); }
            li.append(...inner.map((b) => b.make()));
            node.append(li);
        }
        return node;
    };
    return { end: it.end, make };
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/).map((c) => c.trim());

function table(lines, i) {
    let end = i + 2;
    while (end < lines.length && lines[end].includes("|") && lines[end].trim()) end++;
    const row = (line, tag) => el("tr", {}, ...cells(line).map((c) => { const n = el(tag); inline(n, c); return n; }));
    const make = () => el("div.wide", { tabindex: "0", role: "region", "aria-label": "Table" }, el("table", {},
        el("thead", {}, row(lines[i], "th")), el("tbody", {}, ...lines.slice(i + 2, end).map((l) => row(l, "td")))));
    return { end, make };
}

const isTable = (lines, i) => lines[i].includes("|") && i + 1 < lines.length && TABLE_LINE.test(lines[i + 1]);
const begins = (lines, i) => FENCE.test(lines[i]) || /^ {0,3}#{1,6}\s/.test(lines[i]) || /^ {0,3}>/.test(lines[i]) ||
    RULE.test(lines[i]) || ITEM.test(lines[i]) || isTable(lines, i);

function paragraph(lines, i) {
    let end = i + 1;
    while (end < lines.length && lines[end].trim() && !begins(lines, end)) end++;
    const text = lines.slice(i, end).map((l) => l.trim()).join("\n");
    return { end, text, make: () => { const p = el("p"); inline(p, text); return p; } };
}

function blockAt(lines, i, depth) {
    if (depth > DEEPEST) return paragraph(lines, i);
    if (FENCE.test(lines[i])) return fence(lines, i);
    if (/^ {0,3}#{1,6}\s/.test(lines[i])) return heading(lines, i);
    if (RULE.test(lines[i])) return { end: i + 1, make: () => el("hr") };
    if (/^ {0,3}>/.test(lines[i])) return quote(lines, i, depth);
    if (ITEM.test(lines[i])) return list(lines, i, depth);
    if (isTable(lines, i)) return table(lines, i);
    return paragraph(lines, i);
}

function blocks(lines, depth = 0) {
    const out = [];
    for (let i = 0; i < lines.length;) {
        if (!lines[i].trim()) { i++; continue; }
        const b = blockAt(lines, i, depth);
        out.push({ ...b, source: lines.slice(i, b.end).join("\n") });
        i = b.end;
    }
    return out;
}

// Show `text` in `box`. Called again with more text it keeps the blocks that are as they were.
export function render(box, text) {
    const now = blocks(text.replace(/\r\n?/g, "\n").split("\n"));
    const before = box.sources ?? [];
    let same = 0;
    while (same < now.length && same < before.length && now[same].source === before[same]) same++;
    while (box.childNodes.length > same) box.lastChild.remove();
    for (const b of now.slice(same)) box.append(b.make());
    box.sources = now.map((b) => b.source);
}
