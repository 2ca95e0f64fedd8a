"""The same model and loop in nanoGPT's form, stated again for comparison (github.com/karpathy/nanoGPT, MIT).

What makes it that form: batches gathered window by window from a memory-mapped file, the fused attention kernel, GELU
modules, AdamW with two groups, the gradient norm by torch.nn.utils, one optimizer step per batch, the loss read every
tenth update. On CPU nanoGPT takes AdamW's for-each implementation, so this does too. Checked against the real one:
see docs/benchmarks.md.

    python -m benchmarks.peers.nanogpt_form TRAIN_TOKENS.npy VALIDATION_TOKENS.npy --updates 2000
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.drop_residual = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        batch, time_steps, width = x.shape
        parts = self.qkv(x).split(width, dim=2)
        q, k, v = (p.view(batch, time_steps, self.heads, width // self.heads).transpose(1, 2) for p in parts)
        y = functional.scaled_dot_product_attention(q, k, v, dropout_p=0.0, is_causal=True)
        y = y.transpose(1, 2).contiguous().view(batch, time_steps, width)
        return torch.as_tensor(self.drop_residual(self.out(y)))


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, bias=False)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width, bias=False), nn.GELU(), nn.Linear(4 * width, width, bias=False), nn.Dropout(0.0)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + torch.as_tensor(self.mlp(self.norm2(x)))


class NanoGPTForm(nn.Module):
    """GPT-2's block without biases, tied head. `forward(tokens, targets)` returns (logits, loss)."""

    def __init__(self, *, vocabulary: int, context: int, layers: int, heads: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.drop = nn.Dropout(0.0)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=False)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                into_residual = name.endswith(("out.weight", "mlp.2.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if into_residual else 0.02)

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        place = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.drop(self.embedding(tokens) + self.positions(place))
        for layer in self.layers:
            x = layer(x)
        logits = self.head(self.norm(x))
        if targets is None:
            return logits, None
        return logits, functional.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1), ignore_index=-1)


def random_batch(path: Path, batch: int, context: int) -> tuple[Tensor, Tensor]:
    """Windows from random places of the file, mapped anew every time as nanoGPT does."""
    data = np.load(path, mmap_mode="r")
    starts = torch.randint(len(data) - context, (batch,))
    x = torch.stack([torch.from_numpy(data[i : i + context].astype(np.int64)) for i in starts])
    y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + context].astype(np.int64)) for i in starts])
    return x, y


def rate(update: int, *, peak: float, floor: float, warmup: int, horizon: int) -> float:
    """Linear warm-up, then half a cosine."""
    if update < warmup:
        return peak * (update + 1) / (warmup + 1)
    done = min(1.0, (update - warmup) / (horizon - warmup))
    return floor + 0.5 * (1 + math.cos(math.pi * done)) * (peak - floor)


@torch.no_grad()
def whole_loss(model: NanoGPTForm, path: Path, context: int) -> float:
    """Mean over every predictable token of the validation split, in windows that do not overlap."""
    data = torch.from_numpy(np.load(path).astype(np.int64))
    targets, total = len(data) - 1, 0.0
    starts = range(0, targets, context)
    whole = [i for i in starts if i + context <= targets]
    for k in range(0, len(whole), 128):
        x = torch.stack([data[i : i + context] for i in whole[k : k + 128]])
        y = torch.stack([data[i + 1 : i + 1 + context] for i in whole[k : k + 128]])
        loss = model(x, y)[1]
        total += float(loss) * y.numel() if loss is not None else 0.0
    for i in starts:
        if i + context > targets:
            loss = model(data[None, i:targets], data[None, i + 1 :])[1]
            total += float(loss) * (targets - i) if loss is not None else 0.0
    return total / targets


def train(
    train_file: Path,
    validation_file: Path | None,
    *,
    updates: int,
    vocabulary: int,
    context: int = 64,
    batch: int = 12,
    layers: int = 4,
    heads: int = 4,
    width: int = 128,
    seed: int = 1337,
    started: float | None = None,
) -> dict[str, float]:
    """Train as nanoGPT's shakespeare_char configuration on a CPU does; its cosine always spans 2,000 updates.

    `seconds` in the result is the time since `started`, before the validation.
    """
    torch.manual_seed(seed)
    model = NanoGPTForm(vocabulary=vocabulary, context=context, layers=layers, heads=heads, width=width)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
    times = []
    x, y = random_batch(train_file, batch, context)
    before = time.perf_counter()
    for update in range(updates):
        for group in optimizer.param_groups:
            group["lr"] = rate(update, peak=1e-3, floor=1e-4, warmup=100, horizon=2000)
        _, loss = model(x, y)
        x, y = random_batch(train_file, batch, context)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        now = time.perf_counter()
        times.append(now - before)
        before = now
        if update % 100 == 0:
            print(f"iter {update}: loss {loss.item():.4f}, time {times[-1] * 1e3:.1f}ms", flush=True)
    result = {"tokens_per_second": batch * context / float(np.median(times))}
    if started is not None:
        result["seconds"] = time.time() - started
    if validation_file is not None:
        result["val_loss"] = whole_loss(model, validation_file, context)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train_tokens", type=Path)
    parser.add_argument("validation_tokens", type=Path, nargs="?")
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--vocabulary", type=int, default=65)
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument("--started", type=float, help="time.time() before this process was made")
    asked = parser.parse_args()
    result = train(
        asked.train_tokens, asked.validation_tokens, updates=asked.updates, vocabulary=asked.vocabulary,
        seed=asked.seed, started=asked.started,
    )  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
