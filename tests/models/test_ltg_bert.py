"""LTG-BERT: positions, directions, padding, and the same logits in transformers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unstuck.config.schema import OptimizerConfig
from unstuck.config.sections.ltg_bert import LtgBertConfig
from unstuck.models import build
from unstuck.models.ltg_bert import LtgBert
from unstuck.models.ltg_bert_attention import attend, attend_reference, buckets
from unstuck.train.optimizers.groups import assign_groups

VOCABULARY, PADDING = 40, 2


@pytest.fixture(autouse=True)
def _no_gradients(request: pytest.FixtureRequest) -> Iterator[None]:
    with torch.set_grad_enabled("derivative" in request.node.name):
        yield


def make(**settings: object) -> LtgBert:
    torch.manual_seed(0)
    config = LtgBertConfig(**{"layers": 2, "heads": 2, "width": 16} | settings)  # type: ignore[arg-type]
    model = build(config, vocabulary=VOCABULARY, context=12, padding=PADDING)
    assert isinstance(model, LtgBert)
    return model.eval()


def tokens(*shape: int) -> Tensor:
    return torch.randint(5, VOCABULARY, shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dropout", [0.0, 1e-300], ids=["written-out", "composed"])
def test_attention_and_its_derivative_equal_the_plain_form(dropout: float) -> None:
    torch.manual_seed(0)
    H, B, T, D = 3, 2, 7, 4
    shapes = [(H, B, T, D)] * 3 + [(H, 2 * T - 1, D)] * 2
    arguments = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    hidden_BTT = torch.zeros(B, T, T, dtype=torch.float64)
    hidden_BTT[0] += torch.full((T, T), -torch.inf).triu(1)
    weight = torch.randn(H, B, T, D, dtype=torch.float64)
    found = []
    for mixed in (attend(*arguments, hidden_BTT, dropout), attend_reference(*arguments, hidden_BTT)):
        found.append([mixed, *torch.autograd.grad((mixed * weight).sum(), arguments)])
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain)


def test_near_distances_have_a_bucket_each_and_far_ones_share() -> None:
    distances = torch.arange(-600, 601)
    found = buckets(distances, 32)
    assert int(found.min()) == 0
    assert int(found.max()) == 62
    assert bool((found.diff() >= 0).all())
    near = found[(distances.abs() <= 16)]
    assert len(near.unique()) == 33
    assert torch.equal(found - 31, -(found.flip(0) - 31))


def test_causal_rows_see_nothing_later_and_the_others_do() -> None:
    model = make()
    before = tokens(2, 9)
    after = before.clone()
    after[:, 5] = (after[:, 5] - 4) % (VOCABULARY - 5) + 5
    changed = (model(after, causal_rows=1) - model(before, causal_rows=1)).abs().amax(-1)
    assert float(changed[0, :5].max()) == 0.0
    assert float(changed[0, 5:].min()) > 0
    assert float(changed[1].min()) > 0


def test_padding_is_never_attended() -> None:
    model = make()
    short = tokens(1, 6)
    padded = torch.cat([short, torch.full((1, 4), PADDING)], dim=1)
    for causal_rows in (0, 1):
        torch.testing.assert_close(
            model(padded, None, "mean", causal_rows)[:, :6], model(short, None, "mean", causal_rows)
        )


def test_windows_do_not_see_each_other() -> None:
    model = make()
    batch = tokens(3, 8)
    torch.testing.assert_close(model(batch)[1:2], model(batch[1:2]))


def test_order_of_words_matters_though_no_position_is_absolute() -> None:
    model = make()
    sentence = tokens(1, 6)
    assert not torch.allclose(model(sentence).sum(1), model(sentence.flip(1)).sum(1), atol=1e-4)


def test_loss_is_of_targets_alone_and_sums_to_the_mean() -> None:
    model = make()
    inputs, targets = tokens(2, 8), torch.full((2, 8), -100)
    targets[0, 3], targets[1, 1] = 7, 9
    share = model(inputs, None)
    by_hand = -(share.log_softmax(-1)[0, 3, 7] + share.log_softmax(-1)[1, 1, 9])
    torch.testing.assert_close(model(inputs, targets, "sum"), by_hand)
    torch.testing.assert_close(model(inputs, targets) * 2, by_hand)


def test_first_loss_is_about_the_logarithm_of_the_vocabulary() -> None:
    loss = float(make()(tokens(8, 12), tokens(8, 12)))
    assert abs(loss - torch.tensor(float(VOCABULARY)).log()) < 0.5


def test_tables_go_to_adamw_and_matrices_to_muon_by_head() -> None:
    groups = {group.name: group for group in assign_groups(make().named_parameters(), OptimizerConfig())}
    assert set(groups["embeddings"].names) == {"token_embedding.weight", "position_embedding"}
    assert "blocks.0.query_key.weight" in groups["matrices"].names
    assert groups["matrices"].parameters["blocks.0.query_key.weight"].row_pieces == 4  # type: ignore[attr-defined]


def test_reloads_in_transformers_with_the_same_logits(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from unstuck.data.tokenizer import SubwordTokenizer
    from unstuck.models.hf_export import export

    model = make()
    text = ["the small model reads a text and the large model writes it again"] * 3
    tokenizer = SubwordTokenizer.train_wordpiece(text, VOCABULARY, lowercase=True)
    export(model, tokenizer, tmp_path)
    masked = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path)
    causal = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    named = (theirs.cls_token, theirs.sep_token, theirs.pad_token, theirs.mask_token, theirs.unk_token)
    assert named == ("[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]")
    assert theirs("The text", add_special_tokens=False).input_ids == tokenizer.encode("the text").tolist()
    assert theirs("The text").input_ids[0] == theirs.cls_token_id  # as the windows of training begin
    batch = tokens(3, 9)
    batch[2, 6:] = PADDING
    torch.testing.assert_close(masked(batch).logits[:, 1:], model(batch)[:, :-1], rtol=0, atol=0)
    torch.testing.assert_close(causal(batch).logits, model(batch, causal_rows=3), rtol=0, atol=0)
    mask = (batch != PADDING).long()
    other = batch.masked_fill(mask == 0, 11)
    torch.testing.assert_close(masked(other, attention_mask=mask).logits, masked(batch).logits)
