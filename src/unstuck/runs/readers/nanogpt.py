"""What nanoGPT's `train.py` prints, and relatives that print its evaluation line.

`step 250: train loss 1.9673, val loss 2.0726` is an evaluation over `eval_iters` batches: its train loss is a series
of its own, `train/loss_eval`. `iter 250: loss 2.0089, time 34.53ms, mfu 9.49%` is the loss of one update's first
micro-batch times the accumulation, which is nats per token. The learning rate is not printed. A header (the printed
configuration, `Overriding: k = v`) opens a run or a resume; under torchrun every process prints it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from unstuck.errors import UserError
from unstuck.runs.beside import Beside, settle
from unstuck.runs.build import MAX_RUNS, NO_MATCH, Match, Points, add_inferred, changed_settings, too_many_runs
from unstuck.runs.literal import literal_value
from unstuck.runs.logfile import LogFile, number
from unstuck.runs.run import Event, Run, Setting, Source
from unstuck.wording import plural

FORMAT = "nanogpt-text"

# One pass over the text: an iteration line, an evaluation line, or a line of the header.
_NUMBER = r"[-+]?(?:\d[\d.,]*(?:[eE][-+]?\d+)?|nan|inf)"
_LINE = re.compile(
    rf"^(?:iter (?P<iter>\d{{1,12}}): loss (?P<loss>{_NUMBER})(?P<iter_rest>[^\n]*)"
    rf"|step (?P<step>\d{{1,12}})(?:/(?P<planned>\d{{1,12}}))?(?: \([\d.]+%\))?: "
    rf"train loss (?P<train>{_NUMBER}), val loss (?P<val>{_NUMBER})(?P<step_rest>[^\n]*)"
    r"|Overriding: (?P<over_key>\w+) = (?P<over_value>[^\n]*)"
    r"|(?P<key>[A-Za-z_]\w*) ?= ?(?P<value>[^=\n][^\n]*)"
    r"|(?:[^\w\s] )?(?P<told>Overriding config with|tokens per iteration will be|found vocab_size"
    r"|defaulting to vocab_size|forcing vocab_size|Initializing|Resuming training from|number of parameters"
    r"|num (?:non-)?decayed parameter|Loading (?=\S+ from HuggingFace)|Loading optimizer state from checkpoint"
    r"|Vocabulary size:|saving checkpoint|Traceback"
    r"|[\w.]*(?:Error|Exception):|[\w.]*KeyboardInterrupt)(?P<told_rest>[^\n]*))",
    re.M | re.I,
)
_PAIR = re.compile(rf"([A-Za-z][\w/]*(?: norm)?)[ :=]+({_NUMBER})(ms|s|%)?", re.I)
# What nearly every line of a long log looks like: a stretch of four or more is read at once, as numbers between blanks.
_USUAL_LINES = re.compile(
    r"(?:iter \d{1,12}: loss \d{1,9}\.\d{1,9}, time \d{1,9}\.\d\dms, mfu -?\d{1,9}\.\d\d%\r?\n){4,}+"
)
_BLANKED = str.maketrans(dict.fromkeys("iter: loss, time ms, mfu %\r\n", " "))
_USUAL_REST = re.compile(r", time ([\d.]+)ms, mfu (-?[\d.]+)%\r?")
_TIMED = re.compile(r"\btime [\d.]+m?s")  # in every iteration line of nanoGPT; "iter 10: loss 2.3" is anybody's
_INT = re.compile(r"\d[\d,]*")
# Extra fields that forks add to the iteration line -> canonical series (name, unit, scale of a value without unit).
EXTRA = {
    "lr": ("lr/all", None), "learning_rate": ("lr/all", None), "norm": ("grad_norm/preclip", None),
    "grad_norm": ("grad_norm/preclip", None), "grad norm": ("grad_norm/preclip", None),
    "gnorm": ("grad_norm/preclip", None), "tok/s": ("throughput/tokens_per_second", "tokens/s"),
}  # fmt: skip
# The defaults of nanoGPT's train.py (github.com/karpathy/nanoGPT, train.py lines 30-75), for keys that its
# configuration files leave out. Forks may change them: they are used only under nanoGPT's own header.
DEFAULTS: dict[str, object] = {
    "learning_rate": 6e-4, "max_iters": 600000, "weight_decay": 1e-1, "beta1": 0.9, "beta2": 0.95, "grad_clip": 1.0,
    "decay_lr": True, "warmup_iters": 2000, "lr_decay_iters": 600000, "min_lr": 6e-5, "eval_interval": 2000,
    "eval_iters": 200, "batch_size": 12, "block_size": 1024, "gradient_accumulation_steps": 40, "dropout": 0.0,
}  # fmt: skip
MAX_REST = 2000  # characters of a line that are looked through for further fields
GPT2_VOCABULARY = 50257  # nanoGPT model.py, from_pretrained: "forcing vocab_size=50257"


@dataclass(slots=True)
class Part:
    """A header and the lines that follow it."""

    line: int = 1
    raw: dict[str, Setting] = field(default_factory=dict)
    known: dict[str, Setting] = field(default_factory=dict)
    points: Points = field(default_factory=lambda: Points(""))
    first: int = -1  # iteration; -1: none yet
    last: int = -1
    events: list[Event] = field(default_factory=list)
    resumed: bool = False
    own_header: bool = False
    decayed: dict[str, int] = field(default_factory=dict)


def match(log: LogFile) -> Match:
    """By the number of iteration and evaluation lines; the header alone is not a run."""
    iterations = evaluations = relatives = strangers = 0
    for found in _LINE.finditer(log.head):
        strangers += found["iter"] is not None and not _TIMED.search(found["iter_rest"])
        iterations += found["iter"] is not None
        evaluations += found["step"] is not None
        relatives += found["planned"] is not None
    if iterations and evaluations:
        return Match(0.97, f"{iterations} iteration and {evaluations} evaluation lines of nanoGPT")
    if relatives:
        return Match(0.8, f"{plural(evaluations, 'evaluation line')} like nanoGPT's")
    if strangers == iterations >= 2 and "tokens per iteration will be" not in log.head:
        return Match(0.5, f"{plural(iterations, 'line')} that begin as nanoGPT's do")
    if iterations >= 2 or evaluations >= 1:
        return Match(0.85, f"{plural(iterations + evaluations, 'line')} as nanoGPT prints them")
    if "tokens per iteration will be" in log.head and "number of parameters" in log.head:
        return Match(0.6, "nanoGPT's header")
    return NO_MATCH


def read(log: LogFile, beside: Beside) -> list[Run]:
    """The runs in the file.

    Raises:
        UserError: there is a header and nothing after it.
    """
    parts = list(_parts(log))
    groups: list[list[Part]] = []
    for part in parts:
        if groups and _goes_on(groups[-1], part):
            groups[-1].append(part)
        else:
            groups.append([part])
    groups = [group for group in groups if any(part.first >= 0 for part in group)]
    if not groups:
        raise UserError(f"{log.path} has nanoGPT's header and no iteration yet; diagnose it again when it has run.")
    more = len(groups) > MAX_RUNS
    del groups[MAX_RUNS:]
    runs = [
        _run(log, group, beside, f" (run {k} of {len(groups)})" if len(groups) > 1 else "")
        for k, group in enumerate(groups, start=1)
    ]
    if more:
        runs[0].notes.append(too_many_runs(log.name))
    return runs


def _goes_on(group: list[Part], part: Part) -> bool:
    """A part goes on with the run before it when it says it resumes, or starts beyond the run's first iteration."""
    first = next((p.first for p in group if p.first >= 0), None)
    if first is None:
        return False
    return part.first >= 0 and (part.resumed or part.first > first)


def _parts(log: LogFile) -> Iterator[Part]:
    part = Part()
    for first_line, text in log.pieces():
        line, at = first_line - 1, 0
        while at < len(text):
            if (usual := _USUAL_LINES.match(text, at)) is not None:
                rows = np.array([*map(float, usual[0].translate(_BLANKED).split())]).reshape(-1, 4)
                falls = np.flatnonzero(np.diff(rows[:, 0]) < 0) + 1
                for first, behind in pairwise([0, *falls.tolist(), len(rows)]):
                    update = int(rows[first, 0])
                    if _begins_anew(part, update):
                        yield part
                        part = Part(line + 1 + first)
                    _rising(part, rows[first:behind], line + 1 + first)
                line, at = line + len(rows), usual.end()
                continue
            end = text.find("\n", at)
            row, at = (text[at:], len(text)) if end < 0 else (text[at:end], end + 1)
            line += 1
            found = _LINE.match(row)
            if found is None:
                continue
            kind = found.lastgroup
            if kind in ("iter_rest", "step_rest"):
                update = int(found["iter"] if kind == "iter_rest" else found["step"])
                if _begins_anew(part, update):
                    yield part
                    part = Part(line)
                if part.first < 0:
                    part.first = update
                part.last = update
                (_iteration if kind == "iter_rest" else _evaluation)(part, found, update, line)
                if kind == "step_rest" and found["planned"]:
                    part.known.setdefault("updates", Setting(int(found["planned"]), "steps", Source(log.name, line)))
                continue
            told = (found["told"] or "").lower()
            if told and part.first >= 0 and not (told.startswith(_MESSAGES) or told.endswith(_FAILURES)):
                yield part
                part = Part(line)
            _header(part, found, Source(log.name, line))
    yield part


def _begins_anew(part: Part, update: int) -> bool:
    return update < part.last and (update == 0 or update < part.first)


def _rising(part: Part, rows: npt.NDArray[np.float64], line: int) -> None:
    """Add iterations whose updates do not fall: update, loss, ms and MFU in percent, shape (n, 4), from `line` on."""
    updates = rows[:, 0].astype(np.int64)
    lines = np.arange(line, line + len(rows))
    if part.first < 0:
        part.first = int(updates[0])
    part.last = int(updates[-1])
    measured = rows[:, 3] >= 0  # -100 % stands for "not measured yet" (train.py: running_mfu = -1.0)
    part.points.add_many("train/loss", updates, rows[:, 1], lines)
    part.points.add_many("time/step_ms", updates, rows[:, 2], lines)
    if measured.any():
        part.points.add_many("throughput/mfu_percent", updates[measured], rows[measured, 3], lines[measured])


# What may stand between two iterations; any other line of the header opens a new part.
_MESSAGES = ("saving", "traceback")
_FAILURES = ("error:", "exception:", "interrupt")


def _iteration(part: Part, found: re.Match[str], update: int, line: int) -> None:
    add = part.points.add
    add("train/loss", update, _value(found["loss"]), line)
    rest = found["iter_rest"]
    usual = _USUAL_REST.fullmatch(rest)
    for key, written, unit in (
        (("time", usual[1], "ms"), ("mfu", usual[2], "%")) if usual else _PAIR.findall(rest[:MAX_REST])
    ):
        key = key.lower()
        if key == "time":
            add("time/step_ms", update, _value(written) * (1000.0 if unit == "s" else 1.0), line)
        elif key == "mfu":
            share = _value(written)
            if share >= 0:  # as in `_rising`
                add("throughput/mfu_percent", update, share, line)
        else:
            add(EXTRA[key][0] if key in EXTRA else key, update, _value(written), line)


def _evaluation(part: Part, found: re.Match[str], update: int, line: int) -> None:
    part.points.add("train/loss_eval", update, _value(found["train"]), line)
    part.points.add("val/loss", update, _value(found["val"]), line)
    for key, written, _ in _PAIR.findall(found["step_rest"][:MAX_REST]):
        if key.lower() in ("lr", "learning_rate"):
            part.points.add("lr/all", update, _value(written), line)


def _value(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    value = number(text.rstrip(".,").replace(",", ""))
    return float("nan") if value is None else value


def _header(part: Part, found: re.Match[str], source: Source) -> None:
    """One line of the header, or a message between the iterations."""
    if (key := found["over_key"] or found["key"]) is not None:
        if part.first >= 0:
            return  # an assignment after the first iteration is sample text, not configuration
        written = (found["over_value"] or found["value"] or "").strip()
        value = _literal(written)
        if value is not _UNREADABLE:
            part.raw[key] = Setting(value, key, source)
        part.own_header |= found["over_key"] is not None
        return
    told, rest = found["told"].lower(), found["told_rest"] or ""
    first = _INT.search(rest)
    count = int(first[0].replace(",", "")) if first and len(first[0]) < 16 else None
    if told.startswith("overriding config"):
        part.own_header = True
    elif told.startswith("tokens per iteration") and count:
        part.own_header = True
        part.known["tokens_per_update"] = Setting(count, "tokens per iteration", source)
    elif "vocab_size" in told and count:
        if told.startswith("defaulting"):  # "defaulting to vocab_size of GPT-2 to 50304": the 2 is not the size
            sizes = [int(n.replace(",", "")) for n in _INT.findall(rest)]
            count = max(sizes)
        part.known["vocabulary"] = Setting(count, "vocab_size", source)
    elif told == "initializing":
        if "gpt-2" in rest.lower() or "gpt2" in rest.lower() or "pretrained" in rest.lower():
            part.known["start"] = Setting("pretrained", "init_from", source)
            part.known.setdefault("vocabulary", Setting(GPT2_VOCABULARY, "vocab_size", source))
        elif "scratch" in rest.lower():
            part.known["start"] = Setting("fresh", "init_from", source)
    elif told.startswith("vocabulary size") and count:
        part.known["vocabulary"] = Setting(count, "Vocabulary size", source)
    elif told == "loading ":
        part.known.setdefault("start", Setting("pretrained", "model", source))
    elif told.startswith(("resuming", "loading optimizer")):
        part.resumed = True
        part.known["start"] = Setting("checkpoint", "init_from", source)
    elif told.startswith("num "):
        if len(numbers := _INT.findall(rest)) >= 2 and len(numbers[1]) < 20:
            part.decayed[told] = int(numbers[1].replace(",", ""))
            key = f"{told.strip()} tensors"
            part.raw[key] = Setting([int(n.replace(",", "")) for n in numbers[:2] if len(n) < 20], key, source)
            part.known["parameters"] = Setting(sum(part.decayed.values()), "number of parameters", source)
    elif told.startswith("number of parameters") and "parameters" not in part.known:
        if size := re.search(r"([\d.]+)\s*([KMB])", rest):
            millions = (number(size[1]) or 0.0) * {"K": 1e3, "M": 1e6, "B": 1e9}[size[2]]
            if millions > 0:
                part.known["parameters"] = Setting(round(millions), "number of parameters", source)
    elif told.startswith("saving"):
        update = part.last if part.first >= 0 else None
        part.events.append(Event("checkpoint", update, f"saving checkpoint{rest}", source))
    elif told.endswith(_FAILURES):
        update = part.last if part.first >= 0 else None
        part.events.append(Event("error", update, f"{found['told']}{rest}"[:300], source))


_UNREADABLE = object()


def _literal(written: str) -> object:
    """The value of a printed assignment; arithmetic of numbers (`5 * 8`) is done, anything else is left out."""
    try:
        return literal_value(written)
    except ValueError:
        return written if re.fullmatch(r"[\w./+-]{1,80}", written) else _UNREADABLE


def _run(log: LogFile, parts: list[Part], beside: Beside, which: str) -> Run:
    run = Run(str(log.path) + which, FORMAT)
    raw: dict[str, Setting] = {}
    known: dict[str, Setting] = {}
    for part in parts:
        raw.update(part.raw)
        known.update(part.known)
    known["start"] = parts[0].known.get("start", known.get("start", Setting(None, "init_from", Source(log.name))))
    own_header = any(part.own_header for part in parts) or "lr_decay_iters" in beside.raw
    if own_header and raw.keys() | beside.raw.keys():
        _add_defaults(run, raw, beside)
    relative = any("updates" in part.known for part in parts)  # "step 25/1000": another program's evaluation line
    settle(run, raw, beside, "plain" if relative else "nanogpt")
    if relative:
        run.settings["updates"] = known["updates"]  # counted by the program that ran; a resume adds to its header
    for name, setting in known.items():
        add_inferred(run, name, setting.value, setting.key, setting.source)
    if known["start"].value:
        run.settings["start"] = known["start"]
    add_inferred(run, "task", "causal-lm", "format", Source(log.name))

    points = Points(log.name)
    before: dict[str, Setting] = {}
    latest = -1  # update of all events so far
    for place, part in enumerate(parts):
        if part.first < 0:
            continue
        if part.resumed and not points and relative:
            source = Source(log.name, part.line)
            run.events.append(Event("resume", part.first, f"resumed at step {part.first}", source))
            latest = max(latest, part.first)
        if place and points:
            first = part.first
            dropped = points.drop_after(first - 1)
            if latest > first:  # else there is nothing to look for: a job may be resumed thousands of times
                run.events = [e for e in run.events if e.update is None or e.update <= first]
            latest = first
            changed = changed_settings(before, part.raw)
            source = Source(log.name, part.line)
            run.events.append(Event("resume", first, f"resumed at iteration {first}", source, {"changed": changed}))
            run.notes.append(
                f"The run was resumed at iteration {first} ({source})"
                + (
                    f"; {plural(dropped, 'point logged beyond it was', 'points logged beyond it were')} superseded."
                    if dropped
                    else "."
                )
            )
        before.update(part.raw)
        points.extend(part.points)
        run.events.extend(part.events)
        latest = max([latest, *(e.update for e in part.events if e.update is not None)])
    units = {"train/loss": "nats/token", "train/loss_eval": "nats/token", "val/loss": "nats/token",
             "time/step_ms": "ms"}  # fmt: skip
    names = {"train/loss": "loss", "train/loss_eval": "train loss", "val/loss": "val loss", "time/step_ms": "time"}
    run.series = points.series(units, names)
    evaluated = run.get("train/loss_eval")
    if "train/loss" not in run.series and evaluated is not None:
        run.series["train/loss"] = replace(evaluated, name="train/loss")
        run.notes.append("The log has no loss per iteration: train/loss is the mean that each evaluation printed.")
    return run


def _add_defaults(run: Run, raw: dict[str, Setting], beside: Beside) -> None:
    """Fill in what nanoGPT's train.py uses for keys that neither the log nor a configuration names."""
    missing = [key for key in DEFAULTS if key not in raw and key not in beside.raw]
    for key in missing:
        raw[key] = Setting(DEFAULTS[key], key, Source("nanoGPT's train.py (default)"))
    if missing:
        run.notes.append(f"Not printed, so nanoGPT's defaults: {', '.join(missing)}.")
