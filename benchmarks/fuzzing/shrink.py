"""Make a failing case small: fewer files, fewer lines, fewer bytes, while it fails in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from benchmarks.fuzzing.cases import Case
from benchmarks.fuzzing.run import run_case

SECONDS = 30.0  # ours: a failure that hangs takes 5 s a try
Piece = TypeVar("Piece")


def shrunk(case: Case, failure: str, folder: Path) -> Case:
    """The smallest case found in the time; the case itself where it does not fail again in this process."""
    deadline = time.monotonic() + SECONDS

    def fails(candidate: Case) -> bool:
        return time.monotonic() < deadline and run_case(candidate, folder).failure == failure

    if "process" in failure or not fails(case):
        return case
    for extra in case.entries[1:]:
        smaller = replace(case, entries=tuple(e for e in case.entries if e is not extra))
        if fails(smaller):
            case = smaller
    for at in range(len(case.entries)):
        case = _shrink_entry(case, at, fails)
    return case


def _shrink_entry(case: Case, at: int, fails: Callable[[Case], bool]) -> Case:
    entry = case.entries[at]
    if entry.kind != "file":
        return case

    def with_data(data: bytes) -> Case:
        return replace(case, entries=(*case.entries[:at], replace(entry, data=data), *case.entries[at + 1 :]))

    rows = _fewer(entry.data.splitlines(keepends=True), lambda kept: fails(with_data(b"".join(kept))))
    data = b"".join(rows)
    pieces = [data[k : k + 1] for k in range(len(data))] if len(data) <= 4096 else [data]
    return with_data(b"".join(_fewer(pieces, lambda kept: fails(with_data(b"".join(kept))))))


def _fewer(pieces: Sequence[Piece], fails: Callable[[Sequence[Piece]], bool]) -> Sequence[Piece]:
    """Delta debugging by halves: leave out ever smaller stretches as long as it still fails (Zeller 2002)."""
    size = len(pieces) // 2
    while size:
        at = 0
        while at < len(pieces):
            without = [*pieces[:at], *pieces[at + size :]]
            if without and fails(without):
                pieces = without
            else:
                at += size
        size //= 2
    return pieces
