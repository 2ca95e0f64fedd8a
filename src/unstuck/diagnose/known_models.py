"""The pretrained model, the tokenizer and the vocabulary that a run names, and what they say about its loss.

A model is known by its name in the settings, or in a line that says that its weights are loaded; nothing is guessed
from a loss alone. The data: `reference_losses.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from unstuck.diagnose.case import Case
from unstuck.diagnose.reference_losses import Model, find_model, find_tokenizer, levels
from unstuck.runs import Setting, Source

# Keys that name the weights a run starts from, by their last part; `..._model_name` as well.
MODEL_KEYS = ("model_name_or_path", "pretrained_model_name_or_path", "base_model_name_or_path", "base_model",
              "init_from", "_name_or_path", "name_or_path", "model_name", "pretrained_model", "model_path",
              "pretrained", "checkpoint", "model")  # fmt: skip
TOKENIZER_KEYS = ("tokenizer_name_or_path", "tokenizer_name", "tokenizer", "tokenizer_path", "tokenizer_type",
                  "encoding", "config_name")  # fmt: skip
# A line that says that weights are read: nanoGPT's "loading weights from pretrained gpt: gpt2", "Loading gpt2 from
# HuggingFace", "Initializing from OpenAI GPT-2 weights: gpt2".
LOADS = re.compile(r"\b(?:loading|loaded|initiali[sz]ing from|from_pretrained)\b", re.IGNORECASE)
SAYS = frozenset({"start", "note"})  # kinds of events whose text may be such a line
MOST_EVENTS, MOST_CHARACTERS = 200, 300  # ours: such lines stand at the head of a log and are short
WORD = re.compile(r"[A-Za-z0-9][\w./-]*")
# A vocabulary set to within 2 % of the model's is the model's, padded or with a few tokens added (GPT-2's 50,257 is
# padded to 50,304; Vicuna adds one); further off it is another tokenizer, and the model's losses say nothing.
SAME_VOCABULARY = 0.02
LETTERS, BYTES = 27, 256  # Shannon's alphabet; every byte
CODE = "Python source"  # of the texts measured the one that is no prose


@dataclass(frozen=True, slots=True)
class Named:
    """The model that a run starts from, and where it is named."""

    model: Model
    where: Source | None


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The number of token ids of a run; `says` names the source where it was inferred, "" where it was set."""

    size: int
    says: str = ""


@dataclass(frozen=True, slots=True)
class Frequencies:
    """What token frequencies give on English text in a run's tokenizer, nats per token."""

    low: float
    high: float
    says: str


def model_of(case: Case) -> Named | None:
    """The well-known model that the run names as its start; None where none is named, or where its vocabulary differs.

    A fresh model of a known shape has none of the weights and is not one.
    """
    if case.start == "fresh":
        return None
    found = next(_named(case, MODEL_KEYS, "model_name"), None) or _loaded(case)
    vocabulary = case.setting("vocabulary")
    if found is None or (vocabulary and abs(vocabulary / found.model.vocabulary - 1) > SAME_VOCABULARY):
        return None
    return found


def start_of(case: Case) -> str | None:
    """`case.start`; where no setting says it, `pretrained` when the log says that a known model is loaded."""
    return case.start or ("pretrained" if _loaded(case) is not None else None)


def _named(case: Case, keys: tuple[str, ...], suffix: str) -> Iterator[Named]:
    """Known models by the settings of those keys, in the order of the keys."""
    by_leaf = {key.rpartition(".")[2].lstrip("-").lower(): setting for key, setting in case.run.raw_settings.items()}
    wanted = [key for key in keys if key in by_leaf] + [key for key in by_leaf if key.endswith("_" + suffix)]
    for key in wanted:
        setting = by_leaf[key]
        model = find_model(setting.value) if isinstance(setting.value, str) else None
        if model is not None:
            yield Named(model, setting.source)


def _loaded(case: Case) -> Named | None:
    """The known model whose weights a line at the head of the log says to load."""
    for event in case.run.events[:MOST_EVENTS]:
        text = event.text[:MOST_CHARACTERS]
        if event.kind not in SAYS or not LOADS.search(text):
            continue
        model = next((m for word in WORD.findall(text) if (m := find_model(word.rstrip("."))) is not None), None)
        if model is not None:
            return Named(model, event.source)
    return None


def vocabulary_of(case: Case) -> Vocabulary | None:
    """The run's vocabulary: as set, else of the model or tokenizer that it names; None where nothing says."""
    written = case.setting("vocabulary")
    if written:
        return Vocabulary(int(written)) if written > 1 else None
    named = model_of(case)
    if named is not None:
        model = named.model
        return Vocabulary(model.vocabulary, f"{model.name} has {model.vocabulary:,} ids ({model.source})")
    by_last: dict[str, Setting] = {}
    for key, one in case.run.raw_settings.items():
        by_last.setdefault(key.rpartition(".")[2].lower(), one)
    for key in TOKENIZER_KEYS:
        setting = by_last.get(key)
        value = setting.value if setting is not None else None
        shape = find_model(value) if isinstance(value, str) else None
        if shape is not None:
            return Vocabulary(shape.vocabulary, f"{shape.name} has {shape.vocabulary:,} ids ({shape.source})")
        found = find_tokenizer(value) if isinstance(value, str) else None
        if found is not None and found.name != "characters":  # the number of characters is the text's
            size = found.vocabularies[0]
            return Vocabulary(size, f"the {found.label} has {size:,} ids ({found.source})")
    return None


def chance_of(case: Case) -> float | None:
    """ln V of a language model, also where the vocabulary follows from the model's or tokenizer's name."""
    if case.setting("task") in ("regression", "classification") or case.classes is not None:
        return None
    vocabulary = vocabulary_of(case)
    return None if vocabulary is None else math.log(vocabulary.size)


def pairs_of_tokens(case: Case) -> tuple[float, float, str] | None:
    """The lowest that pairs and that frequencies of tokens give on English prose in this run's tokenizer, and its name.

    Nats per token. A vocabulary of 27 (letters and a blank) to 256 ids is one of characters or bytes. None where the
    tokenizer was not measured.
    """
    vocabulary = vocabulary_of(case)
    if vocabulary is None:
        return None
    found = find_tokenizer("characters" if LETTERS <= vocabulary.size <= BYTES else vocabulary.size)
    own = [level for level in levels() if found is not None and level.tokenizer == found.name and level.text != CODE]
    if found is None or not own:
        return None
    return min(level.bigram for level in own), min(level.unigram for level in own), found.label


def frequencies_of(case: Case) -> Frequencies | None:
    """What token frequencies give on English text in this run's tokenizer; None where it was not measured."""
    vocabulary = vocabulary_of(case)
    found = None if vocabulary is None else find_tokenizer(vocabulary.size)
    if found is None:
        return None
    values = [level.unigram for level in levels() if level.tokenizer == found.name and level.text != CODE]
    says = (
        f"{min(values):.3g} to {max(values):.3g} on three English texts in the {found.label} (measured, docs/scales.md)"
    )
    return Frequencies(min(values), max(values), says)
