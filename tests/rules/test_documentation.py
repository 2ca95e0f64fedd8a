"""What is generated from the rules is up to date."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_rules_page_and_examples_are_those_of_the_rules() -> None:
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    stale = "out of date; run `python docs/generate.py`"
    assert generate["EXAMPLES"].read_text(encoding="utf-8") == generate["examples_text"](), f"examples.json is {stale}"
    assert generate["PAGE"].read_text(encoding="utf-8") == generate["page"](), f"docs/rules.md is {stale}"
