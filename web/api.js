// SPDX-License-Identifier: Apache-2.0
// Asking the server: answers, streams, and what to say when it does not go well.

// An error with what the reader can do next. `field`: of the request; `again`: asking again may help.
export class Trouble extends Error {
    constructor(title, next, { field = null, again = true, after = 0, kept = false } = {}) {
        super(title);
        Object.assign(this, { next, field, again, after, kept });
    }
}

const NEXT = {
    400: ["The request was refused", "Change the field it names and send again."],
    401: ["A key is needed", "Load this page again: the browser then asks for a key. Any user name, the key as password."],
    403: ["The key is not allowed to do this", "Ask for a key with this scope and for this model (ingot keys create)."],
    404: ["There is no such model", "Choose another model in the settings."],
    408: ["The request came too slowly", "Send it again."],
    413: ["The message is too long", "Shorten it, or begin a new conversation."],
    422: ["The request was refused", "Change the field it names and send again."],
    429: ["The server is busy", "Wait a moment, then try again."],
    500: ["The server has failed", "Try again; its log says why."],
    501: ["This server does not do this", "An option may switch it on: ingot serve --help."],
    503: ["The server is not ready", "It is loading its model, stopping or out of memory. Try again soon."],
    504: ["The answer took too long", "Ask for fewer tokens, or try again when there is less to do."],
};

const TOO_LONG = "Ask for fewer tokens, shorten the message or begin a new conversation.";

function troubleOf(status, body, after) {
    const [title, words] = NEXT[status] ?? NEXT[status >= 500 ? 500 : 400];
    const next = body?.error?.code === "context_length_exceeded" ? TOO_LONG : words;
    const said = body?.error?.message ?? body?.detail ?? "";
    const field = body?.error?.param ?? /^([a-z_]+):/.exec(said)?.[1] ?? null;
    return new Trouble(said ? `${title}: ${said}` : title, next,
        { field, after, again: ![400, 401, 403, 404, 413, 422].includes(status) });
}

async function send(path, options) {
    let r;
    try {
        r = await fetch(path, { credentials: "same-origin", ...options });
    } catch (e) {
        if (e.name === "AbortError") throw e;
        throw new Trouble("The server cannot be reached", "See whether it still runs, then try again.");
    }
    if (r.ok) return r;
    const body = await r.json().catch(() => null);
    throw troubleOf(r.status, body, Number(r.headers.get("Retry-After")) || 0);
}

export async function get(path) {
    return (await send(path, {})).json();
}

export async function post(path, body, signal) {
    return send(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });
}

const broken = () => new Trouble("The connection broke in the middle of the answer",
    "What has come is kept. See whether the server still runs, then ask for the answer again.", { kept: true });

async function read(reader) {
    try {
        return await reader.read();
    } catch (e) {
        if (e.name === "AbortError") throw e;
        throw broken();
    }
}

// The events of a stream, parsed. Ends at [DONE]; a stream that ends before it is a Trouble, and so is an error in it.
export async function* events(response) {
    const reader = response.body.getReader(), decoder = new TextDecoder();
    let text = "";
    for (;;) {
        const { done, value } = await read(reader);
        if (done) throw broken();
        text += decoder.decode(value, { stream: true });
        for (let at; (at = text.indexOf("\n\n")) >= 0; text = text.slice(at + 2)) {
            const data = text.slice(0, at).split("\n").filter((l) => l.startsWith("data: ")).map((l) => l.slice(6)).join("\n");
            if (data === "[DONE]") return;
            if (!data) continue;
            const event = JSON.parse(data);
            if (event.error) throw troubleOf(/time/i.test(event.error.message) ? 504 : 500, event, 0);
            yield event;
        }
    }
}
