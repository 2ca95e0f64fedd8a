"""Families and log styles that came after the first two looks at the held-out set: development data once looked at.

Their first score, before any rule was changed for them, stands in docs/LOG.md beside the held-out one.
"""

from __future__ import annotations

from benchmarks.faults.families.family import Family
from benchmarks.faults.further.adder import Adder
from benchmarks.faults.further.autoencoder import Autoencoder
from benchmarks.faults.further.bars import Bars
from benchmarks.faults.further.blocks import Blocks
from benchmarks.faults.further.brackets import Brackets, Fairlines
from benchmarks.faults.further.bytelm import ByteLM
from benchmarks.faults.further.columns import Columns
from benchmarks.faults.further.digits import Digits
from benchmarks.faults.further.forecaster import Forecaster
from benchmarks.faults.further.rewriter import Rewriter
from benchmarks.faults.further.tabular import Tabular
from benchmarks.faults.further.tagger import Tagger
from benchmarks.faults.trainers.styles import Style

FURTHER: tuple[Family, ...] = (
    ByteLM(), Rewriter(), Tagger(), Adder(), Forecaster(), Autoencoder(), Digits(), Tabular(),
)  # fmt: skip
FURTHER_STYLES: tuple[Style, ...] = (Brackets(), Fairlines(), Blocks(), Bars(), Columns())
