// The needs of the tests in a page.

import { DistillError, distill, load, prepare, readSummary } from "/dist/index.js";
import { difference, method, numbers } from "/test/formula.js";

async function device() {
    const adapter = await navigator.gpu.requestAdapter();
    return adapter.requestDevice({ requiredFeatures: adapter.features.has("subgroups") ? ["subgroups"] : [] });
}

/** A buffer with the contents of an array, and room for whole vectors. */
function filled(gpu, array) {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const buffer = gpu.createBuffer({ size: Math.ceil(array.byteLength / 16) * 16, usage, mappedAtCreation: true });
    new Uint8Array(buffer.getMappedRange()).set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
    buffer.unmap();
    return buffer;
}

async function read(gpu, buffer, bytes) {
    const staging = gpu.createBuffer({ size: bytes, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
    const encoder = gpu.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, 0, staging, 0, bytes);
    gpu.queue.submit([encoder.finish()]);
    await staging.mapAsync(GPUMapMode.READ);
    const copy = staging.getMappedRange().slice(0);
    staging.destroy();
    return copy;
}

/** Name and message of the error that a call throws or rejects with; `null` without one. */
async function refusal(call) {
    try {
        await call();
        return null;
    } catch ({ name, message }) {
        return [name, message];
    }
}

globalThis.help = { DistillError, device, difference, distill, filled, load, method, numbers, prepare, read, readSummary, refusal };
