"""The masked task: hybrid batches, fixed validation masks, schedules of batch and length, exact resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.conftest import Make
from unstuck.cli.main import main
from unstuck.errors import UserError
from unstuck.train.assemble import prepare_parts
from unstuck.train.run import train
from unstuck.train.tasks.masked import Masked
from unstuck.train.tasks.task import Share

CPU = torch.device("cpu")


@pytest.fixture
def hybrid(tmp_path: Path, text: Path) -> Make:
    from unstuck.config.recipe import load_recipe

    path = tmp_path / "hybrid.yaml"
    path.write_text(
        f"""
name: hybrid
data: {{source: {text}, tokenizer: wordpiece, vocabulary: 80, context: 16, validation_split: tail}}
model: {{architecture: ltg-bert, layers: 1, heads: 2, width: 16}}
task: {{kind: masked, causal_share: 0.5}}
training: {{updates: 12, batch_size: 8, threads: 1, precision: float32}}
evaluation: {{every_updates: 4, max_tokens: 600}}
checkpoint: {{every_updates: 4}}
runs_folder: {tmp_path / "runs"}
"""
    )

    def make(*overrides: str) -> Any:
        return load_recipe(path, list(overrides))

    return make


def losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["train/loss"] for row in rows if row["event"] == "update"]


def task_of(recipe: Any, share: Share | None = None) -> Masked:
    return Masked(recipe.config, CPU, share or Share())


def test_targets_are_the_next_tokens_in_both_kinds_of_window(hybrid: Make) -> None:
    task = task_of(hybrid())
    (batch,) = task.micro_batches(0, 0).batches
    inputs, targets, causal = batch.inputs_BT.numpy(), batch.targets_BT.numpy(), batch.causal_rows
    assert causal == 4
    assert (inputs[:, 0] == task.special.begin).all()
    wanted = targets[:causal, :-1] != -100
    assert (targets[:causal, :-1] == inputs[:causal, 1:])[wanted].all()
    assert wanted.mean() > 0.9
    masked = targets[causal:, :-1] != -100
    assert 0.2 < masked.mean() < 0.4
    assert ((inputs[causal:, 1:] == task.special.mask) & masked).sum() > 0.4 * masked.sum()
    assert not ((inputs[causal:, 1:] == task.special.mask) & ~masked).any()


def test_any_stretch_of_windows_has_its_causal_share(hybrid: Make) -> None:
    for share in (0.0, 0.25, 0.9375, 1.0):
        task = task_of(hybrid(f"task.causal_share={share}"))
        _, _, causal = task.hybrid(np.full((160, 17), 9), 0.15, 1, np.arange(1000, 1160))
        assert causal.sum() == 160 * share


def test_two_processes_take_the_windows_of_one(hybrid: Make) -> None:
    whole = task_of(hybrid("training.batch_size=8"))
    parts = [task_of(hybrid("training.batch_size=4"), Share(rank, 2)) for rank in (0, 1)]
    alone = whole.micro_batches(16, 3)
    together = [part.micro_batches(16, 3) for part in parts]
    assert {p.targets for p in together} == {alone.targets}
    assert {p.examples for p in together} == {alone.examples}
    rows = [row for p in together for row in p.batches[0].inputs_BT.tolist()]
    assert sorted(rows) == sorted(alone.batches[0].inputs_BT.tolist())


def test_no_share_of_a_gpus_peak_is_claimed_for_a_model_whose_operations_are_not_torchs(
    hybrid: Make, tiny: Make
) -> None:
    assert prepare_parts(hybrid(), Share()).operations is None
    assert prepare_parts(tiny(), Share()).operations is not None


def test_validation_masks_are_the_same_in_every_run(hybrid: Make) -> None:
    first, second = (task_of(hybrid(f"seed={seed}")) for seed in (1, 2))
    assert first.validation.keys() == second.validation.keys()
    for source, parts in first.validation.items():
        for one, other in zip(parts, second.validation[source], strict=True):
            assert torch.equal(one[0].inputs_BT, other[0].inputs_BT)
            assert torch.equal(one[0].targets_BT, other[0].targets_BT)


def test_it_learns_and_says_how_well_in_both_directions(hybrid: Make) -> None:
    result = train(hybrid("training.updates=60", "optimizer.learning_rate=0.01"), report=False)
    rows = [json.loads(line) for line in (result.folder / "metrics.jsonl").read_text().splitlines()]
    evaluations = [row for row in rows if row["event"] == "evaluation"]
    first, last = evaluations[0], evaluations[-1]
    for name in ("val/loss", "val/masked", "val/causal"):
        assert last[name] < first[name] - 0.5


def test_a_start_is_measured_on_windows_that_hide_something(hybrid: Make) -> None:
    """Read in both directions, a causal window shows its own targets: the loss of a start would be near 0."""
    base = train(hybrid("training.updates=60", "optimizer.learning_rate=0.01", "name=base"), report=False)
    recipe = hybrid(f"start_from={base.folder}", f"data.tokenizer={base.folder}", "task.causal_share=0.9375")
    found = prepare_parts(recipe, Share()).start_check
    assert found is not None
    rows = [json.loads(line) for line in (base.folder / "metrics.jsonl").read_text().splitlines()]
    masked = [row["val/masked"] for row in rows if row["event"] == "evaluation"][-1]
    assert found.losses[0] == pytest.approx(masked, rel=0.25)
    only_causal = hybrid(f"start_from={base.folder}", f"data.tokenizer={base.folder}", "task.causal_share=1")
    assert prepare_parts(only_causal, Share()).start_check is None


def test_a_resume_gives_the_losses_of_a_run_that_never_stopped(hybrid: Make) -> None:
    settings = ("task.start_batch_share=0.5", "training.accumulation=2", "task.long_context=24", "task.long_after=0.7")
    whole = train(hybrid(*settings), report=False)
    stopped = train(
        hybrid(*settings),
        report=False,
        stop_when=lambda row: "enough" if row["event"] == "update" and row["update"] == 6 else None,
    )
    assert len(losses(stopped.folder)) == 6
    train(hybrid(*settings), resume=stopped.folder, report=False)
    assert losses(stopped.folder) == losses(whole.folder)


def test_the_batch_grows_and_windows_become_longer(hybrid: Make) -> None:
    task = task_of(
        hybrid(
            "training.updates=10", "training.accumulation=4", "task.start_batch_share=0.25", "task.long_context=32",
            "task.long_after=0.5",
        )
    )  # fmt: skip
    position, steps, shapes = 0, [], []
    for update in range(10):
        made = task.micro_batches(position, update)
        position += made.examples
        steps.append(len(made.batches))
        shapes.append(tuple(made.batches[0].inputs_BT.shape))
    assert steps[0] == 1
    assert steps[-1] == 4
    assert steps == sorted(steps)
    assert shapes == [(8, 16)] * 5 + [(4, 32)] * 5
    assert task.stages[1].first_example == 8 * sum(steps[:5])
    assert task.model_arguments()["context"] == 32


def test_a_tokenizer_without_a_mask_is_refused(hybrid: Make) -> None:
    with pytest.raises(UserError, match=r"data\.tokenizer=wordpiece"):
        task_of(hybrid("data.tokenizer=bpe", "data.vocabulary=300"))


def test_accumulation_follows_from_tokens_per_update(hybrid: Make) -> None:
    result = train(hybrid("training.tokens_per_update=400", "training.updates=2"), report=False)
    start = json.loads((result.folder / "metrics.jsonl").read_text().splitlines()[0])
    assert start["derived"]["accumulation"] == 3  # 400 tokens / (8 windows of 16), rounded
    assert start["derived"]["effective_batch"] == 24
    assert "tokens_per_update 400" in start["reasons"]["accumulation"]


def test_the_command_measures_what_the_run_measured(hybrid: Make, capsys: pytest.CaptureFixture[str]) -> None:
    result = train(hybrid(), report=False)
    capsys.readouterr()
    assert main(["evaluate", str(result.folder), "--which", "last", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["loss"] == pytest.approx(result.summary["final"]["val_loss"], abs=1e-6)
    assert set(found["further"]) == {"masked", "causal"}
    assert main(["evaluate", str(result.folder)]) == 0
    assert "nats/token, perplexity" in capsys.readouterr().out
