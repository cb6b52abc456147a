// Times the loss against the same loss composed of TensorFlow.js's operations, on TensorFlow.js's WebGPU backend in headless Chromium.
// Each number is the median of calls that take turns, forward, gradient and the read of the gradient. `npm run bench` prints a table.

import { open } from "../test/browser.js";

const { page, close } = await open("/test/page.html");
await page.addScriptTag({ url: "/node_modules/@tensorflow/tfjs/dist/tf.min.js" });
await page.addScriptTag({ url: "/node_modules/@tensorflow/tfjs-backend-webgpu/dist/tf-backend-webgpu.min.js" });
for (const name of ["help", "composed"]) await page.addScriptTag({ type: "module", url: `/test/${name}.js` });
await page.waitForFunction(() => globalThis.help && globalThis.composed);

const { adapter, rows } = await page.evaluate(async () => {
    const { difference, distill, numbers } = help;
    const { distillLoss } = await import("/dist/tfjs.js");
    await tf.setBackend("webgpu");
    await tf.ready();
    const { vendor, architecture } = tf.backend().device.adapterInfo;
    const median = (times) => times.sort((a, b) => a - b)[times.length >> 1];
    const rows = [];
    for (const [batch, classes] of [[128, 10], [64, 1000], [4, 50257]]) {
        const [s, t] = [numbers(batch * classes, 1), numbers(batch * classes, 2)];
        const l = Int32Array.from({ length: batch }, (_, r) => (7 * r) % classes);
        const [student, teacher] = [s, t].map((x) => tf.tensor2d(x, [batch, classes]));
        const labels = tf.tensor1d(l, "int32");
        const progress = { step: 3, total: 10 };
        const loss = await distillLoss(tf);
        const ours = (x) => loss(x, teacher, labels, progress);
        const theirs = (x) => composed(x, teacher, labels, progress, 1);
        const run = async (f) => {
            const { value, grad } = tf.valueAndGrad(f)(student);
            const gradient = await grad.data();
            tf.dispose([value, grad]);
            return gradient;
        };
        const error = difference(await run(ours), await run(theirs));
        const onCpu = async () => (await distill(s, t, l, { classes }, progress)).gradient;
        const error_cpu = difference(await onCpu(), await run(theirs));
        const times = { ours: [], theirs: [], cpu: [] };
        const ways = { ours: () => run(ours), theirs: () => run(theirs), cpu: onCpu };
        for (let i = 0; i < 23; i++) {
            for (const [name, way] of Object.entries(ways)) {
                const from = performance.now();
                await way();
                // The first calls compile.
                if (i > 2) times[name].push(performance.now() - from);
            }
        }
        loss.dispose();
        rows.push({ batch, classes, error: Math.max(error, error_cpu), ...Object.fromEntries(Object.entries(times).map(([name, all]) => [name, median(all)])) });
    }
    return { adapter: `${vendor} ${architecture}`, rows };
});
console.log(`adapter ${adapter}, ${page.context().browser()?.version() ?? (await page.evaluate(() => navigator.userAgent)).match(/Chrom\S+/)[0]}; medians of 20, ms\n`);
console.log("| rows x classes | composed, WebGPU | `distillLoss`, WebGPU | `distill`, CPU path | largest difference of the gradients |\n|---|--:|--:|--:|--:|");
for (const { batch, classes, ours, theirs, cpu, error } of rows) {
    console.log(`| ${batch} x ${classes.toLocaleString("en")} | ${theirs.toFixed(1)} | ${ours.toFixed(1)} | ${cpu.toFixed(2)} | ${error.toExponential(0)} |`);
}
await close();
