"""fairseq's logs in their three dialects: `simple`, `tqdm` and `json` (`--log-format`).

simple: `... | INFO | train_inner | epoch 001:    100 / 4003 loss=12.3, nll_loss=11.9, ppl=3822.1, wps=...,
num_updates=100, lr=1.2e-05, gnorm=2.3, clip=0, wall=40`, at the end of an epoch `... | INFO | train | epoch 001 | loss
8.9 | nll_loss 8.1 | ppl 274 | num_updates 4003 | lr 0.0005 | ...` and `... | INFO | valid | epoch 001 | valid on
'valid' subset | loss 7.2 | nll_loss 6.1 | ppl 68 | num_updates 4003 | best_loss 7.2`; json has an object of strings in
place of the pairs. Versions before 0.9 have neither date nor INFO. fairseq prints losses in base 2 (criterions divide
by ln 2): they are turned into nats here. `loss` holds the label smoothing, `nll_loss` does not, so it is the
cross-entropy where both are there. `gnorm` is the norm before clipping, `clip` the percentage of clipped updates.
"""

from __future__ import annotations

import math
import re

from unstuck.errors import UserError
from unstuck.runs.beside import Beside
from unstuck.runs.build import NO_MATCH, Match
from unstuck.runs.lines import FAILURE, NUMBER, Reading, counts, read_lines, setting_of, value_of
from unstuck.runs.logfile import LogFile, number, parse_json
from unstuck.runs.run import Run
from unstuck.runs.table import runs_of

FORMAT = "fairseq"

_LINE = re.compile(
    r"^(?:[^\n|]{0,40} \| INFO \| )?(?:fairseq[\w.]* \| )?(?:"
    r"(?:(?P<inner>train_inner|train|valid|test) \| )?(?P<json>\{\"epoch\"[^\n]*\})(?P<object>)"
    r"|(?:(?P<name>train_inner|train|valid) \| |\| )?epoch (?P<epoch>\d{1,9})(?P<rest>(?::| \|)[^\n]*)(?P<row>)"
    r"|(?:fairseq_cli\.train \| )?(?P<config>(?:\{'_name'|Namespace\()[^\n]*)(?P<settings>)"
    r"|[^\n|]*?(?:Loaded checkpoint|loaded checkpoint)(?P<resumed>[^\n]*)"
    rf"|(?:{FAILURE})(?P<failed>[^\n]*))",
    re.M,
)
_PAIR = re.compile(rf"(?:^|[\s,|])([a-z]\w*)[= ]({NUMBER})(?=[\s,|]|$)")
_SETTING = re.compile(r"(?<!\w)'?(\w+)'?(?:=|: )('[^']*'|\[[^\]]{0,80}\]|[\w.+-]+)")
_IN_BITS = ("loss", "nll_loss")
_NOT_LOGGED = {"update", "wall", "train_wall", "wpb", "bsz", "wps", "best_loss", "gb_free", "oom"}
SPELLINGS = {"max_update": "max_steps", "update_freq": "gradient_accumulation_steps", "warmup_updates": "warmup_steps",
             "clip_norm": "max_grad_norm", "distributed_world_size": "world_size"}  # fmt: skip


def match(log: LogFile) -> Match:
    """By the lines of an epoch that hold `num_updates`."""
    found = counts(_LINE, log.head)
    rows = found.get("row", 0) + found.get("object", 0)
    if rows and "num_updates" in log.head and ("nll_loss" in log.head or "wps" in log.head or "gnorm" in log.head):
        return Match(0.97, f"{rows} lines of fairseq with num_updates")
    if found.get("settings", 0) and "fairseq" in log.head:
        return Match(0.7, "fairseq's settings")
    return NO_MATCH


def read(log: LogFile, beside: Beside) -> list[Run]:
    """The runs in the file.

    Raises:
        UserError: there is no update yet.
    """
    parts = read_lines(log, _LINE, _take)
    runs = runs_of(parts, beside, source=str(log.path), file=log.name, format=FORMAT, dialect="plain",
                   loss_unit="nats/token")  # fmt: skip
    if not runs:
        raise UserError(f"{log.path} has fairseq's settings and no update yet; diagnose it again when it has run.")
    for run in runs:
        run.notes.append("fairseq prints losses in base 2; they were multiplied by ln 2 and are nats per token.")
    return runs


def _take(reading: Reading, found: re.Match[str], line: int) -> None:
    kind = found.lastgroup
    if kind == "row":
        split = found["name"] or ("valid" if "valid" in found["rest"][:60] else "train_inner")
        if " / " not in found["rest"][:40] and split == "train_inner":
            split = "train"
        _add(reading, line, split, {key: value_of(written) for key, written in _PAIR.findall(found["rest"])})
    elif kind == "object":
        try:
            row = parse_json(found["json"])
        except ValueError:
            return
        if isinstance(row, dict):
            validates = any(str(key).startswith("valid_") for key in row)
            split = found["inner"] or ("valid" if validates else "train_inner")
            values = {re.sub(r"^(?:train|valid|test)_", "", str(key)): number(value) for key, value in row.items()}
            _add(reading, line, split, values)
    elif kind == "settings":
        reading.begin(line)
        for key, written in _SETTING.findall(found["config"][:50_000]):
            value = setting_of(written)
            if key == "update_freq" and isinstance(value, list) and len(value) == 1:
                value = value[0]
            if key == "lr" and isinstance(value, list) and len(value) == 1:
                value = value[0]
            reading.setting(SPELLINGS.get(key, key), value, line, key)
    elif kind == "resumed":
        reading.event(line, f"resumed: {found[0].strip()}")
    elif kind == "failed":
        reading.event(line, f"error: {found[0]}")


def _add(reading: Reading, line: int, split: str, values: dict[str, float | None]) -> None:
    updates = values.get("num_updates")
    if updates is None:
        return
    nats: dict[str, float | None] = {
        key: value * math.log(2) if key in _IN_BITS else value
        for key, value in values.items()
        if value is not None and key not in _NOT_LOGGED and key != "num_updates" and key != "epoch"
    }
    if "nll_loss" in nats:
        smoothed = nats.pop("loss", None)
        nats["loss"] = nats.pop("nll_loss")
        if smoothed is not None and smoothed != nats["loss"]:
            nats["objective"] = smoothed
    if (clipped := nats.pop("clip", None)) is not None:
        nats["clipped_share"] = clipped / 100
    if split in ("valid", "test"):
        nats = {
            f"{split}_{key}": value for key, value in nats.items() if key in ("loss", "objective", "ppl", "accuracy")
        }
    elif split == "train" and "train_inner" in reading.kept:
        nats = {f"epoch_{key}": value for key, value in nats.items() if key == "loss"}  # the mean over the epoch
    else:
        reading.kept[split] = True
    reading.row(line, {"step": updates, **nats})
