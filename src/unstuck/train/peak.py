"""The share of a GPU's own bfloat16 peak that training reaches. Untested: no GPU was at hand.

Operations are counted from the model: every linear layer multiplies and adds once forward and twice backward (once
where its weights are frozen), so 6 or 4 per weight and token; attention scores and mixes, 12 x width x window per layer
and token (Chowdhery et al., arXiv 2204.02311, appendix B), half of that where a token looks back only. Embeddings are
looked up and cost nothing; recomputation would not count.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# Dense bfloat16 with float32 sums, 10^12 operations per second, as the maker states it (datasheets print twice as much
# "with sparsity"). By the name CUDA gives; the first that is found in it counts, so longer names come first. A device
# that is not here has no share: a number for another device is the commonest mistake (shared/PERFORMANCE.md).
BFLOAT16_PEAK = {
    "B200": 2250.0,  # NVIDIA Blackwell datasheet, per GPU of an HGX B200
    "H200 NVL": 835.5,  # NVIDIA H200 datasheet
    "H200": 989.5,  # the same, SXM
    "H100 NVL": 835.5,  # NVIDIA H100 datasheet
    "H100 PCIe": 756.5,
    "H100": 989.5,  # the same, SXM
    "GH200": 989.5,
    "A100": 312.0,  # NVIDIA A100 datasheet
    "L40S": 362.0,  # NVIDIA L40S datasheet
    "L4": 121.0,  # NVIDIA L4 datasheet
    "A40": 149.7,  # NVIDIA A40 datasheet
    "RTX A6000": 154.8,  # NVIDIA RTX A6000 datasheet
    "A10G": 70.0,  # AWS's own part, half of an A10
    "A10": 125.0,  # NVIDIA A10 datasheet
    "RTX 4090": 165.2,  # NVIDIA Ada architecture whitepaper, appendix A
    "RTX 3090": 71.0,  # NVIDIA GA102 whitepaper, appendix A
}


@functools.cache
def bfloat16_peak(device: torch.device) -> float | None:
    """Operations per second of this device; None where it is no GPU, or one whose peak is not known here."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak * 1e12 for known, peak in BFLOAT16_PEAK.items() if known in name), None)


@dataclass(frozen=True, slots=True)
class Operations:
    """What training on tokens costs.

    Attributes:
        linear: operations per token in linear layers.
        attention: operations per token and per token of its window.
    """

    linear: int
    attention: int

    def of(self, batch: Any) -> int | None:
        """Operations of a micro-batch whose first tensor is int64 tokens (B, T); None for another one."""
        tokens = batch[0] if isinstance(batch, tuple) else getattr(batch, "inputs_BT", None)
        if not isinstance(tokens, Tensor) or tokens.ndim != 2 or tokens.is_floating_point():
            return None
        return tokens.numel() * (self.linear + self.attention * tokens.shape[1])


def operations(model: nn.Module, layers: int | None, width: int | None, *, looks_back_only: bool) -> Operations | None:
    """Counted from a language model before it is wrapped; None where its recipe does not say how large it is."""
    if layers is None or width is None:
        return None
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    linear = sum(weight.numel() * (6 if weight.requires_grad else 4) for weight in weights)
    return Operations(linear, layers * width * (6 if looks_back_only else 12))
