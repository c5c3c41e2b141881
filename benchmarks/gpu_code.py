"""Instructions that a GPU issues for an element, and the speed they allow: ``python -m benchmarks.gpu_code``."""

from __future__ import annotations

import argparse
import heapq
import importlib.metadata
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import track

from fastrobust.kernels.loops import compiled, launch
from fastrobust.kernels.losses.catalogue import LOSS, NLL, named
from fastrobust.kernels.losses.definition import Definition

from .measure import RESULTS, ROOT, environment, write_csv

sys.path.insert(0, str(ROOT / "tests"))

from nvidia import assembled

GRADIENTS = ("value", "dx", "dalpha", "dscale")
WORKS = [
    ("elementwise", LOSS, ("value",)),
    ("elementwise", LOSS, GRADIENTS),
    ("reduction", LOSS, GRADIENTS),
    ("elementwise", NLL, GRADIENTS),
    ("elementwise", named("loss_charbonnier"), ("value", "dx")),
]
CAPABILITIES = ["7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0"]
AT_ONCE = 4  # elements that a thread takes
# An H100 SXM: its multiprocessors, their clock, the instructions of a thread that each issues in a cycle, those of
# doubles among them, and conversions to and from doubles (CUDA C++ Programming Guide, arithmetic instructions), and the
# memory speed that `benchmarks.gpu` measured there.
H100 = "9.0"
MULTIPROCESSORS, CLOCK, ISSUED, DOUBLES, CONVERSIONS, BANDWIDTH = 132, 1.755e9, 128, 64, 16, 3.0e12
COLUMNS = [
    *("capability", "work", "definition", "outputs", "inside", "instructions", "doubles", "conversions", "uniform"),
    *("registers", "spilled_bytes", "bytes", "cycles", "expected_percent_of_copy"),
    *("date", "python", "numba", "llvmlite", "ptxas", "fastrobust", "commit"),
]
DESCRIPTION = """\
What ptxas makes of the kernels with numbers for alpha and scale, float32: instructions for an element on the way
through the loop of an ordinary one, how many of those are of doubles, and, for compute capability 9.0, the part of
copy speed that this arithmetic allows on an H100 SXM.  Needs no GPU; NVIDIA's ptxas and nvdisasm are in the extra
"test".
"""


class Block(NamedTuple):
    """A row of instructions that is entered at its start alone, and the labels it may go on at."""

    instructions: list[str]
    targets: list[str]


def blocks_of(listing: str) -> dict[str, Block]:
    """The basic blocks by label, those between labels by a number."""
    found: dict[str, Block] = {}
    name, here = "start", Block([], [])
    for line in listing.splitlines():
        label, instruction = re.match(r"(\.L_x_\d+):", line), re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?);", line)
        if label:
            here.targets.append(label[1])
            found[name], name, here = here, label[1], Block([], [])
        elif instruction:
            here.instructions.append(instruction[1])
            target = re.search(r"BRA.*\((\.L_x_\d+)\)", instruction[1])
            if target or re.search(r"\b(EXIT|RET)\b", instruction[1]):
                here.targets.extend([target[1]] if target else [])
                after = f"after {name}"
                if instruction[1].startswith("@"):
                    here.targets.append(after)
                found[name], name, here = here, after, Block([], [])
    found[name] = here
    return found


def loop_of_ordinary(blocks: dict[str, Block], outputs: int) -> list[str]:
    """The instructions of the shortest way from the load of elements round to it, past the stores of all outputs."""
    width = 32 * AT_ONCE
    start = next(
        name
        for name, block in blocks.items()
        if any(re.search(rf"LDG\.E\.{width}(\.SYS)? ", i) for i in block.instructions)
    )
    queue: list[tuple[int, str, int, tuple[str, ...]]] = [(0, start, 0, ())]
    seen = set()
    while queue:
        cost, name, stored, way = heapq.heappop(queue)
        if name == start and stored >= outputs:
            return [instruction for step in way for instruction in blocks[step].instructions]
        if (name, stored) in seen or name not in blocks:
            continue
        seen.add((name, stored))
        block = blocks[name]
        if any(instruction.startswith("CALL") for instruction in block.instructions):
            continue  # the rare cases of a division
        stored = min(
            outputs,
            stored
            + sum(
                re.search(rf"STG\.E\.{width}(\.SYS)? ", instruction) is not None for instruction in block.instructions
            ),
        )
        for target in block.targets:
            heapq.heappush(queue, (cost + len(block.instructions), target, stored, (*way, name)))
    raise ValueError("no way through the loop was found")


def counted(
    kind: str, definition: Definition, outputs: tuple[str, ...], capability: str, doubles_inside: bool
) -> dict[str, object]:
    """A row of results."""
    written = definition if doubles_inside else definition.in_words
    listing, report = assembled(
        compiled.ptx(kind, written, outputs, "float32", "shared"), f"sm_{capability.replace('.', '')}"
    )
    stored = 1 if kind == "reduction" else len(outputs)
    ops = [re.sub(r"^@!?U?P\w+\s+", "", line).split()[0] for line in loop_of_ordinary(blocks_of(listing), stored)]
    groups = Counter(op.split(".")[0] for op in ops)
    count, doubles, conversions, uniform = (
        n / AT_ONCE
        for n in (
            len(ops),
            sum(groups[op] for op in ("DFMA", "DMUL", "DADD", "DSETP")),
            groups["F2F"],
            sum(n for op, n in groups.items() if op.startswith("U")),
        )
    )
    size = 4 + 4 * stored
    row: dict[str, object] = {
        "capability": capability, "work": "sums" if kind == "reduction" else "each element",
        "definition": definition.name, "outputs": " ".join(outputs),
        "inside": "doubles" if doubles_inside else "two words",
        "instructions": f"{count:.0f}", "doubles": f"{doubles:.0f}", "conversions": f"{conversions:.1f}",
        "uniform": f"{uniform:.0f}", "registers": re.findall(r"Used (\d+) registers", report)[0],
        "spilled_bytes": re.findall(r"(\d+) bytes spill stores", report)[0], "bytes": size,
    }  # fmt: skip
    if capability == H100:
        cycles = max(count / ISSUED, doubles / DOUBLES, conversions / CONVERSIONS)
        arithmetic, memory = cycles / (MULTIPROCESSORS * CLOCK), size / BANDWIDTH
        row |= {"cycles": f"{cycles:.2f}", "expected_percent_of_copy": f"{100 * min(1.0, memory / arithmetic):.0f}"}
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, show, write."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu_code", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--capability", nargs="*", default=CAPABILITIES, help="of GPUs (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu_code.csv", metavar="FILE", help="where rows go")
    chosen = parser.parse_args(arguments)
    console, rows = Console(width=110), []
    try:
        same = environment() | {"ptxas": importlib.metadata.version("nvidia-cuda-nvcc")}
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit("ptxas is not installed: pip install nvidia-cuda-nvcc nvidia-cuda-nvdisasm") from None
    cases = [(capability, tuple(map(int, capability.split("."))) in launch.DOUBLES) for capability in chosen.capability]
    cases += [(capability, False) for capability, doubles in cases if doubles]
    for case in track(cases, description="counting", console=console):
        for work in WORKS:
            row = counted(*work, *case)
            console.print(" ".join(f"{key} {value}" for key, value in row.items()))
            rows.append({key: value for key, value in (row | same).items() if key in COLUMNS})
    write_csv(chosen.output, COLUMNS, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
