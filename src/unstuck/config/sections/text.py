"""`data.kind: text`: windows of a text corpus."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from unstuck.config.sections.base import Section


class TextConfig(Section):
    kind: Literal["text"] = Field("text", description="windows of a text corpus")
    source: str = Field(
        "builtin",
        description="builtin (the documentation that ships with Python), a text file, a folder of text files, or "
        "hub:OWNER/NAME[:COLUMN] (a data set of the Hugging Face hub, or of a folder in its form)",
    )
    sources: Literal["folders", "files"] = Field(
        "folders",
        description="what validation is drawn from and reported by: each top-level folder, or each file (a few books)",
    )
    remove_licences: bool = Field(
        True, description="cut licences, headers, footers and production credits off books (Project Gutenberg's forms)"
    )
    tokenizer: str = Field(
        "char",
        description="char, bpe or wordpiece (trained on the training text), from-start (of the run that start_from "
        "names), from-model (of a pretrained model) or a path of a tokenizer.json",
    )
    vocabulary: int = Field(
        4096, ge=16, description="size of the BPE or WordPiece vocabulary; the character tokenizer ignores it"
    )
    lowercase: bool = Field(False, description="wordpiece: small letters without accents only (BERT uncased)")
    chat_tokens: bool = Field(
        False,
        description="bpe: reserve the tokens <|user|>, <|assistant|> and <|system|>, so that chat fine-tuning needs no "
        "new ones",
    )
    context: int = Field(64, ge=2, description="tokens in one window; windows do not overlap")
    validation_share: float = Field(0.1, gt=0, lt=1, description="share of the text held out for validation")
    validation_split: Literal["document", "pieces", "tail"] = Field(
        "document",
        description="document: whole documents of every source, drawn by seed; pieces: pieces of every document, drawn "
        "by seed (for a few long ones); tail: the last part of each source (nanoGPT's split)",
    )
    max_characters: int | None = Field(None, ge=1000, description="use at most so many characters; null: all")
