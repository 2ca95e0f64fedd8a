"""Families and log styles for testing. Whoever writes rules or readers does not read this folder, nor its logs.

What comes out of it is looked at as totals only: `python -m benchmarks.faults score --split held-out` lists no runs.
"""

from benchmarks.faults.families.family import Family
from benchmarks.faults.held_out.denoiser import Denoiser
from benchmarks.faults.held_out.memory_lm import MemoryLM
from benchmarks.faults.held_out.recurrent import RecurrentLM
from benchmarks.faults.held_out.seq2seq import Seq2Seq
from benchmarks.faults.held_out.vision import Vision

HELD_OUT: tuple[Family, ...] = (Vision(), RecurrentLM(), Denoiser(), Seq2Seq(), MemoryLM())
