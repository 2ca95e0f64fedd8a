"""`training.tokens_per_update`: the size of an update in tokens, from which the accumulation follows."""

from __future__ import annotations

from unstuck.config.recipe import Recipe
from unstuck.config.schema import TrainingConfig
from unstuck.errors import UserError


def in_tokens(recipe: Recipe, processes: int) -> Recipe:
    """The recipe with `training.accumulation` such that an update has about `training.tokens_per_update` tokens.

    Padding and, in masked windows, tokens that are not predicted count as well: what is asked for is the size of the
    update's input.

    Args:
        recipe: left as it is where the key is null.
        processes: that train together, each with `training.batch_size` windows a micro-batch.

    Raises:
        UserError: the data has no windows of tokens.
    """
    training = recipe.config.training
    if training.tokens_per_update is None:
        return recipe
    context = getattr(recipe.config.data, "context", None)
    if context is None:
        raise UserError(
            f"training.tokens_per_update has no meaning for data.kind={recipe.config.data.kind}, which has no tokens; "
            "set it to null and training.accumulation instead."
        )
    steps = micro_batches(training, context, processes)
    times = f" x {processes} processes" if processes > 1 else ""
    return recipe.with_changes(
        {"training.accumulation": steps},
        f"tokens_per_update {training.tokens_per_update:,} / ({training.batch_size} windows x {context} tokens{times})",
    )


def micro_batches(training: TrainingConfig, context: int, processes: int = 1) -> int:
    """Micro-batches of an update: `accumulation`, or what comes nearest to `tokens_per_update`; one at least."""
    if training.tokens_per_update is None:
        return training.accumulation
    return max(1, round(training.tokens_per_update / (training.batch_size * context * processes)))
