"""Tokenizers behind one face: characters, or any `tokenizers` JSON file (ours are byte-level BPE).

Both are saved as one JSON file named `tokenizer.json`, and beside it, where its end token cannot be guessed from it, a
small one that names that; nothing is pickled.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unstuck.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids = npt.NDArray[np.integer[Any]]  # uint16 or int32

FILE_NAME = "tokenizer.json"
END_FILE_NAME = "tokenizer-end.json"  # {"end_of_text": "<|im_end|>"}
END_OF_TEXT = "<|endoftext|>"  # GPT-2's name for it
KNOWN_END_TOKENS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[EOS]", "[SEP]")
BYTE_ALPHABET = 256
# Measured on 56 MB of classic books, 8192 ids: learning from 5 MB takes 1.6 s of CPU and gives 0.6 % more validation
# tokens than learning from 20 MB, which takes 9.8 s.
BPE_TRAINING_CHARACTERS = 5_000_000
# A piece of text that is encoded at once, so that the library's record of each token is not held for the whole text.
ENCODED_AT_ONCE_CHARACTERS = 1 << 19
# A blank line or line end after a non-blank character: the pre-tokenizer of byte-level BPE always divides there.
SAFE_CUT = re.compile(r"(?<=\S)(?=\n)")


class TextTokenizer(ABC):
    """Text to token ids and back.

    Attributes:
        end_of_text: id of the token that follows each document, None where there is none.
    """

    end_of_text: int | None

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """Number of token ids V; every id is below it."""

    @abstractmethod
    def encode(self, text: str, *, skip_unknown: bool = False) -> Ids:
        """Ids of a text, shape (n,); uint16 where V fits, else int32. No end-of-text token is added.

        Raises:
            UserError: the text has a character that the vocabulary has not, unless `skip_unknown` drops it.
        """

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; the end-of-text token and ids outside the vocabulary give nothing."""

    def token_id(self, token: str) -> int | None:
        """The id of a special token by its name (`<|user|>`); None where there is none of that name."""
        return None

    @abstractmethod
    def bytes_of_tokens(self) -> npt.NDArray[np.int32]:
        """UTF-8 bytes that each id stands for, shape (V,); special tokens 0. Bits per byte divide by their sum.

        Exact for characters and byte-level BPE; for word-piece and sentence-piece files markers count as one blank.
        """

    @abstractmethod
    def to_json(self) -> str:
        """The whole tokenizer as the text of `tokenizer.json`."""

    @property
    def named_end(self) -> str | None:
        """The end token's name where `to_json` does not tell it."""
        return None

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Names that `encode` reads as one special token wherever they stand in a text."""
        return ()

    @property
    def identity(self) -> str:
        """The same text for the same tokenizer, its end token included: what fingerprints are made from."""
        return self.to_json() + (f"\0{self.named_end}" if self.named_end is not None else "")

    @property
    def dtype(self) -> npt.DTypeLike:
        """The smallest of uint16 and int32 that holds every id."""
        return np.uint16 if self.vocabulary <= 1 << 16 else np.int32

    def save(self, folder: Path) -> Path:
        """Write `tokenizer.json` into an existing folder, atomically, and what names its end; returns its path."""
        if self.named_end is None:
            (folder / END_FILE_NAME).unlink(missing_ok=True)
        else:
            _write(folder / END_FILE_NAME, json.dumps({"end_of_text": self.named_end}))
        return _write(folder / FILE_NAME, self.to_json())

    @staticmethod
    def load(path: Path) -> TextTokenizer:
        """Read a tokenizer file, or the `tokenizer.json` of a folder.

        Raises:
            UserError: there is none, or it is not a tokenizer.
        """
        if path.is_dir():
            path = path / FILE_NAME
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(
                f"There is no tokenizer file at {path}; data.tokenizer is char, bpe or the path of a tokenizer.json."
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"The tokenizer file {path} cannot be read ({error}); name another one.") from None
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        if isinstance(document, dict) and isinstance(document.get("characters"), str):
            return CharacterTokenizer(document["characters"], bool(document.get("end_of_text")))
        if not isinstance(document, dict) or "model" not in document:
            raise UserError(f"{path} is not a tokenizer.json of the tokenizers library; try data.tokenizer=bpe.")
        return SubwordTokenizer(text, str(path), _end_beside(path))


class CharacterTokenizer(TextTokenizer):
    """One id for each character, in the order of code points, as in nanoGPT's shakespeare_char.

    The vocabulary is that of the whole text, validation included: an id that training never uses costs nothing, and
    every validation character is then predicted and counted. Characters met later (a prompt) are an error or dropped,
    never another character.

    Args:
        characters: the vocabulary without repetition; ids are positions.
        end_of_text: whether one more id marks the end of a document.
    """

    def __init__(self, characters: str, end_of_text: bool = False) -> None:
        self.characters = characters
        self.end_of_text = len(characters) if end_of_text else None
        codes = np.frombuffer(characters.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        self._id_of_code = np.full(int(codes.max(initial=0)) + 2, -1, dtype=np.int32)  # the last stays unknown
        self._id_of_code[codes] = np.arange(len(codes), dtype=np.int32)

    @classmethod
    def of(cls, texts: Iterable[str], end_of_text: bool = False) -> CharacterTokenizer:
        """The tokenizer of all characters in the texts."""
        used = np.zeros(0, dtype=np.uint32)
        for text in texts:
            codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
            present = np.flatnonzero(np.bincount(codes)) if len(codes) else codes
            used = np.union1d(used, present.astype(np.uint32))
        return cls("".join(map(chr, used.tolist())), end_of_text)

    @property
    def vocabulary(self) -> int:
        return len(self.characters) + (self.end_of_text is not None)

    def encode(self, text: str, *, skip_unknown: bool = False) -> Ids:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        ids = self._id_of_code[np.minimum(codes, len(self._id_of_code) - 1)]
        unknown = ids < 0
        if unknown.any():
            if not skip_unknown:
                missing = "".join(map(chr, np.unique(codes[unknown])[:10].tolist()))
                raise UserError(
                    f"The character tokenizer does not know {missing!a}: they were not in the text it was made "
                    "from; leave them out, or make the tokenizer from this text with data.tokenizer=char."
                )
            ids = ids[~unknown]
        return ids.astype(self.dtype)

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.characters[i] for i in ids if 0 <= i < len(self.characters))

    def bytes_of_tokens(self) -> npt.NDArray[np.int32]:
        lengths = [len(c.encode("utf-8", "surrogatepass")) for c in self.characters]
        return np.array(lengths + [0] * (self.end_of_text is not None), dtype=np.int32)

    def to_json(self) -> str:
        return json.dumps({"characters": self.characters, "end_of_text": self.end_of_text is not None})


class SubwordTokenizer(TextTokenizer):
    """A tokenizer of the `tokenizers` library.

    Args:
        document: the text of its JSON file.
        origin: where it came from, for error messages.
        end: name of the end token; None: the first of KNOWN_END_TOKENS that there is.

    Raises:
        UserError: it cannot be read, or has no such end token.
    """

    def __init__(self, document: str, origin: str = "tokenizer.json", end: str | None = None) -> None:
        self._json = document
        try:
            self._inner: Tokenizer = _tokenizers().Tokenizer.from_str(document)
        except Exception as error:  # noqa: BLE001 - the library raises bare Exception for every malformed file
            raise UserError(f"{origin} is not a tokenizer that this version of tokenizers reads ({error}).") from None
        self._inner.no_padding()
        self._inner.no_truncation()
        ends = (self._inner.token_to_id(name) for name in KNOWN_END_TOKENS)
        self.end_of_text = next((i for i in ends if i is not None), None)
        self._named_end: str | None = None
        if end is not None and (named := self._inner.token_to_id(end)) != self.end_of_text:
            if named is None:
                raise UserError(
                    f"{origin} has no token {end!a}, which {END_FILE_NAME} beside it names; delete that file."
                )
            self.end_of_text, self._named_end = named, end
        ids = self._inner.get_vocab(with_added_tokens=True).values()
        self._vocabulary = max(ids, default=-1) + 1  # ids may have gaps, and each must index the embedding

    @classmethod
    def train(cls, texts: Sequence[str], vocabulary: int, reserved: Sequence[str] = ()) -> SubwordTokenizer:
        """Learn a byte-level BPE from the texts. The same texts give the same merges.

        Args:
            texts: training text only, so that the tokenizer knows nothing of the validation text.
            vocabulary: ids wanted: 256 bytes, the special tokens and merges; fewer where the text is small.
            reserved: special tokens beside the end of text, for a use that comes later.

        Raises:
            UserError: the vocabulary has no room for the 256 bytes and the special tokens.
        """
        special = [END_OF_TEXT, *reserved]
        if vocabulary < BYTE_ALPHABET + len(special):
            raise UserError(
                f"data.vocabulary={vocabulary} is too small for byte-level BPE, which needs at least "
                f"{BYTE_ALPHABET + len(special)}; raise it or use data.tokenizer=char."
            )
        library = _tokenizers()
        inner = library.Tokenizer(library.models.BPE())
        inner.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=special,
            initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        inner.train_from_iterator(_sample(texts, BPE_TRAINING_CHARACTERS), trainer)
        return cls(inner.to_str())

    @classmethod
    def train_wordpiece(cls, texts: Sequence[str], vocabulary: int, *, lowercase: bool) -> SubwordTokenizer:
        """Learn WordPiece with BERT's special tokens from the texts; see `unstuck.data.wordpiece`."""
        from unstuck.data.wordpiece import train_wordpiece

        return cls(train_wordpiece(_sample(texts, BPE_TRAINING_CHARACTERS), vocabulary, lowercase=lowercase))

    @property
    def vocabulary(self) -> int:
        return self._vocabulary

    @property
    def named_end(self) -> str | None:
        return self._named_end

    @property
    def special_tokens(self) -> tuple[str, ...]:
        return tuple(token.content for token in self._inner.get_added_tokens_decoder().values() if token.special)

    def token_id(self, token: str) -> int | None:
        found: int | None = self._inner.token_to_id(token)
        return found

    def encode(self, text: str, *, skip_unknown: bool = False) -> Ids:
        if len(text) > ENCODED_AT_ONCE_CHARACTERS:
            return self.encode_all([text])[0]
        return np.array(self._inner.encode(_without_surrogates(text), add_special_tokens=False).ids, dtype=self.dtype)

    def encode_all(self, texts: Sequence[str]) -> list[Ids]:
        """`encode` of several texts, on all cores, in pieces so that memory stays bounded."""
        dtype = self.dtype
        parts: list[list[Ids]] = [[] for _ in texts]
        waiting: list[tuple[int, str]] = []
        size = 0

        def flush() -> None:
            for (index, _), found in zip(
                waiting, self._inner.encode_batch_fast([t for _, t in waiting], add_special_tokens=False), strict=True
            ):
                parts[index].append(np.array(found.ids, dtype=dtype))
            waiting.clear()

        for index, text in enumerate(texts):
            text = _without_surrogates(text)
            for piece in _pieces(text, ENCODED_AT_ONCE_CHARACTERS):
                waiting.append((index, piece))
                size += len(piece)
                if size >= 8 * ENCODED_AT_ONCE_CHARACTERS:
                    flush()
                    size = 0
        flush()
        results: list[Ids] = []
        for pieces in parts:
            results.append(np.concatenate(pieces) if pieces else np.zeros(0, dtype=dtype))
        return results

    def decode(self, ids: Iterable[int]) -> str:
        return str(self._inner.decode([int(i) for i in ids], skip_special_tokens=True))

    def bytes_of_tokens(self) -> npt.NDArray[np.int32]:
        described: dict[str, Any] = json.loads(self._inner.to_str())
        byte_level = '"ByteLevel"' in json.dumps([described.get("decoder"), described.get("pre_tokenizer")])
        special = {int(t["id"]) for t in described.get("added_tokens") or [] if t.get("special")}
        added = {int(t["id"]) for t in described.get("added_tokens") or []}
        lengths = np.zeros(self.vocabulary, dtype=np.int32)
        for token, index in self._inner.get_vocab(with_added_tokens=True).items():
            if index in special:
                continue
            lengths[index] = len(token) if byte_level and index not in added else _marked_bytes(token)
        return lengths

    def to_json(self) -> str:
        return self._json


def _write(target: Path, text: str) -> Path:
    aside = target.with_name(f".{target.name}.tmp")
    aside.write_text(text, encoding="utf-8")
    return aside.replace(target)


def _end_beside(path: Path) -> str | None:
    """The end token that the file beside a tokenizer.json names; None without one."""
    beside = path.with_name(END_FILE_NAME)
    try:
        return str(json.loads(beside.read_text(encoding="utf-8"))["end_of_text"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{beside} does not name an end token ({error}); delete it to have it guessed.") from None


def _marked_bytes(token: str) -> int:
    """Bytes of a word-piece or sentence-piece token: `##` continues a word, U+2581 is a blank, <0x0A> is one byte."""
    if re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", token):
        return 1
    return len(token.removeprefix("##").replace("\u2581", " ").encode("utf-8", "replace"))


def _pieces(text: str, characters: int) -> Iterable[str]:
    """Cut a long text where the pre-tokenizer cuts anyway, so that the ids are those of the whole text."""
    start = 0
    while len(text) - start > characters:
        cut = SAFE_CUT.search(text, start + characters)
        if cut is None:
            break
        yield text[start : cut.start()]
        start = cut.start()
    if start < len(text):
        yield text[start:]


def _without_surrogates(text: str) -> str:
    """The text with lone surrogates, which a command line may hand over and UTF-8 cannot hold, replaced by `?`."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _sample(texts: Sequence[str], characters: int) -> Iterable[str]:
    """Pieces spread evenly over the texts, of about so many characters in all."""
    pieces = [p for text in texts for p in _pieces(text, 1 << 16)]
    step = max(1, round(sum(map(len, pieces)) / characters))
    return pieces[::step]


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise UserError("Sub-word tokenizers need the training extra: pip install 'unstuck[train]'.") from None
    return tokenizers
