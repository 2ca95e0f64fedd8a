"""Fuzz every reader: no input may end in anything but runs or one sentence, within 5 s and 1 GiB, executing nothing.

    python -m benchmarks.fuzz [--inputs 200000] [--seed 1] [--workers 2] [--out FOLDER] [--replay FOLDER]

Hand-made hostile cases come first, then mutants of a short log of every format (benchmarks/fuzzing). The search is
guided by coverage: every 16th mutant is traced, and one that executes a line of `unstuck.runs` or `unstuck.config`
that none before it did is mutated further. Every input is a function of the seed, its number and the mutants kept
before its generation of 1,000, so the same seed gives the same inputs with any number of workers. With `--out` the
state is kept after each generation and the same command goes on from it. A failure is shrunk and saved below
`OUT/failures`, with what it raised; `--replay` runs a saved one again. Exit status: 0 nothing failed, 1 something did.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from hashlib import sha256
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from benchmarks.fuzzing import guard
from benchmarks.fuzzing.cases import Case, from_json
from benchmarks.fuzzing.hostile import hostile_cases
from benchmarks.fuzzing.mutate import make_case
from benchmarks.fuzzing.run import Line, Outcome, run_case
from benchmarks.fuzzing.seeds import log_seeds
from benchmarks.fuzzing.shrink import shrunk
from unstuck.runs.readers import all_readers

GENERATION = 1000  # ours: inputs between two looks at what was new; a state is saved as often
CHUNK = 100  # ours: inputs that a worker runs at a time
SILENCE = 360.0  # seconds; ours: three times the longest wait that one input may take
MEMORY_GB = 8  # ours: address space of a worker; numpy and the threads of its libraries reserve some of it
TRACED = 16  # ours: a traced input takes six times as long, and of inputs 33,000 to 36,000 one reached a new line
KEPT_BYTES = 8 << 10  # ours: a larger mutant is not mutated further, that would be slow


@dataclass(slots=True)
class State:
    """What is known after a generation."""

    seed: int
    done: int = 0
    seconds: float = 0.0
    ended: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)
    lines: set[Line] = field(default_factory=set)
    found: list[Case] = field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0

    def save(self, path: Path) -> None:
        stored = {each.name: getattr(self, each.name) for each in fields(self)}
        stored |= {"lines": sorted(self.lines), "found": [case.as_json() for case in self.found]}
        part = path.with_suffix(".part")
        part.write_text(json.dumps(stored), encoding="utf-8")
        part.replace(path)


def load(path: Path) -> State:
    """The state that `save` stored."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    counts = {name: Counter(stored[name]) for name in ("ended", "failures", "warned")}
    lines = {(file, line) for file, line in stored["lines"]}
    return State(**{**stored, **counts, "lines": lines, "found": [from_json(case) for case in stored["found"]]})


@dataclass(slots=True)
class Told:
    """What a worker says of one input: `case` is sent where it failed or reached new lines."""

    number: int
    outcome: Outcome
    case: Case | None


def input_case(seed: int, number: int, found: list[Case]) -> Case:
    """Input `number`: the hostile cases first, then mutants."""
    hostile = list(hostile_cases().values())
    if number < len(hostile):
        return hostile[number]()
    return make_case(random.Random(f"{seed}/{number}"), found)


def run_numbers(seed: int, numbers: Iterable[int], state: State, scratch: Path) -> Iterator[Told]:
    """Run inputs one after the other; what they reached is compared with `state` and with each other."""
    lines = set(state.lines)
    hostile = len(hostile_cases())
    for number in numbers:
        case = input_case(seed, number, state.found)
        traced = number >= hostile and number % TRACED == 0
        outcome = run_case(case, scratch, known=lines if traced else None)
        if outcome.failure is not None and traced:  # tracing costs time and memory of its own
            outcome = run_case(case, scratch)
        lines |= outcome.lines
        keep = outcome.failure is not None or (outcome.lines and case.size <= KEPT_BYTES)
        yield Told(number, outcome, case if keep else None)


def _work(seed: int, numbers: list[int], state: State, scratch: Path, out: Connection) -> None:
    guard.limit_address_space(MEMORY_GB)
    for told in run_numbers(seed, numbers, state, scratch):
        out.send(told)
    out.close()


def generation(seed: int, numbers: list[int], state: State, workers: int, scratch: Path) -> Iterator[Told]:
    """Run the inputs of one generation in processes of their own; a process that dies or hangs is an outcome too."""
    context = multiprocessing.get_context("fork")
    waiting = [numbers[at : at + CHUNK] for at in range(0, len(numbers), CHUNK)][::-1]
    running: dict[Connection, tuple[Any, list[int], Path]] = {}
    heard: dict[Connection, float] = {}
    free = [scratch / f"worker{k}" for k in range(workers)]
    try:
        while waiting or running:
            while waiting and free:
                chunk, place = waiting.pop(), free.pop()
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir(parents=True)
                receive, send = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(seed, chunk, state, place, send))
                process.start()
                send.close()
                running[receive] = process, chunk, place
                heard[receive] = time.monotonic()
            for ready in wait(list(running), timeout=5.0):
                assert isinstance(ready, Connection)
                process, chunk, place = running[ready]
                try:
                    told: Told = ready.recv()
                except EOFError:
                    told = None  # type: ignore[assignment]
                if told is not None:
                    chunk.remove(told.number)
                    heard[ready] = time.monotonic()
                    yield told
                    continue
                process.join()
                del running[ready]
                free.append(place)
                if chunk:
                    yield _died(seed, chunk, state, f"the process ended with status {process.exitcode}")
                    waiting.append(chunk)
            for silent in [r for r in running if time.monotonic() - heard[r] > SILENCE]:
                running[silent][0].kill()  # its pipe closes, and the lines above tell of it
    finally:
        for process, _, _ in running.values():
            process.kill()


def _died(seed: int, chunk: list[int], state: State, how: str) -> Told:
    """The input that a dead process was at; the rest of its chunk goes on without it."""
    number = chunk.pop(0)
    return Told(number, Outcome("failed", how, how), input_case(seed, number, state.found))


def fuzz(seed: int, inputs: int, workers: int, out: Path | None, scratch: Path, *, quiet: bool = False) -> State:
    """Run whole generations until `inputs` are done, from the state below `out` when there is one."""
    stored = out / "state.json" if out is not None else None
    state = load(stored) if stored is not None and stored.is_file() else State(seed)
    if state.seed != seed:
        raise SystemExit(f"{out} holds the state of seed {state.seed}; give --seed {state.seed} or another --out.")
    (scratch / "first").mkdir()
    run_case(input_case(seed, len(hostile_cases()), []), scratch / "first")  # imports what the workers inherit
    while state.done < inputs:
        started = time.monotonic()
        numbers = list(range(state.done, state.done + GENERATION))
        all_told = sorted(generation(seed, numbers, state, workers, scratch), key=lambda told: told.number)
        for told in all_told:
            _take(state, told, out, scratch)
        state.done = numbers[-1] + 1
        state.seconds += time.monotonic() - started
        if stored is not None:
            state.save(stored)
        if not quiet:
            print(
                f"{state.done} inputs, {state.done / state.seconds:.0f}/s, {len(state.lines)} lines reached, "
                f"{len(state.found)} mutants kept, {len(state.failures)} failures "
                f"({state.failures.total()} inputs), {_left(state, inputs)} left",
                flush=True,
            )
    return state


def _left(state: State, inputs: int) -> str:
    return f"{max(0, inputs - state.done) * state.seconds / state.done / 60:.0f} min"


def _take(state: State, told: Told, out: Path | None, scratch: Path) -> None:
    """Count one outcome; the order of the numbers decides which of two mutants with the same new lines is kept."""
    outcome = told.outcome
    state.ended[outcome.ended] += 1
    state.warned.update(outcome.warned)
    state.slowest = max(state.slowest, outcome.seconds)
    state.largest = max(state.largest, outcome.memory)
    if outcome.failure is not None:
        state.failures[outcome.failure] += 1
        if state.failures[outcome.failure] == 1 and out is not None and told.case is not None:
            save_failure(told.case, outcome, out, scratch)
    elif new := outcome.lines - state.lines:
        state.lines |= new
        if told.case is not None:
            state.found.append(told.case)


def save_failure(case: Case, outcome: Outcome, out: Path, scratch: Path) -> Path:
    """Write the case, shrunk where it fails again in this process, with what it raised; hostile ones as they are."""
    assert outcome.failure is not None
    folder = out / "failures" / sha256(outcome.failure.encode()).hexdigest()[:12]
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "files").mkdir(parents=True)
    place = scratch / "shrink"
    place.mkdir(parents=True, exist_ok=True)
    small = case if case.origin in hostile_cases() else shrunk(case, outcome.failure, place)
    small.write(folder / "files")
    (folder / "case.json").write_text(json.dumps(small.as_json()), encoding="utf-8")
    told = f"{outcome.failure}\nfrom {case.origin!r}, {case.size} bytes, shrunk to {small.size}\n\n{outcome.detail}\n"
    (folder / "report.txt").write_text(told, encoding="utf-8", errors="backslashreplace")
    return folder


def report(state: State, workers: int) -> str:
    """What was run and how it ended, by reader."""
    rows = [f"| {ended} | {count} |" for ended, count in state.ended.most_common()]
    told = [f"| {failure} | {count} |" for failure, count in state.failures.most_common()]
    warned = [f"| {warning} | {count} |" for warning, count in state.warned.most_common()]
    return "\n".join(
        [
            f"{state.done} inputs of seed {state.seed} from {len(log_seeds())} seeds through {len(all_readers())} "
            f"readers in {state.seconds:.0f} s with {workers} workers ({state.done / max(state.seconds, 1e-9):.0f}/s); "
            f"{len(state.lines)} lines reached, slowest {state.slowest:.1f} s of CPU, most memory "
            f"{state.largest >> 20} MiB.",
            "", "| ended | inputs |", "|---|---|", *rows,
            "", "| failure | inputs |", "|---|---|", *(told or ["| none | 0 |"]),
            "", "| warning on the terminal | inputs |", "|---|---|", *(warned or ["| none | 0 |"]),
        ]
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="keep the state and the failures here, and go on from them")
    parser.add_argument("--replay", type=Path, help="run a saved failure again and print what it raises")
    given = parser.parse_args(arguments)
    fast = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # files in memory where there is such a place
    with tempfile.TemporaryDirectory(prefix="unstuck-fuzz-", dir=fast) as name:
        scratch = Path(name)
        if given.replay is not None:
            place = scratch / "replay"
            place.mkdir()
            outcome = run_case(from_json(json.loads((given.replay / "case.json").read_text())), place)
            print(f"{outcome.ended}: {outcome.failure or 'no failure'}\n{outcome.detail}")
            return int(outcome.failure is not None)
        if given.out is not None:
            given.out.mkdir(parents=True, exist_ok=True)
        state = fuzz(given.seed, given.inputs, given.workers, given.out, scratch)
    print("\n" + report(state, given.workers))
    return int(bool(state.failures))


if __name__ == "__main__":
    sys.exit(main())
