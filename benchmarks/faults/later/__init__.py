"""Families and log styles written beside the held-out ones, by the same people: development data once scored.

Their first score, before any rule was changed for them, stands in docs/LOG.md.
"""

from __future__ import annotations

from benchmarks.faults.families.family import Family
from benchmarks.faults.later.iters import Iters
from benchmarks.faults.later.molecules import Molecules
from benchmarks.faults.later.norms import Norms
from benchmarks.faults.later.parleys import Parleys
from benchmarks.faults.later.phones import Phones
from benchmarks.faults.later.stories import Stories
from benchmarks.faults.later.translator import Translator
from benchmarks.faults.later.w2_nmt import Toolkit
from benchmarks.faults.trainers.styles import Style

LATER: tuple[Family, ...] = (Molecules(), Phones(), Translator(), Stories())
LATER_STYLES: tuple[Style, ...] = (Norms(), Iters(), Toolkit(), Parleys())
