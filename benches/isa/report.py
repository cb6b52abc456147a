#!/usr/bin/env python3
"""A table from the statistics that `main.rs` printed, and from AMD's assembly.

    report.py DEVICE LINES LISTINGS
    report.py --blocks LISTING FIRST LAST      the basic blocks of an AMD listing, with the kinds of their instructions
"""

import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

# The names that drivers give to the same number.
STATISTICS = {
    "registers": ("VGPRs", "Number of GPRs", "GPRs", "Registers used"),
    "spills": ("Spilled VGPRs", "Spills to memory", "Spills", "STP Count"),
    "waves": ("Subgroups per SIMD", "Max warps/SM", "Threads", "Max Waves Per Core"),
    "shared B": ("LDS size", "SLM Size", "Local Memory"),
    "code B": ("Code size", "Code Size", "CodeSize"),
    "instructions": ("Instructions", "Instruction count", "Instruction Count"),
}
COLUMNS = ["kernel", "plan", *STATISTICS, "loads", "loads to apply", "operations"]
EXPONENTIALS = ("v_exp", "v_log", "v_rcp", "v_sqrt", "v_rsq")


@dataclass
class Block:
    """A basic block of AMD's assembly."""

    name: str
    instructions: list[str] = field(default_factory=list)

    def kinds(self) -> Counter:
        return Counter(
            kind(part.split()[0])
            for instruction in self.instructions
            for part in instruction.split("::")
        )

    def loads(self) -> int:
        kinds = self.kinds()
        return kinds["load 16"] + kinds["load 8"] + kinds["load 4"]

    def skips_to(self) -> str | None:
        """The block after those that it may skip."""
        found = re.search(r"s_cbranch_(?:execz|vccz)\s+(BB\d+)", "\n".join(self.instructions))
        return found and found.group(1)


def kind(name: str) -> str:
    if name.startswith(EXPONENTIALS):
        return "exponential"
    if name.startswith("v_cndmask"):
        return "selection"
    if name.startswith("v_"):
        return "vector"
    if name.startswith(("buffer_load", "global_load")):
        wide = "b128" in name or "x4" in name
        return "load 16" if wide else "load 8" if "b64" in name or "x2" in name else "load 4"
    if name.startswith(("buffer_store", "global_store")):
        return "store"
    if name.startswith("scratch"):
        return "scratch"
    if name.startswith("ds_"):
        return "shared"
    if name.startswith(("s_wait", "s_waitcnt")):
        return "wait"
    return "scalar"


def blocks(listing: Path) -> list[Block]:
    text = listing.read_text()
    if ";;;; Assembly\n" not in text:
        return []
    found: list[Block] = []
    for line in text.split(";;;; Assembly\n", 1)[1].split(";;;;")[0].splitlines():
        if start := re.match(r"(BB\d+):", line):
            found.append(Block(start.group(1)))
        elif found and (instruction := line.split(";")[0].strip()):
            found[-1].instructions.append(instruction)
    return found


def assembly(listing: Path) -> dict[str, str]:
    """Loads that stand together in observe and in apply, and vector operations and exponentials of a pair of logits in observe.

    Observe has the block with the most loads. Its path without checks is found by what it skips: blocks with loads of their own are the
    checked path; selections without exponentials are a row's edge.
    """
    list_ = blocks(listing)
    most = max((block.loads() for block in list_), default=0)
    if most < 4:
        return {}
    at = {block.name: i for i, block in enumerate(list_)}
    start = next(i for i, block in enumerate(list_) if block.loads() == most)
    kinds = list_[start].kinds()
    width = next(w for w in ("16", "8", "4") if kinds[f"load {w}"])
    # A vector of four classes is one wide load for each of student and teacher.
    classes = 4 * most // (2 if width != "4" else 8)
    operations = exponentials = 0
    i = start
    while i < len(list_) and exponentials < 2 * classes:
        kinds = list_[i].kinds()
        operations += kinds["vector"] + kinds["selection"]
        exponentials += kinds["exponential"]
        end = at.get(list_[i].skips_to())
        i += 1
        if end is None or end <= i:
            continue
        skipped = list_[i:end]
        total = sum((block.kinds() for block in skipped), Counter())
        is_edge = total["exponential"] < 2 * classes and total["selection"] > 2
        if any(block.loads() for block in skipped) or is_edge:
            i = end
    to_apply = max((block.loads() for block in list_[i:]), default=0)
    return {
        "loads": f"{most} x {width} B",
        "loads to apply": str(to_apply),
        "operations": f"{operations / classes:.1f} + {exponentials / classes:.0f}",
    }


def row(line: str, listings: Path, waves_of_32: bool) -> dict[str, str]:
    name, *fields = line.split("\t")
    statistics = dict(f.split("=", 1) for f in fields)
    cells = {
        column: next((statistics[n] for n in names if n in statistics), "")
        for column, names in STATISTICS.items()
    }
    if waves_of_32 and statistics.get("subgroup size") == "64" and cells["waves"]:
        cells["waves"] = str(int(cells["waves"]) // 2)
    plan = re.match(r"([a-z-]+): (\d+) of (\d+) lanes a row, (\d+) vectors", statistics["plan"])
    cells["plan"] = "{}, {} of {} lanes x {}".format(*plan.groups()) if plan else statistics["plan"]
    return {"kernel": name, **cells, **assembly(listings / f"{name}.txt")}


def table(device: str, lines: list[str], listings: Path) -> str:
    notes = [line[2:] for line in lines if line.startswith("# ")]
    # RADV counts waves of 32 where the device has them.
    waves_of_32 = device.startswith("radeon") and "Some((32, 64))" in notes[0]
    rows = [row(line, listings, waves_of_32) for line in lines if "\tplan=" in line]
    columns = [c for c in COLUMNS if any(r.get(c) for r in rows)]
    out = [f"## {device}", "", *notes, ""]
    out += ["| " + " | ".join(columns) + " |", "|" + "---|" * 2 + "--:|" * (len(columns) - 2)]
    out += ["| " + " | ".join(r.get(c, "") for c in columns) + " |" for r in rows]
    return "\n".join([*out, ""])


def main() -> None:
    if sys.argv[1] == "--blocks":
        first, last = int(sys.argv[3]), int(sys.argv[4])
        for block in blocks(Path(sys.argv[2])):
            if first <= int(block.name[2:]) <= last:
                print(block.name, dict(block.kinds()), "skips to", block.skips_to())
        return
    device, lines, listings = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    print(table(device, lines.read_text().splitlines(), listings))


if __name__ == "__main__":
    main()
