"""Roll-out of a neural operator: step after step on its own predictions, against the solver.

Shapes: R test trajectories, S steps, fields of X x Y points.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from unstuck.config.sections.fields import FieldsConfig
from unstuck.data.fields import Fields, FieldsData, prepare_fields
from unstuck.errors import UserError
from unstuck.evaluate.operator_losses import relative_h1, relative_l2
from unstuck.train.load import Loaded
from unstuck.train.tasks.operator import FIELDS_PER_BATCH
from unstuck.wording import plural

# Records that the roll-outs of one trajectory begin at, and steps whose fields are kept to be drawn. Assumptions:
# starts far enough apart to be different flows (10 of 50 time units), as many pictures as fit beside each other.
STARTS = 5
PICTURES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """What came of it; every test trajectory is rolled out from every `start`.

    Attributes:
        steps: S, the steps ahead, each `step` time units where the data are simulated.
        starts: records of the trajectories that the roll-outs begin at, at most `STARTS` of them.
        errors: relative L2 error after 1 .. S steps, float64 (roll-outs, S), not finite where one blew up.
        repeated: the same for giving the first field back.
        h1: relative H1 error after 1 .. S steps, mean over roll-outs, (S,).
        shown: the steps drawn, counted from 1.
        true, predicted: float32 (len(shown) + 1, X, Y), of the first trajectory; the first is where it begins.
    """

    steps: int
    starts: tuple[int, ...]
    errors: npt.NDArray[np.float64]
    repeated: npt.NDArray[np.float64]
    h1: npt.NDArray[np.float64]
    shown: tuple[int, ...]
    true: Fields
    predicted: Fields

    @property
    def one_step(self) -> float:
        """Mean relative L2 error one step ahead."""
        return float(self.errors[:, 0].mean())

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: per step the mean, the 10th and 90th percentile, and the mean of giving the first field back."""
        low, high = np.percentile(self.errors, [10, 90], axis=0)
        return {
            "unit": "relative L2",
            "steps": self.steps,
            "starts": list(self.starts),
            "rollouts": len(self.errors),
            "per_step": [
                {
                    "step": step + 1,
                    "mean": float(self.errors[:, step].mean()),
                    "low": float(low[step]),
                    "high": float(high[step]),
                    "h1": float(self.h1[step]),
                    "repeated": float(self.repeated[:, step].mean()),
                }
                for step in range(self.steps)
            ],
        }

    def lines(self) -> str:
        """A table for people."""
        rows = [
            f"{plural(len(self.errors), 'roll-out')} of the test trajectories; relative L2 error against the solver"
        ]
        rows.append(f"{'step':>5}  {'mean':>8}  {'10 %':>8}  {'90 %':>8}  {'H1':>8}  {'input given back':>16}")
        rows += [
            f"{r['step']:>5}  {r['mean']:>8.4f}  {r['low']:>8.4f}  {r['high']:>8.4f}  {r['h1']:>8.4f}  "
            f"{r['repeated']:>16.4f}"
            for r in self.to_json()["per_step"]
        ]
        return "\n".join(rows)


def evaluate_rollout(loaded: Loaded, steps: int, page: Path | None) -> Rollout:
    """`rollout`, with its page of plots where one is asked for."""
    from unstuck.report.html_rollout import write_rollout

    found = rollout(loaded, steps)
    if page is not None:
        write_rollout(page, found, title=f"{loaded.config.name}: {plural(steps, 'step')} on its own predictions")
    return found


def rollout(loaded: Loaded, steps: int, data: FieldsData | None = None) -> Rollout:
    """Roll the test trajectories of a trained operator's data out.

    Args:
        loaded: of `load_checkpoint`.
        steps: how many steps ahead; at most the length of the test trajectories.
        data: None: what the run was trained on.

    Raises:
        UserError: the model is no operator, or the trajectories are too short.
    """
    config = loaded.config.data
    if not isinstance(config, FieldsConfig):
        raise UserError(f"{loaded.path} was trained on {config.kind}, and a roll-out is for fields; drop --rollout.")
    data = prepare_fields(config) if data is None else data
    available = data.test.shape[1] - 1
    if not 1 <= steps <= available:
        raise UserError(f"The test trajectories have {plural(available, 'step')}; set --rollout to 1 .. {available}.")
    starts = tuple(int(s) for s in np.unique(np.linspace(0, available - steps, STARTS).round().astype(int)))
    first = torch.from_numpy(np.concatenate([data.test[:, s] for s in starts]))  # (starts x R, X, Y)
    now, errors, repeated, h1 = first, [], [], []
    shown = tuple(sorted({max(1, round(steps * (i + 1) / PICTURES)) for i in range(PICTURES)}))
    pictures = [(data.test[0, 0], data.test[0, 0])]
    loaded.model.eval()
    for step in range(1, steps + 1):
        with torch.no_grad():
            now = torch.cat([loaded.model(part) for part in torch.split(now, FIELDS_PER_BATCH)])
        true = torch.from_numpy(np.concatenate([data.test[:, s + step] for s in starts]))
        errors.append(relative_l2(now, true).double().numpy())
        repeated.append(relative_l2(first, true).double().numpy())
        h1.append(float(relative_h1(now, true).mean()))
        if step in shown:
            pictures.append((true[0].numpy(), now[0].numpy()))
    return Rollout(
        steps,
        starts,
        np.stack(errors, axis=1),
        np.stack(repeated, axis=1),
        np.array(h1),
        shown,
        np.stack([picture[0] for picture in pictures]),
        np.stack([picture[1] for picture in pictures]),
    )
