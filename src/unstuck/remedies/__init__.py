"""One remedy per file, named like the rule it answers: what to change, by how much, why, and how safe it is.

`remedies/<rule_name>.py` defines `remedies(case, found) -> tuple[Remedy, ...]`, best first. A rule without such a file
has no remedy yet.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unstuck.diagnose.case import Case
    from unstuck.diagnose.rule import Found, Remedy


def remedies_for(case: Case, rule_name: str, found: Found) -> tuple[Remedy, ...]:
    """The remedies of the file named like the rule; empty where there is none."""
    module = f"{__name__}.{rule_name.replace('-', '_')}"
    if importlib.util.find_spec(module) is None:
        return ()
    answer: tuple[Remedy, ...] = importlib.import_module(module).remedies(case, found)
    return answer
