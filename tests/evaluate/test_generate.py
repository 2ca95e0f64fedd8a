import io
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unstuck.cli.main import main
from unstuck.config.recipe import load_recipe
from unstuck.config.sections.gpt import GPTConfig
from unstuck.data import SubwordTokenizer
from unstuck.errors import UserError
from unstuck.evaluate.generate import TextStream, complete, next_logits
from unstuck.evaluate.generate_cache import CachedGPT
from unstuck.evaluate.generate_sampling import PRESETS, Sampling, choose, keep_top_k, keep_top_p, penalise
from unstuck.models import build
from unstuck.train.run import train

ROWS = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=30)
GREEDY = PRESETS["exact"]


def kept(logits_NV: torch.Tensor) -> set[int]:
    return set(torch.isfinite(logits_NV[0]).nonzero().flatten().tolist())


@settings(max_examples=200, deadline=None)
@given(ROWS, st.floats(0.01, 1))
def test_top_p_keeps_the_smallest_set_that_holds_p(row: list[float], p: float) -> None:
    logits = torch.tensor([row])
    stay = kept(keep_top_p(logits, p))
    shares = logits[0].double().softmax(-1)
    assert stay
    outside = [i for i in range(len(row)) if i not in stay]
    assert all(shares[i] >= shares[j] for i in stay for j in outside)
    assert float(shares[list(stay)].sum()) >= p - 1e-9
    least = min(stay, key=lambda i: float(shares[i]))
    assert len(stay) == 1 or float(shares[list(stay - {least})].sum()) < p + 1e-9


@settings(max_examples=100, deadline=None)
@given(ROWS, st.integers(1, 40))
def test_top_k_keeps_exactly_the_k_largest(row: list[float], k: int) -> None:
    stay = kept(keep_top_k(torch.tensor([row]), k))
    assert len(stay) == min(k, len(row))
    assert sorted((row[i] for i in stay), reverse=True) == sorted(row, reverse=True)[: len(stay)]


@settings(max_examples=100, deadline=None)
@given(ROWS, st.floats(1.01, 3), st.data())
def test_a_repetition_penalty_never_makes_a_seen_token_more_probable(
    row: list[float], penalty: float, data: st.DataObject
) -> None:
    seen = torch.tensor([data.draw(st.lists(st.booleans(), min_size=len(row), max_size=len(row)))])
    logits = torch.tensor([row])
    weaker = penalise(logits, seen, penalty)
    assert (weaker <= logits)[seen].all()
    assert torch.equal(weaker[~seen], logits[~seen])


@settings(max_examples=100, deadline=None)
@given(
    ROWS, st.floats(0, 3), st.one_of(st.none(), st.integers(1, 5)), st.one_of(st.none(), st.floats(0.1, 1)),
    st.integers(0, 2**31),
)  # fmt: skip
def test_what_is_drawn_is_in_the_set_that_was_kept(
    row: list[float], temperature: float, k: int | None, p: float | None, seed: int
) -> None:
    logits = torch.tensor([row])
    sampling = Sampling(temperature, k, p, 1.0)
    drawn = int(choose(logits, torch.zeros(1, len(row), dtype=torch.bool), sampling,
                       [torch.Generator().manual_seed(seed)]))  # fmt: skip
    if temperature == 0:
        assert row[drawn] == max(row)
        return
    left = (logits - logits.max()) / max(temperature, 1e-6)
    left = left if k is None else keep_top_k(left, k)
    assert drawn in kept(left if p is None else keep_top_p(left, p))


def test_tokens_are_drawn_as_often_as_they_are_probable() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log().repeat(6000, 1)
    generators = [torch.Generator().manual_seed(i) for i in range(6000)]
    seen = torch.zeros(6000, 3, dtype=torch.bool)
    drawn = choose(logits, seen, Sampling(1.0, None, None, 1.0), generators)
    shares = torch.bincount(drawn, minlength=3) / 6000
    assert torch.allclose(shares, torch.tensor([0.5, 0.3, 0.2]), atol=4 * math.sqrt(0.25 / 6000))


def test_settings_out_of_range_are_one_sentence() -> None:
    for wrong in ({"temperature": -1}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}, {"repetition_penalty": 0.0}):
        with pytest.raises(UserError, match="try --preset balanced"):
            Sampling(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("architecture", ["modern", "gpt2"])
def test_a_row_of_a_batch_is_what_it_is_alone_also_beyond_the_context(architecture: str) -> None:
    torch.manual_seed(0)
    model = build(GPTConfig(architecture=architecture, layers=2, heads=2, width=16), vocabulary=20, context=8).eval()  # type: ignore[arg-type]
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    prompts = [[3], [1, 2, 3, 4, 5], list(range(20))]
    sampling = Sampling(1.0, 10, 0.9, 1.2)
    together = complete(model, prompts, sampling=sampling, max_tokens=15, end=0)
    for seed, (prompt, row) in enumerate(zip(prompts, together, strict=True)):
        alone = complete(model, [prompt], sampling=sampling, max_tokens=15, end=0, seed=seed)
        assert alone[0] == row
    # The plain reference: the model sees the last 8 tokens and nothing else.
    ids = prompts[2]
    expected = model(torch.tensor([ids[-8:]]))[0, -1]
    found = next_logits(model, torch.tensor([ids]), torch.tensor([20]), torch.device("cpu"))[0]
    assert torch.allclose(expected, found, atol=1e-5)


class Tired(torch.nn.Module):
    """Wants to end, and next to that to say 1."""

    context = 8

    def __init__(self) -> None:
        super().__init__()
        self.logits_V = torch.nn.Parameter(torch.tensor([2.0, 1.9, 0.0]))

    def forward(self, tokens_NT: torch.Tensor) -> torch.Tensor:
        return self.logits_V.expand(*tokens_NT.shape, 3)


def test_an_end_token_in_the_prompt_makes_no_text_longer() -> None:
    """It stands before a document, and behind every earlier answer of a conversation."""
    for prompt in ([2], [0, 2], [2, 0, 2, 0, 2]):
        (row,) = complete(Tired(), [prompt], sampling=Sampling(0.0, None, None, 1.3), max_tokens=4, end=0)
        assert (row.tokens, row.ended) == ([], True)


@pytest.mark.parametrize("full", [True, False])
def test_cached_keys_and_values_give_the_logits_of_the_whole_window(full: bool) -> None:
    torch.manual_seed(1)
    config = GPTConfig(
        layers=3, heads=2, width=16, ngrams=4 * full, value_embeddings=full, input_skip=full, smear=full
    )  # fmt: skip
    model = build(config, vocabulary=30, context=12).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    tokens = torch.randint(30, (4, 12))
    cache, rows = CachedGPT(model), torch.tensor([0, 1, 2, 3])  # type: ignore[arg-type]
    with torch.no_grad():
        for length in range(5, 13):
            kept = None
            if length == 8:  # two rows are finished
                kept, rows = torch.tensor([0, 2]), torch.tensor([0, 2])
            found = cache.next_logits(tokens[rows, :length], kept)
            plain = next_logits(model, tokens[rows], torch.full((len(rows),), length), torch.device("cpu"))
            assert torch.allclose(found, plain, atol=1e-4), length


def test_text_comes_as_a_whole_whatever_the_bytes_of_a_token() -> None:
    tokenizer = SubwordTokenizer.train(["plain"], 257)
    text = "a λόγος 漢字 😀!"
    stream = TextStream(tokenizer)
    shown = [stream.add(int(i)) for i in tokenizer.encode(text)]
    assert "".join(shown) + stream.rest() == text
    assert not any("\ufffd" in piece for piece in shown)


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNSTUCK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model pretrained on a few sentences, and one fine-tuned from it to answer and to stop."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text").mkdir()
    for name in ("one", "two"):
        lines = [f"{name} {n}: the fox looked at the grapes and went away.\n" for n in range(300)]
        (folder / "text" / f"{name}.txt").write_text("".join(lines))
    rows = [{"prompt": f"What did the fox see, {n}?", "response": "The grapes."} for n in range(60)]
    (folder / "qa.jsonl").write_text("\n".join(map(json.dumps, rows)))
    small = (
        "training.threads=1",
        "model.layers=1",
        "model.width=32",
        "model.heads=2",
        "model.ngrams=2",
        "evaluation.every_updates=30",
    )
    pretrain = load_recipe("factlm:quick", [
        f"data.source={folder / 'text'}", "data.sources=files", "data.validation_split=pieces", "data.vocabulary=300",
        "data.context=32", "training.updates=30", *small,
    ])  # fmt: skip
    first = train(pretrain, folder=folder / "factlm", report=False)
    chat = load_recipe("factlm-chat:quick", [
        f"data.source={folder / 'qa.jsonl'}", "data.context=32", f"start_from={first.folder}", "training.epochs=null",
        "training.updates=40", "training.batch_size=16", "training.threads=1", "optimizer.muon_learning_rate=0.02",
        "optimizer.learning_rate=4e-3",
    ])  # fmt: skip
    second = train(chat, folder=folder / "chat", report=False)
    return first.folder, second.folder


def test_every_book_is_validated_with_its_own_bits_per_byte(runs: tuple[Path, Path]) -> None:
    rows = [json.loads(line) for line in (runs[0] / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if row["event"] == "evaluation"][-1]
    for source in ("one", "two"):
        assert last[f"val/loss/{source}"] > 0
        assert 0 < last[f"val/bits_per_byte/{source}"] < 8


def test_the_end_token_is_learned(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["generate", str(runs[1]), "What did the fox see, 77?", "--json", "--preset", "exact"])
    document = json.loads(capsys.readouterr().out)
    assert status == 0
    assert document["samples"] == [{"text": "The grapes.", "tokens": document["samples"][0]["tokens"],
                                    "ended_by": "end token"}]  # fmt: skip


def test_fine_tuning_takes_over_model_and_tokenizer_of_its_start(runs: tuple[Path, Path]) -> None:
    assert (runs[0] / "tokenizer.json").read_bytes() == (runs[1] / "tokenizer.json").read_bytes()
    assert load_recipe(runs[1]).config.model == load_recipe(runs[0]).config.model


def test_the_same_seed_writes_the_same_text_however_many(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["generate", str(runs[0]), "one", "--json", "--max-tokens", "12", "--seed", "4"]
    texts = []
    for samples in ("1", "3", "3"):
        assert main([*common, "--samples", samples]) == 0
        texts.append([s["text"] for s in json.loads(capsys.readouterr().out)["samples"]])
    assert texts[1] == texts[2]
    assert texts[0][0] == texts[1][0]
    assert len(set(texts[1])) == 3


def test_streamed_text_is_the_text(runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    common = ["generate", str(runs[0]), "two 7: the", "--max-tokens", "12"]
    outputs = []
    for option in ("--stream", "--no-stream"):
        assert main([*common, option]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert outputs[0].startswith("two 7: the")


def test_a_prompt_longer_than_the_context_is_read_from_its_end(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(runs[0]), "the fox looked at the grapes " * 30, "--max-tokens", "3"]) == 0
    assert "the model reads the last 32" in capsys.readouterr().err


def test_a_conversation_answers_line_by_line(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("What did the fox see, 5?\n\nWhat did the fox see, 6?\n"))
    assert main(["generate", str(runs[1]), "--preset", "exact"]) == 0
    assert capsys.readouterr().out == "The grapes.\nThe grapes.\n"


def test_only_what_is_piped_in_takes_the_place_of_a_prompt(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(*words: str) -> dict[str, object]:
        assert main(["generate", *words, "--json", "--preset", "exact", "--max-tokens", "8"]) == 0
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return {key: found[key] for key in ("prompt", "prompt_tokens", "samples")}

    alone = written(str(runs[0]))  # here standard input may not be read at all
    assert alone["prompt"] is None
    with open(os.devnull) as empty:
        for stdin in (empty, None):
            monkeypatch.setattr("sys.stdin", stdin)
            assert written(str(runs[0])) == alone
    ours, theirs = os.pipe()  # nobody ever writes to it, nor closes it
    with open(ours) as silent:
        monkeypatch.setattr("sys.stdin", silent)
        assert written(str(runs[0])) == alone
    os.close(theirs)
    monkeypatch.setattr("sys.stdin", io.StringIO("two 7: the\n"))
    assert written(str(runs[0])) == written(str(runs[0]), "two 7: the")
    monkeypatch.setattr("sys.stdin", io.StringIO("never read"))
    assert written(str(runs[0]), "one")["prompt"] == "one"
    monkeypatch.setattr("sys.stdin", io.StringIO("What did the fox see, 5?\n"))
    assert written(str(runs[1]))["prompt"] == "What did the fox see, 5?"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--preset", "wild"], "There is no preset 'wild'; try --preset exact, balanced, creative."),
        (["--top-p", "2"], "--top-p 2.0 must be above 0, at most 1; try --preset balanced."),
        (["--chat", "--json"], "--json needs a prompt"),
    ],
)
def test_mistakes_are_one_sentence(
    runs: tuple[Path, Path], words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(runs[0]), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_a_checkpoint_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(tmp_path), "Hello"]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err
