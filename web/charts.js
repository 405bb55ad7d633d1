// SPDX-License-Identifier: Apache-2.0
// One chart: a title, what it shows now in words, and a plot by uPlot, which is a script of its own. Without it (a build
// that had no npm) the words stay.
import { el } from "./dom.js";

let plots = null; // a promise of whether uPlot is there

function load() {
    return plots ??= new Promise((done) => {
        const script = el("script", { src: "/assets/uplot.js", onload: () => done(true), onerror: () => done(false) });
        document.head.append(el("link", { rel: "stylesheet", href: "/assets/uplot.css" }), script);
    });
}

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const clockS = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

// "1.50 ms" as "1.5 ms": on an axis digits need not stand still
const brief = (text) => text.replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, "");

function options(chart, width) {
    const grid = { stroke: css("--line"), width: 1 };
    const axis = { stroke: css("--muted"), grid, ticks: { show: false }, font: `11px ${css("--sans")}` };
    const top = (u, low, high) => [0, chart.most ?? Math.max(high ?? 0, chart.least ?? 0) * 1.08];
    return {
        width, height: 152, legend: { show: false },
        cursor: { drag: { x: false, y: false }, points: { show: false } },
        padding: [6, 6, 0, 0],
        scales: { x: { time: true }, y: { range: top } },
        axes: [
            { ...axis, size: 24, space: 70, values: (u, at) => at.map((t) => (at[1] - at[0] < 60 ? clockS : clock).format(t * 1000)) },
            { ...axis, size: 52, space: 28, values: (u, at) => at.map((v) => brief(chart.format(v))) },
        ],
        series: [{}, ...chart.series.map((s, i) => ({
            stroke: css(`--s${i + 1}`), width: 1.75, spanGaps: false, points: { show: false },
            fill: chart.series.length === 1 ? `${css(`--s${i + 1}`)}1f` : undefined,
        }))],
    };
}

// {title, format, series: [{name, label}], most, least}: most fixes the top of the scale, least is its smallest top.
export class Chart {
    constructor(box, spec) {
        Object.assign(this, spec);
        this.items = this.series.map((s, i) => el(`li.s${i + 1}`));
        this.plot = el("div.plot", { role: "img", "aria-label": `${this.title}: a plot; its newest numbers stand above it` });
        box.append(el("article.chart", {}, el("h2", {}, this.title), el("ul", {}, ...this.items), this.plot));
        new ResizeObserver(() => this.u?.setSize({ width: this.plot.clientWidth, height: 152 })).observe(this.plot);
        addEventListener("themechange", () => this.rebuild());
        load().then((there) => {
            this.there = there;
            if (there) this.rebuild();
            else this.plot.append(el("p", {}, "no plots: this build is without uPlot"));
        });
    }

    rebuild() {
        this.u?.destroy();
        this.u = null;
        if (this.data) this.draw();
    }

    draw() {
        if (!this.there) return;
        if (!this.u) this.u = new uPlot(options(this, this.plot.clientWidth || 300), this.data, this.plot);
        else this.u.setData(this.data, false);
        this.u.batch(() => {
            this.u.setScale("x", { min: this.from, max: this.to });
        });
    }

    // columns: {t: [...], name: [...]}
    show(columns, from, to) {
        this.data = [columns.t, ...this.series.map((s) => columns[s.name])];
        this.from = from;
        this.to = to;
        this.series.forEach((s, i) => {
            const v = columns[s.name].at(-1);
            this.items[i].textContent = `${s.label ? `${s.label} ` : ""}${v == null ? "none" : this.format(v)}`;
        });
        this.draw();
    }
}
