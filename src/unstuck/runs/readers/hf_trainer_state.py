"""transformers' `trainer_state.json`: one object with `log_history`, written with every checkpoint.

`step` counts optimizer updates (`global_step`), `loss` is the mean over the logging window, `grad_norm` is what
`clip_grad_norm_` returned, the norm before clipping (transformers `Trainer._inner_training_loop`). A file that was torn
while it was written is read as far as its last complete row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from unstuck.errors import UserError
from unstuck.runs import names
from unstuck.runs.beside import Beside, settle
from unstuck.runs.build import NO_MATCH, Match, Points, add_inferred, sampled_lines
from unstuck.runs.logfile import MAX_JSON_BYTES, LogFile, number, parse_json
from unstuck.runs.run import Event, Run, Source
from unstuck.wording import plural

FORMAT = "hf-trainer-state"

_HISTORY = re.compile(r'"log_history"\s*:\s*\[')
_BETWEEN = re.compile(r"[\s,]*")
# Class name of the model -> task: transformers names its heads after the task.
TASKS = (
    ("SequenceClassification", "classification"), ("TokenClassification", "classification"),
    ("ImageClassification", "classification"), ("MultipleChoice", "classification"), ("MaskedLM", "masked-lm"),
    ("PreTraining", "masked-lm"), ("Seq2SeqLM", "seq2seq"), ("ConditionalGeneration", "seq2seq"),
    ("CausalLM", "causal-lm"), ("LMHeadModel", "causal-lm"),
)  # fmt: skip
MODEL_CLASS_KEYS = ("model.type", "model_class", "model.class", "architectures", "model.architectures", "architecture")
PRETRAINED_KEYS = ("init_from", "model_name_or_path", "model_name", "base_model_name_or_path", "_name_or_path")


def match(log: LogFile) -> Match:
    """Certain when the text holds `log_history` and another key of TrainerState."""
    head = log.head.lstrip()
    if not head.startswith("{"):
        return NO_MATCH
    text = head
    if not _HISTORY.search(head):
        first, _, more = head.partition("\n")
        if first.rstrip().endswith("}") and more:
            return NO_MATCH  # one object per line
        text = log.text
    if not _HISTORY.search(text):
        return NO_MATCH
    others = [key for key in ("global_step", "max_steps", "is_world_process_zero", "epoch") if f'"{key}"' in text]
    return Match(0.98 if len(others) > 1 else 0.7, f"log_history with {', '.join(others) or 'nothing else'}")


def read(log: LogFile, beside: Beside) -> list[Run]:
    """The run.

    Raises:
        UserError: not even one row of the history is complete.
    """
    if len(log.text) > MAX_JSON_BYTES:
        raise UserError(f"{log.path} is larger than 256 MiB; name the trainer_state.json of one checkpoint.")
    state, torn = _state(log)
    run = Run(str(log.path), FORMAT)
    settle(run, {}, beside, "huggingface")
    points = Points(log.name)
    rows = _rows(log)
    if not rows:
        raise UserError(f"{log.path} has an empty log_history: nothing was logged yet; set logging_steps lower.")
    counts: dict[str, int] = {}
    for row, _ in rows:
        for key in row:
            counts[key] = counts.get(key, 0) + 1
    given = names.assign({k: n for k, n in counts.items() if k not in ("step", "train_loss")})
    units: dict[str, str | None] = {}
    as_logged: dict[str, str] = {}
    last = 0
    for row, line in rows:
        step = number(row.get("step"))
        update = int(step) if step is not None and abs(step) < 2**53 else last
        last = update
        if "train_runtime" in row:
            run.events.append(Event("end", update, "end of training", Source(log.name, line), row))
            continue
        if any(key.startswith("eval_") for key in row):
            run.events.append(Event("evaluation", update, "evaluation", Source(log.name, line)))
        for key, value in row.items():
            if key == "step" or names.RUNTIME.match(key) or (logged := number(value)) is None:
                continue
            entry = given.get(key)
            name = entry.canonical if entry else key
            as_logged.setdefault(name, key)
            units.setdefault(name, entry.unit if entry else None)
            converted = float(entry.converted(np.array(logged))) if entry else logged
            points.add(name, update, converted, line)
    if not points.by_name:
        raise UserError(f"{log.path} has a log_history without any number; name another trainer_state.json.")
    _settings(run, state, log)
    if run.setting("task") in ("causal-lm", "masked-lm", "seq2seq"):
        units |= {"train/loss": "nats/token", "val/loss": "nats/token"}
    run.series = points.series(units, as_logged)
    if torn:
        run.notes.append(
            f"{log.name} is torn at its end; {plural(len(rows), 'complete row was', 'complete rows were')} read."
        )
    loss = run.get("train/loss")
    if loss is not None and (window := sampled_lines(loss.updates) or 1) > 1:
        run.notes.append(f"Each train/loss is the mean over the {window} updates since the row before.")
    return [run]


def _state(log: LogFile) -> tuple[dict[str, Any], bool]:
    """The object without its history, and whether the file is torn."""
    try:
        state = parse_json(log.text)
    except ValueError:
        head = log.text[: m.start()] if (m := _HISTORY.search(log.text)) else ""
        try:
            state = parse_json(head.rstrip().rstrip(",") + "}")
        except ValueError:
            state = {}
        return (state if isinstance(state, dict) else {}), True
    if not isinstance(state, dict):
        raise UserError(f"{log.path} is JSON but no trainer_state.json; name the file that transformers wrote.")
    return {key: value for key, value in state.items() if key != "log_history"}, False


def _rows(log: LogFile) -> list[tuple[dict[str, Any], int]]:
    """The rows of `log_history`, each with the line that it begins on."""
    found = _HISTORY.search(log.text)
    rows: list[tuple[dict[str, Any], int]] = []
    if found is None:
        return rows
    decoder = json.JSONDecoder()
    at = found.end()
    while True:
        between = _BETWEEN.match(log.text, at)
        at = between.end() if between else at
        if not log.text.startswith("{", at):
            return rows
        try:
            row, end = decoder.raw_decode(log.text, at)
        except (ValueError, RecursionError):
            return rows
        if isinstance(row, dict):
            rows.append((row, log.line_at(at)))
        at = end


def _settings(run: Run, state: Mapping[str, Any], log: LogFile) -> None:
    def place(key: str) -> Source:
        at = log.text.find(f'"{key}"')
        return Source(log.name, log.line_at(at) if at >= 0 else None)

    def count(key: str) -> int | None:
        value = number(state.get(key))
        return int(value) if value is not None and 0 < value < 2**53 else None

    if (planned := count("max_steps")) is not None:
        run.settings.pop("updates", None)  # max_steps -1 in the arguments means: from the epochs; the state has counted
        add_inferred(run, "updates", planned, "max_steps", place("max_steps"))
    add_inferred(run, "epochs", count("num_train_epochs"), "num_train_epochs", place("num_train_epochs"))
    add_inferred(run, "batch_size", count("train_batch_size"), "train_batch_size", place("train_batch_size"))
    evaluated = count("eval_steps") if any(e.kind == "evaluation" for e in run.events) else None
    add_inferred(run, "evaluation_every", evaluated, "eval_steps", place("eval_steps"))
    for key in MODEL_CLASS_KEYS:
        if (setting := run.raw_settings.get(key)) is not None:
            task = next((task for ending, task in TASKS if ending in str(setting.value)), None)
            add_inferred(run, "task", task, key, setting.source)
    for key in PRETRAINED_KEYS:
        setting = run.raw_settings.get(key)
        if (
            setting is not None
            and isinstance(setting.value, str)
            and setting.value.lower() not in ("", "scratch", "none")
        ):
            add_inferred(run, "start", "pretrained", key, setting.source)
