"""Does the diagnosis depend on how a run was logged? Each development run is printed again in other styles.

A metamorphic test: the record of a plain loop (its JSON lines and the configuration beside them) is printed in the
styles of `restyle_logs.py` with the layouts of `restyle_layouts.py`, as the programs of `restyle_programs.py` print
it, and its configuration in the forms of `restyle_configs.py`, one at a time. The record is the same, so the reading
(series, settings) and the findings
(errors and warnings) should be.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults.generate import records
from benchmarks.faults.restyle_configs import FORMS
from benchmarks.faults.restyle_layouts import Row
from benchmarks.faults.restyle_logs import STYLES
from benchmarks.faults.restyle_programs import PROGRAMS, About
from unstuck.diagnose.engine import diagnose
from unstuck.errors import UserError
from unstuck.runs import Run
from unstuck.runs.readers import read_runs

# What the development styles call the fields of their rows -> neutral name, and what brings it to seconds.
FIELDS = {"step": ("step", 1.0), "global_step": ("step", 1.0), "iter": ("step", 1.0), "epoch": ("epoch", 1.0),
          "loss": ("loss", 1.0), "train/loss": ("loss", 1.0), "train_loss": ("loss", 1.0), "lr": ("lr", 1.0),
          "train/lr": ("lr", 1.0), "grad_norm": ("norm", 1.0), "train/grad_norm": ("norm", 1.0), "norm": ("norm", 1.0),
          "step_ms": ("step_s", 1e-3), "time_ms": ("step_s", 1e-3), "train/step_time": ("step_s", 1.0),
          "data_ms": ("data_s", 1e-3), "train/data_time": ("data_s", 1.0), "val_loss": ("val", 1.0),
          "val/loss": ("val", 1.0), "val_acc": ("acc", 1.0), "val/accuracy": ("acc", 1.0)}  # fmt: skip
COMPARED = ("train/loss", "val/loss", "grad_norm/preclip", "time/step_ms", "time/data_ms", "val/accuracy")
SERIES = {"loss": "train/loss", "val": "val/loss", "norm": "grad_norm/preclip", "step_s": "time/step_ms",
          "data_s": "time/data_ms", "acc": "val/accuracy", "lr": "lr/all"}  # fmt: skip
CLOSE = 2e-3  # ours: the coarsest style prints six digits, of times less than a hundredth of a ms


@dataclass(slots=True)
class Reading:
    """What was made of one log."""

    series: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    alarms: frozenset[str] = frozenset()
    error: str = ""


@dataclass(slots=True)
class Compared:
    """One run in one style against its own record."""

    run: str
    style: str
    same: bool
    missing: frozenset[str]
    extra: frozenset[str]
    differences: tuple[str, ...]


def neutral_rows(path: Path) -> list[Row]:
    """The rows of a JSON lines record under neutral names."""
    rows: list[Row] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        logged = json.loads(line)
        row: dict[str, Any] = {}
        for key, value in logged.items():
            prefix = next((p for p in ("train/lr/", "lr_", "lr/") if key.startswith(p)), "")
            if key in FIELDS:
                name, scale = FIELDS[key]
                row[name] = value * scale if scale != 1.0 else value
            elif prefix:
                row["lr_" + key.removeprefix(prefix)] = value
        if "message" in logged:
            row = {"message": f"Resuming from checkpoint at step {logged['message'].split()[-1]}",
                   "step": int(logged["message"].split()[-1])}  # fmt: skip
        rows.append(row)
    return rows


def neutral_facts(path: Path, names: Mapping[str, str]) -> dict[str, Any]:
    """The configuration of a development run under neutral names; what has none keeps its key."""
    import yaml

    flat: dict[str, Any] = {}

    def walk(value: Any, way: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{way}.{key}" if way else key)
        else:
            flat[way] = value

    walk(yaml.safe_load(path.read_text(encoding="utf-8")), "")
    back = {spelling: name for name, spelling in names.items()}
    return {back.get(key, key): value for key, value in flat.items()}


def reading_of(path: Path) -> Reading:
    """Series, settings and the rules of errors and warnings."""
    try:
        run = max(read_runs(path), key=lambda one: one.updates)
        found = diagnose(run)
    except UserError as error:
        return Reading(error=str(error).partition(";")[0].replace(str(path), "FILE"))
    alarms = frozenset(f.rule.name for f in found.findings if f.severity != "note")
    return Reading(_series(run), {k: s.value for k, s in run.settings.items()}, alarms)


def _series(run: Run) -> dict[str, Any]:
    return {name: (s.updates, s.values) for name, s in run.series.items()
            if name in COMPARED or name.startswith(("lr/", "val/loss/"))}  # fmt: skip


def differences(ours: Reading, other: Reading) -> Iterator[str]:
    """What is read otherwise, by its kind."""
    if other.error:
        yield f"not read: {other.error}"
        return
    for name, (updates, values) in ours.series.items():
        if name not in other.series:
            yield f"no {name}"
            continue
        theirs, read = other.series[name]
        if len(theirs) != len(updates):
            yield f"{name}: other number of points"
        elif not np.array_equal(theirs, updates):
            yield f"{name}: other updates"
        elif not np.allclose(read, values, rtol=CLOSE, atol=1e-3, equal_nan=True):
            yield f"{name}: other values"
    yield from (f"extra {name}" for name in other.series.keys() - ours.series.keys())
    for key in ours.settings.keys() | other.settings.keys():
        if key in SETTINGS and not _equal(ours.settings.get(key), other.settings.get(key)):
            yield f"setting {key}" if key in other.settings else f"no setting {key}"


SETTINGS = ("learning_rate", "optimizer", "beta2", "weight_decay", "schedule", "warmup_updates", "warmup_share",
            "lr_floor", "updates", "epochs", "batch_size", "accumulation", "clip_norm", "label_smoothing", "dropout",
            "vocabulary", "context", "train_samples", "validation_samples", "evaluation_every", "patience", "start",
            "plateau_factor", "lora_rank")  # fmt: skip


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float | int) and isinstance(other, float | int):
        return bool(np.isclose(one, other, rtol=1e-4))
    return bool(one == other)


def restyle(out: Path, *, every: int = 1, only: str = "") -> list[Compared]:
    """Every development run in every style and form, compared with its own record, in a temporary folder.

    Args:
        every: take every such run only.
        only: part of a style's or a form's name.
    """
    told: list[Compared] = []
    for record in records(out, "development")[::every]:
        if "jsonl" not in record["outcome"]["views"]:
            continue
        path = out / "development" / "logs" / record["id"] / record["outcome"]["views"]["jsonl"]
        if path.stat().st_size:
            told += _one(record["id"], record["setup"], path, only)
    return told


def _one(name: str, setup: Mapping[str, Any], path: Path, only: str) -> Iterator[Compared]:
    from benchmarks.faults.trainers import styles

    style = {s.name: s for s in (styles.Pipes, styles.Logging, styles.Nano, styles.Epochs)}[setup["style"]]
    config = path.parent / style.config_name
    rows, facts, ours = neutral_rows(path), neutral_facts(config, style.names), reading_of(path)
    total = max([row["step"] if "step" in row else row["epoch"] for row in rows] + [setup["settings"]["updates"]])
    if "step" not in rows[0]:
        total = max(facts.get("epochs", 0), rows[-1]["epoch"])
    for title, log in STYLES.items():
        if only in title:
            text = "\n".join(log.printer(rows, total)) + "\n"
            yield _compared(name, title, ours, f"train{log.suffix}", text, config.name, config.read_text("utf-8"))
    if "step" in rows[0] and not any(key.startswith("lr_") for row in rows for key in row):
        samples, batch = facts.get("train_samples") or 1600, facts.get("batch_size") or 16
        accumulation = facts.get("accumulation") or 1
        about = About(total, max(1, math.ceil(samples / (batch * accumulation))), batch, accumulation)
        for title, program in PROGRAMS.items():
            if only in title:
                text = "\n".join(program.printed(rows, about)) + "\n"
                shown = {SERIES[key] for key in program.shows()}
                told = Reading({k: v for k, v in ours.series.items() if k in shown}, ours.settings, ours.alarms)
                beside = config.read_text("utf-8")
                yield _compared(name, title, told, f"train{program.suffix}", text, config.name, beside)
    for title, form in FORMS.items():
        if only in title:
            printed = form.write(facts)
            if form.file:
                text = path.read_text("utf-8")
                yield _compared(name, title, ours, path.name, text, form.file, printed)
            else:
                text = printed + "\n" + "\n".join(STYLES["logfmt"].printer(rows, total)) + "\n"
                yield _compared(name, title, ours, "train.log", text, "", "")


def _compared(name: str, style: str, ours: Reading, log: str, text: str, config: str, settings: str) -> Compared:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / log
        path.write_text(text, encoding="utf-8")
        if config:
            (Path(folder) / config).write_text(settings, encoding="utf-8")
        other = reading_of(path)
    return Compared(name, style, other.alarms == ours.alarms and not other.error, ours.alarms - other.alarms,
                    other.alarms - ours.alarms, tuple(differences(ours, other)))  # fmt: skip


def report(told: list[Compared], details: bool = False) -> str:
    """The share of same findings by style and form, with the causes of what differs."""
    lines = [f"{sum(c.same for c in told)} of {len(told)} have the same errors and warnings.", ""]
    for style in dict.fromkeys(c.style for c in told):
        mine = [c for c in told if c.style == style]
        causes = Counter(d for c in mine for d in c.differences)
        lost = Counter(rule for c in mine for rule in c.missing)
        new = Counter(rule for c in mine for rule in c.extra)
        lines.append(f"{style:22} {sum(c.same for c in mine):3d} of {len(mine):3d}")
        if details:
            lines += [f"    {what}: " + ", ".join(f"{k} ({n})" for k, n in counted.most_common(9))
                      for what, counted in (("lost", lost), ("new", new), ("read", causes)) if counted]  # fmt: skip
    return "\n".join(lines)
