"""Families and log styles written beside the held-out ones, by the same people: development data once scored.

Their first score, before any rule was changed for them, stands in docs/LOG.md.
"""

from __future__ import annotations

from benchmarks.faults.families.family import Family
from benchmarks.faults.trainers.styles import Style

LATER: tuple[Family, ...] = ()
LATER_STYLES: tuple[Style, ...] = ()
