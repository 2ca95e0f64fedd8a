"""Free text: the log of a program that nobody knows, read by a grammar that is inferred from its own lines.

Numbers are named by the words around them (`unstuck.runs.text_grammar`) or by a header above them
(`unstuck.runs.text_table`); which count is the step is told from how the counts rise (`unstuck.runs.text_axis`). What
was concluded is in the notes with two example lines, and `--columns KEY=NAME` corrects it. What transformers' Trainer,
Keras, fastai, spaCy, Lightning's and tqdm's bars print is read by the same rules.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import replace

from unstuck.errors import UserError
from unstuck.runs.beside import Beside
from unstuck.runs.build import NO_MATCH, Match
from unstuck.runs.logfile import HEAD_BYTES, LogFile
from unstuck.runs.run import Run
from unstuck.runs.table import runs_of
from unstuck.runs.text_groups import LEAST_BARE, group_of, rises
from unstuck.runs.text_parts import text_parts
from unstuck.runs.text_scan import Scan
from unstuck.wording import plural

FORMAT = "text"

LEAST_ROWS = 2  # ours: one row follows no grammar
MANY_ROWS = 20  # ours: as many rows of one grammar are no excerpt in a document
SURE, LIKELY, UNSURE = 0.65, 0.58, 0.5  # ours: below every reader that knows its format (0.7 and more)
NAMELESS = 0.25  # ours: taken only when the user says what the columns are

# What documents, source code and package managers write: a log excerpt in them is no log.
_DOCUMENT = re.compile(
    r"^(?:#{1,6} \w|```|- \[|\* \[|<\w+[ >]|def |class |import |from \w[\w.]* import|return\b|package |#include|//|/\*|"
    r"\s+(?:def|return|self\.|if .*:$|for .*:$)|(?:User|Assistant|Human|AI|Q|A): |Collecting |Requirement already|"
    r"Downloading |Installing )"
)
_NUMBERED = re.compile(r"(?:loss|nll|ppl|perplexity|acc\w*|bpb|score|error)\W{0,12}\d", re.I)
_JSON_DOCUMENT = re.compile(r"\s*(?:\{\s*\n|\[\s*(?:\n|\{))")


def match(log: LogFile) -> Match:
    """By how many rows follow a grammar with an outcome, and how much of the file they are."""
    head = log.head
    if _JSON_DOCUMENT.match(head) and not _goes_on_behind(head):
        return NO_MATCH
    whole = len(log.head_bytes) < HEAD_BYTES
    text = head if whole else head[: head.rfind("\n") + 1] or head
    scan = Scan().read([(1, text)])
    found = _judged(scan, log)
    if found.confidence == 0 and (unknown := _unknown(scan)):
        return Match(NAMELESS, f"rows that count but name no loss; their columns are {unknown}")
    if found.confidence == 0 and (rows := _bare_rows(text)):
        return Match(NAMELESS, f"{plural(rows, 'row')} of numbers without names")
    if found.confidence < UNSURE and not whole:  # a program may print its own source before it trains
        line, piece = next(iter(log.pieces()), (1, ""))
        if len(_NUMBERED.findall(piece)) >= MANY_ROWS:
            found = max(found, _judged(Scan().read([(line, piece)]), log), key=lambda match: match.confidence)
    return found


def _goes_on_behind(head: str) -> bool:
    """Whether other lines follow the JSON object that a text begins with: a printed configuration, then the log."""
    try:
        _, end = json.JSONDecoder().raw_decode(head.lstrip())
    except (ValueError, RecursionError):
        return False
    rest = head.lstrip()[end:].strip()
    return len(rest.splitlines()) >= LEAST_ROWS and rest[0] not in "{["


def _unknown(scan: Scan) -> str:
    """The names in rows that count something and hold nothing known to be a loss; empty without such rows."""
    groups = [group_of(found, {}) for found in scan.found if found.count >= LEAST_BARE and not found.template.strange]
    counted = [
        g for g in groups if g.template.metrics and any(rises(g.column(at)) for at in g.template.counts.values())
    ]
    most = max(counted, key=lambda group: group.count, default=None)
    if most is None or most.count < 0.2 * scan.texts:  # ours: a fifth of the file
        return ""
    return ", ".join([most.template.holes[at].key for at in most.template.metrics][:20])


def _bare_rows(text: str) -> int:
    """How many rows are the same columns of numbers, where they are most of a text; 0 where they are not."""
    scan = Scan(bare=True).read([(1, text)])
    rows = max((found.count for found in scan.found if found.template.table), default=0)
    return rows if rows >= LEAST_ROWS and rows > 0.5 * scan.texts else 0


def _judged(scan: Scan, log: LogFile) -> Match:
    told = text_parts(scan, Beside(), log.name)
    if told is None:
        return NO_MATCH
    share = told.points / max(1, scan.texts)
    steps = [part.steps(told.columns) for part in told.parts]
    reason = f"{plural(told.points, 'row')} of numbers under names in {plural(scan.texts, 'line')}"
    if told.points < LEAST_ROWS and told.format != "hf-stdout":
        return Match(0.3, reason)
    lines = log.head.split("\n")
    documents = sum(_DOCUMENT.match(line) is not None for line in lines) / max(1, len(lines))
    if documents > 0.1 and share < 0.5 and told.points < MANY_ROWS:  # ours: one line in ten is no accident
        return Match(0.3, f"{reason}, in a document")
    rises = any(len(ends) == 2 and ends[1] > ends[0] for ends in steps) or told.format == "hf-stdout"
    if rises and (share >= 0.5 or told.points >= MANY_ROWS):
        return Match(SURE if share >= 0.5 and told.points >= 10 else LIKELY, reason)
    if rises or share >= 0.5:
        return Match(UNSURE, reason)
    return Match(0.4, reason)


def read(log: LogFile, beside: Beside) -> list[Run]:
    """The runs of the file.

    Raises:
        UserError: no row holds a number under a name of training; the user named a column that is not there.
    """
    scan = Scan(bare=any(_place(key) for key in beside.columns)).read(_pieces(log))
    said = {(f"col{place}" if (place := _place(key)) else key): name for key, name in beside.columns.items()}
    told = text_parts(scan, replace(beside, columns=_matched(scan, said)), log.name)
    if told is None:
        raise UserError(
            f"{log.path} has no lines with numbers that say what they are; name its columns, for example "
            "--columns 1=step,2=train/loss."
        )
    runs = runs_of(
        told.parts, replace(beside, columns=told.columns), source=str(log.path), file=log.name, format=told.format
    )
    if not runs:
        raise UserError(f"{log.path} has counts but no loss or other series; name its columns with --columns.")
    for run in runs:
        run.notes[:0] = told.notes
    return runs


def _pieces(log: LogFile) -> Iterator[tuple[int, str]]:
    yield from log.pieces()


def _place(key: str) -> int:
    """The place of a column without a name, `2` or `col2`; 0 for a name."""
    found = re.fullmatch(r"(?:col)?(\d{1,3})", key)
    return int(found[1]) if found else 0


def _matched(scan: Scan, said: dict[str, str]) -> dict[str, str]:
    """What the user said by the keys of the log, capitals and spaces aside.

    Raises:
        UserError: a key that the log does not have.
    """
    keys = {hole.key or f"col{at + 1}" for found in scan.found for at, hole in enumerate(found.template.holes)}
    keys |= {f"{phase}/{key}" for key in keys for phase in ("val", "test")}
    plain = {_plain(key): key for key in sorted(keys, reverse=True)}
    matched = {}
    for key, name in said.items():
        if key not in keys and _plain(key) not in plain:
            near = difflib.get_close_matches(key, sorted(keys), n=3)
            hint = f"; the nearest are {', '.join(near)}" if near else ""
            raise UserError(f"The log has no column {key}{hint}; unstuck diagnose without --columns lists them.")
        matched[key if key in keys else plain[_plain(key)]] = name
    return matched


def _plain(key: str) -> str:
    return re.sub(r"[\s_/-]+", "_", key.strip().lower())
