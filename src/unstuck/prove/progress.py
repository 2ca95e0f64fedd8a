"""A comparison as people see it: the plan, a live line on standard error, each pair, the verdict."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType

from unstuck.prove.proof import Plan, Proof
from unstuck.prove.statistics import Judgement, Pair
from unstuck.wording import plural

SECONDS_BETWEEN_LINES = 0.5


class Progress:
    """An `Observer` that writes to standard error; standard output stays free for the answer."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._total = 0
        self._done = 0
        self._pairs = 0
        self._started = time.monotonic()
        self._shown = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def planned(self, plan: Plan) -> None:
        self._total = (plan.updates + plan.changed_updates) * plan.seeds + plan.updates * (plan.runs - 2 * plan.seeds)
        self._started = time.monotonic()
        for sentence in plan.sentences():
            self._line(sentence)

    def progressed(self, updates: int) -> None:
        self._done += updates
        now = time.monotonic()
        if not self._terminal or now - self._shown < SECONDS_BETWEEN_LINES or not self._total:
            return
        self._shown = now
        left = (now - self._started) * (self._total - self._done) / max(1, self._done)
        share = min(1.0, self._done / self._total)
        bar = "━" * round(24 * share) + "╌" * (24 - round(24 * share))
        text = f"{bar} {self._done}/{self._total} updates, {max(0.0, left):.0f} s left at most"
        print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)

    def paired(self, pair: Pair, judgement: Judgement) -> None:
        self._pairs += 1
        text = f"seed {pair.seed}: base {_loss(pair.base)}, changed {_loss(pair.changed)}"
        if math.isfinite(pair.base) and math.isfinite(pair.changed):
            text += f", difference {pair.changed - pair.base:+.4f}"
        interval = judgement.interval
        if math.isfinite(interval.half_width):
            text += f"; interval so far {interval.low:+.4f} to {interval.high:+.4f}"
        clear = judgement.final and judgement.verdict in ("better", "worse")
        self._line(text + (f". Clear after {plural(self._pairs, 'pair')}" if clear else ""))

    def interrupted(self) -> None:
        """Ctrl-C: the children have been ended."""
        self._line(
            f"Interrupted after {plural(self._pairs, 'pair')}. Finished trials are kept; the same command goes on."
        )

    def show(self, proof: Proof) -> None:
        """The verdict on standard output."""
        self._clear()
        interval = proof.judgement.interval
        for change in proof.changes:
            print(f"{change['key']}: {change['old']} -> {change['new']}")
        print(proof.sentence())
        if math.isfinite(interval.half_width) and proof.verdict == "no difference shown":
            print(f"A difference of {interval.half_width:.4f} {proof.plan.unit} or more would have been shown.")
        elif math.isfinite(interval.half_width):
            print(f"Why: {proof.judgement.reason}.")
        if proof.placebo is not None:
            print(f"Placebo: the same trial run twice is {proof.placebo['repeatability']}.")
            if swaps := proof.placebo["label_swaps"]:
                print(f"Over all {swaps['count']} label swaps the mean is {swaps['low']:+.4f} to {swaps['high']:+.4f}.")
        for note in proof.plan.notes:
            print(note)
        cost = proof.document()["cost"]
        reused = sum(trial.reused for trial in proof.trials)
        kept = f", {reused} of them from disk" if reused else ""
        trained = cost["examples"] if cost["tokens"] is None else cost["tokens"]
        print(f"Cost: {cost['seconds']:.0f} s, {cost['runs']} trials{kept}, {trained:,} {proof.plan.counted}.")

    def _line(self, text: str) -> None:
        self._clear()
        print(text, file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._terminal:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def _loss(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "diverged"
