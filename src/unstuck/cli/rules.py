"""Show the rule catalogue, or one rule's documentation."""

from __future__ import annotations

import difflib
import json
import shutil
import textwrap
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unstuck.errors import UserError

if TYPE_CHECKING:
    from unstuck.diagnose.rule import Rule

EXAMPLE = """
unstuck rules
unstuck rules schedule-wrong-horizon
"""


WIDTH_WITHOUT_TERMINAL = 110


def command(
    name: Annotated[str | None, typer.Argument(help="a rule's name or code; without it, all of them")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document")] = False,
) -> None:
    """Show what unstuck looks for: every rule with its code and what it finds, or one rule in full."""
    from unstuck.diagnose.engine import all_rules

    rules = all_rules()
    chosen = list(rules.values()) if name is None else [_find(name, rules)]
    if as_json:
        print(json.dumps({"rules": [_document(rule) for rule in chosen]}, indent=1))
    elif name is not None:
        for rule in chosen:
            _print(f"{rule.code}  {rule.name}  ({rule.family}, {rule.severity}, stages {rule.stages})\n")
            _print(rule.doc.strip())
            _print_example(rule)
    else:
        width = max((len(rule.name) for rule in rules.values()), default=0)
        family = None
        for rule in rules.values():
            if rule.family != family:
                family = rule.family
                print(f"\n{family.replace('_', ' ')}")
            _print(f"  {rule.code}  {rule.name:<{width}}  {_first_line(rule.doc)}", hanging=9)
        _print("\n`unstuck rules NAME` shows evidence, exceptions, remedy and references of one rule.")


def _examples() -> dict[str, Any]:
    """By rule, one case in which it finds something (written by docs/generate.py)."""
    text = resources.files("unstuck.diagnose").joinpath("examples.json").read_text(encoding="utf-8")
    examples: dict[str, Any] = json.loads(text)
    return examples


def _print_example(rule: Rule) -> None:
    example = _examples().get(rule.name)
    if example is None:
        return
    _print(f"\nExample: {example['case']}")
    for line in example["seen"]:
        _print(f"    {line}")
    _print(f"  {example['severity']}: {example['said']}", hanging=4)


def _find(name: str, rules: dict[str, Rule]) -> Rule:
    by_code = {rule.code.lower(): rule for rule in rules.values()}
    wanted = name.lower().replace("_", "-")
    if wanted in rules:
        return rules[wanted]
    if wanted in by_code:
        return by_code[wanted]
    near = difflib.get_close_matches(wanted, rules, n=1)
    meant = f"; did you mean `unstuck rules {near[0]}`?" if near else "; `unstuck rules` lists them."
    raise UserError(f"There is no rule '{name}'{meant}")


def _print(text: str, hanging: int = 0) -> None:
    """Print lines wrapped to the terminal's width; `hanging` indents what follows the first line of each."""
    width = shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 24)).columns
    for line in text.split("\n"):
        indent = " " * (hanging or len(line) - len(line.lstrip()))
        wrapped = textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        print("\n".join(wrapped))


def _first_line(doc: str) -> str:
    return doc.strip().partition("\n")[0]


def _document(rule: Rule) -> dict[str, Any]:
    return {
        "code": rule.code,
        "name": rule.name,
        "family": rule.family,
        "stages": rule.stages.split(),
        "severity": rule.severity,
        "explains": list(rule.explains),
        "summary": _first_line(rule.doc),
        "documentation": rule.doc.strip(),
        "example": _examples().get(rule.name),
    }
