"""Families and log styles for testing. Whoever writes rules or readers does not read this folder, nor its logs.

What comes out of it is looked at as totals only: `python -m benchmarks.faults score --split held-out` lists no runs.
"""

from __future__ import annotations

from benchmarks.faults.families.family import Family
from benchmarks.faults.held_out.curve import Curve
from benchmarks.faults.held_out.enhancers import Enhancers
from benchmarks.faults.held_out.keywords import Keywords
from benchmarks.faults.held_out.matcher import Matcher
from benchmarks.faults.held_out.scenes import Scenes
from benchmarks.faults.held_out.smoothed import Smoothed
from benchmarks.faults.held_out.steps import Steps
from benchmarks.faults.held_out.w2_paddle import Suite
from benchmarks.faults.trainers.styles import Style

HELD_OUT: tuple[Family, ...] = (Enhancers(), Matcher(), Keywords(), Scenes())
HELD_OUT_STYLES: tuple[Style, ...] = (Curve(), Suite(), Steps(), Smoothed())
