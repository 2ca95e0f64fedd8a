"""CortexGPT: what a token may know, what passes from window to window, and that no part reaches another row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from unstuck.config.sections.cortex import CortexConfig
from unstuck.config.sections.gpt import GPTConfig
from unstuck.evaluate.generate import next_logits
from unstuck.models import build
from unstuck.models.cortex import Cortex
from unstuck.models.cortex.columns import Columns
from unstuck.models.cortex.homeostasis import Firing
from unstuck.models.cortex.memory import LongTermMemory, Store
from unstuck.models.cortex.sleep import Episodes
from unstuck.models.functions import squared_relu

V, T = 23, 8
PARTS: dict[str, dict[str, Any]] = {
    "memory": {"memory": {"tokens": 24, "neighbours": 6}},
    "columns": {"columns": {"count": 4}},
    "homeostasis": {"homeostasis": {"speed": 0.1}},
    "slots": {"slots": {"count": 3}},
    "sleep": {"sleep": {"every_updates": 4}},
}
FULL = {key: value for part in PARTS.values() for key, value in part.items()}
SETTINGS = [*PARTS.values(), FULL]


def randomised(settings: dict[str, Any], streams: int = 0, **arguments: Any) -> Cortex:
    """A small model none of whose parameters is zero, so that every path carries a signal; windows of T tokens."""
    torch.manual_seed(0)
    config = CortexConfig(layers=2, heads=2, width=16, window=T, **settings)
    model = build(config, vocabulary=V, context=3 * T, streams=streams, **arguments)
    assert isinstance(model, Cortex)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def tokens(batch: int = 3, length: int = 3 * T) -> Tensor:
    return torch.randint(V, (batch, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_later_token_changes_no_earlier_logit_and_no_other_row(settings: dict[str, Any]) -> None:
    model, before = randomised(settings), tokens()
    for position in (1, T - 1, T, 2 * T + 3):
        after = before.clone()
        after[1, position] = (after[1, position] + 7) % V
        difference = (model(after) - model(before)).abs()
        assert difference[1, :position].max() < 1e-5  # columns: the sums' order depends on how many tokens they serve
        assert difference[[0, 2]].max() < 1e-5
        assert difference[1, position].max() > 1e-4


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_row_has_the_logits_that_it_has_alone(settings: dict[str, Any]) -> None:
    model, seen = randomised(settings), tokens()
    together = model(seen)
    for row in range(len(seen)):
        assert torch.allclose(model(seen[row : row + 1]), together[row : row + 1], atol=1e-5)


@pytest.mark.parametrize(("part", "reaches"), [("memory", True), ("slots", True), ("columns", False)])
def test_memory_and_slots_reach_the_window_before_and_nothing_else_does(part: str, reaches: bool) -> None:
    model, before = randomised(PARTS[part]), tokens()
    after = before.clone()
    after[:, 2] = (after[:, 2] + 7) % V
    changed = (model(after) - model(before))[:, T:].abs().amax((0, 2))
    assert (changed.max() > 1e-4) == reaches


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_stream_read_in_parts_is_the_row_read_at_once(settings: dict[str, Any]) -> None:
    model, seen = randomised(settings, streams=5), tokens()
    at_once = model(seen)
    if model.streams is not None:
        model.forget(torch.ones(5, dtype=torch.bool))  # slots begin as the parameters now say
    parts = [model(part, stream=1) for part in torch.split(seen, T, dim=1)]
    assert torch.allclose(torch.cat(parts, dim=1), at_once, atol=1e-5)


def test_streams_do_not_know_of_each_other() -> None:
    model, seen = randomised(FULL, streams=6), tokens()
    first = model(seen, stream=0)
    other = (seen + 5) % V
    model(other, stream=3)  # rows 3, 4, 5
    alone = randomised(FULL, streams=6)
    assert torch.equal(first, alone(seen, stream=0))
    assert torch.equal(model(seen, stream=0), alone(seen, stream=0))


@pytest.mark.parametrize("tied", [True, False])
def test_with_every_part_off_it_is_the_gpt(tied: bool) -> None:
    torch.manual_seed(3)
    gpt = build(GPTConfig(layers=2, heads=2, width=16, tied_head=tied), vocabulary=V, context=T)
    torch.manual_seed(3)
    cortex = build(CortexConfig(layers=2, heads=2, width=16, tied_head=tied), vocabulary=V, context=T)
    assert {n: p.shape for n, p in gpt.named_parameters()} == {n: p.shape for n, p in cortex.named_parameters()}
    seen = tokens(length=T)
    assert torch.equal(gpt(seen, seen), cortex(seen, seen))


def test_memory_keeps_the_newest_tokens_and_finds_the_nearest_of_them() -> None:
    torch.manual_seed(0)
    store, keys, values = Store.empty(2, 6, 4), torch.randn(2, 9, 4), torch.randn(2, 9, 4)
    ids = torch.arange(18).view(2, 9)
    for part in (slice(0, 3), slice(3, 6), slice(6, 9)):
        store.write(keys[:, part], values[:, part], ids[:, part])
    memory = LongTermMemory(4, heads=1, neighbours=2)
    places = memory._nearest(keys[:, :1], store).view(2, 2)
    for row in range(2):  # key i lies with token i + 1; of the nine the last six are kept
        similar = keys[row, 2:8] @ keys[row, 0]
        wanted = {int(ids[row, i + 3]) for i in similar.topk(2).indices}
        assert set(store.tokens_BM.flatten()[places[row]].tolist()) == wanted


def test_an_empty_memory_adds_nothing() -> None:
    memory = LongTermMemory(8, heads=2, neighbours=3)
    read, recalled = memory.read(torch.randn(2, 5, 8), Store.empty(2, 4, 8))
    assert read.abs().max() == 0
    assert recalled.bonus_BTK.abs().max() == 0


def test_memory_begins_anew_after_the_end_of_text_and_keeps_what_follows_it() -> None:
    settings = {"memory": {"tokens": 24, "neighbours": 6, "clear_at_end_of_text": True}}
    model, seen = randomised(settings, end_of_text=0), tokens().clamp_min(1)
    seen[:, T + 3] = 0
    before, after = seen.clone(), seen.clone()
    before[:, 1] = seen[:, 1] % (V - 1) + 1  # in the document that ended
    after[:, T + 5] = seen[:, T + 5] % (V - 1) + 1  # in the one that goes on
    assert (model(before) - model(seen))[:, T : T + 4].abs().max() > 1e-4
    assert (model(before) - model(seen))[:, 2 * T :].abs().max() == 0
    assert (model(after) - model(seen))[:, 2 * T :].abs().max() > 1e-4


def test_generation_remembers_what_lies_before_the_window() -> None:
    model, before = randomised(PARTS["memory"]), tokens()
    after, lengths = before.clone(), torch.tensor([3 * T, 2 * T + 1, 2 * T + 3])
    after[:, 2] = (after[:, 2] + 7) % V
    found = [next_logits(model, seen, lengths, torch.device("cpu")) for seen in (before, after)]
    assert torch.allclose(found[0][1], model(before[1:2, : 2 * T + 1])[0, -1], atol=1e-5)
    assert (found[0] - found[1]).abs().max() > 1e-4


def test_other_streams_leave_the_training_streams_as_they_were() -> None:
    model, seen = randomised(FULL, streams=3), tokens()
    model(seen, stream=0)
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with model.other_streams(2):
        model((seen[:2] + 3) % V, stream=0)
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())


def test_columns_compute_what_their_definition_says() -> None:
    torch.manual_seed(0)
    columns = Columns(8, count=4, active=2, balance=0.01)
    torch.nn.init.normal_(columns.down.weight)
    x = torch.randn(2, 5, 8)
    affinity = torch.sigmoid(columns.router(x))
    best, chosen = affinity.topk(2, dim=-1)
    wanted = torch.zeros_like(x)
    for b in range(2):
        for t in range(5):
            for share, column in zip(best[b, t] / best[b, t].sum(), chosen[b, t], strict=True):
                units = slice(int(column) * 16, (int(column) + 1) * 16)
                inner = squared_relu(columns.up.weight[units] @ x[b, t])
                wanted[b, t] += share * (columns.down.weight[:, units] @ inner)
    assert torch.allclose(columns(x), wanted, atol=1e-5)


def test_balancing_evens_out_the_load_of_columns() -> None:
    torch.manual_seed(0)
    loads = {}
    for balance in (0.0, 0.02):
        columns = Columns(8, count=4, active=1, balance=balance)
        with torch.no_grad():
            columns.router.weight.copy_(torch.tensor([[1.0], [0.5], [0.2], [-1.0]]).expand(4, 8))
        for _ in range(150):
            columns(torch.randn(4, 16, 8) + 0.3)
            loads[balance] = columns.settle()["columns/largest_load"]
    assert loads[0.0] > 2
    assert loads[0.02] < 1.5


def test_homeostasis_brings_units_to_the_target_rate_and_only_in_training() -> None:
    torch.manual_seed(0)
    firing, scale = Firing(6, target=0.2, speed=0.2), torch.tensor([0.1, 0.5, 1.0, 1.0, 2.0, 3.0])
    shift = torch.tensor([0.0, 1.0, -1.0, 2.0, 0.0, 0.5])
    for _ in range(600):
        firing(torch.randn(4, 64, 6) * scale + shift)
        firing.settle()
    rate = (firing.eval()(torch.randn(10_000, 6) * scale + shift) > 0).float().mean(0)
    assert (rate - 0.2).abs().max() < 0.06
    kept = firing.threshold_F.clone()
    firing(torch.randn(64, 6))
    assert firing.counted_F.sum() == 0
    assert torch.equal(kept, firing.threshold_F)


def test_the_hardest_windows_are_replayed_once() -> None:
    episodes, rows = Episodes(3, 2), torch.arange(10).view(5, 2)
    episodes.remember(rows, rows + 1, torch.tensor([1.0, 5.0, 2.0, 4.0, 3.0]))
    inputs, targets = episodes.replay(2)
    assert inputs.tolist() == [[2, 3], [6, 7]]
    assert targets.tolist() == [[3, 4], [7, 8]]
    inputs, targets = episodes.replay(2)
    assert inputs[0].tolist() == [8, 9]
    assert (targets[1] == -100).all()
