"""From logits to the next token: pure functions, each on a batch of rows.

The order is fixed: repetition penalty on the raw logits, then temperature, then top-k, then top-p of what top-k left,
then the draw. Shape suffixes: N rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unstuck.errors import UserError

SMALLEST_TEMPERATURE = 1e-6  # below 1e-38 float32 divides by zero (docs/LOG.md); from here on all draw the same


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn.

    Attributes:
        temperature: divides the logits; 0: the most probable token, nothing is drawn.
        top_k: only the k most probable tokens; None: all.
        top_p: of these, only the fewest whose probabilities sum to at least p (nucleus, arXiv 1904.09751); None: all.
        repetition_penalty: for tokens of the prompt and of what was generated; 1: none.

    Raises:
        UserError: a value out of its range.
    """

    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = 0.95
    repetition_penalty: float = 1.1

    def __post_init__(self) -> None:
        wrong = (
            (not 0 <= self.temperature < float("inf"), f"--temperature {self.temperature:g} must be 0 or more"),
            (self.top_k is not None and self.top_k < 1, f"--top-k {self.top_k} must be at least 1"),
            (self.top_p is not None and not 0 < self.top_p <= 1, f"--top-p {self.top_p} must be above 0, at most 1"),
            (not 0 < self.repetition_penalty < float("inf"), "--repetition-penalty must be above 0; 1 is none"),
        )
        for is_wrong, sentence in wrong:
            if is_wrong:
                raise UserError(f"{sentence}; try --preset balanced.")


# exact: always the most probable token: the same answer every time, at the price of loops in long texts.
# balanced: cuts the tail of improbable tokens and discourages loops a little.
# creative: the distribution that the model learned, but for its last 2 %.
# Assumptions, as no reader judged them: top-p 0.95 is of arXiv 1904.09751, the penalty is half of CTRL's 1.2.
PRESETS = {
    "exact": Sampling(temperature=0.0, top_p=None, repetition_penalty=1.0),
    "balanced": Sampling(temperature=0.8, top_p=0.95, repetition_penalty=1.1),
    "creative": Sampling(temperature=1.0, top_p=0.98, repetition_penalty=1.05),
}


def penalise(logits_NV: Tensor, seen_NV: Tensor, penalty: float) -> Tensor:
    """Make tokens that were seen less probable: positive logits are divided by the penalty, negative ones multiplied.

    CTRL (arXiv 1909.05858, section 4.1) divides all; a negative logit would then rise. `seen_NV` is bool.
    """
    if penalty == 1.0:
        return logits_NV
    weaker_NV = torch.where(logits_NV > 0, logits_NV / penalty, logits_NV * penalty)
    return torch.where(seen_NV, weaker_NV, logits_NV)


def keep_top_k(logits_NV: Tensor, k: int) -> Tensor:
    """All but the k largest logits of each row become -inf; of equal ones as many stay as make k."""
    if k >= logits_NV.shape[-1]:
        return logits_NV
    values_NK, places_NK = logits_NV.topk(k, dim=-1)
    return torch.full_like(logits_NV, float("-inf")).scatter(-1, places_NK, values_NK)


def keep_top_p(logits_NV: Tensor, p: float) -> Tensor:
    """All but the fewest most probable tokens whose probabilities sum to at least p become -inf; one always stays."""
    if p >= 1:
        return logits_NV
    sorted_NV, places_NV = logits_NV.sort(dim=-1, descending=True, stable=True)
    shares_NV = sorted_NV.double().softmax(-1)
    before_NV = shares_NV.cumsum(-1) - shares_NV  # mass of the more probable tokens: zero for the first
    kept_NV = sorted_NV.masked_fill(before_NV >= p, float("-inf"))
    return torch.empty_like(kept_NV).scatter(-1, places_NV, kept_NV)


def choose(logits_NV: Tensor, seen_NV: Tensor, sampling: Sampling, generators: Sequence[torch.Generator]) -> Tensor:
    """The next token of each row, int64, shape (N,).

    Args:
        logits_NV: float32.
        seen_NV: bool, tokens of each row's prompt and of what was generated.
        sampling: see there.
        generators: of each row, so that a row does not depend on its neighbours; on the CPU.
    """
    logits_NV = penalise(logits_NV, seen_NV, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return logits_NV.argmax(-1)
    highest_N1 = logits_NV.max(-1, keepdim=True).values
    logits_NV = (logits_NV - highest_N1) / max(sampling.temperature, SMALLEST_TEMPERATURE)
    if sampling.top_k is not None:
        logits_NV = keep_top_k(logits_NV, sampling.top_k)
    if sampling.top_p is not None:
        logits_NV = keep_top_p(logits_NV, sampling.top_p)
    sums_NV = logits_NV.double().softmax(-1).cumsum(-1)
    drawn_N1 = torch.stack([torch.rand(1, dtype=torch.float64, generator=g) for g in generators])
    drawn_N1 = drawn_N1.to(sums_NV.device) * sums_NV[:, -1:]
    # The first token whose cumulative probability exceeds the draw; a token of probability 0 never does so first.
    return (sums_NV > drawn_N1).to(torch.uint8).argmax(-1)
