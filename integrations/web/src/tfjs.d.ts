import type { Tensor, Scalar } from "@tensorflow/tfjs-core";
import type { Options, Progress, Summary } from "./index.js";

/** TensorFlow.js, or its core: the object that a program calls `tf`. */
export type TensorFlow = typeof import("@tensorflow/tfjs-core");

/** Further tensors of a call. */
export interface Inputs {
    /** `int32 [.., k]`: the teacher is a list of classes, with their log-probabilities as the teacher's logits. */
    teacherIds?: Tensor;
    /** `float32 [.., classes]`: probabilities in place of labels. */
    softLabels?: Tensor;
    /** `float32 [..]` */
    rowWeights?: Tensor;
    /** `float32 [classes]` */
    classWeights?: Tensor;
}

export interface DistillLoss {
    /**
     * The loss as a scalar: a differentiable operation. Its gradient passes to the student's logits alone.
     *
     * @param student `float32 [.., classes]`
     * @param teacher `float32 [.., classes]`
     * @param labels `int32 [..]`. A label that is no class gives NaN on WebGPU and throws on the CPU.
     */
    (student: Tensor, teacher: Tensor, labels: Tensor, progress: Progress, inputs?: Inputs): Scalar;
    /** Loss, KDR, TSSR and counts. Reads them from the device. */
    summary(student: Tensor, teacher: Tensor, labels: Tensor, progress: Progress, inputs?: Inputs): Promise<Summary>;
    /** Compiles the kernels for logits of this shape without blocking. `inputs` says which further tensors a call has. */
    prepare(
        shape: readonly number[],
        inputs?: { teacherClasses?: number; teacherIds?: boolean; softLabels?: boolean; rowWeights?: boolean; classWeights?: boolean },
    ): Promise<void>;
    /** Frees the temporary buffers on the device. Tensors belong to the program. */
    dispose(): void;
}

/**
 * Makes the loss. On TensorFlow.js's WebGPU backend it runs on the tensors' own buffers, in the backend's own command buffer. On every other
 * backend it reads the tensors and runs on the CPU.
 */
export function distillLoss(tf: TensorFlow, options?: Omit<Options, "gradWrite" | "gradLoss">): Promise<DistillLoss>;
