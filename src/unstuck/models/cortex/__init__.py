"""CortexGPT: a GPT with memory, see model.py."""

from unstuck.models.cortex.model import Cortex

__all__ = ["Cortex"]
