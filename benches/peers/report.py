"""The outputs of a run: a markdown table, a JSON record with the machine's facts, and a plot."""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess

import torch


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_name():
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def nvidia_driver():
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.split("\n")[0].strip()
    except (OSError, subprocess.SubprocessError):
        return None


def machine(device):
    """The facts that affect a measurement. None identifies the host."""
    facts = {
        "date": datetime.date.today().isoformat(),
        "device": torch.cuda.get_device_name(0) if device == "cuda" else cpu_name(),
        "kind": device,
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "jax": version("jax"),
        "liger_kernel": version("liger-kernel"),
        "triton": version("triton"),
    }
    if device == "cuda":
        facts |= {"driver": nvidia_driver(), "cuda": torch.version.cuda, "device_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)}
    return facts


def slug(name):
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def table(record):
    """The results as markdown, with the reason for each system that was left out."""
    facts = record["machine"]
    copies = ", ".join(f"{who} {figure:.1f} GB/s" for who, figure in record["copy_gb_s"].items())
    lines = [
        f"# Peers on {facts['device']}, {facts['date']}",
        "",
        f"Logits in, loss and student gradient out, mean over the rows, temperature 1. {record['settings']['rounds']} rounds, the systems in turn",
        "within each. GB/s of the median by the byte model (12 bytes per position for f32, 6 for bf16).",
        f"Share of copy: relative to the largest copy bandwidth of the same run ({copies or 'none'}). Small shapes stay in caches and can exceed it.",
    ]
    for loss, formula in record["losses"].items():
        title = formula if loss == "method" else f"{loss}: {formula}, without the label's part"
        lines += [
            "",
            f"## {title[0].upper()}{title[1:]}",
            "",
            "| loss | rows | classes | storage | system | median ms | min ms | GB/s | share of copy | time relative to the crate |",
            "|---|--:|--:|---|---|--:|--:|--:|--:|--:|",
        ]
        for r in record["results"]:
            if r["loss"] != loss:
                continue
            start = f"| {loss} | {r['rows']} | {r['classes']} | {r['storage']} | {r['system']} |"
            if r.get("skipped"):
                lines.append(f"{start} left out: {r['skipped']} | | | | |")
                continue
            ratio = f"{r['times_ours']:.2f}" if r.get("times_ours") else "-"
            lines.append(f"{start} {r['median_ms']:.3f} | {r['min_ms']:.3f} | {r['gb_s']:.2f} | {100 * r['share']:.1f} % | {ratio} |")
        lines += [f"\nLeft out: {name}, {why}." for name, why in record["absent"][loss].items()]
    keys = ("torch", "cuda", "driver", "jax", "liger_kernel", "triton", "cores", "torch_threads", "system")
    lines += ["", "; ".join(f"{k} {facts[k]}" for k in keys if facts.get(k)) + "."]
    return "\n".join(lines) + "\n"


def plot(record, path):
    """Plots the share of the copy bandwidth over classes, a row of panels per loss and a panel per storage type. Returns False without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "peers"
    import matplotlib.pyplot as plt

    done = [r for r in record["results"] if not r.get("skipped")]
    if not done:
        return False
    losses = [loss for loss in record["losses"] if any(r["loss"] == loss for r in done)]
    storages = sorted({r["storage"] for r in done}, reverse=True)
    systems = list(dict.fromkeys(r["system"] for r in done))
    ours = {r["system"] for r in done if r.get("plan")}
    size = (6.5 * len(storages), 4 * len(losses) + 0.5)
    figure, panels = plt.subplots(len(losses), len(storages), figsize=size, sharex=True, sharey="row", squeeze=False)
    lines = {}
    for row, loss in zip(panels, losses):
        for panel, storage in zip(row, storages):
            for index, system in enumerate(systems):
                points = sorted((r["classes"], r["share"]) for r in done if (r["system"], r["storage"], r["loss"]) == (system, storage, loss))
                if points:
                    style = {"linewidth": 3 if system in ours else 1.5, "color": f"C{index}", "marker": "o"}
                    lines[system] = panel.plot([c for c, _ in points], [share for _, share in points], label=system, **style)[0]
            panel.axhline(1, color="0.5", linestyle=":", linewidth=1)
            panel.set_xscale("log")
            panel.set_ylim(bottom=0)
            panel.set_title(f"{loss}, {storage}")
            panel.grid(alpha=0.3)
        row[0].set_ylabel("share of the copy bandwidth")
    for panel in panels[-1]:
        panel.set_xlabel("classes")
    figure.suptitle(f"{record['machine']['device']}, {record['machine']['date']}")
    figure.legend(lines.values(), lines.keys(), loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, fontsize="small")
    figure.tight_layout()
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)
    return True


def file(record, folder):
    """Writes `peers.md`, `peers.json` and `peers.svg`. A second run of the day gets a number, so that no file is overwritten."""
    facts = record["machine"]
    if folder is None:
        folder = pathlib.Path(__file__).parent.parent / "record" / slug(facts["device"]) / facts["date"]
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stem, n = "peers", 1
    while (folder / f"{stem}.json").exists():
        n += 1
        stem = f"peers-{n}"
    (folder / f"{stem}.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / f"{stem}.md").write_text(table(record))
    plotted = plot(record, folder / f"{stem}.svg")
    print(f"wrote {stem}.json, {stem}.md" + (f", {stem}.svg" if plotted else "; no plot, matplotlib is missing or nothing was timed") + f" in {folder}")
