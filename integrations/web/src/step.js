// A step: the loss of one shape on the caller's device, recorded into the caller's encoder on the caller's buffers.

import { deviceOf } from "./device.js";
import { DistillError } from "./errors.js";
import { load } from "./module.js";
import { LISTS, MATRICES, bytesPerElement, completed, configLines, extent, progressLine, sizeLines } from "./shape.js";

/** Plans of a step that are kept: one for each placement of the buffers. */
const MOST_PLANS = 16;

/** Compiles the kernels of a shape without blocking and returns its step. */
export async function prepare(device, shape, options = {}, settings = {}) {
    const step = new Step(await load(), device, shape, options, settings);
    await step.compile(settings.buffers);
    return step;
}

/** A step whose kernels compile when a call first needs them. */
export const makeStep = (module, ...rest) => new Step(module, ...rest);

const BUFFER_NAMES = { ...MATRICES, ...LISTS };

export class Step {
    #module;
    #owner;
    #shape;
    #options;
    #lines;
    #plans = new Map();
    #workspace = new Map();
    #destroyed = false;

    constructor(module, device, shape, options, settings) {
        this.#module = module;
        this.#owner = deviceOf(device);
        this.#shape = completed(shape);
        this.#options = configLines(options);
        this.#lines = this.#options + sizeLines(this.#shape) + this.#owner.limitLines(settings);
    }

    /**
     * Compiles the kernels for buffers, or for buffers of their own with rows from their start on. `encode` compiles what is missing for
     * the offsets and sizes that it gets.
     */
    async compile(buffers) {
        this.#check();
        this.#owner.check();
        const planned = this.#planOf(buffers ? this.#placesOf(buffers) : this.#ownPlaces());
        await Promise.all(planned.kernels.map((kernel) => this.#owner.compile(kernel)));
        this.#owner.check();
    }

    /** The plan in words, for buffers or for buffers of their own. */
    describe(buffers) {
        this.#check();
        return this.#planOf(buffers ? this.#placesOf(buffers) : this.#ownPlaces()).description;
    }

    /** Bytes of the temporary buffers that the step holds. */
    get workspaceBytes() {
        return [...this.#workspace.values()].reduce((sum, buffer) => sum + buffer.size, 0);
    }

    /** Records the loss into an encoder: a copy of the parameters and one compute pass. Nothing is submitted. */
    encode(encoder, buffers, progress, numbers) {
        this.#check();
        this.#owner.check();
        const places = this.#placesOf(buffers);
        const planned = this.#planOf(places);
        const request = configLines(numbers) + progressLine(progress);
        const parameters = this.#module.parameters(planned.number, request);
        const pipelines = planned.kernels.map((kernel) => this.#owner.pipeline(kernel));
        const groups = this.#groups(planned, places, pipelines);
        if (!groups.length) return;
        // Each dispatch's parameters start at a multiple of the device's alignment.
        const { parameterBytes, stride } = planned;
        const spread = new Uint8Array(stride * groups.length);
        for (let i = 0; i < groups.length; i++) {
            spread.set(parameters.subarray(i * parameterBytes, (i + 1) * parameterBytes), i * stride);
        }
        const { buffer, offset } = this.#owner.upload(spread);
        encoder.copyBufferToBuffer(buffer, offset, planned.uniforms, 0, spread.byteLength);
        const pass = encoder.beginComputePass({ label: "wgpu-distill" });
        planned.dispatches.forEach(({ kernel, workgroups }, i) => {
            pass.setPipeline(pipelines[kernel].pipeline);
            pass.setBindGroup(0, groups[i]);
            pass.dispatchWorkgroups(workgroups);
        });
        pass.end();
    }

    /** Frees the temporary buffers. Command buffers that use them must have been submitted. */
    destroy() {
        if (this.#destroyed) return;
        this.#destroyed = true;
        for (const planned of this.#plans.values()) this.#drop(planned);
        for (const buffer of this.#workspace.values()) buffer.destroy();
        this.#plans.clear();
        this.#workspace.clear();
    }

    #check() {
        if (this.#destroyed) throw new DistillError("Destroyed", "the step was destroyed; make another with `prepare`");
    }

    #drop({ number, uniforms }) {
        this.#module.dropPlan(number);
        uniforms.destroy();
    }

    /** The caller's buffers by operand. Refuses buffers that are missing, of no use, or without the usage that kernels need. */
    #placesOf(buffers) {
        const { matrices, lists, inPlace } = this.#shape;
        const places = {};
        for (const name of [...Object.keys(matrices), ...Object.keys(lists)]) {
            const given = buffers[inPlace && name == "gradient" && !buffers.gradient ? "studentLogits" : name];
            places[name] = place(name, given);
        }
        for (const [name, given] of Object.entries(buffers)) {
            if (given && !places[name]) {
                const known = Object.hasOwn(BUFFER_NAMES, name) ? "the shape has no such operand" : "there is no such operand";
                throw new DistillError("UnexpectedBuffer", `\`${name}\` was given, but ${known}`);
            }
        }
        return places;
    }

    /** A buffer for each operand, just large enough for whole vectors, as `compile` assumes without buffers. */
    #ownPlaces() {
        const { matrices, lists, rows, inPlace } = this.#shape;
        const places = {};
        const own = (bytes) => ({ buffer: {}, offset: 0, size: Math.ceil(Math.max(bytes, 16) / 16) * 16 });
        for (const [name, matrix] of Object.entries(matrices)) places[name] = own(extent(matrix, rows) * bytesPerElement(matrix.storage));
        for (const [name, bytes] of Object.entries(lists)) places[name] = own(bytes);
        if (inPlace) places.gradient = places.studentLogits;
        return places;
    }

    /** The plan for these places, made when they are first seen. */
    #planOf(places) {
        const lines = this.#placeLines(places);
        let planned = this.#plans.get(lines);
        if (planned) {
            // The most recent one is last.
            this.#plans.delete(lines);
        } else {
            planned = this.#plan(lines);
            const [oldest] = this.#plans.keys();
            if (this.#plans.size >= MOST_PLANS) {
                // Encoders that are not submitted may still use its buffer, so the browser frees it.
                this.#module.dropPlan(this.#plans.get(oldest).number);
                this.#plans.delete(oldest);
            }
        }
        this.#plans.set(lines, planned);
        return planned;
    }

    #placeLines(places) {
        const numbers = new Map();
        const { matrices } = this.#shape;
        let lines = "";
        for (const [name, { buffer, offset, size }] of Object.entries(places)) {
            if (!numbers.has(buffer)) numbers.set(buffer, numbers.size);
            const where = `${offset} ${size} ${numbers.get(buffer)}\n`;
            const matrix = matrices[name];
            lines += matrix
                ? `matrix ${MATRICES[name]} ${matrix.storage} ${matrix.rowStride} ${where}`
                : `list ${LISTS[name]} ${where}`;
        }
        return lines;
    }

    #plan(lines) {
        const { device } = this.#owner;
        const { number, list } = this.#module.plan(this.#lines + lines);
        const alignment = device.limits.minUniformBufferOffsetAlignment;
        const stride = Math.ceil(list.parameterBytes / alignment) * alignment;
        return {
            number,
            description: list.plan,
            workspace: list.workspace,
            kernels: list.kernels.map(({ name, bindings }, i) => ({ name, bindings, code: this.#module.code(number, i) })),
            dispatches: list.dispatches,
            parameterBytes: list.parameterBytes,
            stride,
            uniforms: device.createBuffer({
                label: "wgpu-distill uniforms",
                size: Math.max(stride * list.dispatches.length, stride),
                usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
            }),
            bound: null,
        };
    }

    /** The bind groups for these buffers. Those of the last call are kept. */
    #groups(planned, places, pipelines) {
        const buffers = Object.values(places).map(({ buffer }) => buffer);
        for (const [operand, bytes] of planned.workspace) buffers.push(this.#temporary(operand, bytes));
        const { bound } = planned;
        if (bound && bound.buffers.every((buffer, i) => buffer === buffers[i])) return bound.groups;
        const { device } = this.#owner;
        const names = { ...MATRICES, ...LISTS };
        const bufferOf = new Map(Object.entries(places).map(([name, { buffer }]) => [names[name], buffer]));
        const groups = planned.dispatches.map(({ kernel, windows }, i) => {
            const entries = windows.map(([binding, operand, offset, size]) => {
                const buffer = bufferOf.get(operand) ?? this.#workspace.get(operand);
                return { binding, resource: { buffer, offset, size } };
            });
            const { uniforms, stride, parameterBytes } = planned;
            entries.push({ binding: 0, resource: { buffer: uniforms, offset: i * stride, size: parameterBytes } });
            return device.createBindGroup({ layout: pipelines[kernel].layout, entries });
        });
        planned.bound = { buffers, groups };
        return groups;
    }

    /** A temporary buffer of at least `bytes` bytes. A larger one replaces a smaller one, which recorded commands may still use. */
    #temporary(operand, bytes) {
        const there = this.#workspace.get(operand);
        if (there && there.size >= bytes) return there;
        const buffer = this.#owner.device.createBuffer({
            label: `wgpu-distill ${operand}`,
            size: Math.ceil(bytes / 16) * 16,
            usage: GPUBufferUsage.STORAGE,
        });
        this.#workspace.set(operand, buffer);
        return buffer;
    }
}

function place(name, given) {
    if (!given) throw new DistillError("MissingBuffer", `\`${name}\` was not given; the shape asks for it`);
    const { buffer, offset = 0 } = given instanceof GPUBuffer ? { buffer: given } : given;
    if (!(buffer instanceof GPUBuffer)) throw new DistillError("MissingBuffer", `\`${name}\` is no GPUBuffer`);
    if (!(buffer.usage & GPUBufferUsage.STORAGE)) {
        throw new DistillError("BufferUsage", `buffer \`${name}\` has usage ${buffer.usage}, it needs GPUBufferUsage.STORAGE; create it with both`);
    }
    if (buffer.mapState != "unmapped") throw new DistillError("BufferMapped", `buffer \`${name}\` is mapped; unmap it before the call`);
    if (!Number.isSafeInteger(offset) || offset < 0) {
        throw new DistillError("BufferMisaligned", `buffer \`${name}\` is bound at byte ${offset}, expected a whole number of at least 0`);
    }
    return { buffer, offset, size: buffer.size };
}
