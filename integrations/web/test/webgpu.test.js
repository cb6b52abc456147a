// `prepare`, `encode` and `distill` on a device in Chromium: several steps in a command buffer, pieces, refusals, lost devices.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { open } from "./browser.js";
import { ran } from "./report.js";

const skipped = Boolean(process.env.WGPU_DISTILL_SKIP_CHROMIUM);
if (skipped) ran("NOT RUN: the package in Chromium (WGPU_DISTILL_SKIP_CHROMIUM)");
let browser;

before(async () => {
    if (skipped) return;
    browser = await open("/test/page.html");
    await browser.page.addScriptTag({ type: "module", url: "/test/help.js" });
    await browser.page.waitForFunction(() => globalThis.help);
});
after(() => browser?.close());

/** Runs a test's body in the page. */
const inPage = (name, body, check) =>
    test(name, { skip: skipped }, async () => check(await browser.page.evaluate(body)));

inPage(
    "steps of one command buffer have their own progress, numbers and buffers",
    async () => {
        const { distill, prepare, readSummary, numbers, difference, device, filled, read } = help;
        const [rows, classes] = [12, 100];
        const gpu = await device();
        const batches = [1, 2, 3].map((seed) => ({
            student: numbers(rows * classes, seed),
            teacher: numbers(rows * classes, seed + 10),
            labels: Int32Array.from({ length: rows }, (_, r) => (r * seed) % classes),
        }));
        const step = await prepare(gpu, { rows, classes }, { studentTemperature: 2 });
        const encoder = gpu.createCommandEncoder();
        const calls = [];
        for (const [i, batch] of batches.entries()) {
            const buffers = {
                studentLogits: filled(gpu, batch.student), teacherLogits: filled(gpu, batch.teacher), labels: filled(gpu, batch.labels),
            };
            // Two calls on the same inputs, so that only the parameters differ.
            for (const [progress, options] of [[{ step: i, total: 4 }, {}], [{ step: 4, total: 4 }, { gradLoss: 8, studentTemperature: 1 }]]) {
                const outputs = { gradient: filled(gpu, new Float32Array(rows * classes)), summary: filled(gpu, new Float32Array(20)) };
                step.encode(encoder, { ...buffers, ...outputs }, progress, options);
                calls.push({ batch, progress, options, outputs });
            }
        }
        gpu.queue.submit([encoder.finish()]);
        const found = [];
        for (const { batch, progress, options, outputs } of calls) {
            const want = await distill(batch.student, batch.teacher, batch.labels, { classes }, progress, { studentTemperature: 2, ...options });
            const { loss, tssr } = readSummary(await read(gpu, outputs.summary, 80));
            const gradient = new Float32Array(await read(gpu, outputs.gradient, 4 * rows * classes));
            found.push([loss / want.summary.loss - 1, tssr - want.summary.tssr, difference(gradient, want.gradient), tssr]);
        }
        step.destroy();
        return found;
    },
    (found) => {
        for (const [loss, tssr, gradient] of found) assert.ok(Math.abs(loss) < 1e-5 && Math.abs(tssr) < 1e-5 && gradient < 1e-5, JSON.stringify(found));
        assert.ok(new Set(found.map(([, , , tssr]) => tssr)).size >= 4, "the progress makes a difference");
    },
);

inPage(
    "command buffers may be submitted in another order than they were recorded",
    async () => {
        const { prepare, readSummary, numbers, device, filled, read } = help;
        const gpu = await device();
        const step = await prepare(gpu, { rows: 2, classes: 10, gradient: null }, { selection: "tstr" });
        const inputs = { studentLogits: filled(gpu, numbers(20, 1)), teacherLogits: filled(gpu, numbers(20, 2)), labels: filled(gpu, new Int32Array(2)) };
        const recorded = [1, 2, 3].map((n) => {
            const encoder = gpu.createCommandEncoder();
            const summary = filled(gpu, new Float32Array(20));
            step.encode(encoder, { ...inputs, summary }, { step: n, total: 4 });
            return { summary, commands: encoder.finish() };
        });
        gpu.queue.submit([...recorded].reverse().map(({ commands }) => commands));
        return Promise.all(recorded.map(async ({ summary }) => readSummary(await read(gpu, summary, 80)).tssr));
    },
    (tssr) => assert.deepEqual(tssr, [0.25, 0.5, 0.75]),
);

inPage(
    "a batch in pieces has the results of the whole",
    async () => {
        const { distill, numbers, difference, device } = help;
        const gpu = await device();
        const [rows, classes] = [50, 64];
        const [student, teacher] = [numbers(rows * classes, 3), numbers(rows * classes, 4)];
        const labels = Int32Array.from({ length: rows }, (_, r) => (r % 3 == 1 ? -100 : r % classes));
        const progress = { step: 1, total: 3 };
        const found = [];
        for (const options of [{}, { scope: "batch", selection: "kdr" }, { reduction: "sum" }, { gradWrite: "accumulate" }]) {
            const into = () => new Float32Array(rows * classes).fill(0.25);
            const run = (more) => distill(student, teacher, labels, { classes, rowMetrics: true }, progress, { into: into(), ...options, ...more });
            const [whole, pieces, cpu] = [await run({ device: gpu }), await run({ device: gpu, pieceBytes: 4096 }), await run({})];
            for (const other of [pieces, cpu]) {
                const rowsOf = ({ rows }) => rows.map(({ loss }) => loss);
                found.push(
                    Math.abs(other.summary.loss / whole.summary.loss - 1), Math.abs(other.summary.kdr - whole.summary.kdr),
                    Math.abs(other.summary.metrics.forwardKl / whole.summary.metrics.forwardKl - 1),
                    difference(other.gradient, whole.gradient), difference(rowsOf(other), rowsOf(whole)),
                );
            }
            if (whole.summary.validRows != pieces.summary.validRows || pieces.rows.length != rows) found.push(Infinity);
        }
        return found;
    },
    (found) => {
        assert.equal(found.length, 40);
        for (const error of found) assert.ok(error < 2e-5, JSON.stringify(found));
    },
);

inPage(
    "wrong buffers are refused by name, and the encoder stays usable",
    async () => {
        const { prepare, numbers, device, filled, refusal } = help;
        const gpu = await device();
        const [rows, classes] = [4, 16];
        const shape = { rows, classes, rowResults: true };
        const step = await prepare(gpu, shape);
        const bytes = 4 * rows * classes;
        const make = (size, usage = GPUBufferUsage.STORAGE) => gpu.createBuffer({ size, usage });
        const good = {
            studentLogits: filled(gpu, numbers(rows * classes, 1)), teacherLogits: filled(gpu, numbers(rows * classes, 2)),
            labels: filled(gpu, new Int32Array(rows)), gradient: make(bytes), rowResults: make(16 * rows), summary: make(256),
        };
        const mapped = gpu.createBuffer({ size: 256, usage: GPUBufferUsage.STORAGE, mappedAtCreation: true });
        const shared = make(4 * bytes + 1024);
        const encoder = gpu.createCommandEncoder();
        const progress = { step: 1, total: 2 };
        const cases = {
            missing: { labels: undefined },
            noBuffer: { labels: {} },
            usage: { gradient: make(bytes, GPUBufferUsage.COPY_DST) },
            mapped: { summary: mapped },
            small: { studentLogits: make(bytes - 4) },
            late: { gradient: { buffer: shared, offset: 4 * bytes + 1024 - 8 } },
            misaligned: { studentLogits: { buffer: shared, offset: 2 } },
            summaryMisaligned: { summary: { buffer: shared, offset: 64 } },
            negative: { labels: { buffer: shared, offset: -4 } },
            unexpected: { rowWeights: shared },
            unknown: { weights: shared },
            overlap: { gradient: { buffer: shared, offset: 128 }, studentLogits: shared },
            binding: { gradient: { buffer: shared, offset: bytes + 16 }, studentLogits: { buffer: shared, offset: 16 } },
        };
        const found = {};
        gpu.pushErrorScope("validation");
        for (const [name, wrong] of Object.entries(cases)) found[name] = await refusal(() => step.encode(encoder, { ...good, ...wrong }, progress));
        found.progress = await refusal(() => step.encode(encoder, good, { step: 3, total: 2 }));
        found.noProgress = await refusal(() => step.encode(encoder, good, null));
        found.choice = await refusal(() => step.encode(encoder, good, progress, { divergence: "reverse-kl" }));
        found.none = await refusal(() => step.encode(encoder, good, progress));
        gpu.queue.submit([encoder.finish()]);
        found.option = await refusal(() => prepare(gpu, shape, { similarity: "angle" }));
        found.classes = await refusal(() => prepare(gpu, { ...shape, teacherClasses: 8 }));
        found.twice = await refusal(() => prepare(gpu, { ...shape, rowMetrics: true }));
        found.field = await refusal(() => prepare(gpu, { ...shape, columns: 1 }));
        found.huge = await refusal(() => prepare(gpu, { rows: 1, classes: 2 ** 27 }));
        found.noDevice = await refusal(() => prepare({}, shape));
        found.accumulateInPlace = await refusal(() => prepare(gpu, { ...shape, gradient: "in-place" }, { gradWrite: "accumulate" }));
        step.destroy();
        step.destroy();
        found.destroyed = await refusal(() => step.encode(encoder, good, progress));
        const scope = await gpu.popErrorScope();
        return { found, scope: scope?.message ?? null };
    },
    ({ found, scope }) => {
        assert.equal(scope, null, "no call reached the device's own checks");
        const expected = {
            missing: "MissingBuffer", noBuffer: "MissingBuffer", usage: "BufferUsage", mapped: "BufferMapped", small: "BufferTooSmall",
            late: "BufferTooSmall", misaligned: "BufferMisaligned", summaryMisaligned: "BufferMisaligned", negative: "BufferMisaligned",
            unexpected: "UnexpectedBuffer", unknown: "UnexpectedBuffer", overlap: "BufferOverlap", binding: "BufferOverlap",
            progress: "InvalidProgress", noProgress: "ProgressNeeded", choice: "PlanMismatch", none: null, option: "InvalidConfig",
            classes: "ShapeMismatch", twice: "Unsupported", field: "InvalidShape", huge: "LimitExceeded", noDevice: "NoDevice",
            accumulateInPlace: "Unsupported", destroyed: "Destroyed",
        };
        const names = Object.fromEntries(Object.entries(found).map(([name, error]) => [name, error?.[0] ?? null]));
        assert.deepEqual(names, expected, JSON.stringify(found, null, 1));
        assert.match(found.small[1], /student_logits.*252.*256/);
        assert.match(found.usage[1], /gradient.*STORAGE/);
    },
);

inPage(
    "a lost device is an error, of `encode` and of `distill`",
    async () => {
        const { distill, prepare, numbers, device, filled, refusal } = help;
        const gpu = await device();
        const arrays = [numbers(32, 1), numbers(32, 2), new Int32Array(2), { classes: 16 }, { step: 0, total: 1 }];
        const step = await prepare(gpu, { rows: 2, classes: 16, gradient: null });
        const buffers = { studentLogits: filled(gpu, arrays[0]), teacherLogits: filled(gpu, arrays[1]), labels: filled(gpu, arrays[2]), summary: filled(gpu, new Float32Array(20)) };
        const running = refusal(() => distill(...arrays, { device: gpu }));
        gpu.destroy();
        const early = await running;
        await gpu.lost;
        await Promise.resolve();
        const late = [
            await refusal(() => step.encode(gpu.createCommandEncoder(), buffers, { step: 0, total: 1 })),
            await refusal(() => distill(...arrays, { device: gpu })),
            await refusal(() => prepare(gpu, { rows: 2, classes: 16 })),
        ];
        const other = await device();
        const { summary } = await distill(...arrays, { device: other });
        return { early, late, loss: summary.loss, cpu: (await distill(...arrays)).summary.loss };
    },
    ({ early, late, loss, cpu }) => {
        assert.equal(early?.[0], "DeviceLost");
        for (const [name, message] of late) assert.ok(name == "DeviceLost" && /new/.test(message), message);
        assert.ok(Math.abs(loss / cpu - 1) < 1e-5);
    },
);

inPage(
    "an abort ends a call on a device; no adapter is requested without a device",
    async () => {
        const { distill, numbers, device, refusal } = help;
        const gpu = await device();
        const arrays = [numbers(6400, 1), numbers(6400, 2), new Int32Array(100), { classes: 64 }, { step: 0, total: 1 }];
        const control = new AbortController();
        const running = refusal(() => distill(...arrays, { device: gpu, signal: control.signal, pieceBytes: 1024 }));
        control.abort();
        const aborted = await running;
        let asked = 0;
        const { requestAdapter } = GPU.prototype;
        GPU.prototype.requestAdapter = function (...given) {
            asked += 1;
            return requestAdapter.apply(this, given);
        };
        await distill(...arrays);
        GPU.prototype.requestAdapter = requestAdapter;
        return { aborted, asked };
    },
    ({ aborted, asked }) => {
        assert.equal(aborted[0], "AbortError");
        assert.equal(asked, 0);
    },
);

inPage(
    "a step frees what it made and keeps few plans",
    async () => {
        const { prepare, numbers, device, filled } = help;
        const gpu = await device();
        const made = [];
        const { createBuffer } = GPUDevice.prototype;
        GPUDevice.prototype.createBuffer = function (description) {
            const buffer = createBuffer.call(this, description);
            const { destroy } = buffer;
            const entry = { label: description.label ?? "", size: description.size, destroyed: false };
            buffer.destroy = () => {
                entry.destroyed = true;
                destroy.call(buffer);
            };
            made.push(entry);
            return buffer;
        };
        const big = filled(gpu, new Float32Array(4096));
        const step = await prepare(gpu, { rows: 2, classes: 16, gradient: null }, { scope: "batch" });
        const before = made.length;
        const encoder = gpu.createCommandEncoder();
        const inputs = { teacherLogits: filled(gpu, numbers(32, 2)), labels: filled(gpu, new Int32Array(2)), summary: filled(gpu, new Float32Array(20)) };
        for (let i = 0; i < 40; i++) step.encode(encoder, { ...inputs, studentLogits: { buffer: big, offset: 256 * i } }, { step: 0, total: 1 });
        const uniforms = made.slice(before).filter(({ label }) => label.includes("uniforms")).length;
        gpu.queue.submit([encoder.finish()]);
        const bytes = step.workspaceBytes;
        step.destroy();
        GPUDevice.prototype.createBuffer = createBuffer;
        const workspace = made.filter(({ label }) => /^wgpu-distill (?!uniforms|parameters)/.test(label));
        return { uniforms, bytes, workspace, after: step.workspaceBytes };
    },
    ({ uniforms, bytes, workspace, after }) => {
        assert.ok(uniforms <= 40, `${uniforms}`);
        assert.ok(bytes > 0 && bytes < 4096 && after == 0, `${bytes}`);
        assert.ok(workspace.length > 3 && workspace.every(({ destroyed }) => destroyed), JSON.stringify(workspace));
    },
);

test("without WebGPU, `distill` runs on the CPU", { skip: skipped }, async () => {
    const plain = await open("/test/page.html");
    try {
        const found = await plain.page.evaluate(async () => {
            // As in a browser that has no WebGPU.
            delete Navigator.prototype.gpu;
            for (const name of Object.getOwnPropertyNames(globalThis)) if (name.startsWith("GPU")) delete globalThis[name];
            const { distill, prepare } = await import("/dist/index.js");
            const { summary } = await distill(Float32Array.of(1, 2), Float32Array.of(2, 1), Int32Array.of(0), { classes: 2 }, { step: 0, total: 1 });
            const refused = await prepare({}, { rows: 1, classes: 2 }).catch(({ name }) => name);
            return { gpu: typeof navigator.gpu, loss: summary.loss, refused };
        });
        assert.equal(found.gpu, "undefined");
        assert.ok(found.loss > 0);
        assert.equal(found.refused, "NoDevice");
    } finally {
        await plain.close();
    }
});

test("the browser reported no problem", { skip: skipped }, () => {
    ran("web, chromium: steps in a command buffer, pieces, refusals, lost devices");
    const expected = /destroyed|Device was lost|A valid external Instance/i;
    assert.deepEqual(browser.problems.filter((text) => !expected.test(text)), []);
});
