from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from tests.models.hf_forms import CONTEXT, END, VOCABULARY, byte_level_tokenizer, save_as_on_the_hub, sentences
from unstuck.config.sections.gpt import GPTConfig
from unstuck.config.sections.pretrained import PretrainedConfig
from unstuck.config.sections.text import TextConfig
from unstuck.data.prepare import prepare
from unstuck.data.tokenizer import SubwordTokenizer, TextTokenizer
from unstuck.errors import UserError
from unstuck.models import build
from unstuck.models.hf_export import base_of, export, save_tokenizer
from unstuck.models.hf_folder import fit_task
from unstuck.models.hf_tokenizer import tokenizer_of
from unstuck.models.pretrained import Pretrained
from unstuck.train import checkpoint
from unstuck.train.weights import load_weights, weights_of

SAME = 2e-5


@pytest.fixture(scope="module")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2 in the hub's form, tiny, with weights large enough for adapters and shifts to matter."""
    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    save_as_on_the_hub(_enlarged(GPT2LMHeadModel(config)), byte_level_tokenizer(sentences(50)), folder)
    return folder


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    _enlarged(BertForMaskedLM(_bert())).save_pretrained(folder)
    return folder


def _bert() -> BertConfig:
    return BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=CONTEXT,
    )  # fmt: skip


def _enlarged(model: Any) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def _made(path: Path | str, **settings: Any) -> Pretrained:
    model = build(PretrainedConfig(path=str(path), **settings), vocabulary=VOCABULARY, context=CONTEXT)
    assert isinstance(model, Pretrained)
    return model.eval()


def _tokens(rows: int = 2, length: int = 20) -> Tensor:
    return torch.randint(VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1))


def _lora(rank: int = 4, **settings: Any) -> dict[str, Any]:
    return {"adapter": {"kind": "lora", "rank": rank, **settings}}


def _trained_a_little(model: Pretrained) -> Pretrained:
    """Adapters with numbers in both halves."""
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.1)
    return model


def test_a_folder_in_the_hubs_form_gives_the_logits_of_transformers(gpt2_folder: Path):
    theirs = AutoModelForCausalLM.from_pretrained(gpt2_folder)(_tokens()).logits
    assert torch.allclose(_made(gpt2_folder)(_tokens()), theirs, atol=SAME)


def test_labels_are_shifted_once(gpt2_folder: Path):
    tokens_BT = _tokens()
    theirs = AutoModelForCausalLM.from_pretrained(gpt2_folder)(tokens_BT, labels=tokens_BT).loss  # shifts by itself
    assert torch.allclose(_made(gpt2_folder)(tokens_BT[:, :-1], tokens_BT[:, 1:]), theirs, atol=SAME)


def test_the_loss_of_some_targets_is_that_of_their_logits(gpt2_folder: Path):
    model, tokens_BT, targets_BT = _made(gpt2_folder), _tokens(), _tokens().flip(0)
    targets_BT[:, :13] = -100
    logs_BTV = model(tokens_BT).log_softmax(-1)
    plain = -logs_BTV[:, 13:].gather(-1, targets_BT[:, 13:, None]).sum()
    assert torch.allclose(model(tokens_BT, targets_BT, "sum"), plain, rtol=1e-5)


@pytest.mark.parametrize("from_vocabulary_and_merges", [False, True])
def test_the_tokenizer_is_the_folders_own(gpt2_folder: Path, tmp_path: Path, from_vocabulary_and_merges: bool):
    folder = tmp_path / "model"
    shutil.copytree(gpt2_folder, folder)
    if from_vocabulary_and_merges:
        (folder / "tokenizer.json").unlink()
    tokenizer = tokenizer_of(str(folder))
    text = "The model reads: a tree, 12 leaves."
    assert list(tokenizer.encode(text)) == AutoTokenizer.from_pretrained(gpt2_folder)(text)["input_ids"]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.token_id(END) == tokenizer.end_of_text == 0


def test_an_end_token_that_only_the_settings_name_survives_cache_and_files(
    gpt2_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("UNSTUCK_CACHE", str(tmp_path / "cache"))
    folder, plain = tmp_path / "model", tmp_path / "plain"
    for copy, end in ((folder, "<|im_end|>"), (plain, END)):
        shutil.copytree(gpt2_folder, copy)
        document = (copy / "tokenizer.json").read_text().replace(END, "<|im_end|>" if copy == folder else END)
        (copy / "tokenizer.json").write_text(document)
        (copy / "tokenizer_config.json").write_text(json.dumps({"eos_token": end}))
    (tmp_path / "text.txt").write_text(" ".join(sentences(40)))
    config = TextConfig(source=str(tmp_path / "text.txt"), tokenizer="from-model", context=16)
    for _ in ("read", "from the cache"):
        data = prepare(config, tokenizer=tokenizer_of(str(folder)))
        assert data.tokenizer.end_of_text == 0
    data.tokenizer.save(tmp_path)
    assert TextTokenizer.load(tmp_path).end_of_text == 0
    assert TextTokenizer.load(tmp_path).identity == data.tokenizer.identity
    assert TextTokenizer.load(folder / "tokenizer.json").identity != data.tokenizer.identity  # there it is a guess
    assert TextTokenizer.load(folder / "tokenizer.json").end_of_text is None

    tokenizer_of(str(plain)).save(tmp_path)  # here the guess is right, so nothing is left beside it
    assert TextTokenizer.load(tmp_path).named_end is None
    (tmp_path / "tokenizer-end.json").write_text('{"end_of_text": "<eot>"}')
    with pytest.raises(UserError, match=r"no token .<eot>., which tokenizer-end\.json beside it names"):
        TextTokenizer.load(tmp_path)


@pytest.mark.parametrize(("bias", "tied"), [(True, True), (False, False)])
def test_our_gpt2_is_exported_with_the_same_logits(tmp_path: Path, bias: bool, tied: bool):
    config = GPTConfig(architecture="gpt2", layers=2, heads=2, width=32, bias=bias, tied_head=tied)
    torch.manual_seed(0)
    ours = _enlarged(build(config, vocabulary=VOCABULARY, context=CONTEXT))
    export(ours, None, tmp_path / "out")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.allclose(theirs(_tokens()).logits, ours(_tokens()), atol=SAME)
    assert torch.allclose(_made(tmp_path / "out")(_tokens()), ours(_tokens()), atol=SAME)


def test_only_adapters_are_trained_and_they_begin_as_the_base(gpt2_folder: Path):
    base, adapted = _made(gpt2_folder), _made(gpt2_folder, **_lora(rank=4))
    assert torch.equal(adapted(_tokens()), base(_tokens()))
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)
    per_layer = (32 + 96) + (32 + 32) + (32 + 128) + (128 + 32)  # in + out of c_attn, c_proj, c_fc, c_proj
    assert sum(p.numel() for p in trained.values()) == 2 * 4 * per_layer


def test_adapters_of_any_architecture_lie_in_attention_and_mlp(tmp_path: Path, bert_folder: Path):
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    for folder, count, absent in ((tmp_path / "llama", 7, "lm_head"), (bert_folder, 12, "cls.")):
        names = [n for n, p in _made(folder, **_lora()).named_parameters() if ".lora_B." in n]
        assert len(names) == count
        assert not any(absent in name for name in names)


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_a_gradient_reaches_every_adapter(gpt2_folder: Path, gradient_checkpointing: bool):
    settings = _lora() | {"gradient_checkpointing": gradient_checkpointing}
    model = _trained_a_little(_made(gpt2_folder, **settings)).train()
    model(_tokens(), _tokens().roll(1, 1), "sum").backward()
    reached = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert len(reached) == 16
    assert all(gradient is not None and float(gradient.abs().max()) > 0 for gradient in reached.values())
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


def test_gradient_checkpointing_changes_no_gradient(gpt2_folder: Path):
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(3)
        model = _made(gpt2_folder, gradient_checkpointing=checkpointing, dropout=0.0).train()
        model(_tokens(), _tokens().roll(1, 1)).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.allclose(*gradients, atol=1e-6)


def test_dropout_is_the_models_own_unless_the_recipe_says_otherwise(gpt2_folder: Path):
    def probabilities(model: Pretrained) -> set[float]:
        return {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}

    assert probabilities(_made(gpt2_folder)) == {0.1}
    assert probabilities(_made(gpt2_folder, dropout=0.25)) == {0.25}


def test_a_checkpoint_holds_adapters_alone_and_gives_the_same_model(gpt2_folder: Path):
    model = _trained_a_little(_made(gpt2_folder, **_lora()))
    stored = {name: tensor.clone() for name, tensor in checkpoint.unshared(weights_of(model)).items()}
    assert sum(t.numel() for t in stored.values()) == sum(p.numel() for p in model.parameters() if p.requires_grad) + 16
    torch.manual_seed(9)  # other random adapters
    other = _made(gpt2_folder, **_lora())
    load_weights(other, stored, "checkpoint")
    assert torch.equal(other(_tokens()), model(_tokens()))


def test_tied_weights_of_a_full_fine_tuning_are_stored_once(gpt2_folder: Path):
    stored = checkpoint.unshared(weights_of(_made(gpt2_folder)))
    assert [t.shape for t in stored.values()].count(torch.Size((VOCABULARY, 32))) == 1


def test_adapters_of_another_base_are_refused(gpt2_folder: Path, tmp_path: Path):
    stored = dict(weights_of(_made(gpt2_folder, **_lora())))
    other = AutoModelForCausalLM.from_pretrained(gpt2_folder)
    other.transformer.wpe.weight.data += 0.01
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="another model"):
        load_weights(_made(tmp_path / "other", **_lora()), stored, "checkpoint")


def test_an_exported_adapter_finds_its_base_from_any_folder(
    gpt2_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(gpt2_folder.parent)
    model = _trained_a_little(_made(Path(gpt2_folder.name), **_lora()))
    export(model, tokenizer_of(gpt2_folder.name), tmp_path / "adapter", adapter=True)
    monkeypatch.chdir(tmp_path)
    found = AutoPeftModelForCausalLM.from_pretrained("adapter")
    assert torch.allclose(found(_tokens()).logits, model(_tokens()), atol=SAME)
    assert base_of("openai-community/gpt2") == "openai-community/gpt2"


@pytest.mark.parametrize("targets", ["auto", ("c_attn",)])
def test_merged_and_adapter_exports_give_the_same_logits(gpt2_folder: Path, tmp_path: Path, targets: Any):
    model = _trained_a_little(_made(gpt2_folder, **_lora(targets=targets)))
    expected = model(_tokens())
    assert not torch.allclose(expected, _made(gpt2_folder)(_tokens()), atol=1e-2)
    export(model, tokenizer_of(str(gpt2_folder)), tmp_path / "adapter", adapter=True)
    export(model, tokenizer_of(str(gpt2_folder)), tmp_path / "merged")
    base = AutoModelForCausalLM.from_pretrained(gpt2_folder)
    assert torch.allclose(PeftModel.from_pretrained(base, tmp_path / "adapter")(_tokens()).logits, expected, atol=SAME)
    assert torch.allclose(
        AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(_tokens()).logits, expected, atol=SAME
    )
    text = "read long texts"
    theirs = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert theirs(text)["input_ids"] == list(tokenizer_of(str(gpt2_folder)).encode(text))
    assert theirs.eos_token == END


def test_robertas_special_tokens_keep_their_uses_in_an_export(tmp_path: Path):
    names = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    save_tokenizer(SubwordTokenizer.train(sentences(50), 300, names), tmp_path, longest=16)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    uses = (theirs.bos_token, theirs.cls_token, theirs.pad_token, theirs.sep_token, theirs.unk_token, theirs.mask_token)
    assert uses == ("<s>", "<s>", "<pad>", "</s>", "<unk>", "<mask>")


def test_a_masked_model_does_not_attend_to_padding(bert_folder: Path):
    model = _made(bert_folder)
    assert model.masked
    tokens_BT = _tokens(1, 12).clamp(min=1)
    padded_BT = torch.cat([tokens_BT, torch.zeros(1, 5, dtype=torch.long)], dim=1)
    assert torch.allclose(model(padded_BT)[:, :12], model(tokens_BT), atol=SAME)


def test_weights_in_a_pickle_are_read_without_running_it(gpt2_folder: Path, tmp_path: Path):
    folder = tmp_path / "pickled"
    model = AutoModelForCausalLM.from_pretrained(gpt2_folder)
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    assert torch.equal(_made(folder)(_tokens()), _made(gpt2_folder)(_tokens()))

    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "executed",)

    with open(folder / "pytorch_model.bin", "wb") as file:
        pickle.dump({"a": Attack()}, file)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        _made(folder)
    assert not (tmp_path / "executed").exists()


def test_code_in_a_models_folder_is_never_run(gpt2_folder: Path, tmp_path: Path):
    folder = tmp_path / "own-code"
    shutil.copytree(gpt2_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "homemade", "auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    with pytest.raises(UserError, match="never run"):
        _made(folder)
    assert not (tmp_path / "executed").exists()


def test_a_model_without_its_head_is_refused(tmp_path: Path):
    BertModel(_bert()).save_pretrained(tmp_path / "trunk")
    with pytest.raises(UserError, match="lacks 6 of the model's tensors"):
        _made(tmp_path / "trunk")


def test_a_model_that_sees_ahead_is_no_causal_one(bert_folder: Path, gpt2_folder: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"task\.kind=masked"):
        fit_task(str(bert_folder), "causal")
    with pytest.raises(UserError, match=r"task\.kind=causal"):
        fit_task(str(gpt2_folder), "masked")
    folder = tmp_path / "disguised"
    shutil.copytree(bert_folder, folder)
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["BertLMHeadModel"]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="read its own targets"):
        _made(folder)


def _broken(kind: str, gpt2_folder: Path, folder: Path) -> None:
    if kind == "a file":
        folder.write_text("weights")
        return
    if kind == "no folder":
        return
    shutil.copytree(gpt2_folder, folder)
    if kind == "no config":
        (folder / "config.json").unlink()
    elif kind == "damaged config":
        (folder / "config.json").write_text("{")
    elif kind == "damaged weights":
        (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    elif kind == "no weights":
        (folder / "model.safetensors").unlink()
    elif kind == "other shapes":
        config = json.loads((folder / "config.json").read_text()) | {"n_positions": 2 * CONTEXT}
        (folder / "config.json").write_text(json.dumps(config))
    elif kind == "an adapter alone":
        (folder / "config.json").unlink()
        (folder / "adapter_config.json").write_text("{}")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("a file", "is a file; name the folder"),
        ("no folder", "There is no folder"),
        ("no config", "no model in Hugging Face form"),
        ("damaged config", r"config\.json cannot be read"),
        ("damaged weights", "damaged"),
        ("no weights", "cannot load the model"),
        ("other shapes", "belong together"),
        ("an adapter alone", "an adapter without its model"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_one_sentence(gpt2_folder: Path, tmp_path: Path, kind: str, sentence: str):
    folder = tmp_path / "model"
    _broken(kind, gpt2_folder, folder)
    with pytest.raises(UserError, match=sentence):
        _made(folder)


def test_what_does_not_fit_the_model_is_one_sentence(gpt2_folder: Path):
    config = PretrainedConfig(path=str(gpt2_folder))
    with pytest.raises(UserError, match=r"data\.tokenizer=from-model"):
        build(config, vocabulary=VOCABULARY + 1, context=CONTEXT)
    with pytest.raises(UserError, match=rf"data\.context={CONTEXT}"):
        build(config, vocabulary=VOCABULARY, context=CONTEXT + 1)
    with pytest.raises(UserError, match="choose from c_attn, c_fc, c_proj"):
        _made(gpt2_folder, **_lora(targets=("q_proj",)))
