"""BLiMP: scores against a plain form of their definitions, ties, intervals, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from unstuck.cli.main import main
from unstuck.config.sections.ltg_bert import LtgBertConfig
from unstuck.config.sections.pretrained import PretrainedConfig
from unstuck.data.tokenizer import SubwordTokenizer
from unstuck.errors import UserError
from unstuck.evaluate.blimp import BlimpResult, ParadigmResult, evaluate_blimp, read_blimp, wilson
from unstuck.evaluate.blimp_models import scorers
from unstuck.evaluate.blimp_score import Frame, causal_scores
from unstuck.models import build

SHARED = Path(__file__).parents[3] / "shared" / "data" / "blimp"
SENTENCES = ["The dog sees a cat.", "The dog see a cat.", "Cats sleep.", "A small dog that runs sleeps here."]


@pytest.fixture(scope="module")
def tokenizer() -> SubwordTokenizer:
    return SubwordTokenizer.train_wordpiece(SENTENCES * 5, 90, lowercase=True)


def write(folder: Path, name: str, pairs: list[tuple[str, str]], field: str = "syntax") -> None:
    rows = [{"sentence_good": good, "sentence_bad": bad, "field": field, "UID": name} for good, bad in pairs]
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "agreement", [(SENTENCES[0], SENTENCES[1]), (SENTENCES[2], "Cats sleeps.")], "morphology")
    write(tmp_path, "order", [("A dog runs.", "Dog a runs."), ("cats sleep.", "CATS sleep.")])
    return tmp_path


def ltg_bert(tokenizer: SubwordTokenizer) -> Any:
    torch.manual_seed(1)
    config = LtgBertConfig(layers=2, heads=2, width=16)
    return build(config, vocabulary=tokenizer.vocabulary, context=16, padding=2).eval()


def test_pseudo_log_likelihood_hides_each_token_in_turn(tokenizer: SubwordTokenizer) -> None:
    model = ltg_bert(tokenizer)
    found = scorers(model, tokenizer)["masked"](SENTENCES)
    mask = tokenizer.token_id("[MASK]")
    for sentence, score in zip(SENTENCES, found, strict=True):
        ids = [0, *tokenizer.encode(sentence).tolist()]
        plain = 0.0
        for place in range(1, len(ids)):
            hidden = [*ids[:place], mask, *ids[place + 1 :]]
            with torch.no_grad():
                logits = model(torch.tensor([hidden]))[0, place - 1]  # the place before predicts it
            plain += float(logits.log_softmax(-1)[ids[place]])
        assert score == pytest.approx(plain, abs=1e-4)


def test_log_likelihood_of_the_hybrid_reads_from_left_to_right(tokenizer: SubwordTokenizer) -> None:
    model = ltg_bert(tokenizer)
    both = scorers(model, tokenizer, causal_share=0.5)
    assert set(both) == {"masked", "causal"}
    assert set(scorers(model, tokenizer, causal_share=1.0)) == {"causal"}
    for sentence, score in zip(SENTENCES, both["causal"](SENTENCES), strict=True):
        ids = torch.tensor([[0, *tokenizer.encode(sentence).tolist()]])
        with torch.no_grad():
            log_p = model(ids[:, :-1], causal_rows=1).log_softmax(-1)
        assert score == pytest.approx(float(log_p.gather(-1, ids[:, 1:, None]).sum()), abs=1e-4)


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory: pytest.TempPathFactory, tokenizer: SubwordTokenizer) -> dict[str, Path]:
    """A tiny BERT and a tiny GPT-2 with weights made here, in Hugging Face form."""
    transformers = pytest.importorskip("transformers")
    from unstuck.models.hf_export import save_tokenizer

    torch.manual_seed(2)
    V = tokenizer.vocabulary
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    bert = transformers.BertForMaskedLM(
        transformers.BertConfig(vocab_size=V, max_position_embeddings=32, pad_token_id=2, **small)
    )
    gpt = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=V, n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=1)
    )
    found = {}
    for name, network in (("bert", bert), ("gpt2", gpt)):
        found[name] = tmp_path_factory.mktemp(name)
        network.save_pretrained(found[name])
        save_tokenizer(tokenizer, found[name], longest=32)
    return found


def test_scores_of_a_masked_model_are_minicons_own(hugging_face: dict[str, Path], tokenizer: SubwordTokenizer) -> None:
    """minicons, PLL_metric="original": [CLS] and [SEP] around, neither hidden nor scored, read at the place itself."""
    import transformers

    from unstuck.models.pretrained import Pretrained

    model = Pretrained(PretrainedConfig(path=str(hugging_face["bert"])), vocabulary=tokenizer.vocabulary, context=32)
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(hugging_face["bert"]).eval()
    found = scorers(model, tokenizer)["masked"](SENTENCES)
    for sentence, score in zip(SENTENCES, found, strict=True):
        ids = [0, *tokenizer.encode(sentence).tolist(), 1]
        plain = 0.0
        for place in range(1, len(ids) - 1):
            hidden = torch.tensor([[*ids[:place], 3, *ids[place + 1 :]]])
            with torch.no_grad():
                plain += float(theirs(hidden).logits[0, place].log_softmax(-1)[ids[place]])
        assert score == pytest.approx(plain, abs=1e-4)


def test_scores_of_a_causal_model_are_lm_evals_definition(
    hugging_face: dict[str, Path], tokenizer: SubwordTokenizer
) -> None:
    """The log-likelihood of all tokens after the end-of-text token, which stands for an empty context."""
    import transformers

    from unstuck.models.pretrained import Pretrained

    model = Pretrained(PretrainedConfig(path=str(hugging_face["gpt2"])), vocabulary=tokenizer.vocabulary, context=32)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(hugging_face["gpt2"]).eval()
    for sentence, score in zip(SENTENCES, scorers(model, tokenizer)["causal"](SENTENCES), strict=True):
        ids = torch.tensor([[1, *tokenizer.encode(sentence).tolist()]])
        with torch.no_grad():
            log_p = theirs(ids).logits[:, :-1].log_softmax(-1)
        assert score == pytest.approx(float(log_p.gather(-1, ids[:, 1:, None]).sum()), abs=1e-4)


def test_an_exported_model_scores_as_the_run_does(tokenizer: SubwordTokenizer, tmp_path: Path) -> None:
    from unstuck.models.hf_export import export
    from unstuck.models.pretrained import Pretrained

    model = ltg_bert(tokenizer)
    export(model, tokenizer, tmp_path)
    exported = Pretrained(PretrainedConfig(path=str(tmp_path)), vocabulary=tokenizer.vocabulary, context=16)
    (ours,), (theirs,) = scorers(model, tokenizer).values(), scorers(exported, tokenizer).values()
    assert theirs(SENTENCES) == pytest.approx(ours(SENTENCES), abs=1e-4)


def test_a_score_does_not_depend_on_what_else_is_scored(tokenizer: SubwordTokenizer) -> None:
    for score in scorers(ltg_bert(tokenizer), tokenizer, causal_share=0.5).values():
        together = score(SENTENCES)
        assert together == pytest.approx([score([sentence])[0] for sentence in SENTENCES], abs=1e-4)


def test_sentences_that_read_the_same_tie_and_a_tie_is_half(folder: Path, tokenizer: SubwordTokenizer) -> None:
    for result in evaluate_blimp(read_blimp(folder), scorers(ltg_bert(tokenizer), tokenizer, causal_share=0.5)):
        order = next(p for p in result.paradigms if p.name == "order")
        assert order.ties == 1
        assert order.accuracy == (order.right + 0.5) / 2
        assert result.ties == 1
    only = ParadigmResult("p", "f", right=3, ties=4, pairs=10)
    assert only.accuracy == 0.5


def test_the_same_tokens_tie_in_whatever_batch_and_row_they_are_computed() -> None:
    frame = Frame(lambda sentences: [[5, 6] if s.startswith("same") else [5, 7] for s in sentences], (0,))
    calls = []

    def read(batch_BT: torch.Tensor) -> torch.Tensor:
        """As a matrix product does, each row and each call differs in the last bits."""
        calls.append(len(batch_BT))
        rows = torch.arange(len(batch_BT))[:, None] + 10 * len(calls)
        return -batch_BT[:, 1:].float() * (1 + 1e-6 * rows)

    scores = causal_scores(["same", "other", "same again"], frame, read, at_once=3)
    assert scores[0] == scores[2] != scores[1]
    assert calls == [1, 1]  # and they are computed once


def test_both_is_the_sum_of_the_two_scores(folder: Path) -> None:
    good = {pair[0] for paradigm in read_blimp(folder) for pair in paradigm.pairs}

    def score(sign: float) -> Any:
        return lambda sentences: [sign * (2.0 if s in good else 1.0) for s in sentences]

    masked, causal, both = evaluate_blimp(read_blimp(folder), {"masked": score(-1.0), "causal": score(3.0)})
    assert (masked.score, causal.score, both.score) == ("masked", "causal", "both")
    assert masked.mean == 0.0
    assert causal.mean == both.mean == 1.0


def test_means_weigh_paradigms_alike_and_fields_by_themselves() -> None:
    results = (
        ParadigmResult("a", "x", 9, 0, 10),
        ParadigmResult("b", "x", 500, 0, 1000),
        ParadigmResult("c", "y", 4, 2, 10),
    )
    result = BlimpResult("causal", results)
    assert result.mean == pytest.approx((0.9 + 0.5 + 0.5) / 3)
    assert result.fields == pytest.approx({"x": 0.7, "y": 0.5})
    low, high = result.interval
    assert low < result.mean < high
    assert high - low == pytest.approx(2 * 1.959964 * (0.9 * 0.1 / 10 + 0.25 / 1000 + 0.25 / 10) ** 0.5 / 3)


def test_wilson_interval_has_its_published_values() -> None:
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)  # Newcombe 1998, table I, method 3: 0 of 10
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # the same table: 81 of 263


def test_a_sample_is_drawn_by_its_seed(tmp_path: Path) -> None:
    write(tmp_path, "many", [(f"good {i}", f"bad {i}") for i in range(100)])
    first, again, other = (read_blimp(tmp_path, 10, seed)[0].pairs for seed in (1, 1, 2))
    assert len(first) == 10
    assert first == again != other
    assert len(read_blimp(tmp_path, 1000)[0].pairs) == 100


def test_what_is_no_blimp_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name the folder"):
        read_blimp(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"sentence_good": "x"}')
    with pytest.raises(UserError, match=r"bad\.jsonl:1 is no minimal pair"):
        read_blimp(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not here")
def test_all_of_blimp_is_read() -> None:
    paradigms = read_blimp(SHARED)
    assert len(paradigms) == 67
    assert {len(p.pairs) for p in paradigms} == {1000}
    assert {p.field for p in paradigms} == {"morphology", "semantics", "syntax", "syntax_semantics"}


def test_command_scores_a_hugging_face_folder(
    hugging_face: dict[str, Path], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(hugging_face["bert"]), "--blimp", str(folder), "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["blimp"]
    assert (result["score"], result["pairs"], result["ties"], result["chance"]) == ("masked", 4, 1, 0.5)
    assert main(["evaluate", str(hugging_face["gpt2"]), "--blimp", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "BLiMP has 67 paradigms: these means are of a part." in out
    assert main(["evaluate", str(hugging_face["gpt2"]), "--blimp", str(folder), "--score", "masked"]) == 2
    assert main(["evaluate", str(hugging_face["gpt2"])]) == 2
    assert "--data SOURCE" in capsys.readouterr().err
