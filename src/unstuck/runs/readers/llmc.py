"""What llm.c prints: its console and its `main.log`.

Console (train_gpt2.cu): a table of settings, then `step 1/19560 | loss 11.0 (+nanz)| norm 15.0 (+nanz)| lr 8.57e-07 |
3570.51 ms | 37.8% bf16 MFU | 145790 tok/s`, where the step counts from 1 and the z-scores are against the last 128
updates; evaluations are `val loss 4.12`, after the update before them. `main.log` (logger.h): `s:250 tel:6.15`
(validation), `s:250 trl:6.2 lr:0.0003 norm:0.5` (training; older ones hold the loss alone), `s:250 eval:0.25`
(HellaSwag). Losses are nats per token.
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

FORMAT = "llm.c"

_LINE = re.compile(
    rf"^(?:step +(?P<step>\d{{1,12}})/(?P<planned>\d{{1,12}}) \| (?:train )?loss +(?P<loss>{NUMBER})"
    rf"(?: \([^)\n]*\))?(?: ?\| (?:norm|grad_norm) +(?P<norm>{NUMBER})(?: \([^)\n]*\))?)?"
    rf"(?: ?\| lr (?P<lr>{NUMBER}))?(?: \| (?P<ms>{NUMBER}) ms)?(?: \| (?P<mfu>{NUMBER})% [^|\n]*MFU)?"
    rf"(?: \| (?P<tokens>{NUMBER}) tok/s)?(?P<console>)"
    rf"|s:(?P<s>\d{{1,12}}) (?:(?P<kind>trl|tel|eval):(?P<value>{NUMBER})"
    rf"(?: lr:(?P<s_lr>{NUMBER}))?(?: norm:(?P<s_norm>{NUMBER}))?(?P<compact>))"
    rf"|val loss (?P<val>{NUMBER})(?P<evaluation>)"
    r"|\| (?P<key>[A-Za-z][\w ()]{0,60}?) +\| (?P<setting>[^|\n]{0,200}?) *\|$(?P<table>)"
    r"|(?:Writing (?:model|checkpoint)|Resuming|resuming)(?P<told>[^\n]*)"
    rf"|(?:{FAILURE})(?P<failed>[^\n]*))",
    re.M,
)
# llm.c's name of a setting -> a key that the configuration's tables know.
SETTINGS = {
    "micro batch size B": "batch_size", "sequence length T": "block_size", "total batch size": "tokens_per_update",
    "LR scheduler": "lr_scheduler_type", "learning rate (LR)": "learning_rate", "warmup iterations": "warmup_steps",
    "weight decay": "weight_decay", "max_steps": "max_steps", "vocab_size V": "vocab_size",
    "val_loss_every": "eval_interval", "num_parameters": "num_parameters", "micro batch size": "batch_size",
}  # fmt: skip


def match(log: LogFile) -> Match:
    """By the console's lines, or by the compact ones of `main.log`."""
    found = counts(_LINE, log.head)
    if found.get("console", 0) and found.get("table", 0):
        return Match(0.97, f"llm.c's table of settings and {found['console']} of its step lines")
    if found.get("compact", 0) >= 2:
        return Match(0.95, f"{found['compact']} lines of llm.c's main.log")
    if found.get("console", 0) >= 2 and " tok/s" in log.head and "MFU" in log.head:
        return Match(0.9, f"{found['console']} step lines of llm.c")
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
        raise UserError(f"{log.path} has llm.c's header and no step yet; diagnose it again when it has run.")
    for run in runs:
        add_inferred(run, "task", "causal-lm", "format", Source(log.name))
        _accumulation(run)
    return runs


def _accumulation(run: Run) -> None:
    """llm.c states the tokens of an update and of a micro-batch; their ratio is accumulation x GPUs."""
    total = run.raw_settings.get("tokens_per_update")
    batch, context = run.setting("batch_size"), run.setting("context")
    if total is None or not batch or not context:
        return
    share = float(total.value) / (batch * context) if isinstance(total.value, int | float) else 0.0
    if share >= 1 and share.is_integer():
        add_inferred(run, "accumulation", int(share), f"{total.key} / (B x T)", total.source)


def _take(reading: Reading, found: re.Match[str], line: int) -> None:
    kind = found.lastgroup
    if kind == "console":
        step = float(found["step"])
        if step <= reading.kept.get("step", 0) and step <= 1:
            reading.begin(line)
        reading.kept["step"] = step
        reading.setting("max_iters", int(found["planned"]), line, "train_num_batches")
        reading.row(line, {
            "step": step, "loss": value_of(found["loss"]), "norm": value_of(found["norm"]), "lr": value_of(found["lr"]),
            "step_ms": value_of(found["ms"]), "mfu_percent": value_of(found["mfu"]),
            "tokens_per_second": value_of(found["tokens"]),
        })  # fmt: skip
    elif kind == "compact":
        names = {"trl": "loss", "tel": "val_loss", "eval": "hellaswag"}
        reading.row(line, {"step": float(found["s"]), names[found["kind"]]: value_of(found["value"]),
                           "lr": value_of(found["s_lr"]), "norm": value_of(found["s_norm"])})  # fmt: skip
    elif kind == "evaluation":
        reading.row(line, {"step": reading.kept.get("step", 0.0), "val_loss": value_of(found["val"])})
    elif kind == "table":
        if (key := SETTINGS.get(found["key"])) is not None and not reading.part.lines:
            value = setting_of(found["setting"])
            if not (key == "max_steps" and value == -1):  # -1: one epoch of the data
                reading.setting(key, value, line, found["key"])
        elif found["key"] == "final LR fraction":
            reading.setting("min_lr_ratio", setting_of(found["setting"]), line, found["key"])
        elif found["key"] == "weight init method" and "gpt2" in found["setting"]:
            reading.setting("init_from", found["setting"].strip(), line, found["key"])
    elif kind == "told":
        reading.event(line, found[0])
    elif kind == "failed":
        reading.event(line, f"error: {found[0]}")
