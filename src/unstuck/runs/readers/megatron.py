"""Megatron-LM and Megatron-DeepSpeed: one line of `key: value |` for each logged iteration.

` iteration     6502/  159576 | consumed samples: 216960 | elapsed time per iteration (ms): 31074.1 | learning rate:
5.997E-05 | global batch size: 80 | lm loss: 3.876781E+00 | loss scale: 4096.0 | grad norm: 3246.595 | number of skipped
iterations: 0 | number of nan iterations: 0 |`, and ` validation loss at iteration 1000 | lm loss value: 3.2E+00 | lm
loss PPL: 2.6E+01 |` (megatron/training/training.py, training_log). An iteration is an optimizer update. The arguments
are printed as `  lr ..................... 6e-05`. The norm is the one before clipping. Losses are nats per token.
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

FORMAT = "megatron"

_PREFIX = r"[ \t]*+(?:\[[^\]\n]{1,40}\]:? ?|\d{1,4}: )?[ \t]*+"
_LINE = re.compile(
    rf"^{_PREFIX}(?:\[\d{{4}}-[^\]\n]*\] +)?(?:iteration +(?P<step>\d{{1,12}})/ +(?P<planned>\d{{1,12}}) \|"
    r"(?P<values>[^\n]*)(?P<row>)"
    r"|(?P<split>validation|test|valid)[^|\n]{0,40} loss at iteration (?P<at>\d{1,12})[^|\n]*\|(?P<measured>[^\n]*)"
    r"(?P<evaluation>)"
    r"|(?P<key>[a-z][a-z0-9_]*) \.{2,} (?P<value>[^\n]+)(?P<argument>)"
    rf"|(?:{FAILURE})(?P<failed>[^\n]*))",
    re.M,
)
_PAIR = re.compile(rf"([A-Za-z][^:|\n]{{0,80}}?): *({NUMBER})[^|\n]*\|?")
KEYS = {
    "learning rate": "lr", "lm loss": "loss", "loss": "loss", "reduced_train_loss": "loss", "grad norm": "grad_norm",
    "consumed tokens": "tokens", "elapsed time per iteration (ms)": "step_ms", "loss scale": "loss_scale",
    "elapsed time per iteration (s)": "step_time", "global batch size": "global_batch_size", "num zeros": "num_zeros",
    "samples per second": "samples_per_second", "tokens per gpu per second (tgs)": "tokens_per_gpu_per_second",
    "number of skipped iterations": "skipped_updates", "number of nan iterations": "nan_updates",
    "params norm": "params_norm", "lm loss value": "val_loss", "lm loss ppl": "val_ppl",
}  # fmt: skip
_NOT_SERIES = {"consumed samples", "tflops", "throughput per gpu (tflop/s/gpu)"}


def match(log: LogFile) -> Match:
    """By lines `iteration N/ M | ... |` with Megatron's key names."""
    found = counts(_LINE, log.head).get("row", 0)
    if found and ("consumed samples:" in log.head or "elapsed time per iteration" in log.head):
        return Match(0.97, f"{found} iteration lines of Megatron")
    if "..... " in log.head and "arguments ---" in log.head:
        return Match(0.7, "Megatron's list of arguments")
    return NO_MATCH


def read(log: LogFile, beside: Beside) -> list[Run]:
    """The runs in the file.

    Raises:
        UserError: there is no iteration yet.
    """
    parts = read_lines(log, _LINE, _take)
    runs = runs_of(parts, beside, source=str(log.path), file=log.name, format=FORMAT, dialect="plain",
                   loss_unit="nats/token")  # fmt: skip
    if not runs:
        raise UserError(f"{log.path} has Megatron's arguments and no iteration yet; diagnose it again when it has run.")
    for run in runs:
        add_inferred(run, "task", "causal-lm", "format", Source(log.name))
    return runs


def _take(reading: Reading, found: re.Match[str], line: int) -> None:
    kind = found.lastgroup
    if kind == "row":
        step = float(found["step"])
        last, first = reading.kept.get("step", 0.0), reading.kept.get("first", step)
        if step < last and step > first:
            reading.begin(line, resumed=True)  # a job that was started again from a checkpoint appends to its log
        reading.kept.update(step=step, first=min(first, step))
        reading.setting("max_iters", int(found["planned"]), line, "train_iters")
        reading.row(line, {"step": step, **_values(found["values"])})
    elif kind == "evaluation":
        measured = _values(found["measured"])
        if found["split"] == "test":
            measured = {f"test_{key}": value for key, value in measured.items()}
        reading.row(line, {"step": float(found["at"]), **measured})
    elif kind == "argument" and not reading.part.lines:
        reading.setting(found["key"], setting_of(found["value"]), line)
    elif kind == "failed":
        reading.event(line, f"error: {found[0]}")


def _values(text: str) -> dict[str, float | None]:
    pairs = ((key.strip().lower(), written) for key, written in _PAIR.findall(text))
    return {KEYS.get(key, key): value_of(written) for key, written in pairs if key not in _NOT_SERIES}
