"""Optimizers: AdamW and Muon behind one face, with parameter groups by ordered patterns."""

from unstuck.train.optimizers.clip import clip_grad_norm
from unstuck.train.optimizers.groups import Group
from unstuck.train.optimizers.optimizers import Optimizers, build

__all__ = ["Group", "Optimizers", "build", "clip_grad_norm"]
