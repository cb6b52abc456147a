// The digits: images and labels in the IDX format, by range requests where the server answers them.

const HEADERS = { images: [0x803, 16], labels: [0x801, 8] };
const PIXELS = 28 * 28;

/** Files that a server without ranges has sent whole. */
const whole = new Map();

/** `count` bytes of a file from `start`, and whether a range of it was enough. */
async function bytes(url, start, count) {
    if (!whole.has(url)) {
        const response = await fetch(url, { headers: { Range: `bytes=${start}-${start + count - 1}` } });
        if (!response.ok) throw new Error(`${url}: ${response.status} ${response.statusText}`);
        const found = new Uint8Array(await response.arrayBuffer());
        if (response.status == 206) return { found, ranged: true };
        whole.set(url, found);
    }
    return { found: whole.get(url).subarray(start, start + count), ranged: false };
}

async function values(folder, part, kind, count, width) {
    const url = new URL(`${part}-${kind}-idx${kind == "images" ? 3 : 1}-ubyte`, folder).href;
    const [magic, header] = HEADERS[kind];
    const { found: head } = await bytes(url, 0, header);
    const view = new DataView(head.buffer, head.byteOffset);
    if (head.length < header || view.getUint32(0) != magic) throw new Error(`${url} is not a file of ${kind}`);
    const { found, ranged } = await bytes(url, header, count * width);
    if (found.length != count * width) throw new Error(`${url} has ${view.getUint32(4)} digits, and ${count} were asked for`);
    return { found, ranged, bytes: ranged ? header + found.length : whole.get(url).length };
}

/** The first `count` digits of a part, `"train"` or `"test"`: pixels in [0, 1] and labels. */
export async function loadDigits(folder, part, count) {
    const [images, labels] = await Promise.all([values(folder, part, "images", count, PIXELS), values(folder, part, "labels", count, 1)]);
    return {
        count,
        images: Float32Array.from(images.found, (pixel) => pixel / 255),
        labels: Int32Array.from(labels.found),
        ranged: images.ranged && labels.ranged,
        bytes: images.bytes + labels.bytes,
    };
}
