"""Our LTG-BERT as a model of `transformers`. Importing this file registers it:

    import unstuck.integrations.transformers
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

    model = AutoModelForMaskedLM.from_pretrained(folder)   # or AutoModelForCausalLM: the hybrid serves as both
    tokenizer = AutoTokenizer.from_pretrained(folder)

The folder (made by `unstuck export RUN FOLDER`) holds no code, and none of it is ever run.

As a masked model, logits at a position are for the token at that position, as everywhere in transformers: LTG-BERT's
own, which are for the token after, are moved by one; the first position, where [CLS] stands, gets zeros.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput, MaskedLMOutput

from unstuck.config.sections.ltg_bert import LtgBertConfig
from unstuck.models.language_model import IGNORED
from unstuck.models.ltg_bert import LtgBert

MODEL_TYPE = "unstuck-ltg-bert"


class LtgBertSettings(PretrainedConfig):  # type: ignore[no-untyped-call]
    """config.json of an LTG-BERT; the names are those that transformers uses elsewhere."""

    model_type = MODEL_TYPE

    def __init__(
        self,
        vocab_size: int = 8192,
        hidden_size: int = 128,
        intermediate_size: int | None = None,
        num_hidden_layers: int = 4,
        num_attention_heads: int = 2,
        position_buckets: int = 32,
        max_position_embeddings: int = 64,
        hidden_dropout_prob: float = 0.0,
        attention_probs_dropout_prob: float = 0.0,
        **further: Any,
    ) -> None:
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        self.intermediate_size, self.position_buckets = intermediate_size, position_buckets
        self.num_hidden_layers, self.num_attention_heads = num_hidden_layers, num_attention_heads
        self.max_position_embeddings = max_position_embeddings
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        super().__init__(**further)

    def section(self) -> LtgBertConfig:
        """The same as a model section of a recipe."""
        return LtgBertConfig(
            layers=self.num_hidden_layers,
            heads=self.num_attention_heads,
            width=self.hidden_size,
            mlp_width=self.intermediate_size,
            position_buckets=self.position_buckets,
            dropout=self.hidden_dropout_prob,
            attention_dropout=self.attention_probs_dropout_prob,
        )


class _LtgBertNetwork(PreTrainedModel):  # type: ignore[no-untyped-call]
    """What both uses share; the weights carry the names that they have in our checkpoints, behind `model.`."""

    config_class = LtgBertSettings
    base_model_prefix = "model"
    _tied_weights_keys = {"model.head.weight": "model.token_embedding.weight"}  # noqa: RUF012 - transformers' own form

    def __init__(self, config: LtgBertSettings) -> None:
        super().__init__(config)
        self.model = LtgBert(
            config.section(),
            vocabulary=config.vocab_size,
            context=config.max_position_embeddings,
            padding=config.pad_token_id,
        )
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> nn.Module:
        table: nn.Module = self.model.token_embedding
        return table

    def get_output_embeddings(self) -> nn.Module:
        head: nn.Module = self.model.head
        return head

    def _init_weights(self, module: nn.Module) -> None:
        """LtgBert has drawn its own."""

    def _tokens(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Ids with padding wherever the mask says that there is nothing to attend to."""
        padding = self.config.pad_token_id
        if attention_mask is None or padding is None:
            return input_ids
        return input_ids.masked_fill(attention_mask == 0, padding)


class LtgBertForMaskedLM(_LtgBertNetwork):  # type: ignore[no-untyped-call]
    """Reads in both directions; labels stand where the hidden tokens stood."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **_: Any,
    ) -> MaskedLMOutput:
        ahead_BTV = self.model(self._tokens(input_ids, attention_mask))
        logits_BTV = torch.cat([torch.zeros_like(ahead_BTV[:, :1]), ahead_BTV[:, :-1]], dim=1)
        return MaskedLMOutput(loss=_loss(logits_BTV, labels), logits=logits_BTV)


class LtgBertForCausalLM(_LtgBertNetwork):  # type: ignore[no-untyped-call]
    """Reads from left to right; labels are the ids themselves, shifted in here, as everywhere in transformers."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **_: Any,
    ) -> CausalLMOutput:
        logits_BTV = self.model(self._tokens(input_ids, attention_mask), causal_rows=len(input_ids))
        loss = _loss(logits_BTV[:, :-1], None if labels is None else labels[:, 1:])
        return CausalLMOutput(loss=loss, logits=logits_BTV)


def _loss(logits_BTV: Tensor, labels_BT: Tensor | None) -> Tensor | None:
    if labels_BT is None:
        return None
    return functional.cross_entropy(logits_BTV.flatten(0, 1), labels_BT.flatten(), ignore_index=IGNORED)


@torch.no_grad()
def network_of_ltg_bert(model: LtgBert) -> LtgBertForMaskedLM:
    """Our model, with its weights, as the network that `save_pretrained` writes; in evaluation mode."""
    first: Any = model.blocks[0]
    settings = LtgBertSettings(
        vocab_size=model.vocabulary,
        hidden_size=model.token_embedding.embedding_dim,
        intermediate_size=first.down.in_features,
        num_hidden_layers=len(model.blocks),
        num_attention_heads=first.heads,
        position_buckets=model.bucket_count,
        max_position_embeddings=model.context,
        hidden_dropout_prob=model.dropout,
        attention_probs_dropout_prob=first.attention_dropout,
        pad_token_id=model.padding,
        tie_word_embeddings=True,
    )
    network = LtgBertForMaskedLM(settings)
    network.model.load_state_dict(model.state_dict())
    network.train(False)
    return network


AutoConfig.register(MODEL_TYPE, LtgBertSettings)
AutoModelForMaskedLM.register(LtgBertSettings, LtgBertForMaskedLM)
AutoModelForCausalLM.register(LtgBertSettings, LtgBertForCausalLM)
