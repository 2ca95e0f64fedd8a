"""Canonical names for the keys of free text, beyond the spellings of `unstuck.runs.names`.

Where no key is called a loss, an error that training minimises takes its place; a test set takes that of a validation
set that was not printed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping

from unstuck.runs import names
from unstuck.runs.text_words import (
    ACCURACIES,
    BITS,
    DATA_TIMES,
    ERRORS,
    FILLERS,
    LOSSES,
    MILLISECONDS,
    PERPLEXITIES,
    SCALES,
    STEP_TIMES,
    in_family,
    joined,
    split_phase,
    words_of,
)
from unstuck.runs.times import is_rate

LAST_BATCH = " (last batch)"  # behind the key of an evaluation that was printed by batch
_KINDS = (("loss", LOSSES), ("perplexity", PERPLEXITIES), ("bits_per_byte", BITS), ("accuracy", ACCURACIES))
# Abbreviations of llm.c's main.log and its relatives (dev/eval and train_gpt2.cu: "s:%d tel:%f", "s:%d trl:%f").
PARTS = {"box", "obj", "cls", "rec", "recon", "kl", "kld", "reconstruction", "mse", "ce", "bce", "nll"}
# CatBoost calls the loss of training "learn".
_WHOLE = {"trl": "train/loss", "tel": "val/loss", "grad": "grad_norm/preclip", "gradient": "grad_norm/preclip",
          "global_norm": "grad_norm/preclip", "g_norm": "grad_norm/preclip", "l_r": "lr/all",
          "gradients": "grad_norm/preclip", "learn": "train/loss"}  # fmt: skip


_STEPS = frozenset(("step", "it", "iter", "iteration", "batch", "update"))
_TIMED = frozenset(("time", "latency", "duration", "speed", "cost", "avg", "mean"))  # "latency=50.2 ms/step"


def canonical(counts: Mapping[str, int], said: Mapping[str, str], scores: Collection[str] = ()) -> dict[str, str]:
    """Which keys are which canonical series, where `names.assign` alone would not give it.

    Args:
        counts: key as logged -> number of points.
        said: what the user said, by key as logged.
        scores: keys of phases alone that are no losses.
    """
    given = {key: entry.canonical for key, entry in names.assign(counts, said).items()}
    taken = set(given.values())
    found: dict[str, str] = {}
    single = [key for key, name in given.items() if name.startswith("lr/")]
    if len(single) == 1 and single[0] not in said and "lr/all" not in taken:
        found[single[0]] = "lr/all"  # of one group that there is
    readings = _readings({key: count for key, count in counts.items() if key not in scores})
    errors = Counter(name for name, key in readings if _is_error(key))
    rates = Counter(name for name, key in readings if name == "lr/all")
    readings = [one for one in readings if one[0] != "lr/all" or rates["lr/all"] == 1]  # of one group; else which?
    readings = [(name, key) for name, key in readings if not _is_error(key) or errors[name] == 1]  # mae and mse: which?
    for name, key in sorted(readings, key=lambda reading: _order(reading, counts)):
        # "val/average loss" is no source called "average", nor is "optim/total_grad_norm" the norm of a group
        sourced = given.get(key, "").startswith(("val/loss/", "grad_norm/preclip/"))
        if (key in given and not sourced) or key in said or key in found or name in taken:
            continue
        found[key] = name
        taken.add(name)
    return found


def _readings(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    readings: list[tuple[str, str]] = []
    for key in counts:
        if key.endswith("(mean)"):
            continue
        phase, words = split_phase(key.removesuffix(LAST_BATCH))
        side = {"": "train", "test": "val"}.get(phase, phase)
        name = _reading(words, side, bool(phase))
        if re.fullmatch(r"col\d+", key):
            name = "train/loss"  # the only number behind a count
        if "value" in words and any("policy" in words_of(other) for other in counts):
            name = None  # the value function's part of an agent's loss
        if words[:1] == ("l",) and sum(words_of(other)[:1] == ("l",) for other in counts) == 1:
            name = name or "train/loss"  # BasicSR's l_pix where it is the only one
        if words == ("total",) and counts.keys() & PARTS:
            name = "train/loss"  # YOLO's console: box, obj, cls and their total
        if name is None and key.endswith(LAST_BATCH):
            plain = key.removesuffix(LAST_BATCH)
            entry = names.assign({plain: 1}).get(plain)
            name = entry.canonical if entry is not None and entry.canonical.startswith(f"{side}/") else None
        if name is not None:
            readings.append((name, key))
    return readings


def _is_error(key: str) -> bool:
    words = [word for word in split_phase(key)[1] if word not in FILLERS]
    return any(word in ERRORS for word in words) and not in_family(tuple(words), LOSSES)


def _order(reading: tuple[str, str], counts: Mapping[str, int]) -> tuple[bool, bool, int, int]:
    """Validation before test, a loss before an error, fewer words, more points."""
    phase, words = split_phase(reading[1].removesuffix(LAST_BATCH))
    guessed = _is_error(reading[1]) or not words or reading[1].startswith("col") or reading[1].endswith(LAST_BATCH)
    return phase == "test", guessed, len(words), -counts[reading[1]]


def _reading(words: tuple[str, ...], side: str, phased: bool) -> str | None:
    """The canonical series that the words of a key may be, on one side: `train` or `val`; `phased`: a word says so."""
    whole = joined(words)
    if not words and phased:  # "100 val 2.31" is taken for the loss, which is what such lines print
        return f"{side}/loss"
    if whole in _WHOLE:
        return _WHOLE[whole]
    core = tuple(word for word in words if word not in FILLERS and not re.fullmatch(r"\d+s?", word))
    for kind, family in _KINDS:
        if core and (joined(core) in family or all(word in family for word in core)):
            return f"{side}/{kind}" if (side, kind) != ("train", "bits_per_byte") else None
    if re.fullmatch(r"(?:optim\w*_|opt_|base_)?(?:lr|learning_rate)(?:_(?:group|pg|param_group)_?\d*|\d)?", whole):
        return "lr/all"
    if re.fullmatch(r"(?:optim\w*_|opt_)?(?:total_|global_|overall_)?grad(?:ient)?_norm(?:_total)?", whole):
        return "grad_norm/preclip"
    if core and (joined(core) in ERRORS or all(word in ERRORS for word in core)):
        return f"{side}/loss"
    return None


def time_of(key: str) -> str:
    """The series that a key names with a unit of time behind it: a step's time, the wait for data, or none ("")."""
    words = words_of(key)
    if is_rate(key, words):
        return ""
    if series := names.timed(words):
        return series
    name = joined(words)
    bare = re.sub(r"_(?:s|ms|sec|seconds)$", "", name)
    if name in STEP_TIMES or bare in STEP_TIMES:
        return "time/step_ms"
    return "time/data_ms" if bare in DATA_TIMES else ""


def scale_of(key: str, unit: str, averaged: bool) -> tuple[float, str]:
    """What a printed number is multiplied by (a share for per cent, 1e3 for K), and the series of times it then is."""
    phase, words = split_phase(key)
    if unit == "%" and in_family(words, ACCURACIES):
        return 0.01, ""
    # PyTorch's ImageNet example and timm print the seconds of this batch (and their mean) as "Time". Their "Data" of
    # one batch is not taken: the first of an epoch waits for the workers to start, and is always among those printed.
    if averaged and words in (("time",), ("batch", "time")) and phase in ("", "train"):
        return MILLISECONDS.get(unit, 1e3), "time/step_ms"
    time, _, counted = unit.partition("/")
    if time in MILLISECONDS and counted in _STEPS and words and set(words) <= _TIMED:
        return MILLISECONDS[time], "time/step_ms"
    if not averaged and (name := time_of(key)):
        first, last = (re.split(r"[/ _]", key.lower().rstrip(")"))[at].strip("(") for at in (0, -1))
        for written in (unit.split("/")[0], last, first):
            if written in MILLISECONDS:
                return MILLISECONDS[written], name
    return SCALES.get(unit, 1.0), ""
