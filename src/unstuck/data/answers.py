"""From the data section of a recipe to examples of which only the answers are learned.

One example is one row: padded on the right, where a causal model never looks, so that no example sees another and no
padding is attended; the targets of prompts and padding are ignored. Rows are as long as the longest of their batch.
Packing several examples into a row would need a mask that the models here do not take, so there is none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unstuck.config.sections.answers import AnswersConfig
from unstuck.data.chat import Segment, Template, Turn, make_template
from unstuck.data.conversations import Conversation, read_conversations
from unstuck.data.order import Indices
from unstuck.data.prepare import IGNORED
from unstuck.data.tokenizer import TextTokenizer
from unstuck.errors import UserError
from unstuck.wording import plural

Rows = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

# Rows of a batch end at a multiple of this. Assumption: 16 shapes at a context of 256 are few for a compiler, and half
# of 16 is little padding.
LENGTH_STEP = 16


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Tokens of examples one after another.

    Attributes:
        ids: int32, shape (n,).
        learned: bool, shape (n,): the token is a target.
        starts: int64, shape (examples + 1,): where each begins; the last entry is n.
    """

    ids: npt.NDArray[np.int32]
    learned: npt.NDArray[np.bool_]
    starts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, examples: Iterable[Sequence[Segment]]) -> Examples:
        ids: list[int] = []
        learned: list[bool] = []
        starts = [0]
        for example in examples:
            for segment in example:
                ids += segment.ids
                learned += [segment.learned] * len(segment.ids)
            starts.append(len(ids))
        return cls(np.array(ids, dtype=np.int32), np.array(learned, dtype=np.bool_), np.array(starts, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def rows(self, indices: Indices, padding: int, longest: int) -> Rows:
        """Inputs and targets, int64, each (b, T), T a multiple of `LENGTH_STEP` and no more than `longest`.

        Args:
            indices: of the examples, shape (b,).
            padding: id that fills the inputs behind an example; never attended, never a target.
            longest: tokens of the longest row.
        """
        lengths = self.starts[indices + 1] - self.starts[indices] - 1  # of n tokens the last is no input
        T = min(longest, -(-int(lengths.max(initial=1)) // LENGTH_STEP) * LENGTH_STEP)
        inputs_BT = np.full((len(indices), T), padding, dtype=np.int64)
        targets_BT = np.full((len(indices), T), IGNORED, dtype=np.int64)
        for row, (start, length) in enumerate(zip(self.starts[indices], lengths, strict=True)):
            ids = self.ids[start : start + length + 1]
            inputs_BT[row, :length] = ids[:-1]
            targets_BT[row, :length] = np.where(self.learned[start + 1 : start + length + 1], ids[1:], IGNORED)
        return inputs_BT, targets_BT


@dataclass(frozen=True, slots=True, eq=False)
class AnswerData:
    """Examples ready to train on; the same face as `TextData`.

    Attributes:
        train: training examples.
        validation: held-out examples by source; a topic is never on both sides.
        held_out: the conversations that `validation` is made of, for those who want to hear the model's own answers.
        tokenizer: gives and takes the ids.
        template: how conversations became tokens.
        context: longest row.
        fingerprint: hash of the examples and the tokenizer: the same value means the same data, on any machine.
        notes: what was left out or shortened, one sentence each.
    """

    train: Examples
    validation: dict[str, Examples]
    held_out: tuple[Conversation, ...]
    tokenizer: TextTokenizer
    template: Template
    context: int
    fingerprint: str
    notes: tuple[str, ...] = field(default=())

    @property
    def examples(self) -> int:
        """Training examples, each one row."""
        return len(self.train)

    def rows(self, indices: Indices) -> Rows:
        """Inputs and targets (shifted once, `IGNORED` but for answers) of training examples; see `Examples.rows`."""
        return self.train.rows(np.asarray(indices), self.template.end, self.context)

    def validation_rows(self) -> Mapping[str, Rows]:
        """Inputs and targets of all held-out examples by source."""
        return {
            source: examples.rows(np.arange(len(examples)), self.template.end, self.context)
            for source, examples in self.validation.items()
        }

    def start_row(self) -> dict[str, Any]:
        """Sizes for the `start` event."""
        learned = self.train.ids[self.train.learned]
        counts = np.bincount(learned, minlength=self.tokenizer.vocabulary)
        share = counts[counts > 0] / max(1, len(learned))
        return {
            "vocabulary": self.tokenizer.vocabulary,
            "unigram_entropy": float(-(share * np.log(share)).sum()),
            "train_tokens": len(learned),
        }


def prepare_answers(config: AnswersConfig, *, seed: int = 0, tokenizer: TextTokenizer | None = None) -> AnswerData:
    """Read the conversations that `config` names, split them by topic and turn them into tokens.

    Args:
        config: the data section.
        seed: draws the held-out topics; not the seed of a run, see `unstuck.data.split`.
        tokenizer: of a pretrained model; None: the file that `config.tokenizer` names.

    Raises:
        UserError: nothing to learn from, or a tokenizer that cannot be used.
    """
    tokenizer = tokenizer or TextTokenizer.load(Path(config.tokenizer).expanduser())
    template = make_template(config.template, tokenizer)
    conversations, notes = read_conversations(config.source)
    if config.max_examples is not None:
        conversations = sorted(conversations, key=lambda c: _rank(_topic(c), seed + 1))[: config.max_examples]
    held_out_topics = _held_out_topics(conversations, config.validation_share, seed)

    def trained(conversation: Conversation) -> bool:
        return (conversation.part or "train") == "train" and _topic(conversation) not in held_out_topics

    fitting = Fitting(template, config.context, shorten=config.too_long == "shorten")
    train = Examples.of(fitted for c in conversations if trained(c) and (fitted := fitting.fit(c.turns)))
    validation: dict[str, list[list[Segment]]] = {}
    held_out = []
    for conversation in conversations:
        if not trained(conversation) and (fitted := fitting.fit(conversation.turns)):
            validation.setdefault(conversation.source, []).append(fitted)
            held_out.append(conversation)
    if not len(train) or not validation:
        empty = "validation" if len(train) else "training"
        why = f" ({fitting.dropped:,} are longer than data.context={config.context})" if fitting.dropped else ""
        raise UserError(
            f"Of {plural(len(conversations), 'example')} none is left for {empty}{why}; give more examples, or a "
            "larger data.context."
        )
    sets = {source: Examples.of(found) for source, found in sorted(validation.items())}
    digest = hashlib.blake2b(tokenizer.identity.encode(), digest_size=12)
    for name, examples in {"": train, **sets}.items():
        digest.update(name.encode(errors="surrogateescape"))
        for array in (examples.ids, examples.learned, examples.starts):
            digest.update(array.data)
    notes = [*notes, *fitting.notes(len(conversations))]
    return AnswerData(
        train, sets, tuple(held_out), tokenizer, template, config.context, digest.hexdigest(), tuple(notes)
    )


class Fitting:
    """Makes examples fit a context, and counts what that cost.

    Args:
        template: conversations to tokens.
        context: inputs in the longest row; an example may have one token more.
        shorten: whether prompts may be shortened; else what is too long is dropped.
    """

    def __init__(self, template: Template, context: int, *, shorten: bool) -> None:
        self.template, self.context, self.shorten = template, context, shorten
        self.dropped = self.shortened = 0

    def fit(self, turns: Sequence[Turn]) -> list[Segment] | None:
        """The segments of a conversation; None when it cannot fit without losing a part of its last answer.

        What is too long loses its oldest exchanges first, then the front of what is said before the last answer. The
        end token and the speakers' marks always stay.
        """
        turns = list(turns)
        segments = self.template.example(turns)
        excess = _length(segments) - self.context - 1
        if excess <= 0:
            return segments
        while self.shorten and excess > 0 and (answered := _first_answer(turns)) < len(turns) - 1:
            turns = turns[answered + 1 :]
            segments = self.template.example(turns)
            excess = _length(segments) - self.context - 1
        removable = sum(max(0, len(s.ids) - 1) for s in segments if s.content and not s.learned)
        if not self.shorten or excess > removable:
            self.dropped += 1
            return None
        self.shortened += 1
        fitted = []
        for segment in segments:
            if excess > 0 and segment.content and not segment.learned:
                cut = min(excess, max(0, len(segment.ids) - 1))  # one token of everybody's words stays
                segment = Segment(segment.ids[cut:], content=True)
                excess -= cut
            fitted.append(segment)
        return fitted

    def notes(self, examples: int) -> list[str]:
        """What was dropped or shortened, one sentence each."""
        found = []
        if self.shortened:
            are = "is" if self.shortened == 1 else "are"
            found.append(
                f"{self.shortened:,} of {plural(examples, 'example')} {are} longer than data.context={self.context}: "
                "the front of the prompt was cut."
            )
        if self.dropped:
            were = "was" if self.dropped == 1 else "were"
            found.append(
                f"{self.dropped:,} of {plural(examples, 'example')} {were} dropped: longer than "
                f"data.context={self.context}" + (", even without the prompt." if self.shorten else ".")
            )
        return found


def _length(segments: Iterable[Segment]) -> int:
    return sum(len(segment.ids) for segment in segments)


def _first_answer(turns: Sequence[Turn]) -> int:
    return next(index for index, turn in enumerate(turns) if turn.role == "assistant")


def _held_out_topics(conversations: Sequence[Conversation], share: float, seed: int) -> set[str]:
    """Topics that are not trained on: of the data's own split, else this share of every source, drawn by their hash.

    The first prompt of a conversation is its topic where the data name none, whatever its source, so that copies of it
    are all on one side.
    """
    if any(c.part for c in conversations):
        return {_topic(c) for c in conversations if c.part == "validation"}
    by_source: dict[str, set[str]] = {}
    for conversation in conversations:
        by_source.setdefault(conversation.source, set()).add(_topic(conversation))
    found: set[str] = set()
    for topics in by_source.values():
        ordered = sorted(topics, key=lambda topic: _rank(topic, seed))
        found.update(ordered[: max(1, round(share * len(ordered)))] if len(ordered) > 1 else [])
    return found


def _topic(conversation: Conversation) -> str:
    """The topic that the data name; else what is asked first, without regard to case and blanks.

    That is not what the system says, which many conversations may share.
    """
    if conversation.topic is not None:
        return conversation.topic
    asked = [turn for turn in conversation.turns if turn.role != "assistant"]
    first = next((turn for turn in asked if turn.role == "user"), asked[0])
    return " ".join(first.text.lower().split())


def _rank(prompt: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\0{prompt}".encode(errors="surrogateescape"), digest_size=8).digest()
