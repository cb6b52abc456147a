/// <reference types="@webgpu/types" />

/** The storage type of numbers. Arithmetic is always f32. */
export type Storage = "f32" | "f16" | "bf16";

/** The soft part of the loss; the numbers follow the name. docs/LOSSES.md of the repository has formulas and sources. */
export type Divergence =
    | "soft-cross-entropy" | "forward-kl" | "reverse-kl" | `kl-sum:${number}:${number}` | `jsd:${number}` | `skew-kl:${number}`
    | `skew-reverse-kl:${number}` | "total-variation" | "neg-log-overlap" | `kl-tv:${number}:${number}` | `alpha-beta:${number}:${number}`
    | `taid:${number}` | `dkd:${number}:${number}` | `nkd:${number}` | "wsld" | `k1:${number}` | `k2:${number}` | `k3:${number}`;

/** The rule that selects the label's share TSSR from training time and similarity. */
export type Selection = "max" | "min" | "mean" | "product" | "tstr" | "kdr" | `fixed:${number}` | `margin:${number}`;

/** The choices of the loss. Each field is that of the crate's `Config`, with its default. */
export interface Options {
    /** Divides the student's logits. Default 1. */
    studentTemperature?: number;
    /** Divides the teacher's logits. Default 1. */
    teacherTemperature?: number;
    /** `"squared"`: the factor T^2 of Hinton et al. Default `"none"`. */
    temperatureScaling?: "none" | "squared";
    /** `"z-score"`: the temperatures divide each row's z-scores. Default `"none"`. */
    standardization?: "none" | "z-score";
    /** Default `"soft-cross-entropy"`. */
    divergence?: Divergence;
    /** Multiplies the soft part. Default 1. */
    softWeight?: number;
    /** Multiplies the hard part. Default 1. */
    hardWeight?: number;
    /** The temperature of the label's part. Default `"student"`. */
    hardTemperature?: "student" | `own:${number}`;
    /** The weight of the squared log-sum-exp. Default 0. */
    zLoss?: number;
    /** `"attached"`: the gradient also passes through KDR. Default `"detached"`. */
    tssrGradient?: "detached" | "attached";
    /** The similarity of teacher and student, KDR. Default `"cosine"`. */
    similarity?: "cosine" | "bhattacharyya" | "exp-neg-kl" | "jensen-shannon" | "overlap";
    /** Default `"min"`. */
    selection?: Selection;
    /** The KDR of a row: its own, the mean of the batch, or a given one. Default `"row"`. */
    scope?: "row" | "batch" | `given:${number}`;
    /** Default `"mean"`, over the rows with a label. */
    reduction?: "none" | "sum" | "mean" | `sum-over:${number}`;
    /** In `[0, 1)`. Default 0. */
    labelSmoothing?: number;
    /** Default `"all"`. */
    smoothedClasses?: "all" | "unmasked";
    /** Bounds of a row's loss; a row outside has no gradient. Default `null`. */
    lossClamp?: readonly [number, number] | null;
    /** Rows with this label are left out. Default -100. */
    ignoreIndex?: number;
    /** The upstream gradient, loss scale included. Default 1. */
    gradLoss?: number;
    /** `"common-prefix"`: a teacher with another number of classes. Default `"same-as-student"`. */
    teacherClasses?: "same-as-student" | "common-prefix";
    /** `"both"`: a class that either row masks is masked in both. Default `"each"`. */
    maskedClasses?: "each" | "both";
    /** The teacher's probability off its list. Default `"ghost"`. */
    teacherTail?: "ghost" | "renormalized";
    /** Default `"overwrite"`. */
    gradWrite?: "overwrite" | "accumulate";
    /** `"skip"`: rows without a finite result are left out and counted. Default `"propagate"`. */
    nonFinite?: "propagate" | "skip";
    /** The parts that the weights of classes multiply. Default `"hard"`. */
    classWeighting?: "hard" | "soft" | "both";
}

/** The numbers of the options that may differ from step to step of one plan. */
export type Numbers = Partial<Pick<Options,
    "studentTemperature" | "teacherTemperature" | "softWeight" | "hardWeight" | "gradLoss" | "ignoreIndex" | "scope" | "reduction" | "selection"
    | "divergence" | "lossClamp">>;

/** Training time: steps done and steps in all. `null` for selections that do not depend on it. */
export type Progress = { readonly step: number; readonly total: number } | null;

/** A matrix `[rows, width]`: its storage type, `"f32"` by default, and the elements from row to row, the width by default. */
export type Matrix = Storage | { storage?: Storage; rowStride?: number };

/** The shape of a batch and the operands that it has. */
export interface Shape {
    /** Rows of the batch. `distill` takes the number of labels if it is left out. */
    rows: number;
    /** Classes of the student. */
    classes: number;
    /** Classes of the teacher, or entries of a row's list. Default: the student's. 1 for tokens that the student sampled (`k1`, `k2`, `k3`). */
    teacherClasses?: number;
    /** `[rows, classes]` */
    student?: Matrix;
    /** `[rows, teacherClasses]` */
    teacher?: Matrix;
    /** `[rows, classes]`, `"in-place"` for the student's own buffer, or `null` for none. Default `"f32"`. */
    gradient?: Matrix | "in-place" | null | false;
    /** `[rows, classes]`: probabilities in place of labels. */
    softLabels?: Matrix | boolean;
    /** True if the teacher is a list: `[rows, teacherClasses]` classes, with their log-probabilities as the teacher's logits. */
    teacherIds?: boolean;
    /** True if each row has a weight. */
    rowWeights?: boolean;
    /** True if each class has a weight. */
    classWeights?: boolean;
    /** True for each row's result. */
    rowResults?: boolean;
    /** True for each row's result and metrics, instead of `rowResults`. */
    rowMetrics?: boolean;
    /** True for the summary. Default true. */
    summary?: boolean;
}

/** Means over the rows with finite results. Divergences, entropies and parts of the loss are in nats. */
export interface Metrics {
    forwardKl: number;
    teacherEntropy: number;
    studentEntropy: number;
    hard: number;
    soft: number;
    studentLse: number;
    teacherLse: number;
    agreement: number;
    studentAccuracy: number;
    teacherAccuracy: number;
}

export interface Summary {
    loss: number;
    /** Mean similarity of teacher and student. */
    kdr: number;
    /** Mean share of the label in the target. */
    tssr: number;
    validRows: number;
    ignoredRows: number;
    invalidLabels: number;
    nonFiniteRows: number;
    /** Only of a shape with `rowMetrics`. */
    metrics?: Metrics;
}

export interface RowResult {
    loss: number;
    kdr: number;
    tssr: number;
    /** Bits of `FLAGS`. */
    flags: number;
    metrics?: Metrics;
}

/** Typed arrays by storage type: `Float32Array` for f32, `Uint16Array` for the bits of f16 and bf16. */
export type Numbers32or16 = Float32Array | Uint16Array;

export interface Distillation {
    summary: Summary;
    /** `[rows, classes]`, in the storage type and with the stride of the shape: `into`, or a new array. */
    gradient?: Numbers32or16;
    /** With `rowResults` or `rowMetrics`. */
    rows?: RowResult[];
}

export interface DistillSettings extends Options {
    /** The device to run on. Without one the batch runs on the CPU, on the calling thread. No adapter is ever requested. */
    device?: GPUDevice | null;
    signal?: AbortSignal;
    /** False to use no subgroup operations. Default true, where the device has them. */
    subgroups?: boolean;
    /** Bytes of the largest buffer made on the device. Larger batches run in pieces. Default: half of the device's `maxBufferSize`. */
    pieceBytes?: number;
    /** Memory for the gradient, of the shape's storage type and stride. `gradWrite: "accumulate"` adds to it. */
    into?: Numbers32or16;
    teacherIds?: Int32Array;
    softLabels?: Numbers32or16;
    rowWeights?: Float32Array;
    classWeights?: Float32Array;
}

/**
 * Loss, metrics and gradient of a batch of typed arrays.
 * Rejects with a `DistillError`, or with the reason of the signal. A computation that runs on the CPU is not interrupted.
 */
export function distill(
    student: Numbers32or16,
    teacher: Numbers32or16,
    labels: Int32Array,
    shape: Omit<Shape, "rows" | "summary" | "teacherIds" | "rowWeights" | "classWeights"> & { rows?: number },
    progress: Progress,
    settings?: DistillSettings,
): Promise<Distillation>;

/** A buffer with usage `STORAGE`, from its start or from a byte on. */
export type Place = GPUBuffer | { buffer: GPUBuffer; offset?: number };

/** The buffers of a call: those that the shape has. */
export interface Buffers {
    studentLogits: Place;
    teacherLogits: Place;
    /** `i32 [rows]`. A label that is no class gives its row NaN and is counted. */
    labels: Place;
    gradient?: Place;
    /** `i32 [rows, teacherClasses]` */
    teacherIds?: Place;
    softLabels?: Place;
    /** `f32 [rows]` */
    rowWeights?: Place;
    /** `f32 [classes]` */
    classWeights?: Place;
    /** 80 bytes at a multiple of 256, see `readSummary`. */
    summary?: Place;
    /** 16 bytes a row at a multiple of 16, see `readRowResults`. */
    rowResults?: Place;
    /** 64 bytes a row at a multiple of 64, see `readRowMetrics`. */
    rowMetrics?: Place;
}

export interface StepSettings {
    /** False to use no subgroup operations. Default true, where the device has them. */
    subgroups?: boolean;
    /** An upper bound on the bytes that one dispatch binds of a buffer, below that of the device. */
    bindingBytes?: number;
    /** True to plan as for an adapter in software. Default: as the device's `adapterInfo` says. */
    software?: boolean;
    /** Buffers to compile for. Without them, each operand has a buffer of its own and starts at byte 0. */
    buffers?: Buffers;
}

/** The loss of one shape on one device. */
export interface Step {
    /**
     * Records the loss into the caller's encoder, between its passes. Submits nothing, waits for nothing, reads nothing back. Several calls
     * in one command buffer are right, each with its own progress and buffers.
     */
    encode(encoder: GPUCommandEncoder, buffers: Buffers, progress: Progress, numbers?: Numbers): void;
    /** Compiles the kernels for the offsets and sizes of these buffers without blocking. `encode` compiles what is missing. */
    compile(buffers?: Buffers): Promise<void>;
    /** The plan in words. */
    describe(buffers?: Buffers): string;
    /** Bytes of the temporary buffers, at most proportional to the rows. */
    readonly workspaceBytes: number;
    /** Frees the temporary buffers. Command buffers that use them must have been submitted. */
    destroy(): void;
}

/** Compiles the kernels of a shape on the caller's device. Rejects with a `DistillError`. */
export function prepare(device: GPUDevice, shape: Shape, options?: Options, settings?: StepSettings): Promise<Step>;

/** A refused argument or a failed call; `name` is the rule: `ShapeMismatch`, `BufferTooSmall`, `BufferOverlap`, `DeviceLost`, .. */
export class DistillError extends Error {
    constructor(name: string, message: string);
}

/**
 * Loads the WebAssembly module, once for the page. The other calls load it from the package's folder if the page did not.
 */
export function load(source?: WebAssembly.Module | BufferSource | Response | Promise<Response>): Promise<unknown>;

/** The summary from its bytes. Its metrics are 0 unless the shape had `rowMetrics`. */
export function readSummary(bytes: ArrayBuffer | ArrayBufferView, offset?: number): Summary & { metrics: Metrics };
export function readRowResults(bytes: ArrayBuffer | ArrayBufferView, rows: number, offset?: number): RowResult[];
export function readRowMetrics(bytes: ArrayBuffer | ArrayBufferView, rows: number, offset?: number): (RowResult & { metrics: Metrics })[];

/** Bits of a row's flags. */
export const FLAGS: Readonly<Record<
    | "ignored" | "invalidLabel" | "nonFinite" | "studentMasked" | "studentLive" | "teacherLive" | "noGradient" | "skipped" | "clamped"
    | "softLabel" | "softLabelMasked", number>>;
