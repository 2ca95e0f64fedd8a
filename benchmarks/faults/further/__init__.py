"""Families and log styles that came after the first two looks at the held-out set: development data once looked at.

Their first score, before any rule was changed for them, stands in docs/LOG.md beside the held-out one.
"""

from __future__ import annotations

from benchmarks.faults.families.family import Family
from benchmarks.faults.trainers.styles import Style

FURTHER: tuple[Family, ...] = ()
FURTHER_STYLES: tuple[Style, ...] = ()
