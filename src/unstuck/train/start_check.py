"""Before the first update of a pretrained model: is its loss what a pretrained model's must be?

The loss before any training depends on the model, the text and the labels alone, so a wrong one cannot be cured by any
learning rate. Incident I4 trained GPT-2 on labels that were shifted twice; the first line of every log said
9.2-9.6 nats where 3.6 was due. Here four things are measured on the first training examples, in about the time of two
updates, and a fault stops the run before it has a folder:

- the loss against the targets as they are trained, and against the same targets moved by one and two positions: the
  model itself says which token it was made to predict, and that must be the one trained;
- the entropy of its predictions: near ln V the weights are random, whatever the file is called;
- the loss against ln V: above it the model knows less than nothing about these ids, so they are another tokenizer's;
- the gradient of every adapter: incident I4's wrapper computed the base without one, and only the last adapter learned.

Other text than the model was trained on passes: its loss is higher, but lowest where it should be and below ln V. A
false alarm that is known: a model that learned a little text by heart may do worse than guessing on other text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from unstuck.config.schema import Config
from unstuck.errors import UserError
from unstuck.models.language_model import IGNORED
from unstuck.train.tasks.task import Autocast, Task

SHIFTS = (-2, -1, 0, 1, 2)  # -1: shifted twice (incident I4), 1: not at all; assumption: nobody is further off than 2
# Assumption: enough by far. 193 to 303 targets told all cases of docs/systems/gpt2-qa.md apart, in about two updates.
ENOUGH_TARGETS = 1024
MOST_ROWS = 16
# Below, the losses of two shifts cannot be told apart. Assumption: differences of one target spread over some 3 nats,
# so that their mean over 32 is known to 0.5, more than SHIFT_NATS.
FEWEST_TARGETS = 32
# A shift is the better one when it wins by both. The weakest base measured (0.15M tokens, asked on text of another
# kind) has the trained shift ahead by 0.43 nats, and shifted twice behind by 0.75 (docs/systems/gpt2-qa.md). Four
# standard errors are an assumption: chance alone passes them once in 30,000.
SHIFT_NATS = 0.25
SHIFT_ERRORS = 4.0
# Shares of ln V. Random weights: logits of standard deviation s have entropy ln V - s^2 / 2, at width 4096 0.92;
# of a base of 6.9M 0.99, its loss 1.01. The least trained base measured has 0.72 to 0.78, its loss on other
# text 0.82; the highest loss of a trained one on other text is 0.84 (docs/systems/gpt2-qa.md). Both limits lie between.
RANDOM_ENTROPY = 0.85
RANDOM_LOSS = 0.95
# Ids of another tokenizer have 1.38 there, random weights 1.01, a healthy start 0.84 at most. Assumption: nothing that
# can be cured by training lies above 1.05.
OTHER_IDS_LOSS = 1.05
# Mean loss on OpenWebText: nanoGPT's README, "baselines".
PUBLISHED = {"gpt2": 3.12, "gpt2-medium": 2.84, "gpt2-large": 2.67, "gpt2-xl": 2.54}


@dataclass(frozen=True, slots=True)
class StartCheck:
    """What was measured before the first update.

    Attributes:
        losses: nats per target when the targets are moved by so many positions; 0: as they are trained.
        errors: standard error of the difference to the loss at 0, by shift.
        entropy: of the predictions, nats, the mean over the same targets.
        vocabulary: ids V that the model knows.
        targets: how many were measured.
        adapters: tensors of adapters.
        unreached: those of them that no gradient reaches.
        published: loss that this model is known to have on the text it was made for; None: not known.
        own_ids: the tokenizer is known to be the model's own.
    """

    losses: dict[int, float]
    errors: dict[int, float]
    entropy: float
    vocabulary: int
    targets: int
    adapters: int = 0
    unreached: tuple[str, ...] = ()
    published: float | None = None
    own_ids: bool = False

    @property
    def chance(self) -> float:
        """Loss of a guess among all ids alike: ln V."""
        return math.log(self.vocabulary)

    def problem(self) -> str | None:
        """One sentence that ends in the next thing to do; None when the start is a pretrained model's."""
        if self.unreached:
            return (
                f"No gradient reaches {len(self.unreached)} of {self.adapters} adapter tensors ({self.unreached[0]} "
                "for one), so they would never learn; set model.gradient_checkpointing=false, or name other layers "
                "with model.adapter.targets."
            )
        if self.targets < FEWEST_TARGETS:
            return None
        loss = self.losses[0]
        if self.entropy > RANDOM_ENTROPY * self.chance and loss > RANDOM_LOSS * self.chance:
            return (
                f"The weights look random, not pretrained: the first loss is {loss:.2f} nats, a guess among all ids "
                f"alike has {self.chance:.2f}, and the predictions are as undecided ({self.entropy:.2f}); name the "
                "folder of a trained model with model.path."
            )
        best = min(self.losses, key=self.losses.__getitem__)
        ahead = loss - self.losses[best]
        # below chance: ids of another tokenizer look shifted too, as a tied head knows its own input again
        if self.losses[best] < self.chance and ahead > max(SHIFT_NATS, SHIFT_ERRORS * self.errors[best]):
            late = "later" if best < 0 else "earlier"
            return (
                f"The targets lie {abs(best)} token{'s' * (abs(best) > 1)} {late} than what this model predicts: its "
                f"loss is {loss:.2f} nats as they are and {self.losses[best]:.2f} with the targets moved by {best:+d}. "
                "Labels must be shifted exactly once, by the data or by the model; mend the data set."
            )
        if loss > OTHER_IDS_LOSS * self.chance and not self.own_ids:
            return (
                f"The first loss is {loss:.2f} nats, worse than a guess among all ids alike ({self.chance:.2f}), so "
                "these ids are not the model's; use its own tokenizer: data.tokenizer=from-model."
            )
        # half way to guessing: an assumption; GPT-2's 6.97 lies between its 3.12 and incident I4's 9.2 to 9.6
        if self.published is not None and loss > (self.published + self.chance) / 2:
            return (
                f"The first loss is {loss:.2f} nats where this model is known for {self.published:.2f} on web text; "
                "check that the text is of a language that it knows and that data.tokenizer=from-model."
            )
        return None

    def line(self) -> str:
        """For people: what was measured."""
        moved = ", ".join(f"{shift:+d}: {loss:.2f}" for shift, loss in self.losses.items() if shift)
        reached = f"; a gradient reaches {self.adapters - len(self.unreached)} of {self.adapters} adapter tensors"
        return (
            f"start check over {self.targets:,} targets: loss {self.losses.get(0, math.nan):.2f} (guessing "
            f"{self.chance:.2f}, own entropy {self.entropy:.2f}; targets moved by {moved})"
            + (reached if self.adapters else "")
        )

    def notes(self) -> list[str]:
        """What is printed when the run begins: the line, and what is wrong where the run goes on in spite of it."""
        problem = self.problem()
        return [self.line()] if problem is None else [self.line(), problem]

    def row(self) -> dict[str, Any]:
        """For the `start` event."""
        if not self.targets:
            return {}
        return {
            "start_loss": min(self.losses.values()),
            "start_loss_shifts": {f"{shift:+d}" if shift else "0": loss for shift, loss in self.losses.items()},
            "start_entropy": self.entropy,
        }


def check_start(task: Task, model: nn.Module, autocast: Autocast, *, name: str = "") -> StartCheck | None:
    """Measure the start on the first training examples. Weights, gradients, modes and random states are left alone.

    Args:
        task: its batches hold tokens and targets, int64, each (B, T).
        model: `model(tokens_BT)` gives logits (B, T, V).
        autocast: as in training.
        name: of a known model, for its published loss.

    Returns:
        None where the task's batches have another form.
    """
    rows = list(_rows(task))
    if not rows:
        return None
    measured = _measure(rows, model, autocast)
    adapters = {n: p for n, p in model.named_parameters() if p.requires_grad and ".lora_B." in n}
    unreached = _unreached(rows, model, autocast, adapters) if adapters else ()
    losses, errors, entropy, vocabulary, targets = measured
    known = PUBLISHED.get(name.removeprefix("openai-community/"))
    return StartCheck(losses, errors, entropy, vocabulary, targets, len(adapters), unreached, known)


def _rows(task: Task) -> Iterator[tuple[Tensor, Tensor]]:
    """Single rows (1, T) of the first micro-batches until there are enough targets."""
    position, targets, count = 0, 0, 0
    while targets < ENOUGH_TARGETS and count < MOST_ROWS and position < task.examples:
        data = task.micro_batches(position, 0)
        position += data.examples
        before = count
        for batch in data.batches:
            tokens_BT, targets_BT = _pair(batch)
            if not _fit(tokens_BT, targets_BT):
                return
            # a hybrid's causal windows hide nothing, and the model is called here without a word of their direction
            masked = slice(getattr(batch, "causal_rows", 0), None)
            for tokens_T, targets_T in zip(tokens_BT[masked], targets_BT[masked], strict=True):
                if targets >= ENOUGH_TARGETS or count >= MOST_ROWS:
                    return
                targets += int((targets_T != IGNORED).sum())
                count += 1
                yield tokens_T[None], targets_T[None]
        if count == before:
            return  # causal windows alone: nothing here can measure them


def _pair(batch: Any) -> tuple[Any, Any]:
    """Tokens and targets of a causal batch (a tuple) or a masked one (which names them)."""
    if isinstance(batch, tuple) and len(batch) == 2:
        return batch
    return getattr(batch, "inputs_BT", None), getattr(batch, "targets_BT", None)


def _fit(tokens: Any, targets: Any) -> bool:
    both = isinstance(tokens, Tensor) and isinstance(targets, Tensor)
    return both and tokens.ndim == 2 and tokens.dtype == torch.int64 and tokens.shape == targets.shape


@torch.no_grad()
def _measure(
    rows: Iterable[tuple[Tensor, Tensor]], model: nn.Module, autocast: Autocast
) -> tuple[dict[int, float], dict[int, float], float, int, int]:
    """Losses and errors by shift, entropy, vocabulary and number of targets.

    The target of position p is scored by the logits of p - k: the targets moved by k. Every shift scores the same
    targets, so that the losses differ by the shift alone.
    """
    training = model.training
    model.eval()
    reach = max(map(abs, SHIFTS))
    scores: dict[int, list[Tensor]] = {shift: [] for shift in SHIFTS}
    entropies: list[Tensor] = []
    vocabulary = 1
    for tokens_BT, targets_BT in rows:
        with autocast():
            logits_TV = model(tokens_BT)[0]
        logs_TV = logits_TV.float().log_softmax(-1)
        vocabulary = logs_TV.shape[-1]
        place_N = (targets_BT[0] != IGNORED).nonzero()[:, 0]
        place_N = place_N[(place_N >= reach) & (place_N < len(logs_TV) - reach)]
        wanted_N = targets_BT[0, place_N]
        for shift, found in scores.items():
            found.append(-logs_TV[place_N - shift, wanted_N].double().cpu())
        chosen_NV = logs_TV[place_N]
        entropies.append(-(chosen_NV.exp() * chosen_NV).sum(-1).double().cpu())
    model.train(training)
    together = {shift: torch.cat(found) for shift, found in scores.items()}
    targets = len(together[0])
    if not targets:
        return dict.fromkeys(SHIFTS, math.nan), dict.fromkeys(SHIFTS, math.inf), math.nan, vocabulary, 0
    losses = {shift: float(found.mean()) for shift, found in together.items()}
    errors = {shift: float((together[0] - found).std()) / math.sqrt(targets) for shift, found in together.items()}
    return losses, errors, float(torch.cat(entropies).mean()), vocabulary, targets


def _unreached(
    rows: list[tuple[Tensor, Tensor]], model: nn.Module, autocast: Autocast, adapters: dict[str, nn.Parameter]
) -> tuple[str, ...]:
    """Adapters whose gradient is absent or zero in training mode; B's, as A has none while B is zero."""
    devices = sorted({p.device.index or 0 for p in adapters.values() if p.device.type == "cuda"})
    training = model.training
    tokens_BT, targets_BT = max(rows, key=lambda row: int((row[1] != IGNORED).sum()))
    with torch.random.fork_rng(devices=devices):
        model.train()
        with autocast():
            loss = model(tokens_BT, targets_BT)
        found = torch.autograd.grad(loss, list(adapters.values()), allow_unused=True)
    model.train(training)
    return tuple(n for n, g in zip(adapters, found, strict=True) if g is None or not bool(g.abs().max() > 0))


def checked_start(config: Config, task: Task, model: nn.Module, autocast: Autocast) -> StartCheck | None:
    """`check_start` for a run about to begin; None where the model is fresh.

    A start from another run's weights (`start_from`) is measured and reported only: its tokenizer is known to be the
    same, and what it says of other text (answers, after books) may be anything below ln V.

    Raises:
        UserError: the start is no pretrained model's, unless `model.start_check` is "report".
    """
    if config.model.architecture != "pretrained":
        known_tokens = config.start_from is not None and task.tokenizer is not None
        measured = check_start(task, model, autocast) if known_tokens else None
        return None if measured is None else replace(measured, own_ids=True)
    found = check_start(task, model, autocast, name=config.model.path)
    problem = None if found is None else found.problem()
    if problem is not None and config.model.start_check == "stop":
        raise UserError(f"Nothing was trained. {problem} To train in spite of it: model.start_check=report")
    return found
