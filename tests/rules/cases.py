"""Read the Markdown test cases of the rules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from unstuck.config.dialects import canonical_settings, guess_dialect
from unstuck.runs import Event, Run, Series, Setting, Source
from unstuck.runs.build import add_raw

ROOT = Path(__file__).parent
EXPECTED_OUTCOMES = ("finds", "silent", "could not check")
FUNCTIONS = {
    "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "cos": np.cos, "sin": np.sin, "pi": np.pi, "where": np.where,
    "minimum": np.minimum, "maximum": np.maximum, "nan": np.nan, "inf": np.inf, "abs": np.abs,
}  # fmt: skip


@dataclass(frozen=True)
class RuleCase:
    rule: str
    outcome: str
    claim: str
    blocks: dict[str, str]

    def run(self, folder: Path) -> Run:
        """The run that the case describes; a literal log is written to `folder` and read like a user's file."""
        if "log" in self.blocks:
            from unstuck.runs.readers import read_runs

            path = folder / "train.log"
            path.write_text(self.blocks["log"], encoding="utf-8")
            run = read_runs(path)[0]
        else:
            run = Run("case", "made-up")
        for number, line in enumerate(self.blocks.get("series", "").splitlines(), start=1):
            if line.strip():
                series = made_up_series(line, number)
                run.series[series.name] = series
        self._configure(run)
        for key, value in (yaml.safe_load(self.blocks.get("settings", "")) or {}).items():
            run.settings[key] = Setting(value, key, Source("case"))
        for event in yaml.safe_load(self.blocks.get("events", "")) or []:
            run.events.append(
                Event(event["kind"], event.get("update"), event.get("text", ""), Source("case"), event.get("data", {}))
            )
        return run

    def _configure(self, run: Run) -> None:
        """Give the run its format and dialect, and the settings of the user's own keys, as a reader does."""
        told = yaml.safe_load(self.blocks.get("run", "")) or {}
        run.format = told.get("format", run.format)
        if "config" not in self.blocks:
            return
        raw: dict[str, Setting] = {}
        if "groups" in told:
            raw["groups"] = Setting(told["groups"], "groups", Source("metrics.jsonl", 1))
        add_raw(raw, yaml.safe_load(self.blocks["config"]) or {}, Source("config.yaml"))
        run.raw_settings.update(raw)
        run.dialect = told.get("dialect") or guess_dialect(run.raw_settings)
        run.settings.update(canonical_settings(run.raw_settings, run.dialect))

    @property
    def expect(self) -> dict[str, Any]:
        return yaml.safe_load(self.blocks.get("expect", "")) or {}


def made_up_series(line: str, number: int) -> Series:
    name, span, expression, *noise = (part.strip() for part in line.split("|"))
    first, last, step = (int(part) for part in span.split(":"))
    u = np.arange(first, last + 1, step).astype(np.float64)
    values = np.broadcast_to(eval(expression, {"__builtins__": {}}, {**FUNCTIONS, "u": u}), u.shape).astype(np.float64)
    if noise:
        values = values + np.random.default_rng(number).normal(0.0, float(noise[0]), u.shape)
    return Series(name, u.astype(np.int64), values, np.arange(1, len(u) + 1), "case")


def all_cases() -> list[RuleCase]:
    cases: list[RuleCase] = []
    for path in sorted(ROOT.glob("*/*.md")):
        for part in re.split(r"^## ", path.read_text(encoding="utf-8"), flags=re.M)[1:]:
            heading, _, body = part.partition("\n")
            outcome, _, claim = heading.partition(":")
            if outcome not in EXPECTED_OUTCOMES:
                raise ValueError(f"{path}: heading '{heading}' must start with one of {EXPECTED_OUTCOMES}")
            blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```", body, flags=re.M | re.S))
            cases.append(RuleCase(path.stem.replace("_", "-"), outcome, claim.strip(), blocks))
    return cases
