"""What other tools' published rules say of a run, re-implemented from their definitions on what a log can give them.

One file per peer; each defines `NAME`, `SOURCE` (what was read to write it), `check(run)` (its alarms, the peer's most
urgent first) and `MEANS` (which of our rule names an alarm counts as). The mapping is generous: an alarm counts as
every rule that describes the same symptom, and as every cause that the peer's own message or repair list names; an
alarm on a blow-up counts as `lr-too-high` too, its most common cause, which no peer tells apart.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Protocol, cast

from unstuck.runs.run import Run


class Peer(Protocol):
    """A peer module, as the benchmark sees it."""

    NAME: str
    SOURCE: str
    MEANS: dict[str, tuple[str, ...]]

    def check(self, run: Run) -> list[str]: ...


@cache
def all_peers() -> dict[str, Peer]:
    """Every peer of this folder by its name, in the order of the file names."""
    modules = [
        importlib.import_module(f"{__name__}.{info.name}")
        for info in pkgutil.iter_modules(__path__)
        if not info.name.startswith("_")
    ]
    return {module.NAME: cast(Peer, module) for module in modules}


def rules_named(peer: Peer, run: Run) -> list[str]:
    """Our rule names that the peer's alarms count as, in the peer's order, each once."""
    return list(dict.fromkeys(rule for alarm in peer.check(run) for rule in peer.MEANS[alarm]))
