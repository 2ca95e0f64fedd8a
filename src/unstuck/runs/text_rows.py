"""What one row of a text log says by itself: whether it may hold numbers of training, an event or a phase."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

REMEMBERED, MAX_REMEMBERED = 4096, 400  # ours: rows that come again and again, and characters of one; 2 MB of them

# What a row must hold beside numbers to be worth a look: a word of training, in any case, or hardly any words.
_WORTH = (
    "loss", "acc", "epoch", "step", "iter", "val", "train", "test", "eval", "lr", "learn", "norm", "err", "score",
    "batch", "ppl", "perp", "nll", "bpb", "bpc", "bpd", "mse", "mae", "f1", "auc", "map@", "map5", "map:", "map=",
    "bleu", "rouge", "reward", "cost", "it:", "it=", "[it ", "/it", "ep:", "ep=", "ce:", "ce=", "objective", "trl",
    "tel", "dev", "%|", "iou", "dice", "rec=", "rec:", "recon", "total", "verlust", "perte", "perda", "損失", "损失",
)  # fmt: skip
_HINTS = ("error", "exception", "memory", "killed", "due to", "fault", "sig", "resum", "stop", "sav", "writing",
          "wrote", "reducing", "overflow", "loading", "interrupt", "core dumped")  # fmt: skip
_NO_LETTER = r"(?:[^A-Za-z]|(?<=\d)[eE](?=[-+]?\d))"
_FEW_WORDS = re.compile(rf"{_NO_LETTER}*+(?:[A-Za-z]++{_NO_LETTER}++){{0,3}}[A-Za-z]*+\Z")
_DIGIT = re.compile(r"\d")
_PHASE = re.compile(
    r"\W{0,12}(?:running |starting |begin |start |model )?(train(?:ing)?|valid(?:ation|ating)?|val|eval(?:uation)?"
    r"|evaluating|test(?:ing)?|dev)"
    r"(?: (?:phase|set|error|results?|metrics|stats|loop|epoch|step|summary|performance|mode|\.{1,3}))?\W{0,24}",
    re.I,
)
# The time and the level that logging puts before a row: "16:18:40 INFO | valid:".
_STAMP = re.compile(
    r"[\[(]?\d[\d:.,/T -]{6,30}[\])]?[-|:\s]{0,4}\[?(?:INFO|DEBUG|REPORT|WARNING|SUCCESS)?\]?[-|:\s]{0,6}"
    r"(?=[A-Za-z=*-])"
)
_EVENT = re.compile(
    r"^\W{0,8}(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Interrupt)\b|out of memory|^\W*Killed\b|slurmstepd: error|"
    r"\bsrun: error|DUE TO (?:TIME|PREEMPT|NODE)|[Ss]egmentation fault|core dumped|\bSIG(?:TERM|KILL|ABRT|SEGV)\b|"
    r"\b(?:[Rr]esum(?:ed|ing)\b.{0,40}\b(?:from|at|checkpoint|train\w*|step|epoch|iter\w*)\b)|"
    r"\b[Ee]arly[ _-]?stop\w*|\bstopping[ _]early|"
    r"\b(?:[Ss]av(?:ed|ing)|[Ww]riting|[Ww]rote)\b.{0,60}\b(?:checkpoint|ckpt|model|weights|state)|"
    r"[Rr]educing learning rate|[Gg]radient overflow|[Ll]oading (?:checkpoint|optimizer state|model state|resume)",
)


class Row(NamedTuple):
    """What a row says.

    Attributes:
        event: something happened: an error, a resume, a checkpoint.
        numeric: it holds a number.
        worth: it has a word of training, or hardly any words.
        phase: the word, lower case, where the row only names a phase; else nothing.
    """

    event: bool
    numeric: bool
    worth: bool
    phase: str


def row_of(text: str) -> Row:
    """What a row says."""
    return _row_of(text) if len(text) <= MAX_REMEMBERED else _row_of.__wrapped__(text)


@lru_cache(REMEMBERED)
def _row_of(text: str) -> Row:
    lower = text.lower()
    event = any(map(lower.__contains__, _HINTS)) and _EVENT.search(text) is not None
    numeric = _DIGIT.search(text) is not None or "nan" in lower or "inf" in lower
    worth = numeric and (any(map(lower.__contains__, _WORTH)) or _FEW_WORDS.match(text) is not None)
    stamp = _STAMP.match(text) if numeric else None
    named = _PHASE.fullmatch(text, stamp.end() if stamp else 0) if stamp or not numeric else None
    numeric = numeric and named is None
    return Row(event, numeric, worth, named[1].lower() if named is not None else "")
