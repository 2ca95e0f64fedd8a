"""What a key says about time by its words: the time of a step, its wait for data, or a rate per second.

`step_s`, `sec/it` and `loader_ms` are times; `it/s`, `iters_per_sec` and `samples_per_second` are rates, whose inverse
is the time of one step where they count steps (tqdm prints `it/s`, and `s/it` where one takes longer than a second).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What is timed, with a unit or a word that says that it is a time.
_UNITS = {"ms": 1.0, "msec": 1.0, "millis": 1.0, "milliseconds": 1.0, "us": 1e-3, "s": 1e3, "sec": 1e3, "secs": 1e3,
          "second": 1e3, "seconds": 1e3}  # fmt: skip
_TIMED = _words("time times t duration latency dt")
_ABOUT = _words("per avg mean average in train training perf performance timing timings timer timers speed profile "
                "profiler stats system sys")  # fmt: skip
_STEPPED = _words("step iter iteration it batch update")
_LOADER = _words("data dataloader dataload dataloading loader fetch io input")
_LOADING = _words("load loading wait waiting fetching get next batch read reading")

# What is counted per second, singular and plural, and the words around it that change nothing.
_COUNTED = {
    "time/step_ms": _words("step steps iter iters iteration iterations it its batch batches update updates"),
    "throughput/samples_per_second": _words(
        "sample samples example examples image images img imgs sequence sequences seq seqs"
    ),
    "throughput/tokens_per_second": _words("token tokens tok toks"),
}
_ALL_COUNTED = frozenset().union(*_COUNTED.values())
_AROUND_RATES = (_ABOUT - {"per", "in"}) | _words("throughput rate rates global metrics")
_PER = {"s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0, "min": 60.0, "mins": 60.0, "minute": 60.0,
        "minutes": 60.0}  # fmt: skip
_RATE = re.compile(r"(?:^|[\W_])([a-z]+) ?/ ?(?:s|sec|secs|second|seconds|min|minute)\b", re.I)
_RATE_IN_WORDS = re.compile(rf"(?:^|_)(?:{'|'.join(sorted(_ALL_COUNTED))})_per_(?:{'|'.join(_PER)})(?:_|$)")
_MAY_BE_RATE = re.compile(r"(?:^|_)it(?:er)?_s$", re.I)  # "it/s" in a name without slashes, or the seconds of one


class Timed(NamedTuple):
    """What a key times.

    Attributes:
        series: its canonical name.
        unit: of the series.
        scale: what the value is multiplied by, or with `inverse` divided by the value.
        inverse: the value is a rate, the series a time.
    """

    series: str
    unit: str
    scale: float
    inverse: bool = False


def timed(words: Iterable[str]) -> str:
    """What words time: `time/step_ms`, `time/data_ms` (the wait of a step for its data), or neither ("").

    Words of time, of units and `per`, `avg`, `train` are left out of account.
    """
    core = {word for word in words if word not in _UNITS and word not in _TIMED and word not in _ABOUT}
    if core & _LOADER and core <= _LOADER | _LOADING:
        return "time/data_ms"
    if core == {"batch"} or (core and core <= _STEPPED):
        return "time/step_ms"
    return "time/data_ms" if core - {"batch"} in ({"load"}, {"loading"}) or core == {"batch", "wait"} else ""


def told_time(key: str, words: Sequence[str]) -> Timed | None:
    """What a key says that names a time with its unit, or a rate; None where it says neither, or may say both.

    A time without a unit is in seconds, as `time.time()` gives it.

    Args:
        key: as logged.
        words: of its normalised name, in their order.
    """
    if (rate := _rate(key, words)) is not None:
        return rate
    units = {_UNITS[word] for word in words if word in _UNITS}
    if len(units) > 1 or not (units or _TIMED & set(words)) or is_rate(key, words) or _MAY_BE_RATE.search(key):
        return None
    name = timed(words)
    return Timed(name, "ms", units.pop() if units else 1000.0) if name else None


def is_rate(key: str, words: Sequence[str]) -> bool:
    """Whether the key counts something per second (`it/s`), so that a larger value is a shorter time."""
    return _RATE_IN_WORDS.search("_".join(words)) is not None or _written_as_rate(key) or _rate(key, words) is not None


def _written_as_rate(key: str) -> bool:
    """`it/s`, `steps / sec`, whatever stands around it."""
    found = _RATE.search(key)
    return found is not None and found[1].lower() in _ALL_COUNTED


def _rate(key: str, words: Sequence[str]) -> Timed | None:
    """`it_per_s`, `it/s`, `steps_s` and the like; a singular before `s` without `per` or a slash says nothing."""
    if list(words) in (["ups"], ["train", "ups"]):  # fairseq's updates per second
        return Timed("time/step_ms", "ms", 1000.0, inverse=True)
    for at, word in enumerate(words):
        series = next((name for name, counted in _COUNTED.items() if word in counted), None)
        per = list(words[at + 1 : at + 3])
        length = 2 if per[:1] == ["per"] else 1
        if series is None or len(per) < length or per[length - 1] not in _PER:
            continue
        plural = word.endswith("s") or word in ("tok", "img", "seq")
        if length == 1 and not plural and not _written_as_rate(key):
            continue
        before = set(words[:at]) - ({"device"} if series == "time/step_ms" else set())  # OLMo's section; all step alike
        if {*before, *words[at + 1 + length :]} - _AROUND_RATES:
            return None
        seconds = _PER[per[length - 1]]
        if series == "time/step_ms":
            return Timed(series, "ms", 1e3 * seconds, inverse=True)
        return Timed(series, "tokens/s" if "tokens" in series else "samples/s", 1 / seconds)
    return None
