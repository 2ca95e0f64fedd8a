"""modded-nanogpt and its relatives, parameter-golf among them: the source code of the program, then its steps.

`step:500/3600 val_loss:3.81032 train_time:79.601s step_avg:159.20ms`, `step:104/6200 train_loss:5.3986
train_time:20066ms step_avg:213.47ms`; parameter-golf adds `val_bpb:1.22` and prints `key:value` or `key=value`
settings before its first step. Older records have `s:104 trl:5.3` (read as llm.c's main.log). Several seeds may follow
one another in one file: each begins at a step below the last. The source code is not read for numbers, but for the
fields of its class `Hyperparameters`, which are literals. Losses are nats per token; a warm-up before step 0 is no
training.
"""

from __future__ import annotations

import re

from unstuck.errors import UserError
from unstuck.runs.beside import Beside
from unstuck.runs.build import NO_MATCH, Match, add_inferred
from unstuck.runs.lines import FAILURE, NUMBER, Reading, counts, read_lines, setting_of, value_of
from unstuck.runs.logfile import LogFile
from unstuck.runs.run import Run, Source
from unstuck.runs.table import runs_of

FORMAT = "modded-nanogpt"

_LINE = re.compile(
    r"^(?:step:(?P<step>\d{1,12})/(?P<planned>\d{1,12}) (?P<values>[^\n]*)(?P<row>)"
    r"|class Hyperparameters\b(?P<fields>[^\n]*\n(?:(?:[ \t][^\n]*)?\n){0,200})"
    r"|(?P<pairs>[A-Za-z]\w*[:=][^\s:=]+(?: [A-Za-z]\w*[:=][^\s:=]+)+)\r?$(?P<settings>)"
    r"|(?P<key>[A-Za-z]\w*):(?P<value>[^\s:=]+)\r?$(?P<single>)"
    rf"|(?:{FAILURE})(?P<failed>[^\n]*))",
    re.M,
)
_PAIR = re.compile(rf"\b([A-Za-z]\w*):({NUMBER})(ms|s|min)?(?=\s|$)")
_SETTING = re.compile(r"\b([A-Za-z]\w*)[:=](\S+)")
_FIELD = re.compile(r"^[ \t]+(\w+)(?: ?: ?[\w. |]+)? ?= ?([^#\n]+)", re.M)
_ELSEWHERE = {"train_time", "t", "step_avg"}
# What the programs call a setting where the configuration's tables have no such spelling; the value is unchanged.
SPELLINGS = {"train_batch_tokens": "tokens_per_update", "train_seq_len": "block_size", "iterations": "max_iters",
             "num_iterations": "max_iters", "model_params": "num_parameters", "val_loss_every": "eval_interval",
             "warmdown_iters": "warmdown_iters"}  # fmt: skip


def match(log: LogFile) -> Match:
    """By lines `step:N/M key:value`; where the source fills the beginning, by looking further."""
    found = counts(_LINE, log.head).get("row", 0)
    code = "import torch" in log.head or log.head.startswith("====") or "# source line" in log.head
    if not found and code:
        for place, (_, text) in enumerate(log.pieces()):
            found = counts(_LINE, text).get("row", 0)
            if found or place:
                break
    if not found:
        return NO_MATCH
    return Match(0.95 if code or found > 1 else 0.85, f"{found} lines step:N/M as modded-nanogpt prints them")


def read(log: LogFile, beside: Beside) -> list[Run]:
    """The runs in the file, one for each seed.

    Raises:
        UserError: no step holds a value.
    """
    parts = read_lines(log, _LINE, _take)
    runs = runs_of(parts, beside, source=str(log.path), file=log.name, format=FORMAT, dialect="plain",
                   loss_unit="nats/token")  # fmt: skip
    if not runs:
        raise UserError(f"{log.path} has no step with a loss; name the log that the run printed.")
    for run in runs:
        add_inferred(run, "task", "causal-lm", "format", Source(log.name))
    return runs


def _take(reading: Reading, found: re.Match[str], line: int) -> None:
    kind = found.lastgroup
    if kind == "row":
        step = float(found["step"])
        if step < reading.kept.get("step", 0.0):
            reading.begin(line)
        reading.kept["step"] = step
        pairs = _PAIR.findall(found["values"])
        values: dict[str, float | None] = {key: value_of(n) for key, n, _ in pairs if key not in _ELSEWHERE}
        if not values:
            return  # a step that only tells the time
        reading.setting("max_iters", int(found["planned"]), line, "num_iterations")
        average = next((value_of(n) for key, n, unit in pairs if key == "step_avg" and unit == "ms"), None)
        reading.row(line, {"step": step, "step_avg_ms": average, **values})
    elif kind == "failed":
        reading.event(line, f"error: {found[0]}")
    elif reading.part.lines:
        return  # what is told after the steps are results, not settings
    elif kind == "fields":
        for key, value in _FIELD.findall(found["fields"]):
            _setting(reading, key, value, line)
    elif kind == "settings":
        for key, value in _SETTING.findall(found["pairs"]):
            _setting(reading, key, value, line)
    elif kind == "single":
        _setting(reading, found["key"], found["value"], line)


def _setting(reading: Reading, key: str, written: str, line: int) -> None:
    value = setting_of(written)
    if isinstance(value, int | float | str) and "(" not in written:
        reading.setting(SPELLINGS.get(key, key), value, line, key)
