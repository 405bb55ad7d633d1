// SPDX-License-Identifier: Apache-2.0
// Making elements. Text goes in as text: nothing here or elsewhere parses HTML.

// el("button.quiet", {type: "button", onclick: f}, "Copy", node ...)
export function el(what, attributes = {}, ...children) {
    const [tag, ...classes] = what.split(".");
    const node = document.createElement(tag);
    if (classes.length) node.className = classes.join(" ");
    for (const [key, value] of Object.entries(attributes)) {
        if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
        else if (value === true) node.setAttribute(key, "");
        else if (value !== false && value != null) node.setAttribute(key, value);
    }
    node.append(...children.filter((c) => c != null));
    return node;
}

export const byId = (id) => document.getElementById(id);

// Into the clipboard, and say so on the button for a moment. Without TLS browsers have the older way only.
export async function copy(text, button) {
    let done = true;
    try {
        await navigator.clipboard.writeText(text);
    } catch {
        const box = el("textarea", { "aria-hidden": "true", class: "hidden-text" });
        box.value = text;
        document.body.append(box);
        box.select();
        done = document.execCommand("copy");
        box.remove();
        button.focus();
    }
    const label = button.dataset.label ??= button.textContent;
    button.textContent = done ? "Copied" : "Copy failed";
    clearTimeout(button.timer);
    button.timer = setTimeout(() => { button.textContent = label; }, 1500);
}
