// What a program in TypeScript writes, and what the types refuse. `npm run types` compiles it.

import * as tf from "@tensorflow/tfjs-core";
import { DistillError, distill, load, prepare, readSummary, type Options, type Step } from "wgpu-distill";
import { distillLoss, type DistillLoss } from "wgpu-distill/tfjs";

const options: Options = { selection: "fixed:0.5", divergence: "jsd:0.3", scope: "given:0.5", lossClamp: [0, 10], reduction: "sum-over:64" };

export async function arrays(): Promise<number> {
    await load();
    const labels = new Int32Array([0]);
    const done = await distill(new Float32Array(3), new Uint16Array(3), labels, { classes: 3, teacher: "bf16", rowMetrics: true }, { step: 1, total: 2 }, {
        ...options,
        signal: AbortSignal.timeout(1000),
        rowWeights: new Float32Array(1),
    });
    return done.rows?.[0]?.metrics?.forwardKl ?? done.summary.loss;
}

export async function buffers(device: GPUDevice, buffer: GPUBuffer): Promise<Step> {
    const step = await prepare(device, { rows: 4, classes: 10, gradient: "in-place", student: { storage: "f16", rowStride: 16 } }, options);
    const encoder = device.createCommandEncoder();
    step.encode(encoder, { studentLogits: buffer, teacherLogits: { buffer, offset: 256 }, labels: buffer, summary: buffer }, null, { gradLoss: 128 });
    const { loss }: { loss: number } = readSummary(new ArrayBuffer(80));
    console.log(loss, step.describe(), step.workspaceBytes);
    return step;
}

export async function tensors(student: tf.Tensor2D, teacher: tf.Tensor2D, labels: tf.Tensor1D): Promise<tf.Scalar> {
    const loss: DistillLoss = await distillLoss(tf, { temperatureScaling: "squared" });
    await loss.prepare(student.shape);
    const { grads } = tf.variableGrads(() => loss(student, teacher, labels, { step: 0, total: 10 }));
    console.log(Object.keys(grads), (await loss.summary(student, teacher, labels, null)).kdr);
    return loss(student, teacher, labels, null, { rowWeights: tf.ones([2]) });
}

export const refused: boolean = new DistillError("ShapeMismatch", "") instanceof Error;

// @ts-expect-error: no such selection
export const selection: Options = { selection: "median" };
// @ts-expect-error: a number is missing
export const divergence: Options = { divergence: "jsd" };
// @ts-expect-error: TensorFlow.js scales gradients
export const scaled = distillLoss(tf, { gradLoss: 2 });
// @ts-expect-error: labels are integers
export const labels = distill(new Float32Array(1), new Float32Array(1), new Float32Array(1), { classes: 1 }, null);
