"""How long `unstuck diagnose` takes from process start to verdict on large logs, beside what else reads them.

    python benchmarks/read_speed.py [--rounds 3] [--size 1000000] [--only tensorboard]

Each case makes its log in a temporary folder and is read by a new process, `rounds` times; the table gives the median.
A peer is run where it is installed, once, because it is slow. To add a log: one row in `CASES`.
"""

from __future__ import annotations

import argparse
import importlib.util
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
    """

    name: str
    make: Callable[[Path, int], Path]
    peer: tuple[str, str] | None = None


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


CASES = (Case("tensorboard", tensorboard_events, ("tensorboard", EVENT_ACCUMULATOR)),)


def seconds(command: list[str]) -> float:
    """How long a process takes from start to end; exit status 0 to 3 are verdicts of `diagnose`."""
    before = time.perf_counter()
    status = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    spent = time.perf_counter() - before
    if status.returncode not in (0, 1, 3):
        raise SystemExit(f"{' '.join(command[:4])} ... failed: {status.stderr.decode(errors='replace')[-500:]}")
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1_000_000, help="values or lines of each log")
    parser.add_argument("--only", action="append", choices=[case.name for case in CASES])
    asked = parser.parse_args()
    print("| log | size | unstuck diagnose, s | peer, s |\n|---|---|---|---|")
    for case in CASES:
        if asked.only and case.name not in asked.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = case.make(Path(folder), asked.size)
            diagnose = [sys.executable, "-m", "unstuck.cli.main", "diagnose", str(path)]
            ours = statistics.median(seconds(diagnose) for _ in range(asked.rounds))
            peer = "-"
            if case.peer is not None and importlib.util.find_spec(case.peer[0]):
                peer = f"{seconds([sys.executable, '-c', case.peer[1], str(path)]):.1f}"
            megabytes = path.stat().st_size / 1e6
            print(f"| {case.name} | {asked.size:,} ({megabytes:.0f} MB) | {ours:.2f} | {peer} |", flush=True)


if __name__ == "__main__":
    main()
