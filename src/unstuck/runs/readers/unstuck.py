"""Our own run folder: `metrics.jsonl` (one event per line) with `config.yaml` beside it.

A torn last line (the run was killed while it wrote) is left out with a note. After a resume, what was logged beyond the
update that the run went back to is superseded. The key `inject_fault` of the configuration never reaches the settings:
a diagnosis that could read the fault would prove nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unstuck.errors import UserError
from unstuck.runs.beside import Beside, settle
from unstuck.runs.build import NO_MATCH, Match, Points
from unstuck.runs.logfile import LogFile, number, parse_json
from unstuck.runs.run import Event, Run, Setting, Source
from unstuck.wording import plural

FORMAT = "unstuck-run"
HIDDEN_SETTINGS = ("inject_fault",)

LOSSES = ("train/loss", "val/loss", "train/objective")
# Canonical task by `task.kind` of the configuration, else by the unit of the loss in the start event. Without either
# (runs of before there were several) it is causal text.
TASKS = {
    "causal": "causal-lm",
    "masked": "masked-lm",
    "operator": "regression",
    "relative L2": "regression",
    "relative H1": "regression",
}
UNITS = {
    "throughput/tokens_per_second": "tokens/s",
    "throughput/examples_per_second": "examples/s",
    "val/relative_l2": "relative L2",
    "val/relative_l2_worst": "relative L2",
    "val/relative_h1": "relative H1",
    "time/step_ms": "ms",
    "time/cpu_ms": "ms",
    "tokens": "tokens",
}
# Start event -> canonical setting: what only the running program knew.
FROM_START = {
    "vocabulary": "vocabulary",
    "parameters": "parameters",
    "unigram_entropy": "unigram_entropy",
    "train_tokens": "train_tokens",
    "validation_tokens": "validation_tokens",
    "updates": "updates",
    "start_loss": "start_loss",
    "baseline_loss": "baseline_loss",
}
NOT_SERIES = {"event", "time", "update", "unstuck"}


def match(log: LogFile) -> Match:
    """Certain when the first line is our start event."""
    first = log.head.partition("\n")[0]
    if '"event"' not in first or '"unstuck"' not in first:
        return NO_MATCH
    return Match(0.99, "the first line is unstuck's start event")


def read(log: LogFile, beside: Beside) -> list[Run]:
    """The run of a `metrics.jsonl`.

    Raises:
        UserError: no event could be read.
    """
    visible = {key: s for key, s in beside.raw.items() if key.rpartition(".")[2] not in HIDDEN_SETTINGS}
    folder = log.path.name == "metrics.jsonl" and (log.path.parent / "config.yaml").is_file()
    run = Run(str(log.path.parent if folder else log.path), FORMAT)
    settle(run, visible, Beside(files=beside.files, notes=beside.notes), "unstuck")
    points = Points(log.name)
    start: dict[str, Any] = {}
    start_source = Source(log.name, 1)
    torn: list[int] = []
    line = 0
    for line, text in enumerate(log.lines(), start=1):
        if not text.strip():
            continue
        try:
            row = parse_json(text)
        except ValueError:
            torn.append(line)
            if len(torn) > 10:
                raise UserError(f"{log.path} has many lines that are not JSON; name the run folder itself.") from None
            continue
        if not isinstance(row, dict):
            continue
        kind = str(row.get("event", "note"))
        update = _update(row)
        source = Source(log.name, line)
        if kind in ("update", "evaluation") and update is not None:
            for key, value in row.items():
                if key not in NOT_SERIES and (logged := number(value)) is not None:
                    points.add(key, update, logged, line)
        elif kind == "start":
            start, start_source = {**start, **row}, source
        elif kind == "resume" and update is not None:
            if "updates" in row:  # planned anew: what this event states holds from here on
                start, start_source = {**start, **row}, source
            run.events = [e for e in run.events if e.update is None or e.update <= update]
            if dropped := points.drop_after(update):
                beyond = plural(dropped, "point logged beyond it was", "points logged beyond it were")
                run.notes.append(f"The run went back to update {update} ({source}); {beyond} superseded.")
        if kind != "update":
            run.events.append(Event(kind, update, _text(kind, row), source, _bounded(row)))
    for place in torn:
        where = "the last line is torn, as after a kill" if place == line else f"line {place} is not JSON"
        run.notes.append(f"{where}; it was left out.")
    if not points.by_name and not start:
        raise UserError(f"{log.path} holds no event of a run; name a run folder that `unstuck train` wrote.")
    loss_unit = str(start.get("unit") or "nats/token")
    run.series = points.series({name: _unit(name, loss_unit) for name in points.by_name})
    _add_start(run, start, start_source)
    return [run]


def _add_start(run: Run, start: Mapping[str, Any], source: Source) -> None:
    """Settings that the start event states: they are measured, so they replace what the configuration wished for."""
    for key, name in FROM_START.items():
        if (value := number(start.get(key))) is not None:
            run.settings[name] = Setting(int(value) if value.is_integer() else value, key, source)
    if (micro := number(start.get("micro_batches_per_update"))) is not None:
        run.settings.setdefault("accumulation", Setting(int(micro), "micro_batches_per_update", source))
    groups = start.get("groups")
    if isinstance(groups, dict):
        factors = {
            name: factor
            for name, group in groups.items()
            if isinstance(group, dict) and (factor := number(group.get("lr_factor"))) is not None
        }
        if factors:
            run.settings["group_lr_factors"] = Setting(factors, "optimizer.groups", source)
            run.raw_settings["groups"] = Setting(groups, "groups", source)
    derived = start.get("derived")
    if isinstance(derived, dict):
        run.raw_settings["derived"] = Setting(derived, "derived", source)
    kind = run.raw_settings.get("task.kind")
    named = TASKS.get(str(kind.value)) if kind is not None else None
    if kind is not None and named is not None:
        run.settings["task"] = Setting(named, "task.kind", kind.source)
    else:
        run.settings.setdefault("task", Setting(TASKS.get(str(start.get("unit")), "causal-lm"), "unit", source))
    if "start" not in run.settings:
        origin = run.raw_settings.get("start_from")
        fresh = origin is None or origin.value is None
        run.settings["start"] = Setting("fresh" if fresh else "checkpoint", "start_from", source)


def _update(row: Mapping[str, Any]) -> int | None:
    value = number(row.get("update"))
    return int(value) if value is not None and abs(value) < 2**53 else None


def _unit(name: str, loss_unit: str) -> str | None:
    if name in LOSSES or name.startswith("val/loss/"):
        return loss_unit
    return "1/update" if name.startswith("lr/") else UNITS.get(name)


def _text(kind: str, row: Mapping[str, Any]) -> str:
    told = row.get("text") or row.get("stopped_by") or row.get("rule") or row.get("title") or ""
    return f"{kind}: {told}" if told else kind


def _bounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "event"}
