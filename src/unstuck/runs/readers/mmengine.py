"""OpenMMLab: MMEngine's text log and mmcv's older one (mmdetection 2, mmsegmentation).

MMEngine: `2022/09/05 12:00:00 - mmengine - INFO - Epoch(train)  [1][ 50/7330]  lr: 1.978e-03  eta: ...  time: 0.38
data_time: 0.01  memory: 3872  grad_norm: 5.1  loss: 1.21  loss_cls: ...`, `Iter(train) [ 50/90000] ...`, and
`Epoch(val)  [1][625/625]    coco/bbox_mAP: 0.31 ...`. mmcv: `... - Epoch [1][50/7330]\tlr: 1.978e-03, eta: 0:10:00,
time: 0.382, data_time: 0.053, memory: 3872, loss_cls: ..., loss: 1.21`, `Iter [50/90000]\t...`. `time` and `data_time`
are seconds per iteration.
"""

from __future__ import annotations

import re

from unstuck.errors import UserError
from unstuck.runs.beside import Beside
from unstuck.runs.build import NO_MATCH, Match
from unstuck.runs.lines import FAILURE, NUMBER, Reading, counts, read_lines, value_of
from unstuck.runs.logfile import LogFile
from unstuck.runs.run import Run
from unstuck.runs.table import runs_of

FORMAT = "mmengine"

_LINE = re.compile(
    r"^(?:(?:\d{4}[/-])?\d\d[/-]\d\d \d\d:\d\d:\d\d(?:,\d+)? - [\w.]+ - INFO - )(?:Exp name: [^\n]*|"
    r"(?P<by>Epoch|Iter)(?:\((?P<mode>train|val|test)\))? +(?:\[ *(?P<epoch>\d{1,9})\])?"
    r"\[ *(?P<at>\d{1,12})/(?P<of>\d{1,12})\](?P<values>[^\n]*)(?P<row>)"
    r"|Saving checkpoint(?P<saved>[^\n]*)|(?:resumed|Resumed|resuming)(?P<resumed>[^\n]*))"
    rf"|^(?:{FAILURE})(?P<failed>[^\n]*)",
    re.M,
)
_PAIR = re.compile(rf"([A-Za-z][\w./@-]{{0,80}}): +({NUMBER})(?![\d:])")
KEYS = {"time": "step_time", "data_time": "data_time"}
_NOT_LOGGED = {"eta", "memory"}


def match(log: LogFile) -> Match:
    """By the lines `Epoch(train) [1][50/7330]` and their older form."""
    found = counts(_LINE, log.head).get("row", 0)
    if found:
        return Match(0.96, f"{found} lines of OpenMMLab's trainer")
    if "- mmengine - INFO -" in log.head or re.search(r" - mm(?:det|seg|cls|pose)\w* - INFO - ", log.head):
        found = sum(counts(_LINE, text).get("row", 0) for _, (_, text) in zip(range(2), log.pieces(), strict=False))
        if found:
            return Match(0.95, f"{found} lines of OpenMMLab's trainer")
    return NO_MATCH


def read(log: LogFile, beside: Beside) -> list[Run]:
    """The runs in the file.

    Raises:
        UserError: there is no iteration yet.
    """
    parts = read_lines(log, _LINE, _take)
    runs = runs_of(parts, beside, source=str(log.path), file=log.name, format=FORMAT, dialect="plain")
    if not runs:
        raise UserError(f"{log.path} has OpenMMLab's header and no iteration yet; diagnose it again when it has run.")
    return runs


def _take(reading: Reading, found: re.Match[str], line: int) -> None:
    kind = found.lastgroup
    if kind == "row":
        values = {KEYS.get(k, k): value_of(v) for k, v in _PAIR.findall(found["values"]) if k not in _NOT_LOGGED}
        at, of = int(found["at"]), int(found["of"])
        if found["mode"] in ("val", "test"):
            if at == of:
                values = {f"val_{key}": value for key, value in values.items() if key not in ("step_time", "data_time")}
                reading.row(line, {"step": reading.kept.get("step", 0.0), **values})
            return
        per_epoch = found["epoch"] is not None
        step = float((int(found["epoch"]) - 1) * of + at) if per_epoch else float(at)
        if step < reading.kept.get("step", 0.0):
            reading.begin(line)
        reading.kept["step"] = step
        if not per_epoch:
            reading.setting("max_iters", of, line)
        reading.row(line, {"step": step, **values})
    elif kind == "saved":
        reading.event(line, f"saving checkpoint{found['saved']}")
    elif kind == "resumed":
        reading.begin(line, resumed=True)
        reading.event(line, f"resumed{found['resumed']}")
    elif kind == "failed":
        reading.event(line, f"error: {found[0]}")
