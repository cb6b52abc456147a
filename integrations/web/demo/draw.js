// A canvas to draw a digit with a pointer or with keys, and its picture in the form of the training digits.

const SIDE = 28;
/** The box into which the training digits were fitted. */
const BOX = 20;
const PEN = 22;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Pad {
    #canvas;
    #context;
    #at = null;
    #pen = { x: 140, y: 60, down: false };

    /** `onDrawn` is called after each stroke. */
    constructor(canvas, onDrawn) {
        this.#canvas = canvas;
        this.#context = canvas.getContext("2d", { willReadFrequently: true });
        const place = (event) => {
            const { left, top, width, height } = canvas.getBoundingClientRect();
            return { x: ((event.clientX - left) * canvas.width) / width, y: ((event.clientY - top) * canvas.height) / height };
        };
        canvas.addEventListener("pointerdown", (event) => {
            canvas.setPointerCapture(event.pointerId);
            this.#at = place(event);
            this.#stroke(this.#at);
        });
        canvas.addEventListener("pointermove", (event) => this.#at && this.#stroke(place(event)));
        for (const end of ["pointerup", "pointercancel"]) {
            canvas.addEventListener(end, () => {
                if (this.#at) onDrawn();
                this.#at = null;
            });
        }
        canvas.addEventListener("keydown", (event) => {
            const move = MOVES[event.key];
            if (!move && event.key != " ") return;
            event.preventDefault();
            const pen = this.#pen;
            this.#at = { x: pen.x, y: pen.y };
            if (!move) pen.down = !pen.down;
            else for (const [i, axis] of ["x", "y"].entries()) pen[axis] = Math.min(270, Math.max(10, pen[axis] + 10 * move[i]));
            if (pen.down) this.#stroke({ x: pen.x, y: pen.y });
            this.#at = null;
            const { style, dataset } = canvas.parentElement;
            for (const axis of ["x", "y"]) style.setProperty(`--${axis}`, `${(100 * pen[axis]) / canvas.width}%`);
            dataset.pen = pen.down ? "down" : "up";
            if (pen.down) onDrawn();
        });
        this.clear();
    }

    #stroke(to) {
        const context = this.#context;
        Object.assign(context, { lineWidth: PEN, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
        context.beginPath();
        context.moveTo(this.#at.x, this.#at.y);
        context.lineTo(to.x + 0.01, to.y);
        context.stroke();
        this.#at = to;
    }

    clear() {
        this.#context.fillStyle = "#000";
        this.#context.fillRect(0, 0, this.#canvas.width, this.#canvas.height);
    }

    /** Shows 784 pixels in [0, 1]. */
    show(pixels) {
        const small = new OffscreenCanvas(SIDE, SIDE);
        const data = new ImageData(SIDE, SIDE);
        pixels.forEach((pixel, i) => data.data.set([255 * pixel, 255 * pixel, 255 * pixel, 255], 4 * i));
        small.getContext("2d").putImageData(data, 0, 0);
        this.#context.drawImage(small, 0, 0, this.#canvas.width, this.#canvas.height);
    }

    /** 784 pixels in [0, 1]: the drawing fitted into a box of 20 pixels, its centre of mass in the middle, as the training digits; `null` if empty. */
    pixels() {
        const { width, height } = this.#canvas;
        const { data } = this.#context.getImageData(0, 0, width, height);
        let [left, right, top, bottom, mass, x, y] = [width, -1, height, -1, 0, 0, 0];
        for (let row = 0; row < height; row++) {
            for (let column = 0; column < width; column++) {
                const ink = data[4 * (row * width + column)];
                if (ink < 32) continue;
                [left, right, top, bottom] = [Math.min(left, column), Math.max(right, column), Math.min(top, row), Math.max(bottom, row)];
                [mass, x, y] = [mass + ink, x + ink * (column + 0.5), y + ink * (row + 0.5)];
            }
        }
        if (!mass) return null;
        const scale = BOX / Math.max(right - left + 1, bottom - top + 1);
        const small = new OffscreenCanvas(SIDE, SIDE).getContext("2d");
        Object.assign(small, { fillStyle: "#000", imageSmoothingQuality: "high" });
        small.fillRect(0, 0, SIDE, SIDE);
        small.drawImage(this.#canvas, SIDE / 2 - (scale * x) / mass, SIDE / 2 - (scale * y) / mass, width * scale, height * scale);
        const fitted = small.getImageData(0, 0, SIDE, SIDE).data;
        return Float32Array.from({ length: SIDE * SIDE }, (_, i) => fitted[4 * i] / 255);
    }
}
