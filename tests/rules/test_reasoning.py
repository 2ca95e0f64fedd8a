"""From findings to what happened: causes, time, alternatives, abstention."""

from __future__ import annotations

import numpy as np

from unstuck.diagnose.engine import diagnose
from unstuck.diagnose.reasoning import explained_away, log_next, ranked
from unstuck.diagnose.rule import Evidence, Found, Rule, Severity
from unstuck.runs import Run, Series
from unstuck.runs.run import Setting, Source


def _hit(
    name: str,
    span: tuple[int, int],
    severity: Severity = "error",
    explains: tuple[str, ...] = (),
    confidence: float = 0.9,
) -> tuple[Rule, Found]:
    found = Found(name, (Evidence("train/loss", span, "", 1.0),), confidence, severity)
    return Rule("XX001", name, "loss", "L", severity, explains, "", lambda case: found), found


def test_a_consequence_follows_its_cause_even_where_it_is_surer() -> None:
    hits = {
        "jump": _hit("jump", (500, 510), explains=("spike",), confidence=0.8),
        "spike": _hit("spike", (512, 600), confidence=0.95),
        "other": _hit("other", (0, 1000), severity="warning"),
    }
    assert [(rule.name, because) for rule, _, because in ranked(hits, 1000)] == [
        ("jump", None),
        ("spike", "jump"),
        ("other", None),
    ]


def test_evidence_for_a_consequence_counts_for_its_cause() -> None:
    hits = {
        "warmup": _hit("warmup", (0, 900), confidence=0.92),
        "rate": _hit("rate", (600, 900), explains=("blow-up",), confidence=0.75),
        "blow-up": _hit("blow-up", (650, 900), confidence=0.95),
    }
    assert [rule.name for rule, _, _ in ranked(hits, 1000)] == ["rate", "blow-up", "warmup"]


def test_what_was_over_before_the_cause_began_has_another_cause() -> None:
    hits = {
        "jump": _hit("jump", (500, 510), explains=("spike",)),
        "spike": _hit("spike", (100, 120)),
    }
    assert {rule.name: because for rule, _, because in ranked(hits, 1000)} == {"jump": None, "spike": None}


def test_a_note_is_no_cause_of_an_error_and_comes_last() -> None:
    hits = {"noise": _hit("noise", (0, 9), "note", ("flat",)), "flat": _hit("flat", (0, 1000))}
    assert [(rule.name, because) for rule, _, because in ranked(hits, 1000)] == [("flat", None), ("noise", None)]


def test_batches_of_one_class_are_no_evidence_for_a_rate() -> None:
    hits = {"order-unshuffled": _hit("order-unshuffled", (0, 9)), "lr-too-high": _hit("lr-too-high", (0, 9))}
    assert explained_away(hits) == {"lr-too-high"}
    hits["order-unshuffled"] = _hit("order-unshuffled", (0, 9), "note")
    assert explained_away(hits) == set()


def _diverged(precision: str | None) -> Run:
    rng = np.random.default_rng(0)
    updates = np.arange(1, 2001)
    values = np.where(updates < 1200, 3 + 5 * np.exp(-updates / 100), 6.5) + rng.normal(0, 0.05, 2000)
    series = Series("train/loss", updates, values, updates, "log")
    settings = {} if precision is None else {"precision": Setting(precision, "precision", Source("log"))}
    return Run("log", "test", series={"train/loss": series}, settings=settings)


def test_an_alternative_is_named_unless_the_record_rules_it_out() -> None:
    (first, *_) = diagnose(_diverged(None)).findings
    assert first.rule.name == "loss-diverged"
    assert "an overflow in float16" in [other.what for other in first.alternatives]
    assert any("loss scale" in other.tell for other in first.alternatives)
    (first, *_) = diagnose(_diverged("bf16")).findings
    assert "an overflow in float16" not in [other.what for other in first.alternatives]


def test_an_abstention_says_what_to_log() -> None:
    run = Run(
        "log",
        "test",
        series={"val/loss": Series("val/loss", np.array([1, 2]), np.array([3.0, 2.9]), np.array([1, 2]), "log")},
    )
    diagnosis = diagnose(run)
    assert diagnosis.verdict == "undetermined"
    assert diagnosis.log_next[0] == "train/loss"
    assert log_next({"a": ("lr", "x"), "b": ("lr",), "c": ("y",)}, most=1) == ["lr"]
