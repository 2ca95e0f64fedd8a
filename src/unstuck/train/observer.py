"""Who may look on while a run trains, and how a run is stopped from outside."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Protocol

StopWhen = Callable[[Mapping[str, Any]], str | None]
"""Called with every event; a text stops the run after that update and becomes `stopped_by`."""


class Observer(Protocol):
    """Sees every row of `metrics.jsonl` as it is made (docs of the rows: `unstuck.train.run`)."""

    def event(self, row: Mapping[str, Any]) -> None:
        """One row; must return quickly, the training waits for it."""


class StopSignals:
    """Turns the first SIGINT or SIGTERM into a wish that the loop reads between updates; a second SIGINT interrupts.

    Outside the main thread Python does not allow signal handlers; there nothing is caught.

    Args:
        under_torchrun: torchrun passes on what the terminal has sent already, and ends its processes itself after 30 s;
            so further signals do nothing.
    """

    def __init__(self, *, under_torchrun: bool = False) -> None:
        self.under_torchrun = under_torchrun
        self.received: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.received is not None:
            if self.under_torchrun:
                return
            raise KeyboardInterrupt
        self.received = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
