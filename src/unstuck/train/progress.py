"""What a person sees while a run trains: live lines in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from unstuck.config.recipe import load_recipe
from unstuck.diagnose.projection import Projection, project
from unstuck.diagnose.rate_course import RateCourse
from unstuck.train.schedules import multiplier

if TYPE_CHECKING:
    from rich.live import Live

LIVE_SECONDS = 0.25  # between redraws: a redraw takes about a millisecond, so at most 0.4 % of the time
PLAIN_SECONDS = 10.0  # between plain lines, besides one at each evaluation
PROJECT_AGAIN = (
    1.1  # times the updates: a projection takes some 20 ms and hardly moves within a tenth more of the curve
)
COURSE_POINTS = 400  # of the planned learning rate: a quarter of a per cent of the run between two
SPEEDS = {"throughput/tokens_per_second": "tokens/s", "throughput/examples_per_second": "examples/s"}


class Progress:
    """An `Observer` that prints.

    Args:
        stream: where to; standard error, so that standard output stays free for documents.
        live: redraw one line; None: when `stream` is a terminal.
        opening: said before everything else, once the run begins.
    """

    def __init__(self, stream: TextIO | None = None, *, live: bool | None = None, opening: str | None = None) -> None:
        self.stream = stream or sys.stderr
        self.opening = opening
        self.is_live = self.stream.isatty() if live is None else live
        self._live: Live | None = None
        self._shown = 0.0
        self._planned = 0
        self._digits = 3
        self._updates: list[int] = []
        self._losses: list[float] = []
        self._course: RateCourse | None = None
        self._val: float | None = None
        self._projected: Projection | None = None
        self._projected_at = 0
        self._row: Mapping[str, Any] = {}
        self._started = 0.0
        self._first_update = 0
        self._paused = 0.0

    def event(self, row: Mapping[str, Any]) -> None:
        """Show one event; an update costs a few microseconds unless it is time to redraw."""
        kind = row["event"]
        if kind == "update":
            self._updates.append(row["update"])
            self._losses.append(row["train/loss"])
            self._row = row
            now = time.monotonic()
            if now - self._shown >= (LIVE_SECONDS if self.is_live else PLAIN_SECONDS):
                self._show(now)
            return
        if kind in ("start", "resume"):
            self._begin(row)
        elif kind == "evaluation":
            self._val = row["val/loss"]
            self._project()
            if self._row:
                self._show(time.monotonic(), keep=not self.is_live)
            else:
                self._print(f"before training: val {self._val:.4f}")
        elif kind == "alert":
            self._print(f"{row['severity']} at update {row['update']}: {row['title']} [{row['rule']}]")
        elif kind == "note":
            self._print(str(row["text"]))
        elif kind == "end":
            self.close()

    def close(self) -> None:
        """Leave the terminal as it was; the last line stays."""
        if self._live is not None:
            self._redraw(self._live)
            self._live.stop()
            self._live = None

    def _begin(self, row: Mapping[str, Any]) -> None:
        self._planned = row["updates"]
        self._digits = 3 if row.get("unit", "nats/token").startswith("nats") else 4  # relative errors go far below 1
        self._started = time.monotonic()
        self._first_update = row.get("update", 0)
        self._updates.clear()
        self._losses.clear()
        self._projected, self._projected_at = None, 0
        self._course = planned_rates(Path(row["folder"]), self._planned)
        if self.opening is not None:
            self._print(self.opening)
        self._print(f"Run folder: {row['folder']}")
        for line in row.get("lines", []):
            self._print(line)
        for line in table(row["derived"], row["reasons"]):
            self._print("  " + line)
        for note in row.get("notes", []):
            self._print(f"  note: {note}")
        if self.is_live:
            from rich.console import Console
            from rich.live import Live

            self._live = Live("", console=Console(file=self.stream), auto_refresh=False, vertical_overflow="crop")
            self._live.start()

    def _project(self) -> None:
        """The loss expected at the last planned update, from the training losses since the start or resume."""
        if not self._updates or not PROJECT_AGAIN * self._projected_at <= self._updates[-1] < self._planned:
            return
        self._projected_at = self._updates[-1]
        ahead = project(np.array(self._updates, float), np.array(self._losses), float(self._planned), self._course)
        self._projected = ahead if isinstance(ahead, Projection) else None

    def _show(self, now: float, keep: bool = True) -> None:
        self._shown = now
        if self._live is not None:
            self._redraw(self._live)
        elif keep and self._row:
            self._print(f"{self._line()}  {self._norms()}  {self._rates()}")

    def _redraw(self, live: Live) -> None:
        """Three short lines, each cut at the terminal's width."""
        from rich.text import Text

        if self._row:
            live.update(
                Text(f"{self._line()}\n{self._norms()}\n{self._rates()}", no_wrap=True, overflow="ellipsis"),
                refresh=True,
            )

    def _rates(self) -> str:
        return "lr " + "  ".join(f"{key[3:]} {rate:.2e}" for key, rate in self._row.items() if key.startswith("lr/"))

    def _norms(self) -> str:
        row = self._row
        return f"norm {row['grad_norm/preclip']:.2f}  clipped {row['grad_norm/clipped_share']:.0%}"

    def _line(self) -> str:
        row = self._row
        parts = [f"update {row['update']:,}/{self._planned:,}", f"loss {self._smooth():.{self._digits}f}"]
        if self._val is not None:
            parts.append(f"val {self._val:.4f}")
        done = row["update"] - self._first_update
        seconds = max(1e-9, time.monotonic() - self._started)
        for name, unit in SPEEDS.items():
            if name in row:
                parts.append(f"{row[name]:,.0f} {unit}")
        parts.append(f"{duration((self._planned - row['update']) * seconds / max(1, done))} left")
        ahead = self._projected
        if ahead is not None and ahead.loss >= 10**-self._digits:
            loss, low, high = (f"{value:.{self._digits}f}" for value in (ahead.loss, ahead.low, ahead.high))
            parts.append(f"projected {loss} ({low} to {high})")
        return "  ".join(parts)

    def _smooth(self) -> float:
        recent = self._losses[-20:]
        return sum(recent) / len(recent)

    def _print(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self.stream, flush=True)


def planned_rates(folder: Path, planned_updates: int) -> RateCourse | None:
    """The learning rate that the run folder's configuration plans; None without one, or where the loss will decide."""
    if not (folder / "config.yaml").is_file():
        return None
    schedule = load_recipe(folder).config.schedule
    if schedule.kind == "plateau":
        return None
    updates = np.unique(np.linspace(1, planned_updates, COURSE_POINTS).round())
    shares = [multiplier(schedule, int(update) - 1, planned_updates=planned_updates) for update in updates]
    return RateCourse(updates, np.array(shares) / max(shares), np.inf) if max(shares) > 0 else None


def table(values: Mapping[str, Any], reasons: Mapping[str, str]) -> list[str]:
    """Derived values in three columns: name, value, reason."""
    shown = {name: f"{v:,}" if isinstance(v, int) and not isinstance(v, bool) else str(v) for name, v in values.items()}
    name_width = max(map(len, shown), default=0)
    value_width = max(map(len, shown.values()), default=0)
    return [
        f"{name.replace('_', ' '):<{name_width}}  {text:>{value_width}}  {reasons.get(name, '')}"
        for name, text in shown.items()
    ]


def duration(seconds: float) -> str:
    """A span as people say it: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
