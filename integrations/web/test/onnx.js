// Writes a model of one linear layer in ONNX's format (protocol buffers): `logits = input * weights + bias`.

const varint = (n) => {
    const bytes = [];
    for (; n > 127; n = Math.floor(n / 128)) bytes.push((n % 128) + 128);
    return [...bytes, n];
};
const number = (field, value) => [...varint(field * 8), ...varint(value)];
const bytes = (field, value) => [...varint(field * 8 + 2), ...varint(value.length), ...value];
const text = (field, value) => bytes(field, [...new TextEncoder().encode(value)]);

const FLOAT = 1;
const tensor = (name, dims, values) => [
    ...dims.flatMap((n) => number(1, n)),
    ...number(2, FLOAT),
    ...text(8, name),
    ...bytes(9, [...new Uint8Array(Float32Array.from(values).buffer)]),
];
const value = (name, dims) => {
    const shape = dims.flatMap((n) => bytes(1, typeof n == "number" ? number(1, n) : text(2, n)));
    return [...text(1, name), ...bytes(2, bytes(1, [...number(1, FLOAT), ...bytes(2, shape)]))];
};
const node = (kind, inputs, output) => [...inputs.flatMap((name) => text(1, name)), ...text(2, output), ...text(3, output), ...text(4, kind)];

/** The model's bytes; `weights` is `[inputs, classes]`. */
export function linearModel(inputs, classes, weights, bias) {
    const graph = [
        ...bytes(1, node("MatMul", ["input", "weights"], "product")),
        ...bytes(1, node("Add", ["product", "bias"], "logits")),
        ...text(2, "linear"),
        ...bytes(5, tensor("weights", [inputs, classes], weights)),
        ...bytes(5, tensor("bias", [classes], bias)),
        ...bytes(11, value("input", ["rows", inputs])),
        ...bytes(12, value("logits", ["rows", classes])),
    ];
    const opset = bytes(8, number(2, 17));
    return Uint8Array.from([...number(1, 8), ...opset, ...bytes(7, graph)]);
}
