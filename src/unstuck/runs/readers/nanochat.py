"""nanochat's console: base, mid and chat training.

`step 00129/21400 (0.60%) | loss: 3.412345 | grad norm: 0.3123 | lrm: 1.00 | dt: 4.98ms | tok/sec: 25,697 | mfu: 0.00 |
epoch: 1 | total time: 0.01m` and `Step 00250 | Validation bpb: 1.0321` (scripts/base_train.py, mid_train.py); chat_sft
prints `Step 00010 | Validation loss: 1.2`. The loss is an exponential average with its start corrected, nats per token.
`lrm` multiplies the learning rates of all groups and is kept as `lr_multiplier`: it is no learning rate.
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

FORMAT = "nanochat"

_LINE = re.compile(
    r"^(?:\x1b\[[\d;]*m)*+(?:"
    r"step (?P<step>\d{1,12})(?:/(?P<planned>\d{1,12}))? \([\d.]+%\) \| (?P<values>[^\n]*)(?P<row>)"
    r"|Step (?P<at>\d{1,12})(?:/\d{1,12})? \| (?P<measured>[^\n]*)(?P<evaluation>)"
    r"|(?P<key>[\w ]+?) ?[:=] (?P<value>[\d.,eE+-]+)\r?$(?P<setting>)"
    r"|Overriding: (?P<name>\w+) = (?P<over>[^\n]*)(?P<override>)"
    r"|[^\n]*Building model with config: (?P<config>\{[^\n{}]*\})(?P<model>)"
    rf"|(?:{FAILURE})(?P<failed>[^\n]*))",
    re.M,
)
_PAIR = re.compile(rf"([A-Za-z][\w /]{{0,80}}?): ({NUMBER})(ms|s|m)?(?: |$)")
_FIELD = re.compile(r"'(\w+)': ('[^']*'|[\d.eE+-]+|True|False|None)")
KEYS = {"grad norm": "grad_norm", "lrm": "lr_multiplier", "dt": "step_ms", "tok/sec": "tokens_per_second",
        "validation bpb": "val_bpb", "validation loss": "val_loss", "training loss": "train_loss"}  # fmt: skip
SETTINGS = {"number of parameters": "num_parameters", "total batch size": "tokens_per_update",
            "vocab size": "vocab_size", "num_layers": "num_layers", "model_dim": "model_dim",
            "calculated number of iterations": "max_iters",
            "calculated number of iterations from target data:param ratio": "max_iters"}  # fmt: skip
_NOT_LOGGED = {"epoch", "total time", "eta", "mfu", "bf16_mfu"}


def match(log: LogFile) -> Match:
    """By the step lines with `lrm`, or by the name in the log's own messages."""
    text = log.head
    found = counts(_LINE, text).get("row", 0)
    if not found and "nanochat" in text:
        found = counts(_LINE, next(iter(log.pieces()), (1, ""))[1]).get("row", 0)
    if found and ("lrm:" in text or "nanochat" in text):
        return Match(0.96, f"{found} step lines of nanochat")
    return NO_MATCH


def read(log: LogFile, beside: Beside) -> list[Run]:
    """The runs in the file.

    Raises:
        UserError: there is no step yet.
    """
    parts = read_lines(log, _LINE, _take)
    runs = runs_of(parts, beside, source=str(log.path), file=log.name, format=FORMAT, dialect="plain",
                   loss_unit="nats/token")  # fmt: skip
    if not runs:
        raise UserError(f"{log.path} has nanochat's header and no step yet; diagnose it again when it has run.")
    for run in runs:
        add_inferred(run, "task", "causal-lm", "format", Source(log.name))
    return runs


def _take(reading: Reading, found: re.Match[str], line: int) -> None:
    kind = found.lastgroup
    if kind in ("row", "evaluation"):
        step = float(found["step"] if kind == "row" else found["at"])
        if found["planned"]:
            reading.setting("max_iters", int(found["planned"]), line, "num_iterations")
        values: dict[str, float | None] = {}
        for key, written, _unit in _PAIR.findall(found["values"] if kind == "row" else found["measured"]):
            name = key.strip().lower()
            if name not in _NOT_LOGGED:
                values[KEYS.get(name, name)] = value_of(written)
        reading.row(line, {"step": step, **values})
    elif kind == "failed":
        reading.event(line, f"error: {found[0]}")
    elif reading.part.lines:
        return
    elif kind == "setting":
        if (key := SETTINGS.get(found["key"].strip().lower())) is not None:
            reading.setting(key, value_of(found["value"]), line, found["key"].strip())
    elif kind == "override":
        reading.setting(found["name"], setting_of(found["over"]), line)
    elif kind == "model":
        for key, written in _FIELD.findall(found["config"]):
            reading.setting(key, setting_of(written), line)
