"""`task.kind: operator`: predict the next field. B fields of X x Y points in a micro-batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from unstuck.config.schema import Config
from unstuck.config.sections.tasks import loss_unit
from unstuck.data.fields import Fields, FieldsData, prepare_fields
from unstuck.data.order import DataOrder
from unstuck.data.tokenizer import TextTokenizer
from unstuck.errors import UserError
from unstuck.evaluate.loss import Evaluation
from unstuck.evaluate.operator_losses import relative_h1, relative_l2
from unstuck.train.tasks.task import Autocast, Loss, MicroBatches, Share, on_device

# Forward passes keep no activations; 32 fields of 64 x 64 at width 32 take 17 MB a layer (little enough: assumption).
FIELDS_PER_BATCH = 32
LOSSES = {"l2": relative_l2, "h1": relative_h1}


class Operator:
    """Implements `Task` for pairs of fields. The loss is the mean of the fields' relative errors, never their sum.

    Args:
        config: of the run.
        device: where batches go.
        share: of this process.
        data: None: what the config names.
    """

    example = "field"
    tokens_per_example: int | None = None
    tokenizer: TextTokenizer | None = None

    def __init__(self, config: Config, device: torch.device, share: Share, data: FieldsData | None = None) -> None:
        if config.data.kind != "fields" or config.task.kind != "operator":
            raise ValueError("an operator learns from data.kind=fields")
        if config.evaluation.max_tokens is not None:
            raise UserError(
                "evaluation.max_tokens counts tokens, and fields have none; set it to null and give "
                "data.validation_trajectories instead."
            )
        self.data = prepare_fields(config.data) if data is None else data
        self.device, self.share = device, share
        self.unit = loss_unit(config.task)
        self.measure = LOSSES[config.task.loss]
        self.symmetries = config.data.symmetries
        if self.symmetries and (self.data.points[0] != self.data.points[1] or self.data.points[0] % 4):
            raise UserError(
                f"data.symmetries needs a square grid whose points are a multiple of 4, and this one has "
                f"{self.data.points[0]} x {self.data.points[1]}; set data.symmetries=false."
            )
        self.seed = config.seed
        self.batch_size = config.training.batch_size
        self.accumulation = config.training.accumulation
        self.examples = len(self.data.train_inputs)
        self.validation_targets = len(self.data.validation_inputs)
        self.fingerprint, self.notes = self.data.fingerprint, self.data.notes
        self.order = DataOrder(self.examples, self.batch_size * share.processes, config.seed)

    def model_arguments(self) -> dict[str, Any]:
        return {"points": list(self.data.points), "normalisation": self.data.normalisation().to_json()}

    def micro_batches(self, position: int, update: int) -> MicroBatches:
        """Inputs and targets, float32 (B, X, Y) each."""
        together = self.batch_size * self.share.processes
        first = position // together
        batches = []
        for micro_step in range(first, first + self.accumulation):
            chosen = self.order.batch(micro_step)
            inputs, targets = self.data.train_inputs[chosen], self.data.train_targets[chosen]
            if self.symmetries:
                begins = micro_step * together
                inputs, targets = symmetric_images(inputs, targets, self._drawn(range(begins, begins + together)))
            mine = slice(self.share.rank * self.batch_size, (self.share.rank + 1) * self.batch_size)
            batches.append(
                (
                    on_device(torch.from_numpy(inputs[mine]), self.device),
                    on_device(torch.from_numpy(targets[mine]), self.device),
                )
            )
        fields = together * self.accumulation
        return MicroBatches(batches, targets=fields, examples=fields, tokens=None)

    def _drawn(self, positions: range) -> npt.NDArray[np.int64]:
        """For `symmetric_images`, (B, 3): by the place of each field in the run, so that batch and accumulation may
        change and the images do not."""
        choices = (self.data.points[0], 2, 2)
        return np.stack([np.random.default_rng([self.seed, 1, p]).integers(choices) for p in positions])

    def loss(self, model: nn.Module, batch: Any) -> Loss:
        inputs_BXY, targets_BXY = batch
        return Loss(self.measure(model(inputs_BXY), targets_BXY).sum())

    def validate(self, model: nn.Module, autocast: Autocast) -> Evaluation:
        return self._measure(model, self.data.validation_inputs, self.data.validation_targets, autocast)

    def test(self, model: nn.Module, autocast: Autocast) -> Evaluation:
        """The same over every pair of the test trajectories; for `unstuck evaluate` only."""
        return self._measure(model, *self.data.test_pairs(), autocast)

    def _measure(self, model: nn.Module, inputs: Fields, targets: Fields, autocast: Autocast) -> Evaluation:
        h1 = self.unit == "relative H1"
        return measure_pairs(model, inputs, targets, device=self.device, autocast=autocast, h1=h1)

    def after_update(self, model: nn.Module, update: int) -> Mapping[str, float]:
        return {}

    def start_row(self) -> dict[str, Any]:
        """`baseline_loss`: what giving the input back, or nothing at all, would have on the training fields."""
        inputs, targets = torch.from_numpy(self.data.train_inputs), torch.from_numpy(self.data.train_targets)
        return {
            "baseline_loss": min(1.0, float(self.measure(inputs, targets).mean())),
            "train_fields": self.examples,
            "validation_fields": self.validation_targets,
            "points": list(self.data.points),
            "normalisation": self.data.normalisation().to_json(),
        }

    def save(self, folder: Path) -> None:
        """Nothing: the normalisation is part of the model."""


def measure_pairs(
    model: nn.Module,
    inputs_PXY: Fields,
    targets_PXY: Fields,
    *,
    device: torch.device,
    autocast: Autocast,
    h1: bool = False,
) -> Evaluation:
    """Relative errors of a model over pairs of fields, each (P, X, Y); its mode is put back afterwards.

    Args:
        h1: the H1 error is the `loss`; both errors and the worst L2 error of a single field are in `further`.
    """
    was_training = model.training
    model.eval()
    errors: dict[str, list[torch.Tensor]] = {"l2": [], "h1": []}
    with torch.no_grad():
        for first in range(0, len(inputs_PXY), FIELDS_PER_BATCH):
            part = slice(first, first + FIELDS_PER_BATCH)
            target = on_device(torch.from_numpy(np.ascontiguousarray(targets_PXY[part])), device)
            with autocast():
                predicted = model(on_device(torch.from_numpy(np.ascontiguousarray(inputs_PXY[part])), device))
            for name, measure in LOSSES.items():
                errors[name].append(measure(predicted, target))
    model.train(was_training)
    l2, h1_error = (torch.cat(parts).double() for parts in errors.values())
    further = {
        "relative_l2": float(l2.mean()),
        "relative_h1": float(h1_error.mean()),
        "relative_l2_worst": float(l2.max()),
    }
    loss = further.pop("relative_h1" if h1 else "relative_l2")
    return Evaluation(loss=loss, by_source={}, targets=len(inputs_PXY), further=further)


def symmetric_images(inputs: Fields, targets: Fields, drawn: npt.NDArray[np.int64]) -> tuple[Fields, Fields]:
    """Each pair under a symmetry of Navier-Stokes with the forcing of `data.navier_stokes`, (B, N, N) each.

    The forcing is a wave in x + y with its crest at x + y = 1/8. What maps the equation and it to themselves:
    a shift by (a, -a); a half turn about a point with 2 (x + y) = 1/4; and the mirror image x <-> y, which turns the
    sign of the vorticity, followed by a shift of the wave by half its length.

    Args:
        drawn: (B, 3): the shift a in points, whether to turn, whether to mirror.
    """
    points = inputs.shape[-1]
    pairs = np.stack((inputs, targets), axis=1)
    for i, (shift, turned, mirrored) in enumerate(drawn):
        pair = pairs[i]
        if mirrored:
            pair = np.roll(-pair.transpose(0, 2, 1), points // 2, axis=1)
        if turned:  # a flip of both axes moves x to -x - 1/N
            pair = np.roll(pair[:, ::-1, ::-1], points // 4 + 2, axis=1)
        pairs[i] = np.roll(pair, (shift, -shift), axis=(1, 2))
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])
