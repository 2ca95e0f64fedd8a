"""What a rule is: a documented function of a `Case` that answers `Found`, `Clear` or `CouldNotCheck`.

A rule is one file, `diagnose/rules/<family>/<rule_name>.py`, found by its place: adding one edits no other file. Its
module docstring has these headings, each a paragraph: Finds, Why it matters, Evidence needed, Not when, Remedy,
References. The file defines one function decorated with `@rule(...)`. Its test:
`tests/rules/<family>/<rule_name>.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from unstuck.config.patch import ConfigPatch
from unstuck.runs import Source

if TYPE_CHECKING:
    from unstuck.diagnose.case import Case

Severity = Literal["error", "warning", "note"]
Safety = Literal["safe", "unsafe", "advice"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measured statement: a statistic of a series over a span of updates, against its threshold.

    Attributes:
        series: canonical series or setting name.
        updates: (first, last) update of the span.
        statistic: what was computed, in words ("rise over its noise").
        value: its value.
        threshold: what it was compared with; None for a plain observation.
        source: the line that shows it best.
    """

    series: str
    updates: tuple[int, int]
    statistic: str
    value: float
    threshold: float | None = None
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The rule's pattern is in the run.

    Attributes:
        title: one sentence with the numbers that matter, readable without the rule's documentation.
        evidence: at least one.
        confidence: 0 to 1, how often such a finding is right by the author's estimate; not calibrated yet.
        severity: None: the rule's own.
        detail: optional further sentences (arithmetic, alternatives the evidence cannot separate).
        facts: numbers that the remedy of the same name needs (best update, factor, ...).
    """

    title: str
    evidence: tuple[Evidence, ...]
    confidence: float
    severity: Severity | None = None
    detail: str = ""
    facts: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Clear:
    """The rule had what it needs and the pattern is not there; `because` may say why not."""

    because: str = ""


@dataclass(frozen=True, slots=True)
class CouldNotCheck:
    """What is missing, as series or setting names, or a short phrase ("fewer than 20 points of train/loss")."""

    missing: tuple[str, ...]


Outcome = Found | Clear | CouldNotCheck


@dataclass(frozen=True, slots=True)
class Remedy:
    """A bounded change for one finding.

    Attributes:
        summary: one sentence in the imperative, with the numbers.
        safety: safe (cannot make a sound run worse), unsafe (may), advice (no setting expresses it).
        patch: canonical changes; empty for advice.
        reason: why this amount.
        measured: the measured effect of this kind of remedy, None where it was never measured (and output says so).
    """

    summary: str
    safety: Safety
    patch: ConfigPatch = ()
    reason: str = ""
    measured: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as the engine sees it. `explains` names the rules whose findings are this one's usual consequences."""

    code: str
    name: str
    family: str
    stages: str
    severity: Severity
    explains: tuple[str, ...]
    doc: str
    check: Callable[[Case], Outcome]


def rule(
    *, code: str, stages: str, severity: Severity, explains: tuple[str, ...] = ()
) -> Callable[[Callable[[Case], Outcome]], Rule]:
    """Make a rule of a check function. Name and family come from the file's place, docs from its docstring.

    Args:
        code: fixed code of the catalogue, such as "GE001".
        stages: letters of L (log), C (configuration), P (preflight), V (live).
        severity: of a finding that does not say otherwise.
        explains: rules whose findings usually follow from this one; ranked after it and marked as its consequence.
    """

    def make(check: Callable[[Case], Outcome]) -> Rule:
        import sys

        module = check.__module__
        family, stem = module.split(".")[-2:]
        doc = sys.modules[module].__doc__ or ""
        return Rule(code, stem.replace("_", "-"), family, stages, severity, explains, doc, check)

    return make
