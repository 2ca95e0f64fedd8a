"""Karpathy's build-nanogpt (`train_gpt2.py`): its `log.txt` and its console.

`log.txt` has one value a line, `250 val 6.1523`, `250 hella 0.2431`, `250 train 6.201234`. The console has `step   250
| loss: 6.201234 | lr 2.0979e-04 | norm: 0.5231 | dt: 399.86ms | tok/sec: 1311172.97`; `validation loss: 6.1523` stands
before the step that it was measured at. `dt` of such a step contains the evaluation. Losses are nats per token; the
vocabulary is padded to 50304 in the program itself.
"""

from __future__ import annotations

import re

from unstuck.errors import UserError
from unstuck.runs.beside import Beside
from unstuck.runs.build import NO_MATCH, Match, add_inferred
from unstuck.runs.lines import FAILURE, NUMBER, Reading, count_of, counts, read_lines, value_of
from unstuck.runs.logfile import LogFile
from unstuck.runs.run import Run, Source
from unstuck.runs.table import runs_of

FORMAT = "build-nanogpt"

_LINE = re.compile(
    rf"^(?:(?P<at>\d{{1,12}}) (?P<kind>train|val|hella) (?P<value>{NUMBER})\r?$(?P<file>)"
    rf"|step +(?P<step>\d{{1,12}}) \| loss: (?P<loss>{NUMBER})(?: \| lr:? (?P<lr>{NUMBER}))?"
    rf"(?: \| norm: (?P<norm>{NUMBER}))?(?: \| dt: (?P<ms>{NUMBER})ms)?"
    rf"(?: \| tok/sec: (?P<tokens>{NUMBER}))?(?P<console>)"
    rf"|validation loss: (?P<val>{NUMBER})(?P<evaluation>)"
    rf"|HellaSwag accuracy: \d+/\d+=(?P<hella>{NUMBER})(?P<hellaswag>)"
    rf"|total desired batch size: (?P<batch>{NUMBER})(?P<tokens_per_update>)"
    rf"|=> calculated gradient accumulation steps: (?P<micro>{NUMBER})(?P<accumulation>)"
    rf"|num (?:non-)?decayed parameter tensors: \d+, with (?P<count>{NUMBER}) parameters(?P<parameters>)"
    rf"|(?:{FAILURE})(?P<failed>[^\n]*))",
    re.M,
)
VOCABULARY = 50304  # train_gpt2.py: GPTConfig(vocab_size=50304)


def match(log: LogFile) -> Match:
    """By the lines of `log.txt`, or by the console's with its header."""
    found = counts(_LINE, log.head)
    if found.get("file", 0) >= 3:
        return Match(0.95, f"{found['file']} lines of build-nanogpt's log.txt")
    header = found.get("tokens_per_update", 0) + found.get("accumulation", 0) + found.get("hellaswag", 0)
    if found.get("console", 0) and header:
        return Match(0.95, f"build-nanogpt's header and {found['console']} of its step lines")
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
        raise UserError(f"{log.path} has build-nanogpt's header and no step yet; diagnose it again when it has run.")
    for run in runs:
        add_inferred(run, "task", "causal-lm", "format", Source(log.name))
        add_inferred(run, "vocabulary", VOCABULARY, "vocab_size", Source("build-nanogpt's train_gpt2.py (default)"))
    return runs


def _take(reading: Reading, found: re.Match[str], line: int) -> None:
    kind = found.lastgroup
    if kind == "file":
        key = {"train": "loss", "val": "val_loss", "hella": "hellaswag"}[found["kind"]]
        reading.row(line, {"step": float(found["at"]), key: value_of(found["value"])})
    elif kind == "console":
        step = float(found["step"])
        reading.row(line, {
            "step": step, "loss": value_of(found["loss"]), "lr": value_of(found["lr"]), "norm": value_of(found["norm"]),
            "step_ms": value_of(found["ms"]), "tokens_per_second": value_of(found["tokens"]),
        })  # fmt: skip
        for key, (at, value) in reading.kept.items():  # measured before this step was made
            reading.row(at, {"step": step, key: value})
        reading.kept.clear()
    elif kind == "evaluation":
        reading.kept["val_loss"] = (line, value_of(found["val"]))
    elif kind == "hellaswag":
        reading.kept["hellaswag"] = (line, value_of(found["hella"]))
    elif kind == "tokens_per_update":
        reading.begin(line)
        reading.setting("tokens_per_update", count_of(found["batch"]), line, "total_batch_size")
    elif kind == "accumulation":
        reading.setting("gradient_accumulation_steps", count_of(found["micro"]), line, "grad_accum_steps")
    elif kind == "parameters":
        known = reading.part.raw.get("num_parameters")
        if (count := count_of(found["count"])) is not None:
            reading.setting("num_parameters", count + (known.value if known is not None else 0), line)
    elif kind == "failed":
        reading.event(line, f"error: {found[0]}")
