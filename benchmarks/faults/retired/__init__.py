"""The first held-out families and log styles: scored three times as totals, then development data."""

from benchmarks.faults.families.family import Family
from benchmarks.faults.retired.denoiser import Denoiser
from benchmarks.faults.retired.memory_lm import MemoryLM
from benchmarks.faults.retired.recurrent import RecurrentLM
from benchmarks.faults.retired.seq2seq import Seq2Seq
from benchmarks.faults.retired.styles import RETIRED_STYLES
from benchmarks.faults.retired.vision import Vision

RETIRED: tuple[Family, ...] = (Vision(), RecurrentLM(), Denoiser(), Seq2Seq(), MemoryLM())
__all__ = ["RETIRED", "RETIRED_STYLES"]
