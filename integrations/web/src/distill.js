// The loss on typed arrays: on a device, else on the CPU path of the module.

import { isDevice, deviceOf } from "./device.js";
import { DistillError, checkSignal } from "./errors.js";
import { load } from "./module.js";
import { joined, readRowMetrics, readRowResults, readSummary } from "./results.js";
import { LISTS, MATRICES, bytesPerElement, checkShape, completed, configLines, extent, progressLine, sizeLines } from "./shape.js";
import { makeStep } from "./step.js";

const FLOAT16 = globalThis.Float16Array ?? class {};

/** Constructors of arrays by storage type. */
const ARRAYS = { f32: Float32Array, f16: Uint16Array, bf16: Uint16Array };

/**
 * Computes loss, metrics and gradient of a batch of typed arrays. With `device` it runs there, else on the CPU.
 */
export async function distill(student, teacher, labels, shape, progress, settings = {}) {
    const { device, signal, subgroups, pieceBytes, into, teacherIds, softLabels, rowWeights, classWeights, ...options } = settings;
    checkSignal(signal);
    const module = await load();
    checkSignal(signal);
    const batch = new Batch(
        { studentLogits: student, teacherLogits: teacher, labels, teacherIds, softLabels, rowWeights, classWeights, gradient: into },
        shape,
        options,
    );
    batch.check(module);
    if (device === undefined || device === null) return batch.onCpu(module, progress);
    // A batch without rows has nothing to dispatch.
    if (!isDevice(device)) throw new DistillError("NoDevice", "`device` is no GPUDevice; leave it out to run on the CPU");
    if (!batch.shape.rows) return batch.onCpu(module, progress);
    return batch.onDevice(module, device, progress, { signal, subgroups, pieceBytes });
}

class Batch {
    constructor(arrays, shape, options) {
        checkShape(shape);
        this.given = { ...shape, summary: true };
        for (const name of ["teacherIds", "rowWeights", "classWeights"]) this.given[name] = Boolean(arrays[name]);
        if (arrays.softLabels) this.given.softLabels ??= true;
        else if (this.given.softLabels) throw new DistillError("MissingArray", "`softLabels` was not given; the shape has it");
        this.given.rows ??= arrays.labels?.length;
        if (this.given.gradient == "in-place") {
            throw new DistillError("InvalidShape", "a gradient in place needs buffers; pass the memory for it as `into`");
        }
        this.shape = completed(this.given);
        this.options = options;
        this.arrays = {};
        for (const name of [...Object.keys(this.shape.matrices), ...Object.keys(this.shape.lists)]) {
            if (["rowResults", "rowMetrics", "summary"].includes(name)) continue;
            this.arrays[name] = this.#array(name, arrays[name]);
        }
        if (arrays.gradient && !this.shape.matrices.gradient) {
            throw new DistillError("InvalidShape", "`into` was given, but the shape has no gradient");
        }
        this.returnsNew = !arrays.gradient;
    }

    /** An array of the operand's type; a new one for the gradient, if the caller gave no memory. */
    #array(name, array) {
        const { matrices, rows } = this.shape;
        const storage = matrices[name]?.storage;
        if (name == "gradient" && !array) return new ARRAYS[storage](extent(matrices.gradient, rows));
        const type = storage ? ARRAYS[storage] : name.endsWith("Weights") ? Float32Array : Int32Array;
        if (array instanceof type) return array;
        if (storage == "f16" && array instanceof FLOAT16) return new Uint16Array(array.buffer, array.byteOffset, array.length);
        const got = array?.constructor?.name ?? String(array);
        throw new DistillError("MissingArray", `\`${name == "gradient" ? "into" : name}\` is ${got}, expected a ${type.name}`);
    }

    /** The checks of arrays that no kernel makes: labels, weights, soft labels and lists. */
    check(module) {
        const names = ["labels", "teacherIds", "softLabels", "rowWeights", "classWeights"];
        const arrays = Object.fromEntries(names.filter((name) => this.arrays[name]).map((name) => [name, { array: this.arrays[name] }]));
        for (const name of ["studentLogits", "teacherLogits", "gradient"]) if (this.arrays[name]) this.#checkLength(name);
        module.check((places) => this.#lines(places), arrays);
        if (this.options.gradWrite == "accumulate" && this.returnsNew && this.arrays.gradient) {
            throw new DistillError("Unsupported", "`gradWrite: \"accumulate\"` is not supported here: pass the memory to add to as `into`");
        }
    }

    #checkLength(name) {
        const { rows } = this.shape;
        const matrix = this.shape.matrices[name];
        const needed = extent(matrix, rows);
        const got = this.arrays[name].length;
        const shown = name == "gradient" ? "into" : name;
        if (got < needed) {
            throw new DistillError("SliceTooSmall", `\`${shown}\` has ${got} elements, it needs ${needed}; check rows, classes and row stride`);
        }
        if (got > rows * matrix.rowStride) {
            const limit = rows * matrix.rowStride;
            throw new DistillError("SliceTooLarge", `\`${shown}\` has ${got} elements, ${rows} rows have at most ${limit}; pass only the part that holds them`);
        }
    }

    #lines(places) {
        let lines = configLines(this.options) + sizeLines(this.shape);
        for (const [name, { at, elements }] of Object.entries(places)) {
            const matrix = this.shape.matrices[name];
            lines += matrix
                ? `matrix ${MATRICES[name]} ${matrix.storage} ${matrix.rowStride} ${at} ${elements}\n`
                : `list ${LISTS[name]} ${at} ${elements}\n`;
        }
        return lines;
    }

    onCpu(module, progress) {
        const { rows, lists } = this.shape;
        const arrays = {};
        for (const [name, array] of Object.entries(this.arrays)) arrays[name] = { array, out: name == "gradient" };
        const results = lists.rowResults ? new Uint8Array(16 * rows) : null;
        const metrics = lists.rowMetrics ? new Uint8Array(48 * rows) : null;
        if (results || metrics) arrays.rowResults = { array: results ?? new Uint8Array(16 * rows), out: true };
        if (metrics) arrays.rowMetrics = { array: metrics, out: true };
        const request = (places) => {
            // The module counts these in rows.
            for (const name of ["rowResults", "rowMetrics"]) if (places[name]) places[name].elements = rows;
            return this.#lines(places) + progressLine(progress);
        };
        const done = { summary: this.#summary(readSummary(module.run(request, arrays))), ...this.#gradient() };
        if (results) done.rows = readRowResults(results, rows);
        if (metrics) done.rows = readRowMetrics(reports(arrays.rowResults.array, metrics, rows), rows);
        return done;
    }

    /** The summary, with means of metrics only if there are metrics. */
    #summary({ metrics, ...summary }) {
        return this.shape.lists.rowMetrics ? { ...summary, metrics } : summary;
    }

    #gradient() {
        return this.arrays.gradient ? { gradient: this.arrays.gradient } : {};
    }

    async onDevice(module, device, progress, { signal, subgroups, pieceBytes }) {
        const owner = deviceOf(device);
        const most = pieceBytes ?? Math.min(device.limits.maxBufferSize, 2 ** 31) / 2;
        const { rows } = this.shape;
        const length = Math.max(1, Math.floor(most / this.#widestRow()));
        const starts = [];
        for (let start = 0; start < rows; start += length) starts.push(start);
        const steps = new Map();
        const run = async (options, withOutputs) => {
            const parts = [];
            for (const start of starts) {
                checkSignal(signal);
                owner.check();
                const count = Math.min(length, rows - start);
                const key = `${count} ${withOutputs}`;
                if (!steps.has(key)) {
                    const shape = { ...this.given, rows: count };
                    if (!withOutputs) Object.assign(shape, { gradient: null, rowResults: false, rowMetrics: false });
                    const step = makeStep(module, device, shape, options, { subgroups });
                    steps.set(key, step);
                    await step.compile();
                }
                parts.push(await this.#piece(owner, steps.get(key), start, count, progress, withOutputs, signal));
            }
            return parts;
        };
        try {
            let options = this.options;
            if (starts.length > 1) options = await this.#independent(run);
            const parts = await run(options, true);
            const summary = parts.length == 1 ? parts[0].summary : joined(parts.map((part) => part.summary));
            const done = { summary: this.#summary(summary), ...this.#gradient() };
            if (this.shape.lists.rowResults || this.shape.lists.rowMetrics) done.rows = parts.flatMap((part) => part.rows);
            return done;
        } finally {
            for (const step of steps.values()) step.destroy();
        }
    }

    /** Options under which pieces of the batch are independent: the whole batch's denominator, and for `scope: "batch"` its mean KDR. */
    async #independent(run) {
        const { reduction = "mean", scope = "row", ignoreIndex = -100 } = this.options;
        const options = { ...this.options };
        if (reduction == "mean") {
            let valid = 0;
            for (const label of this.arrays.labels) valid += label != ignoreIndex;
            options.reduction = `sum-over:${Math.max(1, valid)}`;
        }
        if (scope == "batch") {
            // The mean KDR includes rows whose gradient is not found.
            const observing = { ...options, scope: "row", nonFinite: "propagate", gradWrite: "overwrite" };
            const { kdr } = joined((await run(observing, false)).map((part) => part.summary));
            options.scope = `given:${Math.fround(Math.min(1, Math.max(0, kdr)))}`;
        }
        return options;
    }

    #widestRow() {
        const { matrices, classes } = this.shape;
        const widths = Object.values(matrices).map(({ rowStride, storage }) => rowStride * bytesPerElement(storage));
        return Math.max(64, 4 * classes, ...widths);
    }

    /** Rows `[start, start + count)` of an operand. */
    #part(name, start, count) {
        const array = this.arrays[name];
        const matrix = this.shape.matrices[name];
        if (matrix) {
            const from = start * matrix.rowStride;
            return array.subarray(from, from + extent(matrix, count));
        }
        if (name == "classWeights") return array;
        const each = name == "teacherIds" ? this.shape.teacherClasses : 1;
        return array.subarray(start * each, (start + count) * each);
    }

    /** Uploads, records, submits and reads back some rows. */
    async #piece(owner, step, start, count, progress, withOutputs, signal) {
        const { device } = owner;
        const { rowResults, rowMetrics } = this.shape.lists;
        const buffers = {};
        const made = [];
        const make = (size, usage, mappedAtCreation = false) => {
            const buffer = device.createBuffer({ size: Math.ceil(Math.max(size, 16) / 16) * 16, usage, mappedAtCreation });
            made.push(buffer);
            return buffer;
        };
        const outputs = [["summary", 80]];
        if (withOutputs && rowResults) outputs.push(["rowResults", 16 * count]);
        if (withOutputs && rowMetrics) outputs.push(["rowMetrics", 64 * count]);
        const gradient = withOutputs ? this.arrays.gradient && this.#part("gradient", start, count) : null;
        if (gradient) outputs.push(["gradient", gradient.byteLength]);
        device.pushErrorScope("out-of-memory");
        device.pushErrorScope("validation");
        let staging;
        try {
            for (const name of Object.keys(this.arrays)) {
                if (name == "gradient" && !gradient) continue;
                const part = this.#part(name, start, count);
                const buffer = make(part.byteLength, GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC, true);
                const bytes = new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
                new Uint8Array(buffer.getMappedRange()).set(bytes);
                buffer.unmap();
                buffers[name] = buffer;
            }
            for (const [name, bytes] of outputs) {
                buffers[name] ??= make(bytes, GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC);
            }
            const encoder = device.createCommandEncoder({ label: "wgpu-distill" });
            step.encode(encoder, buffers, progress);
            const padded = outputs.map(([, bytes]) => Math.ceil(bytes / 16) * 16);
            staging = make(padded.reduce((a, b) => a + b), GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ);
            let at = 0;
            outputs.forEach(([name], i) => {
                encoder.copyBufferToBuffer(buffers[name], 0, staging, at, padded[i]);
                at += padded[i];
            });
            device.queue.submit([encoder.finish()]);
        } catch (error) {
            await Promise.all([device.popErrorScope(), device.popErrorScope()]).catch(() => {});
            for (const buffer of made) buffer.destroy();
            if (error instanceof DistillError) throw error;
            owner.check();
            throw new DistillError(error instanceof RangeError ? "OutOfMemory" : "Gpu", `the device refused the batch: ${error.message}`);
        }
        const refused = Promise.all([device.popErrorScope(), device.popErrorScope()]);
        try {
            const [invalid, outOfMemory] = await refused.catch(() => [null, null]);
            owner.check();
            if (outOfMemory) throw new DistillError("OutOfMemory", `the device has no memory for the batch: ${outOfMemory.message}`);
            if (invalid) throw new DistillError("Gpu", `the device refused the batch: ${invalid.message}`);
            await staging.mapAsync(GPUMapMode.READ).catch(async (error) => {
                await Promise.resolve();
                owner.check();
                throw new DistillError("Gpu", `the results could not be read: ${error.message}`);
            });
            checkSignal(signal);
            const bytes = new Uint8Array(staging.getMappedRange());
            return this.#results(bytes, outputs, count, gradient);
        } finally {
            for (const buffer of made) buffer.destroy();
        }
    }

    #results(bytes, outputs, count, gradient) {
        const done = {};
        let at = 0;
        for (const [name, length] of outputs) {
            if (name == "summary") done.summary = readSummary(bytes, at);
            if (name == "rowResults") done.rows = readRowResults(bytes, count, at);
            if (name == "rowMetrics") done.rows = readRowMetrics(bytes, count, at);
            if (name == "gradient") {
                new Uint8Array(gradient.buffer, gradient.byteOffset, gradient.byteLength).set(bytes.subarray(at, at + length));
            }
            at += Math.ceil(length / 16) * 16;
        }
        return done;
    }
}

/** Results and metrics side by side, as `RowReport` has them. */
function reports(results, metrics, rows) {
    const bytes = new Uint8Array(64 * rows);
    for (let row = 0; row < rows; row++) {
        bytes.set(results.subarray(16 * row, 16 * row + 16), 64 * row);
        bytes.set(metrics.subarray(48 * row, 48 * row + 48), 64 * row + 16);
    }
    return bytes;
}
