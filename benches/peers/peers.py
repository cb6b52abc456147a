#!/usr/bin/env python3
"""Times distillation losses and their gradients in PyTorch, Liger, JAX, Burn and candle, and in this crate, in one interleaved run.

    python benches/peers/peers.py                                   # the method at the device's default shapes, the peers alone
    python benches/peers/peers.py --ours PATH                       # with the bench `serve` of this crate (see benches/peers/run)
    python benches/peers/peers.py --loss reverse-kl --loss jsd:0.1  # other losses; --loss all for every one
    python benches/peers/peers.py --device cpu --shape 4096x1000 --storage f32 --rounds 7

Every system is checked before it is timed, on a small shape and on the timed shape, against float64 autograd of the loss's definition.
The systems run in turn in every round, so that a slow phase of the machine affects all of them.
"""

import argparse
import gc
import math
import os
import statistics
import sys
import tempfile
import time

import torch

sys.dont_write_bytecode = True

import checks
import inputs
import losses
import report
import systems as peers
from checks import Wrong
from binaries import Binary, Failed, Refused

SHAPES = {
    "cuda": [(128, 10), (4096, 100), (4096, 1000), (32768, 1024), (32768, 4096), (8192, 32000), (4096, 32768), (4096, 65536), (8192, 128256), (16384, 131072)],
    "cpu": [(4096, 100), (4096, 1000), (1024, 32000), (256, 128256)],
}
BYTES = {"f32": 4, "bf16": 2}
OURS = "wgpu-distill"


# ---- memory ----------------------------------------------------------------------------------------------------------


def free_bytes(device):
    """Available memory, or infinity if the system does not report it."""
    if device == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0]
    try:
        with open("/proc/meminfo") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return math.inf


def too_large(device, needed):
    free = free_bytes(device)
    if needed > 0.9 * free:
        return f"needs about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} are free"


# ---- time ------------------------------------------------------------------------------------------------------------


#: Cycles that the device waits before a timed call, 2 to 3 ms. Meanwhile the host launches the call's kernels, so that the time is the
#: device's alone, as the crate's time is. Without the wait, a small shape's time would be that of the launches.
WAIT_CYCLES = 4_000_000


def time_once(run, device):
    """Milliseconds of one call, by events on the device and by the clock on the CPU."""
    if device == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda._sleep(WAIT_CYCLES)
        start.record()
        result = run()
        end.record()
        end.synchronize()
        del result
        return start.elapsed_time(end)
    start = time.perf_counter()
    result = run()
    elapsed = (time.perf_counter() - start) * 1e3
    del result
    return elapsed


def turn(run, device, count):
    """One untimed call, which warms caches and clocks after another system's turn, then `count` timed calls."""
    time_once(run, device)
    return [time_once(run, device) for _ in range(count)]


def copy_run(device):
    """A large copy, for the memory bandwidth, with the number of bytes read and written."""
    size = 2**30 if device == "cuda" else 2**28
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    return (lambda: target.copy_(source)), 2 * size


def calls_for(milliseconds, slice_ms):
    """The number of calls in a turn that fills the slice, from 1 to 100."""
    return max(1, min(100, round(slice_ms / max(milliseconds, 1e-3))))


def rust_answer(binary, loss, problem_of):
    """The first answer of another library's binary, and its gradient."""
    rows, classes = problem_of["rows"], problem_of["classes"]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "gradient")
        answer = binary.ask(loss.ours, **problem_of, rounds=2, gradient_to=path)
        return answer, torch.from_file(path, size=rows * classes).view(rows, classes).clone()


def run_loss(loss, problem, listed, binaries, options, copies):
    """Checks all systems that compute a loss on one problem and times them in turn. Returns one result per system."""
    storage, student, teacher, labels = problem
    rows, classes = student.shape
    device, seed = options.device, options.seed
    positions = rows * classes
    base = {"loss": loss.name, "rows": rows, "classes": classes, "storage": storage}
    results = []

    def left_out(name, why, wrong=False):
        print(f"  {name}: left out, {why}", flush=True)
        results.append({**base, "system": name, "skipped": why, "wrong": wrong})

    def verify(result):
        checks.verify(loss, result, student, teacher, labels, storage, 2e-5)

    runs = {}
    torch._dynamo.reset()
    for system in listed:
        if why := too_large(device, positions * 4 * system.matrices):
            left_out(system.name, why)
            continue
        try:
            run = system.prepare(student, teacher, labels)
            verify(peers.fetch(run()))
            run()
            runs[system.name] = (run, calls_for(time_once(run, device), options.slice_ms))
        except Wrong as error:
            left_out(system.name, f"WRONG: {error}", wrong=True)
        except Exception as error:  # such as a missing compiler or too little memory; the others go on
            left_out(system.name, first_line(error))

    answers, binary_calls = {}, {}
    asked = {"rows": rows, "classes": classes, "storage": storage, "seed": seed}
    for name, binary in binaries.items():
        try:
            if name.startswith(OURS):
                answer, gradient = binary.ask(loss.ours, **asked, rounds=2), None
            else:
                answer, gradient = rust_answer(binary, loss, asked)
            verify((answer["loss"], gradient))
            answers[name], binary_calls[name] = answer, calls_for(answer["times_ms"][-1], options.slice_ms)
        except Wrong as error:
            left_out(name, f"WRONG: {error}", wrong=True)
        except (Refused, Failed) as error:
            left_out(name, str(error), wrong=isinstance(error, Failed))

    copy, copy_bytes = copy_run(device)
    times = {name: [] for name in runs}
    times |= {name: [] for name in answers}
    names = ["copy", *runs, *answers]
    gc.collect()
    gc.disable()
    for round in range(options.rounds):
        shift = round % len(names)
        for name in names[shift:] + names[:shift]:  # another system is first in each round
            time.sleep(0.02)  # idle threads of the last system stop spinning
            if name == "copy":
                copies.setdefault("torch", []).extend(copy_bytes / (ms * 1e6) for ms in turn(copy, device, 3))
            elif name in answers:
                if device == "cuda":
                    torch.cuda.empty_cache()  # for the other process
                try:
                    got = binaries[name].ask(loss.ours, **asked, rounds=binary_calls[name] + 1)
                except (Refused, Failed) as error:
                    left_out(name, str(error), wrong=True)
                    del answers[name]
                    continue
                times[name] += got["times_ms"][1:]
                if got.get("copy_gb_s"):
                    copies.setdefault(name, []).append(got["copy_gb_s"])
            elif name in runs:
                run, calls = runs[name]
                try:
                    times[name] += turn(run, device, calls)
                except Exception as error:  # such as memory that the other process has taken
                    left_out(name, f"{type(error).__name__} while timed")
                    del runs[name]
    gc.enable()

    for name in runs:
        results.append({**base, "system": name, "times_ms": times[name]})
    for name, answer in answers.items():
        results.append({**base, "system": answer["system"], "times_ms": times[name], "plan": answer.get("plan"), "value": answer["loss"], "copy_gb_s": answer.get("copy_gb_s")})
    # Ratios are relative to the first requested engine.
    first = next((name for name in binaries if name.startswith(OURS)), None)
    ours_median = statistics.median(times[first]) if first in answers else None
    for r in results:
        if "times_ms" in r:
            r["median_ms"], r["min_ms"] = statistics.median(r["times_ms"]), min(r["times_ms"])
            r["times_ms"] = [round_to(t) for t in r["times_ms"]]
            r["gb_s"] = positions * 3 * BYTES[storage] / (r["median_ms"] * 1e6)
            r["times_ours"] = r["median_ms"] / ours_median if ours_median else None
            print(f"  {r['system']}: {r['median_ms']:.3f} ms, {r['gb_s']:.1f} GB/s", flush=True)
    return results


def round_to(x):
    return float(f"{x:.5g}")


def first_line(error):
    return f"{type(error).__name__}: {error}".splitlines()[0]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shape = lambda text: tuple(int(n) for n in text.lower().split("x"))
    parser.add_argument("--loss", action="append", metavar="LOSS", help=f"may be repeated; {', '.join(losses.LOSSES)}, jsd:BETA, or all; default: method")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shape", type=shape, action="append", metavar="ROWSxCLASSES", help="may be repeated; default: the device's list")
    parser.add_argument("--storage", choices=list(BYTES), action="append", help="may be repeated; default: both")
    parser.add_argument("--systems", help="comma-separated parts of names; default: all available systems")
    parser.add_argument("--ours", metavar="PATH", help="the crate's bench `serve`, which answers requests on stdin")
    parser.add_argument("--rust-peers", metavar="PATH", help="the binary of `rust/`: Burn and candle, on the CPU")
    parser.add_argument("--engine", action="append", help="engine for the binary, may be repeated; default: cpu, or the name of the CUDA device")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slice-ms", type=float, default=200, help="approximate duration of a system's turn")
    parser.add_argument("--threads", type=int, help="number of cores for every system; default: all")
    parser.add_argument("--compile-mode", default="default", help="torch.compile's mode")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", metavar="FOLDER", help="default: benches/record/ADAPTER/DATE; 'none' writes nothing")
    return parser.parse_args()


def main():
    options = parse()
    if options.threads:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])  # the bench binary inherits it
        torch.set_num_threads(options.threads)
    inputs.check()
    storages = options.storage or list(BYTES)
    names = options.loss or ["method"]
    try:
        chosen = [losses.parse(name) for name in (losses.LOSSES if "all" in names else dict.fromkeys(names))]
    except ValueError as error:
        sys.exit(f"--loss: {error}")
    results, trusted, copies, absent = [], {}, {}, {}
    for loss in chosen:
        listed, absent[loss.name] = peers.available(loss, options.device, options.compile_mode)
        if options.systems:
            wanted = [part.strip().lower() for part in options.systems.split(",")]
            listed = [s for s in listed if any(part in s.name.lower() for part in wanted)]
        for storage in storages:
            print(f"{loss.name}, small shape, {storage}, against float64 autograd", flush=True)
            right = trusted[loss.name, storage] = []
            torch._dynamo.reset()
            for system in listed:
                try:
                    checks.verify_small(loss, system, options.device, storage, options.seed)
                    right.append(system)
                    print(f"  {system.name}: right", flush=True)
                except Exception as error:
                    wrong = isinstance(error, Wrong)
                    why = f"WRONG: {error}" if wrong else first_line(error)
                    print(f"  {system.name}: left out, {why}", flush=True)
                    results.append({"loss": loss.name, "rows": 6, "classes": 131, "storage": storage, "system": system.name, "skipped": why, "wrong": wrong})

    engines = options.engine or ["cpu" if options.device == "cpu" else torch.cuda.get_device_name(0)]
    binaries = {f"{OURS} {engine}": Binary(options.ours, "serve", "--engine", engine) for engine in engines} if options.ours else {}
    if options.rust_peers and options.device == "cpu":
        binaries |= {library: Binary(options.rust_peers, library) for library in ("burn", "candle")}
    try:
        for rows, classes in options.shape or SHAPES[options.device]:
            for storage in storages:
                # Two inputs, and the check of one range of rows in f64.
                if why := too_large(options.device, rows * classes * 2 * BYTES[storage] + 2**31):
                    print(f"{rows} x {classes}, {storage}: left out, {why}", flush=True)
                    base = {"rows": rows, "classes": classes, "storage": storage, "system": "all systems", "skipped": why, "wrong": False}
                    results += [{"loss": loss.name, **base} for loss in chosen]
                    continue
                student, teacher = (inputs.matrix(rows, classes, s, options.seed, storage, options.device) for s in (inputs.STUDENT, inputs.TEACHER))
                problem = (storage, student, teacher, inputs.labels(rows, classes, options.seed, options.device))
                for loss in chosen:
                    print(f"{loss.name}, {rows} x {classes}, {storage}", flush=True)
                    results += run_loss(loss, problem, trusted[loss.name, storage], binaries, options, copies)
                del student, teacher, problem
    finally:
        for binary in binaries.values():
            binary.close()

    # All shares are relative to the fastest copy, whether PyTorch or the crate's bench measured it.
    copies = {who: statistics.median(figures) for who, figures in copies.items()}
    for r in results:
        if "gb_s" in r:
            r["share"] = r["gb_s"] / max(copies.values())
    settings = {"rounds": options.rounds, "slice_ms": options.slice_ms, "seed": options.seed, "compile_mode": options.compile_mode, "engines": engines if options.ours else None}
    record = {"machine": report.machine(options.device), "settings": settings, "losses": {loss.name: loss.formula for loss in chosen}, "copy_gb_s": copies, "absent": absent, "results": results}
    print("\n" + report.table(record))
    if options.record != "none":
        report.file(record, options.record)
    sys.exit(any(r.get("wrong") for r in results))


if __name__ == "__main__":
    main()
