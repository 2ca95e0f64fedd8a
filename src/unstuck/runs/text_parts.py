"""From the points of a text log to parts of a run: columns by key, settings, events, and what to tell the user."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from unstuck.config.dialects import canonical_settings, guess_dialect
from unstuck.runs import names
from unstuck.runs.beside import Beside
from unstuck.runs.logfile import number
from unstuck.runs.parts import RESUMED, Part
from unstuck.runs.run import Floats, Ints, Run, Setting, Source
from unstuck.runs.table import updates_per_epoch
from unstuck.runs.text_axis import axis_of
from unstuck.runs.text_choice import choose, is_summary
from unstuck.runs.text_counts import TextAxis, filled, loose_rows
from unstuck.runs.text_groups import Group, group_of, in_blocks, key_of, scores_of
from unstuck.runs.text_lines import HOLE
from unstuck.runs.text_names import LAST_BATCH, canonical, scale_of
from unstuck.runs.text_scan import MAX_LOOKS, REPEATED, Scan
from unstuck.runs.text_settings import known, read_settings
from unstuck.runs.text_words import ACCURACIES, LOSSES, in_family, is_known, split_phase, words_of

LEAST_HEADER = 3  # ours: settings printed again between two points that make a new start of the program
LEAST_CONSTANT = 10  # ours: points of a number that is always the same, such as a process or a batch size
SAME_START = 200  # ours: rows within which one start of the program may say more than once that it resumes
SHOWN = 3  # ours: templates that are shown to the user
FAR = 10.0  # ours: the mean of an epoch and the values of its last batches, which may have come down much since
WIDE = 150  # characters of an example line in a note


@dataclass(slots=True)
class TextParts:
    """What a text log holds.

    Attributes:
        parts: its stretches between two starts of the program.
        columns: key as logged -> canonical series or axis, what was concluded and what the user said.
        format: `text`, or `hf-stdout` for what transformers' Trainer prints.
        points: rows that hold an outcome.
        notes: for the user.
    """

    parts: list[Part]
    columns: dict[str, str]
    format: str = "text"
    points: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Column:
    """The points of one key."""

    rows: list[Ints] = field(default_factory=list)
    values: list[Floats] = field(default_factory=list)
    decimals: int | None = 0
    exact_zero: bool = False
    time: str = ""  # the series of times in ms that it was converted to

    def add(self, rows: Ints, values: Floats, decimals: int | None, exact_zero: bool) -> None:
        self.rows.append(rows)
        self.values.append(values)
        self.decimals = None if decimals is None or self.decimals is None else max(decimals, self.decimals)
        self.exact_zero |= exact_zero

    def joined(self) -> tuple[Ints, Floats]:
        rows, values = np.concatenate(self.rows), np.concatenate(self.values)
        order = np.argsort(rows, kind="stable")
        return rows[order], values[order]


def text_parts(scan: Scan, beside: Beside, file: str) -> TextParts | None:
    """The parts of a scanned log; None where it holds no record of training.

    Args:
        beside: configuration found beside the log, and what the user said about its columns.
        file: what evidence calls the file.
    """
    groups = in_blocks(choose(scan, dict(beside.columns)))
    measured = [group for group in groups if group.template.metrics]
    if not measured:
        return _summary_only(scan, beside, file)
    heads = _headers(scan, groups, file)
    raw = {**beside.raw, **{key: setting for _, _, settings in heads for key, setting in settings.items()}}
    settings = canonical_settings(raw, guess_dialect(raw))
    run = Run("", "", settings=settings, raw_settings=raw)
    bars = [group_of(found, {}) for found in scan.found if found.template.is_bar and not found.template.outcomes]
    logging_steps = number(raw["logging_steps"].value) if "logging_steps" in raw else None
    axis = axis_of(
        groups, number(run.setting("batch_size")), bars, logging_steps, updates_per_epoch(run), _finished(scan),
        number(run.setting("accumulation")),
    )  # fmt: skip
    notes = list(axis.notes)
    columns = _columns(groups)
    said = {key: name for key, name in beside.columns.items() if key in columns}
    _resolve(columns, notes)
    counts = {key: sum(map(len, column.rows)) for key, column in columns.items()}
    for name in ("time/step_ms", "time/data_ms"):
        if (timed := next((key for key, c in columns.items() if c.time == name and key not in said), None)) is not None:
            said = {timed: name, **said}
    said = {**canonical(counts, said, scores_of(groups)), **said}
    columns = {key: column for key, column in columns.items() if key in said or not key.endswith(LAST_BATCH)}
    notes += [f"{key} has no name; it was taken for the training loss." for key, name in said.items()
              if name == "train/loss" and re.fullmatch(r"col\d+", key) and key not in beside.columns]  # fmt: skip
    parts = _parts(groups, axis, columns, heads, scan, file, set(settings), said)
    if scan.looks > MAX_LOOKS:
        notes.append(f"The log has more than {MAX_LOOKS:,} kinds of lines; later kinds were not looked at.")
    if (stride := max(found.stride for found in scan.found)) > 1:
        notes.append(f"The log is very long: of its densest lines every {stride}th was read.")
    told = TextParts(parts, said, "hf-stdout" if _is_trainer(groups) else "text", notes=notes)
    told.points = sum(group.count if group.template.is_running else len(group.rows) for group in measured)
    notes[:0] = _grammar(measured, axis, {**{k: e.canonical for k, e in names.assign(counts, said).items()}, **said})
    return told


def _summary_only(scan: Scan, beside: Beside, file: str) -> TextParts | None:
    """A log of which only the end was printed: what transformers' Trainer says of the whole run is its one point."""
    finished = _finished(scan)
    if finished is None:
        return None
    found = next(found for found in scan.found if is_summary(found.template))
    told = dict(zip((found.template.holes[at].key for at in found.wanted), found.values()[0].tolist(), strict=True))
    if not {"train_loss", "epoch"} <= told.keys():
        return None
    line = int(found.lines()[0])
    part = Part(raw={"max_steps": Setting(int(finished[0]), "max_steps", Source(file, line))})
    part.add(line, {"step": finished[0], "train_loss": told["train_loss"], "epoch": told["epoch"]})
    _summaries([part], scan)
    note = "The log holds only the summary of the whole training: train_loss is the mean over all of it."
    return TextParts([part], dict(beside.columns), "hf-stdout", 1, [note])


def _columns(groups: Sequence[Group]) -> dict[str, _Column]:
    """The points of all groups by key."""
    columns: dict[str, _Column] = {}
    for group in groups:
        template = group.template
        means = {hole.of: at for at, hole in enumerate(template.holes)
                 if hole.role == "mean" and _may_be_mean(group.column(hole.of), group.column(at))}  # fmt: skip
        for at in template.metrics:
            key, hole = key_of(group, at), template.holes[at]
            values, digits = group.column(at), group.decimals[group.wanted.index(at)]
            batched = {"batch", "count"} & template.counts.keys() and group.is_evaluation
            if key == "s/it" and template.is_bar:  # tqdm goes over to it where one takes longer than a second
                with np.errstate(divide="ignore"):
                    key, values, digits = "it/s", 1 / values, None
            if at in means and group.is_evaluation:
                values = group.column(means[at])
            elif batched and not template.is_running:
                key = f"{key}{LAST_BATCH}"  # which may be the mean so far or not
            elif at in means:
                columns.setdefault(f"{key} (mean)", _Column()).add(group.rows, group.column(means[at]), digits, False)
            total = template.total_of(at)
            if total is not None and in_family(split_phase(key)[1], ACCURACIES):
                with np.errstate(divide="ignore", invalid="ignore"):
                    values = values / group.column(total)
                digits = None
            scale, time = scale_of(key, hole.unit, at in means)
            scaled = values * scale
            bar = template.is_bar and split_phase(key)[0] in ("val", "test") and not group.is_evaluation
            kept = _last_of_epoch(group, values) if bar else np.isfinite(values) | ~np.isfinite(values)
            column = columns.setdefault(key, _Column())
            column.add(group.rows[kept], scaled[kept], digits, template.is_repr)
            column.time = column.time or time
    return columns


def _may_be_mean(values: Floats, means: Floats) -> bool:
    """Whether numbers in brackets may be the means of those before them: of positive ones no mean is zero or less
    (Coqui prints the change since the last evaluation there), and none is far from all of them."""
    if np.any(values <= 0) or not np.isfinite(values).any():
        return True
    typical = float(np.median(means))
    return bool(not np.any(means <= 0) and np.nanmin(values) / FAR <= typical <= np.nanmax(values) * FAR)


def _last_of_epoch(group: Group, values: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """A bar repeats the last evaluation in every state: the last state of each epoch, else each change, is a point."""
    if "epoch" in group.template.counts:
        epochs = group.column(group.template.counts["epoch"])
        return np.append(epochs[1:] != epochs[:-1], True)
    with np.errstate(invalid="ignore"):
        return np.append(True, ~((values[1:] == values[:-1]) | (np.isnan(values[1:]) & np.isnan(values[:-1]))))


def _resolve(columns: dict[str, _Column], notes: list[str]) -> None:
    """Leave out what was printed without a digit (a zero that only rounding made is no measurement), and whole numbers
    without a known name that never change."""
    for key, column in list(columns.items()):
        digits = column.decimals
        values = np.concatenate(column.values)
        finite = values[np.isfinite(values)]
        if digits == 0 and len(finite) >= LEAST_CONSTANT and not is_known(key) and np.all(finite == finite[0]):
            del columns[key]
            continue
        if not digits or column.exact_zero or not len(finite) or not np.any(finite == 0):
            continue
        largest, printed = float(np.abs(finite).max()), 10.0**-digits
        if largest == 0:
            del columns[key]
            notes.append(f"{key} is always printed as {0:.{digits}f}: it is not resolved and was left out.")
        elif largest < 10 * printed:  # one digit at most: its zeros are anything below it
            for at, part in enumerate(column.values):
                column.rows[at], column.values[at] = column.rows[at][part != 0], part[part != 0]
            notes.append(f"{key} is printed to {printed:g} only; its zeros are not resolved and were left out.")


def _headers(scan: Scan, groups: list[Group], file: str) -> list[tuple[int, int, dict[str, Setting]]]:
    """Settings printed before the first point, and again before later ones: (row, line, settings) of each start."""
    points = np.sort(np.concatenate([group.rows for group in groups if group.template.metrics]))
    repeated = {row for group in groups if group.count >= LEAST_HEADER for row in group.rows[:REPEATED].tolist()}
    blocks: dict[int, list[tuple[int, int, str]]] = {}
    for told in scan.told:
        if (told.kind == "setting" or split_phase(told.kind)[0]) and told.row not in repeated:
            blocks.setdefault(int(np.searchsorted(points, told.row)), []).append((told.row, told.line, told.text))
    heads: list[tuple[int, int, dict[str, Setting]]] = []
    for place, lines in sorted(blocks.items()):
        settings = read_settings([(line, text) for _, line, text in lines], file)
        own = {key for key in settings if known(key) is not None}
        if place == 0:
            heads.append((0, 1, settings))
        elif place < len(points) and len(own) >= LEAST_HEADER and (not heads or own & heads[0][2].keys()):
            heads.append((lines[0][0], lines[0][1], settings))
    return heads if heads and heads[0][0] == 0 else [(0, 1, {}), *heads]


def _starts(groups: Sequence[Group], axis: TextAxis, heads: list[tuple[int, int, dict[str, Setting]]], scan: Scan
            ) -> list[tuple[int, int]]:  # fmt: skip
    """Row and line of each start of the program: a header, a message that it resumes, or epochs that begin again."""
    starts = {row: line for row, line, _ in heads}
    first = min(int(group.rows[0]) for group in groups)
    for told in scan.told:
        again = told.kind == "event" and told.row > first and RESUMED.search(told.text) is not None
        if again and not any(0 <= told.row - row <= SAME_START and row > 0 for row in starts):
            starts[told.row] = told.line
    if axis.kind == "epoch":
        pairs = [(r, e, line) for group, epochs in zip(groups, axis.epochs, strict=True)
                 for r, e, line in zip(group.rows.tolist(), epochs.tolist(), group.lines.tolist(), strict=True)
                 if "epoch" in group.template.counts]  # fmt: skip
        pairs.sort()
        begin = highest = float("nan")
        for row, epoch, line in pairs:
            if not begin <= epoch:
                if begin == begin and highest > begin:
                    starts[row] = line
                begin = highest = epoch
            elif epoch == begin and highest > begin:
                starts[row] = line
                highest = epoch
            highest = max(highest, epoch)
    return sorted(starts.items())


def _parts(groups: Sequence[Group], axis: TextAxis, columns: Mapping[str, _Column],
           heads: list[tuple[int, int, dict[str, Setting]]], scan: Scan, file: str, settled: set[str],
           said: dict[str, str]) -> list[Part]:  # fmt: skip
    """The parts with their rows, settings and events; the name of the x-axis goes into `said`."""
    rows, lines = _all_rows(groups)
    wide = dict(columns)
    x = axis.epochs if axis.kind == "epoch" else axis.updates
    name = _x_name(axis, columns)
    if axis.kind != "row":
        wide[name] = _filled(groups, x)
        said[name] = {"update": "step", "micro-batch": "micro_step"}.get(axis.kind, "epoch")
    counted = [(g.rows, e) for g, e in zip(groups, axis.epochs, strict=True) if "epoch" in g.template.counts]
    if axis.kind in ("update", "micro-batch") and counted and "epoch" not in wide:
        wide["epoch"] = _Column([r for r, _ in counted], [e for _, e in counted])
    starts = _starts(groups, axis, heads, scan)
    by_row = {row: settings for row, _, settings in heads}
    ends = [*(row for row, _ in starts), scan.rows]
    events = [one for one in scan.told if one.kind == "event"]
    told = np.searchsorted([one.row for one in events], ends).tolist()
    first = np.searchsorted(rows, ends).tolist()
    data: list[dict[str, tuple[Ints, Floats]]] = [{} for _ in starts]
    for key, column in wide.items():
        at, values = column.joined()
        cuts = np.searchsorted(at, ends).tolist()
        places = np.searchsorted(rows, at)
        for place in range(len(starts)):
            if cuts[place] < cuts[place + 1]:
                mine = slice(cuts[place], cuts[place + 1])
                data[place][key] = (places[mine] - first[place], values[mine])
    parts: list[Part] = []
    for place, (row, line) in enumerate(starts):
        part = Part(line=line, raw=by_row.get(row, {}))
        part.add_rows(lines[first[place] : first[place + 1]], data[place])
        part.events = [(one.line, one.text.strip()[:300], {}) for one in events[told[place] : told[place + 1]]]
        parts.append(part)
    _summaries(parts, scan)
    _plan(parts[0], axis, file, settled)
    return parts


def _all_rows(groups: Sequence[Group]) -> tuple[Ints, Ints]:
    rows = np.concatenate([group.rows for group in groups])
    lines = np.concatenate([group.lines for group in groups])
    rows, first = np.unique(rows, return_index=True)
    return rows, lines[first]


def _x_name(axis: TextAxis, columns: Mapping[str, _Column]) -> str:
    name = axis.name or ("epoch" if axis.kind == "epoch" else "update")
    return name if name not in columns else f"{name} (count)"


def _filled(groups: Sequence[Group], x: Sequence[Floats]) -> _Column:
    """The x-axis of every row: its own count, else that of the rows around it."""
    rows = np.concatenate([group.rows for group in groups])
    values = np.concatenate(list(x))
    order = np.argsort(rows, kind="stable")
    rows, values = rows[order], values[order]
    known_ = np.isfinite(values)
    column = _Column()
    loose = loose_rows(groups)
    for group, own in zip(groups, x, strict=True):
        around = filled(rows[known_], values[known_], group, loose)
        column.add(group.rows, np.where(np.isfinite(own), own, around), None, True)
    return column


def _summaries(parts: list[Part], scan: Scan) -> None:
    """What transformers' Trainer prints at the end."""
    # The first line of each part and of all behind it: increasing, so that bisection finds the last part of a line.
    firsts = np.minimum.accumulate([part.line for part in reversed(parts)])[::-1]
    for found in scan.found:
        if is_summary(found.template) and found.count:
            values = found.values()
            for line, row in zip(found.lines().tolist(), values.tolist(), strict=True):
                data = {found.template.holes[at].key: value for at, value in zip(found.wanted, row, strict=True)}
                place = int(np.searchsorted(firsts, line, side="right")) - 1
                parts[max(place, 0)].events.append((line, "end of training", data))


def _finished(scan: Scan) -> tuple[float, float] | None:
    """Steps and epochs of a run that transformers' Trainer has ended: its seconds times its steps per second."""
    for found in scan.found:
        if is_summary(found.template) and found.count == 1:
            keys = [found.template.holes[at].key for at in found.wanted]
            told = dict(zip(keys, found.values()[0].tolist(), strict=True))
            steps = told["train_runtime"] * told.get("train_steps_per_second", 0.0)
            if 0.5 < steps < float("inf") and told.get("epoch", 0.0) > 0:
                return float(round(steps)), told["epoch"]
    return None


def _plan(part: Part, axis: TextAxis, file: str, settled: set[str]) -> None:
    """Totals that the log prints become settings where no configuration has them."""
    for name, planned in axis.planned.items():
        if name not in settled and name not in part.raw and planned.value == int(planned.value):
            part.raw = {**part.raw, name: Setting(int(planned.value), name, Source(file, planned.line))}


def _is_trainer(groups: Sequence[Group]) -> bool:
    """Whether the rows are the dictionaries that transformers' Trainer prints."""
    wanted = {"loss", "learning_rate", "epoch"}
    return any(g.template.is_repr and wanted <= {hole.key for hole in g.template.holes} for g in groups)


def _grammar(groups: list[Group], axis: TextAxis, given: Mapping[str, str]) -> list[str]:
    """How the log was read, with two example lines of each template that was met most, and how to correct it."""
    seen: Counter[str] = Counter()
    notes: list[str] = []
    for group in sorted(groups, key=lambda group: -group.count):
        template = group.template.body or group.template.shape
        if seen[template] or len(notes) >= SHOWN:
            continue
        seen[template] += 1
        lines = "; ".join(f"line {line}: {_short(text)}" for line, text in group.examples[:2])
        notes.append(f'Read by its own grammar: "{_shown(group, given)}" ({lines}).')
    keys = sorted({key_of(group, at) for group in groups for at in group.template.metrics})
    counts = sorted(
        {hole.key for g in groups for at in g.template.counts.values() if (hole := g.template.holes[at]).key}
    )
    columns = f"(columns: {', '.join([*counts, *keys][:40])})"
    example = next((key for key in keys if given.get(key) == "train/loss"), None)
    if example is not None:
        notes.append(f"If a column is named wrongly: --columns '{example}=val/loss' {columns}.")
    else:
        often = Counter({key_of(group, at): group.count for group in groups for at in group.template.metrics})
        likely = max(often, key=lambda key: (any(word in LOSSES for word in words_of(key)), often[key]))
        notes.append(
            f"No training loss was recognised; name it, for example --columns '{likely}=train/loss' {columns}."
        )
    return notes


def _shown(group: Group, given: Mapping[str, str]) -> str:
    """The template with the name of each number in braces."""
    template = group.template
    named = []
    for at, hole in enumerate(template.holes):
        key = key_of(group, at)
        name = given.get(key, key) if hole.role == "metric" else hole.role
        named.append("{" + ("" if hole.role in ("skip", "number") else name) + "}")
    body = template.body or template.shape
    named = named[len(named) - body.count(HOLE) :]
    parts = body.split(HOLE)
    text = parts[0] + "".join(name + part for name, part in zip(named, parts[1:], strict=True))
    return _short(re.sub(r"[\1-\3]+", "..", text))


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= WIDE else text[: WIDE - 2] + ".."
