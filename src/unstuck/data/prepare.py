"""From the data section of a recipe to token arrays: read, split, tokenise, cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unstuck.config.sections.text import TextConfig
from unstuck.data.cache import cache_folder, discard, store, touch
from unstuck.data.chat import CHAT_TOKENS
from unstuck.data.corpus import builtin_corpus, builtin_identity
from unstuck.data.documents import Corpus, content_hash, find_files, read_documents
from unstuck.data.hub import PREFIX, hub_corpus, identity, load_splits, parse_hub
from unstuck.data.licence import clean_documents
from unstuck.data.order import Indices
from unstuck.data.split import Piece, Split, shorten, split
from unstuck.data.tokenizer import CharacterTokenizer, Ids, SubwordTokenizer, TextTokenizer
from unstuck.errors import UserError
from unstuck.wording import plural

IGNORED = -100  # the target that no loss counts, as in torch

# Raise when the same text and settings give other tokens, so that cached ones are not taken.
FORM = 2


@dataclass(frozen=True, slots=True, eq=False)
class TextData:
    """Tokenised text, ready to train on.

    Attributes:
        train_tokens: shape (n,), uint16 or int32; documents in order, each followed by the end-of-text token.
        context: tokens a window predicts.
        validation: tokens by source, each shape (m,) with m >= 2.
        tokenizer: gives and takes ids below `vocabulary`.
        unigram_entropy: of the training tokens, nats per token: the loss of the best model that ignores its input.
        sources: characters by source, training and validation together.
        fingerprint: hash of the tokens and the tokenizer: the same value means the same data, on any machine.
        notes: what was left out or decided, one sentence each.
    """

    train_tokens: Ids
    context: int
    validation: dict[str, Ids]
    tokenizer: TextTokenizer
    unigram_entropy: float
    sources: dict[str, int]
    fingerprint: str
    notes: tuple[str, ...] = field(default=())

    @property
    def vocabulary(self) -> int:
        """Number of token ids V."""
        return self.tokenizer.vocabulary

    @property
    def examples(self) -> int:
        """Windows in one epoch. Each training token but the first few is a target exactly once in it."""
        return (len(self.train_tokens) - 1) // self.context

    @property
    def validation_tokens(self) -> int:
        """Validation tokens of all sources."""
        return sum(map(len, self.validation.values()))

    def rows(self, indices: Indices) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Inputs and targets of windows by index, int64, each (b, context)."""
        windows = self.window(indices)
        return windows[:, :-1], windows[:, 1:]

    def validation_rows(self) -> dict[str, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Inputs and targets of all validation windows by source, each (w, context); see `windows_of`."""
        return {source: windows_of(tokens, self.context) for source, tokens in self.validation.items()}

    def start_row(self) -> dict[str, Any]:
        """Sizes for the `start` event."""
        return {
            "vocabulary": self.vocabulary,
            "unigram_entropy": self.unigram_entropy,
            "train_tokens": len(self.train_tokens),
        }

    def window(self, indices: Indices) -> npt.NDArray[np.int64]:
        """Windows by index, int64, shape (b, context + 1): inputs are [:, :-1], targets (shifted once) are [:, 1:].

        Window i covers tokens i * context ... (i + 1) * context. Its last token is the first input of the next window,
        so that inputs do not overlap, targets do not overlap, and no token in between is left unpredicted.
        """
        places = np.asarray(indices)[:, None] * self.context + np.arange(self.context + 1)
        taken: npt.NDArray[np.int64] = self.train_tokens[places].astype(np.int64)
        return taken


def prepare(
    config: TextConfig, *, seed: int = 0, context: int | None = None, tokenizer: TextTokenizer | None = None
) -> TextData:
    """Read, split and tokenise what `config` names; a second call with the same text and settings reads a cache.

    Args:
        config: the data section.
        seed: draws the validation documents. Not the seed of a run: runs with other seeds must be validated on the
            same text, and a run that goes on from another's weights must not meet its validation text in training.
        context: tokens in a window; None: `config.context`.
        tokenizer: of a pretrained model; None: the one that `config.tokenizer` names.

    Raises:
        UserError: no text, too little text, or a tokenizer that cannot be used.
    """
    context = config.context if context is None else context
    key, read = _identify(config, seed, tokenizer)
    folder = cache_folder("tokens")
    data = _load(folder, key)
    if data is None:
        data = read()
        store(folder, key, lambda target: _write(target, data))
    if len(data.train_tokens) <= context:
        raise UserError(
            f"The training text has {plural(len(data.train_tokens), 'token')}, too few for one window of "
            f"data.context={context}; give more text or a smaller data.context."
        )
    return replace(data, context=context)


def _identify(config: TextConfig, seed: int, foreign: TextTokenizer | None) -> tuple[str, Any]:
    """A key of everything that the tokens depend on, and a function that makes them."""
    if foreign is None and config.tokenizer not in ("char", "bpe", "wordpiece"):
        foreign = TextTokenizer.load(Path(config.tokenizer).expanduser())
    origin, read_corpus = _corpus(config)

    def read() -> TextData:
        return _make(config, seed, read_corpus(), foreign)

    depends = [FORM, origin, seed, config.validation_share, config.validation_split, config.max_characters]
    depends.append(foreign.identity if foreign else config.tokenizer)
    depends.append([config.vocabulary, config.chat_tokens] if config.tokenizer == "bpe" else None)
    depends.append([config.vocabulary, config.lowercase] if config.tokenizer == "wordpiece" else None)
    depends.append(config.remove_licences)
    return hashlib.blake2b(json.dumps(depends).encode(), digest_size=12).hexdigest(), read


def _corpus(config: TextConfig) -> tuple[str, Callable[[], Corpus]]:
    """What identifies the text that `data.source` names, and a function that reads it."""
    if config.source == "builtin":
        return builtin_identity(), builtin_corpus
    if config.source.startswith(PREFIX):
        name = parse_hub(config.source)
        splits = load_splits(name)
        return identity(name, splits), lambda: hub_corpus(name, splits)
    if not config.source:
        raise UserError("data.source is empty; it is builtin, a text file or a folder of text files.")
    files, notes = find_files(Path(config.source).expanduser(), config.sources)

    def read() -> Corpus:
        corpus = read_documents(files)
        return Corpus(corpus.documents, notes + corpus.notes)

    return content_hash(files) + "".join(notes), read


def _make(config: TextConfig, seed: int, corpus: Corpus, foreign: TextTokenizer | None) -> TextData:
    documents, notes = corpus.documents, list(corpus.notes)
    if config.remove_licences and config.source != "builtin":
        documents, cut = clean_documents(documents)
        notes += cut
    if config.max_characters is not None:
        documents = shorten(documents, config.max_characters, seed)
    sources: dict[str, int] = {}
    for document in documents:
        sources[document.source] = sources.get(document.source, 0) + len(document.text)
    parts = split(documents, share=config.validation_share, mode=config.validation_split, seed=seed)
    notes += parts.notes
    tokenizer = foreign or _tokenizer(config, parts, several=len(documents) > 1)
    if config.tokenizer == "bpe" and tokenizer.vocabulary < config.vocabulary:
        notes.append(
            f"The text gives {tokenizer.vocabulary} BPE tokens, fewer than data.vocabulary={config.vocabulary}."
        )
    if config.chat_tokens and any(tokenizer.token_id(token) is None for token in CHAT_TOKENS):
        notes.append("data.chat_tokens has no effect: only data.tokenizer=bpe reserves them.")
    if len(documents) > 1 and tokenizer.end_of_text is None:
        notes.append("The tokenizer has no end-of-text token: documents follow each other without a mark.")
    train = _encode(tokenizer, parts.train)
    validation = {source: _encode(tokenizer, pieces) for source, pieces in sorted(parts.validation.items())}
    short = [source for source, tokens in validation.items() if len(tokens) < 2]
    validation = {source: tokens for source, tokens in validation.items() if source not in short}
    if short:
        notes.append(f"No validation on {', '.join(short[:5])}: fewer than 2 tokens are held out.")
    if len(train) < 2 or not validation:
        raise UserError("The text is too short to train and validate on; give more text.")
    digest = hashlib.blake2b(tokenizer.identity.encode(), digest_size=12)
    for source, tokens in {"": train, **validation}.items():
        digest.update(f"{source}\0{tokens.dtype}\0{len(tokens)}\0".encode(errors="surrogateescape"))
        digest.update(np.ascontiguousarray(tokens).data)
    entropy = unigram_entropy(train, tokenizer.vocabulary)
    return TextData(train, config.context, validation, tokenizer, entropy, sources, digest.hexdigest(), tuple(notes))


def _tokenizer(config: TextConfig, parts: Split, several: bool) -> TextTokenizer:
    """A new tokenizer: BPE learned from the training text only, or all characters of the text."""
    train = [piece.text for piece in parts.train]
    if config.tokenizer == "bpe":
        return SubwordTokenizer.train(train, config.vocabulary, CHAT_TOKENS if config.chat_tokens else ())
    if config.tokenizer == "wordpiece":
        return SubwordTokenizer.train_wordpiece(train, config.vocabulary, lowercase=config.lowercase)
    held_out = [piece.text for pieces in parts.validation.values() for piece in pieces]
    # A text that is one document has no end to learn: nanoGPT's vocabulary of 65 stays 65.
    return CharacterTokenizer.of(train + held_out, end_of_text=several)


def _encode(tokenizer: TextTokenizer, pieces: list[Piece]) -> Ids:
    texts = [piece.text for piece in pieces]
    if isinstance(tokenizer, SubwordTokenizer):
        encoded = tokenizer.encode_all(texts)
    else:
        encoded = [tokenizer.encode(text) for text in texts]
    end = np.array([] if tokenizer.end_of_text is None else [tokenizer.end_of_text], dtype=tokenizer.dtype)
    arrays: list[Any] = []
    for piece, ids in zip(pieces, encoded, strict=True):
        arrays.append(ids)
        if piece.ends and len(end):
            arrays.append(end)
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=tokenizer.dtype)


def windows_of(tokens: Ids, context: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Non-overlapping windows of a text, (w, context) inputs and targets.

    Every token but the first is a target exactly once. The last window is filled with ignored targets, which a causal
    model never looks back from.
    """
    targets = len(tokens) - 1
    windows = -(-targets // context)
    inputs_WT = np.zeros(windows * context, dtype=np.int64)
    targets_WT = np.full(windows * context, IGNORED, dtype=np.int64)
    inputs_WT[:targets], targets_WT[:targets] = tokens[:-1], tokens[1:]
    return inputs_WT.reshape(windows, context), targets_WT.reshape(windows, context)


def unigram_entropy(tokens: Ids, vocabulary: int) -> float:
    """Entropy of the tokens' frequencies, nats per token."""
    counts = np.bincount(tokens, minlength=vocabulary)
    share = counts[counts > 0] / len(tokens)
    return float(-(share * np.log(share)).sum())


def _write(target: Path, data: TextData) -> None:
    np.save(target / "train.npy", data.train_tokens)
    for index, tokens in enumerate(data.validation.values()):
        np.save(target / f"validation-{index}.npy", tokens)
    data.tokenizer.save(target)
    meta = {
        "validation": list(data.validation),
        "sources": data.sources,
        "unigram_entropy": data.unigram_entropy,
        "fingerprint": data.fingerprint,
        "notes": data.notes,
    }
    (target / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def _load(folder: Path | None, key: str) -> TextData | None:
    if folder is None or not (folder / key).is_dir():
        return None
    entry = folder / key
    try:
        meta = json.loads((entry / "meta.json").read_text(encoding="utf-8"))
        data = TextData(
            train_tokens=np.load(entry / "train.npy", allow_pickle=False),
            context=1,
            validation={
                source: np.load(entry / f"validation-{index}.npy", allow_pickle=False)
                for index, source in enumerate(meta["validation"])
            },
            tokenizer=TextTokenizer.load(entry),
            unigram_entropy=meta["unigram_entropy"],
            sources=meta["sources"],
            fingerprint=meta["fingerprint"],
            notes=tuple(meta["notes"]),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, UserError):
        discard(folder, key)
        return None
    touch(entry)
    return data
