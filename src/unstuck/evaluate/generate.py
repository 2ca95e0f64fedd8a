"""Text from a causal language model, token by token.

A GPT keeps the keys and values of what it read as long as the text fits its context and the prompts are equally long
(generate_cache.py); else, and for other models, each step feeds the last `context` tokens of every unfinished row and
computes the logits of the last one only. Prompts longer than the context are read from their end, and text longer than
the context goes on in a window that slides.

Shape suffixes: N rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unstuck.data.tokenizer import TextTokenizer
from unstuck.evaluate.generate_cache import CachedGPT
from unstuck.evaluate.generate_sampling import Sampling, choose
from unstuck.models.gpt import GPT

REPLACEMENT = "\ufffd"  # what an unfinished UTF-8 sequence decodes to


@dataclass(slots=True)
class Completion:
    """What the model wrote behind one prompt: token ids, the end token left out, and whether it ended by itself."""

    tokens: list[int]
    ended: bool = False


def complete(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling,
    max_tokens: int,
    end: int | None,
    seed: int = 0,
    forbidden: Sequence[int] = (),
) -> list[Completion]:
    """Complete several prompts at once; see `stream`."""
    rows = [Completion([]) for _ in prompts]
    for step in stream(
        model, prompts, sampling=sampling, max_tokens=max_tokens, end=end, seed=seed, forbidden=forbidden
    ):
        for row, token in step:
            if token == end:
                rows[row].ended = True
            else:
                rows[row].tokens.append(token)
    return rows


@torch.no_grad()
def stream(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    sampling: Sampling,
    max_tokens: int,
    end: int | None,
    seed: int = 0,
    forbidden: Sequence[int] = (),
) -> Iterator[list[tuple[int, int]]]:
    """(row, token) of the rows that are not finished, once for each step.

    Args:
        model: in evaluation mode; has `context`, and `hidden` and `logits` or a forward that gives logits (N, T, V).
        prompts: token ids, at least one each.
        sampling: how tokens are drawn.
        max_tokens: at most so many for each row.
        end: the token that finishes a row; it is given out too.
        seed: row i draws from a generator of its own, seeded with seed + i, so that it does not depend on the others.
        forbidden: tokens that are never drawn (marks of speakers).
    """
    device = next(model.parameters()).device
    generators = [torch.Generator().manual_seed(seed + row) for row in range(len(prompts))]
    lengths_N = torch.tensor([len(prompt) for prompt in prompts])
    tokens_NT = torch.zeros(len(prompts), int(lengths_N.max()) + max_tokens, dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        tokens_NT[row, : len(prompt)] = torch.as_tensor([int(i) for i in prompt])
    active = list(range(len(prompts)))
    still: Tensor | None = None  # which rows of the step before are active
    cache = CachedGPT(model) if isinstance(model, GPT) and CachedGPT.fits(model) else None
    if int(lengths_N.min()) < int(lengths_N.max()):
        cache = None
    seen_NV: Tensor | None = None
    for _ in range(max_tokens):
        longest = int(lengths_N[active[0]])
        if cache is not None and longest <= cache.model.context:
            logits_NV = cache.next_logits(tokens_NT[active, :longest], still)
        else:
            logits_NV = next_logits(model, tokens_NT[active], lengths_N[active], device)
        if seen_NV is None:
            seen_NV = torch.zeros(len(prompts), logits_NV.shape[-1], dtype=torch.bool)
            for row, prompt in enumerate(prompts):
                seen_NV[row, [int(i) for i in prompt]] = True
            if end is not None:  # no repetition: it stands before every document and behind every answer of a talk
                seen_NV[:, end] = False
        if forbidden:
            logits_NV[:, list(forbidden)] = float("-inf")
        drawn_N = choose(logits_NV, seen_NV[active], sampling, [generators[row] for row in active])
        step = list(zip(active, drawn_N.tolist(), strict=True))
        for row, token in step:
            tokens_NT[row, lengths_N[row]] = token
            seen_NV[row, token] = True
        lengths_N[active] += 1
        still = torch.tensor([place for place, (_, token) in enumerate(step) if token != end])
        active = [row for row, token in step if token != end]
        yield step
        if not active:
            return


def next_logits(model: Any, tokens_NT: Tensor, lengths_N: Tensor, device: torch.device) -> Tensor:
    """Logits of the token behind each row, (N, V) float32 on the CPU.

    Args:
        model: see `stream`.
        tokens_NT: rows filled up on the right, where a causal model does not look.
        lengths_N: tokens of each row, at least 1.
        device: of the model.
    """
    if reads_all(model):
        return torch.as_tensor(model.next_logits(tokens_NT.to(device), lengths_N.to(device))).float().cpu()
    window = min(int(model.context), int(lengths_N.max()))
    starts_N = (lengths_N - window).clamp_min(0)
    places_NT = starts_N[:, None] + torch.arange(window)
    window_NT = tokens_NT.gather(1, places_NT.clamp_max(tokens_NT.shape[1] - 1)).to(device)
    last_N = (lengths_N - starts_N - 1).to(device)
    rows_N = torch.arange(len(last_N), device=device)
    if hasattr(model, "hidden") and hasattr(model, "logits"):
        logits_NV = model.logits(model.hidden(window_NT)[rows_N, last_N])
    else:
        logits_NV = model(window_NT)[rows_N, last_N]
    return torch.as_tensor(logits_NV).float().cpu()


def reads_all(model: Any) -> bool:
    """Whether a model reads text of any length from its beginning, because it remembers; else its last `context`."""
    return bool(getattr(model, "remembers", False))


class TextStream:
    """Turns tokens into text as they come, holding back characters whose bytes are not all there yet."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer = tokenizer
        self.tokens: list[int] = []
        self.shown = ""

    def add(self, token: int) -> str:
        """The text that this token completes; empty while a character is unfinished."""
        self.tokens.append(token)
        text = self.tokenizer.decode(self.tokens)
        if text.endswith(REPLACEMENT):
            return ""
        new, self.shown = text[len(self.shown) :], text
        return new

    def rest(self) -> str:
        """What was held back."""
        return self.tokenizer.decode(self.tokens)[len(self.shown) :]
