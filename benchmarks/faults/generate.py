"""Makes the planned runs: worker processes with one thread each, each run once, finished runs kept.

OUT/<split>/logs/<id>/      the log and configuration as a user would have them; nothing in it names a fault
OUT/<split>/records/<id>.json   what was planned and what was measured; written last, so that it marks a finished run
OUT/<split>/failed/<id>.txt     the traceback of a run that could not be made; it is tried again next time
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.faults.catalogue import FAULTS
from benchmarks.faults.plan import Case, family_named, trainer_named


def generate(cases: Iterable[Case], out: Path, workers: int, tell: Callable[[str], None] = print) -> int:
    """Make every run that is not there yet; how many failed."""
    waiting = [case for case in cases if not record_of(out, case).is_file()]
    tell(f"{len(waiting)} runs to make with {workers} workers")
    began, done, failed = time.perf_counter(), 0, 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool:
        running = {pool.submit(make, case, out): case for case in waiting}
        for future in as_completed(running):
            case, problem = running[future], future.result()
            done, failed = done + 1, failed + bool(problem)
            spent = time.perf_counter() - began
            left = spent / done * (len(waiting) - done)
            what = "+".join(case.names) or "healthy"
            tell(f"{done}/{len(waiting)} {case.group} {what} {problem or 'done'}, {left / 60:.0f} min left")
    return failed


def make(case: Case, out: Path) -> str:
    """One run in this process; "" or what went wrong."""
    base = out / case.split
    partial, final = base / "partial" / case.id, base / "logs" / case.id
    for folder in (partial, final):
        shutil.rmtree(folder, ignore_errors=True)
    partial.mkdir(parents=True)
    began = time.thread_time()
    try:
        family = family_named(case.setup.family)
        problem = None if case.setup.trainer == "unstuck" else family.problem(case.setup)  # ours makes its own
        outcome = trainer_named(case.setup.trainer)(case.setup, problem, case.seed, partial)
    except Exception as error:  # noqa: BLE001 - one run that breaks must not end the others
        path = base / "failed" / f"{case.id}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{case.as_dict()}\n\n{traceback.format_exc()}", encoding="utf-8")
        return f"FAILED: {type(error).__name__}: {error}"
    final.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(final)
    record = {
        **case.as_dict(),
        "outcome": asdict(outcome),
        "primary": _primary(case, outcome.views),
        "seconds": round(time.thread_time() - began, 2),
    }
    path = record_of(out, case)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(record), encoding="utf-8")
    temporary.replace(path)
    return ""


def record_of(out: Path, case: Case) -> Path:
    return out / case.split / "records" / f"{case.id}.json"


def records(out: Path, split: str) -> list[dict[str, Any]]:
    """What was measured of every finished run, in the order of their ids."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((out / split / "records").glob("*.json"))]


def _primary(case: Case, views: dict[str, str]) -> str:
    """The form of the log that is scored: drawn, but for faults that only the printed log shows."""
    if "text" in views and any(FAULTS[name].text_only for name in case.names if name in FAULTS):
        return "text"
    return Random(case.id).choice(sorted(views))


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
