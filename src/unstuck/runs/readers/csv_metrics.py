"""Delimited tables with any column names: `metrics.csv`, `log.csv`, `results.tsv`, timm's `summary.csv`, ultralytics'
`results.csv`, exports of TensorBoard and W&B.

Rows need not hold every column (Lightning writes training and validation rows apart). Key names are inferred by the
ordered table of `unstuck.runs.names`. Several runs side by side, or below one another under a column that names the
run, are told apart. A table with one row for each finished run is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from unstuck.errors import UserError
from unstuck.runs import names
from unstuck.runs.beside import Beside
from unstuck.runs.build import NO_MATCH, Match
from unstuck.runs.csv_table import RUN_NAMES, Table, blank_of, blocks, floats_of, side_by_side, table_of
from unstuck.runs.logfile import LogFile, number
from unstuck.runs.parts import Part
from unstuck.runs.run import Run, Setting, Source
from unstuck.runs.table import runs_of

FORMAT = "csv"

_LOSSES = {"train/loss", "val/loss", "train/perplexity", "val/perplexity", "train/objective", "val/bits_per_byte"}
# ours: a table of finished runs names settings of the model or the run; a curve has at most its schedule's beside it
_SETTING_WORDS = frozenset((
    "lr", "learning_rate", "bs", "batch_size", "batch", "h", "hidden", "hidden_size", "width", "d_model", "layers",
    "n_layer", "num_layers", "depth", "heads", "n_head", "seed", "weight_decay", "wd", "dropout", "params",
    "parameters", "n_params", "d", "n", "tokens", "warmup", "optimizer", "rank", "alpha",
))  # fmt: skip


def match(log: LogFile) -> Match:
    """Whether the text is a table, and what its columns are."""
    table = table_of(log.head)
    if table is None or (log.head.lstrip()[:1] in "{[<" and table.header_line != 0):
        return NO_MATCH
    if table.header_line == 0:
        return Match(0.3, "columns of numbers without names")
    known = {entry.canonical for entry in names.assign(dict.fromkeys(table.names, 1)).values()}
    axis = next((key for key in names.x_axis(dict.fromkeys(table.names, 1)) if key), None)
    what = (
        f"a table with the columns {', '.join(n[:40] for n in table.names[:5])}{' ...' if len(table.names) > 5 else ''}"
    )
    if known & _LOSSES or side_by_side(table.names):
        return Match(0.8 if axis else 0.7, what)
    if table.ragged() is not None or refusal(table) is not None or _is_tensorboard(table.names):
        return Match(0.6, what)
    return Match(0.5 if axis and len(known) > 1 else 0.3, what)


def read(log: LogFile, beside: Beside) -> list[Run]:
    """The runs of the table.

    Raises:
        UserError: it is no training curve; the sentence says what it is.
    """
    return read_table(log, beside, FORMAT)


def read_table(log: LogFile, beside: Beside, format: str, dialect: str | None = None) -> list[Run]:
    """As `read`, for the formats that are tables too.

    Raises:
        UserError: it is no training curve; the sentence says what it is.
    """
    table = table_of(log.head)
    if table is None:
        raise UserError(f"{log.path} is no table that can be read; name the log file itself.")
    if (ragged := table.ragged()) is not None:
        line, cells = ragged
        raise UserError(
            f"{log.path} has {len(table.names)} names in its header and {cells} values in line {line}, so nothing says "
            "which value is which; write the table anew with a name for each column."
        )
    said = dict(beside.columns)
    if not said and (sentence := refusal(table)) is not None:
        raise UserError(f"{log.path} {sentence}")
    if _is_tensorboard(table.names):
        said = _value_of_tensorboard(log, table, said)
    runs: list[Run] = []
    for name, parts in _parts(log, table).items():
        here = Beside(beside.raw, beside.files, beside.notes, said)
        source = f"{log.path} ({name})" if name else str(log.path)
        runs += runs_of(parts, here, source=source, file=log.name, format=format, dialect=dialect)
    if not any(any(s.startswith(("train/", "val/", "lr/")) for s in run.series) for run in runs):
        raise UserError(
            f"{log.path} has no column that is known as a loss ({', '.join(n[:40] for n in table.names[:8])}); say "
            f"which it is, for example --columns {table.names[-1][:40]}=train/loss."
        )
    return runs


def refusal(table: Table) -> str | None:
    """Why a table is not the record of a run, as the end of a sentence; None when it may be one."""
    if side_by_side(table.names) or not table.sample:
        return None
    step, micro, epoch = names.x_axis(dict.fromkeys(table.names, 1))
    axis = step or micro or epoch
    if axis is not None and _rises(table, table.names.index(axis)):
        return None
    normal = {names.normalise(name) for name in table.names}
    labelled = [
        name for k, name in enumerate(table.names) if len(table.labels(k)) > max(1, len(table.sample) // 2)
    ]  # fmt: skip
    settings = sorted(normal & _SETTING_WORDS)
    if labelled or (len(settings) >= 3 and not axis):
        by = labelled[0] if labelled else settings[0]
        return (
            f"is a table of {len(table.sample)}{'' if len(table.sample) < 200 else ' or more'} finished runs, one row "
            f"each (named by {by[:60]}), not the record of one run over its updates; name the log of a run."
        )
    return None


def _rises(table: Table, place: int) -> bool:
    """Whether a column counts upwards in most of the rows that have it (a new run may begin again)."""
    values = [v for row in table.sample if place < len(row) and (v := number(row[place].strip())) is not None]
    if len(values) < 2:
        return len(values) == 1
    steps = np.diff(np.array(values))
    return bool(np.mean(steps >= 0) >= 0.5 and (steps > 0).any())


def _parts(log: LogFile, table: Table) -> dict[str, list[Part]]:
    """The parts of each run of the table, by the name of the run; "" where it is one."""
    beside_each_other = side_by_side(table.names)
    if beside_each_other:
        runs: dict[str, list[Part]] = {run: [Part()] for run in beside_each_other}
        axis = {name for name in table.names if not any(name in keys for keys in beside_each_other.values())}
        for lines, columns in blocks(log, table):
            for run, keys in beside_each_other.items():
                _fill(runs[run][0], lines, columns, table, {**dict.fromkeys(axis), **keys})
        for run, (part,) in runs.items():
            if (found := re.search(r"(?:^|_)(learning_rate|lr|seed)[ _=:-]*([\d.]+(?:e-?\d+)?)$", run)) is not None:
                key = "learning_rate" if found[1] == "lr" else found[1]
                part.raw[key] = Setting(number(found[2]), key, Source(log.name, table.header_line))
        return runs
    by_run = next((k for k, name in enumerate(table.names) if _names_runs(table, k, name)), None)
    parts: dict[str, list[Part]] = {}
    for lines, columns in blocks(log, table):
        whose = columns[by_run] if by_run is not None else [""] * len(lines)
        for name in dict.fromkeys(whose):
            part = parts.setdefault(name, [Part()])[0]
            if by_run is None:
                _fill(part, lines, columns, table, {})
            else:
                rows = [k for k, run in enumerate(whose) if run == name]
                _fill(part, lines[rows], [[column[k] for k in rows] for column in columns], table, {})
    return parts


def _names_runs(table: Table, place: int, name: str) -> bool:
    """Whether a column says whose row it is: by its name, and because the steps begin again where it changes."""
    if names.normalise(name) not in RUN_NAMES:
        return False
    whose = [row[place] for row in table.sample if place < len(row)]
    return 1 < len(set(whose)) <= max(2, len(whose) // 2)


def _fill(part: Part, lines: np.ndarray, columns: list[list[str]], table: Table, keys: dict[str, str | None]) -> None:
    """Append rows; `keys` renames columns and, where given, leaves out those that it does not name."""
    filled: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, cells in zip(table.names, columns, strict=True):
        if not name or (keys and name not in keys):
            continue
        values = floats_of(cells)
        rows = np.flatnonzero(~blank_of(cells, values))
        if len(rows):
            filled.setdefault((keys.get(name) or name), (rows, values[rows]))
    part.add_rows(lines, filled)


def _is_tensorboard(header: list[str]) -> bool:
    """The CSV that TensorBoard's page downloads."""
    return [name.lower() for name in header] == ["wall time", "step", "value"]


def _value_of_tensorboard(log: LogFile, table: Table, said: dict[str, str]) -> dict[str, str]:
    """What the one value of TensorBoard's download is: its file name holds the tag (`run-x-tag-train_loss.csv`)."""
    if "Value" in said or "value" in said:
        return said
    tag = re.search(r"tag-(.+?)(?: \(\d+\))?\.csv", log.name)
    entry = names.assign({tag[1]: 1}).get(tag[1]) if tag else None
    if entry is None:
        raise UserError(
            f"{log.path} is TensorBoard's download of one curve and its name does not say of which; "
            "say so with --columns Value=train/loss."
        )
    return {**said, table.names[2]: entry.canonical, table.names[0]: ""}


def header_matches(log: LogFile) -> Iterator[str]:
    """The names of the header of a table; none where the text is no table."""
    table = table_of(log.head)
    if table is not None and table.header_line:
        yield from table.names
