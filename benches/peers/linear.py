"""The loss from hidden states: time and peak memory of a step, each way in a process of its own.

    python benches/peers/linear.py --shape 8192x1024x32000 --ours target/release/examples/linear

A step has hidden states `[rows, hidden]` and head weights `[classes, hidden]` of student and teacher as inputs, in f32, and the mean loss and the
gradients of the student's hidden states and weights as outputs. PyTorch computes the method; Liger's chunked loss has no such term, so it computes
half the cross-entropy and half the forward KL divergence. `--ours` names the crate's example `linear`, built in release.
Memory is the growth of the resident set to its peak, without the inputs. It runs on the CPU and on Linux.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

WAYS = {
    "eager": "torch eager, all logits",
    "compile": "torch.compile, all logits",
    "liger": "Liger's chunked loss, compiled, 1,024 rows a chunk",
}


def resident(field):
    """`VmRSS`, or the peak `VmHWM`, in bytes."""
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def step_of(way, rows, hidden, classes):
    """A function that computes loss and gradients of inputs that this one makes."""
    import torch

    from losses import method_eager

    torch.manual_seed(1)
    states = [torch.rand(rows, hidden) * 2 - 1 for _ in range(2)]
    weights = [(torch.rand(classes, hidden) * 2 - 1) * 3 / hidden**0.5 for _ in range(2)]
    labels = torch.arange(rows) * 31 % classes
    inputs = [x.requires_grad_() for x in (states[0], weights[0])]
    if way == "liger":
        from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

        # With beta 0 this is the forward KL divergence.
        chunked = LigerFusedLinearJSDLoss(beta=0.0, compiled=True)
        loss_of = lambda state, weight: chunked(state, weight, states[1], weights[1], labels)
    else:

        def loss_of(state, weight):
            with torch.no_grad():
                teacher = states[1] @ weights[1].T
            return method_eager(state @ weight.T, teacher, labels)

        if way == "compile":
            loss_of = torch.compile(loss_of, fullgraph=True, dynamic=False)

    def step():
        loss = loss_of(*inputs)
        return loss.item(), torch.autograd.grad(loss, inputs)

    return step


def measure(way, shape, runs):
    step = step_of(way, *shape)
    before = resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")  # sets the peak to the present
    loss, _ = step()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    print(json.dumps({"loss": loss, "seconds": times, "bytes": resident("VmHWM") - before}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", required=True, help="rows x hidden x classes")
    parser.add_argument("--runs", type=int, default=3, help="timed steps, after one that warms up")
    parser.add_argument("--ours", help="the crate's example `linear`")
    parser.add_argument("--way", action="append", choices=WAYS)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for text in options.shape:
        shape = [int(n) for n in text.split("x")]
        if options.alone:
            return measure(options.alone, shape, options.runs)
        print(f"{shape[0]} rows, hidden size {shape[1]}, {shape[2]} classes, f32, {os.cpu_count()} cores", flush=True)
        for way in options.way or WAYS:
            command = [sys.executable, __file__, "--alone", way, "--shape", text, "--runs", str(options.runs)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                # Without memory for all logits the kernel ends the process.
                last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
                print(f"{WAYS[way]}: failed: {last}", flush=True)
                continue
            result = json.loads(done.stdout.splitlines()[-1])
            seconds, mib = statistics.median(result["seconds"]), result["bytes"] / 2**20
            print(f"{WAYS[way]}: median {seconds * 1e3:.0f} ms, peak {mib:.0f} MiB, loss {result['loss']:.4f}", flush=True)
        if options.ours:
            subprocess.run([options.ours, *map(str, shape), "0", str(options.runs)], check=True)


if __name__ == "__main__":
    main()
