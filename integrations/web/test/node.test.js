// The package in Node: the CPU path, refusals by name, size, contents and types.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants } from "node:zlib";
import { DistillError, FLAGS, distill } from "wgpu-distill";
import { difference, method, numbers } from "./formula.js";
import { ran } from "./report.js";

const FOLDER = dirname(dirname(fileURLToPath(import.meta.url)));
const PROGRESS = { step: 3, total: 10 };

/** Upper bound on the package's code, in bytes of brotli. */
const BUDGET = 122_000;

test("the CPU path computes the method", async () => {
    for (const [rows, classes] of [[1, 2], [7, 10], [33, 1000], [3, 5003]]) {
        const [student, teacher] = [numbers(rows * classes, 1), numbers(rows * classes, 2)];
        const labels = Int32Array.from({ length: rows }, (_, r) => (r % 5 == 4 ? -100 : (r * 7) % classes));
        const want = method(student, teacher, labels, classes, { temperature: 2, tstr: 0.3 });
        const options = { studentTemperature: 2, teacherTemperature: 2 };
        const done = await distill(student, teacher, labels, { classes, rowResults: true }, PROGRESS, options);
        assert.ok(Math.abs(done.summary.loss - want.loss) < 1e-5 * want.loss, `${done.summary.loss} ${want.loss}`);
        assert.ok(difference(done.gradient, want.gradient) < 1e-5);
        const kdr = done.rows.filter(({ flags }) => !(flags & FLAGS.ignored)).map(({ kdr }) => kdr);
        assert.ok(difference(kdr, want.kdr) < 1e-5);
        assert.equal(done.summary.validRows, want.kdr.length);
        assert.equal(done.summary.metrics, undefined);
    }
});

test("16-bit storage, strides, memory of the caller, metrics", async () => {
    const [rows, classes, rowStride] = [3, 20, 24];
    const f32 = numbers(rows * classes, 5);
    const bits = new Uint32Array(f32.buffer);
    // The upper halves are bf16, rounded towards 0.
    const bf16 = Uint16Array.from(bits, (bits) => bits >>> 16);
    const widened = new Float32Array(Uint32Array.from(bf16, (half) => half << 16).buffer);
    const spread = new Uint16Array(rows * rowStride).fill(0x7fc0);
    for (let r = 0; r < rows; r++) spread.set(bf16.subarray(r * classes, (r + 1) * classes), r * rowStride);
    const teacher = numbers(rows * classes, 6);
    const labels = Int32Array.from([0, 19, 4]);
    const want = await distill(widened, teacher, labels, { classes }, PROGRESS);
    const into = new Float32Array(rows * rowStride).fill(7);
    const shape = { classes, student: { storage: "bf16", rowStride }, gradient: { rowStride }, rowMetrics: true };
    const done = await distill(spread, teacher, labels, shape, PROGRESS, { into, gradWrite: "accumulate" });
    assert.equal(done.summary.loss, want.summary.loss);
    assert.equal(done.gradient, into);
    for (let i = 0; i < into.length; i++) {
        const column = i % rowStride;
        const added = column < classes ? want.gradient[Math.floor(i / rowStride) * classes + column] : 0;
        assert.equal(into[i], Math.fround(7 + added));
    }
    const mean = done.rows.reduce((sum, { metrics }) => sum + metrics.teacherEntropy, 0) / rows;
    assert.ok(Math.abs(done.summary.metrics.teacherEntropy - mean) < 1e-5);
});

test("f16 is widened exactly and rounded to nearest, ties to even", async () => {
    const finite = Array.from({ length: 0x7c00 }, (_, half) => half);
    const values = finite.map(fromHalf);
    // Every finite number is a logit of a row, positive and negative.
    for (const sign of [0, 0x8000]) {
        const halves = Uint16Array.from(finite, (half) => half | sign);
        const wide = Float32Array.from(values, (value) => (sign ? -value : value));
        const rest = [numbers(halves.length, 3), Int32Array.of(700)];
        const shape = { classes: halves.length };
        // So flat that every logit matters.
        const options = { studentTemperature: 1000, hardTemperature: "student" };
        const want = await distill(wide, ...rest, shape, PROGRESS, options);
        const got = await distill(halves, ...rest, { ...shape, student: "f16" }, PROGRESS, options);
        assert.equal(got.summary.loss, want.summary.loss);
        assert.deepEqual(got.gradient, want.gradient);
    }
    // Gradients from subnormal numbers of f16 up to infinity.
    const [rows, classes] = [40, 37];
    const [student, teacher, labels] = [numbers(rows * classes, 7), numbers(rows * classes, 8), new Int32Array(rows)];
    let small = 0;
    let large = 0;
    for (let power = -30; power < 30; power++) {
        const run = (gradient) => distill(student, teacher, labels, { classes, gradient }, PROGRESS, { reduction: "sum", gradLoss: 1.01 * 2 ** power });
        const [wide, halves] = [await run("f32"), await run("f16")];
        halves.gradient.forEach((half, i) => {
            assert.equal(half, toHalf(values, wide.gradient[i]), `${wide.gradient[i]}`);
            small += (half & 0x7fff) > 0 && (half & 0x7c00) == 0;
            large += (half & 0x7fff) == 0x7c00;
        });
    }
    assert.ok(small > 1000 && large > 1000, `${small} ${large}`);
});

/** The value of a finite f16. */
function fromHalf(half) {
    const [exponent, mantissa] = [(half >> 10) & 31, half & 1023];
    const magnitude = exponent ? 2 ** (exponent - 15) * (1 + mantissa / 1024) : mantissa * 2 ** -24;
    return half & 0x8000 ? -magnitude : magnitude;
}

/** The nearest f16 of a number, the even one of two; `values` are those that are finite and not negative. Beyond them is infinity. */
function toHalf(values, x) {
    const all = (i) => values[i] ?? 65536;
    let [low, high] = [0, values.length];
    const magnitude = Math.min(Math.abs(x), 65536);
    while (high - low > 1) {
        const middle = (low + high) >> 1;
        if (all(middle) <= magnitude) low = middle;
        else high = middle;
    }
    const [down, up] = [magnitude - all(low), all(high) - magnitude];
    const nearest = down < up || (down == up && low % 2 == 0) ? low : high;
    return nearest | (x < 0 || Object.is(x, -0) ? 0x8000 : 0);
}

test("lists, soft labels and weights", async () => {
    const student = numbers(2 * 5, 9);
    const labels = Int32Array.of(3, 0);
    const fixed = { selection: "fixed:1" };
    // With the label alone, a soft label in one class is that label.
    const softLabels = Float32Array.from({ length: 10 }, (_, i) => Number(i == 3 || i == 5));
    const hard = await distill(student, student, labels, { classes: 5 }, null, fixed);
    const soft = await distill(student, student, labels, { classes: 5 }, null, { ...fixed, softLabels });
    assert.ok(difference(soft.gradient, hard.gradient) < 1e-6);
    const weighted = await distill(student, student, labels, { classes: 5 }, null, { ...fixed, rowWeights: Float32Array.of(2, 0), classWeights: Float32Array.of(1, 1, 1, 3, 1) });
    weighted.gradient.forEach((g, i) => assert.ok(Math.abs(g - (i < 5 ? 6 * hard.gradient[i] : 0)) < 1e-6));
    const teacherIds = Int32Array.of(3, 0, 1, 2);
    const list = await distill(student, Float32Array.of(-0.5, -2, -0.5, -2), labels, { classes: 5, teacherClasses: 2 }, null, { selection: "fixed:0", teacherIds });
    assert.ok(list.summary.loss > 0 && list.gradient.some((g) => g != 0));
});

test("refusals have names and say what is wrong", async () => {
    const ok = [new Float32Array(6), new Float32Array(6), new Int32Array(2), { classes: 3 }, PROGRESS, {}];
    const refused = async (name, text, changes) => {
        const call = [...ok];
        for (const [i, value] of Object.entries(changes)) call[i] = value;
        await assert.rejects(distill(...call), (error) => {
            assert.ok(error instanceof DistillError && error instanceof Error);
            assert.equal(error.name, name, error.message);
            assert.match(error.message, text);
            return true;
        });
    };
    await distill(...ok);
    await refused("SliceTooSmall", /studentLogits.* 5 .*6/, { 0: new Float32Array(5) });
    await refused("SliceTooLarge", /teacherLogits/, { 1: new Float32Array(7) });
    await refused("MissingArray", /studentLogits.*Float64Array.*Float32Array/, { 0: new Float64Array(6) });
    await refused("MissingArray", /labels.*Float32Array/, { 2: new Float32Array(2) });
    await refused("LabelOutOfRange", /label 3 in row 1/, { 2: Int32Array.of(0, 3) });
    await refused("InvalidShape", /no field `class`/, { 3: { class: 3 } });
    await refused("InvalidShape", /classes/, { 3: { classes: 1.5 } });
    await refused("InvalidShape", /f64/, { 3: { classes: 3, student: "f64" } });
    await refused("InvalidShape", /null/, { 3: null });
    await refused("ZeroClasses", /0 classes/, { 3: { classes: 0 }, 0: new Float32Array(0), 1: new Float32Array(0) });
    await refused("RowStrideTooSmall", /stride/, { 3: { classes: 3, student: { rowStride: 2 } } });
    await refused("ShapeMismatch", /3.*2/, { 3: { classes: 3, teacherClasses: 2 }, 1: new Float32Array(4) });
    await refused("InvalidProgress", /step 11 of 10/, { 4: { step: 11, total: 10 } });
    await refused("InvalidProgress", /0\.5/, { 4: { step: 0.5, total: 10 } });
    await refused("ProgressNeeded", /min/, { 4: null });
    await refused("InvalidConfig", /selection.*median/, { 5: { selection: "median" } });
    await refused("InvalidConfig", /temperature/, { 5: { temperature: 2 } });
    await refused("InvalidConfig", /a name/, { 5: { selection: "min\nsize rows 1" } });
    await refused("InvalidConfig", /selection.*fixed:2/, { 5: { selection: "fixed:2" } });
    await refused("InvalidConfig", /selection.*fixed:x/, { 5: { selection: "fixed:x" } });
    await refused("InvalidConfig", /ignore_index/, { 5: { ignoreIndex: 0.5 } });
    await refused("InvalidConfig", /loss_clamp/, { 5: { lossClamp: [2, 1] } });
    await refused("InvalidConfig", /student_temperature/, { 5: { studentTemperature: 0 } });
    await refused("InvalidConfig", /label_smoothing/, { 5: { labelSmoothing: NaN } });
    await refused("RowWeight", /row 1/, { 5: { rowWeights: Float32Array.of(1, NaN) } });
    await refused("RowCount", /row_weights/, { 5: { rowWeights: Float32Array.of(1) } });
    await refused("ClassWeight", /class 2/, { 5: { classWeights: Float32Array.of(1, 1, -1) } });
    await refused("Unsupported", /into/, { 5: { gradWrite: "accumulate" } });
    await refused("NoDevice", /GPUDevice/, { 5: { device: {} } });
    await assert.rejects(distill(...ok.slice(0, 5), { signal: AbortSignal.abort(new RangeError("enough")) }), { message: "enough" });
    // A refused call leaves the module usable.
    assert.equal((await distill(...ok)).summary.validRows, 2);
});

test("a batch without rows has loss 0", async () => {
    const done = await distill(new Float32Array(0), new Float32Array(0), new Int32Array(0), { classes: 3 }, PROGRESS);
    assert.equal(done.summary.loss, 0);
    assert.equal(done.gradient.length, 0);
});

test("memory is given back", async () => {
    const [rows, classes] = [64, 2000];
    const batch = [numbers(rows * classes, 1), numbers(rows * classes, 2), new Int32Array(rows), { classes }, PROGRESS];
    // 1.5 MB a call, so that 4,000 leaking calls would need more than the 4 GiB that a module can have.
    for (let i = 0; i < 4000; i++) await distill(...batch.slice(0, 2), new Int32Array(rows).fill(-100), { classes }, PROGRESS);
    assert.ok((await distill(...batch)).summary.loss > 0);
});

test("the code is within its budget", () => {
    const files = readdirSync(join(FOLDER, "dist")).filter((name) => !name.endsWith(".d.ts"));
    const compressed = (name) => {
        const params = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24 };
        return brotliCompressSync(readFileSync(join(FOLDER, "dist", name)), { params }).length;
    };
    const sizes = Object.fromEntries(files.map((name) => [name, compressed(name)]));
    const total = Object.values(sizes).reduce((a, b) => a + b);
    ran(`web, size: ${total} bytes of brotli in all, ${sizes["wgpu_distill.wasm"]} of them the module`);
    assert.ok(total <= BUDGET, JSON.stringify(sizes));
});

test("npm packs the code, its types and the page for readers, and nothing else", () => {
    const said = execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: FOLDER, stdio: ["ignore", "pipe", "ignore"] });
    const packed = JSON.parse(said);
    const [{ files }] = Array.isArray(packed) ? packed : Object.values(packed);
    const names = files.map(({ path }) => path).sort();
    const sources = readdirSync(join(FOLDER, "dist")).map((name) => `dist/${name}`);
    assert.deepEqual(names, ["README.md", "package.json", ...sources].sort());
    for (const name of ["index.js", "index.d.ts", "tfjs.js", "tfjs.d.ts", "wgpu_distill.wasm"]) assert.ok(names.includes(`dist/${name}`), name);
    const { dependencies, sideEffects } = JSON.parse(readFileSync(join(FOLDER, "package.json")));
    assert.equal(dependencies, undefined);
    assert.equal(sideEffects, false);
    // The file stands on npm's page without the repository beside it.
    const links = [...readFileSync(join(FOLDER, "README.md"), "utf8").matchAll(/\]\(([^)]*)\)/g)].map(([, to]) => to);
    assert.deepEqual(links.filter((to) => !to.startsWith("https://")), []);
    const lock = readFileSync(join(FOLDER, "package-lock.json"), "utf8");
    assert.ok(!lock.includes("\"resolved\""), "the lock names a registry");
});

test("the types accept the programs of test/types.ts and refuse its mistakes", () => {
    const compiler = join(FOLDER, "node_modules", "typescript", "bin", "tsc");
    let said = "";
    try {
        execFileSync(process.execPath, [compiler, "--project", "tsconfig.json", "--skipLibCheck", "false"], { cwd: FOLDER });
    } catch ({ stdout }) {
        said = String(stdout);
    }
    // TensorFlow.js's own declarations have errors.
    const own = said.split("\n").filter((line) => /^\S/.test(line) && !line.startsWith("node_modules/"));
    assert.deepEqual(own, []);
});
