// `wgpu-distill/tfjs` in Chromium: the gradient against TensorFlow.js's own, memory, disposal, training, and a teacher of onnxruntime-web.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { open } from "./browser.js";
import { ran } from "./report.js";

const skipped = Boolean(process.env.WGPU_DISTILL_SKIP_CHROMIUM);
const PACKAGES = "/node_modules/@tensorflow";
let browser;

before(async () => {
    if (skipped) return;
    browser = await open("/test/page.html");
    const { page } = browser;
    await page.addScriptTag({ url: `${PACKAGES}/tfjs/dist/tf.min.js` });
    await page.addScriptTag({ url: `${PACKAGES}/tfjs-backend-webgpu/dist/tf-backend-webgpu.min.js` });
    await page.addScriptTag({ type: "module", url: "/test/help.js" });
    await page.addScriptTag({ type: "module", url: "/test/composed.js" });
    await page.waitForFunction(() => globalThis.help && globalThis.composed);
});
after(() => browser?.close());

const inPage = (name, body, check) =>
    test(name, { skip: skipped }, async () => check(await browser.page.evaluate(body)));

inPage(
    "loss and gradient are those of the composed loss, on WebGPU and on the CPU",
    async () => {
        const { difference, numbers } = help;
        const { distillLoss } = await import("/dist/tfjs.js");
        const found = [];
        for (const backend of ["webgpu", "cpu"]) {
            await tf.setBackend(backend);
            await tf.ready();
            for (const [shape, temperature] of [[[8, 10], 2], [[3, 5, 7], 1], [[2, 1003], 4]]) {
                const classes = shape.at(-1);
                const rows = shape.slice(0, -1).reduce((a, b) => a * b, 1);
                const student = tf.tensor(numbers(rows * classes, 1), shape);
                const teacher = tf.tensor(numbers(rows * classes, 2), shape);
                const labels = tf.tensor(Int32Array.from({ length: rows }, (_, r) => (3 * r) % classes), shape.slice(0, -1), "int32");
                const progress = { step: 3, total: 10 };
                const loss = await distillLoss(tf, { studentTemperature: temperature, teacherTemperature: temperature });
                await loss.prepare(shape);
                // Twice the loss and a further term, so that the upstream gradient is not 1.
                const ours = tf.valueAndGrad((x) => tf.add(tf.mul(loss(x, teacher, labels, progress), 2), tf.mean(x)))(student);
                const theirs = tf.valueAndGrad((x) => tf.add(tf.mul(composed(x, teacher, labels, progress, temperature), 2), tf.mean(x)))(student);
                const [value, wanted] = [(await ours.value.data())[0], (await theirs.value.data())[0]];
                const { loss: alone, kdr } = await loss.summary(student, teacher, labels, progress);
                found.push({
                    backend, shape, value: Math.abs(value / wanted - 1),
                    gradient: difference(await ours.grad.data(), await theirs.grad.data()),
                    shapeOf: ours.grad.shape, rank: ours.value.rank, alone, kdr,
                });
                loss.dispose();
            }
        }
        return found;
    },
    (found) => {
        assert.equal(found.length, 6);
        for (const { value, gradient, shape, shapeOf, rank, alone, kdr } of found) {
            assert.ok(value < 1e-5 && gradient < 1e-5, JSON.stringify(found));
            assert.deepEqual(shapeOf, shape);
            assert.equal(rank, 0);
            assert.ok(alone > 0 && kdr > 0 && kdr < 1);
        }
        const most = found.reduce((most, { gradient }) => Math.max(most, gradient), 0);
        ran(`web, tfjs: gradient within ${most.toExponential(1)} of TensorFlow.js's own, on WebGPU and on the CPU`);
    },
);

inPage(
    "1,000 steps neither leak nor copy nor wait",
    async () => {
        const { numbers } = help;
        const { distillLoss } = await import("/dist/tfjs.js");
        await tf.setBackend("webgpu");
        const [rows, classes] = [16, 10];
        const student = tf.variable(tf.tensor2d(numbers(rows * classes, 1), [rows, classes]));
        const teacher = tf.tensor2d(numbers(rows * classes, 2), [rows, classes]);
        const labels = tf.tensor1d(Int32Array.from({ length: rows }, (_, r) => r % classes), "int32");
        const loss = await distillLoss(tf);
        const optimizer = tf.train.sgd(5);
        let [waits, large] = [0, 0];
        const spy = (prototype, name, count) => {
            const original = prototype[name];
            prototype[name] = function (...given) {
                count(given);
                return original.apply(this, given);
            };
            return () => (prototype[name] = original);
        };
        const first = (await loss.summary(student, teacher, labels, { step: 0, total: 1000 })).loss;
        const step = (n) => optimizer.minimize(() => loss(student, teacher, labels, { step: n, total: 1000 }));
        for (let n = 0; n < 5; n++) step(n);
        await student.data();
        const before = { ...tf.memory() };
        const restore = [
            spy(GPUBuffer.prototype, "mapAsync", () => (waits += 1)),
            spy(GPUCommandEncoder.prototype, "copyBufferToBuffer", ([, , , , size]) => (large += size >= 4 * rows * classes && size % 256 != 0)),
        ];
        for (let n = 5; n < 1005; n++) step(Math.min(n, 1000));
        restore.forEach((undo) => undo());
        await student.data();
        const after = { ...tf.memory() };
        const last = (await loss.summary(student, teacher, labels, { step: 1000, total: 1000 })).loss;
        loss.dispose();
        let disposed = null;
        try {
            loss(student, teacher, labels, null);
        } catch ({ name }) {
            disposed = name;
        }
        return { before, after, waits, large, first, last, disposed };
    },
    ({ before, after, waits, large, first, last, disposed }) => {
        assert.equal(after.numTensors, before.numTensors);
        assert.equal(after.numBytes, before.numBytes);
        assert.ok(after.numBytesAllocatedInGPU <= before.numBytesAllocatedInGPU + 65536, JSON.stringify({ before, after }));
        assert.equal(waits, 0, "a wait");
        assert.equal(large, 0, "a copy of a matrix");
        assert.ok(last < first, `${first} ${last}`);
        assert.equal(disposed, "Destroyed");
    },
);

inPage(
    "teacher and labels get no gradient; further tensors are used; wrong tensors are refused",
    async () => {
        const { numbers, refusal } = help;
        const { distillLoss } = await import("/dist/tfjs.js");
        await tf.setBackend("webgpu");
        const found = {};
        const make = (seed) => tf.variable(tf.tensor2d(numbers(30, seed), [3, 10]));
        const [student, teacher] = [make(1), make(2)];
        const labels = tf.tensor1d(Int32Array.of(1, 2, 3), "int32");
        const progress = { step: 1, total: 4 };
        const loss = await distillLoss(tf);
        const { grads } = tf.variableGrads(() => loss(student, teacher, labels, progress), [student]);
        found.names = Object.keys(grads).length;
        found.teacher = await refusal(() => tf.variableGrads(() => loss(student, teacher, labels, progress), [teacher]));
        // Rows of weight 0 and 3 beside rows of weight 1.
        const value = async (inputs) => (await loss(student, teacher, labels, progress, inputs).data())[0];
        found.plain = await value();
        found.weighted = await value({ rowWeights: tf.tensor1d([3, 3, 3]) });
        found.classWeighted = await value({ classWeights: tf.fill([10], 1) });
        const soft = tf.oneHot(labels, 10, 1, 0, "float32");
        found.soft = await value({ softLabels: soft });
        // Shapes that are views of the same buffer.
        const flat = tf.reshape(student, [1, 3, 10]);
        found.reshaped = (await loss(flat, teacher, labels, progress).data())[0];
        found.float = await refusal(() => loss(student, teacher, tf.tensor1d([1, 2, 3]), progress));
        found.shape = await refusal(() => loss(student, tf.zeros([3, 9]), labels, progress));
        found.rows = await refusal(() => loss(student, teacher, tf.tensor1d([1, 2], "int32"), progress));
        found.missing = await refusal(() => loss(student, undefined, labels, progress));
        found.progress = await refusal(() => loss(student, teacher, labels, { step: 5, total: 4 }));
        found.option = await refusal(() => distillLoss(tf, { gradLoss: 2 }));
        const before = tf.memory().numTensors;
        await refusal(() => loss(student, teacher, labels, { step: 5, total: 4 }));
        found.leak = tf.memory().numTensors - before;
        return found;
    },
    (found) => {
        assert.equal(found.names, 1);
        assert.ok(found.teacher, "no path to the teacher");
        assert.ok(Math.abs(found.weighted / found.plain - 3) < 1e-5);
        for (const name of ["classWeighted", "soft", "reshaped"]) assert.ok(Math.abs(found[name] / found.plain - 1) < 1e-5, name);
        const names = Object.fromEntries(["float", "shape", "rows", "missing", "progress", "option"].map((name) => [name, found[name]?.[0]]));
        assert.deepEqual(names, {
            float: "TensorType", shape: "ShapeMismatch", rows: "TensorShape", missing: "MissingTensor", progress: "InvalidProgress", option: "InvalidConfig",
        });
        assert.equal(found.leak, 0);
    },
);

inPage(
    "a linear student learns from a linear teacher",
    async () => {
        const { numbers } = help;
        const { distillLoss } = await import("/dist/tfjs.js");
        await tf.setBackend("webgpu");
        const [rows, inputs, classes, steps] = [64, 8, 5, 60];
        const x = tf.tensor2d(numbers(rows * inputs, 1), [rows, inputs]);
        const teacher = tf.matMul(x, tf.tensor2d(numbers(inputs * classes, 2), [inputs, classes]));
        const labels = tf.argMax(teacher, 1);
        const weights = tf.variable(tf.zeros([inputs, classes]));
        const accuracy = async () => (await tf.mean(tf.cast(tf.equal(tf.argMax(tf.matMul(x, weights), 1), labels), "float32")).data())[0];
        const loss = await distillLoss(tf, { studentTemperature: 2, teacherTemperature: 2, temperatureScaling: "squared" });
        const optimizer = tf.train.adam(0.1);
        const first = await accuracy();
        for (let step = 0; step < steps; step++) optimizer.minimize(() => loss(tf.matMul(x, weights), teacher, labels, { step, total: steps }));
        return { first, last: await accuracy() };
    },
    ({ first, last }) => assert.ok(last > 0.9 && last > first + 0.3, `${first} ${last}`),
);

inPage(
    "a teacher of onnxruntime-web on the same device gives the same bits as its logits through the host",
    async () => {
        const { numbers } = help;
        const ort = await import("/node_modules/onnxruntime-web/dist/ort.webgpu.min.mjs");
        ort.env.wasm.numThreads = 1;
        const { linearModel } = await import("/test/onnx.js");
        const { openTeacher } = await import("/examples/onnx_teacher.js");
        const { distillLoss } = await import("/dist/tfjs.js");
        await tf.setBackend("webgpu");
        const [rows, inputs, classes] = [9, 12, 20];
        const x = numbers(rows * inputs, 1);
        const model = linearModel(inputs, classes, numbers(inputs * classes, 2), numbers(classes, 3));
        const teacher = await openTeacher(ort, tf, model);
        const { tensor, dispose } = await teacher.logits(x, [rows, inputs]);
        // TensorFlow.js returns the whole buffer, which onnxruntime-web made longer.
        const through = tf.tensor2d((await tensor.data()).slice(0, rows * classes), [rows, classes]);
        const student = tf.tensor2d(numbers(rows * classes, 4), [rows, classes]);
        const labels = tf.tensor1d(Int32Array.from({ length: rows }, (_, r) => r), "int32");
        const loss = await distillLoss(tf);
        const run = async (logits) => {
            const { value, grad } = tf.valueAndGrad((s) => loss(s, logits, labels, { step: 1, total: 2 }))(student);
            return [...(await value.data()), ...(await grad.data())];
        };
        const [direct, copied] = [await run(tensor), await run(through)];
        const want = await run(tf.add(tf.matMul(tf.tensor2d(x, [rows, inputs]), tf.tensor2d(numbers(inputs * classes, 2), [inputs, classes])), tf.tensor1d(numbers(classes, 3))));
        dispose();
        await teacher.release();

        // The trap: this device is not used, without a word.
        const { device } = tf.backend();
        ort.env.webgpu.device = device;
        const session = await ort.InferenceSession.create(model, { executionProviders: ["webgpu"], preferredOutputLocation: "gpu-buffer" });
        const { logits } = await session.run({ input: new ort.Tensor("float32", x, [rows, inputs]) });
        device.pushErrorScope("validation");
        const layout = device.createBindGroupLayout({ entries: [{ binding: 0, visibility: GPUShaderStage.COMPUTE, buffer: { type: "storage" } }] });
        device.createBindGroup({ layout, entries: [{ binding: 0, resource: { buffer: logits.gpuBuffer } }] });
        const trap = (await device.popErrorScope())?.message ?? null;
        return { direct, copied, want, trap };
    },
    ({ direct, copied, want, trap }) => {
        assert.equal(direct.length, 181);
        assert.deepEqual(direct, copied);
        direct.forEach((x, i) => assert.ok(Math.abs(x - want[i]) < 1e-4, `${i}: ${x} ${want[i]}`));
        assert.match(trap, /associated with .*cannot be used with/, "setting ort.env.webgpu.device works now: README and example can say so");
        ran("web, onnxruntime-web: a teacher on the same device gives the same bits");
    },
);

test("the browser reported no problem", { skip: skipped }, () => {
    assert.deepEqual(browser.problems.filter((text) => !/Hi, looks like|was not GC-d|webgpuPreferredFormat|associated with/i.test(text)), []);
});
