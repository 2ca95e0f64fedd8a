"""Keras' `CSVLogger`: one row for each epoch, `loss` and metrics, and the same with `val_` before them.

`epoch` begins at 0; rows are written at the end of an epoch, and `loss` is the mean over it, regularisation included
(keras.callbacks.CSVLogger). Files of older tools leave `epoch` out: rows are epochs then.
"""

from __future__ import annotations

from unstuck.runs.beside import Beside
from unstuck.runs.build import NO_MATCH, Match
from unstuck.runs.logfile import LogFile
from unstuck.runs.readers.csv_metrics import header_matches, read_table
from unstuck.runs.run import Run

FORMAT = "keras-csv"


def match(log: LogFile) -> Match:
    """By a bare `loss` beside `val_loss` or `epoch`, where no other column counts steps."""
    header = set(header_matches(log))
    if "loss" not in header or not header & {"val_loss", "epoch"} or header & {"step", "iter", "iteration"}:
        return NO_MATCH
    metrics = header - {"epoch", "loss", "lr", "learning_rate"}
    paired = {name for name in metrics if name.startswith("val_") and name[4:] in header}
    if not paired and "epoch" not in header:
        return NO_MATCH
    return Match(0.9 if paired else 0.75, "the columns loss and val_loss, one row an epoch, as Keras writes them")


def read(log: LogFile, beside: Beside) -> list[Run]:
    """The run.

    Raises:
        UserError: the table is no training curve.
    """
    runs = read_table(log, beside, FORMAT)
    for run in runs:
        if run.axis == "row":
            run.axis = "epoch"
            run.notes = [n for n in run.notes if not n.startswith("The log has no step")]
            run.notes.append("There is no epoch column: Keras writes one row for each epoch, so rows are epochs.")
    return runs
