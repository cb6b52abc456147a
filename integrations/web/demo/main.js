// The page: settings, the training's loop, charts, and the drawing.

import { Chart } from "./charts.js";
import { loadDigits } from "./digits.js";
import { Pad } from "./draw.js";
import { CLASSES, Training, accuracy, teach, withWrongLabels } from "./training.js";

const UNITS = 32;
/** Points of a chart. */
const POINTS = 50;
/** The longest that steps may take between two frames, in milliseconds. */
const FRAME = 25;

const find = (selector) => document.querySelector(selector);
const form = find("#settings");
const percent = (value) => `${(100 * value).toFixed(1)}\u00a0%`;
const students = { distilled: "distilled", "labels alone": "labels" };
const charts = {
    accuracy: new Chart(find("#accuracy-chart"), { series: { ...students, teacher: "teacher" }, most: 1, format: (value) => `${Math.round(100 * value)} %` }),
    loss: new Chart(find("#loss-chart"), { series: students, most: null }),
    share: new Chart(find("#share-chart"), { series: { KDR: "kdr", TSSR: "tssr", TSTR: "tstr" }, most: 1 }),
};

let teacher = null;
/** The digits of the current settings as tensors, with the teacher's logits. */
let data = null;
let training = null;
/** Counts starts: a training ends when it sees a newer one. */
let starts = 0;
let paused = false;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const show = (state) => (document.documentElement.dataset.state = state);
const say = (text) => (find("#status").textContent = text);

function settings() {
    const { similarity, selection, backend, ...numbers } = Object.fromEntries(new FormData(form));
    for (const name of Object.keys(numbers)) numbers[name] = Number(numbers[name]);
    return { similarity, selection, backend, units: UNITS, ...numbers };
}

/** WebGPU if the browser has an adapter that is no emulation, else the CPU. `?backend=webgpu` accepts any adapter. */
async function chooseBackend(wanted) {
    const adapter = await navigator.gpu?.requestAdapter();
    const emulated = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter;
    const { backend } = form.elements;
    backend.options[0].disabled = !adapter;
    backend.options[0].text = !adapter ? "WebGPU (not here)" : emulated ? "WebGPU (emulated)" : "WebGPU";
    backend.value = adapter && (wanted ? wanted == "webgpu" : !emulated) ? "webgpu" : "cpu";
}

/** Loads what the settings need and does not have yet. */
async function prepareData({ backend, digits, tests, wrong, seed }) {
    if (tf.getBackend() != backend || !data) {
        for (const { images, logits, labels } of Object.values(data?.parts ?? {})) tf.dispose([images, logits, labels]);
        data = null;
        teacher?.dispose();
        if (!(await tf.setBackend(backend))) throw new Error(`TensorFlow.js found no backend ${backend}`);
        await tf.ready();
        teacher = await tf.loadLayersModel("teacher/model.json");
        data = { parts: {} };
    }
    const { parts } = data;
    const folder = new URL("digits/", document.baseURI);
    for (const [name, count] of [["test", tests], ["train", digits]]) {
        if (parts[name]?.count == count) continue;
        say(`Loading ${count} digits to ${name == "test" ? "test" : "train"} with.`);
        const found = await loadDigits(folder, name, count);
        const images = tf.tensor2d(found.images, [count, found.images.length / count]);
        const logits = await teach(tf, teacher, images, (done) => say(`The teacher reads digits: ${done} of ${count}.`));
        if (parts[name]) tf.dispose([parts[name].images, parts[name].logits, parts[name].labels]);
        parts[name] = { ...found, pixels: found.images, right: found.labels, images, logits, labels: tf.tensor1d(found.labels, "int32") };
    }
    parts.train.labels.dispose();
    parts.train.labels = tf.tensor1d(withWrongLabels(parts.train.right, wrong, seed), "int32");
    data.teacherAccuracy = await accuracy(tf, parts.test.logits, parts.test.labels);
    return parts;
}

function fill(who, { accuracy, loss, kdr, tssr }) {
    const cells = find(`#results [data-who=${who}]`).querySelectorAll("td");
    const texts = [percent(accuracy), ...[loss, kdr, tssr].map((value) => value?.toFixed(3) ?? "–")];
    texts.forEach((text, i) => (cells[i].textContent = text));
}

/** Measures the students and draws the results. */
async function measure() {
    const { step, steps } = training;
    const { distilled, labels } = await training.measure();
    const of = (key) => ({ distilled: distilled[key], "labels alone": labels[key] });
    charts.accuracy.add(step, { ...of("accuracy"), teacher: data.teacherAccuracy });
    charts.loss.add(step, of("loss"));
    charts.share.add(step, { KDR: distilled.kdr, TSSR: distilled.tssr, TSTR: step / steps });
    fill("distilled", distilled);
    fill("labels", labels);
    find("#progress").value = step / steps;
    find("#step").textContent = `${step} of ${steps} steps`;
    return { distilled, labels };
}

function tellWhere({ backend }, { train, test }) {
    const onDevice = backend == "webgpu";
    const size = ((train.bytes + test.bytes) / 1e6).toFixed(1);
    const lines = [
        `Students and teacher: TensorFlow.js ${tf.version.tfjs}, ${onDevice ? "WebGPU backend" : "CPU backend in JavaScript"}.`,
        `Distillation loss and its gradient: ${onDevice ? "one WebGPU kernel on TensorFlow.js's own buffers" : "the SIMD CPU path in WebAssembly"}.`,
        `Digits: ${train.count.toLocaleString("en")} to train, ${test.count.toLocaleString("en")} to test, ${train.ranged ? `by range requests, ${size} MB` : `whole files, ${size} MB`}.`,
    ];
    find("#where").replaceChildren(...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
}

/** Trains from the start with the settings of the form, until done or until a newer start waits. */
async function start(mine) {
    const chosen = settings();
    const { steps } = chosen;
    show("loading");
    training?.dispose();
    training = null;
    setPaused(false);
    find("#restart").disabled = false;
    for (const chart of Object.values(charts)) chart.clear(steps);
    const parts = await prepareData(chosen);
    training = await Training.start(tf, parts.train, parts.test, chosen);
    tellWhere(chosen, parts);
    fill("teacher", { accuracy: data.teacherAccuracy });
    let results = await measure();
    find("#sample").disabled = find("#pause").disabled = false;
    say(`Training for ${steps} steps.`);
    show("training");
    const every = Math.ceil(steps / POINTS);
    while (mine == starts && training.step < steps) {
        if (paused) {
            await pause(50);
            continue;
        }
        const began = performance.now();
        do training.advance();
        while (training.step % every && training.step < steps && performance.now() - began < FRAME);
        if (training.step % every == 0 || training.step == steps) {
            results = await measure();
            if (training.step % (10 * every) == 0) judge();
        }
        await tf.nextFrame();
    }
    find("#pause").disabled = true;
    if (mine != starts) return;
    judge();
    say(`Done: the distilled student is right on ${percent(results.distilled.accuracy)} of the test digits, the student of labels alone on ${percent(results.labels.accuracy)}.`);
    show("done");
}

function setPaused(now) {
    paused = now;
    find("#pause").textContent = now ? "Continue" : "Pause";
}

/** A start waits for the end of the one before, so that it disposes nothing that is in use. */
let queue = Promise.resolve();
function restart() {
    const mine = ++starts;
    queue = queue.then(() => mine == starts && start(mine)).catch(fail);
}

function fail(error) {
    console.error(error);
    say(`It stopped: ${error.message}`);
    show("failed");
}

const pad = new Pad(find("#pad"), judge);

/** Shows what teacher and students say about the drawing. */
async function judge() {
    const pixels = pad.pixels();
    if (!pixels || !training) return;
    const rows = [...document.querySelectorAll("#verdict [data-who]")];
    // All are asked before the first wait: a start may dispose them after it.
    const answers = rows.map(({ dataset: { who } }) =>
        tf.tidy(() => {
            const [model, shape] = who == "teacher" ? [teacher, [1, 28, 28, 1]] : [training.students[who].model, [1, pixels.length]];
            return tf.softmax(model.predict(tf.tensor(pixels, shape)));
        }),
    );
    const said = [];
    for (const [i, row] of rows.entries()) {
        const values = await answers[i].data();
        answers[i].dispose();
        const best = values.indexOf(Math.max(...values));
        row.querySelector("b").textContent = best;
        row.querySelectorAll("td").forEach((cell, digit) => {
            cell.textContent = Math.round(100 * values[digit]);
            cell.style.setProperty("--share", values[digit]);
            cell.classList.toggle("best", digit == best);
        });
        said.push(`${row.dataset.who == "labels" ? "labels alone" : row.dataset.who} ${best}`);
    }
    const text = `They say: ${said.join(", ")}.`;
    // Equal text would be read out again.
    if (find("#judged").textContent != text) find("#judged").textContent = text;
}

for (let digit = 0; digit < CLASSES; digit++) {
    find("#verdict thead tr").append(Object.assign(document.createElement("th"), { role: "columnheader", scope: "col", textContent: digit }));
    for (const row of document.querySelectorAll("#verdict [data-who]")) row.append(Object.assign(document.createElement("td"), { role: "cell" }));
}

find("#pause").addEventListener("click", () => {
    setPaused(!paused);
    say(paused ? `Paused after ${training.step} steps.` : "Training goes on.");
    show(paused ? "paused" : "training");
});
find("#restart").addEventListener("click", restart);
form.addEventListener("submit", (event) => event.preventDefault());
form.elements.temperature.addEventListener("input", ({ target }) => (target.nextElementSibling.textContent = target.value));
form.addEventListener("change", () => form.reportValidity() && restart());
find("#clear").addEventListener("click", () => {
    pad.clear();
    find("#judged").textContent = "";
    for (const cell of document.querySelectorAll("#verdict td, #verdict b")) {
        cell.textContent = cell.localName == "b" ? "?" : "";
        cell.removeAttribute("style");
        cell.classList.remove("best");
    }
});
find("#sample").addEventListener("click", () => {
    const { pixels, count } = data.parts.test;
    const at = Math.floor(Math.random() * count);
    pad.show(pixels.subarray((at * pixels.length) / count, ((at + 1) * pixels.length) / count));
    judge();
});

// On a phone the results come before the settings.
find("#more").open = matchMedia("(min-width: 900px)").matches;
// Settings of the address, `?temperature=4&steps=100`.
const address = new URLSearchParams(location.search);
for (const [name, value] of address) {
    const field = form.elements.namedItem(name);
    if (!field) continue;
    const { value: before } = field;
    field.value = value;
    // A list is empty after a value that it does not offer.
    if (!field.value || !field.checkValidity()) field.value = before;
}
form.elements.temperature.nextElementSibling.textContent = form.elements.temperature.value;
try {
    await chooseBackend(address.get("backend"));
    restart();
} catch (error) {
    fail(error);
}
