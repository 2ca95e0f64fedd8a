"""How long `unstuck diagnose` takes from process start to verdict, and how much memory, beside what else reads the log.

    python benchmarks/read_speed.py [--rounds 3] [--size 1000000] [--only tensorboard] [--write]

Each case makes its log in a temporary folder and is read by a new process, `rounds` times; the table gives medians of
the wall time and of the CPU time, and the most memory. A peer is run where it is installed, once, because it is slow.
`--write` puts the table into docs/speed.md. To add a log: one row in `CASES`.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parents[1]
TAGS = ("train/loss", "train/learning_rate", "train/grad_norm", "train/epoch", "train/tokens_per_second",
        "gradients/embedding", "gradients/layer_0", "gradients/layer_1", "gradients/layer_2",
        "gradients/head")  # fmt: skip
VALIDATE = 500  # updates from one validation to the next
START = 1_700_000_000.0  # seconds since 1970
SECONDS = 0.25  # per update
EVENT_ACCUMULATOR = """
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0}).Reload()
print(sum(len(events.Scalars(tag)) for tag in events.Tags()["scalars"]))
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A large log.

    Attributes:
        name: what the table calls it.
        make: (folder, number of values or lines) -> the log written there.
        peer: module that the peer needs, and a program that reads the log given as its argument; None: no peer.
        size: values or lines, where it has a size of its own.
        rounds: at most so many.
    """

    name: str
    make: Callable[[Path, int], Path]
    peer: tuple[str, str] | None = None
    size: int | None = None
    rounds: int | None = None


def tensorboard_events(folder: Path, size: int) -> Path:
    """An event file of a run that logs ten scalars each update and a validation now and then: its loss falls."""
    path = folder / "events.out.tfevents.1700000000.host.1.0"
    random = np.random.default_rng(0)
    updates = max(1, size // len(TAGS))
    steps = np.arange(updates)
    noise = random.normal(0, 0.02, (len(TAGS), updates))
    loss = 2.0 + 2.0 * np.exp(-steps / (updates / 5))
    values = np.empty((updates, len(TAGS)), np.float32)
    for place, tag in enumerate(TAGS):
        if tag.endswith("loss"):
            values[:, place] = loss + noise[place]
        elif tag.endswith("learning_rate"):
            values[:, place] = 3e-4 * np.minimum(1, (steps + 1) / (updates / 20)) * (1 - 0.9 * steps / updates)
        elif tag.endswith("epoch"):
            values[:, place] = 3 * steps / updates
        elif tag.endswith("second"):
            values[:, place] = 20_000 * (1 + noise[place])
        else:
            values[:, place] = 0.5 + np.abs(noise[place])
    with path.open("wb") as file:
        file.write(b"".join(records([struct.pack("<Bd", 9, START) + b"\x1a\x0dbrain.Event:2"])))
        block = 20_000
        for first in range(0, updates, block):
            file.write(scalar_events(steps[first : first + block], values[first : first + block]))
    return path


def scalar_events(steps: npt.NDArray[np.int64], values: npt.NDArray[np.float32]) -> bytes:
    """Records of `SummaryWriter.add_scalar` for each step (n,) and tag; values (n, tags)."""
    walls = START + SECONDS * steps
    events: list[bytes] = []
    for step, wall, row in zip(steps.tolist(), walls.tolist(), values, strict=True):
        head = struct.pack("<Bd", 9, wall) + (b"\x10" + varint(step) if step else b"")
        logged = list(zip(TAGS, row.astype("<f4"), strict=True))
        if step % VALIDATE == 0:
            logged.append(("val/loss", logged[0][1]))
        for tag, value in logged:
            named = b"\x0a" + varint(len(tag)) + tag.encode() + b"\x15" + value.tobytes()
            summary = b"\x0a" + varint(len(named)) + named
            events.append(head + b"\x2a" + varint(len(summary)) + summary)
    return b"".join(records(events))


def varint(number: int) -> bytes:
    """A number in the wire format of protocol buffers."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def records(contents: list[bytes]) -> list[bytes]:
    """Contents framed as TensorFlow's records, with their checksums."""
    lengths = [struct.pack("<Q", len(content)) for content in contents]
    return [
        length + struct.pack("<I", first) + content + struct.pack("<I", second)
        for length, first, content, second in zip(
            lengths, checksums(lengths), contents, checksums(contents), strict=True
        )
    ]


def checksums(contents: list[bytes]) -> list[int]:
    """Masked CRC-32C of many byte strings, one byte of all of them at a time."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1).astype(np.uint32)
    lengths = np.array([len(content) for content in contents])
    data = np.zeros((len(contents), int(lengths.max(initial=0))), np.uint8)
    for row, content in enumerate(contents):
        data[row, : len(content)] = np.frombuffer(content, np.uint8)
    crc = np.full(len(contents), 0xFFFFFFFF, np.uint32)
    for column in range(data.shape[1]):
        following = table[(crc ^ data[:, column]) & 255] ^ (crc >> 8)
        crc = np.where(column < lengths, following, crc).astype(np.uint32)
    crc ^= np.uint32(0xFFFFFFFF)
    return (((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)).tolist()


def nanogpt_lines(folder: Path, size: int) -> Path:
    """nanoGPT's standard output, an evaluation every 1,000 lines."""
    return _lines(
        folder,
        size,
        lambda i, loss: (
            f"iter {i}: loss {loss:.4f}, time {250 + i % 7:.2f}ms, mfu 41.20%\n"
            + (f"step {i + 1}: train loss {loss:.4f}, val loss {loss + 0.05:.4f}\n" if i % 1000 == 999 else "")
        ),
    )


def json_lines(folder: Path, size: int) -> Path:
    """One JSON object an update."""
    return _lines(
        folder,
        size,
        lambda i, loss: f'{{"step": {i}, "loss": {loss:.5f}, "lr": {3e-4 * (1 - i / size):.4e}, "grad_norm": 0.51}}\n',
    )


def free_text(folder: Path, size: int) -> Path:
    """Lines of no known program."""
    return _lines(
        folder,
        size,
        lambda i, loss: (
            f"2024-05-01 12:00:{i % 60:02d} INFO Epoch {i * 3 // size} | step {i}/{size} | "
            f"loss {loss:.4f} | lr {3e-4 * (1 - i / size):.3e} | {251 + i % 5}ms/step\n"
        ),
    )


def _lines(folder: Path, size: int, line: Callable[[int, float], str]) -> Path:
    path = folder / "train.log"
    noise = np.random.default_rng(0).normal(0, 0.02, 10_000)
    with path.open("w", encoding="utf-8") as file:
        for first in range(0, size, 10_000):
            steps = range(first, min(size, first + 10_000))
            file.write("".join(line(i, 2 + 2 * math.exp(-5 * i / size) + noise[i - first]) for i in steps))
    return path


CASES = (
    Case("an ordinary log: nanoGPT, 2,000 lines", nanogpt_lines, size=2_000),
    Case("tensorboard: scalars", tensorboard_events, ("tensorboard", EVENT_ACCUMULATOR)),
    Case("nanogpt: lines", nanogpt_lines),
    Case("json: lines", json_lines),
    Case("text: lines of a grammar of its own", free_text),
    Case("large: 2 GB of such text", free_text, size=20_500_000, rounds=1),
)


# With compiled modules on disk, as an installed package has them from its second start on.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


@dataclass(frozen=True, slots=True)
class Spent:
    """Of one process: seconds of wall time, seconds of CPU time, largest resident memory in MB."""

    wall: float
    cpu: float
    memory: float


def spent(command: list[str]) -> Spent:
    """What a process takes from start to end; exit status 0 to 3 are verdicts of `diagnose`."""
    with tempfile.TemporaryFile() as told:
        before = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told, env=ENVIRONMENT)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - before
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1, 3):
            told.seek(0)
            raise SystemExit(f"{' '.join(command[:4])} ... failed: {told.read().decode(errors='replace')[-500:]}")
    return Spent(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def measured(case: Case, size: int, rounds: int) -> str:
    """The row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = case.make(Path(folder), size)
        diagnose = [sys.executable, "-m", "unstuck.cli.main", "diagnose", str(path)]
        if rounds > 1:
            spent(diagnose)  # compiles the modules, and brings the file into memory
        runs = [spent(diagnose) for _ in range(rounds)]
        peer = "-"
        if case.peer is not None and importlib.util.find_spec(case.peer[0]):
            its = spent([sys.executable, "-c", case.peer[1], str(path)])
            peer = f"{its.wall:.1f} (CPU {its.cpu:.1f}), {its.memory:,.0f} MB"
        wall, cpu = (statistics.median(getattr(run, name) for run in runs) for name in ("wall", "cpu"))
        memory = max(run.memory for run in runs)
        return (
            f"| {case.name} | {size:,} ({path.stat().st_size / 1e6:,.1f} MB) | {wall:.2f} (CPU {cpu:.2f}) | "
            f"{memory:,.0f} MB | {peer} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1_000_000, help="values or lines of each log of no size of its own")
    parser.add_argument("--only", action="append", help="the first word of a case's name, as tensorboard")
    parser.add_argument("--write", action="store_true", help="write docs/speed.md")
    asked = parser.parse_args()
    rows = ["| log | size | unstuck diagnose, s | memory | peer, s and memory |", "|---|---|---|---|---|"]
    print("\n".join(rows))
    for case in CASES:
        if asked.only and not case.name.startswith(tuple(asked.only)):
            continue
        rows.append(measured(case, case.size or asked.size, min(asked.rounds, case.rounds or asked.rounds)))
        print(rows[-1], flush=True)
    if asked.write:
        text = "# Speed of `unstuck diagnose`\n\nFrom process start to verdict, written by "
        text += f"`python benchmarks/read_speed.py --write` on {os.cpu_count()} CPU cores. Wall time, CPU time and the "
        text += "largest resident memory of the process; the peer is TensorBoard's EventAccumulator.\n\n"
        (ROOT / "docs" / "speed.md").write_text(text + "\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
