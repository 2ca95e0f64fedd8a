"""The text between two numbers of a row, taken apart: what belongs to the number before, what names the one behind.

`loss 2.3s | val: acc 0.5` has between its numbers the unit `s` of the first, the phase `val`, and the key `acc`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from unstuck.runs.names import timed
from unstuck.runs.text_lines import HOLE
from unstuck.runs.text_words import (
    AROUND_COUNTS,
    FILLERS,
    NUMBERED,
    STOP,
    SUMMARY,
    count_of,
    is_known,
    is_outcome,
    is_unit,
    joined,
    phase_of,
    words_of,
)

_LEVEL = r"(?:DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|NOTICE|TRACE|SUCCESS)"
_PLACE = r"[\w./<>-]+\.(?:py|pyx|cc|cpp|cu|hpp|cuh|h|c|go|rs|jl|lua|ipynb):\0"
_PREFIX = re.compile(
    r"[ \t]*(?:"
    rf"[IWEDF]\d{{4}} ?\x01\S* *\0? [\w.-]+:\0\]"  # glog
    rf"|\[(?=[^\]]{{0,200}}(?:\b{_LEVEL}\b|\b[Rr]ank\b|{_PLACE}|pid|\x01|__main__|\w\.\w))(?:[^\]=]|(?<=rank)=){{1,200}}\]:?"
    rf"|\x01\t[^\t\0]{{0,80}}:\0\t[\w.]+:\0\t{_LEVEL}\t"  # OLMo: host and process
    r"|\[\0/\0 \x01[^\]]{0,100}\]:?"  # detectron2: month/day
    r"|\[?\x01(?:\.\0)?\]?(?:[,.]\0)?Z?(?: ?[-|:,]+)?(?= |$|\[)"
    rf"|{_LEVEL}:[\w.]+:"
    rf"|\[?\(?\b{_LEVEL}\b\)?\]?(?: ?[-|:>]+)?(?= |$)"
    r"|\[(?:default|rank|gpu|node|local_rank|stdout|stderr)[ _:]?\d*\0?\]:?"
    r"|(?:rank|node|gpu|worker)[ _]?\d*\0?: "
    r"|\[\0,\0\]<std(?:out|err)>:"
    r"|\([\w.]+ pid=\0[^)]{0,60}\)|\([\w.]+:\0\)(?= |$)"
    rf"|{_PLACE}(?::[\w<>.]+)?(?: ?[-|:>]+)?(?= |$)"
    rf"|[\w.]+ - (?={_LEVEL}\b)|[\w]+\.[\w.]+(?::| -)(?= )|__\w+__(?::\w+)?(?::\0)?(?: ?[-|:]+)(?= )"
    r"|\w+[-_]\d+ *\| "  # docker compose
    r"|\([\w./-]{1,60}\.py[ :]\0\):?(?= |$)"  # Swin and its relatives: the place in brackets behind the time
    r")"
)
_RANKED = re.compile(r"(?:rank|default|gpu|node)[ _:]?(\d{1,6})", re.I)
_SLURM = re.compile(r"[ \t]*\0: (?=\S*[A-Za-z\[{'])")


DELIMITER = re.compile(r"[|,;\t\[\](){}<>\1\2\3│┃║]|(?:(?<= )|^)[-–—]+(?= |$)|[·•→»]|\|\||->|//")
_RELATIONS = {
    "/": "total",
    "]/[": "total",
    "of": "total",
    "out of": "total",
    "±": "spread",
    "+/-": "spread",
    "+-": "spread",
}
_VERB = re.compile(r" (?:so far )?(?:is|was|are|equals|reached|of)\Z")  # "avg loss so far is 0.03"
_UNIT = re.compile(r"(%|/?[A-Za-zµ°]{1,12}(?:/[A-Za-z]{1,12})?)(?=[\s,|;:)\]}(>]|$)")
_SPACED_UNIT = re.compile(r" (%|[A-Za-zµ]{1,12}(?:/[A-Za-z]{1,12})?)(?= ?[,|;)\]}(>\t]| (?!=)|$)")


@dataclass(slots=True)
class Gap:
    """The text between two numbers, taken apart."""

    relation: str = ""
    unit: str = ""
    right: str = ""  # words that belong to the number before
    contexts: tuple[str, ...] = ()
    key: str = ""
    exact: bool = False
    opens: str = ""  # the bracket that stands right before the number


def without_prefix(shape: str) -> tuple[str, list[str], int]:
    """The shape without what logging, launchers and schedulers put before a line; the roles of the numbers in that,
    `skip` or `rank`; and the process that it names, -1 for none."""
    at = 0
    roles: list[str] = []
    for _ in range(8):  # ours: time, level, logger, rank, file and line are five
        found = _PREFIX.match(shape, at)
        rank = None if found else _SLURM.match(shape, at)
        if rank is not None and at == 0:
            roles.append("rank")
            at = rank.end()
        elif found is not None and found.end() > at and HOLE in shape[found.end() :]:
            before = found[0].split(HOLE)[:-1]
            roles += ["rank" if text.lower().endswith("rank ") else "skip" for text in before]
            at = found.end()
        else:
            break
    ranked = _RANKED.search(shape[:at])
    return shape[at:], roles, int(ranked[1]) if ranked else -1


def taken_apart(gap: str, *, first: bool) -> Gap:
    """What a text before a number says about it and about the number before."""
    taken = Gap()
    stripped = gap.strip()
    if not first:
        if stripped in _RELATIONS:
            taken.relation = _RELATIONS[stripped]
            return taken
        taken.unit, gap = _unit(gap)
        if gap.strip() in ("(", "(="):
            taken.relation = "mean"
            return taken
        if gap.strip() == ",":
            taken.relation = "next"
            return taken
    core = gap.rstrip()
    cut = core.rstrip("([{<")
    taken.opens = core[-1] if cut != core else ""
    core = cut.rstrip()
    cuts = list(DELIMITER.finditer(core))
    tail = core[cuts[-1].end() :] if cuts else core
    parts = DELIMITER.split(core)[:-1]
    if cuts and not first:
        taken.right = parts[0].strip()
        parts = parts[1:]
    taken.exact = tail.rstrip().endswith((":", "="))
    tight = taken.exact and not gap.endswith(" ") and not taken.opens
    bounded = taken.exact or bool(taken.opens)
    tail = _VERB.sub("", tail.rstrip(" :="))
    *before, key = re.split(r":(?=\s|$)|(?<=\w):(?=\w)" if not tight else r":", tail) if tail else [""]
    contexts = [part for part in (*parts, *before) if part.strip()]
    if "=" in key:
        head, _, key = key.rpartition("=")
        head, _, word = head.rpartition(" ")
        contexts.append(f"{head} {word}={key.split()[0] if key.split() else ''}")
        key = " ".join(key.split()[1:])
    tokens = key.strip(" .!?*#-–—>~=\\/").split()
    keep = _key_length(tokens, tight, bounded)
    taken.key = " ".join(tokens[len(tokens) - keep :]).strip(".!?*#-–—>~")
    if keep < len(tokens):
        contexts.append(" ".join(tokens[: len(tokens) - keep]))
    taken.contexts = tuple(contexts)
    return taken


def _key_length(tokens: list[str], tight: bool, bounded: bool) -> int:
    """How many of the last words before a number are its key."""
    if len(tokens) <= 1:
        return len(tokens)
    whole = " ".join(tokens)
    if counting(whole):
        return len(tokens)
    if timed(words_of(whole)):
        return len(tokens)  # "data wait ms"
    longest = 6 if bounded and not tight else 4  # ours: "number of skipped iterations:", "train loss"
    if tight:
        for size in range(min(longest, len(tokens)), 1, -1):
            words = words_of(" ".join(tokens[-size:]))
            if joined(words) in (
                "learning_rate",
                "grad_norm",
                "gradient_norm",
                "cross_entropy",
                "val_loss",
                "time_cost",
            ):
                return size
        return 1
    if bounded:
        return len(tokens) if len(tokens) <= longest else known_tail(tokens) or 1
    if known := known_tail(tokens):
        return known
    return len(tokens) if len(tokens) <= 3 else 1


def known_tail(tokens: list[str]) -> int:
    """How many of the last words all belong to what logs name."""
    size = 0
    for token in reversed(tokens):
        words = words_of(token)
        usual = bool(words) and all(
            phase_of(word) or word in SUMMARY or word in FILLERS or is_known(word) for word in words
        )
        counted = size == 0 and bool(count_of(token))
        if (
            not usual
            and not counted
            and not (
                size
                and is_known(f"{token} {' '.join(tokens[-size:])}")
                and size == 1
                and joined(words_of(token)) in ("learning", "gradient", "global")
            )
        ):
            break
        size += 1
    return min(size, 4)


def behind(gap: str, *, last: bool) -> tuple[str, str]:
    """The unit right behind a number, and the words up to the next delimiter that may name it."""
    unit, rest = _unit(gap, spaced=True)
    found = DELIMITER.search(rest)
    words = rest[: found.start()] if found else rest if last else ""
    if found and (words.rstrip().endswith((":", "=")) or (found[0] in "[(" and not rest[found.end() :].strip())):
        words = ""  # "[12 Epoch:[3/25]": it names the next number
    words = words.strip(" .:!*=")
    return unit, words if len(words.split()) <= 3 and not set(words.lower().split()) & STOP else ""


def _unit(gap: str, spaced: bool = False) -> tuple[str, str]:
    """The unit at the beginning of a text, and the rest of the text."""
    found = _UNIT.match(gap)
    if found is not None:
        return found[1], gap[found.end() :]
    found = _SPACED_UNIT.match(gap)
    if found is not None and is_unit(found[1]):
        rest = gap[found.end() :]
        if spaced or re.search(r"[A-Za-z|,;\])]", rest):
            return found[1], rest
    return "", gap


def counting(key: str) -> str:
    """The count that a key names with the words around it: "Train Epoch", "Cost after iteration"; else nothing."""
    if role := count_of(key):
        return role
    *around, last = words_of(key) or ("",)
    role = "" if is_unit(key) else count_of(last)
    if role and all(word in AROUND_COUNTS or word in SUMMARY or phase_of(word) or is_outcome(word) for word in around):
        return role
    first, *rest = words_of(key) or ("",)
    numbered = rest and all(phase_of(word) or word in NUMBERED for word in rest)  # "Epoch(train)", "batch i"
    return count_of(first) if numbered else ""
