// A teacher in ONNX form, run by onnxruntime-web on TensorFlow.js's own device: its logits never leave the GPU.
//
// `ort` is `onnxruntime-web/webgpu`, `tf` is TensorFlow.js with its WebGPU backend ready.

/**
 * Opens a teacher. The session must get the device as part of its execution provider: `ort.env.webgpu.device = device` has no effect, and
 * the session would make a device of its own whose buffers TensorFlow.js cannot use.
 */
export async function openTeacher(ort, tf, model) {
    const { device } = tf.backend();
    const session = await ort.InferenceSession.create(model, {
        executionProviders: [{ name: "webgpu", device }],
        preferredOutputLocation: "gpu-buffer",
    });
    const [input] = session.inputNames;
    const [output] = session.outputNames;

    /** The teacher's logits `[rows, classes]` for a batch of inputs in host memory: a tensor on the session's own buffer. */
    async function logits(values, shape) {
        const results = await session.run({ [input]: new ort.Tensor("float32", values, shape) });
        const { gpuBuffer, dims, location } = results[output];
        if (location != "gpu-buffer") throw new Error(`the teacher's logits are in ${location}, expected gpu-buffer`);
        const tensor = tf.tensor({ buffer: gpuBuffer, zeroCopy: true }, [...dims], "float32");
        // The session takes the buffer back when its tensor is disposed, so this comes after the training step.
        const dispose = () => {
            tensor.dispose();
            results[output].dispose();
        };
        return { tensor, dispose };
    }

    return { logits, release: () => session.release() };
}
