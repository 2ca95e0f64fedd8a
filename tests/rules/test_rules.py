"""Every rule against its Markdown cases, and every rule's documentation against the house's headings."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.rules.cases import RuleCase, all_cases
from unstuck.diagnose.case import Case
from unstuck.diagnose.engine import all_rules, diagnose
from unstuck.diagnose.rule import Clear, CouldNotCheck, Found

HEADINGS = ("Finds", "Why it matters", "Evidence needed", "Not when", "Remedy", "References")
CASES = all_cases()
OUTCOME_TYPES = {"finds": Found, "silent": Clear, "could not check": CouldNotCheck}


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.rule}: {c.outcome}: {c.claim}")
def test_rule_answers_as_its_case_says(case: RuleCase, tmp_path):
    run = case.run(tmp_path)
    rule = all_rules()[case.rule]
    outcome = rule.check(Case(run))
    assert isinstance(outcome, OUTCOME_TYPES[case.outcome]), outcome
    if not case.expect:
        return
    assert isinstance(outcome, Found)
    expect = case.expect
    if "severity" in expect:
        assert (outcome.severity or rule.severity) == expect["severity"]
    for text in expect.get("title_has", []):
        assert str(text) in outcome.title
    for name, value in expect.get("facts", {}).items():
        got = outcome.facts[name]
        if isinstance(value, list):
            assert value[0] <= got <= value[1], (name, got)
        else:
            assert got == value, (name, got)
    if "rank" in expect or "because_of" in expect:
        finding = next(f for f in diagnose(run).findings if f.rule.name == case.rule)
        assert finding.rank == expect.get("rank", finding.rank)
        assert finding.because_of == expect.get("because_of", finding.because_of)


@pytest.mark.parametrize("name", all_rules())
def test_every_rule_has_firing_cases_near_misses_and_documentation(name: str):
    rule = all_rules()[name]
    counts = Counter(case.outcome for case in CASES if case.rule == name)
    assert counts["finds"] >= 2
    assert counts["silent"] >= 2
    assert counts["could not check"] >= 1
    places = [rule.doc.find(f"\n{heading}\n") for heading in HEADINGS]
    assert min(places) > 0, f"headings missing: {[h for h, p in zip(HEADINGS, places, strict=True) if p <= 0]}"
    assert places == sorted(places)
    assert len(rule.doc[places[-1] :].strip().splitlines()) > 1, "a reference is missing"
