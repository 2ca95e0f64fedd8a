"""Homeostasis of firing rates: a unit that fires too often gets a higher threshold, too seldom a lower one.

Intrinsic plasticity of neurons (Turrigiano, "The self-tuning neuron", Cell 135, 2008), outside of the gradient: the
rates are slow running means, and the thresholds move after an update, so a token never sees what other tokens of its
batch did.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MEMORY = 0.98  # of the running mean of the rates, per update: over some 50 updates; an assumption, "slow"
# Tokens of a micro-batch that are counted; a rate of 0.2 is then known to 0.025, its running mean to 0.003.
SAMPLED = 256


class Firing(nn.Module):
    """Thresholds of some units, and the share of tokens at which each fires.

    Args:
        units: F.
        target: rate that is aimed at.
        speed: step of the threshold per update and unit of error, in units of the input of the ReLU.
    """

    threshold_F: Tensor
    rate_F: Tensor
    fired_F: Tensor
    counted_F: Tensor

    def __init__(self, units: int, target: float, speed: float) -> None:
        super().__init__()
        self.target, self.speed = target, speed
        self.register_buffer("threshold_F", torch.zeros(units))
        self.register_buffer("rate_F", torch.full((units,), target))
        self.register_buffer("fired_F", torch.zeros(units), persistent=False)  # since the last update
        self.register_buffer("counted_F", torch.zeros(units), persistent=False)

    def forward(self, before: Tensor, first: int = 0) -> Tensor:
        """Inputs of the units' ReLU, (..., f), for the units from `first` on, with their thresholds taken off."""
        last = first + before.shape[-1]
        shifted = before - self.threshold_F[first:last].to(before.dtype)
        if self.training:
            with torch.no_grad():
                sample = shifted.detach().flatten(0, -2)[:SAMPLED]
                self.fired_F[first:last] += (sample > 0).sum(0)
                self.counted_F[first:last] += len(sample)
        return shifted

    @torch.no_grad()
    def settle(self) -> dict[str, float]:
        """After an update: move rates and thresholds. Returns the mean rate and the mean distance from the target."""
        seen = self.counted_F > 0
        now = torch.where(seen, self.fired_F / self.counted_F.clamp_min(1), self.rate_F)
        self.rate_F.lerp_(now, 1 - MEMORY)
        self.threshold_F += self.speed * (self.rate_F - self.target)
        self.fired_F.zero_()
        self.counted_F.zero_()
        error = (self.rate_F - self.target).abs().mean()
        return {"homeostasis/rate": float(self.rate_F.mean()), "homeostasis/error": float(error)}
