"""How each kind of model is asked for the probability of a sentence: begin token, hidden token, place to read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unstuck.data.tokenizer import SubwordTokenizer, TextTokenizer
from unstuck.errors import UserError
from unstuck.evaluate.blimp_score import Frame, causal_scores, masked_scores
from unstuck.models.language_model import LanguageModel
from unstuck.models.ltg_bert import LtgBert
from unstuck.models.pretrained import Pretrained

Scorer = Callable[[list[str]], list[float]]
BEGIN = ("[CLS]", "<s>", "<|endoftext|>")
END = ("[SEP]", "</s>")
MASKS = ("[MASK]", "<mask>")


def scorers(model: nn.Module, tokenizer: TextTokenizer, *, causal_share: float = 0.0) -> dict[str, Scorer]:
    """Ways of scoring that the model was trained for: "masked", "causal" or both.

    Args:
        model: any of our language models, or `Pretrained`; put into evaluation mode and float32.
        tokenizer: of its text.
        causal_share: of the windows that an LTG-BERT was trained on.

    Raises:
        UserError: the model is no language model, or its tokenizer lacks the token that hides.
    """
    if not isinstance(model, LanguageModel):
        raise UserError(
            "BLiMP is a test of language models, and this is none; name a run with task.kind causal or masked."
        )
    model.float().eval()
    encode = _encoder(tokenizer)
    found: dict[str, Scorer] = {}
    if isinstance(model, LtgBert):
        frame = Frame(encode, (_needed(tokenizer, BEGIN),))
        if causal_share < 1:
            read = partial(_read_before, model)
            found["masked"] = lambda s: masked_scores(s, frame, _needed(tokenizer, MASKS), read)
        if causal_share > 0:
            found["causal"] = lambda s: causal_scores(s, frame, partial(_read_all, model, all_causal=True))
    elif isinstance(model, Pretrained) and model.masked:
        ours = model.inner.config.model_type == "unstuck-ltg-bert"  # trained without a token behind the text
        frame = Frame(encode, (_needed(tokenizer, BEGIN),), () if ours else (_needed(tokenizer, END),))
        found["masked"] = lambda s: masked_scores(s, frame, _needed(tokenizer, MASKS), partial(_read_at, model))
    else:
        begin = tokenizer.end_of_text  # stands between documents in training, so it begins one too
        frame = Frame(encode, () if begin is None else (begin,))
        found["causal"] = lambda s: causal_scores(s, frame, partial(_read_all, model))
    return found


def _encoder(tokenizer: TextTokenizer) -> Callable[[list[str]], list[list[int]]]:
    def encode(sentences: list[str]) -> list[list[int]]:
        if isinstance(tokenizer, SubwordTokenizer):
            return [ids.tolist() for ids in tokenizer.encode_all(sentences)]
        return [tokenizer.encode(sentence, skip_unknown=True).tolist() for sentence in sentences]

    return encode


def _needed(tokenizer: TextTokenizer, names: tuple[str, ...]) -> int:
    found = next((i for name in names if (i := tokenizer.token_id(name)) is not None), None)
    if found is None:
        raise UserError(
            f"The tokenizer has no {names[0]}, so sentences cannot be scored; name a model that was trained with one."
        )
    return found


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


@torch.no_grad()
def _read_before(model: LtgBert, tokens_BT: Tensor, place_B: Tensor) -> Tensor:
    """LTG-BERT reads what is at a place from the place before it."""
    device = _device(model)
    hidden_BTW = model.hidden(tokens_BT.to(device))
    rows = torch.arange(len(tokens_BT), device=device)
    return torch.log_softmax(model.logits(hidden_BTW[rows, place_B.to(device) - 1]), -1).cpu()


@torch.no_grad()
def _read_at(model: LanguageModel, tokens_BT: Tensor, place_B: Tensor) -> Tensor:
    device = _device(model)
    hidden_BTW = model.hidden(tokens_BT.to(device))
    rows = torch.arange(len(tokens_BT), device=device)
    return torch.log_softmax(model.logits(hidden_BTW[rows, place_B.to(device)]), -1).cpu()


@torch.no_grad()
def _read_all(model: LanguageModel, tokens_BT: Tensor, *, all_causal: bool = False) -> Tensor:
    inputs_BT = tokens_BT[:, :-1].to(_device(model))
    further: dict[str, Any] = {"causal_rows": len(inputs_BT)} if all_causal else {}
    logits_BTV = model.logits(model.hidden(inputs_BT, **further))
    wanted_BT1 = tokens_BT[:, 1:, None].to(logits_BTV.device)
    return (logits_BTV.gather(-1, wanted_BT1).squeeze(-1) - logits_BTV.logsumexp(-1)).cpu()
