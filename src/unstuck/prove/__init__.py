"""Measure whether a change helps: base against changed recipe, same start, data order and tokens, several seeds."""

from unstuck.prove.compare import compare
from unstuck.prove.proof import Proof, Trial

__all__ = ["Proof", "Trial", "compare"]
