"""Families and log styles for testing. Whoever writes rules or readers does not read this folder, nor its logs.

What comes out of it is looked at as totals only: `python -m benchmarks.faults score --split held-out` lists no runs.
"""

from __future__ import annotations

from benchmarks.faults.families.family import Family
from benchmarks.faults.trainers.styles import Style

HELD_OUT: tuple[Family, ...] = ()
HELD_OUT_STYLES: tuple[Style, ...] = ()
