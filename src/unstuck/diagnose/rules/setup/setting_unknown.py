"""A setting that nothing reads, because its key is misspelled.

Finds
A key one slip away from a known one that is itself absent (`leaning_rate`), or another form of a known one where the
framework's own list of keys is known (`warmup_step` beside a transformers Trainer), unless the log shows that the
value applies.

Why it matters
A program that does not know a key runs with its default instead, without a word. Both restart flags of incident I3
were given to a program that had neither.

Evidence needed
The configuration. The learning rate, the last update and the epochs of the log say whether the value applied.

Not when
The known key is given as well; the value shows in the log (the author's program has the same slip); a key of the
user's own that resembles none; singular and plural in a program of the user's own, where both are in common use.

Remedy
Write the known key.

References
Incident I3. transformers `training_args.py` (4.30 to 5.23), nanoGPT `train.py`. `warmup_step` and even `leaning_rate`
are read under these names by published programs, which is why the log has the last word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from unstuck.config.dialects import NAMES
from unstuck.config.known_keys import NANOGPT, TRAINING_ARGUMENTS, Misspelling, misspelling
from unstuck.config.values import read_value
from unstuck.config.ways import is_elsewhere
from unstuck.diagnose.case import Case
from unstuck.diagnose.lr_curve import ramp
from unstuck.diagnose.own_keys import MAX_KEYS, as_number, by_transformers
from unstuck.diagnose.rule import Clear, CouldNotCheck, Evidence, Found, Outcome, Severity, rule
from unstuck.runs import Setting
from unstuck.runs.names import normalise

# Settings whose loss changes a run; a misspelled logging interval is a note.
MATTER = frozenset({
    "learning_rate", "muon_learning_rate", "min_learning_rate", "lr_floor", "schedule", "warmup_updates",
    "warmup_share", "horizon_updates", "updates", "epochs", "batch_size", "accumulation", "context", "clip_norm",
    "weight_decay", "optimizer", "label_smoothing", "dropout", "lora_rank",
})  # fmt: skip
TEXTS = frozenset({"schedule", "optimizer"})
MAX_UNKNOWN = 300  # ours: unknown keys that are compared with all known ones, a few milliseconds
SAME = 0.02  # ours: a logged value is the configured one within its printed digits


@dataclass(frozen=True, slots=True)
class Miss:
    """A key that may be meant for a known one. `applied`: whether the log shows its value; None: it cannot tell."""

    setting: Setting
    known: str
    canonical: str | None
    how: Misspelling
    applied: bool | None


@rule(code="SE001", stages="C", severity="warning")
def check(case: Case) -> Outcome:
    if not case.run.raw_settings:
        return CouldNotCheck(("the configuration",))
    if case.run.dialect == "unstuck":
        return Clear("a recipe with an unknown key is refused when it is read")
    graded = [(severity, confidence, miss) for miss in _misses(case) for severity, confidence in [_grade(case, miss)]]
    if not graded:
        return Clear("no key is a slip away from a known one that is missing")
    graded.sort(key=lambda entry: (entry[0] == "note", -entry[1]))
    severity, confidence, miss = graded[0]
    shown = "; the log shows another value" if miss.applied is False else ""
    title = f"{miss.setting.key} = {str(miss.setting.value)[:40]} may be meant for {miss.known}{shown}"
    if _own_list(case):
        title = f"Nothing reads {miss.setting.key} = {str(miss.setting.value)[:40]}: the key is {miss.known}{shown}"
    others = [f"{m.setting.key} (for {m.known})" for _, _, m in graded[1:6]]
    detail = f"Also {', '.join(others)}." if others else ""
    last = int(case.run.updates)
    value = as_number(miss.setting.value)
    evidence = (
        Evidence(miss.setting.key, (0, last), f"as configured, under a key near {miss.known}",
                 value if value is not None else 1.0, None, miss.setting.source),
    )  # fmt: skip
    facts: dict[str, object] = {"key": miss.setting.key, "known": miss.known, "canonical": miss.canonical}
    return Found(title, evidence, confidence, severity, detail, facts)


def _grade(case: Case, miss: Miss) -> tuple[Severity, float]:
    """Severity and confidence. A form is a name of its own unless the framework's list is known or the log decides."""
    matters: Severity = "warning" if miss.canonical in MATTER else "note"
    if miss.applied is False:
        return matters, 0.9
    if _own_list(case):
        return matters, 0.8
    printed_by_program = miss.setting.source.file in {s.file for s in case.run.series.values()}
    return ("note", 0.4) if printed_by_program else (matters, 0.6)


def _own_list(case: Case) -> bool:
    """Whether the program that ran reads the keys of a list that we know, and no others."""
    return case.run.dialect == "nanogpt" or by_transformers(case.run)


def _misses(case: Case) -> Iterator[Miss]:
    known = _known(case.run.dialect)
    own_list = _own_list(case)
    given = {
        normalise(key.rpartition(".")[2])
        for key, setting in case.run.raw_settings.items()
        if not setting.source.file.endswith("(default)")
    }
    unknown = 0
    for key, setting in list(case.run.raw_settings.items())[:MAX_KEYS]:
        way, _, last = key.rpartition(".")
        name = normalise(last)
        if name in known or name in _everything() or len(name) > 64 or is_elsewhere(way.lower()):
            continue
        unknown += 1
        if unknown > MAX_UNKNOWN:
            return
        for candidate, canonical in known.items():
            how = misspelling(name, candidate)
            if how is None or candidate in given or (how == "form" and not own_list):
                continue
            if canonical is not None and _given(case, canonical):
                continue
            if not _fits(canonical, setting.value):
                continue
            applied = _applied(case, canonical, setting.value)
            if not applied:
                yield Miss(setting, candidate, canonical, how, applied)
            break


def _given(case: Case, canonical: str) -> bool:
    """Whether another key gives the setting; a framework's default does not count."""
    setting = case.run.settings.get(canonical)
    return setting is not None and not setting.source.file.endswith("(default)")


def _fits(canonical: str | None, value: object) -> bool:
    """Whether the value is of the kind that the known key takes."""
    if canonical is None:
        return isinstance(value, int | float | str | bool)
    if canonical in TEXTS:
        return isinstance(value, str)
    number = as_number(value)
    return number is not None and read_value(canonical, value) is not None


@cache
def _known(dialect: str) -> dict[str, str | None]:
    """Known keys of the dialect, each with its canonical setting; in alphabetical order."""
    canonical: dict[str, str | None] = {}
    for name in NAMES:
        for spellings in (name.spellings.get(dialect, ()), name.spellings.get("plain", ())):
            for spelling in spellings:
                if "." not in spelling:
                    canonical.setdefault(spelling, name.canonical)
    lists = {"huggingface": TRAINING_ARGUMENTS, "nanogpt": NANOGPT}
    keys = lists.get(dialect) or frozenset(k for k, c in canonical.items() if c in MATTER)
    return {key: canonical.get(key) for key in sorted(keys)}


@cache
def _everything() -> frozenset[str]:
    """Every key that some framework reads."""
    spelled = {s.rpartition(".")[2] for name in NAMES for words in name.spellings.values() for s in words}
    return TRAINING_ARGUMENTS | NANOGPT | frozenset(spelled)


def _applied(case: Case, canonical: str | None, value: object) -> bool | None:
    """Whether the log shows the value: True, False, or None where it cannot tell."""
    wanted = as_number(value)
    if wanted is None or wanted <= 0:
        return None
    if canonical == "learning_rate":
        return _peak_is(case, wanted)
    if canonical in ("warmup_updates", "warmup_share"):
        planned = case.setting("horizon_updates") or case.setting("updates")
        length = wanted if canonical == "warmup_updates" else wanted * planned if planned else None
        return None if length is None else _ramp_is(case, length)
    if canonical == "updates" and case.run.updates:
        return abs(case.run.updates / wanted - 1) < SAME or (False if case.run.updates > 1.05 * wanted else None)
    return None


def _peak_is(case: Case, wanted: float) -> bool | None:
    series = case.lr
    if series is None or len(series) < 3:
        return None
    peak = float(series.values.max())
    if abs(peak / wanted - 1) < SAME:
        return True
    climb = ramp(series)
    settled = climb is None or not climb.open
    return False if settled and abs(peak / wanted - 1) > 3 * SAME and not case.setting("group_lr_factors") else None


def _ramp_is(case: Case, length: float) -> bool | None:
    series = case.lr
    if series is None or len(series) < 3 or length < 2:
        return None
    climb = ramp(series)
    if climb is not None:
        spacing = float(series.updates[1] - series.updates[0])
        return True if abs(climb.end - length) <= max(spacing, 0.1 * length) else None
    started = float(series.values[0]) >= 0.9 * float(series.values.max())
    return False if started and float(series.updates[0]) <= 0.25 * length else None
