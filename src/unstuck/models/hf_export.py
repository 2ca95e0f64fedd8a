"""Trained models as `transformers` networks, with the same logits, and as folders that it loads."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unstuck.data.tokenizer import SubwordTokenizer, TextTokenizer
from unstuck.errors import UserError
from unstuck.models.gpt2 import GPT2
from unstuck.models.hf_load import quiet
from unstuck.models.ltg_bert import LtgBert
from unstuck.models.pretrained import Pretrained

LAYERNORM_EPSILON = 1e-5  # of torch, and of GPT-2

# transformers' name <- ours, for one block; the linear ones are transposed (Conv1D keeps its matrix as in, out).
BLOCK_NORMS = {"ln_1": "norm1", "ln_2": "norm2"}
BLOCK_LINEAR = {"attn.c_attn": "qkv", "attn.c_proj": "output", "mlp.c_fc": "up", "mlp.c_proj": "down"}


def network_of(model: nn.Module, *, end_of_text: int | None = None, dropout: float | None = None) -> nn.Module:
    """A network of transformers with the model's weights, in evaluation mode, adapters merged.

    Args:
        model: of architecture gpt2, ltg-bert or pretrained; the latter's network is taken over and changed.
        end_of_text: id that its config.json names as begin and end of text.
        dropout: of the network; None: the model's own.

    Raises:
        UserError: the architecture has no form in transformers.
    """
    if isinstance(model, GPT2):
        return _gpt2(model, end_of_text, model.dropout if dropout is None else dropout)
    if isinstance(model, Pretrained):
        merged: nn.Module = model.network.merge_and_unload() if model.adapted else model.network  # type: ignore[operator]
        return merged.eval()
    if isinstance(model, LtgBert):
        from unstuck.integrations.transformers import network_of_ltg_bert

        return network_of_ltg_bert(model)
    raise UserError(
        "This model has no form in transformers; runs with model.architecture=gpt2, ltg-bert or pretrained have one."
    )


def export(model: nn.Module, tokenizer: TextTokenizer | None, folder: Path, *, adapter: bool = False) -> None:
    """Write a folder that `from_pretrained` loads: config.json, model.safetensors and the tokenizer's files.

    Args:
        model: see `network_of`.
        tokenizer: of its text.
        folder: made if need be.
        adapter: write the adapters alone, in peft's form, instead of merging them.

    Raises:
        UserError: the model has no such form, or no adapters; or its tokenizer has characters, not pieces of words.
        OSError: the folder cannot be written.
    """
    if adapter:
        if not isinstance(model, Pretrained) or not model.adapted:
            raise UserError("This run has no adapters: every weight was trained; export it without --adapter.")
        network = model.network
        settings: Any = network.peft_config
        settings["default"].base_model_name_or_path = base_of(model.path)
    else:
        network = network_of(model, end_of_text=getattr(tokenizer, "end_of_text", None))
    if tokenizer is not None and not isinstance(tokenizer, SubwordTokenizer):
        raise UserError(
            "transformers has no character tokenizer, so this run cannot be exported whole; train it with "
            "data.tokenizer=bpe."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.save_pretrained(folder)  # type: ignore[operator]
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty form
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder, longest=int(model.context))  # type: ignore[arg-type]


def base_of(path: str) -> str:
    """What an adapter says of its base, wherever it is read: a folder by its whole path, or a name on the hub."""
    folder = Path(path).expanduser()
    return str(folder.resolve()) if folder.is_dir() else path


def save_tokenizer(tokenizer: SubwordTokenizer, folder: Path, *, longest: int) -> None:
    """Write tokenizer.json and tokenizer_config.json so that AutoTokenizer gives the same ids.

    Args:
        longest: tokens of the longest text that the model takes.
    """
    tokenizer.save(folder)
    settings: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": longest}
    settings |= {"clean_up_tokenization_spaces": False}
    if tokenizer.end_of_text is not None:
        end = end_token(tokenizer)
        settings |= {"bos_token": end, "eos_token": end, "unk_token": end}
    settings |= special_names(tokenizer)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def end_token(tokenizer: SubwordTokenizer) -> str:
    """The name of the end token."""
    names = {index: name for name, index in json.loads(tokenizer.to_json())["model"]["vocab"].items()}
    names |= {t["id"]: t["content"] for t in json.loads(tokenizer.to_json()).get("added_tokens") or []}
    return str(names[tokenizer.end_of_text])


def special_names(tokenizer: SubwordTokenizer) -> dict[str, str]:
    """BERT's or RoBERTa's special tokens by their use, where the tokenizer has them."""
    known = {token["content"] for token in json.loads(tokenizer.to_json()).get("added_tokens") or []}
    uses = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]", "pad_token": "[PAD]"}
    if "<mask>" in known:  # RoBERTa; <s> and </s> alone are also Llama's, which has no cls and sep
        uses = {"bos_token": "<s>", "cls_token": "<s>", "sep_token": "</s>"}
        uses |= {"mask_token": "<mask>", "pad_token": "<pad>"}
    found = {use: name for use, name in uses.items() if name in known}
    unknown = next((name for name in ("[UNK]", "<unk>") if name in known), None)
    return found if unknown is None else found | {"unk_token": unknown}


@torch.no_grad()
def _gpt2(model: GPT2, end_of_text: int | None, dropout: float) -> nn.Module:
    """Our GPT-2 as GPT2LMHeadModel; biases that ours has not are zero there."""
    from transformers import GPT2Config, GPT2LMHeadModel

    width = model.token_embedding.embedding_dim
    first: Any = model.blocks[0]
    config = GPT2Config(
        vocab_size=model.vocabulary,
        n_positions=model.context,
        n_embd=width,
        n_layer=len(model.blocks),
        n_head=first.heads,
        n_inner=first.up.out_features,
        activation_function="gelu",  # the exact one; GPT-2's release approximates it by a tanh
        layer_norm_epsilon=LAYERNORM_EPSILON,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
        tie_word_embeddings=model.head.weight is model.token_embedding.weight,
        architectures=["GPT2LMHeadModel"],
    )
    with quiet(), torch.random.fork_rng(devices=[]):  # its own random weights are replaced at once
        network: Any = GPT2LMHeadModel(config)
    theirs = dict(network.named_parameters())
    ours = dict(model.named_parameters())
    given: dict[str, Tensor] = {
        "transformer.wte.weight": ours["token_embedding.weight"],
        "transformer.wpe.weight": ours["position_embedding.weight"],
        "transformer.ln_f.weight": ours["norm.weight"],
    }
    if not config.tie_word_embeddings:
        given["lm_head.weight"] = ours["head.weight"]
    if "norm.bias" in ours:
        given["transformer.ln_f.bias"] = ours["norm.bias"]
    for index in range(len(model.blocks)):
        there, here = f"transformer.h.{index}", f"blocks.{index}"
        for their_name, our_name in (BLOCK_NORMS | BLOCK_LINEAR).items():
            weight = ours[f"{here}.{our_name}.weight"]
            given[f"{there}.{their_name}.weight"] = weight.T if their_name in BLOCK_LINEAR else weight
            if f"{here}.{our_name}.bias" in ours:
                given[f"{there}.{their_name}.bias"] = ours[f"{here}.{our_name}.bias"]
    for name, parameter in theirs.items():
        if name in given:
            parameter.copy_(given[name])
        else:
            parameter.zero_()  # a bias that ours has not
    finished: nn.Module = network.eval()
    return finished
