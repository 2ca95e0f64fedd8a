"""What a loss means: ln V of a vocabulary, what token frequencies give, where well-known pretrained models start.

Read from `data/reference_losses.json`, whose `about` says what each field means; every row has its source and how it
was checked. `docs/scales.md` prints the tables. `known_models.py` looks them up for a run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from unstuck.diagnose.tables import table

# An untrained model starts between ln V and 3 % above it: its logits have a standard deviation of at most 0.8
# (ln V + s^2 / 2 at ln V = 10).
FRESH_ABOVE = 0.03


@dataclass(frozen=True, slots=True)
class Loss:
    """A published or measured loss of one model on one text."""

    text: str
    value: float
    unit: str
    source: str
    checked: str

    @property
    def nats_per_token(self) -> float | None:
        """None where the unit cannot be turned into it without the tokenizer."""
        if self.unit == "nats/token":
            return self.value
        return math.log(self.value) if self.unit == "perplexity/token" else None


@dataclass(frozen=True, slots=True)
class Model:
    """A well-known pretrained model (or a family that shares a vocabulary, then without losses)."""

    name: str
    names: tuple[str, ...]
    tokenizer: str
    vocabulary: int
    parameters: float | None
    objective: str
    source: str
    checked: str
    losses: tuple[Loss, ...]

    @property
    def known(self) -> Loss | None:
        """Its first loss that is one per token."""
        return next((loss for loss in self.losses if loss.nats_per_token is not None), None)


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A tokenizer by name and by the vocabularies that only it has."""

    name: str
    label: str
    names: tuple[str, ...]
    vocabularies: tuple[int, ...]
    source: str
    checked: str


@dataclass(frozen=True, slots=True)
class Level:
    """Nats per token that frequencies (unigram) and pairs (bigram) give on one text, and its bytes per token."""

    tokenizer: str
    text: str
    unigram: float
    bigram: float
    bytes_per_token: float


@dataclass(frozen=True, slots=True)
class Start:
    """Shares of ln V at which a pretrained model starts on one text; see `about` in the data file."""

    text: str
    kind: str
    context: int
    trained: float
    shifted_twice: float
    other_ids: float


@dataclass(frozen=True, slots=True)
class Bound:
    """A level that is lowest, or that knowing nothing gives."""

    name: str
    value: float
    unit: str
    source: str
    checked: str


@cache
def models() -> tuple[Model, ...]:
    """Every pretrained model of the data file."""
    return tuple(
        Model(row["name"], tuple(row["names"]), row["tokenizer"], row["vocabulary"], row.get("parameters"),
              row["objective"], row["source"], row["checked"], tuple(Loss(**loss) for loss in row["losses"]))
        for row in table("reference_losses")["models"]
    )  # fmt: skip


@cache
def tokenizers() -> tuple[Tokenizer, ...]:
    """Every tokenizer of the data file."""
    return tuple(
        Tokenizer(row["name"], row["label"], tuple(row["names"]), tuple(row["vocabularies"]), row["source"],
                  row["checked"])
        for row in table("reference_losses")["tokenizers"]
    )  # fmt: skip


@cache
def levels() -> tuple[Level, ...]:
    """Every measured level of frequencies."""
    return tuple(Level(**row) for row in table("reference_losses")["levels"])


@cache
def starts() -> tuple[Start, ...]:
    """Every measured start of a pretrained model."""
    return tuple(Start(**row) for row in table("reference_losses")["starts"])


@cache
def bounds() -> tuple[Bound, ...]:
    """Lowest losses on text and the levels of knowing nothing."""
    return tuple(Bound(**row) for row in table("reference_losses")["bounds"])


def plain_name(written: str) -> str:
    """`meta-llama/Llama-2-7b-hf` -> `llama-2-7b-hf`: lower case, without owner or folder, "-" for "_"."""
    return written.strip().strip("'\"").rstrip("/").rpartition("/")[2].lower().replace("_", "-")


def find_model(written: str) -> Model | None:
    """The pretrained model of that name; None where it is not known."""
    return _model_names().get(plain_name(written))


def find_tokenizer(written: str | int) -> Tokenizer | None:
    """The tokenizer of that name, of the model of that name, or of that vocabulary; None where it is not known."""
    if isinstance(written, int):
        return next((t for t in tokenizers() if written in t.vocabularies), None)
    name = plain_name(written)
    found = next((t for t in tokenizers() if name in t.names), None)
    model = find_model(written)
    if found is None and model is not None:
        found = next((t for t in tokenizers() if t.name == model.tokenizer), None)
    return found


@cache
def _model_names() -> dict[str, Model]:
    return {name: model for model in models() for name in model.names}


def most_of_frequencies() -> float:
    """The highest level of frequencies measured, in any tokenizer and on any text, nats per token."""
    return max(level.unigram for level in levels())


def fresh_vocabularies(loss: float) -> tuple[int, ...]:
    """Common vocabularies whose untrained model would start at this loss: evidence, never a proof."""
    sizes = sorted({size for tokenizer in tokenizers() for size in tokenizer.vocabularies[:1]})
    return tuple(size for size in sizes if 0 <= loss / math.log(size) - 1 <= FRESH_ABOVE)


def bytes_per_token(vocabulary: int) -> float:
    """Bytes of English that one token of a vocabulary of this size stands for, about.

    Interpolated in ln V between the measured tokenizers, each at its longest; 1 at 256 ids and below.
    """
    longest: dict[int, float] = {}
    for tokenizer in tokenizers():
        own = [level.bytes_per_token for level in levels() if level.tokenizer == tokenizer.name]
        longest[tokenizer.vocabularies[0]] = max(own)
    sizes = sorted(longest)
    return float(np.interp(math.log(vocabulary), np.log(sizes), [longest[size] for size in sizes]))


SMALLEST = 1e5


def lowest_loss(vocabulary: int, parameters: float | None) -> float:
    """Nats per token that a model of this many parameters reaches on prose with unlimited data (None: any size).

    Hoffmann et al., arXiv 2203.15556, whose tokens have about 4.4 bytes. Their models begin at 44 million parameters;
    carried down to 1e5 the law gives 2.2 nats for a character, where such models reach 1.9 (our gpt-char): near enough
    for a bound that is used at 0.3 of itself, and no smaller size is believed.
    """
    law = table("reference_losses")["lowest"]
    size = max(parameters, SMALLEST) if parameters else None
    per_token = law["floor"] + (law["coefficient"] / size ** law["exponent"] if size else 0.0)
    return float(per_token * bytes_per_token(vocabulary) / law["bytes_per_token"])
