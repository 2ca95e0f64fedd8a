"""Run one case through `read_runs`, `diagnose` and the JSON document, and say how it ended."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import sys
import time
import traceback
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import unstuck
from benchmarks.fuzzing import guard
from benchmarks.fuzzing.cases import Case, clear
from unstuck import remedies
from unstuck.diagnose.document import document
from unstuck.diagnose.engine import all_rules, diagnose
from unstuck.errors import UserError
from unstuck.runs import Run
from unstuck.runs.readers import all_readers, read_runs

SOURCE = str(Path(unstuck.__file__).parent) + os.sep
TRACED = (SOURCE + "runs" + os.sep, SOURCE + "config" + os.sep)
CPU_SECONDS = 5.0  # issue 4: no hang over 5 s
SECONDS_PER_BYTE = 10.0 / 35e6  # PERFORMANCE.md: a text log of 1M lines (35 bytes each) takes 10 s at most
WALL_SECONDS = 120.0  # ours: a file that blocks sleeps for ever; a busy machine lends a fifth of a core
PATIENT = 10.0  # ours: `patience` of the tests, which look for hangs; CI took 5.9 s for what took 3 s here
MAX_TEXT = 64 << 20  # ours: a small archive of more text than this is a bomb and gets no more time
MAX_DIAGNOSED = 10  # ours: runs are diagnosed one by one; more of them show nothing new and take longer
MAX_MEMORY = 1 << 30  # issue 4: memory stays under 1 GB
MAX_SENTENCE = 2000  # ours: a sentence with a path in it; a longer one has quoted the file
QUIET_EVENTS = 300  # ours: a function whose last 300 lines were all known is in a loop; left alone, for speed

Line = tuple[str, int]


@dataclass(slots=True)
class Outcome:
    """How a case ended. `failure` is None when all was well, else one line that names the kind and the place.

    Attributes:
        ended: format of the first run; "refused by FORMAT" or "refused"; "failed".
        detail: the traceback or sentence of a failure.
        lines: lines of the readers that were executed and not known before, when traced.
        warned: warnings that a user would see on the terminal, as category and place.
    """

    ended: str
    failure: str | None = None
    detail: str = ""
    seconds: float = 0.0
    memory: int = 0
    lines: set[Line] = field(default_factory=set)
    warned: set[str] = field(default_factory=set)


@cache
def import_all() -> None:
    """Import every reader, rule and remedy, whose imports are no work of an input."""
    all_readers()
    all_rules()
    for module in pkgutil.iter_modules(remedies.__path__, f"{remedies.__name__}."):
        importlib.import_module(module.name)


def run_case(case: Case, folder: Path, *, known: set[Line] | None = None, patience: float = 1.0) -> Outcome:
    """Write the case into `folder` (emptied before) and run it under the guard and the limits.

    Args:
        patience: factor of the time limits. Speed is the benchmark's affair; tests run on any machine under any load.
        known: collect the executed lines of `unstuck.runs` and `unstuck.config` that are not among these.
    """
    import_all()
    clear(folder)
    target = case.write(folder)
    lines: set[Line] = set()
    before = guard.reset_peak_memory()
    started = time.process_time()
    outcome = Outcome("failed")
    try:
        with (
            warnings.catch_warnings(record=True) as warned,
            guard.time_limit(patience * (CPU_SECONDS + SECONDS_PER_BYTE * _text_bytes(case)), patience * WALL_SECONDS),
            guard.watching(folder) as violations,
        ):
            warnings.simplefilter("always")
            if known is not None:
                sys.settrace(_tracer(known, lines))
            try:
                outcome = _diagnosed(target, case)
            finally:
                sys.settrace(None)
    except guard.TimeUp as error:
        outcome.failure, outcome.detail = f"too long ({error}) at {_place(error)}", _told(error)
    except guard.Violation as error:
        outcome.failure, outcome.detail = f"{error} at {_place(error)}".replace(str(folder), "CASE"), _told(error)
    except (Exception, KeyboardInterrupt) as error:  # whatever it is, it is what we look for
        if isinstance(error, KeyboardInterrupt):
            raise
        outcome.failure, outcome.detail = f"{type(error).__name__} at {_place(error)}", _told(error)
    outcome.seconds = time.process_time() - started
    outcome.memory = max(0, guard.peak_memory() - before)
    outcome.lines = lines
    outcome.warned = {f"{w.category.__name__} at {w.filename.removeprefix(SOURCE)}:{w.lineno}" for w in warned}
    if outcome.failure is None and violations:
        outcome.failure, outcome.detail = f"{violations[0]} and caught".replace(str(folder), "CASE"), violations[0]
    if outcome.failure is None and outcome.memory > MAX_MEMORY:
        outcome.failure = f"more than {MAX_MEMORY >> 20} MiB"
        outcome.detail = f"{outcome.memory >> 20} MiB for {case.size} bytes"
    return outcome


def _text_bytes(case: Case) -> int:
    """How much text the files hold, archives unpacked."""
    total = case.size
    for entry in case.entries:
        if entry.data.startswith(b"\x1f\x8b"):
            with contextlib.suppress(zlib.error):
                total += len(zlib.decompressobj(wbits=31).decompress(entry.data, MAX_TEXT))
    return min(total, MAX_TEXT)


def _diagnosed(target: Path, case: Case) -> Outcome:
    try:
        runs = read_runs(target)
    except UserError as error:
        sentence = str(error)
        reader = _reader(error)
        ended = f"refused by {reader}" if reader else "refused"
        plain = sentence.replace(str(target), "").replace(case.log.name, "")
        if not sentence.strip() or "\n" in plain or len(sentence) > MAX_SENTENCE:
            return Outcome(ended, f"no sentence: {ended}", repr(sentence[:MAX_SENTENCE]))
        return Outcome(ended)
    if not runs:
        return Outcome("failed", "no runs and no sentence")
    diagnoses = [diagnose(run) for run in runs[:MAX_DIAGNOSED]]
    json.dumps(document(diagnoses), allow_nan=False)
    wrong = next((what for run in runs if (what := _malformed(run))), None)
    broken = Counter(
        f"{rule}: {missing[0].partition('(')[2]}"
        for diagnosis in diagnoses
        for rule, missing in diagnosis.could_not_check.items()
        if missing and missing[0].startswith("nothing: the rule itself failed")
    )
    failure = wrong or (f"the rule itself failed: {min(broken)}" if broken else None)
    return Outcome(runs[0].format, failure, "; ".join(broken))


def _malformed(run: Run) -> str | None:
    """What a `Run` promises and this one does not keep."""
    for series in run.series.values():
        if not len(series):
            return f"an empty series in {run.format}"
        if (series.updates[1:] < series.updates[:-1]).any():
            return f"updates that decrease in {run.format}"
        if str(series.updates.dtype) != "int64" or str(series.values.dtype) != "float64":
            return f"a series of another type in {run.format}"
        if (series.lines < 0).any():
            return f"a line below 0 in {run.format}"
    if not 0 <= run.format_confidence <= 1:
        return f"a confidence outside 0 to 1 in {run.format}"
    return None


def _frames(error: BaseException) -> list[Line]:
    """File and line of every frame of the package, outermost first; no source is opened for it."""
    walked = ((frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__))
    return [(file, line) for file, line in walked if file.startswith(SOURCE)]


def _place(error: BaseException) -> str:
    """The innermost line of the package."""
    frames = _frames(error)
    return f"{frames[-1][0].removeprefix(SOURCE)}:{frames[-1][1]}" if frames else "nowhere in unstuck"


def _reader(error: BaseException) -> str | None:
    inside = [Path(file) for file, _ in _frames(error)]
    names = [path.stem for path in inside if path.parent.name == "readers" and path.stem != "__init__"]
    return names[0] if names else None


def _told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-6000:]


@cache
def _lines_of(code: CodeType) -> frozenset[Line]:
    return frozenset((code.co_filename, line) for _, _, line in code.co_lines() if line is not None)


def _tracer(known: set[Line], lines: set[Line]) -> Any:
    """A trace function that collects new lines into `lines`, and leaves code alone that has no unknown line."""
    finished: set[CodeType] = set()
    quiet: Counter[CodeType] = Counter()

    def each_line(frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        line = code.co_filename, frame.f_lineno
        if event == "line" and line not in known and line not in lines:
            lines.add(line)
            quiet[code] = 0
        else:
            quiet[code] += 1
            if quiet[code] > QUIET_EVENTS:
                finished.add(code)
                frame.f_trace_lines = False
        return each_line

    def each_call(frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        if code in finished:
            return None
        if not code.co_filename.startswith(TRACED):
            finished.add(code)
            return None
        if code not in quiet:
            if _lines_of(code) <= known:
                finished.add(code)
                return None
            quiet[code] = 0
        return each_line

    return each_call
