// Line charts in SVG that follow the training.

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [360, 190];
const [LEFT, RIGHT, TOP, BOTTOM] = [44, 8, 8, 22];

function element(name, attributes, parent, text) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    parent?.append(made);
    return made;
}

/** A round number at or above `value`. */
function roundUp(value) {
    const unit = 10 ** Math.floor(Math.log10(value));
    return [1, 2, 3, 4, 6, 8, 10].find((factor) => factor * unit >= value * 0.999) * unit;
}

export class Chart {
    #svg;
    #ticks;
    #lines;
    #series;
    #points = [];

    /** `series`: names of lines with their classes of style. `most`: the end of the axis, or `null` for that of the data. */
    constructor(place, { series, most, format = (value) => String(Number(value.toPrecision(3))) }) {
        this.most = most;
        this.format = format;
        this.#series = series;
        this.#svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" }, place);
        this.#ticks = element("g", {}, this.#svg);
        this.#lines = Object.entries(series).map(([name, style]) => [name, element("path", { class: `line ${style}` }, this.#svg)]);
        this.clear(1);
    }

    /** Starts again, for so many steps. */
    clear(steps) {
        this.steps = steps;
        this.#points = [];
        this.draw();
    }

    /** Adds the values of a step, by the names of the series. */
    add(step, values) {
        this.#points.push({ step, ...values });
        this.draw();
    }

    draw() {
        const all = this.#points.flatMap((point) => Object.keys(this.#series).map((name) => point[name]));
        const top = this.most ?? roundUp(Math.max(0.1, ...all.filter(Number.isFinite)));
        const x = (step) => LEFT + ((WIDTH - LEFT - RIGHT) * step) / this.steps;
        const y = (value) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * Math.min(value, top)) / top;
        this.#ticks.replaceChildren();
        for (const part of [0, 0.25, 0.5, 0.75, 1]) {
            const at = y(part * top);
            element("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: at, y2: at }, this.#ticks);
            element("text", { x: LEFT - 6, y: at + 4, "text-anchor": "end" }, this.#ticks, this.format(part * top));
        }
        for (const part of [0, 0.5, 1]) {
            const label = part == 1 ? `${this.steps} steps` : String(Math.round(part * this.steps));
            const anchor = part == 1 ? "end" : "middle";
            element("text", { x: x(part * this.steps), y: HEIGHT - 6, "text-anchor": anchor }, this.#ticks, label);
        }
        for (const [name, line] of this.#lines) {
            const points = this.#points.filter((point) => Number.isFinite(point[name]));
            line.setAttribute("d", points.map((point, i) => `${i ? "L" : "M"}${x(point.step).toFixed(1)} ${y(point[name]).toFixed(1)}`).join(""));
        }
        const last = this.#points.at(-1);
        const values = last && Object.keys(this.#series).map((name) => `${name} ${this.format(last[name])}`);
        this.#svg.setAttribute("aria-label", last ? `At step ${last.step}: ${values.join(", ")}` : "No steps yet");
    }
}
