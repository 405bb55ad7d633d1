// SPDX-License-Identifier: Apache-2.0
// Renders what templates.py asks for with @huggingface/jinja (NODE_PATH): [{source, variables, now}] on standard input,
// [text or null] on standard output. The clock stands still, since strftime_now is the reader's own.
const { Template } = require("@huggingface/jinja");

const asked = JSON.parse(require("fs").readFileSync(0, "utf8"));
const RealDate = Date;
let now = 0;
globalThis.Date = class extends RealDate {
    constructor(...a) {
        if (a.length) super(...a);
        else super(now * 1000);
    }
};
const told = asked.map((one) => {
    now = one.now;
    try {
        return new Template(one.source).render(one.variables);
    } catch {
        return null;
    }
});
process.stdout.write(JSON.stringify(told));
