"""Binaries that run for the whole comparison and answer requests for a few timings each: the crate's bench, and Rust libraries.

    BINARY serve --engine cpu | ADAPTER NAME
    RUST-PEERS burn | candle

Each request and each answer is a line of JSON:

    {"loss": "method" | "reverse-kl" | ..., "rows": R, "classes": C, "storage": "f32" | "bf16", "seed": N, "rounds": K}
    {"system": "wgpu-distill cpu", "times_ms": [K numbers], "plan": "...", "loss": x, "copy_gb_s": y}

The loss of a request is a name, that of an answer the value. The method is the crate's default configuration at TSTR 1/2; a divergence comes
without the label's part. The same request comes many times in a row, between the peers' turns, so a binary keeps its inputs until the shape
changes, and its plan until the loss changes. An answer `{"error": "..."}` means that the binary cannot run the request, or, of the crate's,
that its gradient is not that of the crate's f64 reference (the text then starts with WRONG).

The other libraries write the gradient to the file that the request names with `"gradient_to"`, as f32.
"""

import json
import subprocess

from checks import Wrong


class Refused(Exception):
    """The binary cannot run a request."""


class Failed(Exception):
    """The binary ended or violated the protocol."""


class Binary:
    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, loss, rows, classes, storage, seed, rounds, **more):
        request = {"loss": loss, "rows": rows, "classes": classes, "storage": storage, "seed": seed, "rounds": rounds, **more}
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Failed(f"the binary ended with status {self.process.wait()}")
        try:
            answer = json.loads(line)
            if "error" in answer:
                why = answer["error"]
                raise Wrong(why.removeprefix("WRONG: ")) if why.startswith("WRONG") else Refused(why)
            missing = {"system", "times_ms", "loss"} - answer.keys()
        except (ValueError, TypeError, AttributeError):
            raise Failed(f"the binary answered {line.strip()[:200]!r}") from None
        if missing:
            raise Failed(f"the binary's answer lacks {', '.join(sorted(missing))}")
        if len(answer["times_ms"]) != rounds:
            raise Failed(f"the binary gave {len(answer['times_ms'])} times for {rounds} rounds")
        return answer

    def close(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # the process has ended, which was reported
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
