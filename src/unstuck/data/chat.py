"""Conversations as tokens: what is said by whom, and which tokens are learned.

Two templates. `chat` marks the speakers by tokens of their own, which pretraining reserves (`data.chat_tokens`), so
that fine-tuning resizes nothing:

    <|user|>What is a list?<|assistant|>A mutable sequence.<|endoftext|>

`plain` writes them in words, for tokenizers without such tokens:

    Question: What is a list?
    Answer: A mutable sequence.<|endoftext|>

Learned are the answers, each with its end token; nothing else. The end token is how a model learns to stop: incident
I0 never appended one. Each part is encoded by itself, so that a prompt gives the same tokens in training and when text
is generated; and text that contains the name of a special token is encoded as text, never as that token.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from unstuck.errors import UserError

USER, ASSISTANT, SYSTEM = "<|user|>", "<|assistant|>", "<|system|>"
CHAT_TOKENS = (USER, ASSISTANT, SYSTEM)
# Besides the tokenizer's own: text that was made for another model's chat.
SPECIAL_NAME = re.compile(r"<\|\w+\|>|</?s>|<(?:eos|bos|pad|unk|mask)>|\[(?:EOS|BOS|SEP|CLS|PAD|MASK|UNK)\]")

Role = Literal["system", "user", "assistant"]


class Encoder(Protocol):
    """What a template needs of a tokenizer: ours, or any other's in a coat."""

    end_of_text: int | None

    def encode(self, text: str, /) -> Iterable[Any]:
        """Integer ids of a text, without special tokens."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens of one kind.

    Attributes:
        ids: token ids.
        learned: whether they are targets.
        content: whether they are somebody's words, which may be shortened, or structure, which may not.
    """

    ids: tuple[int, ...]
    learned: bool = False
    content: bool = False


class Template(ABC):
    """Turns to tokens.

    Args:
        tokenizer: must have an end token.

    Raises:
        UserError: it has none, so that no answer could learn to end.
    """

    name: str

    def __init__(self, tokenizer: Encoder) -> None:
        if tokenizer.end_of_text is None:
            raise UserError(
                "The tokenizer has no end-of-text token, so a model could not learn to end its answers; pretrain with "
                "data.tokenizer=bpe, or name another tokenizer with data.tokenizer=PATH."
            )
        self.tokenizer = tokenizer
        self.end = int(tokenizer.end_of_text)
        own = sorted(
            (name for name in getattr(tokenizer, "special_tokens", ()) if len(name) > 1), key=len, reverse=True
        )
        self.special_name = re.compile("|".join([*map(re.escape, own), SPECIAL_NAME.pattern]))

    @abstractmethod
    def turn(self, turn: Turn) -> list[Segment]:
        """One turn, an answer with its end token."""

    @abstractmethod
    def opening(self) -> tuple[int, ...]:
        """What makes the model answer."""

    def example(self, turns: Sequence[Turn]) -> list[Segment]:
        """A whole conversation."""
        return [segment for turn in turns for segment in self.turn(turn)]

    def prompt(self, turns: Sequence[Turn]) -> list[int]:
        """The tokens after which the model's next answer begins; the same as in `example`."""
        return [i for segment in self.example(turns) for i in segment.ids] + list(self.opening())

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of somebody's words: the name of a special token is cut in two, so that it is read as characters."""
        ids: list[int] = []
        place = 0
        for name in self.special_name.finditer(text):
            ids += map(int, self.tokenizer.encode(text[place : name.start() + 1]))
            place = name.start() + 1
        return (*ids, *map(int, self.tokenizer.encode(text[place:])))


class ChatTemplate(Template):
    """Speakers marked by tokens, see the module docstring."""

    name = "chat"

    def __init__(self, tokenizer: Encoder) -> None:
        super().__init__(tokenizer)
        marks = {name: token_id(tokenizer, name) for name in CHAT_TOKENS}
        missing = [name for name, found in marks.items() if found is None]
        if missing:
            raise UserError(
                f"The tokenizer has no {' '.join(missing)}, so data.template=chat cannot be used: pretrain with "
                "data.chat_tokens=true, or use data.template=plain."
            )
        self.marks = {name: (int(found),) for name, found in marks.items() if found is not None}

    def turn(self, turn: Turn) -> list[Segment]:
        if turn.role == "assistant":
            answer = Segment((*self.encode(turn.text), self.end), learned=True, content=True)
            return [Segment(self.opening()), answer]
        mark = self.marks[USER if turn.role == "user" else SYSTEM]
        return [Segment(mark), Segment(self.encode(turn.text), content=True)]

    def opening(self) -> tuple[int, ...]:
        return self.marks[ASSISTANT]


class PlainTemplate(Template):
    """Speakers marked by words, see the module docstring."""

    name = "plain"

    def turn(self, turn: Turn) -> list[Segment]:
        if turn.role == "assistant":
            answer = Segment((*self.encode(" " + turn.text), self.end), learned=True, content=True)
            return [Segment(self.opening()), answer]
        if turn.role == "system":
            return [Segment(self.encode(turn.text), content=True), Segment(self.encode("\n"))]
        return [Segment(self.encode("Question:")), Segment(self.encode(" " + turn.text), content=True)]

    def opening(self) -> tuple[int, ...]:
        return self.encode("\nAnswer:")


def make_template(name: Literal["auto", "chat", "plain"], tokenizer: Encoder) -> Template:
    """The template of that name; auto: chat where the tokenizer has its tokens, else plain.

    Raises:
        UserError: the tokenizer lacks what the template needs.
    """
    if name == "auto":
        known = all(token_id(tokenizer, mark) is not None for mark in CHAT_TOKENS)
        name = "chat" if known else "plain"
    return ChatTemplate(tokenizer) if name == "chat" else PlainTemplate(tokenizer)


def token_id(tokenizer: Any, name: str) -> int | None:
    """The id of a special token; None where the tokenizer does not know it, or has no way to ask."""
    find = getattr(tokenizer, "token_id", None)
    found = None if find is None else find(name)
    return None if found is None else int(found)
