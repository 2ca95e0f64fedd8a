"""The share of a GPU's own bfloat16 peak that training reaches. Untested: no GPU was at hand.

Operations are counted from the model: every linear layer multiplies and adds once forward and twice backward (once
where its weights are frozen), so 6 or 4 per weight and token; attention scores and mixes, 12 x width x window per layer
and token (Chowdhery et al., arXiv 2204.02311, appendix B), half of that where a token looks back only. Embeddings are
looked up and cost nothing; recomputation would not count.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# Dense bfloat16 with float32 sums, 10^12 operations per second, as the maker states it (datasheets print twice as much
# "with sparsity"). By the name CUDA gives. A device that is not here has no share: a number for another device is the
# commonest mistake (shared/PERFORMANCE.md). Compared on 2026-11-21 with a second source, named beside each; where none
# is named, none was found that is not a copy of the maker's page.
BFLOAT16_PEAK = {
    "B200": 2250.0,  # NVIDIA Blackwell datasheet, per GPU of an HGX B200; torchtitan, tools/utils.py
    "H200 NVL": 835.5,  # NVIDIA H200 datasheet: 1,671 with sparsity
    "H200": 989.5,  # the same, SXM: 1,979 with sparsity; torchtitan
    "H100 NVL": 835.5,  # NVIDIA H100 datasheet: 1,671 with sparsity; torchtitan (Lightning's 1,979: a pair)
    "H100 PCIe": 756.5,  # the same: 1,513 with sparsity; torchtitan, Lightning's fabric/utilities/throughput.py
    "H100": 989.5,  # the same, SXM: 1,979 with sparsity; torchtitan, Lightning
    "GH200": 989.5,  # NVIDIA GH200 datasheet, the H100 in it
    "A100": 312.0,  # NVIDIA A100 datasheet, SXM and PCIe alike; torchtitan, Lightning
    "L40S": 362.0,  # NVIDIA L40S datasheet: 362.05; torchtitan
    "L40": 181.0,  # NVIDIA L40 datasheet: 181.05
    "L4": 121.0,  # NVIDIA L4 datasheet: 242 with sparsity
    "A40": 149.7,  # NVIDIA A40 datasheet; GA102 whitepaper V2
    "RTX A6000": 154.8,  # NVIDIA RTX A6000 datasheet: 309.7 with sparsity; GA102 whitepaper V2, appendix C
    "A10G": 70.0,  # NVIDIA's A10G datasheet for AWS (2022-02-17): 70, 140 with sparsity; Lightning gives the A10's 125
    "A10": 125.0,  # NVIDIA A10 datasheet
    "RTX 4090": 165.2,  # NVIDIA Ada architecture whitepaper, appendix A
    "RTX 3090": 71.0,  # NVIDIA GA102 whitepaper, appendix A
}
# Models whose count is that of torch's own counter within 1 % (tests). LTG-BERT's has 0.79 to 0.95 of its operations
# (positions' scores are missing, the head works at targets only), cortex 0.86 with memory and 2.1 with columns.
COUNTED = ("modern", "gpt2")
# Behind the name of a card: another card, or a part of one.
OTHER_CARD = re.compile(r"\b(?:Ti|D|SUPER|Laptop|Max-Q|Mobile|Ada|MIG)\b", re.IGNORECASE)


@functools.cache
def bfloat16_peak(device: torch.device) -> float | None:
    """Operations per second of this device; None where it is no GPU, or one whose peak is not known here."""
    return peak_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peak_of(name: str) -> float | None:
    """Operations per second of a device of this name. Whole words count: an L40 is no L4, an RTX A4000 no A40."""
    for known in sorted(BFLOAT16_PEAK, key=len, reverse=True):  # H100 NVL before H100
        found = re.search(rf"(?<!\w){known}(?!\w)", name)
        if found is not None:
            return None if OTHER_CARD.search(name, found.end()) else BFLOAT16_PEAK[known] * 1e12
    return None


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
