// The demo in Chromium, built into a folder of its own: it trains, pauses, judges drawings and fits a phone, with WebGPU and without.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { build } from "../demo/build.js";
import { open } from "./browser.js";
import { ran } from "./report.js";

const skip = Boolean(process.env.WGPU_DISTILL_SKIP_CHROMIUM);
const PHONE = { viewport: { width: 390, height: 844 } };
const LAPTOP = { viewport: { width: 1366, height: 768 } };
/** A training of which each step is measured. */
const SHORT = "steps=2&digits=100&tests=200";
const folder = mkdtempSync(join(tmpdir(), "wgpu-distill-demo-"));

before(() => skip || build(folder));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Opens the demo, runs `use` and closes it. `seen` of the page has all that the accuracy of the distilled student was. */
async function demo(query, { expected = [], ...options }, use) {
    const browser = await open(`/?${query}`, { folder, ...options });
    try {
        const { page } = browser;
        page.setDefaultTimeout(60_000);
        await page.evaluate(() => {
            const cell = document.querySelector("#results [data-who=distilled] td");
            globalThis.seen = [];
            new MutationObserver(() => seen.push(parseFloat(cell.textContent))).observe(cell, { childList: true });
        });
        const state = (wanted) => page.waitForFunction((wanted) => [wanted, "failed"].includes(document.documentElement.dataset.state), wanted);
        const results = () => page.$$eval("#results td", (cells) => cells.map(({ textContent }) => parseFloat(textContent)));
        const found = await use({ page, state, results, where: () => page.textContent("#where") });
        const problems = browser.problems.filter((text) => !/Hi, looks like|was not GC-d|webgpuPreferredFormat|associated with/i.test(text));
        assert.equal(problems.length, expected.length, problems.join());
        problems.forEach((text, i) => assert.match(text, expected[i]));
        return found;
    } finally {
        await browser.close();
    }
}

/** The colours of a screenshot and the largest share that one of them has. */
async function colours(page) {
    const picture = (await page.screenshot()).toString("base64");
    return page.evaluate(async (picture) => {
        const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${picture}`)).blob());
        const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
        context.drawImage(image, 0, 0);
        const counts = new Map();
        const pixels = new Uint32Array(context.getImageData(0, 0, image.width, image.height).data.buffer);
        for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) ?? 0) + 1);
        return { count: counts.size, most: Math.max(...counts.values()) / pixels.length };
    }, picture);
}

test("both students learn, and a phone shows them", { skip }, async () => {
    await demo("backend=cpu&steps=60&digits=500&tests=200&wrong=0", { ...PHONE, colorScheme: "dark" }, async ({ page, state, results, where }) => {
        await state("training");
        await page.click("#pause");
        assert.equal(await page.textContent("#pause"), "Continue");
        // The step that was under way ends.
        await page.waitForTimeout(1000);
        const held = await page.textContent("#step");
        await page.waitForTimeout(500);
        assert.equal(await page.textContent("#step"), held);
        await page.click("#pause");
        await state("done");
        const [distilled, , kdr, tssr, labels] = await results();
        const [start] = await page.evaluate(() => seen);
        assert.ok(start < 25 && distilled > 65 && labels > 60, `${start} ${distilled} ${labels}`);
        assert.ok(kdr > 0.5 && kdr <= 1 && tssr <= kdr + 1e-3, `${kdr} ${tssr}`);
        assert.match(await where(), /SIMD CPU path.*500 to train.*range requests/s);
        for (const chart of ["accuracy", "loss", "share"]) {
            const points = await page.$$eval(`#${chart}-chart path`, (lines) => lines.map((line) => line.getAttribute("d").split("L").length));
            assert.ok(points.length >= 2 && points.every((count) => count == 31), `${chart}: ${points}`);
        }

        // A vertical line by keys, then one by a pointer.
        await page.focus("#pad");
        for (const key of [" ", ...Array(16).fill("ArrowDown")]) await page.keyboard.press(key);
        const answers = () => page.$$eval("#verdict b", (all) => all.map(({ textContent }) => textContent));
        await page.waitForFunction(() => /teacher \d/.test(document.querySelector("#judged").textContent));
        assert.equal((await answers())[2], "1", "the teacher about a vertical line");
        await page.click("#clear");
        assert.deepEqual(await answers(), ["?", "?", "?"]);
        const { x, y, width, height } = await page.locator("#pad").boundingBox();
        await page.mouse.move(x + width / 2, y + height / 5);
        await page.mouse.down();
        await page.mouse.move(x + width / 2, y + (4 * height) / 5, { steps: 5 });
        await page.mouse.up();
        await page.waitForFunction(() => document.querySelectorAll("#verdict b")[2].textContent == "1");

        await page.evaluate(() => scrollTo(0, 0));
        const { count, most } = await colours(page);
        assert.ok(count > 50 && most < 0.9, `${count} colours, one on ${most} of the screen`);
        assert.equal(await page.evaluate(() => document.scrollingElement.scrollWidth), 390);
        ran(`web, demo: ${distilled} % (distilled) and ${labels} % (labels alone) after 60 steps, ${start} % before`);
    });
});

test("without WebGPU and ranges as with them", { skip }, async () => {
    const run = (query, options, text) =>
        demo(query, options, async ({ page, state, results, where }) => {
            await state("done");
            assert.match(await where(), text);
            const { count } = await colours(page);
            assert.ok(count > 50, `${count} colours`);
            assert.equal(await page.evaluate(() => document.scrollingElement.scrollWidth), 1366);
            return results();
        });
    const without = { ...LAPTOP, ranges: false, init: "delete Navigator.prototype.gpu" };
    const cpu = await run(SHORT, without, /SIMD CPU path.*whole files/s);
    const gpu = await run(`${SHORT}&backend=webgpu`, LAPTOP, /one WebGPU kernel.*range requests/s);
    assert.equal(cpu.length, gpu.length);
    // Four numbers a network: an accuracy, of which an image is 0.5 %, and three that the table rounds to 0.001.
    cpu.forEach((value, i) => assert.ok(Number.isNaN(value) || Math.abs(value - gpu[i]) <= (i % 4 ? 0.0021 : 0.51), `${i}: ${value} ${gpu[i]}`));
    assert.equal(cpu.filter(Number.isNaN).length, 3, "numbers that the teacher does not have");
});

test("an emulated adapter is not taken by itself, and named", { skip }, async () => {
    await demo(SHORT, LAPTOP, async ({ page, state, where }) => {
        await state("done");
        assert.match(await where(), /SIMD CPU path/);
        assert.equal(await page.inputValue("[name=backend]"), "cpu");
        assert.match(await page.textContent("[name=backend] option"), /emulated/);
    });
});

test("a change of the settings starts again, and a wrong one does not", { skip }, async () => {
    await demo("backend=cpu&steps=2&digits=100&tests=200&similarity=none&seed=0&unknown=1", LAPTOP, async ({ page, state }) => {
        await state("done");
        assert.deepEqual(await page.$$eval("[name=similarity], [name=seed]", (fields) => fields.map(({ value }) => value)), ["cosine", "1"]);
        await page.fill("[name=steps]", "0");
        await page.dispatchEvent("[name=steps]", "change");
        assert.equal(await page.getAttribute("html", "data-state"), "done");
        await page.fill("[name=steps]", "3");
        await page.selectOption("[name=selection]", "fixed:0");
        await page.waitForFunction(() => document.querySelector("#step").textContent == "3 of 3 steps");
        await state("done");
        assert.equal(await page.textContent("#results [data-who=distilled] td:last-child"), "0.000");
    });
});

test("a file that is not there is named", { skip }, async () => {
    const init = () => {
        const { fetch } = globalThis;
        const missing = new Response(null, { status: 404, statusText: "Not Found" });
        globalThis.fetch = (url, more) => (String(url).includes("train-images") ? Promise.resolve(missing) : fetch(url, more));
    };
    await demo("backend=cpu&digits=100&tests=200", { ...LAPTOP, init, expected: [/train-images.*404/] }, async ({ page, state }) => {
        await state("failed");
        assert.match(await page.textContent("#status"), /train-images-idx3-ubyte: 404 Not Found/);
    });
});
