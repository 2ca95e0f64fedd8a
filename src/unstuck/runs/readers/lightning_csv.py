"""Lightning's `metrics.csv` (`CSVLogger`): one row for each `log()`, training and validation rows apart.

`step` is the trainer's `global_step` before the update was counted, so it begins at 0 or at `log_every_n_steps` - 1;
`epoch` begins at 0. A key logged with `on_step=True, on_epoch=True` comes twice, with the endings `_step` and `_epoch`
(lightning.pytorch.loggers.csv_logs); `LearningRateMonitor` writes `lr-AdamW`, `lr-AdamW/pg1`. `hparams.yaml` lies
beside it.
"""

from __future__ import annotations

import re

from unstuck.runs.beside import Beside
from unstuck.runs.build import NO_MATCH, Match
from unstuck.runs.logfile import LogFile
from unstuck.runs.readers.csv_metrics import header_matches, read_table
from unstuck.runs.run import Run

FORMAT = "lightning-csv"


def match(log: LogFile) -> Match:
    """By `epoch` and `step` in the header, and a key with Lightning's endings or rows that leave cells blank."""
    header = set(header_matches(log))
    if not {"epoch", "step"} <= header:
        return NO_MATCH
    endings = [name for name in header if re.search(r"_(?:step|epoch)$", name)]
    sparse = any(",," in line or line.endswith(",") for line in log.head.split("\n")[1:50])
    if not (endings or sparse or log.path.name == "metrics.csv"):
        return NO_MATCH
    return Match(0.9 if endings or sparse else 0.82, "the columns epoch and step, with blank cells as Lightning leaves")


def read(log: LogFile, beside: Beside) -> list[Run]:
    """The run.

    Raises:
        UserError: no column is known as a loss.
    """
    return read_table(log, beside, FORMAT)
