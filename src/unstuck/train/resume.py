"""Resume with new settings: what of the saved state still means the same, what has to go, and what cannot be."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unstuck.errors import UserError
from unstuck.wording import plural

# Settings that the weights or the token ids depend on. Dropout has no tensor, so it may change; a pretrained base may
# have moved: adapters know theirs by a fingerprint, and a full checkpoint holds every weight.
PART_OF_THE_MODEL = ("model.", "data.", "task.")
MAY_CHANGE = {
    "model.dropout", "model.path", "model.adapter.dropout", "model.gradient_checkpointing", "model.start_check",
}  # fmt: skip
NOT_BIT_FOR_BIT = {"training.precision", "training.device", "training.threads", "training.compile"}


@dataclass(slots=True)
class Resumption:
    """What a resume kept, what it dropped and which settings changed: the `resume` event, and what is printed.

    Attributes:
        update: the last optimizer update that is in the checkpoint.
        kept, dropped: parts of the state, in words.
        changed: dotted key -> (old, new).
    """

    update: int
    kept: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def note_moments(self, without: Collection[str], parameters: int) -> None:
        """Say what became of the optimizer's moments.

        Args:
            without: names of the tensors for which the checkpoint has none of their present optimizer.
            parameters: number of tensors trained.
        """
        if len(without) < parameters:
            self.kept.insert(
                1, "optimizer moments" + (f" of {plural(parameters - len(without), 'tensor')}" if without else "")
            )
        if without:
            self.dropped.insert(
                0, f"optimizer moments of {plural(len(without), 'tensor')} (their optimizer is another one now)"
            )

    def lines(self) -> list[str]:
        """For people."""
        said = [f"Resuming after update {self.update}. Kept: {', '.join(self.kept)}."]
        if self.dropped:
            said.append(f"Dropped: {', '.join(self.dropped)}.")
        said += [f"Changed: {key} {old} -> {new}" for key, (old, new) in self.changed.items()]
        return said


def compare(run_folder: Path, update: int, old: Mapping[str, Any], new: Mapping[str, Any]) -> Resumption:
    """Decide what a resume keeps, from the settings in the checkpoint and those asked for.

    Args:
        run_folder: for the sentences.
        update: of the checkpoint.
        old, new: every setting by dotted key, JSON-ready.

    Raises:
        UserError: the weights cannot go on with the new settings.
    """
    changed = {key: (old.get(key), new.get(key)) for key in sorted({*old, *new}) if old.get(key) != new.get(key)}
    for key, (before, after) in changed.items():
        if key.startswith(PART_OF_THE_MODEL) and key not in MAY_CHANGE:
            what = {"model": "model", "data": "data", "task": "task"}[key.partition(".")[0]]
            raise UserError(
                f"{run_folder} was trained with {key}={before} and cannot go on with {key}={after}: its weights belong "
                f"to that {what}. Leave {key} as it is, or train a new run: unstuck train RECIPE {key}={after}"
            )
    result = Resumption(update, changed=changed)
    kept, dropped = result.kept, result.dropped
    kept.append("weights")

    if any(key.startswith("schedule.") or key in ("training.updates", "training.epochs") for key in changed):
        dropped.append("the old schedule (planned anew from its settings; it goes on at this update)")
    else:
        kept.append("schedule")

    if "seed" in changed:
        dropped.append("data order (drawn anew with the new seed)")
    elif _streams(old) != _streams(new):
        dropped.append(f"data position ({plural(_streams(new), 'stream')} read in another order than {_streams(old)})")
    elif "training.batch_size" in changed:
        kept.append("data position, to the nearest whole micro-batch of the new size")
    else:
        kept.append("data position")
    if _streams(old) != _streams(new):
        dropped.append("what the streams remember (they begin empty)")

    kept.append("random states")
    stopping = {"evaluation.patience", "evaluation.min_improvement"} & set(changed)
    if "evaluation.max_tokens" in changed:
        dropped.append("the best validation loss (measured on other tokens from now on)")
    elif stopping:
        kept.append("the best validation loss")
        dropped.append("the count of evaluations without improvement")
    else:
        kept.append("early stopping")
    if set(changed) & NOT_BIT_FOR_BIT:
        dropped.append("equality to the last bit (another device, precision or number of threads)")
    return result


def _streams(settings: Mapping[str, Any]) -> int:
    """Rows of an update that read the text as streams, because the model remembers; 0 where they are shuffled."""
    remembers = settings.get("model.memory.tokens") or settings.get("model.slots.count")
    if not remembers or settings.get("data.kind") != "text":
        return 0
    return int(settings["training.batch_size"] * settings["training.accumulation"])
