"""A language model of `transformers`, loaded with its weights, trained as a whole or through adapters.

It takes tokens and gives logits, nothing else: labels are never handed to the network, which would shift them a second
time (incident I4, where the data shifted them already and a GPT-2 was taught the token after the next).

Shape suffixes: see language_model.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unstuck.config.sections.pretrained import PretrainedConfig
from unstuck.errors import UserError
from unstuck.models import adapters
from unstuck.models.hf_folder import model_folder
from unstuck.models.hf_load import load_network, quiet
from unstuck.models.language_model import IGNORED, LanguageModel

PROBE_TOKENS = 8  # assumption: a mask that lets the future through does so within 8 tokens
# Share of the largest logit. GPT-2 forms of width 64 to 768 have a difference of 0 in both questions (measured
# 2026-11-21); assumption: another order of summation makes about 1e-6, scaling, capping or the future far more.
SAME = 1e-4
# Numbers of each tensor that its fingerprint reads. Assumption: training moves all of them, so a sample shows it.
SAMPLED = 1 << 14


class Pretrained(LanguageModel):
    """See the module docstring.

    With adapters a checkpoint holds these alone, and a fingerprint of the model they were trained on: on another one
    they mean nothing, so that loading them there is an error.

    Args:
        config: the recipe's model section.
        vocabulary: of the tokenizer; the network's own may be larger (padded), never smaller.
        context: the longest window.

    Raises:
        UserError: see `model_folder` and `load_network`; the tokenizer has ids that the model has not; the context is
            longer than its positions; or a causal model that sees what comes later.
    """

    base_fingerprint: Tensor

    def __init__(self, config: PretrainedConfig, *, vocabulary: int, context: int) -> None:
        super().__init__()
        folder = model_folder(config.path)
        network = load_network(folder, dropout=config.dropout)
        settings: Any = network.config
        self.masked = type(network).__name__.endswith(("ForMaskedLM", "ForPreTraining"))
        self.vocabulary, self.context = int(settings.vocab_size), context
        if vocabulary > self.vocabulary:
            raise UserError(
                f"The tokenizer has {vocabulary:,} ids and the model of {config.path} {self.vocabulary:,}: they do not "
                "belong together; use the model's own with data.tokenizer=from-model."
            )
        longest = longest_context(settings)
        if longest is not None and context > longest:
            raise UserError(f"{config.path} has {longest:,} positions; set data.context={longest} or less.")
        if config.gradient_checkpointing:
            # the re-entrant kind loses the gradient where a block's input needs none: all adapters but the last
            network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})  # type: ignore[operator]
        if config.adapter.kind == "lora":
            self.register_buffer("base_fingerprint", fingerprint(network))
            with quiet():
                network = adapters.add_adapters(network, config.adapter, causal=not self.masked)
        self.adapted = config.adapter.kind == "lora"
        self.path = config.path
        self.network = network
        self.padding = settings.pad_token_id if self.masked else None
        self._split = self._head_stands_alone()
        if not self.masked and not self._is_causal():
            raise UserError(
                f"The model of {config.path} lets tokens see what comes after them, so it would read its own targets; "
                "train it with task.kind=masked."
            )

    @property
    def inner(self) -> Any:
        """The network of transformers, adapters in place, without peft around it."""
        network: Any = self.network
        return network.get_base_model() if self.adapted else network

    def hidden(self, tokens_BT: Tensor) -> Tensor:
        """The last hidden states (B, T, W), or, where the head cannot be told from the network, logits (B, T, V)."""
        inner = self.inner
        part = inner.base_model if self._split else inner
        mask_BT = None if self.padding is None else (tokens_BT != self.padding).long()
        further = {} if self.masked else {"use_cache": False}
        result: Tensor = part(input_ids=tokens_BT, attention_mask=mask_BT, **further)[0]
        return result

    def logits(self, hidden_BTW: Tensor) -> Tensor:
        result: Tensor = self.inner.get_output_embeddings()(hidden_BTW) if self._split else hidden_BTW
        return result.float()

    def forward(
        self, tokens_BT: Tensor, targets_BT: Tensor | None = None, reduction: Literal["mean", "sum"] = "mean"
    ) -> Tensor:
        """As in `LanguageModel`; logits are computed only where there is a target.

        The head of GPT-2 is a third of its arithmetic, and of a question with its answer a half has no target.
        """
        hidden_BTW = self.hidden(tokens_BT)
        if targets_BT is None:
            return self.logits(hidden_BTW)
        targets_N = targets_BT.flatten()
        hidden_NW = hidden_BTW.flatten(0, 1)
        if not torch.compiler.is_compiling():  # its shape depends on the data, which a compiler cannot plan for
            wanted_N = targets_N != IGNORED
            hidden_NW, targets_N = hidden_NW[wanted_N], targets_N[wanted_N]
        return functional.cross_entropy(self.logits(hidden_NW), targets_N, ignore_index=IGNORED, reduction=reduction)

    def checkpoint_state(self) -> Mapping[str, Tensor]:
        """What a checkpoint keeps: all weights, or the adapters alone with the fingerprint of their base."""
        state = self.state_dict()
        if not self.adapted:
            return state
        return {name: state[name] for name in ["base_fingerprint", *adapters.adapter_names(self)]}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As in torch.

        Raises:
            UserError: the adapters belong to another base model.
        """
        stored = state_dict.get("base_fingerprint")
        if self.adapted and stored is not None and not torch.equal(stored.cpu(), self.base_fingerprint.cpu()):
            raise UserError(
                f"These adapters were trained on another model than the one at {self.path}; set model.path to the "
                "model that they belong to."
            )
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def _probe(self) -> Tensor:
        """A few tokens, (2, T): two rows that differ in the last one."""
        generator = torch.Generator().manual_seed(0)
        tokens_BT = torch.randint(self.vocabulary, (1, min(PROBE_TOKENS, self.context)), generator=generator)
        tokens_BT = tokens_BT.repeat(2, 1)
        tokens_BT[1, -1] = (tokens_BT[0, -1] + 1) % self.vocabulary
        return tokens_BT

    @torch.no_grad()
    def _head_stands_alone(self) -> bool:
        """Whether logits are the head of the last hidden states: not where they are scaled, capped or transformed."""
        inner = self.inner
        trunk, head = getattr(inner, "base_model", inner), inner.get_output_embeddings()
        if self.masked or trunk is inner or not isinstance(head, nn.Linear):
            return False
        tokens_BT = self._probe()
        training = self.network.training
        self.network.eval()
        whole = inner(input_ids=tokens_BT, use_cache=False).logits
        alone = head(trunk(input_ids=tokens_BT, use_cache=False)[0])
        self.network.train(training)
        return bool((whole - alone).abs().max() <= SAME * whole.abs().max())

    @torch.no_grad()
    def _is_causal(self) -> bool:
        """Whether another last token leaves the logits before it as they are."""
        training = self.network.training
        self.network.eval()
        logits_BTV = self.inner(input_ids=self._probe(), use_cache=False).logits
        self.network.train(training)
        before = logits_BTV[:, :-1]
        return bool((before[0] - before[1]).abs().max() <= SAME * before.abs().max())


def longest_context(settings: Any) -> int | None:
    """Positions that a configuration of transformers allows; None where it sets no limit."""
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length"):
        value = getattr(settings, name, None)
        if isinstance(value, int) and value > 0:
            # RoBERTa's positions begin behind the padding's id, which is 1 (transformers, modeling_roberta.py)
            return value - 2 if settings.model_type in ("roberta", "camembert", "xlm-roberta") else value
    return None


def fingerprint(network: nn.Module) -> Tensor:
    """16 bytes that change with any tensor's name, shape or values, of which it reads a sample; uint8, shape (16,)."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(network.state_dict().items()):
        flat = tensor.detach().cpu().flatten()
        sample = flat[:: max(1, flat.numel() // SAMPLED)].contiguous()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
